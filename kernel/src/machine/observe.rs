//! The observation of the running kernel after an operation, and the reduction of a model's
//! observation to the same content.

use vmadiff_lockstep::visible::Visible;
use vmadiff_machine::operand::{MAX_PROCESSES, Mode, Process};
use vmadiff_machine::{Counters, FileId, Observation, PageSet, Vma};

use super::{Ended, Kernel};
use crate::error::KernelError;
use crate::missing::Facilities;
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
                status.locked_vm = i64::from((status.locked_vm - outside) as i32);
            }
            space.counters = Counters {
                total_vm: status.total_vm - self.baseline.0.total_vm,
                locked_vm: status.locked_vm - self.baseline.0.locked_vm,
                data_vm: status.data_vm - self.baseline.0.data_vm,
                map_count: mappings.len() as i64,
            };
            self.frames.forget(at);
            if self.facilities.frames && mappings.iter().any(|mapping| mapping.anonymous > 0) {
                let entries = process.proc.pagemap()?;
                let anonymous = entries
                    .iter()
                    .map(|entry| entry.is_anonymous() && entry.frame() != self.zero_page);
                space.anon_pages = (0..)
                    .zip(anonymous)
                    .fold(0, |set: PageSet, (n, is)| set | PageSet::from(is) << n);
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
}
