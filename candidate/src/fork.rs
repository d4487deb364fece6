//! `fork()` (`kernel/fork.c`).

use vmadiff_machine::operand::Process;
use vmadiff_machine::{Allocation, Errno, VmFlags};

use crate::handle::{MmKey, VmaKey, edit, read, stale};
use crate::kernel::Kernel;
use crate::locks::Lock;
use crate::page_table::PteLocks;
use crate::stop::{Caught, Stop};
use crate::userfaultfd_event::ForkCtx;
use crate::vma_list::Walk;

/// Adds to a counter of an address space, and returns the sum. No observation shows the counter, so the
/// operation does not count as one that changes the address space.
macro_rules! count {
    ($kernel:expr, $function:expr, $mm:ident . $field:ident, $add:expr) => {{
        let counted = $kernel.mms.get_mut($mm).ok_or_else(|| stale!($function, $mm.$field))?;
        counted.$field += $add;
        counted.$field
    }};
}

impl Kernel {
    /// `fork()`: makes the child, which takes the lowest free index.
    ///
    /// # Errors
    /// `EAGAIN` where no index is free. `ENOMEM` where there is no memory: the part of the child that
    /// was made is removed, and the pages of the parent that it had stay write-protected.
    pub(crate) fn fork(&mut self, oldmm: MmKey) -> Result<Process, Stop> {
        let free =
            self.processes.iter().take(self.limits.max_processes()).position(Option::is_none);
        let index = free.ok_or(Errno::EAGAIN)?;
        self.allocate(Allocation::Mm)?;
        let mm = self.mm_alloc();
        const F: &str = "dup_mmap";
        let mut fcs = std::mem::take(&mut self.lists.fork);
        let made = self
            .locked(Lock::MmapSem(oldmm), F, |kernel| {
                kernel.locked(Lock::MmapSem(mm), F, |kernel| kernel.dup_mmap(mm, oldmm, &mut fcs))
            })
            .errno()?;
        let child = Process(index as u8);
        self.dup_userfaultfd_complete(&mut fcs, made.is_ok().then_some(child))?;
        self.lists.fork = fcs;
        if let Err(errno) = made {
            // `dup_mm()`: `free_pt`.
            self.mmput(mm)?;
            return Err(errno.into());
        }
        self.processes[index] = Some(mm);
        // `copy_signal()`.
        self.rlim[index] = self.rlim[self.current];
        Ok(child)
    }

    /// `exit()`: drops the address space (`exit_mm()`), then the descriptors (`exit_files()`).
    pub(crate) fn exit(&mut self, process: Process) -> Result<(), Stop> {
        let mm = self.mm(process)?;
        let at = usize::from(process.0);
        self.processes[at] = None;
        self.mmput(mm)?;
        for ctx in std::mem::take(&mut self.userfaultfd[at]).into_iter().flatten() {
            self.userfaultfd_close(ctx)?;
        }
        Ok(())
    }

    /// `mmget()`: adds a user of an address space.
    pub(crate) fn mmget(&mut self, mm: MmKey) -> Result<(), Stop> {
        const F: &str = "mmget";
        count!(self, F, mm.mm_users, 1);
        Ok(())
    }

    /// `mmget_not_zero()`: adds a user of an address space that has one. Returns whether it has.
    pub(crate) fn mmget_not_zero(&mut self, mm: MmKey) -> Result<bool, Stop> {
        const F: &str = "mmget_not_zero";
        let used = count!(self, F, mm.mm_users, 0) > 0;
        count!(self, F, mm.mm_users, i64::from(used));
        Ok(used)
    }

    /// `mmput()`. The last user unmaps everything.
    pub(crate) fn mmput(&mut self, mm: MmKey) -> Result<(), Stop> {
        const F: &str = "mmput";
        if count!(self, F, mm.mm_users, -1) == 0 {
            self.dirty = true;
            self.exit_mmap(mm)?;
            self.mmdrop(mm)?;
        }
        Ok(())
    }

    /// `mmgrab()`: adds a reference to the structure, which does not keep the mappings.
    pub(crate) fn mmgrab(&mut self, mm: MmKey) -> Result<(), Stop> {
        const F: &str = "mmgrab";
        count!(self, F, mm.mm_count, 1);
        Ok(())
    }

    /// `mmdrop()`. The last reference frees the structure.
    pub(crate) fn mmdrop(&mut self, mm: MmKey) -> Result<(), Stop> {
        const F: &str = "mmdrop";
        if count!(self, F, mm.mm_count, -1) == 0 {
            self.free_mm(mm);
        }
        Ok(())
    }

    /// `dup_mmap()`, with `mmap_sem` of both address spaces held for writing.
    fn dup_mmap(&mut self, mm: MmKey, oldmm: MmKey, fcs: &mut Vec<ForkCtx>) -> Result<(), Stop> {
        const F: &str = "dup_mmap";
        *edit!(self, F, mm.total_vm) = read!(self, F, oldmm.total_vm);
        *edit!(self, F, mm.data_vm) = read!(self, F, oldmm.data_vm);
        let mut prev = None;
        let mut next = read!(self, F, oldmm.mmap);
        let mut walk = Walk::new();
        while let Some(mpnt) = next {
            walk.step()?;
            next = read!(self, F, mpnt.vm_next);
            let vm_flags = read!(self, F, mpnt.vm_flags);
            let (start, end) = (read!(self, F, mpnt.vm_start), read!(self, F, mpnt.vm_end));
            let pages = end - start;
            if vm_flags.contains(VmFlags::VM_DONTCOPY) {
                self.vm_stat_account(mm, vm_flags, -i64::from(pages))?;
                continue;
            }
            let mut charge = 0;
            if vm_flags.contains(VmFlags::VM_ACCOUNT) {
                self.vm_enough_memory(pages)?;
                charge = pages;
            }
            let tmp = match self.dup_vma(mm, mpnt, fcs).errno()? {
                Ok(tmp) => tmp,
                Err(errno) => {
                    // `fail_nomem`.
                    self.vm_unacct_memory(charge);
                    return Err(errno.into());
                }
            };
            *edit!(self, F, tmp.vm_flags) -= VmFlags::LOCK;
            if let Some(file) = read!(self, F, tmp.vm_file) {
                self.get_file(file)?;
                let mapping = Lock::IMmap(read!(self, F, file.f_inode));
                self.lock(mapping, F);
                self.unlock(mapping, F);
            }
            *edit!(self, F, tmp.vm_next) = None;
            *edit!(self, F, tmp.vm_prev) = prev;
            match prev {
                Some(prev) => *edit!(self, F, prev.vm_next) = Some(tmp),
                None => *edit!(self, F, mm.mmap) = Some(tmp),
            }
            prev = Some(tmp);
            *edit!(self, F, mm.map_count) += 1;
            let mut copied = Ok(());
            if !vm_flags.contains(VmFlags::VM_WIPEONFORK) {
                let (dst, src) = ((mm, start), (oldmm, start));
                copied = self.copy_page_range(dst, src, mpnt, pages, PteLocks::Nested).errno()?;
            }
            self.vm_ops_open(tmp)?;
            copied?;
        }
        Ok(())
    }

    /// The part of `dup_mmap()` that makes the child's VMA, before it is linked.
    ///
    /// # Errors
    /// `ENOMEM` where there is no memory. The VMA is freed then (`fail_nomem_anon_vma_fork`,
    /// `fail_nomem_policy`).
    fn dup_vma(&mut self, mm: MmKey, mpnt: VmaKey, fcs: &mut Vec<ForkCtx>) -> Result<VmaKey, Stop> {
        const F: &str = "dup_mmap";
        let tmp = self.vm_area_dup(mpnt)?;
        if let Err(errno) = self.vma_dup_policy(mpnt, tmp).errno()? {
            self.vm_area_free(tmp);
            return Err(errno.into());
        }
        *edit!(self, F, tmp.vm_mm) = mm;
        let watched = self.dup_userfaultfd(tmp, fcs).errno()?;
        let hung = if watched.is_err() {
            watched.map_err(Stop::from)
        } else if read!(self, F, tmp.vm_flags).contains(VmFlags::VM_WIPEONFORK) {
            *edit!(self, F, tmp.anon_vma) = None;
            // The duplicate still has the neighbours of the parent, and maybe its anon_vma.
            self.anon_vma_prepare(tmp)
        } else {
            self.anon_vma_fork(tmp, mpnt)
        };
        if let Err(errno) = hung.errno()? {
            self.mpol_put(read!(self, F, tmp.vm_policy))?;
            self.vm_area_free(tmp);
            return Err(errno.into());
        }
        Ok(tmp)
    }
}
