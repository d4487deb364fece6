//! The results of a run's operations, as texts.

use vmadiff_lockstep::run::Run;
use vmadiff_machine::{Errno, Observation};

/// Returns the result of an operation as text: `0`, a page, a process, or the error.
pub fn result_text(result: Result<u8, Errno>) -> String {
    match result {
        Ok(value) => value.to_string(),
        Err(errno) => errno.to_string(),
    }
}

/// Returns the result of an operation, with the value that a `touch` has read: `0 (reads 3)`.
pub fn answer_text(seen: &Observation) -> String {
    let result = result_text(seen.result);
    seen.read.map_or_else(|| result.clone(), |value| format!("{result} (reads {value})"))
}

/// Returns the result of each operation of a run as text; both results if they differ.
pub fn results(run: &Run) -> Vec<String> {
    let lacking = "not run: not an operation of both machines";
    let reached = run.steps.last().map_or(0, |step| match run.divergence {
        Some(_) => step.at + 1,
        // Both machines died at this operation, or the program ends here.
        None if step.left.is_fatal() => step.at + 1,
        None => run.program.ops.len(),
    });
    let reached = if run.steps.is_empty() { run.program.ops.len() } else { reached };
    let mut results: Vec<String> = (0..run.program.ops.len())
        .map(|n| String::from(if n < reached { lacking } else { "not reached" }))
        .collect();
    for step in &run.steps {
        let (l, r) = (answer_text(&step.left), answer_text(&step.right));
        results[step.at] = match (step.left.is_fatal(), step.right.is_fatal()) {
            (true, true) => "does not survive".into(),
            (true, false) => format!("does not survive | {r}"),
            (false, true) => format!("{l} | does not survive"),
            (false, false) if l == r => match step.right.failed.or(step.left.failed) {
                Some(failed) => format!("{l} (no memory: {failed})"),
                None => l,
            },
            (false, false) => format!("{l} | {r}"),
        };
    }
    results
}
