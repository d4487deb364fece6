//! The monitor of userfaultfd contexts with event features: the controller, which has a descriptor of each.
//!
//! A system call that sends a message waits until the message is read. So the controller reads while it waits
//! for the answer of a process.

use std::os::fd::{AsRawFd as _, OwnedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use vmadiff_machine::operand::{Ctx, END_PAGES, Page};
use vmadiff_machine::{Message, Range, UffdEvent, UffdId};

use crate::error::{KernelError, doing};
use crate::outside::ARENA;
use crate::worker::{self, PAGE, Watch};

/// The size of `struct uffd_msg` in bytes.
const MESSAGE: usize = 32;
const PAGEFAULT: u8 = 0x12;
const FORK: u8 = 0x13;
const REMAP: u8 = 0x14;
const REMOVE: u8 = 0x15;
const UNMAP: u8 = 0x16;

/// A context that the monitor watches.
#[derive(Debug)]
struct Watched {
    id: UffdId,
    process: usize,
    ctx: Ctx,
    context: OwnedFd,
    /// The context came with a message about a fork: its process has no descriptor of it.
    adopted: bool,
}

/// The monitor of a program.
#[derive(Debug, Default)]
pub(crate) struct Monitor {
    watched: Vec<Watched>,
    /// The contexts of the program so far.
    contexts: u32,
    /// The messages of the operation.
    messages: Vec<Message>,
    /// The index of the process that the operation makes.
    pub(crate) child: usize,
    /// A process waits for a page that nobody fills.
    faulted: bool,
}

impl Monitor {
    /// Forgets the contexts of the last program.
    pub(crate) fn reset(&mut self) {
        *self = Monitor::default();
    }

    /// Watches a context of a process.
    pub(crate) fn watch(&mut self, process: usize, ctx: Ctx, context: OwnedFd) {
        let (id, adopted) = (self.number(), false);
        self.watched.push(Watched { id, process, ctx, context, adopted });
    }

    fn number(&mut self) -> UffdId {
        self.contexts += 1;
        UffdId::new(self.contexts - 1)
    }

    /// Closes the descriptors of a process: of the context `ctx`, or of all.
    pub(crate) fn close(&mut self, process: usize, ctx: Option<Ctx>) {
        self.watched.retain(|w| w.process != process || ctx.is_some_and(|ctx| ctx != w.ctx));
    }

    /// Returns the descriptor of a context that came with a message about a fork.
    pub(crate) fn adopted(&self, process: usize, ctx: Ctx) -> Option<&OwnedFd> {
        let found = |w: &&Watched| w.adopted && (w.process, w.ctx) == (process, ctx);
        self.watched.iter().find(found).map(|w| &w.context)
    }

    /// Returns the descriptors that become readable when there is a message.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.watched.iter().map(|w| PollFd::new(&w.context, PollFlags::IN))
    }

    /// Takes note that the operation has made no process: the contexts of a child are closed.
    pub(crate) fn without_child(&mut self) {
        self.close(self.child, None);
        for message in &mut self.messages {
            if let UffdEvent::Fork { child } = &mut message.about {
                *child = None;
            }
        }
    }

    /// Takes the messages of the operation.
    pub(crate) fn take_messages(&mut self) -> Vec<Message> {
        std::mem::take(&mut self.messages)
    }

    /// Returns whether a message said that a process waits for a page that nobody fills. The kernel does not
    /// repeat such a message after it was read.
    pub(crate) fn has_met_fault(&self) -> bool {
        self.faulted
    }

    /// Returns whether there is a message to read.
    pub(crate) fn has_message(&self) -> Result<bool, KernelError> {
        Ok(self.first_ready()?.is_some())
    }

    /// Reads the messages that there are. Returns whether a process waits for a page that nobody fills.
    pub(crate) fn read(&mut self) -> Result<bool, KernelError> {
        while let Some(at) = self.first_ready()? {
            let mut message = [0; MESSAGE];
            let read = rustix::io::read(&self.watched[at].context, &mut message);
            if read.map_err(doing("reading from a userfaultfd context"))? == MESSAGE {
                self.take(at, &message)?;
            }
        }
        Ok(self.faulted)
    }

    /// Returns the index of a context that has a message. There is at most one, because a system call sends its
    /// messages one after the other.
    fn first_ready(&self) -> Result<Option<usize>, KernelError> {
        if self.watched.is_empty() || self.faulted {
            return Ok(None);
        }
        let mut fds: Vec<_> = self.descriptors().collect();
        poll(&mut fds, Some(&Timespec::default())).map_err(doing("waiting for a message"))?;
        Ok(fds.iter().position(|fd| fd.revents().contains(PollFlags::IN)))
    }

    /// Takes note of a message to the context at `at`.
    fn take(&mut self, at: usize, message: &[u8; MESSAGE]) -> Result<(), KernelError> {
        let [event, _, _, _, _, _, _, _, arguments @ ..] = message;
        let number = |n: usize| {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&arguments[8 * n..8 * n + 8]);
            u64::from_ne_bytes(bytes)
        };
        let range =
            |start, end| Ok::<_, KernelError>(Range { start: page(start)?, end: page(end)? });
        let about = match *event {
            PAGEFAULT => {
                self.faulted = true;
                return Ok(());
            }
            FORK => {
                let ctx = self.watched[at].ctx;
                let (id, process) = (self.number(), self.child);
                let context = worker::received(number(0) as u32 as i32);
                self.watched.push(Watched { id, process, ctx, context, adopted: true });
                UffdEvent::Fork { child: Some(id) }
            }
            REMAP => {
                let (from, to, length) = (number(0), number(1), number(2));
                UffdEvent::Remap { from: range(from, from.wrapping_add(length))?, to: page(to)? }
            }
            REMOVE => UffdEvent::Remove(range(number(0), number(1))?),
            UNMAP => UffdEvent::Unmap(range(number(0), number(1))?),
            other => return Err(KernelError::Answer(other.into())),
        };
        self.messages.push(Message { ctx: self.watched[at].id, about });
        Ok(())
    }
}

/// Returns the page at an address of the arena, or at its end.
fn page(address: u64) -> Result<Page, KernelError> {
    let pages = address.checked_sub(ARENA.start).map(|bytes| bytes / PAGE);
    let page = pages.filter(|page| *page <= END_PAGES as u64);
    page.map(|page| Page(page as u8)).ok_or(KernelError::Answer(address as i64))
}

/// Makes an ioctl for a range on a context that came with a message about a fork.
pub(crate) fn control(context: &OwnedFd, range: Range, watch: Watch) -> i64 {
    let start = ARENA.start + u64::from(range.start.0) * PAGE;
    let length = u64::from(range.len()) * PAGE;
    let result = watch.control(context.as_raw_fd(), start, length);
    result.unwrap_or_else(|errno| -i64::from(errno))
}
