//! The calls of a log, as data.

use std::collections::{BTreeMap, BTreeSet};

use vmadiff_machine::operand::{Advice, MlockallFlags, Mode, Prot, Resource};

/// A range of pages, by their numbers in the whole address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    /// The first page.
    pub start: u64,
    /// One past the last page; greater than `start`.
    pub end: u64,
}

impl Pages {
    /// Returns whether the ranges have a page in common.
    pub fn overlaps(self, other: Pages) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// The file of a file descriptor.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName {
    /// The path, or the number of the descriptor if the path is not known.
    pub name: String,
    /// The log shows that the file was opened for reading only.
    pub read_only: bool,
}

/// A call that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `mmap`, at the address that it returned.
    Mmap {
        /// The mapped range.
        range: Pages,
        /// The protection.
        prot: Prot,
        /// `MAP_SHARED`.
        shared: bool,
        /// `MAP_NORESERVE`.
        noreserve: bool,
        /// `MAP_LOCKED`.
        locked: bool,
        /// `MAP_POPULATE` without `MAP_NONBLOCK`: the call faults all pages in.
        populated: bool,
        /// The file and the page offset; `None` for anonymous memory.
        file: Option<(FileName, u64)>,
    },
    /// `munmap`.
    Munmap(Pages),
    /// `mprotect`.
    Mprotect(Pages, Prot),
    /// `mremap`, to the address that it returned.
    Mremap {
        /// The old range.
        old: Pages,
        /// The new range.
        new: Pages,
        /// `MREMAP_DONTUNMAP`: the old range stays mapped, without pages.
        keeps_source: bool,
    },
    /// `madvise`.
    Madvise(Pages, Advice),
    /// `mlock`, `mlock2`; true with `MLOCK_ONFAULT`.
    Mlock(Pages, bool),
    /// `munlock`.
    Munlock(Pages),
    /// `mlockall`.
    Mlockall(MlockallFlags),
    /// `munlockall`.
    Munlockall,
    /// `mseal`.
    Mseal(Pages),
    /// `ftruncate`: the file, and its new length in pages.
    Ftruncate(FileName, u64),
    /// `mbind`.
    Mbind(Pages, Mode),
    /// `shmat`, at the address that it returned.
    Shmat {
        /// The identifier of the segment.
        id: u64,
        /// The mapped range: the whole segment.
        range: Pages,
        /// `SHM_RDONLY`.
        read_only: bool,
        /// `SHM_EXEC`.
        exec: bool,
        /// `SHM_REMAP`.
        remap: bool,
    },
    /// `shmdt`.
    Shmdt {
        /// The page at which the segment was attached.
        start: u64,
    },
    /// `shmctl` with `IPC_RMID`.
    ShmRmid {
        /// The identifier of the segment.
        id: u64,
    },
    /// `setrlimit`, or `prlimit` with a new limit.
    Prlimit {
        /// The process by the number of a thread; `None` for the caller.
        process: Option<u32>,
        /// The resource.
        resource: Resource,
        /// The limit is `RLIM_INFINITY`.
        infinite: bool,
    },
    /// A write of `4` to `/proc/PID/clear_refs`.
    ClearRefs {
        /// The process by the number of a thread.
        process: u32,
    },
    /// `brk`: the address that it returned, in bytes.
    Brk(u64),
    /// `fork`, `vfork`, `clone`, `clone3`.
    Clone {
        /// The new thread.
        child: u32,
        /// The child shares the address space (`CLONE_VM`).
        vm: bool,
        /// The child is in the same thread group (`CLONE_THREAD`).
        thread: bool,
    },
    /// `execve`.
    Execve,
    /// The thread exits; with `group` all threads of its thread group exit.
    Exit {
        /// The call is `exit_group`.
        group: bool,
    },
    /// The thread has ended: a line of strace, not a call.
    Ended,
}

/// A call. Calls are in the order in which they took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The line where the call ends, counted from 1.
    pub line: usize,
    /// The thread's number; 0 for the first thread as long as the log has not given its number.
    pub thread: u32,
    /// The call and its arguments.
    pub call: Call,
}

/// The contents of a log.
#[derive(Debug, Default)]
pub struct Log {
    /// The calls that are read.
    pub events: Vec<Event>,
    /// The number of other lines by name: other calls and failed calls, and in parentheses lines
    /// that are not calls. Each line of the log is one [call](Log::calls) or one [line without a
    /// call](Log::other_lines).
    pub ignored: BTreeMap<String, usize>,
    /// The number of lines.
    pub lines: usize,
}

impl Log {
    /// Returns the number of calls in the log that are not read.
    pub fn ignored_calls(&self) -> usize {
        self.ignored.iter().filter(|(what, _)| !what.starts_with('(')).map(|(_, count)| count).sum()
    }

    /// Returns the number of lines that are not calls.
    pub fn other_lines(&self) -> usize {
        self.ignored.values().sum::<usize>() - self.ignored_calls()
    }

    /// Returns the processes of the log, by the number of their first thread; 0 for a process whose
    /// number the log does not give.
    pub fn processes(&self) -> BTreeSet<u32> {
        let threads = self.events.iter().filter_map(|event| match event.call {
            Call::Clone { child, thread: true, .. } => Some(child),
            _ => None,
        });
        let threads: BTreeSet<u32> = threads.collect();
        self.events.iter().map(|event| event.thread).filter(|t| !threads.contains(t)).collect()
    }

    /// Returns the number of calls in the log.
    pub fn calls(&self) -> usize {
        let of_use = self.events.iter().filter(|event| event.call != Call::Ended).count();
        of_use + self.ignored_calls()
    }
}
