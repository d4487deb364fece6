//! A picture of an operation, as data: the address spaces of both machines as bars, the ranges that
//! the operation touched, and the differences.
//!
//! A [`Painter`] makes pictures from observations. A picture is drawn as [text](crate::text) or as
//! SVG.

mod differences;
mod letters;
mod painter;
mod set;
mod words;

use vmadiff_machine::observation::PageSet;
use vmadiff_machine::operand::{Len, Page};
use vmadiff_machine::{Errno, Op, OpRange, Part, Vma};

pub use painter::Painter;
pub use set::has;
pub use words::{Word, copy_text, legend, marked, pages_text, permissions};

/// A range of pages, its end exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first page.
    pub start: u8,
    /// One past the last page.
    pub end: u8,
}

impl Range {
    /// Returns the range of `len` pages that begins at `page`.
    pub fn new(page: Page, len: Len) -> Range {
        Range { start: page.0, end: page.plus(len).0 }
    }

    /// Returns the range of a VMA.
    pub fn of(vma: &Vma) -> Range {
        Range { start: vma.start.0, end: vma.end.0 }
    }

    /// Returns whether the range has no pages.
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// Returns whether the two ranges have a page in common.
    pub fn overlaps(self, other: Range) -> bool {
        self.start.max(other.start) < self.end.min(other.end)
    }

    /// Returns whether the range contains `page`.
    pub fn contains(self, page: u8) -> bool {
        (self.start..self.end).contains(&page)
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{},{})", self.start, self.end)
    }
}

/// A range that an operation names, in the address space of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    /// The process.
    pub process: usize,
    /// The role of the range in the operation: the source (`from`), the destination (`to`), or the
    /// range acted `on`.
    pub role: &'static str,
    /// The range. It may be empty.
    pub range: Range,
}

/// Returns the ranges that an operation touches. `result` has the address of a destination that the
/// kernel chose.
pub fn touched(op: &Op, result: Result<u8, Errno>) -> Vec<Touched> {
    let touched = |named: OpRange| Touched {
        process: usize::from(named.process.0),
        role: match named.part {
            Part::Target => "on",
            Part::Source => "from",
            Part::Destination => "to",
        },
        range: Range { start: named.range.start.0, end: named.range.end.0 },
    };
    op.ranges(result).map(touched).collect()
}

/// A VMA, as it is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bar {
    /// The pages of the VMA.
    pub range: Range,
    /// The attributes of the VMA, as words.
    pub words: Vec<Word>,
    /// Edges that a merge has removed: edges of the VMAs before the operation and of the added
    /// range.
    pub joined: Vec<u8>,
}

/// An address space, as it is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// The VMAs in address order.
    pub bars: Vec<Bar>,
    /// The counters in pages (`map_count` in VMAs), and the anonymous pages.
    pub counters: Vec<Word>,
}

/// The state of a process on one machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Side {
    /// The process does not exist.
    Gone,
    /// The kernel did not survive the operation.
    Lost,
    /// The process is alive, with this address space.
    Alive(Space),
}

impl Side {
    fn space(&self) -> Option<&Space> {
        match self {
            Side::Alive(space) => Some(space),
            Side::Gone | Side::Lost => None,
        }
    }

    /// Returns the VMAs; empty if the process has no address space.
    pub fn bars(&self) -> &[Bar] {
        self.space().map_or(&[], |space| &space.bars)
    }
}

/// A process on both machines.
#[derive(Clone, Debug)]
pub struct ProcessPicture {
    /// The index of the process.
    pub process: usize,
    /// The ranges that the operation touched in the process.
    pub touched: Vec<Touched>,
    /// The address space before the operation, if the operation touched it.
    pub before: Option<Space>,
    /// The process on the left machine.
    pub left: Side,
    /// The process on the right machine.
    pub right: Side,
    /// The pages that differ.
    pub pages_differ: PageSet,
    /// The pages at which a VMA begins or ends on one machine only.
    pub edges_differ: PageSet,
}

impl ProcessPicture {
    /// Returns whether both machines show the same.
    pub fn same(&self) -> bool {
        self.left == self.right
    }

    /// Returns whether `page` is a gap: no VMA maps it, and the operation does not touch it.
    pub fn is_gap(&self, page: u8) -> bool {
        let before = self.before.iter().flat_map(|space| &space.bars);
        let mut bars = before.chain(self.left.bars()).chain(self.right.bars());
        !bars.any(|bar| bar.range.contains(page))
            && !self.touched.iter().any(|t| t.range.contains(page))
    }

    /// Returns every edge of a VMA and every end of a touched range, ascending. A drawing gives
    /// each of them a column of its own.
    pub fn edges(&self) -> Vec<u8> {
        let before = self.before.iter().flat_map(|space| &space.bars);
        let bars = before.chain(self.left.bars()).chain(self.right.bars());
        let mut edges: Vec<u8> = bars
            .flat_map(|bar| [bar.range.start, bar.range.end])
            .chain(self.touched.iter().flat_map(|t| [t.range.start, t.range.end]))
            .collect();
        edges.sort_unstable();
        edges.dedup();
        edges
    }
}

/// The picture of an operation.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The facts that each machine reports beside the result of the operation: the report of
    /// `copy_vma()`, events, committed memory.
    pub said: [Vec<Word>; 2],
    /// The living processes.
    pub processes: Vec<ProcessPicture>,
}
