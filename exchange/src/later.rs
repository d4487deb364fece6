//! The behaviours that a C program expects: Linux 5.2.1, and 5.2.1 with rules of later kernels.
//!
//! The reference runs the program under each combination of the rules that the program meets. Where an
//! expectation depends on rules, it gets a condition: the rules that hold, and those that do not.

use vmadiff_reference::later::{BACKPORTED, Rule, Rules, Version};

/// The largest number of rules of which every combination is run. With more rules, only the combinations
/// of the releases are run.
const COMBINED: usize = 6;

/// A value that is expected under a condition on rules.
pub(crate) struct Alternative<T> {
    /// The rules that hold.
    pub(crate) with: Rules,
    /// The rules that do not hold.
    pub(crate) without: Rules,
    pub(crate) value: T,
}

/// The expectations of an operation.
pub(crate) struct Step<T> {
    /// The expectation without rules, and under every combination that has no alternative.
    pub(crate) original: T,
    /// The other expectations. No two conditions hold at once for different values.
    pub(crate) later: Vec<Alternative<T>>,
}

/// The expectations of a program.
pub(crate) struct Behaviours<T> {
    pub(crate) steps: Vec<Step<T>>,
    /// Only the combinations of the releases were run.
    pub(crate) releases: bool,
}

impl<T> Behaviours<T> {
    /// Returns the rules on which an expectation depends.
    pub(crate) fn rules(&self) -> Rules {
        let conditions = self.steps.iter().flat_map(|step| &step.later);
        conditions.fold(Rules::NONE, |rules, Alternative { with, without, .. }| {
            rules.union(*with).union(*without)
        })
    }
}

/// Returns every combination of rules.
fn subsets(rules: Rules) -> Vec<Rules> {
    rules.iter().fold(vec![Rules::NONE], |sets, rule| {
        sets.iter().flat_map(|set| [*set, set.with(rule)]).collect()
    })
}

/// Returns the combinations of `rules` that the releases of Linux have, the smallest first.
pub(crate) fn releases(rules: Rules) -> Vec<Rules> {
    let ported = BACKPORTED.iter().flat_map(|(_, releases)| releases.iter().map(|(of, _)| *of));
    let changes = Rule::ALL.iter().flat_map(|rule| [rule.about().since, rule.about().until]);
    let versions = changes.flatten().chain(ported);
    // Some kernels of a version have these rules, and others do not have them.
    let unversioned = rules.iter().filter(|rule| rule.about().since.is_none()).collect();
    let of_versions = versions.flat_map(|version| {
        let taken = |(rule, releases): &(Rule, &[(Version, u16)])| {
            releases.iter().any(|(of, _)| *of == version).then_some(*rule)
        };
        let taken: Rules = BACKPORTED.iter().filter_map(taken).collect();
        let own = Rules::of_version(version);
        [own, own.union(taken)]
    });
    // Without the rules that it refines, a rule changes nothing.
    let has_refined = |set: &Rules| {
        let refined = set.iter().fold(Rules::NONE, |all, rule| all.union(rule.refines()));
        set.union(refined.intersection(rules)) == *set
    };
    let mut sets: Vec<Rules> = [Rules::NONE]
        .into_iter()
        .chain(of_versions)
        .map(|own| own.intersection(rules))
        .flat_map(|own| subsets(unversioned).into_iter().map(move |more| own.union(more)))
        .filter(has_refined)
        .collect();
    sort(&mut sets);
    sets
}

/// Puts small sets first, and removes sets that are equal.
fn sort(sets: &mut Vec<Rules>) {
    sets.sort_by_cached_key(|set| (set.iter().count(), set.iter().collect::<Vec<_>>()));
    sets.dedup();
}

/// Runs a program under combinations of the `allowed` rules. `run` returns the expectations under
/// rules, one for each operation, and the rules that were applied.
pub(crate) fn behaviours<T: PartialEq + Clone>(
    allowed: Rules,
    run: impl Fn(Rules) -> (Vec<T>, Rules),
) -> Behaviours<T> {
    // One rule can hide another rule, so each rule is also run alone, and left out.
    let met = allowed
        .iter()
        .flat_map(|rule| [rule.refines().intersection(allowed).with(rule), allowed.without(rule)])
        .fold(run(allowed).1, |met, rules| met.union(run(rules).1));
    let combined = met.iter().count() <= COMBINED;
    let mut sets = if combined { subsets(met) } else { releases(met) };
    sort(&mut sets);
    let runs: Vec<(Rules, Vec<T>)> = sets.into_iter().map(|set| (set, run(set).0)).collect();
    let count = runs.first().map_or(0, |(_, steps)| steps.len());
    let step = |at: usize| {
        let values: Vec<(Rules, &T)> = runs.iter().map(|(set, steps)| (*set, &steps[at])).collect();
        Step { original: values[0].1.clone(), later: alternatives(&values, met) }
    };
    Behaviours { steps: (0..count).map(step).collect(), releases: !combined }
}

/// Returns the values that differ from the first one, each with the weakest conditions under which no
/// combination has another value. The first value is that without rules.
fn alternatives<T: PartialEq + Clone>(values: &[(Rules, &T)], rules: Rules) -> Vec<Alternative<T>> {
    // Values are compared once. Equal values have equal numbers.
    let mut distinct: Vec<&T> = Vec::new();
    let mut numbered = Vec::with_capacity(values.len());
    for (set, value) in values {
        let number = distinct.iter().position(|known| known == value).unwrap_or_else(|| {
            distinct.push(value);
            distinct.len() - 1
        });
        numbered.push((*set, number));
    }
    let meets = |set: Rules, with: Rules, without: Rules| {
        with.iter().all(|rule| set.has(rule)) && without.iter().all(|rule| !set.has(rule))
    };
    let mut found: Vec<(Rules, Rules, usize)> = Vec::new();
    for (set, number) in numbered.iter().filter(|(_, number)| *number != 0) {
        let covers = |(with, without, _): &(Rules, Rules, usize)| meets(*set, *with, *without);
        if found.iter().any(covers) {
            continue;
        }
        let mut with = *set;
        let mut without: Rules = rules.iter().filter(|rule| !set.has(*rule)).collect();
        let holds = |with: Rules, without: Rules| {
            numbered.iter().all(|(set, other)| other == number || !meets(*set, with, without))
        };
        for rule in rules.iter() {
            if holds(with, without.without(rule)) {
                without = without.without(rule);
            }
        }
        for rule in set.iter() {
            if holds(with.without(rule), without) {
                with = with.without(rule);
            }
        }
        found.push((with, without, *number));
    }
    let alternative = |(with, without, number): (Rules, Rules, usize)| Alternative {
        with,
        without,
        value: distinct[number].clone(),
    };
    found.into_iter().map(alternative).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Rule = Rule::MremapSeveral;
    const B: Rule = Rule::MremapUnmapped;
    const C: Rule = Rule::MlockOnfault;

    fn set(rules: &[Rule]) -> Rules {
        rules.iter().copied().collect()
    }

    #[test]
    fn a_condition_has_only_the_rules_that_decide() {
        let rules = set(&[A, B, C]);
        type Value = fn(Rules) -> u8;
        type Conditions = &'static [(&'static [Rule], &'static [Rule], u8)];
        let cases: [(Value, Conditions); 5] = [
            (|_| 0, &[]),
            (|held| held.has(A).into(), &[(&[A], &[], 1)]),
            (|held| (held.has(A) && !held.has(B)).into(), &[(&[A], &[B], 1)]),
            (|held| (held.has(A) || held.has(B)).into(), &[(&[B], &[], 1), (&[A], &[], 1)]),
            (
                |held| u8::from(held.has(A)) + 2 * u8::from(held.has(C)),
                &[(&[C], &[A], 2), (&[A], &[C], 1), (&[A, C], &[], 3)],
            ),
        ];
        for (value, expected) in cases {
            let found = behaviours(rules, |held| (vec![value(held)], rules));
            let step = &found.steps[0];
            assert_eq!(step.original, value(Rules::NONE));
            let later: Vec<_> =
                step.later.iter().map(|later| (later.with, later.without, later.value)).collect();
            let expected: Vec<_> = expected
                .iter()
                .map(|(with, without, value)| (set(with), set(without), *value))
                .collect();
            assert_eq!(later, expected);
            // Under each combination, the first alternative that fits has the value.
            for held in subsets(rules) {
                let fits = |later: &&Alternative<u8>| {
                    later.with.union(held) == held && later.without.iter().all(|r| !held.has(r))
                };
                let alternative = step.later.iter().find(fits);
                assert_eq!(alternative.map_or(step.original, |later| later.value), value(held));
            }
        }
    }

    #[test]
    fn with_many_rules_the_releases_are_run_with_the_fixes_that_stable_releases_took() {
        let all: Rules = Rule::ALL.iter().copied().collect();
        let found = behaviours(all, |held| (vec![held], all));
        assert!(found.releases);
        let releases = releases(all);
        assert_eq!(releases[0], Rules::NONE);
        let of = |version: &str| Rules::of_version(version.parse().expect("a version"));
        // A rule that ends at 5.11 holds no more in 5.11 and 5.12.
        for version in ["5.10", "5.11", "5.12", "6.1", "6.12", "6.18"] {
            assert!(releases.contains(&of(version)), "{version}");
        }
        let stable = of("6.12")
            .with(Rule::MremapDontunmapCuts)
            .with(Rule::MremapDontunmapApart)
            .with(Rule::MremapDontunmapOffset);
        assert!(releases.contains(&stable));
        assert!(!releases.contains(&Rules::NONE.with(Rule::MremapSeveral)));
    }
}
