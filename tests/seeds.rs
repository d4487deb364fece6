//! The seeds: the text that people write has the same programs as the corpus files, and each seed
//! shows the behaviour that it claims.

use std::fs;
use std::path::{Path, PathBuf};

use vmadiff::divergence::Divergence;
use vmadiff::machines::MachineName;
use vmadiff_machine::observation::Observation;
use vmadiff_machine::{Errno, Machine, Op, Opcode, Program, corpus};

fn corpus_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// Returns name, text and program of every seed that people wrote.
fn seeds() -> Vec<(String, String, Program)> {
    let seeds = programs("seeds");
    assert!(seeds.len() >= 100);
    seeds
}

/// Returns name, text and program of every seed that was made from a real program.
fn real() -> Vec<(String, String, Program)> {
    let real = programs("real");
    assert!(real.len() >= 50);
    real
}

fn programs(folder: &str) -> Vec<(String, String, Program)> {
    let mut seeds: Vec<_> = fs::read_dir(corpus_folder().join(folder))
        .expect("there are seeds")
        .map(|entry| {
            let path = entry.expect("a seed").path();
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).expect("text");
            let program = text.parse().unwrap_or_else(|e| panic!("{name}: {e}"));
            (name, text, program)
        })
        .collect();
    seeds.sort_by(|a, b| a.0.cmp(&b.0));
    seeds
}

fn copies(program: &Program) -> bool {
    program.ops.iter().any(|op| matches!(op, Op::Copy { .. } | Op::CopyVma { .. }))
}

fn build(name: &str) -> Box<dyn Machine> {
    name.parse::<MachineName>().expect("a machine").build()
}

fn diverges(program: &Program, right: &str) -> Option<Divergence> {
    right.parse::<MachineName>().expect("a machine").judged().run(program)
}

/// Returns the observation of the reference after the last operation.
fn last(program: &Program) -> Observation {
    let mut machine = build("reference");
    let mut seen = Observation::default();
    machine.reset(&program.limits);
    for op in &program.ops {
        machine.step(op, &mut seen);
    }
    seen
}

#[test]
fn every_seed_is_encoded_for_the_targets_it_is_for() {
    let mut expected: Vec<PathBuf> = Vec::new();
    let real = real().into_iter().map(|(name, text, p)| (format!("real-{name}"), text, p));
    for (name, _, program) in seeds().into_iter().chain(real) {
        let mut targets = vec!["cross_mm"];
        if !copies(&program) {
            targets.push("same_mm");
        }
        for target in targets {
            let path = corpus_folder().join(target).join(format!("{name}.vmad"));
            let bytes = fs::read(&path)
                .unwrap_or_else(|e| panic!("{}: {e}: run ci/encode-seeds", path.display()));
            assert_eq!(corpus::decode(&bytes), Ok(program.clone()), "{name}: run ci/encode-seeds");
            assert_eq!(corpus::encode(&program), bytes, "{name}: run ci/encode-seeds");
            expected.push(path);
        }
    }
    for target in ["cross_mm", "same_mm"] {
        for entry in fs::read_dir(corpus_folder().join(target)).expect("a folder") {
            let path = entry.expect("a file").path();
            assert!(
                expected.contains(&path),
                "{} has no text: run ci/encode-seeds",
                path.display()
            );
        }
    }
}

#[test]
fn a_seed_of_an_error_ends_with_it() {
    let mut met = Vec::new();
    for (name, _, program) in seeds() {
        let Some(claim) = name.strip_prefix("errno-") else { continue };
        let mut parts = claim.splitn(3, '-');
        let (call, errno) = (parts.next().expect("a call"), parts.next().expect("an errno"));
        let op = program.ops.last().expect("an operation");
        assert_eq!(op.opcode().name(), call, "{name}");
        let result = last(&program).result;
        assert_eq!(result.map_err(Errno::name), Err(errno), "{name}");
        met.push((op.opcode(), errno.to_owned()));
    }
    for &opcode in Opcode::ALL {
        assert!(
            met.iter().any(|(call, _)| *call == opcode),
            "no seed of an error of {}",
            opcode.name()
        );
    }
}

#[test]
fn a_seed_of_a_merge_leaves_as_many_vmas_as_it_says() {
    let mut count = 0;
    for (name, text, program) in seeds() {
        if !name.starts_with("merge-") {
            continue;
        }
        let (_, rest) =
            text.split_once("erges to ").unwrap_or_else(|| panic!("{name} says how many"));
        let vmas: usize = rest[..1].parse().expect("a number of VMAs");
        let process = usize::from(rest.lines().next().expect("a line").contains("child"));
        assert_eq!(last(&program).spaces[process].vmas().len(), vmas, "{name}");
        count += 1;
    }
    assert!(count >= 8);
}

#[test]
fn bugs_show_at_v2_with_their_signature() {
    let expected = [
        ("bug-a", "aliasing/use-after-free/copy_vma/vm_mm"),
        ("bug-b", "aliasing/use-after-free/process_vm_mmap/vm_flags"),
        ("bug-c", "flags/copy/VM_LOCKED-kept"),
        ("bug-d", "rmap-locks/copy/not-taken"),
        ("bug-e", "anon-vma/unreachable-page"),
        ("bug-f", "deadlock/copy_pte_range/ptl"),
        ("fail-copy-charge", "accounting/invariant/committed"),
        ("fail-copy-total_vm", "accounting/invariant/total_vm"),
        ("mask-locked-copy", "flags/copy/VM_LOCKED-kept"),
        ("mask-lockonfault-copy", "flags/copy/VM_LOCKED-kept"),
        ("mask-dontcopy-copy", "flags/copy/VM_DONTCOPY-kept"),
        ("mask-wipeonfork-copy", "flags/copy/VM_WIPEONFORK-kept"),
        ("mask-mergeable-copy", "flags/copy/VM_MERGEABLE-kept"),
    ];
    let all = seeds();
    for (name, signature) in expected {
        let (_, _, program) = all.iter().find(|(n, _, _)| n == name).expect(name);
        let found =
            diverges(program, "candidate:v2").unwrap_or_else(|| panic!("{name} shows nothing"));
        assert_eq!(found.signature.as_str(), signature, "{name}");
        assert_eq!(found.step, program.ops.len() - 1, "{name}");
    }
}

#[test]
fn no_seed_shows_anything_that_is_not_known_at_original_or_fixed() {
    for (name, _, program) in seeds().into_iter().chain(real()) {
        for right in ["candidate:original", "candidate:fixed"] {
            let known = right.parse::<MachineName>().expect("a machine").known();
            let found = diverges(&program, right)
                .filter(|found| known.why(found.signature.as_str()).is_none());
            assert!(
                found.is_none(),
                "{name} at {right}: {}",
                found.expect("a divergence").signature
            );
        }
    }
}

#[test]
fn what_a_real_program_did_succeeds_here_too() {
    for (name, text, program) in real() {
        assert!(text.starts_with("# strace -f of ") && text.contains(", lines "), "{name}");
        let mut machine = build("reference");
        let mut seen = Observation::default();
        machine.reset(&program.limits);
        for op in &program.ops {
            machine.step(op, &mut seen);
            assert!(seen.result.is_ok(), "{name}: {op}: {:?}", seen.result);
        }
    }
}

#[test]
fn real_programs_are_few_and_small() {
    let bytes: usize = real().iter().map(|(_, text, _)| text.len()).sum();
    assert!(bytes < 150 << 10, "{bytes} bytes");
}
