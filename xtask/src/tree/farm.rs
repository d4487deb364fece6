//! A copy of a source for building: a tree of symbolic links, in which the patched files are files.
//!
//! The source itself is never written to. The copy stays in the cache with its build folders, so a
//! build after a change compiles only what the change touches.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};

/// The contents of the patched files, by their path in the source; `None` for a file that the patch
/// removes.
pub(crate) type Patched = BTreeMap<PathBuf, Option<Vec<u8>>>;

/// A tree of links.
pub(crate) struct Farm {
    source: PathBuf,
    tree: PathBuf,
}

impl Farm {
    /// Makes the links of a source in `folder`, or completes them.
    pub(crate) fn of(source: &Path, folder: &Path) -> Result<Farm> {
        let tree = folder.join("tree");
        fs::create_dir_all(&tree).with_context(|| tree.display().to_string())?;
        ensure!(
            !source.join(".config").exists(),
            "{}: the source has a .config, so the kernel does not build outside of it: \
             make mrproper, or give a clean copy (git worktree add)",
            source.display()
        );
        let farm = Farm { source: source.to_owned(), tree };
        farm.link(Path::new(""))?;
        Ok(farm)
    }

    /// Returns the folder of the links.
    pub(crate) fn tree(&self) -> &Path {
        &self.tree
    }

    /// Links the entries of a folder that are not there, and removes what is no longer in the source.
    fn link(&self, folder: &Path) -> Result<()> {
        let (from, to) = (self.source.join(folder), self.tree.join(folder));
        let context = || from.display().to_string();
        let mut names = Vec::new();
        for entry in fs::read_dir(&from).with_context(context)? {
            let entry = entry.with_context(context)?;
            let (name, kind) = (entry.file_name(), entry.file_type().with_context(context)?);
            names.push(name.clone());
            if name == ".git" {
                continue;
            }
            let there = to.join(&name);
            if kind.is_dir() {
                if let Err(error) = fs::create_dir(&there)
                    && error.kind() != io::ErrorKind::AlreadyExists
                {
                    return Err(error).with_context(|| there.display().to_string());
                }
                self.link(&folder.join(&name))?;
            } else if there.symlink_metadata().is_err() {
                symlink(entry.path(), &there).with_context(|| there.display().to_string())?;
            }
        }
        names.sort();
        for entry in fs::read_dir(&to).with_context(|| to.display().to_string())? {
            let entry = entry.with_context(|| to.display().to_string())?;
            let is_link = entry.file_type().is_ok_and(|kind| kind.is_symlink());
            if is_link && names.binary_search(&entry.file_name()).is_err() {
                fs::remove_file(entry.path())
                    .with_context(|| entry.path().display().to_string())?;
            }
        }
        Ok(())
    }

    /// Makes the copy that of the source with these patched files. A file that an earlier patch
    /// changed gets the source's content, as a file with a new time: its object is compiled again.
    pub(crate) fn apply(&self, patched: &Patched) -> Result<()> {
        let list = self.tree.with_file_name("patched");
        let before = fs::read_to_string(&list).unwrap_or_default();
        let mut names: Vec<PathBuf> = before.lines().map(PathBuf::from).collect();
        names.extend(patched.keys().cloned());
        names.sort();
        names.dedup();
        // The list is written first. A run that is stopped leaves no patched file that is not in it.
        let lines: String = names.iter().map(|name| format!("{}\n", name.display())).collect();
        fs::write(&list, lines).with_context(|| list.display().to_string())?;
        for name in names {
            let (there, from) = (self.tree.join(&name), self.source.join(&name));
            let wanted = match patched.get(&name) {
                Some(content) => content.clone(),
                None => fs::read(&from).ok(),
            };
            let is_link = there.symlink_metadata().is_ok_and(|data| data.is_symlink());
            let context = || there.display().to_string();
            if !is_link && fs::read(&there).ok() == wanted {
                continue;
            }
            if there.symlink_metadata().is_ok() {
                fs::remove_file(&there).with_context(context)?;
            }
            if let Some(content) = wanted {
                if let Some(parent) = there.parent() {
                    fs::create_dir_all(parent).with_context(context)?;
                }
                fs::write(&there, content).with_context(context)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_copy_follows_its_source_and_its_patches_and_leaves_the_source_alone() -> Result<()> {
        let scratch = Scratch::new()?;
        let (source, cache) = (scratch.path().join("linux"), scratch.path().join("cache"));
        fs::create_dir_all(source.join("mm"))?;
        for (name, text) in [("Makefile", "VERSION"), ("mm/vma.c", "vma"), ("mm/gone.c", "gone")] {
            fs::write(source.join(name), text)?;
        }
        let farm = Farm::of(&source, &cache)?;
        let read = |name: &str| fs::read_to_string(farm.tree().join(name)).ok();
        assert_eq!(read("mm/vma.c").as_deref(), Some("vma"));

        let patched = |name: &str, text: Option<&str>| -> Patched {
            [(PathBuf::from(name), text.map(|text| text.as_bytes().to_vec()))].into()
        };
        farm.apply(&patched("mm/vma.c", Some("patched")))?;
        assert_eq!(read("mm/vma.c").as_deref(), Some("patched"));
        assert_eq!(fs::read_to_string(source.join("mm/vma.c"))?, "vma");

        farm.apply(&patched("mm/gone.c", None))?;
        assert_eq!((read("mm/vma.c").as_deref(), read("mm/gone.c")), (Some("vma"), None));
        farm.apply(&patched("mm/new.c", Some("new")))?;
        assert_eq!(read("mm/new.c").as_deref(), Some("new"));
        farm.apply(&Patched::new())?;
        assert_eq!((read("mm/gone.c").as_deref(), read("mm/new.c")), (Some("gone"), None));

        fs::write(source.join("mm/vma.c"), "changed by its owner")?;
        fs::remove_file(source.join("Makefile"))?;
        let farm = Farm::of(&source, &cache)?;
        farm.apply(&Patched::new())?;
        assert_eq!(read("mm/vma.c").as_deref(), Some("changed by its owner"));
        assert_eq!(read("Makefile"), None);

        fs::write(source.join(".config"), "")?;
        assert!(Farm::of(&source, &cache).is_err());
        Ok(())
    }
}
