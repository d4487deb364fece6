//! Layout: the mapped pages, and the file, policy and operations of each page.

use vmadiff_machine::AddressSpace;
use vmadiff_machine::operand::MAX_PROCESSES;
use vmadiff_reference::why::Destination;

use super::Case;
use crate::picture::{Range, pages_text};
use crate::results::result_text;

/// Returns the first two VMAs that overlap.
fn overlap(space: &AddressSpace) -> Option<(Range, Range)> {
    let pair = space.vmas().windows(2).find(|v| v[0].end > v[1].start)?;
    Some((Range::of(&pair[0]), Range::of(&pair[1])))
}

/// Returns the set of mapped pages.
fn mapped(space: &AddressSpace) -> u128 {
    space
        .vmas()
        .iter()
        .fold(0u128, |set, vma| (vma.start.0..vma.end.0).fold(set, |set, page| set | 1 << page))
}

impl Case<'_> {
    pub(super) fn layout(&self) -> String {
        if self.left.result != self.right.result {
            return self.places();
        }
        let spaces = (0..MAX_PROCESSES).find_map(|process| self.space(process));
        spaces.or_else(|| self.mapping()).unwrap_or_else(|| {
            format!("which VMAs are of the same file differs after `{}`", self.op)
        })
    }

    /// Returns the sentence for calls that return different addresses.
    fn places(&self) -> String {
        let process = self.op.process();
        let hint = match (self.reason.destination, &self.reason.copy) {
            (Some(Destination::HighestHole { hint, occupied }), _) => format!(
                ": the hint {hint} is not free, {occupied} of process {process} is mapped, so the \
                 copy goes to the highest hole that is long enough"
            ),
            (Some(Destination::Hint), Some(copy)) => {
                format!(": the hint {} is free, so it is taken", Range::of(&copy.new))
            }
            _ => String::new(),
        };
        format!(
            "`{}` answers {} in {} and {} in {}{hint}",
            self.op,
            result_text(self.left.result),
            self.names.0,
            result_text(self.right.result),
            self.names.1
        )
    }

    /// Returns the sentence for processes or mapped pages that differ, or for VMAs that overlap.
    fn space(&self, process: usize) -> Option<String> {
        let (l, r) = (&self.left.spaces[process], &self.right.spaces[process]);
        if l.alive != r.alive {
            let there = if l.alive { self.names.0 } else { self.names.1 };
            return Some(format!("process {process} is there in {there} only"));
        }
        let (lm, rm) = (mapped(l), mapped(r));
        if lm != rm {
            let (only, there, other) = if lm & !rm != 0 {
                (lm & !rm, self.names.0, self.names.1)
            } else {
                (rm & !lm, self.names.1, self.names.0)
            };
            let to = self.role("to").or_else(|| self.role("on"));
            let asked = to
                .filter(|to| to.process == process)
                .map_or_else(String::new, |to| format!("; the operation is about {}", to.range));
            return Some(format!(
                "pages {} of process {process} are mapped in {there} and not in {other}{asked}",
                pages_text(only)
            ));
        }
        let ((a, b), name) = match (overlap(l), overlap(r)) {
            (None, Some(pair)) => (pair, self.names.1),
            (Some(pair), None) => (pair, self.names.0),
            _ => return None,
        };
        Some(format!("in {name}, VMAs {a} and {b} of process {process} overlap"))
    }

    /// Returns the sentence for a page whose file, policy or operations differ.
    fn mapping(&self) -> Option<String> {
        let copied = |process, range: Range| match self.made(process, range.start) {
            Some(_) => format!(" ({})", self.point(1)),
            None => String::new(),
        };
        if let Some((both, range)) =
            self.first(|b| b.left.1.file.is_some() != b.right.1.file.is_some())
        {
            let (with, without) =
                if both.left.1.file.is_some() { self.names } else { (self.names.1, self.names.0) };
            return Some(format!(
                "{range} of process {} is of a file in {with} and of none in {without}{}",
                both.process,
                copied(both.process, range)
            ));
        }
        if let Some((both, range)) = self.first(|b| b.left.1.policy != b.right.1.policy) {
            return Some(format!(
                "the policy of {range} of process {} is {} in {} and {} in {}{}",
                both.process,
                both.left.1.policy.name(),
                self.names.0,
                both.right.1.policy.name(),
                self.names.1,
                copied(both.process, range)
            ));
        }
        let (both, range) = self.first(|b| b.left.1.close != b.right.1.close)?;
        Some(format!("vm_ops of {range} of process {} differ", both.process))
    }
}
