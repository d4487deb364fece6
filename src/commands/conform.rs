//! `vmadiff conform`: replays a kernel's traces on a machine.

use std::fs::File;
use std::io::{BufReader, Write as _, stdout};
use std::path::PathBuf;

use anyhow::Context as _;
use vmadiff::compare::Scope;
use vmadiff::golden::{self, Conformity, Trace};
use vmadiff::machines::MachineName;
use vmadiff::picture::{Painter, Picture};
use vmadiff::results::result_text;
use vmadiff::text::{self, Look};
use vmadiff_machine::{Limits, Machine as _, Observation};

use super::progress::progress;

/// Replay a golden file on a machine and count the steps that agree
#[derive(clap::Args)]
#[command(after_help = "Example:
  vmadiff conform corpus/golden/extended-v2.jsonl.gz --machine candidate:v2

The last line counts programs and steps: the steps that agree, the first step of each program that
differs, the steps that the machine's kernel does not survive (bug), and the steps that are skipped
after a difference or a bug.")]
pub(crate) struct Args {
    /// A golden file, compressed or not
    file: PathBuf,
    /// The machine: reference, candidate:REVISION, candidate:fixed+FAULT, or lib:PATH, a shared
    /// library
    #[arg(long, default_value = "reference")]
    machine: MachineName,
}

/// Runs the command; returns whether it found something.
pub(crate) fn run(Args { file: path, machine: name }: &Args, look: Look) -> anyhow::Result<bool> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let traces = golden::read(BufReader::new(file)).with_context(|| path.display().to_string())?;
    let mut machine = name.build();
    let bar = progress(traces.len(), "conform");
    let (mut steps, mut agree, mut differ, mut bug) = (0, 0, 0, 0);
    let mut first = None;
    for trace in &traces {
        bar.inc(1);
        steps += trace.observations.len();
        let (step, shown, what) = match golden::conform(trace, machine.as_mut()) {
            Conformity::Agrees => {
                agree += trace.observations.len();
                continue;
            }
            Conformity::Differs { step, shown } => {
                differ += 1;
                (step, shown, "differs")
            }
            Conformity::Bug { step, shown } => {
                bug += 1;
                (step, shown, "does not survive")
            }
        };
        agree += step;
        // A difference is shown if there is one, otherwise the first bug of the machine's kernel.
        if first
            .as_ref()
            .is_none_or(|(_, _, _, known)| *known == "does not survive" && what == "differs")
        {
            first = Some((trace, step, shown, what));
        }
    }
    bar.finish_and_clear();
    let mut out = stdout().lock();
    if let Some((trace, step, shown, what)) = first {
        writeln!(out, "program {}: {name} {what} after operation {step}\n", trace.id)?;
        let ops = &trace.program.ops[..=step];
        let results: Vec<String> =
            trace.observations.iter().map(|seen| result_text(seen.result)).collect();
        let program = text::program_lines(&Limits::default(), ops, &results, Some(step), look);
        writeln!(out, "{}", program.text(look))?;
        let picture = recorded_picture(trace, step, name, &shown);
        let names = (trace.kernel.as_str(), name.to_string());
        writeln!(out, "{}", text::picture(&picture, (names.0, &names.1), look).text(look))?;
    }
    let skipped = steps - agree - differ - bug;
    let programs = traces.len();
    writeln!(
        out,
        "programs={programs} steps={steps} agree={agree} differ={differ} bug={bug} skipped={skipped}"
    )?;
    Ok(agree != steps)
}

/// Returns the picture of a step of a trace: the recorded kernel beside the machine.
fn recorded_picture(
    trace: &Trace,
    last: usize,
    name: &MachineName,
    shown: &Observation,
) -> Picture {
    let mut machine = name.build();
    machine.reset(&trace.program.limits);
    let mut painter = Painter::new(Scope::Recorded);
    let mut seen = Observation::default();
    // Up to this step, both showed the same.
    for (op, recorded) in trace.program.ops.iter().zip(&trace.observations).take(last) {
        machine.step(op, &mut seen);
        painter.picture(op, recorded, &seen);
    }
    painter.picture(&trace.program.ops[last], &trace.observations[last], shown)
}
