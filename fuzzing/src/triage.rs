//! Groups programs by the signature of their divergence and minimizes one of each.

use std::collections::BTreeMap;
use std::path::PathBuf;

use vmadiff_lockstep::divergence::{Class, Divergence, Signature};
use vmadiff_lockstep::lockstep::Lockstep;
use vmadiff_machine::{Machine, Program};

use crate::minimize::{minimize, size};

/// Programs of a group that are minimized; the simplest result is kept. Where shrinking begins
/// decides where it gets stuck.
const TRIES: usize = 4;

/// All programs of one signature.
#[derive(Clone, Debug)]
pub struct Group {
    /// What the machines disagree about.
    pub class: Class,
    /// What makes them the same bug.
    pub signature: Signature,
    /// The simplest program found.
    pub program: Program,
    /// The files whose programs show it.
    pub files: Vec<PathBuf>,
}

/// Groups programs by signature, in the order of classes, and minimizes the shortest of each.
/// Programs on which the machines agree are in no group. `tick` is called once a program and once
/// a group.
pub fn triage<L: Machine, R: Machine>(
    lockstep: &mut Lockstep<L, R>,
    programs: impl IntoIterator<Item = (PathBuf, Program)>,
    mut tick: impl FnMut(),
) -> Vec<Group> {
    let mut groups: BTreeMap<(Class, Signature), (Vec<Program>, Vec<PathBuf>)> = BTreeMap::new();
    for (file, mut program) in programs {
        tick();
        let Some(Divergence { class, signature, step }) = lockstep.run(&program) else { continue };
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
