//! A picture of an operation, as data: the address spaces of both machines as bars, the ranges that
//! the operation touched, and the differences.
//!
//! A [`Painter`] makes pictures of observations. They are drawn as [text](crate::text) or as SVG.

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

/// A range of pages, the end exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first page.
    pub start: u8,
    /// One past the last page.
    pub end: u8,
}

impl Range {
    /// `len` pages from `page` on.
    pub fn new(page: Page, len: Len) -> Range {
        Range { start: page.0, end: page.plus(len).0 }
    }

    /// Where a VMA is.
    pub fn of(vma: &Vma) -> Range {
        Range { start: vma.start.0, end: vma.end.0 }
    }

    /// Whether there is no page in it.
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// Whether the two have a page in common.
    pub fn overlaps(self, other: Range) -> bool {
        self.start.max(other.start) < self.end.min(other.end)
    }

    /// Whether `page` is one of its pages.
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
    /// Whether it is where something comes `from`, where it goes `to`, or what is worked `on`.
    pub role: &'static str,
    /// The range. It may be empty.
    pub range: Range,
}

/// The ranges that an operation touches; `result` says where the kernel put a destination that it
/// chose.
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

/// A VMA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Where it is.
    pub range: Range,
    /// What is said of it.
    pub words: Vec<Word>,
    /// Edges of the VMAs before, and of the range that was added, that are none any more.
    pub joined: Vec<u8>,
}

/// An address space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// The VMAs in address order.
    pub bars: Vec<Bar>,
    /// Counters in pages (maps: VMAs), and the anonymous pages.
    pub counters: Vec<Word>,
}

/// What a machine shows of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Side {
    /// There is no such process.
    Gone,
    /// The kernel did not survive.
    Lost,
    /// An address space.
    Alive(Space),
}

impl Side {
    fn space(&self) -> Option<&Space> {
        match self {
            Side::Alive(space) => Some(space),
            Side::Gone | Side::Lost => None,
        }
    }

    /// The bars, if there are any.
    pub fn bars(&self) -> &[Bar] {
        self.space().map_or(&[], |space| &space.bars)
    }
}

/// A process, as both machines show it.
#[derive(Clone, Debug)]
pub struct ProcessPicture {
    /// Its index.
    pub process: usize,
    /// What the operation touched there.
    pub touched: Vec<Touched>,
    /// Its address space before the operation, where that touched it.
    pub before: Option<Space>,
    /// The left machine's.
    pub left: Side,
    /// The right machine's.
    pub right: Side,
    /// Pages that differ.
    pub pages_differ: PageSet,
    /// Pages at which a VMA begins or ends in one machine only.
    pub edges_differ: PageSet,
}

impl ProcessPicture {
    /// Whether both machines show the same.
    pub fn same(&self) -> bool {
        self.left == self.right
    }

    /// Whether nothing maps `page`, and the operation does not touch it.
    pub fn is_gap(&self, page: u8) -> bool {
        let before = self.before.iter().flat_map(|space| &space.bars);
        let mut bars = before.chain(self.left.bars()).chain(self.right.bars());
        !bars.any(|bar| bar.range.contains(page))
            && !self.touched.iter().any(|t| t.range.contains(page))
    }

    /// Every edge and every end of a touched range, ascending: what has to be told apart.
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

/// All that there is to see after an operation.
#[derive(Clone, Debug)]
pub struct Picture {
    /// What each machine says of the operation beside its result: `copy_vma()`, events, committed
    /// memory.
    pub said: [Vec<Word>; 2],
    /// The living processes.
    pub processes: Vec<ProcessPicture>,
}
