//! The reason why two machines differ: one sentence with the point of the contract, or the
//! condition of the merge rule, and the values that decide.
//!
//! The reference makes the decisions and [gives its reasons](vmadiff_reference::why). This module
//! finds the reason that belongs to the difference and words it. If neither machine is the
//! reference, the reference runs beside them, and the sentence says which of the two machines
//! agrees with it.

mod accounting;
mod anon_vma;
mod assertion;
mod contents;
mod copied;
mod deadlock;
mod failing;
mod flags;
mod layout;
mod merge;
mod offset;
mod refusal;
#[cfg(test)]
mod tests;

use std::fmt::Display;

use vmadiff_lockstep::compare::{Comparer, Scope};
use vmadiff_lockstep::divergence::Class;
use vmadiff_lockstep::invariants::{Broken, Side};
use vmadiff_lockstep::run::Run;
use vmadiff_machine::operand::{END_PAGES, MAX_PROCESSES, Page, PageOffset, Process};
use vmadiff_machine::{AddressSpace, Limits, Machine as _, Observation, Op, Opcode, VmFlags, Vma};
use vmadiff_reference::later::Rules;
use vmadiff_reference::why::CopyReason;
use vmadiff_reference::{MENDED, Reference, Why};

use crate::contract::{CONTRACT, Patch};
use crate::picture::{Painter, Range, Touched, touched};

/// The candidate at the second version of the patch, whose hunks the reasons name.
const PATCHED: &str = "candidate:v2";

/// The name of the machine whose reasons are worded.
const REFERENCE: &str = "reference";

/// The last operation of a run: the state before it, both observations after it, and the reasons of
/// the reference.
struct Case<'a> {
    op: &'a Op,
    limits: &'a Limits,
    names: (&'a str, &'a str),
    /// The left machine's observation before the operation.
    before: Observation,
    /// The right machine's observation before the operation. It shows the same with other numbers.
    before_right: Observation,
    left: &'a Observation,
    right: &'a Observation,
    painter: Painter,
    touched: Vec<Touched>,
    /// The reference's reasons.
    reason: Why,
    /// The reference's observation after the operation.
    reference: Observation,
    /// The machines with which the reference agrees, left and right.
    agrees: (bool, bool),
}

/// The sentence for a broken invariant.
fn invariant(run: &Run, broken: &Broken) -> String {
    let (left, right) = (&run.names.0, &run.names.1);
    match broken.side {
        Side::Left => format!("{left} breaks an invariant: {broken}"),
        Side::Right => format!("{right} breaks an invariant: {broken}"),
        Side::Both if run.alone => format!("{right} breaks an invariant: {broken}"),
        Side::Both => format!("{left} and {right} break an invariant: {broken}"),
    }
}

/// Returns the reason of a run's divergence, in a sentence; `None` if there is no divergence.
pub fn why(run: &Run) -> Option<String> {
    let divergence = run.divergence.as_ref()?;
    if let Some(broken) = &divergence.broken {
        return Some(invariant(run, broken));
    }
    let class = divergence.class;
    let case = Case::of(run)?;
    if divergence.is_half_way() {
        return Some(format!("{}{}", case.half_way(divergence), case.judge()));
    }
    let sentence = match class {
        Class::Merge => case.merge(),
        Class::Flags => case.flags(),
        Class::Uffd => case.uffd(),
        Class::Aliasing => case.aliasing(),
        Class::Layout => case.layout(),
        Class::Offset => case.offset(),
        Class::AnonVma => case.anon_vma(),
        Class::RmapLocks => case.rmap_locks(),
        Class::Deadlock => case.deadlock(),
        Class::Contents => case.contents(),
        // Only an invariant finds a leak.
        Class::Leak => case.nothing(),
        Class::Accounting => case.accounting(),
        Class::Errno => case.errno(),
        Class::Assertion => case.assertion(),
    };
    Some(format!("{sentence}{}", case.judge()))
}

/// Returns the answers of the merge rule for the range that the last operation of a run copies or
/// moves, one for each neighbour: the condition that forbids the merge, or that every condition
/// holds. Empty if the operation copies or moves nothing.
pub fn merge_conditions(run: &Run) -> Vec<String> {
    Case::of(run).map_or_else(Vec::new, |case| case.merge_conditions())
}

/// Returns the names of flags, joined by `|`.
fn flag_names(flags: VmFlags) -> String {
    flags.iter_names().map(|(name, _)| name).collect::<Vec<_>>().join("|")
}

/// Returns a list of ranges as text: `[1,2), [2,4) and [4,7)`.
fn list(ranges: &[impl Display]) -> String {
    let texts: Vec<String> = ranges.iter().map(ToString::to_string).collect();
    match texts.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => texts.concat(),
    }
}

/// Returns the page offset of a page of a VMA, modulo 2^64 as the kernel adds.
fn pgoff_at(vma: &Vma, page: u8) -> PageOffset {
    let mut pgoff = vma.pgoff;
    pgoff.0 = pgoff.0.wrapping_add(page.into()).wrapping_sub(vma.start.0.into());
    pgoff
}

/// Returns a page offset in the form of the sentences: `@4`.
fn pgoff_text(pgoff: PageOffset) -> String {
    let text = pgoff.to_string();
    if text.starts_with('@') { text } else { format!("@{text}") }
}

fn index(process: Process) -> usize {
    usize::from(process.0)
}

/// Returns the reference that gives the reasons: the one that runs, or the one that judges the two
/// machines. `candidate:fixed` has fixes of later kernels, and so has the reference beside it.
fn reference_of((left, right): &(String, String)) -> Reference {
    let named = Reference::named(left).or_else(|| Reference::named(right));
    let mended = [left, right].iter().any(|name| name.starts_with("candidate:fixed"));
    named.unwrap_or_else(|| Reference::with_rules(if mended { MENDED } else { Rules::NONE }))
}

/// The VMAs that map the same page in both machines.
struct Both<'a> {
    process: usize,
    page: u8,
    left: (&'a AddressSpace, &'a Vma),
    right: (&'a AddressSpace, &'a Vma),
}

impl<'a> Case<'a> {
    /// Returns the case of the last operation of a run; `None` if the run is empty.
    fn of(run: &'a Run) -> Option<Case<'a>> {
        let (last, step) = (run.steps.len().checked_sub(1)?, run.steps.last()?);
        let mut painter = Painter::new(Scope::Models);
        let mut machine = reference_of(&run.names);
        machine.reset(&run.program.limits);
        let (mut reference, mut reason) = (Observation::default(), Why::default());
        let mut comparers = [Comparer::new(Scope::Models), Comparer::new(Scope::Models)];
        let mut agrees = (true, true);
        for (n, step) in run.steps.iter().enumerate() {
            painter.picture(run.op(step), &step.left, &step.right);
            if n == last {
                reason = machine.step_explained(run.op(step), &mut reference);
            } else {
                machine.step(run.op(step), &mut reference);
            }
            failing::follow(&mut machine, run.op(step), (&run.before(n).0, step), &mut reference);
            agrees.0 &= comparers[0].same_in_full(&reference, &step.left);
            agrees.1 &= comparers[1].same_in_full(&reference, &step.right);
        }
        let op = run.op(step);
        let (before, before_right) = run.before(last);
        Some(Case {
            op,
            limits: &run.program.limits,
            names: (&run.names.0, &run.names.1),
            before,
            before_right,
            left: &step.left,
            right: &step.right,
            painter,
            touched: touched(op, step.left.result),
            reason,
            reference,
            agrees,
        })
    }

    /// Returns the remark that the reasons are those of the reference; empty if the left machine is
    /// the reference.
    fn judge(&self) -> String {
        let shows = match (Reference::named(self.names.0).is_some(), self.agrees) {
            (true, _) => return String::new(),
            (false, (true, _)) => format!("shows the same as {}", self.names.0),
            (false, (_, true)) => format!("shows the same as {}", self.names.1),
            _ => "shows the same as neither".to_owned(),
        };
        format!(" (reasons are those of the reference, which was run beside and {shows})")
    }

    /// Returns the first pages of both machines for which `wrong` holds.
    fn first(&self, wrong: impl Fn(&Both<'_>) -> bool) -> Option<(Both<'a>, Range)> {
        (0..MAX_PROCESSES).find_map(|process| {
            let (l, r) = (&self.left.spaces[process], &self.right.spaces[process]);
            let at = |page: u8| {
                let (lv, rv) = (l.vma_at(Page(page))?, r.vma_at(Page(page))?);
                let both = Both { process, page, left: (l, lv), right: (r, rv) };
                wrong(&both).then_some(both)
            };
            let start = (0..END_PAGES as u8).find(|&page| at(page).is_some())?;
            let end = (start..END_PAGES as u8).find(|&page| at(page).is_none());
            Some((at(start)?, Range { start, end: end.unwrap_or(END_PAGES as u8) }))
        })
    }

    /// Returns the citation of a point of the contract, with the hunk that has its code:
    /// `point 6 of the contract: …; patch 7/7, mmap_process_vm()`.
    fn point(&self, number: u8) -> String {
        let clause = usize::from(number).checked_sub(1).and_then(|at| CONTRACT.get(at));
        let Some(clause) = clause else { return format!("point {number} of the contract") };
        let code = match clause.patch {
            Some(patch) => self.hunk(patch, clause.function),
            None => format!("; {}()", clause.function),
        };
        format!("point {number} of the contract: {}{code}", clause.text)
    }

    /// Returns the hunk that has the code of a rule: `; patch 2/7, copy_vma()`. Empty if the
    /// operation does not run the code, or if no machine has the second version of the patch.
    fn hunk(&self, patch: Patch, function: &str) -> String {
        let runs = match self.op.opcode() {
            Opcode::Copy => true,
            Opcode::CopyVma | Opcode::Mremap => patch == Patch::CopyVma,
            _ => false,
        };
        let has = [self.names.0, self.names.1].iter().any(|name| name.starts_with(PATCHED));
        match runs && has {
            true => format!("; patch {}, {function}()", patch.number()),
            false => String::new(),
        }
    }

    fn role(&self, role: &str) -> Option<Touched> {
        self.touched.iter().copied().find(|t| t.role == role)
    }

    fn is_copy(&self) -> bool {
        matches!(self.op.opcode(), Opcode::Copy | Opcode::CopyVma)
    }

    /// Returns the copy or move that mapped a page of a process.
    fn made(&self, process: usize, page: u8) -> Option<&CopyReason> {
        self.reason
            .copy
            .as_ref()
            .filter(|copy| index(copy.process) == process && Range::of(&copy.new).contains(page))
    }

    /// Returns the VMA that was the source of a copy or a move, as it was before the operation.
    fn source_before(&self, copy: &CopyReason) -> Option<(&AddressSpace, &Vma)> {
        let space = &self.before.spaces[index(copy.source_process)];
        Some((space, space.vma_at(copy.from.start)?))
    }

    /// Returns the merges of the reference as text: `: in reference, [1,2) and [2,4) of process 0
    /// become [1,4)`. Empty if the reference merged nothing.
    fn merged_text(&self) -> String {
        let merged = self.reason.merges.iter().find_map(|decision| {
            let whole = decision.merged()?;
            let joined = |near: &vmadiff_reference::why::Neighbour| {
                near.joined().then(|| near.range.to_string())
            };
            let left = decision.left.as_ref().and_then(joined);
            let right = decision.right.as_ref().and_then(joined);
            let new = Some(Range::of(&decision.new).to_string());
            let parts: Vec<String> = [left, new, right].into_iter().flatten().collect();
            let (parts, process) = (list(&parts), decision.process);
            Some(format!(": in {}, {parts} of process {process} become {whole}", REFERENCE))
        });
        merged.unwrap_or_default()
    }

    /// Returns the sentence for a difference that has no values to show.
    fn nothing(&self) -> String {
        format!("{} and {} show different things after `{}`", self.names.0, self.names.1, self.op)
    }
}
