//! `vmadiff triage`: groups programs by signature and minimizes one program of each signature.

use std::io::{Write as _, stdout};
use std::path::PathBuf;

use anyhow::bail;
use vmadiff::input::Format;
use vmadiff::row::Row;
use vmadiff::sarif::sarif;
use vmadiff::text::Look;

use super::files::{known, programs, write, write_all};
use super::machines::{Machines, sides};
use super::progress::progress;
use super::rows::{row, table};

/// Group programs by the signature of their divergence and minimize one program of each
#[derive(clap::Args)]
#[command(after_help = "Examples:
  vmadiff triage fuzz/artifacts/cross_mm --out findings
  vmadiff triage findings --known corpus/known.txt --json
  vmadiff triage findings --sarif findings.sarif")]
pub(crate) struct Args {
    /// Files, or folders of files
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// Write the minimized program of each signature to this folder, in the corpus format and as
    /// text
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// A list of known divergences, which are shown but do not count as found
    #[arg(long, value_name = "FILE")]
    known: Option<PathBuf>,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Also write the JSON to a file
    #[arg(long, value_name = "FILE")]
    json_file: Option<PathBuf>,
    /// Also write SARIF 2.1.0, for code scanning, to a file
    #[arg(long, value_name = "FILE")]
    sarif: Option<PathBuf>,
    /// Overwrite existing files
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    machines: Machines,
}

/// Runs the command; returns whether it found something.
pub(crate) fn run(args: &Args, look: Look) -> anyhow::Result<bool> {
    let force = args.force;
    let known = known(args.known.as_deref())?;
    let mut lockstep = args.machines.lockstep();
    let files = [&args.json_file, &args.sarif].into_iter().flatten();
    if let Some(path) = files.into_iter().find(|path| !force && path.exists()) {
        bail!("{}: it exists: --force overwrites it", path.display());
    }
    let (programs, skipped) = programs(&args.paths)?;
    let count = programs.len();
    let bar = progress(count, "triage");
    let groups = vmadiff::triage::triage(&mut lockstep, programs, || bar.inc(1));
    bar.finish_and_clear();

    let mut rows: Vec<Row> = Vec::new();
    let mut written = Vec::new();
    for group in &groups {
        let file = args
            .out
            .as_ref()
            .map(|folder| folder.join(format!("{}.vmad", group.signature.file_stem())));
        rows.push(row(group, &known, file.as_ref()));
        for format in [Format::Corpus, Format::Text] {
            let extension = if format == Format::Corpus { "vmad" } else { "txt" };
            written.extend(
                file.as_ref().map(|f| (f.with_extension(extension), format.encode(&group.program))),
            );
        }
    }
    if let Some(folder) = &args.out {
        write_all(folder, &written, force)?;
    }
    if let Some(path) = &args.json_file {
        write(path, (serde_json::to_string_pretty(&rows)? + "\n").as_bytes(), force)?;
    }
    if let Some(path) = &args.sarif {
        write(path, sarif(&rows, lockstep.names())?.as_bytes(), force)?;
    }
    let mut out = stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &rows)?;
        writeln!(out)?;
    } else {
        table(&mut out, &rows, &groups, &mut lockstep, look)?;
        writeln!(
            out,
            "{} distinct divergences {} in {count} programs{}",
            rows.len(),
            sides(&lockstep),
            if skipped > 0 { format!(", {skipped} files skipped") } else { String::new() }
        )?;
    }
    Ok(rows.iter().any(|row| row.known.is_none()))
}
