//! The head of a patch: five lines above the diff.

use std::fmt;

/// The number of rare conditions that must come together before a fault shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// One situation.
    Plain,
    /// Two or more rare conditions at once.
    TwoSituations,
}

impl Tier {
    /// All tiers, the easier tier first.
    pub const ALL: [Tier; 2] = [Tier::Plain, Tier::TwoSituations];

    /// The tier's name in the head of a patch.
    pub const fn name(self) -> &'static str {
        match self {
            Tier::Plain => "plain",
            Tier::TwoSituations => "two situations",
        }
    }
}

impl fmt::Display for Tier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A fault, as the head of its patch describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The name of the patch file without its extension.
    pub name: String,
    /// The class of the divergence that its program shows.
    pub class: String,
    /// The kernel function that is wrong.
    pub function: String,
    /// The tier: how many rare conditions must come together before the fault shows.
    pub tier: Tier,
    /// The mistake, in one line.
    pub wrong: String,
}

/// A mistake in the head of a patch.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct HeadError {
    line: usize,
    what: String,
}

impl HeadError {
    pub(crate) fn at(line: usize, what: impl Into<String>) -> HeadError {
        HeadError { line, what: what.into() }
    }
}

/// The lines of a head, one field each.
pub(crate) struct Lines<'a>(std::iter::Zip<std::str::Lines<'a>, std::ops::RangeFrom<usize>>);

impl<'a> Lines<'a> {
    pub(crate) fn of(text: &'a str) -> Lines<'a> {
        Lines(text.lines().zip(1..))
    }

    /// Returns the value of the next line, which is the field `key`, and the number of the line.
    pub(crate) fn field(&mut self, key: &str) -> Result<(String, usize), HeadError> {
        match self.0.next() {
            Some((text, line)) => match text.strip_prefix(key).and_then(|t| t.strip_prefix(": ")) {
                Some(value) if !value.trim().is_empty() => Ok((value.trim().to_owned(), line)),
                _ => Err(HeadError::at(line, format!("expected `{key}: …`"))),
            },
            None => Err(HeadError::at(0, format!("the patch ends before `{key}: …`"))),
        }
    }
}

/// Checks that a diff follows the four fields of a head.
pub(crate) fn expect_diff(text: &str) -> Result<(), HeadError> {
    match text.lines().skip(4).any(|line| line.starts_with("diff --git ")) {
        true => Ok(()),
        false => Err(HeadError::at(5, "expected a diff, as `git diff` makes it")),
    }
}

/// Returns whether `name` can be the name of a fault.
pub(crate) fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

impl Fault {
    /// Reads the head of the patch `text`.
    ///
    /// # Errors
    /// [`HeadError`] where a line of the head is missing or wrong.
    pub fn parse(name: &str, text: &str) -> Result<Fault, HeadError> {
        let mut lines = Lines::of(text);
        let mut field = |key| lines.field(key);
        let (class, _) = field("class")?;
        let (function, _) = field("function")?;
        let (tier, line) = field("tier")?;
        let known = Tier::ALL.into_iter().find(|known| known.name() == tier);
        let tier = known.ok_or_else(|| {
            let what = format!("no tier is called `{tier}`: expected plain or two situations");
            HeadError { line, what }
        })?;
        let (wrong, _) = field("wrong")?;
        expect_diff(text)?;
        Ok(Fault { name: name.to_owned(), class, function, tier, wrong })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_class_function_tier_and_mistake() {
        let text = "class: flags\nfunction: copy_vma\ntier: two situations\nwrong: a: b\n\ndiff --git a/x b/x\n";
        let fault = Fault::parse("kept", text).expect("a head");
        assert_eq!((fault.class.as_str(), fault.function.as_str()), ("flags", "copy_vma"));
        assert_eq!((fault.tier, fault.wrong.as_str()), (Tier::TwoSituations, "a: b"));
    }

    #[test]
    fn a_mistake_in_a_head_is_named_by_its_line() {
        for (text, error) in [
            ("", "line 0: the patch ends before `class: …`"),
            ("class: \n", "line 1: expected `class: …`"),
            (
                "class: a\nfunction: b\ntier: hard\n",
                "line 3: no tier is called `hard`: expected plain or two situations",
            ),
            ("class: a\nfunction: b\ntier: plain\nwhat: c\n", "line 4: expected `wrong: …`"),
            (
                "class: a\nfunction: b\ntier: plain\nwrong: c\n\n",
                "line 5: expected a diff, as `git diff` makes it",
            ),
        ] {
            assert_eq!(Fault::parse("x", text).expect_err(text).to_string(), error);
        }
    }

    #[test]
    fn a_name_is_never_a_path() {
        assert!(is_name("case-1-next-stays"));
        for name in ["", "../x", "a/b", "A", "a.b", "a b"] {
            assert!(!is_name(name), "{name}");
        }
    }
}
