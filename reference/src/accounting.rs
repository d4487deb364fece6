//! Accounting. The kernel keeps its counters up to date one addition at a time; wherever a call
//! of the original kernel ends, each equals what counting the VMAs gives. So they are counted.
//!
//! That holds where it is least plain, too: `move_vma()` hides `VM_ACCOUNT` from `do_munmap()`
//! and gives it back to the one or two pieces that are left; `mlock_fixup()` counts a page that
//! was locked before once; a call that fails uncharges what it charged.

use vmadiff_machine::{Counters, Errno, VmFlags};

use crate::mm::{Mm, Syscall};
use crate::range::Range;
use crate::vma::Vma;

fn pages<'a>(vmas: impl IntoIterator<Item = &'a Vma>) -> u32 {
    vmas.into_iter().map(|vma| u32::from(vma.range.len())).sum()
}

fn is_locked(vma: &&Vma) -> bool {
    vma.flags.contains(VmFlags::VM_LOCKED)
}

impl Mm {
    /// `total_vm`, in pages.
    fn total_vm(&self) -> u32 {
        pages(self.vmas())
    }

    /// `locked_vm`, in pages.
    fn locked_vm(&self) -> u32 {
        pages(self.vmas().iter().filter(is_locked))
    }

    /// The counters as they are shown, and the pages charged to committed memory.
    pub(crate) fn count(&self) -> (Counters, i64) {
        let (mut counters, mut committed) = (Counters::default(), 0);
        for vma in self.vmas() {
            let pages = i64::from(vma.range.len());
            let counts = |whether: bool| i64::from(whether) * pages;
            counters.total_vm += pages;
            counters.locked_vm += counts(vma.flags.contains(VmFlags::VM_LOCKED));
            // `is_data_mapping()`.
            counters.data_vm += counts(vma.is_private_writable());
            committed += counts(vma.flags.contains(VmFlags::VM_ACCOUNT));
        }
        counters.map_count = self.vmas().len() as i64;
        (counters, committed)
    }

    fn parts_in(&self, range: Range) -> impl Iterator<Item = Vma> {
        self.all_in(range).iter().map(move |vma| vma.part(range))
    }

    /// Pages of `range` that are mapped (`count_vma_pages_range()`).
    pub(crate) fn mapped_in(&self, range: Range) -> u32 {
        self.parts_in(range).map(|vma| u32::from(vma.range.len())).sum()
    }

    /// Pages of `range` that are locked (`count_mm_mlocked_page_nr()`).
    pub(crate) fn locked_in(&self, range: Range) -> u32 {
        let locked = self.parts_in(range).filter(|vma| is_locked(&vma));
        locked.map(|vma| u32::from(vma.range.len())).sum()
    }
}

impl Syscall<'_> {
    /// Whether `pages` more, with `replaced` fewer, stay within `RLIMIT_AS`.
    ///
    /// # Errors
    /// `ENOMEM` (`may_expand_vm()`).
    pub(crate) fn may_expand(&self, pages: u32, replaced: u32) -> Result<(), Errno> {
        let limit = self.limits.max_address_space();
        // Without a limit there is nothing to count.
        if limit < u32::MAX && self.mm.total_vm() + pages - replaced > limit {
            return Err(Errno::ENOMEM);
        }
        Ok(())
    }

    /// Whether `pages` more may be locked. Only a caller with a limit lacks `CAP_IPC_LOCK`.
    ///
    /// # Errors
    /// `EAGAIN` (`mlock_future_check()`).
    pub(crate) fn may_lock(&self, pages: u32) -> Result<(), Errno> {
        let limit = self.limits.max_locked();
        if limit < u32::MAX && self.mm.locked_vm() + pages > limit {
            return Err(Errno::EAGAIN);
        }
        Ok(())
    }

    /// Whether the caller may lock at all.
    ///
    /// # Errors
    /// `EPERM` (`can_do_mlock()`).
    pub(crate) fn can_do_mlock(&self) -> Result<(), Errno> {
        if self.limits.max_locked() == 0 { Err(Errno::EPERM) } else { Ok(()) }
    }

    /// Whether there is room for `more` VMAs. The kernel's numbers are signed, so that under a
    /// limit below `more` there never is.
    pub(crate) fn has_room_for(&self, more: usize) -> bool {
        (self.mm.vmas().len() + more) as u64 <= u64::from(self.limits.max_map_count())
    }
}
