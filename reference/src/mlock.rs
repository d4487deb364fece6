//! `mlock2` and `munlock` (`mm/mlock.c`).

use vmadiff_machine::operand::Onfault;
use vmadiff_machine::{Errno, VmFlags};

use crate::change::Hole;
use crate::function::Function;
use crate::mm::Syscall;
use crate::range::Range;
use crate::refusal::{Progress, Refusal};

impl Syscall<'_> {
    /// Locks `range` and populates it.
    ///
    /// # Errors
    /// `EPERM` where locking is not permitted; `ENOMEM` past the limit on locked pages, without those
    /// that are locked in `range` already; `ENOMEM` for a hole or where a cut passes the limit on
    /// VMAs, which ends the call before it populates; `ENOMEM` where populating fails
    /// (`__mlock_posix_error_return()`); `EAGAIN` where populating waits for userfaultfd.
    pub(crate) fn mlock(&mut self, range: Range, onfault: Onfault) -> Result<u8, Refusal> {
        self.can_do_mlock()?;
        let more = u32::from(range.len()) - self.mm.locked_in(range);
        self.may_lock(more, Errno::ENOMEM, Function::DoMlock)?;
        self.set_lock_flags(
            range,
            match onfault {
                Onfault::No => VmFlags::VM_LOCKED,
                Onfault::Yes => VmFlags::LOCK,
            },
        )?;
        match self.populate(range).map_err(|refusal| refusal.after(Progress::NotPopulated)) {
            Err(refusal) if refusal.errno == Errno::EFAULT => {
                Err(Refusal { errno: Errno::ENOMEM, ..refusal })
            }
            other => other.map(|()| 0),
        }
    }

    /// Unlocks `range`.
    ///
    /// # Errors
    /// `ENOMEM` for a hole or where a cut passes the limit on VMAs, which ends the call.
    pub(crate) fn munlock(&mut self, range: Range) -> Result<u8, Refusal> {
        self.set_lock_flags(range, VmFlags::empty())?;
        Ok(0)
    }

    /// Sets the lock flags of `range` (`apply_vma_lock_flags()`). Special VMAs are left alone
    /// (`mlock_fixup()`).
    fn set_lock_flags(&mut self, range: Range, lock: VmFlags) -> Result<(), Refusal> {
        self.walk(range, Hole::Stops(Function::ApplyVmaLockFlags), |this, at, part| {
            let old = this.mm.vmas()[at].flags;
            if old.intersects(VmFlags::VM_SPECIAL) {
                return Ok(at);
            }
            this.change_flags(at, part, (old - VmFlags::LOCK) | lock)
        })
    }
}
