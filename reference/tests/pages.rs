//! Pages and populating.

mod common;
use common::{ends_with, returns, run};
use vmadiff_machine::Errno;

#[track_caller]
fn shows(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(run(text).anon_pages(0), *expected, "\n{text}");
    }
}

#[test]
fn an_access_needs_permission_and_a_page_of_the_file() {
    returns(&[
        ("touch 0 1", Err(Errno::EFAULT)),
        ("touch 1 1", Err(Errno::ESRCH)),
        ("mmap 0 1 1 - anon_private\ntouch 0 1", Err(Errno::EFAULT)),
        ("mmap 0 1 1 r anon_private\ntouch 0 1", Ok(0)),
        ("mmap 0 1 1 w anon_private\ntouch 0 1", Ok(0)),
        ("mmap 0 1 1 x anon_private\ntouch 0 1", Ok(0)),
        ("mmap 0 1 1 rx anon_private\ntouch 0 1 1", Err(Errno::EFAULT)),
        ("mmap 0 1 1 w special\ntouch 0 1 1", Ok(0)),
        ("mmap 0 1 1 w special\ntouch 0 1 0", Ok(0)),
        // The mapping grew beyond its shmem object.
        ("mmap 0 1 1 rw anon_shared\nmremap 0 1 1 2 -\ntouch 0 2", Err(Errno::SIGBUS)),
        ("mmap 0 1 1 rw anon_shared\nmremap 0 1 1 2 -\ntouch 0 1", Ok(0)),
        // A memfd is longer than the segment of SysV shared memory, which ends after four pages.
        ("mmap 0 0 8 r file0_shared\ntouch 0 7", Ok(0)),
        ("shmat 0 0\nmremap 0 0 4 5\ntouch 0 4", Err(Errno::SIGBUS)),
        ("shmat 0 0\nmremap 0 0 4 5\ntouch 0 3", Ok(0)),
    ]);
}

#[test]
fn only_writes_to_private_memory_make_anonymous_pages() {
    shows(&[
        ("mmap 0 1 2 rw anon_private\ntouch 0 1 0\ntouch 0 2 1", "2"),
        ("mmap 0 1 2 rw file0_private\ntouch 0 1 0\ntouch 0 2 1", "2"),
        ("mmap 0 1 2 rw file0_shared\ntouch 0 2 1", ""),
        ("mmap 0 1 2 rw anon_shared\ntouch 0 2 1", ""),
        ("mmap 0 1 2 rw special\ntouch 0 2 1", ""),
    ]);
}

#[test]
fn pages_go_with_their_mapping_or_when_they_are_not_needed() {
    let three = "mmap 0 1 3 rw anon_private\ntouch 0 1 1\ntouch 0 2 1\ntouch 0 3 1\n";
    shows(&[
        (&format!("{three}munmap 0 2 1"), "1 3"),
        (&format!("{three}mmap 0 2 1 rw anon_private"), "1 3"),
        (&format!("{three}madvise 0 2 1 DONTNEED"), "1 3"),
        (&format!("{three}madvise 0 2 1 FREE"), "1 2 3"),
        (&format!("{three}mprotect 0 2 1 -"), "1 2 3"),
        (&format!("{three}mremap 0 2 2 2 MAYMOVE|FIXED 9"), "1 9 10"),
        (&format!("{three}mremap 0 1 3 1 -"), "1"),
        (&format!("{three}mremap 0 1 3 2 MAYMOVE|FIXED 9"), "9 10"),
    ]);
}

#[test]
fn locking_writes_private_writable_memory_and_reads_any_other() {
    shows(&[
        ("mmap 0 1 2 rw anon_private LOCKED", "1 2"),
        ("mmap 0 1 2 w anon_private\nmlock 0 2 1", "2"),
        ("mmap 0 1 2 rw file0_private LOCKED", "1 2"),
        ("mmap 0 1 2 r anon_private LOCKED", ""),
        ("mmap 0 1 2 rw anon_private\nmlock 0 1 2 1", ""),
        // A page that was read is written by mlock, and every page gets an anonymous page. With
        // lock on fault, no page is populated.
        ("mmap 0 1 2 rw anon_private\ntouch 0 1\nmlock 0 1 2", "1 2"),
        ("mmap 0 1 2 rw anon_private\ntouch 0 1\nmlock 0 1 2 1", ""),
        ("mmap 0 1 2 r anon_private LOCKED\nmprotect 0 2 1 rw", "2"),
        ("mmap 0 1 2 rw anon_private LOCKED\nmremap 0 1 2 3 -", "1 2 3"),
        ("mmap 0 1 2 rw anon_private LOCKED\nmremap 0 1 2 3 MAYMOVE|FIXED 9", "9 10 11"),
    ]);
    ends_with(&[
        ("mmap 0 1 2 r anon_private LOCKED", "1..3 r-- @1 LOCKED"),
        ("mmap 0 1 2 rw file0_private LOCKED", "1..3 rw- 0 LOCKED file0 A[A]"),
    ]);
}

#[test]
fn mlock_says_where_populating_fails_and_mmap_does_not() {
    returns(&[
        ("mmap 0 1 2 - anon_private\nmlock 0 1 2", Err(Errno::ENOMEM)),
        ("mmap 0 1 2 - anon_private\nmlock 0 1 2 1", Err(Errno::ENOMEM)),
        ("mmap 0 1 2 - anon_private LOCKED", Ok(1)),
        ("mmap 0 1 2 x anon_private\nmlock 0 1 2", Ok(0)),
        ("mmap 0 1 1 rw anon_shared\nmremap 0 1 1 2 -\nmlock 0 1 2", Err(Errno::ENOMEM)),
        ("mmap 0 1 1 rw anon_shared LOCKED\nmremap 0 1 1 2 -", Ok(1)),
        ("mmap 0 1 2 rw special\nmlock 0 1 2", Ok(0)),
        // Populating leaves the device out, and so never asks for its permissions.
        ("mmap 0 1 2 - special\nmlock 0 1 2", Ok(0)),
    ]);
    // The range is locked although populating failed.
    ends_with(&[("mmap 0 1 2 - anon_private\nmlock 0 1 2", "1..3 --- @1 LOCKED")]);
}

#[test]
fn zero_pages_that_go_are_shown_to_be_gone() {
    let zero_pages = |text: &str| run(text).seen.spaces[0].zero_pages;
    let read = "mmap 0 1 2 rw anon_private\ntouch 0 1\n";
    assert_eq!(zero_pages(read), 1 << 1);
    assert_eq!(zero_pages(&format!("{read}madvise 0 1 1 DONTNEED")), 0);
    assert_eq!(zero_pages(&format!("{read}madvise 0 2 1 DONTNEED")), 1 << 1);
}

#[test]
fn mprotect_populates_locked_memory_only_where_it_was_private_and_not_writable() {
    // mlock has waited for userfaultfd, so the pages are missing although the VMA is locked.
    let pages = |prot: &str, new: &str| {
        run(&format!(
            "mmap 0 0 2 {prot} anon_private\nuffd_register 0 0 2 0\nmlock 0 0 2 0\n\
             uffd_unregister 0 0 2 0\nmprotect 0 0 2 {new}"
        ))
        .anon_pages(0)
    };
    assert_eq!(pages("r", "rw"), "0 1");
    assert_eq!(pages("rw", "rwx"), "");
}

#[test]
fn userfaultfd_watches_shared_memory_for_pages_that_are_missing_in_the_file() {
    // mlock() populates a page; touch() is refused wherever userfaultfd watches.
    let shared = |made: &str, page: u8| {
        format!("mmap 0 0 2 rw anon_shared\n{made}uffd_register 0 0 2 0\nmlock 0 {page} 1 0")
    };
    returns(&[
        (&shared("touch 0 1\n", 1), Ok(0)),
        (&shared("touch 0 1\n", 0), Err(Errno::EAGAIN)),
        (&shared("", 1), Err(Errno::EAGAIN)),
        ("mmap 0 0 2 rw file0_shared\nuffd_register 0 0 2 0\nmlock 0 1 1 0", Ok(0)),
        ("shmat 0 0\nuffd_register 0 0 4 0\nmlock 0 1 1 0", Ok(0)),
    ]);
}
