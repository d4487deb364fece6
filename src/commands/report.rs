//! `vmadiff report`: writes an HTML page with divergences.

use std::path::PathBuf;

use vmadiff::export_c::{export_c, harmless};
use vmadiff::finding::Finding;
use vmadiff::page::{Page, Shown};
use vmadiff::run::Run;
use vmadiff::triage::{Progress, triage};
use vmadiff_machine::Program;

use super::files::{self, check, programs, sum_up, write};
use super::findings::report_unmatched;
use super::machines::Machines;
use super::progress::{progress, until_interrupted};
use crate::interrupt::{interrupted, watch};
use crate::status::Status;

/// Write one HTML file that shows divergences step by step
#[derive(clap::Args)]
#[command(after_help = "Examples:
  vmadiff report fuzz/findings/cross_mm-v2 -o report.html
  vmadiff report --as-is corpus/seeds/bug-a.txt corpus/seeds/bug-c.txt -o bugs.html

The page loads no other file, so it can be mailed. It can be read without its script too.")]
pub(crate) struct Args {
    /// Files, or folders of files; - is standard input
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// The file to write; - is standard output
    #[arg(short, long)]
    output: PathBuf,
    /// Show each program unchanged, instead of the minimized program of each signature
    #[arg(long)]
    as_is: bool,
    /// A list of known divergences, which are shown and marked but do not count as found
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

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<Status> {
    let Args { output, force, .. } = args;
    check(output, *force)?;
    let known = args.known.as_deref().map(files::known).transpose()?.unwrap_or_default();
    let mut lockstep = args.machines.lockstep();
    watch()?;
    let mut read = programs(&args.paths)?;
    let programs = std::mem::take(&mut read.programs);
    let count = programs.len();
    let bar = progress(count, "report");
    // For each signature the shortest diverging part of a program, with the files that show it.
    let mut go_on = until_interrupted(&bar, count);
    let found: Vec<(Program, Vec<PathBuf>)> = if args.as_is {
        programs.into_iter().map(|(file, program)| (program, vec![file])).collect()
    } else {
        let groups = triage(&mut lockstep, programs, &mut go_on);
        groups.into_iter().map(|group| (group.program, group.files)).collect()
    };
    let (mut divergences, mut stopped) = (Vec::new(), interrupted());
    for (done, (program, files)) in found.into_iter().enumerate() {
        if args.as_is && !go_on(Progress { done, all: count }) {
            stopped = true;
            break;
        }
        let run = Run::of(&mut lockstep, &program);
        let Some(divergence) = &run.divergence else { continue };
        let name = harmless(divergence.signature.as_str());
        divergences.push(Shown {
            known: known.why(divergence.signature.as_str()).map(str::to_owned),
            files: files.iter().map(|file| files::name(file)).collect(),
            reproducer: (divergences.len() < REPRODUCERS).then(|| export_c(&program, &name)),
            finding: Finding::of(run),
        });
    }
    bar.finish_and_clear();
    let (left, right) = lockstep.names();
    let names = (left.to_owned(), right.to_owned());
    let (alone, options) = (lockstep.is_alone(), args.machines.options());
    let skipped = read.skipped;
    let page = Page { names, alone, options, programs: count, skipped, divergences };
    let text = page.render()?;
    write(output, text.as_bytes(), *force)?;
    let shown = page.divergences.len();
    let size = text.len().div_ceil(1024);
    let counts = read.counts();
    let cut = if stopped { "; interrupted" } else { "" };
    let name = files::output_name(output);
    let line = format!("{name}: {shown} divergences in {count} programs{counts}, {size} KiB{cut}");
    sum_up(output, &line)?;
    if let Some(list) = &args.known {
        let found =
            page.divergences.iter().filter_map(|shown| shown.finding.run.divergence.as_ref());
        report_unmatched(list, &known, found.map(|divergence| divergence.signature.as_str()));
    }
    let status = Status::found(page.divergences.iter().any(|shown| shown.known.is_none()));
    Ok(if stopped { Status::Interrupted } else { status.max(read.status()) })
}
