//! A process on both machines, drawn as SVG.

use maud::{Markup, html};

use crate::axis::{Axis, axes};
use crate::ink::{BOX_ROWS, Ink, fill, inked};
use crate::picture::{Bar, ProcessPicture, Range, Side, has, marked};

/// The number of columns of a drawing, and the size of a column and of a row, in pixels.
const COLUMNS: usize = 118;
const WIDTH: usize = 8;
const HEIGHT: usize = 15;
/// The distance from the top of a row to the base line of its text, in pixels.
const BASE: usize = 11;
/// The width of a letter in tenths of a pixel, rounded up.
const LETTER: usize = 73;

/// Texts that do not fit in the box of their VMA.
type Keys = Vec<(Range, String)>;

/// A part of a drawing: its markup and its rows.
struct Part {
    /// The finished groups of the drawing, from top to bottom.
    groups: Vec<Markup>,
    /// The markup of the current group.
    markup: Vec<Markup>,
    /// The next free y.
    y: usize,
}

impl Part {
    fn text(&mut self, class: &str, x: usize, text: &str) {
        let y = self.y + BASE;
        self.markup.push(html! { text class=(class) x=(x) y=(y) { (text) } });
    }

    /// Ends the current group. A group that the script of the page may remove has its height.
    fn end_group(&mut self, class: &str, height: Option<usize>) {
        let markup = std::mem::take(&mut self.markup);
        if !markup.is_empty() {
            self.groups.push(html! {
                g class=(class) data-height=[height] { @for shape in &markup { (shape) } }
            });
        }
    }
}

/// Returns the drawing of a process: `before` the operation, or after it.
pub(super) fn process(process: &ProcessPicture, names: (&str, &str), before: bool) -> Markup {
    let mut keys = Keys::new();
    let mut part = Part { groups: Vec::new(), markup: Vec::new(), y: 0 };
    let mut right = 0;
    for axis in axes(process, COLUMNS) {
        ruler(&mut part, process, &axis);
        if let Some(space) = process.before.as_ref().filter(|_| before) {
            part.text("u", x(0), "before");
            part.y += HEIGHT;
            bars(&mut part, &space.bars, &axis, &mut keys);
        }
        if process.same() {
            let both = format!("{} and {}", names.0, names.1);
            side(&mut part, &both, &process.left, &axis, &mut keys);
        } else {
            side(&mut part, names.0, &process.left, &axis, &mut keys);
            side(&mut part, names.1, &process.right, &axis, &mut keys);
            differences(&mut part, process, &axis);
        }
        right = right.max(axis.columns.last().map_or(0, |(_, column)| *column));
        part.end_group("state", None);
    }
    let width = x(right + 12).max(640);
    let (title, description) = described(process, names);
    html! {
        figure data-process=(process.process) {
            figcaption { "process " (process.process) }
            div.drawing tabindex="0" role="group" aria-label=(format!("Drawing of process {}", process.process)) {
                svg role="img" width=(width) height=(part.y) viewBox=(format!("0 0 {width} {}", part.y)) {
                    title { (title) }
                    desc { (description) }
                    @for group in &part.groups { (group) }
                }
            }
            @for (n, (range, words)) in keys.iter().enumerate() {
                p.mono { "(" (n + 1) ") " (range) " " (words) }
            }
        }
    }
}

fn x(column: usize) -> usize {
    column * WIDTH
}

/// Returns the title and the description of a drawing, for readers who cannot see it.
fn described(process: &ProcessPicture, names: (&str, &str)) -> (String, String) {
    let words = |name: &str, side: &Side| match side {
        Side::Gone => format!("{name}: no such process."),
        Side::Lost => format!("{name} did not survive."),
        Side::Alive(space) if space.bars.is_empty() => format!("{name}: nothing is mapped."),
        Side::Alive(space) => {
            let bar = |bar: &Bar| format!("{} {}", bar.range, marked(&bar.words).join(" "));
            let bars: Vec<String> = space.bars.iter().map(bar).collect();
            format!("{name}: {}.", bars.join("; "))
        }
    };
    let title = format!("Address space of process {}", process.process);
    let description = if process.same() {
        words(&format!("{} and {}", names.0, names.1), &process.left)
    } else {
        format!("{} {}", words(names.0, &process.left), words(names.1, &process.right))
    };
    (title, description)
}

fn ruler(part: &mut Part, process: &ProcessPicture, axis: &Axis) {
    for (page, column) in &axis.columns {
        part.text("u", x(*column), &page.to_string());
    }
    part.y += HEIGHT;
    part.end_group("ruler", None);
    let from = part.y;
    for touched in &process.touched {
        let Some((span, starts, ends)) = axis.clip(touched.range) else { continue };
        let (from, to, top, base) = (x(span.start), x(span.end), part.y + 1, part.y + 7);
        let first =
            if starts { format!("M{from} {top}V{base}") } else { format!("M{from} {base}") };
        let last = if ends { format!("V{top}") } else { String::new() };
        part.markup.push(html! { path.t d=(format!("{first}H{to}{last}")) {} });
        part.text("r", to + 5, touched.role);
        part.y += HEIGHT;
    }
    part.end_group("touch", Some(part.y - from));
}

fn side(part: &mut Part, name: &str, side: &Side, axis: &Axis, keys: &mut Keys) {
    let y = part.y + BASE;
    let counters = match side {
        Side::Gone => vec![("no such process".to_owned(), Ink::Plain)],
        Side::Lost => vec![("did not survive".to_owned(), Ink::Differs)],
        Side::Alive(space) => inked(&space.counters),
    };
    part.markup.push(html! {
        text x=(x(0)) y=(y) {
            tspan.n { (name) ":" }
            @for (n, (text, ink)) in counters.iter().enumerate() {
                @if n > 0 { "," }
                " "
                (word(text, *ink))
            }
        }
    });
    part.y += HEIGHT + 2;
    bars(part, side.bars(), axis, keys);
}

fn word(text: &str, ink: Ink) -> Markup {
    html! { @if ink == Ink::Differs { tspan.d { (text) } } @else { (text) } }
}

fn bars(part: &mut Part, bars: &[Bar], axis: &Axis, keys: &mut Keys) {
    let mut boxes = Vec::new();
    for bar in bars {
        let Some((span, ..)) = axis.clip(bar.range) else { continue };
        let words = inked(&bar.words);
        let rows: Vec<Vec<(String, Ink)>> = match fill(&words, span.inner(), BOX_ROWS) {
            Some(rows) => rows.into_iter().map(|row| row.into_iter().cloned().collect()).collect(),
            None => {
                let text = marked(&bar.words).join(" ");
                let key = (bar.range, text);
                let at = keys.iter().position(|known| *known == key).unwrap_or_else(|| {
                    keys.push(key);
                    keys.len() - 1
                });
                let differs = bar.words.iter().any(|word| word.differs);
                let ink = if differs { Ink::Differs } else { Ink::Plain };
                vec![vec![(format!("({})", at + 1), ink)]]
            }
        };
        boxes.push((bar, span, rows));
    }
    let Some(rows) = boxes.iter().map(|(.., rows)| rows.len()).max() else { return };
    let height = rows * HEIGHT + 4;
    for (bar, span, rows) in &boxes {
        let differs = bar.words.iter().any(|word| word.differs);
        let (left, wide) = (x(span.start), x(span.end) - x(span.start));
        part.markup.push(html! {
            rect class=(if differs { "b x" } else { "b" }) x=(left) y=(part.y) width=(wide) height=(height) {}
        });
        for page in &bar.joined {
            if let Some(column) = axis.column(*page) {
                let path = joined_edge(x(column), part.y, left + 4, rows, height);
                part.markup.push(html! { path.j d=(path) {} });
            }
        }
        for (n, row) in rows.iter().enumerate() {
            let y = part.y + n * HEIGHT + BASE + 2;
            part.markup.push(html! {
                text x=(left + 4) y=(y) {
                    @for (n, (text, ink)) in row.iter().enumerate() {
                        @if n > 0 { " " }
                        (word(text, *ink))
                    }
                }
            });
        }
    }
    part.y += height + 4;
}

/// Returns the path of an edge that a merge removed: a vertical line at `x` through a box. Rows whose
/// text is at `x` are left out, so that no line runs through letters.
fn joined_edge(
    x: usize,
    top: usize,
    text: usize,
    rows: &[Vec<(String, Ink)>],
    height: usize,
) -> String {
    let mut path = format!("M{x} {top}v3");
    for (n, row) in rows.iter().enumerate() {
        let letters: usize = row.iter().map(|(word, _)| word.chars().count() + 1).sum();
        if x < text.saturating_sub(2) || text + letters * LETTER / 10 < x {
            path.push_str(&format!("M{x} {}v{HEIGHT}", top + n * HEIGHT + 2));
        }
    }
    path.push_str(&format!("M{x} {}v3", top + height - 3));
    path
}

/// Draws a row of `!` below the pages that differ, and below edges that only one machine has.
fn differences(part: &mut Part, process: &ProcessPicture, axis: &Axis) {
    let mut any = false;
    for pair in axis.columns.windows(2) {
        let ((page, column), (_, end)) = (pair[0], pair[1]);
        if has(process.pages_differ, page) {
            part.text("d", x((column + end) / 2), "!");
            any = true;
        }
    }
    for (page, column) in &axis.columns {
        if has(process.edges_differ, *page) {
            part.text("d", x(*column).saturating_sub(3), "!");
            any = true;
        }
    }
    if any {
        part.y += HEIGHT;
    }
}
