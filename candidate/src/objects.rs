//! The kernel's objects, whose fields have the kernel's names.

use vmadiff_machine::VmFlags;
use vmadiff_machine::operand::{Ctx, END_PAGES, Mode, UffdFeatures};

use crate::addr::{Addr, PageBits, Pgoff};
use crate::key::{AnonVmaKey, CtxKey, FileKey, MmKey, PageKey, PolicyKey, VmaKey};

/// An open file (`struct file`). Two open files of one inode are different files.
#[derive(Clone, Copy, Debug)]
pub(crate) struct File {
    /// `file_inode()`: an index into the inodes of the kernel.
    pub(crate) f_inode: u8,
    /// `FMODE_WRITE`.
    pub(crate) writable: bool,
    pub(crate) f_count: i64,
    /// `shm_file_data->file`: the file of the segment, below the file of an attachment.
    pub(crate) private_data: Option<FileKey>,
}

/// `mempolicy`. The default policy is a null pointer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mempolicy {
    pub(crate) mode: Mode,
    pub(crate) refcnt: i64,
}

/// `userfaultfd_ctx`. A VMA has no reference to its context: the descriptor keeps it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UserfaultfdCtx {
    /// At 0 the context is freed.
    pub(crate) refcount: i64,
    /// The address space that opened it. The context has a reference to the `mm_struct` (`mmgrab()`).
    pub(crate) mm: MmKey,
    /// The events of which the monitor gets a message.
    pub(crate) features: UffdFeatures,
    /// The number of its descriptor in the process that opened it. A context of a child has the number of the
    /// context of the parent.
    pub(crate) number: Ctx,
    /// The caller of a copy keeps a descriptor of its own
    /// ([`Kernel::keep_context`](crate::kernel::Kernel::keep_context)), or the monitor does.
    pub(crate) kept: bool,
}

/// `vm_operations_struct`: the driver that a mapping belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum VmOps {
    /// No driver: anonymous private memory (`vma_is_anonymous`).
    Anonymous,
    /// `shmem_vm_ops`: memfds and shared anonymous memory.
    Shmem,
    /// `shm_vm_ops`: the segment of SysV shared memory, which has `->close`.
    Shm,
    /// The device, which has `->close`.
    Device,
}

impl VmOps {
    /// Returns whether `->open` and `->close` exist.
    pub(crate) const fn has_close(self) -> bool {
        matches!(self, VmOps::Shm | VmOps::Device)
    }
}

/// `vm_area_struct`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vma {
    pub(crate) vm_start: Addr,
    pub(crate) vm_end: Addr,
    pub(crate) vm_pgoff: Pgoff,
    pub(crate) vm_flags: VmFlags,
    pub(crate) vm_mm: MmKey,
    /// `None` stands for the process's own mappings far below the arena.
    pub(crate) vm_prev: Option<VmaKey>,
    /// `None` stands for the process's own mappings far above the arena.
    pub(crate) vm_next: Option<VmaKey>,
    pub(crate) anon_vma: Option<AnonVmaKey>,
    pub(crate) anon_vma_chain: Chain,
    pub(crate) vm_file: Option<FileKey>,
    pub(crate) vm_ops: VmOps,
    pub(crate) vm_policy: Option<PolicyKey>,
    pub(crate) vm_userfaultfd_ctx: Option<CtxKey>,
}

impl Vma {
    /// `vma_pages()`: the number of pages.
    #[inline]
    pub(crate) fn pages(&self) -> u32 {
        self.vm_end - self.vm_start
    }

    /// `vma_is_anonymous()`: returns whether this is private anonymous memory.
    #[inline]
    pub(crate) fn is_anonymous(&self) -> bool {
        self.vm_ops == VmOps::Anonymous
    }

    /// `linear_page_index()`: returns the page offset of the page at `addr`.
    #[inline]
    pub(crate) fn linear_page_index(&self, addr: Addr) -> Pgoff {
        self.vm_pgoff.at(addr, self.vm_start)
    }
}

/// `mm_struct`, with the page tables. Counters leave out mappings outside the arena. They are
/// signed, because a buggy revision may count below zero.
#[derive(Debug)]
pub(crate) struct Mm {
    /// The VMA with the lowest address.
    pub(crate) mmap: Option<VmaKey>,
    pub(crate) map_count: i64,
    pub(crate) total_vm: i64,
    pub(crate) locked_vm: i64,
    pub(crate) data_vm: i64,
    /// The flags that every new mapping gets: those of `mlockall()`.
    pub(crate) def_flags: VmFlags,
    pub(crate) page_table: PageTable,
    /// The users of the address space. At 0 it is unmapped.
    pub(crate) mm_users: i64,
    /// The references to the structure: one of all users together, and those of contexts. At 0 it is
    /// freed.
    pub(crate) mm_count: i64,
}

vmadiff_machine::clone_by_field!(Mm {
    mmap,
    map_count,
    total_vm,
    locked_vm,
    data_vm,
    def_flags,
    page_table,
    mm_users,
    mm_count
});

impl Mm {
    /// `mm_init()`. An entry of `ptes` counts only where a bit of the page table says so.
    pub(crate) fn new(ptes: Ptes) -> Mm {
        Mm {
            mmap: None,
            map_count: 0,
            total_vm: 0,
            locked_vm: 0,
            data_vm: 0,
            // Of the flags of the parent, `VM_INIT_DEF_MASK` leaves a child none that lock.
            def_flags: VmFlags::empty(),
            page_table: PageTable { allocated: false, anon: 0, zero: 0, write: 0, page: ptes },
            mm_users: 1,
            mm_count: 1,
        }
    }
}

/// The anonymous page of each pte. This array is the largest object of the candidate, so it is
/// reused.
pub(crate) type Ptes = Box<[PageKey; END_PAGES]>;

/// The ptes of private memory. Ptes that map pages of files are left out: no observation depends on
/// them, because a page that is once in the page cache of a file stays there.
#[derive(Debug)]
pub(crate) struct PageTable {
    /// The page-table page is there. The arena lies under one.
    pub(crate) allocated: bool,
    /// The ptes that map an anonymous page.
    pub(crate) anon: PageBits,
    /// The ptes that map the zero page.
    pub(crate) zero: PageBits,
    /// The ptes in `anon` that have `_PAGE_RW`.
    pub(crate) write: PageBits,
    /// The anonymous pages of the ptes in `anon`. Other entries have no meaning.
    pub(crate) page: Ptes,
}

vmadiff_machine::clone_by_field!(PageTable { allocated, anon, zero, write, page });

/// An anonymous page.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnonPage {
    /// `page->mapping`.
    pub(crate) anon_vma: AnonVmaKey,
    /// `page->index`.
    pub(crate) index: Pgoff,
    /// The number of ptes that map the page.
    pub(crate) mapcount: u32,
    /// The value that stands for the contents.
    pub(crate) data: u8,
    /// The number of the page in observations.
    pub(crate) id: u32,
}

/// `anon_vma`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AnonVma {
    pub(crate) root: AnonVmaKey,
    pub(crate) parent: AnonVmaKey,
    /// The anon_vmas whose parent this one is; a root counts itself. 5.2.1 keeps only the sum of this
    /// and the next counter, `degree`.
    pub(crate) num_children: i32,
    /// The VMAs whose `anon_vma` this one is.
    pub(crate) num_active_vmas: i32,
    pub(crate) refcount: i32,
    /// The number of entries in the interval tree. Nothing depends on their order.
    pub(crate) rb_root: u32,
    /// The number of the anon_vma in observations.
    pub(crate) id: u32,
}

/// The head of the `anon_vma_chain` of a VMA: the places of the newest and the oldest entry in
/// [`Chains`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    newest: u32,
    oldest: u32,
}

/// The place that stands for no entry.
const NONE: u32 = u32::MAX;

impl Chain {
    /// A list head without entries.
    pub(crate) const EMPTY: Chain = Chain { newest: NONE, oldest: NONE };

    /// `list_is_singular()`: returns whether there is exactly one entry.
    #[inline]
    pub(crate) fn is_singular(self) -> bool {
        self.newest == self.oldest && self.newest != NONE
    }
}

/// `anon_vma_chain`: one entry, linked to the next newer and the next older entry of its VMA.
#[derive(Clone, Copy, Debug)]
struct Entry {
    anon_vma: AnonVmaKey,
    newer: u32,
    older: u32,
}

/// The entries of all `anon_vma_chain` lists. An entry belongs to one VMA for all its life and is
/// reached through that VMA only, so it needs no handle of its own.
#[derive(Debug, Default)]
pub(crate) struct Chains {
    entries: Vec<Entry>,
    free: Vec<u32>,
}

vmadiff_machine::clone_by_field!(Chains { entries, free });

impl Chains {
    /// Forgets all entries.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.free.clear();
    }

    /// Adds an entry in front (`list_add`). It is the newest one.
    pub(crate) fn add(&mut self, chain: &mut Chain, anon_vma: AnonVmaKey) {
        let entry = Entry { anon_vma, newer: NONE, older: chain.newest };
        let at = match self.free.pop() {
            Some(at) => {
                self.entries[at as usize] = entry;
                at
            }
            None => {
                self.entries.push(entry);
                self.entries.len() as u32 - 1
            }
        };
        match self.entries.get_mut(chain.newest as usize) {
            Some(newest) => newest.newer = at,
            None => chain.oldest = at,
        }
        chain.newest = at;
    }

    /// Takes the entry at `at` out of its list and frees it (`list_del`).
    pub(crate) fn delete(&mut self, chain: &mut Chain, at: u32) {
        let Some(&Entry { newer, older, .. }) = self.entries.get(at as usize) else { return };
        match self.entries.get_mut(newer as usize) {
            Some(newer) => newer.older = older,
            None => chain.newest = older,
        }
        match self.entries.get_mut(older as usize) {
            Some(older) => older.newer = newer,
            None => chain.oldest = newer,
        }
        self.free.push(at);
    }

    /// Returns the anon_vma of each entry, newest first.
    #[inline]
    pub(crate) fn newest_first(&self, chain: Chain) -> impl Iterator<Item = AnonVmaKey> {
        let mut at = chain.newest;
        std::iter::from_fn(move || {
            let entry = self.entries.get(at as usize)?;
            at = entry.older;
            Some(entry.anon_vma)
        })
    }

    /// Returns the number of entries that are allocated.
    pub(crate) fn allocated(&self) -> usize {
        self.entries.len() - self.free.len()
    }

    fn at(&self, at: u32) -> Option<(u32, AnonVmaKey)> {
        self.entries.get(at as usize).map(|entry| (at, entry.anon_vma))
    }

    /// Returns the newest entry: its place and its anon_vma.
    pub(crate) fn newest(&self, chain: Chain) -> Option<(u32, AnonVmaKey)> {
        self.at(chain.newest)
    }

    /// Returns the next older entry after the one at `at`.
    pub(crate) fn older(&self, at: u32) -> Option<(u32, AnonVmaKey)> {
        self.at(self.entries.get(at as usize)?.older)
    }

    /// Returns the oldest entry.
    pub(crate) fn oldest(&self, chain: Chain) -> Option<(u32, AnonVmaKey)> {
        self.at(chain.oldest)
    }

    /// Returns the next newer entry after the one at `at`.
    pub(crate) fn newer(&self, at: u32) -> Option<(u32, AnonVmaKey)> {
        self.at(self.entries.get(at as usize)?.newer)
    }
}
