//! The review in `docs/`: the claims of its programs hold, and its pages show these programs.
//!
//! `ci/review` writes docs/review.md and docs/review.html from docs/review.in.md and the programs
//! in corpus/review. A test fails if the pages differ from the output of `ci/review`.
//!
//! The first line of a program is a sentence. The claims follow: `# MACHINE: CLAIM, CLAIM…`. A
//! claim is about the comparison of the machine with the reference (`agrees`, `diverges
//! SIGNATURE`), or about the state of the machine after the last operation. The machine runs in
//! lockstep with the reference; with `alone` it runs without the reference.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use vmadiff::compare::Scope;
use vmadiff::explain::merge_conditions;
use vmadiff::finding::Finding;
use vmadiff::machines::MachineName;
use vmadiff::page;
use vmadiff::picture::{Painter, Side, pages_text};
use vmadiff::results::result_text;
use vmadiff::run::Run;
use vmadiff::text::{self as render, Look};
use vmadiff_machine::{Observation, Program};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A program of the review.
struct Reviewed {
    text: String,
    program: Program,
    /// A sentence that says what the program shows.
    sentence: String,
    /// The machine, whether it runs alone, and the claims.
    claims: Vec<(String, bool, Vec<String>)>,
}

fn reviewed() -> BTreeMap<String, Reviewed> {
    let folder = root().join("corpus/review");
    let files = fs::read_dir(&folder).expect("a folder");
    let files = files.map(|entry| entry.expect("a file").path());
    files
        .map(|path: PathBuf| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let text = read(&path);
            let program: Program = text.parse().unwrap_or_else(|e| panic!("{name}: {e}"));
            let mut comments = text.lines().map_while(|line| line.strip_prefix("# "));
            let sentence = comments.next().expect("a sentence").to_owned();
            let claims: Vec<_> = comments
                .map(|line| {
                    let (machine, claims) = line.split_once(": ").expect("MACHINE: CLAIMS");
                    let alone = machine.strip_suffix(" alone");
                    let claims = claims.split(", ").map(str::to_owned).collect();
                    (alone.unwrap_or(machine).to_owned(), alone.is_some(), claims)
                })
                .collect();
            assert!(!claims.is_empty(), "{name} claims nothing");
            (name, Reviewed { text, program, sentence, claims })
        })
        .collect()
}

fn machine(name: &str) -> MachineName {
    let name = if name == "reference" { name.into() } else { format!("candidate:{name}") };
    MachineName::in_process(&name, Path::new("")).unwrap_or_else(|e| panic!("{e}"))
}

fn run(program: &Program, right: MachineName) -> Run {
    Run::of(&mut right.judged(), program)
}

/// Returns whether a claim holds for the state of a machine after the last operation.
fn holds(claim: &str, program: &Program, seen: &[Observation]) -> bool {
    let last = seen.last().expect("an operation");
    let copy = || last.copy.expect("copy_vma() ran");
    let mut painter = Painter::new(Scope::Models);
    let pictures = program.ops.iter().zip(seen).map(|(op, seen)| painter.picture(op, seen, seen));
    let picture = pictures.last().expect("a picture");
    let words: Vec<&str> = claim.split(' ').collect();
    let pages = |text: &str| {
        let (start, end) = text.split_once("..").expect("pages");
        let page = |text: &str| text.parse::<u8>().expect("a page");
        page(start)..page(end)
    };
    match words[..] {
        ["merged"] => copy().merged,
        ["duplicated"] => !copy().merged,
        ["redirected"] => copy().source_redirected,
        ["not", "redirected"] => !copy().source_redirected,
        ["locks", "needed"] => copy().need_rmap_locks,
        ["locks", "not", "needed"] => !copy().need_rmap_locks,
        ["answers", result] => result_text(last.result) == result,
        ["process", process, ref rest @ ..] => {
            let process: usize = process.parse().expect("a process");
            let space = &last.spaces[process];
            assert!(space.alive, "{claim}: no such process");
            let shown = picture.processes.iter().find(|p| p.process == process).map(|p| &p.left);
            let Some(Side::Alive(shown)) = shown else { panic!("{claim}: not shown") };
            let says = |page: u8, word: &str| {
                let bar = shown.bars.iter().find(|bar| bar.range.contains(page));
                let bar = bar.unwrap_or_else(|| panic!("{claim}: page {page} is not mapped"));
                let with_value = format!("{word}=");
                bar.words.iter().any(|w| w.text == word || w.text.starts_with(&with_value))
            };
            let maps = |page| shown.bars.iter().any(|bar| bar.range.contains(page));
            match *rest {
                ["pages", "none"] => space.anon_pages == 0,
                ["pages", ref ranges @ ..] => pages_text(space.anon_pages) == ranges.join(" "),
                [range, "has", word] => pages(range).all(|page| says(page, word)),
                [range, "lacks", word] => pages(range).all(|page| !says(page, word)),
                [range, "is", "mapped"] => pages(range).all(maps),
                [range, "is", "not", "mapped"] => !pages(range).any(maps),
                [counter, value] => {
                    let value: i64 = value.parse().expect("a number");
                    let counters = &space.counters;
                    value
                        == match counter {
                            "total" => counters.total_vm,
                            "locked" => counters.locked_vm,
                            "data" => counters.data_vm,
                            "maps" => counters.map_count,
                            other => panic!("no counter is called {other}"),
                        }
                }
                _ => panic!("no claim: {claim}"),
            }
        }
        _ => panic!("no claim: {claim}"),
    }
}

#[test]
fn every_program_of_the_review_shows_what_it_claims() {
    show_what_they_claim(|of| !has_fault(of));
}

#[test]
#[ignore = "the libraries are needed: ci/faults build mask-no-lockonfault"]
fn every_program_of_the_review_shows_what_it_claims_of_seeded_faults() {
    show_what_they_claim(has_fault);
}

/// Returns whether a machine has a seeded fault, so that it is a library.
fn has_fault(machine: &str) -> bool {
    machine.contains('+')
}

/// Checks the claims about the chosen machines.
fn show_what_they_claim(chosen: fn(&str) -> bool) {
    let mut checked = 0;
    for (name, reviewed) in reviewed() {
        for (of, alone, claims) in reviewed.claims.iter().filter(|(of, ..)| chosen(of)) {
            checked += 1;
            let program = &reviewed.program;
            let run = run(program, machine(of));
            let found = run.divergence.as_ref().map(|d| d.signature.as_str());
            let seen: Vec<Observation> = if *alone {
                let mut machine = machine(of).build();
                machine.reset(&program.limits);
                let mut seen = Observation::default();
                let step = |op| {
                    machine.step(op, &mut seen);
                    assert!(!seen.is_fatal(), "{name}: {of} does not survive");
                    seen.clone()
                };
                program.ops.iter().map(step).collect()
            } else {
                run.steps.iter().map(|step| step.right.clone()).collect()
            };
            for claim in claims {
                let is_true = match claim.strip_prefix("diverges ") {
                    Some(signature) => found == Some(signature),
                    None if claim == "agrees" => found.is_none(),
                    None => {
                        assert_eq!(seen.len(), program.ops.len(), "{name}: {of} ends before");
                        holds(claim, program, &seen)
                    }
                };
                assert!(is_true, "{name}: {of}: {claim} is not so; divergence: {found:?}");
            }
        }
    }
    assert_ne!(checked, 0);
}

#[test]
fn how_many_entries_the_chains_of_the_six_bugs_have() {
    // Question 5: a restriction to one entry would refuse the programs with longer chains.
    for (name, process, page, entries) in [
        ("aliasing", 0, 4, 0),
        ("aliasing-overlap", 0, 1, 0),
        ("keep-locked", 0, 1, 1),
        ("rmap-locks", 0, 3, 1),
        ("rmap-lost", 3, 0, 5),
        ("page-table-lock", 0, 1, 1),
    ] {
        let run = run(&reviewed()[name].program, machine("fixed"));
        let before = run.program.ops.iter().rposition(|op| op.to_string().starts_with(['c', 'm']));
        let before = before.expect("an operation");
        let copies = |at: &usize| {
            let text = run.program.ops[*at].to_string();
            text.starts_with("copy") || text.starts_with("mremap")
        };
        let at = (0..=before).rev().find(copies).expect("a copy or a move");
        let space = &run.before(at).0.spaces[process];
        let vma = space.vma_at(vmadiff_machine::operand::Page(page)).expect("the source");
        assert_eq!(space.chain(vma).len(), entries, "{name}");
    }
}

/// The format of the written review.
#[derive(Clone, Copy, PartialEq)]
enum Form {
    Markdown,
    Html,
}

/// Returns the review with its programs inserted.
fn render(form: Form, programs: &BTreeMap<String, Reviewed>, used: &mut Vec<String>) -> String {
    let source = read(&root().join("docs/review.in.md"));
    let mut out = String::new();
    let mut rest = source.as_str();
    while let Some((before, after)) = rest.split_once("{{") {
        out.push_str(before);
        let (directive, after) = after.split_once("}}").expect("an end");
        rest = after;
        let words: Vec<&str> = directive.split(' ').collect();
        let name = words[1];
        used.push(name.to_owned());
        let of = programs.get(name).unwrap_or_else(|| panic!("no program is called {name}"));
        match words[..] {
            ["cell", _] => out.push_str(&cell(name, of)),
            ["list", _] => out.push_str(&listed(name, of)),
            ["show", _, right] => out.push_str(&shown(name, of, machine(right), form)),
            _ => panic!("no directive: {directive}"),
        }
    }
    out.push_str(rest);
    out
}

fn link(name: &str) -> String {
    format!("[{name}](../corpus/review/{name}.txt)")
}

/// Returns a cell of the table: whether the VMAs merge, and the reason of the merge rule.
fn cell(name: &str, of: &Reviewed) -> String {
    let run = run(&of.program, machine("fixed"));
    let copy = run.steps.last().and_then(|step| step.left.copy).expect("copy_vma() ran");
    let conditions = merge_conditions(&run);
    assert_eq!(
        copy.merged,
        conditions.iter().any(|c| c.starts_with("every condition for a merge")),
        "{name}: the reference and the conditions disagree: {conditions:?}"
    );
    let word = if copy.merged { "**merges**" } else { "**stays apart**" };
    format!("{word}: {} ({})", conditions.join("; "), link(name))
}

/// Returns the program with its claims.
fn listed(name: &str, of: &Reviewed) -> String {
    let body: Vec<&str> = of.text.lines().skip(1).collect();
    format!("{} ({})\n\n```text\n{}\n```", of.sentence, link(name), body.join("\n"))
}

/// Returns the program as `vmadiff replay` shows it for one revision.
fn shown(name: &str, of: &Reviewed, right: MachineName, form: Form) -> String {
    let finding = Finding::of(run(&of.program, right));
    let mut text = format!("{} ({})\n\n", of.sentence, link(name));
    match form {
        Form::Markdown => {
            let _ = write!(text, "```text\n{}```", render::finding(&finding, Look::default()));
        }
        Form::Html => {
            let program = render::program(&finding, Look::default());
            let _ = write!(text, "```text\n{program}```\n\n");
            // In Markdown an empty line ends a block of HTML. The divergence has no empty line.
            text.push_str(&page::divergence(&finding));
        }
    }
    text
}

fn html(markdown: &str) -> String {
    use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag};
    let events: Vec<Event<'_>> = Parser::new_ext(markdown, Options::ENABLE_TABLES).collect();
    // Headings have the same names as in a Markdown viewer, so that links to them work.
    let mut titles = Vec::new();
    for (at, event) in events.iter().enumerate() {
        if let Event::Start(Tag::Heading { .. }) = event {
            let words = events[at + 1..].iter().take_while(|e| !matches!(e, Event::End(_)));
            let title: String = words
                .map(|event| match event {
                    Event::Text(text) | Event::Code(text) => text.to_string(),
                    _ => String::new(),
                })
                .collect();
            let kept = title.to_lowercase().replace(' ', "-");
            let kept = kept.chars().filter(|c| c.is_alphanumeric() || "-_".contains(*c));
            titles.push(kept.collect::<String>());
        }
    }
    let mut titles = titles.into_iter();
    let events = events.into_iter().map(|event| match event {
        Event::Start(Tag::Heading { level, classes, attrs, .. }) => {
            let id = titles.next().filter(|_| level != HeadingLevel::H1);
            Event::Start(Tag::Heading { level, id: id.map(Into::into), classes, attrs })
        }
        event => event,
    });
    let mut body = String::new();
    pulldown_cmark::html::push_html(&mut body, events);
    page::article("The review of “mm: Extend copy_vma()”", &body)
}

#[test]
fn the_review_is_what_its_programs_show() {
    let programs = reviewed();
    let mut used = Vec::new();
    let markdown = render(Form::Markdown, &programs, &mut used);
    let page = html(&render(Form::Html, &programs, &mut used));
    for name in programs.keys() {
        assert!(used.contains(name), "{name} is not in the review");
    }
    let note = "<!-- Written by ci/review from docs/review.in.md and corpus/review. -->\n\n";
    for (file, text) in [("review.md", format!("{note}{markdown}")), ("review.html", page)] {
        let path = root().join("docs").join(file);
        if std::env::var_os("REVIEW").is_some_and(|what| what == "write") {
            fs::write(&path, &text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        }
        assert!(read(&path) == text, "docs/{file} is out of date: ci/review writes it");
    }
}
