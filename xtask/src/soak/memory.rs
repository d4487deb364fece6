//! The memory that fuzzing uses, and a test whether it grows.

use std::fmt;
use std::fs;
use std::path::Path;

use super::rounds::Shown;

/// The memory, in KiB, below which a job has only begun. Such jobs are left out.
const STARTED: u64 = 20_000;
/// The memory, in KiB, that a job may gain beside the known tables of the engine.
const SLACK: u64 = 4096;

/// Returns the average memory of a job in KiB; `None` if fewer than `jobs` processes run the program
/// on the corpus.
pub(crate) fn sample(program: &str, corpus: &Path, jobs: usize) -> Option<u64> {
    let mut sizes = sizes(program, corpus);
    sizes.retain(|size| *size > STARTED);
    average(&sizes, jobs)
}

/// Returns the memory, in KiB, of each process that runs a program with this argument.
fn sizes(program: &str, argument: &Path) -> Vec<u64> {
    let argument = argument.as_os_str().as_encoded_bytes();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .filter_map(|process| {
            // A process may end while its files are read.
            let name = fs::read_to_string(process.path().join("comm")).ok()?;
            let arguments = fs::read(process.path().join("cmdline")).ok()?;
            let ours = name.trim_end() == program
                && arguments.split(|byte| *byte == 0).any(|other| other == argument);
            ours.then(|| resident(&fs::read_to_string(process.path().join("status")).ok()?))?
        })
        .collect()
}

fn average(sizes: &[u64], jobs: usize) -> Option<u64> {
    let all = !sizes.is_empty() && sizes.len() >= jobs;
    all.then(|| sizes.iter().sum::<u64>() / sizes.len() as u64)
}

/// Returns the KiB in the line `VmRSS:` of /proc/PID/status.
fn resident(status: &str) -> Option<u64> {
    let size = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    size.trim().strip_suffix(" kB")?.parse().ok()
}

/// Returns the memory, in KiB, that the tables of the engine may use: for each input, the engine
/// keeps how often the input met each rare feature, in eight bytes.
pub(crate) fn tables(logs: &[String]) -> u64 {
    let shown = logs.iter().flat_map(|log| log.lines()).filter_map(Shown::parse);
    let most = shown.map(|shown| shown.features.saturating_mul(shown.inputs)).max();
    most.unwrap_or(0).saturating_mul(8) / 1024
}

/// The comparison of the second quarter of a run's samples with the last quarter.
#[derive(Debug)]
pub(crate) struct Verdict {
    /// The average memory of a job, in KiB.
    second: u64,
    last: u64,
    /// The memory, in KiB, that the engine's tables may add.
    tables: u64,
}

impl Verdict {
    /// Compares samples; `None` if there are too few.
    pub(crate) fn new(samples: &[u64], tables: u64) -> Option<Verdict> {
        let quarter = samples.len() / 4;
        let average = |from: usize| {
            samples[from..from + quarter].iter().sum::<u64>().checked_div(quarter as u64)
        };
        Some(Verdict { second: average(quarter)?, last: average(samples.len() - quarter)?, tables })
    }

    /// Returns whether memory grows by more than a tenth, the tables of the engine and a fixed
    /// slack. A leak of one byte per program would exceed that limit within an hour.
    pub(crate) fn grows(&self) -> bool {
        self.last > self.second + self.second / 10 + SLACK + self.tables
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = |kibibytes: u64| kibibytes as f64 / 1024.0;
        write!(
            f,
            "memory: {:.1} MiB a job in the second quarter, {:.1} in the last; the engine may take \
             {:.1} more",
            mebibytes(self.second),
            mebibytes(self.last),
            mebibytes(self.tables)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_memory_is_well_and_a_leak_is_not() {
        let verdict = |samples: &[u64], tables| Verdict::new(samples, tables).expect("a verdict");
        assert!(!verdict(&[50_000; 40], 0).grows());
        // The first quarter of the samples does not count.
        let start: Vec<u64> = [20_000; 10].into_iter().chain([50_000; 30]).collect();
        assert!(!verdict(&start, 0).grows());
        // The limit is a tenth and 4 MiB above the second quarter.
        let step = |last| [vec![50_000; 30], vec![last; 10]].concat();
        assert!(!verdict(&step(59_096), 0).grows());
        assert!(verdict(&step(59_097), 0).grows());
        assert!(!verdict(&step(59_097), 1).grows());
        // The memory grows by 10 MiB a minute.
        let leak: Vec<u64> = (0..3600).map(|second| 50_000 + second * 170).collect();
        assert!(verdict(&leak, 10_000).grows());
    }

    #[test]
    fn too_few_samples_are_no_verdict() {
        assert!(Verdict::new(&[], 0).is_none());
        assert!(Verdict::new(&[1; 3], 0).is_none());
        assert!(Verdict::new(&[1; 4], 0).is_some());
    }

    #[test]
    fn a_sample_needs_every_job() {
        assert_eq!(average(&[30_000, 50_000], 2), Some(40_000));
        assert_eq!(average(&[30_000], 2), None);
        assert_eq!(average(&[], 0), None);
        assert_eq!(resident("Name:\tx\nVmRSS:\t   12345 kB\nThreads:\t1\n"), Some(12_345));
    }

    #[test]
    fn a_process_is_known_by_its_program_and_argument() {
        let own = fs::read_to_string("/proc/self/comm").expect("Linux");
        let argument = std::env::args().next().expect("a name");
        let argument = Path::new(&argument);
        assert!(sizes(own.trim_end(), argument).iter().any(|size| *size > 0));
        assert!(sizes(own.trim_end(), Path::new("no such argument")).is_empty());
        assert!(sizes("no such program", argument).is_empty());
    }

    #[test]
    fn the_tables_of_the_engine_are_features_times_inputs() {
        let log = "#2 INITED cov: 90 ft: 2048 corp: 3/1Kb exec/s: 0\n\
                   #9 NEW cov: 91 ft: 2048 corp: 1024/2Mb lim: 600\nDone 9 runs in 1 second(s)\n";
        assert_eq!(tables(&[log.to_owned(), String::new()]), 2048 * 8);
        assert_eq!(tables(&[]), 0);
    }
}
