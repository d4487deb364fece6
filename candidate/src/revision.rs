//! The revisions of the kernel code that the candidate can follow.

use std::fmt;
use std::str::FromStr;

/// The text of the kernel code that the candidate follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Revision {
    /// Linux 5.2.1: the original `copy_vma()`, and no copy between address spaces.
    Original,
    /// The series as first mailed (RFC, five patches).
    Rfc,
    /// The series under review (v2, seven patches).
    V2,
    /// The smallest change to v2 that meets the contract of a copy between address spaces.
    Fixed,
}

impl Revision {
    /// Every revision, in the order they were written.
    pub const ALL: &'static [Revision] =
        &[Revision::Original, Revision::Rfc, Revision::V2, Revision::Fixed];

    /// The name of the revision on the command line: `original`, `rfc`, `v2` or `fixed`.
    pub const fn name(self) -> &'static str {
        match self {
            Revision::Original => "original",
            Revision::Rfc => "rfc",
            Revision::V2 => "v2",
            Revision::Fixed => "fixed",
        }
    }

    /// The name of the machine that follows the revision, such as `candidate:v2`.
    pub(crate) const fn machine_name(self) -> &'static str {
        match self {
            Revision::Original => "candidate:original",
            Revision::Rfc => "candidate:rfc",
            Revision::V2 => "candidate:v2",
            Revision::Fixed => "candidate:fixed",
        }
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The error for a text that names no revision.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no revision is called `{0}`: expected original, rfc, v2 or fixed")]
pub struct UnknownRevision(pub String);

impl FromStr for Revision {
    type Err = UnknownRevision;

    /// Reads a [`Revision::name`].
    ///
    /// # Errors
    /// [`UnknownRevision`] where no revision has that name.
    fn from_str(text: &str) -> Result<Revision, UnknownRevision> {
        Revision::ALL
            .iter()
            .copied()
            .find(|r| r.name() == text)
            .ok_or_else(|| UnknownRevision(text.to_owned()))
    }
}
