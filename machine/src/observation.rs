//! Observations: what a machine shows after an operation.

use std::fmt;
use std::num::NonZeroU32;

use crate::errno::Errno;
use crate::failure::Failure;
use crate::flags::VmFlags;
use crate::operand::{MAX_PROCESSES, Mode, Page, PageOffset, Process};
use crate::range::Range;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        ///
        /// Two are equal exactly where they are the same object at the same time. Which number a
        /// machine gives is its own affair: observations are compared up to renumbering.
        /// Numbers should be small: comparing uses them as indices.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(NonZeroU32);

        impl $name {
            /// The object numbered `index`, counting from 0.
            #[inline]
            pub const fn new(index: u32) -> $name {
                // The top of the range folds onto one object: 2^32 objects are never reached.
                $name(NonZeroU32::MIN.saturating_add(index))
            }

            /// The object with this number in the C interface, counting from 1; `None` for 0.
            #[inline]
            pub(crate) const fn from_number(number: u32) -> Option<$name> {
                match NonZeroU32::new(number) {
                    Some(number) => Some($name(number)),
                    None => None,
                }
            }

            /// The number in the C interface, counting from 1.
            #[inline]
            pub(crate) const fn number(self) -> u32 {
                self.0.get()
            }

            /// The number, counting from 0.
            #[inline]
            pub const fn index(self) -> usize {
                self.0.get() as usize - 1
            }
        }
    )*};
}

ids! {
    /// An `anon_vma`: what the anonymous pages of a mapping, and of its copies, hang on.
    AnonVmaId
    /// A file: one of the memfds, the device, or the object behind a shared anonymous mapping.
    FileId
    /// A userfaultfd context.
    UffdId
}

/// A VMA as it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vma {
    /// The first page.
    pub start: Page,
    /// One past the last page.
    pub end: Page,
    /// `vm_pgoff`.
    pub pgoff: PageOffset,
    /// `vm_flags`.
    pub flags: VmFlags,
    /// Where new anonymous pages go; `None` before the first.
    pub anon_vma: Option<AnonVmaId>,
    /// `vm_file`.
    pub file: Option<FileId>,
    /// `vm_userfaultfd_ctx`.
    pub uffd: Option<UffdId>,
    /// The mode of `vm_policy`.
    pub policy: Mode,
    /// Whether `vm_ops->close` exists.
    pub close: bool,
    /// Where the chain is in [`AddressSpace::chain`]; set by [`AddressSpace::push`].
    chain: (u32, u32),
}

impl Vma {
    /// A VMA with these attributes; its chain is given to [`AddressSpace::push`].
    #[allow(clippy::too_many_arguments)]
    #[inline]
    pub const fn new(
        (start, end): (Page, Page),
        pgoff: PageOffset,
        flags: VmFlags,
        anon_vma: Option<AnonVmaId>,
        file: Option<FileId>,
        uffd: Option<UffdId>,
        policy: Mode,
        close: bool,
    ) -> Vma {
        Vma { start, end, pgoff, flags, anon_vma, file, uffd, policy, close, chain: (0, 0) }
    }

    /// The pages of the VMA.
    #[inline]
    pub const fn range(&self) -> Range {
        Range { start: self.start, end: self.end }
    }
}

/// The counters of an address space, in pages (`map_count`: in VMAs), of what is in the arena.
/// Signed: a buggy kernel may count below zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Pages mapped.
    pub total_vm: i64,
    /// Pages of `VM_LOCKED` mappings.
    pub locked_vm: i64,
    /// Pages of private writable mappings (`is_data_mapping`).
    pub data_vm: i64,
    /// VMAs.
    pub map_count: i64,
}

/// A set of page numbers, bit `n` for page `n`.
pub type PageSet = u128;

/// An address space as it is shown.
#[derive(Clone, Debug, Default)]
pub struct AddressSpace {
    /// Whether there is a process with this index; where not, the rest is empty.
    pub alive: bool,
    /// The counters.
    pub counters: Counters,
    /// The pages whose page table entry maps an anonymous page: private memory that was written.
    /// The zero page and pages of files are not among them.
    pub anon_pages: PageSet,
    vmas: Vec<Vma>,
    chains: Vec<AnonVmaId>,
}

impl AddressSpace {
    /// Forgets everything: no process has this index. Keeps its memory for reuse.
    pub fn clear(&mut self) {
        self.alive = false;
        self.counters = Counters::default();
        self.anon_pages = 0;
        self.vmas.clear();
        self.chains.clear();
    }

    /// Appends a VMA, in address order, and the anon_vma of each of its `anon_vma_chain`
    /// entries, newest first.
    #[inline]
    pub fn push(&mut self, mut vma: Vma, chain: impl IntoIterator<Item = AnonVmaId>) {
        let from = self.chains.len() as u32;
        self.chains.extend(chain);
        vma.chain = (from, self.chains.len() as u32);
        self.vmas.push(vma);
    }

    /// Appends VMAs, each with the length of its chain, and the chains of all of them.
    #[inline]
    pub(crate) fn extend(
        &mut self,
        vmas: impl IntoIterator<Item = (Vma, u32)>,
        chains: impl IntoIterator<Item = AnonVmaId>,
    ) {
        let mut from = self.chains.len() as u32;
        self.chains.extend(chains);
        self.vmas.extend(vmas.into_iter().map(|(mut vma, length)| {
            vma.chain = (from, from + length);
            from += length;
            vma
        }));
    }

    /// The chains of all VMAs, one after the other.
    #[inline]
    pub(crate) fn chains(&self) -> &[AnonVmaId] {
        &self.chains
    }

    /// The VMAs in address order.
    #[inline]
    pub fn vmas(&self) -> &[Vma] {
        &self.vmas
    }

    /// The chain of one of this address space's VMAs: the anon_vma of each entry, newest first.
    #[inline]
    pub fn chain(&self, vma: &Vma) -> &[AnonVmaId] {
        &self.chains[vma.chain.0 as usize..vma.chain.1 as usize]
    }

    /// The VMA that maps `page`.
    pub fn vma_at(&self, page: Page) -> Option<&Vma> {
        self.vmas.iter().find(|v| v.start <= page && page < v.end)
    }
}

/// What `copy_vma()` answered, where it ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyReport {
    /// The new range was merged with a neighbour.
    pub merged: bool,
    /// `*need_rmap_locks` after the call.
    pub need_rmap_locks: bool,
    /// The caller took the locks if it was told to. `false` only where `need_rmap_locks` was
    /// thrown away.
    pub honoured: bool,
    /// The caller's source pointer was redirected to the merged mapping.
    pub source_redirected: bool,
}

/// What kind of kernel object was read after it had been freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Object {
    /// A `vm_area_struct`.
    Vma,
    /// An `anon_vma`.
    AnonVma,
    /// An `mm_struct`.
    Mm,
}

/// Which kernel assertion failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Assertion {
    /// `VM_BUG_ON` or `BUG_ON`: the kernel stops there.
    BugOn,
    /// `VM_WARN_ON` or `WARN_ON`: the kernel goes on.
    WarnOn,
}

/// Something that must never happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Freed memory was read.
    UseAfterFree {
        /// What was freed.
        object: Object,
        /// The kernel function that read it.
        function: &'static str,
        /// The field it read.
        field: &'static str,
    },
    /// An assertion failed.
    Assertion {
        /// Whether the kernel goes on.
        assertion: Assertion,
        /// The kernel function it is in.
        function: &'static str,
        /// What it says must not be.
        condition: &'static str,
    },
    /// An anonymous page that a reverse-map walk from its anon_vma does not find where it is
    /// mapped (point 9 of the contract).
    UnreachablePage {
        /// The process that maps it.
        process: Process,
        /// Where.
        page: Page,
    },
    /// The machine, a shared library, failed: there is no observation.
    Library(Failure),
}

impl Event {
    /// Whether the kernel does not survive it: the run of the program ends here.
    pub const fn is_fatal(&self) -> bool {
        matches!(
            self,
            Event::UseAfterFree { .. }
                | Event::Assertion { assertion: Assertion::BugOn, .. }
                | Event::Library(_)
        )
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Event::UseAfterFree { object, function, field } => {
                let object = match object {
                    Object::Vma => "vm_area_struct",
                    Object::AnonVma => "anon_vma",
                    Object::Mm => "mm_struct",
                };
                write!(f, "use-after-free: {function}() reads {field} of a freed {object}")
            }
            Event::Assertion { assertion, function, condition } => {
                let name = match assertion {
                    Assertion::BugOn => "VM_BUG_ON",
                    Assertion::WarnOn => "VM_WARN_ON",
                };
                write!(f, "assertion: {name}({condition}) in {function}()")
            }
            Event::UnreachablePage { process, page } => {
                write!(f, "unreachable page: rmap does not find page {page} of process {process}")
            }
            Event::Library(failure) => write!(f, "library: {failure}"),
        }
    }
}

/// A set of processes, bit `n` for process `n`.
pub type ProcessSet = u8;

/// What a machine shows after an operation.
#[derive(Clone, Debug)]
pub struct Observation {
    /// What the operation returned: 0, or the page that `mmap`, `mremap` and `copy` return, or
    /// the index of the child that `fork` returns; or the error.
    pub result: Result<u8, Errno>,
    /// What `copy_vma()` answered, where it ran to its end.
    pub copy: Option<CopyReport>,
    /// What must never happen, in the order it happened.
    pub events: Vec<Event>,
    /// Pages charged to committed memory by the `VM_ACCOUNT` mappings of all processes. What
    /// shmem charges for its objects is left out.
    pub committed: i64,
    /// The address space of each process.
    pub spaces: [AddressSpace; MAX_PROCESSES],
    /// The address spaces that the last operation may have changed; the others are as they were.
    pub changed: ProcessSet,
}

impl Default for Observation {
    /// The start of every program: process 0, with nothing mapped.
    fn default() -> Self {
        let mut spaces: [AddressSpace; MAX_PROCESSES] = Default::default();
        spaces[0].alive = true;
        Observation {
            result: Ok(0),
            copy: None,
            events: Vec::new(),
            committed: 0,
            spaces,
            changed: !0,
        }
    }
}

impl Observation {
    /// Back to the start of a program: process 0, with nothing mapped. Keeps its memory for
    /// reuse.
    pub fn reset(&mut self) {
        self.begin_step();
        self.committed = 0;
        for space in &mut self.spaces {
            space.clear();
        }
        self.spaces[0].alive = true;
        self.changed = !0;
    }

    /// Forgets what belongs to one operation only: the result, the copy, the events, the set of
    /// changed processes. The first thing a machine does in [`Machine::step`](crate::Machine::step).
    pub fn begin_step(&mut self) {
        self.result = Ok(0);
        self.copy = None;
        self.events.clear();
        self.changed = 0;
    }

    /// The address space of `process`, empty and marked as changed, to be filled.
    pub fn rewrite(&mut self, process: Process) -> &mut AddressSpace {
        self.changed |= 1 << process.0;
        let space = &mut self.spaces[usize::from(process.0)];
        space.clear();
        space
    }

    /// Whether the kernel did not survive the operation: the program ends here.
    pub fn is_fatal(&self) -> bool {
        self.events.iter().any(Event::is_fatal)
    }
}
