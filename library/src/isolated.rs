//! A library in a process of its own, as a machine.

use std::env;
use std::io::{self, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use bytemuck::bytes_of;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;
use vmadiff_machine::abi::{self, NAME_BYTES, RawLimits};
use vmadiff_machine::failure::Failure;
use vmadiff_machine::{Hidden, Limits, Machine, Observation, Op, Opcode};

use crate::in_process::fail;
use crate::wire::{self, HIDDEN, READY, RESET, STEP};
use crate::{DEFAULT_TIMEOUT, Identity, LoadError, TIMEOUT};

/// The environment variable that is set for a worker: a worker starts no workers itself, whichever
/// program it is.
const IS_WORKER: &str = "VMADIFF_LIBRARY_WORKER";

/// The data that starting workers for one library needs.
pub(crate) struct Starter {
    path: PathBuf,
    program: PathBuf,
    args: Vec<String>,
    timeout: Duration,
    identity: Identity,
}

impl Starter {
    /// Returns a starter. A worker is started once, to check that the library is a machine.
    pub(crate) fn new(path: &Path, program: &Path, args: &[&str]) -> Result<Starter, LoadError> {
        // A file that cannot be opened gets a plain message, without a process.
        if let Err(error) = std::fs::File::open(path) {
            return Err(LoadError::File { path: path.to_owned(), error });
        }
        let identity = Identity { name: String::new(), operations: 0 };
        let mut starter = Starter {
            path: path.to_owned(),
            program: program.to_owned(),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
            timeout: timeout()?,
            identity,
        };
        starter.identity = starter.start()?.1;
        Ok(starter)
    }

    /// Starts a worker, which loads the library.
    fn start(&self) -> Result<(Worker, Identity), LoadError> {
        let start = |error| LoadError::Start { path: self.program.clone(), error };
        let fails = |failure| LoadError::Fails { path: self.path.clone(), failure };
        if env::var_os(IS_WORKER).is_some() {
            return Err(start(io::Error::other("a worker may not start workers")));
        }
        let mut command = Command::new(&self.program);
        // The worker is in a process group of its own: Ctrl-C interrupts the command alone.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command
            .args(&self.args)
            .arg(&self.path)
            .env(IS_WORKER, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(start)?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(start(io::Error::other("the worker has no pipes")));
        };
        let (bytes, deadline) = (Vec::new(), Instant::now() + self.timeout);
        let mut worker = Worker { child, to, from, bytes, at: 0, deadline };
        let mut tag = [0];
        worker.fill(&mut tag).map_err(fails)?;
        if tag == [READY] {
            let (mut name, mut operations) = ([0; NAME_BYTES], [0; 8]);
            worker.fill(&mut name).and_then(|()| worker.fill(&mut operations)).map_err(fails)?;
            let operations = u64::from_ne_bytes(operations);
            let identity = Identity::new(&self.path, &name, operations)?;
            return Ok((worker, identity));
        }
        let mut length = [0; 2];
        worker.fill(&mut length).map_err(fails)?;
        let mut text = vec![0; u16::from_ne_bytes(length).into()];
        worker.fill(&mut text).map_err(fails)?;
        Err(LoadError::Refused(String::from_utf8_lossy(&text).into_owned()))
    }
}

/// Returns the time limit of an operation.
fn timeout() -> Result<Duration, LoadError> {
    let Some(text) = env::var_os(TIMEOUT).filter(|text| !text.is_empty()) else {
        return Ok(Duration::from_secs(DEFAULT_TIMEOUT));
    };
    let text = text.to_string_lossy();
    let seconds = text.parse().ok().filter(|seconds| (1..=3600).contains(seconds));
    seconds.map(Duration::from_secs).ok_or_else(|| LoadError::Timeout(text.into_owned()))
}

/// A process that runs a library. It is killed when this value is dropped.
struct Worker {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
    /// The bytes that were read from the worker, and how many of them are used.
    bytes: Vec<u8>,
    at: usize,
    /// The time by which the present answer has to be complete.
    deadline: Instant,
}

impl Worker {
    fn send(&mut self, tag: u8, message: &[u8]) -> Result<(), Failure> {
        let mut bytes = [0; 32];
        let length = 1 + message.len();
        bytes[0] = tag;
        bytes[1..length].copy_from_slice(message);
        // The worker reads messages at once, and the pipe has room for many: a failed write means
        // that the worker has ended.
        self.to.write_all(&bytes[..length]).map_err(|_| self.end())
    }

    /// Fills `to` with the next bytes from the worker.
    fn fill(&mut self, mut to: &mut [u8]) -> Result<(), Failure> {
        while !to.is_empty() {
            if self.at == self.bytes.len() {
                self.wait()?;
            }
            let ready = &self.bytes[self.at..];
            let length = ready.len().min(to.len());
            to[..length].copy_from_slice(&ready[..length]);
            self.at += length;
            to = &mut to[length..];
        }
        Ok(())
    }

    /// Waits for more bytes, until the deadline.
    fn wait(&mut self) -> Result<(), Failure> {
        self.at = 0;
        loop {
            let left = self.deadline.saturating_duration_since(Instant::now());
            let timeout =
                Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
            let mut fds = [PollFd::new(&self.from, PollFlags::IN)];
            match poll(&mut fds, Some(&timeout)) {
                Ok(0) => {
                    self.bytes.clear();
                    return Err(Failure::TimedOut);
                }
                Err(rustix::io::Errno::INTR) => continue,
                _ => {}
            }
            self.bytes.resize(1 << 16, 0);
            let length = rustix::io::read(&self.from, &mut self.bytes[..]);
            match length {
                Err(rustix::io::Errno::INTR) => continue,
                Ok(length) if length > 0 => {
                    self.bytes.truncate(length);
                    return Ok(());
                }
                _ => {
                    self.bytes.clear();
                    return Err(self.end());
                }
            }
        }
    }

    /// Returns the failure of a worker that has closed its pipes.
    fn end(&mut self) -> Failure {
        // The worker has ended or is about to end, unless the library closed the pipes.
        for _ in 0..1000 {
            match self.child.try_wait() {
                Ok(Some(status)) => return ended(status),
                Ok(None) => thread::sleep(Duration::from_millis(1)),
                Err(_) => break,
            }
        }
        Failure::NoWorker
    }
}

/// Returns the failure of the library that an exit status shows.
fn ended(status: ExitStatus) -> Failure {
    match (status.signal().and_then(Signal::from_named_raw), status.code()) {
        (_, Some(status)) => Failure::Exited(status),
        (Some(signal), None) => Failure::Signal(signal_name(signal)),
        (None, None) => Failure::Signal("a signal"),
    }
}

fn signal_name(signal: Signal) -> &'static str {
    match signal {
        Signal::ABORT => "SIGABRT",
        Signal::ALARM => "SIGALRM",
        Signal::BUS => "SIGBUS",
        Signal::FPE => "SIGFPE",
        Signal::ILL => "SIGILL",
        Signal::KILL => "SIGKILL",
        Signal::PIPE => "SIGPIPE",
        Signal::SEGV => "SIGSEGV",
        Signal::SYS => "SIGSYS",
        Signal::TERM => "SIGTERM",
        Signal::TRAP => "SIGTRAP",
        Signal::XCPU => "SIGXCPU",
        Signal::XFSZ => "SIGXFSZ",
        _ => "another-signal",
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Both calls fail if the worker has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) struct Isolated {
    starter: Arc<Starter>,
    /// The worker; `None` before the first program and after a failure.
    worker: Option<Worker>,
    /// The failure of the present program.
    failure: Option<Failure>,
    buffer: Box<abi::Observation>,
    hidden: Box<abi::Hidden>,
}

impl Isolated {
    pub(crate) fn new(starter: Arc<Starter>) -> Isolated {
        Isolated {
            starter,
            worker: None,
            failure: None,
            buffer: abi::Observation::new(),
            hidden: abi::Hidden::new(),
        }
    }

    fn worker(&mut self) -> Result<&mut Worker, Failure> {
        if self.worker.is_none() {
            let started = self.starter.start().map_err(|error| match error {
                LoadError::Fails { failure, .. } => failure,
                _ => Failure::NoWorker,
            });
            self.worker = Some(started?.0);
        }
        self.worker.as_mut().ok_or(Failure::NoWorker)
    }

    fn answer(&mut self, op: &Op, seen: &mut Observation) -> Result<(), Failure> {
        let timeout = self.starter.timeout;
        let worker = self.worker()?;
        worker.deadline = Instant::now() + timeout;
        worker.send(STEP, bytes_of(&abi::Op::from(op)))?;
        self.buffer.forget_all();
        let Some(worker) = &mut self.worker else { return Err(Failure::NoWorker) };
        wire::receive(&mut self.buffer, |bytes| worker.fill(bytes))?;
        self.buffer.read(seen).map_err(Failure::Nonsense)
    }

    fn ask_hidden(&mut self, hidden: &mut Hidden) -> Result<bool, Failure> {
        let timeout = self.starter.timeout;
        let worker = self.worker()?;
        worker.deadline = Instant::now() + timeout;
        worker.send(HIDDEN, &[])?;
        self.hidden.forget();
        let Some(worker) = &mut self.worker else { return Err(Failure::NoWorker) };
        wire::receive_hidden(&mut self.hidden, |bytes| worker.fill(bytes))?;
        self.hidden.read(hidden).map_err(Failure::Nonsense)
    }
}

impl Machine for Isolated {
    fn name(&self) -> &str {
        &self.starter.identity.name
    }

    fn has(&self, opcode: Opcode) -> bool {
        self.starter.identity.has(opcode)
    }

    fn reset(&mut self, limits: &Limits) {
        let limits = RawLimits::from(limits);
        let told = self.worker().and_then(|worker| worker.send(RESET, bytes_of(&limits)));
        self.failure = told.err();
        if self.failure.is_some() {
            self.worker = None;
        }
    }

    fn step(&mut self, op: &Op, seen: &mut Observation) {
        let answer = match self.failure {
            Some(failure) => Err(failure),
            None => self.answer(op, seen),
        };
        if let Err(failure) = answer {
            // A new program gets a new worker: the state of this one is unknown.
            (self.worker, self.failure) = (None, Some(failure));
            fail(seen, failure);
        }
    }

    fn show_hidden(&mut self, hidden: &mut Hidden) -> Result<bool, Failure> {
        let answer = match self.failure {
            Some(failure) => Err(failure),
            None => self.ask_hidden(hidden),
        };
        if let Err(failure) = answer {
            (self.worker, self.failure) = (None, Some(failure));
        }
        answer
    }
}
