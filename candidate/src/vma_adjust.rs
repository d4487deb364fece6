//! `__vma_adjust()`: moves the border between a VMA and the next one, removes VMAs that are
//! swallowed, and inserts the other half of a VMA that is split.

use crate::addr::{Addr, Pgoff};
use crate::handle::{VmaKey, edit, read, warn_on};
use crate::kernel::Kernel;
use crate::locks::i_mmap;
use crate::stop::Stop;

/// `remove_next`: the VMAs that are removed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RemoveNext {
    /// None.
    None,
    /// The next one: cases 1 and 7.
    Next,
    /// The next VMA and the one after it: case 6.
    NextTwo,
    /// The VMA itself: case 8. The next one takes its place, and the two pointers were swapped.
    Swapped,
}

impl Kernel {
    /// `__vma_adjust()`.
    ///
    /// `insert` is the other half of a VMA that is split. `expand` is the VMA that grows.
    ///
    /// # Errors
    /// `ENOMEM` where the VMA that grows has no anon_vma, and there is no memory for the chain of the
    /// one that it takes in. Nothing is changed then.
    pub(crate) fn vma_adjust(
        &mut self,
        mut vma: VmaKey,
        start: Addr,
        mut end: Addr,
        pgoff: Pgoff,
        insert: Option<VmaKey>,
        expand: Option<VmaKey>,
    ) -> Result<(), Stop> {
        const F: &str = "__vma_adjust";
        let mm = read!(self, F, vma.vm_mm);
        self.assert_mmap_write_locked(mm, F);
        let mut next = read!(self, F, vma.vm_next);
        let file = read!(self, F, vma.vm_file);
        let mut adjust_next = 0_i32;
        let mut remove_next = RemoveNext::None;

        if let (Some(after), None) = (next, insert) {
            let (next_start, next_end) =
                (read!(self, F, after.vm_start), read!(self, F, after.vm_end));
            let mut exporter_importer = None;
            if end >= next_end {
                if next == expand {
                    warn_on!(self, end != next_end, F, "end != next->vm_end");
                    remove_next = RemoveNext::Swapped;
                    let next_file = read!(self, F, after.vm_file);
                    warn_on!(self, file != next_file, F, "file != next->vm_file");
                    next = Some(vma);
                    vma = after;
                    exporter_importer = Some((next, vma));
                } else {
                    warn_on!(self, expand != Some(vma), F, "expand != vma");
                    if end > next_end {
                        remove_next = RemoveNext::NextTwo;
                        let last = read!(self, F, after.vm_next);
                        let last_end = match last {
                            Some(last) => Some(read!(self, F, last.vm_end)),
                            None => None,
                        };
                        warn_on!(
                            self,
                            Some(end) != last_end,
                            F,
                            "remove_next == 2 && end != next->vm_next->vm_end"
                        );
                    } else {
                        remove_next = RemoveNext::Next;
                    }
                    // The first pass takes in only the next VMA.
                    end = next_end;
                    exporter_importer = Some((next, vma));
                }
                if remove_next == RemoveNext::NextTwo && read!(self, F, after.anon_vma).is_none() {
                    exporter_importer = Some((read!(self, F, after.vm_next), vma));
                }
            } else if end > next_start {
                // Case 5: the border moves up.
                adjust_next = (end - next_start) as i32;
                exporter_importer = Some((next, vma));
                warn_on!(self, expand != Some(vma), F, "expand != importer");
            } else if end < read!(self, F, vma.vm_end) {
                // Case 4: the border moves down.
                adjust_next = -((read!(self, F, vma.vm_end) - end) as i32);
                exporter_importer = Some((Some(vma), after));
                warn_on!(self, expand != next, F, "expand != importer");
            }
            if let Some((Some(exporter), importer)) = exporter_importer {
                self.import_anon_vma(importer, exporter)?;
            }
        }

        let mapping = i_mmap!(self, F, file);
        loop {
            if let Some(mapping) = mapping {
                self.lock(mapping, F);
            }
            let adjusted = next.filter(|_| adjust_next != 0);
            let mut anon_vma = read!(self, F, vma.anon_vma);
            if let Some(next) = adjusted {
                let next_anon_vma = read!(self, F, next.anon_vma);
                anon_vma = anon_vma.or(next_anon_vma);
                warn_on!(
                    self,
                    next_anon_vma.is_some() && anon_vma != next_anon_vma,
                    F,
                    "adjust_next && next->anon_vma && anon_vma != next->anon_vma"
                );
            }
            let mut anon_vma_lock = None;
            if let Some(anon_vma) = anon_vma {
                let lock = self.anon_vma_lock(anon_vma)?;
                self.lock(lock, F);
                anon_vma_lock = Some(lock);
                self.rmap_dirty = true;
            }

            *edit!(self, F, vma.vm_start) = start;
            *edit!(self, F, vma.vm_end) = end;
            *edit!(self, F, vma.vm_pgoff) = pgoff;
            if let Some(next) = adjusted {
                let next_start = edit!(self, F, next.vm_start);
                *next_start = *next_start + adjust_next as u32;
                let next_pgoff = edit!(self, F, next.vm_pgoff);
                *next_pgoff = if adjust_next > 0 {
                    *next_pgoff + adjust_next.unsigned_abs()
                } else {
                    *next_pgoff - adjust_next.unsigned_abs()
                };
            }

            let gone = next.filter(|_| remove_next != RemoveNext::None);
            match (gone, insert) {
                (Some(gone), _) => self.vma_unlink(mm, gone)?,
                (None, Some(insert)) => self.insert_vm_struct(mm, insert)?,
                (None, None) => {}
            }
            for lock in [anon_vma_lock, mapping].into_iter().flatten() {
                self.unlock(lock, F);
            }
            let Some(gone) = gone else { return Ok(()) };
            if let Some(file) = file {
                self.fput(file)?;
            }
            if read!(self, F, gone.anon_vma).is_some() {
                self.anon_vma_merge(vma, gone)?;
            }
            *edit!(self, F, mm.map_count) -= 1;
            self.mpol_put(read!(self, F, gone.vm_policy))?;
            self.vm_area_free(gone);
            if remove_next != RemoveNext::NextTwo {
                return Ok(());
            }
            remove_next = RemoveNext::Next;
            next = read!(self, F, vma.vm_next);
            let Some(last) = next else { return Ok(()) };
            end = read!(self, F, last.vm_end);
        }
    }

    /// Gives the VMA that grows the anon_vma of the VMA whose pages it takes, so that these pages
    /// stay reachable.
    fn import_anon_vma(&mut self, importer: VmaKey, exporter: VmaKey) -> Result<(), Stop> {
        const F: &str = "__vma_adjust";
        let anon_vma = read!(self, F, exporter.anon_vma);
        if anon_vma.is_some() && read!(self, F, importer.anon_vma).is_none() {
            *edit!(self, F, importer.anon_vma) = anon_vma;
            self.anon_vma_clone(importer, exporter)?;
        }
        Ok(())
    }
}
