//! `vmadiff random`: runs random programs without feedback.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use vmadiff::divergence::Signature;
use vmadiff::invariants::EVERY;
use vmadiff::machines::Machines as Boxed;
use vmadiff::oracle;
use vmadiff::random::Walk;
use vmadiff::stats::Stats;
use vmadiff::text::Look;
use vmadiff::triage::Progress;
use vmadiff_machine::Program;

use super::findings;
use super::machines::Machines;
use super::progress::progress;
use super::threads::Threads;
use crate::interrupt::{interrupted, watch};
use crate::status::Status;

/// Run random programs, without feedback, and triage the divergences
#[derive(clap::Args)]
#[command(after_help = "Examples:
  vmadiff random --operations 100000000 --right candidate:fixed
  vmadiff random --right candidate:v2 --known corpus/known-v2.txt --out findings
  vmadiff random --alone candidate:original

To find bugs, use ci/fuzz: it is faster, because it has feedback. This command is a soak test, whose
programs and result are the same for the same seed on every machine. After Ctrl-C the
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
    threads: Threads,
    #[command(flatten)]
    findings: findings::Options,
    #[command(flatten)]
    machines: Machines,
}

/// The name that stands for the file of a random program.
const WALK: &str = "(random)";

/// The time for which the findings are minimized, from the end of the run, although Ctrl-C was typed.
const MINIMIZE_TIME: Duration = Duration::from_secs(5);

/// The operations of a part of the run. Threads take one part after the other.
const PART: u64 = 1 << 16;

/// What a part of a run has shown, or all parts together.
#[derive(Default)]
struct Shown {
    run: u64,
    programs: u64,
    diverged: u64,
    stats: Stats,
    /// A machine does not show its hidden state.
    hides: bool,
    /// The first program of each signature, with the number of its part.
    first: BTreeMap<Signature, (u32, Program)>,
}

impl Shown {
    /// Adds another part. The sum does not depend on the order in which the parts are added.
    fn add(&mut self, part: Shown) {
        self.run += part.run;
        self.programs += part.programs;
        self.diverged += part.diverged;
        self.stats.add(&part.stats);
        self.hides |= part.hides;
        for (signature, new) in part.first {
            match self.first.entry(signature) {
                Entry::Occupied(mut old) if new.0 < old.get().0 => drop(old.insert(new)),
                Entry::Occupied(_) => {}
                Entry::Vacant(place) => drop(place.insert(new)),
            }
        }
    }
}

impl Args {
    /// Runs the programs of a part.
    fn run_part(&self, part: u32, lockstep: &mut Boxed) -> Shown {
        let walk = Walk::part(self.seed, part);
        let mut walk = if self.fail { walk.failing() } else { walk };
        let operations = (self.operations - u64::from(part) * PART).min(PART);
        // The programs whose hidden state is recounted are the same, whichever thread runs the part.
        lockstep.recount_every(self.recount_every);
        let mut shown = Shown::default();
        while shown.run < operations && !interrupted() {
            let program = walk.step();
            let without;
            let program = if self.no_copies {
                without = oracle::without_copies(program.clone());
                &without
            } else {
                program
            };
            let found = match self.stats {
                false => lockstep.run(program),
                true => lockstep.run_with(program, |step, seen, _| {
                    shown.stats.see(program.ops[step].opcode(), seen);
                }),
            };
            let length = found.as_ref().map_or(program.ops.len(), |d| d.step + 1);
            // An empty program counts as one operation, so that the loop ends.
            shown.run += length.max(1) as u64;
            shown.programs += 1;
            if let Some(divergence) = found {
                shown.diverged += 1;
                shown.first.entry(divergence.signature).or_insert_with(|| (part, program.clone()));
            }
        }
        shown.hides = !lockstep.shows_hidden();
        shown
    }

    /// Runs all programs: this thread on `lockstep`, each further one on machines of its own. `done` is told how many
    /// operations are done.
    fn run_all(&self, lockstep: &mut Boxed, done: impl Fn(u64) + Sync) -> Shown {
        let parts = self.operations.div_ceil(PART).min(u32::MAX.into()) as u32;
        let (next, all) = (AtomicU32::new(0), Mutex::new(Shown::default()));
        let work = |lockstep: &mut Boxed| {
            loop {
                let part = next.fetch_add(1, Ordering::Relaxed);
                if part >= parts || interrupted() {
                    break;
                }
                let shown = self.run_part(part, lockstep);
                let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                all.add(shown);
                done(all.run);
            }
        };
        thread::scope(|scope| {
            for _ in 1..self.threads.number().get().min(parts as usize) {
                let helper = || work(&mut self.machines.lockstep());
                // The threads that there are do the work if the system gives no other.
                if thread::Builder::new().spawn_scoped(scope, helper).is_err() {
                    break;
                }
            }
            work(lockstep);
        });
        all.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args, look: Look) -> anyhow::Result<Status> {
    let mut lockstep = args.machines.lockstep();
    let findings = args.findings.prepare(|| args.machines.known())?;
    watch()?;
    let bar = progress(args.operations as usize, "random");
    let Shown { run, programs, diverged, stats, hides, first } =
        args.run_all(&mut lockstep, |run| bar.set_position(run.min(args.operations)));
    bar.finish_and_clear();
    let ended = Instant::now();
    lockstep.recount_every(NonZeroU32::MIN);
    let count = first.len();
    let found = first.into_values().map(|(_, program)| (PathBuf::from(WALK), program));
    let bar = progress(count, "minimize");
    let show = |Progress { done, all }| {
        bar.set_length(count.max(all) as u64);
        bar.set_position(done as u64);
        // Ctrl-C leaves some time to minimize what was found before it.
        ended.elapsed() < MINIMIZE_TIME || !interrupted()
    };
    let groups = vmadiff::triage::triage(&mut lockstep, found, show);
    bar.finish_and_clear();
    let hidden = match hides {
        false => "",
        true => "; invariants of hidden state are not checked: a machine does not show it",
    };
    let stats = if args.stats { format!("{stats}\n") } else { String::new() };
    let stopped = if interrupted() { "; interrupted" } else { "" };
    let status = findings.show(&groups, &mut lockstep, look, &[], |count, sides| {
        format!("{stats}{run} operations, {programs} programs: {diverged} diverge {sides}, {count}{hidden}{stopped}")
    })?;
    Ok(if interrupted() { Status::Interrupted } else { status })
}
