//! The output of the commands: nothing is destroyed, nothing is lost, and every end has its status.
#![cfg(unix)]

mod common;

use std::fs;
use std::io::BufRead as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{command, interrupt, output as vmadiff, text};
use tempfile::TempDir;

const BUG_A: &str = "mmap 0 1 6 rw anon_private\nmremap 0 4 2 2 MAYMOVE|FIXED 2\n";
const BUG_C: &str = "mmap 0 3 9 rw anon_private LOCKED\nfork 0\ncopy 1 5 3 0 20 FIXED\n";
const GOOD: &str = "mmap 0 1 2 rw anon_private\n";

/// Makes a folder with a program that diverges and one that does not.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in [("a.txt", BUG_A), ("c.txt", BUG_C), ("good.txt", GOOD)] {
        fs::write(folder.path().join(name), text).expect("a file");
    }
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/golden/original.jsonl.gz");
    symlink(golden, folder.path().join("golden")).expect("a link");
    folder
}

/// The commands that write a file, without the name of the file, which is the last argument.
const WRITERS: [&[&str]; 6] = [
    &["fmt", "a.txt", "--to", "corpus", "-o"],
    &["export", "--c", "a.txt", "-o"],
    &["minimize", "a.txt", "-o"],
    &["report", "a.txt", "-o"],
    &["triage", "a.txt", "--json-file"],
    &["random", "--operations", "50", "--sarif"],
];

#[test]
fn every_output_replaces_regular_files_only_and_keeps_links_modes_and_devices() {
    for args in WRITERS {
        let folder = folder();
        let at = |name: &str| folder.path().join(name);
        fs::write(at("file"), "old").expect("a file");
        fs::set_permissions(at("file"), fs::Permissions::from_mode(0o640)).expect("a mode");
        symlink("file", at("link")).expect("a link");
        let to = |name: &str, force: &[&str]| {
            let output = vmadiff(folder.path(), &[args, &[name], force].concat());
            (output.status.code().expect("it exits"), text(&output.stderr).to_owned())
        };
        let (status, error) = to("link", &[]);
        assert_eq!(status, 2, "{args:?}: {error}");
        assert!(error.contains("link: the file exists: use --force to overwrite it"), "{error}");
        assert_eq!(fs::read(at("file")).expect("a file"), b"old");
        let (status, error) = to("link", &["--force"]);
        assert!(status < 2, "{args:?}: {error}");
        assert!(at("link").is_symlink());
        assert_ne!(fs::read(at("file")).expect("a file"), b"old", "{args:?}");
        let mode = fs::metadata(at("file")).expect("a file").permissions().mode();
        assert_eq!(mode & 0o7777, 0o640, "{args:?}");

        for force in [&[][..], &["--force"]] {
            let (status, error) = to("/dev/null", force);
            assert!(status < 2, "{args:?}: {error}");
            assert!(!fs::metadata("/dev/null").expect("a device").is_file(), "{args:?}");
            let (status, error) = to("/dev/full", force);
            assert_eq!(status, 2, "{args:?}: {error}");
            assert!(error.contains("/dev/full: No space left"), "{args:?}: {error}");
            for place in ["none/file", "."] {
                let (status, error) = to(place, force);
                assert_eq!(status, 2, "{args:?}: {error}");
                let shown = error.contains("--force") || error.contains(".vmadiff-");
                assert!(!shown, "{args:?}: {error}");
            }
        }
    }
}

#[test]
fn a_fifo_gets_the_output() {
    let folder = folder();
    let fifo = folder.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
    for args in WRITERS {
        let writer = command(folder.path(), &[args, &["fifo", "--force"]].concat())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("it runs");
        let bytes = fs::read(&fifo).expect("read");
        assert!(!bytes.is_empty(), "{args:?}");
        assert!(writer.wait_with_output().expect("it ends").status.code() < Some(2), "{args:?}");
        assert!(!fs::metadata(&fifo).expect("a FIFO").is_file(), "{args:?}");
    }
}

/// The commands that print, with the status of each.
const PRINTERS: [(&[&str], i32); 18] = [
    (&["replay", "a.txt"], 1),
    (&["replay", "good.txt"], 0),
    (&["conform", "golden", "--machine", "candidate:v2"], 1),
    (&["conform", "golden"], 0),
    (&["fmt", "a.txt"], 0),
    (&["fmt", "a.txt", "--to", "corpus"], 0),
    (&["minimize", "a.txt", "-o", "-"], 0),
    (&["triage", "a.txt", "c.txt"], 1),
    (&["triage", "a.txt", "--json"], 1),
    (&["triage", "a.txt", "--sarif", "-"], 1),
    (&["report", "a.txt", "-o", "-"], 1),
    (&["random", "--operations", "2000", "--right", "reference"], 0),
    (&["faults"], 0),
    (&["export", "--syz", "a.txt"], 0),
    (&["completions", "bash"], 0),
    (&["man"], 0),
    (&["--help"], 0),
    (&["triage", "--help"], 0),
];

#[test]
fn output_that_cannot_be_written_is_status_2() {
    let folder = folder();
    for (args, _) in PRINTERS {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").expect("a device");
        let output = command(folder.path(), args).stdout(full).output().expect("it runs");
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {error}");
        assert!(error.contains("standard output: No space left"), "{args:?}: {error}");
    }
}

#[test]
fn a_closed_pipe_ends_every_command_quietly_by_sigpipe() {
    let folder = folder();
    for (args, status) in PRINTERS {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let output = command(folder.path(), args).stdout(writer).output().expect("it runs");
        assert_eq!(output.status.signal(), Some(13), "{args:?}: {output:?}");
        assert_eq!(text(&output.stderr), "", "{args:?}");
        // With a reader the same command has its own status.
        let output = vmadiff(folder.path(), args);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {}", text(&output.stderr));
    }
    // A shell shows the status of the table in the help.
    let program = env!("CARGO_BIN_EXE_vmadiff");
    let script = format!("set -o pipefail; '{program}' triage a.txt | true; echo $?");
    let output = Command::new("bash").args(["-c", &script]).current_dir(folder.path()).output();
    let status = text(&output.expect("bash").stdout).trim().to_owned();
    // `true` may end after the command has written all of its output.
    assert!(["141", "1"].contains(&status.as_str()), "{status}");
    // A message that nobody reads changes no status.
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = command(folder.path(), &["fmt", "none"]).stderr(writer).output();
    assert_eq!(output.expect("it runs").status.code(), Some(2));
}

#[test]
fn a_dash_is_standard_output_and_sums_up_on_standard_error() {
    let folder = folder();
    let output = vmadiff(folder.path(), &["minimize", "c.txt", "-o", "-"]);
    let program = text(&output.stdout);
    assert!(program.starts_with("mmap ") && program.lines().count() == 3, "{program}");
    let line = "vmadiff: (standard output): 3 of 3 operations, flags/copy/VM_LOCKED-kept\n";
    assert_eq!(text(&output.stderr), line);
    let output = vmadiff(folder.path(), &["report", "a.txt", "-o", "-"]);
    assert!(output.stdout.starts_with(b"<!DOCTYPE html>"));
    let output = vmadiff(folder.path(), &["triage", "a.txt", "--json-file", "-"]);
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON alone");
    assert_eq!(rows.as_array().map(Vec::len), Some(1));
    let output = vmadiff(folder.path(), &["triage", "a.txt", "--json", "--sarif", "-"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("standard output can have one of"), "{output:?}");
    assert!(!folder.path().join("-").exists());
    // A log that is appended to is not overwritten.
    let log = folder.path().join("log");
    fs::write(&log, "first\n").expect("a file");
    for place in ["/dev/stdout", "/proc/self/fd/1"] {
        let to = fs::OpenOptions::new().append(true).open(&log).expect("a file");
        let args = ["fmt", "good.txt", "-o", place];
        let ended = command(folder.path(), &args).stdout(to).status().expect("it runs");
        assert!(ended.success(), "{place}");
    }
    assert_eq!(fs::read_to_string(&log).expect("a file"), format!("first\n{GOOD}{GOOD}"));
}

#[test]
fn findings_of_an_earlier_run_are_replaced_on_request_and_nothing_else_is() {
    let folder = folder();
    let found = folder.path().join("found");
    let names = || {
        let mut names: Vec<String> = fs::read_dir(&found)
            .expect("a folder")
            .map(|entry| entry.expect("a file").file_name().into_string().expect("UTF-8"))
            .collect();
        names.retain(|name| !name.starts_with('.'));
        names.sort();
        names
    };
    fs::create_dir(&found).expect("a folder");
    fs::write(found.join("notes.txt"), "mine").expect("a file");
    let run = |args: &[&str]| {
        let output = vmadiff(folder.path(), &[args, &["--out", "found"]].concat());
        (output.status.code().expect("it exits"), text(&output.stderr).to_owned())
    };
    assert_eq!(run(&["triage", "a.txt", "c.txt"]), (1, String::new()));
    fs::write(found.join("merge-mine.txt"), "mine").expect("a file");
    assert_eq!(names().len(), 6, "{:?}", names());
    // What would fail at the end fails at the start, whatever is found.
    for args in [&["triage", "good.txt"][..], &["random", "--operations", "10000000000"]] {
        let (status, error) = run(args);
        assert_eq!(status, 2);
        assert!(error.contains("the folder has results: use --force to replace them"), "{error}");
    }
    assert_eq!(run(&["triage", "c.txt", "--force"]), (1, String::new()));
    let kept = [
        "flags-copy-VM_LOCKED-kept.txt",
        "flags-copy-VM_LOCKED-kept.vmad",
        "merge-mine.txt",
        "notes.txt",
    ];
    assert_eq!(names(), kept);
    // The inputs of a run are not removed by it.
    let (status, error) = run(&["triage", "found", "--right", "candidate:fixed", "--force"]);
    assert_eq!((status, error.matches("skipped").count()), (0, 2), "{error}");
    assert_eq!(names(), kept);
    // A later run removes them.
    assert_eq!(run(&["triage", "good.txt", "--force"]), (0, String::new()));
    assert_eq!(names(), kept[2..]);
}

#[test]
fn what_is_bound_to_fail_at_the_end_fails_at_the_start() {
    let folder = folder();
    fs::write(folder.path().join("file"), "").expect("a file");
    for args in [
        &["--out", "file"][..],
        &["--json-file", "none/file"],
        &["--sarif", "file"],
        &["--known", "none"],
    ] {
        let began = Instant::now();
        let args = [&["random", "--operations", "100000000000"], args].concat();
        assert_eq!(vmadiff(folder.path(), &args).status.code(), Some(2), "{args:?}");
        assert!(began.elapsed() < Duration::from_secs(20), "{args:?}");
    }
}

#[test]
fn random_has_the_outputs_of_triage() {
    let folder = folder();
    let known = "rmap-locks/copy/not-taken question 1\n";
    fs::write(folder.path().join("known"), known).expect("a file");
    let args = ["random", "--operations", "400000", "--out", "found", "--json", "--known", "known"];
    let output = vmadiff(folder.path(), &args);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    let rows: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let rows = rows.as_array().expect("rows");
    assert!(rows.len() > 3);
    for row in rows {
        let file = row["file"].as_str().expect("a name");
        assert!(folder.path().join(file).is_file(), "{file}");
        let is_known = row["signature"] == "rmap-locks/copy/not-taken";
        assert_eq!(row["known"].is_string(), is_known, "{row}");
    }
}

#[test]
fn the_result_of_random_does_not_depend_on_the_number_of_threads() {
    let folder = folder();
    let result = |threads: &str| {
        let args = ["random", "--operations", "300000", "--stats", "--threads", threads];
        let output = command(folder.path(), &args).output().expect("it runs");
        assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
        text(&output.stdout).to_string()
    };
    let one = result("1");
    for threads in ["2", "5"] {
        assert_eq!(result(threads), one, "{threads} threads");
    }
}

#[test]
fn ctrl_c_prints_and_writes_what_was_found() {
    let folder = folder();
    let began = Instant::now();
    let mut random = command(
        folder.path(),
        &["random", "--operations", "100000000000", "--out", "found", "--json-file", "f.json"],
    );
    let (status, shown) = interrupt(&mut random, || began.elapsed() > Duration::from_secs(2));
    assert_eq!(status, Some(130), "{shown}");
    let last = shown.lines().last().expect("a line");
    assert!(last.contains(" distinct divergences") && last.ends_with("; interrupted"), "{last}");
    assert!(shown.contains("rmap-locks/copy/not-taken"), "{shown}");
    let program = folder.path().join("found/rmap-locks-copy-not-taken.txt");
    assert!(fs::read_to_string(program).expect("written").lines().count() < 6, "minimized");
    let json = fs::read(folder.path().join("f.json")).expect("written");
    assert!(serde_json::from_slice::<serde_json::Value>(&json).is_ok());

    // Triage opens the FIFO once it has read the many programs, and then runs them.
    let many = folder.path().join("many");
    fs::create_dir(&many).expect("a folder");
    let long = format!("{BUG_C}{}", "mmap 0 40 1 r file0_private\n".repeat(60));
    for n in 0..5_000 {
        fs::write(many.join(format!("{n}.txt")), &long).expect("a file");
    }
    let fifo = folder.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().expect("mkfifo").success());
    let mut triage =
        command(folder.path(), &["triage", "c.txt", "many", "fifo", "--out", "triaged"]);
    let (status, shown) = interrupt(&mut triage, || {
        fs::write(&fifo, GOOD).expect("written");
        std::thread::sleep(Duration::from_millis(50));
        true
    });
    assert_eq!(status, Some(130), "{shown}");
    assert!(shown.contains("; interrupted: some programs were not run"), "{shown}");
    assert!(folder.path().join("triaged/flags-copy-VM_LOCKED-kept.vmad").is_file());
}

#[test]
fn the_table_of_statuses_is_the_same_in_the_help_and_in_the_readme() {
    let folder = folder();
    let help = vmadiff(folder.path(), &["--help"]).stdout;
    let of_help: Vec<&str> = text(&help)
        .split_once("Exit status, of every command:\n")
        .expect("a table")
        .1
        .lines()
        .filter_map(|line| line.strip_prefix("  ")?.split(' ').next())
        .filter(|number| !number.is_empty())
        .collect();
    assert_eq!(of_help, ["0", "1", "2", "3", "130", "141"]);
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).expect("README.md");
    let (_, table) = readme.split_once("| status | meaning |").expect("a table");
    let of_readme: Vec<&str> = table
        .lines()
        .skip(2)
        .map_while(|line| line.strip_prefix("| ")?.split(' ').next())
        .collect();
    assert_eq!(of_readme, of_help);
}

#[test]
fn completions_know_machines_and_faults_and_are_installed_with_the_man_pages() {
    let folder = folder();
    let output = vmadiff(folder.path(), &["install", "--prefix", "usr"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    for line in output.stdout.lines() {
        let file = folder.path().join(line.expect("a name"));
        assert!(fs::metadata(&file).expect("installed").len() > 100, "{}", file.display());
    }
    let page = fs::read_to_string(folder.path().join("usr/share/man/man1/vmadiff-triage.1"));
    let page = page.expect("a page");
    assert!(page.contains("vmadiff\\-triage") && page.contains("known"), "{page}");
    assert!(!folder.path().join("usr/share/man/man1/vmadiff-library-worker.1").exists());
    let one = vmadiff(folder.path(), &["man", "triage"]);
    assert_eq!(text(&one.stdout), page);
    let output = vmadiff(folder.path(), &["man", "none"]);
    assert_eq!(output.status.code(), Some(2));
    // A second run replaces the files of the first.
    assert!(vmadiff(folder.path(), &["install", "--prefix", "usr"]).status.success());

    let complete = |line: &[&str]| {
        let words = line.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
        let script = format!(
            "source usr/share/bash-completion/completions/vmadiff; [[ $COMP_WORDBREAKS != *:* ]]; \
             COMP_WORDS=({words}); COMP_CWORD={}; _vmadiff vmadiff '{}' '{}'; \
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            line.len() - 1,
            line[line.len() - 1],
            line[line.len() - 2],
        );
        let mut bash = Command::new("bash");
        let output = bash.args(["-ec", &script]).current_dir(folder.path()).output().expect("bash");
        assert!(output.status.success(), "{output:?}");
        text(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let machines = complete(&["vmadiff", "replay", "--right", "candidate:o"]);
    assert_eq!(machines, ["candidate:original"]);
    let faults = complete(&["vmadiff", "replay", "--fault", "mask-no-lo"]);
    assert!(faults.contains(&"mask-no-locked".to_owned()), "{faults:?}");
    let faulty = complete(&["vmadiff", "random", "--alone", "candidate:fixed+mask-no-lo"]);
    assert!(faulty.contains(&"candidate:fixed+mask-no-locked".to_owned()), "{faulty:?}");
}
