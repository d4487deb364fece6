//! The input of the commands: standard input, folders with all kinds of files, lists of known
//! divergences, and files made to do harm.
#![cfg(unix)]

mod common;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{command, output as vmadiff, text};
use tempfile::TempDir;

const BUG_A: &str = "mmap 0 1 6 rw anon_private\nmremap 0 4 2 2 MAYMOVE|FIXED 2\n";
const BUG_C: &str = "mmap 0 3 9 rw anon_private LOCKED\nfork 0\ncopy 1 5 3 0 20 FIXED\n";

/// Runs a command with standard input.
fn fed(folder: &Path, args: &[&str], input: &[u8]) -> Output {
    let mut child = command(folder, args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it runs");
    let mut to = child.stdin.take().expect("a pipe");
    let input = input.to_owned();
    let writer = std::thread::spawn(move || to.write_all(&input));
    let output = child.wait_with_output().expect("it ends");
    // A command that refuses its input may not read all of it.
    let _ = writer.join().expect("it ends");
    output
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("a.txt"), BUG_A).expect("a file");
    fs::write(folder.path().join("c.txt"), BUG_C).expect("a file");
    folder
}

#[test]
fn a_dash_is_standard_input() {
    let folder = folder();
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/golden/original.jsonl.gz");
    let golden = fs::read(golden).expect("traces");
    let log = format!("{}munmap(0x1000, 4096) = 0\n", MAP.repeat(3));
    let known = b"aliasing/use-after-free/copy_vma/vm_mm bug A\n";
    for (args, input, status, shown) in [
        (&["replay", "-"][..], BUG_A.as_bytes(), 1, "(standard input)\n"),
        (&["fmt", "-"], BUG_A.as_bytes(), 0, BUG_A),
        (&["minimize", "-", "-o", "-"], BUG_A.as_bytes(), 0, "mremap"),
        (&["triage", "-", "c.txt"], BUG_A.as_bytes(), 1, "2 distinct divergences"),
        (&["report", "-", "-o", "-"], BUG_A.as_bytes(), 1, "(standard input)"),
        (&["export", "--c", "-"], BUG_A.as_bytes(), 0, "stdin"),
        (&["conform", "-"], &golden, 0, "differ=0"),
        (&["import-strace", "-", "--out", "programs"], log.as_bytes(), 0, "1 programs"),
        (&["triage", "a.txt", "--known", "-"], known, 0, "0 new and 1 known distinct"),
    ] {
        let output = fed(folder.path(), args, input);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {}", text(&output.stderr));
        assert!(text(&output.stdout).contains(shown), "{args:?}: {}", text(&output.stdout));
    }
    let output = fed(folder.path(), &["replay", "-", "-"], BUG_A.as_bytes());
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("standard input is named twice"), "{output:?}");
    let output = fed(folder.path(), &["fmt", "-"], b"frok 0\n");
    assert!(text(&output.stderr).starts_with("vmadiff: (standard input): line 1"), "{output:?}");
}

const MAP: &str =
    "mmap(0x1000, 8192, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS|MAP_FIXED, -1, 0) = 0x1000\n";

#[test]
fn a_byte_order_mark_is_skipped() {
    let folder = folder();
    let log = format!("{}munmap(0x1000, 4096) = 0\n", MAP.repeat(3));
    for (args, input, status) in [
        (&["replay", "-"][..], BUG_A, 1),
        (&["triage", "a.txt", "--known", "-"], "aliasing/use-after-free/copy_vma/vm_mm A\n", 0),
        (&["import-strace", "-", "--out", "programs"], &log, 0),
    ] {
        let output = fed(folder.path(), args, format!("\u{feff}{input}").as_bytes());
        assert_eq!(output.status.code(), Some(status), "{args:?}: {}", text(&output.stderr));
    }
}

#[test]
fn what_cannot_be_read_in_a_folder_is_skipped_and_counted() {
    let folder = folder();
    let at = |name: &str| folder.path().join("found").join(name);
    fs::create_dir_all(at("below")).expect("a folder");
    fs::write(at("below/c.txt"), BUG_C).expect("a file");
    symlink("nothing", at("dangling")).expect("a link");
    symlink("..", at("below/loop")).expect("a link");
    symlink("self", at("self")).expect("a link");
    symlink("../a.txt", at("link.txt")).expect("a link");
    assert!(Command::new("mkfifo").arg(at("fifo")).status().expect("mkfifo").success());
    // Each command that takes folders.
    for args in [&["triage", "found"][..], &["report", "found", "-o", "r.html"]] {
        let began = Instant::now();
        let output = vmadiff(folder.path(), args);
        let (shown, notes) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{notes}");
        assert!(shown.contains("in 2 programs, 4 files skipped"), "{shown}");
        for note in [
            "skipped: found/below/loop: a link to a folder above it",
            "skipped: found/dangling: No such file",
            "skipped: found/fifo: not a regular file",
            "skipped: found/self: Too many levels of symbolic links",
        ] {
            assert!(notes.contains(note), "{note}: {notes}");
        }
        assert!(began.elapsed() < Duration::from_secs(30));
    }
    // A path that the command names must be readable.
    for path in ["found/dangling", "found/self"] {
        assert_eq!(vmadiff(folder.path(), &["triage", path]).status.code(), Some(2));
    }
}

#[test]
fn a_text_beside_a_corpus_file_is_dropped_only_if_it_is_the_same_program() {
    let folder = folder();
    let found = folder.path().join("found");
    fs::create_dir(&found).expect("a folder");
    fs::copy(folder.path().join("a.txt"), found.join("a.txt")).expect("a copy");
    let made = vmadiff(folder.path(), &["fmt", "c.txt", "--to", "corpus", "-o", "found/a.vmad"]);
    assert!(made.status.success());
    let output = vmadiff(folder.path(), &["triage", "found"]);
    assert!(text(&output.stdout).contains("2 distinct divergences"), "{output:?}");
    assert!(text(&output.stdout).contains("in 2 programs"), "{output:?}");
    fs::copy(folder.path().join("c.txt"), found.join("a.txt")).expect("a copy");
    let output = vmadiff(folder.path(), &["triage", "found"]);
    assert!(text(&output.stdout).contains("in 1 programs"), "{output:?}");
}

#[test]
fn known_rows_are_marked_and_entries_that_match_nothing_are_reported() {
    let folder = folder();
    let list = "flags/copy/VM_LOCKED-kept question 2\nerrno/copy/ok-for-EINVAL B\n";
    fs::write(folder.path().join("known"), list).expect("a file");
    for args in [
        &["triage", "a.txt", "c.txt", "--known", "known"][..],
        &["report", "a.txt", "c.txt", "--known", "known", "-o", "r.html"],
    ] {
        let output = vmadiff(folder.path(), args);
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let note = "vmadiff: known: 1 entries matched nothing: errno/copy/ok-for-EINVAL\n";
        assert_eq!(text(&output.stderr), note, "{args:?}");
    }
    let output = vmadiff(folder.path(), &["triage", "a.txt", "c.txt", "--known", "known"]);
    let shown = text(&output.stdout);
    let marked: Vec<&str> = shown.lines().filter(|line| line.ends_with("  (known)")).collect();
    assert!(matches!(marked[..], [row] if row.contains("flags/copy/VM_LOCKED-kept")), "{shown}");
    assert!(shown.contains("1 new and 1 known distinct divergences"), "{shown}");
    fs::write(folder.path().join("known"), "flags/cpoy/VM_LOCKED-kept why\n").expect("a file");
    let output = vmadiff(folder.path(), &["triage", "a.txt", "--known", "known"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("did you mean `copy`?"), "{output:?}");
}

#[test]
fn the_help_names_files_that_exist() {
    let folder = folder();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut named = 0;
    let help = vmadiff(folder.path(), &["--help"]);
    let commands = text(&help.stdout).split("Commands:").nth(1).expect("a list of commands");
    let commands = commands.split("\n\n").next().unwrap_or_default();
    let commands: Vec<&str> =
        commands.lines().filter_map(|line| line.strip_prefix("  ")?.split(' ').next()).collect();
    assert!(commands.contains(&"triage"), "{commands:?}");
    for command in commands.into_iter().filter(|command| !command.is_empty()) {
        let help = vmadiff(folder.path(), &[command, "--help"]);
        for word in text(&help.stdout).split_whitespace() {
            if word.starts_with("corpus/") {
                named += 1;
                let word = word.trim_end_matches(['.', ',', ')']);
                assert!(root.join(word).exists(), "{command}: {word}");
            }
        }
    }
    assert!(named > 5);
}

#[test]
fn a_message_is_short_and_does_nothing_to_the_terminal() {
    let folder = folder();
    let token = "\u{1b}[2J\u{7}\u{9b}1m".repeat(100_000);
    for (args, input) in [
        (&["fmt", "-"][..], token.clone()),
        (&["fmt", "-"], format!("mmap {token} 1 6\n")),
        (&["fmt", "-"], format!("limits {token}=2\n")),
        (&["fmt", "-"], format!("limits {token}\n")),
        (&["fmt", "-"], format!("fork 0 {token}\n")),
        (&["triage", "a.txt", "--known", "-"], format!("{token} why\n")),
        (&["triage", "a.txt", "--known", "-"], token.clone()),
        (&["conform", "-"], format!("{{\"id\":1,\"{token}\":2}}")),
        (&["conform", "-"], token.clone()),
        (&["import-strace", "-", "--out", "o"], format!("{token}\n{token}\n")),
    ] {
        let output = fed(folder.path(), args, input.as_bytes());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        let error = text(&output.stderr);
        let is_harmless = !error.contains(|c: char| c.is_control() && c != '\n');
        assert!(is_harmless && error.len() < 1000, "{args:?}: {} bytes: {error}", error.len());
    }
    // Names of files and reasons are shown, too.
    let name = "\u{1b}[31mred\u{7}.txt";
    fs::write(folder.path().join(name), BUG_A).expect("a file");
    let known = "aliasing/use-after-free/copy_vma/vm_mm \u{1b}[5mwhy\n";
    fs::write(folder.path().join("known"), known).expect("a file");
    for args in [
        &["replay", name][..],
        &["triage", name, "--known", "known"],
        &["fmt", "none", "-o", name],
        &["fmt", "a.txt", "-o", name],
    ] {
        let output = vmadiff(folder.path(), args);
        let shown = [output.stdout, output.stderr].concat();
        assert!(!text(&shown).contains(['\u{1b}', '\u{7}']), "{args:?}: {}", text(&shown));
    }
}

#[test]
fn traces_are_streamed_and_a_line_is_bounded() {
    let folder = folder();
    let step = r#"{"op":{"op":"fork","pid":0},"ret":1,"mms":{},"copy_vma":null}"#;
    let trace = format!(r#"{{"id":"x","kernel":"k","steps":[{step}]}}"#) + "\n";
    let mut file = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..200_000 {
        file.write_all(trace.as_bytes()).expect("compressed");
    }
    fs::write(folder.path().join("many.gz"), file.finish().expect("compressed")).expect("a file");
    let mut file = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    for _ in 0..1_000 {
        file.write_all(&[b' '; 1 << 20]).expect("compressed");
    }
    fs::write(folder.path().join("long.gz"), file.finish().expect("compressed")).expect("a file");
    // 200 MB are less than the traces take together, and less than the long line.
    let limited = |name: &str| {
        let script =
            format!("ulimit -v 200000; exec '{}' conform {name}", env!("CARGO_BIN_EXE_vmadiff"));
        Command::new("bash")
            .args(["-c", &script])
            .current_dir(folder.path())
            .output()
            .expect("bash")
    };
    let output = limited("many.gz");
    assert!(text(&output.stdout).starts_with("program x: reference differs"), "{output:?}");
    assert!(text(&output.stdout).contains("programs=200000 steps=200000"), "{output:?}");
    let output = limited("long.gz");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        text(&output.stderr).contains("line 1, column 1048576: the line is longer"),
        "{output:?}"
    );
}

#[test]
fn a_log_with_many_living_processes_takes_bounded_memory() {
    let folder = folder();
    let mut log = String::new();
    for n in 0..8_000 {
        let (thread, address) = (100 + n, 0x7f00_0000_0000_u64 + (n << 16));
        log += &format!(
            "{thread} mmap({address:#x}, 8192, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = {address:#x}\n\
             {thread} openat(AT_FDCWD, \"/lib/{n}\", O_RDONLY) = {}\n\
             {thread} fork() = {}\n",
            n + 3,
            thread + 1
        );
    }
    fs::write(folder.path().join("log"), log).expect("a file");
    let script = format!(
        "ulimit -v 600000; exec '{}' import-strace log --out programs",
        env!("CARGO_BIN_EXE_vmadiff")
    );
    let began = Instant::now();
    let output = Command::new("bash").args(["-c", &script]).current_dir(folder.path()).output();
    let output = output.expect("bash");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("fork of too many mappings"), "{output:?}");
    assert!(began.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_log_that_locks_many_mappings_again_and_again_takes_bounded_time() {
    let folder = folder();
    let mut log = String::new();
    for n in 0..1200u64 {
        let address = 0x10000 + 0x4000 * n;
        log += &format!(
            "1 mmap({address:#x}, 8192, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = {address:#x}\n"
        );
    }
    log += &"1 mlockall(MCL_CURRENT) = 0\n1 munlockall() = 0\n".repeat(600);
    fs::write(folder.path().join("log"), log).expect("a file");
    let output = vmadiff(folder.path(), &["import-strace", "log", "--out", "programs"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("changes of too many mappings"), "{output:?}");
}
