//! Ranges of pages.

use std::fmt;

use crate::observation::PageSet;
use crate::operand::{END_PAGES, Len, Page};

/// A range of pages of the arena: the pages from `start` up to `end`, without `end`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Range {
    /// The first page.
    pub start: Page,
    /// One past the last page.
    pub end: Page,
}

impl Range {
    /// All pages that can be mapped.
    pub const ALL: Range = Range { start: Page(0), end: Page(END_PAGES as u8) };

    /// Returns the range of `len` pages that begins at `start`.
    #[inline]
    pub const fn new(start: Page, len: Len) -> Range {
        Range { start, end: start.plus(len) }
    }

    /// Returns whether the range has no page.
    #[inline]
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// Returns the number of pages; 0 if the end is before the start.
    #[inline]
    pub const fn len(self) -> u8 {
        self.end.0.saturating_sub(self.start.0)
    }

    /// Returns whether `page` is in the range.
    #[inline]
    pub fn contains(self, page: Page) -> bool {
        self.start <= page && page < self.end
    }

    /// Returns whether `other` neither begins before this range nor ends after it.
    #[inline]
    pub fn covers(self, other: Range) -> bool {
        self.start <= other.start && other.end <= self.end
    }

    /// Returns whether the two ranges have a page in common. An empty range overlaps nothing.
    #[inline]
    pub fn overlaps(self, other: Range) -> bool {
        !self.intersection(other).is_empty()
    }

    /// Returns the pages that are in both ranges; an empty range if they do not overlap.
    #[inline]
    pub fn intersection(self, other: Range) -> Range {
        Range { start: self.start.max(other.start), end: self.end.min(other.end) }
    }

    /// Returns the page numbers in order.
    pub fn pages(self) -> impl DoubleEndedIterator<Item = Page> + Clone {
        (self.start.0..self.end.0).map(Page)
    }

    /// Returns the pages as a set.
    #[inline]
    pub const fn set(self) -> PageSet {
        PageSet::MAX.unbounded_shl(self.start.0 as u32)
            & !PageSet::MAX.unbounded_shl(self.end.0 as u32)
    }
}

impl fmt::Display for Range {
    /// Writes the range as `[4,6)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{},{})", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn range(start: u8, end: u8) -> Range {
        Range { start: Page(start), end: Page(end) }
    }

    #[test]
    fn a_range_is_half_open() {
        let two = Range::new(Page(4), Len(2));
        assert_eq!((two, two.len(), two.to_string()), (range(4, 6), 2, "[4,6)".into()));
        assert_eq!([3, 4, 5, 6].map(|page| two.contains(Page(page))), [false, true, true, false]);
        assert_eq!(two.set(), 0b11_0000);
        assert_eq!(range(0, 128).set(), PageSet::MAX);
        assert_eq!(two.pages().map(|page| page.0).collect::<Vec<_>>(), [4, 5]);
    }

    #[test]
    fn ranges_that_only_touch_do_not_overlap_and_nothing_overlaps_an_empty_one() {
        for (a, b, overlap) in [
            (range(1, 3), range(2, 4), true),
            (range(1, 3), range(3, 4), false),
            (range(1, 9), range(4, 4), false),
            (range(5, 4), range(0, 9), false),
        ] {
            assert_eq!((a.overlaps(b), b.overlaps(a)), (overlap, overlap), "{a} {b}");
            assert_eq!(a.set() & b.set() != 0, overlap, "{a} {b}");
        }
        assert!(range(1, 3).covers(range(1, 2)) && !range(1, 3).covers(range(0, 2)));
        assert_eq!(range(5, 4).len(), 0);
    }
}
