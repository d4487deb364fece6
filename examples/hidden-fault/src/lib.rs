//! The candidate with a fault behind branches that depend on nothing which is observed: only the
//! library's own coverage leads there. `ci/test-library` shows that fuzzing finds it.
//!
//! It is also an example of a machine that wraps another one.

use std::hint::black_box;

use vmadiff_candidate::{Candidate, Revision};
use vmadiff_machine::operand::{Len, Page, Process};
use vmadiff_machine::{Errno, Limits, Machine, Observation, Op, Opcode};

/// Operations that have to follow one another, with others between them, until the fault shows.
const WAY: [(Page, Len); 5] = [
    (Page(41), Len(7)),
    (Page(3), Len(22)),
    (Page(58), Len(2)),
    (Page(19), Len(13)),
    (Page(30), Len(5)),
];

struct Hidden {
    candidate: Candidate,
    /// How many operations of the way the program has performed.
    depth: usize,
}

impl Hidden {
    /// The number of operations of the way after `op`. Each one is a branch of its own: the
    /// optimizer cannot make one comparison of them.
    fn next(&self, op: &Op) -> usize {
        let Op::Munmap { process, page, len } = *op else { return self.depth };
        let range = (page.get(), len.get());
        if process.get() != Process(0) {
            return self.depth;
        }
        match self.depth {
            0 if range == WAY[0] => black_box(1),
            1 if range == WAY[1] => black_box(2),
            2 if range == WAY[2] => black_box(3),
            3 if range == WAY[3] => black_box(4),
            4 if range == WAY[4] => black_box(5),
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
