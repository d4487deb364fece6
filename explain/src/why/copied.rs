//! What `copy_vma()` answers, and what it reads: the aliasing check and the rmap locks.

use vmadiff_machine::Object;
use vmadiff_machine::observation::{Event, Observation};
use vmadiff_machine::{Vma, operand::MAX_PROCESSES};

use super::merge::New;
use super::{Case, list, pgoff_at, point};
use crate::picture::Range;

impl<'a> Case<'a> {
    /// A use-after-free, of a source that a merge has swallowed or an overlap has unmapped.
    pub(super) fn aliasing(&self) -> String {
        let freed = |seen: &Observation| {
            seen.events.iter().find_map(|event| match *event {
                Event::UseAfterFree { object, function, field } => Some((object, function, field)),
                _ => None,
            })
        };
        if let Some((object, function, field)) = freed(self.right).or_else(|| freed(self.left)) {
            return self.use_after_free(object, function, field);
        }
        let (Some(l), Some(r)) = (self.left.copy, self.right.copy) else {
            let ran = if self.left.copy.is_some() { self.names.0 } else { self.names.1 };
            return format!("copy_vma() ran in {ran} only");
        };
        let Some((from, vma, source)) = self.source() else { return self.nothing() };
        let Some(to) = self.role("to") else { return self.nothing() };
        let merged = self.merged_range(l.merged);
        let does = |redirected| if redirected { "redirects" } else { "does not redirect" };
        let inside = match merged {
            Some(merged) if from.process == to.process => {
                let is =
                    if merged.contains(source.start) { "starts inside" } else { "starts outside" };
                format!("the source VMA {source} {is} the merged VMA {merged} of the same process")
            }
            Some(merged) => format!(
                "the source VMA {} is of process {}, the merged VMA {merged} of process {}",
                Range::of(vma),
                from.process,
                to.process
            ),
            None => format!("the source VMA {source} of process {}", from.process),
        };
        format!(
            "{inside}: {} {} the source pointer, {} {} it (point 5 of the contract: exactly where \
             the merge swallowed it)",
            self.names.0,
            does(l.source_redirected),
            self.names.1,
            does(r.source_redirected)
        )
    }

    /// What the new range and its neighbours become where they merge, by the rule.
    pub(super) fn merged_range(&self, merged: bool) -> Option<Range> {
        let to = self.role("to")?;
        if !merged {
            return None;
        }
        let (source, _, _) = self.source().map(|(from, vma, range)| (vma, range, from))?;
        let [prev, next] = self.neighbours()?;
        let (src, dst) = (self.role("from")?, &self.before.spaces[to.process]);
        let new = New::copied(
            &self.before.spaces[src.process],
            source,
            (src.range, to.range),
            self.clears(),
        );
        let joins = |near: Option<(&'a Vma, Range)>| {
            near.filter(|(vma, range)| new.refused_by(dst, vma, *range, self).is_none())
        };
        let (prev, next) = (joins(prev), joins(next));
        let next = next.filter(|(next, _)| {
            prev.is_none_or(|(prev, _)| {
                prev.anon_vma.is_none()
                    || next.anon_vma.is_none()
                    || prev.anon_vma == next.anon_vma
                        && (!self.is_copy() || dst.chain(prev) == dst.chain(next))
            })
        });
        if prev.is_none() && next.is_none() {
            return None;
        }
        Some(Range {
            start: prev.map_or(to.range.start, |(_, range)| range.start),
            end: next.map_or(to.range.end, |(_, range)| range.end),
        })
    }

    pub(super) fn use_after_free(&self, object: Object, function: &str, field: &str) -> String {
        let kind = match object {
            Object::Vma => "VMA",
            Object::AnonVma => "anon_vma",
            Object::Mm => "mm",
        };
        let reads = format!("{function}() reads its {field} after that");
        if let (Some((from, vma, source)), Some(to)) = (self.source(), self.role("to")) {
            let (src, dst) = (from.range, to.range);
            if self.is_copy() && from.process == to.process && src.overlaps(dst) {
                let whole = Range::of(vma);
                let how = if whole.start >= dst.start && whole.end <= dst.end {
                    format!("the source VMA {whole}, in it, is freed")
                } else {
                    format!("the source VMA {whole} is cut")
                };
                return format!(
                    "source {src} and destination {dst} overlap in process {}: the destination is \
                     unmapped first, and {how}; {reads} ({})",
                    to.process,
                    point(6)
                );
            }
            if let Some([Some((_, prev)), Some((_, next))]) = self.neighbours()
                && from.process == to.process
                && object == Object::Vma
                && next == source
            {
                let whole = Range { start: prev.start, end: next.end };
                let point = match function {
                    "copy_vma" => point(5),
                    _ => {
                        "point 5 of the contract: the source pointer is redirected to what has \
                          swallowed the source"
                    }
                };
                return format!(
                    "{prev}, the new range {dst} and the source VMA {source} became one VMA, \
                     {whole}, and the source was freed by that merge; {reads} ({point})"
                );
            }
        }
        let merged = (0..MAX_PROCESSES).find_map(|process| {
            let (parts, whole) = self.joined(process, &self.left.spaces[process])?;
            Some(format!(
                ": in {}, {} of process {process} become {whole}",
                self.names.0,
                list(&parts)
            ))
        });
        format!(
            "`{}` makes {function}() read {field} of a {kind} that has been freed{}",
            self.op,
            merged.unwrap_or_default()
        )
    }

    pub(super) fn rmap_locks(&self) -> String {
        let (Some(l), Some(r)) = (self.left.copy, self.right.copy) else { return self.nothing() };
        let values = match (self.source(), self.merged_range(l.merged)) {
            (Some((from, vma, source)), Some(merged)) => {
                let shown = |range: Range, of: &Vma| {
                    let text = pgoff_at(of, range.start).to_string();
                    if text.starts_with('@') { text } else { format!("@{text}") }
                };
                if l.source_redirected {
                    Some(format!(
                        "the source was redirected to the merged VMA {merged}, so both vm_pgoff are \
                         the same one"
                    ))
                } else {
                    // The merged VMA's offsets are those of its first part.
                    let to = self.role("to").map(|to| to.range);
                    let [prev, _] = self.neighbours().unwrap_or([None, None]);
                    let first = match prev {
                        Some((prev, range)) if range.start == merged.start => shown(merged, prev),
                        _ => {
                            let never = vma.anon_vma.is_none() && vma.file.is_none();
                            match to {
                                Some(to) if never => format!("@{}", to.start),
                                _ => shown(from.range, vma),
                            }
                        }
                    };
                    let of = shown(source, vma);
                    let not = if l.need_rmap_locks { "" } else { "not " };
                    Some(format!(
                        "the merged VMA {merged} has vm_pgoff {first}, {not}at or below the source's \
                         {of}"
                    ))
                }
            }
            _ if !l.merged => Some("the copy is a duplicate, which comes after its source".into()),
            _ => None,
        };
        let values = values.map_or_else(String::new, |values| format!("{values}: "));
        let is = |need| if need { "true" } else { "false" };
        if l.need_rmap_locks == r.need_rmap_locks {
            return format!(
                "{values}need_rmap_locks is {} in both, and {} does not take the locks while it \
                 copies the pages: a reverse-map walk may miss them ({})",
                is(l.need_rmap_locks),
                if r.honoured { self.names.0 } else { self.names.1 },
                point(8)
            );
        }
        format!(
            "{values}need_rmap_locks is {} in {} and {} in {}",
            is(l.need_rmap_locks),
            self.names.0,
            is(r.need_rmap_locks),
            self.names.1
        )
    }
}
