//! Populating of locked memory (`mm/gup.c`).

use vmadiff_machine::{Errno, VmFlags};

use crate::addr::Addr;
use crate::fault::VmFault;
use crate::handle::{MmKey, VmaKey, read};
use crate::kernel::Kernel;
use crate::locks::{Lock, Mode};
use crate::stop::Stop;

/// The `nonblocking` argument of `__get_user_pages()`. It decides what a fault does where
/// userfaultfd watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nonblocking {
    /// Given: the fault may be retried, so it waits for userfaultfd.
    Given,
    /// `NULL`: the fault may not be retried, so `handle_userfault()` makes it a `SIGBUS`.
    Null,
}

/// The behaviour of populating after an error (`ignore_errors`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnError {
    /// It goes on at the next VMA.
    Ignore,
    /// It ends there.
    Return,
}

/// The result of populating one VMA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Populated {
    All,
    /// `EFAULT`: not permitted, or past the end of the object.
    Fault,
    /// `ENOMEM`: there is no memory for a page.
    NoMemory,
    /// The call would wait for userfaultfd for ever.
    Blocked,
}

impl Kernel {
    /// `__mm_populate()`.
    ///
    /// # Errors
    /// `EFAULT` where a page cannot be populated, and `ENOMEM` where there is no memory for it; both
    /// unless errors are ignored. `EAGAIN` where the kernel would wait for userfaultfd for ever.
    pub(crate) fn mm_populate(
        &mut self,
        mm: MmKey,
        start: Addr,
        len: u32,
        on_error: OnError,
    ) -> Result<(), Stop> {
        const F: &str = "__mm_populate";
        self.locked_for(Mode::Read, Lock::MmapSem(mm), F, |kernel| {
            kernel.populate(mm, start, len, on_error)
        })
    }

    /// `__mm_populate()`, with `mmap_sem` held for reading.
    fn populate(
        &mut self,
        mm: MmKey,
        start: Addr,
        len: u32,
        on_error: OnError,
    ) -> Result<(), Stop> {
        const F: &str = "__mm_populate";
        let end = start + len;
        let mut nstart = start;
        while nstart < end {
            let Some(vma) = self.find_vma(mm, nstart)? else { break };
            let vma_start = read!(self, F, vma.vm_start);
            if vma_start >= end {
                break;
            }
            let nend = read!(self, F, vma.vm_end).min(end);
            let flags = read!(self, F, vma.vm_flags);
            if !flags.intersects(VmFlags::VM_IO | VmFlags::VM_PFNMAP) {
                let from = nstart.max(vma_start);
                match self.get_user_pages(vma, from, nend, Nonblocking::Given)? {
                    Populated::All => {}
                    Populated::Fault | Populated::NoMemory if on_error == OnError::Ignore => {}
                    Populated::Fault => return Err(Errno::EFAULT.into()),
                    Populated::NoMemory => return Err(Errno::ENOMEM.into()),
                    Populated::Blocked => return Err(Errno::EAGAIN.into()),
                }
            }
            nstart = nend;
        }
        Ok(())
    }

    /// `populate_vma_page_range()` as `mprotect_fixup()` calls it: the caller ignores errors.
    pub(crate) fn populate_vma_page_range(
        &mut self,
        vma: VmaKey,
        start: Addr,
        end: Addr,
    ) -> Result<(), Stop> {
        self.get_user_pages(vma, start, end, Nonblocking::Null).map(|_| ())
    }

    /// `populate_vma_page_range()` and `__get_user_pages()`.
    fn get_user_pages(
        &mut self,
        vma: VmaKey,
        start: Addr,
        end: Addr,
        nonblocking: Nonblocking,
    ) -> Result<Populated, Stop> {
        const F: &str = "populate_vma_page_range";
        let (mm, flags) = (read!(self, F, vma.vm_mm), read!(self, F, vma.vm_flags));
        self.assert_mmap_locked(mm, F);
        // With any permission FOLL_FORCE is set. Without one, `check_vma_flags()` refuses.
        if flags.intersects(VmFlags::VM_IO | VmFlags::VM_PFNMAP)
            || !flags.intersects(VmFlags::ACCESS)
        {
            return Ok(Populated::Fault);
        }
        // Without FOLL_POPULATE, `faultin_page()` skips pages that are not present.
        if flags.contains(VmFlags::VM_LOCKONFAULT) {
            return Ok(Populated::All);
        }
        // FOLL_WRITE breaks COW. Shared mappings have no COW.
        let write = flags & (VmFlags::VM_WRITE | VmFlags::VM_SHARED) == VmFlags::VM_WRITE;
        let mut addr = start;
        while addr < end {
            match (self.handle_mm_fault(vma, addr, write)?, nonblocking) {
                (VmFault::Done, _) => {}
                (VmFault::Oom, _) => return Ok(Populated::NoMemory),
                (VmFault::Sigbus, _) | (VmFault::Userfault, Nonblocking::Null) => {
                    return Ok(Populated::Fault);
                }
                (VmFault::Userfault, Nonblocking::Given) => {
                    self.handle_userfault(vma)?;
                    return Ok(Populated::Blocked);
                }
            }
            addr = addr + 1;
        }
        Ok(Populated::All)
    }
}
