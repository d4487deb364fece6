//! The command line of vmadiff.
//!
//! The exit status is that of the table in `status`. Standard output is written by `out` alone.

#![warn(clippy::print_stdout, clippy::print_stderr)]

mod commands;
mod interrupt;
mod out;
mod status;

use std::io::Write as _;
use std::process::ExitCode;

use clap::builder::StyledStr;
use clap::{ColorChoice, Parser, Subcommand};
use vmadiff::machines::LIBRARY_WORKER;
use vmadiff::text::Look;

use status::Status;

vmadiff_library::ignore_coverage!();

const EXAMPLES: &str = "\
Examples:
  vmadiff replay corpus/seeds/bug-a.txt
  vmadiff replay fuzz/artifacts/cross_mm/crash-* --right candidate:rfc
  vmadiff minimize crash-0123 -o small.txt --to text
  vmadiff triage fuzz/artifacts --out findings
  vmadiff conform corpus/golden/original.jsonl.gz --machine candidate:fixed

In place of a file, - is standard input or standard output.";

/// Differential fuzzing of the kernel's copy_vma(): runs two models in lockstep and reports the
/// first difference
#[derive(Parser)]
#[command(version, about, after_help = format!("{EXAMPLES}\n\n{}", status::TABLE))]
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
    Exhaust(commands::exhaust::Args),
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    Kernel(commands::kernel::Args),
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    #[command(hide = true)]
    CheckKernel(commands::check_kernel::Args),
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    #[command(hide = true)]
    ShowKernel(commands::show_kernel::Args),
    Faults(commands::faults::Args),
    Export(commands::export::Args),
    ImportStrace(commands::import_strace::Args),
    ImportSyz(commands::import_syz::Args),
    #[command(name = LIBRARY_WORKER, hide = true)]
    LibraryWorker(commands::library_worker::Args),
    Completions(commands::shells::Completions),
    Man(commands::shells::Manual),
    Install(commands::shells::Install),
}

fn main() -> ExitCode {
    let ended = match Cli::try_parse() {
        Ok(cli) => {
            let look = cli.look();
            run(cli.command, look)
        }
        // Help and version are output like any other.
        Err(error) if !error.use_stderr() => print(&error.render()),
        Err(error) => error.exit(),
    };
    // The last bytes count, too: a full disk can show only now.
    match ended.and_then(|status| Ok(out::stdout().flush().map(|()| status)?)) {
        Ok(status) => status.into(),
        Err(error) => {
            out::note(format!("{error:#}"));
            ExitCode::from(2)
        }
    }
}

/// Prints a text of clap.
fn print(text: &StyledStr) -> anyhow::Result<Status> {
    match anstream::AutoStream::choice(&std::io::stdout()) {
        anstream::ColorChoice::Never => write!(out::stdout(), "{text}")?,
        _ => write!(out::stdout(), "{}", text.ansi())?,
    }
    Ok(Status::Clean)
}

/// Runs a command.
fn run(command: Command, look: Look) -> anyhow::Result<Status> {
    match command {
        Command::Replay(args) => commands::replay::run(&args, look),
        Command::Conform(args) => commands::conform::run(&args, look),
        Command::Fmt(args) => commands::fmt::run(&args),
        Command::Minimize(args) => commands::minimize::run(&args),
        Command::Triage(args) => commands::triage::run(&args, look),
        Command::Report(args) => commands::report::run(&args),
        Command::Random(args) => commands::random::run(&args, look),
        Command::Exhaust(args) => commands::exhaust::run(&args, look),
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        Command::Kernel(args) => commands::kernel::run(&args, look),
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        Command::CheckKernel(args) => commands::check_kernel::run(&args),
        #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
        Command::ShowKernel(args) => commands::show_kernel::run(&args),
        Command::Faults(args) => commands::faults::run(&args),
        Command::Export(args) => commands::export::run(&args),
        Command::ImportStrace(args) => commands::import_strace::run(&args),
        Command::ImportSyz(args) => commands::import_syz::run(&args),
        Command::LibraryWorker(args) => commands::library_worker::run(&args),
        Command::Completions(args) => args.run(),
        Command::Man(args) => args.run(),
        Command::Install(args) => args.run(),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    /// The text after the options has commands to copy, which clap would break in a narrow place.
    #[test]
    fn a_line_after_the_options_of_a_command_has_at_most_100_columns() {
        let mut lines = 0;
        for command in super::Cli::command().get_subcommands() {
            let text = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            for line in text.lines() {
                assert!(line.chars().count() <= 100, "{}: {line}", command.get_name());
                lines += 1;
            }
        }
        assert!(lines > 30, "{lines} lines");
    }
}
