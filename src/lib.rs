//! vmadiff: two machines are fed the same operations in lockstep, and the first difference
//! between what they show is the product.

pub mod compare;
pub mod divergence;
pub mod export_c;
pub mod export_syz;
pub mod feedback;
pub mod generate;
pub mod golden;
pub mod import;
pub mod input;
pub mod known;
pub mod layout;
pub mod lockstep;
pub mod machines;
pub mod minimize;
pub mod mutate;
pub mod oracle;
pub mod output;
pub mod random;
pub mod report;
pub mod strace;
pub mod triage;
