//! The processes of a program, which make the system calls. `unsafe` code is here, in
//! [`crate::outside`] and in [`crate::segment`] only.
//!
//! A worker is a fork of the controller. It reads an operation, performs it and answers, until it
//! is killed. The controller may have several threads, so after the fork a worker makes system
//! calls only: no allocation, no lock, no panic.
//!
//! A worker maps, changes and touches only ranges that an [`Op`] names. Operands name nothing
//! outside the arena: a range begins below [`ARENA_PAGES`](vmadiff_machine::operand::ARENA_PAGES)
//! and is shorter than the arena.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_long, c_void};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::ptr;
use std::time::{Duration, Instant};

use libc::{
    MAP_ANONYMOUS, MAP_FIXED, MAP_FIXED_NOREPLACE, MAP_LOCKED, MAP_NORESERVE, MAP_POPULATE,
    MAP_PRIVATE, MAP_SHARED, PROT_NONE, SIGCHLD, SYS_madvise, SYS_mbind, SYS_mlockall, SYS_mmap,
    SYS_mremap, SYS_munlockall, SYS_prctl, SYS_shmat, SYS_shmctl, SYS_shmdt,
};
use rustix::io::Errno;
use rustix::mm::{MlockFlags, MprotectFlags, UserfaultfdFlags};
use rustix::process::{
    Pid, Signal, WaitId, WaitIdOptions, getpid, getppid, kill_process,
    set_parent_process_death_signal, setpgid, waitid,
};
use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, disable_transparent_huge_pages, set_capabilities,
};
use vmadiff_machine::op::MAX_OPERANDS;
use vmadiff_machine::operand::{
    self, ARENA_START, Access, Domain, END_PAGES, Kind, Len, MAX_PROCESSES, MlockallFlags,
    MmapFlags, MremapFlags, Onfault, Page, ShmFlags, UffdFeatures,
};
use vmadiff_machine::{Op, Opcode};

use crate::coverage::Areas;
use crate::error::KernelError;
use crate::inject;
use crate::outside::ARENA;

/// The size of a page in bytes.
pub(crate) const PAGE: u64 = 4096;
/// The number of pages on either side of the arena that must be free too before the program begins.
const GUARD: u64 = 16;
/// The answer of a worker to a `touch` that raised `SIGBUS`.
const SIGBUS_ANSWER: i64 = -1000;

/// The length of a request in bytes: opcode, operands, and the fields of [`With`].
pub(crate) const REQUEST: usize = 4 + MAX_OPERANDS + 2 * size_of::<i32>();
/// The length of an answer in bytes: the result of the system call or the negative error, whether the
/// allocation failed, and the number of program counters that the operation covered.
pub(crate) const REPLY: usize = 13;

/// The numbers of the descriptors of a worker's userfaultfd contexts, by which the controller finds them.
pub(crate) type ContextFds = [RawFd; 2];

/// Returns numbers for the descriptors of contexts: they are free in this process, and so in every worker.
///
/// # Errors
/// Returns an error if `file` cannot be duplicated.
pub(crate) fn free_descriptors(file: BorrowedFd<'_>) -> rustix::io::Result<ContextFds> {
    // A process may have few descriptors (`RLIMIT_NOFILE`).
    let first = match rustix::io::fcntl_dupfd_cloexec(file, FIRST_CONTEXT_FD) {
        Err(Errno::INVAL) => rustix::io::fcntl_dupfd_cloexec(file, FIRST_CONTEXT_FD / 4)?,
        first => first?,
    };
    let second = rustix::io::fcntl_dupfd_cloexec(file, first.as_raw_fd() + 1)?;
    Ok([first.as_raw_fd(), second.as_raw_fd()])
}

/// The lowest number of the descriptor of a context: above those that the controller opens later.
const FIRST_CONTEXT_FD: RawFd = 1000;

/// The opcode of a request to put the process back to the state in which a program begins.
const EMPTY: u8 = u8::MAX;

/// The data that a worker needs beside an operation.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct With {
    /// The index of the child of a `fork`.
    pub(crate) child: u8,
    /// The number of the allocation that is to fail; 0 for none.
    pub(crate) failing: u8,
    /// The value that a `touch` writes.
    pub(crate) value: u8,
    /// The pid of the source of a `copy`.
    pub(crate) source: i32,
    /// The id of the segment of SysV shared memory; -1 without one.
    pub(crate) segment: i32,
}

/// Returns the request for an operation; without one, the request to put the process back to the state in
/// which a program begins.
pub(crate) fn request(op: Option<&Op>, with: With) -> [u8; REQUEST] {
    let mut request = [0; REQUEST];
    let [opcode, operands @ .., child, failing, value, a, b, c, d, e, f, g, h] = &mut request;
    *opcode = op.map_or(EMPTY, |op| op.opcode() as u8);
    *operands = op.map_or([0; MAX_OPERANDS], Op::bytes);
    (*child, *failing, *value) = (with.child, with.failing, with.value);
    [*a, *b, *c, *d] = with.source.to_ne_bytes();
    [*e, *f, *g, *h] = with.segment.to_ne_bytes();
    request
}

/// The pipe ends of a worker.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) requests: RawFd,
    pub(crate) replies: RawFd,
}

/// The data that all workers of a program inherit.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Inheritance {
    /// The pipe ends by the index of the process.
    pub(crate) ends: [Ends; MAX_PROCESSES],
    /// The two memfds that may be written, and the one that is open for reading only.
    pub(crate) memfds: [RawFd; 3],
    /// The empty memfd that is mapped outside the arena.
    pub(crate) outside: RawFd,
    /// The memory outside the arena is mapped.
    pub(crate) fills: bool,
    /// The numbers of the descriptors of userfaultfd contexts.
    pub(crate) contexts: ContextFds,
    /// The areas of KCOV, if coverage is collected.
    pub(crate) areas: Option<Areas>,
    /// The worker gives up `CAP_IPC_LOCK`.
    pub(crate) locks_limited: bool,
    /// The number of the system call `process_vm_mmap()`.
    pub(crate) process_vm_mmap: Option<u32>,
}

/// Forks process 0 of a program off the caller and returns its pid. The first answer of the process
/// is 0, or the negative error of the setup step that failed; after an error the process ends.
///
/// # Errors
/// Returns an error if no process can be made.
pub(crate) fn spawn(inheritance: &Inheritance) -> io::Result<i32> {
    let parent = getpid();
    // SAFETY: the child has a copy of this thread's memory. It makes system calls only, on memory
    // of its own, and ends in `serve()`: it never returns into code that might wait for a lock
    // which another thread held.
    match unsafe { fork(0) } {
        0 => {
            close_others(inheritance);
            let ready = follow(parent).and_then(|()| prepare(inheritance));
            answer(
                inheritance,
                0,
                ready.map_or_else(|errno| -i64::from(errno), |()| 0),
                Marks::default(),
            );
            match ready {
                Ok(()) => serve(inheritance, parent),
                Err(_) => end(),
            }
        }
        pid if pid > 0 => Ok(pid as i32),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The most descriptors that a worker keeps: the standard ones, two for each process, four files, and the areas
/// of KCOV.
const MAX_KEPT: usize = 3 + 2 * MAX_PROCESSES + 4 + MAX_PROCESSES;

/// Closes every descriptor that the worker does not need. Another thread of the controller may drive a kernel of its
/// own: a userfaultfd context of its program is closed only when no process has a descriptor of it. Linux has
/// `close_range()` since 5.9.
fn close_others(inheritance: &Inheritance) {
    let Inheritance { ends, memfds, outside, areas, .. } = inheritance;
    let pipes = ends.iter().flat_map(|ends| [ends.requests, ends.replies]);
    let areas = areas.iter().flat_map(Areas::files);
    let files = memfds.iter().copied().chain([*outside]);
    let mut kept: [RawFd; MAX_KEPT] = [2; MAX_KEPT];
    for (place, fd) in kept.iter_mut().zip(pipes.chain(files).chain(areas)) {
        *place = fd;
    }
    kept.sort_unstable();
    let ends = kept.iter().skip(1).map(|next| next - 1).chain([RawFd::MAX]);
    for (first, last) in kept.iter().map(|fd| fd + 1).zip(ends) {
        if (3..=last).contains(&first) {
            // SAFETY: the worker owns all its descriptors, and closes those that it never uses.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    }
}

/// Calls `fork()` without the work that libc does around it.
///
/// # Safety
/// The child may call only functions that are safe in a signal handler.
unsafe fn fork(flags: c_int) -> c_long {
    // SAFETY: without CLONE_VM and without a stack `clone` is a fork; the caller ensures the rest.
    unsafe {
        libc::syscall(
            libc::SYS_clone,
            c_long::from(flags | SIGCHLD),
            0 as c_long,
            0,
            0,
            0 as c_long,
        )
    }
}

/// The time between two looks at a process that makes one call.
const LOOK: Duration = Duration::from_millis(1);

/// Makes a call with the number `number` in a process of its own, with arguments that
/// `process_vm_mmap()` refuses. Returns the number of its error; 0 if it succeeds, or ends the process;
/// `None` if it does not return within `timeout`.
///
/// # Errors
/// Returns an error if no process can be made.
pub(crate) fn invalid_copy(number: u32, timeout: Duration) -> Result<Option<i32>, KernelError> {
    // SAFETY: the child makes one system call, on no memory, and ends.
    let pid = unsafe { fork(0) };
    if pid == 0 {
        // SAFETY: a null address and a length of 0 name no memory.
        let result = unsafe { libc::syscall(number.into(), 0, 0, 0, 0, c_long::MAX) };
        let status = checked(result).err().unwrap_or(0);
        // SAFETY: `_exit` ends the process without running handlers.
        unsafe { libc::_exit(status) }
    }
    let what = "starting a process";
    let pid = checked(pid).map_err(|errno| {
        let error = io::Error::from_raw_os_error(errno);
        KernelError::Controller { what, error }
    })?;
    let pid = Pid::from_raw(pid as i32).ok_or(KernelError::Answer(pid))?;
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    let began = Instant::now();
    loop {
        let ended = waitid(WaitId::Pid(pid), options)
            .map_err(|error| KernelError::Controller { what, error: error.into() })?;
        if let Some(ended) = ended {
            return Ok(Some(ended.exit_status().unwrap_or(0)));
        }
        if began.elapsed() > timeout {
            let _ = kill_process(pid, Signal::KILL);
            let _ = waitid(WaitId::Pid(pid), WaitIdOptions::EXITED);
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}

fn errno() -> i32 {
    // SAFETY: the pointer to this thread's errno is valid.
    unsafe { *libc::__errno_location() }
}

/// Returns the result of a system call, or its error.
pub(crate) fn checked(result: c_long) -> Result<i64, i32> {
    if result == -1 { Err(errno()) } else { Ok(result) }
}

/// Returns the pid of the process, which libc would remember from its parent.
fn own_pid() -> i64 {
    // SAFETY: the call has no arguments.
    unsafe { libc::syscall(libc::SYS_getpid) }
}

fn end() -> ! {
    // SAFETY: `_exit` ends the process without running handlers.
    unsafe { libc::_exit(0) }
}

/// Returns the number of an error.
fn number(errno: Errno) -> i32 {
    errno.raw_os_error()
}

/// Returns a descriptor that a worker has inherited.
fn inherited(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: a worker keeps the descriptors of its inheritance until it ends.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Lets the worker end with `parent`, the controller, which is the parent of every worker.
fn follow(parent: Pid) -> Result<(), i32> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(number)?;
    // In a process group of its own: Ctrl-C interrupts the controller alone.
    setpgid(None, None).map_err(number)?;
    // The controller may have ended before the call.
    if getppid() == Some(parent) { Ok(()) } else { Err(libc::ESRCH) }
}

/// Sets up process 0 before its first operation; its children inherit the setup.
fn prepare(inheritance: &Inheritance) -> Result<(), i32> {
    // SAFETY: memory that is passed by pointer lives until the call returns and has the layout that
    // the kernel expects. The probe maps a free range only (MAP_FIXED_NOREPLACE), and unmaps only
    // its own mapping.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = fault_handler as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_NODEFER;
        for signal in [libc::SIGSEGV, libc::SIGBUS] {
            checked(libc::sigaction(signal, &action, ptr::null_mut()).into())?;
        }
        let none: libc::sigset_t = std::mem::zeroed();
        checked(libc::sigprocmask(libc::SIG_SETMASK, &none, ptr::null_mut()).into())?;
        // The world of a program has no huge pages. Kernels without them refuse the call.
        let _ = disable_transparent_huge_pages(true);

        let start = ((ARENA_START - GUARD) * PAGE) as *mut c_void;
        let length = (END_PAGES as u64 + 2 * GUARD) * PAGE;
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
        checked(libc::syscall(SYS_mmap, start, length, PROT_NONE, flags, -1, 0))?;
        rustix::mm::munmap(start, length as usize).map_err(number)?;
        // If this fails, the kernel may choose addresses outside the arena: the controller notices.
        if inheritance.fills {
            let _ = crate::outside::fill(inheritance.outside);
        }

        if inheritance.locks_limited { drop_ipc_lock() } else { Ok(()) }
    }
}

/// Gives up `CAP_IPC_LOCK`, so that `RLIMIT_MEMLOCK` counts.
fn drop_ipc_lock() -> Result<(), i32> {
    let sets = capabilities(None).map_err(number)?;
    let without = |set: CapabilitySet| set.difference(CapabilitySet::IPC_LOCK);
    let sets = CapabilitySets {
        effective: without(sets.effective),
        permitted: without(sets.permitted),
        inheritable: without(sets.inheritable),
    };
    set_capabilities(None, sets).map_err(number)
}

/// Reads operations and answers them, as process 0 and, after a fork, as its child. The first
/// answer of a child is 0, after the child has been bound to the end of the controller.
fn serve(inheritance: &Inheritance, parent: Pid) -> ! {
    let mut me = 0;
    let mut contexts: [Option<OwnedFd>; 2] = [None, None];
    let mut fail_nth: Option<OwnedFd> = None;
    let mut covers = false;
    loop {
        let Request { op, with } = next(inheritance, me);
        let Some(op) = op else {
            contexts = [None, None];
            let emptied = empty().unwrap_or_else(|errno| -i64::from(errno));
            answer(inheritance, me, emptied, Marks::default());
            continue;
        };
        let mut failed = false;
        if let Some(areas) = inheritance.areas {
            if !covers {
                areas.enable(me);
                covers = true;
            }
            areas.clear(me);
        }
        let result = match op {
            Op::Exit { .. } => end(),
            Op::Fork { .. } => {
                // SAFETY: the child continues here, as its parent does. With CLONE_PARENT the
                // controller is the parent of the child too, so that it can kill the child and wait
                // for it.
                let pid = unsafe { fork(libc::CLONE_PARENT) };
                if pid == 0 {
                    if follow(parent).is_err() {
                        end();
                    }
                    // The contexts belong to the parent: a child has none.
                    contexts = [None, None];
                    fail_nth = None;
                    covers = false;
                    me = with.child;
                    // The controller may not have got the answer of the parent.
                    answer(inheritance, me, own_pid(), Marks::default());
                    continue;
                }
                checked(pid)
            }
            op => {
                let armed = with.failing != 0 && inject::arm(&mut fail_nth, with.failing);
                let result = perform(&op, &with, inheritance, &mut contexts);
                failed = armed && inject::disarm(&fail_nth);
                result
            }
        };
        let covered = inheritance.areas.map_or(0, |areas| areas.count(me));
        let result = result.unwrap_or_else(|errno| -i64::from(errno));
        answer(inheritance, me, result, Marks { failed, covered });
    }
}

/// Puts the process back to the state in which a program begins, as far as this is possible: nothing is
/// mapped in the arena, and no memory is locked or will be.
fn empty() -> Result<i64, i32> {
    let (start, length) = (ARENA.start as *mut c_void, (ARENA.end - ARENA.start) as usize);
    // SAFETY: the worker has no memory of its own in the arena.
    done(unsafe { rustix::mm::munmap(start, length) })?;
    // SAFETY: the call changes no content.
    checked(unsafe { libc::syscall(SYS_munlockall) })
}

/// A request that was read.
struct Request {
    /// `None` if the process is to be put back to the state in which a program begins.
    op: Option<Op>,
    with: With,
}

/// Waits for the next request to process `me`.
fn next(inheritance: &Inheritance, me: u8) -> Request {
    let Some(ends) = inheritance.ends.get(usize::from(me)) else { end() };
    let mut request = [0u8; REQUEST];
    // A request is shorter than PIPE_BUF, so writing and reading it is atomic.
    let read = rustix::io::read(inherited(ends.requests), &mut request);
    let [opcode, operands @ .., child, failing, value, a, b, c, d, e, f, g, h] = request;
    let op = match Opcode::from_number(opcode) {
        _ if read != Ok(REQUEST) => end(),
        Some(opcode) => Some(Op::from_bytes(opcode, operands)),
        None if opcode == EMPTY => None,
        None => end(),
    };
    let source = i32::from_ne_bytes([a, b, c, d]);
    let segment = i32::from_ne_bytes([e, f, g, h]);
    Request { op, with: With { child, failing, value, source, segment } }
}

/// The effects of an operation that a worker reports beside the result.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Marks {
    /// An allocation was made to fail.
    pub(crate) failed: bool,
    /// The number of program counters that the operation covered in the kernel.
    pub(crate) covered: u32,
}

impl Marks {
    /// Reads the result and the marks of a reply.
    pub(crate) fn of(reply: [u8; REPLY]) -> (i64, Marks) {
        let [r0, r1, r2, r3, r4, r5, r6, r7, failed, covered @ ..] = reply;
        let result = i64::from_ne_bytes([r0, r1, r2, r3, r4, r5, r6, r7]);
        (result, Marks { failed: failed != 0, covered: u32::from_ne_bytes(covered) })
    }
}

fn answer(inheritance: &Inheritance, me: u8, result: i64, marks: Marks) {
    let Some(ends) = inheritance.ends.get(usize::from(me)) else { end() };
    let mut reply = [0; REPLY];
    reply[..8].copy_from_slice(&result.to_ne_bytes());
    reply[8] = u8::from(marks.failed);
    reply[9..].copy_from_slice(&marks.covered.to_ne_bytes());
    if rustix::io::write(inherited(ends.replies), &reply) != Ok(REPLY) {
        end();
    }
}

/// Moves the pages that wait for the lists of the memory management onto these lists: locking memory
/// does that (`mlock_drain_local()`).
pub(crate) fn drain() {
    let byte = 0u8;
    let start = (&raw const byte as usize & !(PAGE as usize - 1)) as *mut c_void;
    // SAFETY: the page of a local variable is mapped, and locking changes no content.
    let _ = unsafe { rustix::mm::mlock(start, PAGE as usize) };
    // SAFETY: as above.
    let _ = unsafe { rustix::mm::munlock(start, PAGE as usize) };
}

/// Returns the address of a page of the arena.
fn address(page: Page) -> u64 {
    (ARENA_START + u64::from(page.0)) * PAGE
}

fn bytes(len: Len) -> u64 {
    u64::from(len.0) * PAGE
}

/// Returns the address and the length in bytes of a range.
fn range(page: Page, len: Len) -> (*mut c_void, usize) {
    (address(page) as *mut c_void, bytes(len) as usize)
}

/// Returns the answer of a system call without a result value.
fn done(result: rustix::io::Result<()>) -> Result<i64, i32> {
    result.map(|()| 0).map_err(number)
}

/// Makes the system call of `op`. Pages that `mmap` and `mremap` return are counted from the start
/// of the arena. A `touch` that writes writes the value in `with`, and one that reads returns the value.
fn perform(
    op: &Op,
    with: &With,
    inheritance: &Inheritance,
    contexts: &mut [Option<OwnedFd>; 2],
) -> Result<i64, i32> {
    // SAFETY, of every block below: the addresses lie in the arena, where the worker has no memory
    // of its own; memory that is passed by pointer lives until the call returns.
    match *op {
        Op::Mmap { page, len, prot, kind, flags, pgoff, .. } => {
            let [file0, file1, readonly] = inheritance.memfds;
            let (sharing, fd) = match kind.get() {
                Kind::AnonPrivate => (MAP_PRIVATE | MAP_ANONYMOUS, -1),
                Kind::AnonShared => (MAP_SHARED | MAP_ANONYMOUS, -1),
                Kind::File0Private => (MAP_PRIVATE, file0),
                Kind::File0Shared => (MAP_SHARED, file0),
                Kind::File1Private => (MAP_PRIVATE, file1),
                Kind::File1Shared => (MAP_SHARED, file1),
                Kind::ReadonlyShared => (MAP_SHARED, readonly),
                Kind::Special => return Err(libc::ENODEV),
            };
            let how = flags.get();
            let mut flags = sharing;
            flags |= if how.contains(MmapFlags::FIXED_NOREPLACE) {
                MAP_FIXED_NOREPLACE
            } else {
                MAP_FIXED
            };
            if how.contains(MmapFlags::NORESERVE) {
                flags |= MAP_NORESERVE;
            }
            if how.contains(MmapFlags::LOCKED) {
                flags |= MAP_LOCKED;
            }
            if how.contains(MmapFlags::POPULATE) {
                flags |= MAP_POPULATE;
            }
            let offset = if fd == -1 { 0 } else { pgoff.get().offset().0 * PAGE };
            let prot = c_int::from(prot.get().bits());
            let (start, length) = (address(page.get()), bytes(len.get()));
            mapped(unsafe { libc::syscall(SYS_mmap, start, length, prot, flags, fd, offset) })
        }
        Op::Munmap { page, len, .. } => {
            let (start, length) = range(page.get(), len.get());
            done(unsafe { rustix::mm::munmap(start, length) })
        }
        Op::Mprotect { page, len, prot, .. } => {
            let (start, length) = range(page.get(), len.get());
            let prot = MprotectFlags::from_bits_retain(prot.get().bits().into());
            done(unsafe { rustix::mm::mprotect(start, length, prot) })
        }
        Op::Mremap { page, old_len, new_len, flags, new_page, .. } => {
            let (start, new_start) = (address(page.get()), address(new_page.get()));
            let (old, new) = (bytes(old_len.get()), bytes(new_len.get()));
            let flags = flags.get();
            // The program gives no address: 0 stands for none.
            let new_start = if flags == MremapFlags::Maymove { 0 } else { new_start };
            let flags = flags.number();
            in_arena(new, unsafe { libc::syscall(SYS_mremap, start, old, new, flags, new_start) })
        }
        Op::Madvise { page, len, advice, .. } => {
            let (start, length) = (address(page.get()), bytes(len.get()));
            checked(unsafe { libc::syscall(SYS_madvise, start, length, advice.get().number()) })
        }
        Op::Mlock { page, len, onfault, .. } => {
            let (start, length) = range(page.get(), len.get());
            let mut flags = MlockFlags::empty();
            flags.set(MlockFlags::ONFAULT, onfault.get() == Onfault::Yes);
            done(unsafe { rustix::mm::mlock_with(start, length, flags) })
        }
        Op::Munlock { page, len, .. } => {
            let (start, length) = range(page.get(), len.get());
            done(unsafe { rustix::mm::munlock(start, length) })
        }
        Op::Mbind { page, len, mode, .. } => {
            let (start, length) = (address(page.get()), bytes(len.get()));
            let nodes: u64 = if mode.get() == operand::Mode::Default { 0 } else { 1 };
            let (mode, bits, none) = (mode.get().number(), u64::from(u64::BITS), 0u64);
            checked(unsafe {
                libc::syscall(SYS_mbind, start, length, mode, &raw const nodes, bits, none)
            })
        }
        Op::Touch { page, access, .. } => {
            let write = c_int::from(access.get() == Access::Write);
            match unsafe { vmadiff_touch(address(page.get()), write, with.value.into()) } {
                read @ 0.. => Ok(read.into()),
                BUS => Ok(SIGBUS_ANSWER),
                _ => Err(libc::EFAULT),
            }
        }
        Op::UffdRegister { page, len, ctx, .. } | Op::UffdRegisterWp { page, len, ctx, .. } => {
            let Some(context) = contexts.get_mut(usize::from(ctx.get().index())) else {
                return Err(libc::EBADF);
            };
            let context = match context {
                Some(context) => context,
                None => {
                    let fd = inheritance.contexts[usize::from(ctx.get().index())];
                    context.insert(open_context(fd, UffdFeatures::empty())?)
                }
            };
            Watch::of(op).control(context.as_raw_fd(), address(page.get()), bytes(len.get()))
        }
        Op::UffdUnregister { page, len, ctx, .. } | Op::UffdWriteprotect { page, len, ctx, .. } => {
            let context = contexts.get(usize::from(ctx.get().index())).and_then(Option::as_ref);
            let context = context.map_or(-1, |fd| fd.as_raw_fd());
            Watch::of(op).control(context, address(page.get()), bytes(len.get()))
        }
        Op::Shmat { page, flags, .. } => {
            let flags = flags.get();
            let given = [
                (ShmFlags::RDONLY, libc::SHM_RDONLY),
                (ShmFlags::EXEC, libc::SHM_EXEC),
                (ShmFlags::REMAP, libc::SHM_REMAP),
            ];
            let bits = given.into_iter().filter(|(flag, _)| flags.contains(*flag));
            let bits = bits.fold(0, |bits, (_, bit)| bits | bit);
            let start = address(page.get());
            mapped(unsafe { libc::syscall(SYS_shmat, with.segment, start, bits) })
        }
        Op::Shmdt { page, .. } => checked(unsafe { libc::syscall(SYS_shmdt, address(page.get())) }),
        Op::ShmRmid { .. } => {
            checked(unsafe { libc::syscall(SYS_shmctl, with.segment, libc::IPC_RMID, 0) })
        }
        Op::Copy { page, len, dst_page, flags, .. } => {
            let Some(number) = inheritance.process_vm_mmap else { return Err(libc::ENOSYS) };
            let (start, length) = (address(page.get()), bytes(len.get()));
            let (to, flags) = (address(dst_page.get()), c_long::from(flags.get().bits()));
            in_arena(length, unsafe {
                libc::syscall(number.into(), with.source, start, length, to, flags)
            })
        }
        Op::Mlockall { flags, .. } => {
            let flags = flags.get();
            let bits = c_int::from(flags.bits());
            let locked = checked(unsafe { libc::syscall(SYS_mlockall, bits) })?;
            if flags.contains(MlockallFlags::CURRENT) {
                crate::outside::unlock()?;
            }
            Ok(locked)
        }
        Op::Munlockall { .. } => checked(unsafe { libc::syscall(SYS_munlockall) }),
        Op::Mseal { page, len, .. } => {
            let (start, length) = (address(page.get()), bytes(len.get()));
            checked(unsafe { libc::syscall(SYS_MSEAL, start, length, 0u64) })
        }
        Op::MemoryMerge { merge, .. } => {
            let merge = u64::from(merge.get().number());
            checked(unsafe {
                libc::syscall(SYS_prctl, PR_SET_MEMORY_MERGE, merge, 0u64, 0u64, 0u64)
            })
        }
        Op::ClearRefs { .. } => clear_refs(),
        Op::Ftruncate { file, length, .. } => {
            let [file0, file1, readonly] = inheritance.memfds;
            let fd = match file.get() {
                operand::File::File0 => file0,
                operand::File::File1 => file1,
                operand::File::Readonly => readonly,
                operand::File::Special => return Err(libc::ENODEV),
            };
            let length = u64::from(length.get().0) * PAGE;
            done(rustix::fs::ftruncate(inherited(fd), length))
        }
        Op::UffdOpen { ctx, features, .. } => {
            let at = usize::from(ctx.get().index());
            let Some(context) = contexts.get_mut(at) else { return Err(libc::EBADF) };
            *context = None;
            *context = Some(open_context(inheritance.contexts[at], features.get())?);
            Ok(0)
        }
        // The controller does these, or nobody.
        Op::Fork { .. } | Op::Exit { .. } | Op::Prlimit { .. } | Op::CopyVma { .. } => {
            Err(libc::ENOSYS)
        }
    }
}

/// Makes all memory of the process clean: no VMA is soft-dirty.
fn clear_refs() -> Result<i64, i32> {
    use rustix::fs::{CWD, Mode, OFlags};
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    let file = rustix::fs::openat(CWD, c"/proc/self/clear_refs", flags, Mode::empty());
    let written = rustix::io::write(file.map_err(number)?, b"4");
    written.map(|_| 0).map_err(number)
}

/// The option of `prctl()`, which older headers lack.
const PR_SET_MEMORY_MERGE: c_long = 67;

/// The number of `mseal()`, which is the same on every architecture.
const SYS_MSEAL: c_long = 462;

/// Returns the page of an address that the kernel chose for `length` bytes. The range is unmapped if
/// it lies outside the arena: this is not the world of a program.
fn in_arena(length: u64, start: c_long) -> Result<i64, i32> {
    if start != -1 && !ARENA.contains(&(start as u64)) {
        // SAFETY: the kernel mapped the range at an address that was free.
        let _ = unsafe { rustix::mm::munmap(start as *mut c_void, length as usize) };
        return Err(libc::ENOSYS);
    }
    mapped(start)
}

/// Returns the page of an address that a call returned.
fn mapped(result: c_long) -> Result<i64, i32> {
    Ok(checked(result)? / PAGE as i64 - ARENA_START as i64)
}

/// The ioctl numbers of userfaultfd: `_IOWR(0xaa, 0x3f, struct uffdio_api)`, and so on.
const UFFDIO_API: u64 = 0xc018_aa3f;
const UFFDIO_REGISTER: u64 = 0xc020_aa00;
const UFFDIO_UNREGISTER: u64 = 0x8010_aa01;
const UFFDIO_WRITEPROTECT: u64 = 0xc018_aa06;

/// What an ioctl of userfaultfd does with a range.
#[derive(Clone, Copy)]
pub(crate) enum Watch {
    /// `UFFDIO_REGISTER` in a mode (`UFFDIO_REGISTER_MODE_…`).
    Register(u64),
    /// `UFFDIO_UNREGISTER`.
    Unregister,
    /// `UFFDIO_WRITEPROTECT` in a mode (`UFFDIO_WRITEPROTECT_MODE_…`).
    Writeprotect(u64),
}

impl Watch {
    /// Returns what `op`, which is an ioctl of userfaultfd, does.
    pub(crate) fn of(op: &Op) -> Watch {
        const MISSING: u64 = 1;
        match op {
            Op::UffdRegister { .. } => Watch::Register(MISSING),
            Op::UffdRegisterWp { mode, .. } => Watch::Register(mode.get().number().into()),
            Op::UffdWriteprotect { mode, .. } => Watch::Writeprotect(mode.get().number().into()),
            _ => Watch::Unregister,
        }
    }

    /// Makes the ioctl.
    pub(crate) fn control(self, context: RawFd, start: u64, length: u64) -> Result<i64, i32> {
        match self {
            // struct uffdio_register: range, mode, ioctls (an answer).
            Watch::Register(mode) => {
                control(context, UFFDIO_REGISTER, &mut [start, length, mode, 0])
            }
            Watch::Unregister => control(context, UFFDIO_UNREGISTER, &mut [start, length]),
            // struct uffdio_writeprotect: range, mode.
            Watch::Writeprotect(mode) => {
                control(context, UFFDIO_WRITEPROTECT, &mut [start, length, mode])
            }
        }
    }
}

/// Returns a descriptor that the kernel has sent in a message.
pub(crate) fn received(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel has made the descriptor for this process, and nobody else knows it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// The kernel's bits of the event features (`UFFD_FEATURE_EVENT_…`).
const FEATURES: [(UffdFeatures, u64); 4] = [
    (UffdFeatures::FORK, 1 << 1),
    (UffdFeatures::REMAP, 1 << 2),
    (UffdFeatures::REMOVE, 1 << 3),
    (UffdFeatures::UNMAP, 1 << 6),
];

/// Opens a userfaultfd context, with the descriptor `fd`.
fn open_context(fd: RawFd, features: UffdFeatures) -> Result<OwnedFd, i32> {
    let flags = UserfaultfdFlags::CLOEXEC | UserfaultfdFlags::NONBLOCK;
    // SAFETY: nothing is registered with the context yet.
    let context = unsafe { rustix::mm::userfaultfd(flags) }.map_err(number)?;
    // struct uffdio_api: api, features, ioctls (an answer).
    let bits = FEATURES.iter().filter(|(feature, _)| features.contains(*feature));
    let bits = bits.fold(0, |bits, (_, bit)| bits | bit);
    control(context.as_raw_fd(), UFFDIO_API, &mut [0xaa, bits, 0])?;
    rustix::io::fcntl_dupfd_cloexec(&context, fd).map_err(number)
}

/// Makes an ioctl of userfaultfd on a structure of 64-bit words, whose size is part of `request`.
fn control(context: RawFd, request: u64, words: &mut [u64]) -> Result<i64, i32> {
    // SAFETY: the callers pass each request its own structure.
    checked(unsafe { libc::syscall(libc::SYS_ioctl, context, request, words.as_mut_ptr()) })
}

/// The return value of `vmadiff_touch` after `SIGBUS`.
const BUS: c_int = -libc::SIGBUS;

// Reads (second argument 0) or writes one byte, the third argument. Returns the byte that was read, 0
// after a write, or the negative number of the signal that the access raised: the signal handler
// continues at the second label then.
std::arch::global_asm!(
    ".globl vmadiff_touch",
    ".globl vmadiff_touched",
    "vmadiff_touch:",
    "    test esi, esi",
    "    jnz 2f",
    "    movzx eax, byte ptr [rdi]",
    "    ret",
    "2:",
    "    mov byte ptr [rdi], dl",
    "    xor eax, eax",
    "vmadiff_touched:",
    "    ret",
);

unsafe extern "C" {
    fn vmadiff_touch(address: u64, write: c_int, value: c_int) -> c_int;
    /// The second label of `vmadiff_touch`, at which a failed access continues.
    fn vmadiff_touched();
}

/// Continues after an access of `vmadiff_touch` that failed; a fault anywhere else ends the worker.
unsafe extern "C" fn fault_handler(
    signal: c_int,
    _: *const libc::siginfo_t,
    context: *mut libc::ucontext_t,
) {
    // SAFETY: the kernel passes the context of the interrupted thread. The interrupted function has
    // nothing on the stack, so it may return from any instruction.
    unsafe {
        let registers = &mut (*context).uc_mcontext.gregs;
        let (from, to) = (vmadiff_touch as *const () as i64, vmadiff_touched as *const () as i64);
        let at = registers[libc::REG_RIP as usize];
        if !(from..to).contains(&at) {
            libc::_exit(128 + signal);
        }
        registers[libc::REG_RIP as usize] = to;
        registers[libc::REG_RAX as usize] = (-signal).into();
    }
}
