//! The files of a command: programs, lists of known divergences, and results. `-` is standard input
//! or standard output.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, anyhow, bail};
use vmadiff::input::{self, Format, Loaded};
use vmadiff::known::Known;
use vmadiff::output::{self, OutputError};
use vmadiff::page::STANDARD_INPUT;
use vmadiff_machine::{Plain, Program};

use crate::interrupt::interrupted;
use crate::out::{self, note, stdout};
use crate::status::Status;

/// The form of a written program.
#[derive(Clone, Copy, clap::ValueEnum)]
pub(crate) enum To {
    Text,
    Corpus,
}

impl From<To> for Format {
    fn from(to: To) -> Format {
        match to {
            To::Text => Format::Text,
            To::Corpus => Format::Corpus,
        }
    }
}

/// The size limit of a list of known divergences.
const MAX_LIST_BYTES: u64 = 1 << 20;

/// Returns whether a path stands for standard input or standard output.
pub(crate) fn is_standard(path: &Path) -> bool {
    path.as_os_str() == "-"
}

/// Returns the name of an input file for messages and reports.
pub(crate) fn name(path: &Path) -> String {
    match is_standard(path) {
        true => STANDARD_INPUT.into(),
        false => Plain(&path.display().to_string()).to_string(),
    }
}

/// Returns the name of an output file for messages.
pub(crate) fn output_name(path: &Path) -> String {
    if is_stdout(path) { "(standard output)".into() } else { name(path) }
}

/// Returns the name of an input file without folder and extension.
pub(crate) fn stem(path: &Path) -> String {
    match is_standard(path) {
        true => "stdin".into(),
        false => path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
    }
}

/// Opens an input file. Its errors name the file.
pub(crate) fn open(path: &Path) -> anyhow::Result<Box<dyn Read>> {
    static WAS_READ: AtomicBool = AtomicBool::new(false);
    if !is_standard(path) {
        return Ok(Box::new(File::open(path).with_context(|| name(path))?));
    }
    if WAS_READ.swap(true, Ordering::Relaxed) {
        bail!("standard input is named twice: it can be read once");
    }
    Ok(Box::new(io::stdin().lock()))
}

/// Reads a program. A file that is cut short is read up to the cut, and a note says so.
pub(crate) fn load(path: &Path) -> anyhow::Result<Loaded> {
    let loaded = input::read(open(path)?).with_context(|| name(path))?;
    if let Some(cut) = loaded.cut() {
        note(format!("{}: {cut}", name(path)));
    }
    Ok(loaded)
}

/// Checks that an output file can be written, before the work of a command.
pub(crate) fn check(path: &Path, force: bool) -> anyhow::Result<()> {
    if is_stdout(path) {
        return Ok(());
    }
    output::check(path, force).with_context(|| name(path))
}

/// Writes an output file.
pub(crate) fn write(path: &Path, bytes: &[u8], force: bool) -> anyhow::Result<()> {
    if is_stdout(path) {
        return Ok(stdout().write_all(bytes)?);
    }
    match output::write(path, bytes, force) {
        Err(OutputError::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => {
            out::end_by_sigpipe()
        }
        written => written.with_context(|| name(path)),
    }
}

/// Returns whether an output file is standard output.
pub(crate) fn is_stdout(path: &Path) -> bool {
    is_standard(path) || path == Path::new("/dev/stdout")
}

/// Writes the line that sums up a command: to standard error if the result itself goes to standard
/// output.
pub(crate) fn sum_up(output: &Path, line: &str) -> anyhow::Result<()> {
    if is_stdout(output) {
        note(line);
        return Ok(());
    }
    Ok(writeln!(stdout(), "{line}")?)
}

/// Reads a text of at most `most` bytes. `what` is what is expected, such as “a world”.
pub(crate) fn text(path: &Path, most: u64, what: &str) -> anyhow::Result<String> {
    text_of(open(path)?, path, most, what)
}

/// Reads a text of at most `most` bytes from a file that is open.
pub(crate) fn text_of(
    input: impl Read,
    path: &Path,
    most: u64,
    what: &str,
) -> anyhow::Result<String> {
    let mut bytes = Vec::new();
    input.take(most + 1).read_to_end(&mut bytes).with_context(|| name(path))?;
    if bytes.len() as u64 > most {
        bail!("{}: too long: expected {what} of at most {most} bytes", name(path));
    }
    String::from_utf8(bytes).map_err(|error| {
        let offset = error.utf8_error().valid_up_to();
        anyhow!("{}: offset {offset}: not text (UTF-8): expected {what}", name(path))
    })
}

/// Reads a list of known divergences.
pub(crate) fn known(path: &Path) -> anyhow::Result<Known> {
    let text = text(path, MAX_LIST_BYTES, "a list of known divergences")?;
    Known::parse(&text).with_context(|| name(path))
}

/// The programs at the paths of a command.
pub(crate) struct Programs {
    /// The programs, each with its file.
    pub(crate) programs: Vec<(PathBuf, Program)>,
    /// All files, whether they are programs or not.
    pub(crate) inputs: Vec<PathBuf>,
    /// The number of files in folders that are no programs or cannot be read.
    pub(crate) skipped: usize,
    /// The number of files that are cut short.
    pub(crate) cut: usize,
}

impl Programs {
    /// Returns the counts of files that are no whole programs, for the last line of a command.
    pub(crate) fn counts(&self) -> String {
        let counts = [(self.skipped, "files skipped"), (self.cut, "files cut short")];
        let counts = counts.iter().filter(|(count, _)| *count > 0);
        counts.map(|(count, what)| format!(", {count} {what}")).collect()
    }

    /// Returns the status of a command that has found nothing new in the programs.
    pub(crate) fn status(&self) -> Status {
        Status::cut(self.cut > 0)
    }
}

/// Reads the programs at `paths`. A file that a path names must be a program. Below a folder, a
/// file that is none is skipped with a note: fuzzing writes logs beside its findings.
pub(crate) fn programs(paths: &[PathBuf]) -> anyhow::Result<Programs> {
    let (standard, paths): (Vec<PathBuf>, Vec<PathBuf>) =
        paths.iter().cloned().partition(|path| is_standard(path));
    let files = input::files(&paths)?;
    let inputs: Vec<PathBuf> = standard.into_iter().chain(files.found).collect();
    let (mut programs, mut skipped, mut cut) = (Vec::new(), files.skipped.len(), 0);
    for (path, why) in files.skipped {
        note(format!("skipped: {}: {why}", name(&path)));
    }
    let paths: HashSet<&PathBuf> = paths.iter().collect();
    for file in inputs.iter().take_while(|_| !interrupted()) {
        let named = is_standard(file) || paths.contains(file);
        match load(file) {
            Ok(loaded) if !named && is_twin(file, &loaded.program) => {}
            Ok(loaded) => {
                cut += usize::from(loaded.is_cut);
                programs.push((file.clone(), loaded.program));
            }
            Err(error) if named => return Err(error),
            Err(error) => {
                note(format!("skipped: {error:#}"));
                skipped += 1;
            }
        }
    }
    Ok(Programs { programs, inputs, skipped, cut })
}

/// Returns whether a text file is the readable form of the corpus file beside it. Triage writes
/// both, and the program must not count twice.
fn is_twin(file: &Path, program: &Program) -> bool {
    file.extension().is_some_and(|extension| extension == "txt")
        && input::load(&file.with_extension("vmad")).is_ok_and(|other| other.program == *program)
}

/// Returns a program as one line.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub(crate) fn on_a_line(program: &Program) -> String {
    program.to_string().trim_end().replace('\n', "; ")
}
