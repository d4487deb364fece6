//! Random programs without feedback: a walk through the programs of the mutator.
//!
//! A soak test runs such a walk, and a guided fuzzer is compared with it. The same seed makes the
//! same programs.

use mutatis::Session;
use vmadiff_machine::Program;
use vmadiff_machine::program::MAX_OPS;

use crate::mutate::ProgramMutator;

/// An endless walk: each program is a mutation of the program before it. Sometimes the walk starts
/// again from an empty program.
pub struct Walk {
    session: Session,
    program: Program,
    /// The number of mutations until the walk starts again.
    left: usize,
}

impl Walk {
    /// Returns the walk of a seed.
    pub fn new(seed: u64) -> Walk {
        Walk { session: Session::new().seed(seed), program: Program::default(), left: 0 }
    }

    /// Returns the next program.
    pub fn step(&mut self) -> &Program {
        if self.left == 0 {
            self.left = 4 * MAX_OPS;
            self.program.ops.clear();
        }
        self.left -= 1;
        // The mutator fails only if no mutation applies. The program then stays unchanged.
        let _ = self.session.mutate_with(&mut ProgramMutator, &mut self.program);
        &self.program
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_is_the_same_for_the_same_seed_and_reaches_long_programs() {
        let walk = |seed| {
            let mut walk = Walk::new(seed);
            (0..1_000).map(|_| walk.step().clone()).collect::<Vec<_>>()
        };
        assert_eq!(walk(1), walk(1));
        assert_ne!(walk(1), walk(2));
        assert!(walk(1).iter().any(|program| program.ops.len() >= MAX_OPS / 2));
    }
}
