//! Surprising behaviour of Linux 5.2.1: rules that no one would guess and the golden traces
//! rarely show. The same at every revision.

mod common;

use common::{events, layout, result, run};
use vmadiff_candidate::Revision;
use vmadiff_machine::{AnonVmaId, Observation, VmFlags};

/// Runs a program at `original` and `fixed`, which must show the same result and layout.
fn both(program: &str) -> Observation {
    let original = run(Revision::Original, program);
    let fixed = run(Revision::Fixed, program);
    assert_eq!(result(&original), result(&fixed), "{program}");
    assert_eq!(layout(&original, 0), layout(&fixed, 0), "{program}");
    assert_eq!(original.events, fixed.events, "{program}");
    fixed
}

/// The anon_vma of each VMA of a process.
fn anon_vmas(seen: &Observation, process: usize) -> Vec<Option<AnonVmaId>> {
    seen.spaces[process].vmas().iter().map(|vma| vma.anon_vma).collect()
}

#[test]
fn the_order_of_refusals() {
    for (program, expected) in [
        // mmap
        ("mmap 0 1 0 rw anon_private", "-EINVAL"),
        ("limits lock=0\nmmap 0 1 1 rw anon_private LOCKED", "-EPERM"),
        ("limits lock=1\nmmap 0 1 2 rw anon_private LOCKED", "-EAGAIN"),
        ("limits lock=1 address_space=1\nmmap 0 1 2 rw anon_private LOCKED", "-EAGAIN"),
        ("limits lock=1\nmmap 0 1 2 w readonly_shared LOCKED", "-EAGAIN"),
        ("limits address_space=1\nmmap 0 1 2 w readonly_shared", "-EACCES"),
        ("limits address_space=1\nmmap 0 1 2 r readonly_shared", "-ENOMEM"),
        (
            "limits lock=0\nmmap 0 1 1 r anon_private\nmmap 0 1 1 r anon_private LOCKED|FIXED_NOREPLACE",
            "-EEXIST",
        ),
        ("mmap 0 1 1 - anon_private POPULATE", "1"),
        ("mmap 0 1 1 r file0_private POPULATE 239", "1"),
        // mprotect
        ("mprotect 0 1 0 rw", "0"),
        ("mmap 0 1 2 r readonly_shared\nmprotect 0 1 2 rw", "-EACCES"),
        ("mmap 0 1 2 r readonly_shared\nmprotect 0 1 3 rx", "-ENOMEM"),
        // mlock
        ("limits lock=0\nmlock 0 1 0", "-EPERM"),
        ("limits lock=1\nmlock 0 1 2", "-ENOMEM"),
        ("mlock 0 1 0", "0"),
        ("munlock 0 1 0", "0"),
        ("mmap 0 1 1 - anon_private\nmlock 0 1 1", "-ENOMEM"),
        ("mmap 0 1 1 - anon_private\nmlock 0 1 1 1", "-ENOMEM"),
        ("mmap 0 1 1 x anon_private\nmlock 0 1 1", "0"),
        ("mmap 0 1 1 r special\nmlock 0 1 1", "0"),
        ("limits lock=2\nmmap 0 1 2 rw anon_private LOCKED\nmlock 0 1 2", "0"),
        // mlockall
        ("limits lock=0\nmlockall 0 ONFAULT", "-EINVAL"),
        ("limits lock=0\nmlockall 0 FUTURE", "-EPERM"),
        ("limits lock=1\nmmap 0 1 2 rw anon_private\nmlockall 0 CURRENT", "-ENOMEM"),
        ("limits lock=1\nmmap 0 1 2 rw anon_private\nmlockall 0 FUTURE", "0"),
        ("limits lock=1\nmlockall 0 FUTURE\nmmap 0 1 2 rw anon_private", "-EAGAIN"),
        ("limits lock=1\nmlockall 0 FUTURE\nshmat 0 1", "-EAGAIN"),
        ("limits lock=1\nmlockall 0 FUTURE\nmunlockall 0\nshmat 0 1", "1"),
        ("limits lock=1\nmlockall 0 FUTURE\nfork 0\nmmap 1 1 2 rw anon_private", "1"),
        // mseal
        ("mseal 0 1 0", "-ENOSYS"),
        // userfaultfd
        ("uffd_register_wp 0 1 0", "-EINVAL"),
        ("uffd_register_wp 0 1 0\nuffd_unregister 0 1 0", "-EINVAL"),
        ("uffd_writeprotect 0 1 1", "-EBADF"),
        ("uffd_open 0 0\nuffd_writeprotect 0 1 1", "-EINVAL"),
        // prctl
        ("memory_merge 0 1", "-EINVAL"),
        // madvise
        ("madvise 0 1 0 HUGEPAGE", "-EINVAL"),
        ("madvise 0 1 0 COLD", "-EINVAL"),
        ("madvise 0 1 0 PAGEOUT", "-EINVAL"),
        ("madvise 0 1 0 POPULATE_READ", "-EINVAL"),
        ("madvise 0 1 0 POPULATE_WRITE", "-EINVAL"),
        ("madvise 0 1 0 DONTNEED_LOCKED", "-EINVAL"),
        ("madvise 0 1 0 REMOVE", "0"),
        ("madvise 0 1 1 REMOVE", "-ENOMEM"),
        ("mmap 0 1 1 rw anon_private\nmadvise 0 1 1 REMOVE", "-EINVAL"),
        ("mmap 0 1 1 r anon_private LOCKED\nmadvise 0 1 1 REMOVE", "-EINVAL"),
        ("mmap 0 1 1 r file0_shared LOCKED\nmadvise 0 1 1 REMOVE", "-EINVAL"),
        ("mmap 0 1 1 r file0_shared\nmadvise 0 1 1 REMOVE", "-EACCES"),
        ("mmap 0 1 1 rw file0_private\nmadvise 0 1 1 REMOVE", "-EACCES"),
        ("mmap 0 1 1 r readonly_shared\nmadvise 0 1 1 REMOVE", "-EACCES"),
        ("mmap 0 1 1 r special\nmadvise 0 1 1 REMOVE", "-EACCES"),
        ("mmap 0 1 1 rw special\nmadvise 0 1 1 REMOVE", "-ENODEV"),
        ("mmap 0 1 1 rw anon_shared\nmadvise 0 1 1 REMOVE", "0"),
        ("shmat 0 1 RDONLY\nmadvise 0 1 1 REMOVE", "-EACCES"),
        ("shmat 0 1\nmadvise 0 1 4 REMOVE", "0"),
        ("shmat 0 1\nmadvise 0 1 5 REMOVE", "-ENOMEM"),
        ("madvise 0 1 0 NORMAL", "0"),
        ("madvise 0 1 1 WILLNEED", "-ENOMEM"),
        ("mmap 0 1 1 r special\nmadvise 0 1 1 WILLNEED", "0"),
        ("mmap 0 1 1 r special\nmadvise 0 1 1 DONTNEED", "-EINVAL"),
        ("mmap 0 1 1 r special\nmadvise 0 1 1 DOFORK", "-EINVAL"),
        ("mmap 0 1 1 r special\nmadvise 0 1 1 DODUMP", "-EINVAL"),
        ("mmap 0 1 1 r special\nmadvise 0 1 1 MERGEABLE", "0"),
        ("mmap 0 1 1 r file0_private\nmadvise 0 1 1 FREE", "-EINVAL"),
        ("mmap 0 1 1 r file0_private\nmadvise 0 1 1 DONTNEED", "0"),
        ("mmap 0 1 1 r file0_private\nmadvise 0 1 1 WIPEONFORK", "-EINVAL"),
        ("mmap 0 1 1 rw anon_private LOCKED\nmadvise 0 1 1 DONTNEED", "-EINVAL"),
        // mbind
        ("mbind 0 1 0 BIND", "0"),
        ("mbind 0 1 1 INTERLEAVE", "-EFAULT"),
        ("mmap 0 1 1 r anon_private\nmbind 0 1 5 BIND", "0"),
        ("mmap 0 1 1 r anon_private\nmmap 0 3 1 r anon_private\nmbind 0 1 5 BIND", "-EFAULT"),
        ("mmap 0 1 1 r anon_private\nmmap 0 3 1 r anon_private\nmbind 0 1 5 DEFAULT", "0"),
        // The device counts as a hole.
        (
            "mmap 0 1 1 r anon_private\nmmap 0 2 1 r special\nmmap 0 3 1 r anon_private\nmbind 0 1 3 BIND",
            "-EFAULT",
        ),
        // touch
        ("touch 0 1", "-EFAULT"),
        ("mmap 0 1 1 w anon_private\ntouch 0 1", "0"),
        ("mmap 0 1 1 x anon_private\ntouch 0 1", "0"),
        ("mmap 0 1 1 - anon_private\ntouch 0 1", "-EFAULT"),
        ("mmap 0 1 1 - anon_private\nuffd_register 0 1 1\ntouch 0 1", "-EAGAIN"),
        ("mmap 0 1 1 r special\ntouch 0 1", "0"),
        ("mmap 0 1 1 r special\ntouch 0 1 1", "-EFAULT"),
        ("mmap 0 1 1 rw anon_shared\nmremap 0 1 1 2\ntouch 0 2", "SIGBUS"),
        // userfaultfd
        ("uffd_register 0 1 1", "-EINVAL"),
        ("mmap 0 1 1 rw anon_private\nuffd_register 0 1 0", "-EINVAL"),
        ("mmap 0 1 1 r special\nuffd_register 0 1 1", "-EINVAL"),
        ("mmap 0 1 1 r readonly_shared\nuffd_register 0 1 1", "-EPERM"),
        ("mmap 0 1 1 r anon_private\nuffd_unregister 0 1 1", "-EBADF"),
        ("mmap 0 1 1 r anon_private\nuffd_register 0 1 1\nuffd_register 0 1 1 1", "-EBUSY"),
        ("mmap 0 1 1 r anon_private\nuffd_register 0 1 1\nuffd_unregister 0 1 1 1", "-EBADF"),
        // mremap
        ("mmap 0 1 2 rw anon_private\nmremap 0 1 2 0", "-EINVAL"),
        ("mmap 0 1 2 rw anon_private\nmremap 0 1 2 2", "1"),
        ("mremap 0 1 2 1", "1"),
        ("mmap 0 1 2 rw anon_private\nmremap 0 1 2 4", "1"),
        ("mmap 0 1 2 rw anon_private\nmremap 0 1 1 4", "-ENOMEM"),
        ("mmap 0 1 2 rw anon_private\nmmap 0 4 1 r anon_private\nmremap 0 1 2 4", "-ENOMEM"),
        ("mmap 0 1 2 rw anon_private\nmremap 0 1 2 2 MAYMOVE|FIXED 2", "-EINVAL"),
        ("limits lock=3\nmmap 0 1 2 rw anon_private LOCKED\nmremap 0 1 2 4", "-EAGAIN"),
        ("limits address_space=3\nmmap 0 1 2 rw anon_private\nmremap 0 1 2 4", "-ENOMEM"),
        (
            "limits map_count=6\nmmap 0 1 2 r anon_private\nmremap 0 1 2 2 MAYMOVE|FIXED 9",
            "-ENOMEM",
        ),
        ("limits map_count=7\nmmap 0 1 2 r anon_private\nmremap 0 1 2 2 MAYMOVE|FIXED 9", "9"),
        // munmap, fork, exit
        ("munmap 0 1 0", "-EINVAL"),
        ("munmap 0 1 1", "0"),
        ("limits map_count=1\nmmap 0 1 3 r anon_private\nmunmap 0 2 1", "-ENOMEM"),
        ("limits map_count=1\nmmap 0 1 3 r anon_private\nmunmap 0 2 2", "0"),
        ("limits processes=1\nfork 0", "-EAGAIN"),
        ("fork 0\nexit 0\nfork 1", "0"),
        ("exit 0\nfork 0", "-ESRCH"),
    ] {
        let seen = both(program);
        assert_eq!(result(&seen), expected, "{program}");
        assert!(seen.events.is_empty(), "{program}: {:?}", seen.events);
    }
}

#[test]
fn what_came_before_a_failure_stays() {
    for (program, expected, after) in [
        // mremap unmaps the new range before it looks at the old one.
        ("mmap 0 1 2 r anon_private\nmremap 0 9 1 1 MAYMOVE|FIXED 2", "-EFAULT", "1..2@1"),
        // mprotect goes on up to the hole.
        (
            "mmap 0 1 1 r anon_private\nmmap 0 2 2 r file0_private\nmprotect 0 1 9 rw",
            "-ENOMEM",
            "1..2@1 2..40",
        ),
        // One of two splits.
        (
            "limits map_count=2\nmmap 0 1 4 rw anon_private\nmlock 0 2 1 1",
            "-ENOMEM",
            "1..2@1 2..5@2",
        ),
        (
            "limits map_count=2\nmmap 0 1 4 rw anon_private\nuffd_register 0 2 1",
            "-ENOMEM",
            "1..2@1 2..5@2",
        ),
    ] {
        let seen = both(program);
        assert_eq!((result(&seen).as_str(), layout(&seen, 0).as_str()), (expected, after));
    }
}

#[test]
fn faults_give_an_anon_vma_even_where_they_fail() {
    for (program, expected, faulted) in [
        ("mmap 0 1 2 rw anon_private\ntouch 0 1", "0", false),
        ("mmap 0 1 2 rw anon_private\ntouch 0 1 1", "0", true),
        ("mmap 0 1 2 rw file0_private\ntouch 0 1", "0", false),
        ("mmap 0 1 2 rw file0_private\ntouch 0 1 1", "0", true),
        ("mmap 0 1 2 rw file0_shared\ntouch 0 1 1", "0", false),
        ("mmap 0 1 2 rw anon_private LOCKED", "1", true),
        ("mmap 0 1 2 r anon_private LOCKED", "1", false),
        ("mmap 0 1 2 r anon_private LOCKED\nmprotect 0 1 2 rw", "0", true),
        // A locked mapping that is populated on fault is not populated by mprotect.
        ("mmap 0 1 2 r anon_private\nmlock 0 1 2 1\nmprotect 0 1 2 rw", "0", false),
        // mlock waits for userfaultfd, after the anon_vma was made.
        ("mmap 0 1 2 rw anon_private\nuffd_register 0 1 2\nmlock 0 1 2", "-EAGAIN", true),
        ("mmap 0 1 2 r anon_private\nuffd_register 0 1 2\nmlock 0 1 2", "-EAGAIN", false),
        // mprotect does not wait: its faults may not be retried.
        (
            "mmap 0 1 2 r anon_private\nuffd_register 0 1 2\nmlock 0 1 2\nmprotect 0 1 2 rw",
            "0",
            true,
        ),
        // Nothing waits for a page that is present.
        ("mmap 0 1 1 rw anon_private\ntouch 0 1\nuffd_register 0 1 1\nmlock 0 1 1", "0", true),
        ("mmap 0 1 1 rw anon_shared\ntouch 0 1\nuffd_register 0 1 1\nmlock 0 1 1", "0", false),
        ("mmap 0 1 1 rw anon_shared\nuffd_register 0 1 1\nmlock 0 1 1", "-EAGAIN", false),
        ("mmap 0 1 1 rw file0_shared\nuffd_register 0 1 1\nmlock 0 1 1", "0", false),
    ] {
        let seen = both(program);
        assert_eq!(result(&seen), expected, "{program}");
        assert_eq!(anon_vmas(&seen, 0)[0].is_some(), faulted, "{program}");
        assert!(seen.events.is_empty(), "{program}: {:?}", seen.events);
    }
}

#[test]
fn pages_are_shared_by_fork_and_copied_when_written() {
    let program = "mmap 0 1 3 rw anon_private\ntouch 0 1 1\ntouch 0 2\nfork 0\n";
    let forked = run(Revision::Fixed, program);
    assert_eq!(forked.spaces[1].anon_pages, 0b10, "the zero page is not anonymous");
    let written = run(Revision::Fixed, &format!("{program}touch 1 2 1\ntouch 1 1 1\nexit 0"));
    assert_eq!(written.spaces[1].anon_pages, 0b110);
    assert!(written.events.is_empty());
    let moved = run(Revision::Fixed, &format!("{program}mremap 1 1 2 2 MAYMOVE|FIXED 9\nexit 0"));
    assert_eq!(moved.spaces[1].anon_pages, 1 << 9);
    assert!(moved.events.is_empty());
    let dropped = run(Revision::Fixed, &format!("{program}madvise 1 1 3 DONTNEED"));
    assert_eq!((dropped.spaces[1].anon_pages, dropped.spaces[0].anon_pages), (0, 0b10));
}

/// `anon_vma_clone()`: an anon_vma without a VMA and with one child is used again.
#[test]
fn a_chain_of_forks_does_not_grow_for_ever() {
    let mut program = String::from("mmap 0 1 1 rw anon_private\ntouch 0 1 1\n");
    for generation in 0..30 {
        let (parent, child) = (generation % 2, (generation + 1) % 2);
        program.push_str(&format!("fork {parent}\nexit {parent}\n"));
        let seen = run(Revision::Original, &program);
        let space = &seen.spaces[child];
        assert!(space.chain(&space.vmas()[0]).len() <= 3, "generation {generation}");
        assert!(seen.events.is_empty(), "{:?}", seen.events);
    }
}

/// `dup_mmap()`: the neighbours of a VMA that is wiped are still the parent's, and one of them
/// lends its anon_vma across address spaces.
#[test]
fn a_wiped_mapping_takes_the_anon_vma_of_its_parents_neighbour() {
    let program = "mmap 0 1 4 rw anon_private\nmprotect 0 1 2 r\ntouch 0 3 1\n\
                   madvise 0 1 4 WIPEONFORK\nfork 0";
    let seen = both(program);
    assert_eq!(
        (layout(&seen, 0), layout(&seen, 1)),
        ("1..3@1 3..5@3".into(), "1..3@1 3..5@3".into())
    );
    let (parent, child) = (anon_vmas(&seen, 0), anon_vmas(&seen, 1));
    assert_eq!(parent[0], None);
    assert!(parent[1].is_some() && child[0] == parent[1]);
    assert!(child[1].is_some() && child[1] != parent[1]);
    assert!(seen.events.is_empty(), "{:?}", seen.events);
}

#[test]
fn mremap_drops_the_userfaultfd_context_of_all_that_it_merged_with() {
    // The new range merges with the source, which is watched.
    let program = "mmap 0 1 4 rw anon_private\nuffd_register 0 1 4\nmremap 0 3 2 2 MAYMOVE|FIXED 5";
    let seen = both(program);
    let watched: Vec<_> = seen.spaces[0].vmas().iter().map(|vma| vma.uffd.is_some()).collect();
    assert_eq!((layout(&seen, 0).as_str(), watched), ("1..3@1 5..7@5", vec![false, false]));
}

#[test]
fn locked_memory_of_a_device_is_not_locked() {
    let seen = both("limits lock=4\nmmap 0 1 2 rw special LOCKED");
    assert!(!seen.spaces[0].vmas()[0].flags.intersects(VmFlags::LOCK));
    assert_eq!(seen.spaces[0].counters.locked_vm, 0);
}

/// A bug of Linux 5.2.1 itself, in nothing that the series touches: `userfaultfd_register()` asks
/// `vma_merge()` with the offset of the VMA where it should be that of the range. A neighbour whose
/// offset happens to fit swallows the range, and the reverse map loses the pages in it.
#[test]
fn userfaultfd_merges_by_the_wrong_offset() {
    let program = "mmap 0 0 4 rw anon_private\ntouch 0 0 1\ntouch 0 2 1\n\
                   mremap 0 2 2 2 MAYMOVE|FIXED 4\nmmap 0 2 2 rw anon_private\ntouch 0 2 1\n\
                   uffd_register 0 4 2\nuffd_register 0 2 2";
    let seen = run(Revision::Original, program);
    assert_eq!(layout(&seen, 0), "0..2@0 2..6@0");
    assert!(!events(&seen).is_empty(), "the reverse map does not find the pages");
    // `fixed` has the upstream fix.
    let seen = run(Revision::Fixed, program);
    assert_eq!(layout(&seen, 0), "0..2@0 2..4@2 4..6@2");
    assert!(events(&seen).is_empty());
}

#[test]
fn a_merge_into_a_clean_vma_makes_it_soft_dirty_only_where_the_call_writes_its_flags() {
    let dirty = |program: &str| {
        let seen = both(program);
        let vmas = seen.spaces[0].vmas().iter();
        vmas.map(|vma| vma.flags.contains(VmFlags::VM_SOFTDIRTY)).collect::<Vec<_>>()
    };
    let clean = "mmap 0 0 1 r anon_private\nclear_refs 0\n";
    assert_eq!(dirty(clean), [false]);
    assert_eq!(dirty(&format!("{clean}mmap 0 1 1 r anon_private")), [true]);
    assert_eq!(dirty(&format!("{clean}mmap 0 1 1 - anon_private\nmprotect 0 1 1 r")), [true]);
    let locked = format!("{clean}mmap 0 1 1 r anon_private LOCKED\n");
    assert_eq!(dirty(&locked), [false, true]);
    assert_eq!(dirty(&format!("{locked}munlock 0 1 1")), [false]);
    assert_eq!(dirty(&format!("{locked}mlock 0 0 1")), [false]);
    // Nothing is soft-dirty, so the flags are not written; the entries are.
    let written = "mmap 0 0 1 rw anon_private\nclear_refs 0\ntouch 0 0 1\n";
    assert_eq!(both(written).spaces[0].writable_ptes, 1);
    assert_eq!(both(&format!("{written}clear_refs 0")).spaces[0].writable_ptes, 0);
}

#[test]
fn pages_that_are_removed_from_a_file_read_as_zero_and_private_copies_stay() {
    // Page 1 was written, and page 9 is a private copy of page 1 of the file.
    let maps = "mmap 0 0 4 rw file0_shared\nmmap 0 8 4 rw file0_private\ntouch 0 1 1\n\
                touch 0 9 1\nfork 0\n";
    for (program, read) in [
        ("madvise 0 1 1 REMOVE\ntouch 1 1 0", 0),
        ("madvise 0 0 1 REMOVE\ntouch 1 1 0", 1),
        ("madvise 0 2 2 REMOVE\ntouch 1 1 0", 1),
        ("madvise 0 0 4 REMOVE\ntouch 1 9 0", 2),
        ("madvise 0 0 4 REMOVE\ntouch 0 1 1\ntouch 1 1 0", 3),
        // A mapping of the file at another offset.
        ("mmap 1 20 2 r file0_shared - 1\nmadvise 0 1 1 REMOVE\ntouch 1 20 0", 0),
        // The other file keeps its page.
        ("mmap 0 1 1 rw file1_shared - 1\ntouch 0 1 1\nmadvise 0 1 1 REMOVE\ntouch 1 1 0", 1),
    ] {
        let seen = both(&format!("{maps}{program}"));
        assert_eq!(seen.read, Some(read), "{program}");
    }
    // userfaultfd watches for the page that is missing now.
    let watched = "mmap 0 0 2 rw file0_shared\nmadvise 0 1 1 REMOVE\nuffd_register 0 0 2 0\n";
    assert_eq!(result(&both(&format!("{watched}mlock 0 0 1"))), "0");
    assert_eq!(result(&both(&format!("{watched}mlock 0 0 2"))), "-EAGAIN");
}

#[test]
fn truncating_a_file_drops_every_page_past_the_end() {
    // Page 1 of the file, and private copies of the pages 2 and 3, were written.
    let maps = "mmap 0 0 4 rw file0_shared\nmmap 0 8 4 rw file0_private\ntouch 0 1 1\n\
                touch 0 10 1\ntouch 0 11 1\nfork 0\n";
    for (program, end, copies) in [
        ("ftruncate 0 file0 2", "0", [0, 0]),
        ("ftruncate 1 file0 3", "0", [1 << 10, 1 << 10]),
        ("ftruncate 0 file0 4", "0", [3 << 10, 3 << 10]),
        ("ftruncate 0 file1", "0", [3 << 10, 3 << 10]),
        ("ftruncate 0 readonly", "-EINVAL", [3 << 10, 3 << 10]),
        ("ftruncate 0 special", "-EINVAL", [3 << 10, 3 << 10]),
        ("mremap 1 10 2 2 MAYMOVE|FIXED 20\nftruncate 0 file0 3", "0", [1 << 10, 1 << 20]),
        ("ftruncate 0 file0 1\ntouch 1 1", "SIGBUS", [0, 0]),
        ("ftruncate 0 file0 1\nftruncate 1 file0 2\ntouch 1 2", "SIGBUS", [0, 0]),
    ] {
        let seen = both(&format!("{maps}{program}"));
        assert_eq!(result(&seen), end, "{program}");
        assert_eq!([0, 1].map(|at| seen.spaces[at].anon_pages), copies, "{program}");
    }
    for (program, read) in [
        ("ftruncate 0 file0 2\ntouch 0 1", 1),
        ("ftruncate 0 file0 1\nftruncate 0 file0 2\ntouch 0 1", 0),
        ("ftruncate 0 file0 2\nftruncate 0 file0 4\ntouch 1 10", 0),
        ("ftruncate 0 file0 255\ntouch 1 1", 1),
    ] {
        assert_eq!(both(&format!("{maps}{program}")).read, Some(read), "{program}");
    }
}
