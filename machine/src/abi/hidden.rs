//! The hidden state across the C interface: `struct vmadiff_hidden`, of the optional function
//! `vmadiff_hidden()`.

use bytemuck::{Pod, Zeroable};

use super::{MAX_OBJECT, UNWRITTEN};
use crate::failure::{Nonsense, Place};
use crate::hidden;
use crate::observation::{AnonVmaId, FileId, UffdId};
use crate::operand::{END_PAGES, MAX_PROCESSES, Mode, Page, PageOffset, Process};

/// `VMADIFF_MAX_PAGES`: an anonymous page for each page of each process.
pub const MAX_PAGES: usize = MAX_PROCESSES * END_PAGES;
/// `VMADIFF_MAX_ANON_VMAS`.
pub const MAX_ANON_VMAS: usize = 4096;
/// `VMADIFF_MAX_REFERENCES`.
pub const MAX_REFERENCES: usize = 4096;
/// `VMADIFF_NOT_COUNTED`.
pub const NOT_COUNTED: u32 = u32::MAX;
/// `VMADIFF_NOT_MODELLED`.
pub const NOT_MODELLED: i64 = i64::MIN;

/// `struct vmadiff_anon_page`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct AnonPage {
    /// In pages.
    pub index: u64,
    /// An object number.
    pub number: u32,
    /// An object number, or 0 where the anon_vma was freed.
    pub anon_vma: u32,
    /// In page table entries.
    pub map_count: u32,
    /// 0.
    pub reserved: u32,
}

/// `struct vmadiff_pte`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct Pte {
    /// The index of a process.
    pub process: u32,
    /// A page number.
    pub page: u32,
    /// The number of an anonymous page, or 0 where that page was freed.
    pub maps: u32,
}

/// `struct vmadiff_anon_vma`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct AnonVma {
    /// `degree`.
    pub degree: i64,
    /// `num_active_vmas`, or [`NOT_MODELLED`].
    pub active_vmas: i64,
    /// `refcount`, or [`NOT_MODELLED`].
    pub references: i64,
    /// An object number.
    pub id: u32,
    /// An object number, or 0 where the parent was freed.
    pub parent: u32,
    /// An object number, or 0 where the root was freed.
    pub root: u32,
    /// Entries of `rb_root`.
    pub vmas: u32,
}

/// `VMADIFF_COUNTED_FILE`: an open file.
pub const COUNTED_FILE: u32 = 0;
/// `VMADIFF_COUNTED_POLICY`: a memory policy.
pub const COUNTED_POLICY: u32 = 1;
/// `VMADIFF_COUNTED_CONTEXT`: a userfaultfd context.
pub const COUNTED_CONTEXT: u32 = 2;
/// `VMADIFF_COUNTED_MM_USERS`: the users of an address space.
pub const COUNTED_MM_USERS: u32 = 3;
/// `VMADIFF_COUNTED_MM`: an `mm_struct`.
pub const COUNTED_MM: u32 = 4;

/// `struct vmadiff_references`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct References {
    /// As the object's counter says.
    pub counter: i64,
    /// The references that belong to no VMA.
    pub others: i64,
    /// [`COUNTED_FILE`] or one of the next constants.
    pub kind: u32,
    /// An object number of a file or a context, the mode of a policy, or 0.
    pub object: u32,
}

impl References {
    fn write(&hidden::References { to, counter, others }: &hidden::References) -> References {
        let (kind, object) = match to {
            hidden::Counted::File(file) => (COUNTED_FILE, file.number()),
            hidden::Counted::Policy(mode) => (COUNTED_POLICY, mode as u32),
            hidden::Counted::Context(ctx) => (COUNTED_CONTEXT, ctx.number()),
            hidden::Counted::MmUsers => (COUNTED_MM_USERS, 0),
            hidden::Counted::Mm => (COUNTED_MM, 0),
        };
        References { counter, others, kind, object }
    }

    /// Returns the references; `None` where the kind or the object breaks a rule of the header.
    fn read(&self) -> Option<hidden::References> {
        let known = (1..=MAX_OBJECT).contains(&self.object);
        let to = match self.kind {
            COUNTED_FILE if known => hidden::Counted::File(FileId::from_number(self.object)?),
            COUNTED_POLICY => hidden::Counted::Policy(
                *Mode::ALL.iter().find(|mode| **mode as u32 == self.object)?,
            ),
            COUNTED_CONTEXT if known => hidden::Counted::Context(UffdId::from_number(self.object)?),
            COUNTED_MM_USERS if self.object == 0 => hidden::Counted::MmUsers,
            COUNTED_MM if self.object == 0 => hidden::Counted::Mm,
            _ => return None,
        };
        Some(hidden::References { to, counter: self.counter, others: self.others })
    }
}

/// `struct vmadiff_hidden`.
#[derive(Clone, Copy, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Hidden {
    /// 1 where the library shows its hidden state, else 0.
    pub shown: u32,
    /// At most [`MAX_PAGES`].
    pub page_count: u32,
    /// At most [`MAX_PAGES`].
    pub pte_count: u32,
    /// At most [`MAX_ANON_VMAS`].
    pub anon_vma_count: u32,
    /// Allocated `vm_area_struct`s, or [`NOT_COUNTED`].
    pub vmas: u32,
    /// Allocated `anon_vma_chain` entries, or [`NOT_COUNTED`].
    pub chain_entries: u32,
    /// Allocated `mm_struct`s, or [`NOT_COUNTED`].
    pub mms: u32,
    /// At most [`MAX_REFERENCES`], or [`NOT_COUNTED`].
    pub reference_count: u32,
    /// The anonymous pages.
    pub pages: [AnonPage; MAX_PAGES],
    /// The page table entries that map anonymous pages.
    pub ptes: [Pte; MAX_PAGES],
    /// The anon_vmas.
    pub anon_vmas: [AnonVma; MAX_ANON_VMAS],
    /// The references to files, policies, contexts and address spaces.
    pub references: [References; MAX_REFERENCES],
}

impl Hidden {
    /// A buffer for the hidden state, on the heap.
    pub fn new() -> Box<Hidden> {
        let mut hidden: Box<Hidden> = bytemuck::zeroed_box();
        hidden.forget();
        hidden
    }

    /// Marks everything as not written.
    pub fn forget(&mut self) {
        (self.shown, self.reference_count) = (UNWRITTEN, UNWRITTEN);
        (self.page_count, self.pte_count, self.anon_vma_count) = (UNWRITTEN, UNWRITTEN, UNWRITTEN);
    }

    /// Writes the hidden state of a machine, or that it shows none. A state that is larger than the
    /// buffer is not shown.
    pub fn write(&mut self, hidden: Option<&hidden::Hidden>) {
        let fits = |hidden: &&hidden::Hidden| {
            hidden.pages.len() <= MAX_PAGES
                && hidden.ptes.len() <= MAX_PAGES
                && hidden.anon_vmas.len() <= MAX_ANON_VMAS
                && hidden.references.len() <= MAX_REFERENCES
        };
        let Some(hidden) = hidden.filter(fits) else {
            self.shown = 0;
            return;
        };
        let number = |id: Option<AnonVmaId>| id.map_or(0, |id| id.index() as u32 + 1);
        self.shown = 1;
        self.reference_count = match hidden.counts_references {
            true => hidden.references.len() as u32,
            false => NOT_COUNTED,
        };
        for (to, references) in self.references.iter_mut().zip(&hidden.references) {
            *to = References::write(references);
        }
        self.page_count = hidden.pages.len() as u32;
        self.pte_count = hidden.ptes.len() as u32;
        self.anon_vma_count = hidden.anon_vmas.len() as u32;
        self.vmas = hidden.vmas.unwrap_or(NOT_COUNTED);
        self.chain_entries = hidden.chain_entries.unwrap_or(NOT_COUNTED);
        self.mms = hidden.mms.unwrap_or(NOT_COUNTED);
        for (to, page) in self.pages.iter_mut().zip(&hidden.pages) {
            *to = AnonPage {
                index: page.index.0,
                number: page.number + 1,
                anon_vma: number(page.anon_vma),
                map_count: page.map_count,
                reserved: 0,
            };
        }
        for (to, pte) in self.ptes.iter_mut().zip(&hidden.ptes) {
            let (process, page) = (pte.process.0.into(), pte.page.0.into());
            *to = Pte { process, page, maps: pte.maps.map_or(0, |number| number + 1) };
        }
        for (to, anon_vma) in self.anon_vmas.iter_mut().zip(&hidden.anon_vmas) {
            *to = AnonVma {
                degree: anon_vma.degree,
                active_vmas: anon_vma.active_vmas.unwrap_or(NOT_MODELLED),
                references: anon_vma.references.unwrap_or(NOT_MODELLED),
                id: number(Some(anon_vma.id)),
                parent: number(anon_vma.parent),
                root: number(anon_vma.root),
                vmas: anon_vma.vmas,
            };
        }
    }

    /// Reads the hidden state into `to`, which is empty, and returns whether the library shows it.
    ///
    /// # Errors
    /// [`Nonsense`] that names the first field which breaks a rule of the header.
    pub fn read(&self, to: &mut hidden::Hidden) -> Result<bool, Nonsense> {
        let wrong = |field, value: u32, expected| {
            let value = if value == UNWRITTEN { -1 } else { value.into() };
            Err(Nonsense { place: Place::Hidden, field, value, expected })
        };
        match self.shown {
            0 => return Ok(false),
            1 => {}
            other => return wrong("shown", other, "0 or 1"),
        }
        let Some(pages) = self.pages.get(..self.page_count as usize) else {
            return wrong("page_count", self.page_count, "at most 1024");
        };
        let Some(ptes) = self.ptes.get(..self.pte_count as usize) else {
            return wrong("pte_count", self.pte_count, "at most 1024");
        };
        let Some(anon_vmas) = self.anon_vmas.get(..self.anon_vma_count as usize) else {
            return wrong("anon_vma_count", self.anon_vma_count, "at most 4096");
        };
        to.counts_references = self.reference_count != NOT_COUNTED;
        let count = if to.counts_references { self.reference_count } else { 0 };
        let Some(references) = self.references.get(..count as usize) else {
            return wrong("reference_count", self.reference_count, "at most 4096");
        };
        for references in references {
            let Some(read) = references.read() else {
                return wrong("object", references.object, "an object of the kind");
            };
            to.references.push(read);
        }
        let counted = |count: u32| (count != NOT_COUNTED).then_some(count);
        (to.vmas, to.chain_entries) = (counted(self.vmas), counted(self.chain_entries));
        to.mms = counted(self.mms);
        let optional = |number: u32| match number {
            0 => Some(None),
            1..=MAX_OBJECT => Some(Some(AnonVmaId::new(number - 1))),
            _ => None,
        };
        for page in pages {
            let Some(anon_vma) = optional(page.anon_vma) else {
                return wrong("anon_vma", page.anon_vma, "0, or an object number up to 65535");
            };
            if !(1..=MAX_OBJECT).contains(&page.number) {
                return wrong("number", page.number, "an object number, 1 to 65535");
            }
            to.pages.push(hidden::AnonPage {
                number: page.number - 1,
                anon_vma,
                index: PageOffset(page.index),
                map_count: page.map_count,
            });
        }
        for pte in ptes {
            if pte.process as usize >= MAX_PROCESSES {
                return wrong("process", pte.process, "0 to 7");
            }
            if pte.page as usize >= END_PAGES {
                return wrong("page", pte.page, "0 to 127");
            }
            if pte.maps > MAX_OBJECT {
                return wrong("maps", pte.maps, "0, or an object number up to 65535");
            }
            to.ptes.push(hidden::Pte {
                process: Process(pte.process as u8),
                page: Page(pte.page as u8),
                maps: pte.maps.checked_sub(1),
            });
        }
        for anon_vma in anon_vmas {
            let (Some(Some(id)), Some(parent), Some(root)) =
                (optional(anon_vma.id), optional(anon_vma.parent), optional(anon_vma.root))
            else {
                return wrong("id", anon_vma.id, "object numbers up to 65535");
            };
            let modelled = |value: i64| (value != NOT_MODELLED).then_some(value);
            to.anon_vmas.push(hidden::AnonVma {
                id,
                parent,
                root,
                degree: anon_vma.degree,
                active_vmas: modelled(anon_vma.active_vmas),
                vmas: anon_vma.vmas,
                references: modelled(anon_vma.references),
            });
        }
        Ok(true)
    }
}
