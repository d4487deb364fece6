//! The contents of memory: the values that are read, the pages that entries share, and the entries that
//! permit writes.

mod common;

use std::fmt::Write as _;

use vmadiff_machine::{Machine, Observation, PageId, Program};
use vmadiff_reference::Reference;

/// Runs a program, and returns the value of each read, and the state at the end: for each process the
/// anonymous page of each place as a letter, with `*` where the entry permits writes.
fn contents(text: &str) -> (Vec<u8>, String) {
    let program: Program = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    let mut reference = Reference::new();
    let mut seen = Observation::default();
    reference.reset(&program.limits);
    let mut reads = Vec::new();
    for op in &program.ops {
        reference.step(op, &mut seen);
        assert!(seen.result.is_ok(), "{op} of\n{text}");
        reads.extend(seen.read);
    }
    let mut letters: Vec<PageId> = Vec::new();
    let mut state = String::new();
    for space in seen.spaces.iter().filter(|space| space.alive) {
        let places = (0..128u8).filter(|page| space.anon_pages >> page & 1 == 1);
        for (place, &id) in places.zip(space.page_ids()) {
            let letter = letters.iter().position(|other| *other == id).unwrap_or_else(|| {
                letters.push(id);
                letters.len() - 1
            });
            let writable = space.writable_ptes >> place & 1 == 1;
            let mark = if writable { "*" } else { "" };
            let _ = write!(state, "{place}{}{mark} ", char::from(b'a' + letter as u8));
        }
        state.push('|');
    }
    (reads, state.replace(" |", "|").trim_end_matches('|').to_owned())
}

#[track_caller]
fn shows(cases: &[(&str, &[u8], &str)]) {
    for (text, reads, state) in cases {
        assert_eq!(contents(text), (reads.to_vec(), (*state).to_owned()), "\n{text}");
    }
}

/// Process 0 has written 1 to page 1 and 2 to page 2.
const TWO: &str = "mmap 0 1 4 rw anon_private\ntouch 0 1 1\ntouch 0 2 1\n";

#[test]
fn a_read_shows_the_value_that_was_written_last() {
    shows(&[
        (&format!("{TWO}touch 0 1\ntouch 0 2\ntouch 0 3"), &[1, 2, 0], "1a* 2b*"),
        (&format!("{TWO}touch 0 1 1\ntouch 0 1"), &[3], "1a* 2b*"),
        (&format!("{TWO}madvise 0 1 1 DONTNEED\ntouch 0 1\ntouch 0 2"), &[0, 2], "2a*"),
        (
            &format!("{TWO}mremap 0 1 2 2 MAYMOVE|FIXED 9\ntouch 0 9\ntouch 0 10"),
            &[1, 2],
            "9a* 10b*",
        ),
        ("mmap 0 1 1 rw special\ntouch 0 1 1\ntouch 0 1", &[0], ""),
    ]);
}

#[test]
fn the_first_write_after_a_fork_gives_the_writer_a_page_of_its_own() {
    shows(&[
        // Both sides are read-only, and both read what was written before.
        (&format!("{TWO}fork 0\ntouch 0 1\ntouch 1 1"), &[1, 1], "1a 2b|1a 2b"),
        (&format!("{TWO}fork 0\ntouch 1 1 1\ntouch 0 1\ntouch 1 1"), &[1, 3], "1a 2b|1c* 2b"),
        (&format!("{TWO}fork 0\ntouch 0 1 1\ntouch 0 1\ntouch 1 1"), &[3, 1], "1a* 2b|1c 2b"),
        // The last process that maps a page takes it over.
        (&format!("{TWO}fork 0\nexit 1\ntouch 0 1 1"), &[], "1a* 2b"),
        (&format!("{TWO}fork 0\nexit 0\ntouch 1 2\ntouch 1 2 1"), &[2], "1a 2b*"),
        // Locking writes nothing, and copies the page with its value.
        (&format!("{TWO}fork 0\nmlock 1 1 1\ntouch 1 1"), &[1], "1a 2b|1c* 2b"),
        // A page that is not copied: the child has none, and the parent's entry stays as it is.
        (&format!("{TWO}madvise 0 1 4 WIPEONFORK\nfork 0\ntouch 1 1"), &[0], "1a* 2b*"),
        (&format!("{TWO}madvise 0 1 4 DONTFORK\nfork 0"), &[], "1a* 2b*"),
    ]);
}

#[test]
fn a_copy_shares_the_pages_and_makes_both_sides_read_only() {
    shows(&[
        (&format!("{TWO}copy 0 1 1 0 20 FIXED\ntouch 0 20"), &[1], "1a 2b* 20a"),
        (&format!("{TWO}copy 0 1 1 0 20 FIXED\ntouch 0 1 1\ntouch 0 20"), &[1], "1a* 2b* 20c"),
        (
            &format!("{TWO}fork 0\nmunmap 1 1 4\ntouch 0 1 1\ncopy 1 1 2 0 9 FIXED\ntouch 1 9"),
            &[3],
            "1a 2b|9a 10b",
        ),
    ]);
}

#[test]
fn a_change_of_the_protection_makes_entries_read_only_and_a_write_makes_them_writable() {
    shows(&[
        (&format!("{TWO}mprotect 0 1 1 r"), &[], "1a 2b*"),
        (&format!("{TWO}mprotect 0 1 1 rwx"), &[], "1a 2b*"),
        (&format!("{TWO}mprotect 0 1 4 rw"), &[], "1a* 2b*"),
        (&format!("{TWO}mprotect 0 1 1 r\nmprotect 0 1 1 rw"), &[], "1a 2b*"),
        (
            &format!("{TWO}mprotect 0 1 1 r\nmprotect 0 1 1 rw\ntouch 0 1 1\ntouch 0 1"),
            &[3],
            "1a* 2b*",
        ),
    ]);
}

#[test]
fn the_pages_of_a_file_are_shared_and_a_private_mapping_reads_them_until_it_writes() {
    let both = "mmap 0 1 2 rw file0_shared\nmmap 0 9 2 rw file0_private\n";
    shows(&[
        (&format!("{both}touch 0 1 1\ntouch 0 9\ntouch 0 10"), &[1, 0], ""),
        // A page that the private mapping has copied keeps its value.
        (
            &format!("{both}touch 0 1 1\nmlock 0 9 1\ntouch 0 1 1\ntouch 0 9\ntouch 0 1"),
            &[1, 2],
            "9a*",
        ),
        (&format!("{both}touch 0 9 1\ntouch 0 1"), &[0], "9a*"),
        (&format!("{both}touch 0 1 1\ntouch 0 9 1\nmadvise 0 9 1 DONTNEED\ntouch 0 9"), &[1], ""),
        // By the page of the file, in all processes.
        (
            "mmap 0 1 2 rw file0_shared - 3\ntouch 0 1 1\nfork 0\nmmap 1 9 1 r file0_shared - 3\ntouch 1 9\nmmap 1 9 1 r file1_shared - 3\ntouch 1 9",
            &[1, 0],
            "",
        ),
        ("mmap 0 1 2 rw anon_shared\nfork 0\ntouch 1 2 1\ntouch 0 2", &[1], ""),
        ("shmat 0 1\nshmat 0 9\ntouch 0 2 1\ntouch 0 10", &[1], ""),
    ]);
}

#[test]
fn pages_that_are_removed_from_a_file_are_new_for_every_process() {
    let both = "mmap 0 1 2 rw file0_shared\nmmap 0 9 2 rw file0_private\n";
    let written = format!("{both}touch 0 1 1\ntouch 0 2 1\n");
    shows(&[
        (&format!("{written}madvise 0 1 1 REMOVE\ntouch 0 1\ntouch 0 2"), &[0, 2], ""),
        (&format!("{written}madvise 0 1 2 REMOVE\ntouch 0 9\ntouch 0 10"), &[0, 0], ""),
        (&format!("{written}fork 0\nmadvise 1 1 2 REMOVE\ntouch 0 1\ntouch 0 9"), &[0, 0], ""),
        (&format!("{written}madvise 0 1 2 REMOVE\ntouch 0 1 1\ntouch 0 9"), &[3], ""),
        // The private copy stays, with its page.
        (
            &format!("{written}touch 0 9 1\nmadvise 0 1 2 REMOVE\ntouch 0 9\ntouch 0 10"),
            &[3, 0],
            "9a*",
        ),
        (
            "shmat 0 0\ntouch 0 0 1\ntouch 0 3 1\nmadvise 0 3 1 REMOVE\ntouch 0 0\ntouch 0 3",
            &[1, 0],
            "",
        ),
        (
            "mmap 0 0 2 rw anon_shared\ntouch 0 1 1\nfork 0\nmadvise 1 1 1 REMOVE\ntouch 0 1",
            &[0],
            "",
        ),
    ]);
}

#[test]
fn past_the_end_of_a_file_nothing_is_left() {
    let both = "mmap 0 1 3 rw file0_shared\nmmap 0 9 3 rw file0_private\n";
    let written = format!("{both}touch 0 1 1\ntouch 0 3 1\ntouch 0 9 1\ntouch 0 11 1\n");
    shows(&[
        (&format!("{written}ftruncate 0 file0 2\ntouch 0 1\ntouch 0 9"), &[1, 3], "9a*"),
        (&format!("{written}ftruncate 0 file0"), &[], ""),
        (&format!("{written}ftruncate 0 file0 3\ntouch 0 3\ntouch 0 11"), &[2, 4], "9a* 11b*"),
        (&format!("{written}ftruncate 0 file1"), &[], "9a* 11b*"),
        // The private copies of every process, where the mapping is now.
        (
            &format!("{written}fork 0\nmremap 1 9 3 3 MAYMOVE|FIXED 30\nftruncate 0 file0 1"),
            &[],
            "9a|30a",
        ),
        // A longer file is empty where it was cut.
        (
            &format!(
                "{written}ftruncate 0 file0 2\nftruncate 0 file0 3\ntouch 0 3\ntouch 0 11\ntouch 0 1"
            ),
            &[0, 0, 1],
            "9a*",
        ),
        (
            &format!("{written}ftruncate 0 file0 2\nftruncate 0 file0 9\ntouch 0 3 1\ntouch 0 11"),
            &[5],
            "9a*",
        ),
    ]);
}
