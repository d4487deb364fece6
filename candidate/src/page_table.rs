//! Page tables: the ptes of private memory are set, shared, moved and dropped here.

use vmadiff_machine::VmFlags;

use crate::addr::{Addr, PageBits, each, pages};
use crate::handle::{MmKey, PageKey, VmaKey, bug_on, edit, read};
use crate::kernel::Kernel;
use crate::objects::AnonPage;
use crate::stop::Stop;

/// The target of a pte, as far as an observation can depend on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pte {
    /// Nothing, or a page of a file.
    NoneOrFile,
    /// The zero page.
    Zero,
    /// An anonymous page.
    Anon(PageKey),
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
            Pte::Anon(table.page[addr.0 as usize])
        } else if table.zero & bit(addr) != 0 {
            Pte::Zero
        } else {
            Pte::NoneOrFile
        })
    }

    /// `set_pte_at()`: sets a pte. The page that the pte mapped before is not released.
    fn set_pte_at(&mut self, mm: MmKey, addr: Addr, pte: Pte) -> Result<(), Stop> {
        const F: &str = "set_pte_at";
        let table = edit!(self, F, mm.page_table);
        table.anon &= !bit(addr);
        table.zero &= !bit(addr);
        match pte {
            Pte::NoneOrFile => {}
            Pte::Zero => table.zero |= bit(addr),
            Pte::Anon(page) => {
                if let Some(slot) = table.page.get_mut(addr.0 as usize) {
                    *slot = page;
                    table.anon |= bit(addr);
                }
            }
        }
        Ok(())
    }

    /// Maps the zero page.
    pub(crate) fn set_zero_pte(&mut self, mm: MmKey, addr: Addr) -> Result<(), Stop> {
        self.set_pte_at(mm, addr, Pte::Zero)
    }

    /// `page_add_new_anon_rmap()`: makes an anonymous page, and sets the pte that maps it.
    pub(crate) fn page_add_new_anon_rmap(
        &mut self,
        mm: MmKey,
        vma: VmaKey,
        addr: Addr,
    ) -> Result<(), Stop> {
        const F: &str = "__page_set_anon_rmap";
        let anon_vma = read!(self, F, vma.anon_vma);
        bug_on!(anon_vma.is_none(), F, "!anon_vma");
        let Some(anon_vma) = anon_vma else { return Ok(()) };
        let index = read!(self, F, vma.vm_pgoff).at(addr, read!(self, F, vma.vm_start));
        let page = self.pages.insert(AnonPage { anon_vma, index, mapcount: 1 });
        self.set_pte_at(mm, addr, Pte::Anon(page))
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
        let range = pages(start, end);
        let anon = read!(self, F, mm.page_table).anon & range;
        if anon | read!(self, F, mm.page_table).zero & range == 0 {
            return Ok(());
        }
        for addr in each(anon) {
            if let Pte::Anon(page) = self.pte(mm, addr)? {
                self.page_remove_rmap(page);
            }
        }
        let table = edit!(self, F, mm.page_table);
        table.anon &= !range;
        table.zero &= !range;
        Ok(())
    }

    /// `copy_page_range()`: makes private pages shared copy-on-write.
    ///
    /// It copies the ptes of `len` pages from `src_addr`, in `src_vma`, to `dst_addr`. Nothing is
    /// copied where the VMA has no anon_vma: a fault brings all of its pages back.
    pub(crate) fn copy_page_range(
        &mut self,
        (dst_mm, dst_addr): (MmKey, Addr),
        (src_mm, src_addr): (MmKey, Addr),
        src_vma: VmaKey,
        len: u32,
    ) -> Result<(), Stop> {
        const F: &str = "copy_page_range";
        let faulted = read!(self, F, src_vma.anon_vma).is_some();
        if read!(self, F, src_vma.vm_flags).contains(VmFlags::VM_PFNMAP) || !faulted {
            return Ok(());
        }
        let range = pages(src_addr, src_addr + len);
        let table = &read!(self, F, src_mm.page_table);
        if (table.anon | table.zero) & range == 0 {
            return Ok(());
        }
        self.rmap_dirty = true;
        // The pages are copied one at a time and upwards, because in a buggy revision the two
        // ranges may overlap.
        for addr in (0..len).map(|page| src_addr + page) {
            let pte = self.pte(src_mm, addr)?;
            if let Pte::Anon(page) = pte
                && let Some(page) = self.pages.get_mut(page)
            {
                page.mapcount += 1;
            }
            if pte != Pte::NoneOrFile {
                self.set_pte_at(dst_mm, dst_addr + (addr - src_addr), pte)?;
            }
        }
        Ok(())
    }

    /// `move_page_tables()`: moves ptes within the address space of the source VMA.
    pub(crate) fn move_page_tables(
        &mut self,
        vma: VmaKey,
        old_addr: Addr,
        new_addr: Addr,
        len: u32,
    ) -> Result<(), Stop> {
        const F: &str = "move_page_tables";
        let mm = read!(self, F, vma.vm_mm);
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
