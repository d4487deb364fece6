//! Observations: the state that a machine shows after an operation.

mod shown_state;

use std::fmt;
use std::num::NonZeroU32;

use crate::allocation::Allocation;
use crate::errno::Errno;
use crate::failure::Failure;
use crate::flags::VmFlags;
use crate::message::Message;
use crate::operand::{MAX_PROCESSES, Mode, Page, PageOffset, Process};
use crate::range::Range;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        ///
        /// In one observation, equal numbers mean the same object and different numbers mean
        /// different objects. A machine is free to choose the numbers: observations are compared up
        /// to renumbering. Numbers should be small, because the comparison uses them as indices.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(NonZeroU32);

        impl $name {
            /// Returns the object with the number `index`, counted from 0.
            #[inline]
            pub const fn new(index: u32) -> $name {
                // `u32::MAX - 1` and `u32::MAX` give the same object. No machine has so many
                // objects.
                $name(NonZeroU32::MIN.saturating_add(index))
            }

            /// Returns the object with this number in the C interface, counted from 1; `None` for
            /// 0.
            #[inline]
            pub(crate) const fn from_number(number: u32) -> Option<$name> {
                match NonZeroU32::new(number) {
                    Some(number) => Some($name(number)),
                    None => None,
                }
            }

            /// Returns the number in the C interface, counted from 1.
            #[inline]
            pub(crate) const fn number(self) -> u32 {
                self.0.get()
            }

            /// Returns the number, counted from 0.
            #[inline]
            pub const fn index(self) -> usize {
                self.0.get() as usize - 1
            }
        }
    )*};
}

ids! {
    /// An `anon_vma`: the reverse map finds the anonymous pages of a mapping, and of its copies,
    /// through this object.
    AnonVmaId
    /// A file: one of the memfds, the device, the segment of SysV shared memory, or the object behind a
    /// shared anonymous mapping. Each attachment of the segment has an open file of its own in the
    /// kernel; here all are the segment.
    FileId
    /// A userfaultfd context. A message has the number that the context has in the observation before.
    UffdId
    /// An anonymous page. A page keeps its number for as long as it is mapped: pages are compared over
    /// time, too. The number of a page that an operation frees is free for another page from the
    /// next operation on.
    PageId
}

/// A VMA in an observation.
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
    /// `vma->anon_vma`, to which new anonymous pages belong; `None` before the first page.
    pub anon_vma: Option<AnonVmaId>,
    /// `vm_file`.
    pub file: Option<FileId>,
    /// `vm_userfaultfd_ctx`.
    pub uffd: Option<UffdId>,
    /// The mode of `vm_policy`.
    pub policy: Mode,
    /// Says whether the VMA has a `vm_ops->close` handler.
    pub close: bool,
    /// The start and the end of the VMA's chain in the field `chains` of [`AddressSpace`]. Set by
    /// [`AddressSpace::push`].
    chain: (u32, u32),
}

impl Vma {
    /// Returns a VMA with these attributes. The chain is given to [`AddressSpace::push`].
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

    /// Returns the pages of the VMA.
    #[inline]
    pub const fn range(&self) -> Range {
        Range { start: self.start, end: self.end }
    }
}

/// The counters of an address space. They count the arena only, in pages (`map_count` in VMAs). The
/// counters are signed, because a buggy kernel may count below zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Mapped pages.
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

/// An address space in an observation.
#[derive(Debug, Default)]
pub struct AddressSpace {
    /// Says whether a process with this index exists. If not, all other fields are empty.
    pub alive: bool,
    /// The counters.
    pub counters: Counters,
    /// The pages whose page table entry maps an anonymous page: private memory that was written.
    /// Entries that map the zero page or pages of files are not among them.
    pub anon_pages: PageSet,
    /// The pages whose page table entry maps the zero page: private anonymous memory that was read and
    /// not written.
    pub zero_pages: PageSet,
    /// The pages of `anon_pages` whose page table entry has its write bit: a write changes the page
    /// without a fault.
    pub writable_ptes: PageSet,
    page_ids: Vec<PageId>,
    vmas: Vec<Vma>,
    chains: Vec<AnonVmaId>,
}

crate::clone_by_field!(AddressSpace {
    alive,
    counters,
    anon_pages,
    zero_pages,
    writable_ptes,
    page_ids,
    vmas,
    chains
});

impl AddressSpace {
    /// Makes the address space empty: no process has this index. Allocated memory is kept for
    /// reuse.
    pub fn clear(&mut self) {
        self.alive = false;
        self.counters = Counters::default();
        self.anon_pages = 0;
        self.zero_pages = 0;
        self.writable_ptes = 0;
        self.page_ids.clear();
        self.vmas.clear();
        self.chains.clear();
    }

    /// Appends the identities of anonymous pages. The caller appends one for each page of
    /// `anon_pages`, in address order.
    #[inline]
    pub fn push_page_ids(&mut self, ids: impl IntoIterator<Item = PageId>) {
        self.page_ids.extend(ids);
    }

    /// Returns the anonymous page that each entry of `anon_pages` maps, in address order. Empty where
    /// the machine does not show the identity of pages.
    #[inline]
    pub fn page_ids(&self) -> &[PageId] {
        &self.page_ids
    }

    /// Returns the anonymous page that is mapped at `page`; `None` where none is, and where the
    /// machine does not show the identity of pages.
    pub fn page_id(&self, page: Page) -> Option<PageId> {
        let bit = 1u128.checked_shl(page.0.into())?;
        let below = (self.anon_pages & (bit - 1)).count_ones() as usize;
        if self.anon_pages & bit == 0 { None } else { self.page_ids.get(below).copied() }
    }

    /// Appends a VMA and its `anon_vma_chain`: the anon_vma of each entry, newest first. The caller
    /// appends VMAs in address order.
    #[inline]
    pub fn push(&mut self, mut vma: Vma, chain: impl IntoIterator<Item = AnonVmaId>) {
        let from = self.chains.len() as u32;
        self.chains.extend(chain);
        vma.chain = (from, self.chains.len() as u32);
        self.vmas.push(vma);
    }

    /// Appends VMAs, each with the length of its chain. `chains` has the chains of all these VMAs,
    /// one after the other.
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

    /// Returns the chains of all VMAs, one after the other.
    #[inline]
    pub(crate) fn chains(&self) -> &[AnonVmaId] {
        &self.chains
    }

    /// Returns the VMAs in address order.
    #[inline]
    pub fn vmas(&self) -> &[Vma] {
        &self.vmas
    }

    /// Returns the `anon_vma_chain` of a VMA of this address space: the anon_vma of each entry,
    /// newest first.
    #[inline]
    pub fn chain(&self, vma: &Vma) -> &[AnonVmaId] {
        &self.chains[vma.chain.0 as usize..vma.chain.1 as usize]
    }

    /// Returns the VMA that maps `page`; `None` if the page is not mapped.
    pub fn vma_at(&self, page: Page) -> Option<&Vma> {
        self.vmas.iter().find(|v| v.start <= page && page < v.end)
    }
}

/// The answer of `copy_vma()`, if the function ran to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyReport {
    /// The new range was merged with a neighbour.
    pub merged: bool,
    /// `*need_rmap_locks` after the call.
    pub need_rmap_locks: bool,
    /// The caller took the rmap locks if `need_rmap_locks` says so. `false` only if the caller
    /// ignored `need_rmap_locks`.
    pub honoured: bool,
    /// The caller's source pointer was redirected to the merged VMA.
    pub source_redirected: bool,
}

/// The kind of a kernel object that was read after it had been freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Object {
    /// A `vm_area_struct`.
    Vma,
    /// An `anon_vma`.
    AnonVma,
    /// An `mm_struct`.
    Mm,
    /// A `struct file`.
    File,
    /// A `mempolicy`.
    Policy,
    /// A `userfaultfd_ctx`.
    Context,
}

/// The kind of a kernel assertion that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Assertion {
    /// `VM_BUG_ON` or `BUG_ON`: the kernel stops.
    BugOn,
    /// `VM_WARN_ON` or `WARN_ON`: the kernel goes on.
    WarnOn,
}

/// A failure that a correct kernel never shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Freed memory was read.
    UseAfterFree {
        /// The kind of the freed object.
        object: Object,
        /// The kernel function that read it.
        function: &'static str,
        /// The field that was read.
        field: &'static str,
    },
    /// An assertion failed.
    Assertion {
        /// The kind of the assertion.
        assertion: Assertion,
        /// The kernel function that has the assertion.
        function: &'static str,
        /// The condition that the assertion forbids.
        condition: &'static str,
    },
    /// A reverse-map walk from the anon_vma of an anonymous page does not find the page where it is
    /// mapped (point 9 of the contract).
    UnreachablePage {
        /// The process that maps the page.
        process: Process,
        /// The page number at which the page is mapped.
        page: Page,
    },
    /// A lock is taken while the operation holds it: the operation waits for itself for ever.
    Deadlock {
        /// The kernel function that takes the lock.
        function: &'static str,
        /// The lock.
        lock: &'static str,
    },
    /// A lock is still held when the operation ends.
    LockHeld {
        /// The kernel function that took the lock.
        function: &'static str,
        /// The lock.
        lock: &'static str,
    },
    /// The machine is a shared library and failed: there is no observation.
    Library(Failure),
}

impl Event {
    /// Returns whether the event ends the run of the program: the kernel does not survive it, or
    /// the machine's library failed.
    pub const fn is_fatal(&self) -> bool {
        matches!(
            self,
            Event::UseAfterFree { .. }
                | Event::Assertion { assertion: Assertion::BugOn, .. }
                | Event::Deadlock { .. }
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
                    Object::File => "file",
                    Object::Policy => "mempolicy",
                    Object::Context => "userfaultfd_ctx",
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
            Event::Deadlock { function, lock } => {
                write!(f, "deadlock: {function}() takes {lock}, which is held already")
            }
            Event::LockHeld { function, lock } => {
                write!(f, "lock held: {lock}, taken by {function}(), is not released")
            }
            Event::Library(failure) => write!(f, "library: {failure}"),
        }
    }
}

/// The calls of a driver that an operation made, for VMAs whose driver has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DriverCalls {
    /// Calls of `vm_ops->open`: one for each VMA that a split, a fork, a move or a copy makes. The
    /// driver counts the VMA of an `mmap` or a `shmat` itself.
    pub opens: u32,
    /// Calls of `vm_ops->close`: one for each VMA that goes.
    pub closes: u32,
}

/// A set of processes, bit `n` for process `n`.
pub type ProcessSet = u8;

/// The state that a machine shows after an operation.
#[derive(Debug)]
pub struct Observation {
    /// The value that the operation returned, or the error. The value is the page for `mmap`,
    /// `mremap` and `copy`, the index of the child for `fork`, and otherwise 0.
    pub result: Result<u8, Errno>,
    /// The value that a `touch` has read; `None` for any other operation, and for one that fails.
    pub read: Option<u8>,
    /// The memory that the operation asked for and did not get, because the program lets an allocation
    /// fail ([`Limits::fail`](crate::Limits::fail)). The reference never shows any.
    pub failed: Option<Allocation>,
    /// The answer of `copy_vma()`; `None` if the function did not run to its end.
    pub copy: Option<CopyReport>,
    /// The calls of `vm_ops->open` and `vm_ops->close`, in all processes together.
    pub driver: DriverCalls,
    /// `shm_nattch` of the segment of SysV shared memory: the VMAs that map it, in all processes
    /// together. `None` after the segment was destroyed.
    pub attached: Option<i64>,
    /// The messages to the monitors of userfaultfd contexts, in the order in which they are sent.
    pub messages: Vec<Message>,
    /// The failures that the operation met, in the order in which they happened.
    pub events: Vec<Event>,
    /// Pages charged to committed memory by the `VM_ACCOUNT` mappings of all processes. The charges
    /// of shmem for its objects are left out.
    pub committed: i64,
    /// The address space of each process.
    pub spaces: [AddressSpace; MAX_PROCESSES],
    /// The address spaces that the last operation may have changed. The others are unchanged.
    pub changed: ProcessSet,
}

crate::clone_by_field!(Observation {
    result,
    read,
    failed,
    copy,
    driver,
    attached,
    messages,
    events,
    committed,
    spaces,
    changed
});

impl Default for Observation {
    /// Returns the state at the start of every program: process 0 exists, and nothing is mapped.
    fn default() -> Self {
        let mut spaces: [AddressSpace; MAX_PROCESSES] = Default::default();
        spaces[0].alive = true;
        Observation {
            result: Ok(0),
            read: None,
            failed: None,
            copy: None,
            driver: DriverCalls::default(),
            attached: Some(0),
            messages: Vec::new(),
            events: Vec::new(),
            committed: 0,
            spaces,
            changed: !0,
        }
    }
}

impl Observation {
    /// Goes back to the start of a program: process 0 exists, and nothing is mapped. Allocated
    /// memory is kept for reuse.
    pub fn reset(&mut self) {
        self.begin_step();
        self.committed = 0;
        self.attached = Some(0);
        for space in &mut self.spaces {
            space.clear();
        }
        self.spaces[0].alive = true;
        self.changed = !0;
    }

    /// Clears the fields that belong to one operation only: the result, the value read, the allocation that
    /// failed, the copy, the calls of drivers, the messages, the events, the set of changed processes. A machine calls this first in
    /// [`Machine::step`](crate::Machine::step).
    pub fn begin_step(&mut self) {
        self.result = Ok(0);
        self.read = None;
        self.failed = None;
        self.copy = None;
        self.driver = DriverCalls::default();
        self.messages.clear();
        self.events.clear();
        self.changed = 0;
    }

    /// Returns the address space of `process`, emptied and marked as changed. The caller fills it.
    pub fn rewrite(&mut self, process: Process) -> &mut AddressSpace {
        self.changed |= 1 << process.0;
        let space = &mut self.spaces[usize::from(process.0)];
        space.clear();
        space
    }

    /// Returns whether the operation ends the run of the program: one of its events
    /// [is fatal](Event::is_fatal).
    pub fn is_fatal(&self) -> bool {
        self.events.iter().any(Event::is_fatal)
    }
}
