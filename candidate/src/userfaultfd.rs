//! userfaultfd (`fs/userfaultfd.c`) in missing mode: what a context watches.

use vmadiff_machine::operand::{Ctx, Process};
use vmadiff_machine::{Errno, VmFlags};

use crate::addr::Addr;
use crate::handle::{CtxKey, MmKey, VmaKey, bug_on, edit, read, warn_on};
use crate::kernel::Kernel;
use crate::locks::Lock;
use crate::objects::VmOps;
use crate::revision::Revision;
use crate::stop::Stop;
use crate::vma_list::Walk;
use crate::vma_merge::Attributes;

/// `vma_can_userfault()`: returns whether userfaultfd can watch the mapping.
fn can_userfault(ops: VmOps) -> bool {
    matches!(ops, VmOps::Anonymous | VmOps::Shmem)
}

impl Kernel {
    /// `UFFDIO_REGISTER` in missing mode; the context is opened on first use.
    ///
    /// # Errors
    /// `EINVAL` for an empty range, one where nothing is mapped, or a mapping that cannot be
    /// watched. `EPERM` for a mapping that may never be written. `EBUSY` for a mapping of another
    /// context. `ENOMEM` past the limit on mappings: VMAs before that one stay registered.
    pub(crate) fn userfaultfd_register(
        &mut self,
        process: Process,
        start: Addr,
        len: u32,
        ctx: Ctx,
    ) -> Result<(), Stop> {
        const F: &str = "userfaultfd_register";
        let ctx = self.descriptor_or_open(process, ctx)?;
        if len == 0 {
            return Err(Errno::EINVAL.into());
        }
        let end = start + len;
        self.with_mm_of(ctx, F, |kernel, mm| {
            let (first, prev) = kernel.find_vma_prev(mm, start)?;
            let first = kernel.registrable(first, end, ctx)?;
            let armed = VmFlags::VM_UFFD_MISSING;
            kernel.userfaultfd_change(mm, (start, end), (first, prev), Some(ctx), armed)
        })
    }

    /// `UFFDIO_REGISTER` with UFFDIO_REGISTER_MODE_WP, which 5.2.1 refuses before it looks at the range.
    ///
    /// # Errors
    /// `EINVAL`. `ENOMEM` where there is no memory for the context, which is opened on first use.
    pub(crate) fn userfaultfd_register_wp(
        &mut self,
        process: Process,
        ctx: Ctx,
    ) -> Result<(), Stop> {
        self.descriptor_or_open(process, ctx)?;
        Err(Errno::EINVAL.into())
    }

    /// `UFFDIO_WRITEPROTECT`, which `userfaultfd_ioctl()` of 5.2.1 does not have.
    ///
    /// # Errors
    /// `EBADF` where the context was never opened, else `EINVAL`.
    pub(crate) fn userfaultfd_writeprotect(&self, process: Process, ctx: Ctx) -> Result<(), Stop> {
        self.descriptor(process, ctx).ok_or(Errno::EBADF)?;
        Err(Errno::EINVAL.into())
    }

    /// `UFFDIO_UNREGISTER`. The kernel does not look at whose context a mapping has.
    ///
    /// # Errors
    /// `EBADF` where the context was never opened. `EINVAL` for an empty range, one where nothing
    /// is mapped, or a mapping that cannot be watched. `ENOMEM` past the limit on mappings: VMAs
    /// before that one stay unregistered.
    pub(crate) fn userfaultfd_unregister(
        &mut self,
        process: Process,
        start: Addr,
        len: u32,
        ctx: Ctx,
    ) -> Result<(), Stop> {
        const F: &str = "userfaultfd_unregister";
        let ctx = self.descriptor(process, ctx).ok_or(Errno::EBADF)?;
        if len == 0 {
            return Err(Errno::EINVAL.into());
        }
        let end = start + len;
        self.with_mm_of(ctx, F, |kernel, mm| {
            let (first, prev) = kernel.find_vma_prev(mm, start)?;
            let first = kernel.unregistrable(first, end)?;
            kernel.userfaultfd_change(mm, (start, end), (first, prev), None, VmFlags::empty())
        })
    }

    /// Checks that all VMAs up to `end` can be registered, and returns the first of them.
    fn registrable(&self, first: Option<VmaKey>, end: Addr, ctx: CtxKey) -> Result<VmaKey, Stop> {
        const F: &str = "userfaultfd_register";
        let mut cur = first;
        let mut walk = Walk::new();
        while let Some(vma) = cur {
            walk.step()?;
            if read!(self, F, vma.vm_start) >= end {
                break;
            }
            let owner = read!(self, F, vma.vm_userfaultfd_ctx);
            let vm_flags = read!(self, F, vma.vm_flags);
            bug_on!(owner.is_some() != vm_flags.intersects(VmFlags::UFFD), F, "!!ctx ^ !!flags");
            if !can_userfault(read!(self, F, vma.vm_ops)) {
                return Err(Errno::EINVAL.into());
            }
            if !vm_flags.contains(VmFlags::VM_MAYWRITE) {
                return Err(Errno::EPERM.into());
            }
            if owner.is_some_and(|owner| owner != ctx) {
                return Err(Errno::EBUSY.into());
            }
            cur = read!(self, F, vma.vm_next);
        }
        first.filter(|_| cur != first).ok_or(Errno::EINVAL.into())
    }

    /// Checks that all VMAs up to `end` can be unregistered, and returns the first of them.
    fn unregistrable(&self, first: Option<VmaKey>, end: Addr) -> Result<VmaKey, Stop> {
        const F: &str = "userfaultfd_unregister";
        let mut cur = first;
        let mut walk = Walk::new();
        while let Some(vma) = cur {
            walk.step()?;
            if read!(self, F, vma.vm_start) >= end {
                break;
            }
            let owner = read!(self, F, vma.vm_userfaultfd_ctx);
            let vm_flags = read!(self, F, vma.vm_flags);
            bug_on!(owner.is_some() != vm_flags.intersects(VmFlags::UFFD), F, "!!ctx ^ !!flags");
            if !can_userfault(read!(self, F, vma.vm_ops)) {
                return Err(Errno::EINVAL.into());
            }
            cur = read!(self, F, vma.vm_next);
        }
        first.filter(|_| cur != first).ok_or(Errno::EINVAL.into())
    }

    /// The second loops of `userfaultfd_register()` and `userfaultfd_unregister()`. They differ in
    /// the flags and the context that the VMAs get.
    fn userfaultfd_change(
        &mut self,
        mm: MmKey,
        (mut start, end): (Addr, Addr),
        (first, mut prev): (VmaKey, Option<VmaKey>),
        ctx: Option<CtxKey>,
        armed: VmFlags,
    ) -> Result<(), Stop> {
        const F: &str = "userfaultfd_register";
        if read!(self, F, first.vm_start) < start {
            prev = Some(first);
        }
        let mut next = Some(first);
        let mut walk = Walk::new();
        while let Some(mut vma) = next {
            walk.step()?;
            let vma_start = read!(self, F, vma.vm_start);
            if vma_start >= end {
                break;
            }
            let vm_flags = read!(self, F, vma.vm_flags);
            let already = match ctx {
                Some(_) => {
                    read!(self, F, vma.vm_userfaultfd_ctx) == ctx && vm_flags.contains(armed)
                }
                None => read!(self, F, vma.vm_userfaultfd_ctx).is_none(),
            };
            if !already {
                warn_on!(
                    self,
                    !vm_flags.contains(VmFlags::VM_MAYWRITE),
                    F,
                    "!(vma->vm_flags & VM_MAYWRITE)"
                );
                start = start.max(vma_start);
                let vma_end = read!(self, F, vma.vm_end).min(end);
                let part = self.attributes(vma, start)?;
                let pgoff = match self.revision {
                    // The kernel passes the page offset of the VMA, not of the range. A range that
                    // begins inside the VMA then merges by a wrong offset.
                    Revision::Original | Revision::Rfc | Revision::V2 => {
                        read!(self, F, vma.vm_pgoff)
                    }
                    // Upstream since 5543d3c43c41.
                    Revision::Fixed => part.pgoff,
                };
                let new = Attributes {
                    vm_flags: (vm_flags - VmFlags::UFFD) | armed,
                    vm_userfaultfd_ctx: ctx,
                    pgoff,
                    ..part
                };
                match self.vma_merge(mm, prev, start, vma_end, &new)? {
                    Some(merged) => vma = merged,
                    None => self.split_at_both_ends(mm, vma, start, end)?,
                }
                *edit!(self, F, vma.vm_flags) = new.vm_flags;
                *edit!(self, F, vma.vm_userfaultfd_ctx) = ctx;
            }
            prev = Some(vma);
            start = read!(self, F, vma.vm_end);
            next = read!(self, F, vma.vm_next);
        }
        Ok(())
    }

    /// Takes the context off a VMA, without a merge (`NULL_VM_UFFD_CTX`).
    pub(crate) fn userfaultfd_reset(&mut self, vma: VmaKey) -> Result<(), Stop> {
        const F: &str = "dup_userfaultfd";
        *edit!(self, F, vma.vm_userfaultfd_ctx) = None;
        *edit!(self, F, vma.vm_flags) -= VmFlags::UFFD;
        Ok(())
    }

    /// `userfaultfd_release()`: the last descriptor of a context is closed. No VMA of its address space is
    /// watched by the context any more, unless the address space has no users.
    pub(crate) fn userfaultfd_release(&mut self, ctx: CtxKey) -> Result<(), Stop> {
        const F: &str = "userfaultfd_release";
        let mm = read!(self, F, ctx.mm);
        if self.mmget_not_zero(mm)? {
            self.locked(Lock::MmapSem(mm), F, |kernel| kernel.unwatch_all(mm, ctx))?;
            self.mmput(mm)?;
        }
        self.userfaultfd_ctx_put(ctx)
    }

    /// The loop of `userfaultfd_release()`.
    fn unwatch_all(&mut self, mm: MmKey, ctx: CtxKey) -> Result<(), Stop> {
        const F: &str = "userfaultfd_release";
        let mut prev = None;
        let mut next = read!(self, F, mm.mmap);
        let mut walk = Walk::new();
        while let Some(mut vma) = next {
            walk.step()?;
            let owner = read!(self, F, vma.vm_userfaultfd_ctx);
            let vm_flags = read!(self, F, vma.vm_flags);
            bug_on!(owner.is_some() != vm_flags.intersects(VmFlags::UFFD), F, "!!ctx ^ !!flags");
            if owner == Some(ctx) {
                let (start, end) = (read!(self, F, vma.vm_start), read!(self, F, vma.vm_end));
                let vm_flags = vm_flags - VmFlags::UFFD;
                let part = self.attributes(vma, start)?;
                let new = Attributes { vm_flags, vm_userfaultfd_ctx: None, ..part };
                if let Some(merged) = self.vma_merge(mm, prev, start, end, &new)? {
                    vma = merged;
                }
                *edit!(self, F, vma.vm_flags) = vm_flags;
                *edit!(self, F, vma.vm_userfaultfd_ctx) = None;
            }
            prev = Some(vma);
            next = read!(self, F, vma.vm_next);
        }
        Ok(())
    }
}
