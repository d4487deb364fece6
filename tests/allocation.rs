//! Allocations of the models. The models run millions of programs, so a program that is run again
//! must not allocate memory.

use allocation_counter::measure;
use vmadiff::lockstep::Lockstep;
use vmadiff::random::Walk;
use vmadiff_candidate::{Candidate, Revision};
use vmadiff_machine::{Program, corpus};
use vmadiff_reference::{MENDED, Reference};

#[test]
fn a_program_that_was_run_before_is_run_again_without_allocating() {
    let mut walk = Walk::new(7);
    // Where an allocation fails, the machines are saved. Such programs are rare.
    let programs = (0..2_000).map(|_| walk.step().clone());
    let programs: Vec<Program> = programs.filter(|program| program.limits.fail.is_none()).collect();
    let mut lockstep =
        Lockstep::new(Reference::with_rules(MENDED), Candidate::new(Revision::Fixed));
    let mut run = || programs.iter().filter(|program| lockstep.run(program).is_some()).count();
    // Objects are reused in another order in the second run, and a list may have to grow once more.
    let mut found = (0..5).map(|_| run()).sum::<usize>();
    let allocated = measure(|| found += run());
    assert_eq!((found, allocated.count_total), (0, 0));
}

#[test]
fn decoding_allocates_the_operations_and_nothing_else() {
    let program: Program = include_str!("../corpus/bench/64.txt").parse().expect("a program");
    let bytes = corpus::encode(&program);
    let mut decoded = Ok(Program::default());
    let allocated = measure(|| decoded = corpus::decode(&bytes));
    assert_eq!(decoded, Ok(program));
    assert!(allocated.count_total <= 1, "{allocated:?}");
}
