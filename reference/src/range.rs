//! Ranges of pages: the plain type of the interface.

pub use vmadiff_machine::Range;
