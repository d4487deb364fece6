//! Inodes: the memfds, the device, the segment of SysV shared memory, and the objects behind shared
//! anonymous mappings.

use vmadiff_machine::operand::{FILE_PAGES, SHM_PAGES};
use vmadiff_machine::state::Objects;
use vmadiff_machine::{Errno, State};

use crate::addr::Pgoff;

/// A shmem object. For the device, the fields have no meaning.
#[derive(Debug, Default)]
struct Inode {
    /// `i_size`, in pages.
    size: u64,
    /// All its pages are in the page cache, and none was ever dropped.
    full: bool,
    /// The pages in the page cache, where not all are: bit `n % 64` of word `n / 64` for page `n`.
    cache: Vec<u64>,
    /// The values of its pages, up to the last page that was written. The others have the value 0.
    data: Vec<u8>,
}

vmadiff_machine::clone_by_field!(Inode { size, full, cache, data });

impl Inode {
    /// Lists the pages in the page cache, which may be fewer than all from now on.
    fn count_pages(&mut self) {
        if std::mem::take(&mut self.full) {
            self.cache.clear();
            self.cache.resize(self.size as usize / 64, u64::MAX);
            self.cache.push((1 << (self.size % 64)) - 1);
        }
    }

    /// Returns whether every page is in the page cache.
    fn is_full(&self) -> bool {
        let cached: u32 = self.cache.iter().map(|word| word.count_ones()).sum();
        self.full || u64::from(cached) == self.size
    }

    /// Adds the length, the pages in the page cache, and their values. A value of 0 at the end is the same
    /// as none.
    fn write_state(&self, state: &mut State) {
        let full = self.is_full();
        state.word(self.size << 1 | u64::from(full));
        if !full {
            // A word without pages is the same as none.
            let length = self.cache.iter().rposition(|&word| word != 0).map_or(0, |last| last + 1);
            state.word(length as u64);
            self.cache[..length].iter().for_each(|&word| state.word(word));
        }
        let length = self.data.iter().rposition(|&value| value != 0).map_or(0, |last| last + 1);
        state.word(length as u64);
        for &value in &self.data[..length] {
            let value = state.value(value);
            state.word(value);
        }
    }
}

/// The inodes of a program. An inode keeps its number after its last open file was closed.
#[derive(Debug, Default)]
pub(crate) struct Inodes {
    /// The inodes in use come first. The others keep their memory for the next program.
    inodes: Vec<Inode>,
    used: usize,
}

vmadiff_machine::clone_by_field!(Inodes { inodes, used });

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

impl Inodes {
    /// The first memfd.
    pub(crate) const MEMFD_0: usize = 0;
    /// The second memfd.
    pub(crate) const MEMFD_1: usize = 1;
    /// The memfd that is open for reading only.
    pub(crate) const READONLY: usize = 2;
    /// The device.
    pub(crate) const DEVICE: usize = 3;
    /// The inodes before this one are open: every process has a descriptor.
    pub(crate) const DESCRIPTORS: usize = 4;
    /// The segment of SysV shared memory. Each attachment has an open file of its own.
    pub(crate) const SEGMENT: u8 = 4;

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
        inode.data.clear();
        self.used += 1;
    }

    /// Makes a new object of `size` pages behind a shared anonymous mapping, and returns its number.
    ///
    /// # Errors
    /// `ENOMEM` past 251 objects. No program makes that many.
    pub(crate) fn create_object(&mut self, size: u32) -> Result<u8, Errno> {
        let inode = u8::try_from(self.used).map_err(|_| Errno::ENOMEM)?;
        self.create(u64::from(size), false);
        Ok(inode)
    }

    /// Looks a page up, as `shmem_getpage_gfp` does first.
    pub(crate) fn lookup(&self, inode: u8, index: Pgoff) -> Lookup {
        let Some(inode) = self.inodes.get(usize::from(inode)) else { return Lookup::Beyond };
        if index.0 >= inode.size {
            return Lookup::Beyond;
        }
        let word = inode.cache.get(index.0 as usize / 64).copied().unwrap_or(0);
        if inode.full || word >> (index.0 % 64) & 1 == 1 { Lookup::Cached } else { Lookup::Missing }
    }

    /// Returns the value of a page.
    pub(crate) fn read(&self, inode: u8, index: Pgoff) -> u8 {
        let inode = self.inodes.get(usize::from(inode));
        inode.and_then(|inode| inode.data.get(index.0 as usize)).copied().unwrap_or(0)
    }

    /// Writes the value of a page that lies inside the object. The device keeps none.
    pub(crate) fn write(&mut self, inode: u8, index: Pgoff, value: u8) {
        let number = usize::from(inode);
        let Some(inode) = self.inodes.get_mut(number) else { return };
        if index.0 >= inode.size || number == Inodes::DEVICE {
            return;
        }
        let at = index.0 as usize;
        if inode.data.len() <= at {
            inode.data.resize(at + 1, 0);
        }
        inode.data[at] = value;
    }

    /// `i_size_read()`.
    pub(crate) fn i_size_read(&self, inode: u8) -> Pgoff {
        Pgoff(self.inodes.get(usize::from(inode)).map_or(0, |inode| inode.size))
    }

    /// `i_size_write()`: the page cache stays as it is.
    pub(crate) fn i_size_write(&mut self, inode: u8, size: Pgoff) {
        let Some(inode) = self.inodes.get_mut(usize::from(inode)) else { return };
        inode.count_pages();
        inode.size = size.0;
    }

    /// `shmem_truncate_range()`: drops the pages from `start` up to `end`, with their values, from the
    /// page cache.
    pub(crate) fn truncate_range(&mut self, inode: u8, start: Pgoff, end: Pgoff) {
        let Some(inode) = self.inodes.get_mut(usize::from(inode)) else { return };
        inode.count_pages();
        let end = end.0.min(64 * inode.cache.len() as u64);
        for (word, from) in inode.cache.iter_mut().zip((0..).step_by(64)) {
            // The bits of the word's pages from `start` on, and of those from `end` on.
            let [first, past] = [start.0, end].map(|page| {
                u64::MAX.checked_shl(page.saturating_sub(from).min(64) as u32).unwrap_or(0)
            });
            *word &= !(first & !past);
        }
        let values = inode.data.iter_mut().take(end as usize).skip(start.0 as usize);
        values.for_each(|value| *value = 0);
    }

    /// Puts a page that is [`Lookup::Missing`] into the page cache.
    pub(crate) fn fill(&mut self, inode: u8, index: Pgoff) {
        let Some(inode) = self.inodes.get_mut(usize::from(inode)) else { return };
        let word = index.0 as usize / 64;
        if index.0 < inode.size {
            if inode.cache.len() <= word {
                inode.cache.resize(word + 1, 0);
            }
            inode.cache[word] |= 1 << (index.0 % 64);
        }
    }

    /// Returns whether an inode is the object behind a shared anonymous mapping. The other inodes are the
    /// same in every program.
    pub(crate) fn is_object(inode: u8) -> bool {
        inode > Inodes::SEGMENT
    }

    /// Adds the objects that open files have, and which `state` has visited. Others cannot be reached.
    pub(crate) fn write_state(&self, state: &mut State) {
        let Inodes { inodes, used: _ } = self;
        for n in 0.. {
            let Some(index) = state.visited(Objects::File, n) else { break };
            if index > Inodes::SEGMENT.into()
                && let Some(inode) = inodes.get(index as usize)
            {
                inode.write_state(state);
            }
        }
        // The memfds and the segment. The device keeps no values.
        for inode in &inodes[..=usize::from(Inodes::SEGMENT)] {
            inode.write_state(state);
        }
    }
}
