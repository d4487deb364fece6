//! The merge rule (`vma_merge()`).

use vmadiff_machine::VmFlags;

use crate::mm::Syscall;
use crate::vma::Vma;

/// Where what a range is mapped as comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Nowhere, or where this address space has had it until now: all that the original kernel knows.
    Here,
    /// A mapping that stays where it is, in this address space or another one.
    Copied,
}

impl Syscall<'_> {
    /// Whether a range that is to be mapped as `new` may become part of its neighbour `near`.
    ///
    /// They must agree in everything that a VMA says of all its pages: flags but for
    /// `VM_SOFTDIRTY`, file, userfaultfd context, policy; the page offset must run on; and none
    /// may be special or want to be told when it is closed (`is_mergeable_vma()`).
    ///
    /// Their anon_vmas must be the same, or one has none and `near` hangs on exactly one
    /// (`is_mergeable_anon_vma()`): a VMA that descends from a fork hangs on more, and one never
    /// faulted on none, so it does not take in a range that has been faulted.
    ///
    /// A [copy](crate::contract) must hang on the same ones, too: joined with what has its anon_vma
    /// but not its chain, its pages would not be found.
    fn may_join(&self, new: &Vma, near: &Vma, origin: Origin) -> bool {
        let anon_vma = self.have_one_anon_vma(new, near, origin)
            || ((new.anon_vma.is_none() || near.anon_vma.is_none())
                && self.anon_vmas.is_singular(near.chain));
        let pgoff = if near.range.start < new.range.start {
            near.pgoff.plus(near.range.len()) == new.pgoff
        } else {
            new.pgoff.plus(new.range.len()) == near.pgoff
        };
        anon_vma
            && pgoff
            && VmFlags::VM_SOFTDIRTY.contains(new.flags ^ near.flags)
            && new.file == near.file
            && new.uffd == near.uffd
            && new.policy == near.policy
            && !new.flags.intersects(VmFlags::VM_SPECIAL)
            && !near.has_close()
    }

    fn have_one_anon_vma(&self, a: &Vma, b: &Vma, origin: Origin) -> bool {
        match origin {
            Origin::Here => a.anon_vma == b.anon_vma,
            Origin::Copied => self.anon_vmas.are_same(a, b),
        }
    }

    /// Maps `new.range` as `new` by widening a neighbour, if the rule lets one be widened, and
    /// says where that VMA is; else changes nothing. The range is a hole or part of one VMA,
    /// which loses it.
    ///
    /// - Both neighbours, if the rule allows both and their anon_vmas are the same or one has
    ///   none (here a chain does not matter). If the left one has none it takes the right one's,
    ///   with its chain.
    /// - Else the left one, if the rule allows it. Else the right one.
    ///
    /// The VMA that is widened keeps what it has: its `VM_SOFTDIRTY`, its anon_vma (if it has
    /// one) and chain, and so the page offsets: no other VMA's count (`__vma_adjust()`).
    pub(crate) fn join(&mut self, new: &Vma, origin: Origin) -> Option<usize> {
        let vmas = self.mm.vmas();
        let first = self.mm.first_ending_after(new.range.start);
        let left = first.checked_sub(1).filter(|&at| {
            vmas[at].range.end == new.range.start && self.may_join(new, &vmas[at], origin)
        });
        let beyond =
            first + usize::from(vmas.get(first).is_some_and(|vma| vma.range.overlaps(new.range)));
        let right = Some(beyond)
            .filter(|&at| at < vmas.len() && vmas[at].range.start == new.range.end)
            .filter(|&at| self.may_join(new, &vmas[at], origin))
            .filter(|&at| {
                let (left, right) = (left.map(|left| &vmas[left]), &vmas[at]);
                let left = left.filter(|left| left.anon_vma.is_some() && right.anon_vma.is_some());
                left.is_none_or(|left| self.have_one_anon_vma(left, right, origin))
            });
        left.or(right)?;

        let right = right.map(|at| vmas[at]);
        self.vacate(first, new);
        match (left, right) {
            (Some(at), None) => {
                self.mm.vma_mut(at).range.end = new.range.end;
                Some(at)
            }
            (Some(at), Some(right)) => {
                let left = self.mm.vma_mut(at);
                left.range.end = right.range.end;
                if left.anon_vma.is_none() {
                    (left.anon_vma, left.chain) = (right.anon_vma, right.chain);
                    self.anon_vmas.link(&right);
                }
                self.drop_vmas(at + 1..at + 2);
                Some(at)
            }
            (None, _) => {
                let at = self.mm.first_ending_after(new.range.start);
                let right = self.mm.vma_mut(at);
                right.range.start = new.range.start;
                right.pgoff = new.pgoff;
                Some(at)
            }
        }
    }

    /// Takes `new.range` from the VMA at `at`, if that is where it lies: its start, its end or
    /// all of it. The pages stay: `new` has them.
    fn vacate(&mut self, at: usize, new: &Vma) {
        let Some(&vma) = self.mm.vmas().get(at).filter(|vma| vma.range.overlaps(new.range)) else {
            return;
        };
        if new.range == vma.range {
            self.drop_vmas(at..at + 1);
        } else if new.range.start == vma.range.start {
            let vma = self.mm.vma_mut(at);
            vma.pgoff = vma.pgoff_of(new.range.end);
            vma.range.start = new.range.end;
        } else {
            self.mm.vma_mut(at).range.end = new.range.start;
        }
    }
}
