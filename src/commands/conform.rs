//! `vmadiff conform`: replays a kernel's traces on a machine.

use std::io::{BufReader, Write as _};
use std::path::PathBuf;

use anyhow::Context as _;
use vmadiff::compare::Scope;
use vmadiff::golden::{self, Conformity, Trace, Traces};
use vmadiff::machines::MachineName;
use vmadiff::picture::{Painter, Picture};
use vmadiff::results::result_text;
use vmadiff::text::{self, Look};
use vmadiff_machine::{Limits, Machine as _, Observation, Plain};

use super::files::{self, open};
use super::machines::machine;
use super::progress::progress;
use crate::out::stdout;
use crate::status::Status;

/// Replay a golden file on a machine and count the steps that agree
#[derive(clap::Args)]
#[command(after_help = "Example:
  vmadiff conform corpus/golden/extended-v2.jsonl.gz --machine candidate:v2

The last line counts programs and steps: the steps that agree, the first step of each program that
differs, the steps that the machine's kernel does not survive (bug), and the steps that are skipped
after a difference or a bug.")]
pub(crate) struct Args {
    /// A golden file, compressed or not; - is standard input
    file: PathBuf,
    /// The machine: reference, candidate:REVISION, candidate:fixed+FAULT, or lib:PATH, a shared
    /// library
    #[arg(long, default_value = "reference", value_parser = machine(), hide_possible_values = true)]
    machine: MachineName,
}

/// Runs the command.
pub(crate) fn run(Args { file: path, machine: name }: &Args, look: Look) -> anyhow::Result<Status> {
    let traces = Traces::new(BufReader::new(open(path)?)).with_context(|| files::name(path))?;
    let mut machine = name.build();
    let bar = progress(0, "conform");
    let (mut programs, mut steps, mut agree, mut differ, mut bug) = (0, 0, 0, 0, 0);
    let mut first: Option<Shown> = None;
    // The traces are read one after the other: a small file can have many.
    for trace in traces {
        let trace = trace.with_context(|| files::name(path))?;
        programs += 1;
        bar.inc_length(1);
        bar.inc(1);
        steps += trace.observations.len();
        let (step, shown, is_bug) = match golden::conform(&trace, machine.as_mut()) {
            Conformity::Agrees => {
                agree += trace.observations.len();
                continue;
            }
            Conformity::Differs { step, shown } => (step, shown, false),
            Conformity::Bug { step, shown } => (step, shown, true),
        };
        *(if is_bug { &mut bug } else { &mut differ }) += 1;
        agree += step;
        // A difference is shown if there is one, otherwise the first bug of the machine's kernel.
        if first.as_ref().is_none_or(|known| known.is_bug && !is_bug) {
            first = Some(Shown { trace, step, shown, is_bug });
        }
    }
    bar.finish_and_clear();
    let mut out = stdout();
    if let Some(Shown { trace, step, shown, is_bug }) = first {
        let what = if is_bug { "does not survive" } else { "differs" };
        let (id, number) = (Plain(&trace.id), step + 1);
        writeln!(out, "program {id}: {name} {what} after operation {number}\n")?;
        let ops = &trace.program.ops[..=step];
        let results: Vec<String> =
            trace.observations.iter().map(|seen| result_text(seen.result)).collect();
        let program = text::program_lines(&Limits::default(), ops, &results, Some(step), look);
        writeln!(out, "{}", program.text(look))?;
        let picture = recorded_picture(&trace, step, name, &shown);
        let names = (Plain(&trace.kernel).to_string(), name.to_string());
        writeln!(out, "{}", text::picture(&picture, (&names.0, &names.1), look).text(look))?;
    }
    let skipped = steps - agree - differ - bug;
    writeln!(
        out,
        "programs={programs} steps={steps} agree={agree} differ={differ} bug={bug} skipped={skipped}"
    )?;
    Ok(Status::found(agree != steps))
}

/// A step of a trace that the machine does not show.
struct Shown {
    trace: Trace,
    step: usize,
    shown: Box<Observation>,
    /// The machine's kernel does not survive the step.
    is_bug: bool,
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
