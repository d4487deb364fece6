//! The commands of the command line: exit status, output, and bad input.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

fn vmadiff(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vmadiff"))
        .args(args)
        .current_dir(folder)
        .output()
        .expect("it runs")
}

fn status(output: &Output) -> i32 {
    output.status.code().expect("it exits")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("UTF-8")
}

const BUG_A: &str = "mmap 0 1 6 rw anon_private\nmremap 0 4 2 2 MAYMOVE|FIXED 2\n";
const BUG_C: &str =
    "mmap 0 3 9 rw anon_private LOCKED\nfork 0\nfork 0\ncopy 2 5 3 0 20 FIXED\nmunmap 0 1 4\n";

/// Makes a folder with one program for each kind of problem.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, bytes) in [
        ("a.txt", BUG_A.as_bytes()),
        ("c.txt", BUG_C.as_bytes()),
        ("good.txt", b"limits lock=4 # pages\nmmap 0 1 2 rw anon_private\n"),
        ("empty", b""),
        ("wrong.txt", b"mmap 0 1 6 rw anon_private\nmremap 0 64 2 2\n"),
        ("wrong.vmad", b"VMAD\x01\x00\x00\x00\x00\x0c\x00\x63"),
        ("binary", b"ab\xff\xfe"),
    ] {
        fs::write(folder.path().join(name), bytes).expect("a file");
    }
    folder
}

#[test]
fn replay_says_what_diverges_and_exits_with_1() {
    let folder = folder();
    let output = vmadiff(folder.path(), &["replay", "a.txt"]);
    assert_eq!(status(&output), 1, "{}", stderr(&output));
    let text = stdout(&output);
    assert!(
        text.contains("divergence aliasing/use-after-free/copy_vma/vm_mm after operation 2"),
        "{text}"
    );
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    for right in ["candidate:original", "candidate:fixed", "reference"] {
        let output = vmadiff(folder.path(), &["replay", "a.txt", "good.txt", "--right", right]);
        assert_eq!(status(&output), 0, "{right}: {}", stdout(&output));
        assert_eq!(stdout(&output).matches("no divergence").count(), 2);
    }
}

#[test]
fn colours_are_for_terminals_or_whoever_asks_and_ascii_for_whoever_asks() {
    let folder = folder();
    let text = |args: &[&str]| {
        let output = vmadiff(folder.path(), &[&["replay", "a.txt"], args].concat());
        assert_eq!(status(&output), 1, "{args:?}: {}", stderr(&output));
        stdout(&output)
    };
    let piped = text(&[]);
    assert!(!piped.contains('\x1b') && !piped.is_ascii(), "{piped}");
    assert_eq!(text(&["--color", "never"]), piped);
    assert_eq!(text(&["--color", "auto"]), piped);
    assert!(text(&["--color", "always"]).contains("\x1b["));
    assert!(text(&["--ascii"]).is_ascii());
    assert!(
        text(&["--ascii"]).contains("why: [1,2), the new range [2,4) and the source VMA [4,7)")
    );
    let output = vmadiff(folder.path(), &["triage", "a.txt", "--ascii"]);
    assert!(stdout(&output).is_ascii());
    assert!(stdout(&output).contains("\nwhy: "), "{}", stdout(&output));
    assert_eq!(status(&vmadiff(folder.path(), &["replay", "a.txt", "--color", "blue"])), 2);
}

#[test]
fn bad_input_is_refused_with_file_and_place() {
    let folder = folder();
    for (file, place) in [
        ("empty", "empty: the file is empty"),
        ("wrong.txt", "wrong.txt: line 2, column 10: `64` is not a page, 0 to 63"),
        ("wrong.vmad", "wrong.vmad: offset 11: no operation has the number 99"),
        ("binary", "binary: offset 2: neither a corpus file"),
        ("missing", "missing: No such file"),
        (".", ".: "),
    ] {
        let commands: [&[&str]; 4] = [
            &["replay", "a.txt", file],
            &["fmt", file],
            &["minimize", file, "-o", "out"],
            &["conform", file],
        ];
        for args in commands {
            let output = vmadiff(folder.path(), args);
            assert_eq!((status(&output), stdout(&output).as_str()), (2, ""), "{args:?}");
            let place = if args[0] == "conform" { file } else { place };
            assert!(stderr(&output).contains(place), "{args:?}: {}", stderr(&output));
        }
        assert!(!folder.path().join("out").exists());
    }
    let output = vmadiff(folder.path(), &["replay", "a.txt", "--right", "candidate:v3"]);
    assert_eq!(status(&output), 2);
    assert!(stderr(&output).contains(
        "expected reference, lib:PATH, or candidate: and one of original, rfc, v2, fixed"
    ));
}

#[test]
fn a_corpus_file_cut_short_is_replayed_up_to_the_cut() {
    let folder = folder();
    vmadiff(folder.path(), &["fmt", "a.txt", "--to", "corpus", "-o", "a.vmad"]);
    let bytes = fs::read(folder.path().join("a.vmad")).expect("written");
    fs::write(folder.path().join("cut.vmad"), &bytes[..bytes.len() - 1]).expect("cut");
    assert_eq!(status(&vmadiff(folder.path(), &["replay", "a.vmad"])), 1);
    let output = vmadiff(folder.path(), &["replay", "cut.vmad"]);
    assert_eq!(status(&output), 3, "not all was run");
    assert!(!stdout(&output).contains("mremap"), "{}", stdout(&output));
    assert!(stdout(&output).ends_with("the file is cut short after operation 1\n"), "{output:?}");
    let note = "vmadiff: cut.vmad: the file is cut short after operation 1\n";
    for args in [
        &["fmt", "cut.vmad"][..],
        &["triage", "cut.vmad"],
        &["export", "--c", "cut.vmad"],
        &["report", "cut.vmad", "-o", "r.html"],
    ] {
        let output = vmadiff(folder.path(), args);
        assert_eq!((status(&output), stderr(&output).as_str()), (3, note), "{args:?}");
    }
    let output = vmadiff(folder.path(), &["triage", "cut.vmad"]);
    assert!(stdout(&output).ends_with("in 1 programs, 1 files cut short\n"), "{output:?}");
    // A divergence before the cut is a divergence.
    let output = vmadiff(folder.path(), &["triage", "cut.vmad", "a.vmad"]);
    assert_eq!(status(&output), 1);
    fs::write(folder.path().join("head.vmad"), &bytes[..7]).expect("cut");
    let output = vmadiff(folder.path(), &["fmt", "head.vmad"]);
    assert!(stderr(&output).contains("cut short before the end of operation 1"), "{output:?}");
}

#[test]
fn fmt_to_corpus_and_back_is_the_identity() {
    let folder = folder();
    let corpus = vmadiff(folder.path(), &["fmt", "c.txt", "--to", "corpus"]);
    fs::write(folder.path().join("c.vmad"), &corpus.stdout).expect("a file");
    assert_eq!(stdout(&vmadiff(folder.path(), &["fmt", "c.vmad"])), BUG_C);
    assert_eq!(vmadiff(folder.path(), &["fmt", "c.vmad", "--to", "corpus"]).stdout, corpus.stdout);
}

#[test]
fn nothing_that_exists_is_overwritten_without_force() {
    let folder = folder();
    for args in [["fmt", "a.txt", "-o", "good.txt"], ["minimize", "c.txt", "-o", "good.txt"]] {
        let before = fs::read(folder.path().join("good.txt")).expect("it is there");
        let output = vmadiff(folder.path(), &args);
        assert_eq!(status(&output), 2);
        assert!(
            stderr(&output).contains("good.txt: the file exists: use --force to overwrite it"),
            "{}",
            stderr(&output)
        );
        assert_eq!(fs::read(folder.path().join("good.txt")).expect("it is there"), before);
        assert_ne!(status(&vmadiff(folder.path(), &[&args[..], &["--force"]].concat())), 2);
        assert_ne!(fs::read(folder.path().join("good.txt")).expect("it is there"), before);
        fs::write(folder.path().join("good.txt"), before).expect("a file");
    }
    let before = fs::read_dir(folder.path()).expect("a folder").count();
    assert_eq!(status(&vmadiff(folder.path(), &["minimize", "a.txt", "-o", "none/out"])), 2);
    assert_eq!(
        fs::read_dir(folder.path()).expect("a folder").count(),
        before,
        "something was left behind"
    );
}

#[test]
fn minimize_keeps_the_signature_and_leaves_the_fewest_operations() {
    let folder = folder();
    let output = vmadiff(folder.path(), &["minimize", "c.txt", "-o", "small.txt"]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    assert_eq!(stdout(&output), "small.txt: 3 of 5 operations, flags/copy/VM_LOCKED-kept\n");
    let output = vmadiff(folder.path(), &["minimize", "good.txt", "-o", "none.txt"]);
    assert_eq!(status(&output), 2);
    assert!(stderr(&output).contains("nothing to minimize"));
}

#[test]
fn triage_groups_by_signature_and_writes_one_of_each() {
    let folder = folder();
    let inputs = ["a.txt", "c.txt", "good.txt"];
    let twice = "mmap 0 10 6 rw anon_private\nfork 0\nmremap 0 14 1 1 MAYMOVE|FIXED 13\n";
    fs::write(folder.path().join("a2.txt"), twice).expect("a file");
    let args = [&["triage", "a2.txt"], &inputs[..], &["--out", "found"]].concat();
    let output = vmadiff(folder.path(), &args);
    assert_eq!(status(&output), 1, "{}", stderr(&output));
    let text = stdout(&output);
    assert!(
        text.contains("2 distinct divergences between reference and candidate:v2 in 4 programs"),
        "{text}"
    );
    let mut written: Vec<_> = fs::read_dir(folder.path().join("found"))
        .expect("a folder")
        .map(|e| e.expect("a file").file_name().into_string().expect("UTF-8"))
        .collect();
    written.sort();
    assert_eq!(
        written,
        [
            ".vmadiff-files",
            "aliasing-use-after-free-copy_vma-vm_mm.txt",
            "aliasing-use-after-free-copy_vma-vm_mm.vmad",
            "flags-copy-VM_LOCKED-kept.txt",
            "flags-copy-VM_LOCKED-kept.vmad",
        ]
    );
    // A second run does not overwrite the files, and the files show the same findings.
    assert_eq!(status(&vmadiff(folder.path(), &args)), 2);
    let output = vmadiff(folder.path(), &["triage", "found", "--json"]);
    assert_eq!(status(&output), 1);
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(rows.as_array().map(Vec::len), Some(2));
    assert_eq!(rows[0]["signature"], "flags/copy/VM_LOCKED-kept");
    assert_eq!(rows[0]["operations"], 3);
    assert_eq!(rows[0]["found_in"], serde_json::json!(["found/flags-copy-VM_LOCKED-kept.vmad"]));
}

#[test]
fn triage_writes_json_and_sarif_beside_the_table_and_over_nothing() {
    let folder = folder();
    let args = ["triage", "a.txt", "c.txt", "--json-file", "t.json", "--sarif", "t.sarif"];
    let output = vmadiff(folder.path(), &args);
    assert_eq!(status(&output), 1, "{}", stderr(&output));
    assert!(stdout(&output).contains("2 distinct divergences"), "{}", stdout(&output));
    let read = |name: &str| -> serde_json::Value {
        let text = fs::read_to_string(folder.path().join(name)).expect("written");
        serde_json::from_str(&text).expect("JSON")
    };
    assert_eq!(read("t.json")[0]["signature"], "flags/copy/VM_LOCKED-kept");
    let run = &read("t.sarif")["runs"][0];
    assert_eq!(run["results"][0]["ruleId"], "flags/copy/VM_LOCKED-kept");
    let place = &run["results"][1]["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "a.txt");
    for args in [&args[..5], &["triage", "a.txt", "--sarif", "t.sarif"][..]] {
        let output = vmadiff(folder.path(), args);
        assert_eq!(status(&output), 2);
        assert!(stderr(&output).contains("the file exists: use --force to overwrite it"));
    }
}

#[test]
fn a_machine_that_ran_alone_does_not_differ_from_itself() {
    let folder = folder();
    let alone = ["--alone", "candidate:v2"];
    let output =
        vmadiff(folder.path(), &[&["triage", "a.txt", "--sarif", "-"], &alone[..]].concat());
    assert_eq!(status(&output), 1, "{}", stderr(&output));
    let message = "candidate:v2 breaks an invariant after 2 operations: ";
    assert!(stdout(&output).contains(message), "{}", stdout(&output));

    let page = |paths: &[&str], options: &[&str]| {
        let args = [&["report", "-o", "r.html", "--force"], paths, options].concat();
        let output = vmadiff(folder.path(), &args);
        assert_eq!(status(&output), 1, "{}", stderr(&output));
        fs::read_to_string(folder.path().join("r.html")).expect("a page")
    };
    let text = page(&["a.txt"], &alone);
    assert!(text.contains("<h1>vmadiff: candidate:v2 alone</h1>"), "{text}");
    assert!(text.contains("vmadiff replay --alone candidate:v2 a.txt"), "{text}");
    assert!(!text.contains("Here the machines differ"), "{text}");
    let text = page(&["a.txt"], &["--right", "candidate:rfc"]);
    assert!(text.contains("vmadiff replay --left reference --right candidate:rfc a.txt"), "{text}");
}

#[test]
fn a_result_of_sarif_names_a_file_only_if_there_is_one() {
    let folder = folder();
    let run = |args: &[&str]| {
        let output = vmadiff(folder.path(), &[args, &["--sarif", "-"]].concat());
        assert_eq!(status(&output), 1, "{}", stderr(&output));
        let sarif: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        sarif["runs"][0]["results"][0]["locations"].clone()
    };
    let output = vmadiff(folder.path(), &["fmt", "a.txt", "--to", "corpus", "-o", "a.vmad"]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let uri = |locations: serde_json::Value| {
        locations[0]["physicalLocation"]["artifactLocation"]["uri"].clone()
    };
    assert_eq!(uri(run(&["triage", "a.vmad"])), "a.vmad");
    let written = uri(run(&["triage", "a.vmad", "--out", "found"]));
    assert_eq!(written, "found/aliasing-use-after-free-copy_vma-vm_mm.txt");
    assert_eq!(run(&["random", "--operations", "3000"]), serde_json::Value::Null);
}

#[test]
fn two_results_are_not_written_to_one_file() {
    let folder = folder();
    for force in [&[][..], &["--force"]] {
        let args = ["triage", "a.txt", "--json-file", "t", "--sarif", "./t"];
        let output = vmadiff(folder.path(), &[&args, force].concat());
        assert_eq!(status(&output), 2);
        assert!(stderr(&output).contains("t: named by --json-file and by --sarif"), "{output:?}");
        assert!(!folder.path().join("t").exists());
    }
}

#[test]
fn text_that_is_not_utf8_is_refused_with_the_place() {
    let folder = folder();
    fs::write(folder.path().join("bad"), b"ab\xff").expect("a file");
    for args in
        [&["triage", "a.txt", "--known", "bad"][..], &["exhaust", "bad"], &["import-syz", "bad"]]
    {
        let output = vmadiff(folder.path(), args);
        assert_eq!(status(&output), 2);
        assert!(stderr(&output).contains("bad: offset 2: not text (UTF-8)"), "{output:?}");
    }
    let output = vmadiff(folder.path(), &["exhaust", "tiny", "--depth", "1", "--resume", "-"]);
    assert_eq!(status(&output), 2);
    assert!(stderr(&output).contains("--resume -: expected a file"), "{output:?}");
    assert!(!folder.path().join("-").exists());
}

#[test]
fn triage_skips_what_is_no_program_in_a_folder_and_says_so() {
    let folder = folder();
    let output = vmadiff(folder.path(), &["triage", "."]);
    assert_eq!(status(&output), 1, "{}", stderr(&output));
    assert!(stdout(&output).contains("in 3 programs, 4 files skipped"), "{}", stdout(&output));
    assert!(stderr(&output).contains("skipped: ./binary: offset 2"), "{}", stderr(&output));
    assert_eq!(status(&vmadiff(folder.path(), &["triage", ".", "wrong.txt"])), 2);
    assert_eq!(status(&vmadiff(folder.path(), &["triage", "missing"])), 2);
}

#[test]
fn a_report_is_one_page_of_the_minimized_programs_or_of_all_as_they_are() {
    let folder = folder();
    let report = |args: &[&str]| vmadiff(folder.path(), &[&["report"], args].concat());
    let page = |name| fs::read_to_string(folder.path().join(name)).expect("a page");
    let output = report(&["a.txt", "c.txt", "good.txt", "-o", "r.html"]);
    assert_eq!(status(&output), 1, "{}", stderr(&output));
    assert!(stdout(&output).starts_with("r.html: 2 divergences in 3 programs"), "{output:?}");
    let small = page("r.html");
    assert!(small.starts_with("<!DOCTYPE html>"));
    assert_eq!(small.matches("class=\"divergence\"").count(), 2);
    assert!(small.contains("mremap 0 2 1 1 MAYMOVE|FIXED 1") && !small.contains("mremap 0 4 2 2"));
    // A second run writes the same page, but does not overwrite a file without `--force`.
    assert_eq!(status(&report(&["a.txt", "-o", "r.html"])), 2);
    assert_eq!(page("r.html"), small);
    report(&["a.txt", "c.txt", "good.txt", "-o", "r.html", "--force"]);
    assert_eq!(page("r.html"), small);
    report(&["--as-is", "a.txt", "c.txt", "a.txt", "-o", "as-is.html"]);
    assert_eq!(page("as-is.html").matches("class=\"divergence\"").count(), 3);
    assert!(page("as-is.html").contains("mremap 0 4 2 2 MAYMOVE|FIXED 2"));

    let output = report(&["good.txt", "-o", "none.html"]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    assert!(page("none.html").contains("No divergence was found"));
    for bad in [["wrong.txt", "-o", "bad.html"], ["missing", "-o", "bad.html"]] {
        assert_eq!(status(&report(&bad)), 2);
        assert!(!folder.path().join("bad.html").exists());
    }
    assert_eq!(status(&report(&["a.txt"])), 2);
}

#[test]
fn what_a_page_is_told_is_text_in_it() {
    let folder = folder();
    let name = "<img src=x onerror=alert(1)>\"'&.txt";
    fs::write(folder.path().join(name), BUG_A).expect("a file");
    let why = "</script><script>alert(1)</script>";
    let known = format!("aliasing/use-after-free/copy_vma/vm_mm {why}\n");
    fs::write(folder.path().join("known"), known).expect("a file");
    let output = vmadiff(folder.path(), &["report", name, "--known", "known", "-o", "r.html"]);
    assert_eq!(status(&output), 0, "{}", stderr(&output));
    let page = fs::read_to_string(folder.path().join("r.html")).expect("a page");
    assert!(page.contains("&lt;img src=x onerror=alert(1)&gt;"));
    assert!(!page.contains("<img") && !page.contains(why));
    assert_eq!(page.matches("<script").count(), 2);
}

#[test]
fn what_is_known_does_not_count_as_found() {
    let folder = folder();
    let list = "flags/copy/VM_LOCKED-kept question 2\naliasing/use-after-free/copy_vma/vm_mm A\n";
    fs::write(folder.path().join("known"), list).expect("a file");
    let output = vmadiff(folder.path(), &["triage", "a.txt", "c.txt", "--known", "known"]);
    assert_eq!(status(&output), 0);
    assert!(stdout(&output).contains("known: question 2"));
    fs::write(folder.path().join("known"), "flags/copy/VM_LOCKED-kept\n").expect("a file");
    let output = vmadiff(folder.path(), &["triage", "a.txt", "--known", "known"]);
    assert_eq!(status(&output), 2);
    assert!(
        stderr(&output).contains("known: line 1: `flags/copy/VM_LOCKED-kept` without a reason"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn faults_are_listed_and_one_that_is_not_built_says_how_to_build_it() {
    let folder = folder();
    let output = vmadiff(folder.path(), &["faults"]);
    assert_eq!(status(&output), 0);
    let row = stdout(&output).lines().find(|row| row.starts_with("mask-no-locked ")).map(str::len);
    assert!(row.is_some(), "{}", stdout(&output));

    // The patches of the project around the current folder are used before any others.
    fs::create_dir_all(folder.path().join("candidate/faults")).expect("a folder");
    let patch = "class: flags\nfunction: copy_vma\ntier: two situations\nwrong: a flag is kept\n\n\
                 diff --git a/x b/x\n";
    fs::write(folder.path().join("candidate/faults/kept.patch"), patch).expect("a patch");
    let output = vmadiff(folder.path(), &["faults", "--json"]);
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let row = serde_json::json!({
        "name": "kept",
        "tier": "two situations",
        "class": "flags",
        "function": "copy_vma",
        "wrong": "a flag is kept",
    });
    assert_eq!(rows, serde_json::json!([row]));
    for (args, error) in [
        (["--fault", "kept"], "the fault kept is not built: `ci/faults build kept` builds it"),
        (["--fault", "none"], "no fault is called `none`: `vmadiff faults` lists them"),
        (["--right", "candidate:fixed+kept"], "`ci/faults build kept` builds it"),
        (["--right", "candidate:fixed+none"], "no fault is called `none`"),
        (["--right", "candidate:v2+kept"], "only candidate:fixed can have a fault"),
    ] {
        let output = vmadiff(folder.path(), &[&["replay", "c.txt"], &args[..]].concat());
        assert_eq!(status(&output), 2, "{args:?}");
        assert!(stderr(&output).contains(error), "{}", stderr(&output));
    }
    fs::write(folder.path().join("candidate/faults/kept.patch"), "class: flags\n").expect("bad");
    let output = vmadiff(folder.path(), &["faults"]);
    assert_eq!(status(&output), 2);
    assert!(stderr(&output).contains("kept.patch: line 0: the patch ends"), "{}", stderr(&output));
}

#[test]
fn completions_and_help_are_there() {
    let folder = folder();
    let output = vmadiff(folder.path(), &["completions", "bash"]);
    assert_eq!(status(&output), 0);
    assert!(stdout(&output).contains("conform"));
    for command in ["replay", "conform", "fmt", "minimize", "triage", "report", "random", "faults"]
    {
        let output = vmadiff(folder.path(), &[command, "--help"]);
        assert_eq!(status(&output), 0);
        assert!(stdout(&output).contains("Example"), "{command}");
    }
    assert_eq!(status(&vmadiff(folder.path(), &[])), 2);
}
