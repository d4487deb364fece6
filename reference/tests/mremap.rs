//! `mremap`.

mod common;
use common::{ends_with, returns, run};
use vmadiff_machine::Errno;

#[test]
fn shrinking_in_place_is_unmapping() {
    ends_with(&[
        ("mmap 0 1 4 rw anon_private\nmremap 0 1 4 2 -", "1..3 rw- @1"),
        // The call also succeeds where nothing or only a part is mapped.
        ("mmap 0 3 2 rw anon_private\nmremap 0 1 4 2 -", ""),
    ]);
    returns(&[("mremap 0 1 4 4 -", Ok(1)), ("mremap 0 1 4 0 -", Err(Errno::EINVAL))]);
}

#[test]
fn growing_in_place_needs_the_end_of_a_vma_and_room() {
    let two = "mmap 0 1 4 rw anon_private\nmmap 0 7 2 rw anon_private\n";
    let grow = |op: &str| run(&format!("{two}{op}")).last();
    assert_eq!(grow("mremap 0 3 2 4 -"), Ok(3));
    assert_eq!(grow("mremap 0 3 2 5 -"), Err(Errno::ENOMEM));
    assert_eq!(grow("mremap 0 1 2 3 -"), Err(Errno::ENOMEM));
    assert_eq!(grow("mremap 0 1 5 6 -"), Err(Errno::EFAULT));
    assert_eq!(grow("mremap 0 5 1 2 -"), Err(Errno::EFAULT));
    assert_eq!(grow("mremap 0 1 0 2 -"), Err(Errno::EINVAL));
    returns(&[
        ("mmap 0 1 2 rw special\nmremap 0 1 2 3 -", Err(Errno::EFAULT)),
        ("mmap 0 1 2 rw anon_shared\nmremap 0 1 0 2 -", Err(Errno::ENOMEM)),
    ]);
}

#[test]
fn memory_never_faulted_takes_the_offset_of_its_new_address() {
    ends_with(&[
        ("mmap 0 1 4 rw anon_private\nmremap 0 3 2 2 MAYMOVE|FIXED 9", "1..3 rw- @1, 9..11 rw- @9"),
        (
            "mmap 0 1 4 rw anon_private\ntouch 0 1 1\nmremap 0 3 2 2 MAYMOVE|FIXED 9",
            "1..3 rw- @1 A[A], 9..11 rw- @3 A[A]",
        ),
        (
            "mmap 0 1 4 rw file0_private - 7\nmremap 0 3 2 2 MAYMOVE|FIXED 9",
            "1..3 rw- 7 file0, 9..11 rw- 9 file0",
        ),
    ]);
}

#[test]
fn the_source_is_redirected_where_the_merge_takes_it_in() {
    for (text, maps, copy) in [
        // The previous VMA, the hole and the source become one VMA. This is the program of bug A.
        (
            "mmap 0 1 6 rw anon_private\nmremap 0 4 2 2 MAYMOVE|FIXED 2",
            "1..4 rw- @1, 6..7 rw- @6",
            (true, true, true),
        ),
        // The source itself grows, up or down.
        (
            "mmap 0 1 4 rw anon_private\nmremap 0 1 2 2 MAYMOVE|FIXED 5",
            "3..7 rw- @3",
            (true, true, true),
        ),
        (
            "mmap 0 5 4 rw anon_private\nmremap 0 7 2 2 MAYMOVE|FIXED 3",
            "3..7 rw- @3",
            (true, true, true),
        ),
        // A neighbour that is not the source grows: the lower offset comes first in reverse-map
        // order.
        (
            "mmap 0 1 2 rw anon_private\nmmap 0 9 2 rw anon_private\nmremap 0 9 2 2 MAYMOVE|FIXED 3",
            "1..5 rw- @1",
            (true, true, false),
        ),
        (
            "mmap 0 5 2 rw anon_private\nmmap 0 1 2 rw anon_private\nmremap 0 1 2 2 MAYMOVE|FIXED 7",
            "5..9 rw- @5",
            (true, false, false),
        ),
        // Nothing merges.
        (
            "mmap 0 1 2 rw anon_private\nmremap 0 1 2 2 MAYMOVE|FIXED 7",
            "7..9 rw- @7",
            (false, false, false),
        ),
    ] {
        let outcome = run(text);
        let got = outcome.copies[0];
        assert_eq!(outcome.maps(), maps, "{text}");
        assert_eq!((got.merged, got.need_rmap_locks, got.source_redirected), copy, "{text}");
        assert!(got.honoured);
    }
}

#[test]
fn a_faulted_half_put_back_merges_again() {
    ends_with(&[(
        "mmap 0 1 4 rw anon_private\ntouch 0 1 1\nmremap 0 3 2 2 MAYMOVE|FIXED 9\nmremap 0 9 2 2 MAYMOVE|FIXED 3",
        "1..5 rw- @1 A[A]",
    )]);
}

#[test]
fn no_pages_of_a_shared_mapping_are_a_duplicate() {
    ends_with(&[
        (
            "mmap 0 1 4 rw file0_shared - 7\nmremap 0 2 0 2 MAYMOVE|FIXED 9",
            "1..5 rw- 7 file0, 9..11 rw- 8 file0",
        ),
        (
            "mmap 0 1 4 r readonly_shared - 7\nmremap 0 2 0 2 MAYMOVE|FIXED 9",
            "1..5 r-- 7 file2, 9..11 r-- 8 file2",
        ),
        (
            "mmap 0 1 2 rw file0_shared LOCKED 7\nmremap 0 2 0 2 MAYMOVE|FIXED 9",
            "1..3 rw- 7 LOCKED file0, 9..11 rw- 8 LOCKED file0",
        ),
    ]);
    returns(&[(
        "mmap 0 1 4 rw file0_private - 7\nmremap 0 2 0 2 MAYMOVE|FIXED 9",
        Err(Errno::EINVAL),
    )]);
}

#[test]
fn a_move_that_fails_has_unmapped_already() {
    let two = "mmap 0 1 4 rw anon_private\nmmap 0 9 2 rw anon_private\n";
    for (op, error, maps) in [
        // The overlap is checked before anything is unmapped.
        ("mremap 0 1 4 4 MAYMOVE|FIXED 3", Errno::EINVAL, "1..5 rw- @1, 9..11 rw- @9"),
        ("mremap 0 1 5 5 MAYMOVE|FIXED 9", Errno::EFAULT, "1..5 rw- @1"),
        ("mremap 0 6 2 2 MAYMOVE|FIXED 9", Errno::EFAULT, "1..5 rw- @1"),
        ("mremap 0 1 0 1 MAYMOVE|FIXED 9", Errno::EINVAL, "1..5 rw- @1, 10..11 rw- @10"),
        ("mremap 0 5 9 1 MAYMOVE|FIXED 20", Errno::EFAULT, "1..5 rw- @1"),
    ] {
        let outcome = run(&format!("{two}{op}"));
        assert_eq!((outcome.last(), outcome.maps().as_str()), (Err(error), maps), "{op}");
        assert!(outcome.copies.is_empty());
    }
}

#[test]
fn the_device_moves_but_does_not_grow() {
    ends_with(&[
        (
            "mmap 0 1 4 rw special\nmremap 0 2 2 2 MAYMOVE|FIXED 9",
            "1..2 rw- 0 PFNMAP IO DONTEXPAND DONTDUMP file3, 4..5 rw- 3 PFNMAP IO DONTEXPAND DONTDUMP file3, 9..11 rw- 1 PFNMAP IO DONTEXPAND DONTDUMP file3",
        ),
        // A move to a smaller length unmaps the end of the source before it checks the source.
        (
            "mmap 0 1 4 rw special\nmremap 0 1 4 2 MAYMOVE|FIXED 9",
            "9..11 rw- 0 PFNMAP IO DONTEXPAND DONTDUMP file3",
        ),
    ]);
    returns(&[("mmap 0 1 4 rw special\nmremap 0 1 2 3 MAYMOVE|FIXED 9", Err(Errno::EFAULT))]);
}

#[test]
fn what_is_charged_and_locked_stays_so_in_every_piece() {
    let outcome = run("mmap 0 1 6 rw anon_private LOCKED\nmremap 0 3 2 3 MAYMOVE|FIXED 9");
    assert_eq!(
        outcome.maps(),
        "1..3 rw- @1 LOCKED A[A], 5..7 rw- @5 LOCKED A[A], 9..12 rw- @3 LOCKED A[A]"
    );
    let counters = outcome.seen.spaces[0].counters;
    assert_eq!((counters.total_vm, counters.locked_vm, outcome.seen.committed), (7, 7, 7));
}
