//! vmadiff: two machines are fed the same operations in lockstep, and the first difference
//! between what they show is the product.

pub mod compare;
pub mod divergence;
pub mod generate;
pub mod golden;
pub mod input;
#[cfg(all(feature = "cli", target_os = "linux", target_arch = "x86_64"))]
pub mod kernel;
pub mod known;
pub mod lockstep;
pub mod machines;
pub mod minimize;
pub mod mutate;
pub mod oracle;
pub mod output;
pub mod random;
pub mod report;
pub mod triage;
