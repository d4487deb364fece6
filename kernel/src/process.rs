//! The controller's handle of a process of a program, and the pipes over which the process answers.

use std::os::fd::{AsFd as _, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, PidfdFlags, PidfdGetfdFlags, Signal, WaitId, WaitIdOptions, kill_process, pidfd_getfd,
    pidfd_open, pidfd_send_signal, waitid,
};

use vmadiff_machine::operand::{Ctx, Domain as _};

use crate::error::{KernelError, doing};
use crate::monitor::Monitor;
use crate::proc::Proc;
use crate::worker::{ContextFds, Marks, REPLY, REQUEST};

/// The time before the controller first asks whether a process waits for userfaultfd.
const PATIENCE: Duration = Duration::from_millis(20);

/// The time in which a process that was killed, or that exits, has to end.
const DYING: Timespec = Timespec { tv_sec: 60, tv_nsec: 0 };

/// The two pipes of a process, one for each direction.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) requests: (OwnedFd, OwnedFd),
    pub(crate) replies: (OwnedFd, OwnedFd),
}

impl Channel {
    pub(crate) fn new() -> Result<Channel, KernelError> {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(doing("making a pipe"));
        Ok(Channel { requests: pipe()?, replies: pipe()? })
    }
}

/// A running process of the program.
#[derive(Debug)]
pub(crate) struct Living {
    /// The pid. The process is a child of the controller, so the pid is its own until
    /// [`Living::bury`].
    process: Pid,
    /// The handle of the process; `None` on a system without `pidfd_open()`.
    handle: Option<OwnedFd>,
    contexts: ContextFds,
    pub(crate) proc: Proc,
}

impl Living {
    pub(crate) fn of(pid: i32, contexts: ContextFds) -> Result<Living, KernelError> {
        let process = Pid::from_raw(pid).ok_or(KernelError::Answer(pid.into()))?;
        let handle = match pidfd_open(process, PidfdFlags::empty()) {
            Err(rustix::io::Errno::NOSYS) => Ok(None),
            handle => handle.map(Some).map_err(doing("opening a process")),
        };
        let living = handle
            .and_then(|handle| Ok(Living { process, handle, contexts, proc: Proc::open(pid)? }));
        if living.is_err() {
            // The process is not recorded anywhere yet, so it is ended here.
            let _ = kill_process(process, Signal::KILL);
            let _ = waitid(WaitId::Pid(process), WaitIdOptions::EXITED);
        }
        living
    }

    /// Waits until the process has ended, so that nothing of it is left. A process that a bug of the kernel keeps
    /// from dying is left behind after [`DYING`].
    pub(crate) fn bury(self) {
        let Some(handle) = &self.handle else {
            let _ = waitid(self.id(), WaitIdOptions::EXITED);
            return;
        };
        let mut fds = [PollFd::new(handle, PollFlags::IN)];
        while poll(&mut fds, Some(&DYING)) == Err(rustix::io::Errno::INTR) {}
        let _ = waitid(self.id(), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
    }

    fn id(&self) -> WaitId<'_> {
        match &self.handle {
            Some(handle) => WaitId::PidFd(handle.as_fd()),
            None => WaitId::Pid(self.process),
        }
    }

    /// Returns whether the process has ended, without waiting for it. Only a process without a handle
    /// is asked.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.handle.is_none() && !matches!(waitid(self.id(), options), Ok(None))
    }

    /// Kills the process, which may end later.
    pub(crate) fn kill(&self) {
        let _ = match &self.handle {
            Some(handle) => pidfd_send_signal(handle, Signal::KILL),
            None => kill_process(self.process, Signal::KILL),
        };
    }
}

/// The answer of a process.
pub(crate) enum Reply {
    Answer(i64),
    Ended,
    Late,
}

impl Living {
    /// Returns the descriptor of a context of the process, for the controller.
    pub(crate) fn context(&self, ctx: Ctx) -> Result<OwnedFd, KernelError> {
        let fd = self.contexts[usize::from(ctx.index())];
        let none = rustix::io::Errno::NOSYS;
        let handle = self.handle.as_ref().ok_or(none);
        handle
            .and_then(|handle| pidfd_getfd(handle, fd, PidfdGetfdFlags::empty()))
            .map_err(doing("taking a descriptor of a process"))
    }
}

/// Returns whether a process waits for a page that userfaultfd watches.
pub(crate) fn waits_for_userfaultfd(process: &Living) -> bool {
    // User Mode Linux shows no function in `wchan`, and a kernel before 5.6 gives away no descriptor.
    has_fault(process) || process.proc.waits_in("handle_userfault")
}

/// Returns whether a userfaultfd context of a process has a fault that nobody has handled.
fn has_fault(process: &Living) -> bool {
    [Ctx(0), Ctx(1)].into_iter().any(|ctx| {
        let Ok(context) = process.context(ctx) else { return false };
        let mut fds = [PollFd::new(&context, PollFlags::IN)];
        poll(&mut fds, Some(&Timespec::default())).is_ok()
            && fds[0].revents().contains(PollFlags::IN)
    })
}

/// Returns the answer that a process gives within `patience`, if it gives one.
pub(crate) fn first_answer(
    replies: &OwnedFd,
    patience: Duration,
) -> Result<Option<i64>, KernelError> {
    let patience = Timespec { tv_sec: 0, tv_nsec: patience.as_nanos() as i64 };
    let mut fds = [PollFd::new(replies, PollFlags::IN)];
    poll(&mut fds, Some(&patience)).map_err(doing("waiting for a process"))?;
    if !fds[0].revents().contains(PollFlags::IN) {
        return Ok(None);
    }
    Ok(read_answer(replies)?.map(|(answer, _)| answer))
}

/// Reads an answer with its marks; `None` if the process has ended.
fn read_answer(replies: &OwnedFd) -> Result<Option<(i64, Marks)>, KernelError> {
    let mut reply = [0; REPLY];
    let read = rustix::io::read(replies, &mut reply).map_err(doing("reading from a process"))?;
    Ok((read == REPLY).then(|| Marks::of(reply)))
}

/// Sends a request to the process, and waits for the answer.
pub(crate) fn send(
    process: &Living,
    channel: &Channel,
    request: &[u8; REQUEST],
    timeout: Duration,
    monitor: &mut Monitor,
) -> Result<(Reply, Marks), KernelError> {
    rustix::io::write(&channel.requests.1, request).map_err(doing("writing to a process"))?;
    await_reply(process, channel, timeout, monitor)
}

/// Waits until the process answers, ends, or certainly waits for userfaultfd, for at most
/// `timeout`. Returns the answer with its marks. The monitor reads the messages that come meanwhile.
pub(crate) fn await_reply(
    process: &Living,
    channel: &Channel,
    timeout: Duration,
    monitor: &mut Monitor,
) -> Result<(Reply, Marks), KernelError> {
    let began = Instant::now();
    loop {
        let mut fds = vec![PollFd::new(&channel.replies.0, PollFlags::IN)];
        fds.extend(process.handle.as_ref().map(|handle| PollFd::new(handle, PollFlags::IN)));
        let own = fds.len();
        fds.extend(monitor.descriptors());
        let patience = Timespec { tv_sec: 0, tv_nsec: PATIENCE.as_nanos() as i64 };
        match poll(&mut fds, Some(&patience)) {
            Err(rustix::io::Errno::INTR) => continue,
            other => other.map_err(doing("waiting for a process"))?,
        };
        if fds[0].revents().contains(PollFlags::IN) {
            return Ok(match read_answer(&channel.replies.0)? {
                Some((result, marks)) => (Reply::Answer(result), marks),
                None => (Reply::Ended, Marks::default()),
            });
        }
        if fds[1..own].iter().any(|fd| !fd.revents().is_empty()) || process.has_ended() {
            return Ok((Reply::Ended, Marks::default()));
        }
        let told = fds[own..].iter().any(|fd| fd.revents().contains(PollFlags::IN));
        drop(fds);
        if told {
            if monitor.read()? {
                return Ok((Reply::Late, Marks::default()));
            }
            continue;
        }
        // A message that came since the last look makes a context readable, as a fault does.
        let waits = waits_for_userfaultfd(process) && !monitor.has_message()?;
        if waits || began.elapsed() > timeout {
            return Ok((Reply::Late, Marks::default()));
        }
    }
}
