//! Units: addresses and page offsets, both in pages.
//!
//! Arithmetic wraps, as the kernel's unsigned arithmetic does: a buggy revision may compute
//! nonsense, but it must not end the harness.

use std::ops::{Add, Sub};

use vmadiff_machine::operand::{END_PAGES, Page, PageOffset};

/// An address in the arena, in pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Addr(pub(crate) u32);

impl Addr {
    /// The end of the arena, one past the last page that can be mapped.
    pub(crate) const END: Addr = Addr(END_PAGES as u32);

    /// Returns the page for observations. An address outside the arena is shown as the end of the
    /// arena.
    #[inline]
    pub(crate) fn page(self) -> Page {
        Page(self.0.min(END_PAGES as u32) as u8)
    }

    /// Returns the page offset of an anonymous mapping made at this address (`addr >> PAGE_SHIFT`).
    #[inline]
    pub(crate) fn linear(self) -> Pgoff {
        Pgoff(vmadiff_machine::operand::ARENA_START + u64::from(self.0))
    }
}

impl From<Page> for Addr {
    #[inline]
    fn from(page: Page) -> Addr {
        Addr(u32::from(page.0))
    }
}

impl Add<u32> for Addr {
    type Output = Addr;

    #[inline]
    fn add(self, pages: u32) -> Addr {
        Addr(self.0.wrapping_add(pages))
    }
}

impl Sub<u32> for Addr {
    type Output = Addr;

    #[inline]
    fn sub(self, pages: u32) -> Addr {
        Addr(self.0.wrapping_sub(pages))
    }
}

/// The distance in pages.
impl Sub for Addr {
    type Output = u32;

    #[inline]
    fn sub(self, from: Addr) -> u32 {
        self.0.wrapping_sub(from.0)
    }
}

/// `vm_pgoff`: an offset into a file, or for anonymous memory into the address space it was first
/// mapped in, in pages.
///
/// The type is as wide as the kernel's: a buggy revision may compute an offset far past any file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pgoff(pub(crate) u64);

impl Pgoff {
    /// Returns the offset for observations.
    #[inline]
    pub(crate) fn shown(self) -> PageOffset {
        PageOffset(self.0)
    }

    /// Returns `self + ((addr - start) >> PAGE_SHIFT)`, the kernel's way from an address to an
    /// offset.
    ///
    /// In the kernel, addresses are unsigned and in bytes. For an `addr` below `start` the
    /// difference wraps before it is shifted, and the offset comes out 2^52 pages too high.
    #[inline]
    pub(crate) fn at(self, addr: Addr, start: Addr) -> Pgoff {
        let bytes = |addr: Addr| u64::from(addr.0) << PAGE_SHIFT;
        let offset = bytes(addr).wrapping_sub(bytes(start)) >> PAGE_SHIFT;
        Pgoff(self.0.wrapping_add(offset))
    }
}

pub(crate) const PAGE_SHIFT: u32 = 12;

/// The length of the longest file, in bytes.
pub(crate) const MAX_LFS_FILESIZE: u64 = i64::MAX as u64;

impl Add<u32> for Pgoff {
    type Output = Pgoff;

    #[inline]
    fn add(self, pages: u32) -> Pgoff {
        Pgoff(self.0.wrapping_add(u64::from(pages)))
    }
}

impl Sub<u32> for Pgoff {
    type Output = Pgoff;

    #[inline]
    fn sub(self, pages: u32) -> Pgoff {
        Pgoff(self.0.wrapping_sub(u64::from(pages)))
    }
}

/// A set of pages of the arena, bit `n` for page `n`.
pub(crate) type PageBits = u128;

/// Returns the pages from `start` up to `end`.
#[inline]
pub(crate) fn pages(start: Addr, end: Addr) -> PageBits {
    let below = |addr: Addr| if addr.0 >= PageBits::BITS { !0 } else { (1 << addr.0) - 1 };
    below(end) & !below(start)
}

/// Returns the pages of a set, lowest first.
#[inline]
pub(crate) fn each(mut set: PageBits) -> impl Iterator<Item = Addr> {
    std::iter::from_fn(move || {
        let lowest = (set != 0).then(|| Addr(set.trailing_zeros()))?;
        set &= set - 1;
        Some(lowest)
    })
}
