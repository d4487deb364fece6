//! Reports of divergences: drawings, reasons, and output for every kind of reader.

use std::fs;
use std::path::Path;

use vmadiff::divergence::Class;
use vmadiff::explain::why;
use vmadiff::finding::Finding;
use vmadiff::machines::MachineName;
use vmadiff::random::Walk;
use vmadiff::run::Run;
use vmadiff::text::{self, Look};
use vmadiff_candidate::Revision;
use vmadiff_machine::Program;

/// Returns the text of a run.
fn rendered(run: &Run, look: Look) -> String {
    text::finding(&Finding::of(run.clone()), look)
}

fn program(path: &str) -> Program {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(path);
    let text = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.parse().unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn run(program: &Program, right: MachineName) -> Run {
    Run::of(&mut right.judged(), program)
}

const V2: MachineName = MachineName::Candidate(Revision::V2);

#[test]
fn the_bugs_of_the_patch_are_drawn_and_explained() {
    for bug in ["bug-a", "bug-b", "bug-c", "bug-d", "bug-e", "bug-f"] {
        let run = run(&program(&format!("seeds/{bug}.txt")), V2);
        insta::assert_snapshot!(bug, rendered(&run, Look::default()));
    }
    let run = run(&program("seeds/bug-e.txt"), V2);
    let narrow = Look { width: 40, ascii: true, color: false };
    insta::assert_snapshot!("bug-e-narrow-ascii", rendered(&run, narrow));
}

/// A seeded fault of each class.
const ONE_OF_EACH_CLASS: [(Class, &str); Class::ALL.len()] = [
    (Class::Merge, "ctx-kept-in-merge"),
    (Class::Flags, "mask-no-uffd-missing"),
    (Class::Uffd, "ctx-kept"),
    (Class::Aliasing, "mm-test-dropped"),
    (Class::Layout, "fork-copies-dontcopy"),
    (Class::Offset, "pgoff-not-fitted"),
    (Class::AnonVma, "duplicate-not-cloned"),
    (Class::RmapLocks, "rmap-locks-strict"),
    (Class::Deadlock, "copy-ptl-twice"),
    (Class::Contents, "fork-parent-keeps-write"),
    (Class::Leak, "exit-mapcount-kept"),
    (Class::Accounting, "case-7-map-count"),
    (Class::Errno, "duplicate-mm-not-set"),
    (Class::Assertion, "swallowed-end-inclusive"),
];

#[test]
#[ignore = "the libraries are needed: ci/faults build --all"]
fn a_fault_of_each_class_is_drawn_and_explained() {
    for (class, fault) in ONE_OF_EACH_CLASS {
        let name = format!("candidate:fixed+{fault}");
        let right = MachineName::in_process(&name, Path::new("")).unwrap_or_else(|e| panic!("{e}"));
        let run = run(&program(&format!("faults/{fault}.txt")), right);
        assert_eq!(run.divergence.as_ref().map(|d| d.class), Some(class), "{fault}");
        let text = rendered(&run, Look::default());
        insta::assert_snapshot!(format!("class-{}", class.name()), text);
    }
}

#[test]
fn a_source_that_a_merge_has_freed_is_named_with_what_it_merged_with() {
    let run = run(&program("seeds/bug-a.txt"), V2);
    let why = why(&run).expect("a divergence");
    assert!(
        why.starts_with(
            "[1,2), the new range [2,4) and the source VMA [4,7) became one VMA, [1,7), and the \
             source was freed by that merge; copy_vma() reads its vm_mm after that"
        ),
        "{why}"
    );
}

#[test]
fn without_a_divergence_there_is_no_reason() {
    let run = run(&program("seeds/bug-a.txt"), MachineName::Candidate(Revision::Fixed));
    assert_eq!(why(&run), None);
    assert!(rendered(&run, Look::default()).contains("no divergence between"));
}

/// Returns the text without escape sequences, and whether it had any.
fn plain(text: &str) -> (String, bool) {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\x1b') {
        plain.push_str(&rest[..at]);
        rest = rest[at..].split_once('m').map_or("", |(_, rest)| rest);
    }
    plain.push_str(rest);
    (plain, text.contains('\x1b'))
}

#[test]
fn no_line_is_wider_than_the_terminal_ascii_is_ascii_and_colours_change_no_character() {
    let mut runs = Vec::new();
    // Like programs that fuzzing finds, these have many processes and many VMAs.
    for revision in [Revision::Rfc, Revision::V2] {
        let right = MachineName::Candidate(revision);
        let mut lockstep = right.judged();
        let mut walk = Walk::new(revision as u64);
        for _ in 0..300 {
            let program = walk.step();
            if lockstep.run(program).is_some() {
                runs.push(Run::of(&mut lockstep, program));
            }
        }
    }
    assert!(runs.len() > 100, "too few divergences: {}", runs.len());
    for run in &runs {
        for width in [40, 60, 100, 200] {
            for ascii in [false, true] {
                let text = rendered(run, Look { width, ascii, color: false });
                for line in text.lines() {
                    assert!(line.chars().count() <= width, "{width}: {line}\n{text}");
                    assert!(!ascii || line.is_ascii(), "{line}");
                }
                assert!(!text.contains('\x1b'));
                let coloured = rendered(run, Look { width, ascii, color: true });
                assert_eq!(plain(&coloured), (text, true));
            }
        }
    }
}
