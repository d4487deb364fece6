//! The machine: a tree of workers, driven and observed by the caller.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, Resource, Rlimit, Signal, WaitId, WaitIdOptions, kill_process, pidfd_open,
    pidfd_send_signal, prlimit, waitid,
};
use vmadiff_machine::operand::{FILE_PAGES, MAX_PROCESSES, Mode, Process};
use vmadiff_machine::{
    Counters, Errno, FileId, Limits, Machine, Observation, Op, Opcode, PageSet, Program, VmFlags,
    Vma,
};

use crate::missing::{Facilities, Missing};
use crate::proc::{Inode, Proc, ProcError, Status};
use crate::worker::{self, Ends, Inheritance, PAGE, REPLY};

/// The kernel could not be driven, or not be observed.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// A system call of the controller failed.
    #[error("{what}: {source}")]
    Controller {
        /// What it was doing.
        what: &'static str,
        /// Why it could not.
        source: io::Error,
    },
    /// Process 0 could not set up; `EEXIST` where something is mapped in the arena.
    #[error("process 0 cannot start: {0}")]
    Start(io::Error),
    /// What `/proc` shows could not be read.
    #[error(transparent)]
    Proc(#[from] ProcError),
    /// A process ended in the middle of an operation.
    #[error("process {0} ended in the middle of an operation")]
    Died(u8),
    /// An operation answered what none can.
    #[error("the kernel answered {0}, which no operation returns")]
    Answer(i64),
}

fn doing(what: &'static str) -> impl Fn(rustix::io::Errno) -> KernelError {
    move |error| KernelError::Controller { what, source: error.into() }
}

/// How a run of a program ended before its last operation.
#[derive(Debug)]
pub enum Ended {
    /// The last operation blocked: it waits for a page that userfaultfd watches. What it did
    /// before was observed; it answers `EAGAIN`, as the models do. The process was killed.
    Blocked,
    /// The last operation gave no answer in time, and does not wait for userfaultfd. The process
    /// was killed.
    TimedOut,
    /// The kernel could not be driven, or not be observed.
    Failed(KernelError),
    /// As [`Kernel::take_ended`] has told.
    Over,
}

/// How the kernel is run.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How long an operation may take that does not wait for userfaultfd.
    pub timeout: Duration,
    /// Whether the machine is there for this alone, so that `vm.max_map_count` may be set.
    pub whole_machine: bool,
    /// Whether advice on transparent huge pages is given to a kernel that has them, which the
    /// world of a program has not, instead of being refused for it.
    pub huge_pages: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { timeout: Duration::from_secs(10), whole_machine: false, huge_pages: false }
    }
}

/// How long to wait before asking whether a process waits for userfaultfd.
const PATIENCE: Duration = Duration::from_millis(20);

/// A pipe for each direction.
#[derive(Debug)]
struct Channel {
    requests: (OwnedFd, OwnedFd),
    replies: (OwnedFd, OwnedFd),
}

impl Channel {
    fn new() -> Result<Channel, KernelError> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(doing("making a pipe"));
        Ok(Channel { requests: pipe()?, replies: pipe()? })
    }
}

/// A process of the program that runs.
#[derive(Debug)]
struct Living {
    handle: OwnedFd,
    proc: Proc,
}

impl Living {
    fn of(pid: i32) -> Result<Living, KernelError> {
        let process = Pid::from_raw(pid).ok_or(KernelError::Answer(pid.into()))?;
        let handle = pidfd_open(process, PidfdFlags::empty()).map_err(doing("opening a process"));
        let living = handle.and_then(|handle| Ok(Living { handle, proc: Proc::open(pid)? }));
        if living.is_err() {
            // Nothing knows of it then.
            let _ = kill_process(process, Signal::KILL);
            let _ = waitid(WaitId::Pid(process), WaitIdOptions::EXITED);
        }
        living
    }

    /// Waits until it has ended, so that nothing of it is left.
    fn bury(self) {
        let _ = waitid(WaitId::PidFd(self.handle.as_fd()), WaitIdOptions::EXITED);
    }

    fn kill(self) {
        let _ = pidfd_send_signal(&self.handle, Signal::KILL);
        self.bury();
    }
}

/// What a process answered.
enum Reply {
    Answer(i64),
    Ended,
    Late,
}

/// The running kernel.
#[derive(Debug)]
pub struct Kernel {
    name: String,
    options: Options,
    facilities: Facilities,
    memfds: [OwnedFd; 3],
    channels: [Channel; MAX_PROCESSES],
    processes: [Option<Living>; MAX_PROCESSES],
    limits: Limits,
    /// The counters of process 0 with nothing mapped in the arena, and its `map_count`.
    baseline: (Status, u32),
    /// The files met in the program, by number.
    files: Vec<Inode>,
    /// Whether the program has used `mbind`: `numa_maps` is slow to read.
    policies: bool,
    /// Which page frame the zero page is; 0 where frames are not shown.
    zero_page: u64,
    map_count: Option<MapCount>,
    ended: Option<Ended>,
    withheld: u64,
}

impl Kernel {
    /// The kernel, with no program begun: [`Machine::reset`] begins one.
    ///
    /// # Errors
    /// Where pipes, memfds or processes cannot be made, or `/proc` not be read.
    pub fn new(options: Options) -> Result<Kernel, KernelError> {
        let channel = |_| Channel::new();
        let channels: Vec<_> = (0..MAX_PROCESSES).map(channel).collect::<Result<_, _>>()?;
        let channels = channels.try_into().map_err(|_| KernelError::Answer(0))?;
        let mut kernel = Kernel {
            name: format!("linux {}", rustix::system::uname().release().to_string_lossy()),
            options,
            facilities: Facilities::default(),
            memfds: memfds()?,
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
        };
        if options.whole_machine {
            kernel.map_count = Some(MapCount::open()?);
        }
        kernel.explore()?;
        Ok(kernel)
    }

    /// What the kernel has of the world of a program.
    pub fn facilities(&self) -> &Facilities {
        &self.facilities
    }

    /// Why the program cannot go on, if it cannot. Until [`Machine::reset`], further operations
    /// do nothing.
    pub fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// The same, and forgets it; the program cannot go on all the same.
    pub fn take_ended(&mut self) -> Option<Ended> {
        let ended = self.ended.take()?;
        self.ended = Some(Ended::Over);
        Some(ended)
    }

    /// How many operations were withheld: transparent huge pages, which the world of a program has
    /// not, were advised to a kernel that has them.
    pub fn withheld(&self) -> u64 {
        self.withheld
    }

    /// What a program under `limits` needs that is not there.
    pub fn lacks_limit(&self, limits: &Limits) -> Option<Missing> {
        self.facilities.lacks_limit(limits, self.options.whole_machine)
    }

    /// Finds out, by small programs, what the kernel has.
    fn explore(&mut self) -> Result<(), KernelError> {
        // What is tried must not be held back by what is not known yet.
        let all = Facilities {
            userfaultfd: true,
            ksm: true,
            numa: true,
            locking: true,
            noreserve: true,
            huge_pages: false,
            soft_dirty: true,
            frames: false,
        };
        self.facilities = all;
        let zero = self.attempt("mmap 0 0 1 rw anon_private\ntouch 0 0 0\n")?;
        let entry = match &self.processes[0] {
            Some(process) => process.proc.pagemap()?[0],
            None => return Err(KernelError::Died(0)),
        };
        let first = zero.spaces[0].vmas().first().map(|vma| vma.flags);
        let overcommit = fs::read_to_string("/proc/sys/vm/overcommit_memory");
        let works = |seen: Observation| seen.result.is_ok();
        let advised = |this: &mut Kernel, advice: &str| {
            let program = format!("mmap 0 0 1 rw anon_private\nmadvise 0 0 1 {advice}\n");
            this.attempt(&program).map(works)
        };
        let facilities = Facilities {
            userfaultfd: works(
                self.attempt("mmap 0 0 1 rw anon_private\nuffd_register 0 0 1 0\n")?,
            ),
            ksm: advised(self, "MERGEABLE")?,
            numa: fs::exists("/proc/self/numa_maps").unwrap_or(false)
                && works(self.attempt("mmap 0 0 1 rw anon_private\nmbind 0 0 1 BIND\n")?),
            // As much as all of an arena.
            locking: works(self.attempt(
                "mmap 0 0 63 r anon_private LOCKED\nmmap 0 63 63 r anon_private\nmlock 0 63 63 0\n",
            )?),
            noreserve: !overcommit.is_ok_and(|mode| mode.trim() == "2"),
            huge_pages: advised(self, "HUGEPAGE")? && !self.options.huge_pages,
            soft_dirty: first.is_some_and(|flags| flags.contains(VmFlags::VM_SOFTDIRTY)),
            frames: entry.frame() != 0,
        };
        self.facilities = facilities;
        self.zero_page = entry.frame();
        self.end_all();
        Ok(())
    }

    /// Runs a program and gives what is seen after its last operation.
    fn attempt(&mut self, program: &str) -> Result<Observation, KernelError> {
        let program: Program = program.parse().unwrap_or_default();
        let mut seen = Observation::default();
        self.reset(&program.limits);
        for op in &program.ops {
            self.step(op, &mut seen);
        }
        match self.ended.take() {
            Some(Ended::Failed(error)) => Err(error),
            _ => Ok(seen),
        }
    }

    /// Begins a program.
    fn begin(&mut self, limits: &Limits) -> Result<(), KernelError> {
        self.end_all();
        // What the last program left unread belongs to no one.
        if self.ended.take().is_some() {
            for channel in &mut self.channels {
                *channel = Channel::new()?;
            }
        }
        self.limits = *limits;
        self.files.clear();
        self.policies = false;
        let inheritance = Inheritance {
            ends: std::array::from_fn(|at| Ends {
                requests: self.channels[at].requests.0.as_raw_fd(),
                replies: self.channels[at].replies.1.as_raw_fd(),
            }),
            memfds: std::array::from_fn(|at| self.memfds[at].as_raw_fd()),
            locks_limited: limits.lock.is_some(),
        };
        let pid = worker::spawn(&inheritance)
            .map_err(|source| KernelError::Controller { what: "starting process 0", source })?;
        let process = Living::of(pid)?;
        let process = self.processes[0].insert(process);
        match await_reply(process, &self.channels[0], self.options.timeout)? {
            Reply::Answer(0) => {}
            Reply::Answer(errno) => {
                let error = io::Error::from_raw_os_error(-errno as i32);
                return Err(KernelError::Start(error));
            }
            Reply::Ended | Reply::Late => return Err(KernelError::Died(0)),
        }
        let status = process.proc.status()?;
        let maps = if self.map_count.is_some() { process.proc.map_count()? } else { 0 };
        self.baseline = (status, maps);
        for (resource, limit, used) in [
            (Resource::As, limits.address_space, status.total_vm),
            (Resource::Memlock, limits.lock, status.locked_vm),
        ] {
            let Some(limit) = limit else { continue };
            let bytes = Some((used as u64 + u64::from(limit)) * PAGE);
            let limit = Rlimit { current: bytes, maximum: bytes };
            let pid = Pid::from_raw(pid);
            prlimit(pid, resource, limit).map_err(doing("setting a limit"))?;
        }
        Ok(())
    }

    fn end_all(&mut self) {
        // All at once: the last to end frees what they share.
        for process in self.processes.iter().flatten() {
            let _ = pidfd_send_signal(&process.handle, Signal::KILL);
        }
        for process in &mut self.processes {
            if let Some(process) = process.take() {
                process.kill();
            }
        }
    }

    /// Performs `op` and says which processes it may have changed.
    fn perform(
        &mut self,
        op: &Op,
        before: &Observation,
    ) -> Result<(Result<u8, Errno>, u8), KernelError> {
        if self.facilities.lacks(op).is_some() {
            return Ok((Err(Errno::ENOSYS), 0));
        }
        let at = usize::from(op.process().0);
        if self.processes[at].is_none() {
            return Ok((Err(Errno::ESRCH), 0));
        }
        let mine = 1 << at;
        match *op {
            // As by the kernel that the world of a program has.
            Op::Madvise { .. } if self.facilities.withholds(op) => {
                self.withheld += 1;
                Ok((Err(Errno::EINVAL), 0))
            }
            // The access would wait for someone to fill the page.
            Op::Touch { page, .. }
                if before.spaces[at]
                    .vma_at(page.get())
                    .is_some_and(|vma| vma.flags.intersects(VmFlags::UFFD)) =>
            {
                Ok((Err(Errno::EAGAIN), 0))
            }
            Op::Fork { .. } => {
                let mut indices = 0..self.limits.max_processes();
                let Some(child) = indices.find(|&at| self.processes[at].is_none()) else {
                    return Ok((Err(Errno::EAGAIN), 0));
                };
                match self.ask(op, at, child as u8)? {
                    Reply::Answer(pid) if pid > 0 => {
                        let process = self.processes[child].insert(Living::of(pid as i32)?);
                        // Until it has said so, it does not end with the controller.
                        match await_reply(process, &self.channels[child], self.options.timeout)? {
                            Reply::Answer(0) => Ok((Ok(child as u8), mine | 1 << child)),
                            Reply::Answer(answer) => Err(KernelError::Answer(answer)),
                            Reply::Ended => Err(KernelError::Died(child as u8)),
                            Reply::Late => Ok((Err(self.overdue(child)), mine)),
                        }
                    }
                    Reply::Answer(errno) => Ok((Err(error(errno)?), mine)),
                    Reply::Ended => Err(KernelError::Died(at as u8)),
                    Reply::Late => Ok((Err(self.overdue(at)), mine)),
                }
            }
            Op::Exit { .. } => match self.ask(op, at, 0)? {
                Reply::Ended => {
                    if let Some(process) = self.processes[at].take() {
                        process.bury();
                    }
                    Ok((Ok(0), mine))
                }
                Reply::Answer(answer) => Err(KernelError::Answer(answer)),
                Reply::Late => Ok((Err(self.overdue(at)), mine)),
            },
            _ => {
                self.policies |= op.opcode() == Opcode::Mbind;
                match self.ask(op, at, 0)? {
                    Reply::Answer(value) if value >= 0 => {
                        let value = u8::try_from(value).map_err(|_| KernelError::Answer(value))?;
                        Ok((Ok(value), mine))
                    }
                    Reply::Answer(errno) => Ok((Err(error(errno)?), mine)),
                    Reply::Ended => Err(KernelError::Died(at as u8)),
                    Reply::Late => Ok((Err(self.overdue(at)), mine)),
                }
            }
        }
    }

    /// Notes that process `at` gives no answer, and gives that of the operation.
    fn overdue(&mut self, at: usize) -> Errno {
        let blocks = self.processes[at].as_ref().is_some_and(waits_for_userfaultfd);
        self.ended = Some(if blocks { Ended::Blocked } else { Ended::TimedOut });
        Errno::EAGAIN
    }

    /// Has process `at` perform `op`.
    fn ask(&mut self, op: &Op, at: usize, child: u8) -> Result<Reply, KernelError> {
        let (Some(process), channel) = (&self.processes[at], &self.channels[at]) else {
            return Ok(Reply::Ended);
        };
        let limit = self.limits.map_count.map(|limit| self.baseline.1 + u32::from(limit));
        let limited = self.map_count.as_mut().zip(limit);
        let limited = limited.map(|(setting, limit)| setting.limit(limit)).transpose()?;
        let request = worker::request(op, child);
        rustix::io::write(&channel.requests.1, &request).map_err(doing("writing to a process"))?;
        let reply = await_reply(process, channel, self.options.timeout);
        drop(limited);
        reply
    }

    /// Reads the arena of each process in `changed`.
    fn observe(&mut self, changed: u8, seen: &mut Observation) -> Result<(), KernelError> {
        for at in (0..MAX_PROCESSES).filter(|at| changed >> at & 1 == 1) {
            let space = seen.rewrite(Process(at as u8));
            let Some(process) = &self.processes[at] else { continue };
            space.alive = true;
            let mappings = process.proc.mappings(self.policies && self.facilities.numa)?;
            let status = process.proc.status()?;
            space.counters = Counters {
                total_vm: status.total_vm - self.baseline.0.total_vm,
                locked_vm: status.locked_vm - self.baseline.0.locked_vm,
                data_vm: status.data_vm - self.baseline.0.data_vm,
                map_count: mappings.len() as i64,
            };
            if self.facilities.frames && mappings.iter().any(|mapping| mapping.anonymous > 0) {
                let entries = process.proc.pagemap()?;
                let anonymous = entries
                    .iter()
                    .map(|entry| entry.is_anonymous() && entry.frame() != self.zero_page);
                space.anon_pages = (0..)
                    .zip(anonymous)
                    .fold(0, |set: PageSet, (n, is)| set | PageSet::from(is) << n);
            }
            for mapping in mappings {
                let file = mapping.file.map(|inode| {
                    let known = self.files.iter().position(|file| *file == inode);
                    let index = known.unwrap_or_else(|| {
                        self.files.push(inode);
                        self.files.len() - 1
                    });
                    FileId::new(index as u32)
                });
                let flags = mapping.flags & self.visible_flags();
                let range = (mapping.start, mapping.end);
                // Of a file, the policy shown is that of its object, which all mappings share.
                let policy = if file.is_none() { mapping.policy } else { Mode::Default };
                let pgoff =
                    if file.is_some() { mapping.pgoff } else { mapping.start.linear_offset() };
                let vma = Vma::new(range, pgoff, flags, None, file, None, policy, false);
                space.push(vma, []);
            }
        }
        Ok(())
    }

    fn visible_flags(&self) -> VmFlags {
        let unseen = VmFlags::VM_SOFTDIRTY;
        if self.facilities.soft_dirty { VmFlags::all() } else { VmFlags::all() - unseen }
    }

    /// Reduces what a model shows to what this machine shows: writes it to `reduced`, which holds
    /// the reduction of the step before.
    pub fn visible(&self, model: &Observation, reduced: &mut Observation) {
        reduced.begin_step();
        reduced.result = model.result;
        for at in (0..MAX_PROCESSES).filter(|at| model.changed >> at & 1 == 1) {
            let (from, to) = (&model.spaces[at], reduced.rewrite(Process(at as u8)));
            to.alive = from.alive;
            to.counters = from.counters;
            to.anon_pages = if self.facilities.frames { from.anon_pages } else { 0 };
            for vma in from.vmas() {
                let pgoff = if vma.file.is_some() { vma.pgoff } else { vma.start.linear_offset() };
                let policy = if vma.file.is_none() && self.facilities.numa {
                    vma.policy
                } else {
                    Mode::Default
                };
                let flags = vma.flags & self.visible_flags();
                let range = (vma.start, vma.end);
                to.push(Vma::new(range, pgoff, flags, None, vma.file, None, policy, false), []);
            }
        }
    }
}

impl Machine for Kernel {
    fn name(&self) -> &str {
        &self.name
    }

    fn has(&self, opcode: Opcode) -> bool {
        !matches!(opcode, Opcode::Copy | Opcode::CopyVma)
    }

    fn reset(&mut self, limits: &Limits) {
        if let Err(error) = self.begin(limits) {
            self.end_all();
            self.ended = Some(Ended::Failed(error));
        }
    }

    fn step(&mut self, op: &Op, seen: &mut Observation) {
        let performed =
            if self.ended.is_some() { Ok((Err(Errno::ENOSYS), 0)) } else { self.perform(op, seen) };
        seen.begin_step();
        let observed = performed.and_then(|(result, changed)| {
            seen.result = result;
            // A process that gave no answer may hold what reading would wait for.
            let readable = !matches!(self.ended, Some(Ended::TimedOut));
            if readable { self.observe(changed, seen) } else { Ok(()) }
        });
        if let Err(error) = observed {
            self.ended = Some(Ended::Failed(error));
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

fn error(answer: i64) -> Result<Errno, KernelError> {
    let number = answer.checked_neg().and_then(|number| u16::try_from(number).ok());
    number.and_then(Errno::from_number).ok_or(KernelError::Answer(answer))
}

fn waits_for_userfaultfd(process: &Living) -> bool {
    process.proc.waits_in("handle_userfault")
}

/// Waits for the answer of a process, for its end, or until it is certain that it waits for
/// userfaultfd, or for `timeout`.
fn await_reply(
    process: &Living,
    channel: &Channel,
    timeout: Duration,
) -> Result<Reply, KernelError> {
    let began = Instant::now();
    loop {
        let mut fds = [
            PollFd::new(&channel.replies.0, PollFlags::IN),
            PollFd::new(&process.handle, PollFlags::IN),
        ];
        let patience = Timespec { tv_sec: 0, tv_nsec: PATIENCE.as_nanos() as i64 };
        match poll(&mut fds, Some(&patience)) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other.map_err(doing("waiting for a process"))?,
        };
        if fds[0].revents().contains(PollFlags::IN) {
            let mut reply = [0; REPLY];
            let read = rustix::io::read(&channel.replies.0, &mut reply)
                .map_err(doing("reading from a process"))?;
            if read == REPLY {
                return Ok(Reply::Answer(i64::from_ne_bytes(reply)));
            }
            return Ok(Reply::Ended);
        }
        if !fds[1].revents().is_empty() {
            return Ok(Reply::Ended);
        }
        if waits_for_userfaultfd(process) || began.elapsed() > timeout {
            return Ok(Reply::Late);
        }
    }
}

/// Two memfds that may be written, and one that is open for reading only, full.
fn memfds() -> Result<[OwnedFd; 3], KernelError> {
    let memfd = || {
        let memfd =
            memfd_create("vmadiff", MemfdFlags::CLOEXEC).map_err(doing("making a memfd"))?;
        fallocate(&memfd, FallocateFlags::empty(), 0, FILE_PAGES * PAGE)
            .map_err(doing("filling a memfd"))?;
        Ok::<_, KernelError>(memfd)
    };
    let readonly = memfd()?;
    let path = format!("/proc/self/fd/{}", readonly.as_raw_fd());
    let readonly = File::open(path)
        .map_err(|source| KernelError::Controller { what: "opening a memfd", source })?;
    Ok([memfd()?, memfd()?, readonly.into()])
}

/// `vm.max_map_count`, which is one for the whole machine.
#[derive(Debug)]
struct MapCount {
    file: File,
    usual: u32,
}

const MAX_MAP_COUNT: &str = "/proc/sys/vm/max_map_count";

fn setting(source: io::Error) -> KernelError {
    KernelError::Controller { what: "setting vm.max_map_count", source }
}

impl MapCount {
    fn open() -> Result<MapCount, KernelError> {
        let usual = fs::read_to_string(MAX_MAP_COUNT).map_err(setting)?;
        let usual = usual.trim().parse().map_err(|e| setting(io::Error::other(e)))?;
        let file = OpenOptions::new().write(true).open(MAX_MAP_COUNT).map_err(setting)?;
        Ok(MapCount { file, usual })
    }

    fn set(&self, limit: u32) -> io::Result<()> {
        // At the start: elsewhere it would be ignored (`sysctl_writes_strict`).
        self.file.write_all_at(limit.to_string().as_bytes(), 0)
    }

    /// Limits every process of the machine, until what is given is dropped.
    fn limit(&mut self, limit: u32) -> Result<Limited<'_>, KernelError> {
        self.set(limit).map_err(setting)?;
        Ok(Limited(self))
    }
}

/// The time while `vm.max_map_count` is set.
struct Limited<'a>(&'a mut MapCount);

impl Drop for Limited<'_> {
    fn drop(&mut self) {
        let usual = self.0.usual;
        let _ = self.0.set(usual);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every call of [`worker`], by two processes.
    const ALL: &str = "mmap 0 0 8 rw anon_private LOCKED\nmmap 0 60 63 rw file0_private - 3\n\
                       mmap 0 20 4 rw anon_shared NORESERVE\nmmap 0 30 4 r readonly_shared\n\
                       touch 0 63 1\ntouch 0 59 1\ntouch 0 0 0\nmprotect 0 1 2 r\n\
                       mremap 0 4 2 3 MAYMOVE|FIXED 40\nmremap 0 63 50 10\nmadvise 0 0 3 DONTFORK\n\
                       mlock 0 20 4 1\nmunlock 0 0 63\nmbind 0 0 3 BIND\nuffd_register 0 40 2 0\n\
                       uffd_unregister 0 40 2 0\nfork 0\nmunmap 1 0 63\nmmap 1 63 63 rw anon_private\n\
                       fork 1\nexit 1\n";

    fn begun() -> Kernel {
        let mut kernel = Kernel::new(Options::default()).expect("a kernel");
        kernel.reset(&Limits::default());
        kernel
    }

    fn run(kernel: &mut Kernel, program: &str) -> Observation {
        let program: Program = program.parse().expect("a program");
        let mut seen = Observation::default();
        for op in &program.ops {
            kernel.step(op, &mut seen);
            assert!(kernel.ended().is_none(), "{op}: {:?}", kernel.ended());
        }
        seen
    }

    fn pids(kernel: &Kernel) -> Vec<i32> {
        kernel.processes.iter().flatten().map(|process| process.proc.pid()).collect()
    }

    /// Every mapping that is not of the arena.
    fn outside(pid: i32) -> Vec<String> {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
        let arena = "100000000".."100080000";
        let outside = |line: &&str| {
            let (from, _) = line.split_once('-').expect("a range");
            from.len() != arena.start.len() || !arena.contains(&from)
        };
        maps.lines().filter(outside).map(str::to_owned).collect()
    }

    #[test]
    fn what_is_not_the_arena_is_never_changed() {
        let mut kernel = begun();
        let before = outside(pids(&kernel)[0]);
        assert!(!before.is_empty());
        let seen = run(&mut kernel, ALL);
        assert!(seen.spaces[0].alive && !seen.spaces[1].alive && seen.spaces[2].alive);
        for pid in pids(&kernel) {
            assert_eq!(outside(pid), before);
        }
    }

    #[test]
    fn nothing_is_left_of_a_program() {
        let mut kernel = begun();
        run(&mut kernel, ALL);
        let running = pids(&kernel);
        assert_eq!(running.len(), 2);
        kernel.reset(&Limits::default());
        assert!(running.iter().all(|pid| !fs::exists(format!("/proc/{pid}")).expect("/proc")));
        let running = pids(&kernel);
        drop(kernel);
        assert!(running.iter().all(|pid| !fs::exists(format!("/proc/{pid}")).expect("/proc")));
    }

    #[test]
    fn processes_end_with_the_thread_that_made_them() {
        let thread = std::thread::spawn(|| {
            let mut kernel = begun();
            run(&mut kernel, ALL);
            let running = pids(&kernel);
            // As if it had been killed: nothing is cleaned up.
            std::mem::forget(kernel);
            running
        });
        let running = thread.join().expect("a thread");
        // Gone, or a zombie that nobody has waited for.
        let ended = |pid: &i32| match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Err(_) => true,
            Ok(stat) => stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X'])),
        };
        let began = Instant::now();
        while !running.iter().all(ended) {
            assert!(began.elapsed() < Duration::from_secs(20), "{running:?} still run");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn an_operation_that_this_kernel_lacks_answers_enosys_and_does_nothing() {
        let mut kernel = begun();
        let seen = run(&mut kernel, "mmap 0 0 1 rw anon_private\ncopy 0 0 1 0 4 FIXED\n");
        assert_eq!(seen.result, Err(Errno::ENOSYS));
        assert_eq!(seen.changed, 0);
        assert!(!kernel.has(Opcode::Copy) && kernel.has(Opcode::Mremap));
    }
}
