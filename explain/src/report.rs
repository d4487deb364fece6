//! What a program shows, as text: its operations with their results, what differs, why, and a
//! drawing.

use vmadiff_lockstep::compare::Scope;
use vmadiff_lockstep::divergence::Divergence;
use vmadiff_lockstep::lockstep::Lockstep;
use vmadiff_lockstep::run::Run;
use vmadiff_machine::{Errno, Limits, Machine, Op, Program};

use crate::draw::{self, Ink, Look, Sheet};
use crate::picture::Painter;
use crate::why::why;

/// The result of an operation: `0`, a page or process, or the error.
pub fn result_text(result: Result<u8, Errno>) -> String {
    match result {
        Ok(value) => value.to_string(),
        Err(errno) => errno.to_string(),
    }
}

/// What each operation of a run answered: both answers where they differ.
pub fn results(run: &Run) -> Vec<String> {
    let lacking = "not run: not an operation of both machines";
    let reached = run.steps.last().map_or(0, |step| match run.divergence {
        Some(_) => step.at + 1,
        // Both machines died there, or the program ends.
        None if step.left.is_fatal() => step.at + 1,
        None => run.program.ops.len(),
    });
    let reached = if run.steps.is_empty() { run.program.ops.len() } else { reached };
    let mut results: Vec<String> = (0..run.program.ops.len())
        .map(|n| String::from(if n < reached { lacking } else { "not reached" }))
        .collect();
    for step in &run.steps {
        let (l, r) = (result_text(step.left.result), result_text(step.right.result));
        results[step.at] = match (step.left.is_fatal(), step.right.is_fatal()) {
            (true, true) => "does not survive".into(),
            (true, false) => format!("does not survive | {r}"),
            (false, true) => format!("{l} | does not survive"),
            (false, false) if l == r => l,
            (false, false) => format!("{l} | {r}"),
        };
    }
    results
}

/// What replaying a program shows, as text.
pub struct Replay {
    /// The first divergence, if there is one.
    pub divergence: Option<Divergence>,
    /// The program with the result of each operation, and the divergence: why, and drawn.
    pub text: String,
}

/// Runs a program in lockstep and renders what happens.
pub fn divergence<L: Machine, R: Machine>(
    lockstep: &mut Lockstep<L, R>,
    program: &Program,
    look: Look,
) -> Replay {
    let run = Run::of(lockstep, program);
    let text = replay(&run, look);
    Replay { divergence: run.divergence, text }
}

/// The lines of a program, each with its result; the operation that `mark` is the number of is
/// marked.
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

/// The program of a run, with what each operation answered.
pub fn program(run: &Run, look: Look) -> String {
    let mark = run.divergence.as_ref().map(|divergence| divergence.step);
    program_lines(&run.program.limits, &run.program.ops, &results(run), mark, look).text(look)
}

/// A run as text.
pub fn replay(run: &Run, look: Look) -> String {
    let width = look.columns();
    let names = (run.names.0.as_str(), run.names.1.as_str());
    let text = program(run, look);
    let mut sheet = Sheet::default();
    let Some(divergence) = &run.divergence else {
        let line = format!("no divergence between {} and {}", names.0, names.1);
        sheet.words(0, [(line.as_str(), Ink::Plain)], width);
        return format!("{text}\n{}", sheet.text(look));
    };
    let place = format!("after operation {}", divergence.step);
    let words = [
        ("divergence", Ink::Plain),
        (divergence.signature.as_str(), Ink::Differs),
        (place.as_str(), Ink::Plain),
    ];
    sheet.words(0, words, width);
    format!("{text}\n{}{}", sheet.text(look), explained(run, look))
}

/// Why a run diverges, and its divergence drawn; nothing where there is none.
pub fn explained(run: &Run, look: Look) -> String {
    let Some(why) = why(run) else { return String::new() };
    let mut sheet = Sheet::default();
    sheet.words(0, [("why:", Ink::Title), (why.as_str(), Ink::Plain)], look.columns());
    let mut painter = Painter::new(Scope::Models);
    let pictures =
        run.steps.iter().map(|step| painter.picture(run.op(step), &step.left, &step.right));
    let names = (run.names.0.as_str(), run.names.1.as_str());
    let drawing = pictures.last().map(|last| draw::picture(&last, names, look));
    format!("{}\n{}", sheet.text(look), drawing.map_or_else(String::new, |d| d.text(look)))
}
