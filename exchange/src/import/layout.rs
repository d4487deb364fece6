//! The layout of a window: the pages of the arena for the addresses of the log.

use std::collections::{BTreeMap, BTreeSet};

use vmadiff_machine::operand::{Len, Page, SHM_PAGES};

use crate::strace::Pages;

/// The pages of the arena over which a window is laid out: all pages except the first and the last.
const ROOM: u64 = 62;

/// The map from the addresses of a window to the arena.
#[derive(Default)]
pub(crate) struct Layout {
    /// The page in the arena of each edge.
    pages: BTreeMap<u64, u8>,
}

impl Layout {
    /// Returns the page of an edge.
    pub(crate) fn page(&self, edge: u64) -> Page {
        Page(self.pages.get(&edge).copied().unwrap_or(0))
    }

    /// Returns the range of the arena for a range of the log.
    pub(crate) fn range(&self, range: Pages) -> (Page, Len) {
        let (start, end) = (self.page(range.start), self.page(range.end));
        (start, Len(end.0.saturating_sub(start.0)))
    }
}

/// A move: the old start, the new start, and the length of both ranges.
pub(crate) struct Move {
    old: u64,
    new: u64,
    len: u64,
}

impl Move {
    /// Returns the move of one range onto another.
    pub(crate) fn new(old: Pages, new: Pages) -> Move {
        let len = (old.end - old.start).min(new.end - new.start);
        Move { old: old.start, new: new.start, len }
    }
}

/// Lays the edges of `ranges` out over the arena; `None` if there are too many edges. Each range of
/// `segments` gets the length of the segment of SysV shared memory.
pub(crate) fn layout(ranges: &[Pages], moves: &[Move], segments: &[Pages]) -> Option<Layout> {
    let edges = edges(ranges, moves)?;
    let cells: Vec<Pages> =
        edges.windows(2).map(|pair| Pages { start: pair[0], end: pair[1] }).collect();
    let like = alike(&edges, &cells, moves);
    // A hole gets one page. A longer mapping gets at least as many pages as a shorter one.
    let log2 = |cell: &Pages| match ranges.iter().any(|range| range.overlaps(*cell)) {
        true => u64::from((cell.end - cell.start).ilog2()),
        false => 0,
    };
    let fixed = fixed(&cells, &like, segments)?;
    let len =
        |first: usize, scale: u64| fixed[first].unwrap_or_else(|| 1 + log2(&cells[first]) / scale);
    let total = |scale: u64| -> u64 { like.iter().map(|first| len(*first, scale)).sum() };
    let scale = (1..=64).find(|scale| total(*scale) <= ROOM)?;
    let mut pages = BTreeMap::new();
    let mut page = 1;
    for (n, edge) in edges.iter().enumerate() {
        pages.insert(*edge, page);
        if let Some(first) = like.get(n) {
            page += len(*first, scale) as u8;
        }
    }
    Some(Layout { pages })
}

/// Returns the lengths of the cells of `segments`, each at the first cell that must have its length; `None`
/// where a segment cannot have its length.
fn fixed(cells: &[Pages], like: &[usize], segments: &[Pages]) -> Option<Vec<Option<u64>>> {
    let mut lens = vec![None; cells.len()];
    for segment in segments {
        let within =
            |cell: &usize| segment.start <= cells[*cell].start && cells[*cell].end <= segment.end;
        let inside: Vec<usize> = (0..cells.len()).filter(within).map(|cell| like[cell]).collect();
        for (at, &first) in inside.iter().enumerate() {
            // A cell without a length gets one page, the last of them all that is left.
            let known: u64 = inside.iter().filter_map(|first| lens[*first]).sum();
            let open = inside[at + 1..].iter().filter(|next| lens[**next].is_none()).count() as u64;
            let rest = u64::from(SHM_PAGES).checked_sub(known + open).filter(|rest| *rest > 0);
            if lens[first].is_none() {
                lens[first] = Some(if open > 0 { 1 } else { rest? });
            }
        }
        let sum: u64 = inside.iter().filter_map(|first| lens[*first]).sum();
        if sum != u64::from(SHM_PAGES) {
            return None;
        }
    }
    Some(lens)
}

/// Returns the edges of `ranges`, ascending; `None` if there are too many. A moved range has the
/// same inner edges at its old and its new place.
fn edges(ranges: &[Pages], moves: &[Move]) -> Option<Vec<u64>> {
    let mut edges: BTreeSet<u64> = ranges.iter().flat_map(|r| [r.start, r.end]).collect();
    loop {
        if edges.len() as u64 > ROOM {
            return None;
        }
        let known = edges.len();
        for &Move { old, new, len } in moves {
            for (from, to) in [(old, new), (new, old)] {
                let more: Vec<_> = edges.range(from..=from + len).map(|e| e - from + to).collect();
                edges.extend(more);
            }
        }
        if edges.len() == known {
            return Some(edges.into_iter().collect());
        }
    }
}

/// Returns for each cell between two edges the first cell that must have the same length. Cells
/// must have the same length if a move takes one onto the other.
fn alike(edges: &[u64], cells: &[Pages], moves: &[Move]) -> Vec<usize> {
    let mut like: Vec<usize> = (0..cells.len()).collect();
    for &Move { old, new, len } in moves {
        for cell in 0..cells.len() {
            if cells[cell].start < old || cells[cell].end > old + len {
                continue;
            }
            let moved = cells[cell].start - old + new;
            let Ok(other) = edges.binary_search(&moved) else { continue };
            let (a, b) = (like[cell], like[other]);
            like.iter_mut().filter(|l| **l == a.max(b)).for_each(|l| *l = a.min(b));
        }
    }
    like
}
