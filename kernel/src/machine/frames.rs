//! The anonymous pages of the running kernel, by their page frame numbers.
//!
//! A frame number is no identity over time: a frame that is freed can be used again at once, and the
//! kernel moves pages between frames. So frames are compared within one observation: two entries have to
//! map one frame exactly where they map one page of the model.

use vmadiff_machine::operand::{END_PAGES, MAX_PROCESSES, Page};
use vmadiff_machine::{AddressSpace, Observation, PageId, PageSet};

use super::Kernel;
use crate::error::KernelError;
use crate::proc::PageEntry;

/// The page table entries that map anonymous pages.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// By process; `None` where the process has no anonymous page.
    entries: [Option<(PageSet, Box<[PageEntry; END_PAGES]>)>; MAX_PROCESSES],
}

/// The page of the model at a place, and the frame.
type Mapped = (PageId, u64);

impl Frames {
    pub(super) fn forget(&mut self, process: usize) {
        self.entries[process] = None;
    }

    pub(super) fn remember(
        &mut self,
        process: usize,
        anonymous: PageSet,
        entries: [PageEntry; END_PAGES],
    ) {
        self.entries[process] = (anonymous != 0).then(|| (anonymous, Box::new(entries)));
    }

    /// Returns the page of the model and the frame of each entry; `None` where a page is swapped out, and
    /// where the model has its pages at other places.
    fn beside(&self, model: &Observation) -> Option<Vec<Mapped>> {
        let mut mapped = Vec::new();
        for (space, entries) in model.spaces.iter().zip(&self.entries) {
            let Some((anonymous, entries)) = entries else { continue };
            if *anonymous != space.anon_pages {
                return None;
            }
            for page in (0..END_PAGES as u8).filter(|page| anonymous >> page & 1 == 1) {
                let entry = entries[usize::from(page)];
                if entry.is_swapped() {
                    return None;
                }
                mapped.push((space.page_id(Page(page))?, entry.frame()));
            }
        }
        Some(mapped)
    }
}

/// Returns whether each page of the model has one frame, and each frame one page.
fn agree(mapped: &mut [Mapped]) -> bool {
    mapped.sort_unstable();
    let one_frame = mapped.windows(2).all(|two| two[0].0 != two[1].0 || two[0].1 == two[1].1);
    mapped.sort_unstable_by_key(|(_, frame)| *frame);
    one_frame && mapped.windows(2).all(|two| two[0].1 != two[1].1 || two[0].0 == two[1].0)
}

/// Shows pages under these numbers, in address order.
fn show(space: &mut AddressSpace, numbers: impl Iterator<Item = usize>) {
    space.push_page_ids(numbers.map(|number| PageId::new(number as u32)));
}

impl Kernel {
    /// Returns whether the processes share their anonymous pages as those of the model do. If not, both
    /// observations show the pages.
    ///
    /// # Errors
    /// Returns an error if `pagemap` cannot be read.
    pub(crate) fn shares_as(
        &mut self,
        model: &Observation,
        expected: &mut Observation,
        shown: &mut Observation,
    ) -> Result<bool, KernelError> {
        let Some(mut mapped) = self.frames.beside(model) else { return Ok(true) };
        if agree(&mut mapped) {
            return Ok(true);
        }
        // The kernel may have moved a page of a process that the operation did not change.
        for (at, process) in self.processes.iter().enumerate() {
            if let (Some(process), Some((_, entries))) = (process, &mut self.frames.entries[at]) {
                **entries = process.proc.pagemap()?;
            }
        }
        let Some(mapped) = self.frames.beside(model) else { return Ok(true) };
        if agree(&mut mapped.clone()) {
            return Ok(true);
        }
        let mut frames: Vec<u64> = mapped.iter().map(|(_, frame)| *frame).collect();
        frames.sort_unstable();
        frames.dedup();
        let mut rest = mapped.iter();
        for (at, entries) in self.frames.entries.iter().enumerate() {
            let Some((anonymous, _)) = entries else { continue };
            let here: Vec<&Mapped> = rest.by_ref().take(anonymous.count_ones() as usize).collect();
            show(&mut expected.spaces[at], here.iter().map(|(page, _)| page.index()));
            let number = |frame: &u64| frames.binary_search(frame).unwrap_or_default();
            show(&mut shown.spaces[at], here.iter().map(|(_, frame)| number(frame)));
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_share_a_frame_exactly_where_they_share_a_page() {
        let page = PageId::new;
        for (mapped, expected) in [
            (&[(page(1), 70), (page(2), 50)][..], true),
            (&[(page(1), 70), (page(2), 50), (page(1), 70)], true),
            (&[(page(1), 70), (page(2), 70)], false),
            (&[(page(1), 70), (page(2), 50), (page(1), 60)], false),
        ] {
            assert_eq!(agree(&mut mapped.to_vec()), expected, "{mapped:?}");
        }
    }
}
