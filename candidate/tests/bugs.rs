//! The bugs that a real kernel with the series applied has: at `v2`, and not at `fixed`.

mod common;

use common::{copied, events, layout, result, run};
use vmadiff_candidate::Revision;
use vmadiff_machine::VmFlags;

/// Prev, the hole and the source become one VMA, and the source is read after the merge.
const A: &str = "mmap 0 1 6 rw anon_private\nmremap 0 4 2 2 MAYMOVE|FIXED 2";

#[test]
fn bug_a_the_redirection_test_reads_a_source_that_the_merge_has_freed() {
    for revision in [Revision::Rfc, Revision::V2] {
        assert_eq!(
            events(&run(revision, A)),
            ["use-after-free: copy_vma() reads vm_mm of a freed vm_area_struct"],
            "{revision}"
        );
    }
    for revision in [Revision::Original, Revision::Fixed] {
        let seen = run(revision, A);
        assert!(seen.events.is_empty(), "{revision}: {:?}", seen.events);
        assert_eq!(copied(&seen), "merged rmap-locks honoured redirected", "{revision}");
        assert_eq!(layout(&seen, 0), "1..4@1 6..7@6", "{revision}");
        assert_eq!(seen.committed, 4, "{revision}");
    }
}

#[test]
fn bug_a_does_not_show_where_the_source_is_the_one_that_grows() {
    let program = "mmap 0 1 4 rw anon_private\nmremap 0 1 2 2 MAYMOVE|FIXED 5";
    for &revision in Revision::ALL {
        let seen = run(revision, program);
        assert!(seen.events.is_empty(), "{revision}: {:?}", seen.events);
        assert_eq!(copied(&seen), "merged rmap-locks honoured redirected", "{revision}");
        assert_eq!(layout(&seen, 0), "3..7@3", "{revision}");
    }
}

#[test]
fn bug_a_is_in_the_call_of_the_series_too() {
    let program = "mmap 0 1 6 rw anon_private\nmunmap 0 3 1\ncopy 0 4 1 0 3 FIXED";
    let uaf = ["use-after-free: copy_vma() reads vm_mm of a freed vm_area_struct"];
    assert_eq!(events(&run(Revision::V2, program)), uaf);
    let direct = "mmap 0 1 6 rw anon_private\nmunmap 0 3 1\ncopy_vma 0 4 1 0 3 1";
    assert_eq!(events(&run(Revision::V2, direct)), uaf);
    for program in [program, direct] {
        let seen = run(Revision::Fixed, program);
        assert!(seen.events.is_empty(), "{:?}", seen.events);
        assert_eq!(copied(&seen), "merged rmap-locks honoured redirected");
        assert_eq!(layout(&seen, 0), "1..7@1");
    }
}

#[test]
fn bug_b_the_destination_that_is_unmapped_is_the_source() {
    let program = "mmap 0 1 4 rw anon_private\ncopy 0 1 4 0 1 FIXED";
    assert_eq!(
        events(&run(Revision::V2, program)),
        ["use-after-free: process_vm_mmap() reads vm_flags of a freed vm_area_struct"]
    );
    let seen = run(Revision::Fixed, program);
    assert!(seen.events.is_empty(), "{:?}", seen.events);
    assert_eq!(result(&seen), "-EINVAL");
    assert_eq!(layout(&seen, 0), "1..5@1");
}

#[test]
fn bug_b_ranges_that_only_overlap_are_refused_as_well() {
    for (dst, refused) in [(0, true), (3, true), (4, true), (5, false), (9, false)] {
        let program = format!("mmap 0 2 3 rw file0_shared\ncopy 0 2 3 0 {dst} FIXED");
        let seen = run(Revision::Fixed, &program);
        assert_eq!(result(&seen) == "-EINVAL", refused, "{dst}");
        assert_eq!(seen.spaces[0].counters.total_vm, if refused { 3 } else { 6 }, "{dst}");
        // The same ranges of two processes have nothing to do with each other.
        let program = format!("mmap 0 2 3 rw file0_shared\nfork 0\ncopy 1 2 3 0 {dst} FIXED");
        assert_eq!(result(&run(Revision::Fixed, &program)), dst.to_string(), "{dst}");
    }
}

/// The rest of the source merges with the copy of the part that was cut off. The source has a file,
/// so `copy_vma()` takes it for faulted.
#[test]
fn bug_b_a_copy_onto_the_end_of_its_source_trips_an_assertion() {
    let program = "mmap 0 1 2 rw anon_shared\ncopy 0 2 1 0 2 FIXED";
    assert_eq!(
        events(&run(Revision::V2, program)),
        ["assertion: VM_BUG_ON(faulted_in_anon_vma) in copy_vma()"]
    );
    let seen = run(Revision::Fixed, program);
    assert!(seen.events.is_empty(), "{:?}", seen.events);
    assert_eq!(result(&seen), "-EINVAL");
}

#[test]
fn bug_c_the_copy_of_locked_memory_is_locked_and_not_counted() {
    let copy = "mmap 0 1 4 rw anon_private LOCKED\nfork 0\ncopy 1 1 4 0 10 FIXED";
    let seen = run(Revision::V2, copy);
    assert!(seen.spaces[1].vmas()[1].flags.contains(VmFlags::VM_LOCKED));
    assert_eq!(seen.spaces[1].counters.locked_vm, 0);
    let seen = run(Revision::Fixed, copy);
    assert!(!seen.spaces[1].vmas()[1].flags.intersects(VmFlags::LOCK));
    assert_eq!(seen.spaces[1].counters.locked_vm, 0);

    // Unmapping the copy takes its pages off what else is locked.
    let unmap = format!("{copy}\nmlock 1 1 1\nmunmap 1 10 4");
    assert_eq!(run(Revision::V2, &unmap).spaces[1].counters.locked_vm, -3);
    // The kernel compares the counter unsigned with the limit.
    let lock = format!("limits lock=8\n{unmap}\nmmap 1 60 1 rw anon_private LOCKED\n");
    assert_eq!(result(&run(Revision::V2, &lock)), "-EAGAIN");
    assert_eq!(result(&run(Revision::Fixed, &lock)), "60");
    assert_eq!(run(Revision::Fixed, &unmap).spaces[1].counters.locked_vm, 1);
}

#[test]
fn bug_d_need_rmap_locks_is_thrown_away_where_a_mapping_is_copied_by_halves() {
    let program = "mmap 0 1 4 rw anon_private\ntouch 0 1 1\nfork 0\n\
                   copy 1 1 2 0 10 FIXED\ncopy 1 3 2 0 12 FIXED";
    for (revision, told) in [
        (Revision::V2, "merged rmap-locks"),
        (Revision::Rfc, "merged rmap-locks"),
        (Revision::Fixed, "merged rmap-locks honoured"),
    ] {
        let seen = run(revision, program);
        assert_eq!(copied(&seen), told, "{revision}");
        assert!(seen.events.is_empty(), "{revision}: {:?}", seen.events);
        assert_eq!(layout(&seen, 1), "1..5@1 10..14@1", "{revision}");
    }
}

/// Source and destination lie under one page-table page, whose lock is taken twice.
#[test]
fn bug_f_a_copy_within_one_process_takes_one_page_table_lock_twice() {
    let faulted = "mmap 0 1 1 rw anon_private\ntouch 0 1 1\n";
    let deadlock = ["deadlock: copy_pte_range() takes ptl, which is held already"];
    let cases = [
        ("copy 0 1 1 0 9 FIXED", true),
        // Without an anon_vma no ptes are copied.
        ("mmap 0 1 1 rw anon_private\ncopy 0 1 1 0 9 FIXED", false),
        // Two processes have two page-table pages.
        ("fork 0\ncopy 1 1 1 0 9 FIXED", false),
        // Around a direct call of copy_vma() the caller is right at every revision.
        ("copy_vma 0 1 1 0 9 1", false),
        // The ptes of the device are there from the start, and fork copies them.
        ("mmap 0 20 1 rw special\nfork 0", false),
        ("mremap 0 1 1 1 MAYMOVE|FIXED 9", false),
    ];
    for (last, has_it) in cases {
        let program = format!("{faulted}{last}");
        for revision in [Revision::Rfc, Revision::V2] {
            let expected: &[&str] = if has_it { &deadlock } else { &[] };
            assert_eq!(events(&run(revision, &program)), expected, "{revision}: {program}");
        }
        assert_eq!(events(&run(Revision::Fixed, &program)), [""; 0], "{program}");
    }
}

/// munmap() of everything frees the page-table page, and a VMA without one has no ptes to copy.
#[test]
fn bug_f_does_not_show_where_the_source_has_no_page_table_page() {
    // In the child the VMA has an anon_vma, and no page-table page: it is wiped on fork.
    let program = "mmap 0 1 1 rw anon_private\ntouch 0 1 1\nmadvise 0 1 1 WIPEONFORK\nfork 0\n";
    let copy = "copy 1 1 1 1 9 FIXED";
    assert_eq!(events(&run(Revision::V2, &format!("{program}{copy}"))), [""; 0]);
    let touched = format!("{program}touch 1 1 0\n{copy}");
    assert_eq!(events(&run(Revision::V2, &touched)).len(), 1);
}
