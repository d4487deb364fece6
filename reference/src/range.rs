//! Ranges of pages.

use vmadiff_machine::PageSet;
use vmadiff_machine::operand::{Len, Page};

/// The pages from `start` up to, and without, `end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) start: Page,
    pub(crate) end: Page,
}

impl Range {
    pub(crate) fn new(start: Page, len: Len) -> Range {
        Range { start, end: start.plus(len) }
    }

    pub(crate) fn is_empty(self) -> bool {
        self.start >= self.end
    }

    pub(crate) fn len(self) -> u8 {
        self.end.0 - self.start.0
    }

    pub(crate) fn contains(self, page: Page) -> bool {
        self.start <= page && page < self.end
    }

    pub(crate) fn covers(self, other: Range) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    pub(crate) fn overlaps(self, other: Range) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// What both have; not to be asked of two that do not overlap.
    pub(crate) fn intersection(self, other: Range) -> Range {
        Range { start: self.start.max(other.start), end: self.end.min(other.end) }
    }

    pub(crate) fn pages(self) -> impl Iterator<Item = Page> {
        (self.start.0..self.end.0).map(Page)
    }

    pub(crate) fn set(self) -> PageSet {
        PageSet::MAX.unbounded_shl(self.start.0.into())
            & !PageSet::MAX.unbounded_shl(self.end.0.into())
    }
}
