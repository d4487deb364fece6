//! userfaultfd (`fs/userfaultfd.c`) in missing mode and, on later kernels, in write-protect mode; and its events.
//!
//! A context can watch anonymous memory, private VMAs of files and shared VMAs, but not the device. In
//! write-protect mode a page waits for its monitor at a write, once the monitor has write-protected it. Each
//! event is a feature of a context, and its monitor gets a message about it:
//!
//! | feature | with it | without it |
//! |---|---|---|
//! | `FORK` | a child has a context of its own in place of each context (`dup_userfaultfd()`) | the VMAs of a child have none |
//! | `REMAP` | a moved VMA keeps its context (`mremap_userfaultfd_prep()`) | it loses the context, with a neighbour that it merged with |
//! | `REMOVE` | pages are dropped by `madvise` (`userfaultfd_remove()`) | the same, without a message |
//! | `UNMAP` | memory is unmapped (`userfaultfd_unmap_prep()`) | the same, without a message |

use vmadiff_machine::operand::{Ctx, Domain, Page, UffdFeatures, UffdMode, WriteprotectMode};
use vmadiff_machine::{Allocation, Errno, Message, UffdEvent, UffdId, VmFlags};

use crate::change::Hole;
use crate::clear_refs::Joined;
use crate::function::Function;
use crate::later;
use crate::merge::Origin;
use crate::mm::Syscall;
use crate::range::Range;
use crate::refusal::{Progress, Refusal, Rule};
use crate::vma::Vma;

impl Syscall<'_> {
    /// Opens a context with `features`. The context that has the number is closed before: its VMAs have no
    /// context then, and may join their neighbours (`userfaultfd_release()`). It stays where a copy in another
    /// address space keeps it.
    ///
    /// # Errors
    /// `ENOMEM` without memory. The old context is closed then.
    pub(crate) fn uffd_open(&mut self, ctx: Ctx, features: UffdFeatures) -> Result<u8, Refusal> {
        let slot = usize::from(ctx.index());
        if let Some(open) = self.mm.uffd[slot].take()
            && self.references.close_context(open)
        {
            self.walk(Range::ALL, Hole::Ignored, |this, at, _| {
                let vma = this.mm.vmas()[at];
                if vma.uffd != Some(open) {
                    return Ok(at);
                }
                this.unprotect_unwatched(vma.range);
                let mut new = vma;
                new.drop_uffd();
                this.change(at, &new, Joined::Takes)
            })?;
        }
        self.get_memory(Function::Userfaultfd, |what| what == Allocation::Context)?;
        self.mm.uffd[slot] = Some(self.references.open_context(features, ctx));
        Ok(0)
    }

    /// Tells the monitor of `ctx` about an event, if the context has the feature.
    pub(crate) fn tell(&mut self, ctx: Option<UffdId>, feature: UffdFeatures, about: UffdEvent) {
        if let Some(ctx) = ctx.filter(|ctx| self.references.tells(*ctx, feature)) {
            self.messages.push(Message { ctx, about });
        }
    }

    /// Tells each monitor that watches a part of `range` before `end`, once, that the range is unmapped.
    pub(crate) fn tell_of_unmap(&mut self, range: Range, end: Page) {
        let about = UffdEvent::Unmap(range);
        for vma in self.mm.all_in(Range { end, ..range }) {
            let tells = |ctx: &UffdId| self.references.tells(*ctx, UffdFeatures::UNMAP);
            let message = vma.uffd.filter(tells).map(|ctx| Message { ctx, about });
            self.messages.extend(message.filter(|message| !self.messages.contains(message)));
        }
    }

    /// Tells the monitor that watches the moved mapping that `from` was moved to `to`. The message comes before
    /// those about the unmapping of the source, of which the first one is the message `at`.
    pub(crate) fn tell_of_move(&mut self, at: usize, from: Range, to: Page) {
        // A mapping that still has a context after a move has one with the feature.
        if let Some(ctx) = self.context_at(to) {
            self.messages.insert(at, Message { ctx, about: UffdEvent::Remap { from, to } });
        }
    }

    /// Returns the context that watches `page`.
    pub(crate) fn context_at(&self, page: Page) -> Option<UffdId> {
        self.mm.vma_at(page).and_then(|at| self.mm.vmas()[at].uffd)
    }

    /// Returns the context of the call, which is opened on first use, even if the call then fails.
    ///
    /// # Errors
    /// `ENOMEM` without memory for it.
    fn context(&mut self, ctx: Ctx) -> Result<UffdId, Refusal> {
        let opens = self.mm.uffd[usize::from(ctx.index())].is_none();
        self.get_memory(Function::Userfaultfd, |what| opens && what == Allocation::Context)?;
        Ok(*self.mm.uffd[usize::from(ctx.index())]
            .get_or_insert_with(|| self.references.open_context(UffdFeatures::empty(), ctx)))
    }

    /// Lets the context watch every VMA's part of `range` for missing pages (`UFFDIO_REGISTER`).
    ///
    /// # Errors
    /// Before any change: `EINVAL` for no pages or no mapping; then for the first VMA that does not
    /// fit: `EINVAL` for the device, `EPERM` where it may not be written, `EBUSY` where another
    /// context watches it. `ENOMEM` where a cut passes the limit on VMAs, which ends the walk. `ENOMEM`
    /// without memory: the context is not opened, or the walk ends at a cut.
    pub(crate) fn uffd_register(&mut self, range: Range, ctx: Ctx) -> Result<u8, Refusal> {
        let id = self.context(ctx)?;
        self.may_register(range, ctx, id, true)?;
        self.set_uffd(range, Some(id), VmFlags::VM_UFFD_MISSING)
    }

    /// Lets the context watch every VMA's part of `range` in write-protect mode, with
    /// [`UffdWp`](later::Rule::UffdWp) anonymous memory only, with
    /// [`UffdWpFiles`](later::Rule::UffdWpFiles) what a context can watch for missing pages.
    ///
    /// # Errors
    /// `EINVAL` on 5.2.1, whatever the range is. Else those of [`Syscall::uffd_register`], and `EINVAL` for a VMA that
    /// cannot be watched in this mode.
    pub(crate) fn uffd_register_wp(
        &mut self,
        range: Range,
        ctx: Ctx,
        mode: UffdMode,
    ) -> Result<u8, Refusal> {
        let id = self.context(ctx)?;
        if !self.later.hold.has(later::Rule::UffdWp) {
            return self.refuse(Errno::EINVAL, Function::UserfaultfdRegister, Rule::UnknownMode);
        }
        let files = self.later.hold.has(later::Rule::UffdWpFiles);
        let may = self.may_register(range, ctx, id, files);
        let differs = may.as_ref().err().is_none_or(|refusal| refusal.errno != Errno::EINVAL);
        self.later.applies(later::Rule::UffdWp, || differs);
        self.later.applies(later::Rule::UffdWpFiles, || {
            differs && self.mm.all_in(range).iter().any(|vma| !vma.is_anonymous())
        });
        may?;
        let flags = match mode {
            UffdMode::Wp => VmFlags::VM_UFFD_WP,
            UffdMode::MissingWp => VmFlags::VM_UFFD_MISSING | VmFlags::VM_UFFD_WP,
        };
        self.set_uffd(range, Some(id), flags)
    }

    /// Write-protects the pages of `range`, or removes the protection (`UFFDIO_WRITEPROTECT`). Any context of the
    /// process can do so. In anonymous memory only pages that are there are protected. In memory of a file a marker
    /// protects each page that is not. With [`UffdWpNoEffect`](later::Rule::UffdWpNoEffect) the next write faults and
    /// does not wait.
    ///
    /// # Errors
    /// `EBADF` where the context was never opened. `EINVAL` without
    /// [`UffdWriteprotect`](later::Rule::UffdWriteprotect). Else `EINVAL` for no pages; `ENOENT` where
    /// no VMA that is watched in write-protect mode has the whole range; with
    /// [`UffdWpSeveral`](later::Rule::UffdWpSeveral), where nothing is mapped, and at the first VMA that is not
    /// watched in this mode, which ends the walk.
    pub(crate) fn uffd_writeprotect(
        &mut self,
        range: Range,
        ctx: Ctx,
        mode: WriteprotectMode,
    ) -> Result<u8, Refusal> {
        if self.mm.uffd[usize::from(ctx.index())].is_none() {
            return self.refuse(Errno::EBADF, Function::KsysIoctl, Rule::NeverOpened(ctx));
        }
        if !self.later.hold.has(later::Rule::UffdWriteprotect) {
            return self.refuse(Errno::EINVAL, Function::UserfaultfdIoctl, Rule::UnknownIoctl);
        }
        if range.is_empty() {
            return self.refuse(Errno::EINVAL, Function::ValidateRange, Rule::NoPages);
        }
        self.later.applies(later::Rule::UffdWriteprotect, || true);
        let vmas = self.mm.all_in(range);
        let protectable = vmas.first().is_some_and(|vma| vma.flags.contains(VmFlags::VM_UFFD_WP));
        let whole = matches!(vmas, [vma] if vma.range.intersection(range) == range);
        if !protectable || !self.later.applies(later::Rule::UffdWpSeveral, || !whole) && !whole {
            return self.not_write_protectable(range);
        }
        self.mwriteprotect_range(range, mode)
    }

    fn not_write_protectable(&self, range: Range) -> Result<u8, Refusal> {
        let rule = Rule::NotWriteProtectable(range);
        self.refuse(Errno::ENOENT, Function::MwriteprotectRange, rule)
    }

    /// Walks the VMAs of `range` up to the first one that is not watched in write-protect mode.
    fn mwriteprotect_range(&mut self, range: Range, mode: WriteprotectMode) -> Result<u8, Refusal> {
        let mut rest = range;
        while let Some((at, part)) = self.mm.first_in(rest) {
            if !self.mm.vmas()[at].flags.contains(VmFlags::VM_UFFD_WP) {
                let refused = self.not_write_protectable(range);
                return refused.map_err(|refusal| refusal.after(Progress::UpTo(part.start)));
            }
            match mode {
                WriteprotectMode::Wp => self.write_protect(at, part),
                WriteprotectMode::None => self.mm.drop_write_protection(part.set()),
            }
            rest.start = part.end;
        }
        Ok(0)
    }

    /// Write-protects the pages of `part` of the VMA at index `at`.
    fn write_protect(&mut self, at: usize, part: Range) {
        let pages = match self.mm.vmas()[at].is_anonymous() {
            true => (self.mm.anon_pages() | self.mm.zero_pages()) & part.set(),
            false => part.set(),
        };
        if self.later.applies(later::Rule::UffdWpNoEffect, || pages != 0) {
            self.mm.protect(part);
        } else {
            self.mm.write_protect(pages);
        }
    }

    /// Removes the write protection of `range`, which is not watched any more. Without
    /// [`UffdWpClears`](later::Rule::UffdWpClears) it stays, and is there again when the range is watched again.
    pub(crate) fn unprotect_unwatched(&mut self, range: Range) {
        let protected = self.mm.write_protected() & range.set();
        if self.later.applies(later::Rule::UffdWpClears, || protected != 0) {
            self.mm.drop_write_protection(protected);
        }
    }

    /// Checks that the context `id` can watch every VMA of `range`; those of files only where `files` says so.
    fn may_register(&self, range: Range, ctx: Ctx, id: UffdId, files: bool) -> Result<(), Refusal> {
        self.can_userfault(Function::UserfaultfdRegister, range, |vma| {
            let refuse = |errno, rule| self.refuse(errno, Function::UserfaultfdRegister, rule);
            if !files && !vma.is_anonymous() {
                let rule = Rule::Unwatchable(vma.range);
                self.refuse(Errno::EINVAL, Function::VmaCanUserfault, rule)
            } else if !vma.flags.contains(VmFlags::VM_MAYWRITE) {
                let flags = VmFlags::VM_MAYWRITE;
                refuse(Errno::EPERM, Rule::LacksFlags { vma: vma.range, flags })
            } else if vma.uffd.is_some_and(|other| other != id) {
                refuse(Errno::EBUSY, Rule::WatchedByOther { vma: vma.range, ctx })
            } else {
                Ok(())
            }
        })
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
        self.set_uffd(range, None, VmFlags::empty())
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

    /// Sets the context of every VMA's part of `range`, and its flags of userfaultfd to `flags`. A part that the
    /// context watches already, with these flags or more, is left alone.
    ///
    /// The kernel asks the merge rule with the page offset of the VMA's *start*, even where the part
    /// begins later. So a part from the middle of a VMA to its end does not join a successor whose
    /// offset fits, and does join one whose offset is wrong by the same distance. That successor
    /// then shows other pages of the file in the part, and a reverse-map walk does not find the
    /// anonymous pages of the part. Kernels with [`UffdOffset`](later::Rule::UffdOffset) pass the
    /// offset of the part.
    fn set_uffd(
        &mut self,
        range: Range,
        ctx: Option<UffdId>,
        flags: VmFlags,
    ) -> Result<u8, Refusal> {
        self.walk(range, Hole::Ignored, |this, at, part| {
            let vma = this.mm.vmas()[at];
            if vma.uffd == ctx && vma.flags.contains(flags) {
                return Ok(at);
            }
            if ctx.is_none() {
                this.unprotect_unwatched(part);
            }
            let mut mended = vma.part(part);
            mended.drop_uffd();
            mended.uffd = ctx;
            mended.flags |= flags;
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
