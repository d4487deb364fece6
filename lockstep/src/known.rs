//! The list of known divergences. A known divergence does not end fuzzing.
//!
//! The list is a text file with one divergence a line: the signature, then the reason why it is
//! known. `#` begins a comment.

use std::collections::BTreeMap;

/// The known divergences: the reason of each, by signature.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known(BTreeMap<String, String>);

/// The error of a list: a line that is not a signature and a reason, or repeats a signature.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct KnownError {
    /// The line, counted from 1.
    pub line: usize,
    /// The error and the expected text.
    pub what: String,
}

impl Known {
    /// Reads a list.
    ///
    /// # Errors
    /// [`KnownError`] for a line without a reason, or a signature that is listed twice.
    pub fn parse(text: &str) -> Result<Known, KnownError> {
        let mut known = BTreeMap::new();
        for (n, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or("").trim();
            if line.is_empty() {
                continue;
            }
            let error = |what: String| KnownError { line: n + 1, what };
            let Some((signature, why)) = line.split_once(char::is_whitespace) else {
                return Err(error(format!("`{line}` without a reason: expected SIGNATURE WHY")));
            };
            if known.insert(signature.to_owned(), why.trim().to_owned()).is_some() {
                return Err(error(format!("`{signature}` is listed twice")));
            }
        }
        Ok(Known(known))
    }

    /// Returns the reason why the divergence is known; `None` if it is not.
    pub fn why(&self, signature: &str) -> Option<&str> {
        self.0.get(signature).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_signature_and_a_reason() {
        let known =
            Known::parse("# v2\n\nrmap-locks/copy/not-taken  question 1 of the review # D\n");
        let known = known.expect("a list");
        assert_eq!(known.why("rmap-locks/copy/not-taken"), Some("question 1 of the review"));
        for other in ["rmap-locks/copy", "rmap-locks/copy/not-taken-twice", "rmap-locks/copy/taken"]
        {
            assert_eq!(known.why(other), None, "{other}");
        }
    }

    #[test]
    fn a_line_without_a_reason_and_a_second_mention_are_refused() {
        assert_eq!(Known::parse("a b\nc\n").map_err(|e| e.line), Err(2));
        assert_eq!(Known::parse("a b\na c\n").map_err(|e| e.line), Err(2));
    }
}
