//! Files: their numbers, their lengths, and their pages in the page cache with the values.

use vmadiff_machine::operand::{FILE_PAGES, SHM_PAGES};
use vmadiff_machine::state::Objects;
use vmadiff_machine::{FileId, State};

/// The memfds: the two that may be written, and the one that is open for reading only.
pub(crate) const MEMFDS: [FileId; 3] = [FileId::new(0), FileId::new(1), FileId::new(2)];
/// The device.
pub(crate) const DEVICE: FileId = FileId::new(3);
/// The segment of SysV shared memory.
pub(crate) const SEGMENT: FileId = FileId::new(4);

/// Returns whether a file is the object of a shared anonymous mapping.
pub(crate) fn is_object(file: FileId) -> bool {
    file > SEGMENT
}

/// The shmem object of a shared anonymous mapping.
#[derive(Clone, Copy, Debug)]
struct Object {
    pages: u8,
    /// The pages that are in the page cache, bit `n` for page `n`.
    cached: u64,
}

/// The state of a file's page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Content {
    /// The page is in the page cache.
    Cached,
    /// The page is not in the page cache; an access makes it.
    Missing,
    /// The page lies beyond the end of the file.
    Beyond,
}

/// The files of a program. The object of a shared anonymous mapping is kept for the whole program:
/// no observation shows an object that is not mapped, and each new object gets a new number.
#[derive(Debug, Default)]
pub(crate) struct Shmem {
    /// The objects, in the order in which they were made.
    objects: Vec<Object>,
    /// The values of the pages that were written, sorted by file and page. The others have the value 0.
    values: Vec<(FileId, u64, u8)>,
}

vmadiff_machine::clone_by_field!(Shmem { objects, values });

impl Shmem {
    pub(crate) fn reset(&mut self) {
        self.objects.clear();
        self.values.clear();
    }

    /// Returns the place of a page in `values`, or the place where it belongs.
    fn find(&self, file: FileId, page: u64) -> Result<usize, usize> {
        self.values.binary_search_by_key(&(file, page), |&(file, page, _)| (file, page))
    }

    /// Returns the value of the page of `file` at the offset `page`.
    pub(crate) fn value(&self, file: FileId, page: u64) -> u8 {
        self.find(file, page).map_or(0, |at| self.values[at].2)
    }

    /// Gives a page of a file a value. The device keeps none.
    pub(crate) fn set_value(&mut self, file: FileId, page: u64, value: u8) {
        match self.find(file, page) {
            _ if file == DEVICE => {}
            Ok(at) => self.values[at].2 = value,
            Err(at) => self.values.insert(at, (file, page, value)),
        }
    }

    /// Makes an empty object, as long as its mapping (`shmem_zero_setup()`).
    pub(crate) fn make(&mut self, pages: u8) -> FileId {
        self.objects.push(Object { pages, cached: 0 });
        FileId::new((SEGMENT.index() + self.objects.len()) as u32)
    }

    fn object(&mut self, file: FileId) -> Option<&mut Object> {
        let at = file.index().checked_sub(SEGMENT.index() + 1)?;
        self.objects.get_mut(at)
    }

    /// Returns the state of the page of `file` at the offset `page`. The pages of a memfd and of the
    /// segment are all in the page cache.
    pub(crate) fn content(&mut self, file: FileId, page: u64) -> Content {
        let (pages, cached) = match self.object(file) {
            Some(object) => (object.pages.into(), object.cached),
            None if file == SEGMENT => (SHM_PAGES.into(), u64::MAX),
            None => (FILE_PAGES, u64::MAX),
        };
        match page {
            _ if page >= pages => Content::Beyond,
            _ if cached >> (page % u64::from(u64::BITS)) & 1 == 0 => Content::Missing,
            _ => Content::Cached,
        }
    }

    /// Adds the values of the files that every program has, and the objects that VMAs map, and which
    /// `state` has visited. Others cannot be reached.
    pub(crate) fn write_state(&self, state: &mut State) {
        let Shmem { objects, values: _ } = self;
        for file in MEMFDS.into_iter().chain([SEGMENT]) {
            self.write_values(file, state);
        }
        for n in 0.. {
            let Some(index) = state.visited(Objects::File, n) else { break };
            let Object { pages, cached } = objects[index as usize - SEGMENT.index() - 1];
            state.word(pages.into());
            state.word(cached);
            self.write_values(FileId::new(index as u32), state);
        }
    }

    /// Adds the pages of a file that were written, with their values.
    fn write_values(&self, file: FileId, state: &mut State) {
        let from = self.values.partition_point(|&(of, ..)| of < file);
        for &(_, page, value) in self.values[from..].iter().take_while(|&&(of, ..)| of == file) {
            let value = state.value(value);
            state.word(page << 32 | value);
        }
        // The end: no value has this number.
        state.word(0);
    }

    /// Puts a page that was missing into the page cache.
    pub(crate) fn cache(&mut self, file: FileId, page: u64) {
        if let Some(object) = self.object(file) {
            object.cached |= 1 << (page % u64::from(u64::BITS));
        }
    }
}
