//! The original kernel's semantics of an address space, as a specification.

use vmadiff_machine::{Limits, Machine, Observation, Op};

/// The specification, as a machine.
#[derive(Clone, Debug, Default)]
pub struct Reference;

impl Reference {
    /// The start of a program without limits.
    pub fn new() -> Reference {
        Reference
    }
}

impl Machine for Reference {
    fn name(&self) -> &str {
        "reference"
    }

    fn reset(&mut self, _limits: &Limits) {}

    fn step(&mut self, _op: &Op, seen: &mut Observation) {
        seen.begin_step();
    }
}
