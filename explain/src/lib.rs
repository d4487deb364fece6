//! A divergence explained and shown.
//!
//! A run of two machines ([`vmadiff_lockstep::run::Run`]) is explained by [`why()`], turned into a
//! [`picture`], and rendered as text ([`report`], [`draw`]), as a page of HTML (`page`) or as
//! [`sarif`]. [`merge_cases`] and [`contract_points`] count what programs exercise.

pub mod contract_points;
pub mod draw;
pub mod merge_cases;
#[cfg(feature = "page")]
pub mod page;
pub mod picture;
pub mod report;
pub mod row;
pub mod sarif;
pub mod why;

pub use why::{merge_conditions, why};
