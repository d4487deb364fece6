//! Invariants: statements about the state of one machine that need no second machine.
//!
//! The comparison is blind where both machines leave the same thing out, or have the same bug. The
//! invariants are not: see [`shown`] for those of an observation and [`hidden`] for those of the
//! objects that no observation shows, with the references to them.
//!
//! # When each is checked
//!
//! - After every operation: the invariants of an observation, for the address spaces that the
//!   operation changed. Each model also looks for pages that a reverse-map walk does not find, where an
//!   operation changed VMAs or page tables, and reports them as events.
//! - At the end of a program: the invariants of hidden objects, which recount everything. Then every
//!   process exits (*teardown*), and whatever is left is a leak.
//! - A recount after every operation would cost more than the operation. If the recount or the
//!   teardown finds something, the program is run again with the recount after each operation, and the
//!   finding names the operation that broke the invariant first.
//!
//! A run of many programs, `vmadiff random` or a fuzz target, recounts at the end of each
//! [`EVERY`]th program, and at the first: a process that runs one program always recounts. Measured in
//! a paired run of 200,000 random programs: 12 % for the invariants of observations, and 35 % for a
//! recount and teardown of every program.
//!
//! If both machines show the same, the invariants of an observation are checked on one of them.

pub mod hidden;
mod references;
pub mod shown;

use std::borrow::Cow;
use std::fmt;
use std::num::NonZeroU32;

use vmadiff_machine::{Event, Failure, Observation};

use crate::divergence::Class;

/// The programs of a long run for each of which hidden state is recounted once.
pub const EVERY: NonZeroU32 = NonZeroU32::new(16).unwrap();

/// A broken invariant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The class of the finding.
    pub class: Class,
    /// The rest of the signature.
    pub detail: Cow<'static, str>,
    /// The values that break the invariant, in a sentence without a full stop.
    pub text: String,
}

impl Violation {
    #[cold]
    pub(crate) fn new(class: Class, detail: &'static str, text: String) -> Violation {
        Violation { class, detail: Cow::Borrowed(detail), text }
    }

    /// The failure of a shared library that was asked for its hidden state.
    #[cold]
    pub(crate) fn failed(failure: &Failure) -> Violation {
        let detail = Cow::Owned(format!("library/{}", failure.detail()));
        Violation { class: Class::Assertion, detail, text: failure.to_string() }
    }
}

/// The machine that breaks an invariant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The left machine.
    Left,
    /// The right machine.
    Right,
    /// Both machines, or the only one.
    Both,
}

/// A broken invariant, and where it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The machine.
    pub side: Side,
    /// The values that break the invariant.
    pub text: String,
    /// The invariant holds up to the last operation. It broke when every process exited at the end.
    pub at_teardown: bool,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)?;
        if self.at_teardown { f.write_str(", after every process has exited") } else { Ok(()) }
    }
}

/// Returns the lost page that a machine reports of itself, as a violation.
#[inline]
pub(crate) fn lost_page(seen: &Observation) -> Option<Violation> {
    let lost = seen.events.iter().find(|event| matches!(event, Event::UnreachablePage { .. }))?;
    Some(Violation::new(Class::AnonVma, UNREACHABLE, lost.to_string()))
}

/// The detail of a page that is lost to the reverse map. The comparison calls it the same.
pub(crate) const UNREACHABLE: &str = "unreachable-page";
