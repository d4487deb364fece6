//! Keys of the kernel's objects, in place of its pointers.

use std::num::NonZeroU32;

use slotmap::new_key_type;

new_key_type! {
    /// A pointer to a `vm_area_struct`.
    pub(crate) struct VmaKey;
    /// A pointer to an `mm_struct`.
    pub(crate) struct MmKey;
    /// A pointer to an `anon_vma`.
    pub(crate) struct AnonVmaKey;
    /// A pointer to an anonymous page.
    pub(crate) struct PageKey;
    /// A pointer to a `struct file`.
    pub(crate) struct FileKey;
    /// A pointer to a `mempolicy`.
    pub(crate) struct PolicyKey;
}

/// A pointer to a `userfaultfd_ctx`: its number in observations, counted from 1. No number is used twice
/// in a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CtxKey(pub(crate) NonZeroU32);

impl CtxKey {
    /// Returns the place in the kernel's table of contexts.
    #[inline]
    pub(crate) fn index(self) -> usize {
        self.0.get() as usize - 1
    }
}
