//! The contract of a copy between address spaces: what `process_vm_mmap()`, and the `copy_vma()`
//! below it, must do. The original kernel has neither. The points are those of the design:
//!
//! | | what | where |
//! |---|---|---|
//! | 1 | exactly the destination range is mapped, with the source's file, page offset, policy and protection, its anon_vma and chain | [`Vma::copied`] |
//! | 2 | the source is unchanged, unless it is the destination's own | [`World::copy`] works on the destination only |
//! | 3 | the flags and the userfaultfd context that a copy loses | [`Vma::cleared`] |
//! | 4 | the new range merges where the merge rule lets it | [`join`](crate::mm::Syscall::join) |
//! | 5 | the source is redirected where the merge swallowed it | [`copy_vma`](crate::mm::Syscall::copy_vma) |
//! | 6 | ranges that overlap are refused | [`World::permitted`], its last line |
//! | 7 | accounting adds up | [`accounting`](crate::accounting) is a recount |
//! | 8 | the rmap locks are taken where they are needed | [`copy_vma`](crate::mm::Syscall::copy_vma): always honoured |
//! | 9 | every anonymous page stays reachable | the copy hangs on all that the source hangs on |
//! | 10 | a call that fails has changed nothing | [`World::permitted`] looks first; nothing fails after |
//!
//! Point 9 needs more of the merge rule than the original kernel's: that VMAs with one anon_vma
//! hang on the same ones. Within one family of forks two VMAs can have one anon_vma and hang on
//! different ones, if it was taken again ([`AnonVmas::fork`](crate::anon_vma::AnonVmas::fork)). A copy
//! does not merge then, and point 4 gives way; the original kernel, which knows no copies, does not
//! look, nor does a move. The tests `point_9_goes_before_point_4…` have the programs.

use vmadiff_machine::operand::{CopyFlags, END_PAGES, Len, Page, Process};
use vmadiff_machine::{CopyReport, Errno, VmFlags};

use crate::World;
use crate::merge::Origin;
use crate::mm::Mm;
use crate::range::Range;
use crate::vma::Vma;

/// A copy that `process` asks for: of what `src` has mapped at `page`, for itself at `dst_page`.
pub(crate) struct Copy {
    pub(crate) process: Process,
    pub(crate) page: Page,
    pub(crate) len: Len,
    pub(crate) src: Process,
    pub(crate) dst_page: Page,
    pub(crate) how: How,
}

/// Which function is called.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// `process_vm_mmap()`. It copies with flags cleared, and nothing that userfaultfd watches.
    ProcessVmMmap(CopyFlags),
    /// `copy_vma()`, with this `clear_flags_ctx`.
    CopyVma(bool),
}

impl How {
    fn clears_flags_ctx(self) -> bool {
        self != How::CopyVma(false)
    }
}

impl Vma {
    /// What a copy of this VMA is with flags cleared: not watched, not locked, and nothing that
    /// was said of how the source is shared in future.
    fn cleared(mut self) -> Vma {
        self.drop_uffd();
        self.flags -= VmFlags::LOCK;
        self.flags -= VmFlags::VM_MERGEABLE | VmFlags::VM_WIPEONFORK | VmFlags::VM_DONTCOPY;
        self
    }
}

impl Mm {
    /// The one VMA that maps all of `range`, if it may be copied.
    ///
    /// # Errors
    /// `EFAULT`.
    fn source(&self, range: Range) -> Result<Vma, Errno> {
        let never = VmFlags::VM_HUGETLB | VmFlags::VM_SPECIAL;
        let vma = self.vma_at(range.start).map(|at| self.vmas()[at]);
        vma.filter(|vma| vma.range.covers(range) && !vma.flags.intersects(never))
            .ok_or(Errno::EFAULT)
    }

    /// Where a copy of `len` pages goes: to `page`, if it has to or nothing is mapped there; else
    /// to the end of the highest hole of the arena that is long enough.
    ///
    /// # Errors
    /// `EEXIST` for `FIXED_NOREPLACE` where something is mapped; `ENOMEM` where there is no hole.
    fn destination(&self, page: Page, len: Len, flags: CopyFlags) -> Result<Range, Errno> {
        let asked = Range::new(page, len);
        if self.first_in(asked).is_none() {
            return Ok(asked);
        }
        if flags.contains(CopyFlags::FIXED_NOREPLACE) {
            return Err(Errno::EEXIST);
        }
        if flags.contains(CopyFlags::FIXED) {
            return Ok(asked);
        }
        let mut end = Page(END_PAGES as u8);
        for vma in self.vmas().iter().rev() {
            if end.0 - vma.range.end.0 >= len.0 {
                break;
            }
            end = vma.range.start;
        }
        let start = end.0.checked_sub(len.0).ok_or(Errno::ENOMEM)?;
        Ok(Range { start: Page(start), end })
    }
}

impl World {
    /// Makes a copy, and answers where it is.
    ///
    /// Page tables are copied as `fork` does, where the source has an anon_vma
    /// (`copy_page_range()`); the source is the merged VMA where it was redirected.
    ///
    /// # Errors
    /// Those of [`World::permitted`].
    pub(crate) fn copy(
        &mut self,
        copy: &Copy,
        report: &mut Option<CopyReport>,
    ) -> Result<u8, Errno> {
        let range = self.permitted(copy)?;
        let from = Range::new(copy.page, copy.len);
        self.syscall(copy.process).munmap(range)?;
        // Not before: in one address space, unmapping may have cut the source.
        let src = self.mm(copy.src);
        let source = src.source(from)?;
        let copied = |pages| (pages & from.set()) >> from.start.0 << range.start.0;
        let (anon, zero) = (copied(src.anon_pages()), copied(src.zero_pages));

        let mut new = source.copied(from.start, range);
        if copy.how.clears_flags_ctx() {
            new = new.cleared();
        }
        let mut call = self.syscall(copy.process);
        let (at, made) = call.copy_vma(&new, &source, copy.src == copy.process, Origin::Copied);
        let source = if made.source_redirected { call.mm.vmas()[at] } else { source };
        if source.anon_vma.is_some() {
            *call.mm.anon_pages_mut() |= anon;
            call.mm.zero_pages |= zero;
        }
        *report = Some(made);
        Ok(range.start.0)
    }

    /// Whether a copy may be made, and where. Nothing has been changed yet.
    ///
    /// # Errors
    /// In the order they are looked for: `EINVAL` for no pages; `ESRCH` where the source is not
    /// there; `EFAULT` where the range is not of one VMA that may be copied; `ENOMEM` where fewer
    /// than two VMAs more are allowed; `ENOTSUPP` for a VMA that userfaultfd watches; those of
    /// [`Mm::destination`]; `ENOMEM` past the limit on pages, not counting those replaced;
    /// `EAGAIN` where the copy is locked and past the limit for that; `EINVAL` where source and
    /// destination overlap.
    fn permitted(&mut self, copy: &Copy) -> Result<Range, Errno> {
        let from = Range::new(copy.page, copy.len);
        if from.is_empty() {
            return Err(Errno::EINVAL);
        }
        let src = self.mm(copy.src);
        if !src.alive {
            return Err(Errno::ESRCH);
        }
        let source = src.source(from)?;
        let call = self.syscall(copy.process);
        if !call.has_room_for(2) {
            return Err(Errno::ENOMEM);
        }
        let flags = match copy.how {
            How::ProcessVmMmap(_) if source.uffd.is_some() => return Err(Errno::ENOTSUPP),
            How::ProcessVmMmap(flags) => flags,
            How::CopyVma(_) => CopyFlags::FIXED,
        };
        let to = call.mm.destination(copy.dst_page, copy.len, flags)?;
        call.may_expand(copy.len.0.into(), call.mm.mapped_in(to))?;
        if source.flags.contains(VmFlags::VM_LOCKED) && !copy.how.clears_flags_ctx() {
            call.may_lock(copy.len.0.into())?;
        }
        if copy.src == copy.process && from.overlaps(to) {
            return Err(Errno::EINVAL);
        }
        Ok(to)
    }
}
