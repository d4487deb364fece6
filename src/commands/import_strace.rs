//! `vmadiff import-strace`: makes programs from the calls in a log of strace.

use std::io::{BufReader, Write as _};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::value_parser;
use vmadiff::export_c::harmless;
use vmadiff::import::{self, Imported, Options};
use vmadiff::strace;
use vmadiff_machine::program::MAX_OPS;

use super::counts::Counts;
use super::files::{self, open, stem};
use super::folder::{Folder, Names};
use crate::out::{record, remark, stdout};
use crate::status::Status;

/// Make programs from a log of `strace -f`, which records the calls of a real program
#[derive(clap::Args)]
#[command(after_help = "Example:
  strace -f -y -o python.log \\
    -e trace=memory,process,ipc,openat,memfd_create,ftruncate,prlimit64,write \\
    python3 -c 'import json'
  vmadiff import-strace python.log --out corpus/real --touch --origin 'python3 -c \"import json\"'

Writes the files FOLDER/NAME-N.txt: each is a program that runs alone. Standard error shows the
number of calls that were read, the number that the programs contain, and why the others were
left out.")]
pub(crate) struct Args {
    /// The log that strace wrote; - is standard input
    log: PathBuf,
    /// The folder to write the programs to
    #[arg(long, value_name = "FOLDER")]
    out: PathBuf,
    /// The name of the programs; by default the name of the log
    #[arg(long)]
    name: Option<String>,
    /// The traced command, for the comment at the top of each program
    #[arg(long, value_name = "TEXT")]
    origin: Option<String>,
    /// Write private writable memory when it is mapped, because no log shows plain accesses
    #[arg(long)]
    touch: bool,
    /// Import the calls of this process only, by its number in the log
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
    /// The most operations of a program
    #[arg(long, value_name = "N", default_value_t = MAX_OPS as u8,
          value_parser = value_parser!(u8).range(4..=MAX_OPS as i64))]
    operations: u8,
    /// The most programs to write; the number of programs left out is printed
    #[arg(long, value_name = "N", default_value_t = 1000)]
    most: usize,
    /// Print the counts to standard error as JSON
    #[arg(long)]
    json: bool,
    /// Overwrite existing files, and remove the programs of an earlier run of the same name
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<Status> {
    let Args { log, out, most, .. } = args;
    let name = harmless(args.name.as_deref().unwrap_or(&stem(log)));
    // The programs of other logs in the folder have other names.
    let is_result = |file: &str| {
        let number = file.strip_prefix(&name).and_then(|rest| rest.strip_prefix('-'));
        let number = number.and_then(|rest| rest.strip_suffix(".txt")).unwrap_or("");
        !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
    };
    let folder = Folder::new(out, args.force, Names::Own(&is_result))?;
    let options =
        Options { touch: args.touch, operations: args.operations.into(), process: args.pid };
    let read = strace::read(BufReader::new(open(log)?)).with_context(|| files::name(log))?;
    if let Some(pid) = args.pid
        && !read.processes().contains(&pid)
    {
        let processes = read.processes();
        let shown: Vec<_> = processes.iter().take(10).map(u32::to_string).collect();
        let more = if processes.len() > shown.len() { " and others" } else { "" };
        bail!("{}: no process {pid}: it has {}{more}", files::name(log), shown.join(", "));
    }
    let mut import = import::import(&read, options);
    // The text is reduced to one line, so that it stays a comment.
    let origin =
        args.origin.as_deref().map(|text| text.replace(char::is_control, " ")).unwrap_or_default();
    let written: Vec<_> = import
        .programs
        .iter()
        .take(*most)
        .enumerate()
        .map(|(n, Imported { program, lines: (first, last), .. })| {
            let title = if origin.is_empty() { name.clone() } else { origin.clone() };
            let text = format!("# strace -f of {title}, lines {first} to {last}.\n{program}");
            (folder.path().join(format!("{name}-{}.txt", n + 1)), text.into_bytes())
        })
        .collect();
    let (kept, dropped) = import.programs.split_at((*most).min(import.programs.len()));
    let operations: usize = kept.iter().map(|imported| imported.program.ops.len()).sum();
    let taken: usize = kept.iter().map(|imported| imported.calls).sum();
    if !dropped.is_empty() {
        let calls = dropped.iter().map(|imported| imported.calls).sum();
        import.left_out.insert(format!("in programs past --most {most}"), calls);
    }
    let (not_used, other_lines) =
        read.ignored.clone().into_iter().partition(|(what, _)| !what.starts_with('('));
    let counts = Counts {
        calls: read.calls(),
        taken,
        left_out: import.left_out,
        not_used,
        other_lines,
        guessed: import.guessed,
        ..Counts::default()
    };
    if written.is_empty() {
        let why = if read.calls() == read.ignored_calls() {
            format!("no call in {} lines maps or changes memory", read.lines)
        } else {
            format!("no program in {} lines", read.lines)
        };
        bail!("{}: {why}\n{counts}", files::name(log));
    }
    folder.write(&written, &[])?;
    writeln!(
        stdout(),
        "{} programs, {operations} operations of {taken} calls in {} lines",
        written.len(),
        read.lines
    )?;
    match args.json {
        true => record(&serde_json::to_string(&counts)?),
        false => remark(counts),
    }
    Ok(Status::Clean)
}
