//! The paths of the project: its root, and the files and folders that several commands use.
//!
//! Commands run in the root, so a relative path is relative to the project.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use duct::cmd;

/// The committed corpus.
pub(crate) const CORPUS: &str = "corpus";
/// The part of the committed corpus that fuzzing found, with a folder for each target.
pub(crate) const GROWN: &str = "corpus/grown";
/// The corpus to which fuzzing adds files, with a folder for each target.
pub(crate) const FUZZ_CORPUS: &str = "fuzz/corpus";
/// The findings of runs, with a folder for each target and machine.
pub(crate) const FINDINGS: &str = "fuzz/findings";

/// Returns the root folder of the project, without symbolic links.
pub(crate) fn root() -> Result<PathBuf> {
    // Cargo sets the folder of the package. A binary that was copied elsewhere uses the folder of
    // its build.
    let package = env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
    let root = package.parent().unwrap_or(&package);
    root.canonicalize().with_context(|| format!("{}: expected the project", root.display()))
}

/// Makes the root the current folder and returns it. Paths of the command line have to be made
/// absolute first (see [`absolute`]).
pub(crate) fn enter() -> Result<PathBuf> {
    let root = root()?;
    env::set_current_dir(&root).with_context(|| root.display().to_string())?;
    Ok(root)
}

/// Returns a path of the command line as an absolute path.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("{}: expected a path", path.display()))
}

/// Returns the folder in which cargo builds the workspace.
pub(crate) fn target_folder(root: &Path) -> PathBuf {
    root.join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// Builds the command line `vmadiff` and returns its path.
pub(crate) fn build_vmadiff(root: &Path) -> Result<PathBuf> {
    cmd!("cargo", "build", "--release").run().context("vmadiff does not build")?;
    Ok(target_folder(root).join("release/vmadiff"))
}

/// Makes a folder that is used by one command at a time. Waits until no other command has it. The folder is free
/// again when the returned file is dropped.
pub(crate) fn lock(folder: &Path) -> Result<File> {
    let context = || folder.display().to_string();
    fs::create_dir_all(folder).with_context(context)?;
    let lock = File::open(folder).with_context(context)?;
    lock.lock().with_context(context)?;
    Ok(lock)
}

/// Returns bytes as hexadecimal digits.
pub(crate) fn hex(bytes: impl AsRef<[u8]>) -> String {
    bytes.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Returns the entries of a folder, sorted by name.
pub(crate) fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let context = || folder.display().to_string();
    let mut entries = fs::read_dir(folder)
        .with_context(context)?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<Vec<_>>>()
        .with_context(context)?;
    entries.sort();
    Ok(entries)
}

/// Returns the files below a folder, sorted. Folders with the name `skip` are left out. Links are
/// not followed.
pub(crate) fn files(folder: &Path, skip: Option<&str>) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in entries(folder)? {
        let data = path.symlink_metadata().with_context(|| path.display().to_string())?;
        if data.is_file() {
            files.push(path);
        } else if data.is_dir() && path.file_name().and_then(OsStr::to_str) != skip {
            files.extend(self::files(&path, skip)?);
        }
    }
    files.sort();
    Ok(files)
}

/// Returns the symbolic links below a folder, sorted.
pub(crate) fn links(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut links = Vec::new();
    for path in entries(folder)? {
        let data = path.symlink_metadata().with_context(|| path.display().to_string())?;
        if data.is_symlink() {
            links.push(path);
        } else if data.is_dir() {
            links.extend(self::links(&path)?);
        }
    }
    links.sort();
    Ok(links)
}

/// Makes or renews a symbolic link.
pub(crate) fn link(to: &Path, link: &Path) -> Result<()> {
    if fs::read_link(link).is_ok_and(|old| old == to) {
        return Ok(());
    }
    match link.symlink_metadata() {
        Ok(data) if data.is_dir() => fs::remove_dir_all(link),
        Ok(_) => fs::remove_file(link),
        Err(_) => Ok(()),
    }
    .with_context(|| link.display().to_string())?;
    std::os::unix::fs::symlink(to, link).with_context(|| link.display().to_string())
}

/// Builds the example `corpus`, which answers questions of `ci/` about programs, and returns its
/// path.
pub(crate) fn build_corpus_example(root: &Path) -> Result<PathBuf> {
    cmd!("cargo", "build", "--quiet", "--release", "--example", "corpus")
        .run()
        .context("the example corpus does not build")?;
    Ok(target_folder(root).join("release/examples/corpus"))
}

/// Returns the last lines of a text.
pub(crate) fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn files_are_those_below_a_folder() -> Result<()> {
        let scratch = Scratch::new()?;
        let folder = scratch.path();
        for path in ["a/2", "a/codec/3", "b/deeper/1", "codec/4"] {
            let path = folder.join(path);
            fs::create_dir_all(path.parent().unwrap_or(folder))?;
            fs::write(path, "")?;
        }
        std::os::unix::fs::symlink("a", folder.join("link"))?;
        let names = |skip| -> Result<Vec<String>> {
            let names = files(folder, skip)?
                .into_iter()
                .map(|path| Ok(path.strip_prefix(folder)?.display().to_string()));
            names.collect()
        };
        assert_eq!(names(None)?, ["a/2", "a/codec/3", "b/deeper/1", "codec/4"]);
        assert_eq!(names(Some("codec"))?, ["a/2", "b/deeper/1"]);
        assert_eq!(links(folder)?, [folder.join("link")]);
        link(Path::new("b"), &folder.join("link"))?;
        link(Path::new("b"), &folder.join("a"))?;
        for renewed in ["a", "link"] {
            assert_eq!(fs::read_link(folder.join(renewed))?, Path::new("b"), "{renewed}");
        }
        Ok(())
    }

    #[test]
    fn the_tail_of_a_text_is_its_last_lines() {
        assert_eq!(tail("a\nb\nc\n", 2), "b\nc");
        assert_eq!(tail("a\n", 2), "a");
        assert_eq!(tail("", 2), "");
    }
}
