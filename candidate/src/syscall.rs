//! The dispatch from operations to the kernel functions that perform them.

use vmadiff_machine::operand::{Access, ClearFlagsCtx, File, MAX_PROCESSES, Onfault, Process};
use vmadiff_machine::{Errno, Observation, Op, VmFlags};

use crate::addr::{Addr, Pgoff};
use crate::kernel::Kernel;
use crate::locks::Lock;
use crate::mremap::Remap;
use crate::shmem::Inodes;
use crate::stop::Stop;

impl Kernel {
    /// Performs an operation and writes what it changed to the observation.
    pub(crate) fn step(&mut self, op: &Op, seen: &mut Observation) {
        if self.dead {
            seen.result = Err(Errno::EFAULT);
            return;
        }
        self.begin();
        let result = self.system_call(op);
        // An operation may change the address space of its caller, fork that of the child as well, and
        // a copy that of the source. Truncating a file may change all.
        let other = match (op, &result) {
            (Op::Fork { .. }, Ok(child)) => Process(*child),
            (Op::Copy { src, .. } | Op::CopyVma { src, .. }, _) => src.get(),
            _ => op.process(),
        };
        let (first, second) = (op.process().min(other), op.process().max(other));
        let touched = [Some(first), Some(second).filter(|second| *second != first)];
        if self.rmap_dirty {
            touched.into_iter().flatten().for_each(|process| self.check_rmap(process));
        }
        if !matches!(&result, Err(stop) if stop.is_fatal()) {
            self.check_locks();
        }
        seen.copy = self.copy;
        seen.read = self.read;
        seen.driver = self.driver;
        seen.failed = self.memory.failed;
        seen.committed = self.committed;
        seen.attached = self.shm.map(|shm| shm.shm_nattch);
        seen.messages.append(&mut self.messages);
        seen.events.append(&mut self.events);
        match result.map_err(Stop::into_event) {
            Ok(value) => seen.result = Ok(value),
            Err(Err(errno)) => seen.result = Err(errno),
            Err(Ok(event)) => {
                // The kernel is dead: its state is not shown any more.
                self.dead = true;
                seen.result = Err(Errno::EFAULT);
                seen.events.push(event);
                return;
            }
        }
        if self.dirty {
            match op {
                Op::Ftruncate { .. } => {
                    let there = |process: &usize| self.processes[*process].is_some();
                    for process in (0..MAX_PROCESSES).filter(there) {
                        self.show(Process(process as u8), seen);
                    }
                }
                _ => touched.into_iter().flatten().for_each(|process| self.show(process, seen)),
            }
        }
    }

    fn system_call(&mut self, op: &Op) -> Result<u8, Stop> {
        let process = op.process();
        let mm = self.mm(process)?;
        self.current = usize::from(process.0);
        let sem = Lock::MmapSem(mm);
        let none = |()| 0;
        let page = |addr: Addr| addr.page().0;
        match *op {
            Op::Mmap { page: at, len, prot, kind, flags, pgoff, .. } => {
                let (at, len) = (at.get().into(), u32::from(len.get().0));
                let (prot, kind, flags) = (prot.get(), kind.get(), flags.get());
                self.mmap(mm, at, len, prot, kind, flags, pgoff.get()).map(page)
            }
            Op::Munmap { page, len, .. } => {
                let (start, len) = (page.get().into(), len.get().0.into());
                self.vm_munmap(mm, start, len).map(none)
            }
            Op::Mprotect { page, len, prot, .. } => {
                let (start, len, prot) = (page.get().into(), len.get().0.into(), prot.get());
                self.locked(sem, "do_mprotect_pkey", |kernel| {
                    kernel.do_mprotect(mm, start, len, prot)
                })
                .map(none)
            }
            Op::Mremap { page: at, old_len, new_len, flags, new_page, .. } => {
                let remap = Remap {
                    addr: at.get().into(),
                    old_len: old_len.get().0.into(),
                    new_len: new_len.get().0.into(),
                    flags: flags.get(),
                    new_addr: new_page.get().into(),
                };
                self.mremap(mm, remap).map(page)
            }
            Op::Madvise { page, len, advice, .. } => {
                let (start, len, advice) = (page.get().into(), len.get().0.into(), advice.get());
                self.madvise(mm, start, len, advice).map(none)
            }
            Op::Mlock { page, len, onfault, .. } => {
                let flags = match onfault.get() {
                    Onfault::No => VmFlags::VM_LOCKED,
                    Onfault::Yes => VmFlags::LOCK,
                };
                self.do_mlock(mm, page.get().into(), len.get().0.into(), flags).map(none)
            }
            Op::Munlock { page, len, .. } => {
                self.do_munlock(mm, page.get().into(), len.get().0.into()).map(none)
            }
            Op::Mbind { page, len, mode, .. } => {
                let (start, len, mode) = (page.get().into(), len.get().0.into(), mode.get());
                self.do_mbind(mm, start, len, mode).map(none)
            }
            Op::Touch { page, access, .. } => {
                self.read = self.touch(mm, page.get().into(), access.get() == Access::Write)?;
                Ok(0)
            }
            Op::UffdRegister { page, len, ctx, .. } => self
                .userfaultfd_register(process, page.get().into(), len.get().0.into(), ctx.get())
                .map(none),
            Op::UffdRegisterWp { ctx, .. } => {
                self.userfaultfd_register_wp(process, ctx.get()).map(none)
            }
            Op::UffdWriteprotect { ctx, .. } => {
                self.userfaultfd_writeprotect(process, ctx.get()).map(none)
            }
            Op::UffdUnregister { page, len, ctx, .. } => self
                .userfaultfd_unregister(process, page.get().into(), len.get().0.into(), ctx.get())
                .map(none),
            Op::UffdOpen { ctx, features, .. } => {
                self.userfaultfd_open(process, ctx.get(), features.get()).map(|_| 0)
            }
            Op::Fork { .. } => self.fork(mm).map(|child| child.0),
            Op::Exit { .. } => {
                self.exit(process)?;
                Ok(0)
            }
            Op::Copy { page: at, len, src, dst_page, flags, .. } => {
                let src = self.mm(src.get()).map(|src_mm| (src_mm, at.get().into()));
                let dst = (mm, dst_page.get().into());
                self.process_vm_mmap(dst, src, len.get().0.into(), flags.get()).map(page)
            }
            Op::CopyVma { page: at, len, src, dst_page, clear_flags_ctx, .. } => {
                let src = self.mm(src.get()).map(|src_mm| (src_mm, at.get().into()));
                let dst = (mm, dst_page.get().into());
                let clear = clear_flags_ctx.get() == ClearFlagsCtx::Clear;
                self.call_copy_vma(dst, src, len.get().0.into(), clear).map(page)
            }
            Op::Shmat { page: at, flags, .. } => {
                self.do_shmat(mm, at.get().into(), flags.get()).map(page)
            }
            Op::Shmdt { page, .. } => self.shmdt(mm, page.get().into()).map(none),
            Op::ShmRmid { .. } => self.shm_rmid().map(none),
            Op::Mlockall { flags, .. } => self.mlockall(mm, flags.get()).map(none),
            Op::Munlockall { .. } => self.munlockall(mm).map(none),
            Op::ClearRefs { .. } => self.clear_refs(mm).map(none),
            // `do_syscall_64()`: Linux 5.2.1 has no call of this number.
            Op::Mseal { .. } => Err(Errno::ENOSYS.into()),
            Op::Prlimit { resource, max, .. } => {
                self.do_prlimit(resource.get(), max.get().0);
                Ok(0)
            }
            // `prctl()`: Linux 5.2.1 has no option of this number.
            Op::MemoryMerge { .. } => Err(Errno::EINVAL.into()),
            Op::Ftruncate { file, length, .. } => {
                let file = self.fds[match file.get() {
                    File::File0 => Inodes::MEMFD_0,
                    File::File1 => Inodes::MEMFD_1,
                    File::Readonly => Inodes::READONLY,
                    File::Special => Inodes::DEVICE,
                }];
                self.ftruncate(file, Pgoff(length.get().0.into())).map(none)
            }
        }
    }
}
