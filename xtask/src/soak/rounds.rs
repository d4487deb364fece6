//! The long run of `ci/soak`: rounds of the engine on one corpus, with a line a minute.

use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use duct::cmd;

use super::memory;
use crate::fuzz;
use crate::project::{self, files, tail};
use crate::scratch::{Group, Scratch};
use crate::{shell, targets};

/// The time between two lines.
const MINUTE: Duration = Duration::from_secs(60);
/// The first line of a log.
const HEAD: &str = "seconds\tprograms\tedges\tfeatures\tinputs\tmemory_kib\tfindings";

/// A line of the log: all runs on the corpus up to this minute.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Minute {
    /// The time of fuzzing.
    pub(crate) seconds: u64,
    /// The programs that were run. Within a round the number is an estimate from the speed that the
    /// engine shows.
    pub(crate) programs: u64,
    pub(crate) edges: u64,
    pub(crate) features: u64,
    /// The inputs that a job keeps of the corpus.
    pub(crate) inputs: u64,
    /// The memory of a job in KiB.
    pub(crate) memory: u64,
    /// The programs with a divergence.
    pub(crate) findings: u64,
}

impl Minute {
    /// Reads a line of the log.
    fn parse(line: &str) -> Option<Minute> {
        let numbers: Vec<u64> =
            line.split('\t').map(|word| word.parse().ok()).collect::<Option<_>>()?;
        let [seconds, programs, edges, features, inputs, memory, findings] = numbers[..] else {
            return None;
        };
        Some(Minute { seconds, programs, edges, features, inputs, memory, findings })
    }

    fn line(&self) -> String {
        let Minute { seconds, programs, edges, features, inputs, memory, findings } = self;
        format!("{seconds}\t{programs}\t{edges}\t{features}\t{inputs}\t{memory}\t{findings}\n")
    }
}

impl fmt::Display for Minute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (hours, minutes) = (self.seconds / 3600, self.seconds / 60 % 60);
        write!(
            f,
            "{hours}:{minutes:02} h, {:.1} M programs, {} edges, {} features, {} inputs, {:.1} MiB \
             a job, {} findings",
            self.programs as f64 / 1e6,
            self.edges,
            self.features,
            self.inputs,
            self.memory as f64 / 1024.0,
            self.findings
        )
    }
}

/// The history of a corpus: a line a minute, over all runs.
pub(crate) struct History {
    path: PathBuf,
    /// The file, which is locked.
    file: File,
    /// The last line.
    pub(crate) last: Minute,
}

impl History {
    /// Opens the history of a corpus, or begins one. A line that was cut off is removed.
    ///
    /// # Errors
    /// Returns an error if the file is none of `ci/soak`.
    pub(crate) fn open(path: PathBuf) -> Result<History> {
        let context = || path.display().to_string();
        if !path.try_exists().with_context(context)? {
            let mut new = File::create_new(&path).with_context(context)?;
            writeln!(new, "{HEAD}").with_context(context)?;
        }
        ensure!(path.is_file(), "{}: expected a regular file", path.display());
        let mut file =
            OpenOptions::new().read(true).append(true).open(&path).with_context(context)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                bail!("{}: in use by another run: give --log FILE", path.display())
            }
            Err(TryLockError::Error(error)) => return Err(error).with_context(context),
        }
        let mut text = String::new();
        file.read_to_string(&mut text).with_context(context)?;
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        let mut lines = whole.lines();
        ensure!(
            lines.next() == Some(HEAD),
            "{}: not a log of ci/soak: expected the first line to be {HEAD:?}",
            path.display()
        );
        let mut last = Minute::default();
        for (number, line) in (2..).zip(lines) {
            last = Minute::parse(line)
                .with_context(|| format!("{}:{number}: expected seven numbers", path.display()))?;
        }
        if whole.len() < text.len() {
            file.set_len(whole.len() as u64).with_context(context)?;
        }
        Ok(History { path, file, last })
    }

    fn add(&mut self, minute: Minute) -> Result<()> {
        let line = minute.line();
        self.file.write_all(line.as_bytes()).with_context(|| self.path.display().to_string())?;
        self.last = minute;
        Ok(())
    }
}

/// The options of the rounds.
pub(crate) struct Rounds {
    pub(crate) binary: PathBuf,
    pub(crate) flags: Vec<String>,
    pub(crate) revision: &'static str,
    pub(crate) corpus: PathBuf,
    /// The folder for programs with a divergence.
    pub(crate) findings: PathBuf,
    /// The seconds of all rounds, and the least of one.
    pub(crate) seconds: u64,
    pub(crate) round: u64,
    /// A command of the shell that runs before and after each round, to share the corpus.
    pub(crate) sync: Option<String>,
}

impl Rounds {
    /// Runs the rounds, and returns what is wrong, if anything.
    pub(crate) fn run(&self, history: &mut History) -> Result<Vec<String>> {
        let mut wrong = Vec::new();
        // No round is shorter than asked for: a short one says nothing of the memory.
        let count = (self.seconds / self.round).max(1);
        self.synchronize(&mut wrong)?;
        for n in 0..count {
            let seconds = self.seconds * (n + 1) / count - self.seconds * n / count;
            self.round(seconds, history, &mut wrong)?;
            self.synchronize(&mut wrong)?;
        }
        Ok(wrong)
    }

    fn synchronize(&self, wrong: &mut Vec<String>) -> Result<()> {
        let Some(command) = &self.sync else { return Ok(()) };
        let output = cmd!("sh", "-c", command)
            .env("CORPUS", &self.corpus)
            .stdin_null()
            .stdout_to_stderr()
            .unchecked()
            .run()
            .context("sh")?;
        if !output.status.success() {
            // The corpus of this machine is whole, so fuzzing goes on.
            wrong.push(format!("--sync {command:?}: {}", output.status));
        }
        Ok(())
    }

    /// Returns the command that runs the engine on the corpus.
    pub(crate) fn engine(&self) -> Command {
        let mut engine = Command::new(&self.binary);
        for setting in targets::SETTINGS {
            engine.env_remove(setting);
        }
        engine
            .arg(&self.corpus)
            .args(&self.flags)
            .env("VMADIFF_REVISION", self.revision)
            .env("VMADIFF_FINDINGS", &self.findings)
            .env("VMADIFF_KNOWN", "");
        engine
    }

    /// Runs a job of the engine on each core.
    fn round(&self, seconds: u64, history: &mut History, wrong: &mut Vec<String>) -> Result<()> {
        let scratch = Scratch::new()?;
        let cores = shell::cores();
        let log = scratch.path().join("log");
        let output = File::create(&log).with_context(|| log.display().to_string())?;
        let mut engine = self.engine();
        engine
            .args([format!("-jobs={cores}"), format!("-workers={cores}")])
            .arg(format!("-max_total_time={seconds}"))
            .current_dir(scratch.path())
            .stdout(output.try_clone().context("log")?)
            .stderr(output)
            .process_group(0);
        let began = Instant::now();
        let mut child = engine.spawn().with_context(|| self.binary.display().to_string())?;
        let group = Group::new(&child);
        let (before, mut samples, mut shown) = (history.last, Vec::new(), began);
        let status = loop {
            sleep(Duration::from_secs(1));
            if let Some(status) = child.try_wait().context("cross_mm")? {
                break status;
            }
            samples.extend(memory::sample("cross_mm", &self.corpus, cores));
            if shown.elapsed() >= MINUTE {
                shown += MINUTE;
                let logs = logs(scratch.path())?;
                let minute = self.minute(before, began.elapsed().as_secs(), &logs, &samples)?;
                println!("{minute}");
                history.add(minute)?;
            }
        };
        drop(group);
        let logs = logs(scratch.path())?;
        let mut minute = self.minute(before, began.elapsed().as_secs(), &logs, &samples)?;
        let done = fuzz::done_lines(scratch.path())?;
        if !done.is_empty() {
            let programs = done.iter().filter_map(|line| fuzz::runs(line)).map(|(runs, _)| runs);
            minute.programs = before.programs + programs.sum::<u64>();
        }
        println!("{minute}");
        history.add(minute)?;
        if !status.success() {
            let mut lines = logs.iter().flat_map(|log| log.lines());
            let why = lines.find(|line| line.contains("ERROR")).map(str::to_owned);
            let text = fs::read(&log).with_context(|| log.display().to_string())?;
            let why = why.unwrap_or_else(|| tail(&String::from_utf8_lossy(&text), 1));
            if done.is_empty() {
                bail!("cross_mm at {}: {why}", self.revision);
            }
            wrong.push(format!("cross_mm at {}: {why}", self.revision));
        }
        match memory::Verdict::new(&samples, memory::tables(&logs)) {
            None => wrong.push(format!("memory: {} samples: expected at least 4", samples.len())),
            Some(verdict) if verdict.grows() => wrong.push(format!("memory grows: {verdict}")),
            Some(verdict) => println!("{verdict}"),
        }
        Ok(())
    }

    /// Returns the state of a round that began with the state `before`.
    fn minute(
        &self,
        before: Minute,
        seconds: u64,
        logs: &[String],
        samples: &[u64],
    ) -> Result<Minute> {
        let shown: Vec<Shown> =
            logs.iter().filter_map(|log| log.lines().rev().find_map(Shown::parse)).collect();
        let most = |field: fn(&Shown) -> u64| shown.iter().map(field).max().unwrap_or_default();
        let speed: u64 = shown.iter().map(|shown| shown.speed).sum();
        Ok(Minute {
            seconds: before.seconds + seconds,
            programs: before.programs + speed * seconds,
            edges: most(|shown| shown.edges),
            features: most(|shown| shown.features),
            inputs: most(|shown| shown.inputs),
            memory: samples.last().copied().unwrap_or_default(),
            findings: files(&self.findings, None)?.len() as u64,
        })
    }
}

/// Returns the logs of the jobs in a folder.
fn logs(folder: &Path) -> Result<Vec<String>> {
    project::entries(folder)?
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .map(|path| Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned()))
        .collect()
}

/// The numbers of a line of the engine, such as “#9 NEW cov: 90 ft: 2048 corp: 3/1Kb exec/s: 512”.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    edges: u64,
    pub(crate) features: u64,
    pub(crate) inputs: u64,
    /// The programs a second since the start of the job; 0 where the line does not show it.
    speed: u64,
}

impl Shown {
    pub(crate) fn parse(line: &str) -> Option<Shown> {
        let number = |name: &str| {
            let rest = line.split_once(name)?.1.trim_start();
            let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            rest[..end].parse().ok()
        };
        line.starts_with('#').then_some(())?;
        Some(Shown {
            edges: number(" cov: ")?,
            features: number(" ft: ")?,
            inputs: number(" corp: ")?,
            speed: number(" exec/s: ").unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_history_goes_on_where_it_ended() -> Result<()> {
        let scratch = Scratch::new()?;
        let file = scratch.path().join("corpus.log");
        let minute = Minute { seconds: 60, programs: 9_000_000, edges: 90, ..Minute::default() };
        let mut history = History::open(file.clone())?;
        assert_eq!(history.last, Minute::default());
        history.add(minute)?;
        // A machine that lost its power leaves a part of a line.
        let whole = fs::read_to_string(&file)?;
        fs::write(&file, format!("{whole}120\t180"))?;
        let error = History::open(file.clone()).err().map(|error| error.to_string());
        assert!(error.as_ref().is_some_and(|error| error.contains("in use")), "{error:?}");
        history.file.unlock()?;
        assert_eq!(History::open(file.clone())?.last, minute);
        assert_eq!(fs::read_to_string(&file)?, whole);
        Ok(())
    }

    #[test]
    fn a_file_that_is_no_history_stays_as_it_is() -> Result<()> {
        let scratch = Scratch::new()?;
        let file = scratch.path().join("corpus.log");
        for (text, expected) in [
            ("", "not a log of ci/soak"),
            ("letters\n", "not a log of ci/soak"),
            (&format!("{HEAD}\n1\t2\t3\n"), "corpus.log:2: expected seven numbers"),
        ] {
            fs::write(&file, text)?;
            let error = History::open(file.clone()).err().map(|error| format!("{error:#}"));
            assert!(error.as_ref().is_some_and(|error| error.contains(expected)), "{error:?}");
            assert_eq!(fs::read_to_string(&file)?, text);
        }
        Ok(())
    }

    #[test]
    fn a_line_of_the_engine_has_four_numbers() {
        let line =
            "#2097152\tpulse  cov: 963 ft: 3674 corp: 812/9Kb lim: 596 exec/s: 84120 rss: 38Mb";
        let shown = Shown { edges: 963, features: 3674, inputs: 812, speed: 84_120 };
        assert_eq!(Shown::parse(line), Some(shown));
        for other in ["INFO: cov: 1", "#2 INITED exec/s: 0 rss: 30Mb", ""] {
            assert_eq!(Shown::parse(other), None, "{other}");
        }
    }

    #[test]
    fn a_minute_is_one_line() {
        let minute = Minute {
            seconds: 8040,
            programs: 1_234_567,
            edges: 963,
            features: 3674,
            inputs: 812,
            memory: 39_117,
            findings: 0,
        };
        assert_eq!(Minute::parse(minute.line().trim_end()), Some(minute));
        assert_eq!(
            minute.to_string(),
            "2:14 h, 1.2 M programs, 963 edges, 3674 features, 812 inputs, 38.2 MiB a job, 0 findings"
        );
    }

    /// A program that stands for the engine: it finds a program in the second round.
    #[test]
    fn rounds_follow_each_other_and_the_corpus_is_shared_between_them() -> Result<()> {
        let scratch = Scratch::new()?;
        let at = |name: &str| scratch.path().join(name);
        for folder in ["corpus", "findings"] {
            fs::create_dir(at(folder))?;
        }
        let script = "#!/bin/sh\n\
            echo '#9 NEW cov: 90 ft: 2048 corp: 3/1Kb exec/s: 512' >fuzz-0.log\n\
            echo 'Done 700 runs in 1 second(s)' >>fuzz-0.log\n\
            [ -e \"$1/input\" ] && touch \"$VMADIFF_FINDINGS/program\"\n\
            touch \"$1/input\"\n";
        fs::write(at("engine"), script)?;
        crate::guest::make_executable(&at("engine"))?;
        let rounds = Rounds {
            binary: at("engine"),
            flags: Vec::new(),
            revision: "fixed",
            corpus: at("corpus"),
            findings: at("findings"),
            seconds: 20,
            round: 10,
            sync: Some(format!("ls \"$CORPUS\" >>'{}'", at("synced").display())),
        };
        let mut history = History::open(at("corpus.log"))?;
        let wrong = rounds.run(&mut history)?;
        assert!(wrong.iter().all(|wrong| wrong.starts_with("memory: 0 samples")), "{wrong:?}");
        assert_eq!(fs::read_to_string(at("synced"))?, "input\ninput\n");
        let Minute { programs, edges, findings, .. } = history.last;
        assert_eq!((programs, edges, findings), (1400, 90, 1));
        Ok(())
    }
}
