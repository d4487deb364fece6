//! `fork()` (`kernel/fork.c`).

use vmadiff_machine::operand::Process;
use vmadiff_machine::{Errno, VmFlags};

use crate::handle::{MmKey, edit, read};
use crate::kernel::Kernel;
use crate::locks::Lock;
use crate::page_table::PteLocks;
use crate::stop::Stop;
use crate::vma_list::Walk;

impl Kernel {
    /// `fork()`: makes the child, which takes the lowest free index.
    ///
    /// # Errors
    /// `EAGAIN` where no index is free.
    pub(crate) fn fork(&mut self, oldmm: MmKey) -> Result<Process, Stop> {
        let free =
            self.processes.iter().take(self.limits.max_processes()).position(Option::is_none);
        let index = free.ok_or(Errno::EAGAIN)?;
        let mm = self.mm_alloc();
        self.processes[index] = Some(mm);
        const F: &str = "dup_mmap";
        self.lock(Lock::MmapSem(oldmm), F);
        self.lock(Lock::MmapSem(mm), F);
        let result = self.dup_mmap(mm, oldmm);
        self.unlock(Lock::MmapSem(mm), F);
        self.unlock(Lock::MmapSem(oldmm), F);
        result.map(|()| Process(index as u8))
    }

    /// `dup_mmap()`, with `mmap_sem` of both address spaces held for writing.
    fn dup_mmap(&mut self, mm: MmKey, oldmm: MmKey) -> Result<(), Stop> {
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
            if vm_flags.contains(VmFlags::VM_ACCOUNT) {
                self.vm_acct_memory(pages);
            }
            let tmp = self.vm_area_dup(mpnt)?;
            *edit!(self, F, tmp.vm_mm) = mm;
            self.dup_userfaultfd(tmp)?;
            let wiped = vm_flags.contains(VmFlags::VM_WIPEONFORK);
            if wiped {
                *edit!(self, F, tmp.anon_vma) = None;
                // The duplicate still has the neighbours of the parent, and maybe its anon_vma.
                self.anon_vma_prepare(tmp)?;
            } else {
                self.anon_vma_fork(tmp, mpnt)?;
            }
            *edit!(self, F, tmp.vm_flags) -= VmFlags::LOCK;
            if let Some(mapping) = read!(self, F, tmp.vm_file).map(Lock::i_mmap) {
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
            if !wiped {
                self.copy_page_range((mm, start), (oldmm, start), mpnt, pages, PteLocks::Nested)?;
            }
            self.vm_ops_open(tmp)?;
        }
        Ok(())
    }
}
