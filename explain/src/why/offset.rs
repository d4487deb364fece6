//! Page offsets.

use vmadiff_machine::operand::Page;
use vmadiff_reference::why::{CopyReason, OffsetReason};

use super::{Both, Case, pgoff_at, pgoff_text};
use crate::picture::Range;

/// Returns the origin of the offset of `page`, which a copy or a move mapped.
fn copied_offset(copy: &CopyReason, page: u8) -> String {
    match copy.pgoff {
        OffsetReason::NeverFaulted => format!(
            ": the source {} was never faulted, so the copy takes the offset of its new address",
            Range::of(&copy.source)
        ),
        OffsetReason::Source => {
            let page = copy.from.start.0 + page - copy.new.start.0;
            let what = if copy.source.file.is_some() { "of a file" } else { "faulted" };
            format!(
                ": it is a copy of page {page} of process {}, {what}, which is at {}",
                copy.source_process,
                pgoff_text(pgoff_at(&copy.source, page))
            )
        }
    }
}

impl Case<'_> {
    pub(super) fn offset(&self) -> String {
        let differ = |b: &Both<'_>| pgoff_at(b.left.1, b.page) != pgoff_at(b.right.1, b.page);
        let Some((both, range)) = self.first(differ) else { return self.nothing() };
        let page = range.start;
        let rule = match self.made(both.process, page) {
            Some(copy) => copied_offset(copy, page),
            None => match self.before.spaces[both.process].vma_at(Page(page)) {
                Some(vma) => {
                    let was = pgoff_text(pgoff_at(vma, page));
                    format!(": before the operation it was {was}")
                }
                None => String::new(),
            },
        };
        format!(
            "page {page} of process {} is at vm_pgoff {} in {} and {} in {}{rule}",
            both.process,
            pgoff_text(pgoff_at(both.left.1, page)),
            self.names.0,
            pgoff_text(pgoff_at(both.right.1, page)),
            self.names.1
        )
    }
}
