//! Pictures drawn with characters: a ruler of pages, and a box for each VMA.

use crate::axis::{Axis, INDENT, Span, axes};
use crate::ink::{BOX_ROWS, Ink, fill, inked};
use crate::picture::{Bar, Picture, ProcessPicture, Range, Side, Space, has};
use crate::text::sheet::{Look, Sheet};

/// Draws the living processes of a picture, one below the other.
pub fn picture(picture: &Picture, names: (&str, &str), look: Look) -> Sheet {
    let mut sheet = Sheet::default();
    let width = look.columns();
    let both = format!("{} and {}", names.0, names.1);
    for (name, words) in [names.0, names.1].into_iter().zip(&picture.said) {
        if !words.is_empty() {
            said(&mut sheet, 0, name, &inked(words), width);
        }
    }
    for process in &picture.processes {
        let row = sheet.len();
        sheet.put(row, 0, "", Ink::Plain);
        let title = format!("process {}", process.process);
        sheet.words(0, [(title.as_str(), Ink::Title)], width);
        let axes = axes(process, width);
        let several = axes.len() > 1;
        let mut keys = Keys::new();
        for axis in &axes {
            ruler(&mut sheet, process, axis, look);
            if let Some(before) = &process.before {
                if !several {
                    sheet.words(INDENT, [("before", Ink::Frame)], width);
                }
                bars(&mut sheet, &before.bars, axis, &mut keys);
            }
            if process.same() {
                side(&mut sheet, &both, &process.left, axis, &mut keys, width);
            } else {
                side(&mut sheet, names.0, &process.left, axis, &mut keys, width);
                side(&mut sheet, names.1, &process.right, axis, &mut keys, width);
                differences(&mut sheet, process, axis);
            }
        }
        for (n, (range, words)) in keys.iter().enumerate() {
            let key = format!("({})", n + 1);
            let range = format!("{}..{}", range.start, range.end);
            let first = [(key.as_str(), Ink::Frame), (range.as_str(), Ink::Plain)];
            let rest = words.iter().map(|(text, ink)| (text.as_str(), *ink));
            sheet.words(INDENT, first.into_iter().chain(rest), width);
        }
    }
    sheet
}

/// Adds a line with a machine's name and its words.
fn said(sheet: &mut Sheet, indent: usize, name: &str, words: &[(String, Ink)], width: usize) {
    let name = format!("{name}:");
    let mut line = vec![(name, Ink::Title)];
    for (n, (text, ink)) in words.iter().enumerate() {
        let comma = if n + 1 < words.len() { "," } else { "" };
        line.push((format!("{text}{comma}"), *ink));
    }
    sheet.words(indent, line.iter().map(|(text, ink)| (text.as_str(), *ink)), width);
}

fn side(sheet: &mut Sheet, name: &str, side: &Side, axis: &Axis, keys: &mut Keys, width: usize) {
    let plain = |text: &str| vec![(text.to_owned(), Ink::Plain)];
    match side {
        Side::Gone => said(sheet, INDENT, name, &plain("no such process"), width),
        Side::Lost => said(sheet, INDENT, name, &plain("did not survive"), width),
        Side::Alive(Space { bars: shown, counters }) => {
            said(sheet, INDENT, name, &inked(counters), width);
            bars(sheet, shown, axis, keys);
        }
    }
}

/// Draws the page numbers at the edges, and brackets around the ranges that the operation touched.
fn ruler(sheet: &mut Sheet, process: &ProcessPicture, axis: &Axis, look: Look) {
    let row = sheet.len();
    for (page, column) in &axis.columns {
        sheet.put(row, *column, &page.to_string(), Ink::Frame);
    }
    for touched in &process.touched {
        let Some((span, starts, ends)) = axis.clip(touched.range) else { continue };
        let row = sheet.len();
        let line = "─".repeat(span.inner());
        sheet.put(row, span.start + 1, &line, Ink::Touched);
        sheet.put(row, span.start, if starts { "╰" } else { "─" }, Ink::Touched);
        sheet.put(row, span.end, if ends { "╯" } else { "─" }, Ink::Touched);
        let role = touched.role;
        let long = format!(" {role} ");
        let text = if long.len() <= span.inner() { &long } else { role };
        let free = span.inner().saturating_sub(text.len());
        // If the range is too short for its role, the role stands after the bracket.
        let (column, room) = if text.len() <= span.inner() {
            (span.start + 1 + free / 2, true)
        } else {
            (span.end + 2, span.end + 2 + text.len() <= look.columns())
        };
        if room {
            sheet.put(row, column, text, Ink::Touched);
        }
    }
}

/// Texts that do not fit in the box of their VMA. They are written below the drawing, with a
/// number.
type Keys = Vec<(Range, Vec<(String, Ink)>)>;

/// The box of a VMA on one row of the axis.
struct Cell<'a> {
    bar: &'a Bar,
    span: Span,
    /// The VMA begins on this row; `ends` likewise.
    starts: bool,
    ends: bool,
    rows: Vec<Vec<(String, Ink)>>,
}

/// Draws VMAs as boxes side by side.
fn bars(sheet: &mut Sheet, bars: &[Bar], axis: &Axis, keys: &mut Keys) {
    let boxes: Vec<Cell<'_>> = bars
        .iter()
        .filter_map(|bar| {
            let (span, starts, ends) = axis.clip(bar.range)?;
            Some(Cell { bar, span, starts, ends, rows: rows(bar, span, keys) })
        })
        .collect();
    let Some(height) = boxes.iter().map(|b| b.rows.len()).max() else { return };
    let top = sheet.len();
    let mut before = None;
    for b in &boxes {
        frame(sheet, b, before == Some(b.span.start), axis, (top, top + height + 1));
        for row in 0..height {
            let mut column = b.span.start + 1;
            for (text, ink) in b.rows.get(row).into_iter().flatten() {
                sheet.put(top + 1 + row, column, text, *ink);
                column += text.chars().count() + 1;
            }
        }
        before = Some(b.span.end);
    }
}

/// Returns the rows of words in a box, or a number if the words do not fit.
fn rows(bar: &Bar, span: Span, keys: &mut Keys) -> Vec<Vec<(String, Ink)>> {
    let words = inked(&bar.words);
    if let Some(rows) = fill(&words, span.inner(), BOX_ROWS) {
        return rows.into_iter().map(|row| row.into_iter().cloned().collect()).collect();
    }
    let at = keys.iter().position(|(range, w)| *range == bar.range && *w == words);
    let at = at.unwrap_or_else(|| {
        keys.push((bar.range, words));
        keys.len() - 1
    });
    let key = if span.inner() >= 3 + at / 9 {
        format!("({})", at + 1)
    } else {
        (at + 1).to_string().chars().take(span.inner()).collect()
    };
    let differs = bar.words.iter().any(|word| word.differs);
    vec![vec![(key, if differs { Ink::Differs } else { Ink::Plain })]]
}

/// Draws the frame of a box between two rows. The box may follow another one without a gap.
fn frame(
    sheet: &mut Sheet,
    b: &Cell<'_>,
    follows: bool,
    axis: &Axis,
    (top, bottom): (usize, usize),
) {
    let Span { start, end } = b.span;
    let line = "─".repeat(b.span.inner());
    for (row, open, join, close) in [(top, "┌", "┬", "┐"), (bottom, "└", "┴", "┘")] {
        let left = match (b.starts, follows) {
            (false, _) => "─",
            (true, true) => join,
            (true, false) => open,
        };
        sheet.put(row, start, left, Ink::Frame);
        sheet.put(row, start + 1, &line, Ink::Frame);
        sheet.put(row, end, if b.ends { close } else { "─" }, Ink::Frame);
        for column in b.bar.joined.iter().filter_map(|page| axis.column(*page)) {
            sheet.put(row, column, "┄", Ink::Joined);
            // The mark is made wider where there is room, so that it can be seen.
            for near in [column - 1, column + 1] {
                if near > start && near < end {
                    sheet.put(row, near, "┄", Ink::Joined);
                }
            }
        }
    }
    for row in top + 1..bottom {
        for (column, there) in [(start, b.starts), (end, b.ends)] {
            if there {
                sheet.put(row, column, "│", Ink::Frame);
            }
        }
    }
}

/// Draws a row of `!` below the pages that differ, and below edges that only one machine has.
fn differences(sheet: &mut Sheet, process: &ProcessPicture, axis: &Axis) {
    let row = sheet.len();
    for pair in axis.columns.windows(2) {
        let ((page, column), (_, end)) = (pair[0], pair[1]);
        if has(process.pages_differ, page) {
            sheet.put(row, column + 1, &"!".repeat(end - column - 1), Ink::Differs);
        }
    }
    for (page, column) in &axis.columns {
        if has(process.edges_differ, *page) {
            sheet.put(row, *column, "!", Ink::Differs);
        }
    }
}
