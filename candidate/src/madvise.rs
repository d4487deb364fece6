//! `madvise()`.

use vmadiff_machine::operand::Advice;
use vmadiff_machine::{Errno, VmFlags};

use crate::addr::Addr;
use crate::handle::{MmKey, VmaKey, edit, read};
use crate::kernel::Kernel;
use crate::locks::{Lock, Mode};
use crate::objects::Vma;
use crate::split_vma::New;
use crate::stop::{Caught, Stop};
use crate::vma_list::Walk;
use crate::vma_merge::Attributes;

/// `madvise_need_mmap_write()`: the mode of `mmap_sem`. Advice that changes no VMA takes it for reading.
fn mmap_sem_mode(advice: Advice) -> Mode {
    match advice {
        Advice::Remove | Advice::Willneed | Advice::Dontneed | Advice::Free => Mode::Read,
        _ => Mode::Write,
    }
}

/// `madvise_behavior_valid()`, without CONFIG_TRANSPARENT_HUGEPAGE.
fn madvise_behavior_valid(advice: Advice) -> bool {
    !matches!(
        advice,
        Advice::Hugepage
            | Advice::Nohugepage
            | Advice::Cold
            | Advice::Pageout
            | Advice::PopulateRead
            | Advice::PopulateWrite
            | Advice::DontneedLocked
    )
}

/// `ksm_madvise()`: returns the flags that KSM leaves. Its own allocations are left out.
fn ksm_madvise(flags: VmFlags, advice: Advice) -> VmFlags {
    let never_merged = VmFlags::VM_MERGEABLE
        | VmFlags::VM_SHARED
        | VmFlags::VM_MAYSHARE
        | VmFlags::VM_PFNMAP
        | VmFlags::VM_IO
        | VmFlags::VM_DONTEXPAND
        | VmFlags::VM_HUGETLB;
    match advice {
        Advice::Mergeable if !flags.intersects(never_merged) => flags | VmFlags::VM_MERGEABLE,
        Advice::Unmergeable => flags - VmFlags::VM_MERGEABLE,
        _ => flags,
    }
}

/// Returns the flags that a VMA with `flags` has after the advice, as `madvise_behavior()` computes
/// them. `file` tells a mapping of a file.
///
/// # Errors
/// `EINVAL` where the VMA does not take the advice.
fn advised_flags(flags: VmFlags, file: bool, advice: Advice) -> Result<VmFlags, Errno> {
    Ok(match advice {
        Advice::Normal => flags - VmFlags::VM_RAND_READ - VmFlags::VM_SEQ_READ,
        Advice::Sequential => (flags - VmFlags::VM_RAND_READ) | VmFlags::VM_SEQ_READ,
        Advice::Random => (flags - VmFlags::VM_SEQ_READ) | VmFlags::VM_RAND_READ,
        Advice::Dontfork => flags | VmFlags::VM_DONTCOPY,
        Advice::Dofork if flags.contains(VmFlags::VM_IO) => return Err(Errno::EINVAL),
        Advice::Dofork => flags - VmFlags::VM_DONTCOPY,
        Advice::Wipeonfork if file || flags.contains(VmFlags::VM_SHARED) => {
            return Err(Errno::EINVAL);
        }
        Advice::Wipeonfork => flags | VmFlags::VM_WIPEONFORK,
        Advice::Keeponfork => flags - VmFlags::VM_WIPEONFORK,
        Advice::Dontdump => flags | VmFlags::VM_DONTDUMP,
        Advice::Dodump if flags.intersects(VmFlags::VM_SPECIAL) => return Err(Errno::EINVAL),
        Advice::Dodump => flags - VmFlags::VM_DONTDUMP,
        Advice::Mergeable | Advice::Unmergeable => ksm_madvise(flags, advice),
        Advice::Willneed
        | Advice::Dontneed
        | Advice::Free
        | Advice::Hugepage
        | Advice::Nohugepage
        | Advice::Cold
        | Advice::Pageout
        | Advice::PopulateRead
        | Advice::PopulateWrite
        | Advice::DontneedLocked
        | Advice::Remove => flags,
    })
}

impl Kernel {
    /// `madvise()`: goes on past a hole, and answers `ENOMEM` for it at the end.
    ///
    /// # Errors
    /// `EINVAL` for advice that the kernel or a mapping does not take. `ENOMEM` for a hole, or past
    /// the limit on mappings. `EAGAIN` where there is no memory.
    pub(crate) fn madvise(
        &mut self,
        mm: MmKey,
        start: Addr,
        len: u32,
        advice: Advice,
    ) -> Result<(), Stop> {
        const F: &str = "madvise";
        if !madvise_behavior_valid(advice) {
            return Err(Errno::EINVAL.into());
        }
        if len == 0 {
            return Ok(());
        }
        self.locked_for(mmap_sem_mode(advice), Lock::MmapSem(mm), F, |kernel| {
            kernel.madvise_range(mm, start, start + len, advice)
        })
    }

    /// The part of `madvise()` that holds `mmap_sem`.
    fn madvise_range(
        &mut self,
        mm: MmKey,
        mut start: Addr,
        end: Addr,
        advice: Advice,
    ) -> Result<(), Stop> {
        const F: &str = "madvise";
        let mut unmapped_error = Ok(());
        let (mut next, mut prev) = self.find_vma_prev(mm, start)?;
        if let Some(vma) = next
            && start > read!(self, F, vma.vm_start)
        {
            prev = next;
        }
        let mut walk = Walk::new();
        loop {
            walk.step()?;
            let Some(vma) = next else { return Err(Errno::ENOMEM.into()) };
            let vma_start = read!(self, F, vma.vm_start);
            if start < vma_start {
                unmapped_error = Err(Errno::ENOMEM.into());
                start = vma_start;
                if start >= end {
                    return unmapped_error;
                }
            }
            let tmp = read!(self, F, vma.vm_end).min(end);
            prev = self.madvise_vma(vma, prev, start, tmp, advice)?;
            start = match prev {
                Some(last) => tmp.max(read!(self, F, last.vm_end)),
                None => tmp,
            };
            if start >= end {
                return unmapped_error;
            }
            next = match prev {
                Some(last) => read!(self, F, last.vm_next),
                // `madvise_remove()` has released `mmap_sem`.
                None => self.find_vma(mm, start)?,
            };
        }
    }

    /// `madvise_vma()`: advises one VMA or part of it, and returns the VMA that the range is in
    /// afterwards; `None` where `mmap_sem` was released in between.
    fn madvise_vma(
        &mut self,
        vma: VmaKey,
        prev: Option<VmaKey>,
        start: Addr,
        end: Addr,
        advice: Advice,
    ) -> Result<Option<VmaKey>, Stop> {
        match advice {
            Advice::Remove => return self.madvise_remove(vma, start, end).map(|()| None),
            // `madvise_willneed()` reads ahead.
            Advice::Willneed => Ok(vma),
            Advice::Free | Advice::Dontneed => {
                return self.madvise_dontneed_free(vma, start, end, advice);
            }
            _ => self.madvise_behavior(vma, prev, start, end, advice),
        }
        .map(Some)
    }

    /// `madvise_remove()`: punches a hole into the file. `mmap_sem` is not held meanwhile.
    fn madvise_remove(&mut self, vma: VmaKey, start: Addr, end: Addr) -> Result<(), Stop> {
        const F: &str = "madvise_remove";
        let vm_flags = read!(self, F, vma.vm_flags);
        if vm_flags.contains(VmFlags::VM_LOCKED) {
            return Err(Errno::EINVAL.into());
        }
        let Some(f) = read!(self, F, vma.vm_file) else { return Err(Errno::EINVAL.into()) };
        if !vm_flags.contains(VmFlags::VM_SHARED | VmFlags::VM_WRITE) {
            return Err(Errno::EACCES.into());
        }
        let offset = read!(self, F, vma.vm_pgoff).at(start, read!(self, F, vma.vm_start));
        let sem = Lock::MmapSem(read!(self, F, vma.vm_mm));
        let f = self.get_file(f)?;
        if self.userfaultfd_remove(vma, start, end)? {
            self.unlock(sem, F);
        }
        let error = self.vfs_fallocate(f, offset, end - start).errno()?;
        self.fput(f)?;
        self.acquire(sem, Mode::Read, F);
        Ok(error?)
    }

    /// `can_madv_dontneed_vma()`.
    fn can_madv_dontneed_vma(&self, vma: VmaKey) -> Result<bool, Stop> {
        const F: &str = "can_madv_dontneed_vma";
        let kept = VmFlags::VM_LOCKED | VmFlags::VM_HUGETLB | VmFlags::VM_PFNMAP;
        Ok(!read!(self, F, vma.vm_flags).intersects(kept))
    }

    /// `madvise_dontneed_free()`: returns the VMA; `None` where `mmap_sem` was released in between.
    fn madvise_dontneed_free(
        &mut self,
        mut vma: VmaKey,
        start: Addr,
        mut end: Addr,
        advice: Advice,
    ) -> Result<Option<VmaKey>, Stop> {
        const F: &str = "madvise_dontneed_free";
        let mut prev = Some(vma);
        if !self.can_madv_dontneed_vma(vma)? {
            return Err(Errno::EINVAL.into());
        }
        let mm = read!(self, F, vma.vm_mm);
        if !self.userfaultfd_remove(vma, start, end)? {
            prev = None;
            self.acquire(Lock::MmapSem(mm), Mode::Read, F);
            vma = self.find_vma(mm, start)?.ok_or(Errno::ENOMEM)?;
            if start < read!(self, F, vma.vm_start) {
                return Err(Errno::ENOMEM.into());
            }
            if !self.can_madv_dontneed_vma(vma)? {
                return Err(Errno::EINVAL.into());
            }
            end = end.min(read!(self, F, vma.vm_end));
        }
        if advice == Advice::Dontneed {
            self.unmap_page_range(mm, start, end)?;
        } else if !self.vmas.get(vma).is_some_and(Vma::is_anonymous) {
            // MADV_FREE drops pages under memory pressure only, and there is none.
            return Err(Errno::EINVAL.into());
        }
        Ok(prev)
    }

    /// `madvise_behavior()`: handles the advice that changes flags.
    fn madvise_behavior(
        &mut self,
        mut vma: VmaKey,
        prev: Option<VmaKey>,
        start: Addr,
        end: Addr,
        advice: Advice,
    ) -> Result<VmaKey, Stop> {
        const F: &str = "madvise_behavior";
        let mm = read!(self, F, vma.vm_mm);
        let old_flags = read!(self, F, vma.vm_flags);
        let file = read!(self, F, vma.vm_file).is_some();
        let new_flags = advised_flags(old_flags, file, advice)?;
        if new_flags == old_flags {
            return Ok(vma);
        }
        let new = Attributes { vm_flags: new_flags, ..self.attributes(vma, start)? };
        match self.vma_merge(mm, prev, start, end, &new)? {
            Some(merged) => vma = merged,
            None => {
                if start != read!(self, F, vma.vm_start) {
                    self.madvise_split(mm, vma, start, New::Below)?;
                }
                if end != read!(self, F, vma.vm_end) {
                    self.madvise_split(mm, vma, end, New::Above)?;
                }
            }
        }
        *edit!(self, F, vma.vm_flags) = new_flags;
        Ok(vma)
    }

    /// A cut of `madvise_behavior()`.
    ///
    /// # Errors
    /// `ENOMEM` past the limit on mappings. `EAGAIN` where there is no memory: the caller may try again.
    fn madvise_split(&mut self, mm: MmKey, vma: VmaKey, addr: Addr, half: New) -> Result<(), Stop> {
        if self.map_count_reached(mm)? {
            return Err(Errno::ENOMEM.into());
        }
        match self.split_vma_unlimited(vma, addr, half).errno()? {
            Err(Errno::ENOMEM) => Err(Errno::EAGAIN.into()),
            other => Ok(other?),
        }
    }
}
