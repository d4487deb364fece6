//! `vmadiff export`: writes a program for a running kernel, as C or for syzkaller.

use std::path::PathBuf;

use clap::ArgGroup;
use vmadiff::export_c::export_c;
use vmadiff::export_syz::export_syz;

use super::files::{check, load, stem, write};
use crate::status::Status;

/// Write a program for a running kernel, in C or for syzkaller
#[derive(clap::Args)]
#[command(after_help = "Examples:
  vmadiff export --c corpus/seeds/bug-a.txt -o bug-a.c
  cc -Wall -Wextra -o bug-a bug-a.c && ./bug-a
  vmadiff export --syz corpus/seeds/bug-a.txt

The C program needs nothing but a kernel. It prints each operation with its result, and compares
what `vmadiff kernel` compares, beside the same rules of later kernels. It stops at the first
difference. Exit status of the C program: 0 the kernel agrees, 1 the kernel differs, 2 the kernel
cannot run the program to its end, or the difference is undecided. With --syz, an operation that
syzkaller cannot express becomes a comment, and the last line of the program counts these
comments.")]
#[command(group = ArgGroup::new("form").required(true))]
pub(crate) struct Args {
    /// A corpus file or a text program; - is standard input
    file: PathBuf,
    /// Write one self-contained C program
    #[arg(long, group = "form")]
    c: bool,
    /// Write a program of syzkaller, in its text form
    #[arg(long, group = "form")]
    syz: bool,
    /// The file to write; - is standard output
    #[arg(short, long, default_value = "-")]
    output: PathBuf,
    /// Overwrite existing files
    #[arg(long)]
    force: bool,
}

/// Runs the command.
pub(crate) fn run(Args { file, c, syz: _, output, force }: &Args) -> anyhow::Result<Status> {
    check(output, *force)?;
    let loaded = load(file)?;
    let (program, name) = (&loaded.program, stem(file));
    let text = if *c { export_c(program, &name) } else { export_syz(program, &name) };
    write(output, text.as_bytes(), *force)?;
    Ok(Status::cut(loaded.is_cut))
}
