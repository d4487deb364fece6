//! Counts the eight cases of `vma_merge()` that programs reach, by the decisions of the reference.

use vmadiff_machine::{Machine as _, Observation, Program};
use vmadiff_reference::Reference;
use vmadiff_reference::why::MergeDecision;

/// The number of cases of `vma_merge()`, which are numbered as in its comment.
pub const CASES: usize = 8;

/// The number of times that each case was reached.
pub type Cases = [usize; CASES];

/// Returns the case of a decision; `None` if nothing merged.
fn case(decision: &MergeDecision) -> Option<usize> {
    let joined =
        |near: &Option<_>| near.as_ref().is_some_and(vmadiff_reference::why::Neighbour::joined);
    let sides = (joined(&decision.left), joined(&decision.right));
    let Some(was) = decision.was else {
        return match sides {
            (true, true) => Some(1),
            (true, false) => Some(2),
            (false, true) => Some(3),
            (false, false) => None,
        };
    };
    match (was.start < decision.new.start, decision.new.end < was.end, sides) {
        (true, false, (false, true)) => Some(4),
        (false, true, (true, false)) => Some(5),
        (false, false, (true, true)) => Some(6),
        (false, false, (true, false)) => Some(7),
        (false, false, (false, true)) => Some(8),
        _ => None,
    }
}

/// Returns how often a program reaches each case: first by operations within one address space,
/// then by copies from another address space.
pub fn merge_cases(program: &Program) -> (Cases, Cases) {
    let (mut within, mut across) = ([0; CASES], [0; CASES]);
    let mut machine = Reference::new();
    machine.reset(&program.limits);
    let mut seen = Observation::default();
    for op in &program.ops {
        let why = machine.step_explained(op, &mut seen);
        let other = why.copy.is_some_and(|copy| copy.source_process != copy.process);
        let cases = if other { &mut across } else { &mut within };
        for case in why.merges.iter().filter_map(case) {
            cases[case - 1] += 1;
        }
    }
    (within, across)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_between_two_others_is_case_1_and_a_copy_beside_one_is_of_another_mm() {
        let cases = |text: &str| merge_cases(&text.parse().expect("a program"));
        let between = "mmap 0 0 1 rw anon_private\nmmap 0 2 1 rw anon_private\n\
                       mmap 0 1 1 rw anon_private\n";
        assert_eq!(cases(between), ([1, 0, 0, 0, 0, 0, 0, 0], [0; CASES]));
        let beside = "mmap 0 0 2 rw anon_private\nfork 0\nmunmap 1 1 1\n\
                      copy 1 0 1 0 1 FIXED\n";
        assert_eq!(cases(beside), ([0; CASES], [0, 1, 0, 0, 0, 0, 0, 0]));
    }
}
