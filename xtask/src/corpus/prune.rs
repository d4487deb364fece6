//! `ci/corpus prune`: keeps the files that add coverage or a merge case.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use duct::cmd;

use super::features::{self, add_cases, choose, name};
use super::{Ask, name_of, size};
use crate::project::{CORPUS, files, lock, tail};
use crate::scratch::Scratch;
use crate::targets::{Target, at_fixed};

/// Prunes the corpora of targets.
pub(crate) fn run(
    root: &Path,
    ask: &Ask,
    found: &Path,
    kept: &Path,
    targets: &[Target],
) -> Result<()> {
    // Of two prunes at once, each would drop the files that it sees the other keep.
    let _lock = lock(kept)?;
    for &target in targets {
        let scratch = Scratch::new()?;
        let prune = Prune {
            target,
            binary: target.build(root)?,
            flags: target.flags(root)?,
            work: scratch.path(),
        };
        let into = kept.join(target.name());
        let line = prune.run(root, ask, &found.join(target.name()), &into)?;
        println!("{}: {line}", target.name());
    }
    Ok(())
}

struct Prune<'a> {
    target: Target,
    binary: PathBuf,
    flags: Vec<String>,
    /// A folder for the temporary files of the run.
    work: &'a Path,
}

impl Prune<'_> {
    /// Prunes a corpus and returns a summary.
    fn run(&self, root: &Path, ask: &Ask, from: &Path, into: &Path) -> Result<String> {
        fs::create_dir_all(into).with_context(|| into.display().to_string())?;
        // Only the present files are pruned; files that other runs add meanwhile are left for the
        // next prune.
        let list = if from.is_dir() { files(from, None)? } else { Vec::new() };
        let before = files(into, None)?;
        let mut candidates = before.clone();
        candidates.extend(self.merge(&list)?);
        let all = self.named(ask, &candidates)?;

        let seeds = files(&root.join(CORPUS).join(self.target.name()), None)?;
        let of_files = |files| features::of_files(&self.binary, &self.flags, files, self.work);
        let (mut of_seeds, mut of_all) = (of_files(&seeds)?, of_files(&all)?);
        if self.target != Target::Codec {
            add_cases(&mut of_seeds, ask, &seeds)?;
            add_cases(&mut of_all, ask, &all)?;
        }
        let (keep, seen) = choose(&of_seeds, &of_all, &by_size(&all)?);

        for file in all.iter().filter(|file| keep.contains(&name(file))) {
            let (part, to) = (into.join(format!(".{}", name(file))), into.join(name(file)));
            if !to.exists() {
                fs::copy(file, &part)
                    .and_then(|_| fs::rename(&part, &to))
                    .with_context(|| to.display().to_string())?;
            }
        }
        let old = files(into, None)?.into_iter().filter(|file| !keep.contains(&name(file)));
        for file in old.chain(list.iter().cloned()) {
            match fs::remove_file(&file) {
                // Another prune has already deleted the file.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                deleted => deleted.with_context(|| file.display().to_string())?,
            }
        }
        Ok(format!(
            "{} files and {} found; kept {}, {} bytes; {seen} features with the seeds",
            before.len(),
            list.len(),
            keep.len(),
            size(&files(into, None)?)?
        ))
    }

    fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.work.join(name);
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        Ok(folder)
    }

    /// Lets libFuzzer reduce many files to a few with the same coverage, and returns these.
    fn merge(&self, list: &[PathBuf]) -> Result<Vec<PathBuf>> {
        if list.is_empty() {
            return Ok(Vec::new());
        }
        let (found, merged) = (self.folder("found")?, self.folder("merged")?);
        let mut seen = BTreeSet::new();
        for file in list {
            // libFuzzer orders files of the same size by name, so files are named by their
            // contents.
            match fs::read(file) {
                Ok(bytes) if seen.insert(name_of(&bytes)) => {
                    let to = found.join(name_of(&bytes));
                    fs::write(&to, bytes).with_context(|| to.display().to_string())?;
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(|| file.display().to_string()),
            }
        }
        let mut arguments: Vec<_> = self.flags.iter().map(Into::into).collect();
        arguments.extend(["-merge=1".into(), merged.clone().into_os_string(), found.into()]);
        let output = at_fixed(cmd(&self.binary, arguments))
            .stderr_to_stdout()
            .stdout_capture()
            .unchecked()
            .run()
            .with_context(|| self.binary.display().to_string())?;
        if !output.status.success() {
            eprintln!("{}", tail(&String::from_utf8_lossy(&output.stdout), 20));
            bail!("{} -merge=1: {}", self.target.name(), output.status);
        }
        files(&merged, None)
    }

    /// Copies files to names of their contents. Programs are written in the corpus format; the
    /// files of codec are copied unchanged.
    fn named(&self, ask: &Ask, files: &[PathBuf]) -> Result<Vec<PathBuf>> {
        let all = self.folder("all")?;
        let canonical = if self.target == Target::Codec {
            files.to_vec()
        } else {
            let folder = self.folder("canonical")?;
            for question in ask.of_files(&["canonical", &folder.to_string_lossy()], files) {
                question.run().context("the example corpus")?;
            }
            self::files(&folder, None)?
        };
        for file in canonical {
            let bytes = fs::read(&file).with_context(|| file.display().to_string())?;
            let to = all.join(name_of(&bytes));
            fs::write(&to, bytes).with_context(|| to.display().to_string())?;
        }
        self::files(&all, None)
    }
}

/// Returns the names of files by size, the smallest first, and by name if sizes are equal.
fn by_size(files: &[PathBuf]) -> Result<Vec<String>> {
    let mut sizes = Vec::new();
    for file in files {
        let data = file.metadata().with_context(|| file.display().to_string())?;
        sizes.push((data.len(), name(file)));
    }
    sizes.sort();
    Ok(sizes.into_iter().map(|(_, name)| name).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_files_come_first() -> Result<()> {
        let scratch = Scratch::new()?;
        for (name, size) in [("a", 10), ("b", 9), ("c", 10), ("d", 100)] {
            fs::write(scratch.path().join(name), vec![0; size])?;
        }
        assert_eq!(by_size(&files(scratch.path(), None)?)?, ["b", "a", "c", "d"]);
        Ok(())
    }
}
