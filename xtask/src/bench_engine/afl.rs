//! libFuzzer against AFL++, on the same oracle and with the same mutator, both from nothing.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use duct::{Expression, cmd};
use vmadiff_machine::corpus;

use super::median;
use crate::fuzz;
use crate::project::{entries, tail};
use crate::scratch::Scratch;
use crate::targets::{self, Target};

/// The revisions that both engines fuzz: the first has nothing to find, and the second has the bugs.
const REVISIONS: [&str; 2] = ["fixed", "v2"];

/// An engine with its binaries.
enum Engine {
    LibFuzzer { target: PathBuf, flags: Vec<String> },
    Afl { target: PathBuf, mutator: PathBuf },
}

/// The end of a run.
struct Run {
    /// The programs a second.
    speed: f64,
    /// The number of signatures that were found.
    signatures: f64,
}

/// Runs both engines in turn and returns the table of the medians.
pub(super) fn compare(root: &Path, seconds: u32, rounds: u32) -> Result<String> {
    let engines = [Engine::lib_fuzzer(root)?, Engine::afl(root)?];
    let mut runs = Vec::new();
    for seed in 1..=rounds {
        for revision in REVISIONS {
            for engine in &engines {
                runs.push((engine.name(), revision, engine.run(revision, seconds, seed)?));
            }
        }
    }
    let mut text =
        format!("{:<10} {:<8} {:>12} {:>11}\n", "engine", "revision", "programs/s", "signatures");
    for revision in REVISIONS {
        for engine in engines.iter().map(Engine::name) {
            let of = |what: fn(&Run) -> f64| {
                let these = runs.iter().filter(|(e, r, _)| (*e, *r) == (engine, revision));
                median(these.map(|(_, _, run)| what(run)).collect())
            };
            // Writing to a string never fails.
            let _ = writeln!(
                text,
                "{engine:<10} {revision:<8} {:>12.0} {:>11.0}",
                of(|run| run.speed),
                of(|run| run.signatures)
            );
        }
    }
    Ok(text)
}

impl Engine {
    fn lib_fuzzer(root: &Path) -> Result<Engine> {
        let target = Target::CrossMm;
        Ok(Engine::LibFuzzer { target: target.build(root)?, flags: target.flags(root)? })
    }

    /// Installs `cargo afl` if it is missing, and builds the target and the mutator.
    fn afl(root: &Path) -> Result<Engine> {
        targets::install("cargo-afl")?;
        let manifest = root.join("fuzz/afl/Cargo.toml");
        let build = |program: &[&str], package: &str, folder: &str| {
            let folder = root.join("fuzz/target").join(folder);
            let mut words: Vec<OsString> = program.iter().map(OsString::from).collect();
            words.extend(
                ["build", "--quiet", "--locked", "--release", "-p", package].map(OsString::from),
            );
            words.extend(["--manifest-path".into(), manifest.clone().into()]);
            words.extend(["--target-dir".into(), folder.clone().into()]);
            // The same code is instrumented as for libFuzzer.
            let build =
                cmd("cargo", words).dir(root).env("RUSTC_WRAPPER", root.join("ci/instrument"));
            build.run().with_context(|| format!("{package} does not build"))?;
            Ok::<_, anyhow::Error>(folder.join("release"))
        };
        Ok(Engine::Afl {
            target: build(&["afl"], "vmadiff-afl", "afl")?.join("cross_mm"),
            mutator: build(&[], "vmadiff-afl-mutator", "afl-mutator")?
                .join("libvmadiff_afl_mutator.so"),
        })
    }

    fn name(&self) -> &'static str {
        match self {
            Engine::LibFuzzer { .. } => "libFuzzer",
            Engine::Afl { .. } => "AFL++",
        }
    }

    fn run(&self, revision: &str, seconds: u32, seed: u32) -> Result<Run> {
        let scratch = Scratch::in_memory()?;
        let folder = |name: &str| {
            let folder = scratch.path().join(name);
            fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
            Ok::<_, anyhow::Error>(folder)
        };
        let (findings, corpus) = (folder("findings")?, folder("corpus")?);
        let command = match self {
            Engine::LibFuzzer { target, flags } => {
                lib_fuzzer(target, flags, &corpus, seconds, seed)
            }
            Engine::Afl { target, mutator } => {
                // AFL++ does not begin without a file. These bytes are no program.
                fs::write(corpus.join("nothing"), "0").context("no file")?;
                afl(target, mutator, scratch.path(), seconds, seed)
            }
        };
        let settings = [
            ("VMADIFF_REVISION", OsStr::new(revision)),
            ("VMADIFF_FINDINGS", findings.as_os_str()),
            ("VMADIFF_KNOWN", OsStr::new("/dev/null")),
        ];
        let output = targets::with_settings(command, &settings)
            .stderr_to_stdout()
            .stdout_capture()
            .unchecked()
            .run()
            .with_context(|| self.name())?;
        let log = String::from_utf8_lossy(&output.stdout).into_owned();
        let speed = match self {
            Engine::LibFuzzer { .. } => log
                .lines()
                .rev()
                .find_map(fuzz::runs)
                .map(|(runs, seconds)| runs as f64 / seconds.max(1) as f64),
            Engine::Afl { .. } => {
                let stats = scratch.path().join("out/default/fuzzer_stats");
                speed_of(&fs::read_to_string(stats).unwrap_or_default())
            }
        };
        let speed =
            speed.with_context(|| format!("{} did not run:\n{}", self.name(), tail(&log, 20)))?;
        Ok(Run { speed, signatures: signatures(&findings)? as f64 })
    }
}

fn lib_fuzzer(
    target: &Path,
    flags: &[String],
    corpus: &Path,
    seconds: u32,
    seed: u32,
) -> Expression {
    let mut words = vec![corpus.as_os_str().to_owned()];
    words.extend(flags.iter().map(OsString::from));
    words.push(format!("-seed={seed}").into());
    words.push(format!("-max_total_time={seconds}").into());
    cmd(target, words)
}

fn afl(target: &Path, mutator: &Path, folder: &Path, seconds: u32, seed: u32) -> Expression {
    let (seeds, out) = (folder.join("corpus"), folder.join("out"));
    let (seconds, seed) = (seconds.to_string(), seed.to_string());
    let longest = corpus::MAX_BYTES.to_string();
    let fuzz = cmd!(
        "cargo", "afl", "fuzz", "-i", seeds, "-o", out, "-V", seconds, "-s", seed, "-t", "10000",
        "-G", longest, "--", target
    );
    fuzz.env("AFL_CUSTOM_MUTATOR_LIBRARY", mutator)
        .env("AFL_CUSTOM_MUTATOR_ONLY", "1")
        // The mutator decides the length of a program.
        .env("AFL_DISABLE_TRIM", "1")
        .env("AFL_NO_UI", "1")
        .env("AFL_NO_AFFINITY", "1")
        // The frequency of the processor, and programs that take crashes away: they matter for long runs.
        .env("AFL_SKIP_CPUFREQ", "1")
        .env("AFL_I_DONT_CARE_ABOUT_MISSING_CRASHES", "1")
}

/// Returns the programs a second of AFL++'s file `fuzzer_stats`.
fn speed_of(stats: &str) -> Option<f64> {
    let value = |name: &str| -> Option<f64> {
        stats.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            (key.trim() == name).then(|| value.trim().parse().ok())?
        })
    };
    Some(value("execs_done")? / value("run_time")?.max(1.0))
}

/// Returns the number of signatures in a folder of findings. A file is called `SIGNATURE.PROCESS.vmad`.
fn signatures(folder: &Path) -> Result<usize> {
    let files = entries(folder)?;
    let name = |file: &PathBuf| {
        let name = file.file_name()?.to_string_lossy().into_owned();
        Some(name.rsplitn(3, '.').nth(2)?.to_owned())
    };
    Ok(files.iter().filter_map(name).collect::<BTreeSet<_>>().len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_speed_is_read_from_the_statistics() {
        let stats = "start_time        : 17\nrun_time          : 10\nexecs_done        : 1500\n";
        assert_eq!(speed_of(stats), Some(150.0));
        assert_eq!(speed_of("run_time : 10\n"), None);
    }

    #[test]
    fn a_signature_of_two_processes_counts_once() -> Result<()> {
        let scratch = Scratch::new()?;
        for name in ["flags-copy.10.vmad", "flags-copy.11.vmad", "layout-a.b.10.vmad", "note"] {
            fs::write(scratch.path().join(name), "")?;
        }
        assert_eq!(signatures(scratch.path())?, 2);
        Ok(())
    }
}
