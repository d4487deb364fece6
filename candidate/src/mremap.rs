//! `mremap()` (`mm/mremap.c`).

use vmadiff_machine::operand::MremapFlags;
use vmadiff_machine::{CopyReport, Errno, VmFlags};

use crate::addr::Addr;
use crate::handle::{CtxKey, MmKey, VmaKey, edit, read};
use crate::kernel::Kernel;
use crate::locks::Lock;
use crate::populate::OnError;
use crate::revision::Revision;
use crate::stop::{Caught, Stop};
use crate::userfaultfd_event::Lists;

/// The request: `old_len` pages at `addr` become `new_len` pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Remap {
    pub(crate) addr: Addr,
    pub(crate) old_len: u32,
    pub(crate) new_len: u32,
    pub(crate) flags: MremapFlags,
    /// The new address, with `MREMAP_FIXED` only.
    pub(crate) new_addr: Addr,
}

/// The result: the address of the mapping, and whether it is locked.
type Remapped = (Addr, bool);

/// The contexts of userfaultfd that get messages about a move.
#[derive(Debug, Default)]
struct RemapUf {
    lists: Lists,
    /// The context that watches the moved mapping.
    moved: Option<CtxKey>,
}

impl Kernel {
    /// `mremap()`: returns the address of the mapping.
    ///
    /// # Errors
    /// `EINVAL`, `EFAULT`, `ENOMEM` and `EAGAIN` as in `mremap(2)`. Pages that were unmapped before
    /// the failure stay unmapped. `EAGAIN` also where populating would wait for ever.
    pub(crate) fn mremap(&mut self, mm: MmKey, remap: Remap) -> Result<Addr, Stop> {
        const F: &str = "mremap";
        let Remap { old_len, new_len, flags, .. } = remap;
        // `flags & ~(MREMAP_FIXED | MREMAP_MAYMOVE)`: MREMAP_DONTUNMAP came with 5.7.
        if flags.keeps_source() {
            return Err(Errno::EINVAL.into());
        }
        if new_len == 0 {
            return Err(Errno::EINVAL.into());
        }
        let mut uf = RemapUf { lists: std::mem::take(&mut self.lists), moved: None };
        let remapped =
            self.locked(Lock::MmapSem(mm), F, |kernel| kernel.remap(mm, remap, &mut uf)).errno()?;
        let mut populated = Ok(());
        if let Ok((to, true)) = remapped
            && new_len > old_len
        {
            let (start, len) = (to + old_len, new_len - old_len);
            populated = self.mm_populate(mm, start, len, OnError::Ignore).errno()?;
        }
        let told = self.messages.len();
        self.userfaultfd_unmap_complete(&mut uf.lists.unmap_early)?;
        let to = remapped.map_or(remap.new_addr, |(to, _)| to);
        self.mremap_userfaultfd_complete(uf.moved, remap.addr, to, old_len)?;
        self.userfaultfd_unmap_complete(&mut uf.lists.unmap)?;
        self.lists = uf.lists;
        if populated.is_err() {
            // The call waits for ever before it sends the messages.
            self.messages.truncate(told);
        }
        remapped?;
        populated?;
        Ok(to)
    }

    /// The part of `mremap()` that holds `mmap_sem`.
    fn remap(&mut self, mm: MmKey, remap: Remap, uf: &mut RemapUf) -> Result<Remapped, Stop> {
        let Remap { addr, old_len, new_len, flags, new_addr } = remap;
        if flags.is_fixed() {
            self.mremap_to(mm, addr, old_len, new_addr, new_len, uf)
        } else if old_len >= new_len {
            self.shrink(mm, remap, uf).map(|()| (addr, false))
        } else {
            self.grow(mm, remap, uf)
        }
    }

    /// Unmaps the pages past the new length.
    fn shrink(&mut self, mm: MmKey, remap: Remap, uf: &mut RemapUf) -> Result<(), Stop> {
        let Remap { addr, old_len, new_len, flags, .. } = remap;
        let (start, len) = (addr + new_len, old_len - new_len);
        match self
            .do_munmap_with(mm, start, len, Some(&mut uf.lists.unmap), !flags.is_fixed())
            .errno()?
        {
            Err(errno) if old_len != new_len => Err(errno.into()),
            _ => Ok(()),
        }
    }

    /// Grows a mapping into the hole after it. With `MREMAP_MAYMOVE`, a mapping that cannot grow
    /// there moves.
    fn grow(&mut self, mm: MmKey, remap: Remap, uf: &mut RemapUf) -> Result<Remapped, Stop> {
        const F: &str = "mremap";
        let Remap { addr, old_len, new_len, .. } = remap;
        let (vma, charged) = self.vma_to_resize(mm, addr, old_len, new_len)?;
        let pages = new_len - old_len;
        if old_len != read!(self, F, vma.vm_end) - addr || !self.vma_expandable(vma, pages)? {
            return self.move_anywhere(vma, remap, uf).errno()?.map_err(|errno| {
                self.vm_unacct_memory(charged);
                errno.into()
            });
        }
        let (start, pgoff) = (read!(self, F, vma.vm_start), read!(self, F, vma.vm_pgoff));
        self.vma_adjust(vma, start, addr + new_len, pgoff, None, None)?;
        let vm_flags = read!(self, F, vma.vm_flags);
        self.vm_stat_account(mm, vm_flags, i64::from(pages))?;
        let locked = vm_flags.contains(VmFlags::VM_LOCKED);
        if locked {
            *edit!(self, F, mm.locked_vm) += i64::from(pages);
        }
        Ok((addr, locked))
    }

    /// Moves a mapping that cannot grow in place to the address that `get_unmapped_area()` finds.
    ///
    /// # Errors
    /// `ENOMEM` without `MREMAP_MAYMOVE`, where no hole is long enough, and at the limit on VMAs.
    fn move_anywhere(
        &mut self,
        vma: VmaKey,
        remap: Remap,
        uf: &mut RemapUf,
    ) -> Result<Remapped, Stop> {
        const F: &str = "mremap";
        let Remap { addr, old_len, new_len, flags, .. } = remap;
        if !flags.may_move() {
            return Err(Errno::ENOMEM.into());
        }
        let mm = read!(self, F, vma.vm_mm);
        let new_addr = self.unmapped_area_topdown(mm, new_len)?;
        let locked = self.move_vma(vma, addr, old_len, new_len, new_addr, uf)?;
        Ok((new_addr, locked))
    }

    /// `vma_expandable()`: returns whether the hole after a VMA is large enough.
    fn vma_expandable(&self, vma: VmaKey, pages: u32) -> Result<bool, Stop> {
        const F: &str = "vma_expandable";
        let end = read!(self, F, vma.vm_end) + pages;
        Ok(match read!(self, F, vma.vm_next) {
            Some(next) => read!(self, F, next.vm_start) >= end,
            None => true,
        })
    }

    /// `mremap_to()`: handles `MREMAP_FIXED`.
    fn mremap_to(
        &mut self,
        mm: MmKey,
        addr: Addr,
        mut old_len: u32,
        new_addr: Addr,
        new_len: u32,
        uf: &mut RemapUf,
    ) -> Result<Remapped, Stop> {
        const F: &str = "mremap_to";
        if addr + old_len > new_addr && new_addr + new_len > addr {
            return Err(Errno::EINVAL.into());
        }
        if read!(self, F, mm.map_count) + 2 >= self.max_map_count() - 3 {
            return Err(Errno::ENOMEM.into());
        }
        self.do_munmap(mm, new_addr, new_len, Some(&mut uf.lists.unmap_early))?;
        if old_len >= new_len {
            let flags = MremapFlags::MaymoveFixed;
            self.shrink(mm, Remap { addr, old_len, new_len, flags, new_addr }, uf)?;
            old_len = new_len;
        }
        let (vma, charged) = self.vma_to_resize(mm, addr, old_len, new_len)?;
        match self.move_vma(vma, addr, old_len, new_len, new_addr, uf).errno()? {
            Ok(locked) => Ok((new_addr, locked)),
            Err(errno) => {
                self.vm_unacct_memory(charged);
                Err(errno.into())
            }
        }
    }

    /// `vma_to_resize()`: returns the VMA, and how many more pages were charged.
    fn vma_to_resize(
        &mut self,
        mm: MmKey,
        addr: Addr,
        old_len: u32,
        new_len: u32,
    ) -> Result<(VmaKey, u32), Stop> {
        const F: &str = "vma_to_resize";
        let vma = match self.revision {
            Revision::Original | Revision::Rfc => self.resizable_vma(mm, addr, old_len, new_len)?,
            // Since patch 6 of 7, one helper makes all checks that answer `-EFAULT`.
            Revision::V2 | Revision::Fixed => {
                let mut forbidden = VmFlags::VM_HUGETLB;
                if old_len != new_len {
                    forbidden |= VmFlags::VM_DONTEXPAND | VmFlags::VM_PFNMAP;
                }
                let vma = self.find_vma_without_flags(mm, addr, old_len, forbidden)?;
                self.refuse_private_duplicate(vma, old_len)?;
                vma
            }
        };
        if new_len == old_len {
            return Ok((vma, 0));
        }
        // The kernel computes with unsigned lengths. A call that shrinks never gets here.
        let more = new_len.saturating_sub(old_len);
        let vm_flags = read!(self, F, vma.vm_flags);
        if vm_flags.contains(VmFlags::VM_LOCKED)
            && self.past_lock_limit(read!(self, F, mm.locked_vm) + i64::from(more))
        {
            return Err(Errno::EAGAIN.into());
        }
        if !self.may_expand_vm(mm, i64::from(more))? {
            return Err(Errno::ENOMEM.into());
        }
        if !vm_flags.contains(VmFlags::VM_ACCOUNT) {
            return Ok((vma, 0));
        }
        self.vm_enough_memory(more)?;
        Ok((vma, more))
    }

    /// The first half of `vma_to_resize()` before the series.
    fn resizable_vma(
        &self,
        mm: MmKey,
        addr: Addr,
        old_len: u32,
        new_len: u32,
    ) -> Result<VmaKey, Stop> {
        const F: &str = "vma_to_resize";
        let vma = self.find_vma_at(mm, addr)?.ok_or(Errno::EFAULT)?;
        self.refuse_private_duplicate(vma, old_len)?;
        let vm_flags = read!(self, F, vma.vm_flags);
        if vm_flags.contains(VmFlags::VM_HUGETLB) {
            return Err(Errno::EINVAL.into());
        }
        if old_len > read!(self, F, vma.vm_end) - addr {
            return Err(Errno::EFAULT.into());
        }
        let fixed_length = VmFlags::VM_DONTEXPAND | VmFlags::VM_PFNMAP;
        if new_len != old_len && vm_flags.intersects(fixed_length) {
            return Err(Errno::EFAULT.into());
        }
        Ok(vma)
    }

    /// Refuses an old length of zero for private mappings. An old length of zero duplicates a
    /// mapping, which only makes sense for a shared one.
    fn refuse_private_duplicate(&self, vma: VmaKey, old_len: u32) -> Result<(), Stop> {
        const F: &str = "vma_to_resize";
        let shared = VmFlags::VM_SHARED | VmFlags::VM_MAYSHARE;
        if old_len == 0 && !read!(self, F, vma.vm_flags).intersects(shared) {
            return Err(Errno::EINVAL.into());
        }
        Ok(())
    }

    /// `find_vma_without_flags()` of patch 6 of 7: returns the one VMA that covers the range and
    /// has none of the flags.
    ///
    /// # Errors
    /// `EFAULT` where there is no such VMA.
    pub(crate) fn find_vma_without_flags(
        &self,
        mm: MmKey,
        addr: Addr,
        len: u32,
        forbidden: VmFlags,
    ) -> Result<VmaKey, Stop> {
        const F: &str = "find_vma_without_flags";
        let vma = self.find_vma_at(mm, addr)?.ok_or(Errno::EFAULT)?;
        let covered = len <= read!(self, F, vma.vm_end) - addr;
        if !covered || read!(self, F, vma.vm_flags).intersects(forbidden) {
            return Err(Errno::EFAULT.into());
        }
        Ok(vma)
    }

    /// `move_vma()`: moves the mapping, and returns whether it is locked.
    fn move_vma(
        &mut self,
        vma: VmaKey,
        old_addr: Addr,
        old_len: u32,
        new_len: u32,
        new_addr: Addr,
        uf: &mut RemapUf,
    ) -> Result<bool, Stop> {
        const F: &str = "move_vma";
        let mm = read!(self, F, vma.vm_mm);
        // The caller keeps these flags: the steps below change those of the VMA.
        let vm_flags = read!(self, F, vma.vm_flags);
        if read!(self, F, mm.map_count) >= self.max_map_count() - 3 {
            return Err(Errno::ENOMEM.into());
        }
        let new_pgoff = read!(self, F, vma.vm_pgoff).at(old_addr, read!(self, F, vma.vm_start));
        let copied =
            self.copy_vma(vma, (mm, new_addr), new_len, new_pgoff, false)?.ok_or(Errno::ENOMEM)?;
        self.copy = Some(CopyReport {
            merged: copied.merged,
            need_rmap_locks: copied.need_rmap_locks,
            // `move_page_tables()` takes the locks.
            honoured: true,
            source_redirected: copied.source_redirected,
        });
        let vma = copied.vma;
        self.move_page_tables(vma, old_addr, new_addr, old_len, copied.need_rmap_locks)?;
        uf.moved = self.mremap_userfaultfd_prep(copied.new_vma)?;

        // VM_ACCOUNT is hidden while the old range is unmapped. The charge of the old range now
        // belongs to the new one.
        let mut excess = 0;
        let mut split = false;
        if vm_flags.contains(VmFlags::VM_ACCOUNT) {
            *edit!(self, F, vma.vm_flags) -= VmFlags::VM_ACCOUNT;
            let (start, end) = (read!(self, F, vma.vm_start), read!(self, F, vma.vm_end));
            excess = (end - start).wrapping_sub(old_len);
            split = old_addr > start && old_addr + old_len < end;
        }
        let flags = read!(self, F, vma.vm_flags);
        self.vm_stat_account(mm, flags, i64::from(new_len))?;
        if self.do_munmap(mm, old_addr, old_len, Some(&mut uf.lists.unmap)).errno()?.is_err() {
            self.vm_unacct_memory(excess);
            excess = 0;
        }
        if excess != 0 {
            *edit!(self, F, vma.vm_flags) |= VmFlags::VM_ACCOUNT;
            if split && let Some(next) = read!(self, F, vma.vm_next) {
                *edit!(self, F, next.vm_flags) |= VmFlags::VM_ACCOUNT;
            }
        }
        let locked = vm_flags.contains(VmFlags::VM_LOCKED);
        if locked {
            *edit!(self, F, mm.locked_vm) += i64::from(new_len);
        }
        Ok(locked)
    }
}
