//! Patches are applied to a copy of the candidate, never to the tree itself.

use std::path::Path;

use anyhow::{Context, Result, bail};
use duct::cmd;

/// Applies a patch to the files below `folder`.
///
/// # Errors
/// Returns an error with the files and hunks that do not apply.
pub(crate) fn apply(patch: &Path, folder: &Path) -> Result<()> {
    // In a folder of a repository, git would read the paths relative to the root of the repository.
    let ceiling = folder.parent().unwrap_or(folder);
    let output = cmd!("git", "apply", "--whitespace=nowarn", patch)
        .dir(folder)
        .env("GIT_CEILING_DIRECTORIES", ceiling)
        .env("LC_ALL", "C")
        .env_remove("GIT_DIR")
        .env_remove("GIT_WORK_TREE")
        .env_remove("GIT_INDEX_FILE")
        .stdout_null()
        .stderr_capture()
        .unchecked()
        .run()
        .context("git does not run")?;
    if output.status.success() {
        return Ok(());
    }
    bail!("{}", refusal(&String::from_utf8_lossy(&output.stderr)))
}

/// Returns the file and hunk that `git apply` refuses.
fn refusal(message: &str) -> String {
    let hunks: Vec<String> = message
        .lines()
        .filter_map(|line| line.strip_prefix("error: patch failed: "))
        .map(|place| match place.rsplit_once(':') {
            Some((file, line)) => format!("{file}: the hunk at line {line} does not apply"),
            None => format!("{place}: the patch does not apply"),
        })
        .collect();
    if hunks.is_empty() { message.trim().to_owned() } else { hunks.join("; ") }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::scratch::Scratch;

    const PATCH: &str = "class: flags\n\ndiff --git a/candidate/src/a.rs b/candidate/src/a.rs\n\
                         --- a/candidate/src/a.rs\n+++ b/candidate/src/a.rs\n\
                         @@ -1,3 +1,2 @@\n one\n-two\n three\n";

    fn candidate(text: &str) -> Result<(Scratch, std::path::PathBuf)> {
        let scratch = Scratch::new()?;
        let folder = scratch.path().join("copy");
        fs::create_dir_all(folder.join("candidate/src"))?;
        fs::write(folder.join("candidate/src/a.rs"), text)?;
        fs::write(scratch.path().join("x.patch"), PATCH)?;
        Ok((scratch, folder))
    }

    #[test]
    fn a_patch_is_applied_to_the_copy() -> Result<()> {
        let (scratch, folder) = candidate("one\ntwo\nthree\n")?;
        apply(&scratch.path().join("x.patch"), &folder)?;
        assert_eq!(fs::read_to_string(folder.join("candidate/src/a.rs"))?, "one\nthree\n");
        Ok(())
    }

    #[test]
    fn a_patch_that_does_not_apply_is_an_error_with_file_and_hunk() -> Result<()> {
        let (scratch, folder) = candidate("one\nzwei\nthree\n")?;
        let error = apply(&scratch.path().join("x.patch"), &folder).expect_err("a refusal");
        assert_eq!(error.to_string(), "candidate/src/a.rs: the hunk at line 1 does not apply");
        assert_eq!(fs::read_to_string(folder.join("candidate/src/a.rs"))?, "one\nzwei\nthree\n");
        Ok(())
    }

    #[test]
    fn another_refusal_is_passed_on() {
        assert_eq!(
            refusal("error: No valid patches in input\n"),
            "error: No valid patches in input"
        );
    }
}
