//! The files of a command: programs, lists of known divergences, and results.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use vmadiff::input::{self, Format};
use vmadiff::known::Known;
use vmadiff::output;
use vmadiff_machine::Program;

/// The form of a written program.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum To {
    Text,
    Corpus,
}

impl From<To> for Format {
    fn from(to: To) -> Format {
        match to {
            To::Text => Format::Text,
            To::Corpus => Format::Corpus,
        }
    }
}

pub(crate) fn load(path: &Path) -> anyhow::Result<(Program, Format)> {
    input::load(path).with_context(|| path.display().to_string())
}

pub(crate) fn write(path: &Path, bytes: &[u8], force: bool) -> anyhow::Result<()> {
    output::write(path, bytes, force).with_context(|| path.display().to_string())
}

/// Writes files into a folder, which is made if it is missing. Writes none of them if one would
/// overwrite an existing file.
pub(crate) fn write_all(
    folder: &Path,
    files: &[(PathBuf, Vec<u8>)],
    force: bool,
) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    if let Some((path, _)) = files.iter().find(|(path, _)| !force && path.exists()) {
        bail!("{}: it exists: --force overwrites it", path.display());
    }
    files.iter().try_for_each(|(path, bytes)| write(path, bytes, force))
}

/// Reads a list of known divergences; returns an empty list without a file.
pub(crate) fn known(file: Option<&Path>) -> anyhow::Result<Known> {
    let Some(path) = file else { return Ok(Known::default()) };
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Known::parse(&text).with_context(|| path.display().to_string())
}

/// Reads the programs at `paths`. Returns them with the number of files in folders that are no
/// programs.
pub(crate) fn programs(paths: &[PathBuf]) -> anyhow::Result<(Vec<(PathBuf, Program)>, usize)> {
    let (mut programs, mut skipped) = (Vec::new(), 0);
    for file in input::files(paths)? {
        // Some files of a folder are skipped: fuzzing writes logs beside its findings. Triage
        // writes a text form beside each corpus file, which is the same program and must not count
        // twice.
        let named = paths.contains(&file);
        let is_twin =
            file.extension().is_some_and(|e| e == "txt") && file.with_extension("vmad").exists();
        if !named && is_twin {
            continue;
        }
        match load(&file) {
            Ok((program, _)) => programs.push((file, program)),
            Err(error) if named => return Err(error),
            Err(error) => {
                eprintln!("vmadiff: skipped: {error:#}");
                skipped += 1;
            }
        }
    }
    Ok((programs, skipped))
}
