//! Ranges of pages.

use std::fmt;

use vmadiff_machine::PageSet;
use vmadiff_machine::operand::{Len, Page};

/// The pages from `start` up to `end`, without `end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Range {
    /// The first page.
    pub start: Page,
    /// One past the last page.
    pub end: Page,
}

impl Range {
    /// The range of `len` pages that begins at `start`.
    pub fn new(start: Page, len: Len) -> Range {
        Range { start, end: start.plus(len) }
    }

    /// Returns whether the range has no page.
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// The number of pages.
    pub(crate) fn len(self) -> u8 {
        self.end.0 - self.start.0
    }

    /// Returns whether `page` is in the range.
    pub fn contains(self, page: Page) -> bool {
        self.start <= page && page < self.end
    }

    /// Returns whether every page of `other` is in the range.
    pub fn covers(self, other: Range) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// Returns whether the two ranges have a page in common.
    pub fn overlaps(self, other: Range) -> bool {
        self.start < other.end && other.start < self.end
    }

    /// The common part of two ranges that overlap.
    pub(crate) fn intersection(self, other: Range) -> Range {
        Range { start: self.start.max(other.start), end: self.end.min(other.end) }
    }

    pub(crate) fn pages(self) -> impl Iterator<Item = Page> {
        (self.start.0..self.end.0).map(Page)
    }

    /// The pages as a set.
    pub(crate) fn set(self) -> PageSet {
        PageSet::MAX.unbounded_shl(self.start.0.into())
            & !PageSet::MAX.unbounded_shl(self.end.0.into())
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{},{})", self.start, self.end)
    }
}
