//! `mlock2()` and `munlock()`, `mlockall()` and `munlockall()`.

use vmadiff_machine::operand::MlockallFlags;
use vmadiff_machine::{Errno, VmFlags};

use crate::addr::Addr;
use crate::handle::{MmKey, VmaKey, edit, read};
use crate::kernel::Kernel;
use crate::locks::Lock;
use crate::populate::OnError;
use crate::stop::{Caught, Stop};
use crate::vma_list::Walk;
use crate::vma_merge::Attributes;

/// `__mlock_posix_error_return()`: translates an error of populating to an error of `mlock()`.
fn mlock_posix_error_return(errno: Errno) -> Errno {
    match errno {
        Errno::EFAULT => Errno::ENOMEM,
        Errno::ENOMEM => Errno::EAGAIN,
        other => other,
    }
}

impl Kernel {
    /// `do_mlock()`: locks the range. `flags` are the lock flags that the mappings get.
    ///
    /// # Errors
    /// `EPERM` where the process may not lock memory at all. `ENOMEM` past a limit, for a hole, or
    /// for a page that cannot be populated. `EAGAIN` where populating would wait for ever.
    pub(crate) fn do_mlock(
        &mut self,
        mm: MmKey,
        start: Addr,
        len: u32,
        flags: VmFlags,
    ) -> Result<(), Stop> {
        const F: &str = "do_mlock";
        if !self.can_do_mlock() {
            return Err(Errno::EPERM.into());
        }
        self.locked(Lock::MmapSem(mm), F, |kernel| {
            kernel.mlock_within_limit(mm, start, len)?;
            kernel.apply_vma_lock_flags(mm, start, len, flags)
        })?;
        match self.mm_populate(mm, start, len, OnError::Return).errno()? {
            Ok(()) => Ok(()),
            Err(errno) => Err(mlock_posix_error_return(errno).into()),
        }
    }

    /// Holds the pages that `mlock()` would lock against the limit.
    ///
    /// # Errors
    /// `ENOMEM` past the limit.
    fn mlock_within_limit(&self, mm: MmKey, start: Addr, len: u32) -> Result<(), Stop> {
        const F: &str = "do_mlock";
        let mut locked = i64::from(len) + read!(self, F, mm.locked_vm);
        if self.past_lock_limit(locked) {
            // Pages that are locked already are not counted twice.
            locked -= self.count_mm_mlocked_page_nr(mm, start, len)?;
        }
        if self.past_lock_limit(locked) {
            return Err(Errno::ENOMEM.into());
        }
        Ok(())
    }

    /// `munlock()`.
    ///
    /// # Errors
    /// `ENOMEM` past the limit on mappings, or for a hole. VMAs before that one stay changed.
    pub(crate) fn do_munlock(&mut self, mm: MmKey, start: Addr, len: u32) -> Result<(), Stop> {
        const F: &str = "munlock";
        self.locked(Lock::MmapSem(mm), F, |kernel| {
            kernel.apply_vma_lock_flags(mm, start, len, VmFlags::empty())
        })
    }

    /// `mlockall()`.
    ///
    /// # Errors
    /// `EINVAL` for flags that lock nothing. `EPERM` where the process may not lock memory at all.
    /// `ENOMEM` past the limit. `EAGAIN` where populating would wait for ever.
    pub(crate) fn mlockall(&mut self, mm: MmKey, flags: MlockallFlags) -> Result<(), Stop> {
        const F: &str = "mlockall";
        if flags.is_empty() || flags == MlockallFlags::ONFAULT {
            return Err(Errno::EINVAL.into());
        }
        if !self.can_do_mlock() {
            return Err(Errno::EPERM.into());
        }
        let current = flags.contains(MlockallFlags::CURRENT);
        self.locked(Lock::MmapSem(mm), F, |kernel| {
            if current && kernel.past_lock_limit(read!(kernel, F, mm.total_vm)) {
                return Err(Errno::ENOMEM.into());
            }
            kernel.apply_mlockall_flags(mm, flags)
        })?;
        if current {
            self.mm_populate(mm, Addr(0), Addr::END.0, OnError::Ignore)?;
        }
        Ok(())
    }

    /// `munlockall()`.
    pub(crate) fn munlockall(&mut self, mm: MmKey) -> Result<(), Stop> {
        const F: &str = "munlockall";
        self.locked(Lock::MmapSem(mm), F, |kernel| {
            kernel.apply_mlockall_flags(mm, MlockallFlags::empty())
        })
    }

    /// `apply_mlockall_flags()`.
    fn apply_mlockall_flags(&mut self, mm: MmKey, flags: MlockallFlags) -> Result<(), Stop> {
        const F: &str = "apply_mlockall_flags";
        let onfault = flags.contains(MlockallFlags::ONFAULT);
        *edit!(self, F, mm.def_flags) -= VmFlags::LOCK;
        if flags.contains(MlockallFlags::FUTURE) {
            *edit!(self, F, mm.def_flags) |= VmFlags::VM_LOCKED;
            if onfault {
                *edit!(self, F, mm.def_flags) |= VmFlags::VM_LOCKONFAULT;
            }
            if !flags.contains(MlockallFlags::CURRENT) {
                return Ok(());
            }
        }
        let mut to_add = VmFlags::empty();
        if flags.contains(MlockallFlags::CURRENT) {
            to_add |= VmFlags::VM_LOCKED;
            if onfault {
                to_add |= VmFlags::VM_LOCKONFAULT;
            }
        }
        let mut prev = None;
        let mut next = read!(self, F, mm.mmap);
        let mut walk = Walk::new();
        while let Some(vma) = next {
            walk.step()?;
            let newflags = (read!(self, F, vma.vm_flags) - VmFlags::LOCK) | to_add;
            let (start, end) = (read!(self, F, vma.vm_start), read!(self, F, vma.vm_end));
            // The kernel ignores errors. A whole VMA is not split, so there are none.
            let last = self.mlock_fixup(vma, prev, start, end, newflags)?;
            prev = Some(last);
            next = read!(self, F, last.vm_next);
        }
        Ok(())
    }

    /// `apply_vma_lock_flags()`.
    fn apply_vma_lock_flags(
        &mut self,
        mm: MmKey,
        start: Addr,
        len: u32,
        flags: VmFlags,
    ) -> Result<(), Stop> {
        const F: &str = "apply_vma_lock_flags";
        if len == 0 {
            return Ok(());
        }
        let end = start + len;
        let Some(mut vma) = self.find_vma_at(mm, start)? else { return Err(Errno::ENOMEM.into()) };
        let mut prev = read!(self, F, vma.vm_prev);
        if start > read!(self, F, vma.vm_start) {
            prev = Some(vma);
        }
        let mut nstart = start;
        let mut walk = Walk::new();
        loop {
            walk.step()?;
            let newflags = (read!(self, F, vma.vm_flags) - VmFlags::LOCK) | flags;
            let tmp = read!(self, F, vma.vm_end).min(end);
            let last = self.mlock_fixup(vma, prev, nstart, tmp, newflags)?;
            prev = Some(last);
            nstart = tmp.max(read!(self, F, last.vm_end));
            if nstart >= end {
                return Ok(());
            }
            vma = match read!(self, F, last.vm_next) {
                Some(next) if read!(self, F, next.vm_start) == nstart => next,
                _ => return Err(Errno::ENOMEM.into()),
            };
        }
    }

    /// `mlock_fixup()`: changes one VMA or part of it, and returns the VMA that the range is in
    /// afterwards.
    fn mlock_fixup(
        &mut self,
        mut vma: VmaKey,
        prev: Option<VmaKey>,
        start: Addr,
        end: Addr,
        newflags: VmFlags,
    ) -> Result<VmaKey, Stop> {
        const F: &str = "mlock_fixup";
        let mm = read!(self, F, vma.vm_mm);
        let old_flags = read!(self, F, vma.vm_flags);
        let lock = newflags.contains(VmFlags::VM_LOCKED);
        if newflags == old_flags || old_flags.intersects(VmFlags::VM_SPECIAL) {
            return Ok(vma);
        }
        let new = Attributes { vm_flags: newflags, ..self.attributes(vma, start)? };
        match self.vma_merge(mm, prev, start, end, &new)? {
            Some(merged) => vma = merged,
            None => self.split_at_both_ends(mm, vma, start, end)?,
        }
        let pages = i64::from(end - start);
        let locked_vm = edit!(self, F, mm.locked_vm);
        if !lock {
            *locked_vm -= pages;
        } else if !old_flags.contains(VmFlags::VM_LOCKED) {
            *locked_vm += pages;
        }
        if lock {
            *edit!(self, F, vma.vm_flags) = newflags;
        } else {
            self.munlock_vma_pages_range(vma)?;
        }
        Ok(vma)
    }

    /// `munlock_vma_pages_range()`.
    pub(crate) fn munlock_vma_pages_range(&mut self, vma: VmaKey) -> Result<(), Stop> {
        const F: &str = "munlock_vma_pages_range";
        *edit!(self, F, vma.vm_flags) -= VmFlags::LOCK;
        Ok(())
    }

    /// `count_mm_mlocked_page_nr()`: returns how many pages of the range are locked.
    fn count_mm_mlocked_page_nr(&self, mm: MmKey, start: Addr, len: u32) -> Result<i64, Stop> {
        const F: &str = "count_mm_mlocked_page_nr";
        let end = start + len;
        let mut count = 0;
        let mut next = self.find_vma(mm, start)?;
        let mut walk = Walk::new();
        while let Some(vma) = next {
            walk.step()?;
            let (vma_start, vma_end) = (read!(self, F, vma.vm_start), read!(self, F, vma.vm_end));
            if end <= vma_start {
                break;
            }
            if read!(self, F, vma.vm_flags).contains(VmFlags::VM_LOCKED) {
                count += i64::from(vma_end.min(end) - vma_start.max(start));
            }
            next = read!(self, F, vma.vm_next);
        }
        Ok(count)
    }
}
