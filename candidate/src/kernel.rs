//! The kernel: its objects in arenas, and its processes.

use slotmap::{Key as _, SlotMap};
use vmadiff_machine::operand::{END_PAGES, MAX_PROCESSES, Process, Resource};
use vmadiff_machine::{Assertion, CopyReport, DriverCalls, Errno, Event, Limits, Message};

use crate::key::{AnonVmaKey, CtxKey, FileKey, MmKey, PageKey, PolicyKey, VmaKey};
use crate::limits::Rlim;
use crate::locks::Locks;
use crate::memory::Memory;
use crate::objects::{AnonPage, AnonVma, Chains, File, Mempolicy, Mm, Ptes, UserfaultfdCtx, Vma};
use crate::revision::Revision;
use crate::shm::ShmidKernel;
use crate::shmem::Inodes;
use crate::stop::Stop;
use crate::userfaultfd_event::Lists;

/// A reset makes an arena with more slots than this anew. Otherwise one large program would make
/// the reset slow for all programs after it.
const SLOTS_KEPT: usize = 256;

/// Memory that is kept for reuse, and not cloned.
#[derive(Debug, Default)]
pub(crate) struct Spare(Vec<Ptes>);

impl Clone for Spare {
    fn clone(&self) -> Spare {
        Spare::default()
    }

    /// A clone of the kernel made its own memory, so only as much is kept as a kernel can use.
    fn clone_from(&mut self, _: &Spare) {
        self.0.truncate(MAX_PROCESSES);
    }
}

/// All state of the kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    /// The text of the kernel code that the candidate follows.
    pub(crate) revision: Revision,
    pub(crate) limits: Limits,
    pub(crate) vmas: SlotMap<VmaKey, Vma>,
    pub(crate) mms: SlotMap<MmKey, Mm>,
    /// The ptes of address spaces that are gone, kept for reuse.
    pub(crate) spare_ptes: Spare,
    pub(crate) anon_vmas: SlotMap<AnonVmaKey, AnonVma>,
    pub(crate) pages: SlotMap<PageKey, AnonPage>,
    pub(crate) chains: Chains,
    pub(crate) inodes: Inodes,
    pub(crate) files: SlotMap<FileKey, File>,
    pub(crate) policies: SlotMap<PolicyKey, Mempolicy>,
    /// Every userfaultfd context that was opened, in order.
    pub(crate) contexts: Vec<UserfaultfdCtx>,
    /// The address space of each process.
    pub(crate) processes: [Option<MmKey>; MAX_PROCESSES],
    /// The limits of each process (`signal_struct`).
    pub(crate) rlim: [Rlim; MAX_PROCESSES],
    /// The process that makes the system call.
    pub(crate) current: usize,
    /// The descriptors of the two userfaultfd contexts of each process, where they were opened.
    pub(crate) userfaultfd: [[Option<CtxKey>; 2]; MAX_PROCESSES],
    /// The descriptors that every process has: the memfds and the device, by inode.
    pub(crate) fds: [FileKey; Inodes::DESCRIPTORS],
    /// The pages that mappings have charged to committed memory (`vm_committed_as`).
    pub(crate) committed: i64,
    /// The segment of SysV shared memory; `None` after it was destroyed.
    pub(crate) shm: Option<ShmidKernel>,
    pub(crate) anon_vma_ids: u32,
    pub(crate) anon_vma_ids_free: Vec<u32>,
    pub(crate) page_ids: u32,
    pub(crate) page_ids_free: Vec<u32>,
    /// The numbers of pages that the operation has freed. The next operation may use them.
    pub(crate) page_ids_freed: Vec<u32>,
    /// The writes of the program that succeeded.
    pub(crate) writes: u32,

    /// The kernel did not survive the last operation. Only a reset helps.
    pub(crate) dead: bool,
    /// The allocations of the program, one of which can fail.
    pub(crate) memory: Memory,

    // The fields below belong to one operation.
    /// The locks that the operation holds.
    pub(crate) locks: Locks,
    /// The contexts of userfaultfd that are to get messages.
    pub(crate) lists: Lists,
    /// The messages to monitors of userfaultfd, in order.
    pub(crate) messages: Vec<Message>,
    /// Assertions that failed and pages that the reverse map lost, in order.
    pub(crate) events: Vec<Event>,
    /// The report of `copy_vma()`, where it ran.
    pub(crate) copy: Option<CopyReport>,
    /// The value that a `touch` has read.
    pub(crate) read: Option<u8>,
    /// The calls of `vm_ops->open` and `vm_ops->close`.
    pub(crate) driver: DriverCalls,
    /// An observable part of an address space may have changed.
    pub(crate) dirty: bool,
    /// A mapping of anonymous pages may have changed: [`Kernel::check_rmap`] has work to do.
    pub(crate) rmap_dirty: bool,
}

vmadiff_machine::clone_by_field!(Kernel {
    revision,
    limits,
    vmas,
    mms,
    spare_ptes,
    anon_vmas,
    pages,
    chains,
    inodes,
    files,
    policies,
    contexts,
    processes,
    rlim,
    current,
    userfaultfd,
    fds,
    committed,
    shm,
    anon_vma_ids,
    anon_vma_ids_free,
    page_ids,
    page_ids_free,
    page_ids_freed,
    writes,
    dead,
    memory,
    locks,
    lists,
    messages,
    events,
    copy,
    read,
    driver,
    dirty,
    rmap_dirty
});

impl Kernel {
    /// Makes a kernel at the start of a program without limits.
    pub(crate) fn new(revision: Revision) -> Kernel {
        let mut kernel = Kernel {
            revision,
            limits: Limits::default(),
            vmas: SlotMap::with_key(),
            mms: SlotMap::with_key(),
            spare_ptes: Spare::default(),
            anon_vmas: SlotMap::with_key(),
            pages: SlotMap::with_key(),
            chains: Chains::default(),
            inodes: Inodes::default(),
            files: SlotMap::with_key(),
            policies: SlotMap::with_key(),
            contexts: Vec::new(),
            processes: [None; MAX_PROCESSES],
            rlim: [Rlim::default(); MAX_PROCESSES],
            current: 0,
            userfaultfd: [[None; 2]; MAX_PROCESSES],
            fds: [FileKey::null(); Inodes::DESCRIPTORS],
            committed: 0,
            shm: None,
            anon_vma_ids: 0,
            anon_vma_ids_free: Vec::new(),
            page_ids: 0,
            page_ids_free: Vec::new(),
            page_ids_freed: Vec::new(),
            writes: 0,
            dead: false,
            memory: Memory::default(),
            locks: Locks::default(),
            lists: Lists::default(),
            messages: Vec::new(),
            events: Vec::new(),
            copy: None,
            read: None,
            driver: DriverCalls::default(),
            dirty: false,
            rmap_dirty: false,
        };
        kernel.reset(&Limits::default());
        kernel
    }

    /// Goes back to the start of a program: process 0, with nothing mapped.
    pub(crate) fn reset(&mut self, limits: &Limits) {
        self.limits = *limits;
        clear(&mut self.vmas);
        self.spare_ptes.0.extend(self.mms.drain().map(|(_, mm)| mm.page_table.page));
        clear(&mut self.anon_vmas);
        clear(&mut self.pages);
        self.chains.clear();
        self.inodes.reset();
        clear(&mut self.files);
        clear(&mut self.policies);
        self.contexts.clear();
        self.userfaultfd = [[None; 2]; MAX_PROCESSES];
        for inode in 0..Inodes::DESCRIPTORS {
            self.fds[inode] = self.alloc_file(inode as u8, inode != Inodes::READONLY, None);
        }
        self.processes = [None; MAX_PROCESSES];
        self.processes[0] = Some(self.mm_alloc());
        self.rlim = [Rlim::default(); MAX_PROCESSES];
        self.rlim[0][Resource::As as usize] = limits.address_space;
        self.rlim[0][Resource::Memlock as usize] = limits.lock;
        self.current = 0;
        self.committed = 0;
        let shm_file = self.alloc_file(Inodes::SEGMENT, true, None);
        self.shm = Some(ShmidKernel::new(shm_file));
        self.anon_vma_ids = 0;
        self.anon_vma_ids_free.clear();
        self.page_ids = 0;
        self.page_ids_free.clear();
        self.page_ids_freed.clear();
        self.writes = 0;
        self.dead = false;
        self.memory = Memory::new(limits);
        self.begin();
    }

    /// Clears the fields that belong to one operation.
    pub(crate) fn begin(&mut self) {
        self.locks.clear();
        self.lists.clear();
        self.messages.clear();
        self.events.clear();
        self.copy = None;
        self.read = None;
        self.memory.failed = None;
        self.driver = DriverCalls::default();
        self.dirty = false;
        self.rmap_dirty = false;
        self.page_ids_free.append(&mut self.page_ids_freed);
    }

    /// Returns the address space of a process (`find_get_task_by_vpid`, `get_task_mm`).
    ///
    /// # Errors
    /// `ESRCH` where there is no such process.
    pub(crate) fn mm(&self, process: Process) -> Result<MmKey, Stop> {
        self.processes
            .get(usize::from(process.0))
            .copied()
            .flatten()
            .ok_or(Stop::Errno(Errno::ESRCH))
    }

    /// `mm_alloc()`.
    pub(crate) fn mm_alloc(&mut self) -> MmKey {
        let new = || Box::new([PageKey::null(); END_PAGES]);
        let ptes = self.spare_ptes.0.pop().unwrap_or_else(new);
        self.mms.insert(Mm::new(ptes))
    }

    /// Frees an `mm_struct`. Handles to it are stale afterwards.
    pub(crate) fn free_mm(&mut self, mm: MmKey) {
        self.spare_ptes.0.extend(self.mms.remove(mm).map(|mm| mm.page_table.page));
    }

    /// Reports an assertion after which the kernel goes on.
    #[cold]
    pub(crate) fn warn(&mut self, function: &'static str, condition: &'static str) {
        let assertion = Assertion::WarnOn;
        self.events.push(Event::Assertion { assertion, function, condition });
    }

    /// Returns a number for a new anon_vma, as small as possible.
    pub(crate) fn take_anon_vma_id(&mut self) -> u32 {
        self.anon_vma_ids_free.pop().unwrap_or_else(|| {
            self.anon_vma_ids += 1;
            self.anon_vma_ids - 1
        })
    }

    /// Returns a number for a new anonymous page, as small as possible.
    pub(crate) fn take_page_id(&mut self) -> u32 {
        self.page_ids_free.pop().unwrap_or_else(|| {
            self.page_ids += 1;
            self.page_ids - 1
        })
    }

    /// Takes back the number of a freed page, for the operations after this one.
    pub(crate) fn return_page_id(&mut self, id: u32) {
        self.page_ids_freed.push(id);
    }

    /// Takes back the number of a freed anon_vma.
    pub(crate) fn return_anon_vma_id(&mut self, id: u32) {
        self.anon_vma_ids_free.push(id);
    }
}

fn clear<K: slotmap::Key, V>(arena: &mut SlotMap<K, V>) {
    if arena.capacity() > SLOTS_KEPT {
        *arena = SlotMap::with_capacity_and_key(SLOTS_KEPT / 2);
    } else if !arena.is_empty() {
        // `SlotMap::clear` visits every slot that was ever used.
        arena.clear();
    }
}
