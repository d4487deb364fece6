//! Programs made of what real programs did: a log of `strace`, cut into pieces that stand alone.
//!
//! A log has few processes with large address spaces and many calls; a program has 64 pages and at
//! most [`MAX_OPS`] operations. So
//!
//! - processes that come of each other by fork are a *family*; `execve` begins another, because
//!   nothing of the old address space is left;
//! - a family's calls are cut into *windows*, each as long as it fits. A window begins with
//!   operations that map what was mapped then where its own calls reach, children by fork;
//! - within a window the edges of all ranges are laid out over the arena in their order. What was
//!   adjacent is adjacent, what was apart is apart, what was longer is not shorter, and a range that
//!   `mremap` moves has the same length on both sides.
//!
//! A move is imported with the address that it had in the log, also where the kernel chose it. One
//! with `MREMAP_DONTUNMAP` stays one, although Linux 5.2.1 refuses it: the program is for later
//! kernels then.
//!
//! What a log does not tell is left out or guessed: the kernel's own mappings after `execve` are
//! taken to be anonymous where a call meets them, and of the files of a window two are told apart.

mod attributes;
mod change;
mod layout;
mod space;
mod tracker;
mod window;
mod writer;

use std::collections::{BTreeMap, BTreeSet};

use vmadiff_machine::Program;
use vmadiff_machine::program::MAX_OPS;

use crate::strace::Log;
use change::Step;
use space::{Spaces, perform};
use tracker::Tracker;
use window::Window;

pub use window::Options;

/// A program, and where in the log it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The program.
    pub program: Program,
    /// The first and the last line of the log that it has a call of, counted from 1.
    pub lines: (usize, usize),
    /// The number of calls of the log that it has.
    pub calls: usize,
}

/// What came of a log.
#[derive(Debug, Default)]
pub struct Import {
    /// The programs, each once, in the order of the log.
    pub programs: Vec<Imported>,
    /// Calls that are in none, by the reason, with their count. With the calls of the programs and
    /// those that the log's reader ignored, they are all [calls of the log](Log::calls).
    pub left_out: BTreeMap<String, usize>,
    /// Mappings that no call had made, and that were guessed.
    pub guessed: usize,
}

/// Makes programs of a log.
pub fn import(log: &Log, options: Options) -> Import {
    let options = Options { operations: options.operations.min(MAX_OPS), ..options };
    let mut tracker = Tracker::new(options.touch);
    for event in &log.events {
        tracker.event(event.line, event.thread, &event.call);
    }
    let Tracker { families, left_out, guessed, .. } = tracker;
    let mut import = Import { left_out, guessed, ..Import::default() };
    let mut programs = Vec::new();
    for steps in &families {
        windows(steps, options, &mut programs, &mut import.left_out);
    }
    programs.sort_by_key(|imported| imported.lines);
    let mut met = BTreeSet::new();
    programs.retain(|imported| {
        let new = met.insert(imported.program.to_string());
        if !new {
            leave_out(&mut import.left_out, "in a program like another", imported.calls);
        }
        new
    });
    import.programs = programs;
    import
}

/// Counts calls that are left out for a reason, if there are any.
fn leave_out(left_out: &mut BTreeMap<String, usize>, reason: &str, calls: usize) {
    if calls > 0 {
        *left_out.entry(reason.into()).or_default() += calls;
    }
}

/// Cuts what a family did into windows.
fn windows(
    steps: &[Step],
    options: Options,
    programs: &mut Vec<Imported>,
    left_out: &mut BTreeMap<String, usize>,
) {
    let mut spaces = Spaces::new();
    let mut from = 0;
    while from < steps.len() {
        let mut fits = None;
        for to in from + 1..=steps.len().min(from + options.operations) {
            let window = Window { spaces: &spaces, steps: &steps[from..to] };
            match window.program(options) {
                Some(program) => fits = Some((to, program)),
                None => break,
            }
        }
        let to = match fits {
            Some((to, program)) => {
                let window = &steps[from..to];
                let changes = window.iter().filter(|step| !step.change.ranges().is_empty()).count();
                let calls = window.iter().filter(|step| step.is_call).count();
                if changes >= 3 {
                    let lines = (steps[from].line, steps[to - 1].line);
                    programs.push(Imported { program, lines, calls });
                } else {
                    let reason = "in a window of fewer than three changes of memory";
                    leave_out(left_out, reason, calls);
                }
                to
            }
            None => {
                let calls = usize::from(steps[from].is_call);
                leave_out(left_out, "that no window has room for", calls);
                from + 1
            }
        };
        for step in &steps[from..to] {
            perform(&mut spaces, step);
        }
        from = to;
    }
}
