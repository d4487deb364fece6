//! `vmadiff import-strace`: makes programs of the calls in a log of strace.

use std::fs::File;
use std::io::{BufReader, Write as _, stdout};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::value_parser;
use vmadiff::export_c::harmless;
use vmadiff::import::{self, Imported, Options};
use vmadiff::strace;
use vmadiff_machine::program::MAX_OPS;

use super::files::write_all;

/// Make programs of what real programs did: of a log of `strace -f`
#[derive(clap::Args)]
#[command(after_help = "Example:
  strace -f -y -o python.log \\
    -e trace=memory,process,openat,memfd_create python3 -c 'import json'
  vmadiff import-strace python.log --out corpus/real --touch --origin 'python3 -c \"import json\"'

Writes FOLDER/NAME-N.txt, each a program that stands alone. Calls that are of no use, failed, or not
understood are counted on standard error.")]
pub(crate) struct Args {
    /// What strace wrote
    log: PathBuf,
    /// The folder to write the programs to
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// What the programs are called; by default as the log
    #[arg(long)]
    name: Option<String>,
    /// What was traced, for the comment at the top of each program
    #[arg(long, value_name = "TEXT")]
    origin: Option<String>,
    /// Have private writable memory written when it is mapped: no log has plain accesses
    #[arg(long)]
    touch: bool,
    /// The most operations of a program
    #[arg(long, value_name = "N", default_value_t = MAX_OPS as u8,
          value_parser = value_parser!(u8).range(4..=MAX_OPS as i64))]
    operations: u8,
    /// The most programs; what is left over is counted
    #[arg(long, value_name = "N", default_value_t = 1000)]
    most: usize,
    /// Overwrite what exists
    #[arg(long)]
    force: bool,
}

/// Runs the command; returns whether it found something.
pub(crate) fn run(args: &Args) -> anyhow::Result<bool> {
    let Args { log, out: folder, most, .. } = args;
    let options = Options { touch: args.touch, operations: args.operations.into() };
    let shown = || log.display().to_string();
    let file = File::open(log).with_context(shown)?;
    let read = strace::read(BufReader::new(file)).with_context(shown)?;
    let import = import::import(&read, options);
    let stem = log.file_stem().unwrap_or_default().to_string_lossy();
    let name = harmless(args.name.as_deref().unwrap_or(&stem));
    // One line of comment, whatever is in it.
    let origin =
        args.origin.as_deref().map(|text| text.replace(char::is_control, " ")).unwrap_or_default();
    let written: Vec<_> = import
        .programs
        .iter()
        .take(*most)
        .enumerate()
        .map(|(n, Imported { program, lines: (first, last) })| {
            let title = if origin.is_empty() { name.clone() } else { origin.clone() };
            let text = format!("# strace -f of {title}, lines {first} to {last}.\n{program}");
            (folder.join(format!("{name}-{}.txt", n + 1)), text.into_bytes())
        })
        .collect();
    if written.is_empty() {
        let lines = read.lines;
        bail!("{}: no call in {lines} lines maps or changes memory", log.display());
    }
    write_all(folder, &written, args.force)?;
    let operations: usize = import.programs.iter().take(*most).map(|p| p.program.ops.len()).sum();
    writeln!(
        stdout(),
        "{} programs, {operations} operations of {} calls in {} lines",
        written.len(),
        read.events.len(),
        read.lines
    )?;
    if import.guessed > 0 {
        eprintln!("guessed: {} mappings that no call had made", import.guessed);
    }
    if import.programs.len() > *most {
        eprintln!("left out: {} programs past --most {most}", import.programs.len() - most);
    }
    for (title, counts) in [("left out", &import.left_out), ("not used", &read.ignored)] {
        if !counts.is_empty() {
            let counts: Vec<_> = counts.iter().map(|(what, n)| format!("{n} {what}")).collect();
            eprintln!("{title}: {}", counts.join(", "));
        }
    }
    Ok(false)
}
