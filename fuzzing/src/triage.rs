//! Triage: groups programs by the signature of their divergence and minimizes them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use vmadiff_lockstep::divergence::{Class, Divergence, Signature};
use vmadiff_lockstep::lockstep::Lockstep;
use vmadiff_machine::{Machine, Program};

use crate::minimize::{minimize, size};

/// The number of programs of a group that are minimized. The simplest result is kept. Several are
/// tried because minimization can get stuck, and its start decides how early.
const TRIES: usize = 4;

/// A group: all programs that have the same signature.
#[derive(Clone, Debug)]
pub struct Group {
    /// The class of the divergence.
    pub class: Class,
    /// The signature that the programs have in common.
    pub signature: Signature,
    /// The simplest program that triage found.
    pub program: Program,
    /// The files of the group's programs.
    pub files: Vec<PathBuf>,
}

/// The progress of triage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The number of programs that were run, and of groups that were minimized.
    pub done: usize,
    /// The number of programs so far, and once all programs were run, of groups.
    pub all: usize,
}

/// Groups programs by signature, in the order of classes, and minimizes the shortest programs of
/// each group. A program on which the machines agree is in no group. `go_on` is called before each
/// run. Once it returns false, no other program is run, and a group keeps the simplest program
/// found so far.
pub fn triage<L: Machine, R: Machine>(
    lockstep: &mut Lockstep<L, R>,
    programs: impl IntoIterator<Item = (PathBuf, Program)>,
    mut go_on: impl FnMut(Progress) -> bool,
) -> Vec<Group> {
    let mut at = Progress { done: 0, all: 0 };
    let mut groups: BTreeMap<(Class, Signature), (Vec<Program>, Vec<PathBuf>)> = BTreeMap::new();
    for (file, mut program) in programs {
        if !go_on(at) {
            break;
        }
        at = Progress { done: at.done + 1, all: at.all + 1 };
        let Some(Divergence { class, signature, step, .. }) = lockstep.run(&program) else {
            continue;
        };
        program.ops.truncate(step + 1);
        let (shortest, files) = groups.entry((class, signature)).or_default();
        let at = shortest.partition_point(|other| other.ops.len() <= program.ops.len());
        shortest.insert(at, program);
        shortest.truncate(TRIES);
        files.push(file);
    }
    at.all += groups.len();
    groups
        .into_iter()
        .filter_map(|((class, signature), (shortest, files))| {
            let mut run = |program: &Program| go_on(at).then(|| lockstep.run(program)).flatten();
            let minimized = shortest.iter().filter_map(|program| minimize(program, &mut run));
            let minimized = minimized.map(|(program, _)| program).min_by_key(size);
            at.done += 1;
            let program = minimized.or_else(|| shortest.into_iter().next())?;
            Some(Group { class, signature, program, files })
        })
        .collect()
}
