//! What kernels after 5.2.1 are known to do differently: rules by name.

use vmadiff_machine::{Limits, Observation, Op};

/// A difference between reference and kernel.
#[derive(Clone, Copy, Debug)]
pub struct Difference<'a> {
    /// The operation after which they differ.
    pub op: &'a Op,
    /// The limits of the program.
    pub limits: &'a Limits,
    /// What the reference showed before.
    pub before: &'a Observation,
    /// What the reference shows.
    pub model: &'a Observation,
    /// What of it the kernel could show.
    pub expected: &'a Observation,
    /// What the kernel shows.
    pub shown: &'a Observation,
}

/// Something that a kernel does otherwise than 5.2.1.
#[derive(Debug)]
pub struct Rule {
    /// What it is called; its program is `corpus/kernel/NAME.txt`.
    pub name: &'static str,
    /// What is different.
    pub what: &'static str,
    /// Since which version.
    pub since: &'static str,
    /// Where that is written.
    pub cite: &'static str,
    is: fn(&Difference) -> bool,
}

impl Rule {
    /// Whether the difference is of this kind.
    pub fn explains(&self, difference: &Difference) -> bool {
        (self.is)(difference)
    }
}

/// Every rule.
pub static RULES: &[Rule] = &[];
