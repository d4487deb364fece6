//! Exhaustive search: every program of a small [world] on two machines in lockstep, shortest
//! first.
//!
//! A random search says that nothing was found yet. In a small world the search says that there is
//! nothing to find up to a length, or that a program is the shortest one.
//!
//! The search is breadth first over *states*. A state is everything on which the later answers of both
//! machines depend ([`State`](vmadiff_machine::State)), and it is remembered by a digest of 128 bits
//! ([`states`]). Programs that lead to one state are continued once. A state is visited by running its
//! program from the start, so any two machines can be searched. Machines that can save their state go back
//! to it before each operation, instead of running the program again.

pub mod file;
pub mod search;
pub mod states;
mod visit;
pub mod world;
