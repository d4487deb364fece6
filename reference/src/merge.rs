//! The merge rule (`vma_merge()`).

use std::ops::ControlFlow;

use vmadiff_machine::{Allocation, VmFlags};

use crate::later::{self, Rules};
use crate::mm::Syscall;
use crate::range::Range;
use crate::vma::Vma;
use crate::why::{MergeBarrier, MergeDecision, Neighbour};

/// The origin of a new range's attributes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The range changes its attributes, or is a copy or a move of another one.
    Here,
    /// `mmap` maps the range.
    Mapped,
    /// The range is added to the VMA before it, which grows ([`MremapGrowMerges`]: 5.2.1 does not ask
    /// the merge rule).
    ///
    /// [`MremapGrowMerges`]: later::Rule::MremapGrowMerges
    Grown,
    /// The range is a copy of a VMA that stays: that VMA, before the copy.
    Kept(Range),
}

impl Syscall<'_> {
    /// The merge rule: calls `found` with each condition that keeps the new range `new` from
    /// becoming part of its neighbour `near`, in the kernel's order, until `found` breaks.
    ///
    /// - The two must agree in every attribute that a VMA has for all its pages: flags except
    ///   `VM_SOFTDIRTY`, file, userfaultfd context, policy. The new range must not be special, and
    ///   the neighbour must not have a `vm_ops->close` handler (`is_mergeable_vma()`); later kernels
    ///   let it grow ([`Syscall::may_grow_with_close`]).
    /// - The page offset must run on.
    /// - The anon_vmas must be the same, or one of the two has none and `near` hangs on exactly one
    ///   (`is_mergeable_anon_vma()`). A VMA that descends from a fork hangs on more. A VMA that was
    ///   never faulted hangs on none, so it does not take in a range that was faulted.
    ///   VMAs with one anon_vma merge whatever their chains are. On 5.2.1 the chains can differ, and
    ///   then pages of one VMA are not found through the chain of the other. With
    ///   [`AnonVmaReuse`](later::Rule::AnonVmaReuse) they cannot: see
    ///   [`AnonVmas::fork`](crate::anon_vma::AnonVmas::fork).
    /// - Where the left neighbour merges (`left`), the right one must fit it, too: their anon_vmas
    ///   are the same or one has none.
    ///
    /// With [`MremapDontunmapApart`](later::Rule::MremapDontunmapApart) among `rules`, a copy does not
    /// merge with the VMA that it was copied from and that stays. With
    /// [`MremapDontunmapAlone`](later::Rule::MremapDontunmapAlone) it merges with no neighbour, if it
    /// lies beside that VMA and that VMA was never faulted.
    ///
    /// With [`MergeUnfaulted`](later::Rule::MergeUnfaulted) among `rules`, a neighbour that was never
    /// faulted takes in a faulted range if that range hangs on exactly one anon_vma. The range by
    /// which a VMA grows may hang on any number.
    fn barriers(
        &self,
        (new, near, left): (&Vma, &Vma, Option<&Vma>),
        (origin, rules): (Origin, Rules),
        mut found: impl FnMut(MergeBarrier) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        use MergeBarrier as B;
        if let Origin::Kept(source) = origin {
            let beside = source.end == new.range.start || new.range.end == source.start;
            let alone = beside && new.is_anonymous() && new.anon_vma.is_none();
            if rules.has(later::Rule::MremapDontunmapApart) && near.range == source
                || rules.has(later::Rule::MremapDontunmapAlone) && alone
            {
                found(B::Kept)?;
            }
        }
        let differ = (new.flags ^ near.flags) - VmFlags::VM_SOFTDIRTY;
        if !differ.is_empty() {
            found(B::Flags { differ })?;
        }
        let special = new.flags & VmFlags::VM_SPECIAL;
        if !special.is_empty() {
            found(B::Special { flags: special })?;
        }
        if new.file != near.file {
            found(B::File { new: new.file, near: near.file })?;
        }
        if new.attachment != near.attachment && new.file == near.file {
            found(B::Attachment)?;
        }
        if near.has_close() && !self.may_grow_with_close(new, near, left, rules) {
            found(B::Close)?;
        }
        if new.uffd != near.uffd {
            found(B::Uffd { new: new.uffd, near: near.uffd })?;
        }
        if new.policy != near.policy {
            found(B::Policy { new: new.policy, near: near.policy })?;
        }
        let (lower, upper) =
            if near.range.start < new.range.start { (near, new) } else { (new, near) };
        if lower.pgoff.plus(lower.range.len()) != upper.pgoff {
            let pages = lower.range.len();
            found(B::Offset { lower: lower.pgoff, pages, upper: upper.pgoff })?;
        }
        match (new.anon_vma, near.anon_vma) {
            (None, None) => {}
            (Some(new), Some(near)) if new == near => {}
            (Some(_), Some(_)) => found(B::AnonVma)?,
            _ if self.anon_vmas.is_singular(near.chain) => {}
            (Some(_), None)
                if rules.has(later::Rule::MergeUnfaulted)
                    && (origin == Origin::Grown || self.anon_vmas.is_singular(new.chain)) => {}
            _ => {
                let unfaulted = if new.anon_vma.is_none() { new.range } else { near.range };
                let links = self.anon_vmas.chain(near.chain).count() as u8;
                found(B::NotSingular { unfaulted, links })?;
            }
        }
        if let Some(left) = left
            && left.anon_vma.is_some()
            && near.anon_vma.is_some()
            && left.anon_vma != near.anon_vma
        {
            found(B::OtherNeighbour { left: left.range })?;
        }
        ControlFlow::Continue(())
    }

    /// Returns whether `near`, which has `vm_ops->close`, takes in the new range on a kernel with `rules`.
    /// Linux 5.2.1 never lets it. With [`MergeClosePrev`](later::Rule::MergeClosePrev) and
    /// [`MergeCloseNext`](later::Rule::MergeCloseNext) it may grow if no VMA goes: the range is not all of
    /// a VMA, and does not connect the left neighbour to the right one.
    fn may_grow_with_close(&self, new: &Vma, near: &Vma, left: Option<&Vma>, rules: Rules) -> bool {
        let rule = match near.range.start < new.range.start {
            true => later::Rule::MergeClosePrev,
            false => later::Rule::MergeCloseNext,
        };
        let whole = || {
            self.mm
                .first_in(new.range)
                .is_some_and(|(at, part)| self.mm.vmas()[at].range == part && part == new.range)
        };
        rules.has(rule) && left.is_none() && !whole()
    }

    fn may_join(&self, vmas: (&Vma, &Vma, Option<&Vma>), how: (Origin, Rules)) -> bool {
        self.barriers(vmas, how, |_| ControlFlow::Break(())).is_continue()
    }

    /// Returns the indices of the VMAs that end where `range` begins and begin where it ends. The
    /// range is a hole or part of one VMA, which is not its own neighbour.
    fn adjacent(&self, range: Range) -> (Option<usize>, Option<usize>) {
        let vmas = self.mm.vmas();
        let first = self.mm.first_ending_after(range.start);
        let within = vmas.get(first).is_some_and(|vma| vma.range.overlaps(range));
        let beyond = first + usize::from(within);
        (
            first.checked_sub(1).filter(|&at| vmas[at].range.end == range.start),
            Some(beyond).filter(|&at| at < vmas.len() && vmas[at].range.start == range.end),
        )
    }

    /// Returns the indices of the neighbours that `new` joins. The left one is asked first, and the
    /// right one must fit both. With [`MmapMergesNext`](later::Rule::MmapMergesNext) a range that
    /// `mmap` maps asks the right one first, and then asks the left one with the anon_vma of the
    /// right one.
    fn joins(&self, new: &Vma, origin: Origin, rules: Rules) -> (Option<usize>, Option<usize>) {
        let vmas = self.mm.vmas();
        let (before, after) = self.adjacent(new.range);
        let may_join = |new: &Vma, at: usize, left: Option<&Vma>| {
            self.may_join((new, &vmas[at], left), (origin, rules))
        };
        if origin == Origin::Mapped && rules.has(later::Rule::MmapMergesNext) {
            let right = after.filter(|&at| may_join(new, at, None));
            let widened = right.map_or(*new, |at| {
                let Vma { anon_vma, chain, .. } = vmas[at];
                Vma { anon_vma, chain, ..*new }
            });
            (before.filter(|&at| may_join(&widened, at, None)), right)
        } else {
            let left = before.filter(|&at| may_join(new, at, None));
            (left, after.filter(|&at| may_join(new, at, left.map(|at| &vmas[at]))))
        }
    }

    /// Returns the indices of the neighbours that `new` joins on this kernel.
    pub(crate) fn neighbours(&self, new: &Vma, origin: Origin) -> (Option<usize>, Option<usize>) {
        let rules = self.later.hold;
        let joined = self.joins(new, origin, rules);
        for rule in [
            later::Rule::MergeUnfaulted,
            later::Rule::MmapMergesNext,
            later::Rule::MremapDontunmapApart,
            later::Rule::MremapDontunmapAlone,
            later::Rule::MergeClosePrev,
            later::Rule::MergeCloseNext,
        ] {
            self.later.applies(rule, || self.joins(new, origin, rules.without(rule)) != joined);
        }
        joined
    }

    /// Returns whether `a` and `b`, which `mmap` maps at the same range, join the same neighbours.
    pub(crate) fn join_alike(&self, a: &Vma, b: &Vma) -> bool {
        let joined = |new| self.joins(new, Origin::Mapped, self.later.hold);
        joined(a) == joined(b)
    }

    /// Maps `new.range` as `new` by widening a neighbour, where the merge rule allows it, and
    /// returns the index of that VMA; else changes nothing. The range is a hole or part of one VMA,
    /// which loses it.
    ///
    /// - Both neighbours are joined if the rule allows both. If the left one has no anon_vma it
    ///   takes that of the right one, with its chain.
    /// - Else the left one is widened, if the rule allows it. Else the right one.
    /// - Nothing is joined where there is no memory for that chain: `vma_merge()` returns no VMA.
    ///
    /// The VMA that is widened keeps its attributes: its `VM_SOFTDIRTY`, its anon_vma (if it has
    /// one) and chain, and its page offsets (`__vma_adjust()`). Without an anon_vma it takes that of
    /// the range, which 5.2.1 never lets happen.
    pub(crate) fn join(&mut self, new: &Vma, origin: Origin) -> Option<usize> {
        let (left, right) = self.neighbours(new, origin);
        if self.why.is_some() {
            self.explain_join(new, origin, left);
        }
        let target = left.or(right)?;
        if let (Some(left), Some(right)) = (left, right)
            && self.mm.vmas()[left].anon_vma.is_none()
            && self.mm.vmas()[right].anon_vma.is_some()
            && self.memory.is_short_of(|what| what == Allocation::ChainEntry)
        {
            return None;
        }

        self.mm.may_lose_pages = true;
        let right = right.map(|at| self.mm.vmas()[at]);
        let giver = right.filter(|vma| left.is_some() && vma.anon_vma.is_some()).unwrap_or(*new);
        let vma = self.mm.vma_mut(target);
        if vma.anon_vma.is_none() && giver.anon_vma.is_some() {
            (vma.anon_vma, vma.chain) = (giver.anon_vma, giver.chain);
            // Before the range or the right neighbour goes, so that the anon_vma stays.
            self.anon_vmas.link(&giver);
        }
        self.vacate(self.mm.first_ending_after(new.range.start), new);
        match (left, right) {
            (Some(at), None) => {
                self.mm.vma_mut(at).range.end = new.range.end;
                Some(at)
            }
            (Some(at), Some(right)) => {
                self.mm.vma_mut(at).range.end = right.range.end;
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

    /// Writes down every condition of the merge rule that failed, for both neighbours.
    #[cold]
    fn explain_join(&mut self, new: &Vma, origin: Origin, left: Option<usize>) {
        let vmas = self.mm.vmas();
        let (before, after) = self.adjacent(new.range);
        let left = left.map(|at| &vmas[at]);
        let neighbour = |at: usize, left: Option<&Vma>| {
            let near = &vmas[at];
            let mut barriers = Vec::new();
            let _ = self.barriers((new, near, left), (origin, self.later.hold), |barrier| {
                barriers.push(barrier);
                ControlFlow::Continue(())
            });
            Neighbour { range: near.range, barriers }
        };
        let decision = MergeDecision {
            process: self.process,
            new: new.shown(),
            was: self.mm.all_in(new.range).first().map(|vma| vma.range),
            left: before.map(|at| neighbour(at, None)),
            right: after.map(|at| neighbour(at, left)),
        };
        if let Some(why) = &mut self.why {
            why.merges.push(decision);
        }
    }

    /// Takes `new.range` from the VMA at `at`, if the range lies there: its start, its end or all of
    /// it. The pages stay mapped, by `new`.
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
