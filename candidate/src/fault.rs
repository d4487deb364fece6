//! Page faults (`mm/memory.c`), and the memory access that causes a fault.

use vmadiff_machine::{Errno, VmFlags, written};

use crate::addr::{Addr, Pgoff};
use crate::handle::{MmKey, VmaKey, read};
use crate::kernel::Kernel;
use crate::locks::{Lock, Mode};
use crate::objects::VmOps;
use crate::page_table::Pte;
use crate::shmem::Lookup;
use crate::stop::{Caught, Stop};

/// The result of a page fault (`vm_fault_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VmFault {
    /// The page is there.
    Done,
    /// `VM_FAULT_SIGBUS`.
    Sigbus,
    /// `VM_FAULT_OOM`.
    Oom,
    /// The page is missing, and userfaultfd is told (`handle_userfault`).
    ///
    /// The candidate leaves out the `BUG_ON(ctx->mm != mm)` of that function. Only a direct call of
    /// `copy_vma()` that keeps the context brings a context into another address space, and the
    /// contract allows that call.
    Userfault,
}

impl Kernel {
    /// Reads or writes the value of a page, as the process itself would, and returns the value that a
    /// read has found.
    ///
    /// # Errors
    /// `EAGAIN` where userfaultfd watches the VMA: the access is not made. `EFAULT` where nothing
    /// is mapped or the access is not permitted. `SIGBUS` past the end of the object. `ENOMEM` where
    /// there is no memory.
    pub(crate) fn touch(&mut self, mm: MmKey, addr: Addr, write: bool) -> Result<Option<u8>, Stop> {
        const F: &str = "do_user_addr_fault";
        self.locked_for(Mode::Read, Lock::MmapSem(mm), F, |kernel| {
            kernel.do_user_addr_fault(mm, addr, write)
        })
    }

    /// `do_user_addr_fault()`, with `mmap_sem` held for reading.
    fn do_user_addr_fault(
        &mut self,
        mm: MmKey,
        addr: Addr,
        write: bool,
    ) -> Result<Option<u8>, Stop> {
        const F: &str = "do_user_addr_fault";
        let Some(vma) = self.find_vma_at(mm, addr)? else { return Err(Errno::EFAULT.into()) };
        if read!(self, F, vma.vm_userfaultfd_ctx).is_some() {
            return Err(Errno::EAGAIN.into());
        }
        if access_error(read!(self, F, vma.vm_flags), write) {
            return Err(Errno::EFAULT.into());
        }
        match self.handle_mm_fault(vma, addr, write)? {
            VmFault::Done if write => self.store(vma, addr).map(|()| None),
            VmFault::Done => self.load(vma, addr).map(Some),
            VmFault::Sigbus => Err(Errno::SIGBUS.into()),
            VmFault::Oom => Err(Errno::ENOMEM.into()),
            VmFault::Userfault => Err(Errno::EAGAIN.into()),
        }
    }

    /// The instruction that reads, after the fault: returns the value of the page that the pte maps.
    /// A pte that maps the page of a file is left out, and the VMA names that page.
    fn load(&self, vma: VmaKey, addr: Addr) -> Result<u8, Stop> {
        const F: &str = "handle_pte_fault";
        let mm = read!(self, F, vma.vm_mm);
        Ok(match self.pte(mm, addr)? {
            Pte::Anon(page, _) => self.pages.get(page).map_or(0, |page| page.data),
            Pte::Zero => 0,
            Pte::NoneOrFile => {
                let (inode, index) = self.page_of_file(vma, addr)?;
                inode.map_or(0, |inode| self.inodes.read(inode, index))
            }
        })
    }

    /// Returns the inode that a VMA maps, if it maps one, and the page of it at `addr`.
    fn page_of_file(&self, vma: VmaKey, addr: Addr) -> Result<(Option<u8>, Pgoff), Stop> {
        const F: &str = "handle_pte_fault";
        let index = read!(self, F, vma.vm_pgoff).at(addr, read!(self, F, vma.vm_start));
        let file = read!(self, F, vma.vm_file).and_then(|file| self.files.get(file));
        Ok((file.map(|file| file.f_inode), index))
    }

    /// The instruction that writes, after the fault.
    fn store(&mut self, vma: VmaKey, addr: Addr) -> Result<(), Stop> {
        const F: &str = "handle_pte_fault";
        let value = written(self.writes);
        self.writes = self.writes.wrapping_add(1);
        let mm = read!(self, F, vma.vm_mm);
        match self.pte(mm, addr)? {
            Pte::Anon(page, _) => {
                if let Some(page) = self.pages.get_mut(page) {
                    page.data = value;
                }
            }
            // The fault has replaced the zero page.
            Pte::Zero => {}
            Pte::NoneOrFile => {
                if let (Some(inode), index) = self.page_of_file(vma, addr)? {
                    self.inodes.write(inode, index, value);
                }
            }
        }
        Ok(())
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
            (Pte::Zero | Pte::Anon(..), _) if !write => Ok(VmFault::Done),
            (Pte::Anon(_, true), _) => Ok(VmFault::Done),
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
        if self.pte_alloc(mm).errno()?.is_err() {
            return Ok(VmFault::Oom);
        }
        // The kernel prepares the anon_vma before it asks userfaultfd.
        if write && self.anon_vma_prepare(vma).errno()?.is_err() {
            return Ok(VmFault::Oom);
        }
        if read!(self, F, vma.vm_flags).contains(VmFlags::VM_UFFD_MISSING) {
            return Ok(VmFault::Userfault);
        }
        self.pte_locked(mm, F, |kernel| match write {
            true => kernel.page_add_new_anon_rmap(mm, vma, addr, 0),
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
        // The kernel prepares the anon_vma before it asks the file.
        if cow && self.anon_vma_prepare(vma).errno()?.is_err() {
            return Ok(VmFault::Oom);
        }
        // `__do_fault()` makes the page-table page first (`vmf->prealloc_pte`). Where the file then has
        // no page for the fault, that page is not used.
        let unused = !read!(self, F, mm.page_table).allocated;
        if self.pte_alloc(mm).errno()?.is_err() {
            return Ok(VmFault::Oom);
        }
        let fault = self.shmem_fault(vma, addr)?;
        if fault == VmFault::Done && cow {
            // `do_cow_fault()` copies the page of the file.
            let data = self.load(vma, addr)?;
            self.pte_locked(mm, F, |kernel| kernel.page_add_new_anon_rmap(mm, vma, addr, data))?;
        }
        if fault != VmFault::Done && unused {
            self.pte_free(mm);
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
        if let Pte::Anon(page, _) = pte
            && self.page_mapcount(page) == 1
        {
            // `reuse_swap_page()`.
            self.pte_locked(mm, F, |kernel| {
                kernel.page_move_anon_rmap(page, vma)?;
                kernel.wp_page_reuse(mm, vma, addr, page)
            })?;
            return Ok(VmFault::Done);
        }
        // `wp_page_copy()`, which takes the page-table lock anew.
        if self.anon_vma_prepare(vma).errno()?.is_err() {
            return Ok(VmFault::Oom);
        }
        // `cow_user_page()`.
        let data = self.load(vma, addr)?;
        self.pte_locked(mm, F, |kernel| {
            kernel.page_add_new_anon_rmap(mm, vma, addr, data)?;
            if let Pte::Anon(page, _) = pte {
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
