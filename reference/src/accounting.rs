//! Accounting. The kernel updates its counters one addition at a time. At the end of each call of
//! the original kernel every counter equals a count over the VMAs, so the reference counts.
//!
//! This holds for the less obvious calls too. `move_vma()` hides `VM_ACCOUNT` from `do_munmap()`
//! and restores it on the one or two pieces that are left. `mlock_fixup()` counts a page that was
//! locked before only once. A call that fails uncharges what it charged.

use vmadiff_machine::operand::{Len, PageLimit, Resource};
use vmadiff_machine::{Counters, Errno, VmFlags};

use crate::function::Function;
use crate::mm::{Mm, Syscall};
use crate::range::Range;
use crate::refusal::{Limit, Refusal, Rule};
use crate::vma::Vma;

fn pages<'a>(vmas: impl IntoIterator<Item = &'a Vma>) -> u32 {
    vmas.into_iter().map(|vma| u32::from(vma.range.len())).sum()
}

fn is_locked(vma: &&Vma) -> bool {
    vma.flags.contains(VmFlags::VM_LOCKED)
}

impl Mm {
    /// Returns `total_vm`, in pages.
    fn total_vm(&self) -> u32 {
        pages(self.vmas())
    }

    /// Returns `locked_vm`, in pages.
    pub(crate) fn locked_vm(&self) -> u32 {
        let counted = i64::from(pages(self.vmas().iter().filter(is_locked)));
        (counted + self.locked_excess).max(0) as u32
    }

    /// Returns the counters as an observation shows them, the pages charged to committed memory, and the
    /// VMAs that map the segment.
    #[inline]
    pub(crate) fn count(&self) -> (Counters, i64, i64) {
        let (mut counters, mut committed, mut attached) = (Counters::default(), 0, 0);
        for vma in self.vmas() {
            let pages = i64::from(vma.range.len());
            let counts = |counted: bool| i64::from(counted) * pages;
            counters.total_vm += pages;
            counters.locked_vm += counts(vma.flags.contains(VmFlags::VM_LOCKED));
            // `is_data_mapping()`.
            counters.data_vm += counts(vma.is_private_writable());
            committed += counts(vma.flags.contains(VmFlags::VM_ACCOUNT));
            attached += i64::from(vma.is_attached());
        }
        counters.locked_vm += self.locked_excess;
        counters.map_count = self.vmas().len() as i64;
        (counters, committed, attached)
    }

    fn parts_in(&self, range: Range) -> impl Iterator<Item = Vma> {
        self.all_in(range).iter().map(move |vma| vma.part(range))
    }

    /// Returns the number of mapped pages of `range` (`count_vma_pages_range()`).
    pub(crate) fn mapped_in(&self, range: Range) -> u32 {
        self.parts_in(range).map(|vma| u32::from(vma.range.len())).sum()
    }

    /// Returns the number of locked pages of `range` (`count_mm_mlocked_page_nr()`).
    pub(crate) fn locked_in(&self, range: Range) -> u32 {
        let locked = self.parts_in(range).filter(|vma| is_locked(&vma));
        locked.map(|vma| u32::from(vma.range.len())).sum()
    }
}

/// Returns the limit `max` with its values if `have + more` passes it, else `None`.
fn past(have: u32, more: u32, max: u32) -> Option<Limit> {
    // A limit is a byte of the program or the kernel's default. Limits and counts are below 2^16.
    (have + more > max).then_some(Limit { have: have as u16, more: more as u16, max: max as u16 })
}

impl Syscall<'_> {
    /// Checks that `pages` more stay within `RLIMIT_AS` when `replaced` pages are unmapped first.
    ///
    /// # Errors
    /// `ENOMEM` (`may_expand_vm()`).
    pub(crate) fn may_expand(&self, pages: u32, replaced: u32) -> Result<(), Refusal> {
        // Without a limit there is no need to count.
        if let Some(max) = self.mm.max_pages
            && let Some(limit) = past(self.mm.total_vm(), pages - replaced, max.into())
        {
            return self.refuse(Errno::ENOMEM, Function::MayExpandVm, Rule::PageLimit(limit));
        }
        Ok(())
    }

    /// Gives the process another limit. What it has mapped and locked stays.
    pub(crate) fn prlimit(&mut self, resource: Resource, max: PageLimit) -> Result<u8, Refusal> {
        match resource {
            Resource::As => self.mm.max_pages = Some(max.0),
            Resource::Memlock => self.mm.max_locked = Some(max.0),
        }
        Ok(0)
    }

    /// Returns the largest number of locked pages, where there is a limit. Where the program begins without
    /// one, its processes have `CAP_IPC_LOCK`, and no limit holds.
    fn max_locked(&self) -> Option<u32> {
        self.mm.max_locked.filter(|_| self.limits.lock.is_some()).map(u32::from)
    }

    /// Checks that `pages` more may be locked.
    ///
    /// # Errors
    /// `errno`, on behalf of the kernel function `function`.
    pub(crate) fn may_lock(
        &self,
        pages: u32,
        errno: Errno,
        function: Function,
    ) -> Result<(), Refusal> {
        if let Some(max) = self.max_locked()
            && let Some(limit) = past(self.mm.locked_vm(), pages, max)
        {
            return self.refuse(errno, function, Rule::LockLimit(limit));
        }
        Ok(())
    }

    /// Checks that a new mapping of `pages` with the lock flags `lock` stays within `RLIMIT_MEMLOCK`.
    ///
    /// # Errors
    /// `EAGAIN` (`mlock_future_check()`).
    pub(crate) fn may_map_locked(&self, lock: VmFlags, pages: Len) -> Result<(), Refusal> {
        if lock.is_empty() {
            return Ok(());
        }
        self.may_lock(pages.0.into(), Errno::EAGAIN, Function::MlockFutureCheck)
    }

    /// Checks that the caller may lock all its memory: its mappings, locked or not, are within
    /// `RLIMIT_MEMLOCK`.
    ///
    /// # Errors
    /// `ENOMEM` (`mlockall()`).
    pub(crate) fn may_lock_all(&self) -> Result<(), Refusal> {
        match self.max_locked().and_then(|max| past(self.mm.total_vm(), 0, max)) {
            Some(limit) => {
                self.refuse(Errno::ENOMEM, Function::Mlockall, Rule::LockAllLimit(limit))
            }
            None => Ok(()),
        }
    }

    /// Checks that the caller may lock memory at all.
    ///
    /// # Errors
    /// `EPERM` (`can_do_mlock()`).
    pub(crate) fn can_do_mlock(&self) -> Result<(), Refusal> {
        if self.max_locked() == Some(0) {
            return self.refuse(Errno::EPERM, Function::CanDoMlock, Rule::LockForbidden);
        }
        Ok(())
    }

    /// Checks that there is room for `more` VMAs. The kernel's numbers are signed, so that a limit
    /// below `more` always refuses.
    ///
    /// # Errors
    /// `ENOMEM`, on behalf of the kernel function `function`.
    pub(crate) fn may_map(&self, more: u32, function: Function) -> Result<(), Refusal> {
        match past(self.mm.vmas().len() as u32, more, self.limits.max_map_count()) {
            Some(limit) => self.refuse(Errno::ENOMEM, function, Rule::MapCountLimit(limit)),
            None => Ok(()),
        }
    }
}
