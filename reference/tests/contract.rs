//! The ten points of the contract of a copy between address spaces.

mod common;
use common::{ends_with, reasons, returns, run};
use vmadiff_machine::{Errno, Machine as _, Observation, Program, VmFlags};
use vmadiff_reference::refusal::Rule;
use vmadiff_reference::why::{MergeBarrier, RmapLocks};
use vmadiff_reference::{MENDED, Reference};

/// Process 0 with four faulted pages, and a child without any.
const PAIR: &str = "fork 0\nmmap 0 1 4 rw anon_private\ntouch 0 2 1\n";

#[test]
fn point_1_exactly_the_range_is_mapped_with_the_sources_attributes() {
    ends_with(&[
        (&format!("{PAIR}copy 1 2 2 0 10 FIXED"), "1..5 rw- @1 A[A]\n10..12 rw- @2 A[A]"),
        // The source was never faulted, so the copy has the offset of its new address.
        (
            "mmap 0 1 4 rw anon_private\nfork 0\ncopy 1 2 2 0 10 FIXED",
            "1..5 rw- @1\n1..5 rw- @1, 10..12 rw- @10",
        ),
        (
            "mmap 0 1 4 rw file1_private - 7\nmbind 0 1 4 BIND\nfork 0\ncopy 1 2 2 0 10 FIXED",
            "1..5 rw- 7 file1 BIND\n1..5 rw- 7 file1 BIND, 10..12 rw- 8 file1 BIND",
        ),
        // The copy gets the whole chain and no new anon_vma, as in a move and unlike in a fork.
        (
            "mmap 0 1 1 rw anon_private\ntouch 0 1 1\nfork 0\ncopy 0 1 1 1 10 FIXED",
            "1..2 rw- @1 A[A], 10..11 rw- @1 B[BA]\n1..2 rw- @1 B[BA]",
        ),
        // The copy replaces the mappings at its destination.
        (
            &format!("{PAIR}mmap 1 9 4 r file0_shared\ncopy 1 2 2 0 10 FIXED"),
            "1..5 rw- @1 A[A]\n9..10 r-- 0 file0, 10..12 rw- @2 A[A], 12..13 r-- 3 file0",
        ),
    ]);
}

#[test]
fn point_1_pages_are_copied_where_the_source_has_an_anon_vma() {
    let outcome = run(&format!("{PAIR}copy 1 2 2 0 10 FIXED"));
    assert_eq!((outcome.anon_pages(0), outcome.anon_pages(1)), ("2".into(), "10".into()));
}

#[test]
fn point_1_the_zero_page_is_copied_where_the_source_has_an_anon_vma() {
    // A copied zero page is present, so that populating does not wait for it.
    let world = "mmap 0 1 2 rw anon_private\ntouch 0 2 1\n";
    let watch = "fork 0\ncopy 1 1 2 0 10 FIXED\nuffd_register 1 10 2\nmlock 1 10 2";
    returns(&[
        (&format!("{world}touch 0 1 0\n{watch}"), Ok(0)),
        (&format!("{world}{watch}"), Err(Errno::EAGAIN)),
    ]);
}

#[test]
fn point_2_the_source_is_unchanged() {
    let before = run(PAIR);
    let copy = "copy 1 2 2 0 10 FIXED\n";
    let outcome = run(&format!("{PAIR}{copy}"));
    assert_eq!(outcome.maps().lines().next(), before.maps().lines().next());
    assert_eq!(outcome.anon_pages(0), before.anon_pages(0));
    // Only the write bits of the pages that are now shared are cleared, once.
    let writable = |outcome: &common::Outcome| outcome.seen.spaces[0].writable_ptes;
    assert_eq!((writable(&before), writable(&outcome)), (1 << 2, 0));
    assert_eq!(run(&format!("{PAIR}{copy}{copy}")).seen.changed, 0b10);
}

#[test]
fn point_3_with_flags_cleared_a_copy_is_not_what_only_the_source_is() {
    let source = "mmap 0 1 2 rw anon_private\nmadvise 0 1 2 MERGEABLE\nmadvise 0 1 2 DONTFORK\n\
                  madvise 0 1 2 WIPEONFORK\nmadvise 0 1 2 DONTDUMP\nmlock 0 1 2 1\n";
    let all = "LOCKED DONTCOPY LOCKONFAULT WIPEONFORK DONTDUMP MERGEABLE";
    ends_with(&[
        (
            &format!("{source}copy 0 1 2 0 10 FIXED"),
            &format!("1..3 rw- @1 {all}, 10..12 rw- @10 DONTDUMP"),
        ),
        (
            &format!("{source}copy_vma 0 1 2 0 10 1"),
            &format!("1..3 rw- @1 {all}, 10..12 rw- @10 DONTDUMP"),
        ),
        (
            &format!("{source}copy_vma 0 1 2 0 10 0"),
            &format!("1..3 rw- @1 {all}, 10..12 rw- @10 {all}"),
        ),
        (
            "mmap 0 1 2 rw anon_private\nuffd_register 0 1 2\ncopy_vma 0 1 2 0 10 1",
            "1..3 rw- @1 uffd0, 10..12 rw- @10",
        ),
        (
            "mmap 0 1 2 rw anon_private\nuffd_register 0 1 2\ncopy_vma 0 1 2 0 10 0",
            "1..3 rw- @1 uffd0, 10..12 rw- @10 uffd0",
        ),
    ]);
    let watched = run("mmap 0 1 2 rw anon_private\nuffd_register 0 1 2\ncopy_vma 0 1 2 0 10 1");
    assert!(!watched.flags(0, 10).intersects(VmFlags::UFFD));
}

#[test]
fn point_4_the_copy_merges_where_the_rule_lets_it() {
    for (text, maps) in [
        // Two halves are copied one after the other.
        (format!("{PAIR}copy 1 1 2 0 10 FIXED\ncopy 1 3 2 0 12 FIXED"), "1..5 rw- @1 A[A]\n10..14 rw- @1 A[A]"),
        // A range is copied between two copies.
        (format!("{PAIR}copy 1 1 1 0 10 FIXED\ncopy 1 4 1 0 13 FIXED\ncopy 1 2 2 0 11 FIXED"), "1..5 rw- @1 A[A]\n10..14 rw- @1 A[A]"),
        // The offset of the second copy is not the one after the first copy.
        (format!("{PAIR}copy 1 1 2 0 10 FIXED\ncopy 1 1 2 0 12 FIXED"), "1..5 rw- @1 A[A]\n10..12 rw- @1 A[A], 12..14 rw- @1 A[A]"),
        // The merge rule compares the flags of the copy, not those of the source.
        ("mmap 0 1 4 rw anon_private LOCKED\nmmap 0 9 1 rw file0_private\nmmap 0 10 2 rw anon_private\nmunmap 0 1 4\nmmap 0 1 4 rw anon_private\nmlock 0 1 4 1\ncopy 0 1 2 0 12 FIXED".into(),
         "1..5 rw- @1 LOCKED LOCKONFAULT, 9..10 rw- 0 file0, 10..14 rw- @10"),
    ] {
        assert_eq!(run(&text).maps(), maps, "\n{text}");
    }
}

#[test]
fn point_4_chains_are_the_same_if_their_entries_are() {
    // Neighbours share an anon_vma, and each has a chain of its own.
    let outcome = run("mmap 0 1 2 rw anon_private\nmprotect 0 2 1 rwx\ntouch 0 1 1\ntouch 0 2 1\n\
         copy 0 1 1 0 10 FIXED\ncopy 0 2 1 0 20 FIXED\nmprotect 0 20 1 rw\n\
         copy 0 20 1 0 11 FIXED");
    assert_eq!(
        outcome.maps(),
        "1..2 rw- @1 A[A], 2..3 rwx @2 A[A], 10..12 rw- @1 A[A], 20..21 rw- @2 A[A]"
    );
}

#[test]
fn point_5_the_source_is_redirected_only_within_one_address_space() {
    let redirected = |text: &str| run(text).copies.last().map(|c| (c.merged, c.source_redirected));
    // The copy joins its source.
    assert_eq!(redirected("mmap 0 1 4 rw anon_private\ncopy 0 3 2 0 5 FIXED"), Some((true, true)));
    // The previous VMA, the copy and the source become one VMA.
    assert_eq!(
        redirected("mmap 0 1 2 rw anon_private\nmmap 0 5 2 rw anon_private\ncopy 0 5 2 0 3 FIXED"),
        Some((true, true))
    );
    // The copy has the same addresses, but in another address space.
    assert_eq!(
        redirected("mmap 0 1 4 rw anon_private\nfork 0\ncopy 1 3 2 0 5 FIXED"),
        Some((true, false))
    );
    // The copy merges with a VMA that is not the source.
    assert_eq!(
        redirected("mmap 0 1 4 rw anon_private\nmmap 0 9 2 rw anon_private\ncopy 0 3 2 0 11 FIXED"),
        Some((true, false))
    );
}

#[test]
fn point_6_ranges_that_overlap_are_refused() {
    let outcome = run("mmap 0 1 4 rw anon_private\ncopy 0 1 3 0 3 FIXED");
    assert_eq!((outcome.last(), outcome.maps().as_str()), (Err(Errno::EINVAL), "1..5 rw- @1"));
    returns(&[
        ("mmap 0 1 4 rw anon_private\ncopy 0 1 4 0 1 FIXED", Err(Errno::EINVAL)),
        ("mmap 0 1 4 rw anon_private\ncopy 0 1 2 0 3 FIXED", Ok(3)),
        ("mmap 0 1 4 rw anon_private\nfork 0\ncopy 1 1 3 0 3 FIXED", Ok(3)),
    ]);
}

#[test]
fn point_7_accounting_adds_up() {
    let counters = |text: &str, process: usize| {
        let outcome = run(text);
        let c = outcome.seen.spaces[process].counters;
        (c.total_vm, c.locked_vm, c.data_vm, c.map_count, outcome.seen.committed)
    };
    // A copy of locked memory is not locked.
    let locked = "mmap 0 1 4 rw anon_private LOCKED\nfork 0\n";
    assert_eq!(counters(&format!("{locked}copy 1 1 4 0 10 FIXED"), 1), (8, 0, 8, 2, 12));
    assert_eq!(counters(&format!("{locked}copy_vma 1 1 4 0 10 0"), 1), (8, 4, 8, 2, 12));
    assert_eq!(
        counters(&format!("{locked}copy_vma 1 1 4 0 10 0\nmunmap 1 10 4"), 1),
        (4, 0, 4, 1, 8)
    );
    // The copy replaces mapped pages.
    assert_eq!(counters(&format!("{locked}copy 1 1 2 0 2 FIXED"), 1), (4, 0, 4, 3, 8));
    // A copy of memory that is not charged is not charged.
    assert_eq!(
        counters("mmap 0 1 4 rw anon_private NORESERVE\ncopy 0 1 4 0 10 FIXED", 0),
        (8, 0, 8, 2, 0)
    );
    // If the copy keeps its flags, the limit on locked pages is checked.
    returns(&[(
        "limits lock=4\nmmap 0 1 4 rw anon_private LOCKED\ncopy_vma 0 1 1 0 10 0",
        Err(Errno::EAGAIN),
    )]);
    returns(&[("limits lock=4\nmmap 0 1 4 rw anon_private LOCKED\ncopy_vma 0 1 1 0 10 1", Ok(10))]);
}

#[test]
fn point_8_the_rmap_locks_are_taken_where_they_are_needed() {
    let text = format!("{PAIR}copy 1 1 2 0 10 FIXED\ncopy 1 3 2 0 12 FIXED");
    let copies = run(&text).copies;
    assert_eq!((copies[0].merged, copies[0].need_rmap_locks), (false, false));
    assert_eq!((copies[1].merged, copies[1].need_rmap_locks), (true, true));
    assert!(copies.iter().all(|copy| copy.honoured));
}

#[test]
fn point_9_a_copy_hangs_on_all_that_its_pages_may_hang_on() {
    // Each of the three pages was made by another process: the grandparent, the parent or the
    // child.
    ends_with(&[(
        "mmap 0 1 3 rw anon_private\ntouch 0 1 1\nfork 0\ntouch 1 2 1\nfork 1\ntouch 2 3 1\nfork 0\ncopy 3 1 3 2 10 FIXED",
        "1..4 rw- @1 A[A]\n1..4 rw- @1 B[BA]\n1..4 rw- @1 C[CBA]\n1..4 rw- @1 D[DA], 10..13 rw- @1 C[CBA]",
    )]);
}

#[test]
fn point_9_no_page_is_lost_with_the_fixes_of_later_kernels_and_5_2_1_loses_each() {
    let programs = [
        include_str!("../../corpus/seeds/bug-e.txt"),
        include_str!("../../corpus/seeds/copy-chains-differ.txt"),
        include_str!("../../corpus/seeds/later-merge.txt"),
        include_str!("../../corpus/seeds/cve-2022-42703-lost.txt"),
        "mmap 0 0 4 rw anon_private\ntouch 0 0 1\ntouch 0 2 1\n\
         mremap 0 2 2 2 MAYMOVE|FIXED 4\nmmap 0 2 2 rw anon_private\ntouch 0 2 1\n\
         uffd_register 0 4 2\nuffd_register 0 2 2",
    ];
    for text in programs {
        let program: Program = text.parse().expect("a program");
        let loses = |mut reference: Reference| {
            let mut seen = Observation::default();
            program.ops.iter().any(|op| {
                reference.step(op, &mut seen);
                !seen.events.is_empty()
            })
        };
        assert!(loses(Reference::new()), "{text}");
        assert!(!loses(Reference::with_rules(MENDED)), "{text}");
    }
}

#[test]
fn point_10_a_call_that_fails_has_changed_nothing() {
    let world = "limits map_count=6 address_space=12\nmmap 0 1 4 rw anon_private\nfork 0\n\
                 mmap 1 10 2 rw file0_shared\nmmap 0 6 1 rw special\nmmap 0 8 2 rw anon_private\nuffd_register 0 8 2\n";
    let before = run(world).maps();
    for (op, error) in [
        ("copy 1 1 0 0 10 FIXED", Errno::EINVAL),
        ("copy 1 1 2 5 10 FIXED", Errno::ESRCH),
        ("copy 5 1 2 0 10 FIXED", Errno::ESRCH),
        ("copy 1 1 5 0 10 FIXED", Errno::EFAULT),
        ("copy 1 6 1 0 10 FIXED", Errno::EFAULT),
        ("copy 1 8 1 0 10 FIXED", Errno::ENOTSUPP),
        ("copy 1 1 2 0 9 FIXED_NOREPLACE", Errno::EEXIST),
        ("copy 1 1 2 0 9 FIXED|FIXED_NOREPLACE", Errno::EEXIST),
        ("copy 0 1 2 0 2 FIXED", Errno::EINVAL),
        ("copy_vma 0 1 2 0 2 1", Errno::EINVAL),
        // The process has 7 mapped pages, mmap adds 4, and the limit of 12 leaves no room for 2
        // more.
        ("mmap 0 20 4 rw file0_shared\ncopy 0 1 2 0 30 FIXED", Errno::ENOMEM),
    ] {
        let outcome = run(&format!("{world}{op}"));
        assert_eq!(outcome.last(), Err(error), "{op}");
        if op.starts_with("copy") {
            assert_eq!((outcome.maps(), outcome.seen.changed), (before.clone(), 0), "{op}");
        }
    }
    returns(&[(
        "limits map_count=2\nmmap 0 1 4 rw anon_private\ncopy 0 1 1 0 10 FIXED",
        Err(Errno::ENOMEM),
    )]);
    returns(&[("limits map_count=3\nmmap 0 1 4 rw anon_private\ncopy 0 1 1 0 10 FIXED", Ok(10))]);
}

#[test]
fn a_hint_is_taken_if_it_is_free_else_the_highest_hole() {
    let world = "mmap 0 1 4 rw anon_private\nfork 0\nmmap 1 62 63 rw file0_shared\n";
    returns(&[
        (&format!("{world}copy 1 1 2 0 10"), Ok(10)),
        (&format!("{world}copy 1 1 2 0 2"), Ok(126)),
        (&format!("{world}copy 1 1 4 0 2"), Ok(58)),
        (&format!("{world}mmap 1 5 57 rw anon_shared\ncopy 1 1 4 0 2"), Err(Errno::ENOMEM)),
    ]);
}

/// A parent with a faulted page, a child, and in the child a copy of the parent's pages 1 to 4 at 10.
const COPIED: &str = "mmap 0 1 4 rw anon_private\ntouch 0 2 1\nfork 0\ncopy 1 1 4 0 10 FIXED\n";

#[test]
fn later_operations_on_a_copy_leave_the_source_as_it_is() {
    let source = run(COPIED).maps().lines().next().map(str::to_owned);
    for op in [
        "munmap 1 10 2",
        "mprotect 1 11 2 r",
        "touch 1 12 1",
        "mlock 1 10 4",
        "mremap 1 10 4 4 MAYMOVE|FIXED 20",
        "madvise 1 10 4 DONTNEED",
        "madvise 1 10 4 WIPEONFORK",
        "mbind 1 10 4 BIND",
        "uffd_register 1 10 4",
        "fork 1",
        "exit 1",
    ] {
        let outcome = run(&format!("{COPIED}{op}"));
        assert!(outcome.last().is_ok(), "{op}");
        assert_eq!(outcome.maps().lines().next().map(str::to_owned), source, "{op}");
        assert_eq!(outcome.anon_pages(0), "2", "{op}");
    }
}

#[test]
fn later_operations_on_the_source_leave_the_copy_as_it_is() {
    let child = |outcome: &common::Outcome| {
        outcome.maps().lines().last().and_then(|line| line.split(", ").last().map(str::to_owned))
    };
    assert_eq!(run(COPIED).maps(), "1..5 rw- @1 A[A]\n1..5 rw- @1 B[BA], 10..14 rw- @1 A[A]");
    for op in ["munmap 0 1 4", "mprotect 0 1 4 r", "touch 0 1 1", "exit 0", "fork 0\nexit 2"] {
        let outcome = run(&format!("{COPIED}{op}"));
        assert!(outcome.last().is_ok(), "{op}");
        let vma = child(&outcome).expect("the copy");
        assert!(vma.starts_with("10..14 rw- @1 ") && vma.ends_with(']'), "{op}: {vma}");
        assert_eq!(outcome.anon_pages(1), "2 11", "{op}");
    }
}

/// Point 9 after the copy: each part of a copy keeps the whole chain of the source, whatever cuts,
/// moves or merges it, so that its pages are found.
#[test]
fn point_9_every_part_of_a_copy_keeps_the_chain() {
    let grandchild = "mmap 0 1 4 rw anon_private\ntouch 0 2 1\nfork 0\ntouch 1 3 1\nfork 0\n\
                      copy 2 1 4 1 10 FIXED\n";
    for (op, child) in [
        ("", "1..5 rw- @1 B[BA], 10..14 rw- @1 C[CA]"),
        (
            "mprotect 2 11 1 r",
            "1..5 rw- @1 B[BA], 10..11 rw- @1 C[CA], 11..12 r-- @2 C[CA], 12..14 rw- @3 C[CA]",
        ),
        ("munmap 2 11 1", "1..5 rw- @1 B[BA], 10..11 rw- @1 C[CA], 12..14 rw- @3 C[CA]"),
        (
            "mremap 2 11 2 2 MAYMOVE|FIXED 20",
            "1..5 rw- @1 B[BA], 10..11 rw- @1 C[CA], 13..14 rw- @4 C[CA], 20..22 rw- @2 C[CA]",
        ),
        (
            "mremap 2 12 2 2 MAYMOVE|FIXED 20\nmremap 2 20 2 2 MAYMOVE|FIXED 12",
            "1..5 rw- @1 B[BA], 10..14 rw- @1 C[CA]",
        ),
        ("exit 1", "1..5 rw- @1 B[BA], 10..14 rw- @1 C[CA]"),
        ("exit 1\nexit 0", "1..5 rw- @1 B[BA], 10..14 rw- @1 C[CA]"),
    ] {
        let maps = run(&format!("{grandchild}{op}")).maps();
        // Letters are given in the order of the remaining processes, so only the shape of the
        // chains is compared.
        let shape = |line: &str| {
            let mut seen = Vec::new();
            let letters = line.chars().map(|c| match c {
                'A'..='Z' => {
                    let n = seen.iter().position(|s| *s == c).unwrap_or_else(|| {
                        seen.push(c);
                        seen.len() - 1
                    });
                    (b'a' + n as u8) as char
                }
                c => c,
            });
            letters.collect::<String>()
        };
        assert_eq!(maps.lines().last().map(shape), Some(shape(child)), "{op}");
    }
}

#[test]
fn point_7_accounting_adds_up_after_operations_on_a_copy() {
    for (op, total, data, committed) in [
        ("munmap 1 10 2", 6, 6, 10),
        ("mprotect 1 10 4 r", 8, 4, 12),
        ("mremap 1 10 4 6 MAYMOVE|FIXED 20", 10, 10, 14),
        ("mremap 1 10 4 2", 6, 6, 10),
        ("fork 1", 8, 8, 20),
        ("exit 0", 8, 8, 8),
        ("exit 1", 0, 0, 4),
        ("mlock 1 10 4", 8, 8, 12),
    ] {
        let outcome = run(&format!("{COPIED}{op}"));
        assert!(outcome.last().is_ok(), "{op}");
        let c = outcome.seen.spaces[1].counters;
        assert_eq!(
            (c.total_vm, c.data_vm, outcome.seen.committed),
            (total, data, committed),
            "{op}"
        );
    }
    assert_eq!(run(&format!("{COPIED}mlock 1 10 4")).seen.spaces[1].counters.locked_vm, 4);
}

#[test]
fn point_4_the_parts_of_a_copy_merge_again() {
    ends_with(&[
        (
            &format!("{COPIED}mprotect 1 11 1 r\nmprotect 1 11 1 rw"),
            "1..5 rw- @1 A[A]\n1..5 rw- @1 B[BA], 10..14 rw- @1 A[A]",
        ),
        (
            &format!("{COPIED}munmap 1 12 2\ncopy 1 3 2 0 12 FIXED"),
            "1..5 rw- @1 A[A]\n1..5 rw- @1 B[BA], 10..14 rw- @1 A[A]",
        ),
    ]);
}

#[test]
fn point_3_flags_set_on_a_copy_stay_its_own() {
    ends_with(&[(
        &format!("{COPIED}madvise 1 10 4 DONTFORK\nmlock 0 1 4\nmadvise 0 1 4 MERGEABLE"),
        "1..5 rw- @1 LOCKED MERGEABLE A[A]\n1..5 rw- @1 B[BA], 10..14 rw- @1 DONTCOPY A[A]",
    )]);
}

#[test]
fn a_copy_puts_to_the_test_the_points_that_it_could_break() {
    let file = "mmap 0 1 2 r file0_shared\n";
    let anon = "mmap 0 1 4 rw anon_private NORESERVE\n";
    for (text, points) in [
        (format!("{file}copy 0 1 1 0 10 FIXED"), &[][..]),
        (format!("{file}fork 0\ncopy 1 1 1 0 10 FIXED"), &[2]),
        (format!("{file}madvise 0 1 2 DONTFORK\ncopy 0 1 1 0 10 FIXED"), &[3]),
        (format!("{anon}touch 0 1 1\ncopy 0 1 1 0 10 FIXED"), &[1, 9]),
        (format!("{anon}touch 0 1 1\ncopy 0 2 1 0 10 FIXED"), &[1]),
        (
            format!("{anon}touch 0 1 1\nfork 0\ncopy 1 1 2 0 10 FIXED\ncopy 1 3 2 0 12 FIXED"),
            &[2, 4, 8],
        ),
        (format!("{anon}copy 0 3 2 0 5 FIXED"), &[4, 5, 8]),
        ("mmap 0 1 2 rw anon_private\ncopy 0 1 1 0 10 FIXED".into(), &[7]),
        (format!("{anon}copy 0 1 2 0 2 FIXED"), &[6, 10]),
        (format!("{anon}copy 0 9 2 0 20 FIXED"), &[10]),
        (format!("{anon}mremap 0 1 2 2 MAYMOVE|FIXED 9"), &[]),
    ] {
        let tested: Vec<u8> = reasons(&text).points.iter().map(|point| point.0).collect();
        assert_eq!(tested, points, "\n{text}");
    }
}

#[test]
fn the_reasons_of_a_copy_have_the_pages_of_the_source_and_the_longest_hole() {
    let pages = |text: &str| reasons(text).copy.map(|copy| copy.anon_pages);
    let faulted = "mmap 0 1 4 rw anon_private\ntouch 0 1 1\ntouch 0 3 1\n";
    assert_eq!(pages(&format!("{faulted}copy 0 1 2 0 10 FIXED")), Some(1 << 1));
    assert_eq!(pages(&format!("{faulted}copy 0 2 2 0 10 FIXED")), Some(1 << 3));
    let full = "mmap 0 1 4 rw anon_private\nfork 0\nmmap 1 62 63 rw file0_shared\n\
                mmap 1 5 57 rw anon_shared\ncopy 1 1 4 0 2";
    let refusal = reasons(full).refusal.expect("no hole is long enough");
    assert!(matches!(refusal.rule, Rule::NoHole { longest: 3, .. }), "{refusal:?}");
}

#[test]
fn the_reasons_of_a_copy_name_the_redirected_source_and_the_other_anon_vma() {
    let copy = reasons("mmap 0 1 4 rw anon_private\ncopy 0 3 2 0 5 FIXED").copy.expect("a copy");
    assert!(copy.redirected && copy.rmap_locks == RmapLocks::Redirected, "{copy:?}");
    let moved = reasons(
        "mmap 0 1 1 rw anon_private\nmmap 0 5 1 rw anon_private\ntouch 0 1 1\ntouch 0 5 1\n\
         mremap 0 1 1 1 MAYMOVE|FIXED 4",
    );
    let right = moved.copy_merge().and_then(|merge| merge.right.as_ref()).expect("a neighbour");
    let has = |wanted: fn(&MergeBarrier) -> bool| right.barriers.iter().any(wanted);
    assert!(has(|barrier| matches!(barrier, MergeBarrier::AnonVma)), "{right:?}");
}
