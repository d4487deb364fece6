//! `mbind()` on node 0, without flags.

use vmadiff_machine::operand::Mode;
use vmadiff_machine::{Errno, VmFlags};

use crate::addr::Addr;
use crate::handle::{MmKey, edit, read};
use crate::kernel::Kernel;
use crate::stop::Stop;
use crate::vma_list::Walk;
use crate::vma_merge::Attributes;

impl Kernel {
    /// `do_mbind()`.
    ///
    /// # Errors
    /// `EFAULT` for a hole. `ENOMEM` past the limit on mappings: VMAs before that one stay changed.
    pub(crate) fn do_mbind(
        &mut self,
        mm: MmKey,
        start: Addr,
        len: u32,
        mode: Mode,
    ) -> Result<(), Stop> {
        if len == 0 {
            return Ok(());
        }
        let end = start + len;
        // MPOL_MF_DISCONTIG_OK: the default policy may be set across holes.
        if mode != Mode::Default {
            self.queue_pages_range(mm, start, end)?;
        }
        self.mbind_range(mm, start, end, mode)
    }

    /// `queue_pages_range()`: without pages to move, this only looks for holes between VMAs. A VMA
    /// that cannot be migrated is passed over and counts as a hole.
    fn queue_pages_range(&self, mm: MmKey, start: Addr, end: Addr) -> Result<(), Stop> {
        const F: &str = "queue_pages_test_walk";
        let mut prev_end = None;
        let mut next = self.find_vma(mm, start)?;
        let mut walk = Walk::new();
        while let Some(vma) = next {
            walk.step()?;
            let vma_start = read!(self, F, vma.vm_start);
            if vma_start >= end {
                break;
            }
            if !read!(self, F, vma.vm_flags).intersects(VmFlags::VM_IO | VmFlags::VM_PFNMAP) {
                if prev_end.is_some_and(|prev_end| prev_end < vma_start) {
                    return Err(Errno::EFAULT.into());
                }
                prev_end = Some(read!(self, F, vma.vm_end));
            }
            next = read!(self, F, vma.vm_next);
        }
        Ok(())
    }

    /// `mbind_range()`.
    fn mbind_range(
        &mut self,
        mm: MmKey,
        start: Addr,
        end: Addr,
        new_pol: Mode,
    ) -> Result<(), Stop> {
        const F: &str = "mbind_range";
        let Some(first) = self.find_vma_at(mm, start)? else { return Err(Errno::EFAULT.into()) };
        let mut prev = read!(self, F, first.vm_prev);
        if start > read!(self, F, first.vm_start) {
            prev = Some(first);
        }
        let mut cur = Some(first);
        let mut walk = Walk::new();
        while let Some(mut vma) = cur {
            walk.step()?;
            if read!(self, F, vma.vm_start) >= end {
                break;
            }
            let mut next = read!(self, F, vma.vm_next);
            if read!(self, F, vma.vm_policy) != new_pol {
                let vmstart = read!(self, F, vma.vm_start).max(start);
                let vmend = read!(self, F, vma.vm_end).min(end);
                let new = Attributes { policy: new_pol, ..self.attributes(vma, vmstart)? };
                match self.vma_merge(mm, prev, vmstart, vmend, &new)? {
                    Some(merged) => {
                        vma = merged;
                        next = read!(self, F, vma.vm_next);
                    }
                    None => self.split_at_both_ends(mm, vma, vmstart, vmend)?,
                }
                // `vma_replace_policy()`. A merged VMA has the policy already.
                *edit!(self, F, vma.vm_policy) = new_pol;
            }
            prev = Some(vma);
            cur = next;
        }
        Ok(())
    }
}
