//! userfaultfd contexts and the references to them (`fs/userfaultfd.c`).
//!
//! A context lives as long as its descriptor. VMAs point to it without a reference, so the context goes
//! from every VMA when the descriptor is closed. A process that exits has no VMAs any more when its
//! descriptors are closed.

use std::num::NonZeroU32;

use vmadiff_machine::Allocation;
use vmadiff_machine::operand::{Ctx, Process, UffdFeatures};

use crate::handle::{CtxKey, MmKey, VmaKey, edit, read};
use crate::kernel::Kernel;
use crate::locks::Lock;
use crate::objects::UserfaultfdCtx;
use crate::stop::{Caught, Stop};

impl Kernel {
    /// Returns the context behind a descriptor of a process (`fget()`).
    pub(crate) fn descriptor(&self, process: Process, ctx: Ctx) -> Option<CtxKey> {
        let fds = self.userfaultfd.get(usize::from(process.0))?;
        fds.get(usize::from(ctx.0)).copied().flatten()
    }

    /// Returns the place of a descriptor of a process.
    pub(crate) fn descriptor_mut(
        &mut self,
        process: Process,
        ctx: Ctx,
    ) -> Option<&mut Option<CtxKey>> {
        self.userfaultfd.get_mut(usize::from(process.0))?.get_mut(usize::from(ctx.0))
    }

    /// `close()` of a descriptor, if it is open, and then `userfaultfd()` and `UFFDIO_API`: opens a context on
    /// the address space of a process.
    ///
    /// # Errors
    /// `ENOMEM` where there is no memory. The descriptor is closed then.
    pub(crate) fn userfaultfd_open(
        &mut self,
        process: Process,
        ctx: Ctx,
        features: UffdFeatures,
    ) -> Result<CtxKey, Stop> {
        if let Some(open) = self.descriptor_mut(process, ctx).and_then(Option::take) {
            self.userfaultfd_close(open)?;
        }
        let mm = self.mm(process)?;
        let key = self.userfaultfd_ctx_alloc(mm, features, ctx)?;
        if let Some(fd) = self.descriptor_mut(process, ctx) {
            *fd = Some(key);
        }
        Ok(key)
    }

    /// Returns the context behind a descriptor of a process, which is opened on first use, without features.
    ///
    /// # Errors
    /// `ENOMEM` where there is no memory.
    pub(crate) fn descriptor_or_open(
        &mut self,
        process: Process,
        ctx: Ctx,
    ) -> Result<CtxKey, Stop> {
        match self.descriptor(process, ctx) {
            Some(ctx) => Ok(ctx),
            None => self.userfaultfd_open(process, ctx, UffdFeatures::empty()),
        }
    }

    /// Allocates a context of an address space, with one reference: that of its descriptor.
    ///
    /// # Errors
    /// `ENOMEM` where there is no memory.
    pub(crate) fn userfaultfd_ctx_alloc(
        &mut self,
        mm: MmKey,
        features: UffdFeatures,
        number: Ctx,
    ) -> Result<CtxKey, Stop> {
        self.allocate(Allocation::Context)?;
        self.mmgrab(mm)?;
        self.contexts.push(UserfaultfdCtx { refcount: 1, mm, features, number, kept: false });
        Ok(CtxKey(NonZeroU32::MIN.saturating_add(self.contexts.len() as u32 - 1)))
    }

    /// Closes a descriptor of a context, which may not be the last one.
    pub(crate) fn userfaultfd_close(&mut self, ctx: CtxKey) -> Result<(), Stop> {
        const F: &str = "userfaultfd_release";
        match read!(self, F, ctx.kept) {
            true => self.userfaultfd_ctx_put(ctx),
            false => self.userfaultfd_release(ctx),
        }
    }

    /// Runs the body of an ioctl with the address space of a context in use (`mmget_not_zero()`) and
    /// locked for writing.
    pub(crate) fn with_mm_of(
        &mut self,
        ctx: CtxKey,
        function: &'static str,
        body: impl FnOnce(&mut Kernel, MmKey) -> Result<(), Stop>,
    ) -> Result<(), Stop> {
        const F: &str = "userfaultfd_ioctl";
        let mm = read!(self, F, ctx.mm);
        self.mmget(mm)?;
        let result = self.locked(Lock::MmapSem(mm), function, |kernel| body(kernel, mm)).errno()?;
        self.mmput(mm)?;
        Ok(result?)
    }

    /// `userfaultfd_ctx_get()`.
    pub(crate) fn userfaultfd_ctx_get(&mut self, ctx: CtxKey) -> Result<(), Stop> {
        const F: &str = "userfaultfd_ctx_get";
        *edit!(self, F, ctx.refcount) += 1;
        Ok(())
    }

    /// `userfaultfd_ctx_put()`. The last reference frees the context.
    pub(crate) fn userfaultfd_ctx_put(&mut self, ctx: CtxKey) -> Result<(), Stop> {
        const F: &str = "userfaultfd_ctx_put";
        let mm = read!(self, F, ctx.mm);
        let refcount = edit!(self, F, ctx.refcount);
        *refcount -= 1;
        if *refcount == 0 { self.mmdrop(mm) } else { Ok(()) }
    }

    /// The part of `handle_userfault()` that waits. The context may be released meanwhile.
    pub(crate) fn handle_userfault(&mut self, vma: VmaKey) -> Result<(), Stop> {
        const F: &str = "handle_userfault";
        let Some(ctx) = read!(self, F, vma.vm_userfaultfd_ctx) else { return Ok(()) };
        self.userfaultfd_ctx_get(ctx)?;
        self.userfaultfd_ctx_put(ctx)
    }

    /// Keeps a descriptor of the context that a copy has in another address space: that of a direct caller
    /// of `copy_vma()`, which answers for what it asks for. Without it the copy would point to a freed
    /// context as soon as the process of the context exits.
    pub(crate) fn keep_context(&mut self, vma: VmaKey) -> Result<(), Stop> {
        const F: &str = "copy_vma";
        let Some(ctx) = read!(self, F, vma.vm_userfaultfd_ctx) else { return Ok(()) };
        if read!(self, F, ctx.mm) != read!(self, F, vma.vm_mm) && !read!(self, F, ctx.kept) {
            *edit!(self, F, ctx.kept) = true;
            self.userfaultfd_ctx_get(ctx)?;
        }
        Ok(())
    }
}
