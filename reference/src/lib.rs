//! The original kernel's semantics of an address space (Linux 5.2.1), as a specification; and
//! the contract of a copy between two.
//!
//! It says what must be true, in the shortest form that can be checked by reading, not how the
//! kernel goes about it. An address space is a sorted list of VMAs. A range is changed VMA by
//! VMA: each part is joined to a neighbour if the merge rule lets it, else cut out at both ends.
//! Counters are not kept but counted.
//!
//! Each rule is in one place:
//!
//! | rule | file |
//! |---|---|
//! | when two neighbours merge, and what of them is kept | `merge.rs` |
//! | changing part of a VMA; walking a range, and its holes | `change.rs` |
//! | which anon_vma a VMA has, and when one is shared, taken again, gone | `anon_vma.rs` |
//! | which access makes which page; populating | `pages.rs`, `shmem.rs` |
//! | counters and limits | `accounting.rs` |
//! | what a copied or moved VMA is | `copy_vma.rs` |
//! | what a child gets | `fork.rs` |
//! | copies between address spaces | `contract.rs` |
//! | each system call | `mmap.rs`, `mprotect.rs`, `mremap.rs`, `madvise.rs`, `mlock.rs`, `mbind.rs`, `uffd.rs` |

mod accounting;
mod anon_vma;
mod change;
mod contract;
mod copy_vma;
mod fork;
#[cfg(test)]
mod invariants;
mod madvise;
mod mbind;
mod merge;
mod mlock;
mod mm;
mod mmap;
mod mprotect;
mod mremap;
mod pages;
mod range;
mod shmem;
mod uffd;
mod vma;

use vmadiff_machine::operand::{ClearFlagsCtx, Process};
use vmadiff_machine::{Errno, Limits, Machine, Observation, Op, observation};

use anon_vma::AnonVmas;
use contract::{Copy, How};
use mm::{Mm, Mms, Syscall};
use range::Range;
use shmem::Shmem;

/// The specification, as a machine.
///
/// ```
/// use vmadiff_machine::{Machine, Observation, Program};
/// use vmadiff_reference::Reference;
///
/// // Moved into the hole it left, memory never faulted becomes one VMA again.
/// let program: Program = "mmap 0 1 6 rw anon_private\n\
///                         mremap 0 4 2 2 MAYMOVE|FIXED 2\n".parse()?;
/// let (mut reference, mut seen) = (Reference::new(), Observation::default());
/// for op in &program.ops {
///     reference.step(op, &mut seen);
/// }
/// assert_eq!(seen.spaces[0].counters.total_vm, 4);
/// # Ok::<(), vmadiff_machine::TextError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Reference {
    world: World,
}

/// Every process, and what they share.
#[derive(Clone, Debug, Default)]
struct World {
    limits: Limits,
    mms: Mms,
    anon_vmas: AnonVmas,
    shmem: Shmem,
    /// How many userfaultfd contexts have been opened.
    uffds: u32,
}

impl Reference {
    /// At the start of a program without limits.
    pub fn new() -> Reference {
        let mut reference = Reference { world: World::default() };
        reference.reset(&Limits::default());
        reference
    }
}

impl Default for Reference {
    fn default() -> Reference {
        Reference::new()
    }
}

impl Machine for Reference {
    fn name(&self) -> &str {
        "reference"
    }

    fn reset(&mut self, limits: &Limits) {
        self.world.reset(limits);
    }

    fn step(&mut self, op: &Op, seen: &mut Observation) {
        seen.begin_step();
        seen.result = self.world.perform(op, &mut seen.copy);
        self.world.show(seen);
    }
}

impl World {
    fn reset(&mut self, limits: &Limits) {
        self.limits = *limits;
        for (at, mm) in self.mms.iter_mut().enumerate() {
            mm.reset(at == 0);
            mm.changed = false;
        }
        self.anon_vmas.reset();
        self.shmem.reset();
        self.uffds = 0;
    }

    fn mm(&self, process: Process) -> &Mm {
        &self.mms[usize::from(process.0)]
    }

    fn syscall(&mut self, process: Process) -> Syscall<'_> {
        Syscall {
            mm: &mut self.mms[usize::from(process.0)],
            anon_vmas: &mut self.anon_vmas,
            shmem: &mut self.shmem,
            limits: &self.limits,
        }
    }

    /// A call by a process that is there.
    ///
    /// # Errors
    /// `ESRCH` where it is not.
    fn call(&mut self, process: Process) -> Result<Syscall<'_>, Errno> {
        if self.mm(process).alive { Ok(self.syscall(process)) } else { Err(Errno::ESRCH) }
    }

    fn perform(
        &mut self,
        op: &Op,
        report: &mut Option<observation::CopyReport>,
    ) -> Result<u8, Errno> {
        match *op {
            Op::Mmap { process, page, len, prot, kind, flags, pgoff } => {
                let mut call = self.call(process.get())?;
                call.mmap((page.get(), len.get()), prot.get(), kind.get(), flags.get(), pgoff.get())
            }
            Op::Munmap { process, page, len } => {
                let mut call = self.call(process.get())?;
                call.munmap(Range::new(page.get(), len.get())).map(|()| 0)
            }
            Op::Mprotect { process, page, len, prot } => {
                let mut call = self.call(process.get())?;
                call.mprotect(Range::new(page.get(), len.get()), prot.get())
            }
            Op::Mremap { process, page, old_len, new_len, flags, new_page } => {
                let mut call = self.call(process.get())?;
                let lens = (old_len.get(), new_len.get());
                call.mremap(page.get(), lens, flags.get(), new_page.get(), report)
            }
            Op::Madvise { process, page, len, advice } => {
                let mut call = self.call(process.get())?;
                call.madvise(Range::new(page.get(), len.get()), advice.get())
            }
            Op::Mlock { process, page, len, onfault } => {
                let mut call = self.call(process.get())?;
                call.mlock(Range::new(page.get(), len.get()), onfault.get())
            }
            Op::Munlock { process, page, len } => {
                let mut call = self.call(process.get())?;
                call.munlock(Range::new(page.get(), len.get()))
            }
            Op::Mbind { process, page, len, mode } => {
                let mut call = self.call(process.get())?;
                call.mbind(Range::new(page.get(), len.get()), mode.get())
            }
            Op::Touch { process, page, access } => {
                let mut call = self.call(process.get())?;
                call.touch(page.get(), access.get())
            }
            Op::UffdRegister { process, page, len, ctx } => {
                let mut next = self.uffds;
                let mut call = self.call(process.get())?;
                let result =
                    call.uffd_register(Range::new(page.get(), len.get()), ctx.get(), &mut next);
                self.uffds = next;
                result
            }
            Op::UffdUnregister { process, page, len, ctx } => {
                let mut call = self.call(process.get())?;
                call.uffd_unregister(Range::new(page.get(), len.get()), ctx.get())
            }
            Op::Fork { process } => self.fork(process.get()),
            Op::Exit { process } => {
                self.call(process.get())?.exit();
                Ok(0)
            }
            Op::Copy { process, page, len, src, dst_page, flags } => {
                self.call(process.get())?;
                let copy = Copy {
                    process: process.get(),
                    page: page.get(),
                    len: len.get(),
                    src: src.get(),
                    dst_page: dst_page.get(),
                    how: How::ProcessVmMmap(flags.get()),
                };
                self.copy(&copy, report)
            }
            Op::CopyVma { process, page, len, src, dst_page, clear_flags_ctx } => {
                self.call(process.get())?;
                let copy = Copy {
                    process: process.get(),
                    page: page.get(),
                    len: len.get(),
                    src: src.get(),
                    dst_page: dst_page.get(),
                    how: How::CopyVma(clear_flags_ctx.get() == ClearFlagsCtx::Clear),
                };
                self.copy(&copy, report)
            }
        }
    }

    /// A child of `process` takes the lowest free index.
    ///
    /// # Errors
    /// `ESRCH`, or `EAGAIN` where there is no free index.
    fn fork(&mut self, process: Process) -> Result<u8, Errno> {
        self.call(process)?;
        let indices = 0..self.limits.max_processes();
        let child = indices.clone().find(|&at| !self.mms[at].alive).ok_or(Errno::EAGAIN)?;
        let parent = usize::from(process.0);
        if let Ok([parent, child]) = self.mms.get_disjoint_mut([parent, child]) {
            fork::fork(parent, child, &mut self.anon_vmas);
        }
        Ok(child as u8)
    }

    /// Writes what may differ from what was shown last.
    fn show(&mut self, seen: &mut Observation) {
        for (at, mm) in self.mms.iter_mut().enumerate() {
            if !std::mem::take(&mut mm.changed) {
                continue;
            }
            let (counters, committed) = mm.count();
            mm.committed = committed;
            let space = seen.rewrite(Process(at as u8));
            space.alive = mm.alive;
            space.counters = counters;
            space.anon_pages = mm.anon_pages();
            for vma in mm.vmas() {
                let shown = observation::Vma::new(
                    (vma.range.start, vma.range.end),
                    vma.pgoff,
                    vma.flags,
                    vma.anon_vma,
                    vma.file,
                    vma.uffd,
                    vma.policy,
                    vma.has_close(),
                );
                space.push(shown, self.anon_vmas.chain(vma.chain));
            }
        }
        seen.committed = self.mms.iter().map(|mm| mm.committed).sum();
    }
}
