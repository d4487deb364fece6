//! userfaultfd events (`fs/userfaultfd.c`): the messages to the monitor of a context.
//!
//! A system call that sends a message waits until the monitor has read it. The monitor reads at once, so
//! `userfaultfd_event_wait_completion()` returns at once here.

use vmadiff_machine::operand::{Process, UffdFeatures};
use vmadiff_machine::{Message, Range, UffdEvent};

use crate::addr::Addr;
use crate::handle::{CtxKey, VmaKey, edit, read};
use crate::kernel::Kernel;
use crate::locks::Lock;
use crate::observe::ctx_id;
use crate::stop::Stop;
use crate::vma_list::Walk;

/// `userfaultfd_unmap_ctx`: a context that gets a message about a range that is unmapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnmapCtx {
    ctx: CtxKey,
    start: Addr,
    end: Addr,
}

/// The list of contexts that a caller of `do_munmap()` passes; `None` where the caller passes none.
pub(crate) type Uf<'a> = Option<&'a mut Vec<UnmapCtx>>;

/// `userfaultfd_fork_ctx`: a context of the parent, and the context of the child.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForkCtx {
    orig: CtxKey,
    new: CtxKey,
}

/// The lists of one operation, which are empty between operations. Their memory is reused.
#[derive(Debug, Default)]
pub(crate) struct Lists {
    /// The destination of a move was unmapped.
    pub(crate) unmap_early: Vec<UnmapCtx>,
    pub(crate) unmap: Vec<UnmapCtx>,
    pub(crate) fork: Vec<ForkCtx>,
}

vmadiff_machine::clone_by_field!(Lists { unmap_early, unmap, fork });

impl Lists {
    /// Empties the lists: the last operation may have ended the program.
    pub(crate) fn clear(&mut self) {
        self.unmap_early.clear();
        self.unmap.clear();
        self.fork.clear();
    }
}

fn range(start: Addr, end: Addr) -> Range {
    Range { start: start.page(), end: end.page() }
}

impl Kernel {
    /// `userfaultfd_event_wait_completion()`: the monitor reads the message. Drops the reference that the
    /// sender has to the context.
    fn userfaultfd_event(&mut self, ctx: CtxKey, about: UffdEvent) -> Result<(), Stop> {
        self.messages.push(Message { ctx: ctx_id(ctx), about });
        self.userfaultfd_ctx_put(ctx)
    }

    /// `dup_userfaultfd()`: a context with UFFD_FEATURE_EVENT_FORK becomes one context in the child, and
    /// another one is dropped there.
    ///
    /// # Errors
    /// `ENOMEM` where there is no memory.
    pub(crate) fn dup_userfaultfd(
        &mut self,
        vma: VmaKey,
        fcs: &mut Vec<ForkCtx>,
    ) -> Result<(), Stop> {
        const F: &str = "dup_userfaultfd";
        let octx = read!(self, F, vma.vm_userfaultfd_ctx);
        let ctx = match octx {
            Some(octx) if read!(self, F, octx.features).contains(UffdFeatures::FORK) => octx,
            _ => return self.userfaultfd_reset(vma),
        };
        let known = fcs.iter().find(|fctx| fctx.orig == ctx);
        let new = match known {
            Some(fctx) => fctx.new,
            None => {
                let mm = read!(self, F, vma.vm_mm);
                let (features, number) = (read!(self, F, ctx.features), read!(self, F, ctx.number));
                let new = self.userfaultfd_ctx_alloc(mm, features, number)?;
                self.userfaultfd_ctx_get(ctx)?;
                fcs.push(ForkCtx { orig: ctx, new });
                new
            }
        };
        *edit!(self, F, vma.vm_userfaultfd_ctx) = Some(new);
        Ok(())
    }

    /// `dup_userfaultfd_complete()`. The monitor gets a descriptor of each new context. `child` has it under the
    /// number that the old context had, if that number is free; `None` where the fork fails.
    pub(crate) fn dup_userfaultfd_complete(
        &mut self,
        fcs: &mut Vec<ForkCtx>,
        child: Option<Process>,
    ) -> Result<(), Stop> {
        const F: &str = "dup_userfaultfd_complete";
        for ForkCtx { orig, new } in fcs.drain(..) {
            let shown = child.map(|_| ctx_id(new));
            self.userfaultfd_event(orig, UffdEvent::Fork { child: shown })?;
            let Some(child) = child else {
                self.userfaultfd_ctx_put(new)?;
                continue;
            };
            let number = read!(self, F, new.number);
            match self.descriptor_mut(child, number) {
                Some(fd @ None) => *fd = Some(new),
                _ => *edit!(self, F, new.kept) = true,
            }
        }
        Ok(())
    }

    /// `mremap_userfaultfd_prep()`: without UFFD_FEATURE_EVENT_REMAP, the whole VMA that was moved to is not
    /// watched any more. Returns the context that gets a message.
    pub(crate) fn mremap_userfaultfd_prep(&mut self, vma: VmaKey) -> Result<Option<CtxKey>, Stop> {
        const F: &str = "mremap_userfaultfd_prep";
        let Some(ctx) = read!(self, F, vma.vm_userfaultfd_ctx) else { return Ok(None) };
        if read!(self, F, ctx.features).contains(UffdFeatures::REMAP) {
            self.userfaultfd_ctx_get(ctx)?;
            return Ok(Some(ctx));
        }
        self.userfaultfd_reset(vma)?;
        Ok(None)
    }

    /// `mremap_userfaultfd_complete()`.
    pub(crate) fn mremap_userfaultfd_complete(
        &mut self,
        ctx: Option<CtxKey>,
        from: Addr,
        to: Addr,
        len: u32,
    ) -> Result<(), Stop> {
        let Some(ctx) = ctx else { return Ok(()) };
        let from = range(from, from + len);
        self.userfaultfd_event(ctx, UffdEvent::Remap { from, to: to.page() })
    }

    /// `userfaultfd_remove()`: returns whether `mmap_sem` is still held. It is released while the monitor reads
    /// the message.
    pub(crate) fn userfaultfd_remove(
        &mut self,
        vma: VmaKey,
        start: Addr,
        end: Addr,
    ) -> Result<bool, Stop> {
        const F: &str = "userfaultfd_remove";
        let ctx = match read!(self, F, vma.vm_userfaultfd_ctx) {
            Some(ctx) if read!(self, F, ctx.features).contains(UffdFeatures::REMOVE) => ctx,
            _ => return Ok(true),
        };
        self.userfaultfd_ctx_get(ctx)?;
        self.unlock(Lock::MmapSem(read!(self, F, vma.vm_mm)), F);
        self.userfaultfd_event(ctx, UffdEvent::Remove(range(start, end)))?;
        Ok(false)
    }

    /// `userfaultfd_unmap_prep()`: notes the contexts that watch a part of the range. Its own allocations
    /// are left out.
    pub(crate) fn userfaultfd_unmap_prep(
        &mut self,
        vma: VmaKey,
        start: Addr,
        end: Addr,
        unmaps: &mut Vec<UnmapCtx>,
    ) -> Result<(), Stop> {
        const F: &str = "userfaultfd_unmap_prep";
        let mut next = Some(vma);
        let mut walk = Walk::new();
        while let Some(vma) = next {
            walk.step()?;
            if read!(self, F, vma.vm_start) >= end {
                break;
            }
            next = read!(self, F, vma.vm_next);
            let Some(ctx) = read!(self, F, vma.vm_userfaultfd_ctx) else { continue };
            let unmap = UnmapCtx { ctx, start, end };
            // `has_unmap_ctx()`.
            if read!(self, F, ctx.features).contains(UffdFeatures::UNMAP)
                && !unmaps.contains(&unmap)
            {
                self.userfaultfd_ctx_get(ctx)?;
                unmaps.push(unmap);
            }
        }
        Ok(())
    }

    /// `userfaultfd_unmap_complete()`.
    pub(crate) fn userfaultfd_unmap_complete(
        &mut self,
        uf: &mut Vec<UnmapCtx>,
    ) -> Result<(), Stop> {
        for UnmapCtx { ctx, start, end } in uf.drain(..) {
            self.userfaultfd_event(ctx, UffdEvent::Unmap(range(start, end)))?;
        }
        Ok(())
    }
}
