//! `vmadiff random`: runs random programs without feedback.

use std::collections::BTreeMap;
use std::io::{Write as _, stdout};
use std::path::PathBuf;

use vmadiff::divergence::Signature;
use vmadiff::known::Known;
use vmadiff::oracle;
use vmadiff::random::Walk;
use vmadiff::row::Row;
use vmadiff::text::Look;
use vmadiff_machine::Program;

use super::machines::Machines;
use super::progress::progress;
use super::rows::{row, table};

/// Run random programs, without feedback, and triage the divergences
#[derive(clap::Args)]
#[command(after_help = "Example:
  vmadiff random --operations 100000000 --right candidate:fixed

To find bugs, use ci/fuzz: it is faster, because it has feedback and uses all cores. This command is
a soak test, whose programs are the same for the same seed on every machine.")]
pub(crate) struct Args {
    /// Stop after this number of operations
    #[arg(long, default_value_t = 10_000_000)]
    operations: u64,
    /// The seed of the programs: the same seed makes the same programs
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Make no copies between address spaces
    #[arg(long)]
    no_copies: bool,
    #[command(flatten)]
    machines: Machines,
}

/// The name that stands for the file of a random program.
const WALK: &str = "(random)";

/// Runs the command; returns whether it found something.
pub(crate) fn run(args: &Args, look: Look) -> anyhow::Result<bool> {
    let operations = args.operations;
    let mut lockstep = args.machines.lockstep();
    let mut walk = Walk::new(args.seed);
    let (mut run, mut programs, mut diverged) = (0, 0u64, 0u64);
    let mut first: BTreeMap<Signature, Program> = BTreeMap::new();
    let bar = progress(operations as usize, "random");
    while run < operations {
        let program = walk.step();
        let without;
        let program = if args.no_copies {
            without = oracle::without_copies(program.clone());
            &without
        } else {
            program
        };
        let found = lockstep.run(program);
        let length = found.as_ref().map_or(program.ops.len(), |d| d.step + 1);
        // An empty program counts as one operation, so that the loop ends.
        run += length.max(1) as u64;
        bar.set_position(run);
        programs += 1;
        if let Some(divergence) = found {
            diverged += 1;
            first.entry(divergence.signature).or_insert_with(|| program.clone());
        }
    }
    bar.finish_and_clear();
    let count = first.len();
    let programs_found = first.into_values().map(|program| (PathBuf::from(WALK), program));
    let groups = vmadiff::triage::triage(&mut lockstep, programs_found, || ());
    let rows: Vec<Row> = groups.iter().map(|group| row(group, &Known::default(), None)).collect();
    let mut out = stdout().lock();
    table(&mut out, &rows, &groups, &mut lockstep, look)?;
    let (left, right) = lockstep.names();
    writeln!(
        out,
        "{run} operations, {programs} programs: {diverged} diverge between {left} and {right}, \
         {count} distinct divergences"
    )?;
    Ok(count > 0)
}
