//! Kernels that run as programs, as User Mode Linux or in qemu.
//!
//! A kernel built for `ARCH=um` (User Mode Linux) is an ordinary program. It needs no emulator and no
//! rights. Both kinds have one processor.

mod registers;

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{BufRead as _, BufReader, pipe};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::scratch::{Group, Scratch};

/// The memory of User Mode Linux. It is a sparse file, so memory that is not used costs nothing.
const MEMORY: &str = "mem=256M";

/// The emulator, with a machine of one processor. The processor is an old one: the machine of the
/// golden traces had no protection keys either.
const QEMU: &str = "qemu-system-x86_64";
const QEMU_MACHINE: &str = "-cpu qemu64 -smp 1 -m 512 -nodefaults -no-user-config -no-reboot \
                            -display none -monitor none -serial stdio";

/// The kind of a guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum System {
    /// User Mode Linux
    Uml,
    /// qemu's interpreter, for an x86_64 kernel
    Qemu,
    /// qemu with the hardware virtualization of this computer
    #[value(skip)]
    Kvm,
}

impl System {
    /// Returns [`System::Kvm`] in place of [`System::Qemu`] if the kernel boots with it. The file
    /// /dev/kvm may exist and not work.
    pub(crate) fn accelerated(
        self,
        program: &Path,
        initramfs: &Path,
        scratch: &Path,
    ) -> Result<System> {
        if self != System::Qemu || OpenOptions::new().write(true).open("/dev/kvm").is_err() {
            return Ok(self);
        }
        let kernel = Guest {
            system: System::Kvm,
            program: program.to_owned(),
            initramfs: initramfs.to_owned(),
            scratch: scratch.to_owned(),
            options: Vec::new(),
        };
        let text = kernel.console(None, &["--version".to_owned()], Duration::from_secs(10))?;
        let works = text.lines().any(|line| line.starts_with("vmadiff-init: status 0"));
        Ok(if works { System::Kvm } else { self })
    }

    /// Returns the program of an emulator.
    pub(crate) fn emulator_program(self) -> Option<&'static str> {
        (self != System::Uml).then_some(QEMU)
    }
}

/// A kernel with its initramfs.
#[derive(Clone)]
pub(crate) struct Guest {
    pub(crate) system: System,
    /// The kernel.
    pub(crate) program: PathBuf,
    /// The initramfs, whose `/init` is `vmadiff-init`.
    pub(crate) initramfs: PathBuf,
    /// A folder for the files of running kernels.
    pub(crate) scratch: PathBuf,
    /// Further words of the kernel's command line.
    pub(crate) options: Vec<String>,
}

/// The end of a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The kernel's program ended.
    Exited,
    /// The kernel printed nothing for the time limit, and was killed.
    Silent,
    /// The caller had seen enough, and the kernel was killed.
    Stopped,
}

/// The decision of the caller after a line of the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Read the next line.
    Read,
    /// Kill the kernel.
    Stop,
}

/// Returns the processors on which this process may run.
pub(crate) fn cores() -> Result<Vec<usize>> {
    let set = sched_getaffinity(None).context("sched_getaffinity")?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}

impl Guest {
    /// Boots the kernel for a command of `vmadiff`, and returns the text of its console. A kernel that
    /// runs longer than `limit` is killed.
    pub(crate) fn console(
        &self,
        core: Option<usize>,
        command: &[String],
        limit: Duration,
    ) -> Result<String> {
        let (began, mut text) = (Instant::now(), String::new());
        self.run(core, command, limit, |line| {
            text += line;
            text += "\n";
            if began.elapsed() > limit { Next::Stop } else { Next::Read }
        })?;
        Ok(text)
    }

    /// Boots the kernel for a command of `vmadiff`, on this processor if one is given, and calls
    /// `line` with each line of its console. A kernel that prints nothing for `silence` is killed.
    pub(crate) fn run(
        &self,
        core: Option<usize>,
        command: &[String],
        silence: Duration,
        mut line: impl FnMut(&str) -> Next,
    ) -> Result<Ended> {
        // The kernel keeps the file of its memory and its sockets in the home folder.
        let home = Scratch::within(&self.scratch)?;
        let (reader, writer) = pipe().context("no pipe")?;
        let mut kernel = match self.system.emulator_program() {
            None => {
                let mut kernel = Command::new(&self.program);
                kernel.env_clear();
                if let Some(library) = registers::library(&self.scratch)? {
                    kernel.env("LD_PRELOAD", library);
                }
                kernel
            }
            Some(emulator) => Command::new(emulator),
        };
        kernel
            .args(self.arguments(command))
            .env("HOME", home.path())
            .env("TMPDIR", home.path())
            .stdin(Stdio::null())
            // The console works on a pipe, and does not work on a file.
            .stdout(writer.try_clone().context("no pipe")?)
            .stderr(writer)
            .process_group(0);
        let child = match core {
            Some(core) => on_core(core, || kernel.spawn())?,
            None => kernel.spawn(),
        };
        // The command keeps the ends of the pipe.
        drop(kernel);
        let mut child = child.with_context(|| self.program.display().to_string())?;
        let group = Group::new(&child);

        let (send, receive) = mpsc::channel();
        let read = move || {
            let mut reader = BufReader::new(reader);
            let mut bytes = Vec::new();
            while reader.read_until(b'\n', &mut bytes).is_ok_and(|read| read > 0) {
                let text = String::from_utf8_lossy(&bytes).replace('\r', "");
                if send.send(text.trim_end_matches('\n').to_owned()).is_err() {
                    return;
                }
                bytes.clear();
            }
        };
        let reader = thread::spawn(read);
        let ended = loop {
            match receive.recv_timeout(silence) {
                Ok(text) if line(&text) == Next::Stop => break Ended::Stopped,
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => break Ended::Silent,
                Err(RecvTimeoutError::Disconnected) => break Ended::Exited,
            }
        };
        // Some processes of the kernel may outlive the first one.
        drop(group);
        let _ = child.wait();
        drop(receive);
        let _ = reader.join();
        Ok(ended)
    }

    /// Returns the arguments of the program: the kernel's own, or those of the emulator.
    fn arguments(&self, command: &[String]) -> Vec<OsString> {
        let accelerator = match self.system {
            System::Uml => return self.uml_arguments(command),
            System::Qemu => "tcg",
            System::Kvm => "kvm",
        };
        // The kernel's timer check sometimes fails if the emulator gets no processor time.
        let mut append = "console=ttyS0 quiet panic=-1 no_timer_check".to_owned();
        for option in &self.options {
            append += &format!(" {option}");
        }
        append += &format!(" -- {}", command.join(" "));
        let mut arguments: Vec<OsString> =
            QEMU_MACHINE.split_whitespace().map(OsString::from).collect();
        for (option, value) in [
            ("-accel", accelerator.into()),
            ("-kernel", self.program.as_os_str().to_owned()),
            ("-initrd", self.initramfs.as_os_str().to_owned()),
            ("-append", append.into()),
        ] {
            arguments.extend([option.into(), value]);
        }
        arguments
    }

    fn uml_arguments(&self, command: &[String]) -> Vec<OsString> {
        let mut initramfs = OsString::from("initrd=");
        initramfs.push(&self.initramfs);
        let mut arguments: Vec<OsString> = vec![MEMORY.into(), "root=/dev/ram0".into(), initramfs];
        let fixed = ["con=null", "con0=fd:0,fd:1", "quiet", "panic=-1"];
        arguments.extend(fixed.map(OsString::from));
        arguments.extend(self.options.iter().map(OsString::from));
        arguments.push("--".into());
        arguments.extend(command.iter().map(OsString::from));
        arguments
    }
}

/// Calls a function on one processor. A process that it starts stays there: waking a process on
/// another processor takes most of the time of a kernel that is free to move.
fn on_core<T>(core: usize, start: impl FnOnce() -> T) -> Result<T> {
    let before = sched_getaffinity(None).context("sched_getaffinity")?;
    let mut one = CpuSet::new();
    one.set(core);
    sched_setaffinity(None, &one).context("sched_setaffinity")?;
    let result = start();
    sched_setaffinity(None, &before).context("sched_setaffinity")?;
    Ok(result)
}

/// Makes a program that was copied executable.
pub(crate) fn make_executable(file: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755))
        .with_context(|| file.display().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guest(system: System, program: &str) -> Guest {
        Guest {
            system,
            program: program.into(),
            initramfs: "/cache/initrd".into(),
            scratch: std::env::temp_dir(),
            options: vec!["kasan_multi_shot".into()],
        }
    }

    #[test]
    fn the_command_comes_after_the_options_of_the_kernel() {
        let of = |system| {
            let words = guest(system, "/linux").arguments(&["kernel".into(), "--probe".into()]);
            words.iter().map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        let uml = of(System::Uml);
        assert!(uml.join(" ").ends_with(" kasan_multi_shot -- kernel --probe"), "{uml:?}");
        assert!(uml.contains(&"initrd=/cache/initrd".into()), "{uml:?}");
        for (system, accelerator) in [(System::Qemu, "tcg"), (System::Kvm, "kvm")] {
            let qemu = of(system);
            let after = |option| {
                qemu.iter().position(|other| other == option).map(|n| qemu[n + 1].as_str())
            };
            assert_eq!(after("-accel"), Some(accelerator));
            assert_eq!(after("-kernel"), Some("/linux"));
            assert_eq!(after("-initrd"), Some("/cache/initrd"));
            let append = after("-append").unwrap_or_default();
            assert!(append.ends_with(" kasan_multi_shot -- kernel --probe"), "{append}");
        }
    }

    /// A program that stands for a kernel: it takes the same arguments and prints them.
    #[test]
    fn the_console_is_read_line_by_line_until_the_end() -> Result<()> {
        let core = cores()?[0];
        let mut lines = Vec::new();
        let ended = guest(System::Uml, "/bin/echo").run(
            Some(core),
            &["--probe".into()],
            Duration::from_secs(9),
            |line| {
                lines.push(line.to_owned());
                Next::Read
            },
        )?;
        assert_eq!(ended, Ended::Exited);
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].starts_with("mem=256M ") && lines[0].ends_with(" --probe"), "{lines:?}");
        Ok(())
    }

    #[test]
    fn a_silent_kernel_and_one_that_was_seen_enough_are_killed() -> Result<()> {
        let folder = Scratch::new()?;
        let program = folder.path().join("linux");
        fs::write(&program, "#!/bin/sh\necho begin\nsleep 100\n")?;
        make_executable(&program)?;
        let kernel = guest(System::Uml, &program.display().to_string());
        let core = cores()?[0];
        let run = |next| kernel.run(Some(core), &[], Duration::from_millis(300), |_| next);
        assert_eq!(run(Next::Read)?, Ended::Silent);
        assert_eq!(run(Next::Stop)?, Ended::Stopped);
        Ok(())
    }
}
