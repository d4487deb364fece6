//! Page tables: the ptes of private memory are set, shared, moved and dropped here.

use vmadiff_machine::{Allocation, VmFlags};

use crate::addr::{Addr, PageBits, each, pages};
use crate::handle::{MmKey, PageKey, VmaKey, bug_on, edit, read};
use crate::kernel::Kernel;
use crate::locks::Lock;
use crate::objects::AnonPage;
use crate::stop::Stop;

/// The target of a pte, as far as an observation can depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pte {
    /// Nothing, or a page of a file.
    NoneOrFile,
    /// The zero page.
    Zero,
    /// An anonymous page, and whether the pte has its write bit (`pte_write()`).
    Anon(PageKey, bool),
}

impl Pte {
    /// `pte_wrprotect()`: clears the write bit.
    fn wrprotect(self) -> Pte {
        match self {
            Pte::Anon(page, _) => Pte::Anon(page, false),
            pte => pte,
        }
    }
}

/// The way in which `copy_pte_range()` takes the page-table locks of the destination and the source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PteLocks {
    /// The lock of the source is taken while that of the destination is held. In 5.2.1 only fork copies,
    /// and the locks are always two. Patch 3 of 7 keeps this for copies within one address space.
    Nested,
    /// The lock of the source is taken if it is another one than that of the destination.
    NestedIfDifferent,
}

fn bit(addr: Addr) -> PageBits {
    pages(addr, addr + 1)
}

impl Kernel {
    /// Returns the pte at `addr`.
    pub(crate) fn pte(&self, mm: MmKey, addr: Addr) -> Result<Pte, Stop> {
        const F: &str = "handle_pte_fault";
        let table = &read!(self, F, mm.page_table);
        Ok(if table.anon & bit(addr) != 0 {
            Pte::Anon(table.page[addr.0 as usize], table.write & bit(addr) != 0)
        } else if table.zero & bit(addr) != 0 {
            Pte::Zero
        } else {
            Pte::NoneOrFile
        })
    }

    /// `pte_alloc()`: makes the page-table page, if it is not there. No observation shows it.
    ///
    /// # Errors
    /// `ENOMEM` where there is no memory.
    pub(crate) fn pte_alloc(&mut self, mm: MmKey) -> Result<(), Stop> {
        if self.mms.get(mm).is_some_and(|mm| !mm.page_table.allocated) {
            self.allocate(Allocation::PageTable)?;
            if let Some(mm) = self.mms.get_mut(mm) {
                mm.page_table.allocated = true;
            }
        }
        Ok(())
    }

    /// `pte_free()`: frees the page-table page that a fault has made and not used.
    pub(crate) fn pte_free(&mut self, mm: MmKey) {
        if let Some(mm) = self.mms.get_mut(mm) {
            mm.page_table.allocated = false;
        }
    }

    /// `set_pte_at()`: sets a pte. The page that the pte mapped before is not released.
    fn set_pte_at(&mut self, mm: MmKey, addr: Addr, pte: Pte) -> Result<(), Stop> {
        const F: &str = "set_pte_at";
        let table = edit!(self, F, mm.page_table);
        table.anon &= !bit(addr);
        table.zero &= !bit(addr);
        table.write &= !bit(addr);
        match pte {
            Pte::NoneOrFile => {}
            Pte::Zero => table.zero |= bit(addr),
            Pte::Anon(page, write) => {
                if let Some(slot) = table.page.get_mut(addr.0 as usize) {
                    *slot = page;
                    table.anon |= bit(addr);
                    table.write |= if write { bit(addr) } else { 0 };
                }
            }
        }
        Ok(())
    }

    /// Maps the zero page.
    pub(crate) fn set_zero_pte(&mut self, mm: MmKey, addr: Addr) -> Result<(), Stop> {
        self.set_pte_at(mm, addr, Pte::Zero)
    }

    /// `page_add_new_anon_rmap()`: makes an anonymous page with the contents `data`, and sets the pte
    /// that maps it. The pte has its write bit where the VMA may be written (`maybe_mkwrite()`).
    pub(crate) fn page_add_new_anon_rmap(
        &mut self,
        mm: MmKey,
        vma: VmaKey,
        addr: Addr,
        data: u8,
    ) -> Result<(), Stop> {
        const F: &str = "__page_set_anon_rmap";
        let anon_vma = read!(self, F, vma.anon_vma);
        bug_on!(anon_vma.is_none(), F, "!anon_vma");
        let Some(anon_vma) = anon_vma else { return Ok(()) };
        let index = read!(self, F, vma.vm_pgoff).at(addr, read!(self, F, vma.vm_start));
        let write = read!(self, F, vma.vm_flags).contains(VmFlags::VM_WRITE);
        let id = self.take_page_id();
        let page = self.pages.insert(AnonPage { anon_vma, index, mapcount: 1, data, id });
        self.set_pte_at(mm, addr, Pte::Anon(page, write))
    }

    /// `wp_page_reuse()`: gives a pte its write bit where the VMA may be written.
    pub(crate) fn wp_page_reuse(
        &mut self,
        mm: MmKey,
        vma: VmaKey,
        addr: Addr,
        page: PageKey,
    ) -> Result<(), Stop> {
        const F: &str = "wp_page_reuse";
        let write = read!(self, F, vma.vm_flags).contains(VmFlags::VM_WRITE);
        self.set_pte_at(mm, addr, Pte::Anon(page, write))
    }

    /// `page_move_anon_rmap()`: gives a page that is mapped only here to the VMA.
    pub(crate) fn page_move_anon_rmap(&mut self, page: PageKey, vma: VmaKey) -> Result<(), Stop> {
        const F: &str = "page_move_anon_rmap";
        let anon_vma = read!(self, F, vma.anon_vma);
        bug_on!(anon_vma.is_none(), F, "!anon_vma");
        if let (Some(page), Some(anon_vma)) = (self.pages.get_mut(page), anon_vma) {
            page.anon_vma = anon_vma;
        }
        Ok(())
    }

    /// `page_mapcount()`.
    pub(crate) fn page_mapcount(&self, page: PageKey) -> u32 {
        self.pages.get(page).map_or(0, |page| page.mapcount)
    }

    /// `page_remove_rmap()`: counts one pte less, and frees the page where no pte maps it.
    pub(crate) fn page_remove_rmap(&mut self, page: PageKey) {
        let Some(anon) = self.pages.get_mut(page) else { return };
        anon.mapcount -= 1;
        if anon.mapcount == 0 {
            let id = anon.id;
            self.return_page_id(id);
            self.pages.remove(page);
        }
    }

    /// `unmap_page_range()`: drops the ptes of a range.
    pub(crate) fn unmap_page_range(
        &mut self,
        mm: MmKey,
        start: Addr,
        end: Addr,
    ) -> Result<(), Stop> {
        const F: &str = "unmap_page_range";
        if !read!(self, F, mm.page_table).allocated {
            return Ok(());
        }
        self.pte_locked(mm, "zap_pte_range", |kernel| kernel.zap_pte_range(mm, start, end))
    }

    /// `zap_pte_range()`, with the page-table lock held.
    fn zap_pte_range(&mut self, mm: MmKey, start: Addr, end: Addr) -> Result<(), Stop> {
        const F: &str = "zap_pte_range";
        let range = pages(start, end);
        let anon = read!(self, F, mm.page_table).anon & range;
        if anon | read!(self, F, mm.page_table).zero & range == 0 {
            return Ok(());
        }
        for addr in each(anon) {
            if let Pte::Anon(page, _) = self.pte(mm, addr)? {
                self.page_remove_rmap(page);
            }
        }
        let table = edit!(self, F, mm.page_table);
        table.anon &= !range;
        table.zero &= !range;
        table.write &= !range;
        Ok(())
    }

    /// `change_protection()`: gives the ptes of a range the protection of their VMA.
    pub(crate) fn change_protection(
        &mut self,
        mm: MmKey,
        start: Addr,
        end: Addr,
    ) -> Result<(), Stop> {
        const F: &str = "change_protection";
        if !read!(self, F, mm.page_table).allocated {
            return Ok(());
        }
        self.pte_locked(mm, "change_pte_range", |kernel| kernel.change_pte_range(mm, start, end))
    }

    /// `change_pte_range()`, with the page-table lock held. The `vm_page_prot` of a private VMA has no
    /// write bit, so `pte_modify()` clears it, and a fault sets it again. `dirty_accountable`, which
    /// would keep the bit, is for shared VMAs (`vma_wants_writenotify()`).
    fn change_pte_range(&mut self, mm: MmKey, start: Addr, end: Addr) -> Result<(), Stop> {
        const F: &str = "change_pte_range";
        let range = pages(start, end);
        if read!(self, F, mm.page_table).write & range != 0 {
            edit!(self, F, mm.page_table).write &= !range;
        }
        Ok(())
    }

    /// `clear_soft_dirty()` for the ptes of a range, with the page-table lock held: a write faults again,
    /// and is seen.
    pub(crate) fn clear_soft_dirty(
        &mut self,
        mm: MmKey,
        start: Addr,
        end: Addr,
    ) -> Result<(), Stop> {
        const F: &str = "clear_refs_pte_range";
        if !read!(self, F, mm.page_table).allocated {
            return Ok(());
        }
        self.pte_locked(mm, F, |kernel| {
            let range = pages(start, end);
            if read!(kernel, F, mm.page_table).write & range != 0 {
                edit!(kernel, F, mm.page_table).write &= !range;
            }
            Ok(())
        })
    }

    /// `copy_page_range()`: makes private pages shared copy-on-write.
    ///
    /// It copies the ptes of `len` pages from `src_addr`, in `src_vma`, to `dst_addr`. Nothing is
    /// copied where the VMA has no anon_vma: a fault brings all of its pages back.
    ///
    /// # Errors
    /// `ENOMEM` where there is no memory for the page-table page. Nothing is copied then.
    pub(crate) fn copy_page_range(
        &mut self,
        (dst_mm, dst_addr): (MmKey, Addr),
        (src_mm, src_addr): (MmKey, Addr),
        src_vma: VmaKey,
        len: u32,
        locks: PteLocks,
    ) -> Result<(), Stop> {
        const F: &str = "copy_page_range";
        // The ptes of the device are copied, and no observation shows them.
        let device = read!(self, F, src_vma.vm_flags).contains(VmFlags::VM_PFNMAP);
        let faulted = read!(self, F, src_vma.anon_vma).is_some();
        if !device && !faulted || !read!(self, F, src_mm.page_table).allocated {
            return Ok(());
        }
        let (dst, src) = ((dst_mm, dst_addr), (src_mm, src_addr));
        self.pte_alloc(dst_mm)?;
        self.copy_pte_range(dst, src, len, locks)
    }

    /// `copy_pte_range()`: takes both page-table locks, and copies the ptes.
    fn copy_pte_range(
        &mut self,
        (dst_mm, dst_addr): (MmKey, Addr),
        (src_mm, src_addr): (MmKey, Addr),
        len: u32,
        locks: PteLocks,
    ) -> Result<(), Stop> {
        const F: &str = "copy_pte_range";
        let (dst_ptl, src_ptl) = (Lock::PageTable(dst_mm), Lock::PageTable(src_mm));
        let nested = locks == PteLocks::Nested || src_ptl != dst_ptl;
        self.lock(dst_ptl, F);
        if nested {
            self.lock(src_ptl, F);
        }
        self.copy_ptes((dst_mm, dst_addr), (src_mm, src_addr), len)?;
        if nested {
            self.unlock(src_ptl, F);
        }
        self.unlock(dst_ptl, F);
        Ok(())
    }

    /// The loop of `copy_pte_range()`, with both page-table locks held.
    fn copy_ptes(
        &mut self,
        (dst_mm, dst_addr): (MmKey, Addr),
        (src_mm, src_addr): (MmKey, Addr),
        len: u32,
    ) -> Result<(), Stop> {
        const F: &str = "copy_pte_range";
        let range = pages(src_addr, src_addr + len);
        let table = &read!(self, F, src_mm.page_table);
        if (table.anon | table.zero) & range == 0 {
            return Ok(());
        }
        self.rmap_dirty = true;
        // The pages are copied one at a time and upwards, because in a buggy revision the two
        // ranges may overlap.
        for addr in (0..len).map(|page| src_addr + page) {
            self.copy_one_pte((dst_mm, dst_addr + (addr - src_addr)), (src_mm, addr))?;
        }
        Ok(())
    }

    /// `copy_one_pte()`: copies a pte, and write-protects it on both sides. Every mapping of anonymous
    /// pages is a COW mapping (`is_cow_mapping()`).
    fn copy_one_pte(
        &mut self,
        (dst_mm, dst_addr): (MmKey, Addr),
        (src_mm, src_addr): (MmKey, Addr),
    ) -> Result<(), Stop> {
        let mut pte = self.pte(src_mm, src_addr)?;
        if let Pte::Anon(page, write) = pte {
            if write {
                // `ptep_set_wrprotect()`.
                self.set_pte_at(src_mm, src_addr, pte.wrprotect())?;
                pte = pte.wrprotect();
            }
            if let Some(page) = self.pages.get_mut(page) {
                page.mapcount += 1;
            }
        }
        match pte {
            Pte::NoneOrFile => Ok(()),
            pte => self.set_pte_at(dst_mm, dst_addr, pte),
        }
    }

    /// `move_page_tables()`: moves ptes within the address space of the source VMA.
    pub(crate) fn move_page_tables(
        &mut self,
        vma: VmaKey,
        old_addr: Addr,
        new_addr: Addr,
        len: u32,
        need_rmap_locks: bool,
    ) -> Result<(), Stop> {
        const F: &str = "move_page_tables";
        let mm = read!(self, F, vma.vm_mm);
        if !read!(self, F, mm.page_table).allocated {
            return Ok(());
        }
        let rmap_locks = match need_rmap_locks {
            true => self.take_rmap_locks(vma)?,
            false => [None; 2],
        };
        // The old and the new ptes lie under one page-table page, so `new_ptl` is `old_ptl`.
        self.pte_locked(mm, "move_ptes", |kernel| kernel.move_ptes(mm, old_addr, new_addr, len))?;
        self.drop_rmap_locks(rmap_locks);
        Ok(())
    }

    /// `move_ptes()`, with the locks held.
    fn move_ptes(
        &mut self,
        mm: MmKey,
        old_addr: Addr,
        new_addr: Addr,
        len: u32,
    ) -> Result<(), Stop> {
        const F: &str = "move_ptes";
        let table = &read!(self, F, mm.page_table);
        let moved = (table.anon | table.zero) & pages(old_addr, old_addr + len);
        if moved == 0 {
            return Ok(());
        }
        self.rmap_dirty = true;
        for addr in each(moved) {
            let pte = self.pte(mm, addr)?;
            self.set_pte_at(mm, addr, Pte::NoneOrFile)?;
            self.set_pte_at(mm, new_addr + (addr - old_addr), pte)?;
        }
        Ok(())
    }
}
