//! Exploring the kernel: small programs test which facilities it has.

use std::fs;
use std::io;
use std::time::Duration;

use rustix::system::uname;
use rustix::thread::{CapabilitySet, capabilities};
use vmadiff_machine::operand::Page;
use vmadiff_machine::{Counters, Machine as _, Observation, Program, VmFlags};

use super::{Ended, Kernel};
use crate::error::KernelError;
use crate::missing::Facilities;
use crate::worker;

/// The time limit of mapping the memory outside the arena, which takes milliseconds on a kernel.
const FILLING: Duration = Duration::from_millis(500);

impl Kernel {
    /// Runs small programs and records the facilities that the kernel has.
    pub(super) fn explore(&mut self) -> Result<(), KernelError> {
        // All facilities are assumed during the tests, so that no operation is skipped.
        let all = Facilities {
            copies: self.options.process_vm_mmap.is_some(),
            userfaultfd: true,
            events: true,
            ksm: true,
            numa: true,
            locking: true,
            locking_all: true,
            raising: true,
            forking: true,
            noreserve: true,
            huge_pages: false,
            soft_dirty: true,
            frames: false,
            placement: true,
            write_only: true,
            shared_memory: true,
            locked_vm: true,
            data_vm: true,
        };
        self.facilities = all;
        // The start of a program alone. The limit is short: an emulator that notes every page takes much
        // memory in longer time, which then has to be freed.
        let limit = self.options.timeout;
        self.options.timeout = limit.min(FILLING);
        let started = self.attempt("");
        self.options.timeout = limit;
        if matches!(started, Err(KernelError::Late(0))) {
            // The process may have answered in the meantime: the pipes are made anew.
            self.stale = true;
            self.fills = false;
        }
        self.check_copies()?;
        let zero = self.attempt("mmap 0 0 1 rw anon_private\ntouch 0 0 0\n")?;
        let frame = match &self.processes[0] {
            // A system without pagemap shows no frame numbers.
            Some(process) => process.proc.pagemap().map_or(0, |entries| entries[0].frame()),
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
            copies: all.copies,
            userfaultfd: works(
                self.attempt("mmap 0 0 1 rw anon_private\nuffd_register 0 0 1 0\n")?,
            ),
            events: self.attempt("uffd_open 0 0 FORK|REMAP|REMOVE|UNMAP\n").is_ok_and(works),
            ksm: advised(self, "MERGEABLE")?,
            numa: fs::exists("/proc/self/numa_maps").unwrap_or(false)
                && works(self.attempt("mmap 0 0 1 rw anon_private\nmbind 0 0 1 BIND\n")?),
            // The program locks as many pages as an arena has.
            locking: works(self.attempt(
                "mmap 0 0 63 r anon_private LOCKED\nmmap 0 63 63 r anon_private\nmlock 0 63 63 0\n",
            )?),
            locking_all: unlocks_at_once(&uname().release().to_string_lossy())
                && locks_the_arena_only(&self.attempt("mlockall 0 CURRENT\n")?),
            raising: capabilities(None)
                .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_RESOURCE)),
            // A child that is not a child of the controller ends at once.
            forking: self.attempt("fork 0\n").is_ok_and(works),
            noreserve: !overcommit.is_ok_and(|mode| mode.trim() == "2"),
            huge_pages: advised(self, "HUGEPAGE")? && !self.options.huge_pages,
            soft_dirty: first.is_some_and(|flags| flags.contains(VmFlags::VM_SOFTDIRTY)),
            frames: frame != 0,
            write_only: works(self.attempt("mmap 0 0 1 w anon_private\ntouch 0 0 0\n")?),
            // Moved to the end of the arena, because it cannot grow in place.
            placement: works(self.attempt(
                "mmap 0 0 1 rw anon_private\nmmap 0 1 1 r anon_private\nmremap 0 0 1 2 MAYMOVE\n",
            )?),
            shared_memory: works(self.attempt("shmat 0 0\n")?),
            locked_vm: self.baseline.0.locked_vm.is_some(),
            data_vm: self.baseline.0.data_vm.is_some(),
        };
        self.facilities = facilities;
        self.zero_page = frame;
        self.end_all();
        Ok(())
    }

    /// Checks that the system call whose number was given is `process_vm_mmap()`.
    ///
    /// A call with arguments that most calls refuse comes first, because the number may be that of any
    /// call. The copy is between two processes: a copy within one may wait for itself (bug F of v2).
    fn check_copies(&mut self) -> Result<(), KernelError> {
        let Some(number) = self.options.process_vm_mmap else { return Ok(()) };
        let other = |found: String| Err(KernelError::NoCopies { number, found });
        match worker::invalid_copy(number, self.options.timeout)? {
            Some(libc::EINVAL) => {}
            None => return other("it gives no answer to invalid arguments".into()),
            Some(0) => return other("it accepts invalid arguments".into()),
            Some(errno) => {
                let error = io::Error::from_raw_os_error(errno);
                return other(format!("it answers invalid arguments with: {error}"));
            }
        }
        let seen = self.attempt("mmap 0 0 1 rw anon_private\nfork 0\ncopy 1 0 1 0 4 FIXED\n")?;
        match seen.result {
            Ok(4) if seen.spaces[1].vma_at(Page(4)).is_some() => Ok(()),
            Ok(_) => other("it succeeds and copies nothing".into()),
            Err(errno) => {
                other(format!("it answers {errno} to a child that copies from its parent"))
            }
        }
    }

    /// Runs a program and returns the observation after its last operation.
    fn attempt(&mut self, program: &str) -> Result<Observation, KernelError> {
        let program: Program = program.parse().map_err(|error| {
            let error = io::Error::other(format!("{program}: {error}"));
            KernelError::Controller { what: "reading a program", error }
        })?;
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
}

/// Returns whether the call succeeded in an empty arena and counted nothing. Under an emulator of system calls
/// the counters are those of the emulator, whose own memory the call locks too.
fn locks_the_arena_only(seen: &Observation) -> bool {
    seen.result.is_ok() && seen.spaces[0].counters == Counters::default()
}

/// Returns whether a kernel of this release unlocks a mapping without pages at once. Up to 5.17,
/// `munlock_vma_pages_range()` visits each address of it, which takes days for the memory outside the
/// arena. The call cannot be interrupted, so it is not tried.
fn unlocks_at_once(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) >= (5, 18),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_before_5_18_unlock_address_by_address() {
        for (release, expected) in [
            ("5.2.1", false),
            ("5.10.0-32-cloud-amd64", false),
            ("5.17.15", false),
            ("5.18.0", true),
            ("6.1.192", true),
            ("6.18.44-fc", true),
            ("unknown", true),
        ] {
            assert_eq!(unlocks_at_once(release), expected, "{release}");
        }
    }
}
