//! A program run in lockstep, with all that both machines showed: what reports are made of.

use vmadiff_machine::{Machine, Observation, Op, Program};

use crate::divergence::Divergence;
use crate::lockstep::Lockstep;

/// What both machines showed after one operation.
#[derive(Clone, Debug)]
pub struct Step {
    /// The operation's position in the program, counted from 0.
    pub at: usize,
    /// What the left machine showed.
    pub left: Observation,
    /// What the right machine showed.
    pub right: Observation,
}

/// A program, and what followed up to the first divergence.
#[derive(Clone, Debug)]
pub struct Run {
    /// The program.
    pub program: Program,
    /// The names of the machines, left and right.
    pub names: (String, String),
    /// The operations that were performed: not those that one of the machines lacks, nor those
    /// after a divergence.
    pub steps: Vec<Step>,
    /// The first divergence, if there is one: after the last of the steps.
    pub divergence: Option<Divergence>,
}

impl Run {
    /// Runs a program and keeps what is seen. A program has few operations
    /// ([`MAX_OPS`](vmadiff_machine::program::MAX_OPS)), so this is little.
    pub fn of<L: Machine, R: Machine>(lockstep: &mut Lockstep<L, R>, program: &Program) -> Run {
        let mut steps = Vec::new();
        let divergence = lockstep.run_with(program, |at, left, right| {
            steps.push(Step { at, left: left.clone(), right: right.clone() });
        });
        let (left, right) = lockstep.names();
        let names = (left.to_owned(), right.to_owned());
        Run { program: program.clone(), names, steps, divergence }
    }

    /// The operation of a step.
    pub fn op(&self, step: &Step) -> &Op {
        &self.program.ops[step.at]
    }

    /// What both machines showed before the `n`th step.
    pub fn before(&self, n: usize) -> (Observation, Observation) {
        match n.checked_sub(1).and_then(|n| self.steps.get(n)) {
            Some(step) => (step.left.clone(), step.right.clone()),
            None => (Observation::default(), Observation::default()),
        }
    }
}
