//! Files: their numbers, their lengths, and their pages in the page cache with the values.

use std::ops::Range;

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
    /// The lengths of the memfds, in pages.
    lengths: [u64; MEMFDS.len()],
    /// The objects, in the order in which they were made.
    objects: Vec<Object>,
    /// The pages of the memfds and of the segment that are not in the page cache, sorted.
    missing: Vec<(FileId, u64)>,
    /// The values of the pages that were written, sorted by file and page. The others have the value 0.
    values: Vec<(FileId, u64, u8)>,
}

vmadiff_machine::clone_by_field!(Shmem { lengths, objects, missing, values });

impl Shmem {
    pub(crate) fn reset(&mut self) {
        self.lengths = [FILE_PAGES; MEMFDS.len()];
        self.objects.clear();
        self.missing.clear();
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

    /// Returns the length of a file, in pages.
    fn length(&mut self, file: FileId) -> u64 {
        match self.object(file) {
            Some(object) => object.pages.into(),
            None if file == SEGMENT => SHM_PAGES.into(),
            None => self.lengths.get(file.index()).copied().unwrap_or(0),
        }
    }

    /// Gives a memfd another length. Pages past a lower end are dropped. The pages up to a higher end are
    /// missing.
    pub(crate) fn set_length(&mut self, file: FileId, length: u64) {
        let Some(old) = self.lengths.get_mut(file.index()) else { return };
        let old = std::mem::replace(old, length);
        self.missing.retain(|&(of, page)| of != file || page < length);
        self.values.retain(|&(of, page, _)| of != file || page < length);
        self.missing.extend((old..length).map(|page| (file, page)));
        self.missing.sort_unstable();
    }

    /// Returns the state of the page of `file` at the offset `page`. The pages of a memfd and of the
    /// segment are in the page cache until they are removed.
    pub(crate) fn content(&mut self, file: FileId, page: u64) -> Content {
        if page >= self.length(file) {
            return Content::Beyond;
        }
        let cached = match self.object(file) {
            Some(object) => object.cached >> (page % u64::from(u64::BITS)) & 1 == 1,
            None => self.missing.binary_search(&(file, page)).is_err(),
        };
        if cached { Content::Cached } else { Content::Missing }
    }

    /// Takes pages out of the page cache, with their values. Pages beyond the end are none.
    pub(crate) fn remove(&mut self, file: FileId, pages: Range<u64>) {
        for page in pages.start..pages.end.min(self.length(file)) {
            if let Some(object) = self.object(file) {
                object.cached &= !(1 << (page % u64::from(u64::BITS)));
            } else if let Err(at) = self.missing.binary_search(&(file, page)) {
                self.missing.insert(at, (file, page));
            }
        }
        self.values.retain(|(of, page, _)| *of != file || !pages.contains(page));
    }

    /// Adds the pages of the files that every program has, and the objects that VMAs map, and which
    /// `state` has visited. Others cannot be reached.
    pub(crate) fn write_state(&self, state: &mut State) {
        let Shmem { lengths, objects, missing, values: _ } = self;
        lengths.iter().for_each(|&length| state.word(length));
        for file in MEMFDS.into_iter().chain([SEGMENT]) {
            self.write_values(file, state);
        }
        for &(file, page) in missing {
            state.word((file.index() as u64) << 32 | page);
        }
        // The end: no file has this number.
        state.word(u64::MAX);
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
        } else if let Ok(at) = self.missing.binary_search(&(file, page)) {
            self.missing.remove(at);
        }
    }
}
