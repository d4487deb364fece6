//! Sets of pages, for the edges and the differences of a picture.

use vmadiff_machine::AddressSpace;
use vmadiff_machine::observation::PageSet;

use super::Range;

/// Returns whether a page is in a set.
pub fn has(set: PageSet, page: u8) -> bool {
    set & edge(page) != 0
}

pub(super) fn edge(page: u8) -> PageSet {
    1u128.checked_shl(page.into()).unwrap_or(0)
}

pub(super) fn pages(range: Range) -> PageSet {
    (range.start..range.end).fold(0, |set, page| set | edge(page))
}

pub(super) fn edges(space: &AddressSpace) -> PageSet {
    space.vmas().iter().fold(0, |set, vma| set | edge(vma.start.0) | edge(vma.end.0))
}
