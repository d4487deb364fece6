//! What is said is checked against the reference, on random programs.

use vmadiff_candidate::{Candidate, Revision};
use vmadiff_fuzzing::mutate::ProgramMutator;
use vmadiff_fuzzing::random::Walk;
use vmadiff_lockstep::lockstep::Lockstep;
use vmadiff_machine::Machine as _;
use vmadiff_reference::Reference;

use super::accounting::{is_charged, is_data, is_locked, recount};
use super::*;

/// Calls `check` with random programs, each up to one of its copies or moves, on which the
/// reference and the candidate at a revision agree or, at the end, do not.
fn copies(revision: Revision, programs: usize, mut check: impl FnMut(&Run, &Case<'_>)) {
    let mut lockstep = Lockstep::new(Reference::new(), Candidate::new(revision));
    let mut walk = Walk::new(7);
    for _ in 0..programs {
        let whole = Run::of(&mut lockstep, walk.step());
        for n in 0..whole.steps.len() {
            let moves = whole.steps[n].left.copy.is_some();
            if !moves {
                continue;
            }
            let last = n + 1 == whole.steps.len();
            let run = Run {
                steps: whole.steps[..=n].to_vec(),
                divergence: whole.divergence.clone().filter(|_| last),
                program: whole.program.clone(),
                names: whole.names.clone(),
            };
            let mut before = Observation::default();
            let case = Case::of(&run, &mut before).expect("a step");
            check(&run, &case);
        }
    }
}

#[test]
fn the_conditions_and_the_merged_range_are_those_of_the_reference() {
    let (mut merged, mut apart) = (0, 0);
    copies(Revision::Fixed, 6000, |run, case| {
        let copy = case.left.copy.expect("a copy");
        let conditions = case.merge_conditions();
        let holds = conditions.iter().any(|c| c.ends_with("every condition holds"));
        assert_eq!(copy.merged, holds, "{}\n{conditions:?}\n{}", case.op, run.program);
        if copy.merged {
            merged += 1
        } else {
            apart += 1
        }
        // A copy leaves the merged VMA as it is; a move may cut the source from it.
        let to = case.role("to").expect("a destination");
        if case.is_copy() && copy.merged {
            let there = case.left.spaces[to.process].vma_at(Page(to.range.start));
            assert_eq!(
                case.merged_range(true),
                there.map(Range::of),
                "{}\n{}",
                case.op,
                run.program
            );
        }
    });
    assert!(merged > 100 && apart > 100, "{merged} merged, {apart} did not");
}

#[test]
fn need_rmap_locks_is_what_the_values_say() {
    let (mut needed, mut compared) = ([0, 0], 0);
    copies(Revision::Fixed, 6000, |run, case| {
        let copy = case.left.copy.expect("a copy");
        let text = case.rmap_locks();
        needed[usize::from(copy.need_rmap_locks)] += 1;
        if copy.merged && !copy.source_redirected {
            let below = text.contains(", at or below");
            assert_eq!(below, copy.need_rmap_locks, "{text}\n{}\n{}", case.op, run.program);
            let pgoffs: Vec<u64> = text
                .split([' ', ',', ':'])
                .filter_map(|word| word.strip_prefix('@')?.parse().ok())
                .collect();
            if let [first, source] = pgoffs[..] {
                compared += 1;
                assert_eq!(first <= source, copy.need_rmap_locks, "{text}\n{}", run.program);
            }
        }
    });
    assert!(needed.iter().all(|n| *n > 50) && compared > 10, "{needed:?} {compared}");
}

#[test]
fn every_freed_source_of_v2_is_traced_to_the_merge_or_the_overlap() {
    let mut merges = 0;
    let mut lockstep = Lockstep::new(Reference::new(), Candidate::new(Revision::V2));
    let seeds = ["a", "b"].map(|bug| {
        let file = format!("{}/../corpus/seeds/bug-{bug}.txt", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(file).expect("a seed");
        text.parse::<vmadiff_machine::Program>().expect("a program")
    });
    let mut session = mutatis::Session::new().seed(11);
    for n in 0..4_000 {
        let mut program = seeds[n % 2].clone();
        for _ in 0..n % 8 {
            session.mutate_with(&mut ProgramMutator, &mut program).expect("a mutation");
        }
        let run = Run::of(&mut lockstep, &program);
        let Some(divergence) = &run.divergence else { continue };
        if !divergence.signature.as_str().starts_with("aliasing/use-after-free/") {
            continue;
        }
        let why = why(&run).expect("a reason");
        let merge = why.contains("was freed by that merge");
        assert!(merge || why.contains("overlap in process"), "{why}\n{}", run.program);
        merges += usize::from(merge);
    }
    assert!(merges > 100, "{merges}");
}

#[test]
fn a_recount_agrees_with_the_reference() {
    let mut machine = Reference::new();
    let mut walk = Walk::new(3);
    for _ in 0..2000 {
        let program = walk.step();
        machine.reset(&program.limits);
        let mut seen = Observation::default();
        for op in &program.ops {
            machine.step(op, &mut seen);
        }
        for space in &seen.spaces {
            assert_eq!(recount(space, |_| true), space.counters.total_vm);
            assert_eq!(recount(space, is_locked), space.counters.locked_vm);
            assert_eq!(recount(space, is_data), space.counters.data_vm);
        }
        let committed: i64 = seen.spaces.iter().map(|s| recount(s, is_charged)).sum();
        assert_eq!(committed, seen.committed);
    }
}

#[test]
fn every_refusal_has_a_reason_and_what_is_permitted_has_none() {
    use vmadiff_machine::Errno::{self, *};
    let mut lockstep = Lockstep::new(Reference::new(), Candidate::new(Revision::Fixed));
    let mut walk = Walk::new(5);
    let (mut refused, mut permitted) = (0, 0);
    for _ in 0..200 {
        let whole = Run::of(&mut lockstep, walk.step());
        for n in 0..whole.steps.len() {
            let steps = whole.steps[..=n].to_vec();
            let run = Run { steps, ..whole.clone() };
            let mut before = Observation::default();
            let case = Case::of(&run, &mut before).expect("a step");
            let impossible: &[Errno] = match (case.left.result, case.op.opcode()) {
                (Err(errno), _) => {
                    refused += 1;
                    assert!(case.reason(errno).is_some(), "{errno} {}\n{}", case.op, run.program);
                    continue;
                }
                (Ok(_), Opcode::Copy) => &[EINVAL, EFAULT, EEXIST, ENOMEM, ENOTSUPP, ESRCH],
                (Ok(_), Opcode::CopyVma) => &[EINVAL, EFAULT, ENOMEM, EAGAIN, ESRCH],
                (Ok(_), Opcode::Mmap) => &[EINVAL, EEXIST, EACCES, EPERM, ENOMEM, ESRCH],
                (Ok(_), Opcode::Mremap) => &[EINVAL, ENOMEM, ESRCH],
                (Ok(_), Opcode::Munmap) => &[EINVAL, ENOMEM, ESRCH],
                (Ok(_), Opcode::Mprotect) => &[EACCES, ESRCH],
                (Ok(_), Opcode::UffdRegister) => &[EINVAL, EPERM, EBUSY, ESRCH],
                (Ok(_), Opcode::Fork) => &[EAGAIN, ESRCH],
                (Ok(_), _) => &[ESRCH],
            };
            permitted += 1;
            for &errno in impossible {
                let reason = case.reason(errno);
                assert_eq!(reason, None, "{errno} {}\n{}", case.op, run.program);
            }
        }
    }
    assert!(refused > 500 && permitted > 500, "{refused} {permitted}");
}
