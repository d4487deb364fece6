//! Open files (`fs/file_table.c`) and the references to them: one for each VMA that maps the file, and one
//! for a descriptor.

use crate::handle::{FileKey, edit, read};
use crate::kernel::Kernel;
use crate::objects::File;
use crate::stop::Stop;

impl Kernel {
    /// `alloc_file()`: opens an inode. The caller has the reference.
    pub(crate) fn alloc_file(
        &mut self,
        f_inode: u8,
        writable: bool,
        private_data: Option<FileKey>,
    ) -> FileKey {
        self.files.insert(File { f_inode, writable, f_count: 1, private_data })
    }

    /// `get_file()`.
    #[inline]
    pub(crate) fn get_file(&mut self, file: FileKey) -> Result<FileKey, Stop> {
        const F: &str = "get_file";
        *edit!(self, F, file.f_count) += 1;
        Ok(file)
    }

    /// `fput()`. The last reference frees the file. The kernel does that when the system call returns
    /// (`__fput()`), and nothing reads the file in between.
    #[inline]
    pub(crate) fn fput(&mut self, file: FileKey) -> Result<(), Stop> {
        const F: &str = "fput";
        let f_count = edit!(self, F, file.f_count);
        *f_count -= 1;
        if *f_count == 0 { self.release_file(file) } else { Ok(()) }
    }

    /// `__fput()`. `shm_release()` puts the file of the segment.
    fn release_file(&mut self, file: FileKey) -> Result<(), Stop> {
        const F: &str = "__fput";
        let base = read!(self, F, file.private_data);
        self.files.remove(file);
        match base {
            Some(base) => self.fput(base),
            None => Ok(()),
        }
    }
}
