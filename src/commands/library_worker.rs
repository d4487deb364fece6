//! `vmadiff library-worker`: runs a shared library for another `vmadiff`.

use std::path::PathBuf;

use anyhow::Context as _;

use crate::status::Status;

/// Run a shared library for another vmadiff, at the other end of standard input and output
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The library
    path: PathBuf,
}

/// Runs the command.
pub(crate) fn run(Args { path }: &Args) -> anyhow::Result<Status> {
    vmadiff_library::serve(path).with_context(|| path.display().to_string())?;
    Ok(Status::Clean)
}
