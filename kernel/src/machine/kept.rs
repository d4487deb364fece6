//! A process 0 that serves several programs: a new process takes as long as a dozen operations.
//!
//! Between two programs process 0 empties its arena. The machine compares the process with its beginning, as
//! far as `smaps` and `status` show it, and takes a new one if anything differs. State that these files do
//! not show has to be put back by the process, or the process is not kept: see [`Kept::note`] and
//! [`Kernel::may_keep`].

use vmadiff_machine::operand::Advice;
use vmadiff_machine::{Limits, Op};

use super::{Ended, Kernel};
use crate::error::KernelError;
use crate::process::{Reply, send};
use crate::worker::{self, With};

/// The state of a process 0 that may be kept.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Process 0 is kept for the next program, if it can be.
    on: bool,
    /// A program has used state of the process that emptying the arena does not put back.
    marked: bool,
    /// Process 0 has served another program before.
    again: bool,
}

impl Kept {
    /// Takes note of a new process 0.
    pub(super) fn begin(&mut self) {
        (self.marked, self.again) = (false, false);
    }

    /// Takes note of an operation that is performed.
    pub(super) fn note(&mut self, op: &Op) {
        self.marked |= match op {
            // KSM knows the address space from now on.
            Op::Madvise { advice, .. } => advice.get() == Advice::Mergeable,
            // KSM knows it from now on, and the setting stays.
            Op::MemoryMerge { .. } => true,
            // The limit stays.
            Op::Prlimit { .. } => true,
            // A kernel that is under test has the call.
            Op::Copy { .. } | Op::CopyVma { .. } => true,
            _ => false,
        };
    }
}

impl Kernel {
    /// Returns whether a process may serve several programs. A report of the kernel about the end of a
    /// process has to come at the end of its program. A system that claims to be Linux is taken as it is:
    /// each further call may be another one of its bugs.
    pub(crate) fn can_keep(&self) -> bool {
        let Kernel { log, walk, injection, coverage, facilities, .. } = self;
        let is_linux = facilities.forking && facilities.placement;
        is_linux && log.is_none() && walk.is_none() && injection.is_none() && coverage.is_none()
    }

    /// Keeps process 0 of a program for the next one, or not, from now on.
    pub(crate) fn set_keeping(&mut self, on: bool) {
        self.kept.on = on && self.can_keep();
    }

    /// Returns whether process 0 of the program has served another program before.
    pub(crate) fn served_before(&self) -> bool {
        self.kept.again
    }

    /// Ends the processes of the program, but for a process 0 that is kept.
    pub(super) fn end_program(&mut self) {
        let first = usize::from(self.may_keep());
        self.end_from(first);
    }

    /// Returns whether process 0 of the last program may serve the next one. Its limits stay, and a process with a limit on locking has given up a capability.
    fn may_keep(&self) -> bool {
        let unlimited = self.limits.address_space.is_none() && self.limits.lock.is_none();
        let ran = matches!(self.ended, None | Some(Ended::Over)) && self.processes[0].is_some();
        self.kept.on && !self.kept.marked && !self.stale && unlimited && ran
    }

    /// Returns whether process 0 of the last program may serve the next one under `limits`.
    pub(super) fn may_keep_for(&self, limits: &Limits) -> bool {
        self.may_keep() && limits.lock.is_none()
    }

    /// Puts process 0 of the last program back to the state in which a program begins. Returns `false` if this
    /// is not possible: a new process is needed.
    pub(super) fn restore(&mut self) -> Result<bool, KernelError> {
        let Some(process) = &self.processes[0] else { return Ok(false) };
        let request = worker::request(None, With::default());
        let (timeout, monitor) = (self.options.timeout, &mut self.monitor);
        let (reply, _) = send(process, &self.channels[0], &request, timeout, monitor)?;
        match reply {
            Reply::Answer(0) => {}
            // A sealed VMA cannot be unmapped.
            Reply::Answer(_) | Reply::Ended => return Ok(false),
            Reply::Late => return Err(KernelError::Late(0)),
        }
        let status = process.proc.status()?;
        let is_empty = process.proc.mappings(false)?.is_empty();
        if !is_empty || status != self.baseline.0 {
            return Ok(false);
        }
        if self.map_count.is_some() && self.limits.map_count.is_some() {
            // Locking and unlocking all memory may have merged VMAs outside the arena.
            self.baseline.1 = process.proc.map_count()?;
        }
        self.kept.again = true;
        Ok(true)
    }
}
