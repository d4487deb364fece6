//! `vmadiff faults`: lists the seeded faults.

use std::io::{Write as _, stdout};

use vmadiff_candidate::Fault;

/// List the faults that candidate:fixed can be given, to measure what finds them
#[derive(clap::Args)]
#[command(after_help = "Examples:
  vmadiff faults
  vmadiff replay corpus/faults/mask-no-locked.txt --fault mask-no-locked
  vmadiff random --right candidate:fixed+mask-no-locked

Each has a short program in corpus/faults that shows it.")]
pub(crate) struct Args {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// A row of `faults --json`.
#[derive(serde::Serialize)]
struct FaultRow {
    name: &'static str,
    class: &'static str,
    place: &'static str,
    what: &'static str,
}

/// Runs the command; returns whether it found something.
pub(crate) fn run(Args { json }: &Args) -> anyhow::Result<bool> {
    let rows: Vec<FaultRow> = Fault::ALL
        .iter()
        .map(|fault| FaultRow {
            name: fault.name(),
            class: fault.class(),
            place: fault.place(),
            what: fault.what(),
        })
        .collect();
    let mut out = stdout().lock();
    if *json {
        serde_json::to_writer_pretty(&mut out, &rows)?;
        writeln!(out)?;
        return Ok(false);
    }
    let width = |text: fn(&FaultRow) -> &str| rows.iter().map(|r| text(r).len()).max().unwrap_or(0);
    let (name, class, place) = (width(|r| r.name), width(|r| r.class), width(|r| r.place));
    writeln!(out, "{:<name$}  {:<class$}  {:<place$}  what", "name", "class", "place")?;
    for FaultRow { name: n, class: c, place: p, what } in &rows {
        writeln!(out, "{n:<name$}  {c:<class$}  {p:<place$}  {what}")?;
    }
    Ok(false)
}
