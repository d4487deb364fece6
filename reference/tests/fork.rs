//! The address space of a child after `fork`.

mod common;
use common::{ends_with, returns, run};
use vmadiff_machine::Errno;

#[test]
fn a_child_has_nothing_locked() {
    ends_with(&[(
        "mmap 0 1 2 r anon_private LOCKED\nmmap 0 3 2 r anon_private\nmlock 0 3 2 1\nfork 0",
        "1..3 r-- @1 LOCKED, 3..5 r-- @3 LOCKED LOCKONFAULT\n1..3 r-- @1, 3..5 r-- @3",
    )]);
    assert_eq!(
        run("mmap 0 1 2 rw anon_private LOCKED\nfork 0").seen.spaces[1].counters.locked_vm,
        0
    );
}

#[test]
fn dontfork_memory_is_left_out_and_not_counted() {
    let outcome = run("mmap 0 1 6 rw anon_private\nmadvise 0 3 2 DONTFORK\nfork 0");
    assert_eq!(
        outcome.maps(),
        "1..3 rw- @1, 3..5 rw- @3 DONTCOPY, 5..7 rw- @5\n1..3 rw- @1, 5..7 rw- @5"
    );
    let counters = outcome.seen.spaces[1].counters;
    assert_eq!((counters.total_vm, counters.data_vm, counters.map_count), (4, 4, 2));
    assert_eq!(outcome.seen.committed, 10);
}

#[test]
fn wiped_memory_has_an_anon_vma_at_once_and_no_pages() {
    let outcome = run("mmap 0 1 2 rw anon_private\ntouch 0 1 1\nmadvise 0 1 2 WIPEONFORK\nfork 0");
    assert_eq!(outcome.maps(), "1..3 rw- @1 WIPEONFORK A[A]\n1..3 rw- @1 WIPEONFORK B[B]");
    assert_eq!((outcome.anon_pages(0), outcome.anon_pages(1)), ("1".into(), String::new()));
    // The child gets an anon_vma even if the parent has none.
    ends_with(&[(
        "mmap 0 1 2 rw anon_private\nmadvise 0 1 2 WIPEONFORK\nfork 0",
        "1..3 rw- @1 WIPEONFORK\n1..3 rw- @1 WIPEONFORK A[A]",
    )]);
}

#[test]
fn wiped_memory_may_share_the_anon_vma_of_its_parents_neighbour() {
    ends_with(&[(
        "mmap 0 1 4 rw anon_private\nmadvise 0 1 4 WIPEONFORK\nmprotect 0 3 2 r\ntouch 0 1 1\nfork 0",
        "1..3 rw- @1 WIPEONFORK A[A], 3..5 r-- @3 WIPEONFORK\n\
         1..3 rw- @1 WIPEONFORK B[B], 3..5 r-- @3 WIPEONFORK A[A]",
    )]);
    // The neighbour above is asked, too.
    ends_with(&[(
        "mmap 0 3 2 rw anon_private\ntouch 0 3 1\nmprotect 0 3 2 r\nmmap 0 1 2 rw anon_private\n\
         madvise 0 1 4 WIPEONFORK\nfork 0",
        "1..3 rw- @1 WIPEONFORK, 3..5 r-- @3 WIPEONFORK A[A]\n\
         1..3 rw- @1 WIPEONFORK A[A], 3..5 r-- @3 WIPEONFORK B[B]",
    )]);
    // The child's VMA is compared with the neighbour while both still have the lock flags.
    ends_with(&[(
        "mmap 0 1 4 rw anon_private\nmadvise 0 1 4 WIPEONFORK\nmprotect 0 3 2 r\nmlock 0 1 4\nfork 0",
        "1..3 rw- @1 LOCKED WIPEONFORK A[A], 3..5 r-- @3 LOCKED WIPEONFORK\n\
         1..3 rw- @1 WIPEONFORK B[B], 3..5 r-- @3 WIPEONFORK A[A]",
    )]);
}

#[test]
fn a_child_is_not_watched_and_owns_no_context() {
    ends_with(&[(
        "mmap 0 1 2 rw anon_private\nuffd_register 0 1 2\nfork 0",
        "1..3 rw- @1 uffd0\n1..3 rw- @1",
    )]);
    returns(&[(
        "mmap 0 1 2 rw anon_private\nuffd_register 0 1 2\nfork 0\nuffd_unregister 1 1 2",
        Err(Errno::EBADF),
    )]);
}

#[test]
fn pages_are_shared_where_the_parent_has_an_anon_vma() {
    let outcome = run("mmap 0 1 3 rw anon_private\ntouch 0 2 1\nfork 0\ntouch 0 1 1\ntouch 1 3 1");
    assert_eq!((outcome.anon_pages(0), outcome.anon_pages(1)), ("1 2".into(), "2 3".into()));
}

#[test]
fn zero_pages_are_shared_where_the_parent_has_an_anon_vma() {
    let zero_pages = |text: &str| run(text).seen.spaces.map(|space| space.zero_pages)[1];
    assert_eq!(zero_pages("mmap 0 1 3 rw anon_private\ntouch 0 1\nfork 0"), 0);
    assert_eq!(zero_pages("mmap 0 1 3 rw anon_private\ntouch 0 1\ntouch 0 2 1\nfork 0"), 1 << 1);
}

#[test]
fn the_driver_is_told_of_each_vma_of_the_child() {
    let opens = |text: &str| run(text).seen.driver.opens;
    assert_eq!(opens("mmap 0 1 1 r special\nfork 0"), 1);
    assert_eq!(opens("mmap 0 1 1 r special\nmmap 0 3 2 r special\nfork 0"), 2);
}

#[test]
fn a_child_takes_the_lowest_free_index() {
    returns(&[
        ("fork 0\nfork 0\nexit 1\nfork 2", Ok(1)),
        ("limits processes=2\nfork 0\nfork 0", Err(Errno::EAGAIN)),
        ("limits processes=0\nfork 0", Err(Errno::EAGAIN)),
        ("fork 0\nexit 0\nfork 1", Ok(0)),
        ("exit 0\nfork 0", Err(Errno::ESRCH)),
        ("exit 0\nexit 0", Err(Errno::ESRCH)),
    ]);
}

#[test]
fn a_process_that_ends_leaves_nothing() {
    let outcome = run("mmap 0 1 2 rw anon_private LOCKED\nexit 0");
    assert!(!outcome.seen.spaces[0].alive && outcome.seen.spaces[0].vmas().is_empty());
    assert_eq!((outcome.seen.committed, outcome.anon_pages(0)), (0, String::new()));
}
