//! The profile of a running kernel: the [rules](Rule) of later kernels that hold on it. Each rule
//! is tested by running its program.
//!
//! The version number of a kernel does not show which rules hold, because distributions backport
//! changes. So each rule has a program, `corpus/kernel/NAME.txt`, whose last operation shows the
//! rule. The program needs only facilities that the rule itself needs.

use std::fmt;
use std::str::FromStr;

use vmadiff_explain::text::Look;
use vmadiff_machine::Program;
use vmadiff_reference::later::{BACKPORTED, NoVersion, Rule, Rules, Version};

use crate::{Beside, End};

/// The result of a rule's program.
#[derive(Debug)]
pub enum Holds {
    /// The kernel does what the rule says.
    Yes,
    /// The kernel does what 5.2.1 does.
    No,
    /// The program could not be run to its end, for this reason.
    Unknown(String),
    /// The kernel does neither; the report shows the difference.
    Otherwise(String),
}

impl fmt::Display for Holds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Holds::Yes => f.write_str("holds"),
            Holds::No => f.write_str("does not hold"),
            Holds::Unknown(why) => write!(f, "unknown: {why}"),
            Holds::Otherwise(_) => f.write_str("differs in another way"),
        }
    }
}

/// The rules that hold on a kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Profile {
    /// The rules that hold.
    pub hold: Rules,
    /// The rules whose programs could not show whether they hold.
    pub unknown: Rules,
}

/// A release of Linux, such as 6.12 or 6.12.117.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Release {
    /// The version.
    pub version: Version,
    /// The number of the stable release; `None` if it is not known.
    pub stable: Option<u16>,
}

impl FromStr for Release {
    type Err = NoVersion;

    fn from_str(text: &str) -> Result<Release, NoVersion> {
        let mut parts = text.splitn(3, '.');
        let (Some(major), Some(minor)) = (parts.next(), parts.next()) else {
            return Err(NoVersion);
        };
        let version = format!("{major}.{minor}").parse()?;
        let stable = parts.next().map(str::parse).transpose().map_err(|_| NoVersion)?;
        Ok(Release { version, stable })
    }
}

impl fmt::Display for Release {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.version.fmt(f)?;
        self.stable.map_or(Ok(()), |stable| write!(f, ".{stable}"))
    }
}

impl Profile {
    /// Returns the profile of a release. The `probed` profile decides for a rule that has no version,
    /// because it depends on the processor or the architecture, and for a fix of a later release that
    /// this stable release may have taken.
    pub fn of_release(release: Release, probed: Profile) -> Profile {
        let Release { version, stable } = release;
        let mut profile = Profile { hold: Rules::of_version(version), unknown: Rules::NONE };
        for &rule in Rule::ALL {
            let since = rule.about().since;
            let backported = BACKPORTED.iter().find(|(fix, _)| *fix == rule);
            let taken = backported.filter(|_| since.is_none_or(|since| since > version));
            let known = taken.is_some_and(|(_, releases)| {
                releases.iter().any(|(of, from)| *of == version && stable >= Some(*from))
            });
            if known {
                profile.hold = profile.hold.with(rule);
            } else if since.is_none() || taken.is_some() {
                let only = |rules: Rules| {
                    if rules.has(rule) { Rules::NONE.with(rule) } else { Rules::NONE }
                };
                profile.hold = profile.hold.union(only(probed.hold));
                profile.unknown = profile.unknown.union(only(probed.unknown));
            }
        }
        profile
    }

    /// Returns how a rule on a kernel contradicts this profile: it should hold, or should not. `None`
    /// if the probe agrees, or does not know.
    pub fn otherwise(&self, rule: Rule, holds: &Holds) -> Option<&'static str> {
        match (self.hold.has(rule), holds) {
            (true, Holds::No) => Some("should hold and does not"),
            (false, Holds::Yes) => Some("should not hold and does"),
            (_, Holds::Otherwise(_)) => Some("differs in another way"),
            _ => None,
        }
    }
}

impl Beside {
    /// Tests which rules hold on this kernel, and expects these rules from now on.
    pub fn probe(&mut self) -> Vec<(Rule, Holds)> {
        let (mut found, mut held, mut unknown) = (Vec::new(), Rules::NONE, Rules::NONE);
        for &rule in Rule::ALL {
            let refined = rule.refines().intersection(unknown);
            let holds = match refined.iter().next() {
                Some(refined) => {
                    Holds::Unknown(format!("it is unknown whether {} holds", refined.name()))
                }
                None => self.try_rule(rule, held),
            };
            match holds {
                Holds::Yes => held = held.with(rule),
                Holds::Unknown(_) => unknown = unknown.with(rule),
                _ => {}
            }
            found.push((rule, holds));
        }
        let those = |wanted: fn(&Holds) -> bool| {
            found.iter().filter(|(_, holds)| wanted(holds)).map(|(rule, _)| *rule).collect()
        };
        self.expect(Profile {
            hold: those(|holds| matches!(holds, Holds::Yes)),
            unknown: those(|holds| matches!(holds, Holds::Unknown(_))),
        });
        found
    }

    /// Runs a rule's program without the rule, then with it, both times with the rules that it
    /// refines, which are among those that are `held` so far. The rule holds if the kernel differs
    /// from the reference without the rule at the last operation, and does not differ from the
    /// reference with the rule.
    fn try_rule(&mut self, rule: Rule, held: Rules) -> Holds {
        let program: Program = match rule.about().probe.parse() {
            Ok(program) => program,
            Err(error) => return Holds::Otherwise(format!("its program: {error}\n")),
        };
        let refined = match rule.refines() {
            Rules::NONE => Rules::NONE,
            // Older rules that hold show in the program too.
            refined if refined.union(held) == held => held,
            _ => return Holds::No,
        };
        self.expect(Profile { hold: refined, unknown: Rules::NONE });
        let run = self.run(&program);
        match run.end {
            End::Whole => return Holds::No,
            // The last operation waits, as the reference says.
            End::Blocked if run.agree == program.ops.len() => return Holds::No,
            End::Lacks(missing) => return Holds::Unknown(format!("the kernel lacks {missing}")),
            End::Failed(error) => return Holds::Unknown(format!("the program failed: {error}")),
            End::TimedOut => return Holds::Unknown("an operation gave no answer in time".into()),
            End::Differs(_) if run.agree + 1 == program.ops.len() => {}
            _ => return Holds::Otherwise(self.report(&program, Look::default()).1),
        }
        self.expect(Profile { hold: refined.with(rule), unknown: Rules::NONE });
        match self.run(&program).end {
            End::Whole => Holds::Yes,
            _ => Holds::Otherwise(self.report(&program, Look::default()).1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(text: &str) -> Release {
        text.parse().expect("a release")
    }

    #[test]
    fn a_stable_release_that_took_a_fix_has_to_have_it() {
        let rule = Rule::MremapDontunmapCuts;
        let none = Profile::default();
        assert!(Profile::of_release(release("6.12.117"), none).hold.has(rule));
        assert!(Profile::of_release(release("6.12.200"), none).hold.has(rule));
        for earlier in ["6.12.116", "6.12", "6.13.117"] {
            assert!(!Profile::of_release(release(earlier), none).hold.has(rule), "{earlier}");
        }
        assert_eq!(release("6.12.117").to_string(), "6.12.117");
        for wrong in ["", "6", "6.x", "6.12.", "6.12.1.2", "6.12-rc1"] {
            assert!(wrong.parse::<Release>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_release_has_the_rules_of_its_version_and_the_probed_rules_of_the_architecture() {
        let probed = Profile {
            hold: Rules::NONE
                .with(Rule::LowestHole)
                .with(Rule::MremapSeveral)
                .with(Rule::MremapDontunmapCuts),
            unknown: Rules::NONE.with(Rule::ExecuteOnly).with(Rule::UffdOffset),
        };
        let profile = Profile::of_release(release("6.12"), probed);
        assert!(profile.hold.has(Rule::LowestHole) && profile.hold.has(Rule::UffdOffset));
        assert!(!profile.hold.has(Rule::MremapSeveral));
        assert!(profile.hold.has(Rule::MremapDontunmapCuts));
        assert_eq!(profile.unknown, Rules::NONE.with(Rule::ExecuteOnly));
    }

    #[test]
    fn a_probe_contradicts_a_profile_in_both_directions() {
        let profile = Profile::of_release(release("6.12"), Profile::default());
        let otherwise = |rule, holds| profile.otherwise(rule, &holds);
        assert_eq!(otherwise(Rule::UffdOffset, Holds::No), Some("should hold and does not"));
        assert_eq!(otherwise(Rule::MergeUnfaulted, Holds::Yes), Some("should not hold and does"));
        for agrees in [Holds::Yes, Holds::Unknown("no userfaultfd".into())] {
            assert_eq!(otherwise(Rule::UffdOffset, agrees), None);
        }
        assert_eq!(otherwise(Rule::MergeUnfaulted, Holds::No), None);
        let other = Holds::Otherwise(String::new());
        assert_eq!(otherwise(Rule::MergeUnfaulted, other), Some("differs in another way"));
    }
}
