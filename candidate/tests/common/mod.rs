//! Programs in the text form, run on a candidate.

#![allow(dead_code)]

use vmadiff_candidate::{Candidate, Revision};
use vmadiff_machine::operand::Process;
use vmadiff_machine::{CopyReport, Event, Machine, Observation, Program};

/// Returns the observation of a candidate at `revision` after the last operation of `program`, or
/// after the operation that it does not survive.
pub(crate) fn run(revision: Revision, program: &str) -> Observation {
    let program: Program = program.parse().unwrap_or_else(|error| panic!("{error}\n{program}"));
    let mut candidate = Candidate::new(revision);
    let mut seen = Observation::default();
    candidate.reset(&program.limits);
    for op in &program.ops {
        candidate.step(op, &mut seen);
        if seen.is_fatal() {
            break;
        }
    }
    seen
}

/// The result as the text form writes it: `7`, or `-ENOMEM`.
pub(crate) fn result(seen: &Observation) -> String {
    match seen.result {
        Ok(value) => value.to_string(),
        Err(errno) => errno.to_string(),
    }
}

/// The events, each as a report writes it.
pub(crate) fn events(seen: &Observation) -> Vec<String> {
    seen.events.iter().map(Event::to_string).collect()
}

/// The VMAs of a process, each as `1..3@1`: its range, and its offset.
pub(crate) fn layout(seen: &Observation, process: u8) -> String {
    let vmas = seen.spaces[usize::from(Process(process).0)].vmas().iter();
    let shown: Vec<_> =
        vmas.map(|vma| format!("{}..{}{}", vma.start, vma.end, vma.pgoff)).collect();
    shown.join(" ")
}

/// Returns the names of the booleans of the `copy_vma()` report that are true.
pub(crate) fn copied(seen: &Observation) -> String {
    let Some(CopyReport { merged, need_rmap_locks, honoured, source_redirected }) = seen.copy
    else {
        return "no copy".into();
    };
    let names = [
        (merged, "merged"),
        (need_rmap_locks, "rmap-locks"),
        (honoured, "honoured"),
        (source_redirected, "redirected"),
    ];
    let told: Vec<_> = names.iter().filter(|(told, _)| *told).map(|(_, name)| *name).collect();
    told.join(" ")
}
