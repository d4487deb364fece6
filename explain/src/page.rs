//! Divergences as a page: one file of HTML that asks for nothing else and may be mailed.
//!
//! It lists every operation; a script in it shows one at a time instead. All text is escaped by
//! the template engine, the data where they are put in, and the page's own policy forbids to run
//! anything but its own script and to load anything at all: what a corpus file, its name or a list
//! of known divergences says can do nothing but be read.

mod svg;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use vmadiff_lockstep::compare::Scope;
use vmadiff_lockstep::divergence::Class;
use vmadiff_lockstep::run::Run;

use crate::picture::{self, Painter, Picture, ProcessPicture, Side};
use crate::report::results;
use crate::why::why;

const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/stepper.js");

/// What a page is made of.
#[derive(Debug)]
pub struct Page {
    /// The names of the machines, left and right.
    pub names: (String, String),
    /// Programs that were run to find the divergences.
    pub programs: usize,
    /// Files that were no programs.
    pub skipped: usize,
    /// The divergences, in the order they are shown.
    pub divergences: Vec<Shown>,
}

/// A divergence, as it is shown.
#[derive(Debug)]
pub struct Shown {
    /// The program, and what followed.
    pub run: Run,
    /// Why it is known, if it is.
    pub known: Option<String>,
    /// The files whose programs show it.
    pub files: Vec<String>,
    /// The program in C, for a kernel that has the call; where the page has room.
    pub reproducer: Option<String>,
}

/// The data of the page, for scripts and tests.
#[derive(Serialize)]
struct Data<'a> {
    left: &'a str,
    right: &'a str,
    programs: usize,
    skipped: usize,
    divergences: Vec<DivergenceData>,
}

#[derive(Serialize)]
struct DivergenceData {
    class: &'static str,
    signature: String,
    why: String,
    known: Option<String>,
    program: String,
    files: Vec<String>,
    differences: Vec<String>,
    steps: Vec<StepData>,
}

#[derive(Serialize)]
struct StepData {
    op: String,
    result: String,
    living: Vec<usize>,
    /// The processes that the operation changed.
    processes: Vec<ProcessData>,
}

#[derive(Serialize)]
struct ProcessData {
    process: usize,
    left: Option<Vec<BarData>>,
    right: Option<Vec<BarData>>,
}

/// First page, end, and what is said of the VMA.
#[derive(PartialEq, Serialize)]
struct BarData(u8, u8, String);

/// A step of a run, with its picture.
struct Step {
    at: usize,
    picture: Picture,
    /// The processes that it changed, or whose machines differ: positions in the picture.
    changed: Vec<usize>,
}

fn steps(run: &Run) -> Vec<Step> {
    let mut painter = Painter::new(Scope::Models);
    let mut steps: Vec<Step> = Vec::new();
    for step in &run.steps {
        let picture = painter.picture(run.op(step), &step.left, &step.right);
        let before = steps.last().map(|step| &step.picture);
        let is_new = |process: &ProcessPicture| {
            let same = before.and_then(|picture| {
                picture.processes.iter().find(|other| other.process == process.process)
            });
            // What a merge has joined is news of one step only.
            !process.same()
                || !process.touched.is_empty()
                || same.is_none_or(|other| {
                    side_data(&other.left) != side_data(&process.left)
                        || counters(&other.left) != counters(&process.left)
                })
        };
        let changed =
            (0..picture.processes.len()).filter(|&at| is_new(&picture.processes[at])).collect();
        steps.push(Step { at: step.at, picture, changed });
    }
    steps
}

fn counters(side: &Side) -> Vec<String> {
    match side {
        Side::Alive(space) => space.counters.iter().map(|word| word.text.clone()).collect(),
        Side::Gone | Side::Lost => Vec::new(),
    }
}

fn side_data(side: &Side) -> Option<Vec<BarData>> {
    let Side::Alive(space) = side else { return None };
    let bar = |bar: &picture::Bar| {
        let words: Vec<&str> = bar.words.iter().map(|word| word.text.as_str()).collect();
        BarData(bar.range.start, bar.range.end, words.join(" "))
    };
    Some(space.bars.iter().map(bar).collect())
}

/// JSON for the inside of a script element, where nothing may look like markup: what could is
/// escaped as JSON escapes characters.
fn embedded(data: &impl Serialize) -> serde_json::Result<PreEscaped<String>> {
    let mut text = String::new();
    for c in serde_json::to_string(data)?.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                text.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => text.push(c),
        }
    }
    Ok(PreEscaped(text))
}

/// A word for a shell, whatever is in it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=,@%".contains(c);
    if !word.is_empty() && !word.starts_with('-') && word.chars().all(plain) {
        word.to_owned()
    } else {
        let dash = if word.starts_with('-') { "./" } else { "" };
        format!("'{dash}{}'", word.replace('\'', "'\\''"))
    }
}

/// Text in a box, which the script gives a button to copy it with.
fn boxed(what: &str, text: &str) -> Markup {
    html! { div.box data-what=(what) { pre tabindex="0" aria-label=(what) { (text) } } }
}

impl Page {
    /// The page.
    ///
    /// # Errors
    /// Where its data cannot be written as JSON, which does not happen.
    pub fn render(&self) -> serde_json::Result<String> {
        let all: Vec<Vec<Step>> = self.divergences.iter().map(|shown| steps(&shown.run)).collect();
        let data = Data {
            left: &self.names.0,
            right: &self.names.1,
            programs: self.programs,
            skipped: self.skipped,
            divergences: self
                .divergences
                .iter()
                .zip(&all)
                .map(|(shown, steps)| self.data(shown, steps))
                .collect(),
        };
        let hash = STANDARD.encode(Sha256::digest(SCRIPT));
        let title = format!("vmadiff: {} against {}", self.names.1, self.names.0);
        let page = html! {
            (DOCTYPE)
            html lang="en" {
                (head(&title, &format!("script-src 'sha256-{hash}'")))
                body {
                    header {
                        h1 { (title) }
                        (self.summary())
                    }
                    main {
                        @for (n, (shown, steps)) in self.divergences.iter().zip(&all).enumerate() {
                            (self.divergence(n, shown, steps))
                        }
                    }
                    footer { (legend()) }
                    script #data type="application/json" { (embedded(&data)?) }
                    script { (PreEscaped(SCRIPT)) }
                }
            }
        };
        Ok(page.into_string())
    }

    fn names(&self) -> (&str, &str) {
        (&self.names.0, &self.names.1)
    }

    fn data(&self, shown: &Shown, steps: &[Step]) -> DivergenceData {
        let divergence = shown.run.divergence.as_ref();
        let results = results(&shown.run);
        let step = |step: &Step| StepData {
            op: shown.run.program.ops[step.at].to_string(),
            result: results[step.at].clone(),
            living: step.picture.processes.iter().map(|p| p.process).collect(),
            processes: step
                .changed
                .iter()
                .map(|&at| &step.picture.processes[at])
                .map(|p| ProcessData {
                    process: p.process,
                    left: side_data(&p.left),
                    right: side_data(&p.right),
                })
                .collect(),
        };
        let last = steps.last().map(|step| step.picture.differences(self.names()));
        DivergenceData {
            class: divergence.map_or("none", |d| d.class.name()),
            signature: divergence.map_or_else(|| "none".into(), |d| d.signature.to_string()),
            why: why(&shown.run).unwrap_or_default(),
            known: shown.known.clone(),
            program: shown.run.program.to_string(),
            files: shown.files.clone(),
            differences: last.unwrap_or_default(),
            steps: steps.iter().map(step).collect(),
        }
    }

    fn summary(&self) -> Markup {
        let of = |class: Class| {
            self.divergences
                .iter()
                .enumerate()
                .filter(move |(_, s)| s.run.divergence.as_ref().is_some_and(|d| d.class == class))
        };
        let operations: usize = self.divergences.iter().map(|s| s.run.steps.len()).sum();
        html! {
            p {
                "Two machines were fed the same operations: "
                b { (self.names.0) } ", which is taken to be right, and "
                b { (self.names.1) } ", which is judged by it. "
                (self.programs) " programs were run"
                @if self.skipped > 0 { ", " (self.skipped) " files were no programs" }
                "; " (self.divergences.len()) " divergences are shown below, in "
                (operations) " operations."
            }
            @if self.divergences.is_empty() {
                p { b { "No divergence was found." } }
            } @else {
                table {
                    caption.dim { "Divergences by class" }
                    thead {
                        tr {
                            th scope="col" { "class" }
                            th scope="col" { "divergence" }
                            th.count scope="col" { "operations" }
                            th.count scope="col" { "files" }
                        }
                    }
                    tbody {
                        @for class in Class::ALL {
                            @for (n, shown) in of(class) {
                                tr {
                                    td { (class) }
                                    td {
                                        a href=(format!("#d{n}")) { (signature(shown)) }
                                        @if let Some(known) = &shown.known {
                                            span.dim { " known: " (known) }
                                        }
                                    }
                                    td.count { (shown.run.program.ops.len()) }
                                    td.count { (shown.files.len()) }
                                }
                            }
                        }
                    }
                }
            }
        }
    }

    fn divergence(&self, n: usize, shown: &Shown, steps: &[Step]) -> Markup {
        let run = &shown.run;
        let text = run.program.to_string();
        let results = results(run);
        let heading = format!("d{n}");
        html! {
            section.divergence aria-labelledby=(heading) {
                h2 id=(heading) { (signature(shown)) }
                @if let Some(why) = why(run) { p.why { b { "Why: " } (why) } }
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
        let machines =
            format!("--left {} --right {}", quoted(&self.names.0), quoted(&self.names.1));
        let mut command = format!("vmadiff replay {machines} /dev/stdin <<'END'\n{text}END");
        if !shown.files.is_empty() {
            command.push_str("\n# as it was found:");
        }
        for file in shown.files.iter().take(3) {
            // A name may be anything, and a line break would end the comment.
            let file = file.replace(|c: char| c.is_control(), "?");
            command.push_str(&format!("\nvmadiff replay {machines} {}", quoted(&file)));
        }
        command
    }

    fn step(&self, run: &Run, step: &Step, result: &str, last: bool) -> Markup {
        let op = run.program.ops[step.at].to_string();
        let picture = &step.picture;
        let living: Vec<String> = picture.processes.iter().map(|p| p.process.to_string()).collect();
        let differences = picture.differences(self.names());
        let diverges = run.divergence.as_ref().is_some_and(|d| d.step == step.at);
        html! {
            li.step.last[last] data-at=(step.at) data-op=(op) data-living=(living.join(" ")) {
                p { b { (step.at) ": " code { (op) } } " → " code { (result) } }
                @if diverges {
                    p.differs { b { "Here the machines differ." } }
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

/// Why a run diverges, and its last operation drawn: a block of HTML without an empty line, to be
/// put into another text.
pub fn divergence(run: &Run) -> String {
    let names = (run.names.0.as_str(), run.names.1.as_str());
    let steps = steps(run);
    let drawings = steps.last().into_iter().flat_map(|step| {
        step.changed.iter().map(|&at| svg::process(&step.picture.processes[at], names, true))
    });
    let block = html! {
        div.step.last {
            @if let Some(why) = why(run) { p.why { b { "Why: " } (why) } }
            @for drawing in drawings { (drawing) }
        }
    };
    block.into_string()
}

/// The head of a page that loads nothing, and runs no script but that of `scripts`, a directive of
/// its policy.
fn head(title: &str, scripts: &str) -> Markup {
    let policy = format!(
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; {scripts}; base-uri 'none'; \
         form-action 'none'"
    );
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta http-equiv="Content-Security-Policy" content=(policy);
            meta name="referrer" content="no-referrer";
            link rel="icon" href="data:,";
            title { (title) }
            style { (PreEscaped(STYLE)) }
        }
    }
}

/// A page without a script around `body`, which is HTML already.
pub fn article(title: &str, body: &str) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            (head(title, "script-src 'none'"))
            body {
                main { (PreEscaped(body)) }
                footer { (legend()) }
            }
        }
    };
    let mut text = page.into_string();
    text.push('\n');
    text
}

/// One past the position of the last operation that was performed.
fn performed(run: &Run) -> usize {
    run.steps.last().map_or(0, |step| step.at + 1)
}

fn signature(shown: &Shown) -> String {
    shown.run.divergence.as_ref().map_or_else(|| "none".into(), |d| d.signature.to_string())
}

fn legend() -> Markup {
    html! {
        h2 { "How to read a drawing" }
        p {
            "A box is a VMA, on a ruler of pages. In it are its permissions (s shared, S shared of a \
             file open for reading, p private), its vm_pgoff (@n; of anonymous memory counted from \
             the arena), its flags, anon=A[BA] for its anon_vma and chain (newest first), file, \
             userfaultfd context and policy. Where the machines agree, one drawing stands for both. "
            b { "!" } " and a thick edge mark what differs; brackets are what the operation touched; a \
             dashed line is an edge that a merge has taken away."
        }
        p.mono {
            @for (n, (short, name)) in picture::legend().enumerate() {
                @if n > 0 { ", " }
                (short) " " (name)
            }
            ", -sd without VM_SOFTDIRTY"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_data_end_no_script_and_read_back_the_same() {
        let hostile = "</script><!--<script>&amp;\u{2028}'\"";
        let text = embedded(&[hostile]).expect("JSON").0;
        assert!(!text.contains(['<', '>', '&', '\u{2028}']), "{text}");
        let back: Vec<String> = serde_json::from_str(&text).expect("JSON");
        assert_eq!(back, [hostile]);
    }

    #[test]
    fn a_file_name_is_one_word_for_a_shell() {
        for (name, word) in [
            ("corpus/seeds/bug-a.txt", "corpus/seeds/bug-a.txt"),
            ("a b", "'a b'"),
            ("$(rm -r x)'`", "'$(rm -r x)'\\''`'"),
            ("", "''"),
            ("-o", "'./-o'"),
        ] {
            assert_eq!(quoted(name), word);
        }
    }
}
