//! `mseal` of later kernels (`mm/mseal.c`), and the checks of sealed VMAs in other calls.
//!
//! A sealed VMA is never unmapped, moved or resized, and keeps its protection. Each check is made VMA by
//! VMA, as kernels since 6.12 make it (`can_modify_vma()`).

use vmadiff_machine::operand::Advice;
use vmadiff_machine::{Errno, VmFlags};

use crate::change::Hole;
use crate::clear_refs::Joined;
use crate::function::Function;
use crate::later;
use crate::mm::Syscall;
use crate::range::Range;
use crate::refusal::{Refusal, Rule};
use crate::vma::Vma;

/// Returns whether the advice discards pages, in this process or in a child (`is_discard()`).
fn is_discard(advice: Advice) -> bool {
    matches!(
        advice,
        Advice::Dontneed
            | Advice::DontneedLocked
            | Advice::Free
            | Advice::Dontfork
            | Advice::Wipeonfork
            | Advice::Remove
    )
}

impl Syscall<'_> {
    /// Seals `range`.
    ///
    /// # Errors
    /// `ENOSYS` on 5.2.1. `ENOMEM` for a hole, before anything is sealed; `ENOMEM` where a cut passes the
    /// limit on VMAs, which ends the walk.
    pub(crate) fn mseal(&mut self, range: Range) -> Result<u8, Refusal> {
        if !self.later.applies(later::Rule::Mseal, || true) {
            return self.refuse(Errno::ENOSYS, Function::DoSyscall64, Rule::UnknownCall);
        }
        if let Some(hole) = range.pages().find(|page| self.mm.vma_at(*page).is_none()) {
            return self.refuse(Errno::ENOMEM, Function::DoMseal, Rule::NotMapped(hole));
        }
        self.walk(range, Hole::Stops(Function::DoMseal), |this, at, part| {
            let flags = this.mm.vmas()[at].flags | VmFlags::VM_SEALED;
            this.change_flags(at, part, flags, Joined::Keeps)
        })?;
        Ok(0)
    }

    /// Checks that `vma` is not sealed, for the kernel function that would modify it.
    ///
    /// # Errors
    /// `EPERM` where the VMA is sealed.
    pub(crate) fn may_modify(&self, vma: &Vma, function: Function) -> Result<(), Refusal> {
        if !self.later.applies(later::Rule::Mseal, || vma.is_sealed()) {
            return Ok(());
        }
        let rule = Rule::HasFlags { vma: vma.range, flags: VmFlags::VM_SEALED };
        self.refuse(Errno::EPERM, function, rule)
    }

    /// Checks that `vma` takes the advice (`can_madvise_modify()`): a sealed VMA of anonymous memory that
    /// cannot be written keeps its pages.
    ///
    /// # Errors
    /// `EPERM` where the VMA keeps its pages.
    pub(crate) fn may_advise(&self, vma: &Vma, advice: Advice) -> Result<(), Refusal> {
        let keeps = vma.is_anonymous() && !vma.flags.contains(VmFlags::VM_WRITE);
        match keeps && is_discard(advice) {
            true => self.may_modify(vma, Function::Madvise),
            false => Ok(()),
        }
    }
}
