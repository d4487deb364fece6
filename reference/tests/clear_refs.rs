//! Soft-dirty memory: what makes a VMA clean, and what makes it soft-dirty again.

mod common;
use common::{marked, run};
use vmadiff_machine::VmFlags;

/// Returns the VMAs of a process after a program: start, end, and `d` for a soft-dirty one.
fn dirty(text: &str, process: usize) -> String {
    marked(&run(text).seen.spaces[process], VmFlags::VM_SOFTDIRTY, "d")
}

#[test]
fn new_memory_is_soft_dirty_until_the_flags_are_cleared() {
    for (text, process, vmas) in [
        ("mmap 0 0 1 r anon_private", 0, "0-1d"),
        ("shmat 0 0", 0, "0-4d"),
        ("mmap 0 0 1 r special\nclear_refs 0", 0, "0-1"),
        ("shmat 0 0\nclear_refs 0", 0, "0-4"),
        ("mmap 0 0 1 r anon_private\nfork 0\nclear_refs 0", 0, "0-1"),
        ("mmap 0 0 1 r anon_private\nfork 0\nclear_refs 0", 1, "0-1d"),
        ("mmap 0 0 1 r anon_private\nclear_refs 0\nfork 0", 1, "0-1"),
        ("mmap 0 0 1 r anon_private\nclear_refs 0\nmmap 0 4 1 r anon_private", 0, "0-1 4-5d"),
        ("mmap 0 0 4 r anon_private\nclear_refs 0\nmunmap 0 1 1", 0, "0-1 2-4"),
        ("mmap 0 0 1 r anon_private\nclear_refs 0\nmremap 0 0 1 2", 0, "0-2"),
    ] {
        assert_eq!(dirty(text, process), vmas, "{text}");
    }
}

#[test]
fn it_depends_on_the_call_whether_a_joined_neighbour_becomes_soft_dirty() {
    let clean = "mmap 0 0 2 r anon_private\nclear_refs 0\n";
    for (text, vmas) in [
        // A mapping that joins a VMA makes all of it soft-dirty, on either side.
        ("mmap 0 2 1 r anon_private", "0-3d"),
        ("mmap 0 2 2 - anon_private\nmprotect 0 2 1 r", "0-3d 3-4d"),
        ("mmap 0 2 2 r anon_private NORESERVE\nmmap 0 2 1 r anon_private", "0-3d 3-4d"),
        ("mmap 0 2 2 - anon_private\nmadvise 0 2 1 RANDOM\nmprotect 0 2 1 r", "0-2 2-3d 3-4d"),
        // What changes joins with its own flag.
        ("madvise 0 0 2 RANDOM\nmmap 0 2 1 r anon_private\nmadvise 0 2 1 RANDOM", "0-3d"),
        ("madvise 0 0 1 RANDOM\nmadvise 0 0 1 NORMAL", "0-2"),
        ("mlock 0 0 2\nmmap 0 2 1 r anon_private\nmlock 0 2 1", "0-3d"),
        ("mmap 0 2 1 r anon_private LOCKED\nmunlock 0 2 1", "0-3"),
        ("mbind 0 0 2 BIND\nmmap 0 2 1 r anon_private\nmbind 0 2 1 BIND", "0-3"),
        ("uffd_register 0 0 2 0\nmmap 0 2 1 r anon_private\nuffd_register 0 2 1 0", "0-3d"),
        // A clean range makes a soft-dirty neighbour clean.
        ("mmap 0 2 1 - anon_private\nmprotect 0 1 1 -", "0-1 1-3"),
        // A moved range joins with the flag of the neighbour.
        ("mmap 0 9 1 r anon_private\nmremap 0 9 1 1 MAYMOVE|FIXED 2", "0-3"),
        ("mmap 0 9 1 r anon_private\nmremap 0 0 1 1 MAYMOVE|FIXED 8", "1-2 8-10d"),
        // A copy is a new mapping.
        ("copy 0 0 1 0 2 FIXED", "0-3d"),
        ("copy 0 0 1 0 8 FIXED", "0-2 8-9d"),
    ] {
        assert_eq!(dirty(&format!("{clean}{text}"), 0), vmas, "{text}");
    }
}

#[test]
fn entries_are_read_only_until_the_next_write() {
    let entries = |text: &str| {
        let space = &run(text).seen.spaces[0];
        (space.anon_pages, space.writable_ptes)
    };
    let written = "mmap 0 0 2 rw anon_private\ntouch 0 0 1\ntouch 0 1 1\n";
    assert_eq!(entries(written), (3, 3));
    assert_eq!(entries(&format!("{written}clear_refs 0")), (3, 0));
    assert_eq!(entries(&format!("{written}clear_refs 0\ntouch 0 1 1")), (3, 2));
    // Nothing is soft-dirty, and the entries are cleared all the same.
    assert_eq!(entries(&format!("{written}clear_refs 0\ntouch 0 1 1\nclear_refs 0")), (3, 0));
}
