//! `ci/oss-fuzz/check`: does the steps of OSS-Fuzz and ClusterFuzzLite with build.sh and its
//! targets.

mod build;
mod findings;
mod inspect;
mod runner;
mod stack;

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;
use duct::cmd;

use self::runner::Runner;
use crate::project::{self, entries, files, tail};
use crate::scratch::Scratch;
use crate::{Status, shell};

/// Build and run the fuzz targets as OSS-Fuzz and ClusterFuzzLite do
///
/// Does the steps of the services without containers: build, bad_build_check, run_fuzzer,
/// reproduce, report. Builds in target/oss-fuzz.
///
/// Exit status: 0 all is well, 1 a check failed, 2 bad use or a failed build.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The seconds of each target
    #[arg(long, value_name = "N", default_value_t = 30,
          value_parser = clap::value_parser!(u32).range(1..=99_999))]
    seconds: u32,
    /// The sanitizer of the targets; by default address if there is a nightly toolchain, otherwise
    /// none
    #[arg(long, value_name = "S")]
    sanitizer: Option<Sanitizer>,
}

/// A sanitizer of the targets
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Sanitizer {
    /// The address sanitizer, which needs a nightly toolchain
    Address,
    /// No sanitizer
    None,
}

impl Sanitizer {
    fn name(self) -> &'static str {
        match self {
            Sanitizer::Address => "address",
            Sanitizer::None => "none",
        }
    }

    /// Returns the sanitizer of a run: the one that was asked for, or the default.
    fn choose(asked: Option<Sanitizer>, nightly: bool) -> Result<Sanitizer> {
        match (asked, nightly) {
            (Some(Sanitizer::Address), false) => {
                bail!("--sanitizer address: there is no nightly toolchain")
            }
            (Some(Sanitizer::None), _) | (None, false) => Ok(Sanitizer::None),
            (_, true) => Ok(Sanitizer::Address),
        }
    }
}

/// A check that failed: exit status 1. Other errors are status 2.
#[derive(Debug)]
struct Bad(String);

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Bad {}

/// Returns the error of a check that failed.
fn bad(what: impl fmt::Display) -> anyhow::Error {
    Bad(what.to_string()).into()
}

/// Fails a check unless a condition holds.
fn check(holds: bool, what: impl fmt::Display) -> Result<()> {
    if holds { Ok(()) } else { Err(bad(what)) }
}

/// Returns the error of a failed check on a run of a target, with the last lines of the log.
fn fail(log: &str, what: impl fmt::Display) -> anyhow::Error {
    eprintln!("{}", tail(log, 30));
    bad(what)
}

fn say(what: impl fmt::Display) {
    println!("== {what}");
}

/// Runs `ci/oss-fuzz/check`.
pub(crate) fn run(args: &Args) -> Result<Status> {
    let root = project::enter()?;
    for tool in ["zip", "unzip", "objdump", "ldd"] {
        shell::find(tool).with_context(|| format!("{tool} is needed"))?;
    }
    let sanitizer = Sanitizer::choose(args.sanitizer, has_nightly())?;
    match sanitizer {
        Sanitizer::Address => say("nightly, with the address sanitizer"),
        Sanitizer::None => say(format!("{}, without a sanitizer", cmd!("rustc", "-V").read()?)),
    }
    let folder = project::target_folder(&root).join("oss-fuzz");
    let _lock = project::lock(&folder)?;
    let out = build::build(&root, &folder, sanitizer)?;
    match checks(&root, &out, sanitizer, args.seconds) {
        Ok(()) => {
            say("all is well");
            Ok(Status::Clean)
        }
        Err(error) if error.is::<Bad>() => {
            eprintln!("BAD: {error}");
            Ok(Status::Found)
        }
        Err(error) => Err(error),
    }
}

fn has_nightly() -> bool {
    let list = cmd!("rustup", "toolchain", "list").stderr_null().read().unwrap_or_default();
    list.lines().any(|line| line.starts_with("nightly"))
}

fn checks(root: &Path, out: &Path, sanitizer: Sanitizer, seconds: u32) -> Result<()> {
    let scratch = Scratch::new()?;
    let runner = Runner::new(scratch.path(), out, root)?;
    let mut targets = Vec::new();
    for path in entries(&runner.out)? {
        if path.extension().is_some_and(|extension| extension == "options") {
            targets.push(path.file_stem().unwrap_or_default().to_string_lossy().into_owned());
        }
    }
    let expected = ["codec", "cross_mm", "cross_mm_fixed", "same_mm"];
    check(
        targets == expected,
        format!("expected {expected:?} in $OUT, there are: {}", targets.join(" ")),
    )?;
    for target in &targets {
        let edges = bad_build_check(&runner, target, sanitizer)?;
        let (seeds, done) = run_fuzzer(&runner, target, seconds)?;
        say(format!("{target}: {edges} edges, {seeds} seeds, {done}"));
    }
    findings::settings(&runner)?;
    findings::reproduce(&runner, &root.join("corpus/cross_mm"), sanitizer)?;
    findings::planted(&runner, root, sanitizer)
}

/// Does the steps of `bad_build_check`: checks the name, the instrumentation, the architecture, and
/// that the sanitizer is the only one. Returns the number of edges.
fn bad_build_check(runner: &Runner, target: &str, sanitizer: Sanitizer) -> Result<u64> {
    let binary = runner.out.join(target);
    check(inspect::is_name(target), format!("{target} is no name for a target"))?;
    let run = runner.run(&runner.out, &binary, &["-seed=1337", "-runs=4"])?;
    let log = &run.log;
    if run.status != 0 {
        return Err(fail(log, format!("{target} does not start")));
    }
    if log.contains("ERROR: no interesting inputs were found") {
        return Err(fail(log, format!("{target} is not instrumented")));
    }
    if !log.contains("Done 4 runs") {
        return Err(fail(log, format!("{target} ends early")));
    }
    let edges = log.lines().find_map(inspect::edges).unwrap_or(0);
    if edges < 100 {
        return Err(fail(log, format!("{target} has {edges} edges: expected 100")));
    }
    let bytes = fs::read(&binary).with_context(|| binary.display().to_string())?;
    check(inspect::is_x86_64(&bytes), format!("{target} is not for x86-64"))?;
    let calls = inspect::sanitizer_calls(&binary)?;
    match sanitizer {
        Sanitizer::Address => {
            check(calls >= 1000, format!("{target}: {calls} calls of the address sanitizer"))?;
        }
        Sanitizer::None => check(calls == 0, format!("{target} has the address sanitizer"))?,
    }
    let libraries = cmd!("ldd", &binary).read().context("ldd")?;
    let libraries = inspect::foreign_libraries(&libraries);
    check(libraries.is_empty(), format!("{target} needs {}", libraries.join(" ")))?;
    Ok(edges)
}

/// Does the steps of `run_fuzzer` with the seeds and the options. Returns the number of seeds, and
/// the engine's last line.
fn run_fuzzer(runner: &Runner, target: &str, seconds: u32) -> Result<(usize, String)> {
    let binary = runner.out.join(target);
    let seeds = runner.folder(&format!("seeds-{target}"))?;
    let grown = runner.folder(&format!("grown-{target}"))?;
    let archive = runner.out.join(format!("{target}_seed_corpus.zip"));
    cmd!("unzip", "-q", archive, "-d", &seeds).run().context("unzip")?;
    let mut flags = runner.flags(target)?;
    flags.extend(["-rss_limit_mb=2560", "-timeout=25"].map(str::to_owned));
    flags.push(format!("-artifact_prefix={}", runner.path(&format!("found-{target}-")).display()));
    let with = |more: &[String]| [&flags[..], more].concat();
    let path = |path: &PathBuf| path.display().to_string();

    let run = runner.run(&runner.out, &binary, &with(&["-runs=0".to_owned(), path(&seeds)]))?;
    if run.status != 0 {
        return Err(fail(&run.log, format!("{target} crashes on a seed")));
    }
    let more = [format!("-max_total_time={seconds}"), path(&grown), path(&seeds)];
    let run = runner.run(&runner.out, &binary, &with(&more))?;
    if run.status != 0 {
        return Err(fail(&run.log, format!("{target} found something")));
    }
    let done = run.log.lines().find(|line| line.starts_with("Done")).unwrap_or_default();
    Ok((files(&seeds, None)?.len(), done.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_sanitizer_needs_nightly() -> Result<()> {
        use Sanitizer::{Address, None as Without};
        let cases = [
            (None, true, Address),
            (None, false, Without),
            (Some(Without), true, Without),
            (Some(Without), false, Without),
            (Some(Address), true, Address),
        ];
        for (asked, nightly, expected) in cases {
            assert_eq!(Sanitizer::choose(asked, nightly)?, expected, "{asked:?} {nightly}");
        }
        assert!(Sanitizer::choose(Some(Address), false).is_err());
        Ok(())
    }

    #[test]
    fn a_failed_check_is_told_from_other_errors() {
        assert!(check(true, "").is_ok());
        assert!(check(false, "edges").expect_err("it fails").is::<Bad>());
        assert!(!anyhow::anyhow!("disk").is::<Bad>());
    }
}
