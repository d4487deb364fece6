//! A window: a part of a family's calls that becomes one program.

use std::collections::BTreeSet;

use vmadiff_machine::Program;

use super::attributes::{Attributes, Shows};
use super::change::{Change, Step};
use super::layout::{Layout, Move, layout};
use super::space::Spaces;
use super::writer::Writer;
use crate::strace::Pages;

/// The options of an import.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Writes the first page of each private writable mapping. A log has no accesses, but a program
    /// that maps such memory writes to it.
    pub touch: bool,
    /// The limit of a program's operations.
    pub operations: usize,
    /// The process whose calls are imported, by its number in the log; without it all processes.
    pub process: Option<u32>,
}

/// A part of a family's steps, and the address spaces at its beginning.
pub(super) struct Window<'a> {
    pub(super) spaces: &'a Spaces,
    pub(super) steps: &'a [Step],
}

impl Window<'_> {
    /// Returns the address spaces that exist at the beginning and that the window needs, oldest
    /// first.
    fn needed(&self) -> Vec<usize> {
        let mut born = BTreeSet::new();
        let mut needed = BTreeSet::new();
        for step in self.steps {
            if !born.contains(&step.space) {
                needed.insert(step.space);
            }
            if let Change::Fork { child } = step.change {
                born.insert(child);
            }
        }
        needed.into_iter().collect()
    }

    /// Returns the mappings of an address space that the window's calls reach, and their
    /// neighbours.
    fn before(&self, space: usize, reach: &[Pages]) -> Vec<(Pages, Attributes)> {
        let Some(space) = self.spaces.get(&space) else { return Vec::new() };
        let mut starts = BTreeSet::new();
        for range in reach {
            let wide = Pages { start: range.start.saturating_sub(1), end: range.end + 1 };
            for (part, _) in space.within(wide) {
                starts.extend(space.mapped.range(..=part.start).next_back().map(|(s, _)| *s));
            }
        }
        let whole = |start| {
            let (end, attributes) = space.mapped[&start];
            (Pages { start, end }, attributes)
        };
        starts.into_iter().map(whole).collect()
    }

    /// Returns the segment of SysV shared memory that is the program's: the first one that a step attaches
    /// or removes, or else the first one that is attached at the beginning.
    fn segment(&self, before: &[Vec<(Pages, Attributes)>]) -> Option<u64> {
        let attached = before.iter().flatten().find_map(|(_, attributes)| match attributes.shows {
            Shows::Segment { id, .. } => Some(id),
            _ => None,
        });
        self.steps.iter().find_map(|step| step.change.segment()).or(attached)
    }

    /// Lays `reach` and the mappings of `before` out over the arena; `None` if there is no room.
    fn layout(
        &self,
        reach: Vec<Pages>,
        before: &[Vec<(Pages, Attributes)>],
        segment: Option<u64>,
    ) -> Option<Layout> {
        let mut ranges = reach;
        ranges.extend(before.iter().flatten().map(|(range, _)| *range));
        let moves = self.steps.iter().filter_map(|step| match step.change {
            Change::Move { old, new, .. } => Some(Move::new(old, new)),
            _ => None,
        });
        let attached = self.steps.iter().filter_map(|step| match step.change {
            Change::Attach(range, ..) => Some(range),
            _ => None,
        });
        let before = before.iter().flatten();
        let there = before.filter(|(range, attributes)| attributes.is_attachment(*range, segment));
        let segments: Vec<Pages> = attached.chain(there.map(|(range, _)| *range)).collect();
        layout(&ranges, &moves.collect::<Vec<_>>(), &segments)
    }

    /// Returns the program of the window; `None` if there is no room for it.
    pub(super) fn program(&self, Options { touch, operations, .. }: Options) -> Option<Program> {
        let needed = self.needed();
        let reach: Vec<Pages> = self.steps.iter().flat_map(|step| step.change.ranges()).collect();
        let before: Vec<_> = needed.iter().map(|space| self.before(*space, &reach)).collect();
        let segment = self.segment(&before);
        let layout = self.layout(reach, &before, segment)?;
        let mut writer = Writer::new(layout, touch, segment);
        for (n, space) in needed.iter().enumerate() {
            let parent = self.forked_from(*space, &needed[..n]);
            let inherited: &[_] = parent.map_or(&[], |at| &before[at]);
            match parent {
                None => writer.begin(*space),
                Some(at) => writer.fork(needed[at], *space)?,
            }
            let lock_future = self.spaces.get(space).map(|space| space.lock_future);
            writer.build(*space, inherited, &before[n], lock_future.unwrap_or_default());
        }
        for step in self.steps {
            writer.step(step)?;
        }
        let program = Program { ops: writer.into_ops(), ..Program::default() };
        (program.ops.len() <= operations).then_some(program)
    }

    /// Returns the index in `there` of the closest ancestor of `space`, or of the first address
    /// space if no ancestor is there.
    fn forked_from(&self, space: usize, there: &[usize]) -> Option<usize> {
        let mut next = self.spaces.get(&space).and_then(|space| space.parent);
        // An ancestor has a lower number than its descendants.
        while let Some(forebear) = next.filter(|forebear| there.first() <= Some(forebear)) {
            if let Ok(at) = there.binary_search(&forebear) {
                return Some(at);
            }
            next = self.spaces.get(&forebear).and_then(|space| space.parent);
        }
        (!there.is_empty()).then_some(0)
    }
}
