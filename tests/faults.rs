//! Seeded faults: each is shown by its program in corpus/faults, and by nothing at plain `fixed`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use vmadiff::divergence::{Class, Divergence};
use vmadiff::finding::Finding;
use vmadiff::lockstep::Lockstep;
use vmadiff::machines::MachineName;
use vmadiff::random::Walk;
use vmadiff::run::Run;
use vmadiff::text::{self as render, Look};
use vmadiff_candidate::{Candidate, Fault, Revision};
use vmadiff_machine::{Machine, Observation, Program};
use vmadiff_reference::Reference;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/faults")
}

/// The text of a fault's program, and the program.
fn program(fault: Fault) -> (String, Program) {
    let path = folder().join(format!("{fault}.txt"));
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let program = text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    (text, program)
}

fn diverges(program: &Program, right: Candidate) -> Option<Divergence> {
    Lockstep::new(Reference::new(), right).run(program)
}

#[test]
fn there_are_sixty_faults_with_names_of_their_own() {
    let names: BTreeSet<&str> = Fault::ALL.iter().map(|fault| fault.name()).collect();
    assert!(names.len() >= 60);
    assert_eq!(names.len(), Fault::ALL.len());
    for fault in Fault::ALL {
        let name = fault.name();
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{name}");
        assert!(Class::ALL.iter().any(|class| class.name() == fault.class()), "{name}");
        assert!(!fault.what().is_empty() && !fault.place().is_empty(), "{name}");
        assert_eq!(name.parse(), Ok(*fault));
    }
}

#[test]
fn every_fault_is_shown_by_its_program_and_classed_as_listed() {
    for &fault in Fault::ALL {
        let (text, program) = program(fault);
        let found = diverges(&program, Candidate::with_fault(Revision::Fixed, fault))
            .unwrap_or_else(|| panic!("{fault} shows nothing"));
        assert_eq!(found.class.name(), fault.class(), "{fault}: {}", found.signature);
        assert_eq!(found.step, program.ops.len() - 1, "{fault}: operations follow");
        let title = format!("# {}: {}", found.signature, fault.what());
        assert_eq!(text.lines().next(), Some(title.as_str()), "{fault}");
    }
}

#[test]
fn no_program_of_a_fault_shows_anything_at_fixed() {
    for &fault in Fault::ALL {
        let found = diverges(&program(fault).1, Candidate::new(Revision::Fixed));
        assert!(found.is_none(), "{fault}: {}", found.expect("a divergence").signature);
    }
}

#[test]
fn every_program_is_of_a_fault() {
    for entry in fs::read_dir(folder()).expect("a folder") {
        let path = entry.expect("a file").path();
        let stem = path.file_stem().expect("a name").to_string_lossy();
        assert!(stem.parse::<Fault>().is_ok(), "{}: no fault is called so", path.display());
    }
}

#[test]
fn random_programs_agree_at_fixed_without_a_fault() {
    let mut lockstep = Lockstep::new(Reference::new(), Candidate::new(Revision::Fixed));
    let mut walk = Walk::new(60);
    for _ in 0..20_000 {
        let program = walk.step();
        let found = lockstep.run(program);
        assert!(found.is_none(), "{}\n{program}", found.expect("a divergence").signature);
    }
}

#[test]
fn no_faulty_machine_panics_or_hangs_whatever_follows_the_fault() {
    for &fault in Fault::ALL {
        // Alone: nothing ends a program where the machines diverge.
        let mut machine = Candidate::with_fault(Revision::Fixed, fault);
        let mut seen = Observation::default();
        let mut walk = Walk::new(fault as u64);
        for _ in 0..1_000 {
            let program = walk.step();
            machine.reset(&program.limits);
            seen.reset();
            for op in &program.ops {
                machine.step(op, &mut seen);
            }
        }
    }
}

#[test]
fn every_divergence_of_a_fault_can_be_reported() {
    for &fault in Fault::ALL {
        let right = MachineName::Faulty(fault);
        let mut lockstep = Lockstep::new(MachineName::Reference.build(), right.build());
        let mut walk = Walk::new(fault as u64);
        for _ in 0..200 {
            let program = walk.step();
            if lockstep.run(program).is_some() {
                let text =
                    render::finding(&Finding::of(Run::of(&mut lockstep, program)), Look::default());
                assert!(text.contains(&right.to_string()), "{text}");
            }
        }
    }
}
