//! The steps of an import: operations whose ranges are in the data area of syzkaller.

use vmadiff_machine::operand::{FilePage, Kind, Len, MmapFlags, Page, Process, Prot};
use vmadiff_machine::{Op, Part};

/// A range of pages of the data area. It may be empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u64,
    pub(super) len: u64,
}

impl Span {
    pub(super) fn end(self) -> u64 {
        self.start + self.len
    }

    /// Returns whether all pages of `other` are in the range.
    pub(super) fn covers(self, other: Span) -> bool {
        self.start <= other.start && other.end() <= self.end()
    }

    /// Returns the shortest range that has both.
    pub(super) fn with(self, other: Span) -> Span {
        let start = self.start.min(other.start);
        Span { start, len: self.end().max(other.end()) - start }
    }
}

/// The origin of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The call with this index.
    Call(usize),
    /// The data area, or an access that syzkaller makes before a call.
    Implied,
}

/// An operation. Its ranges and its offset are kept beside it, because they are not yet in the arena.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) op: Op,
    /// The ranges of the operation, at most one for each part.
    pub(super) ranges: Vec<(Part, Span)>,
    /// The page offset of a mapping of a file.
    pub(super) offset: Option<u64>,
    pub(super) cause: Cause,
}

impl Step {
    /// Returns the mapping of a part of the data area, as it is before the first call.
    pub(super) fn data_area(span: Span) -> Step {
        let op = Op::Mmap {
            process: Process(0).into(),
            page: Page(0).into(),
            len: Len(0).into(),
            prot: Prot::all().into(),
            kind: Kind::AnonPrivate.into(),
            flags: MmapFlags::empty().into(),
            pgoff: FilePage::first(0).into(),
        };
        let ranges = vec![(Part::Destination, span)];
        Step { op, ranges, offset: None, cause: Cause::Implied }
    }

    /// Returns the shortest range that has all ranges of the step; `None` for a fork.
    pub(super) fn hull(&self) -> Option<Span> {
        self.ranges.iter().map(|(_, span)| *span).reduce(Span::with)
    }

    /// Returns the range of a part of the operation.
    pub(super) fn range(&self, part: Part) -> Option<Span> {
        self.ranges.iter().find(|(other, _)| *other == part).map(|(_, span)| *span)
    }
}
