//! `vmadiff exhaust`: runs every program of a small world.

use std::io::{self, Write as _};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, anyhow, bail};
use indicatif::ProgressBar;
use vmadiff::divergence::Signature;
use vmadiff::exhaust::file;
use vmadiff::exhaust::search::{End, Moment, Options, Search, operations};
use vmadiff::exhaust::world::{NAMED, World};
use vmadiff::machines::Machines as Boxed;
use vmadiff::output;
use vmadiff::text::Look;
use vmadiff::triage::Group;
use vmadiff_machine::program::MAX_OPS;

use super::files::{is_standard, name, open, text_of};
use super::findings;
use super::machines::{Machines, sides};
use super::progress::progress;
use super::threads::Threads;
use crate::interrupt::{interrupted, watch};
use crate::out::{note, stdout};
use crate::status::Status;

/// Run every program of a small world, shortest first, and show the shortest programs that diverge
#[derive(clap::Args)]
#[command(after_help = "Examples:
  vmadiff exhaust tiny --depth 6 --right candidate:fixed
  vmadiff exhaust copy --all --depth 3
  vmadiff exhaust my-world.txt --depth 12 --memory 16G --resume my-search

A world is a list of operations: docs/exhaust.md. Programs that lead both machines to the same state
are continued once. The search ends with the programs that are as long as the first new divergence,
so none is shorter in the world. For candidate:original beside another machine, the list of known
divergences is corpus/known-original.txt without --known.")]
pub(crate) struct Args {
    /// The name of a world (tiny, fork, copy, uffd, locks, limits, files, reuse), or a file
    #[arg(default_value = "tiny")]
    world: PathBuf,
    /// The largest number of operations of a program
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(0..=MAX_OPS as i64))]
    depth: u8,
    /// Go on after a new divergence, and show the shortest program of each signature
    #[arg(long)]
    all: bool,
    /// The largest memory of the table of states, in bytes; K, M and G stand for powers of 1024
    #[arg(long, value_name = "BYTES", default_value = "2G", value_parser = bytes)]
    memory: usize,
    #[command(flatten)]
    threads: Threads,
    /// Go on with the search in this file, if it exists, and write the search to it after each depth,
    /// at Ctrl-C and at the end
    #[arg(long, value_name = "FILE")]
    resume: Option<PathBuf>,
    /// Print the operations of the world, and run nothing
    #[arg(long)]
    operations: bool,
    #[command(flatten)]
    findings: findings::Options,
    #[command(flatten)]
    machines: Machines,
}

/// The size limit of the text of a world.
const MAX_WORLD_BYTES: u64 = 1 << 16;

/// Reads a number of bytes.
fn bytes(text: &str) -> Result<usize, String> {
    let (digits, factor) = match text.strip_suffix(['K', 'M', 'G']) {
        Some(digits) if text.ends_with('K') => (digits, 1 << 10),
        Some(digits) if text.ends_with('M') => (digits, 1 << 20),
        Some(digits) => (digits, 1 << 30),
        None => (text, 1),
    };
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok());
    let bytes = number.flatten().and_then(|number: usize| number.checked_mul(factor));
    bytes.ok_or_else(|| "expected a number of bytes, such as 500M or 2G".to_owned())
}

/// Returns the world with a name, or the one in a file.
fn world(path: &Path) -> anyhow::Result<World> {
    if let Some(world) = path.to_str().and_then(World::named) {
        return Ok(world);
    }
    let names: Vec<&str> = NAMED.iter().map(|(name, _)| *name).collect();
    let input = open(path)
        .with_context(|| format!("expected a file or the name of a world: {}", names.join(", ")))?;
    let text = text_of(input, path, MAX_WORLD_BYTES, "a world")?;
    World::read(&name(path), &text).with_context(|| name(path))
}

/// Runs the command.
pub(crate) fn run(args: &Args, look: Look) -> anyhow::Result<Status> {
    let world = world(&args.world)?;
    if args.operations {
        write!(stdout(), "{world}")?;
        return Ok(Status::Clean);
    }
    let mut lockstep = args.machines.lockstep();
    let findings = args.findings.prepare(|| args.machines.known())?;
    let make = || args.machines.lockstep();
    let left_out = world.ops.len() - operations(&world, &lockstep).len();
    let mut search = begin(args, &world)?;
    watch()?;
    let options = Options {
        depth: args.depth.into(),
        memory: args.memory,
        threads: args.threads.number(),
        all: args.all,
    };
    let is_known = |signature: &Signature| findings.is_known(signature.as_str());
    let shown = Shown::new(&search);
    let mut failed = None;
    let names = (lockstep.names().0.to_owned(), lockstep.names().1.to_owned());
    let save = |search: &Search| match &args.resume {
        Some(path) => save(search, &world, (&names.0, &names.1), path),
        None => Ok(()),
    };
    let end = search.run(&world, &options, make, is_known, |search, moment| {
        shown.show(search);
        if moment == Moment::Depth {
            failed = save(search).err();
        }
        failed.is_none() && !interrupted()
    });
    shown.end(&search, options.threads);
    let saved = failed.map_or_else(|| save(&search), Err);
    let groups = groups(&search, &world, end, &mut lockstep);
    let summary = Summary { search: &search, world: &world, end, left_out, args };
    let status = findings.show(&groups, &mut lockstep, look, &[], |count, sides| {
        summary.text(&groups, count, sides)
    })?;
    saved?;
    Ok(match end {
        End::Stopped => Status::Interrupted,
        End::Memory => status.max(Status::Incomplete),
        End::World | End::Depth => status,
    })
}

/// Begins a search, or reads the one that is to be continued.
fn begin(args: &Args, world: &World) -> anyhow::Result<Search> {
    let lockstep = args.machines.lockstep();
    let Some(path) = &args.resume else { return new(world, lockstep) };
    if is_standard(path) {
        bail!("--resume -: expected a file, which is read and written");
    }
    match std::fs::File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            output::check(path, false).with_context(|| name(path))?;
            new(world, lockstep)
        }
        opened => {
            let input = io::BufReader::with_capacity(1 << 16, opened.with_context(|| name(path))?);
            file::read(world, lockstep, args.memory, input).with_context(|| name(path))
        }
    }
}

fn new(world: &World, lockstep: Boxed) -> anyhow::Result<Search> {
    let sides = sides(&lockstep);
    Search::new(world, lockstep)
        .map_err(|found| anyhow!("{} {sides}, before the first operation", found.signature))
}

/// Writes the search to the file of `--resume`.
fn save(search: &Search, world: &World, names: (&str, &str), path: &Path) -> anyhow::Result<()> {
    output::write_by(path, true, |out| file::write(search, world, names, out))
        .with_context(|| name(path))
}

/// The progress of a search.
struct Shown {
    bar: ProgressBar,
    began: Instant,
    /// The states and the transitions of the file that is continued.
    before: (usize, u64),
}

impl Shown {
    fn new(search: &Search) -> Shown {
        let bar = progress(1, "exhaust");
        Shown { bar, began: Instant::now(), before: (search.states(), search.transitions()) }
    }

    fn show(&self, search: &Search) {
        let (at, all) = search.progress();
        self.bar.set_length(all as u64);
        self.bar.set_position(at as u64);
        let seconds = self.began.elapsed().as_secs_f64().max(1e-3);
        let speed = (search.states() - self.before.0) as f64 / seconds;
        let (depth, states) = (search.depth(), search.states());
        self.bar.set_message(format!("depth {depth}, {states} states, {speed:.0} a second"));
    }

    /// Writes the speed, which is no part of the result.
    fn end(&self, search: &Search, threads: NonZeroUsize) {
        self.bar.finish_and_clear();
        let seconds = self.began.elapsed().as_secs_f64();
        if seconds < 1.0 {
            return;
        }
        let states = (search.states() - self.before.0) as f64 / seconds;
        let transitions = (search.transitions() - self.before.1) as f64 / seconds;
        let memory = search.memory().div_ceil(1 << 20);
        note(format!(
            "{seconds:.1} s with {threads} threads: {states:.0} new states and {transitions:.0} \
             transitions a second, {memory} MiB"
        ));
    }
}

/// Returns the findings whose programs are the shortest ones, and after a search that did not reach its
/// end the others, too.
fn groups(search: &Search, world: &World, end: End, lockstep: &mut Boxed) -> Vec<Group> {
    let complete = search.complete();
    let is_cut = matches!(end, End::Memory | End::Stopped);
    let found = search.found().filter(|found| is_cut || Some(found.length) <= complete);
    let mut groups: Vec<Group> = found
        .filter_map(|found| {
            let program = search.program(world, found);
            let divergence = lockstep.run(&program)?;
            let files = vec![PathBuf::from(format!("({})", world.name))];
            let (class, signature) = (divergence.class, divergence.signature);
            Some(Group { class, signature, program, files })
        })
        .collect();
    groups.sort_by(|a, b| (a.class, &a.signature).cmp(&(b.class, &b.signature)));
    groups
}

/// The result of a search, in words.
struct Summary<'a> {
    search: &'a Search,
    world: &'a World,
    end: End,
    /// The operations that a machine lacks.
    left_out: usize,
    args: &'a Args,
}

impl Summary<'_> {
    /// Returns the last lines of the output: the states of each depth, and the result.
    fn text(&self, groups: &[Group], count: &str, sides: &str) -> String {
        let Summary { search, world, end, left_out, args } = self;
        let mut text = String::from("depth  states\n");
        for (depth, states) in search.states_of_depths().iter().enumerate() {
            text.push_str(&format!("{depth:>5}  {states}\n"));
        }
        let (name, states, transitions) = (&world.name, search.states(), search.transitions());
        let reach = match (end, search.complete()) {
            (End::World, _) => "of any length".to_owned(),
            (_, Some(depth)) => format!("up to {depth} operations"),
            (_, None) => "of no length yet".to_owned(),
        };
        let found = match groups.is_empty() {
            true => format!("no divergence {sides}, no violated invariant"),
            false => format!("{count} {sides}; none has a shorter program in this world"),
        };
        let found = match (groups.is_empty(), end) {
            (false, End::Memory | End::Stopped) => {
                format!("{count} {sides}; a program of more operations may not be the shortest")
            }
            _ => found,
        };
        text.push_str(&format!(
            "{found}; world {name}, programs {reach}: {states} states, {transitions} transitions"
        ));
        if *left_out > 0 {
            text.push_str(&format!("; {left_out} operations are left out: a machine lacks them"));
        }
        if search.is_partial() {
            text.push_str(
                "; states are told apart by what the machine shows: it does not write all of its state",
            );
        }
        match end {
            End::Memory => {
                text.push_str(&format!("; stopped: the table has {} bytes", args.memory))
            }
            End::Stopped => text.push_str("; interrupted"),
            End::World | End::Depth => {}
        }
        text
    }
}
