//! The faults of the oracle: patches that weaken the reference or the harness, each with the test
//! that notices the fault.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use crate::head::{self, HeadError, Lines};
use crate::{FaultError, Faults};

/// The class in the head of every patch of the oracle.
const CLASS: &str = "oracle";

/// A test, named as `cargo test` names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Test {
    /// The package.
    pub package: String,
    /// The file of the package's `tests/` without its extension, or `lib` for unit tests.
    pub target: String,
    /// The name of the test, with its modules.
    pub name: String,
}

impl fmt::Display for Test {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.package, self.target, self.name)
    }
}

/// A fault of the oracle, as the head of its patch describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OracleFault {
    /// The name of the patch file without its extension.
    pub name: String,
    /// The one file that the patch changes, relative to the project.
    pub file: PathBuf,
    /// The mistake, in one line.
    pub wrong: String,
    /// The test that fails with the patch.
    pub noticed_by: Test,
}

impl OracleFault {
    /// Reads the head of the patch `text`.
    ///
    /// # Errors
    /// [`HeadError`] if a line of the head is missing or wrong, or if the patch changes another
    /// file.
    pub fn parse(name: &str, text: &str) -> Result<OracleFault, HeadError> {
        let mut lines = Lines::of(text);
        let (class, line) = lines.field("class")?;
        if class != CLASS {
            return Err(HeadError::at(line, format!("the class is `{class}`: expected {CLASS}")));
        }
        let (file, line) = lines.field("file")?;
        let (wrong, _) = lines.field("wrong")?;
        let (test, test_line) = lines.field("noticed-by")?;
        let words: Vec<&str> = test.split_whitespace().collect();
        let &[package, target, test] = words.as_slice() else {
            return Err(HeadError::at(test_line, "expected a package, a test target and a test"));
        };
        head::expect_diff(text)?;
        let changed = || text.lines().filter_map(|line| line.strip_prefix("+++ b/"));
        if Path::new(&file).is_absolute() || file.split('/').any(|part| part == "..") {
            return Err(HeadError::at(line, "expected a path of the project"));
        }
        if let Some(other) = changed().find(|other| *other != file) {
            return Err(HeadError::at(line, format!("the patch changes {other}, too")));
        }
        if changed().next().is_none() {
            return Err(HeadError::at(line, "the patch does not change the file"));
        }
        let noticed_by = Test { package: package.into(), target: target.into(), name: test.into() };
        Ok(OracleFault { name: name.to_owned(), file: file.into(), wrong, noticed_by })
    }
}

impl Faults {
    /// Returns the folder of the patches that weaken the oracle.
    fn oracle_folder(&self) -> PathBuf {
        self.root.join("faults/oracle")
    }

    /// Returns the path of the patch of a fault of the oracle.
    pub fn oracle_patch(&self, name: &str) -> PathBuf {
        self.oracle_folder().join(format!("{name}.patch"))
    }

    /// Reads the heads of all patches that weaken the oracle, in the order of their names.
    ///
    /// # Errors
    /// [`FaultError`] if the folder or a patch cannot be read, or if a head is wrong.
    pub fn oracle(&self) -> Result<Vec<OracleFault>, FaultError> {
        let names = crate::patches(&self.oracle_folder())?;
        names.iter().map(|name| self.oracle_named(name)).collect()
    }

    /// Reads the head of one patch that weakens the oracle.
    ///
    /// # Errors
    /// [`FaultError`] if there is no such patch, or if its head is wrong.
    pub fn oracle_named(&self, name: &str) -> Result<OracleFault, FaultError> {
        let path = self.oracle_patch(name);
        // A name with a separator must not become a path.
        if !head::is_name(name) || !path.is_file() {
            return Err(FaultError::UnknownOracle(name.to_owned()));
        }
        let text = fs::read_to_string(&path)
            .map_err(|error| FaultError::Read { path: path.clone(), error })?;
        OracleFault::parse(name, &text).map_err(|error| FaultError::Head { path, error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATCH: &str = "class: oracle\nfile: lockstep/src/compare.rs\nwrong: a field is skipped\n\
        noticed-by: vmadiff-lockstep lib compare::tests::every_field\n\n\
        diff --git a/lockstep/src/compare.rs b/lockstep/src/compare.rs\n\
        --- a/lockstep/src/compare.rs\n+++ b/lockstep/src/compare.rs\n";

    #[test]
    fn a_head_names_the_file_and_the_test() {
        let fault = OracleFault::parse("x", PATCH).expect("a head");
        assert_eq!(fault.file, Path::new("lockstep/src/compare.rs"));
        assert_eq!(fault.wrong, "a field is skipped");
        assert_eq!(
            fault.noticed_by.to_string(),
            "vmadiff-lockstep lib compare::tests::every_field"
        );
    }

    #[test]
    fn a_mistake_in_a_head_is_named_by_its_line() {
        for (from, to, error) in [
            ("class: oracle", "class: flags", "line 1: the class is `flags`: expected oracle"),
            ("file: lockstep", "file: /lockstep", "line 2: expected a path of the project"),
            ("file: lockstep", "file: ../lockstep", "line 2: expected a path of the project"),
            (
                "file: lockstep",
                "file: reference",
                "line 2: the patch changes lockstep/src/compare.rs, too",
            ),
            ("+++ b/lockstep/src/compare.rs\n", "", "line 2: the patch does not change the file"),
            ("wrong: a field is skipped\n", "", "line 3: expected `wrong: …`"),
            (" lib ", " ", "line 4: expected a package, a test target and a test"),
            ("diff --git", "diff", "line 5: expected a diff, as `git diff` makes it"),
        ] {
            let text = PATCH.replacen(from, to, 1);
            assert_eq!(OracleFault::parse("x", &text).expect_err(error).to_string(), error);
        }
    }
}
