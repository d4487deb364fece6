//! Rules of later kernels: each is one behaviour in which a kernel after 5.2.1 differs.
//!
//! A reference [with rules](crate::Reference::with_rules) does exactly what 5.2.1 with these changes
//! does. A rule therefore accepts one behaviour and no other, and a program goes on after it. Without
//! rules the reference is 5.2.1.
//!
//! A rule is asked where the kernel makes the decision, with the state at that moment. It is
//! *applied* where the decision differs from that of 5.2.1;
//! [`Reference::applied`](crate::Reference::applied) returns the rules that an operation applied.

use std::cell::Cell;
use std::fmt;
use std::str::FromStr;

/// A version of Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version(pub u8, pub u8);

/// The error of a text that is no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a version such as 6.12")]
pub struct NoVersion;

impl FromStr for Version {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Version, NoVersion> {
        let number = |part: &str| part.parse().map_err(|_| NoVersion);
        let (major, minor) = text.split_once('.').ok_or(NoVersion)?;
        Ok(Version(number(major)?, number(minor)?))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0, self.1)
    }
}

/// The side of a rule that has a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// 5.2.1 is wrong, and the rule is the fix.
    Original,
    /// The later kernel is wrong, and a still later one mends it.
    Later,
    /// Neither: the behaviour was changed on purpose, or as a side effect that no caller may rely on.
    Neither,
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Bug::Original => "5.2.1",
            Bug::Later => "the later kernel",
            Bug::Neither => "neither",
        })
    }
}

/// An upstream commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Commit {
    /// The first twelve digits of the commit id; `None` where it was not verified.
    pub id: Option<&'static str>,
    /// The subject line.
    pub title: &'static str,
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (\"{}\")", self.id.unwrap_or("unverified"), self.title)
    }
}

/// The facts about a rule.
#[derive(Debug)]
pub struct About {
    /// The name, as reports show it.
    pub name: &'static str,
    /// The first version of Linux with this behaviour; `None` where it depends on the processor or the
    /// architecture.
    pub since: Option<Version>,
    /// The first later version without it.
    pub until: Option<Version>,
    /// The behaviour.
    pub text: &'static str,
    /// The kernel function that decides.
    pub function: &'static str,
    /// The upstream commit; `None` where the behaviour depends on the processor or the architecture.
    pub commit: Option<Commit>,
    /// The side that has a bug.
    pub bug: Bug,
    /// A program whose last operation shows the rule, beside a kernel with the rules that it
    /// [refines](Rule::refines).
    pub probe: &'static str,
}

macro_rules! rules {
    (@version -) => { None };
    (@version $major:literal $minor:literal) => { Some(Version($major, $minor)) };
    (@commit -) => { None };
    (@commit unverified $title:literal) => { Some(Commit { id: None, title: $title }) };
    (@commit $id:literal $title:literal) => { Some(Commit { id: Some($id), title: $title }) };
    ($($rule:ident $name:literal since ($($since:tt)*) until ($($until:tt)*) bug $bug:ident:
        $text:literal; $function:literal ($($commit:tt)*);)*) => {
        /// A behaviour in which later kernels differ from 5.2.1.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Rule { $(#[doc = $text] $rule,)* }

        impl Rule {
            /// Every rule, in the order of the versions that brought them.
            pub const ALL: &[Rule] = &[$(Rule::$rule,)*];

            /// Returns the facts about the rule.
            pub fn about(self) -> &'static About {
                match self { $(Rule::$rule => {
                    static ABOUT: About = About {
                        name: $name,
                        since: rules!(@version $($since)*),
                        until: rules!(@version $($until)*),
                        text: $text,
                        function: $function,
                        commit: rules!(@commit $($commit)*),
                        bug: Bug::$bug,
                        probe: include_str!(concat!("../probes/", $name, ".txt")),
                    };
                    &ABOUT
                })* }
            }
        }
    };
}

rules! {
    MadviseCold "madvise-cold" since (5 4) until (-) bug Neither:
        "madvise knows MADV_COLD, for memory that is neither locked nor of a device";
        "madvise_cold" (unverified "mm: introduce MADV_COLD");
    MadvisePageout "madvise-pageout" since (5 4) until (-) bug Neither:
        "madvise knows MADV_PAGEOUT, for memory that is neither locked nor of a device";
        "madvise_pageout" (unverified "mm: introduce MADV_PAGEOUT");
    MbindHoles "mbind-holes" since (5 5) until (-) bug Original:
        "mbind with a policy refuses a hole anywhere in the range; mbind with the default policy accepts every hole";
        "queue_pages_test_walk" (unverified "mm/mempolicy.c: fix checking unmapped holes for mbind");
    WipeonforkAnonVma "wipeonfork-anon-vma" since (5 7) until (-) bug Neither:
        "a VM_WIPEONFORK mapping has no anon_vma in the child until its first page";
        "dup_mmap" (unverified "mm: don't prepare anon_vma if vma has VM_WIPEONFORK");
    MremapDontunmap "mremap-dontunmap" since (5 7) until (-) bug Neither:
        "mremap with MREMAP_DONTUNMAP moves the pages of private anonymous memory, and leaves the old VMA without pages and unlocked";
        "move_vma" ("e346b3813067" "mm/mremap: add MREMAP_DONTUNMAP to mremap()");
    MremapDontunmapMarks "mremap-dontunmap-marks" since (5 7) until (5 11) bug Later:
        "mremap with MREMAP_DONTUNMAP of memory inside a VMA that is charged gives the next VMA VM_ACCOUNT, which was never charged";
        "move_vma" (unverified "mm/mremap: for MREMAP_DONTUNMAP check security_vm_enough_memory_mm()");
    UffdWriteprotect "uffd-writeprotect" since (5 7) until (-) bug Neither:
        "userfaultfd knows UFFDIO_WRITEPROTECT, also on architectures without write-protect mode: it answers ENOENT where no memory is watched in this mode";
        "userfaultfd_writeprotect" (unverified "userfaultfd: wp: add the writeprotect API to userfaultfd ioctl");
    MremapDontunmapFiles "mremap-dontunmap-files" since (5 13) until (-) bug Neither:
        "mremap with MREMAP_DONTUNMAP takes files and shared memory, too; a VMA of which all pages moved loses its anon_vma";
        "vma_to_resize" (unverified "mm: Extend MREMAP_DONTUNMAP to non-anonymous mappings");
    MadvisePopulate "madvise-populate" since (5 14) until (-) bug Neither:
        "madvise knows MADV_POPULATE_READ and MADV_POPULATE_WRITE, which fault pages in up to the first page that fails";
        "madvise_populate" (unverified "mm/madvise: introduce MADV_POPULATE_(READ|WRITE) to prefault page tables");
    MadvisePopulateWalks "madvise-populate-walks" since (5 14) until (6 10) bug Neither:
        "MADV_POPULATE_READ and MADV_POPULATE_WRITE go on behind a hole, and report it when all the rest is done";
        "madvise_populate" (unverified "mm/madvise: don't perform madvise VMA walk for MADV_POPULATE_(READ|WRITE)");
    MremapUnmappedFirst "mremap-unmapped-first" since (5 16) until (6 17) bug Neither:
        "mremap of an unmapped page answers EFAULT before it checks overlap and the limit on VMAs";
        "mremap" ("550a7d60bd5e" "mm, hugepages: add mremap() support for hugepage backed vma");
    MremapUnmapped "mremap-unmapped" since (5 16) until (-) bug Neither:
        "mremap of an unmapped page answers EFAULT, even to shrink, and changes nothing";
        "mremap" ("550a7d60bd5e" "mm, hugepages: add mremap() support for hugepage backed vma");
    MadviseCutEagain "madvise-cut-eagain" since (5 17) until (-) bug Neither:
        "madvise answers EAGAIN where a cut passes the limit on VMAs";
        "madvise_vma_behavior" ("ac1e9acc5acf" "mm: rearrange madvise code to allow for reuse");
    MlockOnfault "mlock-onfault" since (5 18) until (-) bug Neither:
        "populating skips memory that is locked on fault, even if no access to it is permitted";
        "populate_vma_page_range" ("b67bf49ce7aa" "mm/munlock: delete FOLL_MLOCK and FOLL_POPULATE");
    MunlockSoftDirty "munlock-soft-dirty" since (5 18) until (-) bug Neither:
        "where unlocked memory joins a neighbour, the neighbour takes its VM_SOFTDIRTY; before, it kept its own";
        "mlock_vma_pages_range" (unverified "mm/munlock: mlock_pte_range() when mlocking or munlocking");
    MadviseDontneedLocked "madvise-dontneed-locked" since (5 18) until (-) bug Neither:
        "madvise knows MADV_DONTNEED_LOCKED, which drops the pages of locked memory as well";
        "madvise_dontneed_free_valid_vma" (unverified "mm: madvise: MADV_DONTNEED_LOCKED");
    MremapGrowMerges "mremap-grow-merges" since (5 19) until (-) bug Neither:
        "the pages by which a mapping grows in place merge with the next VMA";
        "mremap" ("ca3d76b0aa80" "mm: add merging after mremap resize");
    AnonVmaReuse "anon-vma-reuse" since (6 0) until (-) bug Original:
        "fork reuses an anon_vma only if it has no VMA of its own and at most one child (CVE-2022-42703)";
        "anon_vma_clone" ("2555283eb40d" "mm/rmap: Fix anon_vma->degree ambiguity leading to double-reuse");
    MmapMergesNext "mmap-merges-next" since (6 1) until (6 12) bug Neither:
        "mmap merges with the next VMA first; the previous VMA then has to fit the next one";
        "mmap_region" ("4dd1b84140c1" "mm/mmap: use advanced maple tree API for mmap_region()");
    UffdOffset "uffd-offset" since (6 4) until (-) bug Original:
        "where a userfaultfd range begins inside a VMA, the merge rule gets the page offset of the range, not that of the VMA";
        "userfaultfd_register" ("5543d3c43c41" "mm/uffd: allow vma to merge as much as possible");
    MergeClosePrev "merge-close-prev" since (6 4) until (-) bug Neither:
        "a VMA with vm_ops->close grows upwards by a merge, unless the merge would remove another VMA with it";
        "is_mergeable_vma" (unverified "mm/mmap: start distinguishing if vma can be removed in mergeability test");
    MemoryMerge "memory-merge" since (6 4) until (-) bug Neither:
        "PR_SET_MEMORY_MERGE marks every mapping that KSM takes, and each new one after the merge rule was asked; marks that become equal merge nothing; a child inherits the setting";
        "ksm_enable_merge_any" ("d7597f59d1d3" "mm: add new api to enable ksm per process");
    MprotectUncharge "mprotect-uncharge" since (6 7) until (-) bug Neither:
        "anonymous memory without an anon_vma loses VM_ACCOUNT when mprotect makes it read-only";
        "mprotect_fixup" (unverified "mm/mprotect: allow unfaulted VMAs to be unaccounted on mprotect()");
    MadviseRemoveReadable "madvise-remove-readable" since (6 7) until (-) bug Neither:
        "madvise with MADV_REMOVE takes shared memory that is not writable now, if it can be made writable";
        "madvise_remove" (unverified "mm: drop the assumption that VM_SHARED always implies writable");
    Mseal "mseal" since (6 10) until (-) bug Neither:
        "mseal seals mappings: munmap, mmap, mremap and mprotect answer EPERM at a sealed VMA, and so does advice that discards anonymous memory which cannot be written";
        "do_mseal" (unverified "mseal: add mseal syscall");
    MmapCutsFirst "mmap-cuts-first" since (6 12) until (-) bug Neither:
        "an mmap that fails at the limit on pages leaves the cuts at both ends of its range";
        "mmap_region" ("224c1c702c08" "mm: move may_expand_vm() check in mmap_region()");
    MergeCloseNext "merge-close-next" since (6 12) until (-) bug Neither:
        "a VMA with vm_ops->close grows downwards by a merge, unless the merge would remove another VMA with it";
        "can_merge_remove_vma" (unverified "mm: refactor vma_merge() into modify-only vma_merge_existing_range()");
    MremapDontunmapLocked "mremap-dontunmap-locked" since (6 15) until (-) bug Later:
        "mremap with MREMAP_DONTUNMAP of locked memory adds the moved pages to locked_vm, although the old VMA is unlocked";
        "vrm_stat_account" (unverified "mm/mremap: complete refactor of move_vma()");
    UffdRemapLength "uffd-remap-length" since (6 15) until (-) bug Neither:
        "the message to the monitor of userfaultfd about a move that shrinks has the new length; before, it had the old one";
        "mremap_userfaultfd_complete" (unverified "mm/mremap: refactor mremap() system call implementation");
    MergeUnfaulted "merge-unfaulted" since (6 16) until (-) bug Original:
        "a faulted range merges with a VMA that was never faulted, unless the range descends from a fork; the pages by which a mapping grows always do";
        "is_mergeable_anon_vma" ("879bca0a2c4f" "mm/vma: fix incorrectly disallowed anonymous VMA merges");
    MremapSeveral "mremap-several" since (6 17) until (-) bug Neither:
        "a move without resizing moves every VMA of the range, and keeps the holes between them";
        "remap_move" ("d23cb648e365" "mm/mremap: permit mremap() move of multiple VMAs");
    MemoryMergeFirst "memory-merge-first" since (6 17) until (-) bug Original:
        "after PR_SET_MEMORY_MERGE a new mapping is marked before the merge rule is asked, so that it merges with a marked neighbour";
        "__mmap_region" (unverified "mm: prevent KSM from breaking VMA merging for new VMAs");
    MremapChecksFirst "mremap-checks-first" since (6 17) until (-) bug Original:
        "a move makes every check before it unmaps the destination";
        "check_prep_vma" ("a85dc37186a5" "mm/mremap: check remap conditions earlier");
    UffdUnregisterOther "uffd-unregister-other" since (6 17) until (-) bug Original:
        "a userfaultfd context cannot unregister a VMA that another context watches: EINVAL";
        "userfaultfd_unregister" (unverified "userfaultfd: prevent unregistering VMAs through a different userfaultfd");
    MremapDontunmapCuts "mremap-dontunmap-cuts" since (7 1) until (-) bug Original:
        "mremap with MREMAP_DONTUNMAP of locked memory cuts the VMA at both ends of the range first, so that the rest stays locked";
        "move_vma" (unverified "mm/mremap: fix locked_vm leak by splitting VMA for MREMAP_DONTUNMAP");
    MremapDontunmapApart "mremap-dontunmap-apart" since (7 1) until (-) bug Original:
        "the new VMA of mremap with MREMAP_DONTUNMAP does not merge with the old VMA";
        "copy_vma" (unverified "mm/mremap: fix locked_vm leak from MREMAP_DONTUNMAP self-merge");
    MremapDontunmapAlone "mremap-dontunmap-alone" since (-) until (-) bug Neither:
        "in stable releases of 6.1, the new VMA of mremap with MREMAP_DONTUNMAP beside an old VMA that was never faulted merges with no neighbour";
        "copy_vma" (-);
    MremapDontunmapOffset "mremap-dontunmap-offset" since (7 1) until (-) bug Original:
        "an old VMA of anonymous memory that loses its anon_vma to MREMAP_DONTUNMAP gets the page offset of its address";
        "move_vma" (unverified "mm/mremap: reset unfaulted VMA page offset for MREMAP_DONTUNMAP");
    ExecuteOnly "execute-only" since (-) until (-) bug Neither:
        "with protection keys, memory that may only be executed cannot be read";
        "arch_vma_access_permitted" (-);
    LowestHole "lowest-hole" since (-) until (-) bug Neither:
        "on User Mode Linux, a mapping that is moved or copied without an address goes to the lowest hole that is long enough";
        "arch_get_unmapped_area" (-);
    UffdWp "uffd-wp" since (-) until (-) bug Neither:
        "since 5.7, on architectures that have it, userfaultfd watches private anonymous memory in write-protect mode";
        "userfaultfd_register" (-);
    UffdWpNoEffect "uffd-wp-no-effect" since (-) until (-) bug Later:
        "on architectures without write-protect mode, 5.10 lets userfaultfd watch memory in this mode, and UFFDIO_WRITEPROTECT protects no page; 6.1 refuses the mode";
        "userfaultfd_register" (-);
    UffdWpFiles "uffd-wp-files" since (-) until (-) bug Neither:
        "since 5.19, on architectures that have it, userfaultfd watches files and shared memory in write-protect mode, too; fork copies the page tables of a VMA that is still watched in this mode";
        "vma_can_userfault" (-);
    UffdWpSeveral "uffd-wp-several" since (-) until (-) bug Neither:
        "since 6.4, on architectures that have it, UFFDIO_WRITEPROTECT takes a range of several VMAs, and passes over holes";
        "mwriteprotect_range" (-);
    UffdWpClears "uffd-wp-clears" since (-) until (-) bug Original:
        "since 6.13 and in stable releases, pages that are not watched any more are not write-protected either: after UFFDIO_UNREGISTER, after the context is closed and after a move";
        "userfaultfd_clear_vma" (-);
}

impl Rule {
    /// Returns the name of the rule.
    pub fn name(self) -> &'static str {
        self.about().name
    }

    /// Returns the rules that this rule refines: it changes nothing without them.
    pub fn refines(self) -> Rules {
        let flag = Rules::NONE.with(Rule::MremapDontunmap);
        match self {
            Rule::MremapDontunmapLocked
            | Rule::MremapDontunmapMarks
            | Rule::MremapDontunmapCuts
            | Rule::MremapDontunmapApart => flag,
            Rule::MremapDontunmapAlone => flag.with(Rule::MremapDontunmapApart),
            Rule::MremapDontunmapOffset => flag.with(Rule::MremapDontunmapFiles),
            Rule::MemoryMergeFirst => Rules::NONE.with(Rule::MemoryMerge),
            Rule::UffdWpFiles => Rules::NONE.with(Rule::UffdWp),
            Rule::UffdWpNoEffect | Rule::UffdWpSeveral | Rule::UffdWpClears => {
                Rules::NONE.with(Rule::UffdWp).with(Rule::UffdWriteprotect)
            }
            Rule::MadvisePopulateWalks => Rules::NONE.with(Rule::MadvisePopulate),
            _ => Rules::NONE,
        }
    }

    /// Returns the rule called `name`.
    pub fn named(name: &str) -> Option<Rule> {
        Rule::ALL.iter().copied().find(|rule| rule.name() == name)
    }
}

/// The fixes that stable releases took from later releases. A stable release from this number on is
/// known to have the fix; an earlier one may have it.
pub const BACKPORTED: [(Rule, &[(Version, u16)]); 4] = [
    (Rule::AnonVmaReuse, &[(Version(5, 10), 223)]),
    (Rule::MremapDontunmapCuts, &[(Version(6, 1), 192), (Version(6, 12), 117)]),
    (Rule::MremapDontunmapApart, &[(Version(6, 1), 192), (Version(6, 12), 117)]),
    (Rule::MremapDontunmapOffset, &[(Version(6, 1), 192), (Version(6, 12), 117)]),
];

/// A set of rules.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Rules(u64);

impl Rules {
    /// No rule: Linux 5.2.1.
    pub const NONE: Rules = Rules(0);

    /// Returns every rule whose version range has `version`: the behaviour of that release, without
    /// changes ported back to it. Rules without a first version are not among them.
    pub fn of_version(version: Version) -> Rules {
        let had = |rule: &Rule| {
            let About { since, until, .. } = *rule.about();
            since.is_some_and(|since| since <= version) && until.is_none_or(|until| version < until)
        };
        Rule::ALL.iter().copied().filter(had).collect()
    }

    /// Returns whether the set has `rule`.
    #[inline]
    pub fn has(self, rule: Rule) -> bool {
        self.0 >> rule as u32 & 1 == 1
    }

    /// Returns the set with `rule`.
    #[must_use]
    pub const fn with(self, rule: Rule) -> Rules {
        Rules(self.0 | 1 << rule as u32)
    }

    /// Returns the set without `rule`.
    #[must_use]
    pub fn without(self, rule: Rule) -> Rules {
        Rules(self.0 & !(1 << rule as u32))
    }

    /// Returns the rules that are in either set.
    #[must_use]
    pub fn union(self, other: Rules) -> Rules {
        Rules(self.0 | other.0)
    }

    /// Returns the rules that are in both sets.
    #[must_use]
    pub fn intersection(self, other: Rules) -> Rules {
        Rules(self.0 & other.0)
    }

    /// Returns whether the set has no rule.
    pub fn is_empty(self) -> bool {
        self == Rules::NONE
    }

    /// Returns the rules of the set, in the order of [`Rule::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Rule> {
        Rule::ALL.iter().copied().filter(move |rule| self.has(*rule))
    }
}

impl FromIterator<Rule> for Rules {
    fn from_iter<I: IntoIterator<Item = Rule>>(rules: I) -> Rules {
        rules.into_iter().fold(Rules::NONE, Rules::with)
    }
}

impl fmt::Display for Rules {
    /// The names, with commas between them.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Rule::name).collect();
        f.write_str(&names.join(", "))
    }
}

impl fmt::Debug for Rules {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rules({self})")
    }
}

/// The rules that hold, and those that the operation applied.
#[derive(Clone, Debug, Default)]
pub(crate) struct Later {
    pub(crate) hold: Rules,
    pub(crate) applied: Cell<Rules>,
}

impl Later {
    /// Returns whether `rule` holds and makes a difference here; then the rule is applied.
    #[inline]
    pub(crate) fn applies(&self, rule: Rule, differs: impl FnOnce() -> bool) -> bool {
        let applies = self.hold.has(rule) && differs();
        if applies {
            self.applied.set(self.applied.get().with(rule));
        }
        applies
    }
}
