//! The candidate with a fault behind branches that depend on nothing which is observed: only the
//! library's own coverage leads there. `ci/test-library` shows that fuzzing finds it.
//!
//! It is also an example of a machine that wraps another one.

use std::hint::black_box;

use vmadiff_candidate::{Candidate, Revision};
use vmadiff_machine::operand::Advice;
use vmadiff_machine::{Errno, Limits, Machine, Observation, Op, Opcode};

/// Calls of `madvise` that have to follow one another, with other operations between them, until
/// the fault shows: the advice, and the page modulo 4.
const WAY: [(Advice, u8); 4] =
    [(Advice::Sequential, 3), (Advice::Dontdump, 1), (Advice::Free, 2), (Advice::Keeponfork, 0)];

struct Hidden {
    candidate: Candidate,
    /// How many calls of the way the program has performed.
    depth: usize,
}

impl Hidden {
    /// The number of calls of the way after `op`. Each one is a branch of its own: the
    /// optimizer cannot make one comparison of them.
    fn next(&self, op: &Op) -> usize {
        let Op::Madvise { page, advice, .. } = *op else { return self.depth };
        let call = (advice.get(), page.get().0 % 4);
        match self.depth {
            0 if call == WAY[0] => black_box(1),
            1 if call == WAY[1] => black_box(2),
            2 if call == WAY[2] => black_box(3),
            3 if call == WAY[3] => black_box(4),
            depth => depth,
        }
    }
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
        self.depth = self.next(op);
        self.candidate.step(op, seen);
        if self.depth == WAY.len() {
            seen.result = Err(Errno::EPERM);
        }
    }
}

vmadiff_machine::export_machine!(Hidden { candidate: Candidate::new(Revision::Fixed), depth: 0 });
