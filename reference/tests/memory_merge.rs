//! `PR_SET_MEMORY_MERGE` of later kernels, and the mappings that it marks.

mod common;
use common::{marked, returns};
use vmadiff_machine::{Errno, Machine as _, Observation, Program, State, VmFlags};
use vmadiff_reference::Reference;
use vmadiff_reference::later::{Rule, Rules};

const AFTER: Rules = Rules::NONE.with(Rule::MemoryMerge);
const BEFORE: Rules = AFTER.with(Rule::MemoryMergeFirst);

/// Runs a program, and returns the result of the last operation and the VMAs of each process: start, end, and
/// `m` for a VMA that is marked for KSM.
fn run(text: &str, rules: Rules) -> (Result<u8, Errno>, Vec<String>) {
    let program: Program = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    let (mut reference, mut seen) = (Reference::with_rules(rules), Observation::default());
    reference.reset(&program.limits);
    program.ops.iter().for_each(|op| reference.step(op, &mut seen));
    let maps = seen.spaces.iter().filter(|space| space.alive);
    (seen.result, maps.map(|space| marked(space, VmFlags::VM_MERGEABLE, "m")).collect())
}

/// Checks the VMAs of process 0 on kernels that mark a new mapping after the merge, and on those that mark it
/// before.
fn leaves(text: &str, after: &str, before: &str) {
    for (rules, maps) in [(AFTER, after), (BEFORE, before)] {
        let (result, found) = run(text, rules);
        assert!(result.is_ok(), "{text}: {result:?}");
        assert_eq!(found[0], maps, "{rules}:\n{text}");
    }
}

#[test]
fn linux_5_2_1_does_not_have_the_call() {
    for merge in [0, 1] {
        returns(&[
            (&format!("memory_merge 0 {merge}"), Err(Errno::EINVAL)),
            (&format!("memory_merge 1 {merge}"), Err(Errno::ESRCH)),
        ]);
    }
}

#[test]
fn the_call_marks_what_ksm_takes_and_merges_nothing() {
    for (kind, mark) in [
        ("anon_private", "m"),
        ("file0_private", "m"),
        ("anon_shared", ""),
        ("file0_shared", ""),
        ("readonly_shared", ""),
        ("special", ""),
    ] {
        let map = format!("mmap 0 1 2 r {kind}\n");
        let maps = format!("1-3{mark}");
        leaves(&format!("{map}memory_merge 0 1"), &maps, &maps);
        leaves(&format!("memory_merge 0 1\n{map}"), &maps, &maps);
    }
    let two = "mmap 0 1 2 rw anon_private\nmadvise 0 1 1 MERGEABLE\nmemory_merge 0 1";
    leaves(two, "1-2m 2-3m", "1-2m 2-3m");
    // A later change merges them.
    leaves(&format!("{two}\nmprotect 0 1 2 r"), "1-3m", "1-3m");
    leaves("shmat 0 1\nmemory_merge 0 1\nshmat 0 9", "1-5 9-13", "1-5 9-13");
}

#[test]
fn the_end_of_the_marking_removes_every_mark() {
    let two = "mmap 0 1 2 rw anon_private\nmadvise 0 1 1 MERGEABLE\n";
    let ended = format!("{two}memory_merge 0 1\nmemory_merge 0 0");
    leaves(&ended, "1-2 2-3", "1-2 2-3");
    leaves(&format!("{ended}\nmmap 0 5 1 rw anon_private"), "1-2 2-3 5-6", "1-2 2-3 5-6");
    // Without a marking there is nothing to end.
    leaves(&format!("{two}memory_merge 0 0"), "1-2m 2-3", "1-2m 2-3");
}

#[test]
fn advice_still_changes_the_marks_and_a_repeated_call_does_not() {
    let text = "mmap 0 1 2 rw anon_private\nmemory_merge 0 1\nmadvise 0 1 1 UNMERGEABLE\n";
    leaves(text, "1-2 2-3m", "1-2 2-3m");
    leaves(&format!("{text}memory_merge 0 1"), "1-2 2-3m", "1-2 2-3m");
    leaves(&format!("{text}memory_merge 0 0\nmemory_merge 0 1"), "1-2m 2-3m", "1-2m 2-3m");
}

#[test]
fn a_new_mapping_merges_with_the_neighbours_that_have_its_flags_when_it_is_marked() {
    let marked = "memory_merge 0 1\nmmap 0 1 1 rw anon_private\n";
    leaves(&format!("{marked}mmap 0 2 1 rw anon_private"), "1-2m 2-3m", "1-3m");
    leaves(&format!("{marked}mmap 0 0 1 rw anon_private"), "0-1m 1-2m", "0-2m");
    // A neighbour without the mark takes the new mapping in as long as that has none.
    let unmarked = format!("{marked}madvise 0 1 1 UNMERGEABLE\n");
    leaves(&format!("{unmarked}mmap 0 2 1 rw anon_private"), "1-3", "1-2 2-3m");
    // Shared memory has no mark at any time.
    let shared = "memory_merge 0 1\nmmap 0 1 1 r file0_shared - 1\nmmap 0 2 1 r file0_shared - 2";
    leaves(shared, "1-3", "1-3");
    // The pages by which a mapping grows are part of it, and a mapping that moves keeps its mark.
    leaves(&format!("{marked}mremap 0 1 1 2"), "1-3m", "1-3m");
    leaves(&format!("{unmarked}mremap 0 1 1 2 MAYMOVE|FIXED 5"), "5-7", "5-7");
}

#[test]
fn a_child_inherits_the_setting_and_changes_only_its_own() {
    let text = "memory_merge 0 1\nmmap 0 1 1 rw anon_private\nfork 0\nmmap 1 5 1 r anon_private\n";
    for rules in [AFTER, BEFORE] {
        assert_eq!(run(text, rules).1, ["1-2m", "1-2m 5-6m"]);
        assert_eq!(run(&format!("{text}memory_merge 1 0"), rules).1, ["1-2m", "1-2 5-6"]);
        assert_eq!(run(&format!("{text}memory_merge 0 0"), rules).1, ["1-2", "1-2m 5-6m"]);
        // A process that begins anew has no setting.
        let again =
            "memory_merge 0 1\nfork 0\nmemory_merge 0 0\nexit 1\nfork 0\nmmap 1 1 1 r anon_private";
        assert_eq!(run(again, rules).1, ["", "1-2"]);
    }
}

#[test]
fn the_setting_is_part_of_the_state() {
    let words = |text: &str| {
        let program: Program = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
        let (mut reference, mut seen) = (Reference::with_rules(BEFORE), Observation::default());
        reference.reset(&program.limits);
        program.ops.iter().for_each(|op| reference.step(op, &mut seen));
        let mut state = State::default();
        state.begin();
        assert!(reference.write_state(&mut state));
        state.words().to_vec()
    };
    // No mapping shows it yet.
    assert_ne!(words("memory_merge 0 1"), words("memory_merge 0 0"));
    assert_eq!(words("memory_merge 0 1\nmemory_merge 0 0"), words("memory_merge 0 0"));
}
