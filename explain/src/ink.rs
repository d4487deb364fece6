//! Words with their emphasis, and how they fill a box, in text and in SVG.

use crate::picture::{Word, marked};

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

/// Rows of words in a box: more are written below.
pub(crate) const BOX_ROWS: usize = 5;

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
