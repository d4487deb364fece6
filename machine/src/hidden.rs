//! The hidden state of a machine: objects that no observation shows, for the invariants.
//!
//! A machine fills a [`Hidden`] on demand, so the state costs nothing while nobody asks for it. Object
//! numbers of anon_vmas are those of the machine's last observation.

use crate::observation::{AnonVmaId, FileId, UffdId};
use crate::operand::{Mode, Page, PageOffset, Process};
use crate::state::{Objects, State};

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

/// Returns a value that may be missing as a word.
fn optional(value: Option<i64>) -> [u64; 2] {
    [value.is_some().into(), value.unwrap_or_default() as u64]
}

impl Hidden {
    /// Adds the hidden state to `state`, after [the observation](crate::Observation::write_state) of the
    /// same machine.
    pub fn write_state(&self, state: &mut State) {
        let Hidden {
            pages,
            ptes,
            anon_vmas,
            vmas,
            chain_entries,
            mms,
            references,
            counts_references,
        } = self;
        let mut ptes: Vec<&Pte> = ptes.iter().collect();
        ptes.sort_by_key(|pte| (pte.process, pte.page));
        for &Pte { process, page, maps } in ptes {
            let page_number = state.number(Objects::AnonPage, maps.map(|number| number as usize));
            state.word(u64::from(process.0) | u64::from(page.0) << 8 | page_number << 16);
        }
        state.word(pages.len() as u64);
        for n in 0.. {
            let Some(index) = state.visited(Objects::AnonPage, n) else { break };
            let Some(page) = pages.iter().find(|page| u64::from(page.number) == index) else {
                continue;
            };
            let AnonPage { number: _, anon_vma, index, map_count } = *page;
            let anon_vma = state.number(Objects::AnonVma, anon_vma.map(AnonVmaId::index));
            state.word(anon_vma | u64::from(map_count) << 32);
            state.word(index.0);
        }
        state.word(anon_vmas.len() as u64);
        for n in 0.. {
            let Some(index) = state.visited(Objects::AnonVma, n) else { break };
            let Some(found) = anon_vmas.iter().find(|found| found.id.index() as u64 == index)
            else {
                continue;
            };
            let AnonVma { id: _, parent, root, degree, active_vmas, vmas, references } = *found;
            let parent = state.number(Objects::AnonVma, parent.map(AnonVmaId::index));
            let root = state.number(Objects::AnonVma, root.map(AnonVmaId::index));
            state.word(parent | root << 32);
            state.word(degree as u64);
            state.word(vmas.into());
            for word in [active_vmas, references].into_iter().flat_map(optional) {
                state.word(word);
            }
        }
        for word in [vmas, chain_entries, mms].into_iter().flat_map(|n| optional(n.map(i64::from)))
        {
            state.word(word);
        }
        state.word((*counts_references).into());
        let mut references: Vec<[u64; 4]> =
            references.iter().map(|references| references.words(state)).collect();
        references.sort_unstable();
        references.iter().flatten().for_each(|&word| state.word(word));
    }
}

impl References {
    /// Returns the words of the state. An object that the observation does not show has the number 0.
    fn words(&self, state: &State) -> [u64; 4] {
        let References { to, counter, others } = *self;
        let (kind, number) = match to {
            Counted::File(file) => (0, state.number_if_visited(Objects::File, file.index())),
            Counted::Policy(mode) => (1, mode as u64),
            Counted::Context(ctx) => (2, state.number_if_visited(Objects::Uffd, ctx.index())),
            Counted::MmUsers => (3, 0),
            Counted::Mm => (4, 0),
        };
        [kind, number, counter as u64, others as u64]
    }
}
