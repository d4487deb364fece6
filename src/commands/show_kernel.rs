//! `vmadiff show-kernel`: runs programs on the running kernel and prints what it shows, for a reader that
//! compares two kernels (`ci/tree --base`).
//!
//! The output is a protocol of lines:
//!
//! ```text
//! @kernel NAME; FACILITIES
//! @run SECTION NUMBER NAME | OPERATION; OPERATION    before a program runs
//! @step RESULT VALUE | LINE; LINE                    with --text: after an operation
//! @shown DIGEST DIGEST                               after a program: a number for each operation
//! @done SECTION ms=N                                 the end of a section
//! ```
//!
//! Two kernels have shown the same after an operation exactly if the digests are the same, up to
//! collisions of 64 bits.

use std::hash::{DefaultHasher, Hasher as _};
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use vmadiff::fresh;
use vmadiff::visible::{Files, memory};
use vmadiff_kernel::{Ended, Kernel, Options};
use vmadiff_machine::{Machine as _, Observation, Op, Program};

use super::files;
use crate::out::stdout;
use crate::status::Status;

/// Run programs on the running kernel, and print a digest of what it shows after each operation
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folders and files with programs, which run in this order
    programs: Vec<PathBuf>,
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
    /// Print what the kernel shows as text, too
    #[arg(long)]
    text: bool,
    /// Run copies by this number of the system call process_vm_mmap, which the kernel has
    #[arg(long, value_name = "NR")]
    process_vm_mmap: Option<u32>,
    /// The time limit of an operation, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    timeout: u64,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<Status> {
    let programs = files::programs(&args.programs)?.programs;
    let options = Options {
        timeout: Duration::from_millis(args.timeout),
        whole_machine: true,
        process_vm_mmap: args.process_vm_mmap,
        ..Options::default()
    };
    let mut kernel = Kernel::new(options).context("the running kernel cannot be driven")?;
    let facilities = *kernel.facilities();
    writeln!(stdout(), "@kernel {}; {facilities}", kernel.name())?;
    let given = (0..)
        .zip(programs)
        .map(|(number, (path, program))| (number, path.display().to_string(), program));
    let random = (0..args.random).map(|number| {
        let wanted = |op: &Op| facilities.lacks(op).is_none();
        let program = fresh::program(args.seed, number, args.operations.into(), wanted);
        (number, "random".to_owned(), program)
    });
    let began = Instant::now();
    section(&mut kernel, args, "corpus", began, given)?;
    section(&mut kernel, args, "random", began, random)?;
    Ok(Status::Clean)
}

/// Runs the programs of a section, up to the time limit.
fn section(
    kernel: &mut Kernel,
    args: &Args,
    section: &str,
    began: Instant,
    programs: impl Iterator<Item = (u64, String, Program)>,
) -> anyhow::Result<()> {
    let start = Instant::now();
    for (number, name, program) in programs {
        if began.elapsed() >= Duration::from_secs(args.seconds) {
            break;
        }
        writeln!(stdout(), "@run {section} {number} {name} | {}", files::on_a_line(&program))?;
        show(kernel, &program, args.text)?;
    }
    writeln!(stdout(), "@done {section} ms={}", start.elapsed().as_millis())?;
    Ok(())
}

/// Runs a program, up to an operation that blocks or that the kernel lacks, and prints what it shows.
fn show(kernel: &mut Kernel, program: &Program, text: bool) -> anyhow::Result<()> {
    let mut digests = String::new();
    if kernel.lacks_limit(&program.limits).is_none() {
        kernel.reset(&program.limits);
        let (mut seen, mut files) = (Observation::default(), Files::default());
        for op in &program.ops {
            let facilities = kernel.facilities();
            let lacks = facilities.lacks(op).or(facilities.lacks_under(op, &program.limits));
            if lacks.or_else(|| facilities.lacks_in(op, &seen)).is_some() {
                break;
            }
            kernel.step(op, &mut seen);
            let ended = kernel.take_ended();
            let shown = match &ended {
                Some(Ended::TimedOut) => "no answer".to_owned(),
                // The error names a process or a file, and nothing of a single run.
                Some(Ended::Failed(error)) => format!("failed: {error}"),
                _ => step(&seen, &mut files),
            };
            if text {
                writeln!(stdout(), "@step {}", shown.replace('\n', "; "))?;
            }
            let mut hasher = DefaultHasher::new();
            hasher.write(shown.as_bytes());
            digests += &format!(" {:x}", hasher.finish());
            if ended.is_some() {
                break;
            }
        }
        kernel.finish();
    }
    writeln!(stdout(), "@shown{digests}")?;
    Ok(())
}

/// Returns what a kernel shows after an operation: the result, the value that was read, the attachments
/// of the segment, and the memory of each process.
fn step(seen: &Observation, files: &mut Files) -> String {
    let mut text = seen.result.map_or_else(|errno| errno.name().to_owned(), |ok| ok.to_string());
    if let Some(value) = seen.read {
        text += &format!(" reads {value}");
    }
    text += &seen.attached.map_or_else(String::new, |count| format!(", {count} attached"));
    for (process, space) in seen.spaces.iter().enumerate().filter(|(_, space)| space.alive) {
        text += &format!("\nprocess {process}: {}", memory(space, files));
    }
    text
}
