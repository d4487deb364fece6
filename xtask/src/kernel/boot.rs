//! Boots a kernel for one command of `vmadiff`, in qemu or as User Mode Linux.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use duct::cmd;

use super::{Log, Version, initramfs_file};
use crate::shell;
use crate::uml::{self, Next, Uml};

/// An emulator with a known kind of acceleration.
pub(crate) struct Emulator {
    /// The folder of the initramfs, which has a folder for each version.
    cache: PathBuf,
    accelerator: &'static str,
}

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
    let kernel = Uml {
        program: kernel_file(cache, version),
        initramfs: initramfs_file(cache),
        scratch: cache.to_owned(),
        options: Vec::new(),
    };
    uml::make_executable(&kernel.program)?;
    let cores = uml::cores()?;
    let parts: Vec<_> = cores.iter().copied().zip(shares(programs, cores.len())).collect();
    let run = |&(core, (first, count)): &(usize, (u32, u32))| -> Result<String> {
        let part = ["--first", &first.to_string(), "--random", &count.to_string()];
        let command = [command, &part.map(str::to_owned)].concat();
        let limit = Duration::from_secs(seconds);
        let (began, mut text) = (Instant::now(), String::new());
        kernel.run(core, &command, limit, |line| {
            text += line;
            text += "\n";
            if began.elapsed() > limit { Next::Stop } else { Next::Read }
        })?;
        Ok(text)
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

impl Emulator {
    /// Returns an emulator with the machine's hardware virtualization if that works, otherwise with
    /// qemu's interpreter. /dev/kvm may exist and not work, so a kernel is booted as a test.
    pub(crate) fn probe(cache: PathBuf, version: &Version) -> Result<Emulator> {
        let kvm = Emulator { cache, accelerator: "kvm" };
        let works = OpenOptions::new().write(true).open("/dev/kvm").is_ok()
            && kvm
                .run(version, 10, &["--version".to_owned()])?
                .lines()
                .any(|line| line.starts_with("vmadiff-init: status 0"));
        Ok(if works { kvm } else { Emulator { accelerator: "tcg", ..kvm } })
    }

    /// Boots a kernel for a command and returns the output of its console, which is written to the
    /// log too.
    pub(crate) fn run(
        &self,
        version: &Version,
        seconds: u32,
        command: &[String],
    ) -> Result<String> {
        let log = log_file(&self.cache, version);
        cmd("timeout", self.arguments(version, seconds, command))
            .stdin_null()
            .stderr_to_stdout()
            .stdout_path(&log)
            .unchecked()
            .run()
            .context("qemu does not start")?;
        let context = || log.display().to_string();
        let text = fs::read(&log).with_context(context)?;
        // The console ends each line with a carriage return too.
        let text = String::from_utf8_lossy(&text).replace('\r', "");
        fs::write(&log, &text).with_context(context)?;
        Ok(text)
    }

    fn arguments(&self, version: &Version, seconds: u32, command: &[String]) -> Vec<String> {
        let path = |path: PathBuf| path.display().to_string();
        // The kernel's timer check sometimes fails if the emulator gets no processor time.
        let append =
            format!("console=ttyS0 quiet panic=-1 no_timer_check -- {}", command.join(" "));
        let mut arguments: Vec<String> = ["--foreground".to_owned(), seconds.to_string()].into();
        // An old processor is emulated: the machine of the golden traces had no protection keys
        // either.
        let fixed = "qemu-system-x86_64 -cpu qemu64 -smp 1 -m 512 -nodefaults -no-user-config \
                     -no-reboot -display none -monitor none -serial stdio";
        arguments.extend(fixed.split_whitespace().map(str::to_owned));
        for (option, value) in [
            ("-accel", self.accelerator.to_owned()),
            ("-kernel", path(kernel_file(&self.cache, version))),
            ("-initrd", path(initramfs_file(&self.cache))),
            ("-append", append),
        ] {
            arguments.extend([option.to_owned(), value]);
        }
        arguments
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

    #[test]
    fn the_command_is_what_init_is_given() -> Result<(), String> {
        let emulator = Emulator { cache: "/cache".into(), accelerator: "tcg" };
        let command = ["kernel", "--seed", "3"].map(str::to_owned);
        let arguments = emulator.arguments(&"5.10".parse()?, 130, &command);
        assert_eq!(arguments[..3], ["--foreground", "130", "qemu-system-x86_64"]);
        let after = |option| {
            arguments.iter().position(|other| other == option).map(|n| arguments[n + 1].as_str())
        };
        assert_eq!(after("-kernel"), Some("/cache/5.10/vmlinuz"));
        assert_eq!(after("-initrd"), Some("/cache/initrd"));
        assert!(after("-append").is_some_and(|text| text.ends_with(" -- kernel --seed 3")));
        Ok(())
    }
}
