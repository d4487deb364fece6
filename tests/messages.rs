//! The messages that the monitor of a userfaultfd context gets, in both models.

use vmadiff::compare::{Comparer, Scope};
use vmadiff::lockstep::Lockstep;
use vmadiff_candidate::{Candidate, Revision};
use vmadiff_machine::{Machine, Observation, Program};
use vmadiff_reference::{MENDED, Reference};

/// Runs a program and returns the last observation.
fn run(machine: &mut dyn Machine, text: &str) -> Observation {
    let program: Program = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    let mut seen = Observation::default();
    machine.reset(&program.limits);
    program.ops.iter().for_each(|op| machine.step(op, &mut seen));
    seen
}

/// Returns the messages of the last operation of a program, which both models show. At revisions without copies
/// only programs without copies are run. A context has the number
/// of the context among those of the program.
fn messages(text: &str) -> Vec<String> {
    let expected = run(&mut Reference::new(), text);
    let copies = text.contains("copy");
    let revisions = [Revision::Fixed, Revision::V2, Revision::Original];
    for revision in revisions.into_iter().take(if copies { 1 } else { 3 }) {
        let shown = run(&mut Candidate::new(revision), text);
        let same = Comparer::new(Scope::Models).same_in_full(&expected, &shown);
        // The references of the messages are given back, too.
        let program: Program = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        let reference = match revision {
            Revision::Fixed => Reference::with_rules(MENDED),
            _ => Reference::new(),
        };
        let found = Lockstep::new(reference, Candidate::new(revision)).run(&program);
        assert!(found.is_none(), "{revision:?}: {text}\n{found:?}");
        assert!(same, "{revision:?}: {text}\n{:?}\n{:?}", expected.messages, shown.messages);
    }
    let messages = expected.messages.iter();
    messages.map(|message| format!("{} {message}", message.ctx.index())).collect()
}

/// Memory that two contexts with all features watch: pages 0 to 3, and 4 and 5.
const WATCHED: &str = "uffd_open 0 0 FORK|REMAP|REMOVE|UNMAP\nuffd_open 0 1 FORK|REMAP|REMOVE|UNMAP\n\
                       mmap 0 0 8 rw anon_private\nuffd_register 0 0 4 0\nuffd_register 0 4 2 1\n";

#[test]
fn each_monitor_gets_one_message_with_the_range_of_the_call() {
    for (call, expected) in [
        ("munmap 0 0 8", &["0 UNMAP [0,8)", "1 UNMAP [0,8)"][..]),
        ("munmap 0 3 3", &["0 UNMAP [3,6)", "1 UNMAP [3,6)"]),
        ("munmap 0 6 9", &[]),
        ("munmap 0 0 0", &[]),
        ("mmap 0 2 1 r file0_private", &["0 UNMAP [2,3)"]),
        ("mmap 0 2 1 r file0_private FIXED_NOREPLACE", &[]),
        // The message is about what is unmapped, even where the call fails then.
        ("mremap 0 9 1 1 MAYMOVE|FIXED", &["0 UNMAP [0,1)"]),
        ("mremap 0 4 2 1", &["1 UNMAP [5,6)"]),
        ("mprotect 0 0 8 r", &[]),
        ("exit 0", &[]),
        // `shmat` passes no list of contexts.
        ("shmat 0 0 REMAP", &[]),
    ] {
        assert_eq!(messages(&format!("{WATCHED}{call}")), expected, "{call}");
    }
}

#[test]
fn a_move_is_told_between_the_destination_and_the_source() {
    for (call, expected) in [
        (
            "mremap 0 0 2 2 MAYMOVE|FIXED 4",
            &["1 UNMAP [4,6)", "0 REMAP [0,2) to 4", "0 UNMAP [0,2)"][..],
        ),
        // The old length of the call, of which a part is unmapped first.
        (
            "mremap 0 0 4 1 MAYMOVE|FIXED 9",
            &["0 REMAP [0,4) to 9", "0 UNMAP [1,4)", "0 UNMAP [0,1)"],
        ),
        ("mremap 0 0 2 3 MAYMOVE|FIXED 9", &["0 REMAP [0,2) to 9", "0 UNMAP [0,2)"]),
        ("mremap 0 2 2 3 MAYMOVE", &["0 REMAP [2,4) to 125", "0 UNMAP [2,4)"]),
        ("mremap 0 6 2 2 MAYMOVE|FIXED 9", &[]),
        ("munmap 0 6 2\nmremap 0 4 2 4", &[]),
    ] {
        assert_eq!(messages(&format!("{WATCHED}{call}")), expected, "{call}");
    }
    // Without the feature the moved memory is not watched, and nothing is told.
    let text = "uffd_open 0 0 UNMAP\nmmap 0 0 2 rw anon_private\nuffd_register 0 0 2\n\
                mremap 0 0 1 1 MAYMOVE|FIXED 8";
    assert_eq!(messages(text), ["0 UNMAP [0,1)"]);
    let shared = "uffd_open 0 0 REMAP\nmmap 0 0 2 rw file0_shared\nuffd_register 0 0 2\n\
                  mremap 0 0 0 2 MAYMOVE|FIXED 8";
    assert_eq!(messages(shared), ["0 REMAP [0,0) to 8"]);
    let seen = run(&mut Reference::new(), shared);
    assert!(seen.spaces[0].vmas().iter().all(|vma| vma.uffd.is_some()), "the duplicate is watched");
    // Populating what has grown waits for ever, before anything is told.
    let text = "uffd_open 0 0 REMAP|UNMAP\nmmap 0 0 2 rw anon_private\nuffd_register 0 0 2\nmlock 0 0 2 1\n\
                munlock 0 0 2\nmmap 0 4 1 rw anon_private\nmlock 0 0 2\nmremap 0 0 2 3 MAYMOVE|FIXED 4";
    assert_eq!(messages(text), Vec::<String>::new());
}

#[test]
fn pages_that_are_dropped_are_told_vma_by_vma() {
    let shared = "uffd_open 0 0 REMOVE\nmmap 0 0 4 rw file0_shared\nuffd_register 0 0 4\n";
    for (before, call, expected) in [
        (WATCHED, "madvise 0 0 8 DONTNEED", &["0 REMOVE [0,4)", "1 REMOVE [4,6)"][..]),
        (WATCHED, "madvise 0 3 1 FREE", &["0 REMOVE [3,4)"]),
        (WATCHED, "madvise 0 0 8 RANDOM", &[]),
        // Locked memory keeps its pages, so nothing is told.
        (WATCHED, "mlock 0 2 1 1\nmadvise 0 0 8 DONTNEED", &["0 REMOVE [0,2)"]),
        // The file is looked at too late.
        (shared, "madvise 0 1 2 FREE", &["0 REMOVE [1,3)"]),
        (shared, "madvise 0 1 2 REMOVE", &["0 REMOVE [1,3)"]),
        (shared, "mprotect 0 0 4 r\nmadvise 0 1 2 REMOVE", &[]),
        (shared, "ftruncate 0 file0 1", &[]),
    ] {
        assert_eq!(messages(&format!("{before}{call}")), expected, "{call}");
    }
}

#[test]
fn a_child_has_a_context_for_each_context_of_its_parent() {
    let forked = format!("{WATCHED}fork 0\n");
    assert_eq!(messages(&forked), ["0 FORK", "1 FORK"]);
    // Contexts 2 and 3 are those of the child.
    assert_eq!(messages(&format!("{forked}munmap 1 0 8")), ["2 UNMAP [0,8)", "3 UNMAP [0,8)"]);
    assert_eq!(messages(&format!("{forked}munmap 0 0 8")), ["0 UNMAP [0,8)", "1 UNMAP [0,8)"]);
    assert_eq!(messages(&format!("{forked}fork 1")), ["2 FORK", "3 FORK"]);
    // The child has the descriptors under the numbers of its parent's.
    let taken = format!("{forked}uffd_unregister 1 0 8 1\nuffd_register 1 0 1 1\nmunmap 1 0 2");
    assert_eq!(messages(&taken), ["3 UNMAP [0,2)"]);
    // A context that watches nothing, or nothing that the child gets, has none in the child.
    assert_eq!(
        messages("uffd_open 0 0 FORK\nmmap 0 0 1 rw anon_private\nfork 0"),
        Vec::<String>::new()
    );
    assert_eq!(messages(&format!("{WATCHED}madvise 0 0 4 DONTFORK\nfork 0")), ["1 FORK"]);
    assert_eq!(
        messages(&format!("{WATCHED}madvise 0 0 4 WIPEONFORK\nfork 0")),
        ["0 FORK", "1 FORK"]
    );
    let without = "uffd_open 0 0 UNMAP\nmmap 0 0 1 rw anon_private\nuffd_register 0 0 1\nfork 0\n";
    assert_eq!(messages(without), Vec::<String>::new());
    assert_eq!(messages(&format!("{without}munmap 1 0 1")), Vec::<String>::new());
}

#[test]
fn a_context_that_is_opened_anew_watches_nothing_and_its_memory_joins() {
    let text = format!("{WATCHED}uffd_open 0 0 UNMAP\n");
    let seen = run(&mut Reference::new(), &text);
    let ranges: Vec<_> = seen.spaces[0].vmas().iter().map(|vma| vma.range().to_string()).collect();
    assert_eq!(ranges, ["[0,4)", "[4,6)", "[6,8)"]);
    let seen = run(&mut Reference::new(), &format!("{text}uffd_open 0 1"));
    let ranges: Vec<_> = seen.spaces[0].vmas().iter().map(|vma| vma.range().to_string()).collect();
    assert_eq!(ranges, ["[0,8)"]);
    assert_eq!(messages(&format!("{text}munmap 0 0 8")), ["1 UNMAP [0,8)"]);
    assert_eq!(messages(&format!("{text}uffd_register 0 0 1\nmunmap 0 0 1")), ["2 UNMAP [0,1)"]);
    // A copy in another process keeps its context: the caller has a descriptor.
    let copied = format!("{WATCHED}fork 0\ncopy_vma 1 0 4 0 16 0\nuffd_open 0 0\n");
    assert_eq!(messages(&format!("{copied}munmap 1 16 4")), ["0 UNMAP [16,20)"]);
    // Two contexts of the child's parent have one number. The monitor keeps the second one.
    assert_eq!(messages(&format!("{copied}fork 1\nmunmap 2 0 20")).len(), 3);
}
