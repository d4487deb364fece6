//! The findings of `triage` and `random`: their options, and how they are printed and written.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::bail;
use vmadiff::divergence::Class;
use vmadiff::input::Format;
use vmadiff::known::Known;
use vmadiff::machines::Machines as Boxed;
use vmadiff::row::Row;
use vmadiff::sarif::sarif;
use vmadiff::text::Look;
use vmadiff::triage::Group;

use super::files::{check, is_stdout, known, name, write};
use super::folder::{Folder, Names};
use super::machines::sides;
use super::rows::{row, table};
use crate::out::{note, stdout};
use crate::status::Status;

/// The options of a command that shows findings.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Write the minimized program of each signature to this folder, in the corpus format and as
    /// text
    #[arg(long, value_name = "FOLDER")]
    out: Option<PathBuf>,
    /// A list of known divergences (SIGNATURE WHY, one a line), which are shown and marked but do
    /// not count as found
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
    /// Overwrite existing files, and remove the findings of an earlier run from the folder of --out
    #[arg(long)]
    force: bool,
}

/// The places to which findings go. They can be written, as far as that is known at the start.
pub(crate) struct Findings<'a> {
    args: &'a Options,
    known: Known,
    folder: Option<Folder>,
}

impl Options {
    /// Reads the list of known divergences and checks the files that are to be written. Without a
    /// list, `usual` is the list.
    pub(crate) fn prepare(&self, usual: impl FnOnce() -> Known) -> anyhow::Result<Findings<'_>> {
        let known = self.known.as_deref().map(known).transpose()?.unwrap_or_else(usual);
        let files = || [&self.json_file, &self.sarif].into_iter().flatten();
        files().try_for_each(|path| check(path, self.force))?;
        let printed = files().filter(|path| is_stdout(path)).count() + usize::from(self.json);
        if printed > 1 {
            bail!("standard output can have one of --json, --json-file and --sarif");
        }
        if let (Some(json), Some(sarif)) = (&self.json_file, &self.sarif)
            && std::path::absolute(json)? == std::path::absolute(sarif)?
        {
            bail!("{}: named by --json-file and by --sarif: expected two files", json.display());
        }
        let folder = self
            .out
            .as_deref()
            .map(|path| Folder::new(path, self.force, Names::Listed(&is_finding)));
        Ok(Findings { args: self, known, folder: folder.transpose()? })
    }
}

/// Returns whether a file has the name of a finding that a command writes.
fn is_finding(name: &str) -> bool {
    (name.ends_with(".vmad") || name.ends_with(".txt"))
        && Class::ALL
            .iter()
            .any(|class| name.strip_prefix(class.name()).is_some_and(|rest| rest.starts_with('-')))
}

impl Findings<'_> {
    /// Returns whether a divergence is on the list of known ones.
    pub(crate) fn is_known(&self, signature: &str) -> bool {
        self.known.why(signature).is_some()
    }

    /// Writes the findings and prints them. `inputs` are the files of the programs. `last` returns
    /// the last line from the number of divergences and the machines, both in words.
    pub(crate) fn show(
        &self,
        groups: &[Group],
        lockstep: &mut Boxed,
        look: Look,
        inputs: &[PathBuf],
        last: impl FnOnce(&str, &str) -> String,
    ) -> anyhow::Result<Status> {
        let Options { json, json_file, sarif: sarif_file, force, .. } = self.args;
        let mut rows: Vec<Row> = Vec::new();
        let mut files = Vec::new();
        for group in groups {
            let file = self
                .folder
                .as_ref()
                .map(|to| to.path().join(format!("{}.vmad", group.signature.file_stem())));
            rows.push(row(group, &self.known, file.as_deref()));
            for (format, extension) in [(Format::Corpus, "vmad"), (Format::Text, "txt")] {
                let file = file.as_ref().map(|file| file.with_extension(extension));
                files.extend(file.map(|file| (file, format.encode(&group.program))));
            }
        }
        let as_json = serde_json::to_string_pretty(&rows)? + "\n";
        // If a file cannot be written, the findings are still printed.
        let written = self.folder.as_ref().map_or(Ok(()), |to| to.write(&files, inputs));
        let mut written = vec![written];
        if let Some(path) = json_file {
            written.push(write(path, as_json.as_bytes(), *force));
        }
        if let Some(path) = sarif_file {
            let text = sarif(&rows, lockstep.names())?;
            written.push(write(path, text.as_bytes(), *force));
        }
        let mut out = stdout();
        if *json {
            out.write_all(as_json.as_bytes())?;
        } else if ![json_file, sarif_file].into_iter().flatten().any(|path| is_stdout(path)) {
            table(&mut out, &rows, groups, lockstep, look)?;
            writeln!(out, "{}", last(&count(&rows), &sides(lockstep)))?;
        }
        drop(out);
        self.report_unmatched(&rows);
        written.into_iter().collect::<anyhow::Result<()>>()?;
        Ok(Status::found(rows.iter().any(|row| row.known.is_none())))
    }

    /// Writes a note with the entries of the list of `--known` that no divergence matched.
    fn report_unmatched(&self, rows: &[Row]) {
        let Some(list) = &self.args.known else { return };
        report_unmatched(list, &self.known, rows.iter().map(|row| row.signature.as_str()));
    }
}

/// Writes a note with the entries of a list that match none of the signatures.
pub(crate) fn report_unmatched<'a>(
    list: &Path,
    known: &Known,
    found: impl Iterator<Item = &'a str>,
) {
    let found: Vec<&str> = found.collect();
    let unmatched: Vec<&str> = known.signatures().filter(|entry| !found.contains(entry)).collect();
    if !unmatched.is_empty() {
        let count = unmatched.len();
        note(format!("{}: {count} entries matched nothing: {}", name(list), unmatched.join(", ")));
    }
}

/// Returns the number of divergences in words.
fn count(rows: &[Row]) -> String {
    let known = rows.iter().filter(|row| row.known.is_some()).count();
    match known {
        0 => format!("{} distinct divergences", rows.len()),
        known => format!("{} new and {known} known distinct divergences", rows.len() - known),
    }
}
