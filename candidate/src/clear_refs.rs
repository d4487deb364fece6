//! A write to `/proc/PID/clear_refs` (`fs/proc/task_mmu.c`).

use vmadiff_machine::VmFlags;

use crate::handle::{MmKey, edit, read};
use crate::kernel::Kernel;
use crate::locks::{Lock, Mode};
use crate::stop::Stop;
use crate::vma_list::Walk;

impl Kernel {
    /// `clear_refs_write()` with `CLEAR_REFS_SOFT_DIRTY`. The flags are changed with `mmap_sem` held for
    /// writing, and the ptes after it was downgraded. If no VMA is soft-dirty it is held for reading from
    /// the start.
    pub(crate) fn clear_refs(&mut self, mm: MmKey) -> Result<(), Stop> {
        const F: &str = "clear_refs_write";
        let sem = Lock::MmapSem(mm);
        let dirty = self.locked_for(Mode::Read, sem, F, |kernel| {
            let mut next = read!(kernel, F, mm.mmap);
            let mut walk = Walk::new();
            while let Some(vma) = next {
                walk.step()?;
                if read!(kernel, F, vma.vm_flags).contains(VmFlags::VM_SOFTDIRTY) {
                    return Ok(true);
                }
                next = read!(kernel, F, vma.vm_next);
            }
            kernel.clear_refs_walk(mm)?;
            Ok(false)
        })?;
        if !dirty {
            return Ok(());
        }
        self.locked(sem, F, |kernel| {
            let mut next = read!(kernel, F, mm.mmap);
            let mut walk = Walk::new();
            while let Some(vma) = next {
                walk.step()?;
                *edit!(kernel, F, vma.vm_flags) -= VmFlags::VM_SOFTDIRTY;
                next = read!(kernel, F, vma.vm_next);
            }
            kernel.downgrade(sem, F);
            kernel.clear_refs_walk(mm)
        })
    }

    /// `walk_page_range()` with `clear_refs_pte_range()`: write-protects every pte (`clear_soft_dirty()`).
    fn clear_refs_walk(&mut self, mm: MmKey) -> Result<(), Stop> {
        const F: &str = "clear_refs_pte_range";
        let mut next = read!(self, F, mm.mmap);
        let mut walk = Walk::new();
        while let Some(vma) = next {
            walk.step()?;
            if !read!(self, F, vma.vm_flags).contains(VmFlags::VM_PFNMAP) {
                let (start, end) = (read!(self, F, vma.vm_start), read!(self, F, vma.vm_end));
                self.clear_soft_dirty(mm, start, end)?;
            }
            next = read!(self, F, vma.vm_next);
        }
        Ok(())
    }
}
