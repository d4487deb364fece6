//! Files: the memfds, the device, and the objects behind shared anonymous mappings.

use vmadiff_machine::Errno;
use vmadiff_machine::operand::FILE_PAGES;

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
    pub(crate) const MEMFD_0: File = File(0);
    /// The second memfd.
    pub(crate) const MEMFD_1: File = File(1);
    /// The memfd that is open for reading only.
    pub(crate) const READONLY: File = File(2);
    /// The device.
    pub(crate) const DEVICE: File = File(3);

    /// Goes back to the start of a program: the memfds, which are full, and the device.
    pub(crate) fn reset(&mut self) {
        self.used = 0;
        for _ in 0..4 {
            self.create(FILE_PAGES, true);
        }
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
    /// `ENOMEM` past 252 objects. No program makes that many.
    pub(crate) fn shmem_zero_setup(&mut self, size: u32) -> Result<File, Errno> {
        let file = u8::try_from(self.used).map_err(|_| Errno::ENOMEM)?;
        self.create(u64::from(size), false);
        Ok(File(file))
    }

    /// Looks a page up, as `shmem_getpage_gfp` does first.
    pub(crate) fn lookup(&self, file: File, index: Pgoff) -> Lookup {
        let Some(inode) = self.inodes.get(usize::from(file.0)) else { return Lookup::Beyond };
        if index.0 >= inode.size {
            return Lookup::Beyond;
        }
        let word = inode.cache.get(index.0 as usize / 64).copied().unwrap_or(0);
        if inode.full || word >> (index.0 % 64) & 1 == 1 { Lookup::Cached } else { Lookup::Missing }
    }

    /// Puts a page that is [`Lookup::Missing`] into the page cache.
    pub(crate) fn fill(&mut self, file: File, index: Pgoff) {
        let Some(inode) = self.inodes.get_mut(usize::from(file.0)) else { return };
        let word = index.0 as usize / 64;
        if index.0 < inode.size {
            if inode.cache.len() <= word {
                inode.cache.resize(word + 1, 0);
            }
            inode.cache[word] |= 1 << (index.0 % 64);
        }
    }
}
