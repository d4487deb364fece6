//! `mprotect()`.

use vmadiff_machine::operand::Prot;
use vmadiff_machine::{Errno, VmFlags};

use crate::addr::Addr;
use crate::handle::{MmKey, VmaKey, edit, read, warn_on};
use crate::kernel::Kernel;
use crate::mmap::calc_vm_prot_bits;
use crate::stop::{Caught, Stop};
use crate::vma_list::Walk;
use crate::vma_merge::Attributes;

/// Returns whether the mapping may not be given these permissions.
fn refused(newflags: VmFlags) -> bool {
    let may = |may, flag| newflags.contains(flag) && !newflags.contains(may);
    may(VmFlags::VM_MAYREAD, VmFlags::VM_READ)
        || may(VmFlags::VM_MAYWRITE, VmFlags::VM_WRITE)
        || may(VmFlags::VM_MAYEXEC, VmFlags::VM_EXEC)
}

impl Kernel {
    /// `do_mprotect_pkey()`, without a protection key.
    ///
    /// # Errors
    /// `ENOMEM` for a hole or past a limit. `EACCES` where the mapping may not be given a
    /// permission. VMAs before the failure stay changed.
    pub(crate) fn do_mprotect(
        &mut self,
        mm: MmKey,
        start: Addr,
        len: u32,
        prot: Prot,
    ) -> Result<(), Stop> {
        const F: &str = "do_mprotect_pkey";
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
            let newflags =
                calc_vm_prot_bits(prot) | (read!(self, F, vma.vm_flags) - VmFlags::ACCESS);
            if refused(newflags) {
                return Err(Errno::EACCES.into());
            }
            let tmp = read!(self, F, vma.vm_end).min(end);
            let last = self.mprotect_fixup(vma, prev, nstart, tmp, newflags)?;
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

    /// `mprotect_fixup()`: changes one VMA or part of it, and returns the VMA that the range is in
    /// afterwards.
    fn mprotect_fixup(
        &mut self,
        mut vma: VmaKey,
        prev: Option<VmaKey>,
        start: Addr,
        end: Addr,
        mut newflags: VmFlags,
    ) -> Result<VmaKey, Stop> {
        const F: &str = "mprotect_fixup";
        let mm = read!(self, F, vma.vm_mm);
        let oldflags = read!(self, F, vma.vm_flags);
        if newflags == oldflags {
            return Ok(vma);
        }
        let pages = end - start;
        let mut charged = 0;
        // Private memory is charged when it becomes writable. The charge stays when the memory
        // becomes read-only again.
        let charged_or_exempt = VmFlags::VM_ACCOUNT
            | VmFlags::VM_WRITE
            | VmFlags::VM_HUGETLB
            | VmFlags::VM_SHARED
            | VmFlags::VM_NORESERVE;
        if newflags.contains(VmFlags::VM_WRITE) && !oldflags.intersects(charged_or_exempt) {
            charged = pages;
            self.vm_enough_memory(charged)?;
            newflags |= VmFlags::VM_ACCOUNT;
        }
        let new = Attributes { vm_flags: newflags, ..self.attributes(vma, start)? };
        match self.vma_merge(mm, prev, start, end, &new)? {
            Some(merged) => {
                vma = merged;
                let differ = read!(self, F, vma.vm_flags) ^ newflags;
                warn_on!(
                    self,
                    !VmFlags::VM_SOFTDIRTY.contains(differ),
                    F,
                    "(vma->vm_flags ^ newflags) & ~VM_SOFTDIRTY"
                );
            }
            None => {
                if let Err(errno) = self.split_at_both_ends(mm, vma, start, end).errno()? {
                    self.vm_unacct_memory(charged);
                    return Err(errno.into());
                }
            }
        }
        *edit!(self, F, vma.vm_flags) = newflags;
        self.change_protection(mm, start, end)?;
        // Locked private memory that becomes writable is copied now, not at the first write.
        let becoming = VmFlags::VM_WRITE | VmFlags::VM_SHARED | VmFlags::VM_LOCKED;
        if oldflags & becoming == VmFlags::VM_LOCKED && newflags.contains(VmFlags::VM_WRITE) {
            self.populate_vma_page_range(vma, start, end)?;
        }
        self.vm_stat_account(mm, oldflags, -i64::from(pages))?;
        self.vm_stat_account(mm, newflags, i64::from(pages))?;
        Ok(vma)
    }
}
