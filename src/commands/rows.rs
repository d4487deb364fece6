//! The list of findings: a table, then the program, reason and drawing of each finding.

use std::io::Write;
use std::path::Path;

use vmadiff::finding::Finding;
use vmadiff::known::Known;
use vmadiff::row::Row;
use vmadiff::run::Run;
use vmadiff::text::{self, Look};
use vmadiff::triage::Group;

use vmadiff::machines::Machines as Boxed;

use super::files::name;

/// Writes the groups as a table, followed by the program, reason and drawing of each group.
pub(crate) fn table(
    out: &mut impl Write,
    rows: &[Row],
    groups: &[Group],
    lockstep: &mut Boxed,
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
            "{:<class$}  {:<signature$}  {operations:>3}  {found:>5}  {file}{}",
            row.class,
            row.signature,
            if row.known.is_some() { "  (known)" } else { "" }
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

/// Returns the row of a group. `file` has the minimized program if it was written, with its text form beside
/// it.
pub(crate) fn row(group: &Group, known: &Known, file: Option<&Path>) -> Row {
    let names: Vec<String> = group.files.iter().map(|file| name(file)).collect();
    let twin = file.map(|file| name(&file.with_extension("txt")));
    let first = group.files.iter().find(|file| file.is_file()).map(|file| name(file));
    Row {
        class: group.class.name(),
        signature: group.signature.to_string(),
        operations: group.program.ops.len(),
        program: group.program.to_string(),
        known: known.why(group.signature.as_str()).map(str::to_owned),
        file: file.map_or_else(|| names[0].clone(), name),
        place: twin.or(first),
        found_in: names,
    }
}
