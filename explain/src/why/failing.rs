//! Operations in which an allocation failed.

use vmadiff_lockstep::compare::{Comparer, Scope};
use vmadiff_lockstep::divergence::Divergence;
use vmadiff_lockstep::run::Step;
use vmadiff_machine::{Errno, Machine as _, Observation, Op};
use vmadiff_reference::Reference;

use super::Case;
use crate::results::result_text;

/// Lets the reference, which has performed `op` as if there were memory, end it as the left machine of a
/// run has ended it. `shown` is the observation of the left machine before the operation, and the step.
pub(super) fn follow(
    machine: &mut Reference,
    op: &Op,
    (before, step): (&Observation, &Step),
    reference: &mut Observation,
) {
    let Some(failed) = step.right.failed.or(step.left.failed) else { return };
    let agrees = |seen: &Observation| Comparer::new(Scope::Models).same_in_full(seen, &step.left);
    for n in 0.. {
        reference.clone_from(before);
        if !machine.step_failing(op, failed, n, reference) {
            break;
        }
        if agrees(reference) {
            return;
        }
    }
    reference.clone_from(before);
    if !machine.take_back() {
        return;
    }
    machine.step(op, reference);
    if !agrees(reference) && machine.take_back() {
        reference.clone_from(before);
        reference.begin_step();
        reference.result = Err(Errno::ENOMEM);
    }
}

impl Case<'_> {
    /// Returns the sentence for a call that has left a change which the reference does not know.
    pub(super) fn half_way(&self, divergence: &Divergence) -> String {
        let memory = self.right.failed.map_or("memory", |failed| failed.name());
        let change = divergence.signature.as_str().rsplit_once("half-way-");
        let change = change.map_or("", |(_, change)| change);
        let cite = if self.is_copy() { format!(" ({})", self.point(10)) } else { String::new() };
        format!(
            "`{}` answers {} in {} because an allocation failed ({memory}), and leaves a change: \
             {change}. It is none of the states in which {} may leave the call{cite}",
            self.op,
            result_text(self.right.result),
            self.names.1,
            self.names.0,
        )
    }
}
