//! The machines by name.

use std::env;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use vmadiff_candidate::{Candidate, Fault, Revision, UnknownFault};
use vmadiff_library::{Library, LoadError};
use vmadiff_machine::Machine;
use vmadiff_reference::Reference;

/// A machine: `reference`, `candidate:REVISION`, `candidate:fixed+FAULT`, or `lib:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineName {
    /// The original semantics, and for copies the contract.
    Reference,
    /// The kernel's code, at a revision.
    Candidate(Revision),
    /// The kernel's code at [`Revision::Fixed`], with a fault.
    Faulty(Fault),
    /// A shared library with the C interface `vmadiff.h`.
    Library(Library),
}

/// The hidden subcommand of `vmadiff` that runs a library for another `vmadiff`.
pub const LIBRARY_WORKER: &str = "library-worker";

/// No machine has that name.
#[derive(Debug, thiserror::Error)]
pub enum UnknownMachine {
    /// It is neither `reference` nor a candidate.
    #[error("no machine is called `{0}`: expected reference, lib:PATH, or candidate: and one of {known}", known = revisions())]
    Name(String),
    /// It is a revision that has no faults.
    #[error("no machine is called `{0}`: only candidate:fixed can have a fault")]
    Revision(String),
    /// No fault has that name.
    #[error(transparent)]
    Fault(#[from] UnknownFault),
    /// It names no library.
    #[error("`lib:` names no file: expected lib:PATH")]
    NoPath,
    /// The file is not a machine.
    #[error(transparent)]
    Library(#[from] LoadError),
}

fn revisions() -> String {
    Revision::ALL.iter().map(|r| r.name()).collect::<Vec<_>>().join(", ")
}

impl MachineName {
    /// A machine of that name, at the start of a program without limits.
    pub fn build(&self) -> Box<dyn Machine> {
        match *self {
            MachineName::Reference => Box::new(Reference::new()),
            MachineName::Candidate(revision) => Box::new(Candidate::new(revision)),
            MachineName::Faulty(fault) => Box::new(Candidate::with_fault(Revision::Fixed, fault)),
            MachineName::Library(ref library) => library.machine(),
        }
    }

    /// The machine of that name; a library runs in this process. For fuzz targets and benchmarks:
    /// a crash of the library is a crash of the process. A path is relative to `folder`.
    ///
    /// # Errors
    /// [`UnknownMachine`] where no machine has that name, or the file is not a machine.
    pub fn in_process(name: &str, folder: &Path) -> Result<MachineName, UnknownMachine> {
        match name.strip_prefix("lib:") {
            Some("") => Err(UnknownMachine::NoPath),
            Some(path) => Ok(MachineName::Library(Library::in_process(&folder.join(path))?)),
            None => name.parse(),
        }
    }
}

impl FromStr for MachineName {
    type Err = UnknownMachine;

    /// The machine of that name; a library runs in a process of its own, so that a crash or an
    /// endless loop of the library is a finding. That process is this program, started with the
    /// subcommand [`LIBRARY_WORKER`].
    fn from_str(name: &str) -> Result<MachineName, UnknownMachine> {
        if name == "reference" {
            return Ok(MachineName::Reference);
        }
        if let Some(path) = name.strip_prefix("lib:") {
            if path.is_empty() {
                return Err(UnknownMachine::NoPath);
            }
            let program = env::current_exe().unwrap_or_else(|_| "vmadiff".into());
            let library = Library::isolated(Path::new(path), &program, &[LIBRARY_WORKER])?;
            return Ok(MachineName::Library(library));
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
            MachineName::Library(library) => write!(f, "lib:{}", library.path().display()),
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
            assert_eq!(machine.build().name(), name);
            assert_eq!(name.parse::<MachineName>().ok(), Some(machine));
        }
        for name in [
            "",
            "candidate",
            "candidate:",
            "candidate:fixed+",
            "candidate:v2+ctx-kept",
            "lib:",
            "lib:none",
        ] {
            assert!(name.parse::<MachineName>().is_err(), "{name}");
        }
    }
}
