//! `process_vm_mmap()`: the system call that the series adds. It is built on the extended
//! `copy_vma()`.
//!
//! [`Text::of`] lists the points in which the revisions differ.

use vmadiff_machine::operand::CopyFlags;
use vmadiff_machine::{CopyReport, Errno, VmFlags};

use crate::addr::Addr;
use crate::handle::{MmKey, VmaKey, edit, read};
use crate::kernel::Kernel;
use crate::locks::{Lock, Mode};
use crate::page_table::PteLocks;
use crate::revision::Revision;
use crate::stop::{Caught, Stop};
use crate::userfaultfd_event::UnmapCtx;
use crate::vma_list::{Links, Walk};

/// The points in which the texts of `process_vm_mmap()` differ between revisions.
#[derive(Clone, Copy, Debug)]
struct Text {
    /// The `clear_flags_ctx` argument of `copy_vma()`.
    clear_flags_ctx: bool,
    /// `PVMMAP_FIXED_NOREPLACE` is known.
    knows_noreplace: bool,
    /// The errno for a source that is refused only because it is I/O memory or huge pages.
    io_source: Errno,
    /// A source with a userfaultfd context is refused.
    refuses_userfaultfd: bool,
    /// A source and a destination that overlap are refused.
    refuses_overlap: bool,
    /// A failed call takes back only the pages that it charged.
    uncharges_what_was_charged: bool,
    /// The pages are added to the counters before a failed copy of page tables unmaps them again.
    counts_before_unmapping: bool,
    /// `need_rmap_locks` is honoured.
    honours_need_rmap_locks: bool,
    /// Locked pages are counted in `locked_vm` and held against the limit.
    counts_locked_vm: bool,
    /// The way in which `copy_page_range()` takes the page-table locks (patch 3 of 7).
    pte_locks: PteLocks,
}

impl Text {
    /// The text of a revision.
    fn of(revision: Revision) -> Text {
        let v2 = Text {
            clear_flags_ctx: false,
            knows_noreplace: true,
            io_source: Errno::EFAULT,
            refuses_userfaultfd: true,
            refuses_overlap: false,
            uncharges_what_was_charged: false,
            counts_before_unmapping: false,
            honours_need_rmap_locks: false,
            counts_locked_vm: false,
            pte_locks: PteLocks::Nested,
        };
        match revision {
            Revision::Rfc => Text { knows_noreplace: false, io_source: Errno::EINVAL, ..v2 },
            Revision::Original | Revision::V2 => v2,
            Revision::Fixed => Text {
                clear_flags_ctx: true,
                refuses_overlap: true,
                uncharges_what_was_charged: true,
                counts_before_unmapping: true,
                honours_need_rmap_locks: true,
                counts_locked_vm: true,
                pte_locks: PteLocks::NestedIfDifferent,
                ..v2
            },
        }
    }

    /// The text of the caller around a direct call of `copy_vma()`. It is the fixed text at every
    /// revision, so that a difference lies in `copy_vma()` itself.
    fn direct(clear_flags_ctx: bool) -> Text {
        Text { clear_flags_ctx, refuses_userfaultfd: false, ..Text::of(Revision::Fixed) }
    }
}

/// One address space and an address in it.
pub(crate) type Place = (MmKey, Addr);

/// Returns whether `len` pages at `src` and `len` pages at `dst` have a page in common.
fn ranges_overlap(src: Addr, dst: Addr, len: u32) -> bool {
    dst < src + len && src < dst + len
}

impl Kernel {
    /// `process_vm_mmap()`: maps `len` pages of `src` in the caller as well, and returns the
    /// address.
    ///
    /// # Errors
    /// See [`Kernel::mmap_process_vm`]; `EINVAL` for a flag that the revision does not know.
    pub(crate) fn process_vm_mmap(
        &mut self,
        dst: Place,
        src: Result<Place, Stop>,
        len: u32,
        flags: CopyFlags,
    ) -> Result<Addr, Stop> {
        let text = Text::of(self.revision);
        if flags.contains(CopyFlags::FIXED_NOREPLACE) && !text.knows_noreplace {
            return Err(Errno::EINVAL.into());
        }
        self.mmap_process_vm(text, dst, src, len, flags)
    }

    /// Calls `copy_vma()` directly, with the steps of a correct caller around the call.
    ///
    /// # Errors
    /// See [`Kernel::mmap_process_vm`]; `EAGAIN` where the copy would be locked and pass the limit.
    pub(crate) fn call_copy_vma(
        &mut self,
        dst: Place,
        src: Result<Place, Stop>,
        len: u32,
        clear_flags_ctx: bool,
    ) -> Result<Addr, Stop> {
        self.mmap_process_vm(Text::direct(clear_flags_ctx), dst, src, len, CopyFlags::FIXED)
    }

    /// `mmap_process_vm()`: makes the checks, and then the copy.
    ///
    /// # Errors
    /// `EINVAL` for an empty range, or one that overlaps the source. `ESRCH` where there is no
    /// source. `EFAULT` where no single VMA covers the source range, or where that VMA cannot be
    /// shared. `ENOMEM` past a limit. `ENOTSUPP` for a source with a userfaultfd context. `EEXIST`
    /// over a mapping that may not be replaced.
    fn mmap_process_vm(
        &mut self,
        text: Text,
        dst: Place,
        src: Result<Place, Stop>,
        len: u32,
        flags: CopyFlags,
    ) -> Result<Addr, Stop> {
        if len == 0 {
            return Err(Errno::EINVAL.into());
        }
        let src = src?;
        // `mm_access()`.
        self.mmget(src.0)?;
        let result = self.mmap_between(text, dst, src, len, flags).errno()?;
        self.mmput(src.0)?;
        Ok(result?)
    }

    /// The part of `mmap_process_vm()` that has the address space of the source in use.
    fn mmap_between(
        &mut self,
        text: Text,
        dst: Place,
        src: Place,
        len: u32,
        flags: CopyFlags,
    ) -> Result<Addr, Stop> {
        const F: &str = "mmap_process_vm";
        let mut uf = std::mem::take(&mut self.lists.unmap);
        let mut body = |kernel: &mut Kernel| {
            kernel.mmap_process_vm_locked(text, dst, src, len, flags, &mut uf)
        };
        let copied = self
            .locked(Lock::MmapSem(dst.0), F, |kernel| match src.0 == dst.0 {
                true => body(kernel),
                false => kernel.locked_for(Mode::Read, Lock::MmapSem(src.0), F, body),
            })
            .errno()?;
        self.userfaultfd_unmap_complete(&mut uf)?;
        self.lists.unmap = uf;
        Ok(copied?)
    }

    /// The part of `mmap_process_vm()` that holds `mmap_sem` of the destination for writing, and that
    /// of the source for reading.
    fn mmap_process_vm_locked(
        &mut self,
        text: Text,
        (dst_mm, dst_addr): Place,
        (src_mm, src_addr): Place,
        len: u32,
        flags: CopyFlags,
        uf: &mut Vec<UnmapCtx>,
    ) -> Result<Addr, Stop> {
        const F: &str = "mmap_process_vm";
        let src_vma = self.copyable_vma(text, src_mm, src_addr, len)?;
        if read!(self, F, dst_mm.map_count) > self.max_map_count() - 2 {
            return Err(Errno::ENOMEM.into());
        }
        if text.refuses_userfaultfd && read!(self, F, src_vma.vm_userfaultfd_ctx).is_some() {
            return Err(Errno::ENOTSUPP.into());
        }
        let dst_addr = self.copy_destination(dst_mm, dst_addr, len, flags)?;
        if !self.may_mmap_overlapped_region(dst_mm, dst_addr, len)? {
            return Err(Errno::ENOMEM.into());
        }
        if text.counts_locked_vm && !text.clear_flags_ctx {
            let flags = read!(self, F, src_vma.vm_flags);
            self.mlock_future_check(dst_mm, flags, len)?;
        }
        let overlap = dst_mm == src_mm && ranges_overlap(src_addr, dst_addr, len);
        if text.refuses_overlap && overlap {
            return Err(Errno::EINVAL.into());
        }
        self.do_mmap_process_vm(text, src_vma, src_addr, (dst_mm, dst_addr), len, uf)?;
        Ok(dst_addr)
    }

    /// `do_mmap_process_vm()`: unmaps the destination range, and copies.
    ///
    /// # Errors
    /// `ENOMEM` where unmapping, the charge, `copy_vma()` or the copy of page tables fails. The
    /// destination may be unmapped then.
    fn do_mmap_process_vm(
        &mut self,
        text: Text,
        src_vma: VmaKey,
        src_addr: Addr,
        dst: Place,
        len: u32,
        uf: &mut Vec<UnmapCtx>,
    ) -> Result<(), Stop> {
        // Reports name the system call, which is the only caller of this function.
        const F: &str = "process_vm_mmap";
        let (dst_mm, dst_addr) = dst;
        if self.do_munmap(dst_mm, dst_addr, len, Some(uf)).errno()?.is_err() {
            return Err(Errno::ENOMEM.into());
        }
        // In one address space, unmapping may have cut the source. The rest of it keeps the
        // attributes of the source, and its offsets run on. The handle is stale only if nothing is
        // left, and that takes an overlap.
        let charged = read!(self, F, src_vma.vm_flags).contains(VmFlags::VM_ACCOUNT);
        if charged {
            self.vm_enough_memory(len)?;
        }
        let pgoff = read!(self, F, src_vma.vm_pgoff).at(src_addr, read!(self, F, src_vma.vm_start));
        let copied = self.copy_vma(src_vma, dst, len, pgoff, text.clear_flags_ctx)?;
        let Some(copied) = copied else {
            if charged || !text.uncharges_what_was_charged {
                self.vm_unacct_memory(len);
            }
            return Err(Errno::ENOMEM.into());
        };
        self.copy = Some(CopyReport {
            merged: copied.merged,
            need_rmap_locks: copied.need_rmap_locks,
            honoured: !copied.need_rmap_locks || text.honours_need_rmap_locks,
            source_redirected: copied.source_redirected,
        });
        // `copy_vma()` may have redirected the source.
        let src_vma = copied.vma;
        let src_mm = read!(self, F, src_vma.vm_mm);
        let src = (src_mm, src_addr);
        let dst_vma = copied.new_vma;
        if text.counts_before_unmapping {
            self.count_copy(text, dst_mm, dst_vma, len)?;
        }
        let pages = self.copy_page_range(dst, src, src_vma, len, text.pte_locks).errno()?;
        if pages.is_err() {
            // The kernel ignores the result: there is nobody to tell.
            let _ = self.do_munmap(dst_mm, dst_addr, len, Some(uf)).errno()?;
            return Err(Errno::ENOMEM.into());
        }
        *edit!(self, F, dst_vma.vm_flags) |= VmFlags::VM_SOFTDIRTY;
        if !text.counts_before_unmapping {
            self.count_copy(text, dst_mm, dst_vma, len)?;
        }
        if !text.refuses_userfaultfd {
            self.keep_context(dst_vma)?;
        }
        Ok(())
    }

    /// Adds the pages of a copy to the counters of the destination.
    fn count_copy(&mut self, text: Text, mm: MmKey, vma: VmaKey, len: u32) -> Result<(), Stop> {
        const F: &str = "process_vm_mmap";
        let vm_flags = read!(self, F, vma.vm_flags);
        let pages = i64::from(len);
        self.vm_stat_account(mm, vm_flags, pages)?;
        if text.counts_locked_vm && vm_flags.contains(VmFlags::VM_LOCKED) {
            *edit!(self, F, mm.locked_vm) += pages;
        }
        Ok(())
    }

    /// Returns the one VMA that covers the source range.
    fn copyable_vma(
        &self,
        text: Text,
        src_mm: MmKey,
        src_addr: Addr,
        len: u32,
    ) -> Result<VmaKey, Stop> {
        const F: &str = "mmap_process_vm";
        let fixed_length = VmFlags::VM_DONTEXPAND | VmFlags::VM_PFNMAP;
        let vma = self.find_vma_without_flags(src_mm, src_addr, len, fixed_length)?;
        if read!(self, F, vma.vm_flags).intersects(VmFlags::VM_HUGETLB | VmFlags::VM_IO) {
            return Err(text.io_source.into());
        }
        Ok(vma)
    }

    /// Returns the destination address of the copy.
    fn copy_destination(
        &self,
        mm: MmKey,
        dst_addr: Addr,
        len: u32,
        flags: CopyFlags,
    ) -> Result<Addr, Stop> {
        let free = || -> Result<bool, Stop> {
            let links = self.find_vma_links(mm, dst_addr, dst_addr + len)?;
            Ok(links != Links::Occupied)
        };
        if flags.contains(CopyFlags::FIXED_NOREPLACE) {
            return if free()? { Ok(dst_addr) } else { Err(Errno::EEXIST.into()) };
        }
        if flags.contains(CopyFlags::FIXED) || free()? {
            return Ok(dst_addr);
        }
        self.unmapped_area_topdown(mm, len)
    }

    /// `unmapped_area_topdown()`: returns the highest hole in the arena that is long enough.
    pub(crate) fn unmapped_area_topdown(&self, mm: MmKey, len: u32) -> Result<Addr, Stop> {
        const F: &str = "unmapped_area_topdown";
        let mut highest = None;
        let mut hole = Addr(0);
        let mut next = read!(self, F, mm.mmap);
        let mut walk = Walk::new();
        while let Some(vma) = next {
            walk.step()?;
            let end = read!(self, F, vma.vm_start);
            if end > hole && end - hole >= len {
                highest = Some(end - len);
            }
            hole = read!(self, F, vma.vm_end);
            next = read!(self, F, vma.vm_next);
        }
        if Addr::END > hole && Addr::END - hole >= len {
            highest = Some(Addr::END - len);
        }
        highest.ok_or(Errno::ENOMEM.into())
    }
}
