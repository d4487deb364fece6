//! userfaultfd.

mod common;
use common::{ends_with, returns, run};
use vmadiff_machine::Errno;

#[test]
fn a_range_is_watched_vma_by_vma_and_holes_do_not_matter() {
    let text =
        "mmap 0 1 4 rw anon_private\nmmap 0 7 2 rw file0_private - 7\nuffd_register 0 3 20\n";
    ends_with(&[
        (text, "1..3 rw- @1, 3..5 rw- @3 uffd0, 7..9 rw- 7 file0 uffd0"),
        (&format!("{text}uffd_unregister 0 0 40"), "1..5 rw- @1, 7..9 rw- 7 file0"),
        (&format!("{text}uffd_register 0 1 2"), "1..5 rw- @1 uffd0, 7..9 rw- 7 file0 uffd0"),
    ]);
}

#[test]
fn what_cannot_be_watched_is_refused_before_anything_is() {
    returns(&[
        ("uffd_register 0 1 2", Err(Errno::EINVAL)),
        ("mmap 0 1 2 rw anon_private\nuffd_register 0 1 0", Err(Errno::EINVAL)),
        ("mmap 0 1 2 rw anon_private\nuffd_register 0 3 9", Err(Errno::EINVAL)),
        ("mmap 0 1 2 rw special\nuffd_register 0 1 2", Err(Errno::EINVAL)),
        ("mmap 0 1 2 r readonly_shared\nuffd_register 0 1 2", Err(Errno::EPERM)),
        (
            "mmap 0 1 2 rw anon_private\nuffd_register 0 1 2\nuffd_register 0 2 1 1",
            Err(Errno::EBUSY),
        ),
        // The first VMA that does not fit decides the errno.
        (
            "mmap 0 1 2 r readonly_shared\nmmap 0 3 2 rw special\nuffd_register 0 1 4",
            Err(Errno::EPERM),
        ),
        ("uffd_unregister 0 1 2", Err(Errno::EBADF)),
        // A failed registration opens the context, too.
        ("uffd_register 0 1 2\nuffd_unregister 0 1 2", Err(Errno::EINVAL)),
        ("uffd_register 0 1 2\nuffd_unregister 0 1 2 1", Err(Errno::EBADF)),
        (
            "mmap 0 1 2 rw anon_private\nuffd_register 0 1 2\nmmap 0 3 1 rw special\nuffd_unregister 0 1 4",
            Err(Errno::EINVAL),
        ),
    ]);
    ends_with(&[(
        "mmap 0 1 2 rw anon_private\nmmap 0 3 2 rw special\nuffd_register 0 1 4",
        "1..3 rw- @1, 3..5 rw- 0 PFNMAP IO DONTEXPAND DONTDUMP file3",
    )]);
}

#[test]
fn any_context_of_the_process_unregisters_any() {
    ends_with(&[(
        "mmap 0 1 2 rw anon_private\nuffd_register 0 1 2 0\nuffd_register 0 9 1 1\nuffd_unregister 0 1 2 1",
        "1..3 rw- @1",
    )]);
}

#[test]
fn the_merge_rule_is_asked_with_the_offset_of_the_vmas_start() {
    ends_with(&[
        // The part 3..5 fits the watched VMA after it, but does not join it.
        (
            "mmap 0 1 6 rw anon_private\nuffd_register 0 5 2\nuffd_register 0 3 2",
            "1..3 rw- @1, 3..5 rw- @3 uffd0, 5..7 rw- @5 uffd0",
        ),
        // A part that begins at the start of its VMA is compared with the right offset.
        (
            "mmap 0 1 6 rw anon_private\nuffd_register 0 5 2\nuffd_register 0 1 4",
            "1..7 rw- @1 uffd0",
        ),
        // The part joins a VMA whose offset is wrong by the same distance. The part then shows
        // other pages of the file.
        (
            "mmap 0 1 4 rw file0_shared - 7\nmmap 0 5 2 rw file0_shared - 9\n\
             uffd_register 0 5 2\nuffd_register 0 3 2",
            "1..3 rw- 7 file0, 3..7 rw- 7 file0 uffd0",
        ),
        // The left neighbour is compared with the start of the part, which is the start of its VMA.
        (
            "mmap 0 1 6 rw anon_private\nuffd_register 0 1 2\nuffd_register 0 3 2",
            "1..5 rw- @1 uffd0, 5..7 rw- @5",
        ),
        (
            "mmap 0 1 6 rw anon_private\nuffd_register 0 1 6\nuffd_unregister 0 5 2\nuffd_unregister 0 3 2",
            "1..3 rw- @1 uffd0, 3..5 rw- @3, 5..7 rw- @5",
        ),
    ]);
}

#[test]
fn a_move_and_what_it_merges_with_is_not_watched_any_more() {
    ends_with(&[
        (
            "mmap 0 1 4 rw anon_private\nuffd_register 0 1 4\nmremap 0 3 2 2 MAYMOVE|FIXED 9",
            "1..3 rw- @1 uffd0, 9..11 rw- @9",
        ),
        // Memory that was never faulted joins its own source, and the whole VMA loses the context.
        (
            "mmap 0 1 4 rw anon_private\nuffd_register 0 1 4\nmremap 0 1 2 2 MAYMOVE|FIXED 5",
            "3..7 rw- @3",
        ),
        // Growing in place is not a move, so the context stays.
        ("mmap 0 1 4 rw anon_private\nuffd_register 0 1 4\nmremap 0 1 4 6 -", "1..7 rw- @1 uffd0"),
    ]);
}

#[test]
fn an_unmapped_part_takes_its_context_along() {
    ends_with(&[(
        "mmap 0 1 6 rw anon_private\nuffd_register 0 1 6\nmunmap 0 3 2\nmmap 0 3 2 rw anon_private",
        "1..3 rw- @1 uffd0, 3..5 rw- @3, 5..7 rw- @5 uffd0",
    )]);
}

#[test]
fn a_touch_would_wait_whether_or_not_it_is_permitted() {
    let watched =
        |prot| format!("mmap 0 1 2 {prot} anon_private\nuffd_register 0 1 2\ntouch 0 1 1");
    returns(&[(&watched("rw"), Err(Errno::EAGAIN)), (&watched("-"), Err(Errno::EAGAIN))]);
    assert_eq!(run(&watched("rw")).maps(), "1..3 rw- @1 uffd0");
}

#[test]
fn populating_waits_for_what_is_missing_and_keeps_what_it_did() {
    let outcome = run("mmap 0 1 3 rw anon_private\ntouch 0 1 1\nuffd_register 0 1 2\nmlock 0 1 3");
    assert_eq!(outcome.last(), Err(Errno::EAGAIN));
    assert_eq!(outcome.maps(), "1..3 rw- @1 LOCKED uffd0 A[A], 3..4 rw- @3 LOCKED A[A]");
    assert_eq!(outcome.anon_pages(0), "1");
    // The VMA gets an anon_vma before the fault waits.
    ends_with(&[(
        "mmap 0 1 2 rw anon_private\nuffd_register 0 1 2\nmlock 0 1 2",
        "1..3 rw- @1 LOCKED uffd0 A[A]",
    )]);
    returns(&[
        // The zero page is present, for reading and for writing.
        ("mmap 0 1 1 rw anon_private\ntouch 0 1 0\nuffd_register 0 1 1\nmlock 0 1 1", Ok(0)),
        // All pages of a memfd are present, and the touched pages of a shared anonymous object.
        ("mmap 0 1 1 rw file0_shared\nuffd_register 0 1 1\nmlock 0 1 1", Ok(0)),
        ("mmap 0 1 1 rw anon_shared\ntouch 0 1 0\nuffd_register 0 1 1\nmlock 0 1 1", Ok(0)),
        (
            "mmap 0 1 2 rw anon_shared\ntouch 0 1 0\nuffd_register 0 1 2\nmlock 0 1 2",
            Err(Errno::EAGAIN),
        ),
        // Another process touched the page.
        ("mmap 0 1 1 rw anon_shared\nfork 0\ntouch 1 1 0\nuffd_register 0 1 1\nmlock 0 1 1", Ok(0)),
        ("mmap 0 1 2 rw anon_private\nuffd_register 0 1 2\nmlock 0 1 2 1", Ok(0)),
        (
            "mmap 0 1 1 rw anon_private LOCKED\nuffd_register 0 1 1\nmremap 0 1 1 2 -",
            Err(Errno::EAGAIN),
        ),
    ]);
}

#[test]
fn mprotect_populates_but_does_not_wait() {
    let outcome = run(
        "mmap 0 1 2 r anon_private LOCKED\nmadvise 0 1 1 RANDOM\nmunlock 0 1 2\nmadvise 0 1 2 DONTNEED\n\
         uffd_register 0 1 2\nmlock 0 1 2 1\nmprotect 0 1 2 rw",
    );
    assert_eq!(outcome.last(), Ok(0));
    // Above, the memory is locked on fault, so nothing is populated. Here mprotect populates the
    // memory. The fault fails, and mprotect ignores the failure.
    let text = "mmap 0 1 2 r anon_private\nuffd_register 0 1 2\nmlock 0 1 2\nmprotect 0 1 2 rw";
    let outcome = run(text);
    assert_eq!(outcome.results[2..], [Err(Errno::EAGAIN), Ok(0)]);
    assert_eq!(outcome.maps(), "1..3 rw- @1 LOCKED uffd0 A[A]");
    assert_eq!(outcome.anon_pages(0), "");
}
