//! Changing what a range is mapped as: VMA by VMA, each part joined to a neighbour or cut out.

use vmadiff_machine::{Errno, VmFlags};

use crate::merge::Origin;
use crate::mm::Syscall;
use crate::range::Range;
use crate::vma::Vma;

/// What [`Syscall::walk`] makes of a page of the range that nothing maps.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hole {
    /// The walk ends there with `ENOMEM` (`mlock`, `munlock`, `mprotect`).
    Stops,
    /// The walk goes on, and ends with `ENOMEM` (`madvise`).
    Remembered,
    /// It does not matter (userfaultfd, `mbind`).
    Ignored,
}

impl Syscall<'_> {
    /// Does `step` to each VMA's part of `range`, in address order. `step` gets where the VMA is
    /// and its part, and answers where the VMA is that has the part now; the walk goes on after
    /// that one, which may reach beyond the part.
    ///
    /// # Errors
    /// That of the first step that fails, or that of a hole. What was done before stays done.
    pub(crate) fn walk(
        &mut self,
        range: Range,
        hole: Hole,
        mut step: impl FnMut(&mut Self, usize, Range) -> Result<usize, Errno>,
    ) -> Result<(), Errno> {
        let mut rest = range;
        let mut holes = false;
        while let Some((at, part)) = self.mm.first_in(rest) {
            if part.start > rest.start {
                holes = true;
                if hole == Hole::Stops {
                    return Err(Errno::ENOMEM);
                }
            }
            let at = step(self, at, part)?;
            rest.start = self.mm.vmas()[at].range.end;
        }
        if (holes || !rest.is_empty()) && hole != Hole::Ignored {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    /// Maps `new.range`, which is part of the VMA at `at`, as `new`: as part of a neighbour where
    /// the merge rule lets it, else as a VMA of its own, cut from that one at both ends. Answers
    /// where the VMA is that has the range now. `new` differs from the part it replaces in flags,
    /// userfaultfd context or policy.
    ///
    /// # Errors
    /// `ENOMEM` where the limit on VMAs forbids a cut. A cut that was made before stays.
    pub(crate) fn change(&mut self, at: usize, new: &Vma) -> Result<usize, Errno> {
        if let Some(at) = self.join(new, Origin::Here) {
            return Ok(at);
        }
        let mut at = at;
        if new.range.start > self.mm.vmas()[at].range.start {
            self.cut_within_limit(at, new.range.start)?;
            at += 1;
        }
        if new.range.end < self.mm.vmas()[at].range.end {
            self.cut_within_limit(at, new.range.end)?;
        }
        let vma = self.mm.vma_mut(at);
        (vma.flags, vma.uffd, vma.policy) = (new.flags, new.uffd, new.policy);
        Ok(at)
    }

    /// Gives `part` of the VMA at `at` these flags; one that has them is left alone, so it does
    /// not merge either.
    ///
    /// # Errors
    /// As [`Syscall::change`].
    pub(crate) fn change_flags(
        &mut self,
        at: usize,
        part: Range,
        flags: VmFlags,
    ) -> Result<usize, Errno> {
        let vma = &self.mm.vmas()[at];
        if flags == vma.flags {
            return Ok(at);
        }
        let new = Vma { flags, ..vma.part(part) };
        self.change(at, &new)
    }
}
