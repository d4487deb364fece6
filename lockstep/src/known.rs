//! The list of known divergences. A known divergence does not end fuzzing.
//!
//! The list is a text file with one divergence a line: the signature, then the reason why it is
//! known. `#` begins a comment.

use std::collections::BTreeMap;

use vmadiff_machine::{Opcode, Plain, Quote};

use crate::divergence::Class;

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
    /// [`KnownError`] for a line without a signature or without a reason, or a signature that is
    /// listed twice.
    pub fn parse(text: &str) -> Result<Known, KnownError> {
        let mut known = BTreeMap::new();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (n, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or("").trim();
            if line.is_empty() {
                continue;
            }
            let error = |what: String| KnownError { line: n + 1, what };
            let (signature, why) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            check(signature).map_err(error)?;
            if why.is_empty() {
                let quoted = Quote(line);
                return Err(error(format!("{quoted} without a reason: expected SIGNATURE WHY")));
            }
            let why = Plain(why.trim()).to_string();
            if known.insert(signature.to_owned(), why).is_some() {
                return Err(error(format!("{} is listed twice", Quote(signature))));
            }
        }
        Ok(Known(known))
    }

    /// Returns the reason why the divergence is known; `None` if it is not.
    pub fn why(&self, signature: &str) -> Option<&str> {
        self.0.get(signature).map(String::as_str)
    }

    /// Returns whether the list has no entry.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the signatures of the list, in the order of their names.
    pub fn signatures(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }
}

/// The parts of signatures that are kernel code which several operations share.
const SHARED_PARTS: [&str; 4] = ["map", "change", "copy_vma", "invariant"];

/// Checks that a text has the form of a signature.
fn check(signature: &str) -> Result<(), String> {
    let mut words = signature.split('/');
    let (class, part) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    let quoted = Quote(signature);
    let Some(&known) = Class::ALL.iter().find(|known| known.name() == class) else {
        let near = nearest(class, Class::ALL.iter().map(|class| class.name()));
        return Err(format!(
            "{quoted} is not a signature: no class is called {}{near}",
            Quote(class)
        ));
    };
    if part.is_empty() || words.clone().any(str::is_empty) {
        return Err(format!("{quoted} is not a signature: expected CLASS/PART/DETAIL"));
    }
    // In the other classes, the part can be a kernel function, an object or an event.
    let of_operations = matches!(
        known,
        Class::Merge | Class::Flags | Class::Uffd | Class::Layout | Class::Offset | Class::Errno
    );
    let mut parts = Opcode::ALL.iter().map(|opcode| opcode.name()).chain(SHARED_PARTS);
    if of_operations && !parts.clone().any(|known| known == part) {
        let near = nearest(part, &mut parts);
        return Err(format!(
            "{quoted} is not a signature: {} is not an operation{near}",
            Quote(part)
        ));
    }
    Ok(())
}

/// Returns a suggestion in words: the name that resembles `word` most, or all names.
fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> String {
    // A longer word is no misspelt name, and comparing takes the product of the lengths.
    let word: String = word.chars().take(40).collect();
    let names: Vec<&str> = names.collect();
    let distance = |name: &str| strsim::damerau_levenshtein(&word, name);
    match names.iter().min_by_key(|name| distance(name)) {
        Some(name) if distance(name) <= 2 => format!(": did you mean `{name}`?"),
        _ => format!(": expected one of {}", names.join(", ")),
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
    fn a_list_has_its_signatures_in_the_order_of_their_names() {
        let known = Known::parse("merge/map/y b\nflags/copy/x c\nmerge/map/x b\n");
        let known = known.expect("a list");
        assert!(!known.is_empty());
        let signatures: Vec<&str> = known.signatures().collect();
        assert_eq!(signatures, ["flags/copy/x", "merge/map/x", "merge/map/y"]);
        assert!(Known::parse("# no entry\n").expect("a list").is_empty());
    }

    #[test]
    fn a_line_without_a_reason_and_a_second_mention_are_refused() {
        for second in ["merge/map/y", "merge/map/x c"] {
            let text = format!("merge/map/x b\n{second}\n");
            assert_eq!(Known::parse(&text).map_err(|e| e.line), Err(2), "{second}");
        }
    }

    #[test]
    fn a_line_that_is_no_signature_is_refused_with_a_suggestion() {
        for (line, what) in [
            ("falgs/copy/VM_LOCKED-kept D", "no class is called `falgs`: did you mean `flags`?"),
            ("nothing D", "no class is called `nothing`: expected one of merge, flags, uffd"),
            ("flags/cpoy/VM_LOCKED-kept D", "`cpoy` is not an operation: did you mean `copy`?"),
            ("flags D", "expected CLASS/PART/DETAIL"),
            ("flags//x D", "expected CLASS/PART/DETAIL"),
            ("\u{1b}]0;x\u{7} D", "no class is called `\\u{1b}]0;x\\u{7}`"),
        ] {
            let error = Known::parse(line).expect_err(line).to_string();
            assert!(error.starts_with("line 1: ") && error.contains(what), "{line}: {error}");
        }
        let long = format!("{}/x/y D", "x".repeat(1 << 20));
        assert!(Known::parse(&long).expect_err("no class").to_string().len() < 400);
        assert!(Known::parse("\u{feff}errno/mremap/ok-for-EINVAL B\n").is_ok());
    }
}
