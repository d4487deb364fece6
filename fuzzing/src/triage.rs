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

/// Groups programs by signature, in the order of classes, and minimizes the shortest programs of
/// each group. A program on which the machines agree is in no group. `tick` is called once for each
/// program and once for each group.
pub fn triage<L: Machine, R: Machine>(
    lockstep: &mut Lockstep<L, R>,
    programs: impl IntoIterator<Item = (PathBuf, Program)>,
    mut tick: impl FnMut(),
) -> Vec<Group> {
    let mut groups: BTreeMap<(Class, Signature), (Vec<Program>, Vec<PathBuf>)> = BTreeMap::new();
    for (file, mut program) in programs {
        tick();
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
    groups
        .into_iter()
        .filter_map(|((class, signature), (shortest, files))| {
            tick();
            let minimized =
                shortest.iter().filter_map(|program| minimize(program, |p| lockstep.run(p)));
            let program = minimized.map(|(program, _)| program).min_by_key(size)?;
            Some(Group { class, signature, program, files })
        })
        .collect()
}
