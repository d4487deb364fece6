//! The seeded faults: each one is a patch of the candidate, `candidate/faults/NAME.patch`.
//!
//! A fault is a small deviation from the revision `fixed`, of the kind that a kernel developer makes.
//! Faults measure the harness: a fault that fuzzing does not find shows a gap in the generator or in
//! the comparison. `ci/faults build NAME` makes a shared library of the patched candidate, which is
//! the machine `candidate:fixed+NAME`.
//!
//! [`OracleFault`]s do the same for the oracle: `faults/oracle/NAME.patch` weakens the reference or
//! the harness, and a test must fail with it.

mod head;
mod oracle;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use head::{Fault, HeadError, Tier};
pub use oracle::{OracleFault, Test};

/// The flavour of a library: how it was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// For the command line.
    Plain,
    /// With the flags of the fuzz targets. Only a fuzz target can load the library, and sees its
    /// coverage.
    Fuzz,
    /// With optimization, for measurements.
    Release,
}

impl Flavour {
    /// Returns the name of the folder of the libraries.
    pub const fn folder(self) -> &'static str {
        match self {
            Flavour::Plain => "plain",
            Flavour::Fuzz => "fuzz",
            Flavour::Release => "release",
        }
    }

    /// Returns the command that builds the library of `fault`.
    pub fn command(self, fault: &str) -> String {
        match self {
            Flavour::Plain => format!("ci/faults build {fault}"),
            Flavour::Fuzz => format!("ci/faults build --fuzz {fault}"),
            Flavour::Release => format!("ci/faults build --release {fault}"),
        }
    }
}

/// The reason why a fault cannot be listed or used.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// There is no folder of patches.
    #[error(
        "no folder candidate/faults in {} or above, nor above this program: seeded faults are \
         patches in the project's folder",
        from.display()
    )]
    NoFolder {
        /// The folder in which the search began.
        from: PathBuf,
    },
    /// A file or folder cannot be read.
    #[error("{}: {error}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        error: io::Error,
    },
    /// The head of a patch is wrong.
    #[error("{}: {error}", path.display())]
    Head {
        /// The patch.
        path: PathBuf,
        /// The line and the mistake.
        error: HeadError,
    },
    /// No patch has this name.
    #[error("no fault is called `{0}`: `vmadiff faults` lists them")]
    Unknown(String),
    /// No patch that weakens the oracle has this name.
    #[error("no fault of the oracle is called `{0}`: docs/oracle-faults.md lists them")]
    UnknownOracle(String),
    /// The library was never built.
    #[error("the fault {name} is not built: `{}` builds it", flavour.command(name))]
    NotBuilt {
        /// The fault.
        name: String,
        /// The flavour of the missing library.
        flavour: Flavour,
    },
    /// The patch has changed since the library was built.
    #[error("the fault {name} was built from another patch: `{}` builds it anew", flavour.command(name))]
    Stale {
        /// The fault.
        name: String,
        /// The flavour of the outdated library.
        flavour: Flavour,
    },
}

/// Returns the names of the patches in a folder, sorted.
fn patches(folder: &Path) -> Result<Vec<String>, FaultError> {
    let unreadable = |error| FaultError::Read { path: folder.to_owned(), error };
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let file = entry.map_err(unreadable)?.file_name();
        if let Some(name) = file.to_str().and_then(|file| file.strip_suffix(".patch")) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// The patches and the libraries of one project folder.
#[derive(Clone, Debug)]
pub struct Faults {
    root: PathBuf,
}

impl Faults {
    /// Finds the project's folder: first the current folder and the folders above it, then the
    /// folders above this program.
    ///
    /// # Errors
    /// [`FaultError::NoFolder`] if none of these folders has `candidate/faults`.
    pub fn find() -> Result<Faults, FaultError> {
        let from = std::env::current_dir().unwrap_or_default();
        let program = std::env::current_exe().unwrap_or_default();
        let root = from
            .ancestors()
            .chain(program.ancestors())
            .find(|folder| folder.join("candidate/faults").is_dir())
            .map(Path::to_owned);
        root.map(Faults::of).ok_or(FaultError::NoFolder { from })
    }

    /// Returns the faults of the project in the folder `root`.
    pub fn of(root: PathBuf) -> Faults {
        Faults { root }
    }

    /// Reads the heads of all patches, in the order of their names.
    ///
    /// # Errors
    /// [`FaultError`] if the folder or a patch cannot be read, or if a head is wrong.
    pub fn all(&self) -> Result<Vec<Fault>, FaultError> {
        let names = patches(&self.root.join("candidate/faults"))?;
        names.iter().map(|name| self.named(name)).collect()
    }

    /// Reads the head of one patch.
    ///
    /// # Errors
    /// [`FaultError`] if there is no such patch, or if its head is wrong.
    pub fn named(&self, name: &str) -> Result<Fault, FaultError> {
        let path = self.patch(name);
        // A name with a separator must not become a path.
        if !head::is_name(name) || !path.is_file() {
            return Err(FaultError::Unknown(name.to_owned()));
        }
        let text = fs::read_to_string(&path)
            .map_err(|error| FaultError::Read { path: path.clone(), error })?;
        Fault::parse(name, &text).map_err(|error| FaultError::Head { path, error })
    }

    /// Returns the path of a fault's patch.
    pub fn patch(&self, name: &str) -> PathBuf {
        self.root.join("candidate/faults").join(format!("{name}.patch"))
    }

    /// Returns the path of the program in `corpus/faults` that shows a fault.
    pub fn program(&self, name: &str) -> PathBuf {
        self.root.join("corpus/faults").join(format!("{name}.txt"))
    }

    /// Returns the path of a fault's library, and the path of the copy of the patch from which it
    /// was built.
    pub fn built(&self, name: &str, flavour: Flavour) -> (PathBuf, PathBuf) {
        let folder = self.root.join("target/faults").join(flavour.folder());
        (folder.join(format!("{name}.so")), folder.join(format!("{name}.patch")))
    }

    /// Returns the path of a fault's library, which `ci/faults build` has made.
    ///
    /// # Errors
    /// [`FaultError`] if there is no such fault, or if its library is missing or out of date.
    pub fn library(&self, name: &str, flavour: Flavour) -> Result<PathBuf, FaultError> {
        self.named(name)?;
        let read =
            |path: PathBuf| fs::read(&path).map_err(|error| FaultError::Read { path, error });
        let (library, from) = self.built(name, flavour);
        let name = name.to_owned();
        if !library.is_file() || !from.is_file() {
            return Err(FaultError::NotBuilt { name, flavour });
        }
        if read(from)? != read(self.patch(&name))? {
            return Err(FaultError::Stale { name, flavour });
        }
        Ok(library)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "class: flags\nfunction: copy_vma\ntier: plain\nwrong: a flag is kept\n\n\
                         diff --git a/x b/x\n";

    fn project() -> (tempfile::TempDir, Faults) {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir_all(folder.path().join("candidate/faults")).expect("a folder");
        let faults = Faults::of(folder.path().to_owned());
        fs::write(faults.patch("kept"), PATCH).expect("a patch");
        (folder, faults)
    }

    #[test]
    fn a_library_is_used_only_if_it_was_built_from_the_patch_as_it_is() {
        let (_folder, faults) = project();
        let error = |name: &str| faults.library(name, Flavour::Plain).expect_err(name).to_string();
        assert_eq!(error("none"), "no fault is called `none`: `vmadiff faults` lists them");
        assert_eq!(error("../kept"), "no fault is called `../kept`: `vmadiff faults` lists them");
        assert_eq!(error("kept"), "the fault kept is not built: `ci/faults build kept` builds it");
        let (library, from) = faults.built("kept", Flavour::Plain);
        fs::create_dir_all(library.parent().expect("a folder")).expect("a folder");
        fs::write(&library, "").expect("a library");
        fs::write(&from, PATCH).expect("a copy");
        assert_eq!(faults.library("kept", Flavour::Plain).expect("built"), library);
        fs::write(&from, "another").expect("a copy");
        assert!(error("kept").contains("another patch: `ci/faults build kept`"));
        let fuzz = faults.library("kept", Flavour::Fuzz).expect_err("none").to_string();
        assert!(fuzz.contains("`ci/faults build --fuzz kept`"), "{fuzz}");
    }

    #[test]
    fn a_wrong_head_is_named_by_file_and_line() {
        let (_folder, faults) = project();
        fs::write(faults.patch("bad"), "class: flags\ntier: plain\n").expect("a patch");
        let error = faults.all().expect_err("a bad head").to_string();
        assert!(error.ends_with("bad.patch: line 2: expected `function: …`"), "{error}");
    }
}
