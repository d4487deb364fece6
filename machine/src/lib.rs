//! The interface of vmadiff's machines: [operations](op), [programs](program) and
//! [observations](observation). No kernel logic.
//!
//! A [`Machine`] is anything that takes operations and shows its state: the reference, the
//! candidate at a revision, a recorded kernel trace. The harness drives two of them in lockstep
//! and reports the first difference. The machines share this crate and nothing else.
//!
//! ```
//! use vmadiff_machine::{Program, corpus};
//!
//! let bug_a: Program = "mmap 0 1 6 rw anon_private\n\
//!                       mremap 0 4 2 2 MAYMOVE|FIXED 2\n".parse()?;
//! assert_eq!(corpus::decode(&corpus::encode(&bug_a))?, bug_a);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The world of a program
//!
//! What every machine takes for granted, whatever its code:
//!
//! - A program begins with process 0, with nothing mapped in the arena. An operation of a process
//!   that is not there answers `ESRCH` and does nothing; `copy` and `copy_vma` also where the
//!   source is not there.
//! - The process's own mappings lie far below and far above the arena: a kernel function that
//!   looks for the next VMA past the arena finds one, which is never adjacent and never merges.
//! - The kernel is 5.2.1 with `CONFIG_DEBUG_VM`, userfaultfd, KSM, swap and one NUMA node, without
//!   transparent huge pages. Memory never runs out. Without a lock limit the caller has
//!   `CAP_IPC_LOCK`; with one it has not.
//! - The memfds are [`FILE_PAGES`](operand::FILE_PAGES) long and all their pages are in the page
//!   cache from the start: golden traces populate watched mappings of them without blocking. An
//!   object behind a shared anonymous mapping is as long as the mapping was when it was made, and
//!   empty. The memfds and those objects are shmem; the device of
//!   [`Kind::Special`](operand::Kind) is not.
//! - All memory outside the arena is in use. Where the kernel has to choose an address (`copy`
//!   without `FIXED`, with a hint that is not free; `mremap` with `MAYMOVE` alone, where the mapping
//!   cannot grow in place), it takes the highest hole in the arena that is long enough, below
//!   [`END_PAGES`](operand::END_PAGES); `ENOMEM` if there is none.
//! - Where populating locked memory meets a missing page that userfaultfd watches, the call would
//!   block for ever. It answers `EAGAIN` instead; what it did before stays done.
//! - `touch` on a VMA that userfaultfd watches answers `EAGAIN` and does nothing.

pub mod abi;
pub mod corpus;
pub mod errno;
pub mod failure;
pub mod flags;
mod names;
pub mod observation;
pub mod op;
pub mod operand;
pub mod program;
pub mod range;
pub mod role;
mod text;

pub use errno::Errno;
pub use failure::Failure;
pub use flags::VmFlags;
pub use observation::{
    AddressSpace, AnonVmaId, Assertion, CopyReport, Counters, Event, FileId, Object, Observation,
    PageSet, UffdId, Vma,
};
pub use op::{Op, Opcode};
pub use program::{Limits, Program};
pub use range::Range;
pub use role::{OpRange, Part, Placement, Role};
pub use text::TextError;

/// Anything that takes operations and shows its state.
pub trait Machine {
    /// What it is called in reports and on the command line, such as `candidate:v2`.
    fn name(&self) -> &str;

    /// Whether it has the operation at all. Lockstep leaves out what one of two machines lacks;
    /// a machine answers `ENOSYS` to it and does nothing.
    fn has(&self, _opcode: Opcode) -> bool {
        true
    }

    /// Back to the start of a program that runs under `limits`.
    fn reset(&mut self, limits: &Limits);

    /// Performs one operation and shows what follows.
    ///
    /// `seen` is what this machine's previous step of the same program left there, or
    /// [`Observation::reset`] for the first. The machine calls [`Observation::begin_step`] and
    /// then need only write what the operation changed.
    ///
    /// After an observation that [is fatal](Observation::is_fatal) only [`Machine::reset`] may
    /// follow.
    fn step(&mut self, op: &Op, seen: &mut Observation);
}

impl<M: Machine + ?Sized> Machine for Box<M> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn has(&self, opcode: Opcode) -> bool {
        (**self).has(opcode)
    }

    fn reset(&mut self, limits: &Limits) {
        (**self).reset(limits);
    }

    fn step(&mut self, op: &Op, seen: &mut Observation) {
        (**self).step(op, seen);
    }
}
