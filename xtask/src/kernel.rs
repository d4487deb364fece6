//! `ci/kernel`: runs random programs on Debian's kernels, in an emulator or as User Mode Linux.

mod boot;
pub(crate) mod initramfs;
mod log;
pub(crate) mod packages;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use duct::cmd;

use self::log::Log;
use self::packages::{Packages, Version};
use crate::guest::System;
use crate::project::{self, tail};
use crate::{Status, shell};

/// Run random programs on Debian's kernels, beside the reference
///
/// A version is a cloud kernel of Debian in an emulator. `uml` is Debian's package user-mode-linux:
/// a kernel that is an ordinary program, with one instance on each core. Kernels and logs go to
/// target/kernels. Packages are fetched once, from the mirror that the apt of this system uses, with
/// package lists that are separate from the system's.
///
/// Exit status: 0 every difference is explained by a rule, 1 a difference is not explained or a
/// kernel did not finish, 2 bad use or a failed build, 3 no difference, but a kernel was skipped: it
/// has no package, or there is no emulator.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A kernel version such as 5.10, 6.1 or 6.12, of which the newest cloud kernel in Debian is
    /// used; or uml
    #[arg(required = true, value_name = "VERSION")]
    versions: Vec<Version>,
    /// The number of random programs on each kernel
    #[arg(long, value_name = "N", default_value_t = 2000,
          value_parser = clap::value_parser!(u32).range(1..=999_999_999))]
    programs: u32,
    /// The number of operations of each program
    #[arg(long, value_name = "N", default_value_t = 24,
          value_parser = clap::value_parser!(u32).range(1..=64))]
    operations: u32,
    /// The seed of the programs: the same seed makes the same programs
    #[arg(long, value_name = "N", default_value_t = 0,
          value_parser = clap::value_parser!(u32).range(0..=999_999_999))]
    seed: u32,
}

/// A kernel that ran to its end.
struct Finished {
    version: Version,
    package: String,
    log: Log,
}

/// Runs `ci/kernel`.
pub(crate) fn run(args: Args) -> Result<Status> {
    let Args { mut versions, programs, operations, seed } = args;
    // A version may be named once only, because a kernel has one log.
    let mut seen = Vec::new();
    versions.retain(|version| {
        !seen.contains(version) && {
            seen.push(version.clone());
            true
        }
    });
    let emulated = versions.iter().any(|version| !version.is_uml());
    for tool in ["qemu-system-x86_64", "apt-get", "dpkg-deb"] {
        if shell::find(tool).is_none() && (emulated || !tool.starts_with("qemu")) {
            eprintln!("ci/kernel: there is no {tool}: {} kernels skipped", versions.len());
            if tool == "qemu-system-x86_64" {
                eprintln!("ci/kernel: Debian has it in the package qemu-system-x86");
            }
            return Ok(Status::Skipped);
        }
    }
    let root = project::enter()?;
    let cache = project::target_folder(&root).join("kernels");
    fs::create_dir_all(&cache).with_context(|| cache.display().to_string())?;
    let cache = cache.canonicalize().with_context(|| cache.display().to_string())?;
    build_initramfs(&root, &cache)?;

    let packages = Packages::new(cache.clone());
    let mut skipped = 0;
    let mut fetched = Vec::new();
    for version in &versions {
        match packages.fetch(version) {
            Ok(package) => fetched.push((version.clone(), package)),
            Err(error) => {
                eprintln!("ci/kernel: {version} skipped: {error:#}");
                skipped += 1;
            }
        }
    }
    let mut arguments: Vec<String> =
        ["kernel", "--whole-machine", "--color", "never"].map(str::to_owned).into();
    for (name, value) in [("operations", operations), ("seed", seed)] {
        arguments.extend([format!("--{name}"), value.to_string()]);
    }
    let all = ["--random".to_owned(), programs.to_string()];
    // Half a second for each program is ten times the usual time.
    let seconds = 120 + u64::from(programs) / 2;
    let (uml, emulated): (Vec<_>, Vec<_>) =
        fetched.into_iter().partition(|(version, _)| version.is_uml());
    let mut logs = match emulated.first() {
        None => Vec::new(),
        Some((version, _)) => {
            let (program, initramfs) = (boot::kernel_file(&cache, version), initramfs_file(&cache));
            let system = System::Qemu.accelerated(&program, &initramfs, &cache)?;
            let command = [&arguments[..], &all].concat();
            let boot = |(version, _): &(Version, String)| {
                boot::in_emulator(&cache, version, system, seconds, &command)
            };
            shell::on_all_cores(&emulated, boot).into_iter().collect::<Result<Vec<_>>>()?
        }
    };
    for (version, _) in &uml {
        logs.push(boot::on_uml(&cache, version, programs, seconds, &arguments)?);
    }

    let (mut finished, mut unfinished) = (Vec::new(), false);
    for ((version, package), log) in emulated.into_iter().chain(uml).zip(logs) {
        match log {
            Ok(log) => finished.push(Finished { version, package, log }),
            Err(text) => {
                let file = boot::log_file(&cache, &version);
                let file = file.display();
                eprintln!("ci/kernel: {version} did not finish; {file} ends with");
                eprintln!("{}", tail(&text, 5));
                unfinished = true;
            }
        }
    }
    print!("{}", report(&finished));
    if unfinished || finished.iter().any(|kernel| kernel.log.differs) {
        return Ok(Status::Found);
    }
    if skipped > 0 {
        eprintln!("ci/kernel: {skipped} of {} kernels skipped", versions.len());
        return Ok(Status::Skipped);
    }
    Ok(Status::Clean)
}

/// Builds `vmadiff` and `vmadiff-init` as static programs, which run on a system without libraries. Returns
/// their folder.
pub(crate) fn build_static(root: &Path) -> Result<PathBuf> {
    let target = "x86_64-unknown-linux-gnu";
    let folder = project::target_folder(root).join("static");
    // They have no debug information, because the initramfs is kept in memory.
    cmd!(
        "cargo",
        "build",
        "--quiet",
        "--release",
        "--target",
        target,
        "-p",
        "vmadiff",
        "-p",
        "vmadiff-kernel"
    )
    .env("CARGO_TARGET_DIR", &folder)
    .env("RUSTFLAGS", "-C target-feature=+crt-static -C strip=symbols")
    .run()
    .context("vmadiff does not build")?;
    Ok(folder.join(target).join("release"))
}

/// Builds the initramfs: `vmadiff-init` is /init, with `vmadiff` beside it.
pub(crate) fn build_initramfs(root: &Path, cache: &Path) -> Result<()> {
    let folder = build_static(root)?;
    let read = |name: &str| -> Result<Vec<u8>> {
        let file = folder.join(name);
        fs::read(&file).with_context(|| file.display().to_string())
    };
    let known = root.join("corpus").join(initramfs::KNOWN_OF_UML);
    let known = fs::read(&known).with_context(|| known.display().to_string())?;
    let archive = initramfs::archive(&read("vmadiff-init")?, &read("vmadiff")?, &known)?;
    let file = initramfs_file(cache);
    // The file is replaced in one step, because another run may be booting with it.
    let part = file.with_extension(format!("part-{}", std::process::id()));
    fs::write(&part, archive)
        .and_then(|()| fs::rename(&part, &file))
        .with_context(|| file.display().to_string())
}

/// Returns the path of the initramfs.
pub(crate) fn initramfs_file(cache: &Path) -> PathBuf {
    cache.join("initrd")
}

/// Returns the table of the kernels, the rules that each kernel applied, and the differences of
/// each.
fn report(kernels: &[Finished]) -> String {
    if kernels.is_empty() {
        return String::new();
    }
    let row = |cells: [&str; 7]| {
        let [version, programs, operations, agree, explained, seconds, first] = cells;
        format!(
            "{version:<8} {programs:>8} {operations:>10} {agree:>10} {explained:>9} \
             {seconds:>7}  {first}\n"
        )
    };
    let mut text = row([
        "version",
        "programs",
        "operations",
        "agree",
        "explained",
        "seconds",
        "first difference",
    ]);
    for Finished { version, log, .. } in kernels {
        let number = |key| log.value(key).to_string();
        text += &row([
            &version.to_string(),
            &number("programs"),
            &number("operations"),
            &log.share(),
            &log.explained().to_string(),
            &log.seconds.map_or_else(|| "-".to_owned(), |seconds| seconds.to_string()),
            log.first.as_deref().unwrap_or("-"),
        ]);
    }
    for Finished { version, package, log } in kernels {
        let rules = log.rules().join(" ");
        let rules = if rules.is_empty() { "none" } else { &rules };
        text += &format!("{version}, {package}, met the rules: {rules}\n");
    }
    for Finished { version, log, .. } in kernels.iter().filter(|kernel| kernel.log.differs) {
        text += &format!("\n{version}\n{}", log.output);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_report_has_a_row_a_kernel_and_what_differs() -> Result<()> {
        let kernel = |version: &str, text: &str| -> Result<Finished> {
            let log = Log::parse(text).context("it finished")?;
            let package = format!("linux-image-{version}.0");
            Ok(Finished { version: version.parse().map_err(anyhow::Error::msg)?, package, log })
        };
        let kernels = [
            kernel("5.10", "programs=20 operations=400 agree=400\nvmadiff-init: status 0\n")?,
            kernel(
                "6.1",
                "vmadiff-init: begin\nprograms=20 operations=300 agree=299 rule-holes=1\n\n\
                 errno/mmap/ok-for-EINVAL (1 programs)\nvmadiff-init: status 1\n\
                 [   12.345678] reboot: Power down\n",
            )?,
        ];
        assert_eq!(
            report(&kernels),
            "\
version  programs operations      agree explained seconds  first difference
5.10           20        400  100.000 %         0       -  -
6.1            20        300   99.666 %         1      12  errno/mmap/ok-for-EINVAL
5.10, linux-image-5.10.0, met the rules: none
6.1, linux-image-6.1.0, met the rules: holes

6.1
programs=20 operations=300 agree=299 rule-holes=1

errno/mmap/ok-for-EINVAL (1 programs)
"
        );
        assert_eq!(report(&[]), "");
        Ok(())
    }
}
