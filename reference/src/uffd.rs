//! userfaultfd (`fs/userfaultfd.c`): contexts without features, in missing mode.
//!
//! Without the event features a VMA loses its context in a forked child (`dup_userfaultfd()`) and in
//! a move (`mremap_userfaultfd_prep()`). A context can watch anonymous memory, private VMAs of files
//! and shared VMAs, but not the device.

use vmadiff_machine::operand::{Ctx, Domain};
use vmadiff_machine::{Allocation, Errno, UffdId, VmFlags};

use crate::change::Hole;
use crate::clear_refs::Joined;
use crate::function::Function;
use crate::later;
use crate::merge::Origin;
use crate::mm::Syscall;
use crate::range::Range;
use crate::refusal::{Refusal, Rule};
use crate::vma::Vma;

impl Syscall<'_> {
    /// Lets the context watch every VMA's part of `range` (`UFFDIO_REGISTER`).
    ///
    /// # Errors
    /// Before any change: `EINVAL` for no pages or no mapping; then for the first VMA that does not
    /// fit: `EINVAL` for the device, `EPERM` where it may not be written, `EBUSY` where another
    /// context watches it. `ENOMEM` where a cut passes the limit on VMAs, which ends the walk. `ENOMEM`
    /// without memory: the context is not opened, or the walk ends at a cut.
    pub(crate) fn uffd_register(&mut self, range: Range, ctx: Ctx) -> Result<u8, Refusal> {
        let opens = self.mm.uffd[usize::from(ctx.index())].is_none();
        self.get_memory(Function::Userfaultfd, |what| opens && what == Allocation::Context)?;
        // The attempt opens the context, even if the call fails.
        let id = *self.mm.uffd[usize::from(ctx.index())]
            .get_or_insert_with(|| self.references.open_context());
        self.can_userfault(Function::UserfaultfdRegister, range, |vma| {
            let refuse = |errno, rule| self.refuse(errno, Function::UserfaultfdRegister, rule);
            if !vma.flags.contains(VmFlags::VM_MAYWRITE) {
                let flags = VmFlags::VM_MAYWRITE;
                refuse(Errno::EPERM, Rule::LacksFlags { vma: vma.range, flags })
            } else if vma.uffd.is_some_and(|other| other != id) {
                refuse(Errno::EBUSY, Rule::WatchedByOther { vma: vma.range, ctx })
            } else {
                Ok(())
            }
        })?;
        self.set_uffd(range, Some(id))
    }

    /// Takes every context off `range`, that of the call and any other (`UFFDIO_UNREGISTER`).
    ///
    /// # Errors
    /// `EBADF` where the context was never opened. Before any change: `EINVAL` for no pages, no
    /// mapping, or the device; with [`UffdUnregisterOther`](later::Rule::UffdUnregisterOther) where
    /// another context watches. `ENOMEM` where a cut passes the limit on VMAs, which ends the walk.
    pub(crate) fn uffd_unregister(&mut self, range: Range, ctx: Ctx) -> Result<u8, Refusal> {
        let function = Function::UserfaultfdUnregister;
        if self.mm.uffd[usize::from(ctx.index())].is_none() {
            return self.refuse(Errno::EBADF, Function::KsysIoctl, Rule::NeverOpened(ctx));
        }
        let id = self.mm.uffd[usize::from(ctx.index())];
        self.can_userfault(function, range, |vma| {
            let other = || vma.uffd.is_some() && vma.uffd != id;
            match self.later.applies(later::Rule::UffdUnregisterOther, other) {
                true => {
                    let rule = Rule::WatchedByOther { vma: vma.range, ctx };
                    self.refuse(Errno::EINVAL, function, rule)
                }
                false => Ok(()),
            }
        })?;
        self.set_uffd(range, None)
    }

    /// Checks every VMA of `range`, on behalf of the kernel function `function`.
    fn can_userfault(
        &self,
        function: Function,
        range: Range,
        check: impl Fn(&Vma) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        if range.is_empty() {
            return self.refuse(Errno::EINVAL, Function::ValidateRange, Rule::NoPages);
        }
        if self.mm.first_in(range).is_none() {
            return self.refuse(Errno::EINVAL, function, Rule::NothingMapped(range));
        }
        self.mm.all_in(range).iter().try_for_each(|vma| match vma.has_close() {
            // The VMAs with `close` are those without `shmem_vm_ops`.
            true => {
                self.refuse(Errno::EINVAL, Function::VmaCanUserfault, Rule::Unwatchable(vma.range))
            }
            false => check(vma),
        })
    }

    /// Sets the context of every VMA's part of `range`.
    ///
    /// The kernel asks the merge rule with the page offset of the VMA's *start*, even where the part
    /// begins later. So a part from the middle of a VMA to its end does not join a successor whose
    /// offset fits, and does join one whose offset is wrong by the same distance. That successor
    /// then shows other pages of the file in the part, and a reverse-map walk does not find the
    /// anonymous pages of the part. Kernels with [`UffdOffset`](later::Rule::UffdOffset) pass the
    /// offset of the part.
    fn set_uffd(&mut self, range: Range, ctx: Option<UffdId>) -> Result<u8, Refusal> {
        self.walk(range, Hole::Ignored, |this, at, part| {
            let vma = this.mm.vmas()[at];
            if vma.uffd == ctx {
                return Ok(at);
            }
            let mut mended = vma.part(part);
            mended.drop_uffd();
            if ctx.is_some() {
                mended.uffd = ctx;
                mended.flags |= VmFlags::VM_UFFD_MISSING;
            }
            let mut new = Vma { pgoff: vma.pgoff, ..mended };
            if this.later.applies(later::Rule::UffdOffset, || {
                let joined = |new| this.neighbours(new, Origin::Here);
                joined(&new) != joined(&mended)
            }) {
                new = mended;
            }
            this.change(at, &new, Joined::Takes)
        })?;
        Ok(0)
    }
}
