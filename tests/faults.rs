//! The seeded faults: each has a patch and a program, and the program shows nothing without the
//! fault. `ci/faults check` builds the patches and runs the programs.

use std::fs;
use std::path::Path;

use vmadiff::divergence::Class;
use vmadiff::lockstep::Lockstep;
use vmadiff::random::Walk;
use vmadiff_candidate::{Candidate, Revision};
use vmadiff_faults::{Fault, Faults, Tier};
use vmadiff_machine::Program;
use vmadiff_reference::{MENDED, Reference};

fn faults() -> (Faults, Vec<Fault>) {
    let faults = Faults::of(env!("CARGO_MANIFEST_DIR").into());
    let all = faults.all().unwrap_or_else(|e| panic!("{e}"));
    (faults, all)
}

#[test]
fn every_patch_has_a_program_and_every_program_a_patch() {
    let (_, all) = faults();
    let patches: Vec<String> = all.into_iter().map(|fault| fault.name).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/faults");
    let mut programs: Vec<String> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("a file").path())
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    programs.sort();
    assert_eq!(patches, programs);
}

#[test]
fn every_class_has_a_fault_and_every_fault_a_class() {
    let (_, all) = faults();
    let of_tier = |tier| all.iter().filter(|fault| fault.tier == tier).count();
    assert!(of_tier(Tier::Plain) >= 166);
    assert!(of_tier(Tier::TwoSituations) >= 40);
    for fault in &all {
        assert!(Class::ALL.iter().any(|class| class.name() == fault.class), "{}", fault.name);
    }
}

#[test]
fn a_program_has_the_mistake_in_its_title_and_shows_nothing_at_fixed() {
    let (faults, all) = faults();
    let mut lockstep =
        Lockstep::new(Reference::with_rules(MENDED), Candidate::new(Revision::Fixed));
    for fault in &all {
        let path = faults.program(&fault.name);
        let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let title = text.lines().next().unwrap_or_default();
        let says = title.strip_prefix(&format!("# {}/", fault.class));
        assert!(says.is_some_and(|says| says.ends_with(&format!(": {}", fault.wrong))), "{title}");
        let program: Program = text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let found = lockstep.run(&program);
        assert!(found.is_none(), "{}: {}", fault.name, found.expect("one").signature);
    }
}

#[test]
fn random_programs_agree_at_fixed() {
    let mut lockstep =
        Lockstep::new(Reference::with_rules(MENDED), Candidate::new(Revision::Fixed));
    let mut walk = Walk::new(60);
    for _ in 0..20_000 {
        let program = walk.step();
        let found = lockstep.run(program);
        assert!(found.is_none(), "{}\n{program}", found.expect("a divergence").signature);
    }
}
