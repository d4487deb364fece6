//! `vmadiff replay`: runs programs and shows the results of both machines.

use std::io::Write as _;
use std::path::PathBuf;

use vmadiff::finding::Finding;
use vmadiff::run::Run;
use vmadiff::text::{self, Look};

use super::fail_all::FailAll;
use super::files::{load, name};
use super::machines::Machines;
use crate::out::stdout;
use crate::status::Status;

/// Run programs on two machines and show each operation's result and the first divergence
#[derive(clap::Args)]
#[command(after_help = "Examples:
  vmadiff replay bug.txt
  vmadiff replay bug.txt --fail-all
  vmadiff replay crash-0123 --left candidate:original --right candidate:v2")]
pub(crate) struct Args {
    /// Corpus files, crash artifacts or text programs; - is standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Run each program once for each of its allocations, which fails then, and show each distinct
    /// divergence
    #[arg(long)]
    fail_all: bool,
    #[command(flatten)]
    machines: Machines,
}

/// Runs the command.
pub(crate) fn run(Args { files, fail_all, machines }: &Args, look: Look) -> anyhow::Result<Status> {
    let mut lockstep = machines.lockstep();
    let programs: Vec<_> =
        files.iter().map(|file| Ok((file, load(file)?))).collect::<anyhow::Result<_>>()?;
    let mut status = Status::Clean;
    let mut out = stdout();
    for (n, (file, loaded)) in programs.iter().enumerate() {
        if n > 0 {
            writeln!(out)?;
        }
        let found = if *fail_all {
            let all = FailAll::of(&mut lockstep, &loaded.program);
            write!(out, "{}\n\n", name(file))?;
            for finding in &all.findings {
                writeln!(out, "{}", text::finding(finding, look))?;
            }
            writeln!(out, "{all}")?;
            Status::found(!all.findings.is_empty())
        } else {
            let finding = Finding::of(Run::of(&mut lockstep, &loaded.program));
            write!(out, "{}\n\n{}", name(file), text::finding(&finding, look))?;
            Status::found(finding.run.divergence.is_some())
        };
        if let Some(cut) = loaded.cut() {
            writeln!(out, "{cut}")?;
        }
        status = status.max(found).max(Status::cut(loaded.is_cut));
    }
    Ok(status)
}
