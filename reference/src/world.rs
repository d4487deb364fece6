//! The state of the reference: every process, and the objects that processes share.

use vmadiff_machine::operand::Process;
use vmadiff_machine::{DriverCalls, Errno, Limits, Message, Observation, UffdId};

use crate::anon_page::AnonPages;
use crate::anon_vma::AnonVmas;
use crate::later::{Later, Rules};
use crate::memory::Memory;
use crate::mm::{Mm, Mms, Syscall};
use crate::references::References;
use crate::refusal::{Progress, Refusal, Rule};
use crate::shm::Segment;
use crate::shmem::Shmem;
use crate::why::Why;

/// Every process, and the state that they share.
#[derive(Debug, Default)]
pub(crate) struct World {
    pub(crate) limits: Limits,
    pub(crate) mms: Mms,
    pub(crate) anon_vmas: AnonVmas,
    pub(crate) anon_pages: AnonPages,
    pub(crate) shmem: Shmem,
    pub(crate) segment: Segment,
    pub(crate) references: References,
    /// The messages that the operation sends to monitors of userfaultfd.
    pub(crate) messages: Vec<Message>,
    /// The contexts of parent and child of a fork. Empty between operations: its memory is reused.
    pub(crate) forked: Vec<(UffdId, UffdId)>,
    /// The number of `touch`es that have written.
    pub(crate) writes: u32,
    /// The rules of later kernels.
    pub(crate) later: Later,
    /// The memory that the operation does not get.
    pub(crate) memory: Memory,
    /// The reasons of the operation; none where nobody asks for them.
    pub(crate) why: Option<Box<Why>>,
}

vmadiff_machine::clone_by_field!(World {
    limits,
    mms,
    anon_vmas,
    anon_pages,
    shmem,
    segment,
    references,
    messages,
    forked,
    writes,
    later,
    memory,
    why
});

impl World {
    /// Goes back to the start of a program that runs under `limits`.
    pub(crate) fn reset(&mut self, limits: &Limits) {
        self.limits = *limits;
        for (at, mm) in self.mms.iter_mut().enumerate() {
            mm.reset(at == 0);
            mm.changed = false;
            mm.driver = DriverCalls::default();
            mm.may_lose_pages = false;
        }
        self.mms[0].max_pages = limits.address_space;
        self.mms[0].max_locked = limits.lock;
        self.anon_vmas.reset();
        self.anon_pages.reset();
        self.shmem.reset();
        self.segment = Segment::default();
        self.references.reset();
        self.messages.clear();
        self.writes = 0;
        self.later.applied.set(Rules::NONE);
    }

    #[inline]
    pub(crate) fn mm(&self, process: Process) -> &Mm {
        &self.mms[usize::from(process.0)]
    }

    /// Returns a system call on the address space of `process`.
    #[inline]
    pub(crate) fn syscall(&mut self, process: Process) -> Syscall<'_> {
        Syscall {
            process,
            mm: &mut self.mms[usize::from(process.0)],
            anon_vmas: &mut self.anon_vmas,
            anon_pages: &mut self.anon_pages,
            shmem: &mut self.shmem,
            segment: &mut self.segment,
            references: &mut self.references,
            messages: &mut self.messages,
            limits: &self.limits,
            later: &self.later,
            memory: &self.memory,
            why: self.why.as_deref_mut(),
        }
    }

    /// Returns a system call of `process`.
    ///
    /// # Errors
    /// `ESRCH` where the process is not there.
    #[inline]
    pub(crate) fn call(&mut self, process: Process) -> Result<Syscall<'_>, Refusal> {
        if !self.mm(process).alive {
            return Err(Refusal {
                errno: Errno::ESRCH,
                function: None,
                process,
                rule: Rule::NoProcess,
                progress: Progress::Nothing,
            });
        }
        Ok(self.syscall(process))
    }

    /// Writes every address space that may differ from what was shown last.
    #[inline(always)]
    pub(crate) fn show(&mut self, seen: &mut Observation) {
        seen.messages.append(&mut self.messages);
        let mut changed = false;
        for (at, mm) in self.mms.iter_mut().enumerate() {
            if !mm.changed {
                continue;
            }
            mm.changed = false;
            changed = true;
            let (counters, committed, attached) = mm.count();
            (mm.committed, mm.attached) = (committed, attached);
            let calls = std::mem::take(&mut mm.driver);
            seen.driver.opens += calls.opens;
            seen.driver.closes += calls.closes;
            let space = seen.rewrite(Process(at as u8));
            space.alive = mm.alive;
            space.counters = counters;
            space.anon_pages = mm.anon_pages();
            space.zero_pages = mm.zero_pages();
            space.writable_ptes = mm.writable();
            space.push_page_ids(AnonPages::ids(mm));
            for vma in mm.vmas() {
                space.push(vma.shown(), self.anon_vmas.chain(vma.chain));
            }
        }
        if changed {
            seen.committed = self.mms.iter().map(|mm| mm.committed).sum();
        }
        seen.attached = self.segment.count(&self.mms);
    }
}
