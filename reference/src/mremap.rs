//! `mremap` (`mm/mremap.c`).

use vmadiff_machine::operand::{Len, MremapFlags, Page, UffdFeatures};
use vmadiff_machine::{Allocation, CopyReport, Errno, VmFlags};

use crate::chain::Chain;
use crate::copy_vma::Source;
use crate::function::Function;
use crate::later;
use crate::merge::Origin;
use crate::mm::Syscall;
use crate::range::Range;
use crate::refusal::{Progress, Refusal, Rule};
use crate::vma::Vma;
use crate::why::CopyKind;

impl Syscall<'_> {
    /// Resizes the mapping at `page`, or moves it, and returns its page.
    ///
    /// Shrinking in place unmaps and checks nothing else, not even that anything is mapped. Growing
    /// in place widens the VMA and does not merge it with the VMA that it then touches. With `MAYMOVE`
    /// alone, a mapping that cannot grow in place moves to the highest hole that is long enough.
    ///
    /// # Errors
    /// `EINVAL` for `DONTUNMAP`, which 5.2.1 does not know, and for a new length of zero; those of
    /// [`Syscall::munmap`] and [`Syscall::may_resize`]; `ENOMEM` where it can neither grow in place
    /// nor move; those of a move; `EAGAIN` where populating waits for userfaultfd, after all the rest
    /// is done.
    pub(crate) fn mremap(
        &mut self,
        page: Page,
        (old_len, new_len): (Len, Len),
        flags: MremapFlags,
        new_page: Page,
        report: &mut Option<CopyReport>,
    ) -> Result<u8, Refusal> {
        if flags.keeps_source() {
            self.may_keep_source(page, (old_len, new_len), flags, new_page)?;
        }
        if new_len.0 == 0 {
            return self.refuse(Errno::EINVAL, Function::Mremap, Rule::NoPages);
        }
        self.is_mapped_first(page, (old_len, new_len), flags, new_page)?;
        let is_moved = flags.is_fixed() || flags.keeps_source();
        // Kernels since 6.17 look for the VMA after the checks of `mremap_to()`.
        if !is_moved || self.later.hold.has(later::Rule::MremapUnmappedFirst) {
            self.may_remap(page)?;
        }
        if is_moved {
            return self.mremap_to(page, (old_len, new_len), flags, new_page, report);
        }
        if new_len < old_len {
            self.munmap(Range { start: page.plus(new_len), end: page.plus(old_len) })?;
        }
        if new_len <= old_len {
            return Ok(page.0);
        }
        let at = self.may_resize(page, old_len, new_len)?;
        self.charge_growth(at, old_len, new_len)?;
        let grown = Range { start: page.plus(old_len), end: page.plus(new_len) };
        // `vma_expandable()`: the VMA itself may continue after the old length.
        if let Some(there) = self.mm.all_in(grown).first() {
            let occupied = there.range;
            if !flags.may_move() {
                return self.refuse(Errno::ENOMEM, Function::Mremap, Rule::Occupied(occupied));
            }
            let new = self.unmapped_area(new_len, occupied)?;
            self.may_map(4, Function::MoveVma)?;
            let old = Range::new(page, old_len);
            self.move_vma(at, old, new, flags, report)?;
            self.tell_of_move(0, old, new.start);
            return Ok(new.start.0);
        }
        let vma = self.mm.vmas()[at];
        let new = Vma { range: grown, pgoff: vma.pgoff_of(grown.start), ..vma };
        if self.later.applies(later::Rule::MremapGrowMerges, || {
            // Only the right neighbour counts: on any kernel the new range joins the VMA that
            // grows.
            self.neighbours(&new, Origin::Grown).1.is_some()
        }) {
            self.join(&new, Origin::Grown);
        } else {
            self.mm.vma_mut(at).range.end = grown.end;
        }
        self.populate_if_locked(grown)?;
        Ok(page.0)
    }

    /// Checks that the kernel knows `MREMAP_DONTUNMAP`, by a rule of later kernels, and takes it.
    ///
    /// # Errors
    /// `EINVAL` on 5.2.1, and where the call also resizes.
    fn may_keep_source(
        &self,
        page: Page,
        (old_len, new_len): (Len, Len),
        flags: MremapFlags,
        new_page: Page,
    ) -> Result<(), Refusal> {
        let vma = self.mm.vma_at(page).map(|at| &self.mm.vmas()[at]);
        let takes_all = self.later.hold.has(later::Rule::MremapDontunmapFiles);
        let not_anonymous = vma.is_some_and(|vma| !vma.is_anonymous());
        let of_files = takes_all && not_anonymous;
        // Other memory is refused with the error of 5.2.1, but only after `mremap_to()` has counted the
        // VMAs and has unmapped the destination.
        let (from, to) = (Range::new(page, old_len), Range::new(new_page, new_len));
        let overlap = from.end > to.start && to.end > from.start;
        let unmaps = flags.is_fixed() && self.mm.first_in(to).is_some();
        let full = self.may_map(6, Function::MremapTo).is_err();
        let reached = !not_anonymous || !overlap && (full || unmaps);
        let differs = old_len == new_len && new_len.0 != 0 && (of_files || reached);
        let rule = match of_files {
            true => later::Rule::MremapDontunmapFiles,
            false => later::Rule::MremapDontunmap,
        };
        if self.later.applies(rule, || differs) {
            return Ok(());
        }
        let rule = if self.later.hold.has(rule) { Rule::Resizes } else { Rule::UnknownFlag };
        self.refuse(Errno::EINVAL, Function::Mremap, rule)
    }

    /// Returns the range that the kernel chooses for `len` pages, because of the VMA `occupied`: in
    /// the highest hole, or in the lowest one ([`LowestHole`](later::Rule::LowestHole)).
    ///
    /// # Errors
    /// `ENOMEM` where no hole is long enough.
    fn unmapped_area(&self, len: Len, occupied: Range) -> Result<Range, Refusal> {
        let highest = self.mm.unmapped_area(len).or_else(|longest| {
            self.refuse(Errno::ENOMEM, Function::Mremap, Rule::NoHole { occupied, longest })
        })?;
        Ok(self.chosen_hole(len, highest))
    }

    /// Returns the range that the kernel chooses where `highest` is in the highest hole that is long
    /// enough: the lowest one with the rule [`LowestHole`](later::Rule::LowestHole).
    pub(crate) fn chosen_hole(&self, len: Len, highest: Range) -> Range {
        let lowest = self.mm.lowest_unmapped_area(len).unwrap_or(highest);
        let is_lowest = self.later.applies(later::Rule::LowestHole, || lowest != highest);
        if is_lowest { lowest } else { highest }
    }

    /// Moves the mapping to `new_page` and replaces the mappings there (`mremap_to()`). With
    /// `DONTUNMAP` and without `FIXED`, `new_page` is a hint.
    ///
    /// # Errors
    /// `EINVAL` where old and new range overlap; `ENOMEM` where the limit allows fewer than six more
    /// VMAs, which is more than a move takes; those of [`Syscall::may_resize`], after the new range
    /// and the pages past the new length are unmapped.
    fn mremap_to(
        &mut self,
        page: Page,
        (old_len, new_len): (Len, Len),
        flags: MremapFlags,
        new_page: Page,
        report: &mut Option<CopyReport>,
    ) -> Result<u8, Refusal> {
        let mut new = Range::new(new_page, new_len);
        if page.plus(old_len) > new.start && new.end > page {
            let from = Range::new(page, old_len);
            return self.refuse(Errno::EINVAL, Function::MremapTo, Rule::Overlap { from, to: new });
        }
        self.may_map(6, Function::MremapTo)?;
        if let Some(at) = self.mm.vma_at(page)
            && self.later.applies(later::Rule::MremapSeveral, || {
                flags.is_fixed()
                    && old_len == new_len
                    && self.mm.vmas()[at].range.end < page.plus(old_len)
            })
        {
            self.remap_move(Range::new(page, old_len), flags, new_page, report)?;
            return Ok(new_page.0);
        }
        self.may_remap(page)?;
        let tail =
            Range::new(page.plus(new_len.min(old_len)), Len(old_len.0 - new_len.0.min(old_len.0)));
        let early = self.may_move_to(page, old_len.min(new_len), new_len, flags);
        if let Err(refusal) = early
            && flags.is_fixed()
            && self.later.applies(later::Rule::MremapChecksFirst, || {
                // `MremapUnmapped` is the rule of a page that is not mapped.
                self.mm.vma_at(page).is_some()
                    && (self.mm.first_in(new).is_some() || self.mm.first_in(tail).is_some())
            })
        {
            return Err(refusal);
        }
        if flags.is_fixed() {
            self.munmap(new)?;
        }
        let early = self.messages.len();
        if new_len < old_len {
            self.munmap(Range { start: page.plus(new_len), end: page.plus(old_len) })
                .map_err(|refusal| refusal.after(Progress::Unmapped))?;
        }
        let old = Range::new(page, old_len.min(new_len));
        let progress = if flags.is_fixed() { Progress::Unmapped } else { Progress::Nothing };
        let at = self
            .may_move_to(page, Len(old.len()), new_len, flags)
            .map_err(|refusal| refusal.after(progress))?;
        self.charge_growth(at, Len(old.len()), new_len)
            .map_err(|refusal| refusal.after(progress))?;
        if flags.keeps_source() {
            // The source stays: even with `MremapChecksFirst` this is checked late.
            let more = u32::from(old.len());
            self.may_expand(more, 0).map_err(|refusal| refusal.after(progress))?;
        }
        if let Some(there) = self.mm.all_in(new).first() {
            new = self.unmapped_area(new_len, there.range)?;
        }
        self.move_vma(at, old, new, flags, report)?;
        let told = match self.later.applies(later::Rule::UffdRemapLength, || {
            new_len < old_len && self.context_at(new.start).is_some()
        }) {
            true => old,
            false => Range::new(page, old_len),
        };
        self.tell_of_move(early, told, new.start);
        Ok(new.start.0)
    }

    /// [`Syscall::may_resize`] of a move, with the checks of `DONTUNMAP`.
    ///
    /// # Errors
    /// The errors of [`Syscall::may_resize`]. With `DONTUNMAP`, `EINVAL` for memory that the kernel
    /// does not take.
    fn may_move_to(
        &self,
        page: Page,
        old_len: Len,
        new_len: Len,
        flags: MremapFlags,
    ) -> Result<usize, Refusal> {
        if flags.keeps_source()
            && let Some(at) = self.mm.vma_at(page)
        {
            let refuse = |rule| self.refuse(Errno::EINVAL, Function::VmaToResize, rule);
            let vma = &self.mm.vmas()[at];
            let takes_all = self.later.hold.has(later::Rule::MremapDontunmapFiles);
            let special = vma.flags & (VmFlags::VM_DONTEXPAND | VmFlags::VM_PFNMAP);
            if !takes_all && !vma.is_anonymous() {
                return refuse(Rule::NotAnonymous(vma.range));
            }
            if !special.is_empty() {
                return refuse(Rule::HasFlags { vma: vma.range, flags: special });
            }
        }
        self.may_resize(page, old_len, new_len)
    }

    /// Moves every VMA's part of `old` by the same distance, so that the first page of the range moves
    /// to `new_page`. The holes stay (`remap_move()`).
    ///
    /// # Errors
    /// `EFAULT` at a VMA that userfaultfd watches, and at one of SysV shared memory, whose file chooses
    /// addresses itself (`vma_multi_allowed()`); those of [`Syscall::munmap`]. Parts that were
    /// moved before stay moved.
    fn remap_move(
        &mut self,
        old: Range,
        flags: MremapFlags,
        new_page: Page,
        report: &mut Option<CopyReport>,
    ) -> Result<(), Refusal> {
        let mut rest = old;
        while let Some((at, part)) = self.mm.first_in(rest) {
            let vma = self.mm.vmas()[at];
            if vma.uffd.is_some() {
                return self.refuse(Errno::EFAULT, Function::Mremap, Rule::Watched(vma.range));
            }
            if vma.is_attached() {
                return self.refuse(Errno::EFAULT, Function::Mremap, Rule::MovesAlone(vma.range));
            }
            let new = Range {
                start: new_page.plus(Len(part.start.0 - old.start.0)),
                end: new_page.plus(Len(part.end.0 - old.start.0)),
            };
            self.may_modify(&vma, Function::Mremap)?;
            self.munmap(new)?;
            let len = Len(part.len());
            let at = self.may_move_to(part.start, len, len, flags)?;
            if flags.keeps_source() {
                self.may_expand(len.0.into(), 0)?;
            }
            self.move_vma(at, part, new, flags, report)?;
            rest.start = part.end;
        }
        Ok(())
    }

    /// Checks that `page` is mapped before any other check, where a rule of later kernels says so.
    ///
    /// # Errors
    /// `EFAULT` with [`MremapUnmapped`](later::Rule::MremapUnmapped) and
    /// [`MremapUnmappedFirst`](later::Rule::MremapUnmappedFirst).
    fn is_mapped_first(
        &self,
        page: Page,
        (old_len, new_len): (Len, Len),
        flags: MremapFlags,
        new_page: Page,
    ) -> Result<(), Refusal> {
        if self.later.hold.is_empty() || self.mm.vma_at(page).is_some() {
            return Ok(());
        }
        let (old, new) = (Range::new(page, old_len), Range::new(new_page, new_len));
        let mapped = |range: Range| self.mm.first_in(range).is_some();
        let applies = if !flags.is_fixed() && !flags.keeps_source() {
            // To grow, 5.2.1 looks for the VMA as well.
            self.later.applies(later::Rule::MremapUnmapped, || new_len <= old_len)
        } else if old.end > new.start && new.end > page
            || self.may_map(6, Function::MremapTo).is_err()
        {
            self.later.applies(later::Rule::MremapUnmappedFirst, || true)
        } else {
            self.later.applies(later::Rule::MremapUnmapped, || mapped(new) || mapped(old))
        };
        match applies {
            true => self.refuse(Errno::EFAULT, Function::Mremap, Rule::NotMapped(page)),
            false => Ok(()),
        }
    }

    /// Checks that the VMA that maps `page`, if there is one, is not sealed.
    ///
    /// # Errors
    /// `EPERM` where it is sealed.
    fn may_remap(&self, page: Page) -> Result<(), Refusal> {
        match self.mm.vma_at(page) {
            Some(at) => self.may_modify(&self.mm.vmas()[at], Function::Mremap),
            None => Ok(()),
        }
    }

    /// Moves `old`, which the VMA at `at` maps, to `new`, a hole (`move_vma()`). A move of no pages
    /// leaves the source mapped: it duplicates a shared mapping. The new mapping, with a neighbour
    /// that it merged with, loses its userfaultfd context, unless the context has the feature `REMAP`.
    ///
    /// # Errors
    /// `ENOMEM` without memory for the new VMA. `EAGAIN` where populating waits for userfaultfd.
    fn move_vma(
        &mut self,
        at: usize,
        old: Range,
        new: Range,
        flags: MremapFlags,
        report: &mut Option<CopyReport>,
    ) -> Result<(), Refusal> {
        let at = if flags.keeps_source() { self.cut_locked(at, old) } else { at };
        let locked_vm = if flags.keeps_source() { self.mm.locked_vm() } else { 0 };
        let stays = flags.keeps_source();
        let source = Source { process: self.process, vma: self.mm.vmas()[at], from: old, stays };
        let (at, made) =
            self.copy_vma(&source.vma.copied(old.start, new), &source, CopyKind::Move)?;
        *report = Some(made);

        self.mm.move_entries(old, new.start);
        let watched = self.mm.vmas()[at].uffd;
        if !watched.is_some_and(|ctx| self.references.tells(ctx, UffdFeatures::REMAP)) {
            if watched.is_some() {
                self.unprotect_unwatched(Range::new(new.start, Len(old.len())));
            }
            self.mm.vma_mut(at).drop_uffd();
        }
        if flags.keeps_source() {
            self.leave_source(old, new.start, &source.vma, locked_vm);
        } else if !old.is_empty() {
            self.unmap_source(old);
        }
        self.populate_if_locked(Range { start: new.start.plus(Len(old.len())), end: new.end })
    }

    /// Unmaps the source of a move. There is room for six VMAs. Without memory for a cut the source stays
    /// mapped, and all of its VMA is not charged any more: `move_vma()` has hidden its `VM_ACCOUNT`.
    fn unmap_source(&mut self, old: Range) {
        let whole = self.mm.vma_at(old.start).map(|at| self.mm.vmas()[at].range);
        if let (Err(_), Some(whole)) = (self.munmap(old), whole) {
            let first = self.mm.first_ending_after(whole.start);
            for at in first..first + self.mm.all_in(whole).len() {
                self.mm.vma_mut(at).flags -= VmFlags::VM_ACCOUNT;
            }
        }
    }

    /// Cuts a locked VMA at both ends of `old`, so that only these pages are unlocked, and returns the
    /// index of the VMA that has them ([`MremapDontunmapCuts`](later::Rule::MremapDontunmapCuts)).
    fn cut_locked(&mut self, at: usize, old: Range) -> usize {
        let Vma { range, flags, .. } = self.mm.vmas()[at];
        let differs = || flags.contains(VmFlags::VM_LOCKED) && range != old;
        if !self.later.applies(later::Rule::MremapDontunmapCuts, differs) || range == old {
            return at;
        }
        let below = range.start != old.start;
        if below {
            self.cut(at, old.start);
        }
        let at = at + usize::from(below);
        if range.end != old.end {
            self.cut(at, old.end);
        }
        at
    }

    /// Gives the VMA after the source of a move to `new`, at `at`, `VM_ACCOUNT`, as if the source had been cut out
    /// of its VMA, which had the range `before`
    /// ([`MremapDontunmapMarks`](later::Rule::MremapDontunmapMarks)). After the last VMA of the arena that is
    /// memory outside, so much that no fork can charge it. Nothing is marked if the copy has merged with its source.
    fn mark_next(&mut self, at: usize, old: Range, new: Page, before: Range) {
        let flags = self.mm.vmas()[at].flags;
        let merged = self.mm.vma_at(new) == Some(at);
        let cuts = before.start < old.start && old.end < before.end && !merged;
        let next = self.mm.vmas().get(at + 1);
        let marks = next.is_none_or(|next| !next.flags.contains(VmFlags::VM_ACCOUNT));
        let charged = flags.contains(VmFlags::VM_ACCOUNT);
        let differs = charged && cuts && marks;
        if !self.later.applies(later::Rule::MremapDontunmapMarks, || differs) || !differs {
            return;
        }
        match self.mm.vmas().len() > at + 1 {
            true => self.mm.vma_mut(at + 1).flags |= VmFlags::VM_ACCOUNT,
            false => self.mm.outside_charged = true,
        }
    }

    /// Leaves the source of a move mapped; its pages have moved (`dontunmap_complete()`).
    /// The kernel unlocks all of its VMA, `vma` before the move, and does not take that off
    /// `locked_vm`, which was `locked_vm` before the move.
    fn leave_source(&mut self, old: Range, new: Page, vma: &Vma, locked_vm: u32) {
        let Some(at) = self.mm.vma_at(old.start) else { return };
        self.mark_next(at, old, new, vma.range);
        let left = self.mm.vma_mut(at);
        if left.flags.contains(VmFlags::VM_LOCKED) {
            left.flags -= VmFlags::LOCK;
            let again = self.later.applies(later::Rule::MremapDontunmapLocked, || !old.is_empty());
            let more = if again { old.len().into() } else { 0 };
            self.mm.locked_excess += i64::from(locked_vm + more) - i64::from(self.mm.locked_vm());
        }
        // Not where the VMA has merged with the new range.
        let whole = vma.range == old && self.mm.vmas()[at].range == old;
        if self.later.applies(later::Rule::MremapDontunmapFiles, || whole && vma.anon_vma.is_some())
        {
            self.anon_vmas.unlink(vma);
            let left = self.mm.vma_mut(at);
            (left.anon_vma, left.chain) = (None, Chain::EMPTY);
            let linear = left.range.start.linear_offset();
            let differs = left.is_anonymous() && left.pgoff != linear;
            if self.later.applies(later::Rule::MremapDontunmapOffset, || differs) {
                self.mm.vma_mut(at).pgoff = linear;
            }
        }
    }

    /// Checks that `old_len` pages at `page` may become `new_len`, and returns the index of their VMA
    /// (`vma_to_resize()`). No pages may become more only of a shared mapping, as a duplicate.
    ///
    /// # Errors
    /// `EFAULT` where nothing is mapped; `EINVAL` for no pages of a private mapping; `EFAULT` where
    /// the VMA ends before the range. Where the mapping grows: `EFAULT` for a VMA that may not grow;
    /// `EAGAIN` past the limit on locked pages; `ENOMEM` past the limit on pages.
    fn may_resize(&self, page: Page, old_len: Len, new_len: Len) -> Result<usize, Refusal> {
        let refuse = |errno, rule| self.refuse(errno, Function::VmaToResize, rule);
        let Some(at) = self.mm.vma_at(page) else {
            return refuse(Errno::EFAULT, Rule::NotMapped(page));
        };
        let vma = &self.mm.vmas()[at];
        if old_len.0 == 0 && !vma.flags.contains(VmFlags::VM_MAYSHARE) {
            return refuse(Errno::EINVAL, Rule::PrivateDuplicate(vma.range));
        }
        let old = Range::new(page, old_len);
        if old.end > vma.range.end {
            return refuse(Errno::EFAULT, Rule::PastVma { range: old, vma: vma.range });
        }
        if new_len > old_len {
            let more = u32::from(new_len.0 - old_len.0);
            let flags = vma.flags & (VmFlags::VM_DONTEXPAND | VmFlags::VM_PFNMAP);
            if !flags.is_empty() {
                return refuse(Errno::EFAULT, Rule::HasFlags { vma: vma.range, flags });
            }
            if vma.flags.contains(VmFlags::VM_LOCKED) {
                self.may_lock(more, Errno::EAGAIN, Function::VmaToResize)?;
            }
            self.may_expand(more, 0)?;
        }
        Ok(at)
    }

    /// Charges the pages by which the VMA at `at` grows, if it is charged at all.
    ///
    /// # Errors
    /// `ENOMEM` without memory.
    fn charge_growth(&self, at: usize, old_len: Len, new_len: Len) -> Result<(), Refusal> {
        let charged = self.mm.vmas()[at].flags.contains(VmFlags::VM_ACCOUNT) && new_len > old_len;
        self.get_memory(Function::VmaToResize, |what| charged && what == Allocation::Charge)
    }

    /// Populates the pages by which a locked mapping has grown.
    ///
    /// # Errors
    /// `EAGAIN` where a fault waits for userfaultfd.
    fn populate_if_locked(&mut self, grown: Range) -> Result<(), Refusal> {
        let vma = self.mm.first_in(grown).map(|(at, _)| &self.mm.vmas()[at]);
        match vma {
            Some(vma) if vma.flags.contains(VmFlags::VM_LOCKED) => {
                self.populate_quietly(grown).map_err(|refusal| {
                    // The messages would be sent after the populating.
                    self.messages.clear();
                    refusal.after(Progress::NotPopulated)
                })
            }
            _ => Ok(()),
        }
    }
}
