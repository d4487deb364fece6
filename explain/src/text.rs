//! A finding as text: the program with its results, the divergence, the reason, and a drawing.

mod drawing;
mod sheet;

use vmadiff_machine::{Limits, Op};

use crate::finding::Finding;
use crate::ink::Ink;

pub use drawing::picture;
pub use sheet::{Look, Sheet};

/// Returns the whole text of a finding.
pub fn finding(finding: &Finding, look: Look) -> String {
    let names = finding.names();
    let text = program(finding, look);
    let mut sheet = Sheet::default();
    let Some(divergence) = &finding.run.divergence else {
        let line = match finding.run.alone {
            true => format!("{} breaks no invariant", names.1),
            false => format!("no divergence between {} and {}", names.0, names.1),
        };
        sheet.words(0, [(line.as_str(), Ink::Plain)], look.columns());
        return format!("{text}\n{}", sheet.text(look));
    };
    let title = if divergence.broken.is_some() { "broken invariant" } else { "divergence" };
    // People count from 1, as the C program does that `vmadiff export` writes.
    let place = format!("after operation {}", divergence.step + 1);
    let words = [
        (title, Ink::Plain),
        (divergence.signature.as_str(), Ink::Differs),
        (place.as_str(), Ink::Plain),
    ];
    sheet.words(0, words, look.columns());
    format!("{text}\n{}{}", sheet.text(look), explained(finding, look))
}

/// Returns the program of a finding, each operation with its results.
pub fn program(finding: &Finding, look: Look) -> String {
    let program = &finding.run.program;
    let mark = finding.run.divergence.as_ref().map(|divergence| divergence.step);
    program_lines(&program.limits, &program.ops, &finding.results, mark, look).text(look)
}

/// Returns the reason of a divergence and its drawing; an empty text for a run without divergence.
pub fn explained(finding: &Finding, look: Look) -> String {
    let Some(why) = &finding.why else { return String::new() };
    let mut sheet = Sheet::default();
    sheet.words(0, [("why:", Ink::Title), (why.as_str(), Ink::Plain)], look.columns());
    let drawing = finding.pictures.last().map(|last| picture(last, finding.names(), look));
    format!("{}\n{}", sheet.text(look), drawing.map_or_else(String::new, |d| d.text(look)))
}

/// Returns the lines of a program, each with its result. The operation with index `mark` is marked
/// by `>`.
pub fn program_lines(
    limits: &Limits,
    ops: &[Op],
    results: &[String],
    mark: Option<usize>,
    look: Look,
) -> Sheet {
    let mut sheet = Sheet::default();
    let width = look.columns();
    if *limits != Limits::default() {
        sheet.words(2, [(limits.to_string().as_str(), Ink::Plain)], width);
    }
    let texts: Vec<String> = ops.iter().map(ToString::to_string).collect();
    let longest = texts.iter().map(String::len).max().unwrap_or(0);
    for (n, (text, result)) in texts.iter().zip(results).enumerate() {
        let marked = mark == Some(n);
        let line = format!("{} {text:<longest$}  # {result}", if marked { '>' } else { ' ' });
        sheet.line(&line, if marked { Ink::Title } else { Ink::Plain }, width);
    }
    sheet
}
