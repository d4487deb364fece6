//! `mbind()` on node 0, without flags, and the references to policies (`mm/mempolicy.c`).

use vmadiff_machine::operand::Mode;
use vmadiff_machine::{Allocation, Errno, VmFlags};

use crate::addr::Addr;
use crate::handle::{MmKey, PolicyKey, VmaKey, edit, read};
use crate::kernel::Kernel;
use crate::locks::Lock;
use crate::objects::Mempolicy;
use crate::stop::{Caught, Stop};
use crate::vma_list::Walk;
use crate::vma_merge::Attributes;

impl Kernel {
    /// `do_mbind()`.
    ///
    /// # Errors
    /// `EFAULT` for a hole. `ENOMEM` past the limit on mappings, or where there is no memory: VMAs
    /// before that one stay changed.
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
        const F: &str = "do_mbind";
        let end = start + len;
        let new = self.mpol_new(mode)?;
        let result = self
            .locked(Lock::MmapSem(mm), F, |kernel| {
                // MPOL_MF_DISCONTIG_OK: the default policy may be set across holes.
                if new.is_some() {
                    kernel.queue_pages_range(mm, start, end)?;
                }
                kernel.mbind_range(mm, start, end, new)
            })
            .errno()?;
        self.mpol_put(new)?;
        Ok(result?)
    }

    /// `mpol_new()`: the default policy is none.
    ///
    /// # Errors
    /// `ENOMEM` where there is no memory.
    fn mpol_new(&mut self, mode: Mode) -> Result<Option<PolicyKey>, Stop> {
        if mode == Mode::Default {
            return Ok(None);
        }
        self.allocate(Allocation::Policy)?;
        Ok(Some(self.policies.insert(Mempolicy { mode, refcnt: 1 })))
    }

    /// `mpol_dup()`: makes a policy of its own for each user.
    ///
    /// # Errors
    /// `ENOMEM` where there is no memory.
    fn mpol_dup(&mut self, old: Option<PolicyKey>) -> Result<Option<PolicyKey>, Stop> {
        const F: &str = "mpol_dup";
        let Some(old) = old else { return Ok(None) };
        self.allocate(Allocation::Policy)?;
        let mode = read!(self, F, old.mode);
        Ok(Some(self.policies.insert(Mempolicy { mode, refcnt: 1 })))
    }

    /// `vma_dup_policy()`.
    #[inline]
    pub(crate) fn vma_dup_policy(&mut self, src: VmaKey, dst: VmaKey) -> Result<(), Stop> {
        const F: &str = "vma_dup_policy";
        if let Some(pol) = read!(self, F, src.vm_policy) {
            *edit!(self, F, dst.vm_policy) = self.mpol_dup(Some(pol))?;
        }
        Ok(())
    }

    /// `mpol_put()`. The last reference frees the policy.
    #[inline]
    pub(crate) fn mpol_put(&mut self, pol: Option<PolicyKey>) -> Result<(), Stop> {
        const F: &str = "mpol_put";
        let Some(pol) = pol else { return Ok(()) };
        let refcnt = edit!(self, F, pol.refcnt);
        *refcnt -= 1;
        if *refcnt == 0 {
            self.policies.remove(pol);
        }
        Ok(())
    }

    /// `mpol_equal()`.
    #[inline]
    pub(crate) fn mpol_equal(
        &self,
        a: Option<PolicyKey>,
        b: Option<PolicyKey>,
    ) -> Result<bool, Stop> {
        const F: &str = "mpol_equal";
        if a == b {
            return Ok(true);
        }
        let (Some(a), Some(b)) = (a, b) else { return Ok(false) };
        Ok(read!(self, F, a.mode) == read!(self, F, b.mode))
    }

    /// `vma_replace_policy()`.
    fn vma_replace_policy(&mut self, vma: VmaKey, pol: Option<PolicyKey>) -> Result<(), Stop> {
        const F: &str = "vma_replace_policy";
        let new = self.mpol_dup(pol)?;
        let old = std::mem::replace(edit!(self, F, vma.vm_policy), new);
        self.mpol_put(old)
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
        new_pol: Option<PolicyKey>,
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
            if !self.mpol_equal(read!(self, F, vma.vm_policy), new_pol)? {
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
                // A merged VMA has the policy already.
                if !self.mpol_equal(read!(self, F, vma.vm_policy), new_pol)? {
                    self.vma_replace_policy(vma, new_pol)?;
                }
            }
            prev = Some(vma);
            cur = next;
        }
        Ok(())
    }
}
