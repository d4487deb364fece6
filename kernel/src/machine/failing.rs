//! The running kernel with failing allocations.

use vmadiff_lockstep::compare::{Comparer, Scope};
use vmadiff_lockstep::divergence::Divergence;
use vmadiff_machine::{Errno, Observation, Op};

use super::Kernel;
use crate::error::KernelError;
use crate::inject::{self, Effect, Injection, MAX_FAILURES, Tolerance};

impl Kernel {
    /// Repeats each operation with failing allocations, or not, from now on.
    ///
    /// # Errors
    /// Returns an error if the kernel cannot let allocations fail.
    pub fn set_injection(&mut self, inject: bool) -> Result<(), KernelError> {
        self.injection =
            inject.then(|| inject::prepare().map(|()| Injection::default())).transpose()?;
        // A call that is repeated sends its messages again.
        if inject {
            self.had_events = std::mem::take(&mut self.facilities.events);
        } else {
            self.facilities.events |= std::mem::take(&mut self.had_events);
        }
        Ok(())
    }

    /// Returns the counts of failing allocations, and their effect on the last operation.
    pub fn injection(&self) -> Option<&Injection> {
        self.injection.as_ref()
    }

    /// Performs `op` again and again while its first, second, … allocation fails, until no allocation
    /// fails or the call succeeds anyway.
    pub(super) fn perform_failing(
        &mut self,
        op: &Op,
        before: &Observation,
    ) -> Result<(Result<u8, Errno>, u8), KernelError> {
        let mut effect = Effect::default();
        for nth in 1..=MAX_FAILURES {
            self.failing = nth;
            let performed = self.perform(op, before);
            self.failing = 0;
            effect.failed = self.failed;
            let (result, changed) = match performed {
                // An error that no other call returns, such as ENOSPC of shared memory.
                Err(KernelError::Answer(_)) if self.failed => {
                    (Err(Errno::ENOMEM), 1 << op.process().0)
                }
                performed => performed?,
            };
            if self.failed && result.is_err() && self.ended.is_none() {
                let mut after = before.clone();
                after.begin_step();
                self.observe(changed, &mut after)?;
                // The results are of different operations.
                let mut before = before.clone();
                (before.result, after.result) = (Ok(0), Ok(0));
                (before.read, after.read) = (None, None);
                if !Comparer::new(Scope::Models).same_in_full(&before, &after) {
                    let difference = Divergence::of(0, op, &before, &after);
                    match Tolerance::of_failed(op, &difference) {
                        Some(left) => effect.left = Some(left),
                        None => effect.wrong = Some(difference.signature.to_string()),
                    }
                }
            }
            if let Some(injection) = &mut self.injection {
                injection.count(op, &effect, result.is_ok());
                // A call that waits does not tell whether an allocation failed.
                effect.failed |= self.ended.is_some();
                injection.last = effect.clone();
            }
            if !self.failed || result.is_ok() || effect.wrong.is_some() || self.ended.is_some() {
                return Ok((result, changed));
            }
        }
        self.perform(op, before)
    }
}
