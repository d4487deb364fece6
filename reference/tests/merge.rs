//! The merge rule.

mod common;
use common::{ends_with, reasons, run};

const TWO: &str = "mmap 0 1 2 rw anon_private\nmmap 0 3 2 rw anon_private";

#[test]
fn neighbours_that_agree_in_everything_are_one() {
    ends_with(&[
        (TWO, "1..5 rw- @1"),
        // Neighbours merge on both sides of a hole, in any order of the calls.
        (
            "mmap 0 5 2 rw anon_private\nmmap 0 1 2 rw anon_private\nmmap 0 3 2 rw anon_private",
            "1..7 rw- @1",
        ),
        ("mmap 0 1 2 rw file0_private - 7\nmmap 0 3 2 rw file0_private - 9", "1..5 rw- 7 file0"),
        ("mmap 0 1 2 rw file0_shared - 7\nmmap 0 3 2 rw file0_shared - 9", "1..5 rw- 7 file0"),
        ("mmap 0 1 2 r readonly_shared - 7\nmmap 0 3 2 r readonly_shared - 9", "1..5 r-- 7 file2"),
    ]);
}

#[test]
fn neighbours_that_differ_in_anything_stay_two() {
    ends_with(&[
        // The page offset of the right VMA is not the one after the left VMA.
        (
            "mmap 0 1 2 rw file0_shared - 7\nmmap 0 3 2 rw file0_shared - 8",
            "1..3 rw- 7 file0, 3..5 rw- 8 file0",
        ),
        // The flags differ.
        ("mmap 0 1 2 rw anon_private\nmmap 0 3 2 r anon_private", "1..3 rw- @1, 3..5 r-- @3"),
        (
            "mmap 0 1 2 rw anon_private\nmmap 0 3 2 rw anon_private NORESERVE",
            "1..3 rw- @1, 3..5 rw- @3 NORESERVE",
        ),
        ("mmap 0 1 4 rw anon_private\nmadvise 0 3 2 DONTFORK", "1..3 rw- @1, 3..5 rw- @3 DONTCOPY"),
        // Only VM_ACCOUNT differs: memory that was writable once stays charged.
        (
            "mmap 0 1 2 r anon_private\nmmap 0 3 2 rw anon_private\nmprotect 0 3 2 r",
            "1..3 r-- @1, 3..5 r-- @3",
        ),
        // The files differ: each shared anonymous mapping has a file of its own.
        (
            "mmap 0 1 2 rw file0_shared - 7\nmmap 0 3 2 rw file1_shared - 9",
            "1..3 rw- 7 file0, 3..5 rw- 9 file1",
        ),
        (
            "mmap 0 1 2 rw anon_shared\nmmap 0 3 2 rw anon_shared",
            "1..3 rw- 0 file5, 3..5 rw- 0 file6",
        ),
        // The userfaultfd contexts differ.
        (
            "mmap 0 1 4 rw anon_private\nuffd_register 0 1 2 0\nuffd_register 0 3 2 1",
            "1..3 rw- @1 uffd0, 3..5 rw- @3 uffd1",
        ),
        // The policies differ.
        (
            "mmap 0 1 4 rw anon_private\nmbind 0 1 2 BIND\nmbind 0 3 2 PREFERRED",
            "1..3 rw- @1 BIND, 3..5 rw- @3 PREFERRED",
        ),
        // The VMAs are special (VM_SPECIAL) and have a vm_ops->close handler.
        (
            "mmap 0 1 2 rw special - 7\nmmap 0 3 2 rw special - 9",
            "1..3 rw- 7 PFNMAP IO DONTEXPAND DONTDUMP file3, 3..5 rw- 9 PFNMAP IO DONTEXPAND DONTDUMP file3",
        ),
    ]);
}

#[test]
fn soft_dirty_is_on_every_vma() {
    let outcome =
        run(&format!("{TWO}\nfork 0\nmremap 0 1 2 2 MAYMOVE|FIXED 9\ncopy 1 9 2 0 30 FIXED"));
    for space in &outcome.seen.spaces {
        assert!(
            space.vmas().iter().all(|v| v.flags.contains(vmadiff_machine::VmFlags::VM_SOFTDIRTY))
        );
    }
}

#[test]
fn anon_vmas_must_be_the_same_or_one_missing() {
    let apart = "mmap 0 1 2 rw anon_private\nmmap 0 5 2 rw anon_private\ntouch 0 1 1\n";
    ends_with(&[
        // A range that was never faulted joins a faulted neighbour on either side.
        ("mmap 0 1 2 rw anon_private\ntouch 0 1 1\nmmap 0 3 2 rw anon_private", "1..5 rw- @1 A[A]"),
        ("mmap 0 3 2 rw anon_private\ntouch 0 3 1\nmmap 0 1 2 rw anon_private", "1..5 rw- @1 A[A]"),
        // Both neighbours were faulted and have different anon_vmas: the range joins the left one.
        (
            &format!("{apart}touch 0 5 1\nmmap 0 3 2 rw anon_private"),
            "1..5 rw- @1 A[A], 5..7 rw- @5 B[B]",
        ),
        // The left neighbour has no anon_vma, so it takes the anon_vma of the right one.
        (
            "mmap 0 5 2 rw anon_private\ntouch 0 5 1\nmmap 0 1 2 rw anon_private\nmmap 0 3 2 rw anon_private",
            "1..7 rw- @1 A[A]",
        ),
        // A faulted range does not join a neighbour that was never faulted: the neighbour's chain
        // is empty.
        (
            "mmap 0 1 4 rw anon_private\nmprotect 0 3 2 r\ntouch 0 1 1\nmprotect 0 1 2 r",
            "1..3 r-- @1 A[A], 3..5 r-- @3",
        ),
        // A range that was never faulted joins a faulted neighbour.
        (
            "mmap 0 1 4 rw anon_private\nmprotect 0 3 2 r\ntouch 0 1 1\nmprotect 0 3 2 rw",
            "1..5 rw- @1 A[A]",
        ),
    ]);
}

#[test]
fn a_vma_that_descends_from_a_fork_takes_in_nothing_unfaulted() {
    // The chain of the child's VMA has two entries; the chain of the parent's VMA has one.
    ends_with(&[(
        "mmap 0 1 2 rw anon_private\ntouch 0 1 1\nfork 0\n\
         mmap 0 3 2 rw anon_private\nmmap 1 3 2 rw anon_private",
        "1..5 rw- @1 A[A]\n1..3 rw- @1 B[BA], 3..5 rw- @3",
    )]);
    // A VMA with two entries merges with a neighbour that has the same anon_vma.
    ends_with(&[(
        "mmap 0 1 4 rw anon_private\ntouch 0 1 1\nfork 0\nmprotect 1 3 2 r\nmprotect 1 3 2 rw",
        "1..5 rw- @1 A[A]\n1..5 rw- @1 B[BA]",
    )]);
}

#[test]
fn a_changed_part_joins_a_neighbour_or_is_cut_out() {
    let whole = "mmap 0 1 6 rw anon_private\n";
    ends_with(&[
        // The middle of a VMA changes.
        (&format!("{whole}mprotect 0 3 2 r"), "1..3 rw- @1, 3..5 r-- @3, 5..7 rw- @5"),
        // The boundary to the left neighbour moves up, and the boundary to the right neighbour
        // moves down.
        (&format!("{whole}mprotect 0 1 2 r\nmprotect 0 3 2 r"), "1..5 r-- @1, 5..7 rw- @5"),
        (&format!("{whole}mprotect 0 5 2 r\nmprotect 0 3 2 r"), "1..3 rw- @1, 3..7 r-- @3"),
        // The whole VMA joins the left neighbour, the right neighbour, or both.
        (&format!("{whole}mprotect 0 3 2 r\nmprotect 0 3 2 rw"), "1..7 rw- @1"),
        (
            &format!("{whole}mprotect 0 5 2 r\nmprotect 0 1 2 x\nmprotect 0 3 2 r"),
            "1..3 --x @1, 3..7 r-- @3",
        ),
        (
            &format!("{whole}mprotect 0 5 2 r\nmprotect 0 1 2 x\nmprotect 0 3 2 x"),
            "1..5 --x @1, 5..7 r-- @5",
        ),
    ]);
}

#[test]
fn what_is_as_wanted_already_is_left_alone_and_does_not_merge() {
    // Growing in place, and undoing DONTFORK, leave two neighbours that could merge but do not.
    let grown = "mmap 0 1 2 rw anon_private\nmmap 0 5 2 rw anon_private\nmremap 0 1 2 4 -\n";
    let two = "1..5 rw- @1, 5..7 rw- @5";
    ends_with(&[
        (grown, two),
        (&format!("{grown}mprotect 0 1 6 rw"), two),
        (&format!("{grown}munlock 0 1 6"), two),
        (&format!("{grown}madvise 0 1 6 DOFORK"), two),
        (&format!("{grown}mbind 0 1 6 DEFAULT"), two),
        (&format!("{grown}mlock 0 1 6 1\nmunlock 0 1 6"), "1..7 rw- @1"),
    ]);
}

#[test]
fn a_decision_to_merge_names_the_neighbours_that_joined_and_the_vma_that_it_made() {
    // The last operation of each program maps [3,5).
    let decision = |text: &str| {
        let why = reasons(text);
        let merge = why.merges.first().expect("a decision");
        let joined = merge.neighbours().map(|near| (near.range.to_string(), near.joined()));
        (joined.collect::<Vec<_>>(), merge.merged().map(|range| range.to_string()))
    };
    let near = |range: &str, joined: bool| (range.to_owned(), joined);
    let (left, right) = ("mmap 0 1 2 rw anon_private\n", "mmap 0 5 2 rw anon_private\n");
    let new = "mmap 0 3 2 rw anon_private";
    for (text, neighbours, merged) in [
        (new.into(), vec![], None),
        (format!("{left}{new}"), vec![near("[1,3)", true)], Some("[1,5)")),
        (format!("{right}{new}"), vec![near("[5,7)", true)], Some("[3,7)")),
        (
            format!("{left}{right}{new}"),
            vec![near("[1,3)", true), near("[5,7)", true)],
            Some("[1,7)"),
        ),
        (
            format!("{left}{right}mmap 0 3 2 r anon_private"),
            vec![near("[1,3)", false), near("[5,7)", false)],
            None,
        ),
    ] {
        assert_eq!(decision(&text), (neighbours, merged.map(str::to_owned)), "\n{text}");
    }
}
