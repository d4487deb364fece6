//! A folder of results. Files of an earlier run are replaced only on request, and then none of them
//! stays.

use std::collections::{BTreeSet, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use super::files::{check, name, write};

/// The names of the files that a command writes to its folder.
pub(crate) enum Names<'a> {
    /// The command writes files for which the function is true, but such a name does not tell who
    /// wrote the file. A list in the folder does.
    Listed(&'a dyn Fn(&str) -> bool),
    /// Only this command writes files for which the function is true.
    Own(&'a dyn Fn(&str) -> bool),
}

/// The file that lists the results in a folder, one a line.
const LIST: &str = ".vmadiff-files";

/// A folder of results that can be written.
pub(crate) struct Folder {
    path: PathBuf,
    force: bool,
    is_listed: bool,
    /// The folder was missing.
    is_new: bool,
    /// The files that an earlier run wrote.
    earlier: BTreeSet<OsString>,
}

impl Folder {
    /// Makes a folder if it is missing, and checks that files can be written to it. Without `force`
    /// the folder must not have a file that the command might write.
    pub(crate) fn new(path: &Path, force: bool, names: Names) -> anyhow::Result<Folder> {
        let (is_result, is_listed) = match names {
            Names::Listed(is_result) => (is_result, true),
            Names::Own(is_result) => (is_result, false),
        };
        let is_new = !path.exists();
        fs::create_dir_all(path).with_context(|| name(path))?;
        check(&path.join(LIST), true)?;
        let list = match is_listed {
            true => fs::read_to_string(path.join(LIST)).unwrap_or_default(),
            false => String::new(),
        };
        let mut earlier = BTreeSet::new();
        for entry in fs::read_dir(path).with_context(|| name(path))? {
            let file = entry.with_context(|| name(path))?.file_name();
            let Some(text) = file.to_str().filter(|text| is_result(text)) else { continue };
            if !force {
                let file = name(&path.join(text));
                bail!("{file}: the folder has results: use --force to replace them");
            }
            if !is_listed || list.lines().any(|line| line == text) {
                earlier.insert(file);
            }
        }
        Ok(Folder { path: path.to_owned(), force, is_listed, is_new, earlier })
    }

    /// Returns the path of the folder.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes the files, none of them if one would overwrite an existing file without `force`. Then
    /// removes the other files of an earlier run, except the files in `inputs`.
    pub(crate) fn write(
        &self,
        files: &[(PathBuf, Vec<u8>)],
        inputs: &[PathBuf],
    ) -> anyhow::Result<()> {
        files.iter().try_for_each(|(path, _)| check(path, self.force))?;
        files.iter().try_for_each(|(path, bytes)| write(path, bytes, self.force))?;
        let names: BTreeSet<&OsStr> =
            files.iter().filter_map(|(path, _)| path.file_name()).collect();
        let inputs: HashSet<PathBuf> =
            inputs.iter().filter_map(|path| path.canonicalize().ok()).collect();
        let mut kept = names.clone();
        for file in self.earlier.iter().filter(|file| !names.contains(file.as_os_str())) {
            let path = self.path.join(file);
            if path.canonicalize().is_ok_and(|path| inputs.contains(&path)) {
                kept.insert(file);
            } else {
                fs::remove_file(&path).with_context(|| name(&path))?;
            }
        }
        if !self.is_listed {
            return Ok(());
        }
        // A later run removes what stays, too.
        let list: String = kept.iter().map(|name| format!("{}\n", name.display())).collect();
        write(&self.path.join(LIST), list.as_bytes(), true)
    }
}

impl Drop for Folder {
    /// Removes a folder that was made for results, if there are none after an error.
    fn drop(&mut self) {
        if self.is_new {
            // The system refuses to remove a folder that has files.
            let _ = fs::remove_dir(&self.path);
        }
    }
}
