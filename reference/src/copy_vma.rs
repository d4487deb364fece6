//! `copy_vma()` (`mm/mmap.c`): maps a new range like a source VMA. Called by `mremap` within one
//! address space, and by the [contract](crate::contract) into any.

use vmadiff_machine::CopyReport;
use vmadiff_machine::operand::{Page, Process};

use crate::function::Function;
use crate::merge::Origin;
use crate::mm::Syscall;
use crate::range::Range;
use crate::refusal::Refusal;
use crate::vma::Vma;
use crate::why::{CopyKind, CopyReason, OffsetReason, RmapLocks};

/// The source of a copy or a move.
pub(crate) struct Source {
    pub(crate) process: Process,
    /// The VMA.
    pub(crate) vma: Vma,
    /// The pages of the VMA that are copied.
    pub(crate) from: Range,
    /// Whether the VMA stays mapped after a move (`MREMAP_DONTUNMAP`).
    pub(crate) stays: bool,
}

impl Vma {
    /// The origin of the page offset of a copy of this VMA. Anonymous memory that was never faulted
    /// has no pages, so the offset is made that of the new address: the copy can merge more often.
    fn offset_reason(&self) -> OffsetReason {
        match self.is_anonymous() && self.anon_vma.is_none() {
            true => OffsetReason::NeverFaulted,
            false => OffsetReason::Source,
        }
    }

    /// Returns the VMA that `range` becomes as a copy of this one's pages from `page` on.
    ///
    /// The copy has the source's anon_vma and chain, because the copied pages are found through
    /// them. A forked VMA, in contrast, gets an anon_vma of its own.
    pub(crate) fn copied(&self, page: Page, range: Range) -> Vma {
        let pgoff = match self.offset_reason() {
            OffsetReason::NeverFaulted => range.start.linear_offset(),
            OffsetReason::Source => self.pgoff_of(page),
        };
        Vma { range, pgoff, ..*self }
    }
}

impl Syscall<'_> {
    /// Maps `copy.range`, which is a hole, as `copy`, and returns the index of the VMA.
    ///
    /// The source is redirected where it is part of the merged VMA: it was the neighbour that was
    /// widened, or another neighbour took it in. Then the caller goes on with the merged VMA in its
    /// place. The start of the source VMA, as it was before the merge, tells.
    ///
    /// While pages are copied, a reverse-map walk must not meet the source before the copy: it
    /// would see the page in neither. The [reason](RmapLocks) says when the rmap locks prevent it.
    ///
    /// # Errors
    /// `ENOMEM` without memory for a VMA that does not merge. Nothing is changed then.
    pub(crate) fn copy_vma(
        &mut self,
        copy: &Vma,
        source: &Source,
        kind: CopyKind,
    ) -> Result<(usize, CopyReport), Refusal> {
        let origin = if source.stays { Origin::Kept(source.vma.range) } else { Origin::Here };
        let joined = self.join(copy, origin);
        if joined.is_none() {
            self.get_memory(Function::CopyVma, |what| copy.duplicate_needs(what))?;
        }
        let merged = joined.map(|at| self.mm.vmas()[at]);
        let redirected = source.process == self.process
            && merged.is_some_and(|merged| merged.range.contains(source.vma.range.start));
        let rmap_locks = match merged {
            None => RmapLocks::NewVma,
            Some(_) if redirected => RmapLocks::Redirected,
            Some(merged) => RmapLocks::Merged { merged: merged.pgoff, source: source.vma.pgoff },
        };
        if self.why.is_some() {
            self.explain_copy((copy, source, kind), merged.as_ref(), rmap_locks);
        }
        let at = joined.unwrap_or_else(|| {
            self.anon_vmas.link(copy);
            self.references.get(copy);
            self.mm.driver.opens += u32::from(copy.has_close());
            self.mm.insert(*copy)
        });
        let report = CopyReport {
            merged: merged.is_some(),
            need_rmap_locks: rmap_locks.needed(),
            honoured: true,
            source_redirected: redirected,
        };
        Ok((at, report))
    }

    /// Writes down the decisions of [`Syscall::copy_vma`].
    #[cold]
    fn explain_copy(
        &mut self,
        (copy, source, kind): (&Vma, &Source, CopyKind),
        merged: Option<&Vma>,
        rmap_locks: RmapLocks,
    ) {
        let reason = CopyReason {
            source_process: source.process,
            source: source.vma.shown(),
            from: source.from,
            process: self.process,
            new: copy.shown(),
            pgoff: source.vma.offset_reason(),
            kind,
            merged: merged.map(Vma::shown),
            redirected: rmap_locks == RmapLocks::Redirected,
            rmap_locks,
            anon_pages: 0,
        };
        if let Some(why) = &mut self.why {
            why.copy = Some(reason);
        }
    }
}
