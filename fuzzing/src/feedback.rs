//! The feedback for a fuzzing engine beside its own edge coverage: the situations that a program
//! has met.
//!
//! Edge coverage shows that a copy merged with its neighbour and that a source was locked. It does
//! not show that both happened in one operation. A *situation* is a short list of such facts about
//! one operation; each situation is hashed to one of [`SITUATIONS`] counters. The facts are taken
//! from the observations of the reference, so a situation means the same at every revision of the
//! candidate.

use std::sync::atomic::{AtomicU8, Ordering};

use vmadiff_machine::operand::{MAX_PROCESSES, Page, Process};
use vmadiff_machine::{Observation, Op, VmFlags, Vma};
use vmadiff_reference::CLEARED;

/// The number of counters: many more than the situations that a short run meets, and few enough to
/// be cleared and read for each program.
pub const SITUATIONS: usize = 4096;

/// One counter for each situation. A fuzz target places the counters in the section
/// `__libfuzzer_extra_counters`; libFuzzer clears them before each program.
pub type Counters = [AtomicU8; SITUATIONS];

/// Returns counters that have seen no situation.
pub const fn counters() -> Counters {
    [const { AtomicU8::new(0) }; SITUATIONS]
}

/// The flags that a copy treats specially, or that keep VMAs from merging.
const TELLING: VmFlags = CLEARED.union(VmFlags::VM_SHARED).union(VmFlags::VM_ACCOUNT);

/// The number of process families that have different counters. It is large enough that each step
/// towards a rare family is a new situation.
const FAMILIES: u32 = 1024;

/// Counts the situations of a program.
#[derive(Debug)]
pub struct Feedback {
    counters: &'static Counters,
    /// The number of VMAs of each process before the operation.
    vmas: [usize; MAX_PROCESSES],
}

impl Feedback {
    /// Returns feedback that counts in `counters`.
    pub fn new(counters: &'static Counters) -> Feedback {
        Feedback { counters, vmas: [0; MAX_PROCESSES] }
    }

    /// Begins a program.
    pub fn reset(&mut self) {
        self.vmas = [0; MAX_PROCESSES];
    }

    /// Counts the situations of the operation `op` and its observation.
    pub fn see(&mut self, op: &Op, seen: &Observation) {
        let process = usize::from(op.process().0);
        let vmas = seen.spaces[process].vmas().len();
        let grown = vmas.wrapping_sub(self.vmas[process]).wrapping_add(2).min(5) as u32;
        let opcode = op.opcode() as u32;
        let outcome = match seen.result {
            Ok(_) => 0,
            Err(error) => 1 + error as u32,
        };
        self.count([opcode, outcome, grown]);
        if seen.result.is_ok() {
            match *op {
                Op::Mremap { .. } | Op::Copy { .. } | Op::CopyVma { .. } => {
                    if let Some(to) = op.destination(seen.result) {
                        self.copied(opcode, seen, op.source_process(), op.process(), to.start);
                    }
                }
                Op::Fork { .. } => self.related(opcode, seen, Process(seen.result.unwrap_or(0))),
                Op::Touch { .. } => self.related(opcode, seen, op.process()),
                _ => {}
            }
        }
        if grown != 2 || matches!(op, Op::Fork { .. }) {
            self.neighbours(opcode, seen, op, grown);
        }
        for (before, space) in self.vmas.iter_mut().zip(&seen.spaces) {
            *before = space.vmas().len();
        }
    }

    /// Counts the facts of a move or a copy of pages: the merge, the decision on the source, the
    /// flags.
    fn copied(&self, opcode: u32, seen: &Observation, src: Process, dst: Process, to: Page) {
        let space = &seen.spaces[usize::from(dst.0)];
        let Some(vma) = space.vma_at(to) else { return };
        let answer = seen.copy.map_or(0, |copy| {
            u32::from(copy.merged)
                | u32::from(copy.source_redirected) << 1
                | u32::from(copy.need_rmap_locks) << 2
        });
        let sides = u32::from(vma.start < to) | u32::from(src != dst) << 1;
        let chain = space.chain(vma).len().min(3) as u32;
        self.count([64 + opcode, answer, sides, chain]);
        self.count([128 + opcode, answer, sides, flags(vma)]);
    }

    /// Counts the facts of a process family: the processes that share an anon_vma, and the length
    /// and equality of their chains. The order of the processes makes no difference.
    fn related(&self, opcode: u32, seen: &Observation, process: Process) {
        let space = &seen.spaces[usize::from(process.0)];
        let Some(vma) = space.vmas().first() else { return };
        let (mut sharing, mut differing, mut family) = (0, 0, 0_u32);
        for other in seen.spaces.iter().filter(|other| other.alive) {
            let Some(at) = other.vma_at(vma.start) else { continue };
            let same = at.anon_vma == vma.anon_vma;
            let alike = other.chain(at) == space.chain(vma);
            sharing += u32::from(same);
            differing += u32::from(same && !alike);
            let member = other.chain(at).len() as u32 * 4 + u32::from(same) * 2 + u32::from(alike);
            family = family.wrapping_add(hash([member]) >> 8);
        }
        let chain = space.chain(vma).len() as u32;
        let part = u32::from(vma.end.0 - vma.start.0 > 1);
        self.count([192 + opcode, sharing, differing, chain.min(3), part]);
        self.count([256 + opcode, family % FAMILIES]);
    }

    /// Counts the anonymous neighbours of a process that are kept apart by their anon_vmas, and those
    /// that have one anon_vma and different chains: where two of those merge, a page can be lost.
    fn neighbours(&self, opcode: u32, seen: &Observation, op: &Op, grown: u32) {
        let process = match op {
            Op::Fork { .. } => usize::from(seen.result.unwrap_or(op.process().0)),
            _ => usize::from(op.process().0),
        };
        let space = &seen.spaces[process % MAX_PROCESSES];
        let (mut apart, mut differing) = (0_u32, 0_u32);
        for (left, right) in space.vmas().iter().zip(space.vmas().iter().skip(1)) {
            if let (Some(a), Some(b)) = (left.anon_vma, right.anon_vma)
                && left.end == right.start
            {
                apart += u32::from(a != b);
                differing += u32::from(a == b && space.chain(left) != space.chain(right));
            }
        }
        if apart + differing > 0 {
            self.count([320 + opcode, apart.min(3), differing.min(3), grown]);
        }
    }

    fn count<const N: usize>(&self, facts: [u32; N]) {
        self.counters[hash(facts) as usize >> 20].store(1, Ordering::Relaxed);
    }
}

fn hash<const N: usize>(facts: [u32; N]) -> u32 {
    facts.iter().fold(0, |hash, fact| (hash.rotate_left(5) ^ fact).wrapping_mul(0x9e37_79b1))
}

fn flags(vma: &Vma) -> u32 {
    (vma.flags & TELLING).bits() ^ u32::from(vma.file.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machines::MachineName;
    use vmadiff_candidate::Revision;
    use vmadiff_machine::Program;

    /// Returns the number of situations that `text` meets and that the programs before it did not
    /// meet.
    fn new_situations(counters: &'static Counters, text: &str) -> usize {
        let program: Program = text.parse().expect("a program");
        let mut feedback = Feedback::new(counters);
        let mut lockstep = MachineName::Candidate(Revision::Fixed).judged();
        let known = || counters.iter().filter(|c| c.load(Ordering::Relaxed) > 0).count();
        let before = known();
        feedback.reset();
        let found =
            lockstep.run_with(&program, |step, seen, _| feedback.see(&program.ops[step], seen));
        assert!(found.is_none(), "{text}");
        known() - before
    }

    #[test]
    fn a_program_meets_what_is_new_once() {
        static COUNTERS: Counters = counters();
        let copy = "mmap 0 0 2 rw anon_private\ncopy 0 0 1 0 4 FIXED\n";
        // The copies differ by one fact each: a locked source, another process, a neighbour to
        // merge with. Each copy is a new situation, although it takes no edge that the other copies
        // leave out.
        let programs = [
            copy,
            "mmap 0 0 2 rw anon_private LOCKED\ncopy 0 0 1 0 4 FIXED\n",
            "mmap 0 0 2 rw anon_private\nfork 0\ncopy 1 0 1 0 4 FIXED\n",
            "mmap 0 0 2 rw anon_private\ncopy 0 0 1 0 4 FIXED\ncopy 0 1 1 0 5 FIXED\n",
            "mmap 0 0 2 rw anon_private\ntouch 0 0 1\nfork 0\nfork 1\n",
        ];
        for text in programs {
            assert!(new_situations(&COUNTERS, text) > 0, "{text}");
            assert_eq!(new_situations(&COUNTERS, text), 0, "{text}");
        }
        assert_eq!(new_situations(&COUNTERS, copy), 0);
    }
}
