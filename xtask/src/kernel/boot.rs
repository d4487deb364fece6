//! Boots a kernel for one command of `vmadiff`, in qemu or as User Mode Linux.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use super::initramfs::KNOWN_OF_UML;
use super::{Log, Version, initramfs_file};
use crate::guest::{self, Guest, System};
use crate::shell;

/// Returns the path of a version's kernel.
pub(crate) fn kernel_file(cache: &Path, version: &Version) -> PathBuf {
    cache.join(version.to_string()).join("vmlinuz")
}

/// Returns the path of a version's log.
pub(crate) fn log_file(cache: &Path, version: &Version) -> PathBuf {
    cache.join(version.to_string()).join("log")
}

/// Boots Debian's User Mode Linux once on each core, each for a part of the random programs, and
/// returns the log of all; the console of the first kernel that did not finish otherwise.
pub(crate) fn on_uml(
    cache: &Path,
    version: &Version,
    programs: u32,
    seconds: u64,
    command: &[String],
) -> Result<Result<Log, String>> {
    let kernel = guest(cache, version, System::Uml);
    guest::make_executable(&kernel.program)?;
    let cores = guest::cores()?;
    let parts: Vec<_> = cores.iter().copied().zip(shares(programs, cores.len())).collect();
    let run = |&(core, (first, count)): &(usize, (u32, u32))| -> Result<String> {
        let (first, count) = (first.to_string(), count.to_string());
        let known = format!("/{KNOWN_OF_UML}");
        let part = ["--first", &first, "--random", &count, "--known", &known];
        let command = [command, &part.map(str::to_owned)].concat();
        kernel.console(Some(core), &command, Duration::from_secs(seconds))
    };
    let texts = shell::side_by_side(parts.len(), &parts, run);
    let texts = texts.into_iter().collect::<Result<Vec<_>>>()?;
    let log = log_file(cache, version);
    fs::write(&log, texts.concat()).with_context(|| log.display().to_string())?;
    let mut logs = Vec::new();
    for text in texts {
        match Log::parse(&text) {
            Some(log) => logs.push(log),
            None => return Ok(Err(text)),
        }
    }
    Ok(Log::join(logs).ok_or_else(String::new))
}

/// Returns the parts of `programs` programs, each as its first number and its count. No part is
/// empty.
fn shares(programs: u32, parts: usize) -> Vec<(u32, u32)> {
    let parts = u32::try_from(parts).unwrap_or(u32::MAX).min(programs);
    let first = |part: u32| (u64::from(programs) * u64::from(part) / u64::from(parts)) as u32;
    (0..parts).map(|part| (first(part), first(part + 1) - first(part))).collect()
}

/// Boots a version in an emulator, and returns its log; its console if it did not finish.
pub(crate) fn in_emulator(
    cache: &Path,
    version: &Version,
    system: System,
    seconds: u64,
    command: &[String],
) -> Result<Result<Log, String>> {
    let kernel = guest(cache, version, system);
    let text = kernel.console(None, command, Duration::from_secs(seconds))?;
    let log = log_file(cache, version);
    fs::write(&log, &text).with_context(|| log.display().to_string())?;
    Ok(Log::parse(&text).ok_or(text))
}

/// Returns the kernel of a version, with the options of its command line.
fn guest(cache: &Path, version: &Version, system: System) -> Guest {
    Guest {
        system,
        program: kernel_file(cache, version),
        initramfs: initramfs_file(cache),
        scratch: cache.to_owned(),
        options: match system {
            System::Uml => vec!["loglevel=5".to_owned()],
            System::Qemu | System::Kvm => Vec::new(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_are_shared_out_without_gaps() {
        assert_eq!(shares(5, 2), [(0, 2), (2, 3)]);
        assert_eq!(shares(1, 4), [(0, 1)]);
        let all = shares(1000, 7);
        assert_eq!(all.iter().map(|(_, count)| count).sum::<u32>(), 1000);
        assert!(all.windows(2).all(|pair| pair[0].0 + pair[0].1 == pair[1].0));
    }
}
