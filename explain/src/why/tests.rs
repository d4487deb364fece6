//! The sentences for the divergences of random programs.

use vmadiff_candidate::{Candidate, Revision};
use vmadiff_fuzzing::generate::Mix;
use vmadiff_fuzzing::mutate::ProgramMutator;
use vmadiff_fuzzing::random::Walk;
use vmadiff_lockstep::lockstep::Lockstep;
use vmadiff_machine::{Machine, Program};
use vmadiff_reference::Reference;

use super::*;

/// Returns the runs of random programs that diverge.
fn diverging(left: impl Machine, right: impl Machine, seed: u64, programs: usize) -> Vec<Run> {
    let mut lockstep = Lockstep::new(left, right);
    let mut walk = Walk::new(seed);
    let mut runs = Vec::new();
    for _ in 0..programs {
        let program = walk.step().clone();
        if lockstep.run(&program).is_some() {
            runs.push(Run::of(&mut lockstep, &program));
        }
    }
    runs
}

#[test]
fn every_divergence_of_a_revision_has_a_reason_with_values() {
    for revision in [Revision::V2, Revision::Rfc] {
        let runs = diverging(Reference::new(), Candidate::new(revision), 7, 6000);
        assert!(runs.len() > 50, "{} divergences", runs.len());
        for run in &runs {
            let why = why(run).expect("a reason");
            assert!(!why.contains("show different things after"), "{why}\n{}", run.program);
            assert!(!why.contains('?'), "an object without a letter: {why}\n{}", run.program);
            assert!(!why.contains("run beside"), "{why}");
        }
    }
}

#[test]
fn where_the_left_machine_is_not_the_reference_the_sentence_names_the_machine_it_agrees_with() {
    let (v2, fixed) = (|| Candidate::new(Revision::V2), || Candidate::new(Revision::Fixed));
    let sides: [(Vec<Run>, &str); 2] = [
        (diverging(fixed(), v2(), 7, 3000), "candidate:fixed"),
        (diverging(v2(), fixed(), 7, 3000), "candidate:fixed"),
    ];
    for (runs, right) in sides {
        assert!(runs.len() > 20, "{} divergences", runs.len());
        for run in runs {
            let why = why(&run).expect("a reason");
            let remark = format!("which was run beside and shows the same as {right})");
            assert!(why.ends_with(&remark), "{why}\n{}", run.program);
        }
    }
}

#[test]
fn every_freed_source_of_v2_is_traced_to_the_merge_or_the_overlap() {
    let mut merges = 0;
    let mut lockstep = Lockstep::new(Reference::new(), Candidate::new(Revision::V2));
    let seeds = ["a", "b"].map(|bug| {
        let file = format!("{}/../corpus/seeds/bug-{bug}.txt", env!("CARGO_MANIFEST_DIR"));
        let text = std::fs::read_to_string(file).expect("a seed");
        text.parse::<Program>().expect("a program")
    });
    let mut session = mutatis::Session::new().seed(11);
    for n in 0..4_000 {
        let mut program = seeds[n % 2].clone();
        for _ in 0..n % 8 {
            session.mutate_with(&mut ProgramMutator(Mix::ALL), &mut program).expect("a mutation");
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
