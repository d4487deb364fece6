//! `ftruncate()`.

use vmadiff_machine::Errno;

use crate::addr::Pgoff;
use crate::handle::{FileKey, read};
use crate::kernel::Kernel;
use crate::shmem::Inodes;
use crate::stop::Stop;

impl Kernel {
    /// `do_sys_ftruncate()`, `do_truncate()`.
    ///
    /// # Errors
    /// `EINVAL` for a file that is no regular file, or not open for writing.
    pub(crate) fn ftruncate(&mut self, file: FileKey, length: Pgoff) -> Result<(), Stop> {
        const F: &str = "do_sys_ftruncate";
        let inode = read!(self, F, file.f_inode);
        if usize::from(inode) == Inodes::DEVICE || !read!(self, F, file.writable) {
            return Err(Errno::EINVAL.into());
        }
        self.shmem_setattr(inode, length)
    }

    /// The part of `shmem_setattr()` that changes the size. The size is a number of pages, so the hole
    /// begins there.
    fn shmem_setattr(&mut self, inode: u8, newsize: Pgoff) -> Result<(), Stop> {
        let oldsize = self.inodes.i_size_read(inode);
        if newsize != oldsize {
            self.inodes.i_size_write(inode, newsize);
        }
        if newsize < oldsize {
            self.unmap_mapping_pages(inode, newsize, 0, true)?;
            self.inodes.truncate_range(inode, newsize, Pgoff(u64::MAX));
            // The second call is for private copies that another task has made in between.
            self.unmap_mapping_pages(inode, newsize, 0, true)?;
        }
        Ok(())
    }
}
