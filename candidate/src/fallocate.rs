//! Holes in files: `vfs_fallocate()` with `FALLOC_FL_PUNCH_HOLE`, and `unmap_mapping_range()`, which drops
//! the ptes that map pages of a file, in every address space.

use vmadiff_machine::Errno;

use crate::addr::{Addr, MAX_LFS_FILESIZE, PAGE_SHIFT, Pgoff};
use crate::handle::{FileKey, VmaKey, read};
use crate::kernel::Kernel;
use crate::locks::Lock;
use crate::shmem::Inodes;
use crate::stop::Stop;
use crate::vma_list::Walk;

impl Kernel {
    /// `vfs_fallocate()` with `FALLOC_FL_PUNCH_HOLE`, of `len` pages from the page `offset`.
    ///
    /// # Errors
    /// `EBADF` for a file that is not open for writing. `ENODEV` for the device. `EFBIG` and `EINVAL` past the
    /// end of the longest file.
    pub(crate) fn vfs_fallocate(
        &mut self,
        file: FileKey,
        offset: Pgoff,
        len: u32,
    ) -> Result<(), Stop> {
        const F: &str = "vfs_fallocate";
        // The kernel computes with signed bytes (`loff_t`).
        let start = (offset.0 << PAGE_SHIFT).cast_signed();
        if start < 0 {
            return Err(Errno::EINVAL.into());
        }
        if !read!(self, F, file.writable) {
            return Err(Errno::EBADF.into());
        }
        let inode = read!(self, F, file.f_inode);
        if usize::from(inode) == Inodes::DEVICE {
            return Err(Errno::ENODEV.into());
        }
        let end = start.wrapping_add(i64::from(len) << PAGE_SHIFT);
        if end < 0 || end.cast_unsigned() > MAX_LFS_FILESIZE {
            return Err(Errno::EFBIG.into());
        }
        self.shmem_fallocate(inode, offset, len)
    }

    /// The part of `shmem_fallocate()` that punches a hole. COWed pages stay.
    fn shmem_fallocate(&mut self, inode: u8, offset: Pgoff, len: u32) -> Result<(), Stop> {
        self.unmap_mapping_pages(inode, offset, len.into(), false)?;
        self.inodes.truncate_range(inode, offset, Pgoff(offset.0.saturating_add(len.into())));
        Ok(())
    }

    /// `unmap_mapping_pages()`: drops the ptes of `nr` pages from the page `start` of an inode, in every
    /// VMA that maps them; with `nr` 0, of all pages from there on. With `even_cows`, private copies of
    /// the pages go as well.
    pub(crate) fn unmap_mapping_pages(
        &mut self,
        inode: u8,
        start: Pgoff,
        nr: u64,
        even_cows: bool,
    ) -> Result<(), Stop> {
        const F: &str = "unmap_mapping_pages";
        let last = start.0.wrapping_add(nr).wrapping_sub(1);
        let last = Pgoff(if last < start.0 { u64::MAX } else { last });
        self.locked(Lock::IMmap(inode), F, |kernel| {
            kernel.unmap_mapping_range_tree(inode, (start, last), even_cows)
        })
    }

    /// `unmap_mapping_range_tree()`. The lists of all address spaces stand for the interval tree of the
    /// mapping, which has the VMAs of all of them.
    fn unmap_mapping_range_tree(
        &mut self,
        inode: u8,
        (first, last): (Pgoff, Pgoff),
        even_cows: bool,
    ) -> Result<(), Stop> {
        const F: &str = "unmap_mapping_pages";
        for mm in self.processes.into_iter().flatten() {
            let mut next = read!(self, F, mm.mmap);
            let mut walk = Walk::new();
            while let Some(vma) = next {
                walk.step()?;
                next = read!(self, F, vma.vm_next);
                let Some(file) = read!(self, F, vma.vm_file) else { continue };
                if read!(self, F, file.f_inode) != inode {
                    continue;
                }
                let (vm_start, vm_end) = (read!(self, F, vma.vm_start), read!(self, F, vma.vm_end));
                let vba = read!(self, F, vma.vm_pgoff);
                let vea = vba.at(vm_end - 1, vm_start);
                if vea < first || vba > last {
                    continue;
                }
                let (zba, zea) = (vba.max(first), vea.min(last));
                let start_addr = vm_start + (zba.0.wrapping_sub(vba.0) as u32);
                let end_addr = vm_start + (zea.0.wrapping_sub(vba.0) as u32) + 1;
                self.zap_page_range_single(vma, start_addr, end_addr, even_cows)?;
            }
        }
        Ok(())
    }

    /// `zap_page_range_single()`. Without `even_cows`, `zap_pte_range()` drops the ptes of the file's own
    /// pages only (`check_mapping`). These ptes are not kept: a fault finds the page of the file.
    fn zap_page_range_single(
        &mut self,
        vma: VmaKey,
        start: Addr,
        end: Addr,
        even_cows: bool,
    ) -> Result<(), Stop> {
        const F: &str = "zap_page_range_single";
        let mm = read!(self, F, vma.vm_mm);
        if even_cows { self.unmap_page_range(mm, start, end) } else { Ok(()) }
    }
}
