//! `vmadiff faults`: lists the seeded faults.

use std::io::Write as _;

use vmadiff_faults::Faults;

use crate::out::stdout;
use crate::status::Status;

/// List the seeded faults, which are patches of candidate:fixed that measure the harness
#[derive(clap::Args)]
#[command(after_help = "Examples:
  vmadiff faults
  ci/faults build mask-no-locked
  vmadiff replay corpus/faults/mask-no-locked.txt --fault mask-no-locked
  vmadiff random --right candidate:fixed+mask-no-locked

Each fault is a patch in candidate/faults and has a short program in corpus/faults that shows it.")]
pub(crate) struct Args {
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
}

/// A row of `faults --json`.
#[derive(serde::Serialize)]
struct FaultRow {
    name: String,
    tier: &'static str,
    class: String,
    function: String,
    wrong: String,
}

/// Runs the command.
pub(crate) fn run(Args { json }: &Args) -> anyhow::Result<Status> {
    let faults = Faults::find()?.all()?;
    let rows: Vec<FaultRow> = faults
        .into_iter()
        .map(|fault| FaultRow {
            name: fault.name,
            tier: fault.tier.name(),
            class: fault.class,
            function: fault.function,
            wrong: fault.wrong,
        })
        .collect();
    let mut out = stdout();
    if *json {
        serde_json::to_writer_pretty(&mut out, &rows)?;
        writeln!(out)?;
        return Ok(Status::Clean);
    }
    let width = |text: fn(&FaultRow) -> &str| rows.iter().map(|r| text(r).len()).max().unwrap_or(0);
    let (name, tier) = (width(|r| &r.name), width(|r| r.tier));
    let (class, function) = (width(|r| &r.class), width(|r| &r.function));
    let mut line = |n: &str, t: &str, c: &str, f: &str, wrong: &str| {
        writeln!(out, "{n:<name$}  {t:<tier$}  {c:<class$}  {f:<function$}  {wrong}")
    };
    line("name", "tier", "class", "function", "wrong")?;
    for row in &rows {
        line(&row.name, row.tier, &row.class, &row.function, &row.wrong)?;
    }
    Ok(Status::Clean)
}
