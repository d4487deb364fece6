//! The identity of anonymous memory.

mod common;
use common::{ends_with, run};

#[test]
fn a_first_write_makes_an_anon_vma_and_a_read_none() {
    ends_with(&[
        ("mmap 0 1 2 rw anon_private\ntouch 0 1 0", "1..3 rw- @1"),
        ("mmap 0 1 2 rw anon_private\ntouch 0 1 1", "1..3 rw- @1 A[A]"),
        ("mmap 0 1 2 rw file0_private\ntouch 0 1 0", "1..3 rw- 0 file0"),
        ("mmap 0 1 2 rw file0_private\ntouch 0 1 1", "1..3 rw- 0 file0 A[A]"),
        ("mmap 0 1 2 rw file0_shared\ntouch 0 1 1", "1..3 rw- 0 file0"),
        ("mmap 0 1 2 rw anon_shared\ntouch 0 1 1", "1..3 rw- 0 file5"),
    ]);
}

#[test]
fn neighbours_that_differ_in_protection_alone_share_one() {
    let cut = "mmap 0 1 6 rw anon_private\nmprotect 0 3 2 rwx\n";
    ends_with(&[
        (
            &format!("{cut}touch 0 1 1\ntouch 0 3 1"),
            "1..3 rw- @1 A[A], 3..5 rwx @3 A[A], 5..7 rw- @5",
        ),
        (
            &format!("{cut}touch 0 5 1\ntouch 0 3 1"),
            "1..3 rw- @1, 3..5 rwx @3 A[A], 5..7 rw- @5 A[A]",
        ),
        // The next VMA is asked before the previous one.
        (
            &format!("{cut}touch 0 1 1\ntouch 0 5 1\ntouch 0 3 1"),
            "1..3 rw- @1 A[A], 3..5 rwx @3 B[B], 5..7 rw- @5 B[B]",
        ),
        // VMAs that differ in any other flag do not share an anon_vma.
        (
            "mmap 0 1 4 rw anon_private\nmadvise 0 3 2 RANDOM\ntouch 0 1 1\ntouch 0 3 1",
            "1..3 rw- @1 A[A], 3..5 rw- @3 RAND_READ B[B]",
        ),
        // The anon_vma of a VMA whose chain has two entries is not shared.
        (
            "mmap 0 1 4 rw anon_private\nmprotect 0 3 2 rwx\ntouch 0 1 1\nfork 0\ntouch 1 3 1",
            "1..3 rw- @1 A[A], 3..5 rwx @3\n1..3 rw- @1 B[BA], 3..5 rwx @3 C[C]",
        ),
    ]);
}

#[test]
fn parts_of_a_cut_vma_share_all() {
    ends_with(&[(
        "mmap 0 1 6 rw anon_private\ntouch 0 1 1\nfork 0\nmprotect 1 3 2 r",
        "1..7 rw- @1 A[A]\n1..3 rw- @1 B[BA], 3..5 r-- @3 B[BA], 5..7 rw- @5 B[BA]",
    )]);
}

#[test]
fn a_child_hangs_on_its_parents_chain_and_one_more() {
    ends_with(&[(
        "mmap 0 1 1 rw anon_private\ntouch 0 1 1\nfork 0\nfork 1\nfork 0",
        "1..2 rw- @1 A[A]\n1..2 rw- @1 B[BA]\n1..2 rw- @1 C[CBA]\n1..2 rw- @1 D[DA]",
    )]);
}

#[test]
fn an_anon_vma_without_vma_and_with_one_child_is_taken_again() {
    // B, the anon_vma of process 1, has no VMA any more when process 2 forks, so it is reused. The
    // root A is never reused: it counts itself as a child.
    ends_with(&[(
        "mmap 0 1 1 rw anon_private\ntouch 0 1 1\nfork 0\nfork 1\nexit 1\nfork 2",
        "1..2 rw- @1 A[A]\n1..2 rw- @1 B[CBA]\n1..2 rw- @1 C[CBA]",
    )]);
    // While process 1 lives, B has a VMA and a child, so it is not reused.
    ends_with(&[(
        "mmap 0 1 1 rw anon_private\ntouch 0 1 1\nfork 0\nfork 1\nfork 2",
        "1..2 rw- @1 A[A]\n1..2 rw- @1 B[BA]\n1..2 rw- @1 C[CBA]\n1..2 rw- @1 D[DCBA]",
    )]);
    // With two children B is not reused: reverse-map walks would meet both.
    ends_with(&[(
        "mmap 0 1 1 rw anon_private\ntouch 0 1 1\nfork 0\nfork 1\nfork 1\nexit 1\nfork 2",
        "1..2 rw- @1 A[A]\n1..2 rw- @1 B[BCDA]\n1..2 rw- @1 C[CDA]\n1..2 rw- @1 E[EDA]",
    )]);
}

#[test]
fn for_ever_forking_does_not_make_the_chain_longer() {
    let mut text = String::from("mmap 0 1 1 rw anon_private\ntouch 0 1 1\n");
    for _ in 0..15 {
        text += "fork 0\nexit 0\nfork 1\nexit 1\n";
    }
    let outcome = run(&text);
    let space = &outcome.seen.spaces[0];
    assert!(space.chain(&space.vmas()[0]).len() <= 3, "{}", outcome.maps());
}

#[test]
fn an_anon_vma_goes_with_the_last_vma_that_hangs_on_it() {
    // The new anon_vma is not the old one, even if it has the same number.
    let outcome = run("mmap 0 1 1 rw anon_private\ntouch 0 1 1\nfork 0\nmunmap 0 1 1\n\
         mmap 0 1 1 rw anon_private\ntouch 0 1 1");
    assert_eq!(outcome.maps(), "1..2 rw- @1 A[A]\n1..2 rw- @1 B[BC]");
}
