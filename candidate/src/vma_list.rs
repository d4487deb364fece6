//! The list of the VMAs of an address space: finding, linking, unlinking.
//!
//! The kernel keeps a red-black tree beside the list. Both hold the same VMAs, so the list is
//! enough here.

use vmadiff_machine::operand::END_PAGES;
use vmadiff_machine::{Allocation, Object};

use crate::addr::Addr;
use crate::handle::{MmKey, VmaKey, bug_on, edit, read};
use crate::kernel::Kernel;
use crate::locks::i_mmap;
use crate::objects::{Chain, VmOps, Vma};
use crate::stop::Stop;

/// A bound on the number of VMAs that a walk over the list may still meet.
///
/// Each VMA maps a page of its own, so a list is never longer than the arena. A walk over a longer
/// list, or over a ring that a bug has made, ends with the assertion of `validate_mm()`.
pub(crate) struct Walk(usize);

impl Walk {
    pub(crate) const fn new() -> Walk {
        Walk(END_PAGES)
    }

    /// Counts one more VMA.
    #[inline]
    pub(crate) fn step(&mut self) -> Result<(), Stop> {
        bug_on!(self.0 == 0, "validate_mm", "map_count");
        self.0 -= 1;
        Ok(())
    }
}

/// The answer of `find_vma_links()`: the VMA before the range, or that the range is not free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// The range is free, and comes after this VMA.
    After(Option<VmaKey>),
    /// Something is mapped there.
    Occupied,
}

impl Kernel {
    /// Returns the first VMA that ends above `addr`. `None` stands for the process's own mappings
    /// above the arena.
    pub(crate) fn find_vma(&self, mm: MmKey, addr: Addr) -> Result<Option<VmaKey>, Stop> {
        const F: &str = "find_vma";
        let mut next = read!(self, F, mm.mmap);
        let mut walk = Walk::new();
        while let Some(vma) = next {
            walk.step()?;
            if read!(self, F, vma.vm_end) > addr {
                break;
            }
            next = read!(self, F, vma.vm_next);
        }
        Ok(next)
    }

    /// Returns the VMA that maps `addr`.
    pub(crate) fn find_vma_at(&self, mm: MmKey, addr: Addr) -> Result<Option<VmaKey>, Stop> {
        const F: &str = "find_vma";
        match self.find_vma(mm, addr)? {
            Some(vma) if read!(self, F, vma.vm_start) <= addr => Ok(Some(vma)),
            _ => Ok(None),
        }
    }

    /// `find_vma_prev()`: returns the result of [`Kernel::find_vma`], and the VMA before it.
    pub(crate) fn find_vma_prev(
        &self,
        mm: MmKey,
        addr: Addr,
    ) -> Result<(Option<VmaKey>, Option<VmaKey>), Stop> {
        const F: &str = "find_vma_prev";
        let mut prev = None;
        let mut next = read!(self, F, mm.mmap);
        let mut walk = Walk::new();
        while let Some(vma) = next {
            walk.step()?;
            if read!(self, F, vma.vm_end) > addr {
                break;
            }
            prev = next;
            next = read!(self, F, vma.vm_next);
        }
        Ok((next, prev))
    }

    /// Returns the place in the list where a VMA for the range would be linked.
    pub(crate) fn find_vma_links(&self, mm: MmKey, addr: Addr, end: Addr) -> Result<Links, Stop> {
        const F: &str = "find_vma_links";
        let (next, prev) = self.find_vma_prev(mm, addr)?;
        match next {
            Some(vma) if read!(self, F, vma.vm_start) < end => Ok(Links::Occupied),
            _ => Ok(Links::After(prev)),
        }
    }

    /// `__vma_link_list()`.
    fn vma_link_list(&mut self, mm: MmKey, vma: VmaKey, prev: Option<VmaKey>) -> Result<(), Stop> {
        const F: &str = "__vma_link_list";
        *edit!(self, F, vma.vm_prev) = prev;
        let next = match prev {
            Some(prev) => edit!(self, F, prev.vm_next).replace(vma),
            None => edit!(self, F, mm.mmap).replace(vma),
        };
        *edit!(self, F, vma.vm_next) = next;
        if let Some(next) = next {
            *edit!(self, F, next.vm_prev) = Some(vma);
        }
        Ok(())
    }

    /// `vma_link()`.
    pub(crate) fn vma_link(
        &mut self,
        mm: MmKey,
        vma: VmaKey,
        prev: Option<VmaKey>,
    ) -> Result<(), Stop> {
        const F: &str = "vma_link";
        self.assert_mmap_write_locked(mm, F);
        let mapping = i_mmap!(self, F, read!(self, F, vma.vm_file));
        if let Some(mapping) = mapping {
            self.lock(mapping, F);
        }
        self.vma_link_list(mm, vma, prev)?;
        if let Some(mapping) = mapping {
            self.unlock(mapping, F);
        }
        *edit!(self, F, mm.map_count) += 1;
        Ok(())
    }

    /// `__insert_vm_struct()`: links a VMA, and asserts that its range is free.
    pub(crate) fn insert_vm_struct(&mut self, mm: MmKey, vma: VmaKey) -> Result<(), Stop> {
        const F: &str = "__insert_vm_struct";
        let (start, end) = (read!(self, F, vma.vm_start), read!(self, F, vma.vm_end));
        let links = self.find_vma_links(mm, start, end)?;
        bug_on!(links == Links::Occupied, F, "find_vma_links()");
        let Links::After(prev) = links else { return Ok(()) };
        self.vma_link_list(mm, vma, prev)?;
        *edit!(self, F, mm.map_count) += 1;
        Ok(())
    }

    /// `__vma_unlink_common()`.
    pub(crate) fn vma_unlink(&mut self, mm: MmKey, vma: VmaKey) -> Result<(), Stop> {
        const F: &str = "__vma_unlink_common";
        let next = read!(self, F, vma.vm_next);
        let prev = read!(self, F, vma.vm_prev);
        match prev {
            Some(prev) => *edit!(self, F, prev.vm_next) = next,
            None => *edit!(self, F, mm.mmap) = next,
        }
        if let Some(next) = next {
            *edit!(self, F, next.vm_prev) = prev;
        }
        Ok(())
    }

    /// `vm_area_alloc()`: makes a VMA with the fields that the caller would set next.
    ///
    /// # Errors
    /// `ENOMEM` where there is no memory.
    pub(crate) fn vm_area_alloc(&mut self, vma: Vma) -> Result<VmaKey, Stop> {
        self.allocate(Allocation::Vma)?;
        self.dirty = true;
        Ok(self.vmas.insert(vma))
    }

    /// `vm_area_dup()`: copies all fields but the anon_vma chain.
    ///
    /// # Errors
    /// `ENOMEM` where there is no memory.
    pub(crate) fn vm_area_dup(&mut self, vma: VmaKey) -> Result<VmaKey, Stop> {
        const F: &str = "vm_area_dup";
        let orig = self.vmas.get(vma).ok_or(Stop::UseAfterFree(Object::Vma, &(F, "*orig")))?;
        let new = Vma { anon_vma_chain: Chain::EMPTY, ..*orig };
        self.vm_area_alloc(new)
    }

    /// Calls `vma->vm_ops->open`, if it exists.
    pub(crate) fn vm_ops_open(&mut self, vma: VmaKey) -> Result<(), Stop> {
        const F: &str = "vm_ops_open";
        let ops = read!(self, F, vma.vm_ops);
        self.driver.opens += u32::from(ops.has_close());
        if ops == VmOps::Shm {
            self.shm_open();
        }
        Ok(())
    }

    /// Calls `vma->vm_ops->close`, if it exists.
    pub(crate) fn vm_ops_close(&mut self, vma: VmaKey) -> Result<(), Stop> {
        const F: &str = "remove_vma";
        let ops = read!(self, F, vma.vm_ops);
        self.driver.closes += u32::from(ops.has_close());
        if ops == VmOps::Shm {
            self.shm_close()?;
        }
        Ok(())
    }

    /// `vm_area_free()`: frees a VMA. Handles to it are stale afterwards.
    pub(crate) fn vm_area_free(&mut self, vma: VmaKey) {
        self.dirty = true;
        self.vmas.remove(vma);
    }
}
