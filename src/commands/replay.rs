//! `vmadiff replay`: runs programs and shows the results of both machines.

use std::io::Write as _;
use std::path::PathBuf;

use vmadiff::finding::Finding;
use vmadiff::run::Run;
use vmadiff::text::{self, Look};

use super::files::{load, name};
use super::machines::Machines;
use crate::out::stdout;
use crate::status::Status;

/// Run programs on two machines and show each operation's result and the first divergence
#[derive(clap::Args)]
#[command(after_help = "Examples:
  vmadiff replay bug.txt
  vmadiff replay crash-0123 --left candidate:original --right candidate:v2")]
pub(crate) struct Args {
    /// Corpus files, crash artifacts or text programs; - is standard input
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    machines: Machines,
}

/// Runs the command.
pub(crate) fn run(Args { files, machines }: &Args, look: Look) -> anyhow::Result<Status> {
    let mut lockstep = machines.lockstep();
    let programs: Vec<_> =
        files.iter().map(|file| Ok((file, load(file)?))).collect::<anyhow::Result<_>>()?;
    let mut status = Status::Clean;
    let mut out = stdout();
    for (n, (file, loaded)) in programs.iter().enumerate() {
        if n > 0 {
            writeln!(out)?;
        }
        let finding = Finding::of(Run::of(&mut lockstep, &loaded.program));
        write!(out, "{}\n\n{}", name(file), text::finding(&finding, look))?;
        if let Some(cut) = loaded.cut() {
            writeln!(out, "{cut}")?;
        }
        let found = Status::found(finding.run.divergence.is_some());
        status = status.max(found).max(Status::cut(loaded.is_cut));
    }
    Ok(status)
}
