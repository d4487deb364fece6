//! The expectation of an operation in a C program: the part of the reference's observation that a
//! running kernel shows.

use vmadiff_lockstep::visible::{Contexts, Files, Visible, memory, messages, readable};
use vmadiff_machine::operand::{Access, MAX_PROCESSES, Page, Process};
use vmadiff_machine::{Limits, Machine as _, Observation, Op};
use vmadiff_reference::Reference;
use vmadiff_reference::later::Rules;

use super::call::result;

/// The memory of a process that has nothing mapped: `NOTHING` in the runtime.
const NOTHING: &str = "VmSize 0, VmLck 0, VmData 0";

/// The expectation of an operation, or of the end of the program.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Expectation {
    /// The result as a C expression.
    pub(super) result: String,
    /// `shm_nattch` of the segment; -1 after it was destroyed.
    pub(super) attached: i64,
    /// The memory of each process in which it changed, in the form of the runtime's `memory`.
    pub(super) memory: Vec<(usize, String)>,
    /// The messages to the monitor of userfaultfd contexts, in the form of the runtime's `messages`.
    pub(super) messages: String,
    /// At the end of a program that writes: the values of the pages of each process, in the form of the
    /// runtime's `contents`.
    pub(super) contents: Vec<(usize, String)>,
}

/// Reads every page that a process has, and returns the values in the form of the runtime's `contents`:
/// runs of pages with the same value.
fn contents(reference: &mut Reference, seen: &mut Observation) -> Vec<(usize, String)> {
    let spaces: Vec<_> = seen.spaces.iter().map(readable).collect();
    let mut all = Vec::new();
    for (process, mut pages) in spaces.into_iter().enumerate() {
        let mut runs: Vec<(u8, u8, u8)> = Vec::new();
        while pages != 0 {
            let page = pages.trailing_zeros() as u8;
            pages &= pages - 1;
            let (process, at) = (Process(process as u8).into(), Page(page).into());
            reference.step(&Op::Touch { process, page: at, access: Access::Read.into() }, seen);
            let Some(value) = seen.read else { continue };
            match runs.last_mut() {
                Some((_, end, of)) if *end == page && *of == value => *end += 1,
                _ => runs.push((page, page + 1, value)),
            }
        }
        if !runs.is_empty() {
            let runs = runs.iter().map(|(start, end, value)| format!("{start}-{end}={value}"));
            all.push((process, runs.collect::<Vec<_>>().join(" ")));
        }
    }
    all
}

/// Returns whether the operation is a `touch` that writes.
pub(super) fn is_write(op: &Op) -> bool {
    matches!(op, Op::Touch { access, .. } if access.get() == Access::Write)
}

/// Runs the operations under rules, and returns the expectation of each operation and of the end, and the
/// rules that were applied.
pub(super) fn expectations(ops: &[Op], limits: &Limits, rules: Rules) -> (Vec<Expectation>, Rules) {
    let mut reference = Reference::with_rules(rules);
    reference.reset(limits);
    let (mut seen, mut shown) = (Observation::default(), Observation::default());
    let (mut files, mut contexts) = (Files::default(), Contexts::default());
    let mut before: [String; MAX_PROCESSES] = Default::default();
    before[0] = NOTHING.into();
    let mut applied = Rules::NONE;
    let mut all = Vec::with_capacity(ops.len() + 1);
    let mut writes = false;
    for op in ops {
        reference.step(op, &mut seen);
        applied = applied.union(reference.applied());
        Visible::ALL.reduce(&seen, &mut shown);
        contexts.note(op, &seen);
        let mut changed = Vec::new();
        for (process, (space, before)) in shown.spaces.iter().zip(&mut before).enumerate() {
            let now = if space.alive { memory(space, &mut files) } else { String::new() };
            if space.alive && now != *before {
                changed.push((process, now.clone()));
            }
            *before = now;
        }
        writes |= is_write(op) && seen.result.is_ok();
        all.push(Expectation {
            result: shown.read.map_or_else(|| result(op, shown.result), |value| value.to_string()),
            attached: shown.attached.unwrap_or(-1),
            memory: changed,
            messages: messages(&shown.messages, &contexts),
            contents: Vec::new(),
        });
    }
    let contents = if writes { contents(&mut reference, &mut seen) } else { Vec::new() };
    all.push(Expectation { contents, ..Expectation::default() });
    (all, applied.union(reference.applied()))
}
