//! Failures of a machine's own code. A machine that fails gives no observation.

use std::fmt;

/// A failure of a machine that is a shared library. The failure ends the run of the program, as a
/// fatal assertion of the kernel does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The library ended its process with this signal, such as `SIGSEGV`.
    Signal(&'static str),
    /// The library ended its process with this exit status.
    Exited(i32),
    /// An operation did not return within the time limit.
    TimedOut,
    /// `vmadiff_new()` returned a null pointer.
    NoMachine,
    /// The process that runs the library could not be started, or closed its pipes.
    NoWorker,
    /// The observation breaks a rule of the C interface.
    Nonsense(Nonsense),
}

impl Failure {
    /// Returns the last part of the signature `assertion/library/…`.
    pub fn detail(&self) -> String {
        match self {
            Failure::Signal(name) => (*name).to_owned(),
            Failure::Exited(_) => "exited".into(),
            Failure::TimedOut => "timed-out".into(),
            Failure::NoMachine => "no-machine".into(),
            Failure::NoWorker => "no-worker".into(),
            Failure::Nonsense(Nonsense { field, .. }) => format!("bad-{field}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Signal(name) => write!(f, "it ended with {name}"),
            Failure::Exited(status) => write!(f, "it ended its process with exit status {status}"),
            Failure::TimedOut => f.write_str("the operation did not return within the time limit"),
            Failure::NoMachine => f.write_str("vmadiff_new() gave no machine"),
            Failure::NoWorker => f.write_str("the process that runs it could not be started"),
            Failure::Nonsense(nonsense) => nonsense.fmt(f),
        }
    }
}

/// A field of an observation that breaks a rule of the C interface (`include/vmadiff.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}{field} is {value}: expected {expected}")]
pub struct Nonsense {
    /// The part of the observation that has the field.
    pub place: Place,
    /// The field's name in the header.
    pub field: &'static str,
    /// The value that the library wrote; −1 for a text, and for a number that was not written.
    pub value: i64,
    /// The values that the rule allows.
    pub expected: &'static str,
}

/// A part of an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The fields of the observation itself, outside events and address spaces.
    Head,
    /// An event, by its position, counted from 0.
    Event(u32),
    /// A message to a monitor, by its position, counted from 0.
    Message(u32),
    /// The hidden state.
    Hidden,
    /// The address space of a process.
    Space(u8),
    /// A VMA of a process, by its position, counted from 0.
    Vma(u8, u32),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Head => Ok(()),
            Place::Hidden => f.write_str("hidden state: "),
            Place::Message(message) => write!(f, "message {message}: "),
            Place::Event(event) => write!(f, "event {event}: "),
            Place::Space(process) => write!(f, "process {process}: "),
            Place::Vma(process, vma) => write!(f, "process {process}, VMA {vma}: "),
        }
    }
}
