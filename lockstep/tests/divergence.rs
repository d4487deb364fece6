//! The signature of each difference: class, part and detail.

use vmadiff_lockstep::divergence::{Class, Divergence};
use vmadiff_machine::observation::{CopyReport, Event, FileId, PageId, UffdId, Vma};
use vmadiff_machine::operand::{END_PAGES, MAX_PROCESSES, Mode, Page, PageOffset, Process};
use vmadiff_machine::{
    AnonVmaId, Assertion, Errno, Failure, Message, Object, Observation, Program, Range, UffdEvent,
    VmFlags,
};

const COPY: &str = "copy 0 1 2 0 10 FIXED";
const CHAIN: &[AnonVmaId] = &[AnonVmaId::new(0), AnonVmaId::new(1)];

/// A change of an observation.
type Change = fn(&mut Observation);

fn vma(start: u8, end: u8) -> Vma {
    Vma::new(
        (Page(start), Page(end)),
        PageOffset(start.into()),
        VmFlags::VM_READ | VmFlags::VM_WRITE,
        Some(AnonVmaId::new(0)),
        Some(FileId::new(0)),
        Some(UffdId::new(0)),
        Mode::Default,
        false,
    )
}

/// Makes process 0 show these VMAs and chains.
fn show(seen: &mut Observation, vmas: &[(Vma, &[AnonVmaId])]) {
    let ids = seen.spaces[0].page_ids().to_vec();
    show_pages(seen, &ids, vmas);
}

/// Makes process 0 show these VMAs and chains, and these anonymous pages.
fn show_pages(seen: &mut Observation, ids: &[PageId], vmas: &[(Vma, &[AnonVmaId])]) {
    let counters = seen.spaces[0].counters;
    let anon_pages = seen.spaces[0].anon_pages;
    let space = seen.rewrite(Process(0));
    (space.alive, space.counters, space.anon_pages) = (true, counters, anon_pages);
    space.push_page_ids(ids.iter().copied());
    for (vma, chain) in vmas {
        space.push(*vma, chain.iter().copied());
    }
}

/// Changes the second of the two VMAs.
fn second(seen: &mut Observation, change: impl Fn(&mut Vma)) {
    let mut changed = vma(5, 7);
    change(&mut changed);
    show(seen, &[(vma(1, 3), CHAIN), (changed, CHAIN)]);
}

/// Gives the second VMA another chain.
fn chain(seen: &mut Observation, chain: &[AnonVmaId]) {
    show(seen, &[(vma(1, 3), CHAIN), (vma(5, 7), chain)]);
}

/// Makes pages 1 and 2 of process 0 these anonymous pages.
fn page_ids(seen: &mut Observation, ids: [u32; 2]) {
    let space = seen.spaces[0].clone();
    let vmas: Vec<_> = space.vmas().iter().map(|vma| (*vma, space.chain(vma))).collect();
    show_pages(seen, &ids.map(PageId::new), &vmas);
}

fn copy(seen: &mut Observation, change: impl Fn(&mut CopyReport)) {
    if let Some(copy) = &mut seen.copy {
        change(copy);
    }
}

/// Returns an observation after a copy: two processes, and the first has two VMAs.
fn base() -> Observation {
    let mut seen = Observation { committed: 5, ..Observation::default() };
    seen.begin_step();
    let counters = &mut seen.spaces[0].counters;
    (counters.total_vm, counters.locked_vm, counters.data_vm, counters.map_count) = (5, 5, 5, 5);
    seen.spaces[0].anon_pages = 0b110;
    seen.spaces[0].push_page_ids([0, 1].map(PageId::new));
    show(&mut seen, &[(vma(1, 3), CHAIN), (vma(5, 7), CHAIN)]);
    seen.spaces[1].alive = true;
    seen.copy = Some(CopyReport {
        merged: false,
        need_rmap_locks: false,
        honoured: true,
        source_redirected: false,
    });
    let range = Range { start: Page(1), end: Page(3) };
    seen.messages = [UffdEvent::Unmap(range), UffdEvent::Remove(range)]
        .map(|about| Message { ctx: UffdId::new(0), about })
        .to_vec();
    seen
}

fn name(op: &str, left: &Observation, right: &Observation) -> String {
    let program: Program = op.parse().unwrap_or_else(|error| panic!("{op}: {error}"));
    let found = Divergence::of(7, &program.ops[0], left, right);
    assert_eq!(found.step, 7);
    let class = found.signature.as_str().split('/').next();
    assert_eq!(class, Some(found.class.name()));
    found.signature.to_string()
}

/// Each change, and the names of the difference where the right machine has the change and where
/// the left machine has it.
const CASES: &[(Change, &str, &str)] = &[
    (|o| o.result = Ok(1), "layout/copy_vma/other-address", "layout/copy_vma/other-address"),
    (|o| o.result = Err(Errno::EINVAL), "errno/copy/EINVAL-for-ok", "errno/copy/ok-for-EINVAL"),
    (
        |o| {
            o.events.push(Event::UseAfterFree { object: Object::Vma, function: "f", field: "x" });
        },
        "aliasing/use-after-free/f/x",
        "aliasing/missing-use-after-free/f/x",
    ),
    (
        |o| {
            let (assertion, condition) = (Assertion::WarnOn, "a || b");
            o.events.push(Event::Assertion { assertion, function: "f", condition });
        },
        "assertion/f/a||b",
        "assertion/missing-f/a||b",
    ),
    (
        |o| o.events.push(Event::UnreachablePage { process: Process(0), page: Page(1) }),
        "anon-vma/unreachable-page",
        "anon-vma/missing-unreachable-page",
    ),
    (
        |o| o.events.push(Event::Deadlock { function: "f", lock: "ptl" }),
        "deadlock/f/ptl",
        "deadlock/missing-f/ptl",
    ),
    (
        |o| o.events.push(Event::LockHeld { function: "f", lock: "ptl" }),
        "deadlock/f/ptl-held",
        "deadlock/missing-f/ptl-held",
    ),
    (
        |o| o.events.push(Event::Library(Failure::TimedOut)),
        "assertion/library/timed-out",
        "assertion/missing-library/timed-out",
    ),
    (|o| o.driver.opens = 1, "accounting/copy/vm_ops-open-high", "accounting/copy/vm_ops-open-low"),
    (
        |o| o.driver.closes = 1,
        "accounting/copy/vm_ops-close-high",
        "accounting/copy/vm_ops-close-low",
    ),
    (|o| o.attached = Some(1), "accounting/copy/shm_nattch-high", "accounting/copy/shm_nattch-low"),
    (|o| o.attached = None, "accounting/copy/shm_nattch-low", "accounting/copy/shm_nattch-high"),
    (|o| o.spaces[1].alive = false, "layout/copy_vma/process-gone", "layout/copy_vma/process-left"),
    (
        |o| show(o, &[(vma(1, 3), CHAIN)]),
        "layout/copy_vma/not-mapped",
        "layout/copy_vma/still-mapped",
    ),
    (
        |o| show(o, &[(vma(1, 3), CHAIN), (vma(5, 7), CHAIN), (vma(6, 7), CHAIN)]),
        "layout/copy_vma/overlap",
        "layout/copy_vma/overlap",
    ),
    (
        |o| second(o, |v| v.flags |= VmFlags::VM_LOCKED),
        "flags/copy/VM_LOCKED-kept",
        "flags/copy/VM_LOCKED-lost",
    ),
    // If several flags differ, the gravest is named. A flag that is not in the list of grave flags
    // is named, too.
    (
        |o| second(o, |v| v.flags |= VmFlags::VM_LOCKED | VmFlags::VM_DONTCOPY),
        "flags/copy/VM_LOCKED-kept",
        "flags/copy/VM_LOCKED-lost",
    ),
    (
        |o| second(o, |v| v.flags = (v.flags | VmFlags::VM_LOCKED) - VmFlags::VM_WRITE),
        "flags/copy/VM_LOCKED-kept",
        "flags/copy/VM_LOCKED-lost",
    ),
    (
        |o| second(o, |v| v.flags |= VmFlags::VM_MERGEABLE | VmFlags::VM_DONTCOPY),
        "flags/copy/VM_DONTCOPY-kept",
        "flags/copy/VM_DONTCOPY-lost",
    ),
    (
        |o| second(o, |v| v.flags -= VmFlags::VM_WRITE),
        "flags/copy/VM_WRITE-lost",
        "flags/copy/VM_WRITE-kept",
    ),
    (|o| second(o, |v| v.uffd = None), "uffd/copy/lost", "uffd/copy/kept"),
    (|o| second(o, |v| v.uffd = Some(UffdId::new(1))), "uffd/copy/other", "uffd/copy/other"),
    (|o| o.messages.clear(), "uffd/copy/missing-UNMAP", "uffd/copy/more-UNMAP"),
    (|o| o.messages.truncate(1), "uffd/copy/missing-REMOVE", "uffd/copy/more-REMOVE"),
    (
        |o| o.messages[0].about = UffdEvent::Unmap(Range { start: Page(1), end: Page(4) }),
        "uffd/copy/other-UNMAP",
        "uffd/copy/other-UNMAP",
    ),
    (|o| o.messages[1].ctx = UffdId::new(1), "uffd/copy/other-REMOVE", "uffd/copy/other-REMOVE"),
    (
        |o| o.messages.iter_mut().for_each(|m| m.ctx = UffdId::new(1)),
        "uffd/copy/other-context-UNMAP",
        "uffd/copy/other-context-UNMAP",
    ),
    (
        |o| second(o, |v| v.file = Some(FileId::new(1))),
        "layout/copy_vma/other-file",
        "layout/copy_vma/other-file",
    ),
    (
        |o| second(o, |v| v.policy = Mode::Bind),
        "layout/copy_vma/other-policy",
        "layout/copy_vma/other-policy",
    ),
    (
        |o| second(o, |v| v.close = true),
        "layout/copy_vma/other-vm_ops",
        "layout/copy_vma/other-vm_ops",
    ),
    (
        |o| second(o, |v| v.pgoff = PageOffset(9)),
        "offset/copy_vma/other-pgoff",
        "offset/copy_vma/other-pgoff",
    ),
    (|o| copy(o, |c| c.merged = true), "merge/copy_vma/merged", "merge/copy_vma/not-merged"),
    (
        |o| copy(o, |c| c.source_redirected = true),
        "aliasing/copy_vma/source-redirected",
        "aliasing/copy_vma/source-not-redirected",
    ),
    (
        |o| show(o, &[(vma(1, 3), CHAIN), (vma(5, 6), CHAIN), (vma(6, 7), CHAIN)]),
        "merge/copy_vma/not-merged",
        "merge/copy_vma/merged",
    ),
    (
        |o| second(o, |v| v.anon_vma = None),
        "anon-vma/copy_vma/anon_vma-lost",
        "anon-vma/copy_vma/anon_vma-kept",
    ),
    (
        |o| second(o, |v| v.anon_vma = Some(AnonVmaId::new(1))),
        "anon-vma/copy_vma/anon_vma-other",
        "anon-vma/copy_vma/anon_vma-other",
    ),
    (
        |o| chain(o, &[AnonVmaId::new(0)]),
        "anon-vma/copy_vma/chain-shorter",
        "anon-vma/copy_vma/chain-longer",
    ),
    (
        |o| chain(o, &[AnonVmaId::new(1), AnonVmaId::new(0)]),
        "anon-vma/copy_vma/chain-other",
        "anon-vma/copy_vma/chain-other",
    ),
    (
        |o| o.spaces[0].anon_pages = 0b1110,
        "anon-vma/copy_vma/pages-kept",
        "anon-vma/copy_vma/pages-lost",
    ),
    (
        |o| o.spaces[0].zero_pages = 0b1000,
        "anon-vma/copy_vma/zero-pages-kept",
        "anon-vma/copy_vma/zero-pages-lost",
    ),
    (|o| page_ids(o, [1, 1]), "contents/copy/page-shared", "contents/copy/page-not-shared"),
    (
        |o| o.spaces[0].writable_ptes = 0b10,
        "contents/copy/write-bit-kept",
        "contents/copy/write-bit-lost",
    ),
    (
        |o| o.spaces[1].writable_ptes = 0b10,
        "contents/copy/other-write-bit-kept",
        "contents/copy/other-write-bit-lost",
    ),
    (|o| o.read = Some(0), "contents/copy/read-zero", "contents/copy/read-other"),
    (
        |o| copy(o, |c| c.need_rmap_locks = true),
        "rmap-locks/copy/needed",
        "rmap-locks/copy/not-needed",
    ),
    (|o| copy(o, |c| c.honoured = false), "rmap-locks/copy/not-taken", "rmap-locks/copy/taken"),
    (
        |o| o.copy = None,
        "aliasing/copy_vma/copy_vma-not-called",
        "aliasing/copy_vma/copy_vma-called",
    ),
    (
        |o| o.spaces[0].counters.total_vm = 6,
        "accounting/copy/total_vm-high",
        "accounting/copy/total_vm-low",
    ),
    (
        |o| o.spaces[0].counters.locked_vm = 6,
        "accounting/copy/locked_vm-high",
        "accounting/copy/locked_vm-low",
    ),
    (
        |o| o.spaces[0].counters.data_vm = 6,
        "accounting/copy/data_vm-high",
        "accounting/copy/data_vm-low",
    ),
    (
        |o| o.spaces[0].counters.map_count = 6,
        "accounting/copy/map_count-high",
        "accounting/copy/map_count-low",
    ),
    (|o| o.committed = 6, "accounting/copy/committed-high", "accounting/copy/committed-low"),
];

#[test]
fn each_difference_is_named_by_class_part_and_direction() {
    for (change, right_has_it, left_has_it) in CASES {
        let (plain, mut changed) = (base(), base());
        change(&mut changed);
        assert_eq!(name(COPY, &plain, &changed), *right_has_it);
        assert_eq!(name(COPY, &changed, &plain), *left_has_it);
    }
    // The cases have every class of a difference. A leak is found by the invariants.
    for class in Class::ALL.iter().filter(|class| **class != Class::Leak) {
        let prefix = format!("{class}/");
        assert!(CASES.iter().any(|(_, name, _)| name.starts_with(&prefix)), "{class}");
    }
}

/// Differences that one bug can cause together. Each cause comes before its consequences.
const CAUSES_FIRST: &[(&str, Change)] = &[
    ("aliasing/use-after-free/f/x", |o| {
        o.events.insert(0, Event::UseAfterFree { object: Object::Vma, function: "f", field: "x" });
    }),
    ("errno/copy/EINVAL-for-ok", |o| o.result = Err(Errno::EINVAL)),
    ("anon-vma/unreachable-page", |o| {
        o.events.push(Event::UnreachablePage { process: Process(0), page: Page(1) });
    }),
    ("layout/copy_vma/process-gone", |o| o.spaces[1].alive = false),
    ("flags/copy/VM_LOCKED-kept", |o| {
        second(o, |v| {
            v.flags |= VmFlags::VM_LOCKED;
            (v.uffd, v.pgoff, v.anon_vma) = (None, PageOffset(9), None);
        });
    }),
    ("uffd/copy/lost", |o| {
        second(o, |v| (v.uffd, v.pgoff, v.anon_vma) = (None, PageOffset(9), None));
    }),
    ("offset/copy_vma/other-pgoff", |o| {
        second(o, |v| (v.pgoff, v.anon_vma) = (PageOffset(9), None));
    }),
    ("merge/copy_vma/merged", |o| copy(o, |c| c.merged = true)),
    ("anon-vma/copy_vma/anon_vma-lost", |o| second(o, |v| v.anon_vma = None)),
    ("contents/copy/page-shared", |o| page_ids(o, [1, 1])),
    ("contents/copy/write-bit-kept", |o| o.spaces[0].writable_ptes = 0b10),
    ("contents/copy/read-zero", |o| o.read = Some(0)),
    ("rmap-locks/copy/needed", |o| copy(o, |c| c.need_rmap_locks = true)),
    ("accounting/copy/committed-high", |o| o.committed = 6),
];

#[test]
fn a_cause_is_named_before_its_consequences() {
    let mut right = base();
    for (expected, change) in CAUSES_FIRST.iter().rev() {
        change(&mut right);
        assert_eq!(name(COPY, &base(), &right), *expected);
    }
}

#[test]
fn operations_that_share_a_kernel_function_share_the_name_of_its_bugs() {
    let (offset, flags): (Change, Change) = (
        |o| second(o, |v| v.pgoff = PageOffset(9)),
        |o| second(o, |v| v.flags |= VmFlags::VM_LOCKED),
    );
    for (op, offset_name, flags_name) in [
        ("mmap 0 1 2 rw anon_private", "map", "mmap/VM_LOCKED-kept"),
        ("munmap 0 1 2", "map", "munmap/VM_LOCKED-kept"),
        ("mprotect 0 1 2 r", "change", "mprotect/other"),
        ("madvise 0 1 2 DONTFORK", "change", "madvise/other"),
        ("mlock 0 1 2", "change", "mlock/other"),
        ("munlock 0 1 2", "change", "munlock/other"),
        ("mbind 0 1 2 BIND", "change", "mbind/other"),
        ("uffd_register 0 1 2", "change", "uffd_register/other"),
        ("uffd_unregister 0 1 2", "change", "uffd_unregister/other"),
        ("mremap 0 1 2 2 MAYMOVE|FIXED 9", "copy_vma", "mremap/VM_LOCKED-kept"),
        (COPY, "copy_vma", "copy/VM_LOCKED-kept"),
        ("copy_vma 0 1 2 0 10", "copy_vma", "copy/VM_LOCKED-kept"),
        ("fork 0", "fork", "fork/VM_LOCKED-kept"),
        ("touch 0 1 1", "touch", "touch/VM_LOCKED-kept"),
    ] {
        let mut right = base();
        offset(&mut right);
        assert_eq!(name(op, &base(), &right), format!("offset/{offset_name}/other-pgoff"));
        let mut right = base();
        flags(&mut right);
        assert_eq!(name(op, &base(), &right), format!("flags/{flags_name}"));
    }
}

#[test]
fn the_last_page_of_the_last_process_is_looked_at() {
    let end = END_PAGES as u8;
    let last = |vma: Option<Vma>| {
        let mut seen = base();
        let space = seen.rewrite(Process(MAX_PROCESSES as u8 - 1));
        space.alive = true;
        if let Some(vma) = vma {
            space.push(vma, CHAIN.iter().copied());
        }
        seen
    };
    let plain = last(Some(vma(end - 1, end)));
    let mut locked = vma(end - 1, end);
    locked.flags |= VmFlags::VM_LOCKED;
    assert_eq!(name(COPY, &plain, &last(Some(locked))), "flags/copy/VM_LOCKED-kept");
    assert_eq!(name(COPY, &plain, &last(None)), "layout/copy_vma/not-mapped");
    let mut high = last(Some(vma(end - 1, end)));
    high.spaces[MAX_PROCESSES - 1].counters.map_count = 1;
    assert_eq!(name(COPY, &plain, &high), "accounting/copy/map_count-high");
}

#[test]
fn a_signature_is_a_file_name() {
    let (left, mut right) = (base(), base());
    right.events.push(Event::Assertion {
        assertion: Assertion::WarnOn,
        function: "f",
        condition: "a || b/c",
    });
    let program: Program = COPY.parse().expect("a program");
    let found = Divergence::of(0, &program.ops[0], &left, &right);
    assert_eq!(found.signature.as_str(), "assertion/f/a||b/c");
    assert_eq!(found.signature.file_stem(), "assertion-f-a--b-c-7c-7c");
    // Two signatures have two files, and neither ends in the list of known divergences before its end.
    let stem = |condition| {
        let mut right = base();
        let (assertion, function) = (Assertion::WarnOn, "a function #1");
        right.events.push(Event::Assertion { assertion, function, condition });
        let found = Divergence::of(0, &program.ops[0], &left, &right);
        assert!(!found.signature.as_str().contains([' ', '#']), "{}", found.signature);
        found.signature.file_stem()
    };
    assert_ne!(stem("a==b"), stem("a!=b"));
}
