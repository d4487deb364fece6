//! Limits.

mod common;
use common::{returns, run};
use vmadiff_machine::Errno;

const ENOMEM: Result<u8, Errno> = Err(Errno::ENOMEM);
const EAGAIN: Result<u8, Errno> = Err(Errno::EAGAIN);

/// Four VMAs and room for no more.
const FULL: &str = "limits map_count=4\nmmap 0 1 4 rw anon_private\nmmap 0 6 2 rw anon_private\n\
                    mmap 0 9 2 rw anon_private\nmmap 0 20 9 rw anon_private\n";

#[track_caller]
fn full(cases: &[(&str, Result<u8, Errno>, &str)]) {
    for (op, result, maps) in cases {
        let outcome = run(&format!("{FULL}{op}"));
        let maps = format!("{maps}, 6..8 rw- @6, 9..11 rw- @9, 20..29 rw- @20");
        assert_eq!((outcome.last(), outcome.maps()), (*result, maps), "{op}");
    }
}

#[test]
fn no_cut_makes_one_vma_too_many() {
    full(&[
        ("mprotect 0 2 1 r", ENOMEM, "1..5 rw- @1"),
        ("mlock 0 2 1 1", ENOMEM, "1..5 rw- @1"),
        ("madvise 0 2 1 RANDOM", ENOMEM, "1..5 rw- @1"),
        ("mbind 0 2 1 BIND", ENOMEM, "1..5 rw- @1"),
        ("uffd_register 0 2 1", ENOMEM, "1..5 rw- @1"),
        ("munmap 0 2 1", ENOMEM, "1..5 rw- @1"),
        ("mmap 0 2 1 r anon_private", ENOMEM, "1..5 rw- @1"),
        // These calls leave as many VMAs as before.
        ("munmap 0 1 2", Ok(0), "3..5 rw- @3"),
        ("mprotect 0 1 4 r", Ok(0), "1..5 r-- @1"),
        ("madvise 0 1 4 RANDOM", Ok(0), "1..5 rw- @1 RAND_READ"),
    ]);
}

#[test]
fn a_first_cut_stays_where_the_second_is_one_too_many() {
    let outcome = run(&format!("{FULL}munmap 0 6 2\nmprotect 0 2 1 r"));
    assert_eq!(outcome.last(), ENOMEM);
    assert_eq!(outcome.maps(), "1..2 rw- @1, 2..5 rw- @2, 9..11 rw- @9, 20..29 rw- @20");
}

#[test]
fn mmap_may_pass_the_limit_by_one() {
    returns(&[
        (&format!("{FULL}mmap 0 40 1 r anon_private"), Ok(40)),
        (&format!("{FULL}mmap 0 40 1 r anon_private\nmmap 0 42 1 r anon_private"), ENOMEM),
        ("limits map_count=0\nmmap 0 1 1 rw anon_private", Ok(1)),
    ]);
}

#[test]
fn a_move_needs_room_for_six_vmas() {
    let moved = |limit| {
        run(&format!(
            "limits map_count={limit}\nmmap 0 1 4 rw anon_private\nmremap 0 1 1 1 MAYMOVE|FIXED 9"
        ))
        .last()
    };
    assert_eq!((moved(0), moved(6), moved(7)), (ENOMEM, ENOMEM, Ok(9)));
}

#[test]
fn pages_that_are_replaced_do_not_count() {
    let limited = "limits address_space=8\nmmap 0 1 6 rw anon_private\n";
    returns(&[
        (&format!("{limited}mmap 0 9 2 rw anon_private"), Ok(9)),
        (&format!("{limited}mmap 0 9 3 rw anon_private"), ENOMEM),
        (&format!("{limited}mmap 0 5 4 rw anon_private"), Ok(5)),
        (&format!("{limited}mmap 0 5 5 rw anon_private"), ENOMEM),
        (&format!("{limited}mremap 0 1 6 8 -"), Ok(1)),
        (&format!("{limited}mremap 0 1 6 9 -"), ENOMEM),
        (&format!("{limited}mremap 0 1 6 8 MAYMOVE|FIXED 20"), Ok(20)),
        (&format!("{limited}mremap 0 1 6 9 MAYMOVE|FIXED 20"), ENOMEM),
        (&format!("{limited}fork 0"), Ok(1)),
        (&format!("{limited}copy 0 1 2 0 20 FIXED"), Ok(20)),
        (&format!("{limited}copy 0 1 3 0 20 FIXED"), ENOMEM),
        (&format!("{limited}copy 0 1 3 0 6 FIXED"), Ok(6)),
    ]);
}

#[test]
fn locking_has_a_limit_of_its_own() {
    let limited = "limits lock=4\nmmap 0 1 6 rw anon_private\n";
    returns(&[
        (&format!("{limited}mlock 0 1 4"), Ok(0)),
        (&format!("{limited}mlock 0 1 5"), ENOMEM),
        // Pages that are locked already are not counted twice.
        (&format!("{limited}mlock 0 1 4\nmlock 0 1 4 1"), Ok(0)),
        (&format!("{limited}mlock 0 1 3\nmlock 0 3 2"), Ok(0)),
        (&format!("{limited}mlock 0 1 3\nmlock 0 3 3"), ENOMEM),
        // mmap counts locked pages even if it replaces them.
        (&format!("{limited}mlock 0 1 4\nmmap 0 1 1 rw anon_private LOCKED"), EAGAIN),
        (&format!("{limited}mmap 0 10 5 rw anon_private LOCKED"), EAGAIN),
        ("limits lock=4\nmmap 0 1 3 rw anon_private LOCKED\nmremap 0 1 3 4 -", Ok(1)),
        ("limits lock=4\nmmap 0 1 3 rw anon_private LOCKED\nmremap 0 1 3 5 -", EAGAIN),
        ("limits lock=4\nmmap 0 1 4 rw anon_private LOCKED\nmremap 0 1 4 4 MAYMOVE|FIXED 9", Ok(9)),
    ]);
}

#[test]
fn mlockall_counts_every_mapped_page_and_mcl_future_every_new_one() {
    let limited = "limits lock=4\nmmap 0 1 4 rw anon_private\n";
    returns(&[
        (&format!("{limited}mlockall 0 CURRENT"), Ok(0)),
        (&format!("{limited}mmap 0 9 1 rw anon_private\nmlockall 0 CURRENT"), ENOMEM),
        (&format!("{limited}mmap 0 9 1 rw anon_private\nmlockall 0 FUTURE"), Ok(0)),
        // Only MCL_CURRENT counts the mappings that are there.
        (&format!("{limited}mlockall 0 FUTURE\nmmap 0 9 4 rw anon_private"), Ok(9)),
        (&format!("{limited}mlockall 0 FUTURE\nmmap 0 9 5 rw anon_private"), EAGAIN),
        (&format!("{limited}mlockall 0 FUTURE\nmlock 0 1 1\nshmat 0 9"), EAGAIN),
        // The limit is checked before the setting changes.
        (
            "limits lock=1\nmlockall 0 FUTURE\nmmap 0 1 1 rw anon_private\nmunlockall 0\n\
             mmap 0 5 1 rw anon_private\nmlockall 0 CURRENT|FUTURE\nmmap 0 9 2 rw anon_private",
            Ok(9),
        ),
        // A child may lock again what its parent has locked.
        ("limits lock=1\nmlockall 0 FUTURE\nfork 0\nmmap 1 1 2 rw anon_private", Ok(1)),
    ]);
}

#[test]
fn without_any_locked_page_locking_is_not_permitted() {
    returns(&[
        ("limits lock=0\nmlock 0 1 0", Err(Errno::EPERM)),
        ("limits lock=0\nmmap 0 1 1 rw special LOCKED", Err(Errno::EPERM)),
        ("limits lock=0\nmunlock 0 1 0", Ok(0)),
        ("limits lock=0\nmlockall 0 FUTURE", Err(Errno::EPERM)),
        ("limits lock=0\nmlockall 0 ONFAULT", Err(Errno::EINVAL)),
        ("limits lock=0\nmunlockall 0", Ok(0)),
    ]);
}
