//! Failing allocations: an operation is repeated while its first, second, … allocation fails, until
//! no allocation fails any more (`/proc/self/fail-nth`, Documentation/fault-injection).
//!
//! A call that fails must change nothing but what the kernel is known to tolerate, and so must a call
//! that succeeds although an allocation failed. Each such change is a [`Tolerance`].

use std::fmt;
use std::fs;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags};
use vmadiff_lockstep::divergence::{Class, Divergence};
use vmadiff_machine::{Op, Opcode};

use crate::error::KernelError;

/// The most failures of one operation.
pub(crate) const MAX_FAILURES: u8 = 200;

/// A change by a call in which an allocation failed, which the kernel is known to tolerate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tolerance {
    /// A failed call leaves the cuts that it made: VMAs are not joined again.
    Cuts,
    /// A failed call over several VMAs leaves the first ones changed.
    Part,
    /// A failed `mmap`, `mremap`, `shmat` or `copy` leaves the destination unmapped.
    Unmaps,
    /// Populating locked memory fails silently.
    Populate,
    /// A move that cannot unmap its source leaves it mapped.
    Source,
    /// A merge that needs memory is not made.
    Merge,
}

impl Tolerance {
    /// Returns the name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Tolerance::Cuts => "fail-cuts",
            Tolerance::Part => "fail-part",
            Tolerance::Unmaps => "fail-unmaps",
            Tolerance::Populate => "fail-populate",
            Tolerance::Source => "fail-source",
            Tolerance::Merge => "fail-merge",
        }
    }

    /// Returns the tolerance that explains the state after a failed call; the difference is from the
    /// state before the call.
    pub(crate) fn of_failed(op: &Op, difference: &Divergence) -> Option<Tolerance> {
        use Opcode::{
            Copy, Madvise, Mbind, Mlock, Mmap, Mprotect, Mremap, Mseal, Munlock, Munmap, Shmat,
            UffdRegister, UffdRegisterWp,
        };
        let detail = difference.signature.as_str();
        match (op.opcode(), difference.class) {
            (_, Class::Merge) => Some(Tolerance::Cuts),
            (Copy | Mmap | Mremap | Shmat, Class::Layout) if detail.ends_with("/not-mapped") => {
                Some(Tolerance::Unmaps)
            }
            (Munmap, Class::Layout) => Some(Tolerance::Part),
            (
                Madvise | Mbind | Mlock | Mprotect | Mseal | Munlock | UffdRegister
                | UffdRegisterWp,
                Class::Flags,
            ) => Some(Tolerance::Part),
            // Locked pages stay there.
            (Mlock | Mmap | Mremap, Class::AnonVma) => Some(Tolerance::Populate),
            _ => None,
        }
    }

    /// Returns the tolerance that explains a difference after a call of the program populated less than
    /// it should, silently: pages and anon_vmas are missing, so that other VMAs merge.
    pub(crate) fn of_missing_pages(difference: &Divergence) -> Option<Tolerance> {
        use Class::{Accounting, AnonVma, Merge, Offset};
        matches!(difference.class, Accounting | AnonVma | Merge | Offset)
            .then_some(Tolerance::Populate)
    }

    /// Returns the tolerance that explains the state after a call that succeeded although an
    /// allocation failed; the difference is from the reference.
    pub(crate) fn of_succeeded(op: &Op, difference: &Divergence) -> Option<Tolerance> {
        let detail = difference.signature.as_str();
        match (op.opcode(), difference.class) {
            (_, Class::Merge) if detail.ends_with("/not-merged") => Some(Tolerance::Merge),
            // Without `uffd-offset` a merge gives the VMA another page offset.
            (
                Opcode::UffdRegister | Opcode::UffdRegisterWp | Opcode::UffdUnregister,
                Class::Offset,
            ) => Some(Tolerance::Merge),
            (_, Class::AnonVma) if detail.ends_with("/pages-lost") => Some(Tolerance::Populate),
            (Opcode::Mremap, Class::Layout) if detail.ends_with("/still-mapped") => {
                Some(Tolerance::Source)
            }
            _ => None,
        }
    }
}

impl fmt::Display for Tolerance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The effect of failing allocations on one operation.
#[derive(Clone, Debug, Default)]
pub struct Effect {
    /// An allocation failed in the last call, which succeeded or was refused for another reason.
    pub failed: bool,
    /// A failed call left this change.
    pub left: Option<Tolerance>,
    /// A failed call left a change that the kernel should not leave: its signature.
    pub wrong: Option<String>,
}

/// The counts of failing allocations.
#[derive(Clone, Debug, Default)]
pub struct Injection {
    /// The failures that a call answered with an error.
    pub refused: u64,
    /// The failures after which a call succeeded.
    pub tolerated: u64,
    /// The effect on the last operation.
    pub last: Effect,
    /// A call of the program that populates memory succeeded although an allocation failed. The zero
    /// page, which may be missing now, is not shown.
    pub silent: bool,
}

impl Injection {
    /// Counts a call.
    pub(crate) fn count(&mut self, op: &Op, effect: &Effect, succeeded: bool) {
        use Opcode::{Mlock, Mlockall, Mmap, Mremap};
        let populates = matches!(op.opcode(), Mmap | Mlock | Mlockall | Mremap);
        self.silent |= effect.failed && succeeded && populates;
        match (effect.failed, succeeded) {
            (true, false) => self.refused += 1,
            (true, true) => self.tolerated += 1,
            (false, _) => {}
        }
    }
}

/// Returns whether allocations are made to fail in an operation. A page fault that finds no memory
/// kills the process, which no rule describes. A `fork` that fails half way panics User Mode Linux:
/// see docs/tree.md.
pub(crate) fn applies(op: &Op) -> bool {
    !matches!(op.opcode(), Opcode::Touch | Opcode::Fork | Opcode::Exit)
}

/// Sets up the kernel: allocations that may sleep fail too, and failures are not logged.
pub(crate) fn prepare() -> Result<(), KernelError> {
    for (file, value) in [
        ("failslab/ignore-gfp-wait", "N"),
        ("failslab/verbose", "0"),
        ("fail_page_alloc/ignore-gfp-wait", "N"),
        ("fail_page_alloc/min-order", "0"),
        ("fail_page_alloc/verbose", "0"),
    ] {
        let what = "setting up failslab and fail_page_alloc in /sys/kernel/debug";
        fs::write(format!("/sys/kernel/debug/{file}"), value)
            .map_err(|source| KernelError::Controller { what, error: source })?;
    }
    Ok(())
}

/// Lets the allocation `nth` of the calling process from now on fail. Returns whether the kernel can do
/// that. It makes system calls only, because it runs in a worker.
pub(crate) fn arm(fail_nth: &mut Option<OwnedFd>, nth: u8) -> bool {
    if fail_nth.is_none() {
        // The file stays open, because closing it may allocate.
        let flags = OFlags::RDWR | OFlags::CLOEXEC;
        *fail_nth = rustix::fs::open(c"/proc/self/fail-nth", flags, Mode::empty()).ok();
    }
    let digits = [b'0' + nth / 100, b'0' + nth / 10 % 10, b'0' + nth % 10];
    fail_nth.as_ref().is_some_and(|file| rustix::io::pwrite(file, &digits, 0).is_ok())
}

/// Lets no allocation fail any more. Returns whether one has failed: the kernel counts down to 0.
pub(crate) fn disarm(fail_nth: &Option<OwnedFd>) -> bool {
    let Some(file) = fail_nth else { return false };
    let mut left = [0; 16];
    let read = rustix::io::pread(file, &mut left, 0);
    let _ = rustix::io::pwrite(file, b"0", 0);
    read.is_ok() && left[0] == b'0'
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmadiff_machine::{Machine as _, Observation, Program};
    use vmadiff_reference::Reference;

    /// Returns the difference between the states after two programs, as one of `op`.
    fn difference(op: &Op, before: &str, after: &str) -> Divergence {
        let run = |text: &str| {
            let program: Program = text.parse().expect("a program");
            let (mut reference, mut seen) = (Reference::new(), Observation::default());
            reference.reset(&program.limits);
            program.ops.iter().for_each(|op| reference.step(op, &mut seen));
            seen.result = Ok(0);
            seen.copy = None;
            seen
        };
        Divergence::of(0, op, &run(before), &run(after))
    }

    #[test]
    fn what_a_failed_call_may_leave_is_named_and_nothing_else_is_tolerated() {
        let op = |text: &str| text.parse::<Program>().expect("a program").ops[0];
        let (mmap, mprotect) = (op("mmap 0 0 2 rw anon_private"), op("mprotect 0 1 1 r"));
        let shmat = op("shmat 0 0 REMAP");
        let whole = "mmap 0 0 3 rw anon_private";
        for (op, after, expected) in [
            (&mmap, "mmap 0 2 1 rw anon_private", Some(Tolerance::Unmaps)),
            (&shmat, "", Some(Tolerance::Unmaps)),
            (&shmat, "mmap 0 0 3 r anon_private", None),
            (
                &mprotect,
                "mmap 0 0 1 rw anon_private\nmmap 0 1 2 r anon_private",
                Some(Tolerance::Part),
            ),
            (&mprotect, "mmap 0 0 2 rw anon_private", None),
            (&mmap, "mmap 0 0 3 r anon_private", None),
        ] {
            let difference = difference(op, whole, after);
            assert_eq!(Tolerance::of_failed(op, &difference), expected, "{}", difference.signature);
        }
    }
}
