//! `mlock2` and `munlock`, `mlockall` and `munlockall` (`mm/mlock.c`).

use vmadiff_machine::operand::{MlockallFlags, Onfault};
use vmadiff_machine::{Errno, VmFlags};

use crate::change::Hole;
use crate::clear_refs::Joined;
use crate::function::Function;
use crate::mm::Syscall;
use crate::range::Range;
use crate::refusal::{Progress, Refusal, Rule};

impl Syscall<'_> {
    /// Locks `range` and populates it.
    ///
    /// # Errors
    /// `EPERM` where locking is not permitted; `ENOMEM` past the limit on locked pages, without those
    /// that are locked in `range` already; `ENOMEM` for a hole or where a cut passes the limit on
    /// VMAs, which ends the call before it populates; `ENOMEM` where populating fails
    /// (`__mlock_posix_error_return()`); `EAGAIN` where populating waits for userfaultfd, or finds no
    /// memory.
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
            Err(refusal) if refusal.rule == Rule::NoMemory => {
                Err(Refusal { errno: Errno::EAGAIN, ..refusal })
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

    /// Locks all memory of the process. `MCL_CURRENT` locks and populates every mapping that there
    /// is; `MCL_FUTURE` every mapping that is made later. Each call replaces the setting for later
    /// mappings: a call without `MCL_FUTURE` ends it.
    ///
    /// # Errors
    /// `EINVAL` without `MCL_CURRENT` and `MCL_FUTURE`; `EPERM` where locking is not permitted;
    /// `ENOMEM` with `MCL_CURRENT` where more pages are mapped than may be locked; `EAGAIN` where
    /// populating waits for userfaultfd. A page that cannot be populated for another reason is no
    /// error.
    pub(crate) fn mlockall(&mut self, how: MlockallFlags) -> Result<u8, Refusal> {
        let (current, future) = (MlockallFlags::CURRENT, MlockallFlags::FUTURE);
        if !how.intersects(current | future) {
            return self.refuse(Errno::EINVAL, Function::Mlockall, Rule::NothingToLock);
        }
        self.can_do_mlock()?;
        if how.contains(current) {
            self.may_lock_all()?;
        }
        let lock = match how.contains(MlockallFlags::ONFAULT) {
            true => VmFlags::LOCK,
            false => VmFlags::VM_LOCKED,
        };
        self.mm.lock_future = if how.contains(future) { lock } else { VmFlags::empty() };
        if how.contains(current) {
            self.walk(Range::ALL, Hole::Ignored, |this, at, part| this.set_lock(at, part, lock))?;
            let populated = self.populate_quietly(Range::ALL);
            populated.map_err(|refusal| refusal.after(Progress::NotPopulated))?;
        }
        Ok(0)
    }

    /// Unlocks all memory of the process, and ends the setting of `MCL_FUTURE`.
    pub(crate) fn munlockall(&mut self) -> Result<u8, Refusal> {
        self.mm.lock_future = VmFlags::empty();
        let none = VmFlags::empty();
        self.walk(Range::ALL, Hole::Ignored, |this, at, part| this.set_lock(at, part, none))?;
        Ok(0)
    }

    /// Sets the lock flags of `range` (`apply_vma_lock_flags()`).
    fn set_lock_flags(&mut self, range: Range, lock: VmFlags) -> Result<(), Refusal> {
        let hole = Hole::Stops(Function::ApplyVmaLockFlags);
        self.walk(range, hole, |this, at, part| this.set_lock(at, part, lock))
    }

    /// Sets the lock flags of `part` of the VMA at `at`, and returns the index of the VMA that maps
    /// the part afterwards. A special VMA is left alone (`mlock_fixup()`).
    fn set_lock(&mut self, at: usize, part: Range, lock: VmFlags) -> Result<usize, Refusal> {
        let old = self.mm.vmas()[at].flags;
        if old.intersects(VmFlags::VM_SPECIAL) {
            return Ok(at);
        }
        let joined = if lock.is_empty() { Joined::Unlocks } else { Joined::Takes };
        self.change_flags(at, part, (old - VmFlags::LOCK) | lock, joined)
    }
}
