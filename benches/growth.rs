//! The time of one operation, and of the comparison after it, as VMAs and processes grow in number.
//!
//! `cargo bench --bench growth` prints a table and writes docs/growth.svg.

use std::time::Instant;

use plotters::prelude::*;
use vmadiff::compare::{Comparer, Scope};
use vmadiff_candidate::{Candidate, Revision};
use vmadiff_machine::{Machine, Observation, Op, Program};
use vmadiff_reference::Reference;

/// The number of operations in one timing, and the number of timings: the shortest time counts.
const OPERATIONS: u32 = 4_000;
const ROUNDS: u32 = 25;

/// A curve: its name, and for each number of VMAs or processes the nanoseconds of an operation.
type Curve = (&'static str, Vec<(u32, f64)>);

fn main() {
    let curves: [Curve; 2] = [
        ("VMAs, in one process", [1, 2, 4, 8, 16, 32, 64].map(|n| (n, time(vmas(n)))).to_vec()),
        ("processes, of eight VMAs each", [1, 2, 4, 8].map(|n| (n, time(processes(n)))).to_vec()),
    ];
    for (name, points) in &curves {
        println!("{name}");
        for (n, nanoseconds) in points {
            println!("  {n:>3} {nanoseconds:>8.0} ns an operation");
        }
    }
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/growth.svg");
    plot(file, &curves).expect("the plot can be written");
}

/// Returns a program that maps VMAs of one page each, which do not merge.
fn vmas(count: u32) -> String {
    let one =
        |page| format!("mmap 0 {page} 1 {} anon_private\n", if page % 2 == 0 { "rw" } else { "r" });
    (0..count).map(one).collect()
}

/// Returns a program that forks a family of processes, which share eight such VMAs.
fn processes(count: u32) -> String {
    vmas(8) + &"fork 0\n".repeat(count as usize - 1)
}

/// Returns the nanoseconds of one operation of process 0 in both models, after the program `grown`.
fn time(grown: String) -> f64 {
    let read = |text: &str| text.parse::<Program>().expect("a program").ops[0];
    let mut machines: [Box<dyn Machine>; 2] =
        [Box::new(Reference::new()), Box::new(Candidate::new(Revision::Fixed))];
    let mut seen = [Observation::default(), Observation::default()];
    let mut comparer = Comparer::new(Scope::Models);
    let mut step = |op: &Op| {
        for (machine, seen) in machines.iter_mut().zip(&mut seen) {
            machine.step(op, seen);
        }
        assert!(comparer.same(&seen[0], &seen[1]));
    };
    // The operations are performed one at a time, because a program may not have so many.
    grown.lines().for_each(|line| step(&read(line)));
    let ops = [read("madvise 0 0 1 RANDOM"), read("madvise 0 0 1 NORMAL")];
    let mut round = || {
        let start = Instant::now();
        ops.iter().cycle().take(OPERATIONS as usize).for_each(&mut step);
        start.elapsed().as_secs_f64() * 1e9 / f64::from(OPERATIONS)
    };
    (0..ROUNDS).map(|_| round()).fold(f64::INFINITY, f64::min)
}

fn plot(file: &str, curves: &[Curve]) -> Result<(), Box<dyn std::error::Error>> {
    let root = SVGBackend::new(file, (720, 400)).into_drawing_area();
    root.fill(&WHITE)?;
    let most = curves.iter().flat_map(|(_, points)| points).map(|p| p.1).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(&root)
        .margin(16)
        .caption("One operation in lockstep, as the state grows", ("sans-serif", 20))
        .x_label_area_size(40)
        .y_label_area_size(60)
        .build_cartesian_2d(0.0..66.0, 0.0..most * 1.1)?;
    chart.configure_mesh().x_desc("how many").y_desc("ns").draw()?;
    // These colours can be told apart by colour-blind readers.
    for ((name, points), colour) in curves.iter().zip([RGBColor(0, 114, 178), RGBColor(213, 94, 0)])
    {
        let at = || points.iter().map(|(n, nanoseconds)| (f64::from(*n), *nanoseconds));
        chart
            .draw_series(LineSeries::new(at(), colour.stroke_width(2)))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
        chart.draw_series(at().map(|point| Circle::new(point, 3, colour.filled())))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .border_style(BLACK.mix(0.3))
        .background_style(WHITE)
        .draw()?;
    root.present()?;
    Ok(())
}
