//! `docs/faults.svg`: the share of runs that found their fault, by number of executions.

use std::fmt::Write as _;

use vmadiff_faults::{Fault, Tier};

use super::bench::{Run, Runs, Way};

const LEFT: f64 = 56.0;
const TOP: f64 = 48.0;
const WIDTH: f64 = 820.0;
const HEIGHT: f64 = 380.0;
/// Colours that colour-blind readers can tell apart, by [`Way::ALL`].
const COLOURS: [&str; 3] = ["#0072b2", "#d55e00", "#646464"];

/// Draws a line for each way and tier.
pub(crate) fn plot(faults: &[Fault], runs: &[Runs]) -> String {
    let all = runs.iter().flatten().flatten().map(|run| run.executions);
    let decades = all.max().unwrap_or(1).max(10).ilog10() + 1;
    let x =
        |executions: u64| LEFT + WIDTH * (executions.max(1) as f64).log10() / f64::from(decades);
    let y = |share: f64| TOP + HEIGHT * (1.0 - share);
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 900 480\" font-family=\"sans-serif\" \
         font-size=\"12\">\n<rect width=\"900\" height=\"480\" fill=\"white\"/>\n\
         <text x=\"450\" y=\"26\" text-anchor=\"middle\" font-size=\"18\">Seeded faults found, from an \
         empty corpus: % of runs over executions</text>\n",
    );
    for decade in 0..=decades {
        let (at, bottom) = (x(10_u64.pow(decade)), TOP + HEIGHT);
        let _ = writeln!(
            svg,
            "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"#ddd\"/>\
             <text x=\"{at:.1}\" y=\"{:.0}\" text-anchor=\"middle\">{}</text>",
            bottom + 18.0,
            10_u64.pow(decade)
        );
    }
    for percent in [0, 20, 40, 60, 80, 100] {
        let at = y(f64::from(percent) / 100.0);
        let _ = writeln!(
            svg,
            "<path d=\"M{LEFT} {at:.1}H{}\" stroke=\"#ddd\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{percent}</text>",
            LEFT + WIDTH,
            LEFT - 6.0,
            at + 4.0
        );
    }
    let mut key = TOP + HEIGHT - 16.0;
    for (tier, dashes) in Tier::ALL.into_iter().zip(["", " stroke-dasharray=\"6 4\""]) {
        for (way, colour) in Way::ALL.into_iter().zip(COLOURS) {
            let of_tier = faults.iter().zip(runs).filter(|(fault, _)| fault.tier == tier);
            let runs: Vec<&Run> = of_tier.flat_map(|(_, runs)| &runs[way as usize]).collect();
            if runs.is_empty() {
                continue;
            }
            let mut path = format!("M{LEFT} {:.1}", y(0.0));
            for (executions, share) in steps(&runs) {
                let _ = write!(path, "H{:.1}V{:.1}", x(executions), y(share));
            }
            let style = format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}");
            let _ = writeln!(
                svg,
                "<path d=\"{path}H{}\" {style}/>\n<path d=\"M640 {key}h28\" {style}/>\
                 <text x=\"676\" y=\"{}\">{}, {}</text>",
                LEFT + WIDTH,
                key + 4.0,
                tier.name(),
                way.name()
            );
            key -= 18.0;
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// Returns the steps of a curve: the number of executions, and the share of runs that have found
/// their fault by then.
fn steps(runs: &[&Run]) -> Vec<(u64, f64)> {
    let mut found: Vec<u64> = runs.iter().filter(|r| r.found).map(|r| r.executions).collect();
    found.sort_unstable();
    let share = |n: usize| (n + 1) as f64 / runs.len() as f64;
    found.into_iter().enumerate().map(|(n, executions)| (executions, share(n))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_grows_with_each_run_that_found_its_fault() {
        let run = |executions, found| Run { executions, seconds: 0.0, found };
        let runs = [run(30, true), run(99, false), run(10, true), run(20, true)];
        let runs: Vec<&Run> = runs.iter().collect();
        assert_eq!(steps(&runs), [(10, 0.25), (20, 0.5), (30, 0.75)]);
    }
}
