//! The hidden state of a machine: objects that no observation shows, for the invariants.
//!
//! A machine fills a [`Hidden`] on demand, so the state costs nothing while nobody asks for it. Object
//! numbers of anon_vmas are those of the machine's last observation.

use crate::observation::{AnonVmaId, FileId, UffdId};
use crate::operand::{Mode, Page, PageOffset, Process};

/// An anonymous page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnonPage {
    /// The number of the page: small, and different from those of all other pages.
    pub number: u32,
    /// `page->mapping`; `None` where that anon_vma was freed.
    pub anon_vma: Option<AnonVmaId>,
    /// `page->index`.
    pub index: PageOffset,
    /// The page table entries that map it, as the machine counts them (`page_mapcount()`).
    pub map_count: u32,
}

/// A page table entry that maps an anonymous page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pte {
    /// The process.
    pub process: Process,
    /// The address.
    pub page: Page,
    /// The number of the anonymous page; `None` where that page was freed.
    pub maps: Option<u32>,
}

/// An anon_vma.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnonVma {
    /// The number of the anon_vma.
    pub id: AnonVmaId,
    /// `anon_vma->parent`; a root is its own. `None` where the parent was freed.
    pub parent: Option<AnonVmaId>,
    /// `anon_vma->root`; a root is its own. `None` where the root was freed.
    pub root: Option<AnonVmaId>,
    /// `anon_vma->degree`: the VMAs that have it as their `anon_vma`, and the anon_vmas that have it
    /// as their parent.
    pub degree: i64,
    /// The part of the degree that counts VMAs (`num_active_vmas`); `None` where the machine keeps the
    /// sum alone.
    pub active_vmas: Option<i64>,
    /// The VMAs whose chain has it, as the machine counts them (the entries of `rb_root`).
    pub vmas: u32,
    /// `anon_vma->refcount`; `None` where the machine does not model it.
    pub references: Option<i64>,
}

/// A kernel object with a counter of references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counted {
    /// A `struct file` (`f_count`). Open files of one inode have the same number.
    File(FileId),
    /// A `mempolicy` (`refcnt`), which is not the default policy.
    Policy(Mode),
    /// A `userfaultfd_ctx` (`refcount`).
    Context(UffdId),
    /// The users of an `mm_struct` (`mm_users`).
    MmUsers,
    /// An `mm_struct` (`mm_count`).
    Mm,
}

/// The references to an object that is allocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct References {
    /// The object.
    pub to: Counted,
    /// The references, as the object's counter says.
    pub counter: i64,
    /// The references that are there and belong to no VMA: descriptors, processes and other objects. The
    /// references of VMAs are counted in the observation.
    pub others: i64,
}

/// The hidden state of a machine after an operation.
#[derive(Clone, Debug, Default)]
pub struct Hidden {
    /// Every anonymous page that is allocated.
    pub pages: Vec<AnonPage>,
    /// Every page table entry that maps an anonymous page.
    pub ptes: Vec<Pte>,
    /// Every anon_vma that is allocated.
    pub anon_vmas: Vec<AnonVma>,
    /// The `vm_area_struct`s that are allocated; `None` where the machine does not count them.
    pub vmas: Option<u32>,
    /// The `anon_vma_chain` entries that are allocated; `None` where the machine does not count them.
    pub chain_entries: Option<u32>,
    /// The `mm_struct`s that have users; `None` where the machine does not count them.
    pub mms: Option<u32>,
    /// The references to every object of [`Counted`] that is allocated; not read where
    /// `counts_references` is false.
    pub references: Vec<References>,
    /// The machine has counters of references.
    pub counts_references: bool,
}

impl Hidden {
    /// Forgets everything. Keeps its memory for reuse.
    pub fn clear(&mut self) {
        self.pages.clear();
        self.ptes.clear();
        self.anon_vmas.clear();
        (self.vmas, self.chain_entries, self.mms) = (None, None, None);
        self.references.clear();
        self.counts_references = false;
    }
}
