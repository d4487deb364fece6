//! The names of the machines.

use std::env;
use std::fmt;
use std::path::Path;
use std::str::FromStr;

use vmadiff_candidate::{Candidate, Revision};
use vmadiff_faults::{FaultError, Faults, Flavour};
use vmadiff_library::{Library, LoadError};
use vmadiff_lockstep::known::Known;
use vmadiff_lockstep::lockstep::Lockstep;
use vmadiff_machine::{Failure, Hidden, Limits, Machine, Observation, Op, Opcode, Quote, State};
use vmadiff_reference::later::Rules;
use vmadiff_reference::{MENDED, Reference};

/// A machine: `reference`, `reference+RULE`, `candidate:REVISION`, `candidate:fixed+FAULT`, or
/// `lib:PATH`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MachineName {
    /// The original semantics, and for copies the contract; with these rules of later kernels.
    Reference(Rules),
    /// The kernel's code, at a revision.
    Candidate(Revision),
    /// The candidate at [`Revision::Fixed`] with a seeded fault: a library that is built from the
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

/// The hidden subcommand of `vmadiff` that runs a library in a process of its own for another
/// `vmadiff`.
pub const LIBRARY_WORKER: &str = "library-worker";

/// The error of a name that is no machine's.
#[derive(Debug, thiserror::Error)]
pub enum UnknownMachine {
    /// The name is neither `reference` nor a candidate's.
    #[error("no machine is called {}: expected reference, lib:PATH, or candidate: and one of {known}", Quote(.0), known = revisions())]
    Name(String),
    /// The name has a fault at a revision other than `fixed`.
    #[error("no machine is called {}: only candidate:fixed can have a fault", Quote(.0))]
    Revision(String),
    /// It names a rule of later kernels that there is not.
    #[error(
        "no rule of later kernels is called {}: `vmadiff kernel --probe` lists the rules; + joins them",
        Quote(.0)
    )]
    Rule(String),
    /// No fault has that name, or it is not built.
    #[error(transparent)]
    Fault(#[from] FaultError),
    /// The name has no path of a library.
    #[error("`lib:` names no file: expected lib:PATH")]
    NoPath,
    /// The library cannot be loaded, or it is not a machine.
    #[error(transparent)]
    Library(#[from] LoadError),
}

fn revisions() -> String {
    Revision::ALL.iter().map(|r| r.name()).collect::<Vec<_>>().join(", ")
}

/// Two machines of any kind in lockstep.
pub type Machines = Lockstep<Box<dyn Machine>, Box<dyn Machine>>;

/// The reference of Linux 5.2.1.
pub const REFERENCE: MachineName = MachineName::Reference(Rules::NONE);

impl MachineName {
    /// Returns the machine that judges this one, where nobody names another: the reference of the
    /// kernel that the machine is a version of. `candidate:fixed`, with a fault or without, has two
    /// fixes of later kernels that the contract needs ([`MENDED`]); every other machine is taken for
    /// Linux 5.2.1.
    pub fn judge(&self) -> MachineName {
        match self {
            MachineName::Candidate(Revision::Fixed) | MachineName::Faulty { .. } => {
                MachineName::Reference(MENDED)
            }
            _ => REFERENCE,
        }
    }

    /// Returns the list of what the machine is known to do wrong: for `candidate:original`, what Linux
    /// 5.2.1 does wrong. Empty for every other machine.
    pub fn known(&self) -> Known {
        const ORIGINAL: &str = include_str!("known-original.txt");
        match self {
            // A test reads the list as well.
            MachineName::Candidate(Revision::Original) => {
                Known::parse(ORIGINAL).unwrap_or_default()
            }
            _ => Known::default(),
        }
    }

    /// Returns this machine beside its [judge](MachineName::judge).
    pub fn judged(&self) -> Machines {
        Lockstep::new(self.judge().build(), self.build())
    }

    /// A machine of that name, at the start of a program without limits.
    pub fn build(&self) -> Box<dyn Machine> {
        match *self {
            MachineName::Reference(rules) => Box::new(Reference::with_rules(rules)),
            MachineName::Candidate(revision) => Box::new(Candidate::new(revision)),
            MachineName::Faulty { ref library, .. } => {
                Box::new(Named { name: self.to_string(), machine: library.machine() })
            }
            MachineName::Library(ref library) => library.machine(),
        }
    }

    /// Returns the machine of this name. A library runs in this process, so a crash of the library
    /// is a crash of the process: fuzz targets and benchmarks use it so. A path is relative to
    /// `folder`.
    ///
    /// # Errors
    /// [`UnknownMachine`] if no machine has this name, or if the file is not a machine.
    pub fn in_process(name: &str, folder: &Path) -> Result<MachineName, UnknownMachine> {
        match name.strip_prefix("lib:") {
            Some("") => Err(UnknownMachine::NoPath),
            Some(path) => Ok(MachineName::Library(Library::in_process(&folder.join(path))?)),
            None => MachineName::parse(name, Library::in_process),
        }
    }

    /// Returns the machine `candidate:fixed+FAULT` for the seeded fault `fault`.
    ///
    /// # Errors
    /// [`UnknownMachine`] if there is no such fault, or if it is not built.
    pub fn faulty(fault: &str) -> Result<MachineName, UnknownMachine> {
        format!("candidate:{}+{fault}", Revision::Fixed).parse()
    }

    /// Reads a name, except `lib:PATH`. `load` loads the library of a seeded fault.
    fn parse(
        name: &str,
        load: impl FnOnce(&Path) -> Result<Library, LoadError>,
    ) -> Result<MachineName, UnknownMachine> {
        if let Some(reference) = Reference::named(name) {
            return Ok(MachineName::Reference(reference.rules()));
        }
        if let Some(rules) = name.strip_prefix("reference+") {
            return Err(UnknownMachine::Rule(rules.to_owned()));
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
                // A target of `cargo fuzz` sees the coverage of a library that was built with its
                // flags.
                let flavour = if cfg!(fuzzing) { Flavour::Fuzz } else { Flavour::Plain };
                let library = load(&Faults::find()?.library(fault, flavour)?)?;
                Ok(MachineName::Faulty { fault: fault.to_owned(), library })
            }
            (_, Some(_)) => Err(UnknownMachine::Revision(name.to_owned())),
        }
    }
}

/// A machine that shows another name.
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

    fn show_hidden(&mut self, hidden: &mut Hidden) -> Result<bool, Failure> {
        self.machine.show_hidden(hidden)
    }

    fn write_state(&self, state: &mut State) -> bool {
        self.machine.write_state(state)
    }

    fn save(&mut self) -> bool {
        self.machine.save()
    }

    fn restore(&mut self) {
        self.machine.restore();
    }
}

/// Loads a library to run in a process of its own: this program, started with [`LIBRARY_WORKER`].
fn isolated(path: &Path) -> Result<Library, LoadError> {
    let program = env::current_exe().unwrap_or_else(|_| "vmadiff".into());
    Library::isolated(path, &program, &[LIBRARY_WORKER])
}

impl FromStr for MachineName {
    type Err = UnknownMachine;

    /// Reads the name of a machine. A library runs in a process of its own, so that a crash or an
    /// endless loop of the library is a finding. The process is this program, started with the
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
            MachineName::Reference(rules) => f.write_str(Reference::with_rules(*rules).name()),
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
        let machines = [REFERENCE, MachineName::Reference(MENDED)]
            .into_iter()
            .chain(Revision::ALL.iter().copied().map(MachineName::Candidate));
        for machine in machines {
            let name = machine.to_string();
            assert_eq!(machine.build().name(), name);
            assert_eq!(name.parse::<MachineName>().ok(), Some(machine));
        }
        for name in [
            "",
            "candidate",
            "reference+",
            "reference+no-rule",
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
