//! The invariants: each is broken by one change of a state that breaks none.

use vmadiff_lockstep::invariants::Violation;
use vmadiff_lockstep::invariants::hidden::Recounter;
use vmadiff_lockstep::invariants::shown::Shown;
use vmadiff_machine::hidden::{AnonPage, AnonVma, Counted, Hidden, Pte, References};
use vmadiff_machine::observation::{DriverCalls, FileId, UffdId, Vma};
use vmadiff_machine::operand::{Mode, Page, PageOffset, Process, SHM_PAGES};
use vmadiff_machine::{AnonVmaId, Errno, Observation, Op, Program, VmFlags};

const PRIVATE: VmFlags = VmFlags::VM_READ.union(VmFlags::VM_WRITE);
const SHARED: VmFlags = PRIVATE.union(VmFlags::VM_SHARED);
const FILE: FileId = FileId::new(3);

fn op(text: &str) -> Op {
    let program: Program = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    program.ops[0]
}

/// Returns a VMA of process 0 with these flags, whose page offset is that of its place.
fn vma(start: u8, end: u8, flags: VmFlags) -> Vma {
    let range = (Page(start), Page(end));
    Vma::new(range, Page(start).linear_offset(), flags, None, None, None, Mode::Default, false)
}

/// Returns the VMA after a change.
fn with(mut vma: Vma, change: impl Fn(&mut Vma)) -> Vma {
    change(&mut vma);
    vma
}

/// Makes a process show these VMAs, with the counters that a recount gives.
fn show(seen: &mut Observation, process: u8, vmas: &[Vma]) {
    let space = seen.rewrite(Process(process));
    space.alive = true;
    for vma in vmas {
        space.push(*vma, vma.anon_vma);
        let pages = i64::from(vma.end.0) - i64::from(vma.start.0);
        let counters = &mut space.counters;
        counters.map_count += 1;
        counters.total_vm += pages;
        counters.locked_vm += i64::from(vma.flags.contains(VmFlags::VM_LOCKED)) * pages;
        let private = vma.flags & (VmFlags::VM_WRITE | VmFlags::VM_SHARED) == VmFlags::VM_WRITE;
        counters.data_vm += i64::from(private) * pages;
    }
}

fn name(violation: Option<Violation>) -> Option<String> {
    violation.map(|violation| format!("{}/{}", violation.class.name(), violation.detail))
}

/// Returns the invariant that the observation after the first operation breaks.
fn shown(operation: &str, seen: &Observation) -> Option<String> {
    name(Shown::default().check(&op(operation), seen))
}

/// Returns the invariant of address spaces that `after` breaks, which `operation` has made of `before`.
fn moved(before: &Observation, operation: &str, after: &Observation) -> Option<String> {
    let mut shown = Shown::default();
    assert_eq!(shown.check_spaces(&op("munmap 0 63 1"), before), None);
    name(shown.check_spaces(&op(operation), after))
}

/// The VMAs of process 0: locked private memory, shared memory of a file, read-only memory that a
/// context watches, a device, and the segment of SysV shared memory.
fn vmas() -> [Vma; 5] {
    let mut vmas = [
        vma(1, 4, PRIVATE | VmFlags::VM_ACCOUNT | VmFlags::VM_LOCKED),
        vma(4, 6, SHARED),
        vma(7, 8, VmFlags::VM_READ | VmFlags::VM_UFFD_MISSING),
        vma(10, 11, SHARED | VmFlags::VM_IO),
        vma(20, 20 + SHM_PAGES, SHARED),
    ];
    (vmas[1].file, vmas[1].pgoff) = (Some(FILE), PageOffset(2));
    vmas[2].uffd = Some(UffdId::new(0));
    (vmas[3].close, vmas[4].close) = (true, true);
    vmas
}

/// Returns an observation after a fork: both processes have private memory of two pages, of which one
/// was written. Process 0 has the other VMAs, too.
fn base() -> Observation {
    let mut seen = Observation::default();
    seen.begin_step();
    (seen.attached, seen.committed) = (Some(1), 5);
    seen.driver = DriverCalls { opens: 5, closes: 3 };
    show(&mut seen, 0, &vmas());
    show(&mut seen, 7, &[vma(2, 4, PRIVATE | VmFlags::VM_ACCOUNT)]);
    for process in [0, 7] {
        let space = &mut seen.spaces[process];
        (space.anon_pages, space.writable_ptes) = (0b100, 0b100);
    }
    seen
}

/// Makes process 0 show its VMAs after a change, with the counters that a recount gives.
fn change(seen: &mut Observation, change: impl Fn(&mut [Vma; 5])) {
    let mut vmas = vmas();
    change(&mut vmas);
    show(seen, 0, &vmas);
}

type Change = fn(&mut Observation);

#[test]
fn an_observation_breaks_an_invariant_by_one_change() {
    let cases: &[(Change, Option<&str>)] = &[
        (|_| (), None),
        // The VMAs.
        (|o| change(o, |v| v[1].start = Page(3)), Some("layout/invariant/overlap")),
        (|o| change(o, |v| v[1].start = Page(5)), None),
        (|o| change(o, |v| v[2].start = Page(8)), Some("layout/invariant/overlap")),
        (|o| change(o, |v| v[2].start = Page(9)), Some("layout/invariant/overlap")),
        (|o| change(o, |v| v[2].uffd = None), Some("uffd/invariant/flags-without-context")),
        (
            |o| change(o, |v| v[2].flags = VmFlags::VM_READ),
            Some("uffd/invariant/context-without-flags"),
        ),
        (|o| change(o, |v| v[2].flags = VmFlags::VM_UFFD_WP), None),
        // The write bits of entries.
        (|o| o.spaces[0].writable_ptes = 0b1000, Some("contents/invariant/write-bit")),
        (|o| o.spaces[7].writable_ptes = 0b1100, Some("contents/invariant/write-bit")),
        (|o| o.spaces[0].anon_pages = 0, Some("contents/invariant/write-bit")),
        (|o| o.spaces[0].anon_pages = 0b1110, None),
        (
            |o| (o.spaces[0].anon_pages, o.spaces[0].writable_ptes) = (1 << 7, 1 << 7),
            Some("contents/invariant/write-bit"),
        ),
        // The counters.
        (|o| o.spaces[0].counters.total_vm += 1, Some("accounting/invariant/total_vm")),
        (|o| o.spaces[7].counters.locked_vm += 1, Some("accounting/invariant/locked_vm")),
        (|o| o.spaces[0].counters.data_vm -= 1, Some("accounting/invariant/data_vm")),
        (|o| o.spaces[0].counters.map_count -= 1, Some("accounting/invariant/map_count")),
        (|o| o.committed -= 1, Some("accounting/invariant/committed")),
        (
            |o| change(o, |v| v[1].flags |= VmFlags::VM_ACCOUNT),
            Some("accounting/invariant/committed"),
        ),
        // The calls of drivers.
        (|o| o.driver.opens += 1, Some("accounting/invariant/vm_ops")),
        (|o| o.driver.closes += 1, Some("accounting/invariant/vm_ops")),
        (|o| change(o, |v| v[0].close = true), Some("accounting/invariant/vm_ops")),
        // The segment.
        (|o| o.attached = Some(2), Some("accounting/invariant/shm_nattch")),
        (|o| o.attached = Some(0), Some("accounting/invariant/shm_nattch")),
        (|o| o.attached = None, Some("accounting/invariant/shm-destroyed")),
        (|o| change(o, |v| v[3].flags = SHARED), Some("accounting/invariant/shm_nattch")),
    ];
    for (at, (change, expected)) in cases.iter().enumerate() {
        let mut seen = base();
        change(&mut seen);
        assert_eq!(shown("fork 0", &seen).as_deref(), *expected, "case {at}");
    }
}

#[test]
fn a_process_that_has_not_changed_is_not_looked_at_again() {
    let mut seen = base();
    (seen.spaces[0].counters.total_vm, seen.spaces[7].counters.total_vm) = (0, 0);
    for (changed, expected) in [(0, false), (1 << 7, true), (1, true), (1 << 3, false)] {
        seen.changed = changed;
        let violation = Shown::default().check_spaces(&op("fork 0"), &seen);
        assert_eq!(violation.is_some(), expected, "{changed:#b}");
    }
}

#[test]
fn a_kernel_that_shows_no_contexts_has_flags_alone() {
    let mut seen = base();
    change(&mut seen, |vmas| vmas[2].uffd = None);
    let found = |mut shown: Shown| name(shown.check_spaces(&op("fork 0"), &seen));
    assert_eq!(found(Shown::without_contexts()), None);
    assert!(found(Shown::default()).is_some());
}

#[test]
fn a_mapping_with_a_close_handler_is_counted_by_its_driver_without_a_call() {
    let device = vma(10, 11, SHARED | VmFlags::VM_IO);
    let segment = vma(10, 10 + SHM_PAGES, SHARED);
    let memory = vma(10, 11, PRIVATE);
    for (text, mapped, attached, close, expected) in [
        ("mmap 0 10 1 rw special", device, 0, true, true),
        ("mmap 0 10 1 rw anon_private", memory, 0, false, true),
        ("shmat 0 10", segment, 1, true, true),
        // A mapping of another kind has no handler.
        ("mmap 0 10 1 rw anon_private", device, 0, true, false),
        ("mmap 0 10 1 rw special", memory, 0, false, false),
        ("touch 0 10", device, 0, true, false),
    ] {
        let mut seen = Observation::default();
        seen.begin_step();
        seen.attached = Some(attached);
        show(&mut seen, 0, &[with(mapped, |vma| vma.close = close)]);
        let expected = (!expected).then_some("accounting/invariant/vm_ops");
        assert_eq!(shown(text, &seen).as_deref(), expected, "{text} {mapped:?}");
        // A call that fails makes nothing.
        seen.result = Err(Errno::ENOMEM);
        let expected = close.then_some("accounting/invariant/vm_ops");
        assert_eq!(shown(text, &seen).as_deref(), expected, "{text} fails");
    }
}

#[test]
fn a_segment_that_was_removed_is_destroyed_when_no_vma_maps_it() {
    let seen = |attached, result| {
        let mut seen = Observation::default();
        seen.begin_step();
        (seen.attached, seen.result) = (attached, result);
        seen
    };
    let (removes, other) = ("shm_rmid 0", "touch 0 1");
    for (text, attached, result, expected) in [
        (removes, Some(0), Ok(0), Some("leak/shmid_kernel")),
        (removes, Some(0), Err(Errno::EINVAL), None),
        (removes, None, Ok(0), None),
        (other, Some(0), Ok(0), None),
    ] {
        let found = shown(text, &seen(attached, result));
        assert_eq!(found.as_deref(), expected, "{text} {attached:?} {result:?}");
    }
    // The segment goes with its last VMA.
    let mut mapped = seen(Some(1), Ok(0));
    mapped.driver.opens = 1;
    let segment = with(vma(1, 1 + SHM_PAGES, SHARED), |vma| vma.close = true);
    show(&mut mapped, 0, &[segment]);
    for (attached, expected) in [(Some(0), Some("leak/shmid_kernel")), (None, None)] {
        let mut shown = Shown::default();
        assert_eq!(shown.check(&op(removes), &mapped), None);
        let mut gone = seen(attached, Ok(0));
        gone.driver.closes = 1;
        show(&mut gone, 0, &[]);
        assert_eq!(name(shown.check(&op("shmdt 0 1"), &gone)).as_deref(), expected);
    }
}

/// Returns an observation in which a process has memory of these ranges. `offset` is what is added to
/// the page offset of each.
fn ranges(process: u8, vmas: &[(u8, u8, u64)], file: Option<FileId>) -> Observation {
    let mut seen = Observation::default();
    seen.begin_step();
    let one = |&(start, end, added): &(u8, u8, u64)| {
        let pgoff = PageOffset(Page(start).linear_offset().0.wrapping_add(added));
        with(vma(start, end, VmFlags::VM_READ), |vma| (vma.pgoff, vma.file) = (pgoff, file))
    };
    show(&mut seen, process, &vmas.iter().map(one).collect::<Vec<_>>());
    seen
}

#[test]
fn only_an_operation_that_maps_a_page_anew_changes_its_offset() {
    // Each operation maps `pages` of process 0 anew.
    for (text, pages) in [
        ("mmap 0 10 3 r anon_private", 10..13),
        ("shmat 0 10 REMAP", 10..10 + SHM_PAGES),
        ("mremap 0 40 2 3 MAYMOVE|FIXED 10", 10..13),
        ("copy 0 40 3 0 10 FIXED", 10..13),
        ("copy_vma 0 40 3 0 10", 10..13),
        ("mremap 0 10 2 3 MAYMOVE 10", 0..0),
        ("munmap 0 10 3", 0..0),
        ("mprotect 0 10 3 r", 0..0),
    ] {
        let before = ranges(0, &[(5, 20, 0)], None);
        for page in 5..20 {
            let cut = [(5, page, 0), (page, page + 1, 1), (page + 1, 20, 0)];
            let cut: Vec<_> = cut.into_iter().filter(|(start, end, _)| start < end).collect();
            let found = moved(&before, text, &ranges(0, &cut, None));
            let expected = (!pages.contains(&page)).then_some("offset/invariant/offset-changed");
            assert_eq!(found.as_deref(), expected, "{text}: page {page}");
        }
    }
}

#[test]
fn an_operation_maps_nothing_anew_in_another_process() {
    let text = "mmap 0 10 3 r anon_private";
    let (before, after) = (ranges(1, &[(10, 13, 0)], None), ranges(1, &[(10, 13, 1)], None));
    let found = moved(&before, text, &after);
    assert_eq!(found.as_deref(), Some("offset/invariant/offset-changed"));
    let found = moved(&before, text.replacen('0', "1", 1).as_str(), &after);
    assert_eq!(found, None);
}

#[test]
fn the_file_and_the_offset_of_each_page_are_those_of_the_operation_before() {
    let (none, file) = (None, Some(FILE));
    let other = Some("offset/invariant/offset-changed");
    type Ranges<'a> = (&'a [(u8, u8, u64)], Option<FileId>);
    let cases: &[(Ranges<'_>, Ranges<'_>, Option<&str>)] = &[
        // VMAs are cut, join, go and come, and no page gets another offset.
        ((&[(1, 9, 0)], none), (&[(1, 4, 0), (4, 9, 0)], none), None),
        ((&[(1, 4, 0), (4, 9, 0)], none), (&[(1, 9, 0)], none), None),
        ((&[(1, 9, 0)], none), (&[(2, 3, 0), (5, 6, 0)], none), None),
        ((&[(1, 4, 0), (6, 9, 5)], none), (&[(1, 6, 0), (6, 9, 5)], none), None),
        ((&[(1, 4, 0)], none), (&[(4, 9, 5)], none), None),
        ((&[(4, 9, 5)], none), (&[(1, 4, 0)], none), None),
        // A page has another offset or another file.
        ((&[(1, 9, 0)], none), (&[(1, 8, 0), (8, 9, 1)], none), other),
        ((&[(1, 9, 0)], none), (&[(1, 2, u64::MAX), (2, 9, 0)], none), other),
        ((&[(1, 4, 0), (6, 9, 5)], none), (&[(1, 4, 0), (4, 7, 6)], none), other),
        ((&[(1, 9, 0)], none), (&[(1, 9, 0)], file), Some("offset/invariant/file-changed")),
        ((&[(1, 9, 0)], file), (&[(1, 9, 3)], file), other),
    ];
    for ((before, from), (after, to), expected) in cases {
        let (before, after) = (ranges(0, before, *from), ranges(0, after, *to));
        let found = moved(&before, "munmap 0 63 1", &after);
        assert_eq!(found.as_deref(), *expected, "{before:?} {after:?}");
    }
    // After a reset, another program is at its start.
    let mut shown = Shown::default();
    assert_eq!(shown.check(&op("touch 0 1"), &base_with_calls()), None);
    shown.reset();
    assert_eq!(shown.check(&op("touch 0 1"), &ranges(0, &[(1, 9, 7)], None)), None);
}

/// Returns the base. It has committed memory, and VMAs with close handlers.
fn base_with_calls() -> Observation {
    let mut seen = base();
    (seen.driver, seen.attached) = (DriverCalls { opens: 2, closes: 0 }, Some(1));
    seen
}

const ROOT: AnonVmaId = AnonVmaId::new(0);
const CHILD: AnonVmaId = AnonVmaId::new(4);

/// Returns a process and its child, with memory of the pages 2, 3 and 4. They share the anonymous page
/// at page 2. The child has written to page 3.
fn family() -> (Observation, Hidden) {
    let mut seen = Observation::default();
    seen.begin_step();
    let mut vma = vma(2, 5, PRIVATE);
    for (process, own, chain) in [(0, ROOT, &[ROOT][..]), (5, CHILD, &[CHILD, ROOT])] {
        vma.anon_vma = Some(own);
        let space = seen.rewrite(Process(process));
        space.alive = true;
        space.push(vma, chain.iter().copied());
        space.anon_pages = if process == 0 { 0b100 } else { 0b1100 };
    }
    seen.spaces[5].writable_ptes = 0b1000;
    let page = |number, anon_vma, at: u8, map_count| AnonPage {
        number,
        anon_vma: Some(anon_vma),
        index: Page(at).linear_offset(),
        map_count,
    };
    let pte =
        |process, at, number| Pte { process: Process(process), page: Page(at), maps: Some(number) };
    let anon_vma = |id, degree, active, vmas, references| AnonVma {
        id,
        parent: Some(ROOT),
        root: Some(ROOT),
        degree,
        active_vmas: Some(active),
        vmas,
        references: Some(references),
    };
    let hidden = Hidden {
        pages: vec![page(6, ROOT, 2, 2), page(1, CHILD, 3, 1)],
        ptes: vec![pte(0, 2, 6), pte(5, 2, 6), pte(5, 3, 1)],
        // The root has itself and the child as children.
        anon_vmas: vec![anon_vma(ROOT, 3, 1, 2, 2), anon_vma(CHILD, 1, 1, 1, 1)],
        vmas: Some(2),
        chain_entries: Some(3),
        mms: Some(2),
        ..Hidden::default()
    };
    (seen, hidden)
}

/// Gives the VMA of the child this anon_vma and this chain.
fn childs(seen: &mut Observation, own: Option<AnonVmaId>, chain: &[AnonVmaId]) {
    let space = seen.spaces[5].clone();
    let new = seen.rewrite(Process(5));
    (new.alive, new.anon_pages) = (true, space.anon_pages);
    new.push(with(space.vmas()[0], |vma| vma.anon_vma = own), chain.iter().copied());
}

type HiddenChange = fn(&mut Observation, &mut Hidden);

#[test]
fn hidden_objects_break_an_invariant_by_one_change() {
    let cases: &[(HiddenChange, Option<&str>)] = &[
        (|_, _| (), None),
        // Pages and entries.
        (|_, h| h.pages[0].map_count = 1, Some("anon-vma/invariant/map-count")),
        (|_, h| h.pages[1].map_count = 2, Some("anon-vma/invariant/map-count")),
        (|_, h| h.pages.push(AnonPage { number: 9, ..h.pages[0] }), Some("leak/page")),
        (|_, h| h.ptes[2].maps = None, Some("anon-vma/invariant/page-freed")),
        (
            |o, h| {
                h.ptes.push(Pte { page: Page(4), ..h.ptes[0] });
                (h.pages[0].map_count, o.spaces[0].anon_pages) = (3, 0b1100);
            },
            Some("anon-vma/invariant/page-table"),
        ),
        (|o, _| o.spaces[0].anon_pages = 0b1100, Some("anon-vma/invariant/page-table")),
        (|o, _| o.spaces[7].anon_pages = 0b1, Some("anon-vma/invariant/page-table")),
        (|o, _| o.spaces[0].writable_ptes = 0b100, Some("contents/invariant/writable-shared")),
        (|o, _| o.spaces[5].writable_ptes = 0b1100, Some("contents/invariant/writable-shared")),
        (|o, _| o.spaces[5].writable_ptes = 0, None),
        // The way from a page to its entries.
        (|_, h| h.pages[1].index.0 += 1, Some("anon-vma/unreachable-page")),
        (|_, h| h.pages[0].index.0 -= 1, Some("anon-vma/unreachable-page")),
        (|_, h| h.pages[1].anon_vma = Some(ROOT), None),
        (|_, h| h.pages[0].anon_vma = Some(CHILD), Some("anon-vma/unreachable-page")),
        (|_, h| h.pages[1].anon_vma = None, Some("anon-vma/unreachable-page")),
        (
            |o, h| {
                (h.ptes[2].page, o.spaces[5].anon_pages) = (Page(5), 0b10_0100);
                (h.pages[1].index, o.spaces[5].writable_ptes) = (Page(5).linear_offset(), 0);
            },
            Some("anon-vma/unreachable-page"),
        ),
        // Parents and roots.
        (|_, h| h.anon_vmas[1].parent = None, Some("anon-vma/invariant/parent")),
        (|_, h| h.anon_vmas[1].root = None, Some("anon-vma/invariant/parent")),
        (|_, h| h.anon_vmas[1].root = Some(CHILD), Some("anon-vma/invariant/root")),
        (|_, h| h.anon_vmas[0].root = Some(CHILD), Some("anon-vma/invariant/root")),
        (|_, h| h.anon_vmas[1].root = Some(AnonVmaId::new(9)), Some("anon-vma/invariant/root")),
        (|_, h| h.anon_vmas[1].parent = Some(AnonVmaId::new(9)), Some("anon-vma/invariant/root")),
        (
            // The chain of the child has two roots.
            |_, h| (h.anon_vmas[1].parent, h.anon_vmas[1].root) = (Some(CHILD), Some(CHILD)),
            Some("anon-vma/invariant/root"),
        ),
        // Chains.
        (|o, _| childs(o, Some(CHILD), &[ROOT]), Some("anon-vma/invariant/chain")),
        (|_, h| h.anon_vmas.truncate(1), Some("anon-vma/invariant/chain")),
        (
            |o, h| {
                // The page of the child belongs to the root, so that it is found.
                childs(o, None, &[CHILD, ROOT]);
                h.pages[1].anon_vma = Some(ROOT);
            },
            Some("anon-vma/invariant/chain"),
        ),
        // Counters of anon_vmas.
        (|_, h| h.anon_vmas[0].vmas = 1, Some("anon-vma/invariant/vmas")),
        (|_, h| h.anon_vmas[0].active_vmas = Some(2), Some("anon-vma/invariant/active-vmas")),
        (|_, h| h.anon_vmas[0].active_vmas = None, None),
        (|_, h| h.anon_vmas[0].degree = 2, Some("anon-vma/invariant/degree")),
        (|_, h| h.anon_vmas[1].degree = 2, Some("anon-vma/invariant/degree")),
        (|_, h| h.anon_vmas[0].references = Some(1), Some("anon-vma/invariant/references")),
        (|_, h| h.anon_vmas[1].references = Some(2), Some("anon-vma/invariant/references")),
        (|_, h| h.anon_vmas[0].references = None, None),
        (
            |_, h| {
                let new = AnonVma { id: AnonVmaId::new(9), vmas: 0, ..h.anon_vmas[1] };
                (h.anon_vmas[0].degree, h.anon_vmas[0].references) = (4, Some(3));
                h.anon_vmas.push(new);
            },
            Some("leak/anon_vma"),
        ),
        // Objects.
        (|_, h| h.vmas = Some(3), Some("leak/vm_area_struct")),
        (|_, h| h.chain_entries = Some(4), Some("leak/anon_vma_chain")),
        (|_, h| h.mms = Some(3), Some("leak/mm_struct")),
        (|_, h| (h.vmas, h.chain_entries, h.mms) = (None, None, None), None),
        // References.
        (
            |_, h| {
                h.counts_references = true;
                h.references.push(References { to: Counted::Mm, counter: 2, others: 1 });
            },
            Some("leak/mm_struct"),
        ),
    ];
    for (at, (change, expected)) in cases.iter().enumerate() {
        let (mut seen, mut hidden) = family();
        change(&mut seen, &mut hidden);
        let found = name(Recounter::default().check(&seen, &hidden));
        assert_eq!(found.as_deref(), *expected, "case {at}");
    }
}

#[test]
fn a_finding_names_the_place_and_the_values() {
    let text = |change: Change| {
        let mut seen = base();
        change(&mut seen);
        Shown::default().check(&op("fork 0"), &seen).expect("a finding").text
    };
    let write_bit = text(|o| o.spaces[7].writable_ptes = 0b1100);
    assert!(write_bit.starts_with("the page table entry of page 3 of process 7 permits writes"));
    let overlap = text(|o| change(o, |v| v[1].start = Page(3)));
    assert_eq!(overlap, "a VMA of process 0 is 3..6, and the VMA before it ends at 4");

    let mut shown = Shown::default();
    let (before, after) = (ranges(0, &[(1, 9, 0)], None), ranges(0, &[(1, 8, 0), (8, 9, 2)], None));
    assert_eq!(shown.check_spaces(&op("munmap 0 63 1"), &before), None);
    let found = shown.check_spaces(&op("munmap 0 63 1"), &after).expect("a finding");
    let says = "page 8 of process 0 had the page offset @8 and has @10";
    assert!(found.text.starts_with(says), "{}", found.text);

    let text = |change: HiddenChange| {
        let (mut seen, mut hidden) = family();
        change(&mut seen, &mut hidden);
        Recounter::default().check(&seen, &hidden).expect("a finding").text
    };
    let chain = text(|_, h| h.anon_vmas.truncate(1));
    assert_eq!(chain, "the VMA 2..5 has a freed anon_vma in its chain");
    let degree = text(|_, h| h.anon_vmas[0].degree = 2);
    assert_eq!(degree, "an anon_vma has degree 2, and 1 VMAs of its own and 2 children");
}
