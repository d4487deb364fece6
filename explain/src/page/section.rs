//! The section of a page about one divergence: program, reason, steps, and the command to replay it.

use maud::{Markup, html};
use vmadiff_lockstep::run::Run;

use super::content::{Page, STANDARD_INPUT, Shown};
use super::shell::quoted;
use super::steps::{Step, steps};
use super::svg;
use crate::finding::Finding;

/// Returns a box with a text. The script of the page adds a button that copies the text.
fn boxed(what: &str, text: &str) -> Markup {
    html! { div.box data-what=(what) { pre tabindex="0" aria-label=(what) { (text) } } }
}

impl Page {
    /// Returns the section of a divergence, number `n` of the page.
    pub(super) fn section(&self, n: usize, shown: &Shown, steps: &[Step<'_>]) -> Markup {
        let Finding { run, results, why, .. } = &shown.finding;
        let text = run.program.to_string();
        let heading = format!("d{n}");
        html! {
            section.divergence aria-labelledby=(heading) {
                h2 id=(heading) { (breakable(&signature(shown))) }
                @if let Some(why) = why { p.why { b { "Why: " } (why) } }
                @if let Some(known) = &shown.known { p { b { "Known: " } (known) } }
                h3 { "Program" }
                (boxed("the program", &text))
                h3 { "Step by step" }
                ol.steps {
                    @for step in steps {
                        (self.step(run, step, &results[step.at], step.at + 1 == performed(run)))
                    }
                }
                h3 { "Replay" }
                (boxed("the command", &self.command(shown, &text)))
                @if let Some(c) = &shown.reproducer {
                    details {
                        summary { "The program in C" }
                        (boxed("the program in C", c))
                    }
                }
            }
        }
    }

    fn command(&self, shown: &Shown, text: &str) -> String {
        let options = self.options.iter();
        let machines: Vec<String> =
            options.map(|(option, machine)| format!("{option} {}", quoted(machine))).collect();
        let machines = machines.join(" ");
        let mut command = format!("vmadiff replay {machines} /dev/stdin <<'END'\n{text}END");
        let files = || shown.files.iter().filter(|file| *file != STANDARD_INPUT);
        if files().next().is_some() {
            command.push_str("\n# as it was found:");
        }
        for file in files().take(3) {
            // A file name may contain a line break, which would end the comment.
            let file = file.replace(|c: char| c.is_control(), "?");
            command.push_str(&format!("\nvmadiff replay {machines} {}", quoted(&file)));
        }
        command
    }

    fn step(&self, run: &Run, step: &Step<'_>, result: &str, last: bool) -> Markup {
        let op = run.program.ops[step.at].to_string();
        let picture = step.picture;
        let living: Vec<String> = picture.processes.iter().map(|p| p.process.to_string()).collect();
        let differences = picture.differences(self.names());
        let diverges = run.divergence.as_ref().is_some_and(|d| d.step == step.at);
        html! {
            li.step.last[last] data-at=(step.at + 1) data-op=(op) data-living=(living.join(" ")) {
                p { b { (step.at + 1) ": " code { (op) } } " → " code { (result) } }
                @if diverges {
                    p.differs {
                        b { @if self.alone { "Here an invariant is broken." } @else { "Here the machines differ." } }
                    }
                    ul.differences { @for line in differences { li { code { (line) } } } }
                } @else {
                    @for word in &picture.said[0] { p.dim { (word.text) } }
                }
                @for &at in &step.changed {
                    (svg::process(&picture.processes[at], self.names(), diverges))
                }
            }
        }
    }
}

/// Returns the reason of a divergence and the drawing of its last operation: a block of HTML
/// without an empty line, so that it can be put into a Markdown file.
pub fn divergence(finding: &Finding) -> String {
    let names = finding.names();
    let steps = steps(finding);
    let drawings = steps.last().into_iter().flat_map(|step| {
        step.changed.iter().map(|&at| svg::process(&step.picture.processes[at], names, true))
    });
    let block = html! {
        div.step.last {
            @if let Some(why) = &finding.why { p.why { b { "Why: " } (why) } }
            @for drawing in drawings { (drawing) }
        }
    };
    block.into_string()
}

/// Returns the number of operations that were performed.
fn performed(run: &Run) -> usize {
    run.steps.last().map_or(0, |step| step.at + 1)
}

/// Returns text in which a line may also end after `/` and `:`. A signature and a path then do not
/// break inside a word.
pub(super) fn breakable(text: &str) -> Markup {
    html! {
        @for part in text.split_inclusive(['/', ':']) { (part) @if part.ends_with(['/', ':']) { wbr; } }
    }
}

/// Returns the signature of a divergence, as text.
pub(super) fn signature(shown: &Shown) -> String {
    shown.finding.run.divergence.as_ref().map_or_else(|| "none".into(), |d| d.signature.to_string())
}
