//! The commands of `ci/`: `ci/NAME` runs `cargo xtask NAME`.
//!
//! Each command is a module with an `Args`, whose documentation is the command's help, and a
//! function `run`. The commands run the built programs as a user would.

mod bench_engine;
mod corpus;
mod coverage;
mod faults;
mod fuzz;
mod guest;
mod kernel;
mod linux;
mod oss_fuzz;
mod project;
mod scratch;
mod shell;
mod soak;
mod targets;
mod tree;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The commands of ci/: fuzzing, kernels in an emulator, coverage, the corpus, seeded faults
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
    Faults(faults::Args),
    Fuzz(fuzz::Args),
    Kernel(kernel::Args),
    Linux(linux::Args),
    OssFuzz(oss_fuzz::Args),
    Soak(soak::Args),
    Target(targets::Args),
    Tree(tree::Args),
}

/// The result of a command that ran to its end. Bad use and a failed build are errors: status 2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Status {
    /// Nothing was found.
    #[default]
    Clean,
    /// A part was skipped, and nothing was found in the rest.
    Skipped,
    /// The command found a divergence, or another fault that it looks for.
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

/// Runs a command. Returns its result with the name that its errors begin with.
fn run(command: Command) -> (&'static str, Result<Status>) {
    if let Err(error) = scratch::clean_on_signals() {
        return ("cargo xtask", Err(error));
    }
    match command {
        Command::BenchEngine(args) => ("ci/bench-engine", bench_engine::run(&args)),
        Command::Corpus(args) => ("ci/corpus", corpus::run(args)),
        Command::Coverage(args) => ("ci/coverage", coverage::run(&args)),
        Command::Faults(args) => ("ci/faults", faults::run(&args)),
        Command::Fuzz(args) => ("ci/fuzz", fuzz::run(args)),
        Command::Kernel(args) => ("ci/kernel", kernel::run(args)),
        Command::Linux(args) => ("ci/linux", linux::run(&args)),
        Command::OssFuzz(args) => ("ci/oss-fuzz/check", oss_fuzz::run(&args)),
        Command::Soak(args) => ("ci/soak", soak::run(&args)),
        Command::Target(args) => ("cargo xtask target", targets::run(&args)),
        Command::Tree(args) => ("ci/tree", tree::run(&args)),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Xtask::command().debug_assert();
    }

    #[test]
    fn every_entry_of_ci_names_a_command() -> Result<()> {
        let xtask = Xtask::command();
        let mut entries = 0;
        for script in project::files(&project::root()?.join("ci"), None)? {
            let Ok(text) = std::fs::read_to_string(&script) else { continue };
            let start = "xtask/Cargo.toml\" -- ";
            for (at, before) in text.match_indices(start) {
                let name = text[at + before.len()..].split(' ').next().unwrap_or_default();
                assert!(xtask.find_subcommand(name).is_some(), "{}: {name}", script.display());
                entries += 1;
            }
        }
        assert!(entries >= 10, "{entries} entries");
        Ok(())
    }

    #[test]
    fn bad_use_is_status_2_and_says_what_was_expected() {
        let cases = [
            ("", "Usage: cargo xtask <COMMAND>"),
            ("fuzz --seconds", "a value is required for '--seconds <N>'"),
            ("fuzz --seconds 0", "0 is not in 1..=9999999"),
            ("fuzz --seconds x", "invalid value 'x' for '--seconds <N>'"),
            ("fuzz --revision v3", "[possible values: original, rfc, v2, fixed]"),
            ("fuzz --candidate a.so --revision v2", "cannot be used with"),
            ("fuzz empty", "[possible values: cross_mm, same_mm, codec]"),
            ("fuzz --what", "unexpected argument '--what'"),
            ("kernel", "<VERSION>..."),
            ("kernel 5", "expected such as 5.10, or uml"),
            ("kernel 5.10 --programs 0", "0 is not in 1..=999999999"),
            ("kernel 5.10 --operations 65", "65 is not in 1..=64"),
            ("linux", "<SYSTEM>..."),
            ("linux bsd", "[possible values: qemu-user, gvisor]"),
            ("linux gvisor --expect 6", "expected such as 6.12"),
            ("tree", "--source <SOURCE>"),
            ("tree --source x --expect 6", "expected such as 6.12"),
            ("tree --source x --seconds 0", "0 is not in 1..=9999999"),
            ("tree --source x --kasan --lockdep", "cannot be used with"),
            ("tree --source x --process-vm-mmap -1", "unexpected argument"),
            ("soak --seconds 9", "9 is not in 10..=999999"),
            ("soak --revision v2", "[possible values: original, fixed]"),
            ("oss-fuzz --sanitizer memory", "[possible values: address, none]"),
            ("corpus", "Usage: cargo xtask corpus <COMMAND>"),
            ("corpus check cross_mm", "unexpected argument 'cross_mm'"),
            ("corpus grow --found x", "unexpected argument '--found'"),
            ("bench-engine --rounds 0", "0 is not in 1..=9999"),
            ("target build", "<TARGET>..."),
        ];
        for (line, expected) in cases {
            let words = ["cargo xtask"].into_iter().chain(line.split_whitespace());
            let error = Xtask::try_parse_from(words).err().expect(line);
            assert_eq!(error.exit_code(), 2, "{line}");
            assert!(error.to_string().contains(expected), "{line}: {error}");
        }
    }

    #[test]
    fn options_that_people_type_are_understood() {
        let lines = [
            "fuzz",
            "fuzz --seconds 3 --revision fixed --known x --corpus y --empty cross_mm same_mm codec",
            "fuzz cross_mm --candidate libmine.so",
            "kernel uml",
            "kernel 5.10 6.1 --programs 20 --operations 24 --seed 0",
            "linux qemu-user gvisor --programs 20 --expect 6.12 --all",
            "tree --source . --patch a.patch --patch b.cocci --kasan --seconds 60 --seed 1",
            "tree --source linux-source-6.12 --expect 6.12 --programs 9 --first",
            "tree --source . --process-vm-mmap 470",
            "soak --seconds 60 --revision original --corpus x",
            "coverage x y",
            "oss-fuzz --seconds 3 --sanitizer none",
            "corpus grow --seconds 5 codec",
            "corpus prune --found x --kept y cross_mm",
            "corpus check",
            "corpus stats",
            "bench-engine --seconds 1 --rounds 1",
            "target build cross_mm_bytes empty",
            "target flags cross_mm",
        ];
        for line in lines {
            let words = ["cargo xtask"].into_iter().chain(line.split_whitespace());
            assert!(Xtask::try_parse_from(words).is_ok(), "{line}");
        }
    }

    #[test]
    fn a_finding_outweighs_a_skipped_part() {
        assert_eq!(Status::Skipped.max(Status::Found).code(), 1);
        assert_eq!(Status::Clean.max(Status::Skipped).code(), 3);
        assert_eq!(Status::Clean.code(), 0);
    }
}
