//! `ci/linux`: runs random programs on other systems that claim to be Linux.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use crate::kernel::packages::Packages;
use crate::scratch::Group;
use crate::{Status, guest, kernel, project, shell};

/// The release whose rules are expected: the newest one that the rules were checked on.
const NEWEST: &str = "6.18";
/// The time between two looks at a system that runs.
const LOOK: Duration = Duration::from_millis(100);

/// Run random programs on other systems that claim to be Linux, beside the reference
///
/// A system is an ordinary program that runs `vmadiff kernel`, without root and without a network:
/// qemu-user is qemu's emulation of system calls (qemu-x86_64), and gvisor is gVisor's kernel (runsc).
/// Both are packages of Debian, fetched once to target/systems, or a program of yours (--runner). A
/// difference on the list corpus/known-SYSTEM.txt is shown and does not count as found.
///
/// Exit status: 0 every difference is on the list, 1 a difference is not on the list, 2 bad use or a
/// failed build, 3 nothing was found, but a system was skipped: it has no package, or it did not
/// finish.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The systems
    #[arg(required = true, value_name = "SYSTEM")]
    systems: Vec<System>,
    /// Run this program of the system, and not that of Debian's package
    #[arg(long, value_name = "PROGRAM")]
    runner: Option<PathBuf>,
    /// The number of random programs
    #[arg(long, value_name = "N", default_value_t = 500,
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
    /// Expect the rules of this release of Linux
    #[arg(long, value_name = "RELEASE", default_value = NEWEST,
          value_parser = crate::tree::release)]
    expect: String,
    /// Count every difference as found: leave out the list of known differences
    #[arg(long)]
    all: bool,
    /// Give up after this time
    #[arg(long, value_name = "N", default_value_t = 1800,
          value_parser = clap::value_parser!(u32).range(1..=9_999_999))]
    seconds: u32,
}

/// A system that claims to be Linux.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum System {
    QemuUser,
    Gvisor,
}

impl System {
    fn name(self) -> &'static str {
        match self {
            System::QemuUser => "qemu-user",
            System::Gvisor => "gvisor",
        }
    }

    /// Returns Debian's package, and the system's program in it.
    fn package(self) -> (&'static str, &'static str) {
        match self {
            System::QemuUser => ("qemu-user-static", "usr/bin/qemu-x86_64-static"),
            System::Gvisor => ("runsc", "usr/bin/runsc"),
        }
    }

    /// Returns the arguments of the system's program before the command that it runs.
    fn arguments(self) -> &'static [&'static str] {
        match self {
            System::QemuUser => &[],
            // ptrace needs no rights and no /dev/kvm.
            System::Gvisor => &["--rootless", "--network=none", "--platform=ptrace", "do"],
        }
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Runs `ci/linux`.
pub(crate) fn run(args: &Args) -> Result<Status> {
    // The runner is named from the folder of the caller.
    let runner = args.runner.as_deref().map(std::path::absolute).transpose()?;
    if let Some(runner) = &runner {
        if args.systems.len() > 1 {
            bail!("--runner is the program of one system: name one");
        }
        fs::metadata(runner).with_context(|| runner.display().to_string())?;
    }
    let root = project::enter()?;
    let target = project::target_folder(&root);
    let cache = target.join("systems");
    fs::create_dir_all(&cache).with_context(|| cache.display().to_string())?;
    let vmadiff = kernel::build_static(&root)?.join("vmadiff");
    let mut status = Status::Clean;
    for (n, system) in args.systems.iter().enumerate() {
        if n > 0 {
            println!();
        }
        let (program, name) = match &runner {
            Some(runner) => (runner.clone(), runner.display().to_string()),
            None => match fetch(*system, &target) {
                Ok(fetched) => fetched,
                Err(error) => {
                    eprintln!("ci/linux: {system} skipped: {error:#}");
                    status = status.max(Status::Skipped);
                    continue;
                }
            },
        };
        println!("{system}, {name}");
        let mut command = Command::new(program);
        command.args(system.arguments()).arg(&vmadiff).args(arguments(args, *system, &root));
        status = status.max(finish(command, *system, Duration::from_secs(args.seconds.into()))?);
    }
    Ok(status)
}

/// Returns the arguments of `vmadiff`.
fn arguments(args: &Args, system: System, root: &Path) -> Vec<String> {
    let list = root.join(project::CORPUS).join(format!("known-{system}.txt"));
    let mut words = vec!["kernel".to_owned()];
    for (name, value) in [
        ("--random", args.programs.to_string()),
        ("--operations", args.operations.to_string()),
        ("--seed", args.seed.to_string()),
        ("--expect", args.expect.clone()),
        // The processes of a system start slowly.
        ("--timeout", "5000".to_owned()),
        ("--color", "never".to_owned()),
    ] {
        words.extend([name.to_owned(), value]);
    }
    if !args.all {
        words.extend(["--known".to_owned(), list.display().to_string()]);
    }
    words
}

/// Runs a system to its end, at most for `limit`.
fn finish(mut command: Command, system: System, limit: Duration) -> Result<Status> {
    let began = Instant::now();
    // gVisor writes to an inherited file from its beginning, so the output comes through a pipe.
    let mut child = command
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| command.get_program().display().to_string())?;
    let group = Group::new(&child);
    let passed_on = [
        child.stdout.take().map(|from| pass_on(from, io::stdout())),
        child.stderr.take().map(|from| pass_on(from, io::stderr())),
    ];
    let ended = loop {
        match child.try_wait()? {
            Some(ended) => break ended,
            None if began.elapsed() > limit => {
                eprintln!("ci/linux: {system} skipped: no end after {} s", limit.as_secs());
                return Ok(Status::Skipped);
            }
            None => std::thread::sleep(LOOK),
        }
    };
    // Nothing of the system writes any more.
    drop(group);
    for thread in passed_on.into_iter().flatten() {
        // The thread panics only if this process can write no more.
        let _ = thread.join();
    }
    match ended.code() {
        Some(0) => Ok(Status::Clean),
        Some(1) => Ok(Status::Found),
        _ => {
            eprintln!("ci/linux: {system} skipped: it did not finish ({ended})");
            Ok(Status::Skipped)
        }
    }
}

/// Copies the output of a system to that of this process.
fn pass_on(
    mut from: impl io::Read + Send + 'static,
    mut to: impl io::Write + Send + 'static,
) -> JoinHandle<io::Result<u64>> {
    std::thread::spawn(move || io::copy(&mut from, &mut to))
}

/// Fetches a system's package, unless it was fetched before. Returns the system's program, and the name
/// of the package with its version.
fn fetch(system: System, target: &Path) -> Result<(PathBuf, String)> {
    let (package, file) = system.package();
    let folder = target.join("systems").join(system.name());
    let (program, name) = (folder.join("program"), folder.join("package"));
    if program.is_file() {
        let name = fs::read_to_string(&name).with_context(|| name.display().to_string())?;
        return Ok((program, name.trim().to_owned()));
    }
    for tool in ["apt-get", "dpkg-deb"] {
        if shell::find(tool).is_none() {
            bail!("there is no {tool}");
        }
    }
    let kernels = target.join("kernels");
    fs::create_dir_all(&kernels).with_context(|| kernels.display().to_string())?;
    let kernels = kernels.canonicalize().with_context(|| kernels.display().to_string())?;
    let work = crate::scratch::Scratch::within(&kernels)?;
    let full = Packages::new(kernels).unpack(package, work.path())?;
    fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    fs::write(&name, format!("{full}\n")).with_context(|| name.display().to_string())?;
    // The program is there in one step, because another run may be fetching it.
    let part = folder.join(format!("part-{}", std::process::id()));
    fs::copy(work.path().join("x").join(file), &part)
        .and_then(|_| fs::rename(&part, &program))
        .with_context(|| program.display().to_string())?;
    guest::make_executable(&program)?;
    Ok((program, full))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::scratch::Scratch;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: Args,
    }

    fn args(words: &str) -> Args {
        Command::parse_from(format!("linux {words}").split_whitespace()).args
    }

    #[test]
    fn a_system_runs_the_programs_with_its_list_against_the_newest_rules() {
        let words = |text: &str| {
            let args = args(text);
            arguments(&args, args.systems[0], Path::new("/root")).join(" ")
        };
        let usual = "kernel --random 500 --operations 24 --seed 0 --expect 6.18 --timeout 5000 \
                     --color never --known /root/corpus/known-gvisor.txt";
        assert_eq!(words("gvisor"), usual);
        let all = words("qemu-user --programs 9 --seed 3 --expect 6.1 --all");
        assert!(all.starts_with("kernel --random 9 ") && all.contains(" --expect 6.1 "), "{all}");
        assert!(!all.contains("--known"), "{all}");
    }

    #[test]
    fn the_end_of_a_system_is_its_status() -> Result<()> {
        let folder = Scratch::new()?;
        let program = folder.path().join("system");
        for (script, limit, expected) in [
            ("exit 0", 60, Status::Clean),
            ("exit 1", 60, Status::Found),
            // The system cannot run vmadiff, or dies.
            ("exit 2", 60, Status::Skipped),
            ("kill -9 $$", 60, Status::Skipped),
            ("sleep 100", 0, Status::Skipped),
        ] {
            fs::write(&program, format!("#!/bin/sh\n{script}\n"))?;
            guest::make_executable(&program)?;
            let command = std::process::Command::new(&program);
            let status = finish(command, System::Gvisor, Duration::from_secs(limit))?;
            assert_eq!(status, expected, "{script}");
        }
        Ok(())
    }

    #[test]
    fn a_system_that_was_fetched_is_not_fetched_again() -> Result<()> {
        let target = Scratch::new()?;
        let folder = target.path().join("systems/qemu-user");
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("program"), "")?;
        fs::write(folder.join("package"), "qemu-user-static_7.2\n")?;
        let (program, name) = fetch(System::QemuUser, target.path())?;
        assert_eq!((program, name), (folder.join("program"), "qemu-user-static_7.2".to_owned()));
        Ok(())
    }
}
