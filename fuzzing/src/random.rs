//! Random programs without feedback: a walk through the mutator's programs.
//!
//! What a soak test runs, and what a fuzzing engine has to beat. The same seed makes the same
//! programs.

use mutatis::Session;
use vmadiff_machine::Program;
use vmadiff_machine::program::MAX_OPS;

use crate::mutate::ProgramMutator;

/// An endless walk: each program is the one before it, mutated; now and then it starts over.
pub struct Walk {
    session: Session,
    program: Program,
    /// Mutations until it starts over.
    left: usize,
}

impl Walk {
    /// The walk of that seed.
    pub fn new(seed: u64) -> Walk {
        Walk { session: Session::new().seed(seed), program: Program::default(), left: 0 }
    }

    /// The next program.
    pub fn step(&mut self) -> &Program {
        if self.left == 0 {
            self.left = 4 * MAX_OPS;
            self.program.ops.clear();
        }
        self.left -= 1;
        // The mutator fails only where nothing can be mutated; then the program stays.
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
