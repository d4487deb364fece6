//! Debian's kernel packages. They are fetched with package lists that are separate from the
//! system's, because the system's sources may not have the suites.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail, ensure};
use duct::{Expression, cmd};

use super::boot::kernel_file;
use crate::project::{entries, lock, tail};
use crate::scratch::Scratch;
use crate::shell;

/// The keyring with the keys that sign the package lists.
const KEYS: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
const SUITES: [&str; 2] = ["bullseye", "bookworm"];
const SECURITY_SUITE: &str = "bookworm-security";

/// The name of Debian's prebuilt User Mode Linux.
const UML: &str = "uml";

/// A kernel version such as 5.10, or `uml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Version(String);

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Version, String> {
        if text == UML {
            return Ok(Version(text.to_owned()));
        }
        let number = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
        match text.split_once('.') {
            Some((major, minor)) if number(major) && number(minor) => Ok(Version(text.to_owned())),
            _ => Err("expected such as 5.10, or uml".to_owned()),
        }
    }
}

impl Version {
    /// Returns whether this is User Mode Linux, of the version that Debian has.
    pub(crate) fn is_uml(&self) -> bool {
        self.0 == UML
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The kernel packages of the cache folder.
pub(crate) struct Packages {
    cache: PathBuf,
}

impl Packages {
    pub(crate) fn new(cache: PathBuf) -> Packages {
        Packages { cache }
    }

    /// Fetches the newest kernel of a version, unless it was fetched before, and returns the name
    /// of its package.
    ///
    /// # Errors
    /// Returns an error with the reason why there is no kernel.
    pub(crate) fn fetch(&self, version: &Version) -> Result<String> {
        let kernel = kernel_file(&self.cache, version);
        let folder = self.cache.join(version.to_string());
        let name = folder.join("package");
        if kernel.metadata().is_ok_and(|data| data.len() > 0) {
            let package = fs::read_to_string(&name).with_context(|| name.display().to_string())?;
            return Ok(package.trim().to_owned());
        }
        let work = Scratch::within(&self.cache)?;
        let (package, image) = if version.is_uml() {
            let full = self.unpack("user-mode-linux", work.path())?;
            (full, only(&work.path().join("x/usr/bin"), "linux.uml")?)
        } else {
            self.update()?;
            let names = self.apt("apt-cache", &["pkgnames", &format!("linux-image-{version}.")]);
            let names = names.read().context("apt-cache pkgnames")?;
            let package = newest(names.lines(), version)
                .with_context(|| format!("no package linux-image-{version}.*-cloud-amd64"))?;
            self.unpack(package, work.path())?;
            (package.to_owned(), only(&work.path().join("x/boot"), "vmlinuz-")?)
        };
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        fs::write(&name, format!("{package}\n")).with_context(|| name.display().to_string())?;
        let part = work.path().join("image");
        fs::copy(image, &part)
            .and_then(|_| fs::rename(&part, &kernel))
            .with_context(|| kernel.display().to_string())?;
        Ok(package)
    }

    /// Downloads a package and unpacks it into the folder `x` of `work`. Returns the name of the
    /// package with its version.
    pub(crate) fn unpack(&self, package: &str, work: &Path) -> Result<String> {
        self.update()?;
        run(self.apt("apt-get", &["-qq", "download", package]).dir(work))?;
        let archive = only(work, ".deb")?;
        let name = archive.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        run(cmd!("dpkg-deb", "-x", &archive, work.join("x")))?;
        fs::remove_file(&archive).with_context(|| archive.display().to_string())?;
        Ok(name)
    }

    /// Fetches the package lists, once only. apt does not wait for another apt that fetches them.
    fn update(&self) -> Result<()> {
        let folder = self.cache.join("apt");
        let _lock = lock(&folder)?;
        let done = folder.join("done");
        if done.exists() {
            return Ok(());
        }
        let uris = cmd!(
            "apt-get",
            "indextargets",
            "--format",
            "$(ORIGIN) $(REPO_URI)",
            "Created-By: Packages"
        );
        let sources = sources(&uris.read().context("apt-get indextargets")?)?;
        ensure!(Path::new(KEYS).exists(), "there are no keys of Debian's archive: {KEYS}");
        let partial = folder.join("lists/partial");
        fs::create_dir_all(&partial).with_context(|| partial.display().to_string())?;
        let list = folder.join("sources.list");
        fs::write(&list, sources).with_context(|| list.display().to_string())?;
        run(self.apt("apt-get", &["-qq", "update"]))?;
        fs::write(&done, "").with_context(|| done.display().to_string())
    }

    /// Returns a command of apt that uses the separate package lists.
    fn apt(&self, program: &str, arguments: &[&str]) -> Expression {
        let cache = self.cache.display();
        let mut all = Vec::new();
        for option in [
            &format!("Dir::Etc::sourcelist={cache}/apt/sources.list"),
            "Dir::Etc::sourceparts=-",
            &format!("Dir::State::lists={cache}/apt/lists"),
            "Dir::Cache::pkgcache=",
            "Dir::Cache::srcpkgcache=",
            "APT::Architecture=amd64",
            "APT::Architectures=amd64",
            "APT::Sandbox::User=root",
            "Acquire::Languages=none",
            "Acquire::Retries=2",
            "Acquire::http::Timeout=30",
        ] {
            all.extend(["-o".to_owned(), option.to_owned()]);
        }
        all.extend(arguments.iter().map(|&argument| argument.to_owned()));
        cmd(program, all)
    }
}

/// Runs a command. The error has the last lines of its output.
fn run(command: Expression) -> Result<()> {
    let output = command.stderr_to_stdout().stdout_capture().unchecked().run()?;
    if !output.status.success() {
        bail!("{command:?}: {}", tail(&String::from_utf8_lossy(&output.stdout), 5));
    }
    Ok(())
}

/// Returns the one file of a folder whose name contains `part`.
fn only(folder: &Path, part: &str) -> Result<PathBuf> {
    entries(folder)?
        .into_iter()
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().contains(part)))
        .with_context(|| format!("{}: expected a file {part}", folder.display()))
}

/// Returns the list of sources: the mirrors of Debian that the system's apt knows, with the suites
/// that have the kernels. The lines of `uris` are `ORIGIN URI`.
fn sources(uris: &str) -> Result<String> {
    let mut uris: Vec<&str> =
        uris.lines().filter_map(|line| line.strip_prefix("Debian ")).collect();
    uris.sort_unstable();
    let find = |end: &str| uris.iter().find(|uri| uri.trim_end_matches('/').ends_with(end));
    let main =
        find("/debian").context("this system's apt knows no mirror of Debian (apt-get update?)")?;
    let line = |uri: &str, suite: &str| format!("deb [signed-by={KEYS}] {uri} {suite} main\n");
    let mut list: String = SUITES.iter().map(|suite| line(main, suite)).collect();
    if let Some(security) = find("-security") {
        list += &line(security, SECURITY_SUITE);
    }
    Ok(list)
}

/// Returns the package of the newest cloud kernel of a version.
fn newest<'a>(names: impl Iterator<Item = &'a str>, version: &Version) -> Option<&'a str> {
    let prefix = format!("linux-image-{version}.");
    names
        .filter(|name| {
            name.strip_prefix(&prefix)
                .and_then(|rest| rest.strip_suffix("-cloud-amd64"))
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
                && !name.contains(' ')
        })
        .max_by(|a, b| shell::by_number(a, b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().expect("a version")
    }

    #[test]
    fn a_version_is_two_numbers() {
        assert_eq!(version("5.10").to_string(), "5.10");
        assert!(version("uml").is_uml() && !version("6.1").is_uml());
        for wrong in ["", "um", "5", "5.", ".10", "5.10.3", "v5.10", "5.x", "5 .1"] {
            assert_eq!(
                wrong.parse::<Version>(),
                Err("expected such as 5.10, or uml".to_owned()),
                "{wrong}"
            );
        }
    }

    #[test]
    fn the_newest_cloud_kernel_of_a_version_is_chosen_by_number() {
        let names = [
            "linux-image-5.10.0-9-cloud-amd64",
            "linux-image-5.10.0-32-cloud-amd64",
            "linux-image-5.10.0-4-cloud-amd64",
            "linux-image-5.10.0-33-cloud-amd64-unsigned",
            "linux-image-5.10.0-34-amd64",
            "linux-image-5.10.0-35-cloud-amd64-dbg",
            "linux-image-5.10.0-0.deb10.40-cloud-amd64",
            "linux-image-5.1.0-99-cloud-amd64",
            "linux-image-6.12.9+bpo-cloud-amd64",
            "linux-image-6.12.10+bpo-cloud-amd64",
        ];
        let cases = [
            ("5.10", Some("linux-image-5.10.0-32-cloud-amd64")),
            ("6.12", Some("linux-image-6.12.10+bpo-cloud-amd64")),
            ("5.1", Some("linux-image-5.1.0-99-cloud-amd64")),
            ("6.1", None),
            ("5.100", None),
        ];
        for (text, expected) in cases {
            assert_eq!(newest(names.into_iter(), &version(text)), expected, "{text}");
            assert_eq!(newest(names.into_iter().rev(), &version(text)), expected, "{text}");
        }
    }

    #[test]
    fn sources_are_the_mirrors_that_the_system_has() -> Result<()> {
        let uris = "Other http://x.test/other/\nDebian http://m.test/debian-security/\n\
                    Debian http://m.test/debian/\nDebian http://m.test/debian/\n";
        let list = sources(uris)?;
        let lines: Vec<&str> = list.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].ends_with("] http://m.test/debian/ bullseye main"), "{list}");
        assert!(lines[1].ends_with("] http://m.test/debian/ bookworm main"), "{list}");
        assert!(
            lines[2].ends_with("] http://m.test/debian-security/ bookworm-security main"),
            "{list}"
        );

        assert_eq!(sources("Debian http://m.test/debian\n")?.lines().count(), 2);
        let error = sources("Ubuntu http://m.test/ubuntu/\n").expect_err("no mirror");
        assert!(error.to_string().contains("no mirror of Debian"), "{error}");
        Ok(())
    }
}
