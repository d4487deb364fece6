//! `vmadiff triage`: groups programs by signature and minimizes one program of each signature.

use std::path::PathBuf;

use vmadiff::known::Known;
use vmadiff::text::Look;
use vmadiff::triage::triage;

use super::files::programs;
use super::findings;
use super::machines::Machines;
use super::progress::{progress, until_interrupted};
use crate::interrupt::{interrupted, watch};
use crate::status::Status;

/// Group programs by the signature of their divergence and minimize one program of each
#[derive(clap::Args)]
#[command(after_help = "Examples:
  vmadiff triage fuzz/artifacts/cross_mm --out findings
  vmadiff triage findings --known corpus/known-v2.txt --json
  vmadiff triage findings --sarif findings.sarif

After Ctrl-C the findings so far are printed and written.")]
pub(crate) struct Args {
    /// Files, or folders of files; - is standard input
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    findings: findings::Options,
    #[command(flatten)]
    machines: Machines,
}

/// Runs the command.
pub(crate) fn run(args: &Args, look: Look) -> anyhow::Result<Status> {
    let findings = args.findings.prepare(Known::default)?;
    let mut lockstep = args.machines.lockstep();
    watch()?;
    let mut read = programs(&args.paths)?;
    let count = read.programs.len();
    let programs = std::mem::take(&mut read.programs);
    let bar = progress(count, "triage");
    let groups = triage(&mut lockstep, programs, until_interrupted(&bar, count));
    bar.finish_and_clear();
    let stopped = match interrupted() {
        true => "; interrupted: some programs were not run, or not minimized",
        false => "",
    };
    let status = findings.show(&groups, &mut lockstep, look, &read.inputs, |found, sides| {
        format!("{found} {sides} in {count} programs{}{stopped}", read.counts())
    })?;
    Ok(if interrupted() { Status::Interrupted } else { status.max(read.status()) })
}
