//! The behaviours that a C program accepts: Linux 5.2.1, and 5.2.1 with rules of later kernels.
//!
//! A C program does not probe the kernel. It keeps the set of kernels that agree with all results
//! so far, and reports a difference if the set is empty.

use vmadiff_machine::{Limits, Machine as _, Observation, Op};
use vmadiff_reference::Reference;
use vmadiff_reference::later::{Rule, Rules};

/// The limit of rules up to which every combination of rules is a kernel. With more rules, only the
/// releases are kernels.
const COMBINED: usize = 5;

/// A kernel, and the observations of the reference with the kernel's rules after each operation.
pub(crate) struct Kernel {
    pub(crate) rules: Rules,
    pub(crate) steps: Vec<Observation>,
}

/// Runs the operations under rules, and returns the rules that applied with the observations.
fn run(ops: &[Op], limits: &Limits, rules: Rules) -> (Rules, Vec<Observation>) {
    let mut reference = Reference::with_rules(rules);
    reference.reset(limits);
    let (mut applied, mut seen) = (Rules::NONE, Observation::default());
    let mut steps = Vec::with_capacity(ops.len());
    for op in ops {
        reference.step(op, &mut seen);
        applied = applied.union(reference.applied());
        steps.push(seen.clone());
    }
    (applied, steps)
}

/// Returns the kernels that a C program can tell apart: first 5.2.1, then kernels with few rules,
/// then kernels with many. If several kernels give the `same` observations, only the first one is
/// returned. `unseen` are rules that make no difference to a C program.
pub(crate) fn kernels(
    ops: &[Op],
    limits: &Limits,
    unseen: Rules,
    same: impl Fn(&[Observation], &[Observation]) -> bool,
) -> Vec<Kernel> {
    let all: Rules = Rule::ALL.iter().copied().filter(|rule| !unseen.has(*rule)).collect();
    // One rule can hide another rule, so each rule is also run alone.
    let met = all
        .iter()
        .map(|rule| rule.refines().with(rule))
        .fold(run(ops, limits, all).0, |met, rule| met.union(run(ops, limits, rule).0));
    let mut sets: Vec<Rules> = if met.iter().count() <= COMBINED {
        met.iter().fold(vec![Rules::NONE], |sets, rule| {
            sets.iter().flat_map(|set| [*set, set.with(rule)]).collect()
        })
    } else {
        let releases = Rule::ALL.iter().filter_map(|rule| rule.about().since);
        let of = releases.map(|version| {
            let rules = Rules::of_version(version);
            met.iter().filter(|rule| rules.has(*rule)).collect()
        });
        // Some releases of a version have these rules and others have not.
        let unversioned = |rule: &Rule| rule.about().since.is_none();
        let more: Rules = met.iter().filter(unversioned).collect();
        [Rules::NONE].into_iter().chain(of).flat_map(|set| [set, set.union(more)]).collect()
    };
    sets.sort_by_key(|set| (set.iter().count(), set.iter().collect::<Vec<_>>()));
    let mut kernels: Vec<Kernel> = Vec::new();
    for rules in sets {
        let steps = run(ops, limits, rules).1;
        if !kernels.iter().any(|kernel| same(&kernel.steps, &steps)) {
            kernels.push(Kernel { rules, steps });
        }
    }
    kernels
}
