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
//! If the right machine shows something else, that is the finding. If more than one way shows the same,
//! and the first one leads to a finding later, the program runs again with the next one: see
//! [`Lockstep::run_with`](crate::Lockstep::run_with).

use vmadiff_machine::{AddressSpace, Allocation, Errno, Machine, Observation, Op, Vma};

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
    /// How many of the ways that show the same are passed over.
    pub(crate) passed_over: usize,
}

impl<L: Machine> Failed<'_, L> {
    /// Lets the left machine end the operation as the right one does, after `passed_over` ways that do.
    ///
    /// # Errors
    /// The finding that the left machine has no such way, or no further one.
    #[cold]
    pub(crate) fn settle(&mut self, shown: Option<&mut Shown>) -> Result<(), Divergence> {
        let mut ways = vec![self.seen.0.clone()];
        for n in 0.. {
            self.restore();
            if !self.left.step_failing(self.op, self.failed, n, self.seen.0) {
                break;
            }
            if self.same() {
                return Ok(());
            }
            ways.push(self.seen.0.clone());
        }
        self.restore();
        if self.left.take_back() {
            self.left.step(self.op, self.seen.0);
        } else {
            // The left machine lets the allocation fail itself, or does not know of it.
            self.seen.0.clone_from(&ways[0]);
        }
        if self.same() {
            return Ok(());
        }
        self.restore();
        self.seen.0.begin_step();
        self.seen.0.result = Err(Errno::ENOMEM);
        let is_back = self.left.take_back();
        if is_back && self.same() {
            return Ok(());
        }
        Err(self.finding(ways, is_back, shown))
    }

    /// Returns whether the machines show the same in a way that is not to be passed over.
    fn same(&mut self) -> bool {
        let same = self.comparer.same(self.seen.0, self.seen.1);
        let passed_over = same && self.passed_over > 0;
        self.passed_over -= usize::from(passed_over);
        same && !passed_over
    }

    fn restore(&mut self) {
        self.seen.0.clone_from(&self.before.seen);
        self.comparer.clone_from(&self.before.comparer);
    }

    /// Returns the finding that the left machine has no way to end the operation as the right one does.
    /// It is the difference from the way that comes closest; from no change, if the call fails and no way
    /// comes closer. The first of `ways` is that of an operation which gets its memory. The left machine
    /// now shows a call that has changed nothing.
    fn finding(
        &mut self,
        ways: Vec<Observation>,
        is_back: bool,
        shown: Option<&mut Shown>,
    ) -> Divergence {
        let (step, op) = (self.step, self.op);
        let right = self.seen.1;
        let history = Some(self.before.comparer.pages());
        let ordinary = ways.first().map_or(Ok(0), |seen| seen.result);
        // A call that is to be refused for another reason needs no memory. A machine that cannot take the
        // call back has one way.
        let refused = !is_back || ordinary.is_err_and(|errno| errno != Errno::ENOMEM);
        if !right.is_fatal()
            && !refused
            && let Some(violation) = shown.and_then(|shown| shown.check(op, right))
        {
            return Divergence::broken(step, violation, Side::Right);
        }
        let unchanged = closeness(self.seen.0, right);
        let fails = right.result.is_err();
        // An event that the kernel does not survive has the same name as where no allocation fails.
        let whole = refused || right.is_fatal();
        let ways = ways.into_iter().take(if refused { 1 } else { usize::MAX });
        let like = |seen: &Observation| whole || !fails || seen.result.is_err();
        let closest = ways.rev().filter(like).max_by_key(|seen| closeness(seen, right));
        let is_closer = |seen: &Observation| closeness(seen, right) >= unchanged + u8::from(fails);
        match closest {
            Some(closest) if whole || is_closer(&closest) => {
                *self.seen.0 = closest;
                Divergence::with_history(step, op, self.seen.0, right, history)
            }
            _ if self.seen.0.result == right.result => {
                Divergence::half_way(step, op, self.seen.0, right, history)
            }
            _ => Divergence::with_history(step, op, self.seen.0, right, history),
        }
    }
}

/// Returns how much of two observations agrees: the edges of VMAs and the anonymous memory, and then the
/// result.
fn closeness(left: &Observation, right: &Observation) -> u8 {
    let all = |same: fn(&AddressSpace, &AddressSpace) -> bool| {
        left.spaces.iter().zip(&right.spaces).all(|(l, r)| same(l, r))
    };
    let edges = all(|l, r| l.vmas().iter().map(Vma::range).eq(r.vmas().iter().map(Vma::range)));
    let anonymous = all(|l, r| {
        let has =
            |space: &AddressSpace| space.vmas().iter().filter(|v| v.anon_vma.is_some()).count();
        (l.anon_pages, l.zero_pages, has(l)) == (r.anon_pages, r.zero_pages, has(r))
    });
    2 * u8::from(edges) + 2 * u8::from(anonymous) + u8::from(left.result == right.result)
}
