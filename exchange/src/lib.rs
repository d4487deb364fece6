//! Programs exchanged with other tools.
//!
//! [`export_c`] and [`export_syz`] write a program for a running kernel, as C or for syzkaller.
//! [`strace`] reads a log of `strace -f`, and [`import`] makes programs from the calls in a log.
//! [`syz`] reads a program of syzkaller, and [`import_syz`] makes a program from its calls.

pub mod export_c;
pub mod export_syz;
mod flags;
pub mod import;
pub mod import_syz;
mod later;
pub mod strace;
pub mod syz;

/// The examples of the readme file, which are tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
