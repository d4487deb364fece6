//! The running Linux kernel as a machine.
//!
//! Each process of a program is a real process: a fork of the caller. The arena lies at the address
//! from which the page offsets of a program are counted. The process performs operations as system
//! calls and answers over pipes. The state after an operation is read from `/proc/PID`: `smaps`,
//! `status`, `pagemap`, `numa_maps`. Each program has a segment of SysV shared memory of its own, which
//! is removed at its end.
//!
//! The kernel shows less than a model shows. [`Kernel::visible`] reduces the observation of a model
//! to the same content. It leaves out anon_vmas and their chains, userfaultfd contexts (the VMA
//! flags stay), page offsets of anonymous memory, policies of files, and committed memory.
//!
//! The reference that runs beside the kernel applies the [rules](vmadiff_reference::later) of later
//! kernels that hold on this kernel: see [`profile`].
//!
//! Before its first operation, process 0 maps all memory outside its arena, so that an address that
//! the kernel chooses is in the arena. After that, a process never maps, changes or touches memory
//! outside its arena. A [`Kernel`] leaves no process behind: its processes are killed and waited for
//! when it is reset or dropped, and the kernel kills them when the thread that made them ends. Only the
//! segment stays if the caller is killed by a signal (`ipcs -m` lists it, `ipcrm -m` removes it).
//!
//! Linux on x86-64 only.
#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod beside;
mod coverage;
mod error;
mod inject;
mod log;
mod machine;
mod map_count;
mod missing;
mod monitor;
mod outside;
mod proc;
mod process;
pub mod profile;
mod segment;
mod walk;
mod worker;

pub use beside::{Beside, End, Run, Step, Unrepeated};
pub use error::KernelError;
pub use inject::{Effect, Injection, Tolerance};
pub use machine::{Ended, Kernel, Options};
pub use missing::{Facilities, Missing};
pub use proc::ProcError;
pub use profile::{Holds, Profile, Release};
pub use segment::remove_segments;
