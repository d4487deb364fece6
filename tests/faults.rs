//! The candidate without a fault: nothing is found where there is nothing to find.

use std::fs;
use std::path::Path;

use vmadiff::lockstep::Lockstep;
use vmadiff::random::Walk;
use vmadiff_candidate::{Candidate, Revision};
use vmadiff_machine::Program;
use vmadiff_reference::Reference;

#[test]
fn no_program_of_a_fault_shows_anything_at_fixed() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/faults");
    let mut lockstep = Lockstep::new(Reference::new(), Candidate::new(Revision::Fixed));
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("a file").path();
        let text = fs::read_to_string(&path).expect("a program");
        let program: Program = text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let found = lockstep.run(&program);
        assert!(found.is_none(), "{}: {}", path.display(), found.expect("one").signature);
    }
}

#[test]
fn random_programs_agree_at_fixed() {
    let mut lockstep = Lockstep::new(Reference::new(), Candidate::new(Revision::Fixed));
    let mut walk = Walk::new(60);
    for _ in 0..20_000 {
        let program = walk.step();
        let found = lockstep.run(program);
        assert!(found.is_none(), "{}\n{program}", found.expect("a divergence").signature);
    }
}
