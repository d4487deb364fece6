//! `vmadiff minimize`: shrinks a program to the fewest and simplest operations.

use std::io::{Write as _, stdout};
use std::path::PathBuf;

use anyhow::bail;
use vmadiff::input::Format;

use super::files::{To, load, write};
use super::machines::{Machines, sides};

/// Shrink a divergence to the fewest and simplest operations with the same signature
#[derive(clap::Args)]
#[command(after_help = "Example:
  vmadiff minimize crash-0123 -o small.txt --to text")]
pub(crate) struct Args {
    /// A corpus file, a crash artifact or a text program
    file: PathBuf,
    /// The file to write
    #[arg(short, long)]
    output: PathBuf,
    /// The form to write; by default the form of the input file
    #[arg(long, value_enum)]
    to: Option<To>,
    /// Overwrite existing files
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    machines: Machines,
}

/// Runs the command; returns whether it found something.
pub(crate) fn run(Args { file, output, to, force, machines }: &Args) -> anyhow::Result<bool> {
    let mut lockstep = machines.lockstep();
    let (program, format) = load(file)?;
    let Some((small, divergence)) = vmadiff::minimize::minimize(&program, |p| lockstep.run(p))
    else {
        let sides = sides(&lockstep);
        bail!("{}: nothing to minimize: no divergence {sides}", file.display());
    };
    write(output, &to.map_or(format, Format::from).encode(&small), *force)?;
    writeln!(
        stdout(),
        "{}: {} of {} operations, {}",
        output.display(),
        small.ops.len(),
        program.ops.len(),
        divergence.signature
    )?;
    Ok(true)
}
