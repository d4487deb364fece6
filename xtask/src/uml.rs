//! User Mode Linux: a kernel built for `ARCH=um` is an ordinary program. It needs no emulator and no
//! rights, and it has one processor.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead as _, BufReader, pipe};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::scratch::{Group, Scratch};

/// The memory of a kernel. It is a sparse file, so memory that is not used costs nothing.
const MEMORY: &str = "mem=256M";

/// A kernel with its initramfs.
#[derive(Clone)]
pub(crate) struct Uml {
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

impl Uml {
    /// Boots the kernel on one processor for a command of `vmadiff`, and calls `line` with each line
    /// of its console. A kernel that prints nothing for `silence` is killed.
    pub(crate) fn run(
        &self,
        core: usize,
        command: &[String],
        silence: Duration,
        mut line: impl FnMut(&str) -> Next,
    ) -> Result<Ended> {
        // The kernel keeps the file of its memory and its sockets in the home folder.
        let home = Scratch::within(&self.scratch)?;
        let (reader, writer) = pipe().context("no pipe")?;
        let mut kernel = Command::new(&self.program);
        kernel
            .args(self.arguments(command))
            .env_clear()
            .env("HOME", home.path())
            .env("TMPDIR", home.path())
            .stdin(Stdio::null())
            // The console works on a pipe, and does not work on a file.
            .stdout(writer.try_clone().context("no pipe")?)
            .stderr(writer)
            .process_group(0);
        let child = on_core(core, || kernel.spawn())?;
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

    fn arguments(&self, command: &[String]) -> Vec<OsString> {
        let mut initramfs = OsString::from("initrd=");
        initramfs.push(&self.initramfs);
        let mut arguments: Vec<OsString> = vec![MEMORY.into(), "root=/dev/ram0".into(), initramfs];
        let fixed = ["con=null", "con0=fd:0,fd:1", "quiet", "loglevel=5", "panic=-1"];
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

    fn uml(program: &str) -> Uml {
        Uml {
            program: program.into(),
            initramfs: "/cache/initrd".into(),
            scratch: std::env::temp_dir(),
            options: vec!["kasan_multi_shot".into()],
        }
    }

    #[test]
    fn the_command_comes_after_the_options_of_the_kernel() {
        let arguments = uml("/linux").arguments(&["kernel".into(), "--probe".into()]);
        let text: Vec<_> = arguments.iter().map(|word| word.to_string_lossy()).collect();
        assert!(text.join(" ").ends_with(" kasan_multi_shot -- kernel --probe"), "{text:?}");
        assert!(text.contains(&"initrd=/cache/initrd".into()), "{text:?}");
    }

    /// A program that stands for a kernel: it takes the same arguments and prints them.
    #[test]
    fn the_console_is_read_line_by_line_until_the_end() -> Result<()> {
        let core = cores()?[0];
        let mut lines = Vec::new();
        let ended =
            uml("/bin/echo").run(core, &["--probe".into()], Duration::from_secs(9), |line| {
                lines.push(line.to_owned());
                Next::Read
            })?;
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
        let kernel = uml(&program.display().to_string());
        let core = cores()?[0];
        let run = |next| kernel.run(core, &[], Duration::from_millis(300), |_| next);
        assert_eq!(run(Next::Read)?, Ended::Silent);
        assert_eq!(run(Next::Stop)?, Ended::Stopped);
        Ok(())
    }
}
