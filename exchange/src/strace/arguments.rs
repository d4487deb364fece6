//! The arguments of a call, as strace writes them.

use super::line::end_of;
use crate::flags::{Flag, value};

/// Returns the arguments of a call, without their names and without comments.
pub(super) fn split(arguments: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = arguments;
    loop {
        let end = end_of(rest, b",");
        let part = rest[..end.unwrap_or(rest.len())].trim();
        parts.push(part.split("/*").next().unwrap_or_default().trim());
        match end {
            Some(end) => rest = &rest[end + 1..],
            None => return parts,
        }
    }
}

/// Reads a number or an address.
pub(super) fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None if text == "NULL" => Some(0),
        None => text.parse().ok(),
    }
}

/// Reads flags given by names and numbers. A name that is not in `known` has the value 0; `None` if
/// the text is not a list of flags.
pub(super) fn flags(text: &str, known: &[Flag]) -> Option<u64> {
    text.split('|').try_fold(0, |all, word| {
        let word = word.trim();
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            return Some(all | number(word)?);
        }
        if !word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_') {
            return None;
        }
        Some(all | value(known, word).unwrap_or(0))
    })
}
