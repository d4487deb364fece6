//! `madvise` (`mm/madvise.c`, `ksm_madvise()` of `mm/ksm.c`).

use vmadiff_machine::operand::Advice;
use vmadiff_machine::{Errno, VmFlags};

use crate::change::Hole;
use crate::function::Function;
use crate::later;
use crate::mm::Syscall;
use crate::range::Range;
use crate::refusal::{Refusal, Rule};
use crate::vma::Vma;

/// Returns the flags that `advice` gives a VMA (`madvise_behavior()`).
///
/// # Errors
/// The rule that forbids the advice for this VMA.
fn advised(vma: &Vma, advice: Advice) -> Result<VmFlags, Rule> {
    use VmFlags as F;
    let (old, read_ahead) = (vma.flags, F::VM_RAND_READ | F::VM_SEQ_READ);
    let unless = |wrong: F, flags: F| match old & wrong {
        found if found.is_empty() => Ok(flags),
        found => Err(Rule::HasFlags { vma: vma.range, flags: found }),
    };
    match advice {
        Advice::Normal => Ok(old - read_ahead),
        Advice::Random => Ok((old - read_ahead) | F::VM_RAND_READ),
        Advice::Sequential => Ok((old - read_ahead) | F::VM_SEQ_READ),
        Advice::Dontfork => Ok(old | F::VM_DONTCOPY),
        Advice::Dofork => unless(F::VM_IO, old - F::VM_DONTCOPY),
        Advice::Dontdump => Ok(old | F::VM_DONTDUMP),
        Advice::Dodump => unless(F::VM_SPECIAL, old - F::VM_DONTDUMP),
        Advice::Wipeonfork if !vma.is_anonymous() => Err(Rule::OfFile { vma: vma.range, advice }),
        Advice::Wipeonfork => Ok(old | F::VM_WIPEONFORK),
        Advice::Keeponfork => Ok(old - F::VM_WIPEONFORK),
        // A shared or special VMA is left alone, without an error.
        Advice::Mergeable if old.intersects(F::VM_MAYSHARE | F::VM_SPECIAL) => Ok(old),
        Advice::Mergeable => Ok(old | F::VM_MERGEABLE),
        Advice::Unmergeable => Ok(old - F::VM_MERGEABLE),
        Advice::Willneed
        | Advice::Dontneed
        | Advice::Free
        | Advice::Hugepage
        | Advice::Nohugepage => Ok(old),
    }
}

impl Syscall<'_> {
    /// Advises how `range` will be used. `DONTNEED` empties its page tables. `FREE` would do so under
    /// memory pressure, which there is none of. `WILLNEED` reads ahead, which no observation shows.
    ///
    /// # Errors
    /// `EINVAL` for an advice that the kernel was built without, even for no pages; `EINVAL` for a
    /// VMA that the advice does not suit and `ENOMEM` where a cut passes the limit on VMAs, both of
    /// which end the walk (`EAGAIN` with [`MadviseCutEagain`](later::Rule::MadviseCutEagain)); `ENOMEM`
    /// for holes, after all the rest is done.
    pub(crate) fn madvise(&mut self, range: Range, advice: Advice) -> Result<u8, Refusal> {
        if matches!(advice, Advice::Hugepage | Advice::Nohugepage) {
            return self.refuse(Errno::EINVAL, Function::MadviseBehaviorValid, Rule::NoHugePages);
        }
        self.walk(range, Hole::Remembered, |this, at, part| {
            let vma = this.mm.vmas()[at];
            if matches!(advice, Advice::Dontneed | Advice::Free) {
                // `can_madv_dontneed_vma()`, `madvise_free_single_vma()`.
                let flags = vma.flags & (VmFlags::VM_LOCKED | VmFlags::VM_PFNMAP);
                if !flags.is_empty() {
                    let rule = Rule::HasFlags { vma: vma.range, flags };
                    return this.refuse(Errno::EINVAL, Function::MadviseDontneedFree, rule);
                }
                if advice == Advice::Free && !vma.is_anonymous() {
                    let rule = Rule::OfFile { vma: vma.range, advice };
                    return this.refuse(Errno::EINVAL, Function::MadviseFreeSingleVma, rule);
                }
                if advice == Advice::Dontneed {
                    this.zap(part);
                }
                return Ok(at);
            }
            match advised(&vma, advice) {
                Ok(flags) => this.change_flags(at, part, flags).map_err(|refusal| {
                    let cut = || refusal.errno == Errno::ENOMEM;
                    match this.later.applies(later::Rule::MadviseCutEagain, cut) {
                        true => Refusal { errno: Errno::EAGAIN, ..refusal },
                        false => refusal,
                    }
                }),
                Err(rule) => this.refuse(Errno::EINVAL, Function::MadviseBehavior, rule),
            }
        })?;
        Ok(0)
    }
}
