//! The limits, and the counters that are held against them.

use vmadiff_machine::operand::Resource;
use vmadiff_machine::{Allocation, Errno, VmFlags};

use crate::addr::Addr;
use crate::handle::{MmKey, edit, read};
use crate::kernel::Kernel;
use crate::stop::Stop;
use crate::vma_list::Walk;

/// `is_data_mapping()`.
fn is_data_mapping(flags: VmFlags) -> bool {
    flags & (VmFlags::VM_WRITE | VmFlags::VM_SHARED) == VmFlags::VM_WRITE
}

/// The limits of a process by [`Resource`], in pages. `None` is `RLIM_INFINITY`.
pub(crate) type Rlim = [Option<u8>; Resource::ALL.len()];

impl Kernel {
    /// `rlimit()`: returns a limit of the calling process, which is `RLIM_INFINITY` where it has none.
    fn rlimit(&self, resource: Resource) -> i64 {
        self.rlim[self.current][resource as usize].map_or(i64::MAX, i64::from)
    }

    /// `do_prlimit()` of the calling process.
    pub(crate) fn do_prlimit(&mut self, resource: Resource, new: u8) {
        self.rlim[self.current][resource as usize] = Some(new);
    }

    /// `sysctl_max_map_count`. Signed: the kernel subtracts from it.
    pub(crate) fn max_map_count(&self) -> i64 {
        i64::from(self.limits.max_map_count())
    }

    /// Returns whether the address space has as many mappings as the limit allows.
    pub(crate) fn map_count_reached(&self, mm: MmKey) -> Result<bool, Stop> {
        const F: &str = "split_vma";
        Ok(read!(self, F, mm.map_count) >= self.max_map_count())
    }

    /// `capable(CAP_IPC_LOCK)`: the processes of a program that begins with a limit lack it.
    pub(crate) fn capable_ipc_lock(&self) -> bool {
        self.limits.lock.is_none()
    }

    /// `can_do_mlock()`.
    pub(crate) fn can_do_mlock(&self) -> bool {
        self.rlimit(Resource::Memlock) != 0 || self.capable_ipc_lock()
    }

    /// Returns whether this many locked pages are more than the process may have. The kernel compares unsigned: a
    /// `locked_vm` below 0, which `v2` can bring about, is past every limit.
    pub(crate) fn past_lock_limit(&self, locked: i64) -> bool {
        locked as u64 > self.rlimit(Resource::Memlock) as u64 && !self.capable_ipc_lock()
    }

    /// `mlock_future_check()`.
    ///
    /// # Errors
    /// `EAGAIN` where a locked mapping of `pages` would pass the limit.
    pub(crate) fn mlock_future_check(
        &self,
        mm: MmKey,
        flags: VmFlags,
        pages: u32,
    ) -> Result<(), Stop> {
        const F: &str = "mlock_future_check";
        let locked = read!(self, F, mm.locked_vm) + i64::from(pages);
        if flags.contains(VmFlags::VM_LOCKED) && self.past_lock_limit(locked) {
            return Err(Errno::EAGAIN.into());
        }
        Ok(())
    }

    /// `may_expand_vm()`. `RLIMIT_DATA` is never set.
    pub(crate) fn may_expand_vm(&self, mm: MmKey, pages: i64) -> Result<bool, Stop> {
        const F: &str = "may_expand_vm";
        let total_vm = read!(self, F, mm.total_vm) + pages;
        Ok(total_vm <= self.rlimit(Resource::As))
    }

    /// `may_mmap_overlapped_region()`: checks the address-space limit for a mapping that replaces
    /// others. Before patch 5 of 7 this is a part of `mmap_region()`.
    pub(crate) fn may_mmap_overlapped_region(
        &self,
        mm: MmKey,
        addr: Addr,
        pages: u32,
    ) -> Result<bool, Stop> {
        let pages = i64::from(pages);
        if self.may_expand_vm(mm, pages)? {
            return Ok(true);
        }
        let replaced = self.count_vma_pages_range(mm, addr, addr + pages as u32)?;
        self.may_expand_vm(mm, pages - replaced)
    }

    /// `count_vma_pages_range()`: returns how many pages of the range are mapped.
    fn count_vma_pages_range(&self, mm: MmKey, addr: Addr, end: Addr) -> Result<i64, Stop> {
        const F: &str = "count_vma_pages_range";
        let mut pages = 0;
        let mut next = self.find_vma(mm, addr)?;
        let mut walk = Walk::new();
        while let Some(vma) = next {
            walk.step()?;
            let start = read!(self, F, vma.vm_start).max(addr);
            if start >= end {
                break;
            }
            pages += i64::from(read!(self, F, vma.vm_end).min(end) - start);
            next = read!(self, F, vma.vm_next);
        }
        Ok(pages)
    }

    /// `vm_stat_account()`.
    pub(crate) fn vm_stat_account(
        &mut self,
        mm: MmKey,
        flags: VmFlags,
        pages: i64,
    ) -> Result<(), Stop> {
        const F: &str = "vm_stat_account";
        *edit!(self, F, mm.total_vm) += pages;
        if is_data_mapping(flags) {
            *edit!(self, F, mm.data_vm) += pages;
        }
        Ok(())
    }

    /// `security_vm_enough_memory_mm()`: charges the pages.
    ///
    /// # Errors
    /// `ENOMEM` where there is no memory. Nothing is charged then.
    pub(crate) fn vm_enough_memory(&mut self, pages: u32) -> Result<(), Stop> {
        self.allocate(Allocation::Charge)?;
        self.committed += i64::from(pages);
        Ok(())
    }

    /// `vm_unacct_memory()`.
    pub(crate) fn vm_unacct_memory(&mut self, pages: u32) {
        self.committed -= i64::from(pages);
    }
}
