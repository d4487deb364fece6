//! `vmadiff fmt`: converts a program between its two forms.

use std::io::IsTerminal as _;
use std::path::PathBuf;

use anyhow::bail;
use vmadiff::input::Format;

use super::files::{To, is_stdout, load, write};
use crate::status::Status;

/// Convert a program between the text form and the corpus format
#[derive(clap::Args)]
#[command(after_help = "Examples:
  vmadiff fmt crash-0123
  vmadiff fmt bug.txt --to corpus -o bug.vmad")]
pub(crate) struct Args {
    /// A corpus file or a text program; - is standard input
    file: PathBuf,
    /// The form to write
    #[arg(long, value_enum, default_value_t = To::Text)]
    to: To,
    /// The file to write; - is standard output
    #[arg(short, long, default_value = "-")]
    output: PathBuf,
    /// Overwrite existing files
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub(crate) fn run(Args { file, to, output, force }: &Args) -> anyhow::Result<Status> {
    let to = Format::from(*to);
    if is_stdout(output) && to == Format::Corpus && std::io::stdout().is_terminal() {
        bail!("the corpus format is not for terminals: expected -o FILE");
    }
    let loaded = load(file)?;
    write(output, &to.encode(&loaded.program), *force)?;
    Ok(Status::cut(loaded.is_cut))
}
