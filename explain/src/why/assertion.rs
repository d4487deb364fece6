//! Kernel assertions that fail.

use vmadiff_machine::Assertion;
use vmadiff_machine::observation::{Event, Observation};
use vmadiff_machine::operand::MAX_PROCESSES;

use super::{Case, list, point};

impl Case<'_> {
    pub(super) fn assertion(&self) -> String {
        // One that the kernel does not survive names the divergence.
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
        let facts = match (function, condition, self.source()) {
            ("copy_vma", "faulted_in_anon_vma", Some((from, vma, source))) => {
                let space = &self.before.spaces[from.process];
                let is = if vma.file.is_some() {
                    "is of a file".into()
                } else if vma.anon_vma.is_some() {
                    format!("hangs on {}", self.painter.anon_vma_text(space, vma, true))
                } else {
                    "was never faulted".into()
                };
                let mut text = format!(
                    ": a source that is swallowed by the merge must be anonymous and never faulted, \
                     and {source} of process {} {is}",
                    from.process
                );
                if let Some(to) = self.role("to")
                    && from.process == to.process
                    && from.range.overlaps(to.range)
                {
                    text.push_str(&format!(
                        "; source {} and destination {} overlap ({})",
                        from.range,
                        to.range,
                        point(6)
                    ));
                }
                text
            }
            _ => (0..MAX_PROCESSES)
                .find_map(|process| {
                    let (parts, whole) = self.joined(process, &self.right.spaces[process])?;
                    let parts = list(&parts);
                    Some(format!(": {parts} of process {process} were joined to {whole}"))
                })
                .unwrap_or_default(),
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
}
