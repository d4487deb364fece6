//! `vmadiff check-kernel`: checks the running kernel section by section, for `ci/tree`.
//!
//! The output is a protocol of lines for a reader that may have to start a kernel again:
//!
//! ```text
//! @kernel NAME; FACILITIES; RULES                    the kernel, before the first section
//! @run SECTION NUMBER NAME | OPERATION; OPERATION    before a program runs
//! @minimize SIGNATURE                                before that program is minimized
//! @try OPERATION; OPERATION                          before a smaller program runs
//! @found SIGNATURE SECTION NUMBER                    a finding; its report follows, up to @end
//! @again SIGNATURE                                   a finding that was reported before
//! @covered SECTION POINT…                            program counters that were not covered before
//! @done SECTION COUNT=N …                            the end of a section
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use vmadiff::divergence::Divergence;
use vmadiff::fresh;
use vmadiff::guided::Guided;
use vmadiff::kernel::{Beside, End, Profile, Release, Run, Tolerance};
use vmadiff::text::Look;
use vmadiff_kernel::{Kernel, Options};
use vmadiff_machine::{Machine as _, Op, Program};

use super::files;
use crate::out::stdout;
use crate::status::Status;

/// Check the running kernel section by section: its rules, the corpus, the reverse map, random
/// programs
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folders and files with the programs of the corpus
    corpus: Vec<PathBuf>,
    /// Expect the rules of this release of Linux, instead of those that the kernel shows
    #[arg(long, value_name = "RELEASE")]
    expect: Option<Release>,
    /// Run the corpus again, and repeat each operation while its first, second, … allocation fails
    #[arg(long)]
    fail: bool,
    /// Run the corpus again with the reverse map walked after each operation
    #[arg(long)]
    walk: bool,
    /// Ask kmemleak at the end for memory that nothing points to
    #[arg(long)]
    leaks: bool,
    /// The number of random programs
    #[arg(long, value_name = "N", default_value_t = 0)]
    random: u64,
    /// The time after which no further program begins
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// The seed of the random programs
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// The number of operations of each random program
    #[arg(long, value_name = "N", default_value_t = 24)]
    operations: u8,
    /// Run part K of N parts of the programs, counted from 0
    #[arg(long, value_name = "K/N", default_value = "0/1", value_parser = part)]
    part: (u64, u64),
    /// Continue with this program of this section: the kernel died before
    #[arg(long, value_name = "SECTION:NUMBER", value_parser = place)]
    resume: Option<(Section, u64)>,
    /// Run copies by this number of the system call process_vm_mmap, which the kernel has
    #[arg(long, value_name = "NR")]
    process_vm_mmap: Option<u32>,
    /// A signature that was found before, which is only counted; may be given several times
    #[arg(long, value_name = "SIGNATURE")]
    known: Vec<String>,
    /// Collect the coverage of the kernel's own code, and guide the programs of the last section by it,
    /// or run random programs there
    #[arg(long, value_name = "HOW")]
    coverage: Option<How>,
    /// The time limit of an operation, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    timeout: u64,
}

/// The programs that run while coverage is collected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum How {
    /// Mutations of programs that covered something new
    Guided,
    /// Random programs
    Random,
}

/// A section of the check. The order is that of the run: the cheap and telling sections come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Section {
    Probe,
    Corpus,
    Fail,
    Walk,
    Random,
}

impl Section {
    const ALL: [Section; 5] =
        [Section::Probe, Section::Corpus, Section::Fail, Section::Walk, Section::Random];

    fn name(self) -> &'static str {
        match self {
            Section::Probe => "probe",
            Section::Corpus => "corpus",
            Section::Fail => "fail",
            Section::Walk => "walk",
            Section::Random => "random",
        }
    }
}

fn part(text: &str) -> Result<(u64, u64), String> {
    let parsed = text.split_once('/').and_then(|(k, n)| Some((k.parse().ok()?, n.parse().ok()?)));
    parsed.filter(|(k, n)| k < n).ok_or_else(|| "expected K/N with K below N".to_owned())
}

fn place(text: &str) -> Result<(Section, u64), String> {
    let parsed = text.split_once(':').and_then(|(name, number)| {
        let section = Section::ALL.into_iter().find(|section| section.name() == name)?;
        Some((section, number.parse().ok()?))
    });
    parsed.ok_or_else(|| "expected such as corpus:31".to_owned())
}

/// The most runs of a program, and the most time, while it is minimized.
const MINIMIZE_RUNS: usize = 400;
const MINIMIZE_TIME: Duration = Duration::from_secs(10);
/// The most signatures of which a program is minimized and shown. A kernel with more is broken in
/// a way that the first ones show.
const MAX_SHOWN: usize = 40;

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<Status> {
    let corpus = files::programs(&args.corpus)?.programs;
    let options = Options {
        timeout: Duration::from_millis(args.timeout),
        whole_machine: true,
        log: true,
        process_vm_mmap: args.process_vm_mmap,
        coverage: args.coverage.is_some(),
        ..Options::default()
    };
    let kernel = Kernel::new(options).context("the running kernel cannot be driven")?;
    let found = args.known.iter().map(|signature| (signature.clone(), 0)).collect();
    let (k, n) = args.part;
    let mut check = Check {
        args,
        beside: Beside::new(kernel),
        began: Instant::now(),
        found,
        // Each part has programs of its own.
        guided: Guided::new(args.seed ^ k << 32),
    };
    if args.leaks {
        // What was allocated before is not reported.
        fs::write(KMEMLEAK, "clear").context(KMEMLEAK)?;
    }
    check.probe()?;
    let own = |number: &u64| number % n == k;
    let of_corpus = |section| {
        let numbers = (check.first(section)..corpus.len() as u64).filter(own);
        let programs = numbers.map(|number| {
            let (path, program) = &corpus[number as usize];
            (number, path.display().to_string(), program.clone())
        });
        programs.collect::<Vec<_>>()
    };
    let [plain, failing, walked] = [Section::Corpus, Section::Fail, Section::Walk].map(of_corpus);
    check.section(Section::Corpus, plain)?;
    if args.fail {
        check.beside.inject(true)?;
        check.section(Section::Fail, failing)?;
        check.beside.inject(false)?;
    }
    if args.walk {
        check.beside.walk(true)?;
        check.section(Section::Walk, walked)?;
    }
    let facilities = *check.beside.kernel().facilities();
    if args.coverage == Some(How::Guided) {
        check.guided()?;
        return Ok(check.status());
    }
    let random = (check.first(Section::Random)..args.random).filter(own).map(|number| {
        let wanted = |op: &Op| facilities.lacks(op).is_none();
        let program = fresh::program(args.seed, number, args.operations.into(), wanted);
        (number, "random".to_owned(), program)
    });
    check.section(Section::Random, random)?;
    if args.leaks {
        check.leaks()?;
    }
    Ok(check.status())
}

/// The file of kmemleak.
const KMEMLEAK: &str = "/sys/kernel/debug/kmemleak";
/// The age from which kmemleak reports memory (`MSECS_MIN_AGE`), with some room.
const LEAK_AGE: Duration = Duration::from_secs(6);

struct Check<'a> {
    args: &'a Args,
    beside: Beside,
    began: Instant,
    /// The findings by signature, with their counts.
    found: BTreeMap<String, u64>,
    /// The coverage, and the programs that covered something new.
    guided: Guided,
}

/// The counts of a section.
#[derive(Default)]
struct Tally {
    programs: u64,
    /// The programs of the corpus for which there was no time.
    left: u64,
    operations: usize,
    agree: usize,
    found: u64,
    tolerated: BTreeMap<Tolerance, u64>,
}

impl Check<'_> {
    /// Returns the number of the first program of a section that is to be run.
    fn first(&self, section: Section) -> u64 {
        match self.args.resume {
            Some((resumed, _)) if section < resumed => u64::MAX,
            Some((resumed, number)) if section == resumed => number,
            _ => 0,
        }
    }

    /// Finds the rules that hold, and reports those that should hold and do not, or the other way.
    fn probe(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        let found = self.beside.probe();
        let mut profile = self.beside.profile();
        // Each part of the programs needs the probe, but one report is enough.
        let shown = self.first(Section::Probe) == 0 && self.args.part.0 == 0;
        if let Some(version) = self.args.expect {
            let expected = Profile::of_release(version, profile);
            for (rule, holds) in &found {
                if let (Some(should), true) = (expected.otherwise(*rule, holds), shown) {
                    let name = rule.name();
                    let signature = format!("rule/{name}/{}", should.replace(' ', "-"));
                    let text = format!(
                        "{name} {should} on {version} ({holds}): {}\n\n{}",
                        rule.about().text,
                        rule.about().probe
                    );
                    self.show(&signature, Section::Probe, 0, &text)?;
                }
            }
            profile = expected;
        }
        self.beside.expect(profile);
        if shown {
            let facilities = self.beside.kernel().facilities().to_string();
            let rules = profile.hold.to_string().replace(", ", ",");
            writeln!(
                stdout(),
                "@kernel {}; {facilities}; rules {rules}",
                self.beside.kernel().name()
            )?;
            writeln!(
                stdout(),
                "@done probe rules={} ms={}",
                found.len(),
                began.elapsed().as_millis()
            )?;
        }
        Ok(())
    }

    fn section(
        &mut self,
        section: Section,
        programs: impl IntoIterator<Item = (u64, String, Program)>,
    ) -> anyhow::Result<()> {
        let (began, mut tally) = (Instant::now(), Tally::default());
        self.beside.forget_applied();
        let mut programs = programs.into_iter();
        while let Some((number, name, program)) = programs.next() {
            if self.is_over() {
                if section != Section::Random {
                    tally.left = 1 + programs.count() as u64;
                }
                break;
            }
            if section == Section::Random && self.args.walk {
                // The walk takes as long as the rest.
                self.beside.walk(number / self.args.part.1 % 2 == 1)?;
            }
            self.program(section, (number, &name), &program, &mut tally)?;
        }
        self.done(section, began, &tally)
    }

    /// Returns the exit status: whether a signature was found. `ci/tree` has the list of known ones.
    fn status(&self) -> Status {
        Status::found(self.found.values().any(|count| *count > 0))
    }

    fn is_over(&self) -> bool {
        self.began.elapsed() >= Duration::from_secs(self.args.seconds)
    }

    /// Runs the programs that the coverage guides, until the time is over.
    fn guided(&mut self) -> anyhow::Result<()> {
        let (began, mut tally) = (Instant::now(), Tally::default());
        self.beside.forget_applied();
        let facilities = *self.beside.kernel().facilities();
        let ((k, n), first) = (self.args.part, self.first(Section::Random));
        let mut number = first.next_multiple_of(n) + k;
        while !self.is_over() && number < self.args.random {
            let mut program = self.guided.propose();
            program.ops.retain(|op| facilities.lacks(op).is_none());
            self.program(Section::Random, (number, "guided"), &program, &mut tally)?;
            number += n;
        }
        self.done(Section::Random, began, &tally)
    }

    /// Runs a program, judges it and learns from its coverage.
    fn program(
        &mut self,
        section: Section,
        (number, name): (u64, &str),
        program: &Program,
        tally: &mut Tally,
    ) -> anyhow::Result<()> {
        writeln!(
            stdout(),
            "@run {} {number} {name} | {}",
            section.name(),
            files::on_a_line(program)
        )?;
        let mut covered = Vec::new();
        let run = self.beside.run_with(program, |step| {
            // The program is run again if it was late.
            covered.truncate(step.at);
            covered.push(step.covered.to_vec());
        });
        let points = self.guided.learn(program, &covered).points;
        // A line of the console is not long.
        for points in points.chunks(100) {
            let points: String = points.iter().map(|point| format!(" {point:x}")).collect();
            writeln!(stdout(), "@covered {}{points}", section.name())?;
        }
        tally.programs += 1;
        tally.agree += run.agree;
        if let End::Tolerated(tolerance, _) = run.end {
            *tally.tolerated.entry(tolerance).or_default() += 1;
        }
        let is_found = self.judge(section, number, program, &run)?;
        tally.found += u64::from(is_found);
        tally.operations += run.agree + usize::from(is_found);
        Ok(())
    }

    /// Shows the counts of a section.
    fn done(&mut self, section: Section, began: Instant, tally: &Tally) -> anyhow::Result<()> {
        let Tally { programs, left, operations, agree, found, tolerated } = tally;
        let applied = self.beside.applied().iter();
        let mut rules: String =
            applied.map(|(rule, count)| format!(" rule-{}={count}", rule.name())).collect();
        for (tolerance, count) in tolerated {
            rules += &format!(" rule-{tolerance}={count}");
        }
        if self.beside.late() > 0 {
            rules += &format!(" rule-late={}", self.beside.late());
        }
        if let Some(injection) = self.beside.kernel().injection() {
            rules += &format!(" refused={} tolerated={}", injection.refused, injection.tolerated);
        }
        writeln!(
            stdout(),
            "@done {} programs={programs} left={left} operations={operations} agree={agree} found={found} \
             ms={}{rules}",
            section.name(),
            began.elapsed().as_millis()
        )?;
        Ok(())
    }

    /// Asks kmemleak for memory that was allocated for a program and that nothing points to.
    fn leaks(&mut self) -> anyhow::Result<()> {
        let began = Instant::now();
        self.beside.finish();
        std::thread::sleep(LEAK_AGE);
        // A block has to be found by two scans that see the same content.
        for _ in 0..2 {
            fs::write(KMEMLEAK, "scan").context(KMEMLEAK)?;
        }
        let text = fs::read_to_string(KMEMLEAK).context(KMEMLEAK)?;
        let mut blocks = 0;
        for block in text.split("unreferenced object ").skip(1) {
            blocks += 1;
            let signature = format!("leak/kmemleak/{}", allocated_by(block));
            if !self.found.contains_key(&signature) {
                self.show(&signature, Section::Random, 0, &format!("unreferenced object {block}"))?;
            }
        }
        let ms = began.elapsed().as_millis();
        writeln!(stdout(), "@done leaks found={blocks} ms={ms}")?;
        Ok(())
    }

    /// Shows the finding of a run, if it has one; returns whether it has.
    fn judge(
        &mut self,
        section: Section,
        number: u64,
        program: &Program,
        run: &Run,
    ) -> anyhow::Result<bool> {
        let op = program.ops.get(run.agree).map_or("end", |op| op.opcode().name());
        let signature = match &run.end {
            End::Differs(divergence) | End::Reported(divergence, _) => {
                divergence.signature.to_string()
            }
            End::TimedOut => format!("timed-out/{op}"),
            End::Failed(_) => format!("failed/{op}"),
            End::Whole | End::Blocked | End::Lacks(_) | End::Undecided(..) | End::Tolerated(..) => {
                return Ok(false);
            }
        };
        if self.found.contains_key(&signature) || self.found.len() >= MAX_SHOWN {
            *self.found.entry(signature.clone()).or_default() += 1;
            writeln!(stdout(), "@again {signature}")?;
            return Ok(true);
        }
        // A kernel that cannot be driven is run once only. The report of the first run is kept: a
        // warning that the kernel gives once does not come again.
        let (program, report) = match &run.end {
            End::Differs(first) | End::Reported(first, _) => {
                writeln!(stdout(), "@minimize {signature}")?;
                self.minimize(program, first, report_of(run))
            }
            End::Failed(error) => (program.clone(), Some(format!("{error}\n\n{program}"))),
            _ => (program.clone(), None),
        };
        let text = match report {
            Some(report) => format!("{program}\n{report}"),
            None => self.beside.report(&program, Look::default()).1,
        };
        self.show(&signature, section, number, &text)?;
        Ok(true)
    }

    /// Shrinks a program and keeps its signature. Returns it with the kernel's last report.
    fn minimize(
        &mut self,
        program: &Program,
        first: &Divergence,
        mut report: Option<String>,
    ) -> (Program, Option<String>) {
        let (began, mut runs) = (Instant::now(), 0);
        let small = vmadiff::minimize::minimize(program, |program| {
            runs += 1;
            if runs > MINIMIZE_RUNS || began.elapsed() > MINIMIZE_TIME {
                return None;
            }
            // The kernel may die in a smaller program. If the output has failed, the next write of
            // the caller fails, too.
            let _ = writeln!(stdout(), "@try {}", files::on_a_line(program));
            // A warning that is given once can be given again after this.
            let _ = fs::write("/sys/kernel/debug/clear_warn_once", "1");
            match self.beside.run(program).end {
                End::Differs(divergence) if divergence.signature == first.signature => {
                    Some(divergence)
                }
                End::Reported(divergence, text) if divergence.signature == first.signature => {
                    report = Some(text);
                    Some(divergence)
                }
                _ => None,
            }
        });
        (small.map_or_else(|| program.clone(), |(program, _)| program), report)
    }

    fn show(
        &mut self,
        signature: &str,
        section: Section,
        number: u64,
        text: &str,
    ) -> anyhow::Result<()> {
        *self.found.entry(signature.to_owned()).or_default() += 1;
        let mut out = stdout();
        writeln!(out, "@found {signature} {} {number}\n{}\n@end", section.name(), text.trim_end())?;
        Ok(())
    }
}

/// Returns the kernel's report of a run.
fn report_of(run: &Run) -> Option<String> {
    match &run.end {
        End::Reported(_, text) => Some(text.clone()),
        _ => None,
    }
}

/// Returns the kernel function that allocated a block of kmemleak: the first one of its stack that is
/// not an allocator.
fn allocated_by(block: &str) -> &str {
    let allocators = ["kmem", "kmalloc", "__km", "slab", "alloc", "___", "kasan"];
    let functions = block.lines().filter_map(|line| {
        let word = line.split_whitespace().find(|word| word.contains("+0x"))?;
        word.split(['+', '.']).next()
    });
    let mut functions =
        functions.filter(|name| !allocators.iter().any(|begin| name.starts_with(begin)));
    functions.next().unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leak_is_named_by_the_function_that_asked_for_the_memory() {
        let block = "0x61ab (size 144):\n  comm \"vmadiff\", pid 31\n  backtrace:\n    \
                     [<600a>] kmem_cache_alloc+0x1/0x2\n    [<600b>] vm_area_dup.isra.0+0x1/0x2\n";
        assert_eq!(allocated_by(block), "vm_area_dup");
        assert_eq!(allocated_by("0x61ab (size 144):\n"), "unknown");
    }

    #[test]
    fn parts_and_places_are_read_and_nothing_else() {
        assert_eq!(part("1/2"), Ok((1, 2)));
        assert_eq!(place("corpus:31"), Ok((Section::Corpus, 31)));
        for wrong in ["", "2/2", "1", "a/b"] {
            assert!(part(wrong).is_err(), "{wrong}");
        }
        for wrong in ["", "corpus", "corps:1", "corpus:x"] {
            assert!(place(wrong).is_err(), "{wrong}");
        }
    }
}
