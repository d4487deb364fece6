//! The command line of vmadiff.
//!
//! Exit status: 0 nothing found, 1 a divergence, 2 bad use or bad input.

mod commands;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ArgGroup, Args, ColorChoice, CommandFactory as _, Parser, Subcommand, value_parser};
use clap_complete::Shell;
use vmadiff::import::Options;
use vmadiff::input::Format;
use vmadiff::lockstep::Lockstep;
use vmadiff::machines::MachineName;
use vmadiff::text::Look;
use vmadiff_candidate::Fault;
use vmadiff_machine::Machine;
use vmadiff_machine::program::MAX_OPS;

const EXAMPLES: &str = "\
Examples:
  vmadiff replay corpus/seeds/bug-a.txt
  vmadiff replay fuzz/artifacts/cross_mm/crash-* --right candidate:rfc
  vmadiff minimize crash-0123 -o small.txt --to text
  vmadiff triage fuzz/artifacts --out findings
  vmadiff conform corpus/golden/original.jsonl.gz --machine candidate:fixed

Exit status: 0 nothing found, 1 a divergence, 2 bad use or bad input.";

/// Differential fuzzing of the kernel's copy_vma(): two models in lockstep, and the first difference
#[derive(Parser)]
#[command(version, about, after_help = EXAMPLES)]
struct Cli {
    /// Colours; NO_COLOR in the environment turns them off as well
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    color: ColorChoice,
    /// Draw with nothing but ASCII
    #[arg(long, global = true)]
    ascii: bool,
    #[command(subcommand)]
    command: Command,
}

impl Cli {
    /// How standard output may look.
    fn look(&self) -> Look {
        match self.color {
            ColorChoice::Auto => anstream::ColorChoice::Auto,
            ColorChoice::Always => anstream::ColorChoice::Always,
            ColorChoice::Never => anstream::ColorChoice::Never,
        }
        .write_global();
        let color =
            anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
        let width = terminal_size::terminal_size_of(std::io::stdout())
            .map_or(Look::default().width, |(terminal_size::Width(columns), _)| columns.into());
        Look { width, ascii: self.ascii, color }
    }
}

#[derive(Subcommand)]
enum Command {
    /// Run programs on two machines and show each operation's result and the first divergence
    #[command(after_help = "Examples:
  vmadiff replay bug.txt
  vmadiff replay crash-0123 --left candidate:original --right candidate:v2")]
    Replay {
        /// Corpus files, crash artifacts or text programs
        #[arg(required = true)]
        files: Vec<PathBuf>,
        #[command(flatten)]
        machines: Machines,
    },
    /// Replay a golden file on a machine and count where they agree
    #[command(after_help = "Example:
  vmadiff conform corpus/golden/extended-v2.jsonl.gz --machine candidate:v2

The last line counts programs and steps: those that agree, the first of each program that
differs, those that the machine's kernel does not survive (bug), and what is skipped after either.")]
    Conform {
        /// A golden file, compressed or not
        file: PathBuf,
        /// The machine: reference, candidate:REVISION, or candidate:fixed+FAULT
        #[arg(long, default_value = "reference")]
        machine: MachineName,
    },
    /// Convert a program between the text form and the corpus format
    #[command(after_help = "Examples:
  vmadiff fmt crash-0123
  vmadiff fmt bug.txt --to corpus -o bug.vmad")]
    Fmt {
        /// A corpus file or a text program
        file: PathBuf,
        /// The form to write
        #[arg(long, value_enum, default_value_t = To::Text)]
        to: To,
        /// Where to write it, instead of standard output
        #[arg(short, long)]
        output: Option<PathBuf>,
        /// Overwrite what exists
        #[arg(long)]
        force: bool,
    },
    /// Shrink a divergence to the fewest and simplest operations with the same signature
    #[command(after_help = "Example:
  vmadiff minimize crash-0123 -o small.txt --to text")]
    Minimize {
        /// A corpus file, a crash artifact or a text program
        file: PathBuf,
        /// Where to write the result
        #[arg(short, long)]
        output: PathBuf,
        /// The form to write; by default that of the file
        #[arg(long, value_enum)]
        to: Option<To>,
        /// Overwrite what exists
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        machines: Machines,
    },
    /// Group programs by the signature of their divergence and minimize one of each
    #[command(after_help = "Examples:
  vmadiff triage fuzz/artifacts/cross_mm --out findings
  vmadiff triage findings --known corpus/known.txt --json
  vmadiff triage findings --sarif findings.sarif")]
    Triage {
        /// Files, or folders of files
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Write the minimized program of each signature there, as corpus file and as text
        #[arg(long, value_name = "FOLDER")]
        out: Option<PathBuf>,
        /// A list of known divergences: they are shown, but do not count as found
        #[arg(long, value_name = "FILE")]
        known: Option<PathBuf>,
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
        /// Write the JSON to a file as well
        #[arg(long, value_name = "FILE")]
        json_file: Option<PathBuf>,
        /// Write SARIF 2.1.0, for code scanning, to a file as well
        #[arg(long, value_name = "FILE")]
        sarif: Option<PathBuf>,
        /// Overwrite what exists
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        machines: Machines,
    },
    /// Write a page that shows divergences step by step, in one file of HTML
    #[command(after_help = "Examples:
  vmadiff report fuzz/findings/cross_mm-v2 -o report.html
  vmadiff report --as-is corpus/seeds/bug-a.txt corpus/seeds/bug-c.txt -o bugs.html

The page asks for nothing else, so it can be mailed, and works without its script.")]
    Report {
        /// Files, or folders of files
        #[arg(required = true)]
        paths: Vec<PathBuf>,
        /// Where to write it
        #[arg(short, long)]
        output: PathBuf,
        /// Show each program as it is, instead of the minimized one of each signature
        #[arg(long)]
        as_is: bool,
        /// A list of known divergences: they are shown, but do not count as found
        #[arg(long, value_name = "FILE")]
        known: Option<PathBuf>,
        /// Overwrite what exists
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        machines: Machines,
    },
    /// Run random programs, without feedback, and triage what diverges
    #[command(after_help = "Example:
  vmadiff random --operations 100000000 --right candidate:fixed

For finding bugs, ci/fuzz is faster: it has feedback and all cores. This is a soak test, the same
for the same seed on every machine.")]
    Random {
        /// Stop after so many operations
        #[arg(long, default_value_t = 10_000_000)]
        operations: u64,
        /// Which programs: the same seed makes the same ones
        #[arg(long, default_value_t = 0)]
        seed: u64,
        /// Leave out copies between address spaces
        #[arg(long)]
        no_copies: bool,
        #[command(flatten)]
        machines: Machines,
    },
    /// Run programs by real system calls on the running kernel, beside the reference
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    #[command(after_help = "Examples:
  vmadiff kernel corpus/seeds/merge-1-mmap.txt
  vmadiff kernel --random 1000 --seed 1
  vmadiff kernel --probe

Copies between address spaces exist in no kernel: programs are run up to the first.")]
    Kernel(commands::kernel::KernelArgs),
    /// List the faults that candidate:fixed can be given, to measure what finds them
    #[command(after_help = "Examples:
  vmadiff faults
  vmadiff replay corpus/faults/mask-no-locked.txt --fault mask-no-locked
  vmadiff random --right candidate:fixed+mask-no-locked

Each has a short program in corpus/faults that shows it.")]
    Faults {
        /// Print JSON instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Write a program for a running kernel: as C, or for syzkaller
    #[command(after_help = "Examples:
  vmadiff export --c corpus/seeds/bug-a.txt -o bug-a.c
  cc -Wall -Wextra -o bug-a bug-a.c && ./bug-a
  vmadiff export --syz corpus/seeds/bug-a.txt

The C needs nothing but a kernel. It prints each operation with its result, stops at the first that
is not as the reference has it, and exits with 0 where the kernel agrees, 1 where it differs and 77
where it cannot run the program to its end. What syzkaller cannot express is a comment there, and
counted.")]
    #[command(group = ArgGroup::new("form").required(true))]
    Export {
        /// A corpus file or a text program
        file: PathBuf,
        /// One self-contained C program
        #[arg(long, group = "form")]
        c: bool,
        /// A program of syzkaller, in its text form
        #[arg(long, group = "form")]
        syz: bool,
        /// Where to write it, instead of standard output
        #[arg(short, long)]
        output: Option<PathBuf>,
        /// Overwrite what exists
        #[arg(long)]
        force: bool,
    },
    /// Make programs of what real programs did: of a log of `strace -f`
    #[command(after_help = "Example:
  strace -f -y -o python.log \\
    -e trace=memory,process,openat,memfd_create python3 -c 'import json'
  vmadiff import-strace python.log --out corpus/real --touch --origin 'python3 -c \"import json\"'

Writes FOLDER/NAME-N.txt, each a program that stands alone. Calls that are of no use, failed, or not
understood are counted on standard error.")]
    ImportStrace {
        /// What strace wrote
        log: PathBuf,
        /// The folder to write the programs to
        #[arg(long, value_name = "FOLDER")]
        out: PathBuf,
        /// What the programs are called; by default as the log
        #[arg(long)]
        name: Option<String>,
        /// What was traced, for the comment at the top of each program
        #[arg(long, value_name = "TEXT")]
        origin: Option<String>,
        /// Have private writable memory written when it is mapped: no log has plain accesses
        #[arg(long)]
        touch: bool,
        /// The most operations of a program
        #[arg(long, value_name = "N", default_value_t = MAX_OPS as u8,
              value_parser = value_parser!(u8).range(4..=MAX_OPS as i64))]
        operations: u8,
        /// The most programs; what is left over is counted
        #[arg(long, value_name = "N", default_value_t = 1000)]
        most: usize,
        /// Overwrite what exists
        #[arg(long)]
        force: bool,
    },
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// The two machines that run in lockstep.
#[derive(Args)]
struct Machines {
    /// The machine that is taken to be right: reference, candidate:REVISION, or
    /// candidate:fixed+FAULT
    #[arg(long, value_name = "MACHINE", default_value = "reference")]
    left: MachineName,
    /// The machine that is judged by it
    #[arg(long, value_name = "MACHINE", default_value = "candidate:v2")]
    right: MachineName,
    /// Judge candidate:fixed with this fault, of those that `vmadiff faults` lists
    #[arg(long, value_name = "NAME", conflicts_with = "right")]
    fault: Option<Fault>,
}

impl Machines {
    fn lockstep(&self) -> Lockstep<Box<dyn Machine>, Box<dyn Machine>> {
        let right = self.fault.map_or(self.right, MachineName::Faulty);
        Lockstep::new(self.left.build(), right.build())
    }
}

/// The form to write a program in.
#[derive(Clone, Copy, clap::ValueEnum)]
enum To {
    Text,
    Corpus,
}

impl From<To> for Format {
    fn from(to: To) -> Format {
        match to {
            To::Text => Format::Text,
            To::Corpus => Format::Corpus,
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let look = cli.look();
    match run(cli.command, look) {
        Ok(found) => ExitCode::from(u8::from(found)),
        // Whoever reads the output had enough of it.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("vmadiff: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
    kind == Some(std::io::ErrorKind::BrokenPipe)
}

/// Runs a command and says whether it found something.
fn run(command: Command, look: Look) -> anyhow::Result<bool> {
    match command {
        Command::Replay { files, machines } => commands::replay(&files, machines.lockstep(), look),
        Command::Conform { file, machine } => commands::conform(&file, machine, look),
        Command::Fmt { file, to, output, force } => {
            commands::fmt(&file, to.into(), output.as_deref(), force)
        }
        Command::Minimize { file, output, to, force, machines } => {
            commands::minimize(&file, &output, to.map(Format::from), force, machines.lockstep())
        }
        Command::Triage { paths, out, known, json, json_file, sarif, force, machines } => {
            let known = commands::known(known.as_deref())?;
            let kept = commands::Kept {
                programs: out.as_deref(),
                json: json_file.as_deref(),
                sarif: sarif.as_deref(),
                force,
            };
            commands::triage(&paths, kept, &known, json, machines.lockstep(), look)
        }
        Command::Report { paths, output, as_is, known, force, machines } => {
            let known = commands::known(known.as_deref())?;
            let report = commands::Report { output: &output, force, as_is, known: &known };
            commands::report(&paths, report, machines.lockstep())
        }
        Command::Random { operations, seed, no_copies, machines } => {
            commands::random(operations, seed, no_copies, machines.lockstep(), look)
        }
        Command::Export { file, c, syz: _, output, force } => {
            commands::export(&file, c, output.as_deref(), force)
        }
        Command::ImportStrace { log, out, name, origin, touch, operations, most, force } => {
            let options = Options { touch, operations: operations.into() };
            let title = (name.as_deref(), origin.as_deref());
            commands::import_strace(&log, &out, title, options, most, force)
        }
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        Command::Kernel(args) => commands::kernel::kernel(&args, look),
        Command::Faults { json } => commands::faults(json),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "vmadiff", &mut std::io::stdout());
            Ok(false)
        }
    }
}
