//! Changing the attributes of a range: VMA by VMA, each part is joined to a neighbour or cut out.

use vmadiff_machine::operand::{Mode, Page};
use vmadiff_machine::{Allocation, Errno, VmFlags};

use crate::clear_refs::Joined;
use crate::function::Function;
use crate::merge::Origin;
use crate::mm::Syscall;
use crate::range::Range;
use crate::refusal::{Progress, Refusal, Rule};
use crate::vma::Vma;

/// The treatment of a page of the range that is not mapped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hole {
    /// The walk ends at the hole with `ENOMEM`, on behalf of this kernel function (`mlock`,
    /// `munlock`, `mprotect`).
    Stops(Function),
    /// The walk goes on, and ends with `ENOMEM` (`madvise`).
    Remembered,
    /// The walk passes over the hole (userfaultfd, `mbind`).
    Ignored,
}

impl Syscall<'_> {
    /// Calls `step` for each VMA's part of `range`, in address order. `step` gets the index of the
    /// VMA and the part, and returns the index of the VMA that maps the part afterwards. The walk
    /// goes on after that VMA, which may end beyond the part.
    ///
    /// # Errors
    /// The error of the first step that fails, or that of a hole. Earlier steps stay done.
    pub(crate) fn walk(
        &mut self,
        range: Range,
        hole: Hole,
        mut step: impl FnMut(&mut Self, usize, Range) -> Result<usize, Refusal>,
    ) -> Result<(), Refusal> {
        let mut rest = range;
        let mut first_hole = None;
        let so_far = |page: Page| match page > range.start {
            true => Progress::UpTo(page),
            false => Progress::Nothing,
        };
        while let Some((at, part)) = self.mm.first_in(rest) {
            if part.start > rest.start {
                first_hole.get_or_insert(rest.start);
                if let Hole::Stops(function) = hole {
                    return self
                        .hole(function, rest.start)
                        .map_err(|r| r.after(so_far(rest.start)));
                }
            }
            let at = step(self, at, part).map_err(|refusal| match refusal.progress {
                Progress::Nothing => refusal.after(so_far(part.start)),
                _ => refusal,
            })?;
            rest.start = self.mm.vmas()[at].range.end;
        }
        if !rest.is_empty() {
            first_hole.get_or_insert(rest.start);
        }
        match (hole, first_hole) {
            (Hole::Stops(function), Some(page)) => {
                self.hole(function, page).map_err(|r| r.after(so_far(page)))
            }
            (Hole::Remembered, Some(page)) => {
                self.hole(Function::Madvise, page).map_err(|r| r.after(Progress::Everything))
            }
            _ => Ok(()),
        }
    }

    fn hole(&self, function: Function, page: Page) -> Result<(), Refusal> {
        self.refuse(Errno::ENOMEM, function, Rule::NotMapped(page))
    }

    /// Gives `new.range`, which is part of the VMA at `at`, the attributes of `new`, and returns the
    /// index of the VMA that maps the range afterwards: a neighbour where the merge rule allows it,
    /// else a VMA of its own, cut out at both ends. `new` differs from the part that it replaces in
    /// flags, userfaultfd context or policy. `joined` says what becomes of the neighbour's
    /// `VM_SOFTDIRTY`.
    ///
    /// # Errors
    /// `ENOMEM` where the limit on VMAs forbids a cut, and without memory for a cut or for the policy.
    /// A first cut stays.
    pub(crate) fn change(
        &mut self,
        at: usize,
        new: &Vma,
        joined: Joined,
    ) -> Result<usize, Refusal> {
        if let Some(at) = self.join(new, Origin::Here) {
            self.mark_joined(at, new, joined);
            return Ok(at);
        }
        let mut at = at;
        let mut progress = Progress::Nothing;
        if new.range.start > self.mm.vmas()[at].range.start {
            self.cut_within_limit(at, new.range.start)?;
            progress = Progress::UpTo(new.range.start);
            at += 1;
        }
        if new.range.end < self.mm.vmas()[at].range.end {
            self.cut_within_limit(at, new.range.end).map_err(|r| r.after(progress))?;
        }
        let policy = self.mm.vmas()[at].policy != new.policy && new.policy != Mode::Default;
        self.get_memory(Function::MbindRange, |what| policy && what == Allocation::Policy)
            .map_err(|r| r.after(Progress::UpTo(new.range.end)))?;
        let vma = self.mm.vma_mut(at);
        self.references.replace_policy(vma.policy, new.policy);
        (vma.flags, vma.uffd, vma.policy) = (new.flags, new.uffd, new.policy);
        Ok(at)
    }

    /// Gives `part` of the VMA at `at` these flags. A VMA that has them already is left alone, so
    /// it does not merge either.
    ///
    /// # Errors
    /// The errors of [`Syscall::change`].
    pub(crate) fn change_flags(
        &mut self,
        at: usize,
        part: Range,
        flags: VmFlags,
        joined: Joined,
    ) -> Result<usize, Refusal> {
        let vma = &self.mm.vmas()[at];
        if flags == vma.flags {
            return Ok(at);
        }
        let new = Vma { flags, ..vma.part(part) };
        self.change(at, &new, joined)
    }
}
