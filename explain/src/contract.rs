//! The contract of a copy between address spaces: its ten points, and the code of the patch under
//! review that each point is about.
//!
//! The reference keeps the contract (`reference/src/contract.rs`). The sentences here are cited by
//! the [reasons](crate::why()) of divergences and listed in docs/contract.md.

use vmadiff_reference::why::Point;

/// A patch of the series “mm: process_vm_mmap()”.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patch {
    /// “mm: Extend copy_vma()”.
    CopyVma,
    /// The patch that extends `copy_page_range()`.
    CopyPageRange,
    /// The patch that adds the system call.
    ProcessVmMmap,
}

impl Patch {
    /// Returns the number of the patch in the second version of the series: `2/7`.
    pub const fn number(self) -> &'static str {
        match self {
            Patch::CopyVma => "2/7",
            Patch::CopyPageRange => "3/7",
            Patch::ProcessVmMmap => "7/7",
        }
    }
}

/// A point of the contract.
#[derive(Clone, Copy, Debug)]
pub struct Clause {
    /// The rule, in a sentence.
    pub text: &'static str,
    /// The patch that has the code; `None` if the code is that of Linux 5.2.1.
    pub patch: Option<Patch>,
    /// The function that has the code.
    pub function: &'static str,
}

/// The points of the contract, from point 1 to point 10.
pub const CONTRACT: [Clause; Point::COUNT] = [
    Clause {
        text: "a copy has the source's file, offset, policy, pages and chain",
        patch: Some(Patch::CopyVma),
        function: "copy_vma",
    },
    Clause {
        text: "a copy leaves the source address space unchanged, unless it is also the destination; only \
               the write bits of the pages that are now shared are cleared, as by fork",
        patch: Some(Patch::ProcessVmMmap),
        function: "mmap_process_vm",
    },
    Clause {
        text: "a copy with flags cleared loses the flags of the mask and the userfaultfd context",
        patch: Some(Patch::ProcessVmMmap),
        function: "mmap_process_vm",
    },
    Clause {
        text: "a copy merges exactly where the merge rule of Linux 5.2.1 lets it",
        patch: Some(Patch::CopyVma),
        function: "copy_vma",
    },
    Clause {
        text: "the source pointer is redirected exactly where the merge swallowed the source, and \
               a freed source is not read to decide it",
        patch: Some(Patch::CopyVma),
        function: "copy_vma",
    },
    Clause {
        text: "ranges that overlap are refused before anything is changed",
        patch: Some(Patch::ProcessVmMmap),
        function: "mmap_process_vm",
    },
    Clause {
        text: "counters equal a recount over the VMAs",
        patch: Some(Patch::ProcessVmMmap),
        function: "mmap_process_vm",
    },
    Clause {
        text: "the rmap locks are taken where copy_vma() says need_rmap_locks",
        patch: Some(Patch::ProcessVmMmap),
        function: "mmap_process_vm",
    },
    Clause {
        text: "every anonymous page stays reachable from its anon_vma",
        patch: None,
        function: "anon_vma_clone",
    },
    Clause {
        text: "a call that fails leaves both address spaces as they were",
        patch: Some(Patch::ProcessVmMmap),
        function: "mmap_process_vm",
    },
];
