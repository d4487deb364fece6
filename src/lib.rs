//! vmadiff: two machines are fed the same operations in lockstep, and the first difference
//! between what they show is the product.

pub mod compare;
pub mod golden;
pub mod machines;
pub mod report;
