//! A sheet: coloured lines of characters, wrapped at the width of the terminal.

use anstyle::{AnsiColor, Effects, Style};

use crate::ink::Ink;

/// The look of a text: width, characters and colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// The number of columns. A number below [`Look::MIN_WIDTH`] counts as that minimum.
    pub width: usize,
    /// Only ASCII characters are used.
    pub ascii: bool,
    /// Colours are used.
    pub color: bool,
}

impl Default for Look {
    fn default() -> Look {
        Look { width: 100, ascii: false, color: false }
    }
}

impl Look {
    /// The fewest columns that a drawing needs.
    pub const MIN_WIDTH: usize = 40;

    /// Returns the number of columns in use: `width`, or the minimum.
    pub fn columns(&self) -> usize {
        self.width.max(Look::MIN_WIDTH)
    }
}

/// Returns the terminal style of an ink.
fn style(ink: Ink) -> Style {
    let plain = Style::new();
    match ink {
        Ink::Plain => plain,
        Ink::Frame => plain.effects(Effects::DIMMED),
        Ink::Title => plain.bold(),
        Ink::Differs => plain.bold().fg_color(Some(AnsiColor::Red.into())),
        Ink::Touched => plain.fg_color(Some(AnsiColor::Cyan.into())),
        Ink::Joined => plain.fg_color(Some(AnsiColor::Yellow.into())),
    }
}

/// The lines of a text: characters, each with its ink.
#[derive(Debug, Default)]
pub struct Sheet {
    rows: Vec<Vec<(char, Ink)>>,
}

impl Sheet {
    /// Writes `text` into a row, beginning at a column, over the characters that are there.
    pub(crate) fn put(&mut self, row: usize, column: usize, text: &str, ink: Ink) {
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

    /// Returns the number of rows so far.
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Adds a line as it is. A line that is too long is split into words.
    pub fn line(&mut self, text: &str, ink: Ink, width: usize) {
        if text.chars().count() <= width {
            self.put(self.len(), 0, text, ink);
        } else {
            let indent = text.chars().take_while(|c| *c == ' ').count();
            self.words(indent, [(text, ink)], width);
        }
    }

    /// Adds a line of words after `indent` columns. The line is wrapped at `width` columns, and
    /// further rows are indented by two more columns.
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
                    // A single word that is too long is cut at the end of the row.
                    let room = width.saturating_sub(column).max(1);
                    let cut = rest.char_indices().nth(room).map_or(rest.len(), |(at, _)| at);
                    self.put(row, column, &rest[..cut], ink);
                    column += length.min(room) + 1;
                    rest = &rest[cut..];
                }
            }
        }
    }

    /// Returns the sheet as text.
    pub fn text(&self, look: Look) -> String {
        let mut out = String::new();
        for row in &self.rows {
            let length = row.iter().rposition(|(c, _)| *c != ' ').map_or(0, |last| last + 1);
            let mut ink = Ink::Plain;
            for &(c, next) in &row[..length] {
                // A space looks the same in every ink.
                if look.color && next != ink && c != ' ' {
                    if ink != Ink::Plain {
                        out.push_str(&style(ink).render_reset().to_string());
                    }
                    out.push_str(&style(next).render().to_string());
                    ink = next;
                }
                out.push(if look.ascii { plain(c) } else { c });
            }
            if look.color && ink != Ink::Plain {
                out.push_str(&style(ink).render_reset().to_string());
            }
            out.push('\n');
        }
        out
    }
}

/// Returns the ASCII character that stands for a character of the frames.
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
