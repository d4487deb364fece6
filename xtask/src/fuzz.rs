//! `ci/fuzz`: the main job, which fuzzes and triages.

mod machine;

use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use anyhow::{Context, Result, anyhow, bail};
use clap::ValueEnum;
use duct::cmd;
use rustix::io::{FdFlags, fcntl_setfd};

use self::machine::Machine;
use crate::project::{CORPUS, FINDINGS, FUZZ_CORPUS, GROWN, absolute, entries, tail};
use crate::scratch::Scratch;
use crate::targets::{Main, Target};
use crate::{Status, project, shell, targets};

/// Fuzz with all cores, continue after divergences, then triage and print the table
///
/// Findings go to fuzz/findings/TARGET-REVISION and replace the findings of the last run: programs,
/// triage.json, and triage.sarif for code scanning. The findings of a library libNAME.so go to
/// fuzz/findings/TARGET-lib-NAME. If two runs use the same target and machine at once, the second
/// writes its findings to TARGET-REVISION-2; the runs can share the corpus.
///
/// Exit status: 0 nothing found, 1 a divergence that is not on the list, 2 bad use or a failed
/// build.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The seconds of each target
    #[arg(long, value_name = "N", default_value_t = 30,
          value_parser = clap::value_parser!(u32).range(1..=9_999_999))]
    seconds: u32,
    /// The revision of the candidate
    #[arg(long, value_name = "R", default_value = "v2")]
    revision: Revision,
    /// Fuzz the machine in this shared library instead of the candidate
    #[arg(long, value_name = "PATH", conflicts_with = "revision")]
    candidate: Option<PathBuf>,
    /// A list of known divergences, which do not count as found; each line is SIGNATURE WHY. Without
    /// it, at the revision `original`, the bugs of Linux 5.2.1
    #[arg(long, value_name = "FILE")]
    known: Option<PathBuf>,
    /// The folder for the growing corpus, with a folder TARGET for each target; by default
    /// fuzz/corpus of the project
    #[arg(long, value_name = "FOLDER")]
    corpus: Option<PathBuf>,
    /// The folder for findings, with a folder TARGET-REVISION for each target; by default
    /// fuzz/findings of the project
    #[arg(long, value_name = "FOLDER")]
    findings: Option<PathBuf>,
    /// Start from an empty corpus instead of corpus/
    #[arg(long)]
    empty: bool,
    /// The targets to fuzz
    #[arg(value_name = "TARGET", default_value = "cross_mm")]
    targets: Vec<Main>,
}

impl Args {
    /// Returns the arguments of a run at the revision `fixed`, which has no divergence.
    pub(crate) fn at_fixed(seconds: u32, targets: Vec<Main>) -> Args {
        Args {
            seconds,
            revision: Revision::Fixed,
            candidate: None,
            known: None,
            corpus: None,
            findings: None,
            empty: false,
            targets,
        }
    }
}

/// A revision of the candidate
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Revision {
    /// The kernel before the patch
    Original,
    /// The first version of the patch
    Rfc,
    /// The second version, which is under review
    V2,
    /// The second version with the changes it needs
    Fixed,
}

impl Revision {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Revision::Original => "original",
            Revision::Rfc => "rfc",
            Revision::V2 => "v2",
            Revision::Fixed => "fixed",
        }
    }
}

/// Runs `ci/fuzz`.
pub(crate) fn run(args: Args) -> Result<Status> {
    let machine = Machine::new(args.revision, args.candidate.as_deref())?;
    let known = args.known.as_deref().map(absolute).transpose()?;
    if let Some(known) = &known {
        File::open(known).with_context(|| format!("--known {}", known.display()))?;
    }
    let corpus = args.corpus.as_deref().map(absolute).transpose()?;
    let findings = args.findings.as_deref().map(absolute).transpose()?;
    let root = project::enter()?;
    let corpus = corpus.unwrap_or_else(|| root.join(FUZZ_CORPUS));
    let vmadiff = project::build_vmadiff(&root)?;
    let targets: Vec<Target> = args.targets.into_iter().map(Target::from).collect();
    let binaries: Vec<PathBuf> =
        targets.iter().map(|target| target.build(&root)).collect::<Result<_>>()?;

    let run = Run {
        root,
        vmadiff,
        machine,
        known,
        corpus: (!args.empty).then_some(corpus),
        findings: findings.unwrap_or_else(|| FINDINGS.into()),
        seconds: args.seconds,
    };
    let mut status = Status::Clean;
    for (target, binary) in targets.into_iter().zip(&binaries) {
        status = status.max(run.fuzz(target, binary)?);
    }
    Ok(status)
}

/// The data that all targets of a run share.
struct Run {
    root: PathBuf,
    vmadiff: PathBuf,
    machine: Machine,
    known: Option<PathBuf>,
    /// The folder for the growing corpus; `None` for a run from an empty corpus.
    corpus: Option<PathBuf>,
    findings: PathBuf,
    seconds: u32,
}

impl Run {
    fn fuzz(&self, target: Target, binary: &Path) -> Result<Status> {
        let name = target.name();
        let folder = format!("{name}-{}", self.machine.label());
        let (findings, _lock) = claim(&self.findings.join(folder))?;
        clear(&findings)?;
        let out = self.root.join(&findings);
        let (raw, crashes) = (out.join("raw"), out.join("crashes"));
        for folder in [&raw, &crashes] {
            fs::create_dir(folder).with_context(|| folder.display().to_string())?;
        }
        let cores = shell::cores();
        println!(
            "fuzzing {name} at {} for {} s on {cores} cores",
            self.machine.label(),
            self.seconds
        );
        let ended = self.engine(target, binary, &out, cores)?;
        let mut status = Status::Clean;
        let artifacts = entries(&crashes)?;
        if artifacts.is_empty() {
            let done = done_lines(&out)?;
            if done.is_empty() || !ended.success() {
                let log = fs::read(out.join("log")).unwrap_or_default();
                eprintln!("{}", tail(&String::from_utf8_lossy(&log), 20));
                bail!("{name} did not run to its end ({ended})");
            }
            done.iter().for_each(|line| println!("{line}"));
        } else {
            let paths: Vec<_> = artifacts.iter().map(|path| path.display().to_string()).collect();
            println!("crashes: {}", paths.join(" "));
            status = Status::Found;
        }
        if target != Target::Codec {
            status = status.max(self.triage(&findings)?);
        }
        Ok(status)
    }

    /// Runs a job of the engine on each core, all on one corpus, and returns how they ended.
    ///
    /// A job writes its log in its current folder. A job crashes if it meets a panic, or an error
    /// that codec looks for. A divergence is written to the folder of findings, and the job
    /// continues.
    fn engine(
        &self,
        target: Target,
        binary: &Path,
        out: &Path,
        cores: usize,
    ) -> Result<ExitStatus> {
        let name = target.name();
        let mut scratch = None;
        let mut folders = Vec::new();
        match &self.corpus {
            None => folders.push(scratch.insert(Scratch::new()?).path().to_owned()),
            Some(corpus) => {
                let own = corpus.join(name);
                fs::create_dir_all(&own).with_context(|| own.display().to_string())?;
                probe(&own)?;
                folders.push(own);
                folders.push(self.root.join(CORPUS).join(name));
                folders.extend(Some(self.root.join(GROWN).join(name)).filter(|path| path.is_dir()));
            }
        }
        let mut arguments: Vec<_> =
            folders.iter().map(|path| path.as_os_str().to_owned()).collect();
        arguments.extend(target.flags(&self.root)?.into_iter().map(Into::into));
        arguments.extend([format!("-jobs={cores}"), format!("-workers={cores}")].map(Into::into));
        arguments.push(format!("-max_total_time={}", self.seconds).into());
        arguments.push(format!("-artifact_prefix={}/", out.join("crashes").display()).into());

        let (setting, value) = self.machine.setting();
        let raw = out.join("raw");
        let settings = [
            ("VMADIFF_FINDINGS", raw.as_os_str()),
            ("VMADIFF_KNOWN", self.known.as_deref().unwrap_or(Path::new("")).as_os_str()),
            (setting, OsStr::new(&value)),
        ];
        let engine = targets::with_settings(cmd(binary, arguments).dir(out), &settings);
        let log = out.join("log");
        let output = engine.stderr_to_stdout().stdout_path(log).unchecked().run();
        let output = output.with_context(|| binary.display().to_string())?;
        if self.corpus.is_some() {
            probe(&folders[0])?;
        }
        Ok(output.status)
    }

    fn triage(&self, findings: &Path) -> Result<Status> {
        let mut arguments = vec!["triage".into(), "--force".into()];
        arguments.extend(["--right".into(), self.machine.name().into()]);
        if let Some(known) = &self.known {
            arguments.extend(["--known".into(), known.into()]);
        }
        arguments.push(findings.join("raw").into_os_string());
        arguments.extend(["--out".into(), findings.into()]);
        arguments.extend(["--json-file".into(), findings.join("triage.json").into()]);
        arguments.extend(["--sarif".into(), findings.join("triage.sarif").into()]);
        let output = cmd(&self.vmadiff, arguments).unchecked().run().context("vmadiff triage")?;
        match output.status.code() {
            Some(0) => Ok(Status::Clean),
            Some(1) => Ok(Status::Found),
            _ => Err(anyhow!("vmadiff triage: {}", output.status)),
        }
    }
}

/// Claims a folder of findings for this run, or `FOLDER-2` to `FOLDER-9` if other runs have it.
///
/// The jobs inherit the lock, so the folder stays theirs even if only this process is killed.
fn claim(folder: &Path) -> Result<(PathBuf, File)> {
    let numbers = std::iter::once(String::new()).chain((2..=9).map(|n| format!("-{n}")));
    for number in numbers {
        let mut path = folder.as_os_str().to_owned();
        path.push(number);
        let path = PathBuf::from(path);
        let context = || path.display().to_string();
        fs::create_dir_all(&path).with_context(context)?;
        let lock = File::open(&path).with_context(context)?;
        match lock.try_lock() {
            Ok(()) => {
                fcntl_setfd(&lock, FdFlags::empty()).with_context(context)?;
                return Ok((path, lock));
            }
            Err(TryLockError::WouldBlock) => {}
            Err(TryLockError::Error(error)) => return Err(error).with_context(context),
        }
    }
    let folder = folder.display();
    bail!("{folder}: in use by another run, and so are {folder}-2 to {folder}-9")
}

/// Deletes the files in a folder. The folder itself is locked, so it stays.
fn clear(folder: &Path) -> Result<()> {
    for path in entries(folder)? {
        let deleted = match path.symlink_metadata() {
            Ok(data) if data.is_dir() => fs::remove_dir_all(&path),
            _ => fs::remove_file(&path),
        };
        deleted.with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// Checks that corpus files can be written to a folder: libFuzzer does not report an error if it
/// cannot write one.
fn probe(folder: &Path) -> Result<()> {
    let file = folder.join(".probe");
    let written = File::create(&file).and_then(|mut file| file.write_all(&[0; 1 << 16]));
    let deleted = match fs::remove_file(&file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    written.and(deleted).with_context(|| format!("{}: No room for corpus files", folder.display()))
}

/// Returns the lines of the jobs' logs with the number of programs that each job has run.
pub(crate) fn done_lines(folder: &Path) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for path in entries(folder)? {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        if name.starts_with("fuzz-") && name.ends_with(".log") {
            let log = fs::read(&path).with_context(|| path.display().to_string())?;
            let log = String::from_utf8_lossy(&log);
            lines.extend(log.lines().filter(|line| runs(line).is_some()).map(str::to_owned));
        }
    }
    Ok(lines)
}

/// Returns the numbers of a line “Done N runs in S second(s)”.
pub(crate) fn runs(line: &str) -> Option<(u64, u64)> {
    let (runs, seconds) = line.strip_prefix("Done ")?.split_once(" runs in ")?;
    Some((runs.parse().ok()?, seconds.split(' ').next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_at_once_have_folders_of_their_own() -> Result<()> {
        let scratch = Scratch::new()?;
        let name = scratch.path().join("cross_mm-v2");
        let locked: Vec<_> = (0..9).map(|_| claim(&name)).collect::<Result<_>>()?;
        assert_eq!(locked[0].0, name);
        assert_eq!(locked[8].0, scratch.path().join("cross_mm-v2-9"));
        let error = claim(&name).expect_err("all nine are in use");
        assert!(error.to_string().contains("in use"), "{error}");
        // A program that another test starts meanwhile inherits the locks, so dropping is not enough.
        locked.iter().try_for_each(|(_, lock)| lock.unlock())?;
        assert_eq!(claim(&name)?.0, name);
        Ok(())
    }

    #[test]
    fn a_folder_that_cannot_be_written_to_has_no_room() -> Result<()> {
        let scratch = Scratch::new()?;
        probe(scratch.path())?;
        assert_eq!(entries(scratch.path())?, Vec::<PathBuf>::new());
        let error = probe(Path::new("/proc/self")).expect_err("nobody can write there");
        assert!(error.to_string().ends_with("No room for corpus files"), "{error}");
        Ok(())
    }

    #[test]
    fn a_job_that_ended_says_how_many_programs_it_ran() {
        assert_eq!(runs("Done 1369183 runs in 31 second(s)"), Some((1_369_183, 31)));
        for line in ["Done", "Done x runs in 3 second(s)", " Done 1 runs in 3 second(s)"] {
            assert_eq!(runs(line), None, "{line}");
        }
    }
}
