//! `ci/faults`: lists, builds, checks, measures and renews the seeded faults; checks and renews the
//! faults of the oracle.

mod apply;
mod bench;
mod build;
mod check;
mod oracle;
mod plot;
mod renew;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use duct::cmd;
use vmadiff_faults::{Fault, Faults, Flavour};

use crate::{Status, project};

/// List, build, check, measure or renew the seeded faults
///
/// A seeded fault is a patch of the candidate, candidate/faults/NAME.patch. The short program
/// corpus/faults/NAME.txt shows it.
///
/// Exit status: 0 all is well, 1 a fault does not match the head of its patch, 2 bad use or a
/// failed build.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Print name, tier, class, kernel function and mistake of each fault
    List,
    /// Build the patched candidate as a library, for `vmadiff replay --fault NAME`
    ///
    /// The libraries are target/faults/plain/NAME.so. Only libraries that are out of date are
    /// built.
    Build {
        /// Build for fuzz targets (VMADIFF_FAULT), with coverage of the library
        #[arg(long, conflicts_with = "release")]
        fuzz: bool,
        /// Build with optimization, in target/faults/release
        #[arg(long)]
        release: bool,
        /// Build every fault
        #[arg(long)]
        all: bool,
        #[arg(value_name = "NAME", required_unless_present = "all")]
        names: Vec<String>,
    },
    /// Check that each patch applies and builds, and that its program shows its class
    Check(check::Args),
    /// Check that the tests notice each patch that weakens the reference or the harness
    ///
    /// A fault of the oracle is faults/oracle/NAME.patch. Its head names the test that has to fail.
    Oracle(oracle::Args),
    /// Measure how long fuzzing takes to find each fault; write docs/faults.txt and docs/faults.svg
    Bench(bench::Args),
    /// Adapt patches that no longer apply to the present sources
    ///
    /// NAME is a seeded fault or a fault of the oracle. A patch that conflicts with the sources is
    /// left in target/faults/renew/NAME with conflict markers. Resolve the conflicts, then run the
    /// command again with --continue.
    Renew {
        /// Use the files in target/faults/renew/NAME, whose conflicts are resolved
        #[arg(long)]
        r#continue: bool,
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
    },
}

/// Runs `ci/faults`.
pub(crate) fn run(args: &Args) -> Result<Status> {
    let root = project::enter()?;
    let faults = Faults::of(root.clone());
    match &args.command {
        Command::List => {
            let vmadiff = project::build_vmadiff(&root)?;
            cmd!(vmadiff, "faults").run()?;
            Ok(Status::Clean)
        }
        Command::Build { fuzz, release, all, names } => {
            let flavour = match (fuzz, release) {
                (true, _) => Flavour::Fuzz,
                (_, true) => Flavour::Release,
                _ => Flavour::Plain,
            };
            let chosen = if *all { faults.all()? } else { named(&faults, names)? };
            build::build(&root, &faults, flavour, &chosen)
        }
        Command::Check(args) => check::run(args, &root, &faults),
        Command::Oracle(args) => oracle::run(args, &root, &faults),
        Command::Bench(args) => bench::run(args, &root, &faults),
        Command::Renew { r#continue, names } => {
            let mut status = Status::Clean;
            for name in names {
                status = status.max(renew::renew(&root, &faults, name, *r#continue)?);
            }
            Ok(status)
        }
    }
}

/// Builds a fault for fuzz targets, and returns the library.
pub(crate) fn fuzz_library(root: &Path, name: &str) -> Result<PathBuf> {
    let faults = Faults::of(root.to_owned());
    build::Builder::new(root, &faults, Flavour::Fuzz)?.build(name).context(name.to_owned())?;
    Ok(faults.library(name, Flavour::Fuzz)?)
}

/// Returns the faults with these names.
fn named(faults: &Faults, names: &[String]) -> Result<Vec<Fault>> {
    names.iter().map(|name| Ok(faults.named(name)?)).collect()
}

/// Prints the failures and returns the status.
fn report(checked: usize, failures: &[(&str, String)]) -> Result<Status> {
    if checked == 0 {
        bail!("no fault is chosen");
    }
    for (name, failure) in failures {
        println!("FAILED: {name}: {failure}");
    }
    Ok(if failures.is_empty() { Status::Clean } else { Status::Found })
}
