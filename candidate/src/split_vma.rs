//! `split_vma()`: cuts one VMA in two.

use vmadiff_machine::Errno;

use crate::addr::Addr;
use crate::handle::{MmKey, VmaKey, edit, read};
use crate::kernel::Kernel;
use crate::stop::{Caught, Stop};

/// The half that becomes the new VMA. The other half stays the old VMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum New {
    /// `new_below` = 1.
    Below,
    /// `new_below` = 0.
    Above,
}

impl Kernel {
    /// `__split_vma()`: cuts a VMA without a look at the limit on mappings.
    ///
    /// # Errors
    /// `ENOMEM` where there is no memory. The VMA is whole then.
    pub(crate) fn split_vma_unlimited(
        &mut self,
        vma: VmaKey,
        addr: Addr,
        half: New,
    ) -> Result<(), Stop> {
        const F: &str = "__split_vma";
        let new = self.vm_area_dup(vma)?;
        let (start, end, pgoff) = (
            read!(self, F, vma.vm_start),
            read!(self, F, vma.vm_end),
            read!(self, F, vma.vm_pgoff),
        );
        let upper_pgoff = pgoff.at(addr, start);
        match half {
            New::Below => *edit!(self, F, new.vm_end) = addr,
            New::Above => {
                *edit!(self, F, new.vm_start) = addr;
                *edit!(self, F, new.vm_pgoff) = upper_pgoff;
            }
        }
        self.dup_policy_and_chain(vma, new)?;
        if let Some(file) = read!(self, F, new.vm_file) {
            self.get_file(file)?;
        }
        self.vm_ops_open(new)?;
        match half {
            New::Below => self.vma_adjust(vma, addr, end, upper_pgoff, Some(new), None),
            New::Above => self.vma_adjust(vma, start, addr, pgoff, Some(new), None),
        }
    }

    /// Gives `new`, a duplicate of `vma` that is not linked yet, a policy and a chain of its own.
    ///
    /// # Errors
    /// `ENOMEM` where there is no memory. `new` is freed then (`out_free_mpol`, `out_free_vma`).
    pub(crate) fn dup_policy_and_chain(&mut self, vma: VmaKey, new: VmaKey) -> Result<(), Stop> {
        const F: &str = "vm_area_dup";
        if let Err(errno) = self.vma_dup_policy(vma, new).errno()? {
            self.vm_area_free(new);
            return Err(errno.into());
        }
        if let Err(errno) = self.anon_vma_clone(new, vma).errno()? {
            self.mpol_put(read!(self, F, new.vm_policy))?;
            self.vm_area_free(new);
            return Err(errno.into());
        }
        Ok(())
    }

    /// `split_vma()`: cuts a VMA where the limit on mappings allows it.
    ///
    /// # Errors
    /// `ENOMEM` where the address space has as many mappings as the limit allows, or where there is
    /// no memory.
    pub(crate) fn split_vma(
        &mut self,
        mm: MmKey,
        vma: VmaKey,
        addr: Addr,
        half: New,
    ) -> Result<(), Stop> {
        if self.map_count_reached(mm)? {
            return Err(Errno::ENOMEM.into());
        }
        self.split_vma_unlimited(vma, addr, half)
    }

    /// Cuts the range out of `vma`, for a change that no neighbour can take by a merge. `vma` stays
    /// the range.
    ///
    /// # Errors
    /// `ENOMEM` past the limit on mappings, or where there is no memory. A cut that was made before
    /// stays.
    pub(crate) fn split_at_both_ends(
        &mut self,
        mm: MmKey,
        vma: VmaKey,
        start: Addr,
        end: Addr,
    ) -> Result<(), Stop> {
        const F: &str = "split_vma";
        if start > read!(self, F, vma.vm_start) {
            self.split_vma(mm, vma, start, New::Below)?;
        }
        if end < read!(self, F, vma.vm_end) {
            self.split_vma(mm, vma, end, New::Above)?;
        }
        Ok(())
    }
}
