//! Words with their emphasis, and the layout of words in a box, for text and for SVG.

use crate::picture::{Word, marked};

/// The role of a piece of text, which decides its colour. Colour is never the only mark of a role.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ink {
    /// Text without a special role.
    #[default]
    Plain,
    /// Less important text: frames, the ruler.
    Frame,
    /// A title.
    Title,
    /// A value that differs between the machines; also marked by `!`.
    Differs,
    /// A range that the operation touched; also bracketed.
    Touched,
    /// An edge that a merge has removed; also drawn dotted.
    Joined,
}

/// The most rows of words in a box. Longer texts are written below the drawing.
pub(crate) const BOX_ROWS: usize = 5;

/// Returns the words of a line, each with its ink: values that differ are marked.
pub(crate) fn inked(words: &[Word]) -> Vec<(String, Ink)> {
    let ink = |word: &Word| if word.differs { Ink::Differs } else { Ink::Plain };
    marked(words).into_iter().zip(words.iter().map(ink)).collect()
}

/// Returns the words in rows of at most `width` columns; nothing if they need more than `rows`
/// rows.
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
