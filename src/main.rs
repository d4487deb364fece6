//! The command line of vmadiff.
//!
//! Exit status: 0 nothing found, 1 a divergence found, 2 bad use or bad input.

mod commands;

use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory as _, Parser, Subcommand};
use clap_complete::Shell;
use vmadiff::machines::LIBRARY_WORKER;
use vmadiff::text::Look;

vmadiff_library::ignore_coverage!();

const EXAMPLES: &str = "\
Examples:
  vmadiff replay corpus/seeds/bug-a.txt
  vmadiff replay fuzz/artifacts/cross_mm/crash-* --right candidate:rfc
  vmadiff minimize crash-0123 -o small.txt --to text
  vmadiff triage fuzz/artifacts --out findings
  vmadiff conform corpus/golden/original.jsonl.gz --machine candidate:fixed

Exit status: 0 nothing found, 1 a divergence found, 2 bad use or bad input.";

/// Differential fuzzing of the kernel's copy_vma(): runs two models in lockstep and reports the
/// first difference
#[derive(Parser)]
#[command(version, about, after_help = EXAMPLES)]
struct Cli {
    /// Use colours; the environment variable NO_COLOR turns them off as well
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    color: ColorChoice,
    /// Draw with ASCII characters only
    #[arg(long, global = true)]
    ascii: bool,
    #[command(subcommand)]
    command: Command,
}

impl Cli {
    /// Returns the look of standard output.
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
    Replay(commands::replay::Args),
    Conform(commands::conform::Args),
    Fmt(commands::fmt::Args),
    Minimize(commands::minimize::Args),
    Triage(commands::triage::Args),
    Report(commands::report::Args),
    Random(commands::random::Args),
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    Kernel(commands::kernel::Args),
    Faults(commands::faults::Args),
    Export(commands::export::Args),
    ImportStrace(commands::import_strace::Args),
    #[command(name = LIBRARY_WORKER, hide = true)]
    LibraryWorker(commands::library_worker::Args),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: Shell,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let look = cli.look();
    match run(cli.command, look) {
        Ok(found) => ExitCode::from(u8::from(found)),
        // The reader of the output has closed the pipe, which is no error.
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

/// Runs a command and returns whether it found something.
fn run(command: Command, look: Look) -> anyhow::Result<bool> {
    match command {
        Command::Replay(args) => commands::replay::run(&args, look),
        Command::Conform(args) => commands::conform::run(&args, look),
        Command::Fmt(args) => commands::fmt::run(&args),
        Command::Minimize(args) => commands::minimize::run(&args),
        Command::Triage(args) => commands::triage::run(&args, look),
        Command::Report(args) => commands::report::run(&args),
        Command::Random(args) => commands::random::run(&args, look),
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        Command::Kernel(args) => commands::kernel::run(&args, look),
        Command::Faults(args) => commands::faults::run(&args),
        Command::Export(args) => commands::export::run(&args),
        Command::ImportStrace(args) => commands::import_strace::run(&args),
        Command::LibraryWorker(args) => commands::library_worker::run(&args),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "vmadiff", &mut std::io::stdout());
            Ok(false)
        }
    }
}
