//! What each command does. Each says whether it found a divergence.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub(crate) mod kernel;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufReader, IsTerminal as _, Write as _, stderr, stdout};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use indicatif::{ProgressBar, ProgressStyle};
use vmadiff::compare::Scope;
use vmadiff::divergence::Signature;
use vmadiff::golden::{self, Conformity};
use vmadiff::input::{self, Format};
use vmadiff::known::Known;
use vmadiff::lockstep::Lockstep;
use vmadiff::machines::MachineName;
use vmadiff::random::Walk;
use vmadiff::triage::Row;
use vmadiff::{oracle, output, report};
use vmadiff_candidate::Fault;
use vmadiff_machine::Program;

type Boxed = Box<dyn vmadiff_machine::Machine>;

/// A bar for long work; hidden where standard error is no terminal.
fn progress(length: usize, what: &'static str) -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
    let bar = ProgressBar::new(length as u64).with_message(what);
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

fn load(path: &Path) -> anyhow::Result<(Program, Format)> {
    input::load(path).with_context(|| path.display().to_string())
}

fn write(path: &Path, bytes: &[u8], force: bool) -> anyhow::Result<()> {
    output::write(path, bytes, force).with_context(|| path.display().to_string())
}

pub(crate) fn replay(
    files: &[PathBuf],
    mut lockstep: Lockstep<Boxed, Boxed>,
) -> anyhow::Result<bool> {
    let programs: Vec<_> =
        files.iter().map(|file| Ok((file, load(file)?.0))).collect::<anyhow::Result<_>>()?;
    let mut found = false;
    for (n, (file, program)) in programs.iter().enumerate() {
        if n > 0 {
            writeln!(stdout())?;
        }
        let replay = report::divergence(&mut lockstep, program);
        write!(stdout(), "{}\n\n{}", file.display(), replay.text)?;
        found |= replay.divergence.is_some();
    }
    Ok(found)
}

pub(crate) fn conform(path: &Path, name: MachineName) -> anyhow::Result<bool> {
    let file = File::open(path).with_context(|| path.display().to_string())?;
    let traces = golden::read(BufReader::new(file)).with_context(|| path.display().to_string())?;
    let mut machine = name.build();
    let bar = progress(traces.len(), "conform");
    let (mut steps, mut agree, mut differ, mut bug) = (0, 0, 0, 0);
    let mut first = None;
    for trace in &traces {
        bar.inc(1);
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
        // A difference is what has to be looked at; without any, the first bug.
        if first
            .as_ref()
            .is_none_or(|(_, _, _, known)| *known == "does not survive" && what == "differs")
        {
            first = Some((trace, step, shown, what));
        }
    }
    bar.finish_and_clear();
    let mut out = stdout().lock();
    if let Some((trace, step, shown, what)) = first {
        let recorded = &trace.observations[step];
        let living = report::living(recorded, &shown);
        writeln!(out, "program {}: {name} {what} after operation {step}\n", trace.id)?;
        for (op, seen) in trace.program.ops.iter().zip(&trace.observations).take(step + 1) {
            writeln!(out, "  {:<55} # {}", op.to_string(), report::result_text(seen.result))?;
        }
        let lines = |seen| report::observation_lines(seen, Scope::Recorded, living);
        let titles = (trace.kernel.as_str(), name.to_string());
        let text = report::side_by_side((titles.0, &titles.1), &lines(recorded), &lines(&shown));
        writeln!(out, "\n{text}")?;
    }
    let skipped = steps - agree - differ - bug;
    let programs = traces.len();
    writeln!(
        out,
        "programs={programs} steps={steps} agree={agree} differ={differ} bug={bug} skipped={skipped}"
    )?;
    Ok(agree != steps)
}

pub(crate) fn fmt(
    file: &Path,
    to: Format,
    to_file: Option<&Path>,
    force: bool,
) -> anyhow::Result<bool> {
    let bytes = to.encode(&load(file)?.0);
    match to_file {
        Some(path) => write(path, &bytes, force)?,
        None if to == Format::Corpus && stdout().is_terminal() => {
            bail!("the corpus format is not for terminals: expected -o FILE");
        }
        None => stdout().write_all(&bytes)?,
    }
    Ok(false)
}

pub(crate) fn minimize(
    file: &Path,
    to_file: &Path,
    to: Option<Format>,
    force: bool,
    mut lockstep: Lockstep<Boxed, Boxed>,
) -> anyhow::Result<bool> {
    let (program, format) = load(file)?;
    let Some((small, divergence)) = vmadiff::minimize::minimize(&program, |p| lockstep.run(p))
    else {
        let (left, right) = lockstep.names();
        bail!("{}: nothing to minimize: no divergence between {left} and {right}", file.display());
    };
    write(to_file, &to.unwrap_or(format).encode(&small), force)?;
    writeln!(
        stdout(),
        "{}: {} of {} operations, {}",
        to_file.display(),
        small.ops.len(),
        program.ops.len(),
        divergence.signature
    )?;
    Ok(true)
}

/// The list of known divergences in a file; none where there is no file.
pub(crate) fn known(file: Option<&Path>) -> anyhow::Result<Known> {
    let Some(path) = file else { return Ok(Known::default()) };
    let text = fs::read_to_string(path).with_context(|| path.display().to_string())?;
    Known::parse(&text).with_context(|| path.display().to_string())
}

pub(crate) fn triage(
    paths: &[PathBuf],
    destination: Option<(&Path, bool)>,
    known: &Known,
    json: bool,
    mut lockstep: Lockstep<Boxed, Boxed>,
) -> anyhow::Result<bool> {
    let (mut programs, mut skipped) = (Vec::new(), 0);
    for file in input::files(paths)? {
        // Of what a folder has: fuzzing leaves logs beside its findings, and triage text twins
        // beside its corpus files, which are the same programs and count once.
        let named = paths.contains(&file);
        let is_twin =
            file.extension().is_some_and(|e| e == "txt") && file.with_extension("vmad").exists();
        if !named && is_twin {
            continue;
        }
        match load(&file) {
            Ok((program, _)) => programs.push((file, program)),
            Err(error) if named => return Err(error),
            Err(error) => {
                eprintln!("vmadiff: skipped: {error:#}");
                skipped += 1;
            }
        }
    }
    let count = programs.len();
    let bar = progress(count, "triage");
    let groups = vmadiff::triage::triage(&mut lockstep, programs, || bar.inc(1));
    bar.finish_and_clear();

    let mut rows: Vec<Row> = Vec::new();
    let mut written = Vec::new();
    for group in &groups {
        let file = destination
            .map(|(folder, _)| folder.join(format!("{}.vmad", group.signature.file_stem())));
        rows.push(group.row(known, file.as_ref()));
        for format in [Format::Corpus, Format::Text] {
            let extension = if format == Format::Corpus { "vmad" } else { "txt" };
            written.extend(
                file.as_ref().map(|f| (f.with_extension(extension), format.encode(&group.program))),
            );
        }
    }
    if let Some((folder, force)) = destination {
        fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        // All or nothing: no file is written where one of them is in the way.
        if let Some((path, _)) = written.iter().find(|(path, _)| !force && path.exists()) {
            bail!("{}: it exists: --force overwrites it", path.display());
        }
        for (path, bytes) in &written {
            write(path, bytes, force)?;
        }
    }
    let mut out = stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &rows)?;
        writeln!(out)?;
    } else {
        table(&mut out, &rows)?;
        let (left, right) = lockstep.names();
        writeln!(
            out,
            "{} distinct divergences between {left} and {right} in {count} programs{}",
            rows.len(),
            if skipped > 0 { format!(", {skipped} files skipped") } else { String::new() }
        )?;
    }
    Ok(rows.iter().any(|row| row.known.is_none()))
}

/// Where the programs of a walk come from, in place of a file's name.
const WALK: &str = "(random)";

pub(crate) fn random(
    operations: u64,
    seed: u64,
    no_copies: bool,
    mut lockstep: Lockstep<Boxed, Boxed>,
) -> anyhow::Result<bool> {
    let mut walk = Walk::new(seed);
    let (mut run, mut programs, mut diverged) = (0, 0u64, 0u64);
    let mut first: BTreeMap<Signature, Program> = BTreeMap::new();
    let bar = progress(operations as usize, "random");
    while run < operations {
        let program = walk.step();
        let without;
        let program = if no_copies {
            without = oracle::without_copies(program.clone());
            &without
        } else {
            program
        };
        let found = lockstep.run(program);
        let length = found.as_ref().map_or(program.ops.len(), |d| d.step + 1);
        // An empty program is run too: it counts, or the loop would not end.
        run += length.max(1) as u64;
        bar.set_position(run);
        programs += 1;
        if let Some(divergence) = found {
            diverged += 1;
            first.entry(divergence.signature).or_insert_with(|| program.clone());
        }
    }
    bar.finish_and_clear();
    let count = first.len();
    let programs_found = first.into_values().map(|program| (PathBuf::from(WALK), program));
    let groups = vmadiff::triage::triage(&mut lockstep, programs_found, || ());
    let rows: Vec<Row> = groups.iter().map(|group| group.row(&Known::default(), None)).collect();
    let mut out = stdout().lock();
    table(&mut out, &rows)?;
    let (left, right) = lockstep.names();
    writeln!(
        out,
        "{run} operations, {programs} programs: {diverged} diverge between {left} and {right}, \
         {count} distinct divergences"
    )?;
    Ok(count > 0)
}

fn table(out: &mut impl std::io::Write, rows: &[Row]) -> std::io::Result<()> {
    let width = |text: fn(&Row) -> &str, title: &str| {
        rows.iter().map(|row| text(row).chars().count()).max().unwrap_or(0).max(title.len())
    };
    let (class, signature) = (width(|r| r.class, "class"), width(|r| &r.signature, "signature"));
    if !rows.is_empty() {
        writeln!(out, "{:<class$}  {:<signature$}  ops  found  file", "class", "signature")?;
    }
    for row in rows {
        let Row { operations, found_in, file, .. } = row;
        let found = found_in.len();
        writeln!(
            out,
            "{:<class$}  {:<signature$}  {operations:>3}  {found:>5}  {file}",
            row.class, row.signature
        )?;
    }
    for row in rows {
        writeln!(out, "\n{}", row.signature)?;
        if let Some(why) = &row.known {
            writeln!(out, "  known: {why}")?;
        }
        for line in row.program.lines() {
            writeln!(out, "    {line}")?;
        }
    }
    if rows.is_empty() { Ok(()) } else { writeln!(out) }
}

/// A row of `faults --json`.
#[derive(serde::Serialize)]
struct FaultRow {
    name: &'static str,
    class: &'static str,
    place: &'static str,
    what: &'static str,
}

pub(crate) fn faults(json: bool) -> anyhow::Result<bool> {
    let rows: Vec<FaultRow> = Fault::ALL
        .iter()
        .map(|fault| FaultRow {
            name: fault.name(),
            class: fault.class(),
            place: fault.place(),
            what: fault.what(),
        })
        .collect();
    let mut out = stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &rows)?;
        writeln!(out)?;
        return Ok(false);
    }
    let width = |text: fn(&FaultRow) -> &str| rows.iter().map(|r| text(r).len()).max().unwrap_or(0);
    let (name, class, place) = (width(|r| r.name), width(|r| r.class), width(|r| r.place));
    writeln!(out, "{:<name$}  {:<class$}  {:<place$}  what", "name", "class", "place")?;
    for FaultRow { name: n, class: c, place: p, what } in &rows {
        writeln!(out, "{n:<name$}  {c:<class$}  {p:<place$}  {what}")?;
    }
    Ok(false)
}
