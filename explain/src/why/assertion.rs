//! Kernel assertions that fail.

use vmadiff_machine::Assertion;
use vmadiff_machine::observation::{Event, Observation};
use vmadiff_reference::refusal::Rule;

use super::{Case, index};
use crate::picture::Range;

impl Case<'_> {
    /// Returns the sentence for the failure of a machine that is a shared library.
    fn library(&self) -> Option<String> {
        let sides = [(self.right, self.names.1), (self.left, self.names.0)];
        sides.into_iter().find_map(|(seen, name)| {
            seen.events.iter().find_map(|event| match event {
                Event::Library(failure) => {
                    Some(format!("the library {name} failed at `{}`: {failure}", self.op))
                }
                _ => None,
            })
        })
    }

    pub(super) fn assertion(&self) -> String {
        if let Some(text) = self.library() {
            return text;
        }
        // An assertion that the kernel does not survive is the one that names the divergence.
        let failed = |seen: &Observation| {
            let fatal = seen.events.iter().filter(|event| event.is_fatal());
            fatal.chain(&seen.events).find_map(|event| match *event {
                Event::Assertion { assertion, function, condition } => {
                    Some((assertion, function, condition))
                }
                _ => None,
            })
        };
        let (found, name) = match failed(self.right) {
            Some(found) => (Some(found), self.names.1),
            None => (failed(self.left), self.names.0),
        };
        let Some((assertion, function, condition)) = found else { return self.nothing() };
        let facts = match (function, condition) {
            ("copy_vma", "faulted_in_anon_vma") => self.swallowed_source(),
            _ => match &self.reason.refusal {
                Some(refusal) => {
                    format!(": the call is refused with {}", self.refusal_text(refusal))
                }
                None => self.merged_text(),
            },
        };
        let assertion = match assertion {
            Assertion::BugOn => "VM_BUG_ON",
            Assertion::WarnOn => "VM_WARN_ON",
        };
        format!(
            "`{}` makes {assertion}({condition}) fire in {function}() of {name}{facts}",
            self.op
        )
    }

    /// Returns the attributes of a source VMA that a merge must not swallow.
    fn swallowed_source(&self) -> String {
        let overlap = self.reason.refusal.and_then(|refusal| match refusal.rule {
            Rule::Overlap { from, to } => Some((from, to, refusal.process)),
            _ => None,
        });
        let (process, start, whole) = match (&self.reason.copy, overlap) {
            (Some(copy), _) => {
                (copy.source_process, copy.from.start, Some(Range::of(&copy.source)))
            }
            (None, Some((from, _, process))) => (process, from.start, None),
            (None, None) => return String::new(),
        };
        let space = &self.before.spaces[index(process)];
        let Some(vma) = space.vma_at(start) else { return String::new() };
        let is = if vma.file.is_some() {
            "is of a file".into()
        } else if vma.anon_vma.is_some() {
            format!("has anon_vma and chain {}", self.painter.anon_vma_text(space, vma, true))
        } else {
            "was never faulted".into()
        };
        let overlap = overlap.map_or_else(String::new, |(from, to, _)| {
            format!("; source {from} and destination {to} overlap ({})", self.point(6))
        });
        let source = whole.unwrap_or(Range::of(vma));
        format!(
            ": a source that is swallowed by the merge must be anonymous and never faulted, and \
             {source} of process {process} {is}{overlap}"
        )
    }
}
