//! The contract of a copy between address spaces, for `process_vm_mmap()` and the `copy_vma()` below
//! it. The original kernel has neither. The points are those of the design:
//!
//! | | point | code |
//! |---|---|---|
//! | 1 | exactly the destination range is mapped, with the source's file, page offset, policy and protection, its anon_vma and chain | [`Vma::copied`] |
//! | 2 | the source is unchanged, unless the destination is in the same address space; its entries of the pages that are now shared become read-only | [`World::copy`] changes nothing else of it |
//! | 3 | the copy loses the flags of [`CLEARED`] and the userfaultfd context | [`Vma::cleared`] |
//! | 4 | the new range merges where the merge rule allows it | [`join`](crate::mm::Syscall::join) |
//! | 5 | the source is redirected where the merge swallowed it | [`copy_vma`](crate::mm::Syscall::copy_vma) |
//! | 6 | ranges that overlap are refused | [`World::permitted`], the last check |
//! | 7 | accounting adds up | [`accounting`](crate::accounting) counts |
//! | 8 | the rmap locks are taken where they are needed | [`copy_vma`](crate::mm::Syscall::copy_vma): always honoured |
//! | 9 | every anonymous page stays reachable, now and later | the copy has the source's chain; [`MENDED`] |
//! | 10 | a call that fails has changed nothing | [`World::permitted`] checks first; nothing fails after it |
//!
//! The reference takes no locks, so no call of it waits for itself: a machine that shows a deadlock differs
//! from it.
//!
//! Linux 5.2.1 itself breaks point 9, with copies and without: an anon_vma that is reused has VMAs with
//! different chains, which merge, and `userfaultfd_register()` merges by a wrong page offset. A kernel
//! that meets the contract therefore has the two rules [`MENDED`]. The reference without them does
//! what 5.2.1 does, and shows each page that is lost as an event.

use vmadiff_machine::operand::{CopyFlags, Len, Page, Process};
use vmadiff_machine::{Allocation, CopyReport, Errno, PageSet, VmFlags};

use crate::copy_vma::Source;
use crate::function::Function;
use crate::later::{self, Rules};
use crate::mm::Mm;
use crate::range::Range;
use crate::refusal::{Progress, Refusal, Rule};
use crate::vma::Vma;
use crate::why::{CopyKind, CopyReason, Destination, Point, Why};
use crate::world::World;

/// The flags that a copy with flags cleared loses (point 3). The candidate has a mask of its own, as
/// the patch writes it, so that a mistake in either shows.
pub const CLEARED: VmFlags = VmFlags::UFFD
    .union(VmFlags::LOCK)
    .union(VmFlags::VM_MERGEABLE)
    .union(VmFlags::VM_WIPEONFORK)
    .union(VmFlags::VM_DONTCOPY);

/// The rules of later kernels that the contract needs: without them a page of a copy can be lost to
/// the reverse map (point 9).
pub const MENDED: Rules = Rules::NONE.with(later::Rule::AnonVmaReuse).with(later::Rule::UffdOffset);

/// A copy that `process` asks for: of the `len` pages that `src` has at `page`, to its own
/// `dst_page`.
pub(crate) struct Copy {
    pub(crate) process: Process,
    pub(crate) page: Page,
    pub(crate) len: Len,
    pub(crate) src: Process,
    pub(crate) dst_page: Page,
    pub(crate) how: How,
}

/// The function that makes the copy.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    /// `process_vm_mmap()`: copies with flags cleared, and refuses a source that userfaultfd
    /// watches.
    ProcessVmMmap(CopyFlags),
    /// `copy_vma()`, with this `clear_flags_ctx`.
    CopyVma(bool),
}

impl How {
    fn kind(self) -> CopyKind {
        match self {
            How::CopyVma(false) => CopyKind::Copy,
            _ => CopyKind::CopyCleared(CLEARED),
        }
    }

    /// The name of the function.
    fn function(self) -> Function {
        match self {
            How::ProcessVmMmap(_) => Function::ProcessVmMmap,
            How::CopyVma(_) => Function::CopyVma,
        }
    }
}

impl Vma {
    /// Returns the copy of this VMA with flags cleared: without its userfaultfd context, not locked,
    /// and without the flags that say how the source is shared in future.
    fn cleared(mut self) -> Vma {
        self.drop_uffd();
        self.flags -= CLEARED;
        self
    }
}

impl Mm {
    /// Returns the index of the VMA that maps all of `range` and may be copied.
    ///
    /// # Errors
    /// The rule that forbids the copy.
    fn source(&self, range: Range) -> Result<usize, Rule> {
        let at = self.vma_at(range.start).ok_or(Rule::NotMapped(range.start))?;
        let vma = &self.vmas()[at];
        let never = vma.flags & (VmFlags::VM_HUGETLB | VmFlags::VM_SPECIAL);
        if !vma.range.covers(range) {
            Err(Rule::PastVma { range, vma: vma.range })
        } else if !never.is_empty() {
            Err(Rule::HasFlags { vma: vma.range, flags: never })
        } else {
            Ok(at)
        }
    }

    /// Returns the destination of a copy of `len` pages: at `page`, if the address is fixed or
    /// nothing is mapped there; else the end of the highest hole of the arena that is long enough.
    ///
    /// # Errors
    /// `EEXIST` for `FIXED_NOREPLACE` over a mapping; `ENOMEM` where no hole is long enough.
    fn destination(
        &self,
        page: Page,
        len: Len,
        flags: CopyFlags,
    ) -> Result<(Range, Destination), (Errno, Rule)> {
        let hint = Range::new(page, len);
        let Some((at, _)) = self.first_in(hint) else {
            return Ok((hint, Destination::Hint));
        };
        let occupied = self.vmas()[at].range;
        if flags.contains(CopyFlags::FIXED_NOREPLACE) {
            return Err((Errno::EEXIST, Rule::Occupied(occupied)));
        }
        if flags.contains(CopyFlags::FIXED) {
            return Ok((hint, Destination::Fixed));
        }
        match self.unmapped_area(len) {
            Ok(hole) => Ok((hole, Destination::HighestHole { hint, occupied })),
            Err(longest) => Err((Errno::ENOMEM, Rule::NoHole { occupied, longest })),
        }
    }
}

impl World {
    /// Makes a copy, and returns its page.
    ///
    /// # Errors
    /// `ESRCH` where the caller is not there; those of [`World::permitted`].
    #[inline]
    pub(crate) fn copy(
        &mut self,
        copy: &Copy,
        report: &mut Option<CopyReport>,
    ) -> Result<u8, Refusal> {
        self.call(copy.process)?;
        self.copy_range(copy, report)
    }

    /// Makes a copy for a caller that is there, and returns its page.
    ///
    /// Page tables are copied as by `fork`, where the source has an anon_vma (`copy_page_range()`).
    /// The source is the merged VMA where it was redirected. The VMA of the copy is soft-dirty, as every
    /// new mapping is.
    ///
    /// # Errors
    /// The errors of [`World::permitted`]. `ENOMEM` without memory. The destination is unmapped then, as
    /// by an `mmap` that finds no memory (point 10).
    fn copy_range(&mut self, copy: &Copy, report: &mut Option<CopyReport>) -> Result<u8, Refusal> {
        let range = match self.permitted(copy) {
            Ok(range) => range,
            Err(refusal) => {
                if let Some(why) = &mut self.why {
                    why.points = refused_points(&refusal);
                }
                return Err(refusal);
            }
        };
        let from = Range::new(copy.page, copy.len);
        self.syscall(copy.process).munmap(range)?;
        // The source is looked up now: in one address space, unmapping may have cut it.
        let at = self.source(copy, from)?;
        let src = self.mm(copy.src);
        let vma = src.vmas()[at];
        let copied = |pages| (pages & from.set()) >> from.start.0 << range.start.0;
        let zero = copied(src.zero_pages());
        let source_pages = src.anon_pages() & from.set();

        let kind = copy.how.kind();
        let mut new = vma.copied(from.start, range);
        if kind != CopyKind::Copy {
            new = new.cleared();
        }
        let mut call = self.syscall(copy.process);
        let charges = vma.flags.contains(VmFlags::VM_ACCOUNT);
        let unmapped = |refusal: Refusal| refusal.after(Progress::Unmapped);
        call.get_memory(copy.how.function(), |what| charges && what == Allocation::Charge)
            .map_err(unmapped)?;
        let (at, made) = call
            .copy_vma(&new, &Source { process: copy.src, vma, from, stays: false }, kind)
            .map_err(unmapped)?;
        let source = if made.source_redirected { call.mm.vmas()[at] } else { vma };
        let makes_table = |what| what == Allocation::PageTable && source.anon_vma.is_some();
        if let Err(refusal) = call.get_memory(copy.how.function(), makes_table) {
            *report = Some(made);
            call.munmap(range)?;
            return Err(unmapped(refusal));
        }
        if let Some(ctx) = new.uffd
            && !call.mm.uffd.contains(&Some(ctx))
        {
            call.references.keep_context(ctx);
        }
        call.set_soft_dirty(at, true);
        if source.anon_vma.is_some() {
            call.mm.add_zero_pages(zero);
            if copy.src == copy.process {
                call.anon_pages.share_within(call.mm, from, range.start);
            } else {
                let (src, dst) = (usize::from(copy.src.0), usize::from(copy.process.0));
                if let Ok([src, dst]) = self.mms.get_disjoint_mut([src, dst]) {
                    self.anon_pages.share((src, from), (dst, range.start));
                }
            }
        }
        *report = Some(made);
        if let Some(why) = &mut self.why {
            explain_copied(why, source_pages);
        }
        Ok(range.start.0)
    }

    /// Returns the index of the VMA that is the source of a copy.
    ///
    /// # Errors
    /// `EFAULT` where the range is not of one VMA that may be copied.
    fn source(&mut self, copy: &Copy, from: Range) -> Result<usize, Refusal> {
        self.mm(copy.src)
            .source(from)
            .or_else(|rule| self.syscall(copy.src).refuse(Errno::EFAULT, copy.how.function(), rule))
    }

    /// Returns the destination of a copy that may be made. Nothing is changed.
    ///
    /// # Errors
    /// In the order of the checks: `EINVAL` for no pages; `ESRCH` where the source process is not
    /// there; `EFAULT` where the range is not of one VMA that may be copied; `ENOMEM` where the
    /// limit allows fewer than two more VMAs; `ENOTSUPP` for a VMA that userfaultfd watches; those
    /// of [`Mm::destination`]; `ENOMEM` past the limit on pages, without the replaced pages;
    /// `EAGAIN` past the limit on locked pages where the copy is locked; `EINVAL` where source and
    /// destination overlap.
    fn permitted(&mut self, copy: &Copy) -> Result<Range, Refusal> {
        let function = copy.how.function();
        let from = Range::new(copy.page, copy.len);
        if from.is_empty() {
            let call = self.syscall(copy.process);
            return call.refuse(Errno::EINVAL, function, Rule::NoPages);
        }
        self.call(copy.src)?;
        let at = self.source(copy, from)?;
        let Vma { range, flags: source_flags, uffd, .. } = self.mm(copy.src).vmas()[at];
        let mut call = self.syscall(copy.process);
        call.may_map(2, function)?;
        let flags = match copy.how {
            How::ProcessVmMmap(_) if uffd.is_some() => {
                let rule = Rule::Watched(range);
                return self.syscall(copy.src).refuse(Errno::ENOTSUPP, function, rule);
            }
            How::ProcessVmMmap(flags) => flags,
            How::CopyVma(_) => CopyFlags::FIXED,
        };
        let (to, place) = call
            .mm
            .destination(copy.dst_page, copy.len, flags)
            .or_else(|(errno, rule)| call.refuse(errno, function, rule))?;
        let to = match place {
            Destination::HighestHole { .. } => call.chosen_hole(copy.len, to),
            Destination::Hint | Destination::Fixed => to,
        };
        if let (Some(why), How::ProcessVmMmap(_)) = (&mut call.why, copy.how) {
            why.destination = Some(place);
        }
        call.may_expand(copy.len.0.into(), call.mm.mapped_in(to))?;
        if source_flags.contains(VmFlags::VM_LOCKED) && copy.how.kind() == CopyKind::Copy {
            call.may_lock(copy.len.0.into(), Errno::EAGAIN, Function::MlockFutureCheck)?;
        }
        if copy.src == copy.process && from.overlaps(to) {
            return call.refuse(Errno::EINVAL, function, Rule::Overlap { from, to });
        }
        Ok(to)
    }
}

/// The points that a refused copy puts to the test.
fn refused_points(refusal: &Refusal) -> Vec<Point> {
    let overlap = matches!(refusal.rule, Rule::Overlap { .. }).then_some(Point(6));
    overlap.into_iter().chain([Point(10)]).collect()
}

/// Writes down the anonymous pages of the source, and the points that the copy puts to the test.
fn explain_copied(why: &mut Why, source_pages: PageSet) {
    if let Some(reason) = &mut why.copy {
        reason.anon_pages = source_pages;
        why.points = copied_points(reason);
    }
}

/// The points that a copy puts to the test: those that it could have broken.
fn copied_points(copy: &CopyReason) -> Vec<Point> {
    let tested = [
        // A new VMA, with an anon_vma and a chain to share.
        (1, copy.source.anon_vma.is_some() && copy.merged.is_none()),
        (2, copy.source_process != copy.process),
        (3, copy.source.flags.intersects(CLEARED)),
        (4, copy.merged.is_some()),
        (5, copy.redirected),
        (7, copy.source.flags.contains(VmFlags::VM_ACCOUNT)),
        (8, copy.rmap_locks.needed()),
        (9, copy.anon_pages != 0),
    ];
    tested.into_iter().filter(|(_, tested)| *tested).map(|(point, _)| Point(point)).collect()
}
