//! The profile of a running kernel: the [rules](Rule) of later kernels that hold on it. Each rule
//! is tested by running its program.
//!
//! The version number of a kernel does not show which rules hold, because distributions backport
//! changes. So each rule has a program, `corpus/kernel/NAME.txt`, whose last operation shows the
//! rule. The program needs only facilities that the rule itself needs.

use std::fmt;

use vmadiff_explain::text::Look;
use vmadiff_machine::Program;
use vmadiff_reference::later::{Rule, Rules};

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

impl Beside {
    /// Tests which rules hold on this kernel, and expects these rules from now on.
    pub fn probe(&mut self) -> Vec<(Rule, Holds)> {
        let found: Vec<_> = Rule::ALL.iter().map(|&rule| (rule, self.try_rule(rule))).collect();
        let those = |wanted: fn(&Holds) -> bool| {
            found.iter().filter(|(_, holds)| wanted(holds)).map(|(rule, _)| *rule).collect()
        };
        self.expect(Profile {
            hold: those(|holds| matches!(holds, Holds::Yes)),
            unknown: those(|holds| matches!(holds, Holds::Unknown(_))),
        });
        found
    }

    /// Runs a rule's program without the rule, then with it. The rule holds if the kernel differs
    /// from the reference without the rule at the last operation, and does not differ from the
    /// reference with the rule.
    fn try_rule(&mut self, rule: Rule) -> Holds {
        let program: Program = match rule.about().probe.parse() {
            Ok(program) => program,
            Err(error) => return Holds::Otherwise(format!("its program: {error}\n")),
        };
        self.expect(Profile::default());
        let run = self.run(&program);
        match run.end {
            End::Whole => return Holds::No,
            End::Lacks(missing) => return Holds::Unknown(format!("the kernel lacks {missing}")),
            End::Failed(error) => return Holds::Unknown(format!("the program failed: {error}")),
            End::TimedOut => return Holds::Unknown("an operation gave no answer in time".into()),
            End::Differs(_) if run.agree + 1 == program.ops.len() => {}
            _ => return Holds::Otherwise(self.report(&program, Look::default()).1),
        }
        self.expect(Profile { hold: Rules::NONE.with(rule), unknown: Rules::NONE });
        match self.run(&program).end {
            End::Whole => Holds::Yes,
            _ => Holds::Otherwise(self.report(&program, Look::default()).1),
        }
    }
}
