//! A program that is run once for each of its allocations, which fails then.

use std::collections::BTreeSet;
use std::fmt;

use vmadiff::finding::Finding;
use vmadiff::lockstep::Lockstep;
use vmadiff::run::Run;
use vmadiff_machine::{Machine, Program};

/// The runs of a program, in each of which another allocation fails.
pub(crate) struct FailAll {
    /// The allocations that failed.
    failed: u8,
    /// Whether the count of allocations ended before the program did.
    more: bool,
    /// The first run with each divergence.
    pub(crate) findings: Vec<Finding>,
}

impl FailAll {
    /// Runs a program until no allocation fails, and at most 255 times.
    pub(crate) fn of<L: Machine, R: Machine>(
        lockstep: &mut Lockstep<L, R>,
        program: &Program,
    ) -> FailAll {
        let (mut findings, mut known) = (Vec::new(), BTreeSet::new());
        let mut program = program.clone();
        for nth in 1..=u8::MAX {
            program.limits.fail = Some(nth);
            let run = Run::of(lockstep, &program);
            let failed = lockstep.failed().is_some();
            if let Some(divergence) = &run.divergence
                && known.insert(divergence.signature.clone())
            {
                findings.push(Finding::of(run));
            }
            if !failed {
                return FailAll { failed: nth - 1, more: false, findings };
            }
        }
        FailAll { failed: u8::MAX, more: true, findings }
    }
}

impl fmt::Display for FailAll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.more { ", and there are more" } else { "" };
        write!(
            f,
            "{} allocations failed, one in each run{more}: {} distinct divergences",
            self.failed,
            self.findings.len()
        )
    }
}
