//! Operations in which an allocation fails.
//!
//! The machine on the right lets one allocation of a program fail, and says so
//! ([`Observation::failed`]). The machine on the left does not count allocations. It is asked for the ways
//! in which the operation can end without this memory ([`Machine::step_failing`]), and goes on with the
//! first one that the right machine shows:
//!
//! 1. The operation ends in one of the left machine's own ways, which may have done a part of it.
//! 2. The operation ends as ever: the kernel tolerates the failure.
//! 3. The call answers `ENOMEM` and has changed nothing.
//!
//! The own ways come first, because they can differ from the others in what is not shown: the page cache,
//! and whether a userfaultfd context was opened.
//!
//! If the right machine shows something else, that is the finding.

use vmadiff_machine::{Allocation, Errno, Machine, Observation, Op};

use crate::compare::Comparer;
use crate::divergence::Divergence;
use crate::invariants::Side;
use crate::invariants::shown::Shown;

/// The observation of the left machine and the pairs of objects before an operation.
#[derive(Debug)]
pub(crate) struct Before {
    seen: Observation,
    comparer: Comparer,
}

vmadiff_machine::clone_by_field!(Before { seen, comparer });

impl Before {
    pub(crate) fn new(seen: &Observation, comparer: &Comparer) -> Before {
        Before { seen: seen.clone(), comparer: comparer.clone() }
    }

    /// Keeps these instead. Reuses memory.
    pub(crate) fn keep(&mut self, seen: &Observation, comparer: &Comparer) {
        self.seen.clone_from(seen);
        self.comparer.clone_from(comparer);
    }
}

/// An operation that both machines have performed, and in which an allocation failed on the right one.
pub(crate) struct Failed<'a, L> {
    pub(crate) step: usize,
    pub(crate) op: &'a Op,
    pub(crate) failed: Allocation,
    pub(crate) left: &'a mut L,
    pub(crate) seen: (&'a mut Observation, &'a Observation),
    pub(crate) comparer: &'a mut Comparer,
    pub(crate) before: &'a Before,
}

impl<L: Machine> Failed<'_, L> {
    /// Lets the left machine end the operation as the right one does.
    ///
    /// # Errors
    /// The finding that the left machine has no such way.
    #[cold]
    pub(crate) fn settle(mut self, shown: Option<&mut Shown>) -> Result<(), Divergence> {
        let ordinary = self.seen.0.clone();
        for n in 0.. {
            self.restore();
            if !self.left.step_failing(self.op, self.failed, n, self.seen.0) {
                break;
            }
            if self.same() {
                return Ok(());
            }
        }
        self.restore();
        if self.left.take_back() {
            self.left.step(self.op, self.seen.0);
            if self.same() {
                return Ok(());
            }
        }
        self.restore();
        self.seen.0.begin_step();
        self.seen.0.result = Err(Errno::ENOMEM);
        if self.left.take_back() && self.same() {
            return Ok(());
        }
        Err(self.finding(ordinary, shown))
    }

    fn same(&mut self) -> bool {
        self.comparer.same(self.seen.0, self.seen.1)
    }

    fn restore(&mut self) {
        self.seen.0.clone_from(&self.before.seen);
        self.comparer.clone_from(&self.before.comparer);
    }

    /// Returns the finding that the left machine has no way to end the operation as the right one does.
    /// A call that fails is compared with the state before it, any other with `ordinary`.
    fn finding(&mut self, ordinary: Observation, shown: Option<&mut Shown>) -> Divergence {
        let (step, op) = (self.step, self.op);
        let right = self.seen.1;
        let history = Some(self.before.comparer.pages());
        // A call that is to be refused for another reason needs no memory.
        let refused = ordinary.result.is_err_and(|errno| errno != Errno::ENOMEM);
        if right.is_fatal() || right.result.is_ok() || right.result == ordinary.result || refused {
            *self.seen.0 = ordinary;
            return Divergence::with_history(step, op, self.seen.0, right, history);
        }
        if let Some(violation) = shown.and_then(|shown| shown.check(op, right)) {
            return Divergence::broken(step, violation, Side::Right);
        }
        self.seen.0.result = right.result;
        self.comparer.clone_from(&self.before.comparer);
        if self.comparer.same(self.seen.0, right) {
            // Nothing has changed, so the error is the wrong one.
            self.seen.0.result = Err(Errno::ENOMEM);
            return Divergence::with_history(step, op, self.seen.0, right, history);
        }
        Divergence::half_way(step, op, self.seen.0, right, history)
    }
}
