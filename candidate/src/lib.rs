//! The extended `copy_vma()` and the call built on it, in the kernel's shape, at a chosen
//! [`Revision`].
//!
//! The candidate does what the kernel's code does, function by function and step by step, with the
//! kernel's names. Its objects live in arenas, and its pointers are handles that outlive the
//! objects. A read of a freed object is reported, with the function and the field, and never harms
//! the harness. Locks are acquisitions in order (`locks`). The candidate leaves out parts that no
//! observation shows: the red-black tree beside the list of VMAs, the order of interval trees, and the
//! ptes that map pages of files.
//!
//! | file | kernel source |
//! |---|---|
//! | `copy_vma` | `copy_vma()`; where the revisions differ |
//! | `process_vm_mmap` | patch 7 of 7; where the revisions differ |
//! | `vma_merge`, `vma_adjust`, `split_vma`, `mmap`, `munmap`, `vma_list`, `limits` | mm/mmap.c |
//! | `mremap` | mm/mremap.c, and the helper of patch 6 of 7 |
//! | `anon_vma`, `rmap_walk` | mm/rmap.c |
//! | `fault`, `page_table`, `populate`, `shmem` | mm/memory.c, mm/gup.c, mm/shmem.c |
//! | `mprotect`, `mlock`, `madvise`, `mbind`, `userfaultfd`, `userfaultfd_ctx`, `fork` | the file of that name |
//! | `file` | fs/file_table.c |
//! | `fallocate`, `ftruncate` | fs/open.c, mm/shmem.c, mm/memory.c |
//! | `shm` | ipc/shm.c |
//! | `memory` | the allocations of all of these, one of which can fail |
//! | `locks` | the locks of all of these, and the checks of lockdep |
//! | `objects`, `handle`, `stop`, `addr`, `kernel` | the structures, and how they are reached |
//!
//! # The changes from `v2` to `fixed`
//!
//! In `copy_vma()`:
//! 1. The aliasing check uses the start and the mm of the source as they were before the merge,
//!    because the merge may have freed the source.
//!
//! In `process_vm_mmap()`:
//! 2. `copy_vma()` is told to clear flags and context: a copy is not locked, as after fork.
//! 3. `need_rmap_locks` is honoured.
//! 4. Source and destination ranges that overlap are refused, before anything is changed.
//! 5. A failed call takes back only the pages that it charged.
//! 6. A locked copy counts in `locked_vm` and is held against the limit. Only a direct call of
//!    `copy_vma()` makes a locked copy (see 2).
//! 7. The pages of a copy are counted before the page tables are copied: if that copy finds no
//!    memory, `do_munmap()` takes them off again.
//!
//! In `copy_page_range()`:
//! 8. Within one address space the page-table lock is taken once, as in `move_ptes()`.
//!
//! Two bugs of 5.2.1 itself lose pages of a copy to the reverse map, by a later operation at the
//! latest. `fixed` has the upstream fixes:
//! 9. In `anon_vma_clone()`: an anon_vma is reused only if it has neither a VMA of its own nor a second
//!    child (upstream 2555283eb40d; CVE-2022-42703).
//! 10. In `userfaultfd_register()` and `userfaultfd_unregister()`: `vma_merge()` gets the page offset of
//!     the range, not that of the VMA in which the range begins (upstream 5543d3c43c41).

mod addr;
mod anon_vma;
mod clear_refs;
mod copy_vma;
mod fallocate;
mod fault;
mod file;
mod fork;
mod ftruncate;
mod handle;
mod hidden;
mod kernel;
mod key;
mod limits;
mod locks;
mod madvise;
mod mbind;
mod memory;
mod mlock;
mod mmap;
mod mprotect;
mod mremap;
mod munmap;
mod objects;
mod observe;
mod page_table;
mod populate;
mod process_vm_mmap;
mod revision;
mod rmap_walk;
mod shm;
mod shmem;
mod split_vma;
mod state;
mod stop;
mod syscall;
mod userfaultfd;
mod userfaultfd_ctx;
mod userfaultfd_event;
mod vma_adjust;
mod vma_list;
mod vma_merge;

pub use revision::{Revision, UnknownRevision};
use vmadiff_machine::{Errno, Failure, Hidden, Limits, Machine, Observation, Op, Opcode, State};

use crate::kernel::Kernel;

/// The candidate, which follows one revision.
///
/// ```
/// use vmadiff_candidate::{Candidate, Revision};
/// use vmadiff_machine::{Machine, Observation, Program};
///
/// let bug_a: Program = "mmap 0 1 6 rw anon_private\n\
///                       mremap 0 4 2 2 MAYMOVE|FIXED 2\n".parse()?;
/// let mut candidate = Candidate::new(Revision::V2);
/// let mut seen = Observation::default();
/// for op in &bug_a.ops {
///     candidate.step(op, &mut seen);
/// }
/// assert_eq!(
///     seen.events[0].to_string(),
///     "use-after-free: copy_vma() reads vm_mm of a freed vm_area_struct",
/// );
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Candidate {
    kernel: Kernel,
    /// The state that was saved last. Its memory is kept for reuse.
    saved: Option<Box<Kernel>>,
}

impl Candidate {
    /// Makes the candidate that follows `revision`, at the start of a program without limits.
    pub fn new(revision: Revision) -> Candidate {
        Candidate { kernel: Kernel::new(revision), saved: None }
    }

    /// The revision that the candidate follows.
    pub fn revision(&self) -> Revision {
        self.kernel.revision
    }
}

impl Machine for Candidate {
    fn name(&self) -> &str {
        self.revision().machine_name()
    }

    fn has(&self, opcode: Opcode) -> bool {
        self.revision() != Revision::Original || !matches!(opcode, Opcode::Copy | Opcode::CopyVma)
    }

    fn reset(&mut self, limits: &Limits) {
        self.kernel.reset(limits);
    }

    fn step(&mut self, op: &Op, seen: &mut Observation) {
        seen.begin_step();
        if !self.has(op.opcode()) {
            seen.result = Err(Errno::ENOSYS);
            return;
        }
        self.kernel.step(op, seen);
    }

    fn show_hidden(&mut self, hidden: &mut Hidden) -> Result<bool, Failure> {
        self.kernel.show_hidden(hidden);
        Ok(true)
    }

    fn write_state(&self, state: &mut State) -> bool {
        self.kernel.write_state(state);
        true
    }

    fn save(&mut self) -> bool {
        match &mut self.saved {
            Some(saved) => (**saved).clone_from(&self.kernel),
            None => self.saved = Some(Box::new(self.kernel.clone())),
        }
        true
    }

    fn restore(&mut self) {
        if let Some(saved) = &self.saved {
            self.kernel.clone_from(saved);
        }
    }
}

/// The examples of the readme file, which are tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
