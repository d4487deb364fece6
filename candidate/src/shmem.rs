//! Files: the memfds, the device, the segment of SysV shared memory, and the objects behind shared
//! anonymous mappings.

use vmadiff_machine::Errno;
use vmadiff_machine::operand::{FILE_PAGES, SHM_PAGES};

use crate::addr::Pgoff;
use crate::objects::File;

/// A shmem object. For the device, the fields have no meaning.
#[derive(Clone, Debug, Default)]
struct Inode {
    /// `i_size`, in pages.
    size: u64,
    /// All its pages are in the page cache.
    full: bool,
    /// The pages in the page cache, where not all are: bit `n % 64` of word `n / 64` for page `n`.
    cache: Vec<u64>,
}

/// Every file of a program. A file is never dropped: a file that nothing maps cannot be reached.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    /// The files in use come first. The others keep their memory for the next program.
    inodes: Vec<Inode>,
    used: usize,
}

/// The state of a page of a shmem object, as `shmem_getpage_gfp` sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// In the page cache.
    Cached,
    /// Inside the object, and not in the page cache.
    Missing,
    /// Past the end of the object.
    Beyond,
}

impl Files {
    /// The first memfd.
    pub(crate) const MEMFD_0: File = File::of(0);
    /// The second memfd.
    pub(crate) const MEMFD_1: File = File::of(1);
    /// The memfd that is open for reading only.
    pub(crate) const READONLY: File = File { writable: false, ..File::of(2) };
    /// The device.
    pub(crate) const DEVICE: File = File::of(3);
    /// The segment of SysV shared memory (`shm_file`). Each attachment has an open file of its own.
    pub(crate) const SEGMENT: File = File::of(4);

    /// Goes back to the start of a program: the memfds and the segment, which are full, and the
    /// device.
    pub(crate) fn reset(&mut self) {
        self.used = 0;
        for _ in 0..4 {
            self.create(FILE_PAGES, true);
        }
        self.create(SHM_PAGES.into(), true);
    }

    fn create(&mut self, size: u64, full: bool) {
        if self.used == self.inodes.len() {
            self.inodes.push(Inode::default());
        }
        let inode = &mut self.inodes[self.used];
        inode.size = size;
        inode.full = full;
        inode.cache.clear();
        self.used += 1;
    }

    /// `shmem_zero_setup()`: makes a new object of `size` pages behind a shared anonymous mapping.
    ///
    /// # Errors
    /// `ENOMEM` past 251 objects. No program makes that many.
    pub(crate) fn shmem_zero_setup(&mut self, size: u32) -> Result<File, Errno> {
        let inode = u8::try_from(self.used).map_err(|_| Errno::ENOMEM)?;
        self.create(u64::from(size), false);
        Ok(File::of(inode))
    }

    /// Looks a page up, as `shmem_getpage_gfp` does first.
    pub(crate) fn lookup(&self, file: File, index: Pgoff) -> Lookup {
        let Some(inode) = self.inodes.get(usize::from(file.inode)) else { return Lookup::Beyond };
        if index.0 >= inode.size {
            return Lookup::Beyond;
        }
        let word = inode.cache.get(index.0 as usize / 64).copied().unwrap_or(0);
        if inode.full || word >> (index.0 % 64) & 1 == 1 { Lookup::Cached } else { Lookup::Missing }
    }

    /// Puts a page that is [`Lookup::Missing`] into the page cache.
    pub(crate) fn fill(&mut self, file: File, index: Pgoff) {
        let Some(inode) = self.inodes.get_mut(usize::from(file.inode)) else { return };
        let word = index.0 as usize / 64;
        if index.0 < inode.size {
            if inode.cache.len() <= word {
                inode.cache.resize(word + 1, 0);
            }
            inode.cache[word] |= 1 << (index.0 % 64);
        }
    }
}
