//! The commands of `ci/`: `ci/NAME` is `cargo xtask NAME`.
//!
//! Each command is a module with an `Args`, whose documentation is the command's help, and a `run`.
//! The models and the harness are not linked: the commands run them as a person would.

mod bench_engine;
mod corpus;
mod coverage;
mod fuzz;
mod kernel;
mod oss_fuzz;
mod project;
mod scratch;
mod shell;
mod soak;
mod targets;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The commands of ci/: fuzzing, kernels in an emulator, coverage, the corpus
///
/// ci/NAME runs the command NAME. Paths are relative to the current folder.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Xtask {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    BenchEngine(bench_engine::Args),
    Corpus(corpus::Args),
    Coverage(coverage::Args),
    Fuzz(fuzz::Args),
    Kernel(kernel::Args),
    OssFuzz(oss_fuzz::Args),
    Soak(soak::Args),
    Target(targets::Args),
}

/// The result of a command that ran to its end. Bad use and a failed build are errors, status 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Status {
    /// Nothing was found.
    #[default]
    Clean,
    /// A part was skipped, nothing was found in the rest.
    Skipped,
    /// A divergence, or anything else that the command looks for, was found.
    Found,
}

impl Status {
    fn code(self) -> u8 {
        match self {
            Status::Clean => 0,
            Status::Found => 1,
            Status::Skipped => 3,
        }
    }
}

fn main() -> ExitCode {
    let (name, result) = run(Xtask::parse().command);
    match result {
        Ok(status) => ExitCode::from(status.code()),
        Err(error) => {
            eprintln!("{name}: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Runs a command and returns the name that its errors begin with.
fn run(command: Command) -> (&'static str, Result<Status>) {
    if let Err(error) = scratch::clean_on_signals() {
        return ("cargo xtask", Err(error));
    }
    match command {
        Command::BenchEngine(args) => ("ci/bench-engine", bench_engine::run(&args)),
        Command::Corpus(args) => ("ci/corpus", corpus::run(args)),
        Command::Coverage(args) => ("ci/coverage", coverage::run(&args)),
        Command::Fuzz(args) => ("ci/fuzz", fuzz::run(args)),
        Command::Kernel(args) => ("ci/kernel", kernel::run(args)),
        Command::OssFuzz(args) => ("ci/oss-fuzz/check", oss_fuzz::run(&args)),
        Command::Soak(args) => ("ci/soak", soak::run(&args)),
        Command::Target(args) => ("cargo xtask target", targets::run(&args)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        use clap::CommandFactory;
        Xtask::command().debug_assert();
    }

    #[test]
    fn a_finding_outweighs_a_skipped_part() {
        assert_eq!(Status::Skipped.max(Status::Found).code(), 1);
        assert_eq!(Status::Clean.max(Status::Skipped).code(), 3);
        assert_eq!(Status::Clean.code(), 0);
    }
}
