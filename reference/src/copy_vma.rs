//! `copy_vma()` (`mm/mmap.c`): a VMA like another one, at a new range. By `mremap` within one
//! address space, by the [contract](crate::contract) into any.

use vmadiff_machine::CopyReport;
use vmadiff_machine::operand::Page;

use crate::merge::Origin;
use crate::mm::Syscall;
use crate::range::Range;
use crate::vma::Vma;

impl Vma {
    /// What `range` will be mapped as when it is a copy of what is mapped here from `page` on.
    ///
    /// The copy has the source's anon_vma and chain: the pages that come are found through them
    /// (unlike a forked VMA's it is not a new anon_vma). Anonymous memory that was never faulted
    /// has no pages yet, so its offsets are made those of the new address, that it may merge more
    /// often.
    pub(crate) fn copied(&self, page: Page, range: Range) -> Vma {
        let never_faulted = self.is_anonymous() && self.anon_vma.is_none();
        let pgoff = if never_faulted { range.start.linear_offset() } else { self.pgoff_of(page) };
        Vma { range, pgoff, ..*self }
    }
}

impl Syscall<'_> {
    /// Maps `copy.range`, which is a hole, as `copy`, and says where the VMA is. `source` is what
    /// it is a copy of, if that is mapped in this address space.
    ///
    /// The source is redirected, that is the caller goes on with the merged VMA in its stead,
    /// where the source is part of the merged VMA now: it was the neighbour that was widened, or
    /// the one that another neighbour took in. Where the source starts tells, as it was before.
    ///
    /// While pages are copied, a reverse-map walk must not meet the source before the copy: else
    /// it sees the page in neither. A new VMA comes after its source in every tree; in a merged
    /// one, what has the lower offset comes first, and then the rmap locks are needed.
    pub(crate) fn copy_vma(
        &mut self,
        copy: &Vma,
        source: &Vma,
        same_mm: bool,
        origin: Origin,
    ) -> (usize, CopyReport) {
        let Some(at) = self.join(copy, origin) else {
            self.anon_vmas.link(copy);
            let none = CopyReport {
                merged: false,
                need_rmap_locks: false,
                honoured: true,
                source_redirected: false,
            };
            return (self.mm.insert(*copy), none);
        };
        let merged = &self.mm.vmas()[at];
        let redirected = same_mm && merged.range.contains(source.range.start);
        let report = CopyReport {
            merged: true,
            need_rmap_locks: redirected || merged.pgoff <= source.pgoff,
            honoured: true,
            source_redirected: redirected,
        };
        (at, report)
    }
}
