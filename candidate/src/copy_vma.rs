//! `copy_vma()`: the function under test.
//!
//! `copy_vma()` makes a VMA for a range that maps the same pages as (part of) another VMA. It
//! merges the range into its neighbours in the destination, or else duplicates the source.
//!
//! The revisions differ in two places, each a branch of its own: the
//! [attributes](Kernel::copied_attributes) of the new range, and the check that [redirects the
//! source pointer](Kernel::source_was_swallowed).

use vmadiff_machine::VmFlags;

use crate::addr::{Addr, Pgoff};
use crate::handle::{MmKey, VmaKey, bug_on, edit, read};
use crate::kernel::Kernel;
use crate::objects::Vma;
use crate::process_vm_mmap::Place;
use crate::revision::Revision;
use crate::stop::{Caught, Stop};
use crate::vma_list::Links;
use crate::vma_merge::Attributes;

/// The flags that the extended `copy_vma()` clears with `clear_flags_ctx`, beside the userfaultfd
/// context.
const CLEARED: VmFlags = VmFlags::VM_UFFD_MISSING
    .union(VmFlags::VM_UFFD_WP)
    .union(VmFlags::VM_MERGEABLE)
    .union(VmFlags::VM_LOCKED)
    .union(VmFlags::VM_LOCKONFAULT)
    .union(VmFlags::VM_WIPEONFORK)
    .union(VmFlags::VM_DONTCOPY);

/// The result of `copy_vma()`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copied {
    /// The VMA that contains the new range.
    pub(crate) new_vma: VmaKey,
    /// The source (`*vmap`): unchanged, or the merged VMA that has swallowed the source.
    pub(crate) vma: VmaKey,
    /// `*need_rmap_locks`.
    pub(crate) need_rmap_locks: bool,
    pub(crate) merged: bool,
    pub(crate) source_redirected: bool,
}

/// The fields of the source VMA before the merge, which may free the source.
#[derive(Clone, Copy, Debug)]
struct Saved {
    vm_start: Addr,
    vm_mm: MmKey,
}

impl Kernel {
    /// `copy_vma()`: returns `None` where the range is not free, or where there is no memory.
    pub(crate) fn copy_vma(
        &mut self,
        mut vma: VmaKey,
        (mm, addr): Place,
        len: u32,
        mut pgoff: Pgoff,
        clear_flags_ctx: bool,
    ) -> Result<Option<Copied>, Stop> {
        const F: &str = "copy_vma";
        let end = addr + len;
        let saved =
            Saved { vm_start: read!(self, F, vma.vm_start), vm_mm: read!(self, F, vma.vm_mm) };

        // The page offset of anonymous memory that was never faulted does not matter yet. It
        // becomes the offset that fits the new address, so that the range merges more often.
        let mut faulted_in_anon_vma = true;
        let never_faulted = |vma: &Vma| vma.is_anonymous() && vma.anon_vma.is_none();
        if self.vmas.get(vma).is_some_and(never_faulted) {
            pgoff = addr.linear();
            faulted_in_anon_vma = false;
        }
        let Links::After(prev) = self.find_vma_links(mm, addr, end)? else { return Ok(None) };

        let new = self.copied_attributes(vma, pgoff, clear_flags_ctx)?;
        if let Some(new_vma) = self.vma_merge(mm, prev, addr, end, &new)? {
            let source_redirected = self.source_was_swallowed(vma, saved, mm, new_vma)?;
            if source_redirected {
                // Mapped pages would fix the offset, and a fixed offset forbids this merge.
                bug_on!(faulted_in_anon_vma, F, "faulted_in_anon_vma");
                vma = new_vma;
            }
            // The new range may sort before the source in reverse-map order.
            let need_rmap_locks = read!(self, F, new_vma.vm_pgoff) <= read!(self, F, vma.vm_pgoff);
            let merged = true;
            return Ok(Some(Copied { new_vma, vma, need_rmap_locks, merged, source_redirected }));
        }

        let Ok(new_vma) = self.vm_area_dup(vma).errno()? else { return Ok(None) };
        *edit!(self, F, new_vma.vm_mm) = mm;
        *edit!(self, F, new_vma.vm_flags) = new.vm_flags;
        *edit!(self, F, new_vma.vm_userfaultfd_ctx) = new.vm_userfaultfd_ctx;
        *edit!(self, F, new_vma.vm_start) = addr;
        *edit!(self, F, new_vma.vm_end) = end;
        *edit!(self, F, new_vma.vm_pgoff) = pgoff;
        if self.dup_policy_and_chain(vma, new_vma).errno()?.is_err() {
            return Ok(None);
        }
        if let Some(file) = read!(self, F, new_vma.vm_file) {
            self.get_file(file)?;
        }
        self.vm_ops_open(new_vma)?;
        self.vma_link(mm, new_vma, prev)?;
        let (merged, need_rmap_locks, source_redirected) = (false, false, false);
        Ok(Some(Copied { new_vma, vma, need_rmap_locks, merged, source_redirected }))
    }

    /// Returns the attributes of the new range: all those of the source, less what the extended
    /// `copy_vma()` drops with `clear_flags_ctx`.
    fn copied_attributes(
        &self,
        vma: VmaKey,
        pgoff: Pgoff,
        clear_flags_ctx: bool,
    ) -> Result<Attributes, Stop> {
        const F: &str = "copy_vma";
        let new = Attributes { pgoff, ..self.attributes(vma, read!(self, F, vma.vm_start))? };
        let clears = match self.revision {
            Revision::Original => false,
            Revision::Rfc | Revision::V2 | Revision::Fixed => clear_flags_ctx,
        };
        if !clears {
            return Ok(new);
        }
        Ok(Attributes { vm_flags: new.vm_flags - CLEARED, vm_userfaultfd_ctx: None, ..new })
    }

    /// The aliasing check: returns whether the merge has swallowed the source. The caller then gets
    /// the merged VMA in place of the source.
    fn source_was_swallowed(
        &self,
        vma: VmaKey,
        saved: Saved,
        mm: MmKey,
        new_vma: VmaKey,
    ) -> Result<bool, Stop> {
        const F: &str = "copy_vma";
        let (start, end) = (read!(self, F, new_vma.vm_start), read!(self, F, new_vma.vm_end));
        let within = saved.vm_start >= start && saved.vm_start < end;
        match self.revision {
            // The original kernel copies within one address space only.
            Revision::Original => Ok(within),
            // This reads the source, which the merge has freed exactly where the answer must be
            // yes.
            Revision::Rfc | Revision::V2 => Ok(within && read!(self, F, vma.vm_mm) == mm),
            Revision::Fixed => Ok(within && saved.vm_mm == mm),
        }
    }
}
