//! `madvise` (`mm/madvise.c`, `ksm_madvise()` of `mm/ksm.c`).

use vmadiff_machine::operand::Advice;
use vmadiff_machine::{Errno, VmFlags};

use crate::change::Hole;
use crate::mm::Syscall;
use crate::range::Range;
use crate::vma::Vma;

/// The flags that `advice` gives a VMA (`madvise_behavior()`).
///
/// # Errors
/// `EINVAL` for memory it is not for.
fn advised(vma: &Vma, advice: Advice) -> Result<VmFlags, Errno> {
    use VmFlags as F;
    let (old, read_ahead) = (vma.flags, F::VM_RAND_READ | F::VM_SEQ_READ);
    let unless = |wrong: bool, flags: F| if wrong { Err(Errno::EINVAL) } else { Ok(flags) };
    match advice {
        Advice::Normal => Ok(old - read_ahead),
        Advice::Random => Ok((old - read_ahead) | F::VM_RAND_READ),
        Advice::Sequential => Ok((old - read_ahead) | F::VM_SEQ_READ),
        Advice::Dontfork => Ok(old | F::VM_DONTCOPY),
        Advice::Dofork => unless(old.contains(F::VM_IO), old - F::VM_DONTCOPY),
        Advice::Dontdump => Ok(old | F::VM_DONTDUMP),
        Advice::Dodump => unless(old.intersects(F::VM_SPECIAL), old - F::VM_DONTDUMP),
        Advice::Wipeonfork => unless(!vma.is_anonymous(), old | F::VM_WIPEONFORK),
        Advice::Keeponfork => Ok(old - F::VM_WIPEONFORK),
        // Anything shared, or special, is passed over in silence.
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
    /// Advises how `range` will be used. `DONTNEED` empties its page tables; `FREE` would under
    /// memory pressure, of which there is none; `WILLNEED` reads ahead, which is not seen.
    ///
    /// # Errors
    /// `EINVAL` for an advice the kernel was built without, even for no pages; `EINVAL` for memory
    /// that the advice is not for, `ENOMEM` for a cut too many, where the walk ends; `ENOMEM`
    /// after all is done, where there are holes.
    pub(crate) fn madvise(&mut self, range: Range, advice: Advice) -> Result<u8, Errno> {
        if matches!(advice, Advice::Hugepage | Advice::Nohugepage) {
            return Err(Errno::EINVAL);
        }
        self.walk(range, Hole::Remembered, |this, at, part| {
            let vma = this.mm.vmas()[at];
            if matches!(advice, Advice::Dontneed | Advice::Free) {
                // `can_madv_dontneed_vma()`, `madvise_free_single_vma()`.
                let kept = vma.flags.intersects(VmFlags::VM_LOCKED | VmFlags::VM_PFNMAP);
                if kept || (advice == Advice::Free && !vma.is_anonymous()) {
                    return Err(Errno::EINVAL);
                }
                if advice == Advice::Dontneed {
                    this.zap(part);
                }
                return Ok(at);
            }
            this.change_flags(at, part, advised(&vma, advice)?)
        })?;
        Ok(0)
    }
}
