//! `ci/soak`: a long run at a revision without divergences, and tests of failures around a run.

mod memory;
mod rounds;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use duct::cmd;

use self::rounds::{History, Rounds};
use crate::project::{self, absolute, files, tail};
use crate::scratch::{Mount, Scratch};
use crate::targets::Target;
use crate::{Status, fuzz};

/// Fuzz for hours or days at a revision without divergences
///
/// The engine runs on all cores, in rounds, and a line a minute shows time, programs, coverage, corpus,
/// memory and findings. With --corpus the lines are kept in a file too. A run may be stopped at any
/// time, and the next run on the corpus continues it. A program with a divergence is written to
/// fuzz/findings/soak-REVISION, and the run goes on.
///
/// After the last round failures around a run are checked: a killed run loses no corpus file, and a
/// full disk or a folder that cannot be written to is an error.
///
/// Exit status: 0 all is well, 1 a program with a divergence, memory that grows, or a failed check,
/// 2 bad use or a failed build.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The seconds of fuzzing cross_mm on all cores
    #[arg(long, value_name = "N", default_value_t = 3600,
          value_parser = clap::value_parser!(u64).range(10..=9_999_999))]
    seconds: u64,
    /// The file for the lines; by default FOLDER.log. Several runs on one corpus need a file each
    #[arg(long, value_name = "FILE", requires = "corpus")]
    log: Option<PathBuf>,
    /// The least seconds of a round, after which the engine starts again
    #[arg(long, value_name = "N", default_value_t = 3600,
          value_parser = clap::value_parser!(u64).range(10..=9_999_999))]
    round: u64,
    /// Run this command of the shell before and after each round, with the corpus in $CORPUS, to share
    /// the corpus with other machines
    #[arg(long, value_name = "COMMAND", requires = "corpus")]
    sync: Option<String>,
    /// The revision of the candidate
    #[arg(long, value_name = "R", default_value = "fixed")]
    revision: Revision,
    /// The folder for the growing corpus of cross_mm; by default a folder that is deleted at the
    /// end
    #[arg(long, value_name = "FOLDER")]
    corpus: Option<PathBuf>,
}

/// A revision without divergences
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Revision {
    /// The kernel before the patch
    Original,
    /// The patch with the changes it needs
    Fixed,
}

impl Revision {
    fn name(self) -> &'static str {
        match self {
            Revision::Original => fuzz::Revision::Original.name(),
            Revision::Fixed => fuzz::Revision::Fixed.name(),
        }
    }
}

/// A run and its failed checks.
struct Soak {
    rounds: Rounds,
    scratch: Scratch,
    status: Status,
}

/// Runs `ci/soak`.
pub(crate) fn run(args: &Args) -> Result<Status> {
    let corpus = args.corpus.as_deref().map(absolute).transpose()?;
    let log = args.log.as_deref().map(absolute).transpose()?;
    let root = project::enter()?;
    let scratch = Scratch::new()?;
    let log = match (log, &corpus) {
        (Some(log), _) => log,
        (None, Some(corpus)) => log_of(corpus)?,
        (None, None) => scratch.path().join("corpus.log"),
    };
    let corpus = corpus.unwrap_or_else(|| scratch.path().join("corpus"));
    fs::create_dir_all(&corpus)
        .and_then(|()| corpus.canonicalize())
        .with_context(|| corpus.display().to_string())?;
    let mut history = History::open(log)?;
    let revision = args.revision.name();
    let findings = root.join(project::FINDINGS).join(format!("soak-{revision}"));
    fs::create_dir_all(&findings).with_context(|| findings.display().to_string())?;
    let target = Target::CrossMm;
    let rounds = Rounds {
        binary: target.build(&root)?,
        flags: target.flags(&root)?,
        revision,
        corpus,
        findings,
        seconds: args.seconds,
        round: args.round,
        sync: args.sync.clone(),
    };
    let vmadiff = project::build_vmadiff(&root)?;
    let mut soak = Soak { rounds, scratch, status: Status::Clean };
    soak.fuzz(&mut history)?;
    soak.kill(&vmadiff)?;
    soak.disk(&root)?;
    Ok(soak.status)
}

/// Returns the path of the log of a corpus, which is beside the folder.
fn log_of(corpus: &Path) -> Result<PathBuf> {
    let name = corpus.file_name().context("--corpus: expected a folder with a name")?;
    let mut log = name.to_owned();
    log.push(".log");
    Ok(corpus.with_file_name(log))
}

impl Soak {
    fn fail(&mut self, what: &str) {
        println!("FAILED: {what}");
        self.status = Status::Found;
    }

    /// Fuzzes, and checks that nothing is found and that memory does not grow.
    fn fuzz(&mut self, history: &mut History) -> Result<()> {
        let found = |rounds: &Rounds| anyhow::Ok(files(&rounds.findings, None)?.len());
        let before = found(&self.rounds)?;
        for wrong in self.rounds.run(history)? {
            self.fail(&wrong);
        }
        let new = found(&self.rounds)?.saturating_sub(before);
        if new > 0 {
            let folder = self.rounds.findings.display().to_string();
            self.fail(&format!("{new} programs with a divergence in {folder}"));
        }
        Ok(())
    }

    /// Kills a run in the middle, and checks that all earlier files exist and all files can be
    /// read.
    fn kill(&mut self, vmadiff: &Path) -> Result<()> {
        let corpus = &self.rounds.corpus;
        let before: BTreeSet<_> = files(corpus, None)?.into_iter().collect();
        let mut engine = self.rounds.engine();
        engine.arg("-max_total_time=60").stderr(Stdio::null());
        let mut engine = engine.spawn().context("cross_mm does not start")?;
        sleep(Duration::from_secs(6));
        engine.kill().context("kill -9")?;
        engine.wait().context("cross_mm")?;
        let after: BTreeSet<_> = files(corpus, None)?.into_iter().collect();
        let lost = before.difference(&after).count();
        println!("kill -9: {} files before, {} after, {lost} lost", before.len(), after.len());
        if lost > 0 {
            self.fail("kill -9 lost corpus files");
        }
        let right = format!("candidate:{}", self.rounds.revision);
        let output = cmd!(vmadiff, "triage", &self.rounds.corpus, "--right", right)
            .stderr_to_stdout()
            .stdout_capture()
            .unchecked()
            .run()
            .context("vmadiff triage")?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            let head: Vec<&str> = text.lines().take(3).collect();
            self.fail(&format!("the corpus after kill -9: {}", head.join("\n")));
        }
        println!("{}", tail(&text, 1));
        Ok(())
    }

    /// Fuzzes on a disk with room for some files, and on a disk that cannot be written to.
    fn disk(&mut self, root: &Path) -> Result<()> {
        let folder = self.scratch.path().join("small");
        fs::create_dir(&folder).context("small")?;
        // The disk is a little larger than the room that `ci/fuzz` asks for: eight corpus files
        // fill it.
        let Some(disk) = Mount::memory(&folder, "96k") else {
            println!("skipped: full disk, read-only folder: no permission to mount");
            return Ok(());
        };
        let corpus = folder.join("corpus");
        self.refused(root, &corpus, "full disk", "No room for corpus files")?;
        fs::remove_dir_all(&corpus).with_context(|| corpus.display().to_string())?;
        disk.make_read_only()?;
        self.refused(root, &corpus, "read-only folder", "Read-only file system")
    }

    /// Checks that `ci/fuzz` ends with an error that has this message.
    fn refused(&mut self, root: &Path, corpus: &Path, what: &str, message: &str) -> Result<()> {
        let output = cmd!(
            root.join("ci/fuzz"),
            "--seconds",
            "5",
            "--revision",
            self.rounds.revision,
            "--corpus",
            corpus,
            "--findings",
            self.scratch.path().join("findings")
        )
        .stderr_to_stdout()
        .stdout_capture()
        .unchecked()
        .run()
        .context("ci/fuzz")?;
        let last = tail(&String::from_utf8_lossy(&output.stdout), 1);
        println!("{what}: {}: {last}", output.status);
        if output.status.code() != Some(2) || !last.contains(message) {
            self.fail(&format!("{what}: expected status 2 and “{message}”"));
        }
        Ok(())
    }
}
