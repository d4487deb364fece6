//! Allocations that fail.

use std::fmt;

macro_rules! allocations {
    ($($(#[$doc:meta])* $name:ident $number:literal $text:literal)*) => {
        /// The memory that a machine asked for and did not get.
        ///
        /// One allocation of a program fails: the one that [`Limits::fail`](crate::Limits::fail) counts to.
        /// A request that the kernel repeats with other flags, as `anon_vma_clone()` does, is one
        /// allocation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Allocation {
            $($(#[$doc])* $name = $number,)*
        }

        impl Allocation {
            /// Every kind, in the order of the numbers.
            pub const ALL: &'static [Allocation] = &[$(Allocation::$name,)*];

            /// Returns the kernel's name of the memory.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Allocation::$name => $text,)*
                }
            }
        }
    };
}

allocations! {
    /// `vm_area_struct`.
    Vma 1 "vm_area_struct"
    /// `anon_vma`.
    AnonVma 2 "anon_vma"
    /// `anon_vma_chain`: an entry of a chain.
    ChainEntry 3 "anon_vma_chain"
    /// `mempolicy`.
    Policy 4 "mempolicy"
    /// A page of a page table.
    PageTable 5 "page table"
    /// A charge to committed memory (`security_vm_enough_memory_mm()`).
    Charge 6 "charge"
    /// `userfaultfd_ctx`.
    Context 7 "userfaultfd_ctx"
    /// `mm_struct`.
    Mm 8 "mm_struct"
    /// An open file: that of an object behind a shared anonymous mapping, or of an attachment of SysV
    /// shared memory.
    File 9 "file"
}

impl Allocation {
    /// Returns the kind with a number of the C interface.
    pub(crate) fn from_number(number: u32) -> Option<Allocation> {
        Allocation::ALL.iter().copied().find(|kind| *kind as u32 == number)
    }
}

impl fmt::Display for Allocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
