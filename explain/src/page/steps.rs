//! The steps of a finding, each with the processes that it changed.

use super::bars::side_data;
use crate::finding::Finding;
use crate::picture::{Picture, ProcessPicture, Side};

/// A step of a run, with its picture.
pub(super) struct Step<'a> {
    pub(super) at: usize,
    pub(super) picture: &'a Picture,
    /// The processes that the operation changed, or whose machines differ: positions in the
    /// picture.
    pub(super) changed: Vec<usize>,
}

/// Returns the steps of a finding.
pub(super) fn steps(finding: &Finding) -> Vec<Step<'_>> {
    let mut steps: Vec<Step<'_>> = Vec::new();
    for (step, picture) in finding.run.steps.iter().zip(&finding.pictures) {
        let before = steps.last().map(|step| step.picture);
        let is_new = |process: &ProcessPicture| {
            let same = before.and_then(|picture| {
                picture.processes.iter().find(|other| other.process == process.process)
            });
            // A merge is shown at its own step only.
            !process.same()
                || !process.touched.is_empty()
                || same.is_none_or(|other| {
                    side_data(&other.left) != side_data(&process.left)
                        || counters(&other.left) != counters(&process.left)
                })
        };
        let changed =
            (0..picture.processes.len()).filter(|&at| is_new(&picture.processes[at])).collect();
        steps.push(Step { at: step.at, picture, changed });
    }
    steps
}

fn counters(side: &Side) -> Vec<String> {
    match side {
        Side::Alive(space) => space.counters.iter().map(|word| word.text.clone()).collect(),
        Side::Gone | Side::Lost => Vec::new(),
    }
}
