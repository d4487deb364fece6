//! The candidate with a fault behind branches that depend on nothing which is observed: only the
//! library's own coverage leads there. `ci/test-library` shows that fuzzing finds it.
//!
//! It is also an example of a machine that wraps another one.

use std::hint::black_box;

use vmadiff_candidate::{Candidate, Revision};
use vmadiff_machine::{Errno, Limits, Machine, Observation, Op, Opcode};

/// The operations that have to follow one another, with others between them, until the fault shows.
/// For each one there is a branch of its own: the optimizer cannot make one comparison of them.
macro_rules! way {
    ($($at:literal $opcode:ident)*) => {
        /// The number of operations of the way.
        const LENGTH: usize = [$($at),*].len();

        /// The number of operations of the way that are performed, after one more operation.
        fn next(depth: usize, opcode: Opcode) -> usize {
            match depth {
                $($at if opcode == Opcode::$opcode => black_box($at + 1),)*
                depth => depth,
            }
        }
    };
}

way! {
    0 Mlock 1 Mbind 2 UffdRegister 3 Munlock 4 Touch 5 UffdUnregister 6 Mprotect 7 Mbind 8 Madvise
    9 Munlock 10 Mremap 11 Mlock
}

struct Hidden {
    candidate: Candidate,
    /// How many operations of the way the program has performed.
    depth: usize,
}

impl Machine for Hidden {
    fn name(&self) -> &str {
        "hidden-fault"
    }

    fn has(&self, opcode: Opcode) -> bool {
        self.candidate.has(opcode)
    }

    fn reset(&mut self, limits: &Limits) {
        self.candidate.reset(limits);
        self.depth = 0;
    }

    fn step(&mut self, op: &Op, seen: &mut Observation) {
        self.depth = next(self.depth, op.opcode());
        self.candidate.step(op, seen);
        if self.depth == LENGTH {
            seen.result = Err(Errno::EPERM);
        }
    }
}

vmadiff_machine::export_machine!(Hidden { candidate: Candidate::new(Revision::Fixed), depth: 0 });
