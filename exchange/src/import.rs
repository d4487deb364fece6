//! The import of real programs' behaviour: a log of `strace` becomes programs that each run alone.
//!
//! A log has few processes with large address spaces and many calls; a program has 64 pages and at
//! most [`MAX_OPS`] operations. Therefore:
//!
//! - Processes that descend from one another by fork are a *family*. `execve()` begins another
//!   family, because nothing of the old address space is left.
//! - The calls of a family are cut into *windows*, each as long as fits. A window begins with
//!   operations that set up its start: mappings in the reach of its calls, and children by fork.
//! - Within a window, the edges of all ranges are laid out over the arena in their order. Adjacent
//!   ranges stay adjacent, separate ranges stay separate, a longer range does not become the
//!   shorter one, and a range that `mremap` moves has the same length at both places.
//!
//! A move is imported with its address in the log, also if the kernel chose the address. A call
//! with `MREMAP_DONTUNMAP` stays such a call although Linux 5.2.1 refuses it: the program is then
//! for later kernels.
//!
//! Each attachment of SysV shared memory (`shmat`) is as long as the segment of a program, four pages. A
//! program has one segment, so a call for another segment begins another window. A segment that was attached
//! before the window and is not the program's is shared anonymous memory there.
//!
//! A limit that is lifted (`prlimit`, `setrlimit` with `RLIM_INFINITY`) becomes the highest limit of a program,
//! which no program reaches. A number of bytes is left out: it counts memory that the program does not have.
//! A write of `4` to `/proc/PID/clear_refs` becomes `clear_refs` of that process.
//!
//! Some facts are not in a log. The kernel's own mappings after `execve()` are assumed to be
//! anonymous if a call meets them. A program has only two files, so further files of a window share
//! these two.

mod attributes;
mod change;
pub(crate) mod layout;
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

/// A program, and its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The program.
    pub program: Program,
    /// The first and the last line of the log from which the program has a call, counted from 1.
    pub lines: (usize, usize),
    /// The number of calls of the log that the program has.
    pub calls: usize,
}

/// The result of an import.
#[derive(Debug, Default)]
pub struct Import {
    /// The programs in the order of the log, without duplicates.
    pub programs: Vec<Imported>,
    /// The number of calls that are in no program, by the reason. These calls, the calls of the
    /// programs and the calls that the log's reader ignored are together all [calls of the
    /// log](Log::calls).
    pub left_out: BTreeMap<String, usize>,
    /// The number of mappings that no call made and that were guessed.
    pub guessed: usize,
}

/// Makes programs from a log.
pub fn import(log: &Log, options: Options) -> Import {
    let options = Options { operations: options.operations.min(MAX_OPS), ..options };
    let mut tracker = Tracker::new(options);
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

/// Cuts the steps of a family into windows. The windows have the steps of the processes to import.
fn windows(
    steps: &[Step],
    options: Options,
    programs: &mut Vec<Imported>,
    left_out: &mut BTreeMap<String, usize>,
) {
    let all = steps;
    let (positions, steps): (Vec<usize>, Vec<Step>) =
        all.iter().copied().enumerate().filter(|(_, step)| step.is_wanted).unzip();
    let mut spaces = Spaces::new();
    // The number of steps that were performed on the address spaces.
    let mut performed = 0;
    let mut from = 0;
    while from < steps.len() {
        // The steps of other processes change no address space of these steps, so it does not
        // matter whether they are performed before or after the window.
        for step in &all[performed..positions[from]] {
            perform(&mut spaces, step);
        }
        performed = positions[from];
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
                let changes = window.iter().filter(|step| step.change.is_of_memory()).count();
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
        let end = positions[to - 1] + 1;
        for step in &all[performed..end] {
            perform(&mut spaces, step);
        }
        (performed, from) = (end, to);
    }
}
