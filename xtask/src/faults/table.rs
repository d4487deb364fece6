//! `docs/faults.txt`: the time that fuzzing takes to find each fault, and the sums of each tier.

use std::fmt::Write as _;

use vmadiff_faults::{Fault, Tier};

use super::bench::{Run, Runs, Way};

const PROGRAMS: usize = Way::Programs as usize;
const RANDOM: usize = Way::Random as usize;

/// Returns the table of all runs.
pub(crate) fn table(place: &str, seeds: u64, faults: &[Fault], runs: &[Runs]) -> String {
    let mut out = format!(
        "{place}\n\
         Executions to the first divergence, from an empty corpus: the median of {seeds} seeds, for\n\
         `programs` (guided fuzzing) also the worst, and seconds. `>`: the median run found nothing.\n\n"
    );
    for tier in Tier::ALL {
        let of_tier: Vec<(&Fault, &Runs)> =
            faults.iter().zip(runs).filter(|(fault, _)| fault.tier == tier).collect();
        if !of_tier.is_empty() {
            tier_table(&mut out, tier, &of_tier);
        }
    }
    summary(&mut out, faults, runs);
    out
}

fn tier_table(out: &mut String, tier: Tier, rows: &[(&Fault, &Runs)]) {
    let name = rows.iter().map(|(fault, _)| fault.name.len()).max().unwrap_or(0);
    let mut line = |cells: [String; 8]| {
        let [fault, class, cells @ ..] = cells;
        let mut text = format!("{fault:<name$} {class:<10}");
        for cell in cells {
            let _ = write!(text, " {cell:>9}");
        }
        let _ = writeln!(out, "{}", text.trim_end());
    };
    let head = ["", "class", "programs", "worst", "s", "worst s", "bytes", "random"];
    let mut head = head.map(str::to_owned);
    head[0] = tier.name().into();
    line(head);
    for (fault, runs) in rows {
        let executions =
            runs.each_ref().map(|runs| said(median(runs, |run| run.executions as f64)));
        let [programs, bytes, random] = executions;
        let guided = &runs[PROGRAMS];
        line([
            fault.name.clone(),
            fault.class.clone(),
            programs,
            whole(worst(guided, |run| run.executions as f64)),
            decimals(median(guided, |run| run.seconds).map(|(seconds, _)| seconds)),
            decimals(worst(guided, |run| run.seconds)),
            bytes,
            random,
        ]);
    }
    out.push('\n');
}

/// Writes a row for each tier: the number of faults that guided fuzzing finds, and that random
/// programs find.
fn summary(out: &mut String, faults: &[Fault], runs: &[Runs]) {
    let _ = writeln!(
        out,
        "Found: by the median run. Executions and seconds: the median and the worst fault, each by its\n\
         median run of that way.\n\n\
         {:<16} {:>6} {:>9} {:>7} {:>10} {:>10} {:>8} {:>8} {:>10} {:>10}",
        "tier",
        "faults",
        "guided",
        "random",
        "executions",
        "worst",
        "s",
        "worst s",
        "random",
        "worst"
    );
    for tier in Tier::ALL {
        let of_tier = || faults.iter().zip(runs).filter(move |(fault, _)| fault.tier == tier);
        let count = of_tier().count();
        if count == 0 {
            continue;
        }
        let medians = |way: usize, by: fn(&Run) -> f64| -> Vec<(f64, bool)> {
            let mut all: Vec<_> =
                of_tier().filter_map(|(_, runs)| median(&runs[way], by)).collect();
            all.sort_by(|a, b| {
                (!a.1, a.0).partial_cmp(&(!b.1, b.0)).unwrap_or(std::cmp::Ordering::Equal)
            });
            all
        };
        let middle = |all: &[(f64, bool)]| all.get(all.len() / 2).copied();
        let guided = medians(PROGRAMS, |run| run.executions as f64);
        let seconds = medians(PROGRAMS, |run| run.seconds);
        let random = medians(RANDOM, |run| run.executions as f64);
        let found = |all: &[(f64, bool)]| match all.len() {
            0 => "-".to_owned(),
            _ => all.iter().filter(|(_, found)| *found).count().to_string(),
        };
        let _ = writeln!(
            out,
            "{:<16} {count:>6} {:>9} {:>7} {:>10} {:>10} {:>8} {:>8} {:>10} {:>10}",
            tier.name(),
            found(&guided),
            found(&random),
            said(middle(&guided)),
            said(guided.last().copied()),
            decimals(middle(&seconds).map(|(s, _)| s)),
            decimals(seconds.last().map(|(s, _)| *s)),
            said(middle(&random)),
            said(random.last().copied()),
        );
    }
    ratios(out, faults, runs);
    let missed =
        faults.iter().zip(runs).filter(|(_, runs)| runs[PROGRAMS].iter().any(|r| !r.found));
    let missed: Vec<&str> = missed.map(|(fault, _)| fault.name.as_str()).collect();
    let missed = if missed.is_empty() { "none".to_owned() } else { missed.join(", ") };
    let _ = writeln!(out, "\nMissed by guided fuzzing in some run: {missed}");
}

/// Writes for each tier how many executions guided fuzzing needs for one of random programs. Only
/// faults that the median run of both ways finds have a ratio.
fn ratios(out: &mut String, faults: &[Fault], runs: &[Runs]) {
    let executions = |runs: &[Run]| match median(runs, |run| run.executions as f64) {
        Some((executions, true)) => Some(executions),
        _ => None,
    };
    let ratio = |runs: &Runs| Some(executions(&runs[PROGRAMS])? / executions(&runs[RANDOM])?);
    for tier in Tier::ALL {
        let of_tier = faults.iter().zip(runs).filter(|(fault, _)| fault.tier == tier);
        let mut all: Vec<f64> = of_tier.filter_map(|(_, runs)| ratio(runs)).collect();
        all.sort_by(f64::total_cmp);
        let (Some(middle), Some(worst)) = (all.get(all.len() / 2), all.last()) else { continue };
        let _ = writeln!(
            out,
            "\nGuided executions for one of random programs, {}, {} faults: \
             {middle:.2} in the\nmedian, below 1 for {}, above 2 for {}, {worst:.1} at most",
            tier.name(),
            all.len(),
            all.iter().filter(|ratio| **ratio < 1.0).count(),
            all.iter().filter(|ratio| **ratio > 2.0).count(),
        );
    }
}

/// Returns the value of the median run, and whether it found the fault; `None` without runs.
fn median(runs: &[Run], by: impl Fn(&Run) -> f64) -> Option<(f64, bool)> {
    let mut sorted: Vec<&Run> = runs.iter().collect();
    // A run that did not find the fault counts as longer than any run that did.
    sorted.sort_by(|a, b| a.found.cmp(&b.found).reverse().then(by(a).total_cmp(&by(b))));
    sorted.get(sorted.len() / 2).map(|middle| (by(middle), middle.found))
}

fn worst(runs: &[Run], by: impl Fn(&Run) -> f64) -> Option<f64> {
    runs.iter().map(by).max_by(f64::total_cmp)
}

fn said(median: Option<(f64, bool)>) -> String {
    let cell = |(value, found)| format!("{}{value:.0}", if found { "" } else { ">" });
    median.map_or_else(|| "-".into(), cell)
}

fn whole(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.0}"))
}

fn decimals(value: Option<f64>) -> String {
    value.map_or_else(|| "-".into(), |value| format!("{value:.2}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(executions: u64, found: bool) -> Run {
        Run { executions, seconds: executions as f64 / 100.0, found }
    }

    #[test]
    fn a_run_that_found_nothing_counts_as_later_than_any_that_did() {
        let executions = |runs: &[Run]| median(runs, |run| run.executions as f64);
        assert_eq!(executions(&[run(9, true), run(5, false), run(7, true)]), Some((9.0, true)));
        assert_eq!(executions(&[run(9, false), run(5, false), run(7, true)]), Some((5.0, false)));
        assert_eq!(executions(&[]), None);
    }

    #[test]
    fn each_tier_has_rows_and_a_summary() {
        let fault = |name: &str, tier: &str| {
            let patch =
                format!("class: flags\nfunction: f\ntier: {tier}\nwrong: w\n\ndiff --git a b\n");
            Fault::parse(name, &patch).expect("a head")
        };
        let faults = [fault("easy", "plain"), fault("hard", "two situations")];
        let runs = [
            [vec![run(10, true); 3], vec![], vec![run(20, true); 3]],
            [vec![run(300, true), run(400, true), run(9, false)], vec![], vec![run(50, false); 3]],
        ];
        let text = table("here", 3, &faults, &runs);
        let row = |name: &str| -> Vec<&str> {
            let line = text.lines().rfind(|line| line.starts_with(name)).expect(name);
            line.split_whitespace().collect()
        };
        assert_eq!(row("easy"), ["easy", "flags", "10", "10", "0.10", "0.10", "-", "20"]);
        assert_eq!(row("hard"), ["hard", "flags", "400", "400", "4.00", "4.00", "-", ">50"]);
        assert_eq!(row("plain"), ["plain", "1", "1", "1", "10", "10", "0.10", "0.10", "20", "20"]);
        let two = ["two", "situations", "1", "1", "0", "400", "400", "4.00", "4.00", ">50", ">50"];
        assert_eq!(row("two situations"), two);
        let ratio = "Guided executions for one of random programs, plain, 1 faults: \
                     0.50 in the\nmedian, below 1 for 1, above 2 for 0, 0.5 at most\n";
        assert!(text.contains(ratio), "{text}");
        assert!(!text.contains("programs, two situations"), "{text}");
        assert!(text.ends_with("Missed by guided fuzzing in some run: hard\n"), "{text}");
    }
}
