//! The axis of a drawing: gives each edge of a VMA its column, in text and in SVG.

use crate::picture::{ProcessPicture, Range};

/// One row of a drawing: the edges on it, in ascending order, each with its column.
pub(crate) struct Axis {
    pub(crate) columns: Vec<(u8, usize)>,
}

impl Axis {
    pub(crate) fn column(&self, page: u8) -> Option<usize> {
        self.columns.iter().find(|(edge, _)| *edge == page).map(|(_, column)| *column)
    }

    /// Returns the columns of the part of a range that is on this row, and two flags: the row has
    /// the start of the range, the row has its end. `None` if no part of the range is on the row.
    pub(crate) fn clip(&self, range: Range) -> Option<(Span, bool, bool)> {
        let (first, last) = (self.columns.first()?, self.columns.last()?);
        let (start, end) = (range.start.max(first.0), range.end.min(last.0));
        if start >= end {
            return None;
        }
        let span = Span { start: self.column(start)?, end: self.column(end)? };
        Some((span, start == range.start, end == range.end))
    }
}

/// A span of columns, both ends included.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    pub(crate) start: usize,
    pub(crate) end: usize,
}

impl Span {
    pub(crate) fn inner(self) -> usize {
        self.end - self.start - 1
    }
}

/// The number of columns to the left of a drawing.
pub(crate) const INDENT: usize = 2;
/// The most columns of a range that nothing maps.
const GAP: usize = 7;

/// Divides the edges into rows and gives each edge its column. A page is drawn as wide as one row
/// permits. If the pages do not fit, long ranges are drawn shorter than they are.
pub(crate) fn axes(process: &ProcessPicture, width: usize) -> Vec<Axis> {
    let edges = &process.edges();
    let digits = |page: u8| page.to_string().len();
    let room = width - INDENT - 3;
    let intervals: Vec<(usize, usize, bool)> = edges
        .windows(2)
        .map(|e| (usize::from(e[1] - e[0]), digits(e[0]), process.is_gap(e[0])))
        .collect();
    let wide = |unit: usize, most: usize| -> Vec<usize> {
        let wide = |&(pages, least, gap): &(usize, usize, bool)| {
            let most = if gap { most.min(GAP) } else { most };
            (pages * unit - 1).min(most).max(least)
        };
        intervals.iter().map(wide).collect()
    };
    let fits = |widths: &[usize]| widths.iter().map(|w| w + 1).sum::<usize>() <= room;
    let sizes = [(12, 23), (9, 23), (6, 23), (5, 19), (4, 15), (3, 11), (2, 9), (2, 5), (1, 3)];
    let widths = sizes
        .into_iter()
        .map(|(unit, most)| wide(unit, most))
        .find(|widths| fits(widths))
        // The edges do not fit on one row.
        .unwrap_or_else(|| wide(4, 11));
    let mut rows = Vec::new();
    let mut columns = Vec::new();
    let mut column = INDENT;
    for (n, &page) in edges.iter().enumerate() {
        columns.push((page, column));
        let Some(w) = widths.get(n) else { break };
        if column + w + 1 > room + INDENT {
            rows.push(Axis { columns: std::mem::take(&mut columns) });
            columns.push((page, INDENT));
            column = INDENT;
        }
        column += w + 1;
    }
    if columns.len() > 1 || rows.is_empty() {
        rows.push(Axis { columns });
    }
    rows
}
