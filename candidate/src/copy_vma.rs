//! `copy_vma()`: the function under test.
//!
//! It makes a VMA for a range that shows what (part of) another VMA shows: by merging the range
//! into its neighbours in the destination, or else by duplicating the source.
//!
//! The revisions differ in two places, each with the branch of its own: which
//! [attributes](Kernel::copied_attributes) the new range has, and whether the caller's
//! [source pointer is redirected](Kernel::source_was_swallowed). Beside them, `fixed` tells
//! `vma_merge()` that it is a copy.

use vmadiff_machine::VmFlags;
use vmadiff_machine::operand::Mode;

use crate::addr::{Addr, Pgoff};
use crate::handle::{MmKey, VmaKey, bug_on, edit, read};
use crate::kernel::Kernel;
use crate::objects::Vma;
use crate::process_vm_mmap::Place;
use crate::revision::Revision;
use crate::seeded::Fault;
use crate::stop::Stop;
use crate::vma_list::Links;
use crate::vma_merge::Attributes;

/// What the extended `copy_vma()` drops with `clear_flags_ctx`, beside the userfaultfd context.
const CLEARED: VmFlags = VmFlags::VM_UFFD_MISSING
    .union(VmFlags::VM_UFFD_WP)
    .union(VmFlags::VM_MERGEABLE)
    .union(VmFlags::VM_LOCKED)
    .union(VmFlags::VM_LOCKONFAULT)
    .union(VmFlags::VM_WIPEONFORK)
    .union(VmFlags::VM_DONTCOPY);

/// What `copy_vma()` answers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Copied {
    /// The VMA that the new range is in.
    pub(crate) new_vma: VmaKey,
    /// The source (`*vmap`): as it was, or the merged VMA that has swallowed it.
    pub(crate) vma: VmaKey,
    /// `*need_rmap_locks`.
    pub(crate) need_rmap_locks: bool,
    pub(crate) merged: bool,
    pub(crate) source_redirected: bool,
}

/// The source VMA as it was before the merge, which may free it.
#[derive(Clone, Copy, Debug)]
struct Saved {
    vm_start: Addr,
    vm_mm: MmKey,
}

impl Kernel {
    /// `copy_vma()`: `None` where the range is not free. Only `fixed` asks whether the source stays, as
    /// it does but for `mremap`: see [`is_mergeable_anon_vma`](Kernel::is_mergeable_anon_vma).
    pub(crate) fn copy_vma(
        &mut self,
        mut vma: VmaKey,
        (mm, addr): Place,
        len: u32,
        mut pgoff: Pgoff,
        clear_flags_ctx: bool,
        source_stays: bool,
    ) -> Result<Option<Copied>, Stop> {
        const F: &str = "copy_vma";
        let end = addr + len;
        let saved =
            Saved { vm_start: read!(self, F, vma.vm_start), vm_mm: read!(self, F, vma.vm_mm) };

        // Anonymous memory that was never faulted has no offset yet that matters: it takes the
        // one that fits the new address, to merge more often.
        let mut faulted_in_anon_vma = true;
        let never_faulted = |vma: &Vma| {
            (vma.is_anonymous() || self.has_fault(Fault::PgoffFittedForFiles))
                && (vma.anon_vma.is_none() || self.has_fault(Fault::PgoffFittedWhenFaulted))
        };
        if self.vmas.get(vma).is_some_and(never_faulted) && !self.has_fault(Fault::PgoffNotFitted) {
            pgoff = addr.linear();
            faulted_in_anon_vma = self.has_fault(Fault::FaultedNotCleared);
        }
        let links_mm = if self.has_fault(Fault::LinksInSource) { saved.vm_mm } else { mm };
        let Links::After(prev) = self.find_vma_links(links_mm, addr, end)? else { return Ok(None) };

        let mut new = self.copied_attributes(vma, pgoff, clear_flags_ctx)?;
        new.is_copy = source_stays;
        let asked = self.asked_of_merge(vma, &new)?;
        if let Some(new_vma) = self.vma_merge(mm, prev, addr, end, &asked)? {
            let source_redirected = self.source_was_swallowed(vma, saved, mm, new_vma)?;
            if source_redirected {
                // Pages that are mapped already would fix the offset, and forbid the merge.
                bug_on!(faulted_in_anon_vma, F, "faulted_in_anon_vma");
                vma = new_vma;
            }
            let need_rmap_locks = self
                .need_rmap_locks(read!(self, F, new_vma.vm_pgoff), read!(self, F, vma.vm_pgoff));
            let merged = true;
            return Ok(Some(Copied { new_vma, vma, need_rmap_locks, merged, source_redirected }));
        }

        let new_vma = self.vm_area_dup(vma)?;
        if !self.has_fault(Fault::DuplicateMmNotSet) {
            *edit!(self, F, new_vma.vm_mm) = mm;
        }
        if !self.has_fault(Fault::MaskMergeOnly) {
            *edit!(self, F, new_vma.vm_flags) = new.vm_flags;
        }
        if !self.has_fault(Fault::CtxKeptInDuplicate) {
            *edit!(self, F, new_vma.vm_userfaultfd_ctx) = new.vm_userfaultfd_ctx;
        }
        if !self.has_fault(Fault::DuplicateRangeNotSet) {
            *edit!(self, F, new_vma.vm_start) = addr;
            if !self.has_fault(Fault::DuplicateEndNotSet) {
                *edit!(self, F, new_vma.vm_end) = end;
            }
        }
        if !self.has_fault(Fault::DuplicatePgoffNotSet) {
            *edit!(self, F, new_vma.vm_pgoff) = pgoff;
        }
        if self.has_fault(Fault::DuplicateWithoutPolicy) {
            *edit!(self, F, new_vma.vm_policy) = Mode::Default;
        }
        if self.has_fault(Fault::DuplicateWithoutFile) {
            *edit!(self, F, new_vma.vm_file) = None;
        }
        match self.fault {
            Some(Fault::DuplicateNotCloned) => {}
            Some(Fault::DuplicateClonedBackwards) => self.anon_vma_clone(vma, new_vma)?,
            Some(Fault::DuplicateForked) => self.anon_vma_fork(new_vma, vma)?,
            Some(Fault::DuplicateWithoutAnonVma) => *edit!(self, F, new_vma.anon_vma) = None,
            _ => self.anon_vma_clone(new_vma, vma)?,
        }
        self.vma_link(mm, new_vma, prev)?;
        let (merged, source_redirected) = (false, false);
        let need_rmap_locks = self.has_fault(Fault::RmapLocksForDuplicate);
        Ok(Some(Copied { new_vma, vma, need_rmap_locks, merged, source_redirected }))
    }

    /// What the new range has: all that the source has, in the extended `copy_vma()` less what
    /// `clear_flags_ctx` drops.
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
        if !clears && !self.has_fault(Fault::MaskAlways) {
            return Ok(new);
        }
        let vm_userfaultfd_ctx =
            if self.has_fault(Fault::CtxKept) { new.vm_userfaultfd_ctx } else { None };
        Ok(Attributes { vm_flags: new.vm_flags - self.cleared(), vm_userfaultfd_ctx, ..new })
    }

    /// [`CLEARED`], where nothing is wrong with it.
    fn cleared(&self) -> VmFlags {
        let forgotten = match self.fault {
            Some(Fault::MaskNoUffdMissing) => VmFlags::VM_UFFD_MISSING,
            Some(Fault::MaskNoMergeable) => VmFlags::VM_MERGEABLE,
            Some(Fault::MaskNoLocked) => VmFlags::VM_LOCKED,
            Some(Fault::MaskNoLockonfault) => VmFlags::VM_LOCKONFAULT,
            Some(Fault::MaskNoWipeonfork) => VmFlags::VM_WIPEONFORK,
            Some(Fault::MaskNoDontcopy) => VmFlags::VM_DONTCOPY,
            Some(Fault::MaskClearsAccount) => return CLEARED | VmFlags::VM_ACCOUNT,
            _ => return CLEARED,
        };
        CLEARED - forgotten
    }

    /// What `vma_merge()` is asked with: the attributes of the new range, where nothing is wrong.
    fn asked_of_merge(&self, vma: VmaKey, new: &Attributes) -> Result<Attributes, Stop> {
        const F: &str = "copy_vma";
        Ok(match self.fault {
            Some(Fault::MaskDuplicateOnly) => {
                Attributes { vm_flags: read!(self, F, vma.vm_flags), ..*new }
            }
            Some(Fault::CtxKeptInMerge) => {
                Attributes { vm_userfaultfd_ctx: read!(self, F, vma.vm_userfaultfd_ctx), ..*new }
            }
            Some(Fault::MergeAskedWithoutPolicy) => Attributes { policy: Mode::Default, ..*new },
            _ => *new,
        })
    }

    /// `*need_rmap_locks` after a merge: whether the new range may sort before the source in
    /// reverse-map order.
    fn need_rmap_locks(&self, new_pgoff: Pgoff, pgoff: Pgoff) -> bool {
        match self.fault {
            Some(Fault::RmapLocksStrict) => new_pgoff < pgoff,
            Some(Fault::RmapLocksAlways) => true,
            Some(Fault::RmapLocksNever) => false,
            Some(Fault::RmapLocksReversed) => new_pgoff >= pgoff,
            _ => new_pgoff <= pgoff,
        }
    }

    /// Whether the merge has swallowed the source, so that the caller must be given the merged VMA
    /// in its place.
    fn source_was_swallowed(
        &self,
        vma: VmaKey,
        saved: Saved,
        mm: MmKey,
        new_vma: VmaKey,
    ) -> Result<bool, Stop> {
        const F: &str = "copy_vma";
        let (start, end) = (read!(self, F, new_vma.vm_start), read!(self, F, new_vma.vm_end));
        let mut within = saved.vm_start >= start && saved.vm_start < end;
        if self.fault.is_some() {
            within = self.faulty_within(vma, saved, start, end)?;
        }
        match self.revision {
            // There is one address space only.
            Revision::Original => Ok(within),
            // Reads the source, which is gone exactly where the answer must be yes.
            Revision::Rfc | Revision::V2 => Ok(within && read!(self, F, vma.vm_mm) == mm),
            Revision::Fixed => Ok(match self.fault {
                Some(Fault::NeverRedirected) => false,
                Some(Fault::MmTestDropped) => within,
                Some(Fault::MmTestInverted) => within && saved.vm_mm != mm,
                Some(Fault::MmTestLate) => within && read!(self, F, vma.vm_mm) == mm,
                Some(Fault::MmTestWrongPair) => within && read!(self, F, new_vma.vm_mm) == mm,
                _ => within && saved.vm_mm == mm,
            }),
        }
    }

    /// Whether the source starts within the merged VMA, `start` to `end`, as a kernel with a fault
    /// sees it.
    fn faulty_within(
        &self,
        vma: VmaKey,
        saved: Saved,
        start: Addr,
        end: Addr,
    ) -> Result<bool, Stop> {
        const F: &str = "copy_vma";
        let vm_start = saved.vm_start;
        Ok(match self.fault {
            Some(Fault::StartReadLate) => {
                let vm_start = read!(self, F, vma.vm_start);
                vm_start >= start && vm_start < end
            }
            Some(Fault::SwallowedStartExclusive) => vm_start > start && vm_start < end,
            Some(Fault::SwallowedStartEarly) => vm_start + 1 >= start && vm_start < end,
            Some(Fault::SwallowedEndInclusive) => vm_start >= start && vm_start <= end,
            Some(Fault::SwallowedEndEarly) => vm_start >= start && vm_start + 1 < end,
            _ => vm_start >= start && vm_start < end,
        })
    }
}
