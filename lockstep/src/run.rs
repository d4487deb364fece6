//! The record of a run: a program, the observations of both machines after each operation, and the
//! divergence. Reports are made from it.

use vmadiff_machine::{Machine, Observation, Op, Program};

use crate::divergence::Divergence;
use crate::lockstep::Lockstep;

/// The observations of both machines after one operation.
#[derive(Clone, Debug)]
pub struct Step {
    /// The operation's position in the program, counted from 0.
    pub at: usize,
    /// The observation of the left machine.
    pub left: Observation,
    /// The observation of the right machine.
    pub right: Observation,
}

/// A program, and its run up to the first divergence.
#[derive(Clone, Debug)]
pub struct Run {
    /// The program.
    pub program: Program,
    /// The names of the machines, left and right.
    pub names: (String, String),
    /// One machine ran alone: both names are its name, and both observations of a step are its own.
    pub alone: bool,
    /// The operations that were performed: not those that one of the machines lacks, nor those
    /// after a divergence.
    pub steps: Vec<Step>,
    /// The first divergence, if there is one. It is in the last of the steps.
    pub divergence: Option<Divergence>,
}

impl Run {
    /// Runs a program and keeps all observations. They need little memory, because a program has
    /// few operations ([`MAX_OPS`](vmadiff_machine::program::MAX_OPS)).
    pub fn of<L: Machine, R: Machine>(lockstep: &mut Lockstep<L, R>, program: &Program) -> Run {
        let mut steps: Vec<Step> = Vec::new();
        let divergence = lockstep.run_with(program, |at, left, right| {
            steps.retain(|step| step.at < at);
            steps.push(Step { at, left: left.clone(), right: right.clone() });
        });
        // A recount at the end of the program can find that an earlier operation is to blame.
        let last = divergence.as_ref().map_or(usize::MAX, |divergence| divergence.step);
        steps.retain(|step| step.at <= last);
        let (left, right) = lockstep.names();
        let names = (left.to_owned(), right.to_owned());
        Run { program: program.clone(), names, alone: lockstep.is_alone(), steps, divergence }
    }

    /// Returns the operation of a step.
    pub fn op(&self, step: &Step) -> &Op {
        &self.program.ops[step.at]
    }

    /// Returns the observations of both machines before step `n`, counted from 0.
    pub fn before(&self, n: usize) -> (Observation, Observation) {
        match n.checked_sub(1).and_then(|n| self.steps.get(n)) {
            Some(step) => (step.left.clone(), step.right.clone()),
            None => (Observation::default(), Observation::default()),
        }
    }
}
