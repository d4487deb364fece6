//! The machine that `ci/fuzz` fuzzes.

use std::ffi::OsStr;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::Revision;

/// The machine that runs beside the reference.
pub(crate) enum Machine {
    Linked(Revision),
    /// The absolute path of a library.
    Library(PathBuf),
}

impl Machine {
    pub(crate) fn new(revision: Revision, library: Option<&Path>) -> Result<Machine> {
        let Some(path) = library else { return Ok(Machine::Linked(revision)) };
        // The file is checked here, because each job of the fuzz target would report the error
        // again.
        let file = path.canonicalize().and_then(|path| File::open(&path)?.metadata().map(|_| path));
        let path = file.with_context(|| format!("--candidate {}", path.display()))?;
        ensure!(path.is_file(), "--candidate {}: expected a shared library", path.display());
        ensure!(path.to_str().is_some(), "--candidate {}: expected UTF-8", path.display());
        Ok(Machine::Library(path))
    }

    /// Returns the name by which `vmadiff` knows the machine.
    pub(crate) fn name(&self) -> String {
        match self {
            Machine::Linked(revision) => format!("candidate:{}", revision.name()),
            Machine::Library(path) => format!("lib:{}", path.display()),
        }
    }

    /// Returns the name of the machine in the name of the folder of findings.
    pub(crate) fn label(&self) -> String {
        match self {
            Machine::Linked(revision) => revision.name().to_owned(),
            Machine::Library(path) => {
                let stem = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
                let stem = stem.strip_prefix("lib").filter(|rest| !rest.is_empty()).unwrap_or(stem);
                let plain = |c: char| c.is_alphanumeric() || "-_.".contains(c);
                let stem: String = stem.chars().map(|c| if plain(c) { c } else { '_' }).collect();
                format!("lib-{stem}")
            }
        }
    }

    /// Returns the setting of the fuzz target that chooses the machine.
    pub(crate) fn setting(&self) -> (&'static str, String) {
        match self {
            Machine::Linked(revision) => ("VMADIFF_REVISION", revision.name().to_owned()),
            Machine::Library(_) => ("VMADIFF_CANDIDATE", self.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn findings_are_named_after_the_machine() {
        let folders = [
            ("/x/libmine.so", "lib-mine"),
            ("/x/v2.so", "lib-v2"),
            ("/x/libv2 (new).so", "lib-v2__new_"),
            ("/x/lib.so", "lib-lib"),
        ];
        for (path, label) in folders {
            assert_eq!(Machine::Library(path.into()).label(), label);
        }
        assert_eq!(Machine::Linked(Revision::V2).label(), "v2");
    }

    #[test]
    fn a_library_takes_the_place_of_the_revision() {
        let library = Machine::Library("/x/libmine.so".into());
        let set = ("VMADIFF_CANDIDATE", "lib:/x/libmine.so".to_owned());
        assert_eq!(library.setting(), set);
        let linked = Machine::Linked(Revision::Fixed);
        assert_eq!(linked.setting(), ("VMADIFF_REVISION", "fixed".to_owned()));
        assert_eq!(linked.name(), "candidate:fixed");
    }

    #[test]
    fn a_library_that_is_not_there_is_named() {
        for path in ["/no/such/lib.so", "/"] {
            let error = Machine::new(Revision::V2, Some(Path::new(path))).err().expect("an error");
            assert!(
                format!("{error:#}").starts_with(&format!("--candidate {path}: ")),
                "{error:#}"
            );
        }
    }
}
