//! The chain of a VMA (`anon_vma_chain`), as an index.

/// The anon_vmas that a VMA hangs on, newest first: an index into the links that
/// [`AnonVmas`](crate::anon_vma::AnonVmas) keeps, counting from 1; 0 is the empty chain.
///
/// A chain never changes. A VMA gets a whole one, and only two operations make one: a first fault
/// (one entry) and a fork (the parent's chain with one entry more). So chains share their tails,
/// and copying a chain is copying this index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain(pub(crate) u32);

impl Chain {
    pub(crate) const EMPTY: Chain = Chain(0);
}
