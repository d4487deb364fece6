//! `vmadiff random`: runs random programs without feedback.

use std::collections::BTreeMap;
use std::io::{Write as _, stdout};
use std::num::NonZeroU32;
use std::path::PathBuf;

use vmadiff::divergence::Signature;
use vmadiff::invariants::EVERY;
use vmadiff::known::Known;
use vmadiff::oracle;
use vmadiff::random::Walk;
use vmadiff::row::Row;
use vmadiff::stats::Stats;
use vmadiff::text::Look;
use vmadiff_machine::Program;

use super::files::known;
use super::machines::{Machines, sides};
use super::progress::progress;
use super::rows::{row, table};

/// Run random programs, without feedback, and triage the divergences
#[derive(clap::Args)]
#[command(after_help = "Example:
  vmadiff random --operations 100000000 --right candidate:fixed

  vmadiff random --alone candidate:original

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
    /// Recount hidden state and end every process after each so many programs
    #[arg(long, value_name = "PROGRAMS", default_value_t = EVERY)]
    recount_every: NonZeroU32,
    /// A list of known divergences: they are shown, but do not count as found. Without it, for
    /// candidate:original beside another machine: corpus/known-original.txt
    #[arg(long, value_name = "FILE")]
    known: Option<PathBuf>,
    /// Print for each operation how often it succeeded and with which errors it ended
    #[arg(long)]
    stats: bool,
    #[command(flatten)]
    machines: Machines,
}

/// The name that stands for the file of a random program.
const WALK: &str = "(random)";

/// Runs the command; returns whether it found something.
pub(crate) fn run(args: &Args, look: Look) -> anyhow::Result<bool> {
    let operations = args.operations;
    let mut lockstep = args.machines.lockstep();
    let known = match &args.known {
        Some(file) => known(Some(file))?,
        None if lockstep.is_alone() => Known::default(),
        None => args.machines.judged().known(),
    };
    lockstep.recount_every(args.recount_every);
    let mut walk = Walk::new(args.seed);
    let (mut run, mut programs, mut diverged) = (0, 0u64, 0u64);
    let mut stats = Stats::default();
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
        let found = match args.stats {
            false => lockstep.run(program),
            true => lockstep.run_with(program, |step, seen, _| {
                stats.see(program.ops[step].opcode(), seen);
            }),
        };
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
    lockstep.recount_every(NonZeroU32::MIN);
    let count = first.len();
    let programs_found = first.into_values().map(|program| (PathBuf::from(WALK), program));
    let groups = vmadiff::triage::triage(&mut lockstep, programs_found, || ());
    let rows: Vec<Row> = groups.iter().map(|group| row(group, &known, None)).collect();
    let mut out = stdout().lock();
    table(&mut out, &rows, &groups, &mut lockstep, look)?;
    let listed = rows.iter().filter(|row| row.known.is_some()).count();
    if args.stats {
        writeln!(out, "{stats}")?;
    }
    writeln!(
        out,
        "{run} operations, {programs} programs: {diverged} diverge {}, {count} distinct \
         divergences{}{}",
        sides(&lockstep),
        match (listed, &args.known) {
            (0, _) => String::new(),
            (listed, Some(file)) => format!(", {listed} listed in {}", file.display()),
            (listed, None) => format!(", {listed} listed in corpus/known-original.txt"),
        },
        match lockstep.shows_hidden() {
            true => "",
            false => "; invariants of hidden state are not checked: a machine does not show it",
        },
    )?;
    Ok(count > listed)
}
