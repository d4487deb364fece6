//! The errors of driving the running kernel.

use std::io;

use crate::proc::ProcError;

/// The error of driving or observing the running kernel.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A system call of the controller failed.
    #[error("{what}: {error}")]
    Controller {
        /// The action that failed.
        what: &'static str,
        /// The error of the system call.
        error: io::Error,
    },
    /// Process 0 could not be set up. The error is `EEXIST` if something is mapped in the arena.
    #[error("process 0 cannot start: {0}")]
    Start(io::Error),
    /// A file in `/proc` could not be read.
    #[error(transparent)]
    Proc(#[from] ProcError),
    /// A process ended in the middle of an operation.
    #[error("process {0} ended in the middle of an operation")]
    Died(u8),
    /// The system call whose number was given is not `process_vm_mmap()`.
    #[error("system call {number} is not process_vm_mmap(): {found}")]
    NoCopies {
        /// The number.
        number: u32,
        /// The behaviour of the system call.
        found: String,
    },
    /// A process gave no answer within the time limit.
    #[error("process {0} gave no answer within the time limit")]
    Late(u8),
    /// The kernel returned a value that no operation returns.
    #[error("the kernel answered {0}, which no operation returns")]
    Answer(i64),
}

/// Returns the error of a system call that the controller made for `what`.
pub(crate) fn doing(what: &'static str) -> impl Fn(rustix::io::Errno) -> KernelError {
    move |error| KernelError::Controller { what, error: error.into() }
}
