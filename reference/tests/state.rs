//! The state that the exhaustive search remembers, saved states, and the hidden state.

use vmadiff_machine::hidden::{Counted, Hidden};
use vmadiff_machine::operand::Mode;
use vmadiff_machine::{FileId, Machine, Observation, Op, Program, State, UffdId};
use vmadiff_reference::later::{Rule, Rules};
use vmadiff_reference::{MENDED, Reference};

fn program(text: &str) -> Program {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn step(reference: &mut Reference, ops: &[Op]) -> Observation {
    let mut seen = Observation::default();
    ops.iter().for_each(|op| reference.step(op, &mut seen));
    seen
}

/// Returns the reference after a program, each operation of which succeeds.
fn after(text: &str) -> Reference {
    let program = program(text);
    let mut reference = Reference::new();
    reference.reset(&program.limits);
    for op in &program.ops {
        let seen = step(&mut reference, std::slice::from_ref(op));
        assert!(seen.result.is_ok(), "{op}: {:?} in\n{text}", seen.result);
    }
    reference
}

fn words(reference: &Reference) -> Vec<u64> {
    let mut state = State::default();
    state.begin();
    assert!(reference.write_state(&mut state));
    state.words().to_vec()
}

fn hidden(reference: &mut Reference) -> Hidden {
    let mut hidden = Hidden::default();
    assert_eq!(reference.show_hidden(&mut hidden).ok(), Some(true));
    hidden
}

#[test]
fn states_that_differ_in_one_thing_have_different_words() {
    let touched = "mmap 0 0 2 rw anon_private\ntouch 0 0 1\n";
    // The child's page hangs on the parent's anon_vma. After a write it hangs on its own.
    let inherited = format!("{touched}fork 0\nmunmap 0 0 2\n");
    let protected = "mprotect 1 0 2 r\nmprotect 1 0 2 rw\n";
    // The processes 1 and 3 reuse anon_vmas of their ancestors, so that the next child of 1 and the next
    // child of 2 have the same chain.
    let reused = format!("{touched}fork 0\nfork 1\nexit 1\nfork 2\nfork 1\n");
    for (what, a, b) in [
        ("limit", "limits map_count=9\n", "limits map_count=8\n"),
        ("limit", "limits lock=9\n", "limits address_space=9\n"),
        ("limit of a process", "prlimit 0 AS 9\n", "prlimit 0 AS 8\n"),
        ("limit of a process", "prlimit 0 AS 9\n", "prlimit 0 MEMLOCK 9\n"),
        (
            "missing page",
            "mmap 0 0 3 rw file0_shared\nmadvise 0 1 1 REMOVE",
            "mmap 0 0 3 rw file0_shared\nmadvise 0 2 1 REMOVE",
        ),
        (
            "file of a missing page",
            "mmap 0 0 3 rw file0_shared\nmmap 0 4 3 rw file1_shared\nmadvise 0 1 1 REMOVE",
            "mmap 0 0 3 rw file0_shared\nmmap 0 4 3 rw file1_shared\nmadvise 0 5 1 REMOVE",
        ),
        ("length of a file", "ftruncate 0 file0 9\n", "ftruncate 0 file0 8\n"),
        ("process", "fork 0\nexit 0\n", "fork 0\nexit 1\n"),
        ("start", "mmap 0 1 1 r file0_shared - 1", "mmap 0 2 1 r file0_shared - 1"),
        ("end", "mmap 0 1 1 r file0_shared - 1", "mmap 0 1 2 r file0_shared - 1"),
        ("pgoff", "mmap 0 1 1 r file0_shared - 1", "mmap 0 1 1 r file0_shared - 2"),
        ("file", "mmap 0 1 1 r file0_private - 1", "mmap 0 1 1 r file1_private - 1"),
        ("flags", "mmap 0 0 1 rw anon_private", "mmap 0 0 1 r anon_private"),
        (
            "policy",
            "mmap 0 0 1 rw anon_private\nmbind 0 0 1 BIND\n",
            "mmap 0 0 1 rw anon_private\nmbind 0 0 1 INTERLEAVE\n",
        ),
        (
            "object",
            "mmap 0 0 1 rw anon_shared\nmmap 0 2 1 rw anon_shared\n",
            "mmap 0 0 1 rw anon_shared\nmremap 0 0 0 1 MAYMOVE|FIXED 2\n",
        ),
        (
            "attachment",
            "shmat 0 0\nshmat 0 4\nmunmap 0 1 6\n",
            "shmat 0 0\nmunmap 0 1 3\nmremap 0 0 0 1 MAYMOVE|FIXED 7\n",
        ),
        // Four VMAs of two objects each: A, B, A, B and A, B, B, A. Every counter is the same.
        (
            "object of each VMA",
            "mmap 0 0 1 rw anon_shared\nmmap 0 2 1 rw anon_shared\n\
             mremap 0 0 0 1 MAYMOVE|FIXED 4\nmremap 0 2 0 1 MAYMOVE|FIXED 6\n",
            "mmap 0 0 1 rw anon_shared\nmmap 0 2 1 rw anon_shared\n\
             mremap 0 0 0 1 MAYMOVE|FIXED 6\nmremap 0 2 0 1 MAYMOVE|FIXED 4\n",
        ),
        (
            "file of each VMA",
            "mmap 0 0 1 r file0_shared\nmmap 0 2 1 r file1_shared\n\
             mmap 0 4 1 r file0_shared\nmmap 0 6 1 r file1_shared\n",
            "mmap 0 0 1 r file0_shared\nmmap 0 2 1 r file1_shared\n\
             mmap 0 4 1 r file1_shared\nmmap 0 6 1 r file0_shared\n",
        ),
        (
            "attachment of each VMA",
            "shmat 0 0\nmunmap 0 1 3\nshmat 0 4\nmunmap 0 5 3\n\
             mremap 0 0 0 1 MAYMOVE|FIXED 8\nmremap 0 4 0 1 MAYMOVE|FIXED 10\n",
            "shmat 0 0\nmunmap 0 1 3\nshmat 0 4\nmunmap 0 5 3\n\
             mremap 0 0 0 1 MAYMOVE|FIXED 10\nmremap 0 4 0 1 MAYMOVE|FIXED 8\n",
        ),
        (
            "context of each VMA",
            "mmap 0 0 7 rw anon_private\nuffd_register 0 0 1 0\nuffd_register 0 2 1 1\n\
             uffd_register 0 4 1 0\nuffd_register 0 6 1 1\n",
            "mmap 0 0 7 rw anon_private\nuffd_register 0 0 1 0\nuffd_register 0 2 1 1\n\
             uffd_register 0 4 1 1\nuffd_register 0 6 1 0\n",
        ),
        (
            "policy of each VMA",
            "mmap 0 0 3 rw anon_private\nmbind 0 0 1 BIND\nmbind 0 2 1 INTERLEAVE\n",
            "mmap 0 0 3 rw anon_private\nmbind 0 0 1 INTERLEAVE\nmbind 0 2 1 BIND\n",
        ),
        (
            "context of a VMA",
            "mmap 0 0 1 rw anon_private\nmmap 0 2 1 rw anon_private\nuffd_register 0 0 1 0\nuffd_register 0 2 1 0\n",
            "mmap 0 0 1 rw anon_private\nmmap 0 2 1 rw anon_private\nuffd_register 0 0 1 0\nuffd_register 0 2 1 1\n",
        ),
        (
            "context of a process",
            "mmap 0 0 1 rw anon_private\nuffd_register 0 0 1 0\n",
            "mmap 0 0 1 rw anon_private\nuffd_register 0 0 1 1\n",
        ),
        ("open context", "mmap 0 0 1 rw anon_private\nuffd_register 0 0 1 0\nmunmap 0 0 1\n", ""),
        (
            "anon_vma",
            "mmap 0 0 1 rw anon_private\nmmap 0 2 1 rw anon_private\ntouch 0 0 1\ntouch 0 2 1\n",
            "mmap 0 0 3 rw anon_private\ntouch 0 0 1\ntouch 0 2 1\nmunmap 0 1 1\n",
        ),
        ("place of a page", touched, "mmap 0 0 2 rw anon_private\ntouch 0 1 1\n"),
        ("number of pages", touched, "mmap 0 0 2 rw anon_private\ntouch 0 0 1\ntouch 0 1 1\n"),
        (
            "anon_vma of a page",
            &format!("{inherited}{protected}"),
            &format!("{inherited}touch 1 0 1\n{protected}"),
        ),
        ("write bit", touched, &format!("{touched}fork 0\nexit 1\n")),
        (
            "zero page",
            "mmap 0 0 2 rw anon_private\ntouch 0 0\n",
            "mmap 0 0 2 rw anon_private\ntouch 0 1\n",
        ),
        (
            "value of a page",
            "mmap 0 0 2 rw anon_private\ntouch 0 0 1\ntouch 0 1 1\n",
            "mmap 0 0 2 rw anon_private\nmlock 0 0 2\nmunlock 0 0 2\ntouch 0 1 1\n",
        ),
        (
            "value of a memfd",
            "mmap 0 0 1 rw file0_shared\ntouch 0 0 1\nmunmap 0 0 1\n",
            "mmap 0 0 1 rw file1_shared\ntouch 0 0 1\nmunmap 0 0 1\n",
        ),
        (
            "page of a memfd with a value",
            "mmap 0 0 1 rw file0_shared\ntouch 0 0 1\nmunmap 0 0 1\n",
            "mmap 0 0 1 rw file0_shared - 1\ntouch 0 0 1\nmunmap 0 0 1\n",
        ),
        (
            "page of the second memfd with a value",
            "mmap 0 0 1 rw file0_shared\ntouch 0 0 1\nmunmap 0 0 1\n\
             mmap 0 0 1 rw file1_shared\ntouch 0 0 1\nmunmap 0 0 1\n",
            "mmap 0 0 1 rw file0_shared\ntouch 0 0 1\nmunmap 0 0 1\n\
             mmap 0 0 1 rw file1_shared - 1\ntouch 0 0 1\nmunmap 0 0 1\n",
        ),
        (
            "pages of an object",
            "mmap 0 0 1 rw anon_shared\nmunmap 0 0 1\nmmap 0 0 1 rw anon_shared\n",
            "mmap 0 0 2 rw anon_shared\nmunmap 0 1 1\n",
        ),
        (
            "cached pages of an object",
            "mmap 0 0 1 rw anon_shared\n",
            "mmap 0 0 1 rw anon_shared\ntouch 0 0\n",
        ),
        ("destroyed segment", "", "shm_rmid 0\n"),
        ("removed segment", "shmat 0 0\n", "shmat 0 0\nshm_rmid 0\n"),
        ("flags of later mappings", "", "mlockall 0 FUTURE\n"),
        ("flags of later mappings", "mlockall 0 FUTURE\n", "mlockall 0 FUTURE|ONFAULT\n"),
        (
            "parent of an anon_vma",
            "mmap 0 0 1 rw anon_private\ntouch 0 0 1\nfork 0\nfork 0\nexit 0\n",
            "mmap 0 0 1 rw anon_private\ntouch 0 0 1\nfork 0\nfork 1\nexit 0\n",
        ),
        (
            "parent of an anon_vma with the same chain",
            &format!("{reused}fork 1\nfork 2\n"),
            &format!("{reused}fork 2\nfork 1\n"),
        ),
    ] {
        assert_ne!(words(&after(a)), words(&after(b)), "{what}:\n{a}\n{b}");
    }
}

#[test]
fn states_that_are_equal_up_to_numbers_have_the_same_words() {
    for (a, b) in [
        ("mmap 0 0 1 rw file0_shared\nmunmap 0 0 1\n", ""),
        (
            "mmap 0 0 2 rw anon_private\ntouch 0 0 1\ntouch 0 1 1\n",
            "mmap 0 0 2 rw anon_private\ntouch 0 1 1\ntouch 0 0 1\n",
        ),
        (
            "mmap 0 0 1 rw anon_private\ntouch 0 0 1\nmunmap 0 0 1\nmmap 0 0 1 rw anon_private\ntouch 0 0 1\n",
            "mmap 0 0 1 rw anon_private\ntouch 0 0 1\n",
        ),
        (
            "mmap 0 0 1 rw anon_shared\nmunmap 0 0 1\nmmap 0 0 1 rw anon_shared\ntouch 0 0 1\n",
            "mmap 0 0 1 rw anon_shared\ntouch 0 0 1\n",
        ),
        ("mmap 0 0 1 rw anon_private\ntouch 0 0 1\nmunmap 0 0 1\n", ""),
        ("shmat 0 0\nshmdt 0 0\nshmat 0 0\n", "shmat 0 0\n"),
        ("mlockall 0 FUTURE\nmunlockall 0\n", ""),
    ] {
        assert_eq!(words(&after(a)), words(&after(b)), "\n{a}\n{b}");
    }
}

#[test]
fn a_saved_state_is_restored_as_it_was() {
    let mut reference = after("mmap 0 0 2 rw anon_private\ntouch 0 0 1\n");
    let before = words(&reference);
    assert!(reference.save());
    let more = program("munmap 0 0 1\nfork 0\n");
    step(&mut reference, &more.ops);
    assert_ne!(words(&reference), before);
    reference.restore();
    assert_eq!(words(&reference), before);
    // The last state that was saved is the one that is restored.
    step(&mut reference, &more.ops);
    let before = words(&reference);
    assert!(reference.save());
    step(&mut reference, &more.ops);
    reference.restore();
    assert_eq!(words(&reference), before);
}

#[test]
fn the_hidden_state_has_each_page_with_its_entries_and_its_anon_vma() {
    let mut reference = after("mmap 0 0 3 rw anon_private\ntouch 0 0 1\ntouch 0 1 1\nfork 0\n");
    let shown = |reference: &mut Reference| {
        let hidden = hidden(reference);
        let pages: Vec<_> = hidden.pages.iter().map(|page| (page.number, page.map_count)).collect();
        assert!(hidden.pages.iter().all(|page| page.anon_vma.is_some()));
        (pages, hidden.ptes.len())
    };
    assert_eq!(shown(&mut reference), (vec![(0, 2), (1, 2)], 4));
    // do_wp_page() copies a page of two entries, and takes over a page of one entry.
    step(&mut reference, &program("touch 1 0 1").ops);
    assert_eq!(shown(&mut reference), (vec![(0, 1), (1, 2), (2, 1)], 4));
    step(&mut reference, &program("touch 0 0 1").ops);
    assert_eq!(shown(&mut reference), (vec![(0, 1), (1, 2), (2, 1)], 4));
    // A page without entries is gone. The next operation may use its number again.
    step(&mut reference, &program("munmap 0 0 1\ntouch 0 2 1\n").ops);
    assert_eq!(shown(&mut reference), (vec![(0, 1), (1, 2), (2, 1)], 4));
    step(&mut reference, &program("exit 1").ops);
    assert_eq!(shown(&mut reference), (vec![(0, 1), (1, 1)], 2));
}

#[test]
fn a_merge_leaves_one_vma_on_the_anon_vma() {
    // Both neighbours have the anon_vma, and the new range joins them.
    let text =
        "mmap 0 0 3 rw anon_private\ntouch 0 0 1\nmunmap 0 1 1\nmmap 0 1 1 rw anon_private\n";
    let vmas: Vec<_> = hidden(&mut after(text)).anon_vmas.iter().map(|one| one.vmas).collect();
    assert_eq!(vmas, [1]);
}

#[test]
fn the_hidden_state_counts_the_references_to_files_policies_and_contexts() {
    // The memfds and the device always have a descriptor, and the segment has one until it is destroyed.
    let count = |text: &str, to: Counted| {
        let references = hidden(&mut after(text)).references;
        references.iter().find(|one| one.to == to).map(|one| (one.counter, one.others))
    };
    let file = |number| Counted::File(FileId::new(number));
    let context = Counted::Context(UffdId::new(0));
    let (segment, first_object) = (file(4), file(5));
    let watched = "mmap 0 0 1 rw anon_private\nuffd_register 0 0 1 0\n";
    for (text, to, expected) in [
        ("", file(0), Some((1, 1))),
        ("mmap 0 0 3 rw file0_shared\nmunmap 0 1 1\n", file(0), Some((3, 1))),
        ("mmap 0 0 3 rw special\nfork 0\n", file(3), Some((3, 1))),
        ("", segment, Some((1, 1))),
        ("shmat 0 0\nshmat 0 8\n", segment, Some((3, 1))),
        ("shm_rmid 0\n", segment, None),
        ("mmap 0 0 1 rw anon_shared\n", first_object, Some((1, 0))),
        ("mmap 0 0 1 rw anon_shared\nmunmap 0 0 1\n", first_object, None),
        ("mmap 0 0 2 rw anon_private\n", Counted::Policy(Mode::Default), None),
        ("mmap 0 0 2 rw anon_private\n", Counted::Policy(Mode::Bind), None),
        (
            "mmap 0 0 2 rw anon_private\nmbind 0 0 1 BIND\n",
            Counted::Policy(Mode::Bind),
            Some((1, 0)),
        ),
        (
            "mmap 0 0 2 rw anon_private\nmbind 0 0 2 BIND\nfork 0\n",
            Counted::Policy(Mode::Bind),
            Some((2, 0)),
        ),
        ("", context, None),
        (watched, context, Some((1, 1))),
        (&format!("{watched}fork 0\nexit 0\n"), context, None),
    ] {
        assert_eq!(count(text, to), expected, "{to:?}: {text}");
    }
}

#[test]
fn a_reference_has_the_rules_of_its_name() {
    for rule in Rule::ALL {
        let reference = Reference::named(&format!("reference+{}", rule.name()));
        let rules = reference.map(|reference| reference.rules());
        assert_eq!(rules, Some(Rules::NONE.with(*rule)), "{}", rule.name());
    }
    assert_eq!(Reference::with_rules(MENDED).rules(), MENDED);
    assert_eq!(Reference::new().rules(), Rules::NONE);
}
