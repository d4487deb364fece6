//! `vmadiff replay`: runs programs and shows the results of both machines.

use std::io::{Write as _, stdout};
use std::path::PathBuf;

use vmadiff::finding::Finding;
use vmadiff::run::Run;
use vmadiff::text::{self, Look};

use super::files::load;
use super::machines::Machines;

/// Run programs on two machines and show each operation's result and the first divergence
#[derive(clap::Args)]
#[command(after_help = "Examples:
  vmadiff replay bug.txt
  vmadiff replay crash-0123 --left candidate:original --right candidate:v2")]
pub(crate) struct Args {
    /// Corpus files, crash artifacts or text programs
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    machines: Machines,
}

/// Runs the command; returns whether it found something.
pub(crate) fn run(Args { files, machines }: &Args, look: Look) -> anyhow::Result<bool> {
    let mut lockstep = machines.lockstep();
    let programs: Vec<_> =
        files.iter().map(|file| Ok((file, load(file)?.0))).collect::<anyhow::Result<_>>()?;
    let mut found = false;
    for (n, (file, program)) in programs.iter().enumerate() {
        if n > 0 {
            writeln!(stdout())?;
        }
        let finding = Finding::of(Run::of(&mut lockstep, program));
        write!(stdout(), "{}\n\n{}", file.display(), text::finding(&finding, look))?;
        found |= finding.run.divergence.is_some();
    }
    Ok(found)
}
