//! The visible part of an observation, and the text of a process's memory.

use vmadiff_lockstep::visible::{Files, Visible, memory, readable};
use vmadiff_machine::observation::{CopyReport, FileId, PageId, UffdId, Vma};
use vmadiff_machine::operand::{ARENA_PAGES, END_PAGES, Mode, Page, PageOffset, Process};
use vmadiff_machine::{AddressSpace, AnonVmaId, Counters, Errno, Observation, VmFlags};

const ANON_VMA: AnonVmaId = AnonVmaId::new(3);
const FILE: FileId = FileId::new(5);
const COUNTERS: Counters = Counters { total_vm: 4, locked_vm: 2, data_vm: 3, map_count: 2 };

/// Returns a VMA with this range, page offset and policy, and with the file.
fn vma(range: (u8, u8), pgoff: PageOffset, file: Option<FileId>, policy: Mode) -> Vma {
    let range = (Page(range.0), Page(range.1));
    let flags = VmFlags::VM_READ | VmFlags::VM_WRITE | VmFlags::VM_SOFTDIRTY;
    Vma::new(range, pgoff, flags, None, file, None, policy, false)
}

/// Returns an observation of a model: process 1 has anonymous memory that was moved from page 9, and a file.
/// Process 0 has not changed.
fn model() -> Observation {
    let mut seen = Observation { committed: 7, ..Observation::default() };
    seen.begin_step();
    (seen.result, seen.read, seen.attached) = (Err(Errno::EFAULT), Some(6), Some(2));
    seen.driver.opens = 1;
    seen.copy = Some(CopyReport {
        merged: false,
        need_rmap_locks: false,
        honoured: true,
        source_redirected: false,
    });
    let space = seen.rewrite(Process(1));
    (space.alive, space.counters) = (true, COUNTERS);
    (space.anon_pages, space.writable_ptes, space.zero_pages) = (0b10, 0b10, 0b100);
    space.push_page_ids([PageId::new(4)]);
    let mut moved = vma((1, 3), Page(9).linear_offset(), None, Mode::Bind);
    (moved.anon_vma, moved.uffd) = (Some(ANON_VMA), Some(UffdId::new(0)));
    space.push(moved, [ANON_VMA]);
    let mut file = vma((3, 5), PageOffset(8), Some(FILE), Mode::Bind);
    file.close = true;
    space.push(file, []);
    seen
}

/// Returns the visible part of the model, after a step in which process 0 had a counter.
fn reduced(visible: Visible) -> Observation {
    let mut seen = Observation::default();
    seen.spaces[0].counters.total_vm = 9;
    visible.reduce(&model(), &mut seen);
    seen
}

#[test]
fn the_visible_part_has_no_object_of_the_model() {
    let seen = reduced(Visible::ALL);
    assert_eq!((seen.result, seen.read, seen.attached), (Err(Errno::EFAULT), Some(6), Some(2)));
    assert_eq!((seen.committed, seen.driver.opens, seen.copy), (0, 0, None));
    assert_eq!(seen.changed, 1 << 1);
    assert_eq!(seen.spaces[0].counters.total_vm, 9, "process 0 has not changed");
    let space = &seen.spaces[1];
    assert!(space.alive);
    assert_eq!(space.counters, COUNTERS);
    assert_eq!((space.anon_pages, space.writable_ptes, space.zero_pages), (0b10, 0, 0));
    assert!(space.page_ids().is_empty());
    // Anonymous memory has the offset of its place, and a file has its own offset.
    let anonymous = vma((1, 3), Page(1).linear_offset(), None, Mode::Bind);
    let file = vma((3, 5), PageOffset(8), Some(FILE), Mode::Default);
    assert_eq!(space.vmas(), [anonymous, file]);
}

#[test]
fn a_kernel_without_a_facility_shows_less() {
    let without = |change: fn(&mut Visible)| {
        let mut visible = Visible::ALL;
        change(&mut visible);
        let seen = reduced(visible);
        let space = &seen.spaces[1];
        let first = space.vmas()[0];
        let soft_dirty = first.flags.contains(VmFlags::VM_SOFTDIRTY);
        assert!(first.flags.contains(VmFlags::VM_READ | VmFlags::VM_WRITE));
        (soft_dirty, space.anon_pages, first.policy)
    };
    assert_eq!(without(|_| ()), (true, 0b10, Mode::Bind));
    assert_eq!(without(|visible| visible.soft_dirty = false), (false, 0b10, Mode::Bind));
    assert_eq!(without(|visible| visible.frames = false), (true, 0, Mode::Bind));
    assert_eq!(without(|visible| visible.numa = false), (true, 0b10, Mode::Default));
}

/// Returns an address space with these VMAs.
fn space(vmas: impl IntoIterator<Item = Vma>) -> AddressSpace {
    let mut space = AddressSpace::default();
    vmas.into_iter().for_each(|vma| space.push(vma, []));
    space
}

#[test]
fn anonymous_pages_and_pages_of_files_in_the_arena_are_read_at_the_end() {
    let (arena, end) = (ARENA_PAGES as u8, END_PAGES as u8);
    let file = |range| vma(range, PageOffset(0), Some(FILE), Mode::Default);
    let mut space = space([
        vma((1, 4), PageOffset(0), None, Mode::Default),
        file((4, 6)),
        file((arena - 1, end)),
    ]);
    space.anon_pages = 1 << 2 | 1 << 4 | 1 << (end - 1);
    assert_eq!(readable(&space), 1 << 2 | 0b11 << 4 | 1 << (arena - 1));
}

#[test]
fn the_several_a_process_is_shown_in_lines() {
    let (end, none) = (END_PAGES as u8, PageOffset(0));
    let mut several = space([
        vma((1, 3), none, None, Mode::Interleave),
        vma((3, 4), PageOffset(8), Some(FILE), Mode::Bind),
        vma((4, 5), PageOffset(2), Some(FileId::new(2)), Mode::Default),
        vma((5, 6), PageOffset(9), Some(FILE), Mode::Default),
        vma((6, end), none, None, Mode::Default),
    ]);
    several.counters = COUNTERS;
    let lines = "VmSize 4, VmLck 2, VmData 3\n\
        1-3 rd wr sd, policy interleave\n\
        3-4 rd wr sd, file 0, page 8\n\
        4-5 rd wr sd, file 1, page 2\n\
        5-6 rd wr sd, file 0, page 9\n\
        6-128 rd wr sd";
    assert_eq!(memory(&several, &mut Files::default()), lines);
    // Files keep their numbers from one process to the next.
    let mut files = Files::default();
    let first = space([vma((0, 1), none, Some(FileId::new(2)), Mode::Default)]);
    assert!(memory(&first, &mut files).ends_with("\n0-1 rd wr sd, file 0, page 0"));
    assert!(memory(&several, &mut files).contains("\n3-4 rd wr sd, file 1, page 8"));
}

#[test]
fn anonymous_pages_are_shown_in_runs() {
    for (pages, line) in [
        (0b1, "\nanonymous 0-1"),
        (0b1_0110, "\nanonymous 1-3 4-5"),
        (1 << 127 | 0b11, "\nanonymous 0-2 127-128"),
        (!0, "\nanonymous 0-128"),
        (0, ""),
    ] {
        let mut space = space([]);
        space.anon_pages = pages;
        let expected = format!("VmSize 0, VmLck 0, VmData 0{line}");
        assert_eq!(memory(&space, &mut Files::default()), expected);
    }
}
