//! `vmadiff fmt`: converts a program between its two forms.

use std::io::{IsTerminal as _, Write as _, stdout};
use std::path::PathBuf;

use anyhow::bail;
use vmadiff::input::Format;

use super::files::{To, load, write};

/// Convert a program between the text form and the corpus format
#[derive(clap::Args)]
#[command(after_help = "Examples:
  vmadiff fmt crash-0123
  vmadiff fmt bug.txt --to corpus -o bug.vmad")]
pub(crate) struct Args {
    /// A corpus file or a text program
    file: PathBuf,
    /// The form to write
    #[arg(long, value_enum, default_value_t = To::Text)]
    to: To,
    /// The file to write; by default standard output
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Overwrite existing files
    #[arg(long)]
    force: bool,
}

/// Runs the command; returns whether it found something.
pub(crate) fn run(Args { file, to, output, force }: &Args) -> anyhow::Result<bool> {
    let to = Format::from(*to);
    let bytes = to.encode(&load(file)?.0);
    match output {
        Some(path) => write(path, &bytes, *force)?,
        None if to == Format::Corpus && stdout().is_terminal() => {
            bail!("the corpus format is not for terminals: expected -o FILE");
        }
        None => stdout().write_all(&bytes)?,
    }
    Ok(false)
}
