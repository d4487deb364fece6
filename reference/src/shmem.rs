//! Files: their numbers, their lengths, and which of their pages are in the page cache.

use vmadiff_machine::FileId;
use vmadiff_machine::operand::FILE_PAGES;

/// The memfds: the two that anyone may write, and the one that is open for reading only.
pub(crate) const MEMFDS: [FileId; 3] = [FileId::new(0), FileId::new(1), FileId::new(2)];
/// The device.
pub(crate) const DEVICE: FileId = FileId::new(3);

/// Words of the page cache that a memfd has.
const MEMFD_WORDS: usize = FILE_PAGES as usize / 64;

/// A shmem object: a memfd, or what is behind a shared anonymous mapping.
#[derive(Clone, Copy, Debug)]
struct Object {
    pages: u32,
    /// Where its words of the page cache begin.
    words: usize,
}

/// The shmem objects of a program. None is ever dropped: what nothing maps cannot be seen, and a
/// new one gets a new number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shmem {
    /// Of the shared anonymous mappings, in the order they were made.
    anonymous: Vec<Object>,
    /// One bit for each page of each object.
    cached: Vec<u64>,
}

impl Shmem {
    pub(crate) fn reset(&mut self) {
        self.anonymous.clear();
        self.cached.clear();
        self.cached.resize(MEMFDS.len() * MEMFD_WORDS, 0);
    }

    /// A new object of that many pages (`shmem_zero_setup()`).
    pub(crate) fn make(&mut self, pages: u8) -> FileId {
        let file = FileId::new(DEVICE.index() as u32 + 1 + self.anonymous.len() as u32);
        self.anonymous.push(Object { pages: pages.into(), words: self.cached.len() });
        self.cached.extend([0; 4]);
        file
    }

    fn object(&self, file: FileId) -> Object {
        match file.index().checked_sub(DEVICE.index() + 1) {
            Some(at) => self.anonymous[at],
            None => Object { pages: FILE_PAGES, words: file.index() * MEMFD_WORDS },
        }
    }

    /// Whether the object has that page at all.
    pub(crate) fn has(&self, file: FileId, page: u32) -> bool {
        page < self.object(file).pages
    }

    /// Whether the page is in the page cache; it has to be one of the object's.
    pub(crate) fn is_cached(&self, file: FileId, page: u32) -> bool {
        self.cached[self.object(file).words + page as usize / 64] >> (page % 64) & 1 == 1
    }

    /// The page is in the page cache from now on.
    pub(crate) fn cache(&mut self, file: FileId, page: u32) {
        let word = self.object(file).words + page as usize / 64;
        self.cached[word] |= 1 << (page % 64);
    }
}
