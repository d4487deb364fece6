//! Pictures as text: a ruler of pages, and each VMA a box.

use anstyle::{AnsiColor, Effects, Style};

use crate::picture::{Bar, Picture, ProcessPicture, Range, Side, Space, Word, has, marked};

/// How text may look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The columns there are; fewer than [`Look::MIN_WIDTH`] count as that.
    pub width: usize,
    /// Whether nothing but ASCII may be used.
    pub ascii: bool,
    /// Whether there are colours.
    pub color: bool,
}

impl Default for Look {
    fn default() -> Look {
        Look { width: 100, ascii: false, color: false }
    }
}

impl Look {
    /// The fewest columns a drawing fits in.
    pub const MIN_WIDTH: usize = 40;

    /// The columns that are used.
    pub fn columns(&self) -> usize {
        self.width.max(Look::MIN_WIDTH)
    }
}

/// What a piece of text is, for its colour. No meaning is in the colour alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ink {
    /// Anything.
    #[default]
    Plain,
    /// What is less important: frames, the ruler.
    Frame,
    /// A title.
    Title,
    /// What differs; also marked by `!`.
    Differs,
    /// What the operation touched; also bracketed.
    Touched,
    /// Edges that are none any more; also drawn dotted.
    Joined,
}

impl Ink {
    fn style(self) -> Style {
        let plain = Style::new();
        match self {
            Ink::Plain => plain,
            Ink::Frame => plain.effects(Effects::DIMMED),
            Ink::Title => plain.bold(),
            Ink::Differs => plain.bold().fg_color(Some(AnsiColor::Red.into())),
            Ink::Touched => plain.fg_color(Some(AnsiColor::Cyan.into())),
            Ink::Joined => plain.fg_color(Some(AnsiColor::Yellow.into())),
        }
    }
}

/// Lines of characters, each with its ink.
#[derive(Debug, Default)]
pub struct Sheet {
    rows: Vec<Vec<(char, Ink)>>,
}

impl Sheet {
    /// Puts `text` into a row, from a column on, over what is there.
    fn put(&mut self, row: usize, column: usize, text: &str, ink: Ink) {
        while self.rows.len() <= row {
            self.rows.push(Vec::new());
        }
        let cells = &mut self.rows[row];
        for (n, c) in text.chars().enumerate() {
            if cells.len() <= column + n {
                cells.resize(column + n + 1, (' ', Ink::Plain));
            }
            cells[column + n] = (c, ink);
        }
    }

    /// The number of rows so far.
    fn len(&self) -> usize {
        self.rows.len()
    }

    /// Adds a line as it is; where it is too long, its words.
    pub fn line(&mut self, text: &str, ink: Ink, width: usize) {
        if text.chars().count() <= width {
            self.put(self.len(), 0, text, ink);
        } else {
            let indent = text.chars().take_while(|c| *c == ' ').count();
            self.words(indent, [(text, ink)], width);
        }
    }

    /// Adds a line of words after `indent` columns, on as many rows as `width` columns need; what
    /// goes on is indented by two columns more.
    pub fn words<'a>(
        &mut self,
        indent: usize,
        words: impl IntoIterator<Item = (&'a str, Ink)>,
        width: usize,
    ) {
        let (mut row, mut column) = (self.len(), indent);
        self.put(row, 0, "", Ink::Plain);
        for (text, ink) in words {
            for word in text.split(' ').filter(|word| !word.is_empty()) {
                let mut rest = word;
                while !rest.is_empty() {
                    let length = rest.chars().count();
                    let first = column <= indent + 2;
                    if column + length > width && !first {
                        row += 1;
                        column = indent + 2;
                        continue;
                    }
                    // A single word that is too long is cut where the row ends.
                    let room = width.saturating_sub(column).max(1);
                    let cut = rest.char_indices().nth(room).map_or(rest.len(), |(at, _)| at);
                    self.put(row, column, &rest[..cut], ink);
                    column += length.min(room) + 1;
                    rest = &rest[cut..];
                }
            }
        }
    }

    /// The sheet as text.
    pub fn text(&self, look: Look) -> String {
        let mut out = String::new();
        for row in &self.rows {
            let length = row.iter().rposition(|(c, _)| *c != ' ').map_or(0, |last| last + 1);
            let mut ink = Ink::Plain;
            for &(c, next) in &row[..length] {
                // A blank looks the same in every ink.
                if look.color && next != ink && c != ' ' {
                    if ink != Ink::Plain {
                        out.push_str(&ink.style().render_reset().to_string());
                    }
                    out.push_str(&next.style().render().to_string());
                    ink = next;
                }
                out.push(if look.ascii { plain(c) } else { c });
            }
            if look.color && ink != Ink::Plain {
                out.push_str(&ink.style().render_reset().to_string());
            }
            out.push('\n');
        }
        out
    }
}

/// What stands for a character of the frames where there is only ASCII.
fn plain(c: char) -> char {
    match c {
        '─' => '-',
        '│' => '|',
        '┄' => '.',
        '┌' | '┐' | '└' | '┘' | '┬' | '┴' | '┼' | '├' | '┤' => '+',
        '╰' | '╯' => '\'',
        c if c.is_ascii() => c,
        _ => '?',
    }
}

/// Where each edge is on a row, of edges that fit on one.
pub(crate) struct Axis {
    pub(crate) columns: Vec<(u8, usize)>,
}

impl Axis {
    pub(crate) fn column(&self, page: u8) -> Option<usize> {
        self.columns.iter().find(|(edge, _)| *edge == page).map(|(_, column)| *column)
    }

    /// The part of a range that is on this row, and whether its ends are.
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

/// Columns, both ends included.
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

/// Rows of words in a box: more are written below.
pub(crate) const BOX_ROWS: usize = 5;
const INDENT: usize = 2;
/// Columns of a range that nothing maps, at most.
const GAP: usize = 7;

/// Divides edges into rows and gives each its column. A page is as wide as it can be; where that
/// is too wide, long ranges become shorter than they are.
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
        // Too many for one row.
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

/// The words of a line, with what differs marked.
pub(crate) fn inked(words: &[Word]) -> Vec<(String, Ink)> {
    let ink = |word: &Word| if word.differs { Ink::Differs } else { Ink::Plain };
    marked(words).into_iter().zip(words.iter().map(ink)).collect()
}

/// Words in rows of at most `width` columns; nothing where they need more than `rows`.
pub(crate) fn fill(
    words: &[(String, Ink)],
    width: usize,
    rows: usize,
) -> Option<Vec<Vec<&(String, Ink)>>> {
    let mut filled: Vec<Vec<&(String, Ink)>> = vec![Vec::new()];
    let mut used = 0;
    for word in words {
        let length = word.0.chars().count();
        if length > width {
            return None;
        }
        let row = filled.last_mut()?;
        if row.is_empty() {
            used = length;
            row.push(word);
        } else if used + 1 + length <= width {
            used += 1 + length;
            row.push(word);
        } else {
            used = length;
            filled.push(vec![word]);
        }
    }
    (filled.len() <= rows).then_some(filled)
}

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
        let mut keys = Vec::new();
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

/// A machine's name, and what it says.
fn said(sheet: &mut Sheet, indent: usize, name: &str, words: &[(String, Ink)], width: usize) {
    let name = format!("{name}:");
    let mut line = vec![(name, Ink::Title)];
    for (n, (text, ink)) in words.iter().enumerate() {
        let comma = if n + 1 < words.len() { "," } else { "" };
        line.push((format!("{text}{comma}"), *ink));
    }
    sheet.words(indent, line.iter().map(|(text, ink)| (text.as_str(), *ink)), width);
}

fn side(
    sheet: &mut Sheet,
    name: &str,
    side: &Side,
    axis: &Axis,
    keys: &mut Vec<(Range, Vec<(String, Ink)>)>,
    width: usize,
) {
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

/// The page numbers at the edges, and brackets around what the operation touched.
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
        // Of a range that is too short for it, the role stands behind the bracket.
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

fn bars(sheet: &mut Sheet, bars: &[Bar], axis: &Axis, keys: &mut Vec<(Range, Vec<(String, Ink)>)>) {
    let clipped: Vec<_> =
        bars.iter().filter_map(|bar| Some((bar, axis.clip(bar.range)?))).collect();
    if clipped.is_empty() {
        return;
    }
    let mut boxes = Vec::new();
    for (bar, (span, starts, ends)) in clipped {
        let words = inked(&bar.words);
        let rows = match fill(&words, span.inner(), BOX_ROWS) {
            Some(rows) => {
                let row = |row: Vec<&(String, Ink)>| row.into_iter().cloned().collect::<Vec<_>>();
                rows.into_iter().map(row).collect()
            }
            None => {
                let at = keys.iter().position(|(range, w)| *range == bar.range && *w == words);
                let differs = bar.words.iter().any(|word| word.differs);
                let at = at.unwrap_or_else(|| {
                    keys.push((bar.range, words));
                    keys.len() - 1
                });
                let key = if span.inner() >= 3 + at / 9 {
                    format!("({})", at + 1)
                } else {
                    (at + 1).to_string().chars().take(span.inner()).collect()
                };
                vec![vec![(key, if differs { Ink::Differs } else { Ink::Plain })]]
            }
        };
        boxes.push((bar, span, starts, ends, rows));
    }
    let height = boxes.iter().map(|(.., rows)| rows.len()).max().unwrap_or(1);
    let top = sheet.len();
    let bottom = top + height + 1;
    for (n, (bar, span, starts, ends, rows)) in boxes.iter().enumerate() {
        let line = "─".repeat(span.inner());
        let follows = n > 0 && boxes[n - 1].1.end == span.start;
        for (row, open, join, close) in [(top, "┌", "┬", "┐"), (bottom, "└", "┴", "┘")]
        {
            let left = match (starts, follows) {
                (false, _) => "─",
                (true, true) => join,
                (true, false) => open,
            };
            sheet.put(row, span.start, left, Ink::Frame);
            sheet.put(row, span.start + 1, &line, Ink::Frame);
            sheet.put(row, span.end, if *ends { close } else { "─" }, Ink::Frame);
            for page in &bar.joined {
                if let Some(column) = axis.column(*page) {
                    sheet.put(row, column, "┄", Ink::Joined);
                    // Where there is room, wide enough to be seen.
                    for near in [column - 1, column + 1] {
                        if near > span.start && near < span.end {
                            sheet.put(row, near, "┄", Ink::Joined);
                        }
                    }
                }
            }
        }
        for row in 0..height {
            for (column, there) in [(span.start, starts), (span.end, ends)] {
                if *there {
                    sheet.put(top + 1 + row, column, "│", Ink::Frame);
                }
            }
            let mut column = span.start + 1;
            for (text, ink) in rows.get(row).into_iter().flatten() {
                sheet.put(top + 1 + row, column, text, *ink);
                column += text.chars().count() + 1;
            }
        }
    }
}

/// A row of `!` below the pages that differ, and below edges that only one machine has.
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
