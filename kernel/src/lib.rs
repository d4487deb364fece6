//! The running Linux kernel as a machine.
//!
//! Each process of a program is a real process: a fork of the caller whose arena lies at the
//! address that the page offsets of a program count from. It performs operations as system calls
//! and answers over pipes. What follows an operation is read from `/proc/PID`: `smaps`, `status`,
//! `pagemap`, `numa_maps`.
//!
//! That is less than a model shows. [`Kernel::visible`] reduces a model's observation to it:
//! anon_vmas and their chains, userfaultfd contexts (their flags are seen), page offsets of anonymous
//! memory, policies of files, and committed memory are left out.
//!
//! The reference beside it has the [rules](vmadiff_reference::later) of later kernels that hold on
//! the kernel: see [`profile`].
//!
//! Before its first operation, process 0 maps all memory outside its arena, so that the kernel, where
//! it chooses an address, chooses one in the arena. From then on a process never maps, changes or
//! touches anything outside. Everything that a
//! [`Kernel`] starts ends with it: its processes are killed and buried when it is reset or
//! dropped, and the kernel kills them where the thread that made them ends.
//!
//! Linux on x86-64 only.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod beside;
mod error;
mod machine;
mod map_count;
mod missing;
mod outside;
mod proc;
mod process;
pub mod profile;
mod worker;

pub use beside::{Beside, End, Run, Step};
pub use error::KernelError;
pub use machine::{Ended, Kernel, Options};
pub use missing::{Facilities, Missing};
pub use proc::ProcError;
pub use profile::{Holds, Profile};
