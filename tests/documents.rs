//! The documents: their facts are those of the code, and their commands do no harm to the project.

mod common {
    pub(crate) mod document;
}
#[path = "../examples/own_machine.rs"]
mod own_machine;

use std::fs;
use std::path::{Path, PathBuf};

use common::document::{check_parts, check_sessions, read};
use vmadiff::explain::contract::CONTRACT;

#[test]
fn the_contract_is_listed_point_by_point() {
    let mut table = "| point | rule | patch | function |\n|---|---|---|---|\n".to_owned();
    for (n, clause) in CONTRACT.iter().enumerate() {
        let patch = clause.patch.map_or("-", |patch| patch.number());
        table += &format!("| {} | {} | {patch} | `{}()` |\n", n + 1, clause.text, clause.function);
    }
    check_parts("docs/contract.md", &[("contract", table)]);
}

#[test]
fn fuzzing_by_a_document_writes_no_program_into_a_tracked_folder() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut seen = 0;
    let documents = [root.to_owned(), root.join("docs"), root.join("fuzz")];
    for folder in documents.iter().filter(|folder| folder.is_dir()) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("a file").path();
            if path.extension().is_none_or(|extension| extension != "md") {
                continue;
            }
            let text = fs::read_to_string(&path).expect("text");
            for command in text.lines().filter(|line| line.contains("cargo fuzz run ")) {
                seen += 1;
                // libFuzzer writes new programs to the first folder.
                let words = command.split("cargo fuzz run ").nth(1).unwrap_or_default();
                let words = words.split('#').next().unwrap_or_default();
                let first = words.split_whitespace().find(|word| word.contains('/'));
                let is_tracked = first.is_some_and(|first| first.starts_with("corpus"));
                assert!(!is_tracked, "{}: {command}", path.display());
            }
        }
    }
    assert!(seen >= 2);
    let ignored = fs::read_to_string(root.join(".gitignore")).expect(".gitignore");
    assert!(ignored.lines().any(|line| line == "/fuzz/corpus"));
}

#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn the_commands_of_the_documents_show_what_the_documents_say() {
    for (document, least) in
        [("README.md", 8), ("docs/text-format.md", 1), ("docs/tutorial.md", 15)]
    {
        let commands = check_sessions(document);
        assert!(commands >= least, "{document} runs {commands} commands");
    }
}

#[test]
fn the_machine_of_the_document_agrees_with_the_reference() {
    assert!(own_machine::compare(20_000) > 20_000);
    let code = format!("```rust\n{}```", read("examples/own_machine.rs"));
    check_parts("docs/own-machine.md", &[("machine", code)]);
    // In the same test, because a recording writes the document.
    assert_eq!(check_sessions("docs/own-machine.md"), 2);
}

#[test]
fn every_command_is_listed() {
    let list = read("docs/command-line.md");
    let help = std::process::Command::new(env!("CARGO_BIN_EXE_vmadiff")).arg("--help").output();
    let help = String::from_utf8(help.expect("it runs").stdout).expect("UTF-8");
    let (_, commands) = help.split_once("Commands:\n").expect("commands");
    let (commands, _) = commands.split_once("\n\n").expect("the end of the commands");
    // A further line of a description is indented more than a name.
    let names = commands.lines().filter_map(|line| line.strip_prefix("  "));
    let names = names.filter(|line| !line.starts_with(' ')).filter_map(|l| l.split(' ').next());
    let names: Vec<&str> = names.filter(|name| *name != "help").collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        let listed =
            list.contains(&format!("`vmadiff {name}")) || list.contains(&format!("`{name}`"));
        assert!(listed, "{name} is not listed");
    }
}

/// Returns the documents of the project, each with its folder, its path and its text.
fn documents() -> Vec<(PathBuf, PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = Vec::new();
    for folder in [root.to_owned(), root.join("docs")] {
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("a file").path();
            if path.extension().is_some_and(|extension| extension == "md") {
                let text = fs::read_to_string(&path).expect("text");
                documents.push((folder.clone(), path, text));
            }
        }
    }
    documents
}

#[test]
fn every_link_of_a_document_leads_to_a_file() {
    let mut links = 0;
    for (folder, path, text) in documents() {
        for link in text.split("](").skip(1) {
            let link = link.split(')').next().unwrap_or_default();
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            if link.contains("://") || link.contains([' ', '{']) {
                continue;
            }
            links += 1;
            let target = match file {
                "" => path.clone(),
                file => folder.join(file),
            };
            assert!(target.exists(), "{}: {link}", path.display());
            if !heading.is_empty() && target.extension().is_some_and(|e| e == "md") {
                let text = fs::read_to_string(&target).expect("text");
                let headings = text.lines().filter_map(|line| line.strip_prefix('#'));
                let slug = |line: &str| {
                    let line = line.trim_start_matches('#').trim().to_lowercase();
                    let kept = line.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
                    kept.collect::<String>().replace(' ', "-")
                };
                assert!(headings.map(slug).any(|h| h == heading), "{}: {link}", path.display());
            }
        }
    }
    assert!(links > 30, "{links} links");
}

#[test]
fn a_line_of_prose_has_at_most_120_columns() {
    let mut lines = 0;
    for (_, path, text) in documents() {
        // The lines of docs/review.md are those of docs/review.in.md, and of drawings.
        if path.ends_with("docs/review.md") {
            continue;
        }
        let mut is_code = false;
        for line in text.lines() {
            is_code ^= line.starts_with("```");
            // A row of a table, a comment and a linked picture cannot be broken.
            if is_code || ["|", "<!--", "[!["].iter().any(|start| line.starts_with(start)) {
                continue;
            }
            assert!(line.chars().count() <= 120, "{}: {line}", path.display());
            lines += 1;
        }
    }
    assert!(lines > 1000, "{lines} lines");
}
