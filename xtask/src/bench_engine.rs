//! `ci/bench-engine`: how many programs a second the fuzz targets run.

mod afl;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use duct::cmd;

use crate::project::{self, CORPUS, GROWN};
use crate::scratch::Scratch;
use crate::targets::{Target, at_fixed};
use crate::{Status, fuzz};

/// Measure how many programs a second the fuzz targets run
///
/// Compares them with a target that does nothing, and with a target that makes programs but does
/// not run them. Shows the gain of a second core: two jobs on one corpus, and two jobs that share
/// nothing, which is the most that the computer allows. The kinds of runs alternate: compare the
/// ratios, not the figures.
///
/// A run starts from the committed corpus, as ci/fuzz does, and works in memory. A run from an
/// empty corpus would spend half of its time on files that the next minute deletes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The seconds of each run
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=9999))]
    seconds: u32,
    /// The number of runs of each kind; the median is shown
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u32).range(1..=9999))]
    rounds: u32,
    /// Compare libFuzzer with AFL++ instead, both from nothing: their speed, and how many signatures of v2 they find
    #[arg(long)]
    afl: bool,
}

/// The kinds of runs: the title, the target, jobs on one corpus, and processes that share nothing.
const KINDS: [(&str, Target, u32, u32); 6] = [
    ("empty", Target::Empty, 1, 1),
    ("mutator", Target::Mutator, 1, 1),
    ("cross_mm", Target::CrossMm, 1, 1),
    ("same_mm", Target::SameMm, 1, 1),
    ("cross_mm, two jobs", Target::CrossMm, 2, 1),
    ("cross_mm, two apart", Target::CrossMm, 1, 2),
];

/// Runs `ci/bench-engine`.
pub(crate) fn run(args: &Args) -> Result<Status> {
    let root = project::enter()?;
    if args.afl {
        print!("{}", afl::compare(&root, args.seconds, args.rounds)?);
        return Ok(Status::Clean);
    }
    let mut binaries = Vec::new();
    for (_, target, _, _) in KINDS {
        binaries.push(target.build(&root)?);
    }
    let scratch = Scratch::in_memory()?;
    let mut speeds = vec![Vec::new(); KINDS.len()];
    for _ in 0..args.rounds {
        for (((_, target, jobs, apart), binary), speeds) in
            KINDS.into_iter().zip(&binaries).zip(&mut speeds)
        {
            let run = Run { target, binary, jobs, apart, seconds: args.seconds };
            speeds.push(run.speed(&root, scratch.path())?);
        }
    }
    print!("{}", table(&speeds.into_iter().map(median).collect::<Vec<_>>()));
    Ok(Status::Clean)
}

struct Run<'a> {
    target: Target,
    binary: &'a PathBuf,
    jobs: u32,
    apart: u32,
    seconds: u32,
}

impl Run<'_> {
    /// Returns the programs per second of all jobs together.
    fn speed(&self, root: &Path, scratch: &Path) -> Result<f64> {
        let like = match self.target {
            Target::Empty | Target::Mutator => Target::CrossMm,
            target => target,
        };
        let folder = scratch.join("run");
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| folder.display().to_string())?;
        }
        let mut arguments = vec!["corpus".to_owned()];
        for corpus in [CORPUS, GROWN] {
            arguments.push(root.join(corpus).join(like.name()).display().to_string());
        }
        arguments.extend(like.flags(root)?);
        arguments.extend([format!("-jobs={}", self.jobs), format!("-workers={}", self.jobs)]);
        arguments.push(format!("-max_total_time={}", self.seconds));
        let mut processes = Vec::new();
        let mut folders = Vec::new();
        for n in 0..self.apart {
            let own = folder.join(n.to_string());
            let corpus = own.join("corpus");
            fs::create_dir_all(&corpus).with_context(|| corpus.display().to_string())?;
            let process = at_fixed(cmd(self.binary, &arguments))
                .dir(&own)
                .stderr_to_stdout()
                .stdout_path(own.join("log"))
                .unchecked()
                .start();
            processes.push(process.with_context(|| self.binary.display().to_string())?);
            folders.push(own);
        }
        for process in &processes {
            process.wait()?;
        }
        let mut speed = 0.0;
        for folder in &folders {
            for line in fuzz::done_lines(folder)? {
                if let Some((runs, seconds)) = fuzz::runs(&line) {
                    speed += runs as f64 / seconds.max(1) as f64;
                }
            }
        }
        ensure!(speed > 0.0, "{} ran no program", self.target.name());
        Ok(speed)
    }
}

fn median(mut speeds: Vec<f64>) -> f64 {
    speeds.sort_by(f64::total_cmp);
    speeds.get(speeds.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
}

/// Returns the table of the speeds of all kinds.
fn table(speeds: &[f64]) -> String {
    let speed = |title| {
        let kinds = KINDS.iter().zip(speeds);
        kinds.filter(|(kind, _)| kind.0 == title).map(|(_, speed)| *speed).sum::<f64>()
    };
    let mut text = format!(
        "{:<22} {:>12} {:>14} {:>16}\n",
        "target", "programs/s", "against empty", "against mutator"
    );
    for ((title, ..), n) in KINDS.iter().zip(speeds) {
        let against = |other| format!("1/{:.1}", speed(other) / n);
        // Writing to a string never fails.
        let _ = writeln!(
            text,
            "{title:<22} {n:>12.0} {:>14} {:>16}",
            against("empty"),
            against("mutator")
        );
    }
    let one = speed("cross_mm");
    let _ = writeln!(
        text,
        "two jobs run {:.2} times the programs of one, two that share nothing {:.2} times",
        speed("cross_mm, two jobs") / one,
        speed("cross_mm, two apart") / one
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_run() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), 2.0);
        assert_eq!(median(vec![5.0]), 5.0);
    }

    #[test]
    fn the_table_has_ratios() {
        assert_eq!(
            table(&[200_000.0, 100_000.0, 50_000.0, 40_000.0, 80_000.0, 95_000.0]),
            "\
target                   programs/s  against empty  against mutator
empty                        200000          1/1.0            1/0.5
mutator                      100000          1/2.0            1/1.0
cross_mm                      50000          1/4.0            1/2.0
same_mm                       40000          1/5.0            1/2.5
cross_mm, two jobs            80000          1/2.5            1/1.2
cross_mm, two apart           95000          1/2.1            1/1.1
two jobs run 1.60 times the programs of one, two that share nothing 1.90 times
"
        );
    }
}
