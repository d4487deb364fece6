//! Building and starting the fuzz targets.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Subcommand, ValueEnum};
use duct::{Expression, cmd};

use crate::{Status, project, shell};

/// A fuzz target of fuzz/fuzz_targets
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Target {
    /// Every operation, on several processes
    CrossMm,
    /// No copies between address spaces
    SameMm,
    /// The text form and the corpus format
    Codec,
    /// The operations of `cross_mm`, with mutated bytes instead of mutated programs
    CrossMmBytes,
    /// Does nothing
    Empty,
    /// Mutates programs and does not run them
    Mutator,
}

/// The targets that look for faults. The other targets are baselines for measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub(crate) enum Main {
    /// Every operation, on several processes
    CrossMm,
    /// No copies between address spaces
    SameMm,
    /// The text form and the corpus format
    Codec,
}

impl From<Main> for Target {
    fn from(main: Main) -> Target {
        match main {
            Main::CrossMm => Target::CrossMm,
            Main::SameMm => Target::SameMm,
            Main::Codec => Target::Codec,
        }
    }
}

impl Target {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Target::CrossMm => "cross_mm",
            Target::SameMm => "same_mm",
            Target::Codec => "codec",
            Target::CrossMmBytes => "cross_mm_bytes",
            Target::Empty => "empty",
            Target::Mutator => "mutator",
        }
    }

    /// Returns whether the target uses the mutator of programs.
    fn mutates_programs(self) -> bool {
        matches!(self, Target::CrossMm | Target::SameMm | Target::Mutator)
    }

    /// Returns the folder in which cargo builds the target. There are two, because cargo does not
    /// notice that the two kinds of targets are built with different flags.
    fn folder(self, root: &Path) -> PathBuf {
        let folder = root.join("fuzz/target");
        if self.mutates_programs() { folder.join("models") } else { folder }
    }

    /// Builds the target and returns its binary.
    ///
    /// For a target that mutates programs, tracing of comparisons is off, because it would halve
    /// the speed for no gain, and edges are counted in the candidate only (`ci/instrument`). The
    /// sanitizer is off (`-s none`), because the models are safe Rust and sanitizers need a nightly
    /// toolchain.
    pub(crate) fn build(self, root: &Path) -> Result<PathBuf> {
        install("cargo-fuzz")?;
        let folder = self.folder(root);
        let mut arguments = vec!["fuzz", "build", "-s", "none"];
        if self.mutates_programs() {
            arguments.push("--no-trace-compares");
        }
        let mut build = cmd("cargo", arguments_with(&arguments, &folder, self.name())).dir(root);
        if self.mutates_programs() {
            build = build.env("RUSTC_WRAPPER", root.join("ci/instrument"));
        }
        build.run().with_context(|| format!("{} does not build", self.name()))?;
        Ok(folder.join(shell::rustc("host")?).join("release").join(self.name()))
    }

    /// Returns libFuzzer's flags for the target.
    pub(crate) fn flags(self, root: &Path) -> Result<Vec<String>> {
        flags_of(&root.join(format!("fuzz/options/{}.options", self.name())))
    }
}

fn arguments_with(arguments: &[&str], folder: &Path, target: &str) -> Vec<OsString> {
    let mut all: Vec<OsString> = arguments.iter().map(Into::into).collect();
    all.extend(["--target-dir".into(), folder.into(), target.into()]);
    all
}

/// The settings of a fuzz target, which are environment variables.
pub(crate) const SETTINGS: [&str; 5] =
    ["VMADIFF_REVISION", "VMADIFF_CANDIDATE", "VMADIFF_FAULT", "VMADIFF_KNOWN", "VMADIFF_FINDINGS"];

/// Returns a command that starts a target at the revision `fixed`, with no other setting.
pub(crate) fn at_fixed(command: Expression) -> Expression {
    with_settings(command, &[("VMADIFF_REVISION", OsStr::new("fixed"))])
}

/// Returns a command that starts a target with these settings, and with no other of this process's environment.
pub(crate) fn with_settings(command: Expression, settings: &[(&str, &OsStr)]) -> Expression {
    SETTINGS.into_iter().fold(command, |command, name| {
        match settings.iter().find(|(set, _)| *set == name) {
            Some((_, value)) => command.env(name, value),
            None => command.env_remove(name),
        }
    })
}

/// Installs a command of cargo, such as `cargo-fuzz`, if it is missing.
pub(crate) fn install(program: &str) -> Result<()> {
    if shell::find(program).is_none() {
        cmd!("cargo", "install", "--locked", "--debug", program)
            .run()
            .with_context(|| format!("{program} cannot be installed"))?;
    }
    Ok(())
}

/// Returns libFuzzer's flags in an options file. OSS-Fuzz reads the same file.
pub(crate) fn flags_of(file: &Path) -> Result<Vec<String>> {
    let text = fs::read_to_string(file).with_context(|| file.display().to_string())?;
    Ok(parse_options(&text))
}

/// Reads the lines `name = value`; comments and the head `[libfuzzer]` are skipped.
fn parse_options(text: &str) -> Vec<String> {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.split_once('=')?;
            let (name, value) = (name.trim_end(), value.trim());
            let is_name = |c: char| c.is_ascii_lowercase() || c == '_';
            (!name.is_empty() && name.chars().all(is_name)).then(|| format!("-{name}={value}"))
        })
        .collect()
}

/// Build a fuzz target, or print the data that another program needs to start it
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build targets and print the paths of their binaries, one per line
    Build {
        #[arg(required = true, value_name = "TARGET")]
        targets: Vec<Target>,
    },
    /// Print libFuzzer's flags for a target, one per line
    Flags {
        #[arg(value_name = "TARGET")]
        target: Target,
    },
}

/// Runs `cargo xtask target`.
pub(crate) fn run(args: &Args) -> Result<Status> {
    let root = project::enter()?;
    match &args.command {
        Command::Build { targets } => {
            for target in targets {
                println!("{}", target.build(&root)?.display());
            }
        }
        Command::Flags { target } => {
            for flag in target.flags(&root)? {
                println!("{flag}");
            }
        }
    }
    Ok(Status::Clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_the_settings_that_are_given_and_no_others() -> Result<()> {
        let shell = cmd!("sh", "-c", "env | grep ^VMADIFF_ | sort");
        let settings = [("VMADIFF_REVISION", "fixed"), ("VMADIFF_KNOWN", "")];
        let settings = settings.map(|(name, value)| (name, OsStr::new(value)));
        // An expression of duct passes on what is outside of it.
        let outside = with_settings(shell, &settings).env("VMADIFF_FAULT", "x");
        assert_eq!(outside.read()?, "VMADIFF_KNOWN=\nVMADIFF_REVISION=fixed");
        Ok(())
    }

    #[test]
    fn options_are_flags_of_libfuzzer() {
        let text = "# a = comment\n[libfuzzer]\nlen_control = 0\nmax_len=600 \n\nNot a flag = 1\n";
        assert_eq!(parse_options(text), ["-len_control=0", "-max_len=600"]);
    }

    #[test]
    fn targets_that_mutate_programs_are_built_apart() {
        let root = Path::new("/project");
        assert_eq!(Target::Codec.folder(root), Path::new("/project/fuzz/target"));
        assert_eq!(Target::SameMm.folder(root), Path::new("/project/fuzz/target/models"));
    }

    #[test]
    fn every_target_is_called_as_its_file_is() -> Result<()> {
        let root = project::root()?;
        for target in Target::value_variants() {
            let file = root.join(format!("fuzz/fuzz_targets/{}.rs", target.name()));
            assert!(file.is_file(), "{}", file.display());
            let value = target.to_possible_value().map(|value| value.get_name().to_owned());
            assert_eq!(value.as_deref(), Some(target.name()));
        }
        Ok(())
    }
}
