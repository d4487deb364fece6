//! Groups programs by the signature of their divergence and minimizes one of each.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;
use vmadiff_machine::{Machine, Program};

use crate::divergence::{Class, Divergence, Signature};
use crate::known::Known;
use crate::lockstep::Lockstep;
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

/// A group as `triage --json` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The class's name.
    pub class: &'static str,
    /// The signature.
    pub signature: String,
    /// Operations of the minimized program.
    pub operations: usize,
    /// The minimized program, in the text form.
    pub program: String,
    /// Why it is known, if it is.
    pub known: Option<String>,
    /// Where the minimized program was written, or the first file that shows it.
    pub file: String,
    /// The files whose programs show it.
    pub found_in: Vec<String>,
}

impl Group {
    /// The row of a table for the group, whose minimized program is in `file` if it was written.
    pub fn row(&self, known: &Known, file: Option<&PathBuf>) -> Row {
        let names: Vec<String> = self.files.iter().map(|f| f.display().to_string()).collect();
        Row {
            class: self.class.name(),
            signature: self.signature.to_string(),
            operations: self.program.ops.len(),
            program: self.program.to_string(),
            known: known.why(self.signature.as_str()).map(str::to_owned),
            file: file.map_or_else(|| names[0].clone(), |f| f.display().to_string()),
            found_in: names,
        }
    }
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
