//! A VMA: a range of pages and what is mapped there.

use vmadiff_machine::operand::{Mode, Page, PageOffset};
use vmadiff_machine::{AnonVmaId, FileId, UffdId, VmFlags};

use crate::anon_vma::Chain;
use crate::range::Range;
use crate::shmem;

/// A VMA. As a value it also says what a VMA *would* be, where that is asked before there is one
/// (merging, copying).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vma {
    pub(crate) range: Range,
    /// The page offset of `range.start`.
    pub(crate) pgoff: PageOffset,
    pub(crate) flags: VmFlags,
    pub(crate) anon_vma: Option<AnonVmaId>,
    /// The anon_vmas it hangs on; empty exactly where `anon_vma` is `None`.
    pub(crate) chain: Chain,
    pub(crate) file: Option<FileId>,
    pub(crate) uffd: Option<UffdId>,
    pub(crate) policy: Mode,
}

impl Vma {
    /// `vma_is_anonymous()`. Shared anonymous memory is not: it has a shmem file.
    pub(crate) fn is_anonymous(&self) -> bool {
        self.file.is_none()
    }

    /// Whether `vm_ops->close` exists: only the device's.
    pub(crate) fn has_close(&self) -> bool {
        self.file == Some(shmem::DEVICE)
    }

    /// The offset of `page`, which is one of the VMA's.
    pub(crate) fn pgoff_of(&self, page: Page) -> PageOffset {
        self.pgoff.plus(page.0 - self.range.start.0)
    }

    /// The part of it that lies in `range`.
    pub(crate) fn part(&self, range: Range) -> Vma {
        let range = self.range.intersection(range);
        Vma { range, pgoff: self.pgoff_of(range.start), ..*self }
    }

    /// Whether a private mapping is written: a write copies the page first.
    pub(crate) fn is_private_writable(&self) -> bool {
        self.flags & (VmFlags::VM_WRITE | VmFlags::VM_SHARED) == VmFlags::VM_WRITE
    }
}
