//! The calls of a log, as data.

use std::collections::BTreeMap;

use vmadiff_machine::operand::{Advice, Mode, Prot};

/// A range of pages, by their numbers in the whole address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    /// The first page.
    pub start: u64,
    /// One past the last page; above `start`.
    pub end: u64,
}

impl Pages {
    /// Returns whether the two have a page in common.
    pub fn overlaps(self, other: Pages) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// What a file descriptor shows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName {
    /// Its path, or if that is not known its number.
    pub name: String,
    /// Whether it was seen to be opened for reading only.
    pub read_only: bool,
}

/// A call that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `mmap`, at the address that it returned.
    Mmap {
        /// Where.
        range: Pages,
        /// The protection.
        prot: Prot,
        /// `MAP_SHARED`.
        shared: bool,
        /// `MAP_NORESERVE`.
        noreserve: bool,
        /// `MAP_LOCKED`.
        locked: bool,
        /// The file, and the page of it; `None` for anonymous memory.
        file: Option<(FileName, u64)>,
    },
    /// `munmap`.
    Munmap(Pages),
    /// `mprotect`.
    Mprotect(Pages, Prot),
    /// `mremap`, to the address that it returned.
    Mremap {
        /// What is resized or moved.
        old: Pages,
        /// What it becomes.
        new: Pages,
        /// `MREMAP_DONTUNMAP`: the old range stays mapped, without pages.
        keeps_source: bool,
    },
    /// `madvise`.
    Madvise(Pages, Advice),
    /// `mlock`, `mlock2`; whether with `MLOCK_ONFAULT`.
    Mlock(Pages, bool),
    /// `munlock`.
    Munlock(Pages),
    /// `mbind`.
    Mbind(Pages, Mode),
    /// `brk`: the address that it returned, in bytes.
    Brk(u64),
    /// `fork`, `vfork`, `clone`, `clone3`.
    Clone {
        /// The new thread.
        child: u32,
        /// It shares the address space (`CLONE_VM`).
        vm: bool,
        /// It is of the same thread group (`CLONE_THREAD`).
        thread: bool,
    },
    /// `execve`.
    Execve,
    /// The thread ends, or with `group` all of its group.
    Exit {
        /// `exit_group`.
        group: bool,
    },
    /// No call: strace says that the thread has ended.
    Ended,
}

/// A call in the order in which it took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The line where it ends, counted from 1.
    pub line: usize,
    /// The thread; 0 for the first one, as long as its number is not told.
    pub thread: u32,
    /// What it did.
    pub call: Call,
}

/// What a log says.
#[derive(Debug, Default)]
pub struct Log {
    /// The calls of use here.
    pub events: Vec<Event>,
    /// Everything else, by name, with its count: other calls, failed ones, and in parentheses lines
    /// that are no calls.
    pub ignored: BTreeMap<String, usize>,
    /// The number of lines.
    pub lines: usize,
}

impl Log {
    /// The number of calls in the log that are of no use here.
    pub fn ignored_calls(&self) -> usize {
        self.ignored.iter().filter(|(what, _)| !what.starts_with('(')).map(|(_, count)| count).sum()
    }

    /// The number of calls in the log.
    pub fn calls(&self) -> usize {
        let of_use = self.events.iter().filter(|event| event.call != Call::Ended).count();
        of_use + self.ignored_calls()
    }
}
