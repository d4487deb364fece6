//! Documents with parts that are written from the code.

#![allow(dead_code, reason = "no test needs all of them")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the path of a document.
pub(crate) fn path(document: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(document)
}

/// Returns the text of a document.
pub(crate) fn read(document: &str) -> String {
    fs::read_to_string(path(document)).unwrap_or_else(|e| panic!("{document}: {e}"))
}

/// Compares parts of a document with their wanted texts. A part begins with the line
/// `<!-- NAME: COMMAND -->` and ends with the line `<!-- end -->`. With `VMADIFF_RECORD` in the
/// environment the parts are written instead.
pub(crate) fn check_parts(document: &str, parts: &[(&str, String)]) {
    let text = read(document);
    let mut wanted = text.clone();
    let mut command = String::new();
    for (name, part) in parts {
        let begin = format!("<!-- {name}: ");
        let (before, rest) = wanted.split_once(&begin).unwrap_or_else(|| panic!("no part {name}"));
        let (line, rest) = rest.split_once(" -->\n").expect("the end of the comment");
        let (_, after) = rest.split_once("<!-- end -->").expect("the end of the part");
        command = line.to_owned();
        wanted = format!("{before}{begin}{line} -->\n{}\n<!-- end -->{after}", part.trim_end());
    }
    if std::env::var_os("VMADIFF_RECORD").is_some() {
        fs::write(path(document), &wanted).expect("the document is written");
        return;
    }
    assert!(text == wanted, "{document} is not up to date: {command}");
}

/// Returns the code blocks of a language in a document, each without its fences.
pub(crate) fn blocks(text: &str, language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let blocks = text.split(&fence).skip(1);
    blocks.map(|rest| rest.split("```").next().unwrap_or_default().to_owned()).collect()
}

/// Runs a command line of a document in a folder and returns its output and its errors.
fn output(command: &str, folder: &Path) -> String {
    let binaries = Path::new(env!("CARGO_BIN_EXE_vmadiff")).parent().expect("a folder");
    let mut paths = vec![binaries.to_owned()];
    paths.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
    let output = Command::new("sh")
        .args(["-c", &format!("({command}) 2>&1")])
        .current_dir(folder)
        .env("PATH", std::env::join_paths(paths).expect("a path"))
        .env("LC_ALL", "C")
        .env_remove("RUST_BACKTRACE")
        .output();
    String::from_utf8(output.expect("sh runs").stdout).expect("UTF-8")
}

/// Runs the commands of a document in one new folder, in their order, and compares their outputs. The
/// commands are the lines with `$ ` in code blocks of the language `console run`. With
/// `VMADIFF_RECORD` in the environment the outputs are written instead. Returns the number of
/// commands.
pub(crate) fn check_sessions(document: &str) -> usize {
    let text = read(document);
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["corpus", "examples", "machine"] {
        std::os::unix::fs::symlink(path(name), folder.path().join(name)).expect("a link");
    }
    let (mut wanted, mut runs, mut commands) = (String::new(), false, 0);
    for line in text.lines() {
        if runs && !line.starts_with("$ ") && line != "```" {
            continue;
        }
        wanted.push_str(line);
        wanted.push('\n');
        if line.starts_with("```") {
            runs = line == "```console run";
        }
        if let Some(command) = line.strip_prefix("$ ").filter(|_| runs) {
            commands += 1;
            let shown = output(command, folder.path());
            wanted.push_str(&shown);
            if !shown.is_empty() && !shown.ends_with('\n') {
                wanted.push('\n');
            }
        }
    }
    if std::env::var_os("VMADIFF_RECORD").is_some() {
        fs::write(path(document), &wanted).expect("the document is written");
    } else {
        let differ = text.lines().zip(wanted.lines()).find(|(was, is)| was != is);
        assert!(
            text == wanted,
            "{document} is not up to date: VMADIFF_RECORD=1 cargo test --test documents\n{differ:?}"
        );
    }
    commands
}
