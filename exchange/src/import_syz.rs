//! The import of a program of syzkaller.
//!
//! A program of syzkaller names memory in its data area, 16 MB at `0x7f0000000000`. The data area is
//! mapped before the first call: private, anonymous, with every protection. The calls that map, change
//! or unmap memory become operations of process 0:
//!
//! - The pages keep their distances if all ranges fit into the arena. Otherwise the edges of the
//!   ranges are laid out over the arena in their order, as for a log of strace.
//! - The first operation maps the part of the data area that the calls reach. A program that begins
//!   with a `munmap` of this part begins with an empty arena.
//! - syzkaller writes the values of pointers into the data area before each call. If the calls reach
//!   such a page, the write becomes a `touch`.
//! - The calls keep the order of the lines, also with `(async)`. Injected faults (`fail_nth`) and
//!   repetitions (`rerun`) have no counterpart.
//!
//! A call on memory that has no operation, or that every kernel refuses, is left out and counted by
//! its name and the reason. A mapping without `MAP_FIXED` is imported if its address is free: the
//! kernel then maps it there.

mod arguments;
mod calls;
mod descriptors;
mod place;
mod segment;
mod step;

use std::collections::BTreeMap;

use vmadiff_machine::program::MAX_OPS;
use vmadiff_machine::{Op, Program};

use crate::syz::Call;
use calls::{Calls, Verdict};
use place::Place;
use step::{Cause, Span, Step};

/// The address of the data area in the text form.
const DATA: u64 = 0x7f00_0000_0000;
const PAGE_SIZE: u64 = 4096;
/// The number of pages of the data area.
const DATA_PAGES: u64 = 4096;

/// The result of an import.
#[derive(Debug, Default)]
pub struct Import {
    /// The program.
    pub program: Program,
    /// The number of calls that are in the program: as operations, or as the files and userfaultfd
    /// contexts of operations.
    pub taken: usize,
    /// The number of calls that could be in the program and are not, by name and reason.
    pub left_out: BTreeMap<String, usize>,
    /// The number of other calls, by name. `taken`, `left_out` and `not_used` are together all calls.
    pub not_used: BTreeMap<String, usize>,
    /// The number of properties of calls (`async`, `fail_nth`), which no program has, by name.
    pub properties: BTreeMap<String, usize>,
}

/// Makes a program from the calls of a program of syzkaller.
pub fn import(calls: &[Call]) -> Import {
    let Calls { steps, mut verdicts, .. } = Calls::of(calls);
    let (steps, begins_empty) = with_data_area(steps, &mut verdicts);
    // The program is the longest beginning for which there is room.
    let mut length = steps.len().min(MAX_OPS);
    let place = loop {
        match Place::of(&steps[..length], begins_empty) {
            Some(place) => break place,
            None => length -= 1,
        }
    };
    let mut import = Import::default();
    import.program.ops = steps[..length].iter().map(|step| place.operation(step)).collect();
    for step in &steps[length..] {
        if let Cause::Call(call) = step.cause {
            verdicts[call] = Verdict::LeftOut(match length == MAX_OPS {
                true => format!("past {MAX_OPS} operations"),
                false => "no room in the arena".into(),
            });
        }
    }
    for (call, verdict) in calls.iter().zip(verdicts) {
        let name = call.full_name();
        match verdict {
            Verdict::Taken => import.taken += 1,
            Verdict::LeftOut(why) => count(&mut import.left_out, format!("{name} ({why})")),
            Verdict::NotUsed => count(&mut import.not_used, name),
        }
        for property in &call.properties {
            count(&mut import.properties, property.clone());
        }
    }
    import
}

fn count(counts: &mut BTreeMap<String, usize>, what: String) {
    *counts.entry(what).or_default() += 1;
}

/// Returns the steps with the data area as it is at the beginning, and whether no part of the data
/// area that the steps reach is mapped. Accesses to pages that the steps do not reach are removed.
fn with_data_area(mut steps: Vec<Step>, verdicts: &mut [Verdict]) -> (Vec<Step>, bool) {
    let is_change = |step: &Step| !matches!(step.op, Op::Touch { .. } | Op::Fork { .. });
    let whole: Vec<Span> =
        steps.iter().filter(|step| is_change(step)).filter_map(Step::hull).collect();
    steps.retain(|step| {
        let page = match (step.op, step.hull()) {
            (Op::Touch { .. }, Some(page)) => page,
            _ => return true,
        };
        let is_reached = whole.iter().any(|span| span.covers(page));
        if let (false, Cause::Call(call)) = (is_reached, step.cause) {
            verdicts[call] = Verdict::LeftOut("memory that no call changes".into());
        }
        is_reached
    });
    // A write before each call to a page that is written already says nothing new.
    let mut written: Vec<Span> = Vec::new();
    steps.retain(|step| match step.hull() {
        Some(page) if step.cause == Cause::Implied => {
            let is_new = !written.contains(&page);
            written.push(page);
            is_new
        }
        _ => {
            if is_change(step) {
                written.clear();
            }
            true
        }
    });
    let rest = steps.iter().skip(1).filter_map(Step::hull).reduce(Span::with);
    let begins_empty = steps.first().is_some_and(|first| {
        let all = first.hull().filter(|_| matches!(first.op, Op::Munmap { .. }));
        all.is_some_and(|all| rest.is_none_or(|rest| all.covers(rest)))
    });
    if begins_empty {
        steps.remove(0);
    } else if let Some(hull) = steps.iter().filter_map(Step::hull).reduce(Span::with) {
        let start = hull.start.saturating_sub(1);
        let end = (hull.end() + 1).min(DATA_PAGES);
        steps.insert(0, Step::data_area(Span { start, len: end - start }));
    }
    (steps, begins_empty)
}
