//! A divergence explained and shown.
//!
//! A run of two machines ([`vmadiff_lockstep::run::Run`]) becomes a [`finding::Finding`], which is
//! completed step by step: the [`results`] of its operations, the reason ([`why()`]), and a
//! [`picture`] of each step. A finding is rendered as [`text`], as an HTML page (`page`), or as one
//! [`row`] of a list or of [`sarif`]. [`merge_cases`] and [`contract_points`] count the merge cases
//! and the points of the contract that programs exercise.

mod axis;
pub mod contract;
pub mod contract_points;
pub mod finding;
mod ink;
pub mod merge_cases;
#[cfg(feature = "page")]
pub mod page;
pub mod picture;
pub mod results;
pub mod row;
pub mod sarif;
pub mod text;
pub mod why;

pub use why::{merge_conditions, why};
