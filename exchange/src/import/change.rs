//! The changes of address spaces that the calls of a log make.

use vmadiff_machine::operand::{Advice, MlockallFlags, Mode, Prot, Resource};

use super::attributes::{Attributes, Shows};
use crate::strace::Pages;

/// The effect of a call on an address space.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Map(Pages, Attributes),
    /// `shmat`; true with `SHM_REMAP`.
    Attach(Pages, Attributes, bool),
    /// `shmdt` of the attachment that had these pages.
    Detach(Pages),
    /// `IPC_RMID` of the segment with this identifier.
    Remove(u64),
    Unmap(Pages),
    Protect(Pages, Prot),
    Advise(Pages, Advice),
    Lock(Pages, Option<bool>),
    /// `mlockall`; without flags `munlockall`.
    LockAll(MlockallFlags),
    /// `prlimit` with `RLIM_INFINITY`.
    Unlimit(Resource),
    /// `clear_refs`.
    ClearRefs,
    /// `mseal`.
    Seal(Pages),
    /// `ftruncate` of a file to an end inside a mapping: the pages of the mapping past the end. Without
    /// such pages the file gets as long as it can.
    Truncate(usize, Option<(Pages, Attributes)>),
    Bind(Pages, Mode),
    Move {
        old: Pages,
        new: Pages,
        keeps_source: bool,
    },
    Fork {
        child: usize,
    },
    Exit,
}

impl Change {
    /// Returns the segment of SysV shared memory that the change attaches or removes.
    pub(super) fn segment(&self) -> Option<u64> {
        match *self {
            Change::Attach(_, Attributes { shows: Shows::Segment { id, .. }, .. }, _)
            | Change::Remove(id) => Some(id),
            _ => None,
        }
    }

    /// Returns whether the change names memory, not only a process or a segment.
    pub(super) fn is_of_memory(&self) -> bool {
        matches!(self, Change::LockAll(_) | Change::ClearRefs) || !self.ranges().is_empty()
    }

    /// Returns the ranges that the change names.
    pub(super) fn ranges(&self) -> Vec<Pages> {
        match *self {
            Change::Map(range, _)
            | Change::Attach(range, ..)
            | Change::Detach(range)
            | Change::Unmap(range)
            | Change::Protect(range, _)
            | Change::Advise(range, _)
            | Change::Lock(range, _)
            | Change::Seal(range)
            | Change::Bind(range, _) => vec![range],
            Change::Move { old, new, .. } => vec![old, new],
            Change::Truncate(_, past) => past.map(|(range, _)| range).into_iter().collect(),
            Change::LockAll(_)
            | Change::Unlimit(_)
            | Change::ClearRefs
            | Change::Remove(_)
            | Change::Fork { .. }
            | Change::Exit => Vec::new(),
        }
    }
}

/// A change of one address space.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// The line of the log, counted from 1.
    pub(super) line: usize,
    pub(super) space: usize,
    pub(super) change: Change,
    /// The step is a call of the log, not a guess.
    pub(super) is_call: bool,
    /// The process is one of those to import.
    pub(super) is_wanted: bool,
    /// The page that is written after the step, if any.
    pub(super) touch: Option<u64>,
    /// The call faults the pages in itself (`MAP_POPULATE`).
    pub(super) populates: bool,
}
