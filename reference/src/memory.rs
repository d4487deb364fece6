//! Memory that an operation does not get.
//!
//! The reference does not count allocations. It says at which places a call of Linux 5.2.1 needs memory
//! of which kind, and how the call ends without it. The lockstep asks for these ends one after the other
//! ([`Machine::step_failing`](vmadiff_machine::Machine::step_failing)).

use std::cell::Cell;

use vmadiff_machine::operand::Mode;
use vmadiff_machine::{Allocation, Errno};

use crate::chain::Chain;
use crate::function::Function;
use crate::mm::Syscall;
use crate::refusal::{Refusal, Rule};
use crate::vma::Vma;

/// The memory that the operation does not get; none but while the lockstep asks.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory {
    short_of: Option<Allocation>,
    /// The places that still get memory of that kind; `None` after the place that did not get it.
    before: Cell<Option<u32>>,
}

impl Memory {
    /// The operation does not get memory of this kind at the `place`th place that needs it, counted
    /// from 0.
    pub(crate) fn fail(&mut self, what: Allocation, place: u32) {
        *self = Memory { short_of: Some(what), before: Cell::new(Some(place)) };
    }

    /// The operations from now on get all memory. Returns whether the last one had the place that did
    /// not get it.
    pub(crate) fn recover(&mut self) -> bool {
        let reached = self.before.get().is_none();
        *self = Memory::default();
        reached
    }

    /// Returns whether this is the place that does not get its memory. It needs memory of the kinds
    /// for which `needs` holds.
    #[inline]
    pub(crate) fn is_short_of(&self, needs: impl FnOnce(Allocation) -> bool) -> bool {
        self.short_of.is_some_and(|what| self.count(needs(what)))
    }

    #[cold]
    fn count(&self, needed: bool) -> bool {
        match self.before.get() {
            Some(0) if needed => {
                self.before.set(None);
                true
            }
            Some(more) if needed => {
                self.before.set(Some(more - 1));
                false
            }
            _ => false,
        }
    }
}

impl Vma {
    /// Returns whether a duplicate of the VMA needs memory of this kind: for itself, for a policy, or
    /// for the entries of its chain.
    pub(crate) fn duplicate_needs(&self, what: Allocation) -> bool {
        match what {
            Allocation::Vma => true,
            Allocation::Policy => self.policy != Mode::Default,
            Allocation::ChainEntry => self.chain != Chain::EMPTY,
            _ => false,
        }
    }
}

impl Syscall<'_> {
    /// Gets memory on behalf of the kernel function `function`, of the kinds for which `needs` holds.
    ///
    /// # Errors
    /// `ENOMEM` where there is none.
    #[inline]
    pub(crate) fn get_memory(
        &self,
        function: Function,
        needs: impl FnOnce(Allocation) -> bool,
    ) -> Result<(), Refusal> {
        match self.memory.is_short_of(needs) {
            true => self.refuse(Errno::ENOMEM, function, Rule::NoMemory),
            false => Ok(()),
        }
    }
}
