//! vmadiff: two machines are fed the same operations in lockstep, and the first difference
//! between what they show is the product.

pub mod compare;
pub mod divergence;
pub mod draw;
pub mod explain;
pub mod generate;
pub mod golden;
pub mod input;
pub mod known;
pub mod lockstep;
pub mod machines;
pub mod minimize;
pub mod mutate;
pub mod oracle;
pub mod output;
#[cfg(feature = "cli")]
pub mod page;
pub mod picture;
pub mod random;
pub mod report;
pub mod run;
pub mod triage;
