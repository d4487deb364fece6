//! The observation of the running kernel after an operation, and the reduction of a model's
//! observation to the same content.

use vmadiff_lockstep::visible::Visible;
use vmadiff_machine::operand::{MAX_PROCESSES, Mode, Process};
use vmadiff_machine::{Counters, FileId, Observation, PageSet, Range, VmFlags, Vma};

use super::{Ended, Kernel};
use crate::error::KernelError;
use crate::missing::Facilities;
use crate::proc::PageEntry;
use crate::segment::Segment;

impl Kernel {
    /// Reads the arena of each process in `changed`.
    pub(super) fn observe(
        &mut self,
        changed: u8,
        seen: &mut Observation,
    ) -> Result<(), KernelError> {
        seen.attached = self.segment.as_ref().map_or(Some(0), Segment::attached);
        for at in (0..MAX_PROCESSES).filter(|at| changed >> at & 1 == 1) {
            let space = seen.rewrite(Process(at as u8));
            let Some(process) = &self.processes[at] else { continue };
            space.alive = true;
            let mappings = process.proc.mappings(self.policies && self.facilities.numa)?;
            let mut status = process.proc.status()?;
            if matches!(self.ended, Some(Ended::Blocked)) {
                // `mlockall` has not come to the unlocking of the memory outside the arena.
                // `mlock_fixup()` counts the pages of a VMA in an `int`, which the large mappings there
                // overflow.
                let outside = process.proc.locked_outside()?;
                let inside = |locked: i64| i64::from((locked - outside) as i32);
                status.locked_vm = status.locked_vm.map(inside);
            }
            let baseline = self.baseline.0;
            // A counter that the system does not show comes from the reference: `Kernel::complete`.
            let since = |now: Option<i64>, then| now.zip(then).map_or(0, |(now, then)| now - then);
            space.counters = Counters {
                total_vm: status.total_vm - baseline.total_vm,
                locked_vm: since(status.locked_vm, baseline.locked_vm),
                data_vm: since(status.data_vm, baseline.data_vm),
                map_count: mappings.len() as i64,
            };
            self.frames.forget(at);
            if self.facilities.frames && mappings.iter().any(|mapping| mapping.anonymous > 0) {
                let entries = process.proc.pagemap()?;
                let set = |is: &dyn Fn(&PageEntry) -> bool| {
                    let each = (0..).zip(&entries);
                    each.fold(0, |set: PageSet, (n, entry)| set | PageSet::from(is(entry)) << n)
                };
                let shared = mappings.iter().filter(|m| m.flags.contains(VmFlags::VM_SHARED));
                let shared =
                    shared.fold(0, |set, m| set | Range { start: m.start, end: m.end }.set());
                let marked = shared & set(&|entry| entry.is_marker());
                let anonymous =
                    set(&|entry| entry.is_anonymous() && entry.frame() != self.zero_page);
                space.anon_pages = anonymous & !marked;
                self.frames.remember(at, space.anon_pages, entries);
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
                let flags = mapping.flags & self.shows().flags();
                let range = (mapping.start, mapping.end);
                // The policy that `numa_maps` shows for a file is the policy of its object, which
                // all mappings share.
                let policy = if file.is_none() { mapping.policy } else { Mode::Default };
                let pgoff =
                    if file.is_some() { mapping.pgoff } else { mapping.start.linear_offset() };
                let vma = Vma::new(range, pgoff, flags, None, file, None, policy, false);
                space.push(vma, []);
            }
        }
        Ok(())
    }

    /// Returns the part of an observation that this machine shows.
    fn shows(&self) -> Visible {
        let Facilities { soft_dirty, frames, numa, .. } = self.facilities;
        Visible { soft_dirty, frames, numa }
    }

    /// Reduces the observation of a model to the content that this machine shows. The result is
    /// written to `reduced`, which has to hold the reduction of the step before.
    pub fn visible(&self, model: &Observation, reduced: &mut Observation) {
        self.shows().reduce(model, reduced);
    }

    /// Sets the counters that this system does not show to those that are expected.
    pub(crate) fn complete(&self, expected: &Observation, shown: &mut Observation) {
        for at in (0..MAX_PROCESSES).filter(|at| shown.changed >> at & 1 == 1) {
            let (from, to) = (expected.spaces[at].counters, &mut shown.spaces[at].counters);
            if !self.facilities.locked_vm {
                to.locked_vm = from.locked_vm;
            }
            if !self.facilities.data_vm {
                to.data_vm = from.data_vm;
            }
        }
    }
}
