//! The report of `copy_vma()` and its reads of freed objects: the aliasing check and the rmap
//! locks.

use vmadiff_machine::Object;
use vmadiff_machine::observation::{Event, Observation};
use vmadiff_reference::refusal::Rule;
use vmadiff_reference::why::{CopyReason, RmapLocks};

use super::{Case, index, pgoff_text};
use crate::picture::Range;

impl Case<'_> {
    /// Returns the sentence for a use-after-free, or for a source pointer that only one machine
    /// redirects. The freed object is a source that a merge has swallowed or that an overlap has
    /// unmapped.
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
        let Some(copy) = &self.reason.copy else { return self.nothing() };
        let source = Range::of(&copy.source);
        let does = |redirected| if redirected { "redirects" } else { "does not redirect" };
        let inside = match copy.merged.as_ref().map(Range::of) {
            Some(merged) if copy.source_process == copy.process => {
                let is = if copy.redirected { "starts inside" } else { "starts outside" };
                format!("the source VMA {source} {is} the merged VMA {merged} of the same process")
            }
            Some(merged) => format!(
                "the source VMA {source} is of process {}, the merged VMA {merged} of process {}",
                copy.source_process, copy.process
            ),
            None => format!("the source VMA {source} of process {}", copy.source_process),
        };
        format!(
            "{inside}: {} {} the source pointer, {} {} it ({})",
            self.names.0,
            does(l.source_redirected),
            self.names.1,
            does(r.source_redirected),
            self.point(5)
        )
    }

    fn use_after_free(&self, object: Object, function: &str, field: &str) -> String {
        let kind = match object {
            Object::Vma => "VMA",
            Object::AnonVma => "anon_vma",
            Object::Mm => "mm",
            Object::File => "file",
            Object::Policy => "policy",
            Object::Context => "userfaultfd context",
        };
        let reads = format!("{function}() reads its {field} after that");
        if let Some(refusal) = &self.reason.refusal
            && let Rule::Overlap { from, to } = refusal.rule
            && self.is_copy()
        {
            let space = &self.before.spaces[index(refusal.process)];
            let source = space.vma_at(from.start).map_or_else(String::new, |vma| {
                let whole = Range::of(vma);
                match to.start <= vma.start && vma.end <= to.end {
                    true => format!(", and the source VMA {whole}, in it, is freed"),
                    false => format!(", and the source VMA {whole} is cut"),
                }
            });
            return format!(
                "source {from} and destination {to} overlap in process {}: the destination is \
                 unmapped first{source}; {reads} ({})",
                refusal.process,
                self.point(6)
            );
        }
        if let Some(copy) = &self.reason.copy
            && let Some((left, whole)) = self.swallowed(copy).filter(|_| object == Object::Vma)
        {
            return format!(
                "{left}, the new range {} and the source VMA {} became one VMA, {whole}, and the \
                 source was freed by that merge; {reads} ({})",
                Range::of(&copy.new),
                Range::of(&copy.source),
                self.point(5)
            );
        }
        let reference = match &self.reason.refusal {
            Some(refusal) => format!(": the call is refused with {}", self.refusal_text(refusal)),
            None => self.merged_text(),
        };
        format!(
            "`{}` makes {function}() read {field} of a {kind} that has been freed{reference}",
            self.op
        )
    }

    /// Returns the left neighbour and the merged VMA, if a merge with both neighbours freed the
    /// source. In that merge the source was the right neighbour.
    fn swallowed(&self, copy: &CopyReason) -> Option<(Range, Range)> {
        let decision = self.reason.copy_merge()?;
        let joined = |near: &Option<vmadiff_reference::why::Neighbour>| {
            near.as_ref().filter(|near| near.joined()).map(|near| near.range)
        };
        let (left, right) = (joined(&decision.left)?, joined(&decision.right)?);
        let is_source = copy.redirected && right.start == copy.source.start;
        let left = Range { start: left.start.0, end: left.end.0 };
        let whole = Range::of(copy.merged.as_ref()?);
        is_source.then_some((left, whole))
    }

    pub(super) fn rmap_locks(&self) -> String {
        let (Some(l), Some(r)) = (self.left.copy, self.right.copy) else { return self.nothing() };
        let values = self.reason.copy.as_ref().map(|copy| {
            let merged = copy.merged.as_ref().map(Range::of);
            match (copy.rmap_locks, merged) {
                (RmapLocks::Redirected, Some(merged)) => format!(
                    "the source was redirected to the merged VMA {merged}, so both vm_pgoff are \
                     the same one: "
                ),
                (RmapLocks::Merged { merged: pgoff, source }, Some(merged)) => format!(
                    "the merged VMA {merged} has vm_pgoff {}, {}at or below the source's {}: ",
                    pgoff_text(pgoff),
                    if copy.rmap_locks.needed() { "" } else { "not " },
                    pgoff_text(source)
                ),
                _ => "the copy is a duplicate, which comes after its source: ".into(),
            }
        });
        let values = values.unwrap_or_default();
        let is = |need| if need { "true" } else { "false" };
        if l.need_rmap_locks == r.need_rmap_locks {
            return format!(
                "{values}need_rmap_locks is {} in both, and {} does not take the locks while it \
                 copies the pages: a reverse-map walk may miss them ({})",
                is(l.need_rmap_locks),
                if r.honoured { self.names.0 } else { self.names.1 },
                self.point(8)
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
