//! `ci/faults bench`: executions and seconds to the first divergence, from an empty corpus.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{ValueEnum, value_parser};
use duct::cmd;
use vmadiff_faults::{Fault, Faults, Flavour, Tier};

use super::{build, plot, report, table};
use crate::project;
use crate::scratch::Scratch;
use crate::targets::{self, Target};
use crate::{Status, shell};

/// The options of the measurement.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The number of runs of each fault in each way
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = value_parser!(u64).range(1..=1000))]
    seeds: u64,
    /// The longest run of `programs`, in seconds
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = value_parser!(u64).range(1..=86_400))]
    seconds: u64,
    /// The longest run of `bytes` and `random`, in seconds
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = value_parser!(u64).range(1..=86_400))]
    baseline: u64,
    /// The number of runs at the same time
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = value_parser!(u8).range(1..=64))]
    jobs: u8,
    /// Look for these faults only
    #[arg(long, value_name = "NAME,…", value_delimiter = ',')]
    only: Vec<String>,
    /// Look for the faults of this tier only
    #[arg(long, value_parser = tier)]
    tier: Option<Tier>,
    /// Look for every other fault: odd to choose weights with, even to check the weights
    #[arg(long)]
    half: Option<Half>,
    /// The ways to look for a fault; by default all ways
    #[arg(long, value_name = "WAY,…", value_delimiter = ',')]
    ways: Vec<Way>,
}

fn tier(name: &str) -> Result<Tier> {
    let known = Tier::ALL.into_iter().find(|tier| tier.name() == name);
    known.with_context(|| format!("no tier is called `{name}`: expected plain or two situations"))
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Half {
    Odd,
    Even,
}

/// A way to look for a fault
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// Guided fuzzing with the mutator that knows programs
    Programs,
    /// Guided fuzzing with byte mutations
    Bytes,
    /// Random programs without feedback
    Random,
}

impl Way {
    pub(crate) const ALL: [Way; 3] = [Way::Programs, Way::Bytes, Way::Random];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Way::Programs => "programs",
            Way::Bytes => "bytes",
            Way::Random => "random",
        }
    }
}

/// The end of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// The number of programs that were executed.
    pub(crate) executions: u64,
    pub(crate) seconds: f64,
    pub(crate) found: bool,
}

/// The runs of a fault, indexed by [`Way::ALL`]; empty for a way that was not asked for.
pub(crate) type Runs = [Vec<Run>; Way::ALL.len()];

/// The programs that look for faults; only those of the chosen ways are built.
struct Engines {
    /// The flags of libFuzzer for both targets.
    flags: Vec<String>,
    programs: PathBuf,
    bytes: PathBuf,
    random: PathBuf,
}

/// Runs `ci/faults bench`.
pub(crate) fn run(args: &Args, root: &Path, faults: &Faults) -> Result<Status> {
    let all = faults.all()?;
    let total = all.len();
    let chosen = choose(args, all)?;
    let ways: Vec<Way> = if args.ways.is_empty() { Way::ALL.to_vec() } else { args.ways.clone() };
    let engines = Engines::build(root, &ways)?;
    let guided = ways.iter().any(|way| *way != Way::Random).then_some(Flavour::Fuzz);
    let random = ways.contains(&Way::Random).then_some(Flavour::Release);
    for flavour in guided.into_iter().chain(random) {
        let results = build::build_all(root, faults, flavour, &chosen)?;
        let failures = build::failures(&chosen, results);
        if !failures.is_empty() {
            return report(chosen.len(), &failures);
        }
    }
    let mut work = Vec::new();
    for seed in 1..=args.seeds {
        for fault in 0..chosen.len() {
            work.extend(ways.iter().map(|way| (fault, *way, seed)));
        }
    }
    let look = |&(fault, way, seed): &(usize, Way, u64)| {
        engines.look(args, faults, &chosen[fault], way, seed)
    };
    let results = shell::with_progress("run", usize::from(args.jobs), &work, look);
    let mut runs = vec![Runs::default(); chosen.len()];
    // A run that failed, as for want of memory, leaves the others worth their hours.
    let mut failed = Vec::new();
    for (&(fault, way, seed), result) in work.iter().zip(results) {
        match result {
            Ok(run) => runs[fault][way as usize].push(run),
            Err(error) => {
                failed.push(format!("{} {} seed {seed}: {error:#}", chosen[fault].name, way.name()))
            }
        }
    }
    let text = table::table(&place(args)?, args.seeds, &chosen, &runs);
    print!("{text}");
    let compared = [Way::Programs, Way::Random].iter().all(|way| ways.contains(way));
    if chosen.len() == total && compared {
        fs::write("docs/faults.txt", text).context("docs/faults.txt")?;
        fs::write("docs/faults.svg", plot::plot(&chosen, &runs)).context("docs/faults.svg")?;
    }
    if failed.is_empty() {
        return Ok(Status::Clean);
    }
    bail!(
        "{} of {} runs failed, and are not in the table:\n{}",
        failed.len(),
        work.len(),
        failed.join("\n")
    )
}

/// Returns the faults that the options choose.
fn choose(args: &Args, all: Vec<Fault>) -> Result<Vec<Fault>> {
    if let Some(strange) = args.only.iter().find(|name| !all.iter().any(|f| f.name == **name)) {
        bail!("no fault is called `{strange}`: `vmadiff faults` lists them");
    }
    let in_half = |n: usize| match args.half {
        Some(Half::Odd) => n % 2 == 1,
        Some(Half::Even) => n.is_multiple_of(2),
        None => true,
    };
    let chosen = all.into_iter().enumerate().filter(|(n, fault)| {
        in_half(*n)
            && (args.only.is_empty() || args.only.contains(&fault.name))
            && args.tier.is_none_or(|tier| tier == fault.tier)
    });
    Ok(chosen.map(|(_, fault)| fault).collect())
}

/// Returns the machine and the day of the measurement.
fn place(args: &Args) -> Result<String> {
    let day = cmd!("date", "-u", "+%F").read().context("date does not run")?;
    let cpus = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpus.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("unknown processor", |(_, model)| model);
    Ok(format!("{day}, {} cores, {model}; {} runs side by side", shell::cores(), args.jobs))
}

impl Engines {
    /// Builds the programs of the chosen ways.
    fn build(root: &Path, ways: &[Way]) -> Result<Engines> {
        let target = |way: Way, target: Target| {
            if ways.contains(&way) { target.build(root) } else { Ok(PathBuf::new()) }
        };
        if ways.contains(&Way::Random) {
            cmd!("cargo", "build", "--quiet", "--release", "--example", "random").run()?;
        }
        Ok(Engines {
            flags: Target::CrossMm.flags(root)?,
            programs: target(Way::Programs, Target::CrossMm)?,
            // Byte mutations learn the magic and the opcodes from traced comparisons.
            bytes: target(Way::Bytes, Target::CrossMmBytes)?,
            random: project::target_folder(root).join("release/examples/random"),
        })
    }

    fn look(
        &self,
        args: &Args,
        faults: &Faults,
        fault: &Fault,
        way: Way,
        seed: u64,
    ) -> Result<Run> {
        match way {
            Way::Programs => engine(&self.programs, &self.flags, &fault.name, seed, args.seconds),
            Way::Bytes => engine(&self.bytes, &self.flags, &fault.name, seed, args.baseline),
            Way::Random => {
                let library = faults.library(&fault.name, Flavour::Release)?;
                let machine = format!("lib:{}", library.display());
                let limits = [seed.to_string(), args.baseline.to_string()];
                let line = cmd!(&self.random, machine, &limits[0], &limits[1]).read()?;
                random(&line).with_context(|| format!("random: unexpected `{line}`"))
            }
        }
    }
}

/// Runs libFuzzer from an empty corpus to the first divergence.
fn engine(binary: &Path, flags: &[String], fault: &str, seed: u64, seconds: u64) -> Result<Run> {
    let scratch = Scratch::in_memory()?;
    let folder = scratch.path().display().to_string();
    let mut arguments = vec![
        folder.clone(),
        format!("-seed={seed}"),
        format!("-max_total_time={seconds}"),
        format!("-artifact_prefix={folder}/"),
        "-print_final_stats=1".into(),
    ];
    arguments.extend(flags.iter().cloned());
    let start = Instant::now();
    let settings = [("VMADIFF_FAULT", OsStr::new(fault))];
    let output = targets::with_settings(cmd(binary, arguments), &settings)
        .stdout_null()
        .stderr_capture()
        .unchecked()
        .run()
        .with_context(|| binary.display().to_string())?;
    let seconds = start.elapsed().as_secs_f64();
    let log = String::from_utf8_lossy(&output.stderr);
    let executions = executions(&log).with_context(|| {
        format!("{} did not run:\n{}", binary.display(), project::tail(&log, 20))
    })?;
    Ok(Run { executions, seconds, found: !output.status.success() })
}

/// Reads the number of programs from the log of libFuzzer.
fn executions(log: &str) -> Option<u64> {
    let line = log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"))?;
    line.trim().parse().ok()
}

/// Reads the output line of the example `random`.
fn random(line: &str) -> Option<Run> {
    let mut words = line.split_whitespace();
    let executions = words.next()?.parse().ok()?;
    let seconds = words.next()?.parse().ok()?;
    let found = match words.next()? {
        "found" => true,
        "missed" => false,
        _ => return None,
    };
    Some(Run { executions, seconds, found })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_programs_that_ran_are_read_from_the_logs() {
        let log = "#2 INITED\nstat::number_of_executed_units: 1080\nstat::peak_rss_mb: 31\n";
        assert_eq!(executions(log), Some(1080));
        assert_eq!(executions("vmadiff: VMADIFF_FAULT: no fault"), None);
        let run = random("51 0.001500 found\n").expect("a run");
        assert_eq!((run.executions, run.seconds, run.found), (51, 0.0015, true));
        assert!(random("51 0.0 lost").is_none());
    }
}
