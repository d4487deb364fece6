//! The counts of an import: each line and each call of the input is in exactly one group.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;

/// The calls that were read, and the reason for each call that is in no program.
#[derive(Default, Serialize)]
pub(crate) struct Counts {
    /// The number of calls in the input.
    pub(crate) calls: usize,
    /// The number of calls in the programs.
    pub(crate) taken: usize,
    /// The calls that could be in a program, by name and reason.
    pub(crate) left_out: BTreeMap<String, usize>,
    /// The other calls, by name.
    pub(crate) not_used: BTreeMap<String, usize>,
    /// The properties of calls that no program has, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) properties: BTreeMap<String, usize>,
    /// The lines of a log that are not calls, by kind.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) other_lines: BTreeMap<String, usize>,
    /// The number of mappings that no call made.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) guessed: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

fn sum(counts: &BTreeMap<String, usize>) -> usize {
    counts.values().sum()
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { calls, taken, left_out, not_used, properties, other_lines, guessed } = self;
        if !other_lines.is_empty() {
            let others = sum(other_lines);
            writeln!(f, "lines: {} read = {calls} calls + {others} others", calls + others)?;
        }
        write!(
            f,
            "calls: {calls} read = {taken} taken + {} left out + {} not used",
            sum(left_out),
            sum(not_used)
        )?;
        for (title, counts) in [
            ("left out", left_out),
            ("not used", not_used),
            ("properties not used", properties),
            ("other lines", other_lines),
        ] {
            if !counts.is_empty() {
                let counts: Vec<_> = counts.iter().map(|(what, n)| format!("{n} {what}")).collect();
                write!(f, "\n{title}: {}", counts.join(", "))?;
            }
        }
        if *guessed > 0 {
            write!(f, "\nguessed: {guessed} mappings that no call had made")?;
        }
        Ok(())
    }
}
