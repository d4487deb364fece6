//! Programs exchanged with other tools.
//!
//! [`export_c`] and [`export_syz`] write a program for a running kernel, as C or for syzkaller.
//! [`strace`] reads a log of `strace -f`, and [`import`] makes programs from the calls in a log.

pub mod export_c;
pub mod export_syz;
pub mod import;
mod later;
pub mod strace;
