//! Files: their numbers, their lengths, and which of their pages are in the page cache.

use vmadiff_machine::FileId;
use vmadiff_machine::operand::FILE_PAGES;

/// The memfds: the two that may be written, and the one that is open for reading only.
pub(crate) const MEMFDS: [FileId; 3] = [FileId::new(0), FileId::new(1), FileId::new(2)];
/// The device.
pub(crate) const DEVICE: FileId = FileId::new(3);

/// What is behind a shared anonymous mapping.
#[derive(Clone, Copy, Debug)]
struct Object {
    pages: u8,
    /// Its pages that are in the page cache, bit `n` for page `n`.
    cached: u64,
}

/// What a file has at an offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// A page that is in the page cache.
    Cached,
    /// A page that is not, and would be made now.
    Missing,
    /// Nothing: the file ends before.
    Beyond,
}

/// The files of a program. What is behind a shared anonymous mapping is never dropped: what
/// nothing maps is not seen, and a new one gets a new number.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shmem {
    /// In the order they were made.
    objects: Vec<Object>,
}

impl Shmem {
    pub(crate) fn reset(&mut self) {
        self.objects.clear();
    }

    /// A new object, as long as the mapping it is for, and empty (`shmem_zero_setup()`).
    pub(crate) fn make(&mut self, pages: u8) -> FileId {
        self.objects.push(Object { pages, cached: 0 });
        FileId::new((DEVICE.index() + self.objects.len()) as u32)
    }

    fn object(&mut self, file: FileId) -> Option<&mut Object> {
        let at = file.index().checked_sub(DEVICE.index() + 1)?;
        self.objects.get_mut(at)
    }

    /// What `file` has at the page offset `page`. All of a memfd is in the page cache.
    pub(crate) fn content(&mut self, file: FileId, page: u64) -> Content {
        let (pages, cached) = match self.object(file) {
            Some(object) => (object.pages.into(), object.cached),
            None => (FILE_PAGES, u64::MAX),
        };
        match page {
            _ if page >= pages => Content::Beyond,
            _ if cached >> (page % u64::from(u64::BITS)) & 1 == 0 => Content::Missing,
            _ => Content::Cached,
        }
    }

    /// A page that was missing is in the page cache from now on.
    pub(crate) fn cache(&mut self, file: FileId, page: u64) {
        if let Some(object) = self.object(file) {
            object.cached |= 1 << (page % u64::from(u64::BITS));
        }
    }
}
