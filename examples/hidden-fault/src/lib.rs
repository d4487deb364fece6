//! The candidate with a fault behind branches that change nothing in the observations. Only the
//! coverage of the library itself leads a fuzzer to the fault; `ci/test-library` shows that fuzzing
//! finds it.
//!
//! It is also an example of a machine that wraps another one.

use std::hint::black_box;

use vmadiff_candidate::{Candidate, Revision};
use vmadiff_machine::{Errno, Limits, Machine, Observation, Op, Opcode};

/// The path to the fault: operations that must follow in this order, with any others between them.
/// Each operation has a branch of its own, which the optimizer cannot join with the other branches.
macro_rules! way {
    ($($at:literal $opcode:ident)*) => {
        /// The number of operations of the path.
        const LENGTH: usize = [$($at),*].len();

        /// Returns the number of operations of the path that are performed, after one more
        /// operation.
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
    /// The number of operations of the path that the program has performed.
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
