//! `mremap` (`mm/mremap.c`).

use vmadiff_machine::operand::{Len, MremapFlags, Page};
use vmadiff_machine::{CopyReport, Errno, VmFlags};

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
    /// Resizes the mapping at `page`, or moves it to `new_page`, and returns its page.
    ///
    /// Shrinking in place unmaps and checks nothing else, not even that anything is mapped. Growing
    /// in place widens the VMA and does not merge it with the VMA that it then touches.
    ///
    /// # Errors
    /// `EINVAL` for a new length of zero; those of [`Syscall::munmap`] and
    /// [`Syscall::may_resize`]; `ENOMEM` where it cannot grow in place; those of a move; `EAGAIN`
    /// where populating waits for userfaultfd, after all the rest is done.
    pub(crate) fn mremap(
        &mut self,
        page: Page,
        (old_len, new_len): (Len, Len),
        flags: MremapFlags,
        new_page: Page,
        report: &mut Option<CopyReport>,
    ) -> Result<u8, Refusal> {
        if new_len.0 == 0 {
            return self.refuse(Errno::EINVAL, Function::Mremap, Rule::NoPages);
        }
        self.is_mapped_first(page, (old_len, new_len), flags, new_page)?;
        if flags == MremapFlags::MaymoveFixed {
            return self.mremap_to(page, (old_len, new_len), new_page, report);
        }
        if new_len < old_len {
            self.munmap(Range { start: page.plus(new_len), end: page.plus(old_len) })?;
        }
        if new_len <= old_len {
            return Ok(page.0);
        }
        let at = self.may_resize(page, old_len, new_len)?;
        let grown = Range { start: page.plus(old_len), end: page.plus(new_len) };
        // `vma_expandable()`: the VMA itself may go on past the old length.
        if let Some(there) = self.mm.all_in(grown).first() {
            return self.refuse(Errno::ENOMEM, Function::Mremap, Rule::Occupied(there.range));
        }
        let vma = self.mm.vmas()[at];
        let new = Vma { range: grown, pgoff: vma.pgoff_of(grown.start), ..vma };
        if self.later.applies(later::Rule::MremapGrowMerges, || {
            // With the VMA itself it would merge on any kernel.
            self.neighbours(&new, Origin::Grown).1.is_some()
        }) {
            self.join(&new, Origin::Grown);
        } else {
            self.mm.vma_mut(at).range.end = grown.end;
        }
        self.populate_if_locked(grown)?;
        Ok(page.0)
    }

    /// Moves the mapping to `new_page` and replaces the mappings there (`mremap_to()`).
    ///
    /// # Errors
    /// `EINVAL` where old and new range overlap; `ENOMEM` where the limit allows fewer than six more
    /// VMAs, which is more than a move takes; those of [`Syscall::may_resize`], after the new range
    /// and the pages past the new length are unmapped.
    fn mremap_to(
        &mut self,
        page: Page,
        (old_len, new_len): (Len, Len),
        new_page: Page,
        report: &mut Option<CopyReport>,
    ) -> Result<u8, Refusal> {
        let new = Range::new(new_page, new_len);
        if page.plus(old_len) > new.start && new.end > page {
            let from = Range::new(page, old_len);
            return self.refuse(Errno::EINVAL, Function::MremapTo, Rule::Overlap { from, to: new });
        }
        self.may_map(6, Function::MremapTo)?;
        if let Some(at) = self.mm.vma_at(page)
            && self.later.applies(later::Rule::MremapSeveral, || {
                old_len == new_len && self.mm.vmas()[at].range.end < page.plus(old_len)
            })
        {
            *report = self.remap_move(Range::new(page, old_len), new_page)?;
            return Ok(new_page.0);
        }
        let tail =
            Range::new(page.plus(new_len.min(old_len)), Len(old_len.0 - new_len.0.min(old_len.0)));
        let early = self.may_resize(page, old_len.min(new_len), new_len);
        if let Err(refusal) = early
            && self.later.applies(later::Rule::MremapChecksFirst, || {
                // `MremapUnmapped` is the rule of a page that is not mapped.
                self.mm.vma_at(page).is_some()
                    && (self.mm.first_in(new).is_some() || self.mm.first_in(tail).is_some())
            })
        {
            return Err(refusal);
        }
        self.munmap(new)?;
        if new_len < old_len {
            self.munmap(Range { start: page.plus(new_len), end: page.plus(old_len) })
                .map_err(|refusal| refusal.after(Progress::Unmapped))?;
        }
        let old = Range::new(page, old_len.min(new_len));
        let at = self
            .may_resize(page, Len(old.len()), new_len)
            .map_err(|refusal| refusal.after(Progress::Unmapped))?;
        *report = Some(self.move_vma(at, old, new)?);
        Ok(new_page.0)
    }

    /// Moves every VMA's part of `old` by the same distance, so that the first page of the range moves
    /// to `new_page`. The holes stay (`remap_move()`).
    ///
    /// # Errors
    /// `EFAULT` at a VMA that userfaultfd watches; those of [`Syscall::munmap`]. Parts that were
    /// moved before stay moved.
    fn remap_move(&mut self, old: Range, new_page: Page) -> Result<Option<CopyReport>, Refusal> {
        let mut report = None;
        let mut rest = old;
        while let Some((at, part)) = self.mm.first_in(rest) {
            let vma = self.mm.vmas()[at];
            if vma.uffd.is_some() {
                return self.refuse(Errno::EFAULT, Function::Mremap, Rule::Watched(vma.range));
            }
            let new = Range {
                start: new_page.plus(Len(part.start.0 - old.start.0)),
                end: new_page.plus(Len(part.end.0 - old.start.0)),
            };
            self.munmap(new)?;
            let at = self.may_resize(part.start, Len(part.len()), Len(part.len()))?;
            report = Some(self.move_vma(at, part, new)?);
            rest.start = part.end;
        }
        Ok(report)
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
        let applies = if flags != MremapFlags::MaymoveFixed {
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

    /// Moves `old`, which the VMA at `at` maps, to `new`, a hole (`move_vma()`). A move of no pages
    /// leaves the source mapped: it duplicates a shared mapping. The new mapping, with a neighbour
    /// that it merged with, loses its userfaultfd context.
    ///
    /// # Errors
    /// `EAGAIN` where populating waits for userfaultfd. Unmapping the source does not fail: there is
    /// room for six VMAs.
    fn move_vma(&mut self, at: usize, old: Range, new: Range) -> Result<CopyReport, Refusal> {
        let source = Source { process: self.process, vma: self.mm.vmas()[at], from: old };
        let (at, report) =
            self.copy_vma(&source.vma.copied(old.start, new), &source, CopyKind::Move);

        let moved = |pages| (pages & old.set()) >> old.start.0 << new.start.0;
        let (anon, zero) = (moved(self.mm.anon_pages()), moved(self.mm.zero_pages));
        *self.mm.anon_pages_mut() |= anon;
        self.mm.zero_pages |= zero;
        self.mm.vma_mut(at).drop_uffd();
        if !old.is_empty() {
            self.munmap(old)?;
        }
        self.populate_if_locked(Range { start: new.start.plus(Len(old.len())), end: new.end })?;
        Ok(report)
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

    /// Populates the pages by which a locked mapping has grown.
    ///
    /// # Errors
    /// `EAGAIN` where a fault waits for userfaultfd.
    fn populate_if_locked(&mut self, grown: Range) -> Result<(), Refusal> {
        let vma = self.mm.first_in(grown).map(|(at, _)| &self.mm.vmas()[at]);
        match vma {
            Some(vma) if vma.flags.contains(VmFlags::VM_LOCKED) => self
                .populate_quietly(grown)
                .map_err(|refusal| refusal.after(Progress::NotPopulated)),
            _ => Ok(()),
        }
    }
}
