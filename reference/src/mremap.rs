//! `mremap` (`mm/mremap.c`).

use vmadiff_machine::operand::{Len, MremapFlags, Page};
use vmadiff_machine::{CopyReport, Errno, VmFlags};

use crate::merge::Origin;
use crate::mm::Syscall;
use crate::range::Range;

impl Syscall<'_> {
    /// Resizes what is mapped at `page`, or moves it to `new_page`. Answers where it is.
    ///
    /// In place, shrinking is unmapping and asks nothing else, not even whether anything is
    /// mapped; growing widens the VMA and does not merge it with what it then touches.
    ///
    /// # Errors
    /// `EINVAL` for a new length of zero; those of [`Syscall::munmap`] and
    /// [`Syscall::may_resize`]; `ENOMEM` where it cannot grow in place; those of a move; `EAGAIN`
    /// where populating waits for userfaultfd, after all else.
    pub(crate) fn mremap(
        &mut self,
        page: Page,
        (old_len, new_len): (Len, Len),
        flags: MremapFlags,
        new_page: Page,
        report: &mut Option<CopyReport>,
    ) -> Result<u8, Errno> {
        if new_len.0 == 0 {
            return Err(Errno::EINVAL);
        }
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
        if self.mm.vmas()[at].range.end != grown.start || self.mm.first_in(grown).is_some() {
            return Err(Errno::ENOMEM);
        }
        self.mm.vma_mut(at).range.end = grown.end;
        self.populate_if_locked(grown)?;
        Ok(page.0)
    }

    /// Moves to `new_page`, over what is mapped there (`mremap_to()`).
    ///
    /// # Errors
    /// `EINVAL` where old and new range overlap; `ENOMEM` where fewer than six VMAs more are
    /// allowed, which is more than the move takes. Of [`Syscall::may_resize`], when the new range
    /// and the old one's pages past the new length are unmapped already.
    fn mremap_to(
        &mut self,
        page: Page,
        (old_len, new_len): (Len, Len),
        new_page: Page,
        report: &mut Option<CopyReport>,
    ) -> Result<u8, Errno> {
        let new = Range::new(new_page, new_len);
        if page.plus(old_len) > new.start && new.end > page {
            return Err(Errno::EINVAL);
        }
        if !self.has_room_for(6) {
            return Err(Errno::ENOMEM);
        }
        self.munmap(new)?;
        if new_len < old_len {
            self.munmap(Range { start: page.plus(new_len), end: page.plus(old_len) })?;
        }
        let old = Range::new(page, old_len.min(new_len));
        let at = self.may_resize(page, Len(old.len()), new_len)?;
        *report = Some(self.move_vma(at, old, new)?);
        Ok(new_page.0)
    }

    /// Moves `old`, which the VMA at `at` maps, to `new`, a hole (`move_vma()`). A move of no
    /// pages leaves all where it was: a shared mapping is duplicated. The new mapping, and a
    /// neighbour that it merged with, is not watched by userfaultfd any more.
    fn move_vma(&mut self, at: usize, old: Range, new: Range) -> Result<CopyReport, Errno> {
        let source = self.mm.vmas()[at];
        let (at, report) =
            self.copy_vma(&source.copied(old.start, new), &source, true, Origin::Here);

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

    /// Whether `old_len` pages at `page` may become `new_len`, and where their VMA is
    /// (`vma_to_resize()`). Zero pages may become more only of a shared mapping, as a duplicate.
    ///
    /// # Errors
    /// `EFAULT` where nothing is mapped; `EINVAL` for no pages of a private mapping; `EFAULT`
    /// where they are not all of one VMA; then, if there are to be more: `EFAULT` for a mapping
    /// that may not grow; `EAGAIN` past the limit on locked pages; `ENOMEM` past that on pages.
    fn may_resize(&self, page: Page, old_len: Len, new_len: Len) -> Result<usize, Errno> {
        let at = self.mm.vma_at(page).ok_or(Errno::EFAULT)?;
        let vma = &self.mm.vmas()[at];
        if old_len.0 == 0 && !vma.flags.contains(VmFlags::VM_MAYSHARE) {
            return Err(Errno::EINVAL);
        }
        if page.plus(old_len) > vma.range.end {
            return Err(Errno::EFAULT);
        }
        if new_len > old_len {
            let more = u32::from(new_len.0 - old_len.0);
            if vma.flags.intersects(VmFlags::VM_DONTEXPAND | VmFlags::VM_PFNMAP) {
                return Err(Errno::EFAULT);
            }
            if vma.flags.contains(VmFlags::VM_LOCKED) {
                self.may_lock(more)?;
            }
            self.may_expand(more, 0)?;
        }
        Ok(at)
    }

    /// Populates the pages by which a locked mapping has grown.
    fn populate_if_locked(&mut self, grown: Range) -> Result<(), Errno> {
        let vma = self.mm.first_in(grown).map(|(at, _)| &self.mm.vmas()[at]);
        match vma {
            Some(vma) if vma.flags.contains(VmFlags::VM_LOCKED) => self.populate_quietly(grown),
            _ => Ok(()),
        }
    }
}
