//! System calls: the errors of each, the point at which it stops, and the work that stays done.

mod common;
use common::{ends_with, returns, run};
use vmadiff_machine::operand::Page;
use vmadiff_machine::{Errno, Observation, Program, VmFlags};
use vmadiff_reference::Reference;
use vmadiff_reference::later::{self, Rules};
use vmadiff_reference::refusal::Progress;

#[test]
fn mmap_flags_and_offsets_follow_from_the_kind() {
    let flags = |text: &str| format!("{:#x}", run(text).flags(0, 1).bits());
    for (text, expected) in [
        ("mmap 0 1 1 rw anon_private", "0x8100073"),
        ("mmap 0 1 1 r anon_private", "0x8000071"),
        ("mmap 0 1 1 rw anon_private NORESERVE", "0x8200073"),
        ("mmap 0 1 1 rw anon_shared", "0x80000fb"),
        ("mmap 0 1 1 w file0_private LOCKED", "0x8102072"),
        ("mmap 0 1 1 rwx file0_shared NORESERVE", "0x82000ff"),
        ("mmap 0 1 1 rx readonly_shared", "0x80000d5"),
        // The device is never locked.
        ("mmap 0 1 1 rw special LOCKED", "0xc0444fb"),
    ] {
        assert_eq!(flags(text), expected, "{text}");
    }
    ends_with(&[
        ("mmap 0 1 2 rw anon_private - 9", "1..3 rw- @1"),
        ("mmap 0 1 2 rw anon_shared - 9", "1..3 rw- 0 file5"),
        ("mmap 0 1 2 rw file1_private - 9", "1..3 rw- 9 file1"),
        (
            "mmap 0 1 4 rw anon_private\nmmap 0 2 2 r anon_private",
            "1..2 rw- @1, 2..4 r-- @2, 4..5 rw- @4",
        ),
    ]);
}

#[test]
fn mmap_refuses() {
    returns(&[
        ("mmap 0 1 0 rw anon_private", Err(Errno::EINVAL)),
        ("mmap 0 1 1 rw readonly_shared", Err(Errno::EACCES)),
        (
            "mmap 0 1 3 r anon_private\nmmap 0 3 1 rw anon_private FIXED_NOREPLACE",
            Err(Errno::EEXIST),
        ),
        ("mmap 0 1 3 r anon_private\nmmap 0 4 1 rw anon_private FIXED_NOREPLACE", Ok(4)),
        ("mmap 1 1 1 rw anon_private", Err(Errno::ESRCH)),
    ]);
}

#[test]
fn mlockall_locks_what_is_there_and_what_comes() {
    returns(&[
        ("mlockall 0 -", Err(Errno::EINVAL)),
        ("mlockall 0 ONFAULT", Err(Errno::EINVAL)),
        ("mlockall 0 CURRENT|FUTURE|ONFAULT", Ok(0)),
    ]);
    ends_with(&[
        (
            "mmap 0 1 1 rw anon_private\nmmap 0 5 1 r special\nmlockall 0 CURRENT\n\
             mmap 0 7 1 rw anon_private",
            "1..2 rw- @1 LOCKED A[A], 5..6 r-- 0 PFNMAP IO DONTEXPAND DONTDUMP file3, 7..8 rw- @7",
        ),
        (
            "mmap 0 1 1 rw anon_private\nmlockall 0 FUTURE|ONFAULT\nmmap 0 2 1 rw anon_private",
            "1..2 rw- @1, 2..3 rw- @2 LOCKED LOCKONFAULT",
        ),
        // Each call replaces the setting, and the lock flags of what is there.
        (
            "mlockall 0 FUTURE|ONFAULT\nmmap 0 1 1 rw anon_private\nmlockall 0 CURRENT\n\
             mmap 0 2 1 rw anon_private",
            "1..2 rw- @1 LOCKED A[A], 2..3 rw- @2",
        ),
        (
            "mlockall 0 FUTURE\nmmap 0 1 1 rw anon_private\nmunlockall 0\nmmap 0 2 1 rw anon_private",
            "1..3 rw- @1 A[A]",
        ),
    ]);
}

#[test]
fn munmap_takes_any_range_that_is_not_empty() {
    returns(&[("munmap 0 1 0", Err(Errno::EINVAL)), ("munmap 0 1 9", Ok(0))]);
    ends_with(&[
        ("mmap 0 1 6 rw anon_private\nmunmap 0 3 2", "1..3 rw- @1, 5..7 rw- @5"),
        (
            "mmap 0 1 2 rw anon_private\nmmap 0 5 2 rw anon_private\nmunmap 0 2 4",
            "1..2 rw- @1, 6..7 rw- @6",
        ),
    ]);
}

#[test]
fn munmap_needs_room_for_a_vma_only_where_it_cuts_a_hole() {
    let full = "limits map_count=2\nmmap 0 0 3 rw anon_private\nmmap 0 4 1 r anon_private\n";
    returns(&[
        (&format!("{full}munmap 0 1 2"), Ok(0)),
        (&format!("{full}munmap 0 0 2"), Ok(0)),
        (&format!("{full}munmap 0 1 1"), Err(Errno::ENOMEM)),
    ]);
}

#[test]
fn the_driver_is_told_of_each_vma_that_is_cut_moves_or_goes() {
    let calls = |text: &str| run(&format!("mmap 0 1 3 r special\n{text}")).seen.driver;
    for (text, opens, closes) in [
        ("munmap 0 2 1", 2, 1),
        ("munmap 0 1 3", 0, 1),
        ("mremap 0 1 3 3 MAYMOVE|FIXED 8", 1, 1),
        ("mmap 0 5 1 r special\nmunmap 0 1 5", 0, 2),
        ("fork 0\nexit 1", 0, 1),
    ] {
        let driver = calls(text);
        assert_eq!((driver.opens, driver.closes), (opens, closes), "{text}");
    }
}

#[test]
fn holes_stop_some_walks_and_not_others() {
    let torn = "mmap 0 1 2 rw anon_private\nmmap 0 5 2 rw anon_private\n";
    let after = |op: &str| run(&format!("{torn}{op}"));
    for (op, result, maps) in [
        ("mprotect 0 0 7 r", Err(Errno::ENOMEM), "1..3 rw- @1, 5..7 rw- @5"),
        ("mprotect 0 1 6 r", Err(Errno::ENOMEM), "1..3 r-- @1, 5..7 rw- @5"),
        ("mlock 0 1 6 1", Err(Errno::ENOMEM), "1..3 rw- @1 LOCKED LOCKONFAULT, 5..7 rw- @5"),
        ("munlock 0 5 3", Err(Errno::ENOMEM), "1..3 rw- @1, 5..7 rw- @5"),
        (
            "madvise 0 0 9 RANDOM",
            Err(Errno::ENOMEM),
            "1..3 rw- @1 RAND_READ, 5..7 rw- @5 RAND_READ",
        ),
        ("madvise 0 9 1 RANDOM", Err(Errno::ENOMEM), "1..3 rw- @1, 5..7 rw- @5"),
        ("uffd_register 0 0 9", Ok(0), "1..3 rw- @1 uffd0, 5..7 rw- @5 uffd0"),
        ("mbind 0 0 9 BIND", Err(Errno::EFAULT), "1..3 rw- @1, 5..7 rw- @5"),
        ("mbind 0 1 6 BIND", Err(Errno::EFAULT), "1..3 rw- @1, 5..7 rw- @5"),
        // mbind does not notice a hole at the end. With the default policy it accepts a hole
        // between two VMAs.
        ("mbind 0 1 3 BIND", Ok(0), "1..3 rw- @1 BIND, 5..7 rw- @5"),
        ("mbind 0 1 6 BIND\nmbind 0 1 6 DEFAULT", Ok(0), "1..3 rw- @1, 5..7 rw- @5"),
    ] {
        let outcome = after(op);
        assert_eq!((outcome.last(), outcome.maps().as_str()), (result, maps), "{op}");
    }
    // mbind treats a VMA whose pages cannot migrate as a hole.
    returns(&[
        (
            "mmap 0 1 1 rw anon_private\nmmap 0 2 1 rw special\nmmap 0 3 1 rw anon_private\nmbind 0 1 3 BIND",
            Err(Errno::EFAULT),
        ),
        ("mmap 0 1 1 rw anon_private\nmmap 0 2 1 rw special\nmbind 0 1 2 BIND", Ok(0)),
    ]);
}

#[test]
fn no_pages_are_nothing_to_do() {
    for op in [
        "mprotect 0 2 0 r",
        "madvise 0 2 0 RANDOM",
        "mlock 0 2 0",
        "munlock 0 2 0",
        "mbind 0 2 0 BIND",
    ] {
        let outcome = run(&format!("mmap 0 1 3 rw anon_private\n{op}"));
        assert_eq!((outcome.last(), outcome.maps().as_str()), (Ok(0), "1..4 rw- @1"), "{op}");
        returns(&[(op, Ok(0))]);
    }
    returns(&[("madvise 0 2 0 HUGEPAGE", Err(Errno::EINVAL))]);
}

#[test]
fn mprotect_charges_what_becomes_writable_for_ever() {
    let committed = |text: &str| run(text).seen.committed;
    let read_only = "mmap 0 1 2 r anon_private\n";
    assert_eq!(committed(read_only), 0);
    assert_eq!(committed(&format!("{read_only}mprotect 0 1 1 rw")), 1);
    assert_eq!(committed(&format!("{read_only}mprotect 0 1 2 rw\nmprotect 0 1 2 r")), 2);
    assert_eq!(committed("mmap 0 1 2 r anon_private NORESERVE\nmprotect 0 1 2 rw"), 0);
    assert_eq!(committed("mmap 0 1 2 r file0_shared\nmprotect 0 1 2 rw"), 0);
}

#[test]
fn mprotect_stops_where_the_file_forbids_it() {
    let outcome = run("mmap 0 1 2 r anon_private\nmmap 0 3 2 r readonly_shared\nmprotect 0 2 2 rw");
    assert_eq!(outcome.last(), Err(Errno::EACCES));
    assert_eq!(outcome.maps(), "1..2 r-- @1, 2..3 rw- @2, 3..5 r-- 0 file2");
}

#[test]
fn madvise_by_advice() {
    let on = |kind: &str, advice: &str| {
        run(&format!("mmap 0 1 2 rw {kind}\nmadvise 0 1 2 {advice}")).last()
    };
    for (kind, advice, result) in [
        ("anon_private", "WIPEONFORK", Ok(0)),
        ("anon_shared", "WIPEONFORK", Err(Errno::EINVAL)),
        ("file0_private", "WIPEONFORK", Err(Errno::EINVAL)),
        ("special", "DOFORK", Err(Errno::EINVAL)),
        ("special", "DODUMP", Err(Errno::EINVAL)),
        ("special", "DONTNEED", Err(Errno::EINVAL)),
        ("special", "WILLNEED", Ok(0)),
        ("special", "MERGEABLE", Ok(0)),
        ("file0_private", "DONTNEED", Ok(0)),
        ("file0_private", "FREE", Err(Errno::EINVAL)),
        ("anon_private", "FREE", Ok(0)),
        ("anon_private", "HUGEPAGE", Err(Errno::EINVAL)),
        ("anon_private", "NOHUGEPAGE", Err(Errno::EINVAL)),
    ] {
        assert_eq!(on(kind, advice), result, "{kind} {advice}");
    }
    returns(&[
        ("mmap 0 1 2 rw anon_private LOCKED\nmadvise 0 1 2 DONTNEED", Err(Errno::EINVAL)),
        ("mmap 0 1 2 rw anon_private LOCKED\nmadvise 0 1 2 FREE", Err(Errno::EINVAL)),
    ]);
    ends_with(&[
        ("mmap 0 1 1 rw file0_private\nmadvise 0 1 1 MERGEABLE", "1..2 rw- 0 MERGEABLE file0"),
        ("mmap 0 1 1 rw file0_shared\nmadvise 0 1 1 MERGEABLE", "1..2 rw- 0 file0"),
        ("mmap 0 1 1 r readonly_shared\nmadvise 0 1 1 MERGEABLE", "1..2 r-- 0 file2"),
        (
            "mmap 0 1 1 rw anon_private\nmadvise 0 1 1 RANDOM\nmadvise 0 1 1 SEQUENTIAL",
            "1..2 rw- @1 SEQ_READ",
        ),
        ("mmap 0 1 1 rw anon_private\nmadvise 0 1 1 RANDOM\nmadvise 0 1 1 NORMAL", "1..2 rw- @1"),
    ]);
}

#[test]
fn advice_sets_a_flag_once_and_its_opposite_takes_it_back() {
    let flags = |advice: &[&str]| {
        let calls = advice.iter().map(|advice| format!("madvise 0 1 1 {advice}\n"));
        let text = format!("mmap 0 1 1 rw anon_private\n{}", calls.collect::<String>());
        let outcome = run(&text);
        assert!(outcome.results.iter().all(Result::is_ok), "{text}");
        outcome.flags(0, 1)
    };
    let none = flags(&[]);
    for (advice, opposite, flag) in [
        ("RANDOM", "NORMAL", VmFlags::VM_RAND_READ),
        ("SEQUENTIAL", "NORMAL", VmFlags::VM_SEQ_READ),
        ("DONTFORK", "DOFORK", VmFlags::VM_DONTCOPY),
        ("DONTDUMP", "DODUMP", VmFlags::VM_DONTDUMP),
        ("WIPEONFORK", "KEEPONFORK", VmFlags::VM_WIPEONFORK),
        ("MERGEABLE", "UNMERGEABLE", VmFlags::VM_MERGEABLE),
    ] {
        assert_eq!(flags(&[advice]), none | flag, "{advice}");
        assert_eq!(flags(&[advice, advice]), none | flag, "{advice} twice");
        assert_eq!(flags(&[advice, opposite]), none, "{advice} {opposite}");
        assert_eq!(flags(&[opposite]), none, "{opposite}");
    }
}

#[test]
fn mbind_takes_adjacent_vmas_and_refuses_a_hole_at_the_start() {
    let both = "mmap 0 1 1 rw anon_private\nmmap 0 2 1 r anon_private\n";
    returns(&[
        (&format!("{both}mbind 0 1 2 BIND"), Ok(0)),
        (&format!("{both}mbind 0 0 2 BIND"), Err(Errno::EFAULT)),
        ("mbind 0 0 2 BIND", Err(Errno::EFAULT)),
        ("mbind 0 0 2 DEFAULT", Err(Errno::EFAULT)),
    ]);
}

#[test]
fn locking_passes_over_the_device() {
    ends_with(&[(
        "mmap 0 1 2 rw special\nmmap 0 3 1 r anon_private\nmlock 0 1 3",
        "1..3 rw- 0 PFNMAP IO DONTEXPAND DONTDUMP file3, 3..4 r-- @3 LOCKED",
    )]);
}

#[test]
fn locking_again_changes_how_it_is_locked() {
    ends_with(&[
        (
            "mmap 0 1 2 r anon_private\nmlock 0 1 2 1\nmlock 0 2 1",
            "1..2 r-- @1 LOCKED LOCKONFAULT, 2..3 r-- @2 LOCKED",
        ),
        (
            "mmap 0 1 2 r anon_private\nmlock 0 1 2 1\nmunlock 0 2 1",
            "1..2 r-- @1 LOCKED LOCKONFAULT, 2..3 r-- @2",
        ),
    ]);
}

/// Returns how far the last operation of a program came, if it is refused.
fn progress(text: &str, rules: Rules) -> Option<Progress> {
    let program: Program = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    let (mut reference, mut seen) = (Reference::with_rules(rules), Observation::default());
    let reasons = program.ops.iter().map(|op| reference.step_explained(op, &mut seen));
    reasons.last().and_then(|why| why.refusal).map(|refusal| refusal.progress)
}

#[test]
fn a_refusal_says_how_far_the_walk_came() {
    let progress = |text: &str| progress(text, Rules::NONE);
    // The file is open for reading only, so the walk ends at its mapping.
    let two = "mmap 0 1 2 r anon_private\nmmap 0 3 2 r readonly_shared\n";
    for (op, expected) in [
        ("mprotect 0 1 1 rw", None),
        ("mprotect 0 3 2 rw", Some(Progress::Nothing)),
        ("mprotect 0 1 4 rw", Some(Progress::UpTo(Page(3)))),
        ("mprotect 0 6 2 rw", Some(Progress::Nothing)),
        ("mprotect 0 1 5 r", Some(Progress::UpTo(Page(5)))),
        ("madvise 0 1 5 RANDOM", Some(Progress::Everything)),
        ("madvise 0 3 2 FREE", Some(Progress::Nothing)),
    ] {
        assert_eq!(progress(&format!("{two}{op}")), expected, "{op}");
    }
}

#[test]
fn an_advice_to_populate_says_how_far_it_came() {
    let rules = Rules::NONE.with(later::Rule::MadvisePopulate);
    let progress = |op: &str| progress(&format!("mmap 0 1 2 r anon_private\n{op}"), rules);
    assert_eq!(progress("madvise 0 1 2 POPULATE_READ"), None);
    assert_eq!(progress("madvise 0 1 4 POPULATE_READ"), Some(Progress::UpTo(Page(3))));
    assert_eq!(progress("madvise 0 4 2 POPULATE_READ"), Some(Progress::Nothing));
}

#[test]
fn pages_are_removed_from_shared_memory_that_may_be_written() {
    returns(&[
        ("madvise 0 1 0 REMOVE", Ok(0)),
        ("madvise 0 1 1 REMOVE", Err(Errno::ENOMEM)),
        ("mmap 0 1 1 rw anon_private\nmadvise 0 1 1 REMOVE", Err(Errno::EINVAL)),
        ("mmap 0 1 1 rw anon_shared\nmadvise 0 1 1 REMOVE", Ok(0)),
        ("mmap 0 1 1 r anon_shared\nmadvise 0 1 1 REMOVE", Err(Errno::EACCES)),
        ("mmap 0 1 1 rw file1_shared\nmadvise 0 1 1 REMOVE", Ok(0)),
        ("mmap 0 1 1 rw file1_private\nmadvise 0 1 1 REMOVE", Err(Errno::EACCES)),
        ("mmap 0 1 1 r readonly_shared\nmadvise 0 1 1 REMOVE", Err(Errno::EACCES)),
        ("mmap 0 1 1 rw special\nmadvise 0 1 1 REMOVE", Err(Errno::ENODEV)),
        // The lock is checked first, and the device last.
        ("mmap 0 1 1 r file0_shared LOCKED\nmadvise 0 1 1 REMOVE", Err(Errno::EINVAL)),
        ("mmap 0 1 1 r special\nmadvise 0 1 1 REMOVE", Err(Errno::EACCES)),
        ("shmat 0 1\nmadvise 0 1 4 REMOVE", Ok(0)),
        ("shmat 0 1 RDONLY\nmadvise 0 1 4 REMOVE", Err(Errno::EACCES)),
    ]);
}

#[test]
fn only_a_memfd_that_may_be_written_is_truncated() {
    let maps = "mmap 0 1 4 rw file0_shared\n";
    returns(&[
        ("ftruncate 0 file0 9", Ok(0)),
        ("ftruncate 0 file1", Ok(0)),
        ("ftruncate 0 readonly 9", Err(Errno::EINVAL)),
        ("ftruncate 0 special 9", Err(Errno::EINVAL)),
        ("ftruncate 1 file0 9", Err(Errno::ESRCH)),
        (&format!("{maps}ftruncate 0 file0 2\ntouch 0 2"), Ok(0)),
        (&format!("{maps}ftruncate 0 file0 2\ntouch 0 3"), Err(Errno::SIGBUS)),
        (&format!("{maps}ftruncate 0 file0 2\nftruncate 0 file0 3\ntouch 0 3"), Ok(0)),
        (&format!("{maps}ftruncate 0 file0 2\nftruncate 0 file0 3\ntouch 0 4"), Err(Errno::SIGBUS)),
        (&format!("{maps}ftruncate 0 file0 3\nmlock 0 1 3"), Ok(0)),
        (&format!("{maps}ftruncate 0 file0 3\nmlock 0 1 4"), Err(Errno::ENOMEM)),
        (&format!("{maps}ftruncate 0 file0\nmunmap 0 1 4"), Ok(0)),
        // The pages by which the file grew are missing.
        (
            &format!(
                "{maps}ftruncate 0 file0 2\nftruncate 0 file0 3\nuffd_register 0 1 4 0\nmlock 0 1 3"
            ),
            Err(Errno::EAGAIN),
        ),
    ]);
}

#[test]
fn a_limit_of_a_process_counts_for_its_later_calls_and_for_its_children() {
    let two = "mmap 0 1 2 rw anon_private\n";
    returns(&[
        ("prlimit 0 AS 2", Ok(0)),
        ("prlimit 1 AS 2", Err(Errno::ESRCH)),
        (&format!("prlimit 0 AS 2\n{two}"), Ok(1)),
        (&format!("prlimit 0 AS 1\n{two}"), Err(Errno::ENOMEM)),
        // A limit below what is mapped leaves it mapped.
        (&format!("{two}prlimit 0 AS 1\nmprotect 0 1 2 r"), Ok(0)),
        (&format!("{two}prlimit 0 AS 1\nmremap 0 1 2 3"), Err(Errno::ENOMEM)),
        (&format!("{two}prlimit 0 AS 1\nmmap 0 1 1 r anon_private"), Err(Errno::ENOMEM)),
        (&format!("{two}prlimit 0 AS 1\nprlimit 0 AS 3\nmremap 0 1 2 3"), Ok(1)),
        ("prlimit 0 AS 0\nfork 0\nmmap 1 1 1 r anon_private", Err(Errno::ENOMEM)),
        ("fork 0\nprlimit 0 AS 0\nmmap 1 1 1 r anon_private", Ok(1)),
        ("fork 0\nprlimit 1 AS 0\nmmap 0 1 1 r anon_private", Ok(1)),
        ("fork 0\nprlimit 1 AS 0\nexit 1\nfork 0\nmmap 1 1 1 r anon_private", Ok(1)),
        // The limit of the caller counts, which has the destination.
        (&format!("{two}fork 0\nprlimit 1 AS 2\ncopy 0 1 2 1 8 FIXED"), Ok(8)),
        (&format!("{two}fork 0\nprlimit 0 AS 2\ncopy 0 1 2 1 8 FIXED"), Err(Errno::ENOMEM)),
    ]);
}

#[test]
fn a_limit_on_locked_pages_counts_without_the_capability() {
    let two = "mmap 0 1 2 rw anon_private\n";
    returns(&[
        (&format!("{two}prlimit 0 MEMLOCK 1\nmlock 0 1 2"), Ok(0)),
        (&format!("limits lock=9\n{two}prlimit 0 MEMLOCK 2\nmlock 0 1 2"), Ok(0)),
        (&format!("limits lock=9\n{two}prlimit 0 MEMLOCK 1\nmlock 0 1 2"), Err(Errno::ENOMEM)),
        (&format!("limits lock=9\n{two}prlimit 0 MEMLOCK\nmlock 0 1 2"), Err(Errno::EPERM)),
        (&format!("limits lock=0\n{two}prlimit 0 MEMLOCK 2\nmlock 0 1 2"), Ok(0)),
        (
            &format!("limits lock=9\n{two}prlimit 0 MEMLOCK 1\nmlockall 0 CURRENT"),
            Err(Errno::ENOMEM),
        ),
        (
            "limits lock=9\nprlimit 0 MEMLOCK 1\nmmap 0 1 2 rw anon_private LOCKED",
            Err(Errno::EAGAIN),
        ),
        (
            "limits lock=9\nprlimit 0 MEMLOCK 1\nfork 0\nmmap 1 1 2 r anon_private LOCKED",
            Err(Errno::EAGAIN),
        ),
    ]);
}

#[test]
fn a_mapping_ends_before_the_last_page_of_the_longest_file() {
    let grown = "mmap 0 1 2 rw file0_shared - top-2\nmremap 0 1 2 4 MAYMOVE\n";
    returns(&[
        ("mmap 0 1 2 rw file0_shared - top-2", Ok(1)),
        ("mmap 0 1 2 rw file0_shared - top-1", Err(Errno::EOVERFLOW)),
        ("mmap 0 1 1 r readonly_shared - top", Err(Errno::EOVERFLOW)),
        // The file is compared after the lock and before the access.
        ("mmap 0 1 1 rw readonly_shared - top", Err(Errno::EOVERFLOW)),
        ("limits lock=0\nmmap 0 1 1 rw file0_shared LOCKED top", Err(Errno::EPERM)),
        ("mmap 0 1 1 rw anon_shared - top", Ok(1)),
        ("mmap 0 1 1 rw special - top", Ok(1)),
        ("mmap 0 1 1 rw file0_shared - top-9\ntouch 0 1 0", Err(Errno::SIGBUS)),
        ("mmap 0 1 1 rw file0_shared - top-9\nmadvise 0 1 1 REMOVE", Ok(0)),
        // mremap does not compare.
        (grown, Ok(1)),
        (&format!("{grown}touch 0 4 0"), Err(Errno::SIGBUS)),
        (&format!("{grown}madvise 0 1 2 REMOVE"), Ok(0)),
        (&format!("{grown}madvise 0 1 3 REMOVE"), Err(Errno::EFBIG)),
        (&format!("{grown}madvise 0 3 1 REMOVE"), Err(Errno::EFBIG)),
        (&format!("{grown}madvise 0 4 1 REMOVE"), Err(Errno::EINVAL)),
        ("mmap 0 1 2 rw special - top\nmadvise 0 1 1 REMOVE", Err(Errno::ENODEV)),
        ("mmap 0 1 2 rw special - top\nmadvise 0 2 1 REMOVE", Err(Errno::EINVAL)),
    ]);
}

#[test]
fn a_page_that_is_not_in_a_memfd_is_missing_until_it_is_touched() {
    let map = "mmap 0 0 4 rw file0_shared\n";
    let waits = |calls: &str, page: u8| {
        run(&format!("{map}{calls}uffd_register 0 0 4\nmlock 0 {page} 1")).last()
    };
    let missing = Err(Errno::EAGAIN);
    assert_eq!(waits("madvise 0 1 1 REMOVE\n", 1), missing);
    assert_eq!(waits("madvise 0 1 1 REMOVE\n", 2), Ok(0));
    // A truncation below keeps what is missing, above as well as in the other file.
    assert_eq!(waits("madvise 0 1 1 REMOVE\nftruncate 0 file0 3\n", 1), missing);
    assert_eq!(waits("madvise 0 1 1 REMOVE\nftruncate 0 file1\n", 1), missing);
    // A page that is missing, past the end, and inside again is missing once.
    for page in [2, 3] {
        let cut = format!("madvise 0 {page} 1 REMOVE\nftruncate 0 file0 2\nftruncate 0 file0 4\n");
        assert_eq!(waits(&cut, page), missing);
        assert_eq!(waits(&format!("{cut}touch 0 {page}\n"), page), Ok(0));
    }
}

#[test]
fn a_page_that_is_removed_from_shared_memory_is_missing() {
    let map = "mmap 0 0 3 rw anon_shared POPULATE\nmadvise 0 1 1 REMOVE\nuffd_register 0 0 3\n";
    for (page, expected) in [(0, Ok(0)), (1, Err(Errno::EAGAIN)), (2, Ok(0))] {
        assert_eq!(run(&format!("{map}mlock 0 {page} 1")).last(), expected, "{page}");
    }
}

#[test]
fn a_fault_that_fails_says_whether_the_vma_has_got_an_anon_vma() {
    let rules = Rules::NONE.with(later::Rule::MadvisePopulate);
    let file = "mmap 0 1 2 rw file0_private - 1\nftruncate 0 file0 2\n";
    let progress = |calls: &str| progress(&format!("{file}{calls}"), rules);
    assert_eq!(progress("touch 0 1 1"), None);
    assert_eq!(progress("touch 0 2 1"), Some(Progress::Prepared));
    assert_eq!(progress("touch 0 2 0"), Some(Progress::Nothing));
    assert_eq!(progress("touch 0 1 1\ntouch 0 2 1"), Some(Progress::Nothing));
    assert_eq!(progress("madvise 0 2 1 POPULATE_WRITE"), Some(Progress::Prepared));
    assert_eq!(progress("madvise 0 2 1 POPULATE_READ"), Some(Progress::Nothing));
    assert_eq!(progress("madvise 0 1 2 POPULATE_WRITE"), Some(Progress::UpTo(Page(2))));
}
