//! The source of a kernel: a folder of the user, or a package of Debian.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use duct::cmd;
use sha1::{Digest as _, Sha1};

use crate::kernel::packages::Packages;
use crate::project::hex;
use crate::scratch::Scratch;

/// The packages of Debian that have a kernel's source.
const PACKAGES: [&str; 3] = ["linux-source-6.12", "linux-source-6.1", "linux-source-5.10"];

/// A kernel's source. It is never written to.
pub(crate) struct Source {
    /// The name of its folder in the cache.
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    /// The release in its Makefile, such as 6.12.117.
    pub(crate) release: String,
}

impl Source {
    /// Finds the source that `--source` names. A package is fetched and unpacked once.
    pub(crate) fn find(text: &str, cache: &Path) -> Result<Source> {
        let path = Path::new(text);
        let (name, folder) = if path.is_dir() {
            let folder = path.canonicalize().with_context(|| path.display().to_string())?;
            let hash = hex(Sha1::digest(folder.as_os_str().as_encoded_bytes()));
            let last = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            (format!("{last}-{}", &hash[..8]), folder)
        } else if PACKAGES.contains(&text) {
            (text.to_owned(), unpacked(text, cache)?)
        } else {
            bail!(
                "--source {text}: expected a folder with a kernel's source, or one of {PACKAGES:?}"
            );
        };
        let file = folder.join("Makefile");
        let makefile = fs::read_to_string(&file)
            .with_context(|| format!("{}: expected a kernel's source", file.display()))?;
        let number = |key: &str| value(&makefile, key).filter(|number| !number.is_empty());
        let (Some(major), Some(minor)) = (number("VERSION"), number("PATCHLEVEL")) else {
            bail!("{}: expected VERSION and PATCHLEVEL of a kernel", file.display());
        };
        let rest = number("SUBLEVEL").map_or_else(String::new, |number| format!(".{number}"));
        let extra = number("EXTRAVERSION").unwrap_or_default();
        Ok(Source { name, folder, release: format!("{major}.{minor}{rest}{extra}") })
    }
}

/// Returns the value of a line `KEY = value` of a Makefile.
fn value<'a>(makefile: &'a str, key: &str) -> Option<&'a str> {
    makefile.lines().find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == key).then_some(value.trim())
    })
}

/// Returns the folder of a package's source.
fn unpacked(package: &str, cache: &Path) -> Result<PathBuf> {
    let folder = cache.join("sources").join(package);
    if folder.join("Makefile").exists() {
        return Ok(folder);
    }
    eprintln!("ci/tree: fetching {package}");
    let sources = cache.join("sources");
    fs::create_dir_all(&sources).with_context(|| sources.display().to_string())?;
    let work = Scratch::within(cache)?;
    Packages::new(cache.to_owned()).unpack(package, work.path())?;
    let archive = work.path().join(format!("x/usr/src/{package}.tar.xz"));
    ensure!(archive.exists(), "{package} has no {package}.tar.xz");
    let unpacked = work.path().join("s");
    fs::create_dir(&unpacked).with_context(|| unpacked.display().to_string())?;
    cmd!("tar", "-xf", &archive, "-C", &unpacked).run().context("tar")?;
    // The folder appears in one step, so a run that was stopped leaves no half of it.
    fs::rename(unpacked.join(package), &folder).with_context(|| folder.display().to_string())?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_that_of_the_makefile() -> Result<()> {
        let scratch = Scratch::new()?;
        let folder = scratch.path().join("linux");
        fs::create_dir(&folder)?;
        let text = folder.display().to_string();
        let error = |expected: &str| {
            let error = Source::find(&text, scratch.path()).err().map(|error| format!("{error:#}"));
            assert!(error.as_ref().is_some_and(|error| error.contains(expected)), "{error:?}");
        };
        error("expected a kernel's source");
        fs::write(folder.join("Makefile"), "all:\n\ttrue\n")?;
        error("expected VERSION and PATCHLEVEL");
        let makefile =
            "VERSION = 6\nPATCHLEVEL = 13\nSUBLEVEL = 0\nEXTRAVERSION = -rc3\nNAME = x\n";
        fs::write(folder.join("Makefile"), makefile)?;
        let source = Source::find(&text, scratch.path())?;
        assert_eq!(source.release, "6.13.0-rc3");
        assert!(source.name.starts_with("linux-"), "{}", source.name);
        assert!(Source::find("linux-source-9.9", scratch.path()).is_err());
        Ok(())
    }
}
