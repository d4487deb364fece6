//! The machines by name.

use std::env;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use vmadiff_candidate::{Candidate, Revision};
use vmadiff_faults::{FaultError, Faults, Flavour};
use vmadiff_library::{Library, LoadError};
use vmadiff_machine::{Limits, Machine, Observation, Op, Opcode};
use vmadiff_reference::Reference;

/// A machine: `reference`, `candidate:REVISION`, `candidate:fixed+FAULT`, or `lib:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineName {
    /// The original semantics, and for copies the contract.
    Reference,
    /// The kernel's code, at a revision.
    Candidate(Revision),
    /// The kernel's code at [`Revision::Fixed`], with a seeded fault: a library that is built of the
    /// patched candidate.
    Faulty {
        /// The name of the fault.
        fault: String,
        /// The patched candidate.
        library: Library,
    },
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
    /// No fault has that name, or it is not built.
    #[error(transparent)]
    Fault(#[from] FaultError),
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
            MachineName::Faulty { ref library, .. } => {
                Box::new(Named { name: self.to_string(), machine: library.machine() })
            }
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
            None => MachineName::parse(name, Library::in_process),
        }
    }

    /// The machine of the name `candidate:fixed+FAULT`, with the seeded fault `fault`.
    ///
    /// # Errors
    /// [`UnknownMachine`] where there is no such fault, or it is not built.
    pub fn faulty(fault: &str) -> Result<MachineName, UnknownMachine> {
        format!("candidate:{}+{fault}", Revision::Fixed).parse()
    }

    /// Reads every name but `lib:PATH`; `load` loads the library of a seeded fault.
    fn parse(
        name: &str,
        load: impl FnOnce(&Path) -> Result<Library, LoadError>,
    ) -> Result<MachineName, UnknownMachine> {
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
            (Revision::Fixed, Some(fault)) => {
                // The targets of `cargo fuzz` see the coverage of what was built with their flags.
                let flavour = if cfg!(fuzzing) { Flavour::Fuzz } else { Flavour::Plain };
                let library = load(&Faults::find()?.library(fault, flavour)?)?;
                Ok(MachineName::Faulty { fault: fault.to_owned(), library })
            }
            (_, Some(_)) => Err(UnknownMachine::Revision(name.to_owned())),
        }
    }
}

/// A machine under another name.
struct Named {
    name: String,
    machine: Box<dyn Machine>,
}

impl Machine for Named {
    fn name(&self) -> &str {
        &self.name
    }

    fn has(&self, opcode: Opcode) -> bool {
        self.machine.has(opcode)
    }

    fn reset(&mut self, limits: &Limits) {
        self.machine.reset(limits);
    }

    fn step(&mut self, op: &Op, seen: &mut Observation) {
        self.machine.step(op, seen);
    }
}

/// Loads a library for a process of its own: this program, started with [`LIBRARY_WORKER`].
fn isolated(path: &Path) -> Result<Library, LoadError> {
    let program = env::current_exe().unwrap_or_else(|_| "vmadiff".into());
    Library::isolated(path, &program, &[LIBRARY_WORKER])
}

impl FromStr for MachineName {
    type Err = UnknownMachine;

    /// The machine of that name; a library runs in a process of its own, so that a crash or an
    /// endless loop of the library is a finding. That process is this program, started with the
    /// subcommand [`LIBRARY_WORKER`].
    fn from_str(name: &str) -> Result<MachineName, UnknownMachine> {
        match name.strip_prefix("lib:") {
            Some("") => Err(UnknownMachine::NoPath),
            Some(path) => Ok(MachineName::Library(isolated(Path::new(path))?)),
            None => MachineName::parse(name, isolated),
        }
    }
}

impl fmt::Display for MachineName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MachineName::Reference => f.write_str("reference"),
            MachineName::Candidate(revision) => write!(f, "candidate:{}", revision.name()),
            MachineName::Faulty { fault, .. } => write!(f, "candidate:{}+{fault}", Revision::Fixed),
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
            .chain(Revision::ALL.iter().copied().map(MachineName::Candidate));
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
