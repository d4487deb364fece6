//! Seeded faults: each one a small deviation from `fixed`, of the kind a kernel developer makes.
//!
//! They measure the harness: a fault that is there and not found is a question that nobody asked.
//! The table below is the one place that says which there are. Each is a branch at its place,
//! `if self.has_fault(Fault::…)`, and a machine has one of them or none. `corpus/faults` has a
//! short program for each; what no program can show is not in the table.

use std::fmt;
use std::str::FromStr;

use crate::kernel::Kernel;

macro_rules! faults {
    ($($variant:ident $name:literal $class:literal $place:literal $what:literal;)*) => {
        /// One small deviation from [`Revision::Fixed`](crate::Revision::Fixed).
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Fault { $(#[doc = $what] $variant,)* }

        impl Fault {
            /// Every fault, by the function it is in.
            pub const ALL: &'static [Fault] = &[$(Fault::$variant,)*];

            /// Its name on the command line, such as `mask-no-locked`.
            pub const fn name(self) -> &'static str {
                match self { $(Fault::$variant => $name,)* }
            }

            /// The class of the divergence that its shortest known program shows.
            pub const fn class(self) -> &'static str {
                match self { $(Fault::$variant => $class,)* }
            }

            /// The kernel function it is in.
            pub const fn place(self) -> &'static str {
                match self { $(Fault::$variant => $place,)* }
            }

            /// What is wrong, in a line.
            pub const fn what(self) -> &'static str {
                match self { $(Fault::$variant => $what,)* }
            }

            /// The name of the machine that has it, such as `candidate:fixed+mask-no-locked`.
            pub(crate) const fn machine_name(self) -> &'static str {
                match self { $(Fault::$variant => concat!("candidate:fixed+", $name),)* }
            }
        }
    };
}

faults! {
    // The mask and the context.
    MaskNoUffdMissing "mask-no-uffd-missing" "flags" "copy_vma"
        "VM_UFFD_MISSING is left out of the mask of cleared flags";
    MaskNoMergeable "mask-no-mergeable" "flags" "copy_vma"
        "VM_MERGEABLE is left out of the mask of cleared flags";
    MaskNoLocked "mask-no-locked" "flags" "copy_vma"
        "VM_LOCKED is left out of the mask of cleared flags";
    MaskNoLockonfault "mask-no-lockonfault" "flags" "copy_vma"
        "VM_LOCKONFAULT is left out of the mask of cleared flags";
    MaskNoWipeonfork "mask-no-wipeonfork" "flags" "copy_vma"
        "VM_WIPEONFORK is left out of the mask of cleared flags";
    MaskNoDontcopy "mask-no-dontcopy" "flags" "copy_vma"
        "VM_DONTCOPY is left out of the mask of cleared flags";
    MaskClearsAccount "mask-clears-account" "flags" "copy_vma"
        "VM_ACCOUNT is in the mask of cleared flags as well";
    MaskMergeOnly "mask-merge-only" "flags" "copy_vma"
        "the mask applies to the merge, and the duplicate keeps the source's flags";
    MaskDuplicateOnly "mask-duplicate-only" "flags" "copy_vma"
        "the mask applies to the duplicate, and the merge is asked with the source's flags";
    MaskAlways "mask-always" "flags" "copy_vma"
        "the mask applies whatever clear_flags_ctx says";
    CtxKept "ctx-kept" "uffd" "copy_vma"
        "the userfaultfd context is kept, although its flags are cleared";
    CtxKeptInMerge "ctx-kept-in-merge" "merge" "copy_vma"
        "the merge is asked with the source's userfaultfd context";
    CtxKeptInDuplicate "ctx-kept-in-duplicate" "uffd" "copy_vma"
        "the duplicate keeps the source's userfaultfd context";

    // The aliasing check.
    MmTestDropped "mm-test-dropped" "aliasing" "copy_vma"
        "whether the source was swallowed is decided without comparing address spaces";
    MmTestInverted "mm-test-inverted" "aliasing" "copy_vma"
        "the source counts as swallowed where the address spaces differ";
    MmTestLate "mm-test-late" "aliasing" "copy_vma"
        "the source's vm_mm is read after the merge, which may have freed it";
    MmTestWrongPair "mm-test-wrong-pair" "aliasing" "copy_vma"
        "the merged VMA's vm_mm is compared with the destination's, not the source's";
    StartReadLate "start-read-late" "aliasing" "copy_vma"
        "the source's vm_start is read after the merge, which may have freed it";
    SwallowedStartExclusive "swallowed-start-exclusive" "aliasing" "copy_vma"
        "a source that starts where the merged VMA does counts as not swallowed";
    SwallowedStartEarly "swallowed-start-early" "aliasing" "copy_vma"
        "a source that starts a page below the merged VMA counts as swallowed";
    SwallowedEndInclusive "swallowed-end-inclusive" "assertion" "copy_vma"
        "a source that starts where the merged VMA ends counts as swallowed";
    SwallowedEndEarly "swallowed-end-early" "aliasing" "copy_vma"
        "a source that starts at the merged VMA's last page counts as not swallowed";
    NeverRedirected "never-redirected" "aliasing" "copy_vma"
        "the source pointer is never redirected";
    FaultedNotCleared "faulted-not-cleared" "assertion" "copy_vma"
        "faulted_in_anon_vma stays true for memory that was never faulted";

    // need_rmap_locks.
    RmapLocksStrict "rmap-locks-strict" "rmap-locks" "copy_vma"
        "need_rmap_locks is false where both VMAs have the same vm_pgoff";
    RmapLocksAlways "rmap-locks-always" "rmap-locks" "copy_vma"
        "need_rmap_locks is true after every merge";
    RmapLocksNever "rmap-locks-never" "rmap-locks" "copy_vma"
        "need_rmap_locks is false after every merge";
    RmapLocksReversed "rmap-locks-reversed" "rmap-locks" "copy_vma"
        "need_rmap_locks compares the two vm_pgoff the other way round";
    RmapLocksForDuplicate "rmap-locks-for-duplicate" "rmap-locks" "copy_vma"
        "need_rmap_locks is true for a duplicate";
    RmapLocksIgnored "rmap-locks-ignored" "rmap-locks" "process_vm_mmap"
        "the caller of copy_vma() throws need_rmap_locks away";

    // Page offsets.
    PgoffNotFitted "pgoff-not-fitted" "offset" "copy_vma"
        "anonymous memory that was never faulted keeps the source's offset";
    PgoffFittedForFiles "pgoff-fitted-for-files" "offset" "copy_vma"
        "a mapping of a file is given the offset that fits the new address";
    PgoffFittedWhenFaulted "pgoff-fitted-when-faulted" "offset" "copy_vma"
        "anonymous memory that was faulted is given the offset that fits the new address";
    CopyPgoffOfVma "copy-pgoff-of-vma" "offset" "process_vm_mmap"
        "the copy's offset is that of the source VMA, not of the address in it";
    MovePgoffOfVma "move-pgoff-of-vma" "offset" "move_vma"
        "the moved range's offset is that of the VMA, not of the address in it";

    // The duplicate.
    DuplicateMmNotSet "duplicate-mm-not-set" "errno" "copy_vma"
        "the duplicate's vm_mm stays the source's";
    DuplicateRangeNotSet "duplicate-range-not-set" "layout" "copy_vma"
        "the duplicate keeps the source's vm_start and vm_end";
    DuplicateEndNotSet "duplicate-end-not-set" "layout" "copy_vma"
        "the duplicate keeps the source's vm_end";
    DuplicatePgoffNotSet "duplicate-pgoff-not-set" "offset" "copy_vma"
        "the duplicate keeps the source's vm_pgoff";
    DuplicateNotCloned "duplicate-not-cloned" "anon-vma" "copy_vma"
        "anon_vma_clone() is forgotten for the duplicate";
    DuplicateClonedBackwards "duplicate-cloned-backwards" "assertion" "copy_vma"
        "anon_vma_clone() is called with its arguments the wrong way round";
    DuplicateForked "duplicate-forked" "anon-vma" "copy_vma"
        "the duplicate is given an anon_vma of its own, as in fork";
    DuplicateWithoutAnonVma "duplicate-without-anon-vma" "anon-vma" "copy_vma"
        "the duplicate has neither anon_vma nor chain";
    DuplicateWithoutPolicy "duplicate-without-policy" "layout" "copy_vma"
        "the duplicate's policy is dropped";
    DuplicateWithoutFile "duplicate-without-file" "layout" "copy_vma"
        "the duplicate's vm_file is dropped";
    MergeAskedWithoutPolicy "merge-asked-without-policy" "merge" "copy_vma"
        "the merge is asked with the default policy";
    LinksInSource "links-in-source" "errno" "copy_vma"
        "find_vma_links() searches the source's address space";

    // Whether VMAs can merge.
    MergeNotSingular "merge-not-singular" "merge" "is_mergeable_anon_vma"
        "a VMA whose chain came from a parent lends its anon_vma";
    MergeChainsDiffer "merge-chains-differ" "anon-vma" "is_mergeable_anon_vma"
        "VMAs that share an anon_vma merge although their chains differ";
    MergeAnonVmasDiffer "merge-anon-vmas-differ" "merge" "is_mergeable_anon_vma"
        "VMAs merge although their anon_vmas differ";
    MergeIgnoresPolicy "merge-ignores-policy" "layout" "vma_merge"
        "policies are not compared";
    MergeIgnoresFile "merge-ignores-file" "flags" "is_mergeable_vma"
        "files are not compared";
    MergeIgnoresCtx "merge-ignores-ctx" "uffd" "is_mergeable_vma"
        "userfaultfd contexts are not compared";
    MergeIgnoresLocked "merge-ignores-locked" "flags" "is_mergeable_vma"
        "VM_LOCKED keeps VMAs apart no more";
    MergeComparesSoftdirty "merge-compares-softdirty" "merge" "is_mergeable_vma"
        "VM_SOFTDIRTY keeps VMAs apart";
    MergeIgnoresPgoffBefore "merge-ignores-pgoff-before" "assertion" "can_vma_merge_before"
        "the offset of the VMA after the range is not looked at";
    MergeIgnoresPgoffAfter "merge-ignores-pgoff-after" "assertion" "can_vma_merge_after"
        "the offset of the VMA before the range is not looked at";
    MergePgoffOffByOne "merge-pgoff-off-by-one" "assertion" "can_vma_merge_after"
        "the offset of the VMA before the range must be one less than fits";

    // The eight cases.
    Case1ComparesNoAnonVmas "case-1-compares-no-anon-vmas" "assertion" "vma_merge"
        "cases 1 and 6: the anon_vmas of the VMAs on both sides are not compared";
    Case1NextNotTaken "case-1-next-not-taken" "merge" "vma_merge"
        "case 1 is taken for case 2: the next VMA stays";
    Case1NextStays "case-1-next-stays" "layout" "__vma_adjust"
        "case 1: the next VMA is swallowed and not removed";
    Case2OnePageShort "case-2-one-page-short" "layout" "vma_merge"
        "case 2: the previous VMA grows by one page less";
    Case3Pgoff "case-3-pgoff" "offset" "vma_merge"
        "case 3: the next VMA grows downwards and keeps its vm_pgoff";
    Case4Boundary "case-4-boundary" "flags" "vma_merge"
        "case 4: the border is moved one page less";
    Case4PrevNotCut "case-4-prev-not-cut" "layout" "vma_merge"
        "case 4 is taken for case 3: the next VMA grows, the previous one does not shrink";
    Case5NextNotCut "case-5-next-not-cut" "assertion" "__vma_adjust"
        "case 5: the previous VMA grows, the next one does not shrink";
    Case6TakenFor7 "case-6-taken-for-7" "merge" "vma_merge"
        "case 6 is taken for case 7: the VMA after the range stays";
    Case6NoImport "case-6-no-import" "assertion" "__vma_adjust"
        "case 6: the anon_vma of the last VMA is not imported where the middle one has none";
    Case7MapCount "case-7-map-count" "accounting" "__vma_adjust"
        "case 7: map_count is not lowered";
    Case8WrongVmaExpanded "case-8-wrong-vma-expanded" "aliasing" "__vma_adjust"
        "case 8: the range's VMA grows and the next one is removed";
    Case8Pgoff "case-8-pgoff" "offset" "vma_merge"
        "case 8: the next VMA grows downwards and keeps its vm_pgoff";
    AdjustNoImport "adjust-no-import" "assertion" "__vma_adjust"
        "a VMA that grows does not import the anon_vma of the one it takes pages from";
    AdjustImportsNoChain "adjust-imports-no-chain" "anon-vma" "__vma_adjust"
        "a VMA that grows imports the anon_vma and not the chain";
    AdjustNextPgoff "adjust-next-pgoff" "offset" "__vma_adjust"
        "cases 4 and 5: the next VMA's border moves, its vm_pgoff does not";

    // split_vma().
    SplitBelowPgoff "split-below-pgoff" "offset" "__split_vma"
        "the upper half keeps the vm_pgoff of the whole where the lower one is new";
    SplitAbovePgoff "split-above-pgoff" "offset" "__split_vma"
        "the upper half keeps the vm_pgoff of the whole where it is new";
    SplitNotCloned "split-not-cloned" "anon-vma" "__split_vma"
        "anon_vma_clone() is forgotten for the new half";
    SplitLimitOffByOne "split-limit-off-by-one" "errno" "split_vma"
        "one mapping more than the limit is allowed";
    SplitEndForgotten "split-end-forgotten" "flags" "split_vma"
        "a range inside a VMA is split off at its start only";

    // anon_vmas.
    CloneNewestFirst "clone-newest-first" "anon-vma" "anon_vma_clone"
        "the chain is cloned in the wrong order";
    ReuseDegreeThree "reuse-degree-three" "anon-vma" "anon_vma_clone"
        "an anon_vma with two children is taken up again as well";
    ReuseNever "reuse-never" "anon-vma" "anon_vma_clone"
        "no anon_vma is ever taken up again";
    ReuseForgetsParent "reuse-forgets-parent" "anon-vma" "anon_vma_clone"
        "the parent's own anon_vma may be taken up again as well";
    ForkDegreeMissed "fork-degree-missed" "anon-vma" "anon_vma_fork"
        "the parent's degree is not raised for the child";
    ForkRootNotSet "fork-root-not-set" "assertion" "anon_vma_fork"
        "the child's anon_vma is its own root";
    NeighboursAnonVmaIgnored "neighbours-anon-vma-ignored" "anon-vma" "anon_vma_prepare"
        "a neighbour's anon_vma is never taken";

    // fork().
    ForkKeepsLocked "fork-keeps-locked" "flags" "dup_mmap"
        "VM_LOCKED is kept in the child";
    ForkKeepsLockonfault "fork-keeps-lockonfault" "flags" "dup_mmap"
        "VM_LOCKONFAULT is kept in the child";
    ForkKeepsLockedVm "fork-keeps-locked-vm" "accounting" "dup_mmap"
        "locked_vm is kept in the child";
    ForkKeepsCtx "fork-keeps-ctx" "uffd" "dup_userfaultfd"
        "the userfaultfd context is kept in the child";
    ForkKeepsUffdFlags "fork-keeps-uffd-flags" "flags" "dup_userfaultfd"
        "the userfaultfd flags are kept in the child";
    ForkCopiesDontcopy "fork-copies-dontcopy" "layout" "dup_mmap"
        "VM_DONTCOPY mappings are copied";
    ForkCountsDontcopy "fork-counts-dontcopy" "accounting" "dup_mmap"
        "total_vm of the child counts VM_DONTCOPY mappings";
    ForkKeepsWiped "fork-keeps-wiped" "anon-vma" "dup_mmap"
        "the pages of VM_WIPEONFORK mappings are kept";
    ForkWipedAnonVma "fork-wiped-anon-vma" "anon-vma" "dup_mmap"
        "VM_WIPEONFORK mappings hang on the parent's anon_vmas";
    ForkCommittedMissed "fork-committed-missed" "accounting" "dup_mmap"
        "the child's pages are not charged";
    ForkPagesNotCopied "fork-pages-not-copied" "anon-vma" "dup_mmap"
        "copy_page_range() is forgotten";

    // munmap().
    UnmapLockedVm "unmap-locked-vm" "accounting" "__do_munmap"
        "locked_vm is not lowered";
    UnmapCommitted "unmap-committed" "accounting" "remove_vma_list"
        "committed memory is not given back";
    UnmapLimitIgnored "unmap-limit-ignored" "errno" "__do_munmap"
        "the limit on mappings is not looked at where a hole is made";
    UnmapLimitForEdges "unmap-limit-for-edges" "errno" "__do_munmap"
        "the limit on mappings is looked at where no hole is made, too";
    UnmapEndNotSplit "unmap-end-not-split" "layout" "__do_munmap"
        "the last VMA is not split and goes as a whole";
    UnmapPagesStay "unmap-pages-stay" "anon-vma" "unmap_region"
        "the pages are not dropped";

    // mremap().
    MoveKeepsUffd "move-keeps-uffd" "flags" "mremap_userfaultfd_prep"
        "a moved mapping stays watched";
    MoveOverlapAbove "move-overlap-above" "errno" "mremap_to"
        "a destination that begins where the source ends is refused";
    MoveOverlapBelow "move-overlap-below" "errno" "mremap_to"
        "a destination that ends where the source begins is refused";
    MoveOverlapAboveMissed "move-overlap-above-missed" "errno" "mremap_to"
        "a destination that begins at the source's last page is not refused";
    MoveLimitOffByOne "move-limit-off-by-one" "errno" "mremap_to"
        "one mapping less than the limit is allowed";
    MoveAccountNotHidden "move-account-not-hidden" "accounting" "move_vma"
        "VM_ACCOUNT is not hidden while the old range is unmapped";
    MoveAccountNotRestored "move-account-not-restored" "flags" "move_vma"
        "VM_ACCOUNT is not set again on what stays of the source";
    MoveAccountNotRestoredTwice "move-account-not-restored-twice" "flags" "move_vma"
        "VM_ACCOUNT is set again on the lower of two remainders only";
    MoveLockedVm "move-locked-vm" "accounting" "move_vma"
        "locked_vm is not raised for the new range";
    MoveTotalVmOfOld "move-total-vm-of-old" "accounting" "move_vma"
        "total_vm is raised by the old length";
    MoveStaleSource "move-stale-source" "aliasing" "move_vma"
        "the source pointer of before copy_vma() is used after it";
    MovePagesStay "move-pages-stay" "anon-vma" "move_page_tables"
        "the pages are not moved";
    GrowCommittedMissed "grow-committed-missed" "accounting" "vma_to_resize"
        "what a mapping grows by is not charged";
    GrowLockedVm "grow-locked-vm" "accounting" "mremap"
        "locked_vm is not raised where a mapping grows in place";
    GrowLockLimitIgnored "grow-lock-limit-ignored" "errno" "vma_to_resize"
        "a locked mapping may grow past the limit";
    DuplicatePrivateAllowed "duplicate-private-allowed" "errno" "vma_to_resize"
        "an old length of zero is allowed for private mappings";
    CoverOffByOne "cover-off-by-one" "aliasing" "find_vma_without_flags"
        "a range may end one page past the VMA";

    // process_vm_mmap().
    CopyKeepsFlags "copy-keeps-flags" "flags" "process_vm_mmap"
        "copy_vma() is told to keep flags and context";
    CopyTotalVmMissed "copy-total-vm-missed" "accounting" "process_vm_mmap"
        "total_vm is not raised";
    CopyTotalVmTwice "copy-total-vm-twice" "accounting" "process_vm_mmap"
        "total_vm is raised twice where the copy is merged";
    CopyTotalVmOfSource "copy-total-vm-of-source" "accounting" "process_vm_mmap"
        "total_vm is raised in the source's address space";
    CopyDataVmMissed "copy-data-vm-missed" "accounting" "process_vm_mmap"
        "data_vm is not raised";
    CopyCommittedMissed "copy-committed-missed" "accounting" "process_vm_mmap"
        "the copy is not charged";
    CopyCommittedTwice "copy-committed-twice" "accounting" "process_vm_mmap"
        "a copy that is merged is charged twice";
    CopyLockedVmMissed "copy-locked-vm-missed" "accounting" "process_vm_mmap"
        "locked_vm is not raised";
    CopyLockedVmOfSource "copy-locked-vm-of-source" "accounting" "process_vm_mmap"
        "locked_vm is raised where the source is locked and the copy is not";
    CopyNotsuppFirst "copy-notsupp-first" "errno" "mmap_process_vm"
        "a userfaultfd context is looked for before the source range is checked";
    CopyNotsuppForgotten "copy-notsupp-forgotten" "errno" "mmap_process_vm"
        "a source with a userfaultfd context is not refused";
    CopyExistLate "copy-exist-late" "errno" "mmap_process_vm"
        "the limit on pages is looked at before FIXED_NOREPLACE";
    CopyOverlapFirst "copy-overlap-first" "errno" "mmap_process_vm"
        "overlap is looked for before limits";
    CopyNoreplaceIgnored "copy-noreplace-ignored" "errno" "mmap_process_vm"
        "FIXED_NOREPLACE is taken for FIXED";
    CopyHintIgnored "copy-hint-ignored" "layout" "get_unmapped_area"
        "a hint that is free is not taken";
    CopyHintForced "copy-hint-forced" "layout" "get_unmapped_area"
        "a hint is taken for FIXED";
    CopyHoleTooShort "copy-hole-too-short" "layout" "unmapped_area_topdown"
        "a hole that is one page too short will do";
    CopyLimitOffByOne "copy-limit-off-by-one" "errno" "mmap_process_vm"
        "one mapping less than the limit is allowed";
    CopyLimitCountsReplaced "copy-limit-counts-replaced" "errno" "mmap_process_vm"
        "the limit on pages counts those that are replaced";
    CopyLockLimitIgnored "copy-lock-limit-ignored" "errno" "mmap_process_vm"
        "a locked copy may pass the limit on locked memory";
    CopyNotUnmapped "copy-not-unmapped" "errno" "do_mmap_process_vm"
        "what is mapped at the destination is not unmapped";
    CopyOverlapAbove "copy-overlap-above" "errno" "mmap_process_vm"
        "a destination that begins where the source ends is refused";
    CopyOverlapBelow "copy-overlap-below" "errno" "mmap_process_vm"
        "a destination that ends where the source begins is refused";
    CopyOverlapAboveMissed "copy-overlap-above-missed" "aliasing" "mmap_process_vm"
        "a destination that begins at the source's last page is not refused";
    CopyOverlapBelowMissed "copy-overlap-below-missed" "aliasing" "mmap_process_vm"
        "a destination that ends with the source's first page is not refused";
    CopyOverlapAnyMm "copy-overlap-any-mm" "errno" "mmap_process_vm"
        "ranges of different address spaces overlap, too";
    CopyPagesMissed "copy-pages-missed" "anon-vma" "do_mmap_process_vm"
        "copy_page_range() is forgotten";
    CopyMapcountMissed "copy-mapcount-missed" "anon-vma" "copy_page_range"
        "pages are shared and their mapcount is not raised";

    // The other calls.
    MunlockKeepsLockonfault "munlock-keeps-lockonfault" "flags" "munlock_vma_pages_range"
        "VM_LOCKONFAULT is kept";
    MlockCountsTwice "mlock-counts-twice" "accounting" "mlock_fixup"
        "locked_vm is raised for what is locked already";
    MlockLimitCountsTwice "mlock-limit-counts-twice" "errno" "do_mlock"
        "what is locked already counts twice against the limit";
    MlockHoleIgnored "mlock-hole-ignored" "errno" "apply_vma_lock_flags"
        "a hole is no error";
    MmapLockedVm "mmap-locked-vm" "accounting" "mmap_region"
        "locked_vm is not raised";
    MmapNoreserveCharged "mmap-noreserve-charged" "flags" "accountable_mapping"
        "MAP_NORESERVE is ignored";
    MmapNotPopulated "mmap-not-populated" "anon-vma" "do_mmap"
        "a locked mapping is not populated";
    MadviseHoleIgnored "madvise-hole-ignored" "errno" "madvise"
        "a hole is no error";
    DontneedLocked "dontneed-locked" "errno" "madvise_dontneed_free"
        "locked pages are dropped";
    WipeonforkOfFiles "wipeonfork-of-files" "errno" "madvise_behavior"
        "mappings of files take MADV_WIPEONFORK";
    MbindHoleIgnored "mbind-hole-ignored" "errno" "queue_pages_test_walk"
        "a hole is no error";
    MbindMergesOldPolicy "mbind-merges-old-policy" "merge" "mbind_range"
        "the merge is asked with the old policy";
    RegisterNotBusy "register-not-busy" "errno" "userfaultfd_register"
        "a mapping of another context is not refused";
    RegisterNotWritable "register-not-writable" "errno" "userfaultfd_register"
        "a mapping that may never be written is not refused";
    UnregisterKeepsFlags "unregister-keeps-flags" "flags" "userfaultfd_unregister"
        "the userfaultfd flags are kept";
    MprotectChargeMissed "mprotect-charge-missed" "accounting" "mprotect_fixup"
        "private memory that becomes writable is not charged";
    MprotectDataVm "mprotect-data-vm" "accounting" "mprotect_fixup"
        "data_vm stays what it was for the old permissions";
    MprotectMayIgnored "mprotect-may-ignored" "errno" "do_mprotect_pkey"
        "what a mapping may be given is not looked at";
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no fault is called `{0}`: `vmadiff faults` lists them")]
pub struct UnknownFault(pub String);

impl FromStr for Fault {
    type Err = UnknownFault;

    /// Reads a [`Fault::name`].
    ///
    /// # Errors
    /// [`UnknownFault`] where no fault has that name.
    fn from_str(text: &str) -> Result<Fault, UnknownFault> {
        Fault::ALL
            .iter()
            .copied()
            .find(|fault| fault.name() == text)
            .ok_or_else(|| UnknownFault(text.to_owned()))
    }
}

impl Kernel {
    /// Whether the kernel has this fault.
    #[inline]
    pub(crate) fn has_fault(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }
}
