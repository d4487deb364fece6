//! Allocations, one of which can fail.

use vmadiff_machine::{Allocation, Errno, Limits};

use crate::kernel::Kernel;
use crate::stop::Stop;

/// The allocations of a program, counted down to the one that fails.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// The allocations up to and with the one that fails. Without such an allocation the number
    /// wraps, and no program makes enough allocations to count it down again.
    left: u32,
    /// The allocation that has failed in the operation.
    pub(crate) failed: Option<Allocation>,
}

impl Memory {
    /// Returns the count at the start of a program.
    pub(crate) fn new(limits: &Limits) -> Memory {
        Memory { left: limits.fail.map_or(0, u32::from), failed: None }
    }

    /// Returns the allocations up to the one that fails; 0 where none is to fail any more.
    pub(crate) fn left(self) -> u8 {
        u8::try_from(self.left).unwrap_or(0)
    }
}

impl Kernel {
    /// Asks for memory, or charges memory.
    ///
    /// # Errors
    /// `ENOMEM` for the allocation of the program that is to fail.
    #[inline]
    pub(crate) fn allocate(&mut self, what: Allocation) -> Result<(), Stop> {
        self.memory.left = self.memory.left.wrapping_sub(1);
        if self.memory.left == 0 { self.out_of_memory(what) } else { Ok(()) }
    }

    #[cold]
    fn out_of_memory(&mut self, what: Allocation) -> Result<(), Stop> {
        self.memory.failed = Some(what);
        Err(Errno::ENOMEM.into())
    }
}
