//! The extended `copy_vma()` and the call built on it, in the kernel's shape, at a chosen
//! [`Revision`].

mod revision;

pub use revision::{Revision, UnknownRevision};
use vmadiff_machine::{Errno, Limits, Machine, Observation, Op, Opcode};

/// The candidate at one revision.
#[derive(Clone, Debug)]
pub struct Candidate {
    revision: Revision,
}

impl Candidate {
    /// The candidate that follows `revision`.
    pub fn new(revision: Revision) -> Candidate {
        Candidate { revision }
    }

    /// The revision it follows.
    pub fn revision(&self) -> Revision {
        self.revision
    }
}

impl Machine for Candidate {
    fn name(&self) -> &str {
        self.revision.machine_name()
    }

    fn has(&self, opcode: Opcode) -> bool {
        self.revision != Revision::Original || !matches!(opcode, Opcode::Copy | Opcode::CopyVma)
    }

    fn reset(&mut self, _limits: &Limits) {}

    fn step(&mut self, _op: &Op, seen: &mut Observation) {
        seen.begin_step();
        seen.result = Err(Errno::ENOSYS);
    }
}
