//! `vmadiff minimize`: shrinks a program to the fewest and simplest operations.

use std::path::PathBuf;

use anyhow::bail;
use vmadiff::input::Format;

use super::files::{To, check, load, name, output_name, sum_up, write};
use super::machines::{Machines, sides};
use crate::status::Status;

/// Shrink a divergence to the fewest and simplest operations with the same signature
#[derive(clap::Args)]
#[command(after_help = "Example:
  vmadiff minimize crash-0123 -o small.txt --to text")]
pub(crate) struct Args {
    /// A corpus file, a crash artifact or a text program; - is standard input
    file: PathBuf,
    /// The file to write; - is standard output
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

/// Runs the command.
pub(crate) fn run(Args { file, output, to, force, machines }: &Args) -> anyhow::Result<Status> {
    check(output, *force)?;
    let mut lockstep = machines.lockstep();
    let loaded = load(file)?;
    let program = &loaded.program;
    let Some((small, divergence)) = vmadiff::minimize::minimize(program, |p| lockstep.run(p))
    else {
        let sides = sides(&lockstep);
        bail!("{}: nothing to minimize: no divergence {sides}", name(file));
    };
    write(output, &to.map_or(loaded.format, Format::from).encode(&small), *force)?;
    let (few, all) = (small.ops.len(), program.ops.len());
    let line =
        format!("{}: {few} of {all} operations, {}", output_name(output), divergence.signature);
    sum_up(output, &line)?;
    Ok(Status::cut(loaded.is_cut))
}
