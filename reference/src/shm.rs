//! SysV shared memory (`ipc/shm.c`): `shmat`, `shmdt`, and `shmctl` with `IPC_RMID`.
//!
//! The kernel counts the VMAs of a segment one by one (`shm_nattch`). Between two operations the count
//! equals the VMAs that map the segment, so the reference counts them.

use vmadiff_machine::operand::{Len, Mode, Page, PageOffset, SHM_PAGES, ShmFlags};
use vmadiff_machine::{Allocation, Errno, State, VmFlags};

use crate::chain::Chain;
use crate::function::Function;
use crate::mm::{Mms, Syscall};
use crate::range::Range;
use crate::refusal::{Progress, Refusal, Rule};
use crate::shmem::SEGMENT;
use crate::vma::Vma;

/// The segment of a program.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Segment {
    /// `IPC_RMID` was called (`SHM_DEST`).
    removed: bool,
    /// The segment was removed, and then no VMA mapped it.
    destroyed: bool,
    /// The calls of `shmat()` that have mapped the segment.
    attachments: u8,
}

impl Segment {
    /// Returns whether the segment was removed, and its last VMA is gone.
    pub(crate) fn is_destroyed(&self) -> bool {
        self.destroyed
    }

    /// Returns the VMAs that map the segment (`shm_nattch`); `None` for a segment that is destroyed. A
    /// segment that was removed is destroyed here if the operation took its last VMA. While an
    /// operation runs, it moves or replaces a VMA only after it has made the new one.
    pub(crate) fn count(&mut self, mms: &Mms) -> Option<i64> {
        let attached = mms.iter().map(|mm| mm.attached).sum();
        self.destroyed |= self.removed && attached == 0;
        (!self.destroyed).then_some(attached)
    }

    /// Adds the segment to `state`. The number of calls only tells attachments apart.
    pub(crate) fn write_state(&self, state: &mut State) {
        let Segment { removed, destroyed, attachments: _ } = *self;
        state.word(u64::from(removed) | u64::from(destroyed) << 1);
    }
}

impl Syscall<'_> {
    fn live_segment(&self, function: Function) -> Result<(), Refusal> {
        if self.segment.destroyed {
            return self.refuse(Errno::EINVAL, function, Rule::SegmentDestroyed);
        }
        Ok(())
    }

    /// Maps the segment at `page`. A removed segment can be attached as long as it is not destroyed.
    /// Each call opens the segment anew, so the VMAs of two calls are of different files. After
    /// `mlockall` with `MCL_FUTURE` the VMA is locked and populated.
    ///
    /// # Errors
    /// In the order of the checks: `EINVAL` for a destroyed segment, and over a mapping without
    /// `SHM_REMAP`; `ENOMEM` where there are more VMAs than the limit; `EAGAIN` past the limit on
    /// locked pages; `ENOMEM` past the limit on pages, without the replaced pages, or where cutting a VMA
    /// in three passes the limit on VMAs; `ENOMEM` without memory, after the replaced mappings are
    /// unmapped.
    pub(crate) fn shmat(&mut self, page: Page, how: ShmFlags) -> Result<u8, Refusal> {
        self.live_segment(Function::DoShmat)?;
        let range = Range::new(page, Len(SHM_PAGES));
        if !how.contains(ShmFlags::REMAP)
            && let Some(there) = self.mm.all_in(range).first()
        {
            return self.refuse(Errno::EINVAL, Function::DoShmat, Rule::Occupied(there.range));
        }
        self.may_map(0, Function::DoMmap)?;
        let lock = self.mm.lock_future;
        self.may_map_locked(lock, Len(SHM_PAGES))?;
        let replaced = self.replace(range);
        // `do_shmat()` and `ksys_shmdt()` pass no list of contexts: no monitor gets a message.
        self.messages.clear();
        replaced?;
        self.get_memory(Function::DoMmap, |what| what == Allocation::Vma)
            .map_err(|refusal| refusal.after(Progress::Unmapped))?;

        let mut flags = VmFlags::VM_READ
            | VmFlags::VM_MAYREAD
            | VmFlags::VM_MAYEXEC
            | VmFlags::VM_MAYSHARE
            | VmFlags::VM_SOFTDIRTY
            | lock;
        let writes = VmFlags::VM_WRITE | VmFlags::VM_MAYWRITE | VmFlags::VM_SHARED;
        flags.set(writes, !how.contains(ShmFlags::RDONLY));
        flags.set(VmFlags::VM_EXEC, how.contains(ShmFlags::EXEC));
        self.segment.attachments = self.segment.attachments.wrapping_add(1);
        // The VMA cannot merge: no other VMA is of the same open file.
        let vma = Vma {
            range,
            pgoff: PageOffset(0),
            flags,
            anon_vma: None,
            chain: Chain::EMPTY,
            file: Some(SEGMENT),
            attachment: self.segment.attachments,
            uffd: None,
            policy: Mode::Default,
        };
        self.references.get(&vma);
        self.mm.insert(vma);
        if !lock.is_empty() {
            self.populate_quietly(range).map_err(|r| r.after(Progress::NotPopulated))?;
        }
        Ok(page.0)
    }

    /// Unmaps the VMAs of one attachment that lie where an attachment at `page` would have them. The
    /// lowest such VMA says which attachment, and can lie anywhere above `page`. The others end within
    /// the length of the segment.
    ///
    /// # Errors
    /// `EINVAL` where there is no such VMA.
    pub(crate) fn shmdt(&mut self, page: Page) -> Result<u8, Refusal> {
        let fits = |vma: &&Vma| {
            vma.is_attached()
                && vma.range.start >= page
                && vma.pgoff == PageOffset(u64::from(vma.range.start.0 - page.0))
        };
        let Some(&lowest) = self.mm.vmas().iter().find(fits) else {
            return self.refuse(Errno::EINVAL, Function::KsysShmdt, Rule::NotAttached(page));
        };
        let end = page.plus(Len(SHM_PAGES));
        let is_part =
            |vma: &&Vma| fits(vma) && vma.attachment == lowest.attachment && vma.range.end <= end;
        // Whole VMAs are unmapped, which only a seal forbids. The kernel ignores it.
        let _ = self.munmap(lowest.range);
        let mut from = page;
        let next = |vma: &&Vma, from| vma.range.start >= from && is_part(vma);
        while let Some(part) = self.mm.vmas().iter().find(|vma| next(vma, from)).map(|v| v.range) {
            let _ = self.munmap(part);
            from = part.end;
        }
        self.messages.clear();
        Ok(0)
    }

    /// Removes the segment: it is destroyed once no VMA maps it.
    ///
    /// # Errors
    /// `EINVAL` for a destroyed segment.
    pub(crate) fn shm_rmid(&mut self) -> Result<u8, Refusal> {
        self.live_segment(Function::ShmctlDown)?;
        self.segment.removed = true;
        Ok(0)
    }
}
