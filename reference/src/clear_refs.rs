//! Soft-dirty memory: what was mapped or changed since the last write to `/proc/PID/clear_refs`
//! (`fs/proc/task_mmu.c`).
//!
//! Each VMA is soft-dirty from the start (`mmap_region()`), and in a forked child as in the parent. The
//! merge rule ignores the flag, so a soft-dirty range may join a clean VMA. Then it depends on the call
//! whether that VMA becomes soft-dirty: see [`Joined`]. A VMA that a moved range joins keeps its flag.

use vmadiff_machine::VmFlags;

use crate::later;
use crate::mm::Syscall;
use crate::range::Range;
use crate::refusal::Refusal;
use crate::vma::Vma;

/// The effect on `VM_SOFTDIRTY` of a VMA that a range joins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joined {
    /// The VMA keeps its flag: `mbind`, `mseal`.
    Keeps,
    /// `munlock`: the VMA keeps its flag, but see [`MunlockSoftDirty`](later::Rule::MunlockSoftDirty).
    Unlocks,
    /// The VMA takes the flag of the range: the call writes `vm_flags` after the merge.
    Takes,
}

impl Syscall<'_> {
    /// Makes all memory of the process clean (`CLEAR_REFS_SOFT_DIRTY`): no VMA is soft-dirty, and no entry
    /// of private memory has its write bit, so that the next write to the page is noticed.
    pub(crate) fn clear_refs(&mut self) -> Result<u8, Refusal> {
        (0..self.mm.vmas().len()).for_each(|at| self.set_soft_dirty(at, false));
        self.mm.protect(Range::ALL);
        Ok(0)
    }

    /// Settles `VM_SOFTDIRTY` of the VMA at `at`, which `new` has joined.
    pub(crate) fn mark_joined(&mut self, at: usize, new: &Vma, joined: Joined) {
        let dirty = new.flags.contains(VmFlags::VM_SOFTDIRTY);
        let differ = || self.mm.vmas()[at].flags.contains(VmFlags::VM_SOFTDIRTY) != dirty;
        let takes = match joined {
            Joined::Takes => true,
            Joined::Keeps => false,
            Joined::Unlocks => self.later.applies(later::Rule::MunlockSoftDirty, differ),
        };
        if takes {
            self.set_soft_dirty(at, dirty);
        }
    }

    /// Makes the VMA at `at` soft-dirty or clean.
    pub(crate) fn set_soft_dirty(&mut self, at: usize, dirty: bool) {
        if self.mm.vmas()[at].flags.contains(VmFlags::VM_SOFTDIRTY) != dirty {
            self.mm.vma_mut(at).flags.set(VmFlags::VM_SOFTDIRTY, dirty);
        }
    }
}
