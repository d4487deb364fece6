//! `mlock2` and `munlock` (`mm/mlock.c`).

use vmadiff_machine::operand::Onfault;
use vmadiff_machine::{Errno, VmFlags};

use crate::change::Hole;
use crate::mm::Syscall;
use crate::range::Range;

impl Syscall<'_> {
    /// Locks `range` and populates it.
    ///
    /// # Errors
    /// `EPERM` where locking is not permitted; `ENOMEM` past the limit, not counting what is
    /// locked in `range` already; `ENOMEM` for a hole or a cut too many, where locking ends and
    /// nothing is populated; `ENOMEM` where populating fails (`__mlock_posix_error_return()`);
    /// `EAGAIN` where it waits for userfaultfd.
    pub(crate) fn mlock(&mut self, range: Range, onfault: Onfault) -> Result<u8, Errno> {
        self.can_do_mlock()?;
        let more = u32::from(range.len()) - self.mm.locked_in(range);
        if self.may_lock(more).is_err() {
            return Err(Errno::ENOMEM);
        }
        self.set_lock_flags(
            range,
            match onfault {
                Onfault::No => VmFlags::VM_LOCKED,
                Onfault::Yes => VmFlags::LOCK,
            },
        )?;
        match self.populate(range) {
            Err(Errno::EFAULT) => Err(Errno::ENOMEM),
            other => other.map(|()| 0),
        }
    }

    /// Unlocks `range`.
    ///
    /// # Errors
    /// `ENOMEM` for a hole or a cut too many, where unlocking ends.
    pub(crate) fn munlock(&mut self, range: Range) -> Result<u8, Errno> {
        self.set_lock_flags(range, VmFlags::empty())?;
        Ok(0)
    }

    /// `apply_vma_lock_flags()`. Special mappings are passed over (`mlock_fixup()`).
    fn set_lock_flags(&mut self, range: Range, lock: VmFlags) -> Result<(), Errno> {
        self.walk(range, Hole::Stops, |this, at, part| {
            let old = this.mm.vmas()[at].flags;
            if old.intersects(VmFlags::VM_SPECIAL) {
                return Ok(at);
            }
            this.change_flags(at, part, (old - VmFlags::LOCK) | lock)
        })
    }
}
