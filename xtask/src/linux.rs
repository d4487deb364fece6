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
use crate::scratch::{Group, Scratch};
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
/// difference on the list corpus/known-SYSTEM.txt is shown and does not count as found. If the system itself
/// dies, the program in which it dies is looked for and made small; the other programs are run without it.
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
        let run = Run {
            args,
            system: *system,
            program,
            vmadiff: vmadiff.clone(),
            list: root.join(project::CORPUS).join(format!("known-{system}.txt")),
            scratch: Scratch::within(&cache)?,
            until: Instant::now() + Duration::from_secs(args.seconds.into()),
        };
        status = status.max(run.all()?);
    }
    Ok(status)
}

/// The run of a system.
struct Run<'a> {
    args: &'a Args,
    system: System,
    program: PathBuf,
    vmadiff: PathBuf,
    /// The list of known differences.
    list: PathBuf,
    scratch: Scratch,
    /// The end of the time.
    until: Instant,
}

/// The end of one command on a system.
enum End {
    /// The command ended with this status and this output.
    Ended(Status, String),
    /// The system died, or could not run the command, with this output.
    Died(String),
    /// The time was over.
    Late,
}

impl Run<'_> {
    /// Runs all programs. If the system dies, it is started again for the programs before and after the one in
    /// which it died.
    fn all(&self) -> Result<Status> {
        let system = self.system;
        let mut parts = vec![(0, self.args.programs)];
        let (mut status, mut deaths) = (Status::Clean, 0);
        while let Some(part @ (first, count)) = parts.pop() {
            if deaths > 0 {
                println!("\nprograms {first} to {}", first + count - 1);
            }
            let mut words = arguments(self.args, &self.list, part);
            // Making a program small runs more programs, in which the system may die again.
            words.extend((deaths > 0).then(|| "--no-minimize".to_owned()));
            let output = match self.vmadiff(&words)? {
                End::Ended(ended, output) => {
                    print!("{output}");
                    status = status.max(ended);
                    continue;
                }
                End::Late => {
                    eprintln!("ci/linux: {system} skipped: no end after {} s", self.args.seconds);
                    return Ok(status.max(Status::Skipped));
                }
                End::Died(output) => output,
            };
            deaths += 1;
            let Some((ran, lines)) = last_program(&output) else {
                eprint!("{output}");
                eprintln!("ci/linux: {system} skipped: it does not run vmadiff");
                return Ok(status.max(Status::Skipped));
            };
            if deaths > MAX_DEATHS {
                eprintln!("ci/linux: {system} skipped: it died {deaths} times");
                return Ok(status.max(Status::Skipped));
            }
            status = status.max(self.died(lines, &output)?);
            parts.extend(rest(part, ran));
        }
        Ok(status)
    }

    /// Reports that the system died in a program, without the lines that are not needed for it.
    fn died(&self, mut lines: Vec<String>, output: &str) -> Result<Status> {
        let alone = self.dies(&lines)?;
        let mut at = if alone { lines.len() } else { 0 };
        while at > 0 {
            at -= 1;
            let mut fewer = lines.clone();
            fewer.remove(at);
            if self.dies(&fewer)? {
                lines = fewer;
            }
        }
        let last = lines.last().and_then(|line| line.split(' ').next()).unwrap_or("start");
        // A message of vmadiff follows its program: the system is there, and cannot be driven.
        let is_there = output.rsplit("@run").next().is_some_and(|end| end.contains("\nvmadiff: "));
        let what = if is_there { "not-driven" } else { "system-died" };
        let signature = format!("assertion/kernel/{what}/{last}");
        let known = fs::read_to_string(&self.list).unwrap_or_default();
        let why = known.lines().find_map(|line| line.strip_prefix(&signature)?.strip_prefix(' '));
        let text = lines.join("\n");
        match why.filter(|_| alone && !self.args.all) {
            Some(why) => {
                println!("\nknown: {signature}: {}\n\n{text}", why.trim());
                Ok(Status::Clean)
            }
            None => {
                let end = output.rsplit("@run").next().unwrap_or_default();
                let alone = if alone { "" } else { ", which it survives alone" };
                println!("\n{signature} in this program{alone}:\n\n{text}\n\n{end}");
                Ok(Status::Found)
            }
        }
    }

    /// Returns whether the system dies in a program, in one of some runs.
    fn dies(&self, lines: &[String]) -> Result<bool> {
        let file = self.scratch.path().join("program.txt");
        fs::write(&file, lines.join("\n") + "\n").with_context(|| file.display().to_string())?;
        let words = ["kernel".to_owned(), file.display().to_string()];
        // A file that is not a program is refused, as by a system that has died.
        let is_program = Command::new(&self.vmadiff)
            .args(["fmt"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success());
        for _ in 0..if is_program { TRIES } else { 0 } {
            match self.vmadiff(&words)? {
                End::Died(_) => return Ok(true),
                End::Ended(..) => {}
                End::Late => return Ok(false),
            }
        }
        Ok(false)
    }

    /// Runs a command of `vmadiff` on the system, up to the end of the time.
    fn vmadiff(&self, words: &[String]) -> Result<End> {
        let mut command = Command::new(&self.program);
        command.args(self.system.arguments()).arg(&self.vmadiff).args(words);
        finish(command, self.until)
    }
}

/// The most programs in which a system dies before it is given up.
const MAX_DEATHS: usize = 20;
/// The most runs of a program that are tried for the death of a system, because a system may die in some runs only.
const TRIES: usize = 4;

/// Returns the parts of the programs of a part that are left when a system died in the last of the `ran` programs
/// that were announced. More programs than those of the part are announced if one is made small.
fn rest((first, count): (u32, u32), ran: u32) -> Vec<(u32, u32)> {
    let parts = match ran <= count {
        true => vec![(first + ran, count - ran), (first, ran - 1)],
        false if count == 1 => vec![],
        false => vec![(first + count / 2, count - count / 2), (first, count / 2)],
    };
    parts.into_iter().filter(|(_, count)| *count > 0).collect()
}

/// Returns the arguments of `vmadiff` for `count` programs from program `first` on.
fn arguments(args: &Args, list: &Path, (first, count): (u32, u32)) -> Vec<String> {
    let mut words = vec!["kernel".to_owned(), "--announce".to_owned()];
    for (name, value) in [
        ("--first", first.to_string()),
        ("--random", count.to_string()),
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

/// Runs a system to its end, at most up to `until`.
fn finish(mut command: Command, until: Instant) -> Result<End> {
    // gVisor writes to an inherited file from its beginning, so the output comes through a pipe.
    let mut child = command
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| command.get_program().display().to_string())?;
    let group = Group::new(&child);
    let output = child.stdout.take().map(read);
    let errors = child.stderr.take().map(read);
    let ended = loop {
        match child.try_wait()? {
            Some(ended) => break ended,
            None if Instant::now() > until => return Ok(End::Late),
            None => std::thread::sleep(LOOK),
        }
    };
    // Nothing of the system writes any more.
    drop(group);
    let text = |thread: Option<JoinHandle<String>>| {
        thread.and_then(|thread| thread.join().ok()).unwrap_or_default()
    };
    let (output, errors) = (text(output), text(errors));
    let status = match ended.code() {
        Some(0) => Status::Clean,
        Some(1) => Status::Found,
        // A program was not run to its end, because the system lacks something.
        Some(3) => Status::Skipped,
        _ => return Ok(End::Died(format!("{output}{errors}it ended with {ended}\n"))),
    };
    Ok(End::Ended(status, output))
}

/// Returns the number of the programs that `vmadiff` has announced, and the lines of the last one; `None` if there
/// is none.
fn last_program(output: &str) -> Option<(u32, Vec<String>)> {
    let (_, program) = output.rsplit_once("@run\n")?;
    let ran = u32::try_from(output.matches("@run\n").count()).ok()?;
    let lines: Vec<_> = program.lines().take_while(|line| !line.is_empty()).collect();
    (!lines.is_empty()).then(|| (ran, lines.into_iter().map(str::to_owned).collect()))
}

/// Reads what a system writes.
fn read(mut from: impl io::Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // A reader that fails has read what there was.
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
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
    let work = Scratch::within(&kernels)?;
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
            arguments(&args(text), Path::new("/root/known-gvisor.txt"), (3, 500)).join(" ")
        };
        let usual = "kernel --announce --first 3 --random 500 --operations 24 --seed 0 --expect 6.18 \
                     --timeout 5000 --color never --known /root/known-gvisor.txt";
        assert_eq!(words("gvisor"), usual);
        let all = words("qemu-user --seed 3 --expect 6.1 --all");
        assert!(all.contains(" --seed 3 --expect 6.1 ") && !all.contains("--known"), "{all}");
    }

    #[test]
    fn the_end_of_a_system_is_its_status() -> Result<()> {
        let ends = |script: &str, seconds| -> Result<End> {
            let mut command = std::process::Command::new("sh");
            command.args(["-c", script]);
            finish(command, Instant::now() + Duration::from_secs(seconds))
        };
        for (script, expected) in [
            ("echo a", Status::Clean),
            ("echo a; exit 1", Status::Found),
            ("echo a; exit 3", Status::Skipped),
        ] {
            let End::Ended(status, output) = ends(script, 60)? else { bail!("{script}") };
            assert_eq!((status, output.as_str()), (expected, "a\n"), "{script}");
        }
        for script in ["echo a; exit 2", "echo a; kill -9 $$"] {
            let End::Died(output) = ends(script, 60)? else { bail!("{script}") };
            assert!(output.starts_with("a\nit ended with "), "{output}");
        }
        assert!(matches!(ends("sleep 100", 0)?, End::Late));
        Ok(())
    }

    /// A system that stands for gVisor: it dies in program 5, and in every file that has the last line of
    /// that program. It names the programs that it runs in a file.
    const DIES_IN_5: &str = "#!/bin/sh
        shift 5
        case \"$*\" in
            *--random*)
                set -- $4 $6
                [ $1 -le 5 ] && [ 5 -lt $(($1 + $2)) ] || { echo $1 $2 >> RAN; exit 0; }
                for n in $(seq $1 4); do printf '@run\\nmunmap 0 0 1\\n\\n'; done >&2
                printf '@run\\nmmap 0 0 1 r\\nmremap 0 0 0 1\\n\\nSAYS\\n' >&2
                exit 2;;
            *) grep -q mremap $2 && exit 2; exit 0;;
        esac
";

    #[test]
    fn a_system_that_dies_in_a_program_is_a_finding_unless_the_list_has_it() -> Result<()> {
        let folder = Scratch::new()?;
        let [program, vmadiff, list] =
            ["system", "vmadiff", "list"].map(|name| folder.path().join(name));
        // Every file is a program.
        fs::write(&vmadiff, "#!/bin/sh\n")?;
        guest::make_executable(&vmadiff)?;
        for (says, known, expected) in [
            ("bye", "", Status::Found),
            ("bye", "assertion/kernel/system-died/mmap no\n", Status::Found),
            ("bye", "assertion/kernel/system-died/mremap  it panics\n", Status::Clean),
            // The system did not die: vmadiff could not drive it.
            ("vmadiff: no", "assertion/kernel/system-died/mremap  it panics\n", Status::Found),
            ("vmadiff: no", "assertion/kernel/not-driven/mremap  no\n", Status::Clean),
        ] {
            let ran = folder.path().join("ran");
            let script = DIES_IN_5.replace("SAYS", says);
            fs::write(&program, script.replace("RAN", &ran.display().to_string()))?;
            guest::make_executable(&program)?;
            fs::write(&list, known)?;
            let run = Run {
                args: &args("gvisor --programs 9"),
                system: System::Gvisor,
                program: program.clone(),
                vmadiff: vmadiff.clone(),
                list: list.clone(),
                scratch: Scratch::new()?,
                until: Instant::now() + Duration::from_secs(60),
            };
            assert_eq!(run.all()?, expected, "{says}, {known}");
            // Every program but number 5 was run.
            assert_eq!(fs::read_to_string(&ran)?, "0 5\n6 3\n");
            fs::remove_file(ran)?;
        }
        Ok(())
    }

    #[test]
    fn the_programs_around_the_one_in_which_a_system_died_are_left() {
        assert_eq!(rest((10, 8), 3), [(13, 5), (10, 2)]);
        assert_eq!(rest((10, 8), 1), [(11, 7)]);
        assert_eq!(rest((10, 8), 8), [(10, 7)]);
        // The system died while a program was made small, or shown.
        assert_eq!(rest((10, 7), 9), [(13, 4), (10, 3)]);
        assert_eq!(rest((10, 1), 2), []);
        assert_eq!(rest((10, 1), 1), []);
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
