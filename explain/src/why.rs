//! Why: the sentence that says which point of the contract, or which condition of the merge rule,
//! fails, with the values that made it fail.
//!
//! It is worked out from what both machines showed before and after the operation, and says
//! nothing that cannot be read there. The points are those of the contract of a copy between
//! address spaces, in the reference's `contract.rs`.

mod accounting;
mod anon_vma;
mod assertion;
mod attributes;
mod copied;
mod merge;
mod refusal;
#[cfg(test)]
mod tests;

use vmadiff_lockstep::compare::Scope;
use vmadiff_lockstep::divergence::Class;
use vmadiff_lockstep::run::Run;
use vmadiff_machine::Observation;
use vmadiff_machine::operand::{ClearFlagsCtx, END_PAGES, MAX_PROCESSES, MremapFlags, Page};
use vmadiff_machine::{AddressSpace, Limits, Op, Opcode, VmFlags, Vma};

use crate::picture::{Painter, Range, Touched, touched};

/// A point of the contract, as it is cited.
fn point(number: u8) -> &'static str {
    match number {
        1 => {
            "point 1 of the contract: a copy has the source's file, offset, policy, pages and chain"
        }
        3 => "point 3 of the contract: a copy with flags cleared loses what the mask names",
        4 => "point 4 of the contract: a copy merges exactly where the original rule lets it",
        5 => "point 5 of the contract: whether the source was swallowed must not be read from it",
        6 => "point 6 of the contract: ranges that overlap are refused before anything is changed",
        7 => "point 7 of the contract: counters equal what a recount over the VMAs gives",
        8 => "point 8 of the contract: where copy_vma() says need_rmap_locks, they are taken",
        _ => "point 9 of the contract: every anonymous page stays reachable from its anon_vma",
    }
}

/// The flags that a copy loses with flags cleared.
const MASK: VmFlags = VmFlags::UFFD
    .union(VmFlags::LOCK)
    .union(VmFlags::VM_MERGEABLE)
    .union(VmFlags::VM_WIPEONFORK)
    .union(VmFlags::VM_DONTCOPY);

/// All that a sentence may be made of.
struct Case<'a> {
    op: &'a Op,
    limits: &'a Limits,
    names: (&'a str, &'a str),
    /// What the left machine showed before; the right one showed the same.
    before: &'a Observation,
    left: &'a Observation,
    right: &'a Observation,
    painter: Painter,
    touched: Vec<Touched>,
}

/// What is wrong after the last operation of a run, in a sentence; nothing where there is no
/// divergence.
pub fn why(run: &Run) -> Option<String> {
    let class = run.divergence.as_ref()?.class;
    let mut before = Default::default();
    let case = Case::of(run, &mut before)?;
    Some(match class {
        Class::Merge => case.merge(),
        Class::Flags => case.flags(),
        Class::Uffd => case.uffd(),
        Class::Aliasing => case.aliasing(),
        Class::Layout => case.layout(),
        Class::Offset => case.offset(),
        Class::AnonVma => case.anon_vma(),
        Class::RmapLocks => case.rmap_locks(),
        Class::Accounting => case.accounting(),
        Class::Errno => case.errno(),
        Class::Assertion => case.assertion(),
    })
}

/// What the merge rule says of the range that the last operation of a run copies or moves, and
/// each of its neighbours: the condition that keeps them apart, or that every one holds. Nothing
/// where it copies none.
pub fn merge_conditions(run: &Run) -> Vec<String> {
    let mut before = Default::default();
    Case::of(run, &mut before).map_or_else(Vec::new, |case| case.merge_conditions())
}

/// Names of flags, joined by `|`.
fn flag_names(flags: VmFlags) -> String {
    flags.iter_names().map(|(name, _)| name).collect::<Vec<_>>().join("|")
}

/// A list of ranges: `[1,2), [2,4) and [4,7)`.
fn list(ranges: &[Range]) -> String {
    let texts: Vec<String> = ranges.iter().map(Range::to_string).collect();
    match texts.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => texts.concat(),
    }
}

/// The page offset of a VMA's page, modulo 2^64 as the kernel adds.
fn pgoff_at(vma: &Vma, page: u8) -> vmadiff_machine::operand::PageOffset {
    let mut pgoff = vma.pgoff;
    pgoff.0 = pgoff.0.wrapping_add(page.into()).wrapping_sub(vma.start.0.into());
    pgoff
}

/// The VMAs that map one page in both machines, and where.
struct Both<'a> {
    process: usize,
    page: u8,
    left: (&'a AddressSpace, &'a Vma),
    right: (&'a AddressSpace, &'a Vma),
}

impl<'a> Case<'a> {
    /// The last operation of a run; none where there is none. `before` is where what was shown
    /// before it is kept.
    fn of(run: &'a Run, before: &'a mut Observation) -> Option<Case<'a>> {
        let (last, step) = (run.steps.len().checked_sub(1)?, run.steps.last()?);
        let mut painter = Painter::new(Scope::Models);
        for step in &run.steps {
            painter.picture(run.op(step), &step.left, &step.right);
        }
        *before = run.before(last).0;
        let op = run.op(step);
        Some(Case {
            op,
            limits: &run.program.limits,
            names: (&run.names.0, &run.names.1),
            before,
            left: &step.left,
            right: &step.right,
            painter,
            touched: touched(op, step.left.result),
        })
    }

    /// The first page of both machines for which `wrong` holds, and how far it goes on doing so.
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

    fn role(&self, role: &str) -> Option<Touched> {
        self.touched.iter().copied().find(|t| t.role == role)
    }

    /// Whether a page of a process is in the range that the operation made.
    fn is_new(&self, process: usize, page: u8) -> bool {
        self.role("to").is_some_and(|to| to.process == process && to.range.contains(page))
    }

    fn is_copy(&self) -> bool {
        matches!(self.op.opcode(), Opcode::Copy | Opcode::CopyVma)
    }

    /// The flags and the context that the call says a copy loses.
    fn clears(&self) -> bool {
        match self.op {
            Op::Copy { .. } => true,
            Op::CopyVma { clear_flags_ctx, .. } => clear_flags_ctx.get() == ClearFlagsCtx::Clear,
            _ => false,
        }
    }

    /// What `mremap` and the copies unmap before they look for the source: in one address space
    /// that may cut it.
    fn unmapped_first(&self, process: usize) -> Vec<Range> {
        let mut ranges = Vec::new();
        if let Some(to) = self.role("to").filter(|to| to.process == process) {
            ranges.push(to.range);
        }
        if let Op::Mremap { page, old_len, new_len, flags, .. } = self.op
            && flags.get() == MremapFlags::MaymoveFixed
        {
            let range = |len| Range::new(page.get(), len);
            ranges.push(Range { start: range(new_len.get()).end, end: range(old_len.get()).end });
        }
        ranges
    }

    /// The source VMA of a copy or a move, as it is when `copy_vma()` is called.
    fn source(&self) -> Option<(Touched, &'a Vma, Range)> {
        let from = self.role("from")?;
        let space = &self.before.spaces[from.process];
        let vma = space.vma_at(Page(from.range.start))?;
        let mut left = Range::of(vma);
        for gone in self.unmapped_first(from.process) {
            if gone.is_empty() || !gone.overlaps(left) {
                continue;
            }
            if gone.start <= from.range.start {
                left.start = left.start.max(gone.end);
            } else {
                left.end = left.end.min(gone.start);
            }
        }
        Some((from, vma, left))
    }

    /// The VMAs on both sides of the new range as they are when `copy_vma()` is called: each with
    /// the part of it that was left.
    fn neighbours(&self) -> Option<[Option<(&'a Vma, Range)>; 2]> {
        let to = self.role("to")?;
        let space = &self.before.spaces[to.process];
        let gone = self.unmapped_first(to.process);
        let part = |page: Option<u8>, backwards: bool| {
            let page = page?;
            let vma = space.vma_at(Page(page))?;
            let is_gone = |page: u8| gone.iter().any(|gone| gone.contains(page));
            if is_gone(page) {
                return None;
            }
            let range = if backwards {
                let cut = (vma.start.0..page).rev().find(|&p| is_gone(p));
                Range { start: cut.map_or(vma.start.0, |cut| cut + 1), end: page + 1 }
            } else {
                let cut = (page..vma.end.0).find(|&p| is_gone(p));
                Range { start: page, end: cut.unwrap_or(vma.end.0) }
            };
            Some((vma, range))
        };
        Some([part(to.range.start.checked_sub(1), true), part(Some(to.range.end), false)])
    }

    /// VMAs of the space before, with the new range, that `space` shows as one.
    fn joined(&self, process: usize, space: &AddressSpace) -> Option<(Vec<Range>, Range)> {
        let before = &self.before.spaces[process];
        space.vmas().iter().find_map(|vma| {
            let whole = Range::of(vma);
            let mut parts: Vec<Range> = before
                .vmas()
                .iter()
                .map(Range::of)
                .map(|r| Range { start: r.start.max(whole.start), end: r.end.min(whole.end) })
                .filter(|part| !part.is_empty())
                .collect();
            if let Some(to) = self.role("to").filter(|to| to.process == process) {
                let to = to.range;
                parts = parts
                    .into_iter()
                    .flat_map(|p| {
                        [
                            Range { start: p.start, end: p.end.min(to.start) },
                            Range { start: p.start.max(to.end), end: p.end },
                        ]
                    })
                    .filter(|part| !part.is_empty())
                    .chain(whole.overlaps(to).then_some(to))
                    .collect();
            }
            parts.sort_by_key(|part| part.start);
            (parts.len() > 1).then_some((parts, whole))
        })
    }

    /// For what has no values to show.
    fn nothing(&self) -> String {
        format!("{} and {} show different things after `{}`", self.names.0, self.names.1, self.op)
    }
}
