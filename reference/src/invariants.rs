//! Invariants of the reference's state, checked after every operation of pseudo-random programs.

use rand_pcg::Pcg32;
use rand_pcg::rand_core::{Rng as _, SeedableRng as _};
use vmadiff_machine::op::{MAX_OPERANDS, Opcode};
use vmadiff_machine::operand::{END_PAGES, Mode, Page, Process};
use vmadiff_machine::{
    Counters, FileId, Limits, Machine, Observation, Op, PageSet, Program, VmFlags,
};

use crate::Reference;
use crate::mm::Mm;
use crate::world::World;

/// Random programs, the same on every machine.
struct Random(Pcg32);

impl Random {
    fn byte(&mut self) -> u8 {
        (self.0.next_u32() >> 24) as u8
    }

    /// Returns a program. Every second one is crowded: its ranges are short and near each other.
    fn program(&mut self, operations: usize) -> Program {
        let limit = |byte: u8| byte.is_multiple_of(3).then_some(byte / 8);
        let mut limits = Limits::default();
        if self.byte().is_multiple_of(2) {
            limits.map_count = limit(self.byte());
            limits.address_space = limit(self.byte());
            limits.lock = limit(self.byte());
            limits.processes = limit(self.byte());
        }
        let mask = if self.byte().is_multiple_of(2) { 7 } else { 0xff };
        let ops = (0..operations).map(|_| {
            let opcode = Opcode::ALL[usize::from(self.byte()) % Opcode::ALL.len()];
            // A quarter more operations are mmap: else most operations would find nothing mapped.
            let opcode = if self.byte().is_multiple_of(4) { Opcode::Mmap } else { opcode };
            let mut bytes = [0; MAX_OPERANDS];
            bytes.fill_with(|| self.byte() & mask);
            bytes[0] %= 4;
            Op::from_bytes(opcode, bytes)
        });
        Program { limits, ops: ops.collect() }
    }
}

fn check_mm(world: &World, mm: &Mm) {
    let mut mapped: PageSet = 0;
    let mut end = 0;
    for vma in mm.vmas() {
        assert!(mm.alive);
        assert!(!vma.range.is_empty() && vma.range.start.0 >= end, "sorted and disjoint");
        end = vma.range.end.0;
        assert!(usize::from(end) <= END_PAGES);
        mapped |= vma.range.set();

        let chain: Vec<_> = world.anon_vmas.chain(vma.chain).collect();
        assert_eq!(vma.anon_vma.is_none(), chain.is_empty(), "no chain without an anon_vma");
        assert!(vma.anon_vma.is_none_or(|own| chain.contains(&own)), "its own is in the chain");
        if vma.range.set() & mm.anon_pages() != 0 {
            assert!(vma.anon_vma.is_some(), "anonymous pages need an anon_vma");
            assert!(!vma.flags.contains(VmFlags::VM_SHARED));
        }
        if vma.range.set() & mm.writable() != 0 {
            assert!(vma.flags.contains(VmFlags::VM_WRITE), "no entry permits more than its VMA");
        }
        if vma.range.set() & mm.zero_pages() != 0 {
            assert!(vma.is_anonymous(), "the zero page is anonymous memory's");
        }

        let locked = vma.flags & VmFlags::LOCK;
        assert_ne!(locked, VmFlags::VM_LOCKONFAULT);
        assert!(locked.is_empty() || !vma.flags.intersects(VmFlags::VM_SPECIAL));
        assert_eq!(vma.uffd.is_some(), vma.flags.intersects(VmFlags::UFFD));
    }
    assert_eq!((mm.anon_pages() | mm.zero_pages()) & !mapped, 0, "no page without a VMA");
    assert_eq!(mm.anon_pages() & mm.zero_pages(), 0);
    assert_eq!(
        mm.writable() & !mm.anon_pages(),
        0,
        "no page that is written without a fault is shared"
    );
    let shared = world.anon_pages.shared(mm);
    assert_eq!(mm.writable() & shared, 0, "a page of two entries is writable in neither");
}

/// The degree and the VMAs of each anon_vma equal a count, and none is kept without VMAs.
fn check_anon_vmas(world: &World) {
    let vmas = || world.mms.iter().flat_map(|mm| mm.vmas());
    let living: Vec<_> = world.anon_vmas.living().collect();
    for &(id, hang, degree, parent) in &living {
        let hanging = vmas().filter(|v| world.anon_vmas.chain(v.chain).any(|other| other == id));
        assert_eq!(hang as usize, hanging.count());
        assert!(hang > 0, "without VMAs it is gone");
        let own = vmas().filter(|vma| vma.anon_vma == Some(id)).count();
        let children = living.iter().filter(|(.., parent)| *parent == id).count();
        assert_eq!(degree as usize, own + children, "a root is its own child");
        assert!(living.iter().any(|(other, ..)| *other == parent), "parents outlive children");
    }
    for vma in vmas() {
        for id in world.anon_vmas.chain(vma.chain) {
            assert!(living.iter().any(|(other, ..)| *other == id));
        }
    }
}

/// The references to files and policies equal a count of VMAs, and the context of every VMA is there.
fn check_references(world: &World) {
    let vmas = || world.mms.iter().flat_map(|mm| mm.vmas());
    for vma in vmas() {
        let Some(file) = vma.file else { continue };
        let (of_file, of_mode) = world.references.vmas(file, vma.policy);
        assert_eq!(of_file as usize, vmas().filter(|other| other.file == vma.file).count());
        assert_eq!(of_mode as usize, vmas().filter(|other| other.policy == vma.policy).count());
    }
    for file in (0..8).map(FileId::new) {
        let (of_file, _) = world.references.vmas(file, Mode::Default);
        assert_eq!(of_file as usize, vmas().filter(|vma| vma.file == Some(file)).count());
    }
    assert!(vmas().filter_map(|vma| vma.uffd).all(|ctx| world.references.has_context(ctx)));
}

/// The observation shows the whole state, of address spaces that were not written this time as well,
/// and its counters equal a count over its pages.
fn check_shown(world: &World, seen: &Observation) {
    let mut world = world.clone();
    world.mms.iter_mut().for_each(|mm| mm.changed = true);
    let mut all = Observation::default();
    world.show(&mut all);
    assert_eq!(format!("{:?}", all.spaces), format!("{:?}", seen.spaces));
    let mut committed = 0;
    for space in &seen.spaces {
        let mut counters = Counters { map_count: space.vmas().len() as i64, ..Counters::default() };
        for vma in (0..END_PAGES as u8).filter_map(|page| space.vma_at(Page(page))) {
            let writable = [VmFlags::VM_WRITE, VmFlags::VM_SHARED].map(|f| vma.flags.contains(f));
            counters.total_vm += 1;
            counters.locked_vm += i64::from(vma.flags.contains(VmFlags::VM_LOCKED));
            counters.data_vm += i64::from(writable == [true, false]);
            committed += i64::from(vma.flags.contains(VmFlags::VM_ACCOUNT));
        }
        assert_eq!(space.counters, counters);
    }
    assert_eq!((all.committed, seen.committed), (committed, committed));
}

#[test]
fn every_program_keeps_them() {
    let mut random = Random(Pcg32::seed_from_u64(1));
    let (mut reference, mut seen) = (Reference::new(), Observation::default());
    for _ in 0..400 {
        let program = random.program(40);
        reference.reset(&program.limits);
        seen.reset();
        for op in &program.ops {
            let before = format!("{:?}", reference.world.mms);
            reference.step(op, &mut seen);
            let world = &reference.world;
            world.mms.iter().for_each(|mm| check_mm(world, mm));
            check_anon_vmas(world);
            check_references(world);
            check_shown(world, &seen);
            for (at, space) in seen.spaces.iter().enumerate() {
                assert_eq!(space.alive, world.mm(Process(at as u8)).alive);
            }
            let copies = matches!(op, Op::Copy { .. } | Op::CopyVma { .. });
            if copies && seen.result.is_err() {
                assert_eq!(before, format!("{:?}", world.mms), "{op} failed and changed something");
            }
            if copies {
                assert_eq!(seen.copy.is_some(), seen.result.is_ok());
            }
        }
    }
}

#[test]
fn a_machine_that_was_used_before_does_the_same() {
    let mut random = Random(Pcg32::seed_from_u64(2));
    let (mut used, mut seen) = (Reference::new(), Observation::default());
    for _ in 0..400 {
        let program = random.program(60);
        let (mut fresh, mut seen_fresh) = (Reference::new(), Observation::default());
        used.reset(&program.limits);
        fresh.reset(&program.limits);
        seen.reset();
        for op in &program.ops {
            used.step(op, &mut seen);
            fresh.step(op, &mut seen_fresh);
        }
        assert_eq!(format!("{seen:?}"), format!("{seen_fresh:?}"));
    }
}

#[test]
fn no_program_panics() {
    let mut random = Random(Pcg32::seed_from_u64(3));
    let (mut reference, mut seen) = (Reference::new(), Observation::default());
    for _ in 0..20_000 {
        let program = random.program(64);
        reference.reset(&program.limits);
        seen.reset();
        program.ops.iter().for_each(|op| reference.step(op, &mut seen));
    }
}
