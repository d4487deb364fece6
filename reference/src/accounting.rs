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

fn pages(vmas: &[Vma], counts: impl Fn(&Vma) -> bool) -> u32 {
    vmas.iter().filter(|vma| counts(vma)).map(|vma| u32::from(vma.range.len())).sum()
}

fn is_locked(vma: &Vma) -> bool {
    vma.flags.contains(VmFlags::VM_LOCKED)
}

impl Mm {
    /// `total_vm`, in pages.
    pub(crate) fn total_vm(&self) -> u32 {
        pages(self.vmas(), |_| true)
    }

    /// `locked_vm`, in pages.
    pub(crate) fn locked_vm(&self) -> u32 {
        pages(self.vmas(), is_locked)
    }

    /// Pages of `range` that are mapped (`count_vma_pages_range()`).
    pub(crate) fn mapped_in(&self, range: Range) -> u32 {
        self.all_in(range).iter().map(|vma| u32::from(vma.range.intersection(range).len())).sum()
    }

    /// Pages of `range` that are locked (`count_mm_mlocked_page_nr()`).
    pub(crate) fn locked_in(&self, range: Range) -> u32 {
        let locked = self.all_in(range).iter().filter(|vma| is_locked(vma));
        locked.map(|vma| u32::from(vma.range.intersection(range).len())).sum()
    }

    /// Pages charged to committed memory.
    pub(crate) fn committed(&self) -> u32 {
        pages(self.vmas(), |vma| vma.flags.contains(VmFlags::VM_ACCOUNT))
    }

    /// The counters as they are shown.
    pub(crate) fn counters(&self) -> Counters {
        Counters {
            total_vm: self.total_vm().into(),
            locked_vm: self.locked_vm().into(),
            // `is_data_mapping()`.
            data_vm: pages(self.vmas(), Vma::is_private_writable).into(),
            map_count: self.vmas().len() as i64,
        }
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
