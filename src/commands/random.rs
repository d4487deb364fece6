//! `vmadiff random`: runs random programs without feedback.

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use vmadiff::divergence::Signature;
use vmadiff::invariants::EVERY;
use vmadiff::oracle;
use vmadiff::random::Walk;
use vmadiff::stats::Stats;
use vmadiff::text::Look;
use vmadiff::triage::Progress;
use vmadiff_machine::Program;

use super::findings;
use super::machines::Machines;
use super::progress::progress;
use crate::interrupt::{interrupted, watch};
use crate::status::Status;

/// Run random programs, without feedback, and triage the divergences
#[derive(clap::Args)]
#[command(after_help = "Examples:
  vmadiff random --operations 100000000 --right candidate:fixed
  vmadiff random --right candidate:v2 --known corpus/known-v2.txt --out findings
  vmadiff random --alone candidate:original

To find bugs, use ci/fuzz: it is faster, because it has feedback and uses all cores. This command is
a soak test, whose programs are the same for the same seed on every machine. After Ctrl-C the
findings so far are minimized, printed and written. For candidate:original beside another machine,
the list of known divergences is corpus/known-original.txt without --known.")]
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
    /// Let an allocation of every program fail (the limit `fail`)
    #[arg(long)]
    fail: bool,
    /// Recount hidden state and end every process after each so many programs
    #[arg(long, value_name = "PROGRAMS", default_value_t = EVERY)]
    recount_every: NonZeroU32,
    /// Print for each operation how often it succeeded and with which errors it ended
    #[arg(long, conflicts_with = "json")]
    stats: bool,
    #[command(flatten)]
    findings: findings::Options,
    #[command(flatten)]
    machines: Machines,
}

/// The name that stands for the file of a random program.
const WALK: &str = "(random)";

/// The time for which the findings are minimized after Ctrl-C.
const MINIMIZE_TIME: Duration = Duration::from_secs(5);

/// Runs the command.
pub(crate) fn run(args: &Args, look: Look) -> anyhow::Result<Status> {
    let operations = args.operations;
    let mut lockstep = args.machines.lockstep();
    let findings = args.findings.prepare(|| args.machines.known())?;
    watch()?;
    lockstep.recount_every(args.recount_every);
    let walk = Walk::new(args.seed);
    let mut walk = if args.fail { walk.failing() } else { walk };
    let (mut run, mut programs, mut diverged) = (0, 0u64, 0u64);
    let mut stats = Stats::default();
    let mut first: BTreeMap<Signature, Program> = BTreeMap::new();
    let bar = progress(operations as usize, "random");
    while run < operations && !interrupted() {
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
        bar.set_position(run.min(operations));
        programs += 1;
        if let Some(divergence) = found {
            diverged += 1;
            first.entry(divergence.signature).or_insert_with(|| program.clone());
        }
    }
    bar.finish_and_clear();
    let ended = Instant::now();
    lockstep.recount_every(NonZeroU32::MIN);
    let count = first.len();
    let found = first.into_values().map(|program| (PathBuf::from(WALK), program));
    let bar = progress(count, "minimize");
    let show = |Progress { done, all }| {
        bar.set_length(count.max(all) as u64);
        bar.set_position(done as u64);
        // Ctrl-C leaves some time to minimize what was found before it.
        ended.elapsed() < MINIMIZE_TIME || !interrupted()
    };
    let groups = vmadiff::triage::triage(&mut lockstep, found, show);
    bar.finish_and_clear();
    let hidden = match lockstep.shows_hidden() {
        true => "",
        false => "; invariants of hidden state are not checked: a machine does not show it",
    };
    let stats = if args.stats { format!("{stats}\n") } else { String::new() };
    let stopped = if interrupted() { "; interrupted" } else { "" };
    let status = findings.show(&groups, &mut lockstep, look, &[], |count, sides| {
        format!("{stats}{run} operations, {programs} programs: {diverged} diverge {sides}, {count}{hidden}{stopped}")
    })?;
    Ok(if interrupted() { Status::Interrupted } else { status })
}
