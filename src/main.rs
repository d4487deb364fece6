//! The command line.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use vmadiff::golden::{self, Conformity};
use vmadiff::machines::MachineName;
use vmadiff::report;

#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Replays a golden file on a machine and counts where they agree
    Conform {
        /// A golden file, compressed or not
        file: PathBuf,
        /// The machine: reference, or candidate:REVISION
        #[arg(long, default_value = "reference")]
        machine: MachineName,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("vmadiff: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Conform { file, machine } => conform(&file, machine),
    }
}

fn conform(path: &PathBuf, name: MachineName) -> anyhow::Result<ExitCode> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let traces = golden::read(BufReader::new(file)).with_context(|| path.display().to_string())?;
    let mut machine = name.build();
    let (mut steps, mut agree, mut differ, mut bug, mut first) = (0, 0, 0, 0, true);
    for trace in &traces {
        steps += trace.observations.len();
        let (step, shown, what) = match golden::conform(trace, machine.as_mut()) {
            Conformity::Agrees => {
                agree += trace.observations.len();
                continue;
            }
            Conformity::Differs { step, shown } => {
                differ += 1;
                (step, shown, "differs")
            }
            Conformity::Bug { step, shown } => {
                bug += 1;
                (step, shown, "does not survive")
            }
        };
        agree += step;
        if std::mem::take(&mut first) {
            let recorded = &trace.observations[step];
            let living = report::living(recorded, &shown);
            println!("program {}: {name} {what} after operation {step}:\n", trace.id);
            for (op, seen) in trace.program.ops.iter().zip(&trace.observations).take(step + 1) {
                println!("    {:<56} # {}", op.to_string(), report::result_text(seen.result));
            }
            println!();
            print!(
                "{}",
                report::side_by_side(
                    (&trace.kernel, &name.to_string()),
                    &report::observation_lines(recorded, living),
                    &report::observation_lines(&shown, living),
                )
            );
            println!();
        }
    }
    let skipped = steps - agree - differ - bug;
    println!(
        "programs={} steps={steps} agree={agree} differ={differ} bug={bug} skipped={skipped}",
        traces.len()
    );
    Ok(ExitCode::from(u8::from(agree != steps)))
}
