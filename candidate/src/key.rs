//! Keys of the kernel's objects, in place of its pointers.

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
}
