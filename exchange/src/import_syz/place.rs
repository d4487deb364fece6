//! The place of the steps in the arena.

use vmadiff_machine::operand::{ARENA_PAGES, Domain as _, FilePage};
use vmadiff_machine::{Op, Part, Role};

use super::step::{Span, Step};
use crate::import::layout::{Layout, Move, layout};
use crate::strace::Pages;

/// The map from pages of the data area to pages of the arena.
pub(super) enum Place {
    /// Every page keeps its distance from the others: page `from` of the data area is page `to`.
    Moved { from: u64, to: u64 },
    /// The edges of the ranges keep their order. The files have up to three different distances of
    /// page and offset.
    LaidOut { layout: Layout, distances: Vec<i64> },
}

impl Place {
    /// Returns the place of the steps; `None` if there is no room. With `is_exact`, pages keep their
    /// numbers if all of them fit.
    pub(super) fn of(steps: &[Step], is_exact: bool) -> Option<Place> {
        let ranges: Vec<Span> =
            steps.iter().flat_map(|step| step.ranges.iter().map(|(_, span)| *span)).collect();
        let first = ranges.iter().map(|span| span.start).min().unwrap_or_default();
        let exact = Place::Moved { from: 0, to: 0 };
        let moved = Place::Moved { from: first, to: 1 };
        [Some(exact).filter(|_| is_exact), Some(moved)]
            .into_iter()
            .flatten()
            .find(|place| place.fits(steps, &ranges))
            .or_else(|| Place::laid_out(steps, &ranges))
    }

    fn fits(&self, steps: &[Step], ranges: &[Span]) -> bool {
        let Place::Moved { from, to } = *self else { return false };
        let limit = ARENA_PAGES as u64;
        ranges.iter().all(|span| span.start - from + to < limit && span.len < limit)
            && steps.iter().all(|step| step.offset.is_none_or(|at| FilePage::at(at).is_some()))
    }

    fn laid_out(steps: &[Step], ranges: &[Span]) -> Option<Place> {
        // An empty range has an edge, too.
        let edges = |span: &Span| Pages { start: span.start, end: span.start + span.len.max(1) };
        let ranges: Vec<Pages> = ranges.iter().map(edges).collect();
        let moves = steps.iter().filter(|step| matches!(step.op, Op::Mremap { .. }));
        let moves: Vec<Move> = moves
            .filter_map(|step| Some((step.range(Part::Source)?, step.range(Part::Destination)?)))
            .filter(|(old, new)| old.start != new.start && old.len > 0 && new.len > 0)
            .map(|(old, new)| Move::new(edges(&old), edges(&new)))
            .collect();
        let attached = steps.iter().filter(|step| matches!(step.op, Op::Shmat { .. }));
        let segments = attached.filter_map(|step| Some(edges(&step.range(Part::Destination)?)));
        let layout = layout(&ranges, &moves, &segments.collect::<Vec<_>>())?;
        let mut distances = Vec::new();
        for distance in steps.iter().filter_map(distance) {
            if !distances.contains(&distance) {
                distances.push(distance);
            }
        }
        Some(Place::LaidOut { layout, distances })
    }

    /// Returns the page of an edge.
    fn page(&self, edge: u64) -> u8 {
        match self {
            // The page is below the length of the arena, which `fits` has checked.
            Place::Moved { from, to } => (edge - from + to) as u8,
            Place::LaidOut { layout, .. } => layout.page(edge).0,
        }
    }

    fn len(&self, span: Span) -> u8 {
        match (span.len, self) {
            (0, _) => 0,
            (len, Place::Moved { .. }) => len as u8,
            _ => self.page(span.end()).saturating_sub(self.page(span.start)),
        }
    }

    fn offset(&self, step: &Step, start: Span) -> u8 {
        match self {
            Place::Moved { .. } => {
                step.offset.and_then(FilePage::at).map_or(0, |page| page.index())
            }
            Place::LaidOut { distances, .. } => {
                // Neighbours whose offsets match in the data area match in the arena.
                let which = distance(step).and_then(|d| distances.iter().position(|e| *e == d));
                self.page(start.start) + 64 * (which.unwrap_or_default() % 3) as u8
            }
        }
    }

    /// Returns the operation of a step, in the arena.
    pub(super) fn operation(&self, step: &Step) -> Op {
        let of = |part| step.range(part).unwrap_or(Span { start: 0, len: 0 });
        let op = step.op.with_operands(|role, value| match role {
            Role::Start(part) => self.page(of(part).start),
            Role::Length(part) => self.len(of(part)),
            Role::Offset if step.offset.is_some() => self.offset(step, of(Part::Destination)),
            _ => value,
        });
        // The operand is ignored where the kernel does not read the new address.
        match op {
            Op::Mremap { process, page, old_len, new_len, flags, .. }
                if !flags.get().is_fixed() && !flags.get().keeps_source() =>
            {
                let new_page = vmadiff_machine::operand::Page(0).into();
                Op::Mremap { process, page, old_len, new_len, flags, new_page }
            }
            op => op,
        }
    }
}

/// Returns the distance of page and offset of a mapping of a file.
fn distance(step: &Step) -> Option<i64> {
    Some(step.range(Part::Destination)?.start as i64 - step.offset? as i64)
}
