//! `vmadiff report`: writes an HTML page with divergences.

use std::io::{Write as _, stdout};
use std::path::PathBuf;

use anyhow::bail;
use vmadiff::export_c::{export_c, harmless};
use vmadiff::finding::Finding;
use vmadiff::page::{Page, Shown};
use vmadiff::run::Run;
use vmadiff_machine::Program;

use super::files::{known, programs, write};
use super::machines::Machines;
use super::progress::progress;

/// Write one HTML file that shows divergences step by step
#[derive(clap::Args)]
#[command(after_help = "Examples:
  vmadiff report fuzz/findings/cross_mm-v2 -o report.html
  vmadiff report --as-is corpus/seeds/bug-a.txt corpus/seeds/bug-c.txt -o bugs.html

The page loads no other file, so it can be mailed. It can be read without its script too.")]
pub(crate) struct Args {
    /// Files, or folders of files
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// The file to write
    #[arg(short, long)]
    output: PathBuf,
    /// Show each program unchanged, instead of the minimized program of each signature
    #[arg(long)]
    as_is: bool,
    /// A list of known divergences, which are shown but do not count as found
    #[arg(long, value_name = "FILE")]
    known: Option<PathBuf>,
    /// Overwrite existing files
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    machines: Machines,
}

/// The most divergences that are shown with their program in C. Each takes about 12 KiB, and the
/// page has to be small enough for mail.
const REPRODUCERS: usize = 24;

/// Runs the command; returns whether it found something.
pub(crate) fn run(args: &Args) -> anyhow::Result<bool> {
    let Args { output, force, .. } = args;
    let known = known(args.known.as_deref())?;
    let mut lockstep = args.machines.lockstep();
    if !*force && output.exists() {
        bail!("{}: it exists: --force overwrites it", output.display());
    }
    let (programs, skipped) = programs(&args.paths)?;
    let count = programs.len();
    let bar = progress(count, "report");
    // For each signature the shortest diverging part of a program, with the files that show it.
    let found: Vec<(Program, Vec<PathBuf>)> = if args.as_is {
        programs.into_iter().map(|(file, program)| (program, vec![file])).collect()
    } else {
        let groups = vmadiff::triage::triage(&mut lockstep, programs, || bar.inc(1));
        groups.into_iter().map(|group| (group.program, group.files)).collect()
    };
    let mut divergences = Vec::new();
    for (program, files) in found {
        let run = Run::of(&mut lockstep, &program);
        let Some(divergence) = &run.divergence else { continue };
        let name = harmless(divergence.signature.as_str());
        divergences.push(Shown {
            known: known.why(divergence.signature.as_str()).map(str::to_owned),
            files: files.iter().map(|file| file.display().to_string()).collect(),
            reproducer: (divergences.len() < REPRODUCERS).then(|| export_c(&program, &name)),
            finding: Finding::of(run),
        });
    }
    bar.finish_and_clear();
    let (left, right) = lockstep.names();
    let names = (left.to_owned(), right.to_owned());
    let page = Page { names, programs: count, skipped, divergences };
    let text = page.render()?;
    write(output, text.as_bytes(), *force)?;
    let shown = page.divergences.len();
    let size = text.len().div_ceil(1024);
    writeln!(
        stdout(),
        "{}: {shown} divergences in {count} programs, {size} KiB",
        output.display()
    )?;
    Ok(page.divergences.iter().any(|shown| shown.known.is_none()))
}
