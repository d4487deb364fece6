//! How fast the seeded faults are found: executions and seconds to the first divergence, from an
//! empty corpus, by
//!
//! - `programs`: `cross_mm`, libFuzzer with the mutator that knows programs;
//! - `bytes`: the same target with libFuzzer's byte mutations only;
//! - `random`: programs of a random walk, without feedback.
//!
//! `ci/bench-faults` builds the targets and runs this.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use plotters::prelude::*;
use vmadiff::lockstep::Lockstep;
use vmadiff::random::Walk;
use vmadiff_candidate::{Candidate, Fault, Revision};
use vmadiff_reference::Reference;

const USAGE: &str =
    "usage: ci/bench-faults [--seeds N] [--seconds N] [--baseline N] [--jobs N] [--only LIST] [--half odd|even] [--ways LIST]
  --seeds N     runs of each fault and way, 3 by default
  --seconds N   the longest run of `programs`, 60 by default
  --baseline N  the longest run of `bytes` and `random`, in seconds, 5 by default
  --jobs N      runs side by side, 1 by default
  --only LIST   some faults, joined by commas
  --half HALF   every other fault: odd, to choose weights by, or even, to check them by
  --ways LIST   some of programs, bytes, random, joined by commas; by default all
  docs/faults.txt and docs/faults.svg are written where all faults are looked for in all ways";

/// The ways to look for a fault, in the order of the table.
const WAYS: [&str; 3] = ["programs", "bytes", "random"];

/// How one run ended.
#[derive(Clone, Copy, Debug)]
struct Run {
    /// Programs that were executed.
    executions: u64,
    seconds: f64,
    found: bool,
}

struct Options {
    seeds: u64,
    seconds: u64,
    baseline: u64,
    jobs: usize,
    only: Option<String>,
    /// The remainder by two of the faults' places in the list.
    half: Option<usize>,
    /// For each of [`WAYS`], whether it is run.
    ways: [bool; WAYS.len()],
    /// The targets of `programs` and of `bytes`.
    targets: [PathBuf; 2],
    out: PathBuf,
    /// libFuzzer's, as in `ci/fuzz`.
    flags: Vec<String>,
}

fn options() -> Result<Options, String> {
    let (mut seeds, mut seconds, mut baseline, mut jobs, mut only) = (3, 60, 5, 1, None);
    let mut half = None;
    let mut ways = [true; WAYS.len()];
    let folder =
        |name: &str| std::env::var_os(name).map(PathBuf::from).ok_or(format!("{name} is not set"));
    // `cargo bench` adds `--bench`.
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench");
    while let Some(arg) = args.next() {
        let value = args.next().ok_or_else(|| format!("{arg} needs a value\n{USAGE}"))?;
        let number = || {
            value
                .parse()
                .ok()
                .filter(|n| *n > 0)
                .ok_or(format!("{arg} {value}: expected a number\n{USAGE}"))
        };
        match arg.as_str() {
            "--seeds" => seeds = number()?,
            "--seconds" => seconds = number()?,
            "--baseline" => baseline = number()?,
            "--jobs" => jobs = number()? as usize,
            "--only" => only = Some(value),
            "--half" => match value.as_str() {
                "odd" => half = Some(1),
                "even" => half = Some(0),
                _ => return Err(format!("--half {value}: expected odd or even\n{USAGE}")),
            },
            "--ways" => {
                let named: Vec<&str> = value.split(',').collect();
                if let Some(strange) = named.iter().find(|way| !WAYS.contains(way)) {
                    return Err(format!("no way is called {strange}\n{USAGE}"));
                }
                ways = WAYS.map(|way| named.contains(&way));
            }
            _ => return Err(format!("no option is called {arg}\n{USAGE}")),
        }
    }
    let targets = [folder("VMADIFF_PROGRAMS")?, folder("VMADIFF_BYTES")?];
    let out = folder("VMADIFF_OUT")?;
    let flags = std::env::var("VMADIFF_FLAGS").map_err(|_| "VMADIFF_FLAGS is not set")?;
    let flags = flags.split_whitespace().map(String::from).collect();
    Ok(Options { seeds, seconds, baseline, jobs, only, half, ways, targets, out, flags })
}

fn main() {
    let options = options().unwrap_or_else(|error| {
        eprintln!("ci/bench-faults: {error}");
        std::process::exit(2);
    });
    let faults: Vec<Fault> = Fault::ALL
        .iter()
        .copied()
        .enumerate()
        .filter(|(n, _)| options.half.is_none_or(|half| n % 2 == half))
        .map(|(_, fault)| fault)
        .filter(|fault| {
            options
                .only
                .as_deref()
                .is_none_or(|only| only.split(',').any(|name| name == fault.name()))
        })
        .collect();
    let work: Vec<(usize, usize, u64)> = (0..options.seeds)
        .flat_map(|seed| {
            (0..faults.len()).flat_map(move |f| (0..WAYS.len()).map(move |w| (f, w, seed)))
        })
        .filter(|(_, w, _)| options.ways[*w])
        .collect();
    let runs: Mutex<Vec<Vec<Vec<Run>>>> =
        Mutex::new(vec![vec![Vec::new(); WAYS.len()]; faults.len()]);
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                while let Some(&(f, w, seed)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let run = run(&options, faults[f], WAYS[w], seed + 1);
                    if let Ok(mut runs) = runs.lock() {
                        runs[f][w].push(run);
                    }
                }
            });
        }
    });
    let runs = runs.into_inner().expect("no thread panicked");
    let text = table(&options, &faults, &runs);
    print!("{text}");
    if faults.len() == Fault::ALL.len() && options.ways.iter().all(|way| *way) {
        fs::write(options.out.join("faults.txt"), text).expect("the table can be written");
        plot(&options.out.join("faults.svg"), &runs).expect("the plot can be written");
    }
}

fn run(options: &Options, fault: Fault, way: &str, seed: u64) -> Run {
    match way {
        "programs" => engine(options, &options.targets[0], fault, seed, options.seconds),
        "bytes" => engine(options, &options.targets[1], fault, seed, options.baseline),
        _ => random(fault, seed, Duration::from_secs(options.baseline)),
    }
}

/// libFuzzer, from an empty corpus, up to the first divergence.
fn engine(options: &Options, target: &Path, fault: Fault, seed: u64, seconds: u64) -> Run {
    let folder = tempfile::tempdir().expect("a folder");
    let start = Instant::now();
    let output = Command::new(target)
        .arg(folder.path())
        .args([
            format!("-seed={seed}"),
            format!("-max_total_time={seconds}"),
            format!("-artifact_prefix={}/", folder.path().display()),
        ])
        .args(&options.flags)
        .arg("-print_final_stats=1")
        .env("VMADIFF_FAULT", fault.name())
        .env_remove("VMADIFF_REVISION")
        .env_remove("VMADIFF_FINDINGS")
        .env_remove("VMADIFF_KNOWN")
        .stdout(Stdio::null())
        .output()
        .expect("the target runs");
    let seconds = start.elapsed().as_secs_f64();
    let log = String::from_utf8_lossy(&output.stderr);
    let executions =
        log.lines().find_map(|line| line.strip_prefix("stat::number_of_executed_units:"));
    let executions = executions.and_then(|n| n.trim().parse().ok());
    let executions =
        executions.unwrap_or_else(|| panic!("{} did not run:\n{log}", target.display()));
    Run { executions, seconds, found: !output.status.success() }
}

fn random(fault: Fault, seed: u64, limit: Duration) -> Run {
    let candidate = Candidate::with_fault(Revision::Fixed, fault);
    let mut lockstep = Lockstep::new(Reference::new(), candidate);
    let mut walk = Walk::new(seed);
    let start = Instant::now();
    let mut executions = 0;
    loop {
        executions += 1;
        let found = lockstep.run(walk.step()).is_some();
        if found || (executions % 1024 == 0 && start.elapsed() > limit) {
            return Run { executions, seconds: start.elapsed().as_secs_f64(), found };
        }
    }
}

/// The middle one, and whether it found the fault. Not a number where that way was not run.
fn median(runs: &[Run], by: impl Fn(&Run) -> f64) -> (f64, bool) {
    if runs.is_empty() {
        return (f64::NAN, true);
    }
    let mut sorted: Vec<&Run> = runs.iter().collect();
    // A run that did not find the fault took longer than any that did.
    sorted.sort_by(|a, b| (!a.found, by(a)).partial_cmp(&(!b.found, by(b))).expect("numbers"));
    let middle = sorted[sorted.len() / 2];
    (by(middle), middle.found)
}

fn table(options: &Options, faults: &[Fault], runs: &[Vec<Vec<Run>>]) -> String {
    let mut out = String::new();
    let line = |out: &mut String, text: String| {
        let _ = writeln!(out, "{}", text.trim_end());
    };
    let place = std::env::var("VMADIFF_WHERE").unwrap_or_default();
    line(&mut out, format!("{place}; {} runs side by side", options.jobs));
    line(
        &mut out,
        format!(
            "Executions to the first divergence, from an empty corpus: median of {} seeds,",
            options.seeds
        ),
    );
    line(
        &mut out,
        "and for `programs` the worst, and seconds. `>` where the median run did not find it."
            .into(),
    );
    line(&mut out, String::new());
    line(
        &mut out,
        format!(
            "{:<34} {:<10} {:>9} {:>9} {:>7} {:>7} {:>10} {:>10}",
            "fault", "class", "programs", "worst", "s", "worst s", "bytes", "random"
        ),
    );
    let number =
        |(value, found): (f64, bool)| format!("{}{value:.0}", if found { "" } else { ">" });
    let mut medians = Vec::new();
    let (mut ratios, mut lost) = ([0.0; 2], Vec::new());
    for (fault, ways) in faults.iter().zip(runs) {
        let executions: Vec<_> = ways.iter().map(|w| median(w, |r| r.executions as f64)).collect();
        let seconds = median(&ways[0], |r| r.seconds);
        let worst = |by: fn(&Run) -> f64| ways[0].iter().map(by).fold(0.0, f64::max);
        // Of a way that was not run nothing is said.
        let said = |value: f64| if value.is_nan() { 0.0 } else { value };
        if ways[0].iter().any(|run| !run.found) {
            lost.push(fault.name());
        }
        medians.push(seconds.0);
        for (ratio, other) in ratios.iter_mut().zip(&executions[1..]) {
            *ratio += said((other.0 / executions[0].0).ln());
        }
        line(
            &mut out,
            format!(
                "{:<34} {:<10} {:>9} {:>9.0} {:>7.2} {:>7.2} {:>10} {:>10}",
                fault.name(),
                fault.class(),
                number(executions[0]),
                worst(|r| r.executions as f64),
                seconds.0,
                worst(|r| r.seconds),
                number(executions[1]),
                number(executions[2]),
            ),
        );
    }
    medians.sort_by(f64::total_cmp);
    let count = faults.len().max(1);
    let geometric = ratios.map(|sum| (sum / count as f64).exp());
    line(&mut out, String::new());
    line(
        &mut out,
        format!(
            "{} faults; `programs` missed in some run: {}; median {:.2} s",
            faults.len(),
            if lost.is_empty() { "none".into() } else { lost.join(", ") },
            medians.get(medians.len() / 2).copied().unwrap_or(0.0),
        ),
    );
    line(
        &mut out,
        format!(
            "geometric mean over faults, at least: bytes take {:.1} times the executions of programs, random {:.1} times",
            geometric[0], geometric[1]
        ),
    );
    out
}

/// The share of runs that have found their fault, over executions.
fn plot(path: &Path, runs: &[Vec<Vec<Run>>]) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(path, (900, 480)).into_drawing_area();
    root.fill(&WHITE)?;
    let most = runs.iter().flatten().flatten().map(|run| run.executions).max().unwrap_or(1).max(10);
    let mut chart = ChartBuilder::on(&root)
        .margin(16)
        .caption("Seeded faults found, from an empty corpus", ("sans-serif", 20))
        .x_label_area_size(40)
        .y_label_area_size(52)
        .build_cartesian_2d((1.0..most as f64).log_scale(), 0.0..100.0)?;
    chart
        .configure_mesh()
        .x_desc("executions")
        .y_desc("% of runs")
        .x_label_formatter(&|x| format!("{x:.0}"))
        .draw()?;
    // Colours that are told apart by the colour-blind.
    let colours = [RGBColor(0, 114, 178), RGBColor(213, 94, 0), RGBColor(100, 100, 100)];
    for (way, (name, colour)) in WAYS.iter().zip(colours).enumerate() {
        let all: Vec<&Run> = runs.iter().flat_map(|ways| &ways[way]).collect();
        let mut found: Vec<u64> =
            all.iter().filter(|run| run.found).map(|run| run.executions).collect();
        found.sort_unstable();
        let mut points = vec![(1.0, 0.0)];
        for (n, executions) in found.iter().enumerate() {
            let x = (*executions).max(1) as f64;
            points.push((x, 100.0 * n as f64 / all.len() as f64));
            points.push((x, 100.0 * (n + 1) as f64 / all.len() as f64));
        }
        let last = points.last().map_or(0.0, |point| point.1);
        points.push((most as f64, last));
        chart
            .draw_series(LineSeries::new(points, colour.stroke_width(2)))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .border_style(BLACK.mix(0.3))
        .background_style(WHITE)
        .draw()?;
    root.present()?;
    Ok(())
}
