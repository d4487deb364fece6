//! The machines by name.

use std::fmt;
use std::str::FromStr;

use vmadiff_candidate::{Candidate, Revision};
use vmadiff_machine::Machine;
use vmadiff_reference::Reference;

/// Which machine: `reference`, or `candidate:REVISION`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineName {
    /// The original semantics, and for copies the contract.
    Reference,
    /// The kernel's code, at a revision.
    Candidate(Revision),
}

/// No machine has that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no machine is called `{0}`: expected reference, or candidate: and one of {known}", known = revisions())]
pub struct UnknownMachine(String);

fn revisions() -> String {
    Revision::ALL.iter().map(|r| r.name()).collect::<Vec<_>>().join(", ")
}

impl MachineName {
    /// A machine of that name, at the start of a program without limits.
    pub fn build(self) -> Box<dyn Machine> {
        match self {
            MachineName::Reference => Box::new(Reference::new()),
            MachineName::Candidate(revision) => Box::new(Candidate::new(revision)),
        }
    }
}

impl FromStr for MachineName {
    type Err = UnknownMachine;

    fn from_str(name: &str) -> Result<MachineName, UnknownMachine> {
        if name == "reference" {
            return Ok(MachineName::Reference);
        }
        name.strip_prefix("candidate:")
            .and_then(|revision| revision.parse().ok())
            .map(MachineName::Candidate)
            .ok_or_else(|| UnknownMachine(name.to_owned()))
    }
}

impl fmt::Display for MachineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MachineName::Reference => f.write_str("reference"),
            MachineName::Candidate(revision) => write!(f, "candidate:{}", revision.name()),
        }
    }
}
