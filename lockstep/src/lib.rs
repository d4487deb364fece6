//! Two machines in lockstep, and the first difference between them.
//!
//! [`lockstep::Lockstep`] performs each operation of a program on two machines and compares both
//! observations ([`compare`]). The first difference is a [`divergence::Divergence`], with a class
//! and a signature. [`run::Run`] keeps the observations of both machines for a report. This crate
//! depends on the interface of machines alone, so any two machines can be compared.

pub mod compare;
mod contents;
pub mod divergence;
mod failing;
pub mod golden;
pub mod invariants;
pub mod known;
pub mod lockstep;
mod page_ids;
pub mod run;
pub mod visible;
