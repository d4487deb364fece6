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
use vmadiff::export_c::{export_c, harmless};
use vmadiff::export_syz::export_syz;
use vmadiff::finding::Finding;
use vmadiff::golden::{self, Conformity, Trace};
use vmadiff::import::{self, Imported, Options};
use vmadiff::input::{self, Format};
use vmadiff::known::Known;
use vmadiff::lockstep::Lockstep;
use vmadiff::machines::MachineName;
use vmadiff::page::{Page, Shown};
use vmadiff::picture::{Painter, Picture};
use vmadiff::random::Walk;
use vmadiff::results::result_text;
use vmadiff::row::Row;
use vmadiff::run::Run;
use vmadiff::sarif::sarif;
use vmadiff::text::{self, Look};
use vmadiff::triage::Group;
use vmadiff::{oracle, output, strace};
use vmadiff_candidate::Fault;
use vmadiff_machine::{Limits, Machine as _, Observation, Program};

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
    look: Look,
) -> anyhow::Result<bool> {
    let programs: Vec<_> =
        files.iter().map(|file| Ok((file, load(file)?.0))).collect::<anyhow::Result<_>>()?;
    let mut found = false;
    for (n, (file, program)) in programs.iter().enumerate() {
        if n > 0 {
            writeln!(stdout())?;
        }
        let finding = Finding::of(Run::of(&mut lockstep, program));
        write!(stdout(), "{}\n\n{}", file.display(), text::finding(&finding, look))?;
        found |= finding.run.divergence.is_some();
    }
    Ok(found)
}

pub(crate) fn conform(path: &Path, name: MachineName, look: Look) -> anyhow::Result<bool> {
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
        writeln!(out, "program {}: {name} {what} after operation {step}\n", trace.id)?;
        let ops = &trace.program.ops[..=step];
        let results: Vec<String> =
            trace.observations.iter().map(|seen| result_text(seen.result)).collect();
        let program = text::program_lines(&Limits::default(), ops, &results, Some(step), look);
        writeln!(out, "{}", program.text(look))?;
        let picture = recorded_picture(trace, step, name, &shown);
        let names = (trace.kernel.as_str(), name.to_string());
        writeln!(out, "{}", text::picture(&picture, (names.0, &names.1), look).text(look))?;
    }
    let skipped = steps - agree - differ - bug;
    let programs = traces.len();
    writeln!(
        out,
        "programs={programs} steps={steps} agree={agree} differ={differ} bug={bug} skipped={skipped}"
    )?;
    Ok(agree != steps)
}

/// What a kernel recorded after a step of a trace, beside what a machine shows there.
fn recorded_picture(trace: &Trace, last: usize, name: MachineName, shown: &Observation) -> Picture {
    let mut machine = name.build();
    machine.reset(&trace.program.limits);
    let mut painter = Painter::new(Scope::Recorded);
    let mut seen = Observation::default();
    // Up to there both showed the same.
    for (op, recorded) in trace.program.ops.iter().zip(&trace.observations).take(last) {
        machine.step(op, &mut seen);
        painter.picture(op, recorded, &seen);
    }
    painter.picture(&trace.program.ops[last], &trace.observations[last], shown)
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

pub(crate) fn export(
    file: &Path,
    as_c: bool,
    to_file: Option<&Path>,
    force: bool,
) -> anyhow::Result<bool> {
    let program = load(file)?.0;
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let text = if as_c { export_c(&program, &name) } else { export_syz(&program, &name) };
    match to_file {
        Some(path) => write(path, text.as_bytes(), force)?,
        None => stdout().write_all(text.as_bytes())?,
    }
    Ok(false)
}

pub(crate) fn import_strace(
    log: &Path,
    folder: &Path,
    (name, origin): (Option<&str>, Option<&str>),
    options: Options,
    most: usize,
    force: bool,
) -> anyhow::Result<bool> {
    let shown = || log.display().to_string();
    let file = File::open(log).with_context(shown)?;
    let read = strace::read(BufReader::new(file)).with_context(shown)?;
    let import = import::import(&read, options);
    let stem = log.file_stem().unwrap_or_default().to_string_lossy();
    let name = harmless(name.unwrap_or(&stem));
    // One line of comment, whatever is in it.
    let origin = origin.map(|text| text.replace(char::is_control, " ")).unwrap_or_default();
    let written: Vec<_> = import
        .programs
        .iter()
        .take(most)
        .enumerate()
        .map(|(n, Imported { program, lines: (first, last) })| {
            let title = if origin.is_empty() { name.clone() } else { origin.clone() };
            let text = format!("# strace -f of {title}, lines {first} to {last}.\n{program}");
            (folder.join(format!("{name}-{}.txt", n + 1)), text.into_bytes())
        })
        .collect();
    if written.is_empty() {
        let lines = read.lines;
        bail!("{}: no call in {lines} lines maps or changes memory", log.display());
    }
    write_all(folder, &written, force)?;
    let operations: usize = import.programs.iter().take(most).map(|p| p.program.ops.len()).sum();
    writeln!(
        stdout(),
        "{} programs, {operations} operations of {} calls in {} lines",
        written.len(),
        read.events.len(),
        read.lines
    )?;
    if import.guessed > 0 {
        eprintln!("guessed: {} mappings that no call had made", import.guessed);
    }
    if import.programs.len() > most {
        eprintln!("left out: {} programs past --most {most}", import.programs.len() - most);
    }
    for (title, counts) in [("left out", &import.left_out), ("not used", &read.ignored)] {
        if !counts.is_empty() {
            let counts: Vec<_> = counts.iter().map(|(what, n)| format!("{n} {what}")).collect();
            eprintln!("{title}: {}", counts.join(", "));
        }
    }
    Ok(false)
}

/// Writes files into a folder, which is made: all of them, or none where one is in the way.
fn write_all(folder: &Path, files: &[(PathBuf, Vec<u8>)], force: bool) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
    if let Some((path, _)) = files.iter().find(|(path, _)| !force && path.exists()) {
        bail!("{}: it exists: --force overwrites it", path.display());
    }
    files.iter().try_for_each(|(path, bytes)| write(path, bytes, force))
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

/// The programs at `paths`, and how many files in folders are none.
fn programs(paths: &[PathBuf]) -> anyhow::Result<(Vec<(PathBuf, Program)>, usize)> {
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
    Ok((programs, skipped))
}

/// What a triage leaves beside what it prints.
pub(crate) struct Kept<'a> {
    /// A folder for the minimized programs.
    pub(crate) programs: Option<&'a Path>,
    /// A file for the rows, as JSON.
    pub(crate) json: Option<&'a Path>,
    /// A file for the rows, as SARIF.
    pub(crate) sarif: Option<&'a Path>,
    /// Whether files may be overwritten.
    pub(crate) force: bool,
}

pub(crate) fn triage(
    paths: &[PathBuf],
    kept: Kept<'_>,
    known: &Known,
    json: bool,
    mut lockstep: Lockstep<Boxed, Boxed>,
    look: Look,
) -> anyhow::Result<bool> {
    let force = kept.force;
    let files = [kept.json, kept.sarif].into_iter().flatten();
    if let Some(path) = files.into_iter().find(|path| !force && path.exists()) {
        bail!("{}: it exists: --force overwrites it", path.display());
    }
    let (programs, skipped) = programs(paths)?;
    let count = programs.len();
    let bar = progress(count, "triage");
    let groups = vmadiff::triage::triage(&mut lockstep, programs, || bar.inc(1));
    bar.finish_and_clear();

    let mut rows: Vec<Row> = Vec::new();
    let mut written = Vec::new();
    for group in &groups {
        let file = kept
            .programs
            .map(|folder| folder.join(format!("{}.vmad", group.signature.file_stem())));
        rows.push(row(group, known, file.as_ref()));
        for format in [Format::Corpus, Format::Text] {
            let extension = if format == Format::Corpus { "vmad" } else { "txt" };
            written.extend(
                file.as_ref().map(|f| (f.with_extension(extension), format.encode(&group.program))),
            );
        }
    }
    if let Some(folder) = kept.programs {
        write_all(folder, &written, force)?;
    }
    if let Some(path) = kept.json {
        write(path, (serde_json::to_string_pretty(&rows)? + "\n").as_bytes(), force)?;
    }
    if let Some(path) = kept.sarif {
        write(path, sarif(&rows, lockstep.names())?.as_bytes(), force)?;
    }
    let mut out = stdout().lock();
    if json {
        serde_json::to_writer_pretty(&mut out, &rows)?;
        writeln!(out)?;
    } else {
        table(&mut out, &rows, &groups, &mut lockstep, look)?;
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

/// What is to become of the programs of a report.
pub(crate) struct Report<'a> {
    pub(crate) output: &'a Path,
    pub(crate) force: bool,
    /// Show each program as it is, instead of a minimized one of each signature.
    pub(crate) as_is: bool,
    pub(crate) known: &'a Known,
}

/// Divergences that are shown with their program in C: each takes some 12 KiB, and the page is to
/// be mailed.
const REPRODUCERS: usize = 24;

pub(crate) fn report(
    paths: &[PathBuf],
    Report { output, force, as_is, known }: Report<'_>,
    mut lockstep: Lockstep<Boxed, Boxed>,
) -> anyhow::Result<bool> {
    if !force && output.exists() {
        bail!("{}: it exists: --force overwrites it", output.display());
    }
    let (programs, skipped) = programs(paths)?;
    let count = programs.len();
    let bar = progress(count, "report");
    // The shortest part of a program that diverges, with the files that have it.
    let found: Vec<(Program, Vec<PathBuf>)> = if as_is {
        programs.into_iter().map(|(file, program)| (program, vec![file])).collect()
    } else {
        let groups = vmadiff::triage::triage(&mut lockstep, programs, || bar.inc(1));
        groups.into_iter().map(|group| (group.program, group.files)).collect()
    };
    let mut divergences = Vec::new();
    for (program, files) in found {
        let run = Run::of(&mut lockstep, &program);
        let Some(divergence) = &run.divergence else { continue };
        let name = harmless(divergence.signature.as_str());
        divergences.push(Shown {
            known: known.why(divergence.signature.as_str()).map(str::to_owned),
            files: files.iter().map(|file| file.display().to_string()).collect(),
            reproducer: (divergences.len() < REPRODUCERS).then(|| export_c(&program, &name)),
            finding: Finding::of(run),
        });
    }
    bar.finish_and_clear();
    let (left, right) = lockstep.names();
    let names = (left.to_owned(), right.to_owned());
    let page = Page { names, programs: count, skipped, divergences };
    let text = page.render()?;
    write(output, text.as_bytes(), force)?;
    let shown = page.divergences.len();
    let size = text.len().div_ceil(1024);
    writeln!(
        stdout(),
        "{}: {shown} divergences in {count} programs, {size} KiB",
        output.display()
    )?;
    Ok(page.divergences.iter().any(|shown| shown.known.is_none()))
}

/// Where the programs of a walk come from, in place of a file's name.
const WALK: &str = "(random)";

pub(crate) fn random(
    operations: u64,
    seed: u64,
    no_copies: bool,
    mut lockstep: Lockstep<Boxed, Boxed>,
    look: Look,
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
    let rows: Vec<Row> = groups.iter().map(|group| row(group, &Known::default(), None)).collect();
    let mut out = stdout().lock();
    table(&mut out, &rows, &groups, &mut lockstep, look)?;
    let (left, right) = lockstep.names();
    writeln!(
        out,
        "{run} operations, {programs} programs: {diverged} diverge between {left} and {right}, \
         {count} distinct divergences"
    )?;
    Ok(count > 0)
}

/// The groups as a table, and each as a program, with why it diverges and a drawing.
fn table(
    out: &mut impl std::io::Write,
    rows: &[Row],
    groups: &[Group],
    lockstep: &mut Lockstep<Boxed, Boxed>,
    look: Look,
) -> std::io::Result<()> {
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
    for (row, group) in rows.iter().zip(groups) {
        let finding = Finding::of(Run::of(lockstep, &group.program));
        writeln!(out, "\n{}", row.signature)?;
        if let Some(why) = &row.known {
            writeln!(out, "  known: {why}")?;
        }
        writeln!(out, "{}", text::program(&finding, look))?;
        write!(out, "{}", text::explained(&finding, look))?;
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

/// Returns the row of a group, whose minimized program is in `file` if it was written.
fn row(group: &Group, known: &Known, file: Option<&PathBuf>) -> Row {
    let names: Vec<String> = group.files.iter().map(|f| f.display().to_string()).collect();
    Row {
        class: group.class.name(),
        signature: group.signature.to_string(),
        operations: group.program.ops.len(),
        program: group.program.to_string(),
        known: known.why(group.signature.as_str()).map(str::to_owned),
        file: file.map_or_else(|| names[0].clone(), |f| f.display().to_string()),
        found_in: names,
    }
}
