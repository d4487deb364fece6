//! The machine: a tree of workers, driven and observed by the caller.

mod explore;
mod failing;
mod frames;
mod kept;
mod observe;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::time::Duration;

use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use vmadiff_kernel_log::Report;
use vmadiff_machine::operand::{
    self, Access, Advice, FILE_PAGES, MAX_PROCESSES, MlockallFlags, Page,
};
use vmadiff_machine::{
    AddressSpace, Errno, Limits, Machine, Observation, Op, Opcode, Range, VmFlags, written,
};

use crate::coverage::Coverage;
use crate::error::{KernelError, doing};
use crate::inject::{self, Effect, Injection};
use crate::log::Log;
use crate::map_count::{Limited, MapCount};
use crate::missing::{Facilities, Missing};
use crate::monitor::{self, Monitor};
use crate::proc::{Inode, Status};
use crate::process::{
    Channel, Living, Reply, await_reply, first_answer, send, waits_for_userfaultfd,
};
use crate::segment::Segment;
use crate::walk::Walk;
use crate::worker::{self, ContextFds, Ends, Inheritance, PAGE, With};
use frames::Frames;
use kept::Kept;

/// The reason why a run of a program ended before its last operation.
#[derive(Debug)]
pub enum Ended {
    /// The last operation blocked: it waits for a page that userfaultfd watches. The work that it
    /// did before was observed. Its result is `EAGAIN`, as in the models. The process was killed.
    Blocked,
    /// The last operation gave no answer within the time limit, and does not wait for userfaultfd.
    /// The process was killed.
    TimedOut,
    /// The kernel could not be driven or observed.
    Failed(KernelError),
    /// The run has ended, and [`Kernel::take_ended`] has returned the reason.
    Over,
}

/// The options of a running kernel.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The time limit of an operation that does not wait for userfaultfd.
    pub timeout: Duration,
    /// The machine runs nothing else, so that `vm.max_map_count` may be set.
    pub whole_machine: bool,
    /// A kernel with transparent huge pages gets advice on them. Otherwise the advice is withheld
    /// and answered as by a kernel without huge pages, which the world of a program has.
    pub huge_pages: bool,
    /// The kernel's log is read after each operation. A report of the kernel about itself ends the
    /// program.
    pub log: bool,
    /// The reverse map of every anonymous page is walked after each operation.
    pub walk: bool,
    /// The number of the system call `process_vm_mmap()`, for a kernel that has it.
    pub process_vm_mmap: Option<u32>,
    /// The coverage of the kernel's own code is collected, for a kernel with KCOV.
    pub coverage: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            timeout: Duration::from_secs(10),
            whole_machine: false,
            huge_pages: false,
            log: false,
            walk: false,
            process_vm_mmap: None,
            coverage: false,
        }
    }
}

/// The running kernel.
#[derive(Debug)]
pub struct Kernel {
    name: String,
    options: Options,
    facilities: Facilities,
    memfds: [OwnedFd; 3],
    /// The empty memfd that is mapped outside the arena.
    outside: OwnedFd,
    /// The memory outside the arena is mapped. An emulator that notes every page takes hours for that.
    fills: bool,
    /// The segment of SysV shared memory of the program; `None` where the kernel makes none.
    segment: Option<Segment>,
    channels: [Channel; MAX_PROCESSES],
    processes: [Option<Living>; MAX_PROCESSES],
    limits: Limits,
    /// The counters of process 0 with nothing mapped in the arena, and its `map_count`.
    baseline: (Status, u32),
    /// The files met in the program, by number.
    files: Vec<Inode>,
    /// The program has used `mbind`. Otherwise `numa_maps`, which is slow to read, is not read.
    policies: bool,
    /// The page frame number of the zero page; 0 if `pagemap` shows no frame numbers.
    zero_page: u64,
    map_count: Option<MapCount>,
    ended: Option<Ended>,
    withheld: u64,
    log: Option<Log>,
    walk: Option<Walk>,
    injection: Option<Injection>,
    /// The facility of events before allocations were made to fail.
    had_events: bool,
    /// The number of the allocation that the next call makes fail; 0 for none.
    failing: u8,
    /// The last call made an allocation fail.
    failed: bool,
    coverage: Option<Coverage>,
    /// The program counters of the operations since [`Kernel::take_covered`].
    covered: Vec<u64>,
    /// The value that the last `touch` has read.
    read: Option<u8>,
    /// The `touch`es of the program that have written.
    writes: u32,
    /// The offsets of the pages of shared mappings that the program has written: the memfds serve many
    /// programs, and each begins with empty pages.
    written: Vec<u64>,
    /// The program may have taken pages out of the memfds.
    holes: bool,
    /// The program has given up pages by `MADV_FREE`.
    freed: bool,
    /// The limit on locked pages of the arena of each process.
    lock_limits: [Option<u8>; MAX_PROCESSES],
    /// The page table entries of each process that has anonymous pages, where frame numbers are shown.
    frames: Frames,
    /// A process may have left bytes in a pipe: the pipes are made anew.
    stale: bool,
    /// The process that a fork may have made: its parent gave no answer.
    lost: Option<usize>,
    kept: Kept,
    monitor: Monitor,
    /// The numbers of the descriptors of userfaultfd contexts.
    contexts: ContextFds,
}

impl Kernel {
    /// Starts the kernel machine with no program: [`Machine::reset`] begins one.
    ///
    /// # Errors
    /// Returns an error if pipes, memfds or processes cannot be made, or `/proc` cannot be read.
    pub fn new(options: Options) -> Result<Kernel, KernelError> {
        let channel = |_| Channel::new();
        let channels: Vec<_> = (0..MAX_PROCESSES).map(channel).collect::<Result<_, _>>()?;
        let channels = channels.try_into().map_err(|_| KernelError::Answer(0))?;
        let outside = memfd_create("vmadiff-outside", MemfdFlags::CLOEXEC)
            .map_err(doing("making a memfd"))?;
        let contexts =
            worker::free_descriptors(outside.as_fd()).map_err(doing("duplicating a descriptor"))?;
        let mut kernel = Kernel {
            name: format!("linux {}", rustix::system::uname().release().to_string_lossy()),
            options,
            facilities: Facilities::default(),
            memfds: memfds()?,
            outside,
            fills: true,
            segment: None,
            channels,
            processes: Default::default(),
            limits: Limits::default(),
            baseline: Default::default(),
            files: Vec::new(),
            policies: false,
            zero_page: 0,
            map_count: None,
            ended: None,
            withheld: 0,
            log: options.log.then(Log::open).transpose()?,
            walk: options.walk.then(Walk::open).transpose()?,
            injection: None,
            had_events: false,
            failing: 0,
            failed: false,
            coverage: options.coverage.then(Coverage::new).transpose()?,
            covered: Vec::new(),
            read: None,
            writes: 0,
            written: Vec::new(),
            holes: false,
            freed: false,
            lock_limits: [None; MAX_PROCESSES],
            frames: Frames::default(),
            stale: false,
            lost: None,
            kept: Kept::default(),
            monitor: Monitor::default(),
            contexts,
        };
        if options.whole_machine {
            kernel.map_count = Some(MapCount::open()?);
        }
        kernel.explore()?;
        Ok(kernel)
    }

    /// Returns the facilities of the world of a program that the kernel has.
    pub fn facilities(&self) -> &Facilities {
        &self.facilities
    }

    /// Returns the reason why the program cannot go on; `None` if it can. Operations after the end
    /// do nothing, until [`Machine::reset`].
    pub fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// Takes the reason why the program cannot go on. The program still cannot go on.
    pub fn take_ended(&mut self) -> Option<Ended> {
        let ended = self.ended.take()?;
        self.ended = Some(Ended::Over);
        Some(ended)
    }

    /// Returns the number of operations that were withheld: advice on transparent huge pages for a
    /// kernel that has them, because the world of a program has no huge pages; and `PAGEOUT` after `FREE`
    /// and of memory of a file, in whose place the kernel gets `COLD`.
    pub fn withheld(&self) -> u64 {
        self.withheld
    }

    /// Sets the number of operations that were withheld: a run that does not count is left out.
    pub(crate) fn set_withheld(&mut self, withheld: u64) {
        self.withheld = withheld;
    }

    /// Takes the kernel's report about itself since the last call, if the log is read.
    pub fn take_report(&mut self) -> Option<Report> {
        self.log.as_mut()?.read()
    }

    /// Takes the program counters that the operations since the last call covered in the kernel, in their
    /// order, if coverage is collected. The code by which a process ends is not among them.
    pub fn take_covered(&mut self) -> Vec<u64> {
        std::mem::take(&mut self.covered)
    }

    /// Walks the reverse map of the anonymous pages of every process, or not, from now on.
    ///
    /// # Errors
    /// Returns an error if the kernel does not let this user walk it.
    pub fn set_walk(&mut self, walk: bool) -> Result<(), KernelError> {
        self.walk = walk.then(Walk::open).transpose()?;
        Ok(())
    }

    /// Ends the processes of the program. Process 0 may be kept for the next program.
    pub fn finish(&mut self) {
        self.end_program();
        self.ended.get_or_insert(Ended::Over);
    }

    /// Returns the facility that a program under `limits` needs and the kernel lacks.
    pub fn lacks_limit(&self, limits: &Limits) -> Option<Missing> {
        self.facilities.lacks_limit(limits, self.options.whole_machine)
    }

    /// Begins a program.
    fn begin(&mut self, limits: &Limits) -> Result<(), KernelError> {
        self.end_program();
        self.covered.clear();
        let may_keep = self.may_keep_for(limits);
        self.ended = None;
        self.monitor.reset();
        if std::mem::take(&mut self.stale) {
            for channel in &mut self.channels {
                *channel = Channel::new()?;
            }
        }
        self.empty_files()?;
        (self.read, self.writes, self.freed) = (None, 0, false);
        self.lock_limits = [limits.lock; MAX_PROCESSES];
        self.frames = Frames::default();
        self.limits = *limits;
        self.files.clear();
        self.policies = false;
        if let Some(injection) = &mut self.injection {
            injection.silent = false;
        }
        // The segment of the last program is removed first.
        self.segment = None;
        self.segment = Segment::new().ok();
        if may_keep && self.restore()? {
            return self.set_limits();
        }
        self.end_all();
        self.kept.begin();
        let inheritance = Inheritance {
            ends: std::array::from_fn(|at| Ends {
                requests: self.channels[at].requests.0.as_raw_fd(),
                replies: self.channels[at].replies.1.as_raw_fd(),
            }),
            memfds: std::array::from_fn(|at| self.memfds[at].as_raw_fd()),
            outside: self.outside.as_raw_fd(),
            fills: self.fills,
            contexts: self.contexts,
            areas: self.coverage.as_ref().map(Coverage::areas),
            locks_limited: limits.lock.is_some(),
            process_vm_mmap: self.options.process_vm_mmap,
        };
        let pid = worker::spawn(&inheritance)
            .map_err(|error| KernelError::Controller { what: "starting process 0", error })?;
        let process = Living::of(pid, self.contexts)?;
        let process = self.processes[0].insert(process);
        let (timeout, monitor) = (self.options.timeout, &mut self.monitor);
        match await_reply(process, &self.channels[0], timeout, monitor)?.0 {
            Reply::Answer(0) => {}
            Reply::Answer(errno) => {
                let error = io::Error::from_raw_os_error(-errno as i32);
                return Err(KernelError::Start(error));
            }
            Reply::Ended => return Err(KernelError::Died(0)),
            Reply::Late => return Err(KernelError::Late(0)),
        }
        let status = process.proc.status()?;
        let maps = if self.map_count.is_some() { process.proc.map_count()? } else { 0 };
        self.baseline = (status, maps);
        self.set_limits()
    }

    /// Sets the limits of process 0 to those of the program.
    fn set_limits(&self) -> Result<(), KernelError> {
        let Limits { address_space, lock, .. } = self.limits;
        for (resource, max) in
            [(operand::Resource::As, address_space), (operand::Resource::Memlock, lock)]
        {
            max.map_or(Ok(()), |max| self.limit(0, resource, max))?;
        }
        Ok(())
    }

    /// Limits process `at` to `max` pages in the arena, on top of those outside.
    fn limit(&self, at: usize, resource: operand::Resource, max: u8) -> Result<(), KernelError> {
        let Some(process) = &self.processes[at] else { return Ok(()) };
        let Status { total_vm, locked_vm, .. } = self.baseline.0;
        let (resource, outside) = match resource {
            operand::Resource::As => (Resource::As, total_vm),
            operand::Resource::Memlock => (Resource::Memlock, locked_vm.unwrap_or(0)),
        };
        set_limit(process.proc.pid(), resource, outside as u64 + u64::from(max))
    }

    /// Empties the pages of the memfds that the last program has written, and makes those that it has
    /// removed.
    fn empty_files(&mut self) -> Result<(), KernelError> {
        if std::mem::take(&mut self.holes) {
            self.memfds[..2].iter().try_for_each(fill)?;
        }
        for page in self.written.drain(..).filter(|page| *page < FILE_PAGES) {
            for memfd in &self.memfds[..2] {
                rustix::io::pwrite(memfd, &[0], page * PAGE).map_err(doing("emptying a memfd"))?;
            }
        }
        Ok(())
    }

    /// Writes down the value that a `touch` has read, or the page of a shared mapping that it has written.
    fn touched(&mut self, page: Page, access: Access, value: u8, before: &AddressSpace) {
        match access {
            Access::Read => self.read = Some(value),
            Access::Write => {
                self.writes = self.writes.wrapping_add(1);
                let vma = before.vma_at(page).filter(|vma| vma.flags.contains(VmFlags::VM_SHARED));
                self.written.extend(vma.map(|vma| vma.pgoff.plus(page.0 - vma.start.0).0));
            }
        }
    }

    /// Returns the limits on locked pages that hold during `op` and after it; `None` where they are the
    /// same. `mlockall` compares the whole address space with the limit, which is one of the arena.
    fn raised(&self, op: &Op) -> Option<(u64, u64)> {
        let current = |flags: MlockallFlags| flags.contains(MlockallFlags::CURRENT);
        match (op, self.lock_limits[usize::from(op.process().0)]) {
            // With the limit 0 the process may not lock at all.
            (Op::Mlockall { flags, .. }, Some(limit @ 1..)) if current(flags.get()) => {
                let (Status { total_vm, locked_vm, .. }, limit) =
                    (self.baseline.0, u64::from(limit));
                Some((total_vm as u64 + limit, locked_vm.unwrap_or(0) as u64 + limit))
            }
            _ => None,
        }
    }

    /// Lets the kernel walk the reverse map, if that was asked for.
    fn walk_rmap(&self) -> Result<(), KernelError> {
        let Some(walk) = &self.walk else { return Ok(()) };
        let mut entries = Vec::new();
        for process in self.processes.iter().flatten() {
            entries.extend(process.proc.pagemap()?);
        }
        walk.walk(entries, self.zero_page);
        Ok(())
    }

    fn end_all(&mut self) {
        self.end_from(0);
        // The parent makes no child any more. A child says first who it is.
        let Some(child) = self.lost.take() else { return };
        let answer = first_answer(&self.channels[child].replies.0, PATIENCE_WITH_LOST);
        if let Ok(Some(pid)) = answer
            && let Ok(lost) = Living::of(pid as i32, self.contexts)
        {
            lost.kill();
            lost.bury();
        }
    }

    /// Ends the processes from process `first` on.
    fn end_from(&mut self, first: usize) {
        // All processes are killed before any is waited for: the last one to end frees the memory
        // that they share.
        for process in self.processes[first..].iter().flatten() {
            process.kill();
        }
        for process in &mut self.processes[first..] {
            if let Some(process) = process.take() {
                process.bury();
            }
        }
    }

    /// Returns the set of the processes that are there.
    fn living(&self) -> u8 {
        let there = |(at, process): (usize, &Option<Living>)| u8::from(process.is_some()) << at;
        self.processes.iter().enumerate().map(there).sum()
    }

    /// Performs `op` and returns its result and the set of processes that it may have changed.
    fn perform(
        &mut self,
        op: &Op,
        before: &Observation,
    ) -> Result<(Result<u8, Errno>, u8), KernelError> {
        self.kept.note(op);
        self.failed = false;
        let facilities = &self.facilities;
        if facilities.lacks(op).or(facilities.lacks_under(op, &self.limits)).is_some() {
            return Ok((Err(Errno::ENOSYS), 0));
        }
        let at = usize::from(op.process().0);
        if self.processes[at].is_none() {
            return Ok((Err(Errno::ESRCH), 0));
        }
        let mine = 1 << at;
        match *op {
            // The call is refused, as by a kernel without huge pages, which the world of a program
            // has.
            Op::Madvise { .. } if self.facilities.withholds(op) => {
                self.withheld += 1;
                Ok((Err(Errno::EINVAL), 0))
            }
            // The access could block until a handler of userfaultfd fills the page.
            Op::Touch { page, .. }
                if before.spaces[at]
                    .vma_at(page.get())
                    .is_some_and(|vma| vma.flags.contains(VmFlags::VM_UFFD_MISSING)) =>
            {
                Ok((Err(Errno::EAGAIN), 0))
            }
            Op::Prlimit { resource, max, .. } => {
                let (resource, max) = (resource.get(), max.get().0);
                if resource == operand::Resource::Memlock {
                    // The process has CAP_IPC_LOCK, or may lock as much as a program does.
                    if self.limits.lock.is_none() {
                        return Ok((Ok(0), mine));
                    }
                    self.lock_limits[at] = Some(max);
                }
                self.limit(at, resource, max)?;
                Ok((Ok(0), mine))
            }
            Op::Fork { .. } => self.fork(op, at),
            Op::Exit { .. } => self.exit(op, at),
            Op::UffdRegister { page, len, ctx, .. }
            | Op::UffdRegisterWp { page, len, ctx, .. }
            | Op::UffdWriteprotect { page, len, ctx, .. }
            | Op::UffdUnregister { page, len, ctx, .. }
                if let Some(context) = self.monitor.adopted(at, ctx.get()) =>
            {
                let range = Range::new(page.get(), len.get());
                // No worker is asked here, so `ask` does not set the limit.
                let limited = limit_maps(&mut self.map_count, &self.limits, self.baseline.1)?;
                let answer = monitor::control(context, range, worker::Watch::of(op));
                drop(limited);
                match answer {
                    errno @ ..0 => Ok((Err(error(errno)?), mine)),
                    _ => Ok((Ok(0), mine)),
                }
            }
            _ => {
                self.policies |= op.opcode() == Opcode::Mbind;
                self.holes |= match op {
                    Op::Madvise { advice, .. } => advice.get() == Advice::Remove,
                    Op::Ftruncate { .. } => true,
                    _ => false,
                };
                self.freed |= match op {
                    Op::Madvise { advice, .. } => advice.get() == Advice::Free,
                    _ => false,
                };
                if let Op::UffdOpen { ctx, .. } = *op {
                    self.monitor.close(at, Some(ctx.get()));
                }
                let instead = self.in_place_of(op, before);
                self.withheld += u64::from(instead.is_some());
                // The source of a copy has to be unchanged, so it is looked at.
                let looked_at = match op {
                    Op::Copy { src, .. } => mine | 1 << src.get().0,
                    // Every process may lose private copies.
                    Op::Ftruncate { .. } => self.living(),
                    _ => mine,
                };
                match self.ask(instead.as_ref().unwrap_or(op), at, 0)? {
                    Reply::Answer(value) if value >= 0 => {
                        let value = u8::try_from(value).map_err(|_| KernelError::Answer(value))?;
                        if let Op::Touch { page, access, .. } = *op {
                            self.touched(page.get(), access.get(), value, &before.spaces[at]);
                            return Ok((Ok(0), looked_at));
                        }
                        if let Op::UffdOpen { ctx, features, .. } = *op
                            && !features.get().is_empty()
                            && let Some(process) = &self.processes[at]
                        {
                            self.monitor.watch(at, ctx.get(), process.context(ctx.get())?);
                        }
                        Ok((Ok(value), looked_at))
                    }
                    Reply::Answer(errno) => Ok((Err(error(errno)?), looked_at)),
                    Reply::Ended => Err(KernelError::Died(at as u8)),
                    Reply::Late => Ok((Err(self.overdue(at)), mine)),
                }
            }
        }
    }

    /// Lets process `at` fork. The child is the lowest process that is free.
    fn fork(&mut self, op: &Op, at: usize) -> Result<(Result<u8, Errno>, u8), KernelError> {
        let mine = 1 << at;
        let mut indices = 0..self.limits.max_processes();
        let Some(child) = indices.find(|&at| self.processes[at].is_none()) else {
            return Ok((Err(Errno::EAGAIN), 0));
        };
        self.monitor.child = child;
        self.lost = Some(child);
        match self.ask(op, at, child as u8)? {
            Reply::Answer(pid) if pid > 0 => {
                self.lost = None;
                let process = Living::of(pid as i32, self.contexts)?;
                let process = self.processes[child].insert(process);
                // The child is bound to the end of the controller only when it has
                // answered.
                let channel = &self.channels[child];
                let (timeout, monitor) = (self.options.timeout, &mut self.monitor);
                match await_reply(process, channel, timeout, monitor)?.0 {
                    Reply::Answer(own) if own == pid => {
                        self.lock_limits[child] = self.lock_limits[at];
                        Ok((Ok(child as u8), mine | 1 << child))
                    }
                    Reply::Answer(answer) => Err(KernelError::Answer(answer)),
                    Reply::Ended => Err(KernelError::Died(child as u8)),
                    Reply::Late => Ok((Err(self.overdue(child)), mine)),
                }
            }
            Reply::Answer(errno) => {
                self.lost = None;
                self.monitor.without_child();
                Ok((Err(error(errno)?), mine))
            }
            Reply::Ended => Err(KernelError::Died(at as u8)),
            Reply::Late => Ok((Err(self.overdue(at)), mine)),
        }
    }

    /// Lets process `at` exit, and waits until it has ended.
    fn exit(&mut self, op: &Op, at: usize) -> Result<(Result<u8, Errno>, u8), KernelError> {
        let mine = 1 << at;
        match self.ask(op, at, 0)? {
            Reply::Ended => {
                if let Some(process) = self.processes[at].take() {
                    process.bury();
                }
                self.monitor.close(at, None);
                Ok((Ok(0), mine))
            }
            Reply::Answer(answer) => Err(KernelError::Answer(answer)),
            Reply::Late => Ok((Err(self.overdue(at)), mine)),
        }
    }

    /// Records that process `at` gave no answer, and returns the result of the operation.
    fn overdue(&mut self, at: usize) -> Errno {
        let blocks = self.monitor.has_met_fault()
            || self.processes[at].as_ref().is_some_and(waits_for_userfaultfd);
        self.stale = true;
        self.ended = Some(if blocks { Ended::Blocked } else { Ended::TimedOut });
        Errno::EAGAIN
    }

    /// Returns the operation that is performed in place of `op`, if there is one: `COLD` in place of
    /// `PAGEOUT` after a `FREE` in the program, and where the range has memory of a file.
    ///
    /// `MADV_FREE` lets the kernel drop the pages when it reclaims memory, which the reference never does,
    /// and `MADV_PAGEOUT` reclaims them at once. It also drops pages of files that nobody has written, so that
    /// userfaultfd misses them. `MADV_COLD` makes the same checks and has the same results, and reclaims nothing.
    fn in_place_of(&self, op: &Op, before: &Observation) -> Option<Op> {
        let Op::Madvise { process, page, len, advice } = *op else { return None };
        let range = Range::new(page.get(), len.get());
        let vmas = before.spaces[usize::from(process.get().0)].vmas();
        let of_file = || vmas.iter().any(|vma| vma.file.is_some() && vma.range().overlaps(range));
        let drops = advice.get() == Advice::Pageout && (self.freed || of_file());
        drops.then_some(Op::Madvise { process, page, len, advice: Advice::Cold.into() })
    }

    /// Sends `op` to process `at` and waits for the answer.
    fn ask(&mut self, op: &Op, at: usize, child: u8) -> Result<Reply, KernelError> {
        let (Some(process), channel) = (&self.processes[at], &self.channels[at]) else {
            return Ok(Reply::Ended);
        };
        let locks = self.raised(op);
        let limited = limit_maps(&mut self.map_count, &self.limits, self.baseline.1)?;
        if let Some((during, _)) = locks {
            set_limit(process.proc.pid(), Resource::Memlock, during)?;
        }
        let source = match op {
            Op::Copy { src, .. } => {
                let source = &self.processes[usize::from(src.get().0)];
                source.as_ref().map_or(NO_PID, |source| source.proc.pid())
            }
            _ => 0,
        };
        let timeout = self.options.timeout;
        let with = With {
            child,
            failing: self.failing,
            value: written(self.writes),
            source,
            segment: self.segment.as_ref().map_or(-1, Segment::id),
        };
        let request = worker::request(Some(op), with);
        let reply = send(process, channel, &request, timeout, &mut self.monitor);
        drop(limited);
        if let Some((_, after)) = locks {
            set_limit(process.proc.pid(), Resource::Memlock, after)?;
        }
        let (reply, marks) = reply?;
        self.failed = marks.failed;
        if let Some(coverage) = &self.coverage {
            self.covered.extend(coverage.counters(at as u8, marks.covered));
        }
        Ok(reply)
    }

    /// Ends the program: the kernel could not be driven or observed.
    fn fail(&mut self, error: KernelError) {
        self.stale = true;
        self.end_all();
        self.ended = Some(Ended::Failed(error));
    }
}

impl Machine for Kernel {
    fn name(&self) -> &str {
        &self.name
    }

    fn has(&self, opcode: Opcode) -> bool {
        match opcode {
            Opcode::Copy => self.facilities.copies,
            opcode => opcode != Opcode::CopyVma,
        }
    }

    fn reset(&mut self, limits: &Limits) {
        if let Err(error) = self.begin(limits) {
            self.fail(error);
        }
    }

    fn step(&mut self, op: &Op, seen: &mut Observation) {
        if let Some(injection) = &mut self.injection {
            injection.last = Effect::default();
        }
        self.read = None;
        let performed = match self.injection {
            _ if self.ended.is_some() => Ok((Err(Errno::ENOSYS), 0)),
            Some(_) if inject::applies(op) => self.perform_failing(op, seen),
            _ => self.perform(op, seen),
        };
        seen.begin_step();
        let observed = performed.and_then(|(result, changed)| {
            (seen.result, seen.read) = (result, self.read);
            seen.messages = self.monitor.take_messages();
            // A process that gave no answer may hold a lock that reading `/proc` waits for.
            let readable = !matches!(self.ended, Some(Ended::TimedOut));
            if readable {
                self.observe(changed, seen)?
            }
            if readable { self.walk_rmap() } else { Ok(()) }
        });
        if let Err(error) = observed {
            self.fail(error);
        }
        if self.ended.is_some() {
            self.end_all();
        }
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.end_all();
    }
}

/// The time in which a process that was made says who it is, although its parent gave no answer.
const PATIENCE_WITH_LOST: Duration = Duration::from_millis(100);

/// A pid that no process has: it is above `PID_MAX_LIMIT`.
const NO_PID: i32 = i32::MAX;

/// Sets `vm.max_map_count` to the limit of the program, if it has one, until the returned value is dropped.
/// `outside` is the number of VMAs outside the arena.
fn limit_maps<'a>(
    setting: &'a mut Option<MapCount>,
    limits: &Limits,
    outside: u32,
) -> Result<Option<Limited<'a>>, KernelError> {
    let limit = limits.map_count.map(|limit| outside + u32::from(limit));
    setting.as_mut().zip(limit).map(|(setting, limit)| setting.limit(limit)).transpose()
}

/// Sets a limit of a process, in pages. The hard limit gets no lower, so that every user can raise the limit
/// again.
fn set_limit(pid: i32, resource: Resource, pages: u64) -> Result<(), KernelError> {
    let bytes = pages * PAGE;
    let maximum = getrlimit(resource).maximum.map(|hard| hard.max(bytes));
    let limit = Rlimit { current: Some(bytes), maximum };
    prlimit(Pid::from_raw(pid), resource, limit).map_err(doing("setting a limit"))?;
    Ok(())
}

fn error(answer: i64) -> Result<Errno, KernelError> {
    let number = answer.checked_neg().and_then(|number| u16::try_from(number).ok());
    number.and_then(Errno::from_number).ok_or(KernelError::Answer(answer))
}

/// Gives a memfd its length, and makes the pages that are missing.
fn fill(memfd: &OwnedFd) -> Result<(), KernelError> {
    fallocate(memfd, FallocateFlags::empty(), 0, FILE_PAGES * PAGE)
        .map_err(doing("filling a memfd"))
}

/// Returns three memfds with all their pages allocated: two are writable, and one is open for
/// reading only.
fn memfds() -> Result<[OwnedFd; 3], KernelError> {
    let memfd = || {
        let memfd =
            memfd_create("vmadiff", MemfdFlags::CLOEXEC).map_err(doing("making a memfd"))?;
        fill(&memfd)?;
        Ok::<_, KernelError>(memfd)
    };
    let readonly = memfd()?;
    let path = format!("/proc/self/fd/{}", readonly.as_raw_fd());
    let readonly = File::open(path)
        .map_err(|error| KernelError::Controller { what: "opening a memfd", error })?;
    Ok([memfd()?, memfd()?, readonly.into()])
}
