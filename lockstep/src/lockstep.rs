//! Lockstep: two machines, the same operations, and the first difference.

use vmadiff_machine::{Machine, Observation, Program};

use crate::compare::{Comparer, Scope};
use crate::divergence::Divergence;

/// Two machines that are driven together, and what they showed last.
///
/// It is made once and runs any number of programs: machines, observations and tables are reused.
pub struct Lockstep<L: Machine, R: Machine> {
    left: L,
    right: R,
    seen: (Observation, Observation),
    comparer: Comparer,
    /// Compares everything, always: what the other is checked by.
    full: Option<Comparer>,
}

impl<L: Machine, R: Machine> Lockstep<L, R> {
    /// Drives `left`, which is taken to be right, and `right`, which is judged by it.
    pub fn new(left: L, right: R) -> Lockstep<L, R> {
        Lockstep {
            left,
            right,
            seen: (Observation::default(), Observation::default()),
            comparer: Comparer::new(Scope::Models),
            full: None,
        }
    }

    /// Has every comparison made in full as well, to check the short cut by: twice the work.
    pub fn checked(mut self) -> Lockstep<L, R> {
        self.full = Some(Comparer::new(Scope::Models));
        self
    }

    /// Runs a program up to the first difference. Operations that one of the machines lacks are
    /// left out.
    pub fn run(&mut self, program: &Program) -> Option<Divergence> {
        self.run_with(program, |_, _, _| ())
    }

    /// Runs a program up to the first difference and shows `watch` each operation that was
    /// performed, by its position, with both observations.
    ///
    /// # Panics
    /// Where [checking](Lockstep::checked) finds the comparison wrong.
    pub fn run_with(
        &mut self,
        program: &Program,
        mut watch: impl FnMut(usize, &Observation, &Observation),
    ) -> Option<Divergence> {
        self.left.reset(&program.limits);
        self.right.reset(&program.limits);
        let (left, right) = (&mut self.seen.0, &mut self.seen.1);
        left.reset();
        right.reset();
        self.comparer.reset();
        if let Some(full) = &mut self.full {
            full.reset();
        }
        for (step, op) in program.ops.iter().enumerate() {
            if !self.left.has(op.opcode()) || !self.right.has(op.opcode()) {
                continue;
            }
            self.left.step(op, left);
            self.right.step(op, right);
            watch(step, left, right);
            let same = self.comparer.same(left, right);
            if let Some(full) = &mut self.full {
                assert_eq!(same, full.same_in_full(left, right), "comparing in part is wrong");
            }
            if !same {
                return Some(Divergence::of(step, op, left, right));
            }
            if left.is_fatal() {
                // Both kernels die of the same thing here: there is nothing further to compare.
                return None;
            }
        }
        None
    }

    /// What the machines showed after the last operation that was performed.
    pub fn seen(&self) -> (&Observation, &Observation) {
        (&self.seen.0, &self.seen.1)
    }

    /// The machines' names.
    pub fn names(&self) -> (&str, &str) {
        (self.left.name(), self.right.name())
    }
}
