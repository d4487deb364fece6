//! Address spaces as a log shows them: ranges of pages with their attributes.

use std::collections::BTreeMap;

use vmadiff_machine::operand::MlockallFlags;

use super::attributes::{Attributes, Shows};
use super::change::{Change, Step};
use crate::strace::Pages;

/// Every page that there can be.
const WHOLE: Pages = Pages { start: 0, end: u64::MAX };

/// An address space: the start of each mapping, with its end and attributes.
#[derive(Clone, Debug, Default)]
pub(super) struct Space {
    pub(super) mapped: BTreeMap<u64, (u64, Attributes)>,
    /// The address space from which this one was forked.
    pub(super) parent: Option<usize>,
    /// The flags of the last `mlockall` that had `MCL_FUTURE`, without `MCL_CURRENT`.
    pub(super) lock_future: MlockallFlags,
}

impl Space {
    /// Returns the mapped parts of `range`, cut to `range`.
    pub(super) fn within(&self, range: Pages) -> Vec<(Pages, Attributes)> {
        let before = self.mapped.range(..range.start).next_back();
        before
            .into_iter()
            .chain(self.mapped.range(range.start..range.end))
            .map(|(start, (end, attributes))| {
                let part = Pages { start: range.start.max(*start), end: range.end.min(*end) };
                (part, *attributes)
            })
            .filter(|(part, _)| part.start < part.end)
            .collect()
    }

    /// Returns the parts of `range` that are mapped by an attachment at its start.
    pub(super) fn attached(&self, range: Pages) -> Vec<(Pages, Attributes)> {
        let mut parts = self.within(range);
        parts.retain(|(_, attributes)| {
            matches!(attributes.shows, Shows::Segment { start, .. } if start as u64 == range.start)
        });
        parts
    }

    /// Returns the pages of the attachment at `start`, of which some part is mapped.
    pub(super) fn attachment(&self, start: u64) -> Option<Pages> {
        self.mapped.range(start..).find_map(|(_, (_, attributes))| match attributes.shows {
            Shows::Segment { pages, start: begin, .. } if begin as u64 == start => {
                Some(Pages { start, end: start.checked_add(pages)? })
            }
            _ => None,
        })
    }

    fn unmap(&mut self, range: Pages) {
        for (part, _) in self.within(range) {
            let Some((&start, &(end, attributes))) = self.mapped.range(..=part.start).next_back()
            else {
                continue;
            };
            self.mapped.remove(&start);
            if start < part.start {
                self.mapped.insert(start, (part.start, attributes));
            }
            if part.end < end {
                self.mapped.insert(part.end, (end, attributes));
            }
        }
    }

    /// Maps a hole, and joins the mapping with equal neighbours.
    fn map(&mut self, mut range: Pages, attributes: Attributes) {
        if let Some((&start, &(end, before))) = self.mapped.range(..range.start).next_back()
            && end == range.start
            && before == attributes
        {
            range.start = start;
        }
        if let Some(&(end, after)) = self.mapped.get(&range.end)
            && after == attributes
        {
            self.mapped.remove(&range.end);
            range.end = end;
        }
        self.mapped.insert(range.start, (range.end, attributes));
    }

    fn change(&mut self, range: Pages, change: impl Fn(&mut Attributes)) {
        for (part, mut attributes) in self.within(range) {
            change(&mut attributes);
            self.unmap(part);
            self.map(part, attributes);
        }
    }

    pub(super) fn holes(&self, range: Pages) -> Vec<Pages> {
        let mut holes = Vec::new();
        let mut start = range.start;
        for (part, _) in self.within(range) {
            if start < part.start {
                holes.push(Pages { start, end: part.start });
            }
            start = part.end;
        }
        if start < range.end {
            holes.push(Pages { start, end: range.end });
        }
        holes
    }

    fn perform(&mut self, change: &Change) {
        match *change {
            Change::Map(range, mut attributes) | Change::Attach(range, mut attributes, _) => {
                if !self.lock_future.is_empty() {
                    attributes.locked = Some(self.lock_future.contains(MlockallFlags::ONFAULT));
                }
                self.unmap(range);
                self.map(range, attributes);
            }
            Change::Unmap(range) => self.unmap(range),
            Change::Detach(range) => {
                for (part, _) in self.attached(range) {
                    self.unmap(part);
                }
            }
            Change::Protect(range, prot) => self.change(range, |a| a.prot = prot),
            Change::Advise(range, advice) => self.change(range, |a| a.advise(advice)),
            Change::Lock(range, locked) => self.change(range, |a| a.locked = locked),
            Change::LockAll(flags) => {
                let future = MlockallFlags::FUTURE;
                let set = if flags.contains(future) { flags } else { MlockallFlags::empty() };
                self.lock_future = set - MlockallFlags::CURRENT;
                let current = flags.contains(MlockallFlags::CURRENT);
                if current || flags.is_empty() {
                    let locked = current.then_some(flags.contains(MlockallFlags::ONFAULT));
                    self.change(WHOLE, |a| a.locked = locked);
                }
            }
            Change::Seal(range) => self.change(range, |a| a.sealed = true),
            Change::Bind(range, mode) => self.change(range, |a| a.policy = mode),
            Change::Move { old, new, keeps_source } => {
                let shift = new.start.wrapping_sub(old.start);
                let moved = self.within(old);
                if keeps_source {
                    // The kernel removes the lock.
                    self.change(old, |a| a.locked = None);
                } else {
                    self.unmap(old);
                }
                self.unmap(new);
                let mut last = None;
                for (part, attributes) in moved {
                    let start = part.start.wrapping_add(shift);
                    let end = part.end.wrapping_add(shift).min(new.end);
                    let attributes = attributes.moved(shift as i64);
                    if start < end {
                        self.map(Pages { start, end }, attributes);
                        last = Some((end, attributes));
                    }
                }
                if let Some((start, attributes)) = last.filter(|(end, _)| *end < new.end) {
                    self.map(Pages { start, end: new.end }, attributes);
                }
            }
            Change::Truncate(..)
            | Change::Unlimit(_)
            | Change::ClearRefs
            | Change::Remove(_)
            | Change::Fork { .. }
            | Change::Exit => {}
        }
    }
}

/// The address spaces of one family that are alive, by number.
pub(super) type Spaces = BTreeMap<usize, Space>;

/// Performs a step on the address spaces of its family.
pub(super) fn perform(spaces: &mut Spaces, step: &Step) {
    match step.change {
        Change::Fork { child } => {
            let parent = spaces.entry(step.space).or_default();
            let mut space = Space {
                mapped: parent.mapped.clone(),
                parent: Some(step.space),
                lock_future: MlockallFlags::empty(),
            };
            space.mapped.retain(|_, (_, attributes)| attributes.advice[0].is_none());
            // A child does not inherit locks.
            space.change(WHOLE, |attributes| attributes.locked = None);
            spaces.insert(child, space);
        }
        Change::Exit => {
            spaces.remove(&step.space);
        }
        ref change => spaces.entry(step.space).or_default().perform(change),
    }
}
