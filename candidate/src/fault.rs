//! Page faults (`mm/memory.c`), and the memory access that causes a fault.

use vmadiff_machine::{Errno, VmFlags};

use crate::addr::Addr;
use crate::handle::{MmKey, VmaKey, read};
use crate::kernel::Kernel;
use crate::locks::{Lock, Mode};
use crate::objects::VmOps;
use crate::page_table::Pte;
use crate::shmem::Lookup;
use crate::stop::Stop;

/// The result of a page fault (`vm_fault_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VmFault {
    /// The page is there.
    Done,
    /// `VM_FAULT_SIGBUS`.
    Sigbus,
    /// The page is missing, and userfaultfd is told (`handle_userfault`).
    ///
    /// The candidate leaves out the `BUG_ON(ctx->mm != mm)` of that function. Only a direct call of
    /// `copy_vma()` that keeps the context brings a context into another address space, and the
    /// contract allows that call.
    Userfault,
}

impl Kernel {
    /// Reads or writes one byte, as the process itself would.
    ///
    /// # Errors
    /// `EAGAIN` where userfaultfd watches the VMA: the access is not made. `EFAULT` where nothing
    /// is mapped or the access is not permitted. `SIGBUS` past the end of the object.
    pub(crate) fn touch(&mut self, mm: MmKey, addr: Addr, write: bool) -> Result<(), Stop> {
        const F: &str = "do_user_addr_fault";
        self.locked_for(Mode::Read, Lock::MmapSem(mm), F, |kernel| {
            kernel.do_user_addr_fault(mm, addr, write)
        })
    }

    /// `do_user_addr_fault()`, with `mmap_sem` held for reading.
    fn do_user_addr_fault(&mut self, mm: MmKey, addr: Addr, write: bool) -> Result<(), Stop> {
        const F: &str = "do_user_addr_fault";
        let Some(vma) = self.find_vma_at(mm, addr)? else { return Err(Errno::EFAULT.into()) };
        if read!(self, F, vma.vm_userfaultfd_ctx).is_some() {
            return Err(Errno::EAGAIN.into());
        }
        if access_error(read!(self, F, vma.vm_flags), write) {
            return Err(Errno::EFAULT.into());
        }
        match self.handle_mm_fault(vma, addr, write)? {
            VmFault::Done => Ok(()),
            VmFault::Sigbus => Err(Errno::SIGBUS.into()),
            VmFault::Userfault => Err(Errno::EAGAIN.into()),
        }
    }

    /// `handle_mm_fault()`: does nothing for a pte that permits the access.
    pub(crate) fn handle_mm_fault(
        &mut self,
        vma: VmaKey,
        addr: Addr,
        write: bool,
    ) -> Result<VmFault, Stop> {
        const F: &str = "handle_mm_fault";
        let mm = read!(self, F, vma.vm_mm);
        let ops = read!(self, F, vma.vm_ops);
        match (self.pte(mm, addr)?, ops) {
            (Pte::NoneOrFile, VmOps::Anonymous) => self.do_anonymous_page(mm, vma, addr, write),
            (Pte::NoneOrFile, VmOps::Shmem | VmOps::Shm) => self.do_fault(mm, vma, addr, write),
            // The device maps all its pages at once.
            (Pte::NoneOrFile, VmOps::Device) => Ok(VmFault::Done),
            (Pte::Zero | Pte::Anon(_), _) if !write => Ok(VmFault::Done),
            (pte, _) => self.do_wp_page(mm, vma, addr, pte),
        }
    }

    /// `do_anonymous_page()`: the first access to anonymous memory.
    fn do_anonymous_page(
        &mut self,
        mm: MmKey,
        vma: VmaKey,
        addr: Addr,
        write: bool,
    ) -> Result<VmFault, Stop> {
        const F: &str = "do_anonymous_page";
        self.pte_alloc(mm);
        if write {
            // The kernel prepares the anon_vma before it asks userfaultfd.
            self.anon_vma_prepare(vma)?;
        }
        if read!(self, F, vma.vm_flags).contains(VmFlags::VM_UFFD_MISSING) {
            return Ok(VmFault::Userfault);
        }
        self.pte_locked(mm, F, |kernel| match write {
            true => kernel.page_add_new_anon_rmap(mm, vma, addr),
            false => kernel.set_zero_pte(mm, addr),
        })?;
        Ok(VmFault::Done)
    }

    /// `do_fault()`: stands for `do_read_fault`, `do_cow_fault` and `do_shared_fault`.
    fn do_fault(
        &mut self,
        mm: MmKey,
        vma: VmaKey,
        addr: Addr,
        write: bool,
    ) -> Result<VmFault, Stop> {
        const F: &str = "do_fault";
        let cow = write && !read!(self, F, vma.vm_flags).contains(VmFlags::VM_SHARED);
        if cow {
            // The kernel prepares the anon_vma before it asks the file.
            self.anon_vma_prepare(vma)?;
        }
        let fault = self.shmem_fault(vma, addr)?;
        if fault == VmFault::Done {
            self.pte_alloc(mm);
            if cow {
                self.pte_locked(mm, F, |kernel| kernel.page_add_new_anon_rmap(mm, vma, addr))?;
            }
        }
        Ok(fault)
    }

    /// `shmem_fault()`: brings a page of the object into the page cache.
    fn shmem_fault(&mut self, vma: VmaKey, addr: Addr) -> Result<VmFault, Stop> {
        const F: &str = "shmem_fault";
        let index = read!(self, F, vma.vm_pgoff).at(addr, read!(self, F, vma.vm_start));
        let Some(file) = read!(self, F, vma.vm_file) else { return Ok(VmFault::Sigbus) };
        let inode = read!(self, F, file.f_inode);
        match self.inodes.lookup(inode, index) {
            Lookup::Beyond => return Ok(VmFault::Sigbus),
            Lookup::Cached => {}
            Lookup::Missing => {
                if read!(self, F, vma.vm_flags).contains(VmFlags::VM_UFFD_MISSING) {
                    return Ok(VmFault::Userfault);
                }
                self.inodes.fill(inode, index);
            }
        }
        Ok(VmFault::Done)
    }

    /// `do_wp_page()`: handles a write to the zero page, or to an anonymous page that may be
    /// shared.
    fn do_wp_page(
        &mut self,
        mm: MmKey,
        vma: VmaKey,
        addr: Addr,
        pte: Pte,
    ) -> Result<VmFault, Stop> {
        const F: &str = "do_wp_page";
        if let Pte::Anon(page) = pte
            && self.page_mapcount(page) == 1
        {
            // `reuse_swap_page()`. This changes nothing for a pte that was writable already: its
            // page is the VMA's own.
            self.pte_locked(mm, F, |kernel| kernel.page_move_anon_rmap(page, vma))?;
            return Ok(VmFault::Done);
        }
        // `wp_page_copy()`, which takes the page-table lock anew.
        self.anon_vma_prepare(vma)?;
        self.pte_locked(mm, F, |kernel| {
            kernel.page_add_new_anon_rmap(mm, vma, addr)?;
            if let Pte::Anon(page) = pte {
                kernel.page_remove_rmap(page);
            }
            Ok(())
        })?;
        Ok(VmFault::Done)
    }
}

/// `access_error()` of x86, without protection keys: a mapping with any permission can be read.
fn access_error(flags: VmFlags, write: bool) -> bool {
    if write { !flags.contains(VmFlags::VM_WRITE) } else { !flags.intersects(VmFlags::ACCESS) }
}
