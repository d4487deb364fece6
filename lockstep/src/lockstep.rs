//! The lockstep: runs the same operations on two machines up to the first difference.

use vmadiff_machine::{Machine, Observation, Program};

use crate::compare::{Comparer, Scope};
use crate::divergence::Divergence;

/// Two machines that are driven together, and their last observations.
///
/// One lockstep runs any number of programs, and reuses machines, observations and tables.
pub struct Lockstep<L: Machine, R: Machine> {
    left: L,
    right: R,
    seen: (Observation, Observation),
    comparer: Comparer,
    /// The full comparison, by which `comparer` is checked.
    full: Option<Comparer>,
}

impl<L: Machine, R: Machine> Lockstep<L, R> {
    /// Returns a lockstep of two machines. `left` is taken to be correct, and `right` is judged by
    /// it.
    pub fn new(left: L, right: R) -> Lockstep<L, R> {
        Lockstep {
            left,
            right,
            seen: (Observation::default(), Observation::default()),
            comparer: Comparer::new(Scope::Models),
            full: None,
        }
    }

    /// Checks every comparison by a full comparison ([`Comparer::same_in_full`]). This doubles the
    /// work of comparing.
    pub fn checked(mut self) -> Lockstep<L, R> {
        self.full = Some(Comparer::new(Scope::Models));
        self
    }

    /// Runs a program up to the first difference, and returns the divergence. Operations that one
    /// of the machines lacks are left out.
    pub fn run(&mut self, program: &Program) -> Option<Divergence> {
        self.run_with(program, |_, _, _| ())
    }

    /// Runs a program as [`Lockstep::run`] does. After each performed operation `watch` is called
    /// with the operation's position in the program and both observations.
    ///
    /// # Panics
    /// Panics if the [check](Lockstep::checked) by a full comparison finds the comparison wrong.
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
                // Neither kernel survives this operation, so nothing is left to compare.
                return None;
            }
        }
        None
    }

    /// Returns the observations of both machines after the last performed operation.
    pub fn seen(&self) -> (&Observation, &Observation) {
        (&self.seen.0, &self.seen.1)
    }

    /// Returns the names of the machines, left and right.
    pub fn names(&self) -> (&str, &str) {
        (self.left.name(), self.right.name())
    }
}
