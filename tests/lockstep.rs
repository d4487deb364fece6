//! Random programs in lockstep: no false alarms, and few signatures for one bug.

use std::collections::BTreeMap;

use vmadiff::known::Known;
use vmadiff::lockstep::Lockstep;
use vmadiff::machines::MachineName;
use vmadiff::minimize::minimize;
use vmadiff::random::Walk;
use vmadiff_machine::{Machine, Program};

fn lockstep(right: &str) -> Lockstep<Box<dyn Machine>, Box<dyn Machine>> {
    right.parse::<MachineName>().expect("a machine").judged()
}

/// Runs `programs` programs of a walk and returns the signatures that they show, each with one
/// program.
fn signatures(right: &str, seed: u64, programs: usize) -> BTreeMap<String, Program> {
    let mut lockstep = lockstep(right).checked();
    let mut walk = Walk::new(seed);
    let mut found = BTreeMap::new();
    for _ in 0..programs {
        let program = walk.step();
        if let Some(divergence) = lockstep.run(program) {
            found.entry(divergence.signature.to_string()).or_insert_with(|| program.clone());
        }
    }
    found
}

#[test]
fn original_and_fixed_never_diverge_from_the_reference() {
    for right in ["candidate:original", "candidate:fixed"] {
        for seed in 0..4 {
            let mut found = signatures(right, seed, 20_000);
            let known = right.parse::<MachineName>().expect("a machine").known();
            found.retain(|signature, _| known.why(signature).is_none());
            assert!(found.is_empty(), "{right}, seed {seed}: {found:#?}");
        }
    }
}

/// Returns the known divergences of `v2`: each signature with the letter of its bug.
fn known() -> Vec<(String, char)> {
    let list = include_str!("../corpus/known-v2.txt");
    Known::parse(list).expect("a list");
    list.lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (signature, why) = line.split_once(' ').expect("a signature and why");
            (signature.to_owned(), why.trim().chars().next().expect("a letter"))
        })
        .collect()
}

#[test]
fn what_random_programs_find_at_v2_is_known_and_each_bug_has_few_signatures() {
    let known = known();
    for bug in 'A'..='F' {
        let names = known.iter().filter(|(_, letter)| *letter == bug).count();
        assert!((1..=4).contains(&names), "{bug} has {names} signatures");
    }
    for right in ["candidate:v2", "candidate:rfc"] {
        let found = signatures(right, 1, 100_000);
        // The first version of the patch does not know FIXED_NOREPLACE, and refuses I/O memory with
        // another errno.
        let rfc = |s: &str| right == "candidate:rfc" && s.starts_with("errno/copy/EINVAL-for-");
        let strange = |s: &&String| !rfc(s) && known.iter().all(|(name, _)| name != *s);
        let strange: Vec<_> = found.keys().filter(strange).collect();
        assert!(strange.is_empty(), "{right}: {strange:?}");
        // Bug E needs a family of five processes. Fuzzing with feedback finds it, random programs
        // do not.
        for bug in ['A', 'B', 'C', 'D', 'F'] {
            let met = known.iter().any(|(name, letter)| *letter == bug && found.contains_key(name));
            assert!(met, "{right}: {bug} was not found");
        }
    }
}

#[test]
fn what_is_found_minimizes_to_a_few_operations_of_the_same_signature() {
    let mut lockstep = lockstep("candidate:v2");
    for (signature, program) in signatures("candidate:v2", 2, 50_000) {
        let (small, divergence) = minimize(&program, |p| lockstep.run(p)).expect("it diverges");
        assert_eq!(divergence.signature.as_str(), signature);
        assert!(small.ops.len() <= 5, "{signature} keeps {} operations:\n{small}", small.ops.len());
        let again = minimize(&small, |p| lockstep.run(p)).expect("it diverges");
        assert_eq!(again.0, small, "{signature}: minimizing twice gives another program");
    }
}
