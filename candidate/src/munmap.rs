//! `do_munmap()` and `exit_mmap()`: remove mappings.

use vmadiff_machine::{Errno, VmFlags};

use crate::addr::Addr;
use crate::handle::{MmKey, VmaKey, edit, read};
use crate::kernel::Kernel;
use crate::locks::{Lock, i_mmap};
use crate::split_vma::New;
use crate::stop::{Caught, Stop};
use crate::userfaultfd_event::Uf;
use crate::vma_list::Walk;

impl Kernel {
    /// `do_munmap()`.
    ///
    /// # Errors
    /// The errors of [`Kernel::do_munmap_with`].
    pub(crate) fn do_munmap(
        &mut self,
        mm: MmKey,
        start: Addr,
        len: u32,
        uf: Uf<'_>,
    ) -> Result<(), Stop> {
        self.do_munmap_with(mm, start, len, uf, false)
    }

    /// `__vm_munmap()`: the body of `munmap()`.
    ///
    /// # Errors
    /// The errors of [`Kernel::do_munmap_with`].
    pub(crate) fn vm_munmap(&mut self, mm: MmKey, start: Addr, len: u32) -> Result<(), Stop> {
        const F: &str = "__vm_munmap";
        let mut uf = std::mem::take(&mut self.lists.unmap);
        let unmapped = self
            .locked(Lock::MmapSem(mm), F, |kernel| {
                kernel.do_munmap_with(mm, start, len, Some(&mut uf), true)
            })
            .errno()?;
        self.userfaultfd_unmap_complete(&mut uf)?;
        self.lists.unmap = uf;
        Ok(unmapped?)
    }

    /// `__do_munmap()`. With `downgrade`, from the moment when the VMAs are off the list, `mmap_sem` is held
    /// for reading only.
    ///
    /// # Errors
    /// `EINVAL` for an empty range. `ENOMEM` where a mapping would be cut into three and the
    /// address space has as many mappings as the limit allows.
    pub(crate) fn do_munmap_with(
        &mut self,
        mm: MmKey,
        start: Addr,
        len: u32,
        uf: Uf<'_>,
        downgrade: bool,
    ) -> Result<(), Stop> {
        const F: &str = "__do_munmap";
        let end = start + len;
        if len == 0 {
            return Err(Errno::EINVAL.into());
        }
        let Some(vma) = self.find_vma(mm, start)? else { return Ok(()) };
        let mut prev = read!(self, F, vma.vm_prev);
        let vma_start = read!(self, F, vma.vm_start);
        if vma_start >= end {
            return Ok(());
        }
        if start > vma_start {
            let makes_hole = end < read!(self, F, vma.vm_end);
            if makes_hole && self.map_count_reached(mm)? {
                return Err(Errno::ENOMEM.into());
            }
            self.split_vma_unlimited(vma, start, New::Above)?;
            prev = Some(vma);
        }
        if let Some(last) = self.find_vma(mm, end)?
            && end > read!(self, F, last.vm_start)
        {
            self.split_vma_unlimited(last, end, New::Below)?;
        }
        let first = match prev {
            Some(prev) => read!(self, F, prev.vm_next),
            None => read!(self, F, mm.mmap),
        };
        let Some(first) = first else { return Ok(()) };
        if let Some(uf) = uf {
            self.userfaultfd_unmap_prep(first, start, end, uf)?;
        }
        if read!(self, F, mm.locked_vm) != 0 {
            self.unlock_before_unmap(mm, first, end)?;
        }
        self.detach_vmas_to_be_unmapped(mm, first, prev, end)?;
        if downgrade {
            self.downgrade(Lock::MmapSem(mm), F);
        }
        self.unmap_region(mm, first, start, end)?;
        self.remove_vma_list(mm, first)
    }

    /// Subtracts the pages of locked mappings from `locked_vm`.
    fn unlock_before_unmap(&mut self, mm: MmKey, first: VmaKey, end: Addr) -> Result<(), Stop> {
        const F: &str = "__do_munmap";
        let mut next = Some(first);
        let mut walk = Walk::new();
        while let Some(vma) = next {
            walk.step()?;
            if read!(self, F, vma.vm_start) >= end {
                break;
            }
            if read!(self, F, vma.vm_flags).contains(VmFlags::VM_LOCKED) {
                let pages = read!(self, F, vma.vm_end) - read!(self, F, vma.vm_start);
                *edit!(self, F, mm.locked_vm) -= i64::from(pages);
                self.munlock_vma_pages_range(vma)?;
            }
            next = read!(self, F, vma.vm_next);
        }
        Ok(())
    }

    /// `detach_vmas_to_be_unmapped()`: moves the VMAs of the range to a list of their own.
    fn detach_vmas_to_be_unmapped(
        &mut self,
        mm: MmKey,
        first: VmaKey,
        prev: Option<VmaKey>,
        end: Addr,
    ) -> Result<(), Stop> {
        const F: &str = "detach_vmas_to_be_unmapped";
        self.assert_mmap_write_locked(mm, F);
        *edit!(self, F, first.vm_prev) = None;
        let mut tail = first;
        let mut next = Some(first);
        let mut walk = Walk::new();
        while let Some(vma) = next {
            walk.step()?;
            if vma != first && read!(self, F, vma.vm_start) >= end {
                break;
            }
            *edit!(self, F, mm.map_count) -= 1;
            tail = vma;
            next = read!(self, F, vma.vm_next);
        }
        match prev {
            Some(prev) => *edit!(self, F, prev.vm_next) = next,
            None => *edit!(self, F, mm.mmap) = next,
        }
        if let Some(next) = next {
            *edit!(self, F, next.vm_prev) = prev;
        }
        *edit!(self, F, tail.vm_next) = None;
        Ok(())
    }

    /// `unmap_region()`: drops the pages (`unmap_vmas`), then the entries of the reverse map
    /// (`free_pgtables`).
    fn unmap_region(
        &mut self,
        mm: MmKey,
        first: VmaKey,
        start: Addr,
        end: Addr,
    ) -> Result<(), Stop> {
        const F: &str = "free_pgtables";
        self.unmap_page_range(mm, start, end)?;
        let mut next = Some(first);
        let mut walk = Walk::new();
        while let Some(vma) = next {
            walk.step()?;
            self.unlink_anon_vmas(vma)?;
            self.unlink_file_vma(vma)?;
            next = read!(self, F, vma.vm_next);
        }
        if read!(self, F, mm.mmap).is_none() {
            // Nothing else lies under the page-table page.
            edit!(self, F, mm.page_table).allocated = false;
        }
        Ok(())
    }

    /// `unlink_file_vma()`: takes a VMA out of the interval tree of its file.
    fn unlink_file_vma(&mut self, vma: VmaKey) -> Result<(), Stop> {
        const F: &str = "unlink_file_vma";
        if let Some(mapping) = i_mmap!(self, F, read!(self, F, vma.vm_file)) {
            self.lock(mapping, F);
            self.unlock(mapping, F);
        }
        Ok(())
    }

    /// `remove_vma_list()`.
    fn remove_vma_list(&mut self, mm: MmKey, first: VmaKey) -> Result<(), Stop> {
        const F: &str = "remove_vma_list";
        let mut next = Some(first);
        let mut walk = Walk::new();
        while let Some(vma) = next {
            walk.step()?;
            let pages = read!(self, F, vma.vm_end) - read!(self, F, vma.vm_start);
            let flags = read!(self, F, vma.vm_flags);
            if flags.contains(VmFlags::VM_ACCOUNT) {
                self.vm_unacct_memory(pages);
            }
            self.vm_stat_account(mm, flags, -i64::from(pages))?;
            next = read!(self, F, vma.vm_next);
            self.remove_vma(vma)?;
        }
        Ok(())
    }

    /// `remove_vma()`: frees a VMA, with its references.
    fn remove_vma(&mut self, vma: VmaKey) -> Result<(), Stop> {
        const F: &str = "remove_vma";
        self.vm_ops_close(vma)?;
        if let Some(file) = read!(self, F, vma.vm_file) {
            self.fput(file)?;
        }
        self.mpol_put(read!(self, F, vma.vm_policy))?;
        self.vm_area_free(vma);
        Ok(())
    }

    /// `exit_mmap()`: removes all mappings.
    pub(crate) fn exit_mmap(&mut self, mm: MmKey) -> Result<(), Stop> {
        const F: &str = "exit_mmap";
        if let Some(first) = read!(self, F, mm.mmap) {
            self.unmap_region(mm, first, Addr(0), Addr::END)?;
            self.remove_vma_list(mm, first)?;
        }
        Ok(())
    }
}
