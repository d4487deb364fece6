//! Reasons: the decisions of one operation, each with the values that made it.
//!
//! [`Reference::step_explained`](crate::Reference::step_explained) returns a [`Why`]. The functions
//! that decide write it, so it cannot say other than what was decided.

use vmadiff_machine::operand::{Mode, PageOffset, Process};
use vmadiff_machine::{FileId, PageSet, UffdId, VmFlags, Vma};

use crate::range::Range;
use crate::refusal::Refusal;

/// The reasons of one operation. Objects have the numbers of the reference's observation.
#[derive(Clone, Debug, Default)]
pub struct Why {
    /// The refusal, where the operation returned an error.
    pub refusal: Option<Refusal>,
    /// Every question that was put to the merge rule, in order.
    pub merges: Vec<MergeDecision>,
    /// The call of `copy_vma()`, where there was one: by a copy or by a move.
    pub copy: Option<CopyReason>,
    /// The choice of a copy's destination, where `process_vm_mmap()` came to it.
    pub destination: Option<Destination>,
    /// The child's share in each VMA of the parent, in address order.
    pub fork: Vec<ForkReason>,
    /// The points of the contract that a copy put to the test; none where its caller is not there.
    pub points: Vec<Point>,
}

impl Why {
    /// Returns the question that `copy_vma()` put to the merge rule.
    pub fn copy_merge(&self) -> Option<&MergeDecision> {
        self.copy.as_ref().and(self.merges.last())
    }
}

/// A question to the merge rule: may a new range join its neighbours?
#[derive(Clone, Debug)]
pub struct MergeDecision {
    /// The process.
    pub process: Process,
    /// The new range, with the attributes that the rule compared.
    pub new: Vma,
    /// The VMA that the new range is a part of, where the operation changes what is mapped; `None`
    /// where the range was a hole.
    pub was: Option<Range>,
    /// The neighbour that ends where the new range begins.
    pub left: Option<Neighbour>,
    /// The neighbour that begins where the new range ends.
    pub right: Option<Neighbour>,
}

/// A neighbour of a new range, and the answer of the merge rule.
#[derive(Clone, Debug)]
pub struct Neighbour {
    /// The neighbour.
    pub range: Range,
    /// The conditions of the merge rule that failed, in the kernel's order. With none of them the
    /// two merged.
    pub barriers: Vec<MergeBarrier>,
}

impl Neighbour {
    /// Returns whether the new range merged with the neighbour.
    pub fn joined(&self) -> bool {
        self.barriers.is_empty()
    }
}

impl MergeDecision {
    /// The neighbours, from left to right.
    pub fn neighbours(&self) -> impl Iterator<Item = &Neighbour> {
        self.left.iter().chain(&self.right)
    }

    /// The VMA that the new range became a part of; `None` where it merged with no neighbour.
    pub fn merged(&self) -> Option<Range> {
        let joined = |near: &Option<Neighbour>| {
            near.as_ref().filter(|near| near.joined()).map(|near| near.range)
        };
        let (left, right) = (joined(&self.left), joined(&self.right));
        left.or(right)?;
        Some(Range {
            start: left.map_or(self.new.start, |left| left.start),
            end: right.map_or(self.new.end, |right| right.end),
        })
    }
}

/// A condition of the merge rule that failed, with both values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MergeBarrier {
    /// `vm_flags` differ in more than `VM_SOFTDIRTY`.
    Flags {
        /// The flags that one has and the other has not.
        differ: VmFlags,
    },
    /// The new range is special (`VM_SPECIAL`).
    Special {
        /// The flags that make it so.
        flags: VmFlags,
    },
    /// The files differ.
    File {
        /// The file of the new range.
        new: Option<FileId>,
        /// The file of the neighbour.
        near: Option<FileId>,
    },
    /// Two calls of `shmat()` mapped the segment, and each opened it anew: the open files differ.
    Attachment,
    /// The neighbour has a `vm_ops->close` handler.
    Close,
    /// The neighbour is the VMA that the new range was copied from, and it stays.
    Kept,
    /// The userfaultfd contexts differ.
    Uffd {
        /// The context of the new range.
        new: Option<UffdId>,
        /// The context of the neighbour.
        near: Option<UffdId>,
    },
    /// The policies differ.
    Policy {
        /// The policy of the new range.
        new: Mode,
        /// The policy of the neighbour.
        near: Mode,
    },
    /// The page offset does not run on from the lower of the two to the upper one.
    Offset {
        /// The offset at which the lower one begins.
        lower: PageOffset,
        /// The pages of the lower one.
        pages: u8,
        /// The offset at which the upper one begins.
        upper: PageOffset,
    },
    /// Both have an anon_vma, and not the same one.
    AnonVma,
    /// One of the two has no anon_vma, and the neighbour does not hang on exactly one.
    NotSingular {
        /// The one without an anon_vma: the new range or the neighbour.
        unfaulted: Range,
        /// The entries of the neighbour's chain.
        links: u8,
    },
    /// The left neighbour merges, and the anon_vma or chain of the right one is another.
    OtherNeighbour {
        /// The left neighbour.
        left: Range,
    },
}

/// The decisions of one call of `copy_vma()`.
#[derive(Clone, Debug)]
pub struct CopyReason {
    /// The process of the source.
    pub source_process: Process,
    /// The source VMA, as it was when `copy_vma()` was called.
    pub source: Vma,
    /// The pages of the source that are copied or moved. Of a move of no pages it is empty.
    pub from: Range,
    /// The process of the destination.
    pub process: Process,
    /// The new range, with the attributes that it was mapped with.
    pub new: Vma,
    /// The origin of the page offset.
    pub pgoff: OffsetReason,
    /// The kind of call.
    pub kind: CopyKind,
    /// The VMA that the new range was merged into, as it was after the merge.
    pub merged: Option<Vma>,
    /// The source is a part of the merged VMA: its pointer was redirected.
    pub redirected: bool,
    /// The reason for the rmap locks.
    pub rmap_locks: RmapLocks,
    /// The anonymous pages of the source range.
    pub anon_pages: PageSet,
}

/// The kind of a call of `copy_vma()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyKind {
    /// `mremap` moves the source. The moved range loses its userfaultfd context after the merge
    /// (`mremap_userfaultfd_prep()`).
    Move,
    /// A copy that keeps its flags and its context.
    Copy,
    /// A copy with flags cleared: the new range lost its context and each of these flags (point 3
    /// of the contract).
    CopyCleared(VmFlags),
}

/// The origin of the page offset of a copied or moved range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OffsetReason {
    /// The source is anonymous and was never faulted: the new range has the offset of its address.
    NeverFaulted,
    /// The new range has the offset of the source page that it shows.
    Source,
}

/// The reason why `copy_vma()` does or does not ask for the rmap locks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RmapLocks {
    /// The new range is a VMA of its own, which comes after its source in every tree: not needed.
    NewVma,
    /// The source was redirected to the merged VMA, so that both have one offset: needed.
    Redirected,
    /// The new range was merged into a VMA that is not the source's.
    Merged {
        /// The offset of the merged VMA.
        merged: PageOffset,
        /// The offset of the source VMA.
        source: PageOffset,
    },
}

impl RmapLocks {
    /// Returns whether the locks are needed: a reverse-map walk must not meet the copy before the
    /// source, or it sees a page that moves in neither.
    pub fn needed(self) -> bool {
        match self {
            RmapLocks::NewVma => false,
            RmapLocks::Redirected => true,
            RmapLocks::Merged { merged, source } => merged <= source,
        }
    }
}

/// The choice of the destination of `process_vm_mmap()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The hint is free.
    Hint,
    /// The address is fixed, and the mappings there are replaced.
    Fixed,
    /// The hint is not free: the copy goes to the end of the highest hole that is long enough.
    HighestHole {
        /// The range at the hint.
        hint: Range,
        /// The first VMA in that range.
        occupied: Range,
    },
}

/// The child's share in a VMA of the parent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ForkReason {
    /// The VMA of the parent.
    pub parent: Range,
    /// The rule of `dup_mmap()`.
    pub rule: ForkRule,
}

/// A rule of `dup_mmap()`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ForkRule {
    /// `VM_DONTCOPY`: the child does not get the VMA.
    LeftOut,
    /// `VM_WIPEONFORK`: the child's VMA has no pages, and an anon_vma at once.
    Wiped,
    /// The parent's VMA has no anon_vma, so the child's has none.
    NeverFaulted,
    /// The child's VMA hangs on the parent's chain and on an anon_vma of its own.
    Inherited {
        /// The own anon_vma is one of the parent's chain, taken up again.
        reused: bool,
    },
}

/// A point of the contract of a copy between address spaces, 1 to 10.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point(pub u8);

impl Point {
    /// The number of points.
    pub const COUNT: usize = 10;
}
