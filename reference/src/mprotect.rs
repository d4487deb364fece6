//! `mprotect` (`mm/mprotect.c`).

use vmadiff_machine::operand::Prot;
use vmadiff_machine::{Errno, VmFlags};

use crate::change::Hole;
use crate::mm::Syscall;
use crate::mmap::access;
use crate::range::Range;

impl Syscall<'_> {
    /// Gives `range` another protection. Private memory that becomes writable is charged for ever
    /// after, unless it is `VM_NORESERVE` (`mprotect_fixup()`); if it is locked, it is populated,
    /// and whatever that ends with is not told. It does not even wait for userfaultfd: there a
    /// fault that may not be retried fails (`handle_userfault()` without
    /// `FAULT_FLAG_ALLOW_RETRY`).
    ///
    /// # Errors
    /// `ENOMEM` for a hole, `EACCES` where the file was not opened for that, `ENOMEM` for a cut
    /// too many; what was done before stays done.
    pub(crate) fn mprotect(&mut self, range: Range, prot: Prot) -> Result<u8, Errno> {
        use VmFlags as F;
        self.walk(range, Hole::Stops, |this, at, part| {
            let old = this.mm.vmas()[at].flags;
            let mut new = (old - F::ACCESS) | access(prot);
            let may = F::from_bits_truncate(old.bits() >> 4);
            if !may.contains(access(prot)) {
                return Err(Errno::EACCES);
            }
            if new == old {
                return Ok(at);
            }
            let uncharged = F::VM_ACCOUNT | F::VM_WRITE | F::VM_SHARED | F::VM_NORESERVE;
            if new.contains(F::VM_WRITE) && !old.intersects(uncharged) {
                new |= F::VM_ACCOUNT;
            }
            let at = this.change_flags(at, part, new)?;
            let locked = old & (F::VM_WRITE | F::VM_SHARED | F::VM_LOCKED) == F::VM_LOCKED;
            if locked && new.contains(F::VM_WRITE) {
                let _ = this.populate_part(at, part);
            }
            Ok(at)
        })?;
        Ok(0)
    }
}
