//! Every field that a library writes is checked before it is used.

use vmadiff_machine::abi::{self, Space, Vma};
use vmadiff_machine::failure::{Nonsense, Place};
use vmadiff_machine::observation::{Assertion, CopyReport, Event, Object, Observation};
use vmadiff_machine::operand::{Mode, Page, PageOffset, Process};
use vmadiff_machine::{
    AddressSpace, Allocation, AnonVmaId, Counters, DriverCalls, Errno, FileId, Message, PageId,
    Range, UffdEvent, UffdId, VmFlags,
};

/// Returns an observation in which every field is set.
fn example() -> Observation {
    let mut seen = Observation::default();
    seen.begin_step();
    seen.result = Ok(17);
    seen.copy = Some(CopyReport {
        merged: true,
        need_rmap_locks: false,
        honoured: true,
        source_redirected: true,
    });
    let (function, condition, field) = ("copy_vma", "faulted_in_anon_vma", "vm_mm");
    let ctx = UffdId::new(6);
    let (child, range) =
        (UffdId::new(7), |start, end| Range { start: Page(start), end: Page(end) });
    seen.messages = [
        UffdEvent::Unmap(range(2, 128)),
        UffdEvent::Remove(range(3, 4)),
        UffdEvent::Remap { from: range(2, 2), to: Page(9) },
        UffdEvent::Fork { child: Some(child) },
        UffdEvent::Fork { child: None },
    ]
    .map(|about| Message { ctx, about })
    .to_vec();
    seen.events = vec![
        Event::UnreachablePage { process: Process(3), page: Page(99) },
        Event::Assertion { assertion: Assertion::WarnOn, function, condition },
        Event::UseAfterFree { object: Object::Mm, function, field },
        Event::Assertion { assertion: Assertion::BugOn, function, condition },
        Event::Deadlock { function, lock: "ptl" },
        Event::LockHeld { function, lock: "mmap_sem" },
    ];
    seen.committed = -3;
    seen.driver = DriverCalls { opens: 2, closes: 1 };
    seen.attached = Some(3);
    seen.read = Some(255);
    seen.failed = Some(Allocation::File);
    for process in [0, 5] {
        let space = seen.rewrite(Process(process));
        space.alive = true;
        space.counters = Counters { total_vm: 7, locked_vm: -1, data_vm: 5, map_count: 2 };
        space.anon_pages = 1 << 127 | 1 << 64 | 1 << 2 | u128::from(process);
        space.push_page_ids((0..space.anon_pages.count_ones()).map(|n| PageId::new(9 - n)));
        (space.zero_pages, space.writable_ptes) = (1 << 65, 1 << 64 | 1 << 2);
        let flags = VmFlags::VM_READ | VmFlags::VM_MERGEABLE;
        let range = |start, end| (Page(start), Page(end));
        let anon_vma = Some(AnonVmaId::new(4));
        let offset = PageOffset(u64::MAX);
        let (file, uffd) = (Some(FileId::new(0)), Some(UffdId::new(abi::MAX_OBJECT - 1)));
        let first = vmadiff_machine::Vma::new(
            range(2, 5),
            offset,
            flags,
            anon_vma,
            file,
            uffd,
            Mode::Bind,
            true,
        );
        space.push(first, [4, 0, 9].map(AnonVmaId::new));
        let second = vmadiff_machine::Vma::new(
            range(5, 128),
            PageOffset(0),
            VmFlags::all(),
            None,
            None,
            None,
            Mode::Default,
            false,
        );
        space.push(second, []);
    }
    seen.rewrite(Process(1));
    seen
}

fn write(seen: &Observation) -> Box<abi::Observation> {
    let mut raw = abi::Observation::new();
    raw.write(seen);
    raw
}

/// Returns all fields of an address space, for comparison.
fn shown(space: &AddressSpace) -> impl PartialEq + std::fmt::Debug {
    let vmas: Vec<_> = space
        .vmas()
        .iter()
        .map(|vma| {
            // The place of a VMA's chain may differ. The chain itself is compared.
            let range = (vma.start, vma.end, vma.pgoff, vma.flags, vma.policy, vma.close);
            (range, (vma.anon_vma, vma.file, vma.uffd), space.chain(vma).to_vec())
        })
        .collect();
    let ptes = (space.anon_pages, space.zero_pages, space.writable_ptes, space.page_ids().to_vec());
    (space.alive, space.counters, ptes, vmas)
}

fn assert_same(read: &Observation, written: &Observation) {
    assert_eq!(read.result, written.result);
    assert_eq!((read.read, read.failed), (written.read, written.failed));
    assert_eq!(read.copy, written.copy);
    assert_eq!(read.messages, written.messages);
    assert_eq!(read.events, written.events);
    assert_eq!(read.committed, written.committed);
    assert_eq!((read.driver, read.attached), (written.driver, written.attached));
    assert_eq!(read.changed, written.changed);
    for (process, (read, written)) in read.spaces.iter().zip(&written.spaces).enumerate() {
        assert_eq!(shown(read), shown(written), "process {process}");
    }
}

#[test]
fn what_is_written_is_read_field_by_field() {
    let mut seen = Observation::default();
    let written = example();
    assert_eq!(write(&written).read(&mut seen), Ok(()));
    assert_same(&seen, &written);
    for error in Errno::ALL {
        let written = Observation { result: Err(*error), attached: None, ..Observation::default() };
        assert_eq!(write(&written).read(&mut seen), Ok(()));
        assert_eq!((seen.result, seen.attached), (Err(*error), None));
    }
}

#[test]
fn an_address_space_that_did_not_change_is_neither_written_nor_read() {
    let (mut seen, mut written) = (Observation::default(), example());
    let mut raw = write(&written);
    assert_eq!(raw.read(&mut seen), Ok(()));
    let before = seen.spaces[5].clone();
    written.begin_step();
    written.rewrite(Process(0)).alive = true;
    written.spaces[5].clear();
    raw.forget();
    raw.write(&written);
    raw.spaces[5].vma_count = 4000;
    assert_eq!(raw.read(&mut seen), Ok(()));
    assert_eq!(seen.changed, 1);
    assert!(seen.spaces[0].vmas().is_empty());
    assert_eq!(shown(&seen.spaces[5]), shown(&before));
}

/// The field and the place that the check names, and a change that breaks a rule of this field.
type Spoiled = (&'static str, Place, fn(&mut abi::Observation));

const HEAD: Place = Place::Head;

fn space(raw: &mut abi::Observation) -> &mut Space {
    &mut raw.spaces[5]
}

fn vma(raw: &mut abi::Observation, n: usize) -> &mut Vma {
    &mut raw.spaces[5].vmas[n]
}

#[test]
fn each_rule_that_is_broken_is_named_by_its_field() {
    let spoiled: &[Spoiled] = &[
        ("error", HEAD, |raw| raw.error = 6),
        ("error", HEAD, |raw| raw.error = 1 << 16 | 1),
        ("error", HEAD, |raw| raw.error = u32::MAX),
        ("value", HEAD, |raw| raw.value = 128),
        ("value", HEAD, |raw| raw.value = 256),
        ("copy", HEAD, |raw| raw.copy = 2),
        ("copy", HEAD, |raw| raw.copy = 32 | 1),
        ("changed", HEAD, |raw| raw.changed = 256),
        ("committed", HEAD, |raw| raw.committed = i64::MIN),
        ("attached", HEAD, |raw| raw.attached = i64::MIN),
        ("opens", HEAD, |raw| raw.opens = u32::MAX),
        ("closes", HEAD, |raw| raw.closes = u32::MAX),
        ("read", HEAD, |raw| raw.read = 1),
        ("read", HEAD, |raw| raw.read = 512),
        ("read", HEAD, |raw| raw.read = u32::MAX),
        ("failed", HEAD, |raw| raw.failed = 10),
        ("failed", HEAD, |raw| raw.failed = u32::MAX),
        ("message_count", HEAD, |raw| raw.message_count = 257),
        ("kind", Place::Message(0), |raw| raw.messages[0].kind = 0),
        ("ctx", Place::Message(1), |raw| raw.messages[1].ctx = 0),
        ("ctx", Place::Message(1), |raw| raw.messages[1].ctx = 65_536),
        ("child", Place::Message(3), |raw| raw.messages[3].child = 65_536),
        ("start", Place::Message(0), |raw| raw.messages[0].start = 129),
        ("end", Place::Message(2), |raw| raw.messages[2].end = 256),
        ("to", Place::Message(2), |raw| raw.messages[2].to = 129),
        ("event_count", HEAD, |raw| raw.event_count = 1089),
        ("kind", Place::Event(0), |raw| raw.events[0].kind = 6),
        ("process", Place::Event(0), |raw| raw.events[0].process = 8),
        ("page", Place::Event(0), |raw| raw.events[0].page = 128),
        ("function", Place::Event(1), |raw| raw.events[1].function = [b'a'; 64]),
        ("function", Place::Event(1), |raw| raw.events[1].function[0] = 0),
        ("text", Place::Event(1), |raw| raw.events[1].text[0] = 0xff),
        ("text", Place::Event(1), |raw| raw.events[1].text[0] = 0x1b),
        ("object", Place::Event(2), |raw| raw.events[2].object = 6),
        ("kind", Place::Event(6), |raw| {
            raw.event_count = 7;
            raw.events[6].kind = u32::MAX;
        }),
        ("alive", Place::Space(5), |raw| space(raw).alive = 2),
        ("alive", Place::Space(5), |raw| space(raw).alive = 0),
        ("alive", Place::Space(1), |raw| raw.spaces[1].map_count = 1),
        ("alive", Place::Space(1), |raw| raw.spaces[1].anon_pages[1] = 1),
        ("alive", Place::Space(1), |raw| raw.spaces[1].writable_ptes[0] = 1),
        ("page_ids", Place::Space(5), |raw| space(raw).page_ids[64] = 0),
        ("page_ids", Place::Space(5), |raw| space(raw).page_ids[127] = 65_536),
        ("vma_count", Place::Space(5), |raw| space(raw).vma_count = 129),
        ("chain_count", Place::Space(5), |raw| space(raw).chain_count = 8193),
        ("chain_count", Place::Space(5), |raw| {
            (space(raw).chain_count, space(raw).chain[3]) = (4, 1);
        }),
        ("reserved", Place::Space(5), |raw| space(raw).reserved = 1),
        ("chain", Place::Space(5), |raw| space(raw).chain[1] = 0),
        ("chain", Place::Space(5), |raw| space(raw).chain[2] = 65_536),
        ("start", Place::Vma(5, 1), |raw| vma(raw, 1).start = 4),
        ("end", Place::Vma(5, 0), |raw| vma(raw, 0).end = 2),
        ("end", Place::Vma(5, 1), |raw| vma(raw, 1).end = 129),
        ("flags", Place::Vma(5, 0), |raw| vma(raw, 0).flags |= 0x100),
        ("policy", Place::Vma(5, 0), |raw| vma(raw, 0).policy = 4),
        ("close", Place::Vma(5, 0), |raw| vma(raw, 0).close = 2),
        ("anon_vma", Place::Vma(5, 1), |raw| vma(raw, 1).anon_vma = 65_536),
        ("file", Place::Vma(5, 0), |raw| vma(raw, 0).file = u32::MAX),
        ("uffd", Place::Vma(5, 0), |raw| vma(raw, 0).uffd = 65_536),
        ("chain_count", Place::Vma(5, 1), |raw| vma(raw, 1).chain_count = 1),
        ("chain_count", Place::Vma(5, 0), |raw| vma(raw, 0).chain_count = u32::MAX),
        ("chain_count", Place::Space(5), |raw| vma(raw, 0).chain_count = 2),
    ];
    for (n, (field, place, spoil)) in spoiled.iter().enumerate() {
        let mut raw = write(&example());
        spoil(&mut raw);
        let found = raw
            .read(&mut Observation::default())
            .map_err(|Nonsense { field, place, .. }| (field, place));
        assert_eq!(found, Err((*field, *place)), "case {n}");
    }
}

#[test]
fn a_field_that_a_library_leaves_alone_is_found() {
    let mut raw = abi::Observation::new();
    let untouched = |raw: &mut abi::Observation| {
        raw.read(&mut Observation::default()).map_err(|nonsense| nonsense.field)
    };
    assert_eq!(untouched(&mut raw), Err("error"));
    // A field that the operation before wrote is not taken for an answer.
    raw.write(&example());
    assert_eq!(untouched(&mut raw), Ok(()));
    raw.forget();
    assert_eq!(untouched(&mut raw), Err("error"));
    for (field, write) in [
        ("copy", (|raw| (raw.error, raw.value) = (0, 0)) as fn(&mut abi::Observation)),
        ("changed", |raw| raw.copy = 0),
        ("committed", |raw| raw.changed = 1),
        ("attached", |raw| raw.committed = 0),
        ("opens", |raw| raw.attached = 0),
        ("closes", |raw| raw.opens = 0),
        ("read", |raw| raw.closes = 0),
        ("failed", |raw| raw.read = 0),
        ("message_count", |raw| raw.failed = 0),
        ("event_count", |raw| raw.message_count = 0),
        ("alive", |raw| raw.event_count = 0),
        ("vma_count", |raw| raw.spaces[0].alive = 1),
        ("chain_count", |raw| raw.spaces[0].vma_count = 0),
        ("reserved", |raw| raw.spaces[0].chain_count = 0),
    ] {
        write(&mut raw);
        assert_eq!(untouched(&mut raw), Err(field));
    }
    raw.spaces[0].reserved = 0;
    assert_eq!(untouched(&mut raw), Ok(()));
}

#[test]
fn any_bytes_are_read_or_refused() {
    // Values at the edges of the rules are written to each four bytes of the head, of the head of
    // an address space, and of its first VMAs.
    let good = write(&example());
    let size = size_of::<abi::Observation>();
    let spaces = size - 8 * size_of::<Space>();
    let (mut read, mut refused) = (0, 0);
    for at in (0..32).chain(32..448).chain(spaces..spaces + 192) {
        for value in [0, 1, 2, 127, 128, 255, 256, 65_535, 65_536, 1 << 31, u32::MAX] {
            let mut raw = good.clone();
            let bytes = bytemuck::bytes_of_mut(&mut *raw);
            let end = (at + 4).min(size);
            bytes[at..end].copy_from_slice(&u32::to_ne_bytes(value)[..end - at]);
            let mut seen = Observation::default();
            match raw.read(&mut seen) {
                Ok(()) => read += 1,
                Err(_) => refused += 1,
            }
            for space in &seen.spaces {
                assert!(space.vmas().is_sorted_by(|a, b| a.end <= b.start));
                assert!(space.vmas().iter().all(|vma| vma.start < vma.end && vma.end.0 <= 128));
            }
        }
    }
    assert!(read > 1000 && refused > 1000, "{read} read, {refused} refused");
}
