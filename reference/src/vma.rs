//! A VMA: a range of pages and the attributes of its mapping.

use vmadiff_machine::operand::{Mode, Page, PageOffset};
use vmadiff_machine::{AnonVmaId, FileId, UffdId, VmFlags, observation};

use crate::chain::Chain;
use crate::range::Range;
use crate::shmem;

/// A VMA, or the VMA that a range would become: merging and copying are decided on such a value.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vma {
    pub(crate) range: Range,
    /// The page offset of `range.start`.
    pub(crate) pgoff: PageOffset,
    pub(crate) flags: VmFlags,
    pub(crate) anon_vma: Option<AnonVmaId>,
    /// The anon_vmas that the VMA hangs on; empty exactly where `anon_vma` is `None`.
    pub(crate) chain: Chain,
    pub(crate) file: Option<FileId>,
    /// The number of the `shmat()` that mapped the segment; 0 for another file.
    pub(crate) attachment: u8,
    pub(crate) uffd: Option<UffdId>,
    pub(crate) policy: Mode,
}

impl Vma {
    /// Returns whether the VMA is anonymous (`vma_is_anonymous()`). Shared anonymous memory is
    /// not: it has a shmem file.
    pub(crate) fn is_anonymous(&self) -> bool {
        self.file.is_none()
    }

    /// Returns whether the VMA is sealed (`vma_is_sealed()`).
    pub(crate) fn is_sealed(&self) -> bool {
        self.flags.contains(VmFlags::VM_SEALED)
    }

    /// Returns whether the VMA is of the device.
    pub(crate) fn is_of_device(&self) -> bool {
        self.file == Some(shmem::DEVICE)
    }

    /// Returns whether the VMA has a `vm_ops->close` handler. Only the VMAs of the device
    /// and of the segment have one.
    pub(crate) fn has_close(&self) -> bool {
        self.is_of_device() || self.is_attached()
    }

    /// Returns whether the VMA maps the segment of SysV shared memory.
    pub(crate) fn is_attached(&self) -> bool {
        self.file == Some(shmem::SEGMENT)
    }

    /// Returns the offset of `page`, which is a page of the VMA.
    pub(crate) fn pgoff_of(&self, page: Page) -> PageOffset {
        self.pgoff.plus(page.0 - self.range.start.0)
    }

    /// Returns the part of the VMA that lies in `range`.
    pub(crate) fn part(&self, range: Range) -> Vma {
        let range = self.range.intersection(range);
        Vma { range, pgoff: self.pgoff_of(range.start), ..*self }
    }

    /// Returns whether a write to the VMA copies the page first: it is private and writable.
    pub(crate) fn is_private_writable(&self) -> bool {
        self.flags & (VmFlags::VM_WRITE | VmFlags::VM_SHARED) == VmFlags::VM_WRITE
    }

    /// Removes the userfaultfd context of the VMA.
    pub(crate) fn drop_uffd(&mut self) {
        self.uffd = None;
        self.flags -= VmFlags::UFFD;
    }

    /// Returns the VMA as an observation shows it, without its chain.
    #[inline]
    pub(crate) fn shown(&self) -> observation::Vma {
        observation::Vma::new(
            (self.range.start, self.range.end),
            self.pgoff,
            self.flags,
            self.anon_vma,
            self.file,
            self.uffd,
            self.policy,
            self.has_close(),
        )
    }
}
