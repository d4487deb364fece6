//! Operations: each is taken to the function that performs it.

use vmadiff_machine::operand::{Access, ClearFlagsCtx};
use vmadiff_machine::{CopyReport, Op, written};

use crate::contract::{Copy, How};
use crate::range::Range;
use crate::refusal::Refusal;
use crate::world::World;

impl World {
    /// Performs an operation, and returns its result.
    #[inline(always)]
    pub(crate) fn perform(
        &mut self,
        op: &Op,
        report: &mut Option<CopyReport>,
        read: &mut Option<u8>,
    ) -> Result<u8, Refusal> {
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
                let (access, value) = (access.get(), written(self.writes));
                let mut call = self.call(process.get())?;
                let found = call.touch(page.get(), access, value)?;
                match access {
                    Access::Read => *read = Some(found),
                    Access::Write => self.writes = self.writes.wrapping_add(1),
                }
                Ok(0)
            }
            Op::UffdRegister { process, page, len, ctx } => {
                let mut call = self.call(process.get())?;
                call.uffd_register(Range::new(page.get(), len.get()), ctx.get())
            }
            Op::UffdUnregister { process, page, len, ctx } => {
                let mut call = self.call(process.get())?;
                call.uffd_unregister(Range::new(page.get(), len.get()), ctx.get())
            }
            Op::UffdRegisterWp { process, page, len, ctx, mode } => {
                let range = Range::new(page.get(), len.get());
                self.call(process.get())?.uffd_register_wp(range, ctx.get(), mode.get())
            }
            Op::UffdWriteprotect { process, page, len, ctx, mode } => {
                let range = Range::new(page.get(), len.get());
                self.call(process.get())?.uffd_writeprotect(range, ctx.get(), mode.get())
            }
            Op::UffdOpen { process, ctx, features } => {
                self.call(process.get())?.uffd_open(ctx.get(), features.get())
            }
            Op::Prlimit { process, resource, max } => {
                self.call(process.get())?.prlimit(resource.get(), max.get())
            }
            Op::MemoryMerge { process, merge } => {
                self.call(process.get())?.memory_merge(merge.get())
            }
            Op::Fork { process } => self.fork(process.get()),
            Op::Exit { process } => {
                self.call(process.get())?.exit();
                Ok(0)
            }
            Op::Copy { process, page, len, src, dst_page, flags } => {
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
            Op::Shmat { process, page, flags } => {
                self.call(process.get())?.shmat(page.get(), flags.get())
            }
            Op::Shmdt { process, page } => self.call(process.get())?.shmdt(page.get()),
            Op::ShmRmid { process } => self.call(process.get())?.shm_rmid(),
            Op::Mlockall { process, flags } => self.call(process.get())?.mlockall(flags.get()),
            Op::Munlockall { process } => self.call(process.get())?.munlockall(),
            Op::ClearRefs { process } => self.call(process.get())?.clear_refs(),
            Op::Mseal { process, page, len } => {
                self.call(process.get())?.mseal(Range::new(page.get(), len.get()))
            }
            Op::Ftruncate { process, file, length } => {
                self.ftruncate(process.get(), file.get(), length.get())
            }
        }
    }
}
