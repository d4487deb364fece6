//! The commands, each in a file of its own, and the code that they share.
//!
//! The function `run` of a command returns whether the command found something: exit status 1 if it
//! did, 0 if not.

pub(crate) mod conform;
pub(crate) mod export;
pub(crate) mod faults;
pub(crate) mod files;
pub(crate) mod fmt;
pub(crate) mod import_strace;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub(crate) mod kernel;
pub(crate) mod library_worker;
pub(crate) mod machines;
pub(crate) mod minimize;
pub(crate) mod progress;
pub(crate) mod random;
pub(crate) mod replay;
pub(crate) mod report;
pub(crate) mod rows;
pub(crate) mod triage;
