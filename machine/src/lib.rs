//! The interface of vmadiff's machines: [operations](op), [programs](program) and
//! [observations](observation). No kernel logic.
//!
//! A [`Machine`] performs operations and shows its state. Examples are the reference, the candidate
//! at a revision, and a running kernel. The lockstep drives two machines and reports the first
//! difference. The reference and the candidate share this crate and nothing else.
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
//! All machines agree on these rules:
//!
//! - A program begins with process 0, and nothing is mapped in the arena. An operation answers
//!   `ESRCH` and does nothing if its process does not exist. `copy` and `copy_vma` also answer
//!   `ESRCH` if the source process does not exist.
//! - The process's own mappings (text, stack, heap) lie far below and far above the arena. A kernel
//!   function that looks for the next VMA past the arena finds one of these mappings. They are
//!   never adjacent to a VMA of the arena, and never merge with one.
//! - The kernel is 5.2.1 with `CONFIG_DEBUG_VM`, userfaultfd, KSM, swap and one NUMA node, without
//!   transparent huge pages. Memory never runs out, save that one allocation fails where the program
//!   sets [`Limits::fail`]. The caller has `CAP_IPC_LOCK` if
//!   the program sets no lock limit, and lacks it otherwise.
//! - The memfds are [`FILE_PAGES`](operand::FILE_PAGES) long. All their pages are in the page cache
//!   from the start, so populating a mapping of a memfd does not block, even if userfaultfd watches
//!   the mapping, unless pages were removed from the memfd, or it was truncated. The object behind a
//!   shared anonymous mapping is as long as the mapping was when it was made, and begins empty. The
//!   memfds and these objects are shmem; the device of [`Kind::Special`](operand::Kind) is not.
//! - There is one SysV shared memory segment. It is [`SHM_PAGES`](operand::SHM_PAGES) long, and all its
//!   pages are in the page cache from the start. Nobody has attached it when the program begins. Every
//!   process knows its id and may write it.
//! - All memory outside the arena is in use. The kernel chooses an address for `copy` without
//!   `FIXED` if the hint is not free, and for `mremap` with `MAYMOVE` alone if the mapping cannot
//!   grow in place. The kernel then takes the highest hole of the arena that is long enough, below
//!   [`END_PAGES`](operand::END_PAGES). The call answers `ENOMEM` if there is no such hole.
//! - A call that populates locked memory would block for ever at a missing page that userfaultfd
//!   watches. The call answers `EAGAIN` instead, and its changes up to this page stay.
//! - `touch` on a VMA that userfaultfd watches answers `EAGAIN` and does nothing.
//! - The descriptors of the memfds and of the device stay open. A userfaultfd context is closed when the
//!   process that opened it exits, and by `uffd_open`; a child has no descriptor of it. The caller of a
//!   `copy_vma` that keeps the context in another address space keeps a descriptor as well, for ever.
//! - The monitor of a userfaultfd context is outside the program. It reads each message at once. A message
//!   about a fork brings a descriptor of a new context, which the child then has under the same number.
//! - A page has one value, a byte that stands for its contents. Every page begins with 0. A `touch`
//!   that writes gives the page the value [`written`] of the number of writes that succeeded before it in the
//!   program, in all processes together. A `touch` that reads shows the value of the page. A page of
//!   the device always reads as 0.

pub mod abi;
mod allocation;
mod clone_by_field;
pub mod corpus;
pub mod errno;
pub mod failure;
pub mod flags;
pub mod hidden;
pub mod message;
mod names;
pub mod observation;
pub mod op;
pub mod operand;
pub mod program;
mod quote;
pub mod range;
pub mod role;
pub mod state;
pub mod text;

pub use allocation::Allocation;
pub use errno::Errno;
pub use failure::Failure;
pub use flags::VmFlags;
pub use hidden::Hidden;
pub use message::{Message, UffdEvent};
pub use observation::{
    AddressSpace, AnonVmaId, Assertion, CopyReport, Counters, DriverCalls, Event, FileId, Object,
    Observation, PageId, PageSet, UffdId, Vma,
};
pub use op::{Op, Opcode};
pub use program::{Limits, Program};
pub use quote::{Plain, Quote};
pub use range::Range;
pub use role::{OpRange, Part, Placement, Role};
pub use state::State;
pub use text::TextError;

/// Returns the value that a `touch` writes after `before` writes that succeeded: 1 to 255, then 1
/// again.
#[inline]
pub const fn written(before: u32) -> u8 {
    (before % 255) as u8 + 1
}

/// A model or a kernel that performs operations and shows its state after each of them.
pub trait Machine {
    /// Returns the machine's name in reports and on the command line, such as `candidate:v2`.
    fn name(&self) -> &str;

    /// Returns whether the machine has the operation at all. The lockstep leaves out operations
    /// that one of the two machines lacks. A machine answers `ENOSYS` to an operation that it
    /// lacks, and does nothing.
    fn has(&self, _opcode: Opcode) -> bool {
        true
    }

    /// Goes back to the start of a program, which runs under `limits`.
    fn reset(&mut self, limits: &Limits);

    /// Performs one operation and writes the observation that follows into `seen`.
    ///
    /// Before the call `seen` holds the observation of this machine's previous step of the same
    /// program, or the state after [`Observation::reset`] for the first step. The machine calls
    /// [`Observation::begin_step`], and then writes only the parts that the operation changed.
    ///
    /// Only [`Machine::reset`] may be called after an observation that
    /// [is fatal](Observation::is_fatal).
    fn step(&mut self, op: &Op, seen: &mut Observation);

    /// Takes back the last operation, `op`, and performs it as it can end where an allocation of the kind
    /// `failed` fails. Returns whether there is an `n`th way, counted from 0; if not, the state has no
    /// meaning. By default there is none.
    ///
    /// `seen` holds the observation before the operation. The lockstep asks the machine that is taken to be
    /// right, in a program that sets [`Limits::fail`]. It goes on with the first way that shows what
    /// the other machine shows. The allocation that the machine takes to fail is its own choice: it does
    /// not count allocations.
    fn step_failing(
        &mut self,
        _op: &Op,
        _failed: Allocation,
        _n: u32,
        _seen: &mut Observation,
    ) -> bool {
        false
    }

    /// Takes back the last operation, which failed in the other machine and has changed nothing there.
    /// Returns whether the machine can; by default it cannot.
    fn take_back(&mut self) -> bool {
        false
    }

    /// Fills `hidden`, which is empty, with the hidden state after the last operation, and returns
    /// whether the machine shows it. By default a machine does not.
    ///
    /// The invariants of hidden state are checked on a machine that shows it. Nothing is asked after
    /// an observation that [is fatal](Observation::is_fatal).
    ///
    /// # Errors
    /// The [`Failure`] of a shared library.
    fn show_hidden(&mut self, _hidden: &mut Hidden) -> Result<bool, Failure> {
        Ok(false)
    }

    /// Adds everything on which the machine's later answers depend to `state`, which
    /// [has begun](State::begin), and returns whether the machine does so. By default it does not.
    ///
    /// The exhaustive search takes two states with the same words for one state. Of a machine that does
    /// not write its state, it takes the observation and the hidden state. Nothing is asked after an
    /// observation that [is fatal](Observation::is_fatal).
    fn write_state(&self, _state: &mut State) -> bool {
        false
    }

    /// Keeps the present state for [`Machine::restore`], and returns whether the machine can. By default
    /// it cannot, and programs are run again.
    fn save(&mut self) -> bool {
        false
    }

    /// Goes back to the state that was saved last. The machine has not been reset since.
    fn restore(&mut self) {}
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

    fn step_failing(
        &mut self,
        op: &Op,
        failed: Allocation,
        n: u32,
        seen: &mut Observation,
    ) -> bool {
        (**self).step_failing(op, failed, n, seen)
    }

    fn take_back(&mut self) -> bool {
        (**self).take_back()
    }

    fn show_hidden(&mut self, hidden: &mut Hidden) -> Result<bool, Failure> {
        (**self).show_hidden(hidden)
    }

    fn write_state(&self, state: &mut State) -> bool {
        (**self).write_state(state)
    }

    fn save(&mut self) -> bool {
        (**self).save()
    }

    fn restore(&mut self) {
        (**self).restore();
    }
}

/// The examples of the readme file, which are tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
