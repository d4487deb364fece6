//! vmadiff
