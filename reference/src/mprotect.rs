//! `mprotect` (`mm/mprotect.c`).

use vmadiff_machine::operand::Prot;
use vmadiff_machine::{Allocation, Errno, VmFlags};

use crate::change::Hole;
use crate::clear_refs::Joined;
use crate::function::Function;
use crate::later;
use crate::mm::Syscall;
use crate::mmap::access;
use crate::range::Range;
use crate::refusal::{Refusal, Rule};
use crate::vma::Vma;

impl Syscall<'_> {
    /// Gives `range` another protection. Private memory that becomes writable is charged, and stays
    /// charged, unless it is `VM_NORESERVE` (`mprotect_fixup()`); but see
    /// [`MprotectUncharge`](later::Rule::MprotectUncharge). If that memory is locked it is
    /// populated, and the call ignores the result. Populating does not wait for userfaultfd here: a
    /// fault that may not be retried fails (`handle_userfault()` without `FAULT_FLAG_ALLOW_RETRY`).
    ///
    /// Any change makes the entries of private memory read-only, even one that permits writes: the
    /// protection of a private VMA's entries has no write bit (`change_pte_range()`).
    ///
    /// # Errors
    /// `ENOMEM` for a hole; `EACCES` where the file was not opened for the access; `ENOMEM` where a
    /// cut passes the limit on VMAs; `ENOMEM` without memory. With [`Mseal`](later::Rule::Mseal), `EPERM`
    /// where a VMA is sealed, even if it has the protection. Earlier VMAs keep their new protection.
    pub(crate) fn mprotect(&mut self, range: Range, prot: Prot) -> Result<u8, Refusal> {
        use VmFlags as F;
        self.walk(range, Hole::Stops(Function::DoMprotectPkey), |this, at, part| {
            let Vma { flags: old, range: vma, .. } = this.mm.vmas()[at];
            let mut new = (old - F::ACCESS) | access(prot);
            // VM_MAYREAD, VM_MAYWRITE and VM_MAYEXEC are four bits above what they permit.
            let lacks = F::from_bits_truncate(access(prot).bits() << 4) - old;
            if !lacks.is_empty() {
                let rule = Rule::LacksFlags { vma, flags: lacks };
                return this.refuse(Errno::EACCES, Function::DoMprotectPkey, rule);
            }
            this.may_modify(&this.mm.vmas()[at], Function::MprotectFixup)?;
            if new == old {
                return Ok(at);
            }
            let uncharged = F::VM_ACCOUNT | F::VM_WRITE | F::VM_SHARED | F::VM_NORESERVE;
            if new.contains(F::VM_WRITE) && !old.intersects(uncharged) {
                new |= F::VM_ACCOUNT;
                this.get_memory(Function::DoMprotectPkey, |what| what == Allocation::Charge)?;
            }
            if this.later.applies(later::Rule::MprotectUncharge, || {
                let vma = &this.mm.vmas()[at];
                !new.contains(F::VM_WRITE)
                    && old.contains(F::VM_ACCOUNT)
                    && vma.is_anonymous()
                    && vma.anon_vma.is_none()
            }) {
                new -= F::VM_ACCOUNT;
            }
            let at = this.change_flags(at, part, new, Joined::Takes)?;
            this.mm.protect(part);
            let locked = old & (F::VM_WRITE | F::VM_SHARED | F::VM_LOCKED) == F::VM_LOCKED;
            if locked && new.contains(F::VM_WRITE) {
                let _ = this.populate_part(at, part);
            }
            Ok(at)
        })?;
        Ok(0)
    }
}
