//! The VMAs of one side of a picture, as data.

use serde::Serialize;

use crate::picture::{Bar, Side};

/// A VMA: its first page, its end (exclusive), and its words.
#[derive(PartialEq, Serialize)]
pub(super) struct BarData(u8, u8, String);

/// Returns the VMAs of one side; `None` if the side has no address space.
pub(super) fn side_data(side: &Side) -> Option<Vec<BarData>> {
    let Side::Alive(space) = side else { return None };
    let bar = |bar: &Bar| {
        let words: Vec<&str> = bar.words.iter().map(|word| word.text.as_str()).collect();
        BarData(bar.range.start, bar.range.end, words.join(" "))
    };
    Some(space.bars.iter().map(bar).collect())
}
