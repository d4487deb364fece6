//! The commands, each in a file of its own, and the code that they share.
//!
//! The function `run` of a command returns its exit status.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub(crate) mod check_kernel;
pub(crate) mod conform;
pub(crate) mod counts;
pub(crate) mod exhaust;
pub(crate) mod export;
pub(crate) mod fail_all;
pub(crate) mod faults;
pub(crate) mod files;
pub(crate) mod findings;
pub(crate) mod fmt;
pub(crate) mod folder;
pub(crate) mod import_strace;
pub(crate) mod import_syz;
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
pub(crate) mod shells;
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub(crate) mod show_kernel;
pub(crate) mod threads;
pub(crate) mod triage;
