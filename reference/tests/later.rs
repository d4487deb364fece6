//! A rule of later kernels changes the behaviour that it names, and no other.

use vmadiff_machine::{Errno, Machine as _, Observation, Program, VmFlags};
use vmadiff_reference::Reference;
use vmadiff_reference::function::Function;
use vmadiff_reference::later::{About, Bug, Commit, Rule, Rules, Version};

/// Runs a program, and returns what the last operation showed and the rules that each operation
/// applied.
fn run(text: &str, rules: Rules) -> (Observation, Vec<Rules>) {
    let program: Program = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    let (mut reference, mut seen) = (Reference::with_rules(rules), Observation::default());
    reference.reset(&program.limits);
    let mut applied = Vec::new();
    for op in &program.ops {
        reference.step(op, &mut seen);
        applied.push(reference.applied());
    }
    (seen, applied)
}

fn all() -> Rules {
    Rule::ALL.iter().copied().collect()
}

/// Returns whether the last operation of a program shows something else with a rule.
fn shows(text: &str, rule: Rule) -> bool {
    let text_of =
        |seen: Observation| format!("{:?} {:?} {:?}", seen.result, seen.messages, seen.spaces);
    let later = run(text, rule.refines().with(rule)).0;
    text_of(later) != text_of(run(text, rule.refines()).0)
}

#[test]
fn a_rule_changes_the_last_operation_of_its_program() {
    for &rule in Rule::ALL {
        let text = rule.about().probe;
        assert!(shows(text, rule), "{}", rule.name());
        let (_, applied) = run(text, rule.refines().with(rule));
        assert!(applied.iter().any(|rules| rules.has(rule)), "{}", rule.name());
    }
}

#[test]
fn a_rule_that_does_not_hold_changes_nothing_and_is_not_applied() {
    for &rule in Rule::ALL {
        let text = rule.about().probe;
        let (_, applied) = run(text, Rules::NONE);
        assert!(applied.iter().all(|rules| rules.is_empty()), "{}: {applied:?}", rule.name());
        let (_, applied) = run(text, rule.refines());
        assert!(applied.iter().all(|rules| !rules.has(rule)), "{}: {applied:?}", rule.name());
        let (_, applied) = run(text, all().without(rule));
        assert!(applied.iter().all(|rules| !rules.has(rule)), "{}: {applied:?}", rule.name());
    }
}

/// Programs that come near a rule, and whose last operation the rule must not change.
const NEAR: &[(Rule, &str)] = &[
    // A hole that 5.2.1 refuses as well, and a range without holes.
    (Rule::MbindHoles, "mmap 0 1 1 rw anon_private\nmbind 0 0 2 PREFERRED"),
    (Rule::MbindHoles, "mmap 0 0 2 rw anon_private\nmbind 0 0 2 PREFERRED"),
    (Rule::WipeonforkAnonVma, "mmap 0 0 2 rw anon_private\ntouch 0 0 1\nfork 0"),
    // A move without the flag, a move with resizing, and a move of a file mapping.
    (
        Rule::MremapDontunmap,
        "mmap 0 1 3 rw anon_private\ntouch 0 1 1\nmremap 0 1 2 2 MAYMOVE|FIXED 8",
    ),
    (
        Rule::MremapDontunmap,
        "mmap 0 1 3 rw anon_private\ntouch 0 1 1\nmremap 0 1 2 1 MAYMOVE|FIXED|DONTUNMAP 8",
    ),
    (
        Rule::MremapDontunmap,
        "mmap 0 1 3 rw file0_private\nmremap 0 1 2 2 MAYMOVE|FIXED|DONTUNMAP 8",
    ),
    (
        Rule::MremapDontunmapFiles,
        "mmap 0 1 3 rw anon_private\ntouch 0 1 1\nmremap 0 1 2 2 MAYMOVE|FIXED|DONTUNMAP 8",
    ),
    (
        Rule::MremapDontunmapLocked,
        "mmap 0 1 3 rw anon_private\ntouch 0 1 1\nmremap 0 1 2 2 MAYMOVE|FIXED|DONTUNMAP 8",
    ),
    // The copy is not adjacent, or another VMA stands between.
    (
        Rule::MremapDontunmapApart,
        "mmap 0 1 3 rw anon_private\ntouch 0 1 1\nmremap 0 1 2 2 MAYMOVE|FIXED 4",
    ),
    // The range ends where its VMA ends, or nothing is charged.
    (
        Rule::MremapDontunmapMarks,
        "mmap 0 0 3 rw anon_private\nmmap 0 3 1 rw file0_shared\nmremap 0 1 2 2 MAYMOVE|FIXED|DONTUNMAP 8",
    ),
    (
        Rule::MremapDontunmapMarks,
        "mmap 0 0 3 r anon_private\nmmap 0 3 1 rw file0_shared\nmremap 0 1 1 1 MAYMOVE|FIXED|DONTUNMAP 8",
    ),
    (
        Rule::UffdRemapLength,
        "uffd_open 0 0 REMAP\nmmap 0 0 2 rw anon_private\nuffd_register 0 0 2\nmremap 0 0 2 3 MAYMOVE|FIXED 8",
    ),
    (
        Rule::UffdRemapLength,
        "mmap 0 0 2 rw anon_private\nuffd_register 0 0 2\nmremap 0 0 2 1 MAYMOVE|FIXED 8",
    ),
    (Rule::MremapUnmappedFirst, "mmap 0 0 1 rw anon_private\nmremap 0 0 1 1 MAYMOVE|FIXED 0"),
    (Rule::MremapUnmapped, "mmap 0 0 2 rw anon_private\nmremap 0 0 2 1"),
    (Rule::MremapUnmapped, "mremap 0 0 1 1 MAYMOVE|FIXED 0"),
    // ENOMEM for a hole stays ENOMEM, and so does the ENOMEM of another call.
    (Rule::MadviseCutEagain, "mmap 0 0 3 rw anon_private\nmadvise 0 1 4 RANDOM"),
    (Rule::MadviseCutEagain, "limits map_count=2\nmmap 0 0 3 rw anon_private\nmprotect 0 1 1 r"),
    (Rule::MadviseCold, "mmap 0 0 1 rw special\nmadvise 0 0 1 COLD"),
    (Rule::MadvisePageout, "mmap 0 0 1 rw special\nmadvise 0 0 1 PAGEOUT"),
    (Rule::MadvisePopulate, "mmap 0 0 1 wx anon_private\nmadvise 0 0 1 POPULATE_READ"),
    (Rule::MadvisePopulate, "mmap 0 0 1 rw special\nmadvise 0 0 1 POPULATE_WRITE"),
    (Rule::MadvisePopulateWalks, "mmap 0 0 1 r anon_private\nmadvise 0 0 2 POPULATE_READ"),
    (Rule::MadviseRemoveReadable, "mmap 0 0 1 r file0_private\nmadvise 0 0 1 REMOVE"),
    (Rule::MadviseRemoveReadable, "mmap 0 0 1 r file0_shared LOCKED\nmadvise 0 0 1 REMOVE"),
    (Rule::MadviseRemoveReadable, "mmap 0 0 1 rw file0_shared\nmadvise 0 0 1 REMOVE"),
    (Rule::MadviseDontneedLocked, "mmap 0 0 1 rw special\nmadvise 0 0 1 DONTNEED_LOCKED"),
    // A mapping of a process that has not made the call, and memory that KSM does not take.
    (Rule::MemoryMerge, "mmap 0 0 1 rw anon_private\nmmap 0 1 1 rw anon_private"),
    (Rule::MemoryMerge, "mmap 0 0 1 rw anon_private\nmadvise 0 0 1 MERGEABLE"),
    // There is no neighbour, or none that fits with the mark or without it.
    (Rule::MemoryMergeFirst, "memory_merge 0 1\nmmap 0 0 1 rw anon_private"),
    (
        Rule::MemoryMergeFirst,
        "memory_merge 0 1\nmmap 0 0 1 rw anon_private\nmmap 0 1 1 r anon_private",
    ),
    (
        Rule::MemoryMergeFirst,
        "memory_merge 0 1\nmmap 0 0 1 rw file0_shared\nmmap 0 1 1 rw file0_shared - 1",
    ),
    (Rule::Mseal, "mmap 0 0 1 rw anon_private\nmprotect 0 0 1 r"),
    // What is locked brings its flag along on every kernel.
    (
        Rule::MunlockSoftDirty,
        "mmap 0 0 1 r anon_private LOCKED\nclear_refs 0\nmmap 0 1 1 r anon_private\nmlock 0 1 1",
    ),
    (Rule::MlockOnfault, "mmap 0 0 1 - anon_private\nmlock 0 0 1 0"),
    (Rule::MlockOnfault, "mmap 0 0 1 - anon_private\nmlock 0 0 2 1"),
    // The next mapping has other flags, or is not adjacent.
    (
        Rule::MremapGrowMerges,
        "mmap 0 0 1 rw anon_private\nmmap 0 2 1 r anon_private\nmremap 0 0 1 2",
    ),
    (
        Rule::MremapGrowMerges,
        "mmap 0 0 1 rw anon_private\nmmap 0 3 1 rw anon_private\nmremap 0 0 1 2",
    ),
    (Rule::AnonVmaReuse, "mmap 0 0 2 rw anon_private\ntouch 0 0 1\nfork 0\nfork 1"),
    (Rule::AnonVmaReuse, "mmap 0 0 1 rw anon_private\ntouch 0 0 1\nfork 0\nfork 1\nexit 1\nfork 2"),
    // The first child's anon_vma no longer has a VMA of its own, but it has two children.
    (
        Rule::AnonVmaReuse,
        "mmap 0 0 1 rw anon_private\ntouch 0 0 1\nfork 0\nfork 1\nfork 1\nexit 1\nfork 2",
    ),
    (
        Rule::MmapMergesNext,
        "mmap 0 0 1 rw anon_private\nmmap 0 2 1 rw anon_private\nmmap 0 1 1 rw anon_private",
    ),
    (
        Rule::UffdOffset,
        "mmap 0 0 2 rw anon_private\nmmap 0 2 2 rw anon_private\nuffd_register 0 2 2 0\n\
         uffd_register 0 0 2 0",
    ),
    // The memory was faulted, is of a file, or stays writable.
    (Rule::MprotectUncharge, "mmap 0 0 1 rw anon_private\ntouch 0 0 1\nmprotect 0 0 1 r"),
    (Rule::MprotectUncharge, "mmap 0 0 1 rw file0_private\nmprotect 0 0 1 r"),
    (Rule::MprotectUncharge, "mmap 0 0 1 rw anon_private\nmprotect 0 0 1 rwx"),
    (Rule::MmapCutsFirst, "mmap 0 0 2 rw anon_private\nmmap 0 1 7 rw anon_private"),
    (
        Rule::MmapCutsFirst,
        "limits map_count=1\nmmap 0 0 3 rw anon_private\nmmap 0 1 1 r file0_shared",
    ),
    // Both ranges were faulted, or the range descends from a fork.
    (
        Rule::MergeUnfaulted,
        "mmap 0 0 1 r anon_private\nmmap 0 1 1 rw anon_private\nmprotect 0 0 1 rw\n\
         mprotect 0 0 1 r\nmprotect 0 1 1 r",
    ),
    (
        Rule::MergeUnfaulted,
        "mmap 0 0 1 r anon_private\nmmap 0 1 2 wx anon_private\ntouch 0 2 1\nfork 0\n\
         mprotect 1 0 2 w",
    ),
    // The range is all of its VMA, which would go.
    (Rule::MergeClosePrev, "shmat 0 0\nmprotect 0 1 3 r\nmprotect 0 1 3 rw"),
    (Rule::MergeCloseNext, "shmat 0 0\nmprotect 0 0 1 r\nmprotect 0 0 1 rw"),
    // The VMAs are of two calls of shmat().
    (Rule::MergeClosePrev, "shmat 0 0\nmunmap 0 3 1\nshmat 0 20\nmremap 0 23 1 1 MAYMOVE|FIXED 3"),
    (Rule::MremapSeveral, "mmap 0 0 3 rw anon_private\nmremap 0 0 3 3 MAYMOVE|FIXED 10"),
    (
        Rule::MremapSeveral,
        "mmap 0 0 1 rw anon_private\nmmap 0 2 1 r anon_private\nmremap 0 0 3 4 MAYMOVE|FIXED 10",
    ),
    (Rule::MremapChecksFirst, "mmap 0 0 2 rw anon_private\nmremap 0 0 1 1 MAYMOVE|FIXED 1"),
    (
        Rule::UffdUnregisterOther,
        "mmap 0 0 1 rw anon_private\nuffd_register 0 0 1 0\nuffd_unregister 0 0 1 0",
    ),
    // All of the VMA moves; memory that is not locked; a move without the flag.
    (
        Rule::MremapDontunmapCuts,
        "mmap 0 1 2 rw anon_private LOCKED\nmremap 0 1 2 2 MAYMOVE|FIXED|DONTUNMAP 8",
    ),
    (
        Rule::MremapDontunmapCuts,
        "mmap 0 1 3 rw anon_private\nmremap 0 1 2 2 MAYMOVE|FIXED|DONTUNMAP 8",
    ),
    (
        Rule::MremapDontunmapCuts,
        "mmap 0 1 3 rw anon_private LOCKED\nmremap 0 1 2 2 MAYMOVE|FIXED 8",
    ),
    // Another neighbour, a place that is not beside the source, and a move without the flag.
    (
        Rule::MremapDontunmapApart,
        "mmap 0 1 1 rw anon_private\nmmap 0 7 1 rw anon_private\n\
         mremap 0 1 1 1 MAYMOVE|FIXED|DONTUNMAP 8",
    ),
    (Rule::MremapDontunmapApart, "mmap 0 1 2 rw anon_private\nmremap 0 1 1 1 MAYMOVE|FIXED 0"),
    // The page offset is that of the address already; a part of a VMA; a file.
    (
        Rule::MremapDontunmapOffset,
        "mmap 0 1 1 rw anon_private\ntouch 0 1 1\nmremap 0 1 1 1 MAYMOVE|FIXED|DONTUNMAP 8",
    ),
    (
        Rule::MremapDontunmapOffset,
        "mmap 0 1 2 rw anon_private\ntouch 0 1 1\nmremap 0 1 2 2 MAYMOVE|FIXED 4\n\
         mremap 0 4 1 1 MAYMOVE|FIXED|DONTUNMAP 8",
    ),
    (Rule::ExecuteOnly, "mmap 0 0 1 rx anon_private\ntouch 0 0"),
    (Rule::ExecuteOnly, "mmap 0 0 1 - anon_private\ntouch 0 0"),
    // The new VMA is not beside the old one; the old VMA was faulted.
    (
        Rule::MremapDontunmapAlone,
        "mmap 0 1 1 rw anon_private\nmmap 0 7 1 rw anon_private\n\
         mremap 0 1 1 1 MAYMOVE|FIXED|DONTUNMAP 8",
    ),
    (
        Rule::MremapDontunmapAlone,
        "mmap 0 0 3 rw anon_private\ntouch 0 0 1\nmremap 0 0 1 1 MAYMOVE|FIXED|DONTUNMAP 1",
    ),
    // What no context can watch is refused as on 5.2.1, and so is a file without the refined rule.
    (Rule::UffdWp, "mmap 0 0 1 rw anon_private\nuffd_register_wp 0 1 1"),
    (Rule::UffdWp, "mmap 0 0 1 rw anon_private\nuffd_register_wp 0 0 0"),
    (Rule::UffdWp, "mmap 0 0 1 rw special\nuffd_register_wp 0 0 1"),
    (Rule::UffdWp, "mmap 0 0 1 rw file0_shared\nuffd_register_wp 0 0 1"),
    (Rule::UffdWp, "mmap 0 0 1 rw anon_private\nuffd_register 0 0 1"),
    // Private anonymous memory, memory without shmem's `vm_ops`, and a child without a context or zero pages.
    (Rule::UffdWpFiles, "mmap 0 0 1 rw anon_private\nuffd_register_wp 0 0 1"),
    (Rule::UffdWpFiles, "shmat 0 0\nuffd_register_wp 0 0 4"),
    (Rule::UffdWpFiles, "mmap 0 0 1 r anon_private POPULATE\nuffd_register_wp 0 0 1\nfork 0"),
    (
        Rule::UffdWpFiles,
        "uffd_open 0 0 FORK\nmmap 0 0 1 r anon_private\nuffd_register_wp 0 0 1\nfork 0",
    ),
    // The checks before the call is known: pages, and a context.
    (
        Rule::UffdWriteprotect,
        "mmap 0 0 1 rw anon_private\nuffd_register 0 0 1\nuffd_writeprotect 0 0 0",
    ),
    (Rule::UffdWriteprotect, "mmap 0 0 1 rw anon_private\nuffd_writeprotect 0 0 1"),
    // No page is there, or the protection is removed.
    (
        Rule::UffdWpNoEffect,
        "mmap 0 0 1 rw anon_private\nuffd_register_wp 0 0 1\nuffd_writeprotect 0 0 1",
    ),
    (
        Rule::UffdWpNoEffect,
        "mmap 0 0 1 rw anon_private POPULATE\nuffd_register_wp 0 0 1\nuffd_writeprotect 0 0 1 0 -",
    ),
    // One VMA, or nothing that is watched in this mode.
    (
        Rule::UffdWpSeveral,
        "mmap 0 0 2 rw anon_private\nuffd_register_wp 0 0 2\nuffd_writeprotect 0 0 2",
    ),
    (
        Rule::UffdWpSeveral,
        "mmap 0 0 1 rw anon_private\nmmap 0 1 1 r anon_private\nuffd_register 0 0 2\n\
         uffd_writeprotect 0 0 2",
    ),
    // Pages that were never protected, or are still watched.
    (
        Rule::UffdWpClears,
        "mmap 0 0 1 rw anon_private POPULATE\nuffd_register_wp 0 0 1\nuffd_unregister 0 0 1",
    ),
    (
        Rule::UffdWpClears,
        "uffd_open 0 0 REMAP\nmmap 0 0 1 rw anon_private POPULATE\nuffd_register_wp 0 0 1\n\
         uffd_writeprotect 0 0 1\nmremap 0 0 1 1 MAYMOVE|FIXED 4",
    ),
    // A mapping that can grow in place, and one hole only.
    (Rule::LowestHole, "mmap 0 0 1 rw anon_private\nmremap 0 0 1 2 MAYMOVE"),
    (
        Rule::LowestHole,
        "mmap 0 0 1 rw anon_private\nmmap 0 1 62 r anon_private\nmmap 0 63 63 r anon_private\n\
         mremap 0 0 1 2 MAYMOVE",
    ),
];

#[test]
fn a_rule_changes_nothing_but_what_it_names() {
    for (rule, text) in NEAR {
        assert!(!shows(text, *rule), "{}:\n{text}", rule.name());
        let (_, applied) = run(text, rule.refines().with(*rule));
        let last = applied.last().expect("an operation");
        assert!(!last.has(*rule), "{} is applied:\n{text}", rule.name());
    }
    for rule in Rule::ALL {
        assert!(NEAR.iter().any(|(near, _)| near == rule), "{}", rule.name());
    }
}

#[test]
fn dontunmap_counts_the_vmas_before_it_refuses_shared_memory() {
    let cases = [
        // Too few VMAs are left, and then the kind of memory does not count.
        (
            "limits map_count=6\nmmap 0 1 1 r anon_shared\nmremap 0 1 1 1 MAYMOVE|DONTUNMAP",
            Errno::ENOMEM,
        ),
        (
            "limits map_count=6\nmmap 0 1 1 r file0_private\nmremap 0 1 1 1 MAYMOVE|DONTUNMAP 4",
            Errno::ENOMEM,
        ),
        // There is room, the ranges overlap, or the call resizes.
        ("mmap 0 1 1 r anon_shared\nmremap 0 1 1 1 MAYMOVE|DONTUNMAP", Errno::EINVAL),
        (
            "limits map_count=6\nmmap 0 1 1 r anon_shared\nmremap 0 1 1 1 MAYMOVE|DONTUNMAP 1",
            Errno::EINVAL,
        ),
        (
            "limits map_count=6\nmmap 0 1 2 r anon_shared\nmremap 0 1 2 1 MAYMOVE|DONTUNMAP 4",
            Errno::EINVAL,
        ),
    ];
    for (text, errno) in cases {
        let (seen, applied) = run(text, Rules::NONE.with(Rule::MremapDontunmap));
        assert_eq!(seen.result, Err(errno), "{text}");
        let later = applied.last().expect("an operation").has(Rule::MremapDontunmap);
        assert_eq!(later, errno == Errno::ENOMEM, "{text}");
    }
}

#[test]
fn a_release_has_the_rules_of_its_version() {
    assert!(Rules::of_version(Version(5, 2)).is_empty());
    for &rule in Rule::ALL {
        let About { since, until, .. } = *rule.about();
        let Some(Version(major, minor)) = since else {
            assert!(!Rules::of_version(Version(9, 0)).has(rule), "{}", rule.name());
            continue;
        };
        assert!(Rules::of_version(Version(major, minor)).has(rule), "{}", rule.name());
        let before = if minor == 0 { Version(major - 1, 99) } else { Version(major, minor - 1) };
        assert!(!Rules::of_version(before).has(rule), "{}", rule.name());
        let last = until.unwrap_or(Version(9, 0));
        assert_eq!(Rules::of_version(last).has(rule), until.is_none(), "{}", rule.name());
    }
}

#[test]
fn sets_of_rules_are_made_and_named_in_the_order_of_all_rules() {
    let [first, second, third] = [Rule::ALL[0], Rule::ALL[1], Rule::ALL[2]];
    let both = Rules::NONE.with(second).with(first);
    assert_eq!(both.iter().collect::<Vec<_>>(), [first, second]);
    assert_eq!(both.with(first), both);
    assert_eq!(both.without(third), both);
    assert_eq!(both.without(second), Rules::NONE.with(first));
    assert_eq!(both.union(both), both);
    assert_eq!(both.union(Rules::NONE.with(third)).iter().count(), 3);
    assert_eq!(both.to_string(), format!("{}, {}", first.name(), second.name()));
    assert_eq!(format!("{both:?}"), format!("Rules({both})"));
    assert_eq!(Rules::NONE.to_string(), "");
}

#[test]
fn what_documents_print_has_its_words() {
    assert_eq!(Version(6, 1).to_string(), "6.1");
    assert_eq!(
        [Bug::Original, Bug::Later].map(|bug| bug.to_string()),
        ["5.2.1", "the later kernel"]
    );
    let commit = |id| Commit { id, title: "mm: a title" }.to_string();
    assert_eq!(commit(Some("0123456789ab")), "0123456789ab (\"mm: a title\")");
    assert_eq!(commit(None), "unverified (\"mm: a title\")");
    assert_eq!(Function::SplitVma.to_string(), "split_vma");
}

#[test]
fn with_mmap_merges_next_the_left_neighbour_is_asked_with_the_anon_vma_of_the_right_one() {
    let text = "mmap 0 0 1 rw anon_private\ntouch 0 0 1\nmmap 0 2 1 rw anon_private\n\
                touch 0 2 1\nmmap 0 1 1 rw anon_private";
    let ranges = |rules| {
        let vmas = run(text, rules).0.spaces[0].vmas().to_vec();
        vmas.iter().map(|vma| vma.range().to_string()).collect::<Vec<_>>().concat()
    };
    assert_eq!(ranges(Rules::NONE), "[0,2)[2,3)");
    assert_eq!(ranges(Rules::NONE.with(Rule::MmapMergesNext)), "[0,1)[1,3)");
}

#[test]
fn with_mremap_several_each_vma_of_the_range_moves_and_the_holes_stay() {
    let text =
        "mmap 0 4 2 rw anon_private\nmmap 0 7 1 r anon_private\nmremap 0 5 3 3 MAYMOVE|FIXED 20";
    let moved = |rules| {
        let seen = run(text, rules).0;
        let ranges: Vec<_> =
            seen.spaces[0].vmas().iter().map(|vma| vma.range().to_string()).collect();
        (seen.result, ranges.concat())
    };
    assert_eq!(moved(Rules::NONE).0, Err(Errno::EFAULT));
    let several = Rules::NONE.with(Rule::MremapSeveral);
    assert_eq!(moved(several), (Ok(20), "[4,5)[20,21)[22,23)".into()));
}

/// Returns the result, the VMAs with `L` for a locked one, and the rules that the last operation applied.
fn moved(text: &str, rules: &[Rule]) -> (Result<u8, Errno>, String, Vec<Rule>) {
    let (seen, applied) = run(text, rules.iter().copied().collect());
    let vmas = seen.spaces[0].vmas().iter().map(|vma| {
        let locked = if vma.flags.contains(VmFlags::VM_LOCKED) { "L" } else { "" };
        format!("{}{locked}", vma.range())
    });
    let applied = applied.last().map(|rules| rules.iter().collect()).unwrap_or_default();
    (seen.result, vmas.collect::<Vec<_>>().concat(), applied)
}

#[test]
fn dontunmap_leaves_a_source_that_is_locked_as_its_rules_say() {
    use Rule::{MremapDontunmap, MremapDontunmapCuts, MremapDontunmapLocked};
    let text = "mmap 0 0 4 rw anon_private LOCKED\nmremap 0 1 2 2 MAYMOVE|FIXED|DONTUNMAP 20";
    // The kernel unlocks all of the source VMA, and does not take that off locked_vm.
    let locked =
        |rules: &[Rule]| run(text, rules.iter().copied().collect()).0.spaces[0].counters.locked_vm;
    assert_eq!(locked(&[MremapDontunmap]), 4);
    assert_eq!(locked(&[MremapDontunmap, MremapDontunmapLocked]), 6);
    assert_eq!(moved(text, &[MremapDontunmap]).1, "[0,4)[20,22)L");
    let cuts = [MremapDontunmap, MremapDontunmapCuts];
    assert_eq!(moved(text, &cuts).1, "[0,1)L[1,3)[3,4)L[20,22)L");
    let first = text.replace("mremap 0 1 2", "mremap 0 0 2");
    assert_eq!(moved(&first, &cuts).1, "[0,2)[2,4)L[20,22)L");
    let last = text.replace("mremap 0 1 2", "mremap 0 2 2");
    assert_eq!(moved(&last, &cuts).1, "[0,2)L[2,4)[20,22)L");
}

#[test]
fn dontunmap_refuses_files_after_the_destination_is_unmapped_and_devices_always() {
    use Rule::{MremapDontunmap, MremapDontunmapFiles};
    // The destination begins where the source ends: they do not overlap.
    let text = "mmap 0 0 1 rw file0_private\nmmap 0 1 1 rw anon_private\n\
                mremap 0 0 1 1 MAYMOVE|FIXED|DONTUNMAP 1";
    assert_eq!(moved(text, &[]), (Err(Errno::EINVAL), "[0,1)[1,2)".into(), vec![]));
    let later = moved(text, &[MremapDontunmap]);
    assert_eq!(later, (Err(Errno::EINVAL), "[0,1)".into(), vec![MremapDontunmap]));
    let device = "mmap 0 0 1 r special\nmremap 0 0 1 1 MAYMOVE|FIXED|DONTUNMAP 4";
    let all = [MremapDontunmap, MremapDontunmapFiles];
    assert_eq!(moved(device, &all).0, Err(Errno::EINVAL));
}

#[test]
fn a_page_that_is_not_mapped_is_found_first_by_the_rule_that_changes_something() {
    use Rule::{MremapUnmapped, MremapUnmappedFirst};
    let both = [MremapUnmapped, MremapUnmappedFirst];
    for (text, expected) in [
        ("mremap 0 0 2 1", vec![MremapUnmapped]),
        ("mremap 0 0 1 2", vec![]),
        // The ranges are adjacent, and then they overlap.
        ("mmap 0 1 1 rw anon_private\nmremap 0 0 1 1 MAYMOVE|FIXED 1", vec![MremapUnmapped]),
        ("mmap 0 1 1 rw anon_private\nmremap 0 0 2 2 MAYMOVE|FIXED 1", vec![MremapUnmappedFirst]),
        ("mmap 0 1 1 rw anon_private\nmremap 0 2 1 1 MAYMOVE|FIXED 1", vec![MremapUnmapped]),
        ("mremap 0 0 1 1 MAYMOVE|FIXED 9", vec![]),
    ] {
        assert_eq!(moved(text, &both).2, expected, "{text}");
    }
}

#[test]
fn mremap_checks_first_changes_nothing_where_nothing_would_have_been_unmapped() {
    // The range passes the end of its VMA. Nothing is mapped at the destination, and no tail is cut off.
    let text = "mmap 0 0 1 rw anon_private\nmmap 0 1 1 r anon_private\nmmap 0 4 1 r anon_private\n\
                mremap 0 0 2 2 MAYMOVE|FIXED 10";
    let rules = [Rule::MremapChecksFirst];
    assert_eq!(moved(text, &rules).2, []);
    let over = text.replace("mmap 0 4 1", "mmap 0 10 1");
    assert_eq!(moved(&over, &rules).2, rules);
}

#[test]
fn advice_to_populate_reads_or_writes_as_it_says() {
    let after = |advice: &str| {
        let text = format!("mmap 0 0 2 rw anon_private\nmadvise 0 0 1 {advice}");
        let (seen, _) = run(&text, Rules::NONE.with(Rule::MadvisePopulate));
        (seen.spaces[0].anon_pages, seen.spaces[0].zero_pages)
    };
    assert_eq!(after("POPULATE_READ"), (0, 1));
    assert_eq!(after("POPULATE_WRITE"), (1, 0));
}

#[test]
fn no_fork_can_charge_the_memory_outside_that_a_move_has_marked() {
    let inside =
        "mmap 0 1 3 rw anon_private\ntouch 0 1 1\nmremap 0 2 1 1 MAYMOVE|FIXED|DONTUNMAP 0\nfork 0";
    let flag = Rules::NONE.with(Rule::MremapDontunmap);
    let marks = flag.with(Rule::MremapDontunmapMarks);
    for (text, rules, expected) in [
        (inside, flag, Ok(1)),
        (inside, marks, Err(Errno::ENOMEM)),
        // The copy merges with its source, the range ends where its VMA ends, or another VMA follows.
        (&inside.replace("touch 0 1 1\n", ""), marks, Ok(1)),
        (&inside.replace("0 2 1 1", "0 3 1 1"), marks, Ok(1)),
        (&inside.replace("DONTUNMAP 0", "DONTUNMAP 9"), marks, Ok(1)),
    ] {
        assert_eq!(run(text, rules).0.result, expected, "{text}");
    }
}
