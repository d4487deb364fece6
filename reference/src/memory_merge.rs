//! `prctl` with `PR_SET_MEMORY_MERGE` of later kernels: a process whose mappings are all marked for KSM
//! (`mm/ksm.c`).
//!
//! A mark is the flag `VM_MERGEABLE`. `MADV_MERGEABLE` and `MADV_UNMERGEABLE` change it as before, whatever the
//! process has set.

use vmadiff_machine::operand::MemoryMerge;
use vmadiff_machine::{Errno, VmFlags};

use crate::function::Function;
use crate::later;
use crate::mm::Syscall;
use crate::refusal::{Refusal, Rule};
use crate::vma::Vma;

/// Returns `flags` with the mark, if KSM takes a VMA with these flags (`vma_ksm_compatible()`). A shared or
/// special VMA is left alone, without an error.
pub(crate) fn marked(flags: VmFlags) -> VmFlags {
    match flags.intersects(VmFlags::VM_MAYSHARE | VmFlags::VM_SPECIAL) {
        true => flags,
        false => flags | VmFlags::VM_MERGEABLE,
    }
}

impl Syscall<'_> {
    /// Marks every VMA that KSM takes, and every later mapping; or removes the mark of every VMA, also where
    /// `MADV_MERGEABLE` set it, and ends the marking. A call that sets what is set already does nothing, so it
    /// leaves the marks as `madvise` has changed them. VMAs that have equal flags afterwards do not merge.
    ///
    /// # Errors
    /// `EINVAL` on 5.2.1.
    pub(crate) fn memory_merge(&mut self, merge: MemoryMerge) -> Result<u8, Refusal> {
        if !self.later.applies(later::Rule::MemoryMerge, || true) {
            return self.refuse(Errno::EINVAL, Function::Prctl, Rule::UnknownOption);
        }
        let on = merge == MemoryMerge::On;
        if self.mm.merge_any != on {
            self.mm.merge_any = on;
            for at in 0..self.mm.vmas().len() {
                let vma = self.mm.vma_mut(at);
                vma.flags = if on { marked(vma.flags) } else { vma.flags - VmFlags::VM_MERGEABLE };
            }
        }
        Ok(0)
    }

    /// Marks the VMA of a new mapping that has joined no neighbour, if the process has set it (`ksm_add_vma()`).
    pub(crate) fn mark_new(&self, new: &mut Vma) {
        let flags = marked(new.flags);
        if self.mm.merge_any && self.later.applies(later::Rule::MemoryMerge, || flags != new.flags)
        {
            new.flags = flags;
        }
    }

    /// Marks a new mapping before its neighbours are asked, with
    /// [`MemoryMergeFirst`](later::Rule::MemoryMergeFirst) (`ksm_vma_flags()`).
    pub(crate) fn mark_before_merge(&self, new: &mut Vma) {
        if self.later.hold.has(later::Rule::MemoryMergeFirst) {
            let unmarked = *new;
            self.mark_new(new);
            let differs = || !self.join_alike(&unmarked, new);
            self.later.applies(later::Rule::MemoryMergeFirst, differs);
        }
    }
}
