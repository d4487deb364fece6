//! The path of a finding from the oracle to its group: no finding is lost, and its signature stays
//! the same.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use vmadiff_candidate::{Candidate, Revision};
use vmadiff_fuzzing::engine::Work;
use vmadiff_fuzzing::feedback::{self, Counters};
use vmadiff_fuzzing::minimize::minimize;
use vmadiff_fuzzing::oracle::{Oracle, Stop, without_copies};
use vmadiff_fuzzing::settings::Settings;
use vmadiff_fuzzing::triage::{Progress, triage};
use vmadiff_lockstep::known::Known;
use vmadiff_lockstep::lockstep::Lockstep;
use vmadiff_machine::{Machine, Program, corpus};
use vmadiff_reference::Reference;

/// Programs for `v2`, each under the signature that it shows. Each program has a second bug as
/// well, or operations that are not part of the bug.
const PROGRAMS: &[(&str, &str)] = &[
    (
        "flags/copy/VM_LOCKED-kept",
        "fork 0\nmmap 0 1 2 rw anon_private\nmlock 0 1 2\nmadvise 0 1 2 DONTFORK\n\
         copy 1 1 2 0 10 FIXED\n",
    ),
    (
        "flags/copy/VM_DONTCOPY-kept",
        "mmap 0 1 2 rw anon_private\nmadvise 0 1 2 WIPEONFORK\nmadvise 0 1 2 DONTFORK\n\
         copy 0 1 2 0 10 FIXED\n",
    ),
    (
        "flags/copy/VM_MERGEABLE-kept",
        "mmap 0 20 3 r file0_shared\nmmap 0 1 2 rw anon_private\nmadvise 0 1 2 MERGEABLE\n\
         copy 0 1 2 0 10 FIXED\nmunmap 0 1 1\n",
    ),
    (
        "aliasing/use-after-free/copy_vma/vm_mm",
        "mmap 0 9 6 rw anon_private LOCKED\nmmap 0 1 6 rw anon_private\n\
         mremap 0 4 2 2 MAYMOVE|FIXED 2\ncopy 0 9 2 0 20 FIXED\n",
    ),
];

fn at_v2() -> Lockstep<Reference, Candidate> {
    Lockstep::new(Reference::new(), Candidate::new(Revision::V2))
}

fn program(text: &str) -> Program {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn a_program_is_never_minimized_to_another_bug() {
    let mut lockstep = at_v2();
    for (signature, text) in PROGRAMS {
        let (small, found) =
            minimize(&program(text), |p| lockstep.run(p)).expect("the program diverges");
        assert_eq!(found.signature.as_str(), *signature);
        let again = lockstep.run(&small).expect("the small program diverges");
        assert_eq!(again.signature.as_str(), *signature, "{small}");
        assert_eq!(again.step + 1, small.ops.len(), "nothing follows the divergence");
        assert_eq!(again.step, found.step);
        assert!(small.ops.len() < program(text).ops.len(), "{small}");
    }
}

#[test]
fn triage_has_every_signature_once_and_every_file() {
    let mut files = Vec::new();
    for copies in 1..=7 {
        for (n, (_, text)) in PROGRAMS.iter().enumerate() {
            // Each further copy of a program is longer.
            let longer = format!("{}{text}", "mmap 0 40 1 r file0_private\n".repeat(copies));
            files.push((PathBuf::from(format!("{n}-{copies}")), program(&longer)));
        }
    }
    files.push(("agrees".into(), program("mmap 0 1 1 rw anon_private\n")));
    let mut last = Progress { done: 0, all: 0 };
    let groups = triage(&mut at_v2(), files, |progress| {
        assert!(last.done <= progress.done && progress.done <= progress.all, "{progress:?}");
        last = progress;
        true
    });
    let found: BTreeMap<String, usize> =
        groups.iter().map(|group| (group.signature.to_string(), group.files.len())).collect();
    let expected: BTreeMap<String, usize> =
        PROGRAMS.iter().map(|(signature, _)| ((*signature).to_owned(), 7)).collect();
    assert_eq!(found, expected);
    assert_eq!(groups.len(), PROGRAMS.len());
    let all = 7 * PROGRAMS.len() + 1 + PROGRAMS.len();
    assert_eq!(last, Progress { done: all - 1, all }, "the last group is minimized last");
    for group in groups {
        let again = at_v2().run(&group.program).expect("the program of a group diverges");
        assert_eq!((again.class, &again.signature), (group.class, &group.signature));
        assert!(group.program.ops.len() <= 3, "{}", group.program);
    }
}

/// Returns the oracle of a run at `v2`.
fn oracle(known: &str, findings: Option<PathBuf>) -> Oracle {
    static COUNTERS: Counters = feedback::counters();
    let known = Known::parse(known).expect("a list");
    let settings = Settings { revision: Revision::V2, candidate: None, known, findings };
    Oracle::new(settings, &COUNTERS, |_, program| format!("report of\n{program}"))
}

#[test]
fn the_oracle_stops_at_every_divergence_that_is_not_listed() {
    for (signature, text) in PROGRAMS {
        let program = program(text);
        let stop = oracle("", None).check(&program).expect_err("a divergence");
        let Stop::Divergence { signature: found, report } = stop else { panic!("{stop}") };
        assert_eq!(found.as_str(), *signature);
        assert_eq!(report, format!("report of\n{program}"));
        for (listed, _) in PROGRAMS {
            let list = format!("{listed} it is known\n");
            let goes_on = oracle(&list, None).check(&program).is_ok();
            assert_eq!(goes_on, listed == signature, "{signature} with {listed} known");
        }
    }
    let agrees = program("mmap 0 1 2 rw anon_private\ncopy 0 1 2 0 10 FIXED\n");
    assert!(oracle("", None).check(&agrees).is_ok());
}

#[test]
fn triage_that_is_stopped_keeps_the_groups_so_far() {
    let files = || PROGRAMS.iter().map(|(name, text)| (PathBuf::from(*name), program(text)));
    for most in 0..=PROGRAMS.len() {
        let groups = triage(&mut at_v2(), files(), |progress| progress.done < most);
        assert_eq!(groups.len(), most);
        for group in groups {
            let again = at_v2().run(&group.program).expect("it diverges");
            assert_eq!(again.signature, group.signature);
        }
    }
}

#[test]
fn merging_goes_on_after_every_divergence_and_shrinking_after_every_other() {
    let folder = tempfile::tempdir().expect("a folder");
    for (signature, text) in PROGRAMS {
        let mut merging = oracle("", None).work(&Work::Merge).expect("it works");
        assert!(merging.check(&program(text)).is_ok(), "{signature}");
        let input = folder.path().join("crash");
        fs::write(&input, corpus::encode(&program(text))).expect("a file");
        // A folder of findings or a list would let the crash itself go by.
        let known = format!("{signature} it is known\n");
        let shrinking = oracle(&known, Some(folder.path().to_owned()));
        let mut shrinking = shrinking.work(&Work::Shrink(input)).expect("it works");
        for (other, text) in PROGRAMS {
            assert_eq!(shrinking.check(&program(text)).is_err(), other == signature, "{other}");
        }
    }
    let none = oracle("", None).work(&Work::Shrink(folder.path().join("none")));
    assert!(none.err().is_some_and(|error| error.contains("none: No such file")));
}

#[test]
fn fork_mode_is_refused_with_the_remedy_where_it_would_stop_at_once() {
    let error = oracle("", None).work(&Work::Fork).err().expect("v2 diverges");
    for remedy in ["VMADIFF_FINDINGS=FOLDER", "VMADIFF_KNOWN=corpus/known-v2.txt"] {
        assert!(error.contains(remedy), "{error}");
    }
    assert!(oracle("", Some("folder".into())).work(&Work::Fork).is_ok());
    assert!(oracle("merge/map/merged why\n", None).work(&Work::Fork).is_ok());
}

#[test]
fn a_run_with_a_folder_keeps_the_first_program_of_each_signature() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut oracle = oracle("", Some(folder.path().to_owned()));
    for (_, text) in PROGRAMS {
        let longer = format!("{text}munmap 0 1 1\n");
        for text in [text.to_string(), longer] {
            assert!(oracle.check(&program(&text)).is_ok());
        }
    }
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(folder.path()).expect("a folder") {
        let bytes = fs::read(entry.expect("a file").path()).expect("a finding");
        let kept = corpus::decode(&bytes).expect("a program");
        let divergence = at_v2().run(&kept).expect("a finding diverges");
        found.insert(divergence.signature.to_string(), kept);
    }
    let expected: BTreeMap<String, Program> =
        PROGRAMS.iter().map(|(name, text)| ((*name).to_owned(), program(text))).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_program_without_copies_has_everything_else() {
    let text = "mmap 0 1 2 rw anon_private\nfork 0\ncopy 1 1 2 0 10 FIXED\n\
                mremap 0 1 2 2 MAYMOVE|FIXED 5\ncopy_vma 0 5 1 0 20\nmunmap 0 1 1\n";
    let without = "mmap 0 1 2 rw anon_private\nfork 0\nmremap 0 1 2 2 MAYMOVE|FIXED 5\n\
                   munmap 0 1 1\n";
    assert_eq!(without_copies(program(text)), program(without));
}

#[test]
fn the_oracle_takes_any_two_machines_and_the_left_one_is_right() {
    static COUNTERS: Counters = feedback::counters();
    let machine = |revision| Box::new(Candidate::new(revision)) as Box<dyn Machine>;
    let settings = |known: &str| Settings {
        revision: Revision::V2,
        candidate: None,
        known: Known::parse(known).expect("a list"),
        findings: None,
    };
    let oracle = |known, right| {
        let machines = Lockstep::new(machine(Revision::Original), machine(right));
        Oracle::of(machines, settings(known), &COUNTERS, |_, _| "the report".into())
    };
    let bug_a = program("mmap 0 1 6 rw anon_private\nmremap 0 4 2 2 MAYMOVE|FIXED 2\n");
    let stop = oracle("", Revision::V2).check(&bug_a).expect_err("v2 has bug A");
    let Stop::Divergence { signature, report } = stop else { panic!("{stop}") };
    assert_eq!(signature.as_str(), "aliasing/use-after-free/copy_vma/vm_mm");
    assert_eq!(report, "the report");
    let known = "aliasing/use-after-free/copy_vma/vm_mm known";
    assert!(oracle(known, Revision::V2).check(&bug_a).is_ok());
    assert!(oracle("", Revision::Original).check(&bug_a).is_ok());
    // The revision of the settings says nothing about these machines.
    assert!(oracle("", Revision::Original).work(&Work::Fork).is_ok());
}
