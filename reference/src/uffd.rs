//! userfaultfd (`fs/userfaultfd.c`): contexts without features, in missing mode.
//!
//! A context is lost where its feature would have been needed: in a forked child
//! (`dup_userfaultfd()`) and by a move (`mremap_userfaultfd_prep()`). A private VMA of a file and
//! a shared one can be watched as well as anonymous memory; the device cannot.

use vmadiff_machine::operand::{Ctx, Domain};
use vmadiff_machine::{Errno, UffdId, VmFlags};

use crate::change::Hole;
use crate::mm::Syscall;
use crate::range::Range;
use crate::vma::Vma;

impl Vma {
    /// The VMA loses its context.
    pub(crate) fn drop_uffd(&mut self) {
        self.uffd = None;
        self.flags -= VmFlags::UFFD;
    }
}

impl Syscall<'_> {
    /// `UFFDIO_REGISTER`: the context watches every VMA's part of `range`. `next` is the number of
    /// the next context that is opened.
    ///
    /// # Errors
    /// Before anything is changed, `EINVAL` for no pages or nothing mapped; then of the first VMA
    /// that is not right: `EINVAL` for the device, `EPERM` where it may not be written, `EBUSY`
    /// for another context's. `ENOMEM` for a cut too many, where the walk ends.
    pub(crate) fn uffd_register(
        &mut self,
        range: Range,
        ctx: Ctx,
        next: &mut u32,
    ) -> Result<u8, Errno> {
        // Opened by trying, whatever comes of it.
        let ctx = *self.mm.uffd[usize::from(ctx.index())].get_or_insert_with(|| {
            *next += 1;
            UffdId::new(*next - 1)
        });
        self.can_userfault(range, |vma| {
            if !vma.flags.contains(VmFlags::VM_MAYWRITE) {
                Err(Errno::EPERM)
            } else if vma.uffd.is_some_and(|other| other != ctx) {
                Err(Errno::EBUSY)
            } else {
                Ok(())
            }
        })?;
        self.set_uffd(range, Some(ctx))
    }

    /// `UFFDIO_UNREGISTER`: no context, whosever, watches `range` any more.
    ///
    /// # Errors
    /// `EBADF` where the context was never opened; before anything is changed, `EINVAL` for no
    /// pages, nothing mapped, or the device. `ENOMEM` for a cut too many, where the walk ends.
    pub(crate) fn uffd_unregister(&mut self, range: Range, ctx: Ctx) -> Result<u8, Errno> {
        if self.mm.uffd[usize::from(ctx.index())].is_none() {
            return Err(Errno::EBADF);
        }
        self.can_userfault(range, |_| Ok(()))?;
        self.set_uffd(range, None)
    }

    fn can_userfault(
        &self,
        range: Range,
        check: impl Fn(&Vma) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        if range.is_empty() || self.mm.first_in(range).is_none() {
            return Err(Errno::EINVAL);
        }
        self.mm.all_in(range).iter().try_for_each(|vma| {
            // `vma_can_userfault()`.
            if vma.has_close() { Err(Errno::EINVAL) } else { check(vma) }
        })
    }

    /// Sets the context of every VMA's part of `range`.
    ///
    /// The merge rule is asked with the page offset of the VMA's *start*, even where the part
    /// begins later. So a part from the middle of a VMA to its end does not join a successor that
    /// it would fit, and does join one whose offset is wrong by as much; that one then shows
    /// other pages of the file there, and a reverse-map walk does not find the anonymous pages
    /// that were there. Later kernels pass the offset of the part.
    fn set_uffd(&mut self, range: Range, ctx: Option<UffdId>) -> Result<u8, Errno> {
        self.walk(range, Hole::Ignored, |this, at, part| {
            let vma = this.mm.vmas()[at];
            if vma.uffd == ctx {
                return Ok(at);
            }
            let mut new = Vma { pgoff: vma.pgoff, ..vma.part(part) };
            new.drop_uffd();
            if ctx.is_some() {
                new.uffd = ctx;
                new.flags |= VmFlags::VM_UFFD_MISSING;
            }
            this.change(at, &new)
        })?;
        Ok(0)
    }
}
