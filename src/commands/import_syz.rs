//! `vmadiff import-syz`: makes a program from a program of syzkaller.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use vmadiff::export_c::harmless;
use vmadiff::import_syz::{Import, import};
use vmadiff::input::Format;
use vmadiff::syz;

use super::counts::Counts;
use super::files::{self, To, check, write};
use crate::out::{record, remark};
use crate::status::Status;

/// Make a program from a program of syzkaller, such as the reproducer of a bug report
#[derive(clap::Args)]
#[command(after_help = "Examples:
  vmadiff import-syz repro.syz
  vmadiff import-syz repro.syz -o repro.txt && vmadiff replay repro.txt

Standard error shows the number of calls that were read, the number that the program contains, and
why the others were left out. The opposite command is `vmadiff export --syz`.")]
pub(crate) struct Args {
    /// The program of syzkaller, in its text form; - is standard input
    file: PathBuf,
    /// The file to write; by default standard output
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// The form to write
    #[arg(long, value_enum, default_value_t = To::Text)]
    to: To,
    /// Print the counts to standard error as JSON
    #[arg(long)]
    json: bool,
    /// Overwrite existing files
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub(crate) fn run(Args { file, output, to, json, force }: &Args) -> anyhow::Result<Status> {
    let output = output.as_deref().unwrap_or(Path::new("-"));
    check(output, *force)?;
    let shown = || files::name(file);
    let text = files::text(file, syz::MAX_FILE_BYTES, "a program of syzkaller")?;
    let calls = syz::parse(&text).with_context(shown)?;
    let Import { program, taken, left_out, not_used, properties } = import(&calls);
    let counts =
        Counts { calls: calls.len(), taken, left_out, not_used, properties, ..Counts::default() };
    if program.ops.is_empty() {
        bail!("{}: no call maps or changes memory\n{counts}", shown());
    }
    let bytes = match Format::from(*to) {
        Format::Text => {
            let name = file.file_name().filter(|name| *name != "-");
            let name = harmless(&name.unwrap_or("stdin".as_ref()).to_string_lossy());
            format!("# Imported from {name} (syzkaller).\n{program}").into_bytes()
        }
        Format::Corpus => Format::Corpus.encode(&program),
    };
    write(output, &bytes, *force)?;
    match json {
        true => record(&serde_json::to_string(&counts)?),
        false => remark(counts),
    }
    Ok(Status::Clean)
}
