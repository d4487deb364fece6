//! `vmadiff import-syz`: makes a program from a program of syzkaller.

use std::fs::File;
use std::io::{Read as _, Write as _, stdout};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use vmadiff::export_c::harmless;
use vmadiff::import_syz::{Import, import};
use vmadiff::input::Format;
use vmadiff::syz;

use super::counts::Counts;
use super::files::{To, write};

/// Make a program from a program of syzkaller, such as the reproducer of a bug report
#[derive(clap::Args)]
#[command(after_help = "Examples:
  vmadiff import-syz repro.syz
  vmadiff import-syz repro.syz -o repro.txt && vmadiff replay repro.txt

Standard error shows the number of calls that were read, the number that the program contains, and why
the others were left out. The opposite command is `vmadiff export --syz`.")]
pub(crate) struct Args {
    /// The program of syzkaller, in its text form
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

/// Runs the command; returns whether it found something.
pub(crate) fn run(Args { file, output, to, json, force }: &Args) -> anyhow::Result<bool> {
    let shown = || file.display().to_string();
    let mut bytes = Vec::new();
    let limit = syz::MAX_FILE_BYTES;
    File::open(file)
        .and_then(|file| file.take(limit + 1).read_to_end(&mut bytes))
        .with_context(shown)?;
    if bytes.len() as u64 > limit {
        bail!("{}: the file is too long: expected at most {limit} bytes", file.display());
    }
    let text = String::from_utf8(bytes)
        .map_err(|error| {
            let offset = error.utf8_error().valid_up_to();
            anyhow::anyhow!("offset {offset}: not text (UTF-8): expected a program of syzkaller")
        })
        .with_context(shown)?;
    let calls = syz::parse(&text).with_context(shown)?;
    let Import { program, taken, left_out, not_used, properties } = import(&calls);
    let counts =
        Counts { calls: calls.len(), taken, left_out, not_used, properties, ..Counts::default() };
    if program.ops.is_empty() {
        bail!("{}: no call maps or changes memory\n{counts}", file.display());
    }
    let bytes = match Format::from(*to) {
        Format::Text => {
            let name = harmless(&file.file_name().unwrap_or_default().to_string_lossy());
            format!("# Imported from {name} (syzkaller).\n{program}").into_bytes()
        }
        Format::Corpus => Format::Corpus.encode(&program),
    };
    match output {
        Some(path) => write(path, &bytes, *force)?,
        None => stdout().write_all(&bytes)?,
    }
    match json {
        true => eprintln!("{}", serde_json::to_string(&counts)?),
        false => eprintln!("{counts}"),
    }
    Ok(false)
}
