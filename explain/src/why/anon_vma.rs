//! anon_vmas, chains, and pages that a walk of the reverse map does not find.

use vmadiff_machine::observation::{Event, Observation, PageSet};
use vmadiff_machine::operand::{MAX_PROCESSES, Page};
use vmadiff_machine::{AddressSpace, Op, Vma};
use vmadiff_reference::why::{CopyReason, ForkRule};

use super::{Both, Case, index};
use crate::picture::{Range, pages_text};

impl Case<'_> {
    pub(super) fn anon_vma(&self) -> String {
        let lost = |seen: &Observation| {
            seen.events.iter().find_map(|event| match *event {
                Event::UnreachablePage { process, page } => Some((usize::from(process.0), page)),
                _ => None,
            })
        };
        if let Some((process, page)) = lost(self.right) {
            return self.unreachable(process, page, self.right, self.names.1);
        }
        if let Some((process, page)) = lost(self.left) {
            return self.unreachable(process, page, self.left, self.names.0);
        }
        let text = |space: &AddressSpace, vma: &Vma, is_left| {
            self.painter.anon_vma_text(space, vma, is_left)
        };
        let differ =
            |b: &Both<'_>| text(b.left.0, b.left.1, true) != text(b.right.0, b.right.1, false);
        if let Some((both, range)) = self.first(differ) {
            let (l, r) =
                (text(both.left.0, both.left.1, true), text(both.right.0, both.right.1, false));
            let rule = self.anon_vma_rule(both.process, range.start);
            return format!(
                "{range} of process {}: anon_vma and chain (newest first) are {l} in {} and {r} in \
                 {}{rule}",
                both.process, self.names.0, self.names.1
            );
        }
        for process in 0..MAX_PROCESSES {
            let pages = |seen: &Observation| -> PageSet { seen.spaces[process].anon_pages };
            let (l, r) = (pages(self.left), pages(self.right));
            if l != r {
                let (only, there, other) = if l & !r != 0 {
                    (l & !r, self.names.0, self.names.1)
                } else {
                    (r & !l, self.names.1, self.names.0)
                };
                return format!(
                    "anonymous pages {} of process {process} are mapped in {there} and not in {other}",
                    pages_text(only)
                );
            }
        }
        format!("which VMAs share an anon_vma differs after `{}`", self.op)
    }

    /// Returns the rule for the anon_vma and the chain of a page that a copy, a move or a fork
    /// mapped.
    fn anon_vma_rule(&self, process: usize, page: u8) -> String {
        let text = |(space, vma)| self.painter.anon_vma_text(space, vma, true);
        if let Some(copy) = self.made(process, page) {
            return match self.source_before(copy) {
                Some((space, vma)) => format!(
                    ": the source {} of process {} has anon_vma and chain {}, and the copy must share its anon_vma and \
                     clone its whole chain, as after a move",
                    Range::of(vma),
                    copy.source_process,
                    text((space, vma))
                ),
                None => String::new(),
            };
        }
        let forked = self.reason.fork.iter().find(|fork| fork.parent.contains(Page(page)));
        match (forked.map(|fork| fork.rule), self.op) {
            (Some(ForkRule::Wiped), _) => {
                ": the parent's VMA has VM_WIPEONFORK, so the child's VMA gets none of the parent's \
                 anon_vmas, and gets an anon_vma of its own at once"
                    .into()
            }
            (Some(ForkRule::Inherited { reused }), Op::Fork { process }) => {
                let space = &self.before.spaces[index(process.get())];
                let parent = space.vma_at(Page(page)).map(|vma| text((space, vma)));
                format!(
                    ": the parent's VMA has anon_vma and chain {}; the child's VMA clones that chain and has an \
                     anon_vma of its own, which is {}",
                    parent.unwrap_or_default(),
                    if reused { "reused from the chain" } else { "new" }
                )
            }
            _ => String::new(),
        }
    }

    /// Names the source of a copy, and the anon_vmas of its chain that the chain of the copy lacks.
    fn missing(&self, copy: &CopyReason, vma: (&AddressSpace, &Vma), is_left: bool) -> String {
        let Some((of, source)) = self.source_before(copy) else { return String::new() };
        let here = self.painter.chain_letters(vma.0, vma.1, is_left);
        let missing: Vec<String> = self
            .painter
            .chain_letters(of, source, true)
            .into_iter()
            .filter(|letter| !here.contains(letter))
            .collect();
        let what = match missing.is_empty() {
            true => "the chain is complete, so the page or its index is wrong".to_owned(),
            false => format!("{} is missing", missing.join(", ")),
        };
        format!(
            "; it was copied from {} of process {}, which has anon_vma and chain {}: {what}",
            Range::of(source),
            copy.source_process,
            self.painter.anon_vma_text(of, source, true)
        )
    }

    fn unreachable(&self, process: usize, page: Page, seen: &Observation, name: &str) -> String {
        let is_left = std::ptr::eq(seen, self.left);
        let space = &seen.spaces[process];
        let mapped = space.vma_at(page).map(|vma| {
            format!(
                "page {page} of process {process} is mapped by {}, which has anon_vma and chain {}",
                Range::of(vma),
                self.painter.anon_vma_text(space, vma, is_left)
            )
        });
        let mapped = mapped.unwrap_or_else(|| format!("page {page} of process {process}"));
        let source = match (self.made(process, page.0), space.vma_at(page)) {
            (Some(copy), Some(vma)) => self.missing(copy, (space, vma), is_left),
            _ => String::new(),
        };
        format!(
            "in {name}, {mapped}{source}; a reverse-map walk from the page's anon_vma does not \
             find it there ({})",
            self.point(9)
        )
    }
}
