//! The machines by name.

use std::fmt;
use std::str::FromStr;

use vmadiff_candidate::{Candidate, Fault, Revision, UnknownFault};
use vmadiff_machine::Machine;
use vmadiff_reference::Reference;

/// Which machine: `reference`, `candidate:REVISION`, or `candidate:fixed+FAULT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MachineName {
    /// The original semantics, and for copies the contract.
    Reference,
    /// The kernel's code, at a revision.
    Candidate(Revision),
    /// The kernel's code at [`Revision::Fixed`], with a fault.
    Faulty(Fault),
}

/// No machine has that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnknownMachine {
    /// It is neither `reference` nor a candidate.
    #[error("no machine is called `{0}`: expected reference, or candidate: and one of {known}", known = revisions())]
    Name(String),
    /// It is a revision that has no faults.
    #[error("no machine is called `{0}`: only candidate:fixed can have a fault")]
    Revision(String),
    /// No fault has that name.
    #[error(transparent)]
    Fault(#[from] UnknownFault),
}

fn revisions() -> String {
    Revision::ALL.iter().map(|r| r.name()).collect::<Vec<_>>().join(", ")
}

impl MachineName {
    /// A machine of that name, at the start of a program without limits.
    pub fn build(self) -> Box<dyn Machine> {
        match self {
            MachineName::Reference => Box::new(Reference::new()),
            MachineName::Candidate(revision) => Box::new(Candidate::new(revision)),
            MachineName::Faulty(fault) => Box::new(Candidate::with_fault(Revision::Fixed, fault)),
        }
    }
}

impl FromStr for MachineName {
    type Err = UnknownMachine;

    fn from_str(name: &str) -> Result<MachineName, UnknownMachine> {
        if name == "reference" {
            return Ok(MachineName::Reference);
        }
        let unknown = || UnknownMachine::Name(name.to_owned());
        let candidate = name.strip_prefix("candidate:").ok_or_else(unknown)?;
        let (revision, fault) = match candidate.split_once('+') {
            Some((revision, fault)) => (revision, Some(fault)),
            None => (candidate, None),
        };
        match (revision.parse().map_err(|_| unknown())?, fault) {
            (revision, None) => Ok(MachineName::Candidate(revision)),
            (Revision::Fixed, Some(fault)) => Ok(MachineName::Faulty(fault.parse()?)),
            (_, Some(_)) => Err(UnknownMachine::Revision(name.to_owned())),
        }
    }
}

impl fmt::Display for MachineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MachineName::Reference => f.write_str("reference"),
            MachineName::Candidate(revision) => write!(f, "candidate:{}", revision.name()),
            MachineName::Faulty(fault) => write!(f, "candidate:{}+{fault}", Revision::Fixed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_is_found_by_its_name_and_says_it() {
        let machines = std::iter::once(MachineName::Reference)
            .chain(Revision::ALL.iter().copied().map(MachineName::Candidate))
            .chain(Fault::ALL.iter().copied().map(MachineName::Faulty));
        for machine in machines {
            let name = machine.to_string();
            assert_eq!(name.parse(), Ok(machine));
            assert_eq!(machine.build().name(), name);
        }
        for name in ["", "candidate", "candidate:", "candidate:fixed+", "candidate:v2+ctx-kept"] {
            assert!(name.parse::<MachineName>().is_err(), "{name}");
        }
    }
}
