//! `ci/faults renew`: merges a patch with the present sources, and writes it anew.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use duct::{Expression, cmd};
use vmadiff_faults::{FaultError, Faults};

use crate::Status;
use crate::project::files;

/// A git work tree in `target/faults/renew/NAME` that has only the patched sources.
struct Tree {
    folder: PathBuf,
    git_dir: PathBuf,
}

impl Tree {
    fn git(&self, arguments: &[&str]) -> Expression {
        cmd("git", arguments)
            .dir(&self.folder)
            .env("GIT_DIR", &self.git_dir)
            .env("GIT_WORK_TREE", &self.folder)
            .env("GIT_INDEX_FILE", self.folder.join("index"))
            .env("LC_ALL", "C")
    }
}

/// A patch to renew.
struct Patch {
    file: PathBuf,
    /// The file or folder that the patch changes, relative to the project.
    source: PathBuf,
}

impl Patch {
    /// Finds the patch of a seeded fault, or else of a fault of the oracle.
    fn of(faults: &Faults, name: &str) -> Result<Patch> {
        match faults.named(name) {
            Ok(fault) => {
                let file = faults.patch(&fault.name);
                Ok(Patch { file, source: "candidate/src".into() })
            }
            Err(FaultError::Unknown(_)) => {
                let fault = faults.oracle_named(name)?;
                Ok(Patch { file: faults.oracle_patch(&fault.name), source: fault.file })
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// Renews the patch of a fault.
pub(crate) fn renew(root: &Path, faults: &Faults, name: &str, resolved: bool) -> Result<Status> {
    let Patch { file: patch, source } = Patch::of(faults, name)?;
    let folder = root.join("target/faults/renew").join(name);
    let git_dir = cmd!("git", "rev-parse", "--absolute-git-dir").dir(root).read();
    let tree = Tree { git_dir: git_dir.context("git does not run")?.into(), folder };
    let base = tree.folder.join("base");
    let text = fs::read_to_string(&patch).with_context(|| patch.display().to_string())?;
    if resolved {
        ensure!(base.is_file(), "{name}: there is no renewal to continue");
        for file in sources(&tree.folder, &source)? {
            let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
            ensure!(!has_markers(&text), "{}: there are conflict markers left", file.display());
        }
    } else {
        prepare(root, &tree, &source)?;
        let merged = tree.git(&["apply", "--3way", "--whitespace=nowarn"]).stdin_path(&patch);
        let output = merged.stderr_to_stdout().stdout_capture().unchecked().run()?;
        if !output.status.success() {
            println!(
                "{name}: conflicts with the sources: resolve them in {}, then run \
                 `ci/faults renew --continue {name}`\n{}",
                tree.folder.join(&source).display(),
                String::from_utf8_lossy(&output.stdout).trim_end()
            );
            return Ok(Status::Found);
        }
    }
    let base = fs::read_to_string(&base).with_context(|| base.display().to_string())?;
    let path = source.to_str().context("a path that is not UTF-8")?;
    let diff = tree.git(&["diff", "--full-index", base.trim(), "--", path]).read()?;
    ensure!(!diff.is_empty(), "{name}: the renewed patch changes nothing");
    let new = with_diff(&text, &diff);
    let changed = new != text;
    fs::write(&patch, new).with_context(|| patch.display().to_string())?;
    fs::remove_dir_all(&tree.folder).context("target/faults/renew")?;
    println!("{name}: {}", if changed { "renewed" } else { "as it was" });
    Ok(Status::Clean)
}

/// Fills the work tree with the present sources, committed or not, and records them.
fn prepare(root: &Path, tree: &Tree, source: &Path) -> Result<()> {
    if tree.folder.exists() {
        fs::remove_dir_all(&tree.folder).context("target/faults/renew")?;
    }
    for file in sources(root, source)? {
        let to = tree.folder.join(file.strip_prefix(root)?);
        fs::create_dir_all(to.parent().unwrap_or(&tree.folder)).context("target/faults/renew")?;
        fs::copy(&file, &to).with_context(|| to.display().to_string())?;
    }
    let path = source.to_str().context("a path that is not UTF-8")?;
    tree.git(&["add", "--force", path]).run().context("git add")?;
    let base = tree.git(&["write-tree"]).read().context("git write-tree")?;
    fs::write(tree.folder.join("base"), base).context("target/faults/renew")
}

/// Returns the files of a source, which is a file or a folder.
fn sources(root: &Path, source: &Path) -> Result<Vec<PathBuf>> {
    let path = root.join(source);
    if path.is_file() { Ok(vec![path]) } else { files(&path, None) }
}

fn has_markers(text: &str) -> bool {
    text.lines().any(|line| line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> "))
}

/// Returns the head of a patch with another diff below.
fn with_diff(patch: &str, diff: &str) -> String {
    let head = patch.lines().take_while(|line| !line.starts_with("diff --git "));
    let head: String = head.map(|line| format!("{line}\n")).collect();
    format!("{head}{}\n", diff.trim_end_matches('\n'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_head_stays_above_the_new_diff() {
        let patch = "class: flags\nwrong: a\n\ndiff --git a/x b/x\n-1\n";
        let new = with_diff(patch, "diff --git a/y b/y\n-2");
        assert_eq!(new, "class: flags\nwrong: a\n\ndiff --git a/y b/y\n-2\n");
    }

    #[test]
    fn conflict_markers_are_seen() {
        assert!(has_markers("a\n<<<<<<< ours\nb\n"));
        assert!(!has_markers("a << b\n// <<<<<<<\n"));
    }
}
