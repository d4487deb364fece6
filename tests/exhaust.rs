//! `vmadiff exhaust`: its result, its exit status, bad input, and the shortest programs of docs/exhaust.md.
#![cfg(feature = "cli")]

mod common;
#[path = "common/document.rs"]
mod document;

use std::fs;
use std::num::NonZeroUsize;

use common::{command, interrupt, vmadiff};
use document::{check_parts, check_sessions, read};
use vmadiff::exhaust::search::{Options, Search};
use vmadiff::exhaust::world::World;
use vmadiff::known::Known;
use vmadiff::machines::MachineName;

/// The worlds in which the findings of v2 have their shortest programs, and the depths.
const SHORTEST: [(&str, usize); 3] = [("copy", 3), ("reuse", 12), ("uffd", 4)];

#[test]
fn the_document_has_the_shortest_program_of_each_finding() {
    let machine: MachineName = "candidate:v2".parse().expect("a machine");
    let known = Known::parse(&read("corpus/known-v2.txt")).expect("a list");
    let mut rows = Vec::new();
    for (name, depth) in SHORTEST {
        let world = World::named(name).expect("a world");
        let mut search = Search::new(&world, machine.judged()).expect("a state");
        let options = Options { depth, memory: 1 << 30, threads: NonZeroUsize::MIN, all: true };
        search.run(&world, &options, || machine.judged(), |_| false, |_, _| true);
        assert_eq!(search.complete(), Some(depth));
        for found in search.found() {
            let why = known.why(found.signature.as_str()).expect("a known finding of v2");
            let (bug, _) = why.split_once(':').expect("the letter of the bug");
            let program = search.program(&world, found);
            let ops: Vec<String> = program.ops.iter().map(|op| format!("`{op}`")).collect();
            let ops = ops.join("<br>").replace('|', "\\|");
            let signature = found.signature.to_string();
            rows.push((bug.to_owned(), signature, name, found.length, ops));
        }
    }
    rows.sort_by(|a, b| (&a.0, &a.1, a.3).cmp(&(&b.0, &b.1, b.3)));
    // A finding that two worlds have is shown with its shorter program.
    rows.dedup_by(|later, first| later.1 == first.1);
    let signatures: Vec<&str> = rows.iter().map(|row| row.1.as_str()).collect();
    // In the named worlds no allocation fails.
    let needs_memory =
        |signature| known.why(signature).is_some_and(|why| why.contains("no memory"));
    let mut expected = known.signatures().filter(|signature| !needs_memory(signature));
    assert!(expected.all(|signature| signatures.contains(&signature)), "{signatures:?}");
    let mut table =
        "| bug | signature | world | operations | program |\n|---|---|---|---|---|\n".to_owned();
    for (bug, signature, world, length, ops) in rows {
        table += &format!("| {bug} | `{signature}` | `{world}` | {length} | {ops} |\n");
    }
    check_parts("docs/exhaust.md", &[("shortest", table)]);
    // In the same test, because a recording writes the document.
    assert!(check_sessions("docs/exhaust.md") >= 3);
}

#[test]
fn the_status_tells_whether_there_is_a_new_divergence() {
    let folder = tempfile::tempdir().expect("a folder");
    let run = |args: &[&str]| vmadiff(folder.path(), &[&["exhaust"], args].concat());
    let (status, output, _) = run(&["tiny", "--depth", "2", "--right", "candidate:fixed"]);
    assert_eq!(status, Some(0));
    assert!(output.contains("no violated invariant; world tiny, programs up to 2 operations: "));
    let (status, output, _) = run(&["tiny", "--depth", "9"]);
    assert_eq!(status, Some(1), "{output}");
    assert!(output.contains("mremap 0 2 1 1 MAYMOVE|FIXED 1"), "{output}");
    assert!(
        output.contains("none has a shorter program in this world; world tiny, programs up to 2")
    );
    fs::write(folder.path().join("known"), "aliasing/use-after-free/copy_vma/vm_mm A\n")
        .expect("a file");
    let (status, output, _) = run(&["tiny", "--depth", "3", "--known", "known"]);
    assert_eq!(status, Some(0), "{output}");
    assert!(output.contains("0 new and 1 known distinct divergences"), "{output}");
    let (status, output, _) = run(&["uffd", "--depth", "4", "--right", "candidate:original"]);
    assert_eq!(status, Some(0), "the bugs of 5.2.1 are known: {output}");
    let (status, output, _) = run(&["tiny", "--memory", "1M", "--depth", "3"]);
    assert_eq!(status, Some(3), "{output}");
    assert!(
        output.contains("of no length yet: 1 states, 0 transitions; stopped: the table"),
        "{output}"
    );
    let (status, output, _) = run(&["uffd", "--depth", "4", "--alone", "candidate:original"]);
    assert_eq!(status, Some(1), "{output}");
    assert!(output.contains("offset/invariant/offset-changed"), "{output}");
}

#[test]
fn bad_use_is_refused_with_its_place_and_nothing_is_overwritten() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("world"), "pages 4\nmunmap 0 0..9 {1,x}\n").expect("a file");
    fs::write(folder.path().join("long"), "#".repeat(70_000)).expect("a file");
    for (args, what) in [
        (&["world"][..], "vmadiff: world: line 2, column 15: `x` is not a length"),
        (&["long"], "vmadiff: long: too long: expected a world of at most "),
        (&["none"], "expected a file or the name of a world: tiny, fork, copy"),
        (&["--memory", "2T"], "expected a number of bytes, such as 500M or 2G"),
        (&["--memory", "99999999999999999G"], "expected a number of bytes"),
        (&["--depth", "65"], "65 is not in 0..=64"),
        (&["--threads", "0"], "invalid value '0'"),
        (&["--resume", "world"], "vmadiff: world: not the file of a search"),
        (&["--resume", "."], "vmadiff: .: "),
        (&["--resume", "none/file"], "vmadiff: none/file: "),
    ] {
        let (status, output, errors) = vmadiff(folder.path(), &[&["exhaust"], args].concat());
        assert_eq!((status, output.as_str()), (Some(2), ""), "{args:?}: {errors}");
        assert!(errors.contains(what), "{args:?}: {errors}");
    }
    let world = fs::read_to_string(folder.path().join("world")).expect("a file");
    assert!(world.starts_with("pages 4\n"));
}

#[test]
#[cfg(unix)]
fn a_search_goes_on_after_ctrl_c() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("search");
    let args = ["exhaust", "tiny", "--right", "candidate:fixed", "--resume", "search", "--depth"];
    let with = |depth| [&args[..], &[depth]].concat();
    let (status, output) = interrupt(&mut command(folder.path(), &with("20")), || file.exists());
    assert_eq!(status, Some(130), "{output}");
    assert!(output.ends_with("; interrupted\n"), "{output}");
    let first = fs::metadata(&file).expect("the search").len();
    let (status, resumed, errors) = vmadiff(folder.path(), &with("4"));
    assert_eq!(status, Some(0), "{errors}");
    assert!(fs::metadata(&file).expect("the search").len() >= first, "nothing is lost");
    let (_, anew, _) =
        vmadiff(folder.path(), &["exhaust", "tiny", "--right", "candidate:fixed", "--depth", "4"]);
    // The first search may have gone deeper than the second one asks for.
    assert!(resumed == anew || resumed.lines().count() > anew.lines().count(), "{resumed}\n{anew}");
    let (status, _, errors) = vmadiff(folder.path(), &["exhaust", "tiny", "--resume", "search"]);
    assert_eq!(status, Some(2));
    assert!(errors.contains("expected reference and candidate:v2"), "{errors}");
}

#[test]
fn the_operations_of_a_world_are_printed() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("world"), "limits lock=1\nfork {0,1}\n").expect("a file");
    let (status, output, _) = vmadiff(folder.path(), &["exhaust", "world", "--operations"]);
    assert_eq!((status, output.as_str()), (Some(0), "limits lock=1\nfork 0\nfork 1\n"));
}
