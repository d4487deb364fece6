//! `vmadiff minimize`: shrinks a program to the fewest and simplest operations.

use std::path::PathBuf;

use anyhow::bail;
use vmadiff::divergence::Divergence;
use vmadiff::input::Format;
use vmadiff_machine::Program;

use super::files::{To, check, load, name, output_name, sum_up, write};
use super::machines::{Machines, sides};
use crate::status::Status;

/// Shrink a divergence to the fewest and simplest operations with the same signature
#[derive(clap::Args)]
#[command(after_help = "Examples:
  vmadiff minimize crash-0123 -o small.txt --to text
  vmadiff minimize crash-0123 -o small.txt --right lib:./libmachine.so
  vmadiff minimize long.txt -o small.txt --kernel --no-rules

With --kernel the program runs on the running kernel beside the reference, as `vmadiff kernel` runs
it.")]
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
    /// Compare the running kernel with the reference, which applies the rules that hold on the kernel
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    #[arg(long, conflicts_with_all = ["left", "right", "fault", "alone"])]
    kernel: bool,
    /// Assume that no rules hold: keep a difference from 5.2.1 that a rule explains
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    #[arg(long, requires = "kernel")]
    no_rules: bool,
    /// Run copies by this number of the system call process_vm_mmap, which the kernel has
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    #[arg(long, value_name = "NR", requires = "kernel")]
    process_vm_mmap: Option<u32>,
}

/// Runs the command.
pub(crate) fn run(args: &Args) -> anyhow::Result<Status> {
    let Args { file, output, to, force, .. } = args;
    check(output, *force)?;
    let loaded = load(file)?;
    let program = &loaded.program;
    let (small, sides) = minimize(args, program)?;
    let Some((small, divergence)) = small else {
        bail!("{}: nothing to minimize: no divergence {sides}", name(file));
    };
    write(output, &to.map_or(loaded.format, Format::from).encode(&small), *force)?;
    let (few, all) = (small.ops.len(), program.ops.len());
    let line =
        format!("{}: {few} of {all} operations, {}", output_name(output), divergence.signature);
    sum_up(output, &line)?;
    Ok(Status::cut(loaded.is_cut))
}

/// The minimized program, if the program has a divergence, and the names of the machines.
type Minimized = (Option<(Program, Divergence)>, String);

/// Minimizes a program on the machines of the command line.
fn minimize(args: &Args, program: &Program) -> anyhow::Result<Minimized> {
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    if args.kernel {
        return minimize_on_kernel(args, program);
    }
    let mut lockstep = args.machines.lockstep();
    let small = vmadiff::minimize::minimize(program, |p| lockstep.run(p));
    Ok((small, sides(&lockstep)))
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn minimize_on_kernel(args: &Args, program: &Program) -> anyhow::Result<Minimized> {
    use anyhow::Context as _;
    use vmadiff::kernel::{Beside, End};
    use vmadiff_kernel::{Kernel, Options};
    use vmadiff_machine::Machine as _;

    let options = Options { process_vm_mmap: args.process_vm_mmap, ..Options::default() };
    let kernel = Kernel::new(options).context("the running kernel cannot be driven")?;
    let mut beside = Beside::new(kernel);
    if !args.no_rules {
        beside.probe();
    }
    let mut failed = None;
    let small = vmadiff::minimize::minimize(program, |p| match beside.run(p).end {
        End::Differs(divergence) | End::Reported(divergence, _) => Some(divergence),
        End::Failed(error) => {
            failed.get_or_insert(error);
            None
        }
        _ => None,
    });
    // A failure while a shorter program is tried makes the result longer, and not wrong.
    if let (None, Some(error)) = (&small, failed) {
        return Err(error.into());
    }
    Ok((small, format!("between reference and {}", beside.kernel().name())))
}
