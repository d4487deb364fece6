//! `vmadiff kernel`: runs programs by real system calls on the running kernel.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use vmadiff::divergence::{Divergence, Signature};
use vmadiff::fresh;
use vmadiff::input::Loaded;
use vmadiff::kernel::{Beside, End, Holds, Profile, Release, Run, Unrepeated};
use vmadiff::known::Known;
use vmadiff::text::Look;
use vmadiff_kernel::{Kernel, Missing, Options};
use vmadiff_machine::program::MAX_OPS;
use vmadiff_machine::{Machine as _, Program};
use vmadiff_reference::later::{About, Version};

use super::files::{known, load, name};
use super::progress::progress;
use crate::interrupt::{interrupted, watch};
use crate::out::{record, stdout};
use crate::status::Status;

/// Run programs by real system calls on the running kernel, beside the reference
#[derive(clap::Args)]
#[command(after_help = "Examples:
  vmadiff kernel corpus/seeds/merge-1-mmap.txt
  vmadiff kernel --random 1000 --seed 1
  vmadiff kernel --probe
  vmadiff kernel --random 1000 --process-vm-mmap 470

After Ctrl-C, --random prints what it has so far. No released kernel has copies between address
spaces: a program is run up to its first copy, unless --process-vm-mmap gives the number of the
call.")]
pub(crate) struct Args {
    /// Corpus files, crash artifacts or text programs; - is standard input
    #[arg(required_unless_present_any = ["random", "probe"])]
    files: Vec<PathBuf>,
    /// Run N random programs
    #[arg(long, value_name = "N", conflicts_with = "files")]
    random: Option<u64>,
    /// The number of the first random program
    #[arg(long, value_name = "N", default_value_t = 0, requires = "random")]
    first: u64,
    /// The number of operations of each random program
    #[arg(long, value_name = "N", default_value_t = 24, requires = "random",
        value_parser = clap::value_parser!(u8).range(1..=MAX_OPS as i64))]
    operations: u8,
    /// The seed of the random programs: the same seed makes the same programs
    #[arg(long, default_value_t = 0, requires = "random")]
    seed: u64,
    /// Print each program to standard error before it is run, after a line `@run`: the last one is that in which
    /// a system died
    #[arg(long, requires = "random")]
    announce: bool,
    /// Show the random programs with a difference as they are, and do not minimize them
    #[arg(long, requires = "random")]
    no_minimize: bool,
    /// A list of known differences (SIGNATURE WHY, one a line), which are shown and marked but do not
    /// count as found
    #[arg(long, value_name = "FILE", conflicts_with_all = ["files", "probe"])]
    known: Option<PathBuf>,
    /// Expect the rules of this release of Linux, instead of those that the kernel shows
    #[arg(long, value_name = "RELEASE", conflicts_with_all = ["probe", "no_rules"])]
    expect: Option<Release>,
    /// Show which rules of later kernels hold on this kernel
    #[arg(long, conflicts_with_all = ["files", "random"])]
    probe: bool,
    /// Assume that no rules hold: report every difference from 5.2.1
    #[arg(long, conflicts_with = "probe")]
    no_rules: bool,
    /// The machine runs nothing else: set vm.max_map_count for programs that limit map_count
    #[arg(long)]
    whole_machine: bool,
    /// Run copies by this number of the system call process_vm_mmap, which the kernel has
    #[arg(long, value_name = "NR")]
    process_vm_mmap: Option<u32>,
    /// The time limit of an operation, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 10_000)]
    timeout: u64,
}

/// The most runs of a program while it is minimized.
const MINIMIZE_RUNS: usize = 1000;

/// The counts of many programs.
#[derive(Default)]
struct Tally {
    programs: u64,
    operations: usize,
    agree: usize,
    whole: u64,
    blocked: u64,
    timed_out: u64,
    lacks: BTreeMap<Missing, u64>,
    undecided: BTreeMap<String, u64>,
    differs: BTreeMap<Signature, (u64, Program)>,
}

impl Tally {
    fn add(&mut self, program: &Program, run: &Run) {
        self.programs += 1;
        self.agree += run.agree;
        // If a run ends for another reason than a difference, the rest of its program was not run.
        let ended_badly = matches!(
            run.end,
            End::Differs(_)
                | End::Reported(..)
                | End::Undecided(..)
                | End::TimedOut
                | End::Failed(_)
        );
        self.operations += run.agree + usize::from(ended_badly);
        match &run.end {
            End::Whole => self.whole += 1,
            End::Blocked => self.blocked += 1,
            End::Lacks(missing) => *self.lacks.entry(*missing).or_default() += 1,
            End::TimedOut => {
                self.timed_out += 1;
                let op = &program.ops[run.agree];
                let divergence =
                    Divergence::reported(run.agree, &format!("no-answer/{}", op.opcode().name()));
                self.differs
                    .entry(divergence.signature)
                    .or_insert_with(|| (0, program.clone()))
                    .0 += 1;
            }
            End::Undecided(rules, _) => {
                for rule in rules.iter() {
                    *self.undecided.entry(rule.name().to_owned()).or_default() += 1;
                }
            }
            End::Differs(divergence) | End::Reported(divergence, _) => {
                let signature = &divergence.signature;
                let entry = self.differs.entry(signature.clone());
                let (count, first) = entry.or_insert_with(|| (0, program.clone()));
                *count += 1;
                if program.ops.len() < first.ops.len() {
                    *first = program.clone();
                }
            }
            End::Failed(_) | End::Tolerated(..) => {}
        }
    }
}

/// Runs the command.
pub(crate) fn run(args: &Args, look: Look) -> anyhow::Result<Status> {
    // Files are read before the kernel is tried: a file that cannot be read is an error on any
    // machine.
    let programs = args
        .files
        .iter()
        .map(|file| Ok((file.as_path(), load(file)?)))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let known = args.known.as_deref().map(known).transpose()?.unwrap_or_default();
    let options = Options {
        timeout: Duration::from_millis(args.timeout),
        whole_machine: args.whole_machine,
        process_vm_mmap: args.process_vm_mmap,
        ..Options::default()
    };
    let kernel = Kernel::new(options).context("the running kernel cannot be driven")?;
    let mut beside = Beside::new(kernel);
    if args.probe {
        return probe(&mut beside);
    }
    if !args.no_rules {
        beside.probe();
    }
    if let Some(release) = args.expect {
        let probed = beside.profile();
        beside.expect(Profile::of_release(release, probed));
    }
    match args.random {
        Some(programs) => random(&mut beside, args, programs, &known, look),
        None => files(&mut beside, &programs, look),
    }
}

/// Prints a program before it is run, if that was asked for.
fn announce(args: &Args, program: &Program) {
    if args.announce {
        record(&format!("@run\n{program}"));
    }
}

fn probe(beside: &mut Beside) -> anyhow::Result<Status> {
    let mut out = stdout();
    let found = beside.probe();
    let name = found.iter().map(|(rule, _)| rule.name().len()).max().unwrap_or(0);
    writeln!(out, "{:<name$}  since  until  {:<16}  {}", "rule", "bug", beside.kernel().name())?;
    let mut otherwise = false;
    for (rule, holds) in &found {
        let About { since, until, bug, .. } = rule.about();
        let version = |version: &Option<Version>| version.map_or("-".into(), |v| v.to_string());
        let (since, until) = (version(since), version(until));
        writeln!(out, "{:<name$}  {since:<5}  {until:<5}  {bug:<16}  {holds}", rule.name())?;
    }
    for (rule, holds) in &found {
        if let Holds::Otherwise(report) = holds {
            otherwise = true;
            writeln!(out, "\n{}\n\n{report}", rule.name())?;
        }
    }
    writeln!(out)?;
    for (rule, _) in &found {
        let About { name, text, function, commit, .. } = rule.about();
        let commit = commit.map_or_else(String::new, |commit| format!(", {commit}"));
        writeln!(out, "{name}: {text}; {function}(){commit}")?;
    }
    let facilities = beside.kernel().facilities();
    writeln!(out, "\n{facilities}")?;
    Ok(Status::found(otherwise))
}

fn files(beside: &mut Beside, programs: &[(&Path, Loaded)], look: Look) -> anyhow::Result<Status> {
    let mut status = Status::Clean;
    for (n, (file, loaded)) in programs.iter().enumerate() {
        if n > 0 {
            writeln!(stdout())?;
        }
        let (run, text) = beside.report(&loaded.program, look);
        write!(stdout(), "{}\n\n{text}", name(file))?;
        if let Some(cut) = loaded.cut() {
            writeln!(stdout(), "{cut}")?;
        }
        let ended = match run.end {
            End::Whole => Status::Clean,
            // Nobody knows what the kernel does with the rest of the program.
            End::Lacks(_) | End::Blocked | End::Undecided(..) | End::Tolerated(..) => {
                Status::Incomplete
            }
            End::Differs(_) | End::Reported(..) | End::TimedOut => Status::Found,
            End::Failed(error) => return Err(error).with_context(|| name(file)),
        };
        status = status.max(ended).max(Status::cut(loaded.is_cut));
    }
    Ok(status)
}

fn random(
    beside: &mut Beside,
    args: &Args,
    programs: u64,
    known: &Known,
    look: Look,
) -> anyhow::Result<Status> {
    let bar = progress(programs as usize, "kernel");
    let mut tally = Tally::default();
    let facilities = *beside.kernel().facilities();
    watch()?;
    let mut failed = None;
    for number in (0..programs).map(|n| args.first.saturating_add(n)) {
        if interrupted() {
            break;
        }
        let wanted = |op: &_| facilities.lacks(op).is_none();
        let program = fresh::program(args.seed, number, args.operations.into(), wanted);
        announce(args, &program);
        let run = beside.run(&program);
        bar.inc(1);
        tally.add(&program, &run);
        if let End::Failed(error) = run.end {
            let at = run.agree + 1;
            failed = Some(anyhow!("program {number}, operation {at}: {error}\n{program}"));
            break;
        }
    }
    bar.finish_and_clear();
    let mut out = stdout();
    let unrepeated = beside.take_unrepeated();
    let is_new = |signature: &Signature| known.why(&signature.to_string()).is_none();
    let signature = |end: &End| match end {
        End::Differs(found) | End::Reported(found, _) => Some(found.signature.clone()),
        _ => None,
    };
    let unrepeated_is_new = |once: &Unrepeated| signature(&once.end).is_none_or(|s| is_new(&s));
    let found = tally.differs.keys().any(is_new) || unrepeated.iter().any(unrepeated_is_new);
    let Tally { programs, operations, agree, whole, blocked, timed_out, .. } = tally;
    let count = |counts: Vec<(String, u64)>| -> String {
        counts.into_iter().map(|(name, count)| format!(" {name}={count}")).collect()
    };
    let lacks = count(tally.lacks.iter().map(|(m, n)| (format!("lacks-{m}"), *n)).collect());
    let undecided: Vec<_> =
        tally.undecided.iter().map(|(rule, n)| (format!("undecided-{rule}"), *n)).collect();
    let undecided = count(undecided);
    let differ: u64 = tally.differs.values().map(|(count, _)| count).sum();
    let applied: Vec<_> =
        beside.applied().iter().map(|(rule, n)| (format!("rule-{}", rule.name()), *n)).collect();
    let mut applied = count(applied);
    if beside.late() > 0 {
        applied += &format!(" late={}", beside.late());
    }
    let broken = beside.broken().iter().map(|(name, n)| (format!("broken-{name}"), *n)).collect();
    let broken = count(broken);
    writeln!(
        out,
        "programs={programs} operations={operations} agree={agree} whole={whole} blocked={blocked} \
         timed-out={timed_out} differ={differ} withheld={}{lacks}{applied}{undecided}{broken}",
        beside.kernel().withheld()
    )?;
    for Unrepeated { program, end, served_before } in &unrepeated {
        let what = match (signature(end), end) {
            (Some(signature), _) => signature.to_string(),
            (None, End::Failed(error)) => error.to_string(),
            (None, End::Undecided(_, found)) => format!("undecided: {}", found.signature),
            _ => "no answer".to_owned(),
        };
        let when = match served_before {
            true => "only in a process that had served other programs",
            false => "once, and not when the program was run again",
        };
        writeln!(out, "\n{what}, {when}\n\n{program}")?;
    }
    for (signature, (count, program)) in &tally.differs {
        if let Some(why) = known.why(&signature.to_string()) {
            writeln!(out, "\nknown: {signature} ({count} programs): {why}")?;
            continue;
        }
        // The number of runs is limited, because a run in an emulator is slow.
        let mut runs = 0;
        let most = if args.no_minimize { 0 } else { MINIMIZE_RUNS };
        let small = vmadiff::minimize::minimize(program, |p| {
            runs += 1;
            if runs <= most {
                announce(args, p);
            }
            match (runs <= most && !interrupted()).then(|| beside.run(p).end)? {
                End::Differs(divergence) | End::Reported(divergence, _)
                    if divergence.signature == *signature =>
                {
                    Some(divergence)
                }
                _ => None,
            }
        });
        let program = small.as_ref().map_or(program, |(program, _)| program);
        announce(args, program);
        writeln!(out, "\n{signature} ({count} programs)\n\n{}", beside.report(program, look).1)?;
    }
    match failed {
        Some(error) => Err(error),
        None if interrupted() => Ok(Status::Interrupted),
        None => Ok(Status::found(found)),
    }
}
