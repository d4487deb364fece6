//! The eight cases of `vma_merge()`, and what keeps neighbours apart.
//!
//! `A` is the range whose attributes change or that is mapped, `P` what is before it, `N` and `X`
//! what is after it. Pages are drawn from page 1 on.

mod common;

use common::{layout, result, run};
use vmadiff_candidate::Revision;

/// The last operation is the one that merges; before it the layout is `before`, after it `after`.
struct Case {
    name: &'static str,
    before: (&'static str, &'static str),
    operation: &'static str,
    after: &'static str,
}

const CASES: &[Case] = &[
    Case {
        name: "case 1: PP AA NN becomes PPPPPP",
        before: ("mmap 0 1 2 rw anon_private\nmmap 0 5 2 rw anon_private\n", "1..3@1 5..7@5"),
        operation: "mmap 0 3 2 rw anon_private",
        after: "1..7@1",
    },
    Case {
        name: "case 2: PP AA | NN becomes PPPP | NN",
        before: ("mmap 0 1 2 rw anon_private\nmmap 0 5 2 r anon_private\n", "1..3@1 5..7@5"),
        operation: "mmap 0 3 2 rw anon_private",
        after: "1..5@1 5..7@5",
    },
    Case {
        name: "case 3: PP | AA NN becomes PP | NNNN",
        before: ("mmap 0 1 2 r anon_private\nmmap 0 5 2 rw anon_private\n", "1..3@1 5..7@5"),
        operation: "mmap 0 3 2 rw anon_private",
        after: "1..3@1 3..7@3",
    },
    Case {
        name: "case 4: PPAA NN becomes PP NNNN",
        before: ("mmap 0 1 6 rw anon_private\nmadvise 0 1 4 RANDOM\n", "1..5@1 5..7@5"),
        operation: "madvise 0 3 2 NORMAL",
        after: "1..3@1 3..7@3",
    },
    Case {
        name: "case 5: PP AANN becomes PPPP NN",
        before: ("mmap 0 1 6 rw anon_private\nmadvise 0 3 4 RANDOM\n", "1..3@1 3..7@3"),
        operation: "madvise 0 3 2 NORMAL",
        after: "1..5@1 5..7@5",
    },
    Case {
        name: "case 6: PP NN XX, where A is N, becomes PPPPPP",
        before: ("mmap 0 1 6 rw anon_private\nmadvise 0 3 2 RANDOM\n", "1..3@1 3..5@3 5..7@5"),
        operation: "madvise 0 3 2 NORMAL",
        after: "1..7@1",
    },
    Case {
        name: "case 7: PP NN XX, where A is N, becomes PPPP XX",
        before: (
            "mmap 0 1 6 rw anon_private\nmadvise 0 3 4 RANDOM\nmadvise 0 5 2 SEQUENTIAL\n",
            "1..3@1 3..5@3 5..7@5",
        ),
        operation: "madvise 0 3 2 NORMAL",
        after: "1..5@1 5..7@5",
    },
    Case {
        name: "case 8: PP NN XX, where A is N, becomes PP XXXX",
        before: (
            "mmap 0 1 6 rw anon_private\nmadvise 0 1 2 SEQUENTIAL\nmadvise 0 3 2 RANDOM\n",
            "1..3@1 3..5@3 5..7@5",
        ),
        operation: "madvise 0 3 2 NORMAL",
        after: "1..3@1 3..7@3",
    },
    Case {
        name: "mbind, case 8: the VMA that goes lends nothing but its range",
        before: (
            "mmap 0 1 6 rw anon_private\nmbind 0 1 2 BIND\nmbind 0 3 2 PREFERRED\n",
            "1..3@1 3..5@3 5..7@5",
        ),
        operation: "mbind 0 3 2 DEFAULT",
        after: "1..3@1 3..7@3",
    },
];

#[test]
fn each_case_merges_as_it_is_drawn() {
    for &Case { name, before: (program, before), operation, after } in CASES {
        assert_eq!(layout(&run(Revision::Original, program), 0), before, "{name}, before");
        let seen = run(Revision::Original, &format!("{program}{operation}"));
        assert_eq!(layout(&seen, 0), after, "{name}");
        assert!(seen.events.is_empty(), "{name}: {:?}", seen.events);
    }
}

/// Two mappings that lie side by side, and whether they are one.
#[test]
fn neighbours_are_one_exactly_where_nothing_keeps_them_apart() {
    for (what, program, expected) in [
        ("nothing", "mmap 0 1 2 rw anon_private\nmmap 0 3 2 rw anon_private", "1..5@1"),
        (
            "flags",
            "mmap 0 1 2 rw anon_private\nmmap 0 3 2 rw anon_private NORESERVE",
            "1..3@1 3..5@3",
        ),
        (
            "the file",
            "mmap 0 1 2 rw file0_shared - 0\nmmap 0 3 2 rw file1_shared - 2",
            "1..30 3..52",
        ),
        (
            "the offset",
            "mmap 0 1 2 rw file0_shared - 0\nmmap 0 3 2 rw file0_shared - 3",
            "1..30 3..53",
        ),
        (
            "the fitting offset does not",
            "mmap 0 1 2 rw file0_shared - 0\nmmap 0 3 2 rw file0_shared - 2",
            "1..50",
        ),
        (
            "->close and VM_SPECIAL",
            "mmap 0 1 2 rw special - 0\nmmap 0 3 2 rw special - 2",
            "1..30 3..52",
        ),
        (
            "two shared anonymous objects",
            "mmap 0 1 2 rw anon_shared\nmmap 0 3 2 rw anon_shared",
            "1..30 3..50",
        ),
        (
            "the userfaultfd context",
            "mmap 0 1 2 rw anon_private\nuffd_register 0 1 2 0\nmmap 0 3 2 rw anon_private\nuffd_register 0 3 2 1",
            "1..3@1 3..5@3",
        ),
        (
            "the same context does not",
            "mmap 0 1 4 rw anon_private\nuffd_register 0 1 2 0\nuffd_register 0 3 2 0",
            "1..5@1",
        ),
        (
            "two anon_vmas",
            "mmap 0 1 1 rw anon_private\nmmap 0 3 1 rw anon_private\ntouch 0 1 1\ntouch 0 3 1\nmmap 0 2 1 rw anon_private",
            "1..3@1 3..4@3",
        ),
        (
            "a chain that came from a parent",
            "mmap 0 1 2 rw anon_private\ntouch 0 1 1\nfork 0\nmmap 1 3 2 rw anon_private",
            "1..3@1",
        ),
    ] {
        let seen = run(Revision::Original, program);
        assert_eq!(layout(&seen, 0), expected, "{what}");
        assert!(seen.events.is_empty(), "{what}: {:?}", seen.events);
    }
    let forked = "mmap 0 1 2 rw anon_private\ntouch 0 1 1\nfork 0\nmmap 1 3 2 rw anon_private";
    assert_eq!(layout(&run(Revision::Original, forked), 1), "1..3@1 3..5@3");
}

/// `VM_SOFTDIRTY` alone keeps nothing apart, and the merged VMA has it.
#[test]
fn soft_dirty_keeps_nothing_apart() {
    let seen = run(Revision::Original, "mmap 0 1 2 rw anon_private\nmmap 0 3 2 rw anon_private");
    assert_eq!(result(&seen), "3");
    assert!(seen.spaces[0].vmas()[0].flags.contains(vmadiff_machine::VmFlags::VM_SOFTDIRTY));
}
