//! Builds the libraries: patches a copy of the candidate, and compiles only that crate again.
//!
//! Each core has a copy, `target/faults/copies/N`: a folder of links to the project's files, in
//! which `candidate/` is a copy. The crates that the candidate depends on are built once in each
//! copy. A library is built again if a source, the patch, the compiler or a flag has changed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use duct::{Expression, cmd};
use sha1::{Digest, Sha1};
use vmadiff_faults::{Fault, Faults, Flavour};

use super::{apply, report};
use crate::project::{self, entries, files, hex, links, tail};
use crate::{Status, shell};

/// The flags of `cargo fuzz build -s none --no-trace-compares`, with which a fuzz target sees the
/// library's coverage.
const FUZZ_FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cdebug-assertions -Ccodegen-units=1";
/// Warnings are off, because a patch may leave a variable or a function unused.
const NO_WARNINGS: &str = "-Awarnings";

/// The builder of the libraries of faults. It builds as many at a time as there are cores.
pub(crate) struct Builder<'a> {
    root: &'a Path,
    faults: &'a Faults,
    flavour: Flavour,
    /// The hash of all inputs that the libraries have in common.
    common: Sha1,
    /// The copies that no build uses at present.
    free: Mutex<Vec<PathBuf>>,
    /// A lock, because two runs at once would write the same copies.
    _lock: File,
}

impl<'a> Builder<'a> {
    /// Prepares the copies. Waits for another run to end.
    pub(crate) fn new(root: &'a Path, faults: &'a Faults, flavour: Flavour) -> Result<Builder<'a>> {
        let copies = root.join("target/faults/copies");
        let libraries = root.join("target/faults").join(flavour.folder());
        fs::create_dir_all(&libraries).with_context(|| libraries.display().to_string())?;
        let lock = project::lock(&copies)?;
        let free = (0..shell::cores())
            .map(|n| copy(root, &copies.join(n.to_string())))
            .collect::<Result<Vec<_>>>()?;
        let common = common(root, flavour)?;
        Ok(Builder { root, faults, flavour, common, free: Mutex::new(free), _lock: lock })
    }

    /// Builds the library of a fault if it is missing or out of date, and returns whether it was
    /// built.
    ///
    /// # Errors
    /// Returns an error with the file and hunk that do not apply, or with the message of the
    /// compiler.
    pub(crate) fn build(&self, name: &str) -> Result<bool> {
        let patch = self.faults.patch(name);
        let text = fs::read(&patch).with_context(|| patch.display().to_string())?;
        let key = hex(self.common.clone().chain_update(&text).finalize());
        let (library, from) = self.faults.built(name, self.flavour);
        let key_file = library.with_extension("key");
        let up_to_date = fs::read_to_string(&key_file).is_ok_and(|old| old == key);
        if up_to_date && library.is_file() && fs::read(&from).is_ok_and(|old| old == text) {
            return Ok(false);
        }
        let _ = fs::remove_file(&key_file);
        let taken = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let copy = taken.context("more builds at once than there are copies")?;
        let built = self.build_in(&copy, &patch);
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        free.push(copy);
        // The library is copied before the folder is given to another build.
        fs::copy(built?, &library).with_context(|| library.display().to_string())?;
        drop(free);
        fs::write(&from, &text).with_context(|| from.display().to_string())?;
        fs::write(&key_file, &key).with_context(|| key_file.display().to_string())?;
        Ok(true)
    }

    /// Applies the patch in a copy, and returns the library that is built there.
    fn build_in(&self, copy: &Path, patch: &Path) -> Result<PathBuf> {
        // The patch is applied in a separate folder first. Cargo builds by the times of files, so
        // only files that differ from the last patch may be written.
        let stage = copy.join("stage");
        if stage.exists() {
            fs::remove_dir_all(&stage).context("stage")?;
        }
        transfer(&self.root.join("candidate/src"), &stage.join("candidate/src"))?;
        apply::apply(patch, &stage)?;
        transfer(&stage.join("candidate/src"), &copy.join("candidate/src"))?;
        let target = copy.join("target").join(self.flavour.folder());
        let output = command(copy, &target, self.flavour, self.root)
            .stderr_to_stdout()
            .stdout_capture()
            .unchecked()
            .run()
            .context("cargo does not run")?;
        if !output.status.success() {
            bail!("does not build:\n{}", tail(&String::from_utf8_lossy(&output.stdout), 30));
        }
        let profile = if self.flavour == Flavour::Plain { "debug" } else { "release" };
        Ok(target.join(profile).join("libvmadiff_candidate_library.so"))
    }
}

/// Runs `ci/faults build`.
pub(crate) fn build(
    root: &Path,
    faults: &Faults,
    flavour: Flavour,
    chosen: &[Fault],
) -> Result<Status> {
    let start = Instant::now();
    let results = build_all(root, faults, flavour, chosen)?;
    let built = results.iter().filter(|result| matches!(result, Ok(true))).count();
    let failures = failures(chosen, results);
    println!("{built} of {} built in {:.0} s", chosen.len(), start.elapsed().as_secs_f64());
    report(chosen.len(), &failures)
}

/// Builds the libraries of all these faults. A build that fails does not stop the others.
pub(crate) fn build_all(
    root: &Path,
    faults: &Faults,
    flavour: Flavour,
    chosen: &[Fault],
) -> Result<Vec<Result<bool>>> {
    let builder = Builder::new(root, faults, flavour)?;
    Ok(shell::with_progress("build", shell::cores(), chosen, |fault| builder.build(&fault.name)))
}

/// Returns the faults that failed, with the reason.
pub(crate) fn failures<T>(chosen: &[Fault], results: Vec<Result<T>>) -> Vec<(&str, String)> {
    let failed = chosen.iter().zip(results).filter_map(|(fault, result)| {
        result.err().map(|error| (fault.name.as_str(), format!("{error:#}")))
    });
    failed.collect()
}

/// Returns the command that builds the library in a copy.
fn command(copy: &Path, target: &Path, flavour: Flavour, root: &Path) -> Expression {
    let mut arguments = vec!["build", "--locked", "--quiet", "-p", "vmadiff-candidate-library"];
    if flavour != Flavour::Plain {
        arguments.push("--release");
    }
    let build = cmd("cargo", arguments)
        .dir(copy)
        .env("CARGO_TARGET_DIR", target)
        .env("RUSTFLAGS", rustflags(flavour))
        // Programs are short, so a quick build saves more time than a fast library.
        .env("CARGO_PROFILE_DEV_OPT_LEVEL", "0")
        .env("CARGO_PROFILE_DEV_DEBUG", "false")
        .env("CARGO_PROFILE_RELEASE_DEBUG", "false")
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    match flavour {
        // Edges are counted in the candidate only, as in the fuzz targets.
        Flavour::Fuzz => build.env("RUSTC_WRAPPER", root.join("ci/instrument")),
        Flavour::Plain | Flavour::Release => build,
    }
}

fn rustflags(flavour: Flavour) -> String {
    match flavour {
        Flavour::Fuzz => format!("{NO_WARNINGS} {FUZZ_FLAGS}"),
        Flavour::Plain | Flavour::Release => NO_WARNINGS.to_owned(),
    }
}

/// Makes a copy of the project, with links and a candidate of its own. Returns its folder.
fn copy(root: &Path, copy: &Path) -> Result<PathBuf> {
    fs::create_dir_all(copy.join("candidate/src")).with_context(|| copy.display().to_string())?;
    for entry in entries(root)? {
        let Some(name) = entry.file_name() else { continue };
        let hidden = name.to_string_lossy().starts_with('.');
        if hidden || [OsStr::new("candidate"), OsStr::new("target")].contains(&name) {
            continue;
        }
        let link = copy.join(name);
        if fs::read_link(&link).is_ok_and(|to| to == entry) {
            continue;
        }
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(&entry, &link).with_context(|| link.display().to_string())?;
    }
    update(&root.join("candidate/Cargo.toml"), &copy.join("candidate/Cargo.toml"))?;
    Ok(copy.to_owned())
}

/// Makes the files below `to` the same as those below `from`. A file that does not change keeps its
/// time.
fn transfer(from: &Path, to: &Path) -> Result<()> {
    transfer_but(from, to, None)
}

/// Makes the files below `to` the same as those below `from`, except one file, which is left as it
/// is.
pub(crate) fn transfer_but(from: &Path, to: &Path, but: Option<&Path>) -> Result<()> {
    fs::create_dir_all(to).with_context(|| to.display().to_string())?;
    for file in files(to, None)? {
        if !from.join(file.strip_prefix(to)?).exists() {
            fs::remove_file(&file).with_context(|| file.display().to_string())?;
        }
    }
    for file in files(from, None)? {
        let to = to.join(file.strip_prefix(from)?);
        if but != Some(to.as_path()) {
            update(&file, &to)?;
        }
    }
    // A crate has links to files beside it: its licence, and the programs of its rules.
    for link in links(from)? {
        let to = to.join(link.strip_prefix(from)?);
        let target = fs::read_link(&link).with_context(|| link.display().to_string())?;
        project::link(&target, &to)?;
    }
    Ok(())
}

/// Writes the file `to` if it differs from `from`.
pub(crate) fn update(from: &Path, to: &Path) -> Result<()> {
    let text = fs::read(from).with_context(|| from.display().to_string())?;
    if fs::read(to).is_ok_and(|old| old == text) {
        return Ok(());
    }
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    }
    fs::write(to, text).with_context(|| to.display().to_string())
}

/// Hashes the sources, the compiler and the flags of a flavour.
fn common(root: &Path, flavour: Flavour) -> Result<Sha1> {
    let compiler = cmd!("rustc", "-vV").read().context("rustc does not run")?;
    let mut hash = Sha1::new();
    hash.update(format!("{}\n{}\n{compiler}\n", flavour.folder(), rustflags(flavour)));
    let mut sources = Vec::new();
    for folder in ["candidate/src", "machine/src", "examples/candidate-library"] {
        sources.extend(files(&root.join(folder), None)?);
    }
    for file in
        ["Cargo.toml", "Cargo.lock", "candidate/Cargo.toml", "machine/Cargo.toml", "ci/instrument"]
    {
        sources.push(root.join(file));
    }
    for file in sources {
        let text = fs::read(&file).with_context(|| file.display().to_string())?;
        hash.update(format!("{}\n{}\n", file.strip_prefix(root)?.display(), text.len()));
        hash.update(text);
    }
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    /// Makes a project with the files that [`common`] reads.
    fn project() -> Result<Scratch> {
        let scratch = Scratch::new()?;
        for file in [
            "Cargo.toml",
            "Cargo.lock",
            "candidate/Cargo.toml",
            "candidate/src/copy_vma.rs",
            "machine/Cargo.toml",
            "machine/src/lib.rs",
            "examples/candidate-library/src/lib.rs",
            "ci/instrument",
        ] {
            let path = scratch.path().join(file);
            fs::create_dir_all(path.parent().context("a folder")?)?;
            fs::write(path, "")?;
        }
        Ok(scratch)
    }

    #[test]
    fn the_hash_changes_with_a_source_and_a_flag_and_nothing_else() -> Result<()> {
        let project = project()?;
        let hash =
            |flavour| -> Result<String> { Ok(hex(common(project.path(), flavour)?.finalize())) };
        let before = hash(Flavour::Plain)?;
        assert_eq!(before.len(), 40);
        assert_ne!(before, hash(Flavour::Fuzz)?);
        fs::write(project.path().join("README.md"), "other")?;
        assert_eq!(before, hash(Flavour::Plain)?);
        for file in ["candidate/src/copy_vma.rs", "machine/src/lib.rs", "Cargo.lock"] {
            fs::write(project.path().join(file), "changed")?;
            assert_ne!(before, hash(Flavour::Plain)?, "{file}");
            fs::write(project.path().join(file), "")?;
        }
        // Text that moves from one file to the next is a change of the hash too.
        fs::rename(
            project.path().join("candidate/src/copy_vma.rs"),
            project.path().join("candidate/src/other.rs"),
        )?;
        assert_ne!(before, hash(Flavour::Plain)?);
        Ok(())
    }

    #[test]
    fn a_file_that_is_the_same_keeps_its_time() -> Result<()> {
        let scratch = Scratch::new()?;
        let (from, to) = (scratch.path().join("from"), scratch.path().join("to"));
        for (file, text) in
            [("from/same", "1"), ("from/new", "2"), ("to/same", "1"), ("to/old", "3")]
        {
            let path = scratch.path().join(file);
            fs::create_dir_all(path.parent().context("a folder")?)?;
            fs::write(path, text)?;
        }
        let time = fs::metadata(to.join("same"))?.modified()?;
        transfer(&from, &to)?;
        assert_eq!(fs::metadata(to.join("same"))?.modified()?, time);
        assert_eq!(files(&to, None)?, [to.join("new"), to.join("same")]);
        Ok(())
    }
}
