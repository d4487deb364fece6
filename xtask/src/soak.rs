//! `ci/soak`: a long run at a revision without divergences, and tests of failures around a run.

mod memory;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::ValueEnum;
use duct::{Expression, cmd};

use crate::project::{self, absolute, files, tail};
use crate::scratch::{Mount, Scratch};
use crate::targets::Target;
use crate::{Status, fuzz, shell};

/// Fuzz for a long time at a revision without divergences
///
/// Checks failures around a run: memory does not grow, a killed run loses no corpus file, and a
/// full disk or a folder that cannot be written to is an error.
///
/// Exit status: 0 all is well, 1 a check failed, 2 bad use or a failed build.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The seconds of fuzzing cross_mm on all cores
    #[arg(long, value_name = "N", default_value_t = 3600,
          value_parser = clap::value_parser!(u32).range(10..=999_999))]
    seconds: u32,
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
    revision: &'static str,
    seconds: u32,
    binary: PathBuf,
    flags: Vec<String>,
    corpus: PathBuf,
    scratch: Scratch,
    status: Status,
}

/// Runs `ci/soak`.
pub(crate) fn run(args: &Args) -> Result<Status> {
    let corpus = args.corpus.as_deref().map(absolute).transpose()?;
    let root = project::enter()?;
    let target = Target::CrossMm;
    let binary = target.build(&root)?;
    let vmadiff = project::build_vmadiff(&root)?;
    let scratch = Scratch::new()?;
    let corpus = corpus.unwrap_or_else(|| scratch.path().join("corpus"));
    fs::create_dir_all(&corpus)
        .and_then(|()| corpus.canonicalize())
        .with_context(|| corpus.display().to_string())?;
    let mut soak = Soak {
        revision: args.revision.name(),
        seconds: args.seconds,
        binary,
        flags: target.flags(&root)?,
        corpus,
        scratch,
        status: Status::Clean,
    };
    soak.memory()?;
    soak.kill(&vmadiff)?;
    soak.disk(&root)?;
    Ok(soak.status)
}

impl Soak {
    fn fail(&mut self, what: &str) {
        println!("FAILED: {what}");
        self.status = Status::Found;
    }

    /// Returns the command that runs the engine on the corpus, with `flags` beside the target's
    /// own.
    fn engine(&self, flags: &[String]) -> Expression {
        let mut arguments = vec![self.corpus.display().to_string()];
        arguments.extend(self.flags.iter().chain(flags).cloned());
        cmd(&self.binary, arguments).env("VMADIFF_REVISION", self.revision)
    }

    /// Checks that nothing is found and that memory does not grow.
    fn memory(&mut self) -> Result<()> {
        let folder = self.scratch.path().join("run");
        fs::create_dir(&folder).context("run")?;
        let cores = shell::cores();
        let flags = [
            format!("-jobs={cores}"),
            format!("-workers={cores}"),
            format!("-max_total_time={}", self.seconds),
        ];
        let log = folder.join("log");
        let engine = self.engine(&flags).dir(&folder).stderr_to_stdout().stdout_path(&log);
        let engine = engine.unchecked().start().context("cross_mm does not start")?;
        let mut samples = Vec::new();
        let output = loop {
            if let Some(output) = engine.wait_timeout(Duration::from_secs(1))? {
                break output;
            }
            samples.extend(memory::sample("cross_mm", &self.corpus, cores));
        };

        let logs: Vec<String> = project::entries(&folder)?
            .iter()
            .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .map(|path| Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned()))
            .collect::<Result<_>>()?;
        if !output.status.success() {
            let mut lines = logs.iter().flat_map(|log| log.lines());
            let main = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
            let why = lines
                .find(|line| line.contains("ERROR") || line.contains("divergence"))
                .map_or_else(|| tail(&main, 1), str::to_owned);
            self.fail(&format!("cross_mm at {}: {why}", self.revision));
        }
        fuzz::done_lines(&folder)?.iter().for_each(|line| println!("{line}"));
        match memory::Verdict::new(&samples, memory::tables(&logs)) {
            None => self.fail(&format!("memory: {} samples: expected at least 4", samples.len())),
            Some(verdict) => {
                println!("{verdict}");
                if verdict.grows() {
                    self.fail("memory grows");
                }
            }
        }
        Ok(())
    }

    /// Kills a run in the middle, and checks that all earlier files exist and all files can be
    /// read.
    fn kill(&mut self, vmadiff: &Path) -> Result<()> {
        let before: BTreeSet<_> = files(&self.corpus, None)?.into_iter().collect();
        let engine = self.engine(&["-max_total_time=60".to_owned()]).stderr_null();
        let engine = engine.unchecked().start().context("cross_mm does not start")?;
        sleep(Duration::from_secs(6));
        engine.kill().context("kill -9")?;
        engine.wait()?;
        let after: BTreeSet<_> = files(&self.corpus, None)?.into_iter().collect();
        let lost = before.difference(&after).count();
        println!("kill -9: {} files before, {} after, {lost} lost", before.len(), after.len());
        if lost > 0 {
            self.fail("kill -9 lost corpus files");
        }
        let right = format!("candidate:{}", self.revision);
        let output = cmd!(vmadiff, "triage", &self.corpus, "--right", right)
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
            self.revision,
            "--corpus",
            corpus
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
