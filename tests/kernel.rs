//! The running kernel does what the reference says, but for what a rule explains.
#![cfg(all(feature = "cli", target_os = "linux", target_arch = "x86_64"))]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use vmadiff::fresh;
use vmadiff::kernel::profile::RULES;
use vmadiff::kernel::{Beside, End, Holds};
use vmadiff::text::Look;
use vmadiff_kernel::{Kernel, Options};
use vmadiff_machine::{Machine as _, Program};

fn corpus(folder: &str) -> Vec<(String, Program)> {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(folder);
    let mut programs: Vec<_> = fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| {
            let path = entry.expect("a file").path();
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let text = fs::read_to_string(&path).expect("text");
            let program = text.parse().unwrap_or_else(|e| panic!("{name}: {e}"));
            (name, program)
        })
        .collect();
    programs.sort_by(|a, b| a.0.cmp(&b.0));
    programs
}

fn beside() -> Beside {
    let kernel = Kernel::new(Options::default()).expect("the running kernel can be driven");
    let mut beside = Beside::new(kernel);
    beside.probe();
    beside
}

/// Runs programs, says how many were cut short and why, and gives how many were run whole.
fn all_agree(programs: impl IntoIterator<Item = (String, Program)>) -> u32 {
    let mut beside = beside();
    let (mut whole, mut lacks) = (0, BTreeMap::new());
    for (name, program) in programs {
        let (run, report) = beside.report(&program, Look::default());
        match run.end {
            End::Whole | End::Blocked => whole += 1,
            End::Explained(_) | End::Unnameable(_) => {}
            End::Lacks(missing) => *lacks.entry(missing).or_insert(0) += 1,
            _ => panic!("{name}:\n{report}"),
        }
    }
    println!("{}: {whole} whole, cut short: {lacks:?}", beside.kernel().name());
    whole
}

#[test]
fn every_seed_does_on_the_running_kernel_what_the_reference_says() {
    let seeds = corpus("seeds");
    assert!(seeds.len() >= 100);
    assert!(all_agree(seeds) >= 30);
}

#[test]
fn random_programs_do_what_the_reference_says() {
    let facilities = *beside().kernel().facilities();
    let program = |number| {
        let program = fresh::program(0, number, 24, |op| facilities.lacks(op).is_none());
        (format!("program {number}"), program)
    };
    assert!(all_agree((0..200).map(program)) >= 100);
}

#[test]
fn each_rule_has_a_program_and_holds_or_does_not() {
    let names: Vec<String> = corpus("kernel").into_iter().map(|(name, _)| name).collect();
    let mut rules: Vec<_> = RULES.iter().map(|rule| rule.name.to_owned()).collect();
    rules.sort();
    assert_eq!(names, rules);
    let kernel = Kernel::new(Options::default()).expect("the running kernel can be driven");
    for (rule, holds) in Beside::new(kernel).probe() {
        match holds {
            Holds::Yes | Holds::No => {}
            Holds::Unknown(missing) => println!("{}: skipped: no {missing}", rule.name),
            Holds::Otherwise(report) => panic!("{}:\n{report}", rule.name),
        }
    }
}

#[test]
fn an_operation_that_blocks_is_killed_and_says_so() {
    let program: Program = "mmap 0 0 2 rw anon_private\nfork 0\nuffd_register 1 1 1 0\n\
                            mlock 1 0 2\nmunmap 1 0 2\n"
        .parse()
        .expect("a program");
    let mut beside = beside();
    if !beside.kernel().facilities().userfaultfd {
        println!("skipped 1: no userfaultfd");
        return;
    }
    let began = Instant::now();
    let (run, report) = beside.report(&program, Look::default());
    assert!(matches!(run.end, End::Blocked), "{report}");
    assert_eq!(run.agree, 4, "{report}");
    assert!(report.contains("operation 3 blocks"), "{report}");
    assert!(began.elapsed() < Duration::from_secs(30));
    // The machine is not the worse for it.
    let (run, report) =
        beside.report(&"mmap 0 0 2 rw anon_private\n".parse().expect("a program"), Look::default());
    assert!(matches!(run.end, End::Whole), "{report}");
}

fn vmadiff(args: &[&str]) -> (Option<i32>, String, String) {
    common::vmadiff(Path::new("."), args)
}

#[test]
fn the_command_shows_a_program_and_runs_the_same_random_ones_for_a_seed() {
    let seed = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/seeds/bug-a.txt");
    let (status, text, error) = vmadiff(&["kernel", seed]);
    assert_eq!(status, Some(0), "{text}{error}");
    assert!(text.contains("no difference between reference and linux"), "{text}");

    let args = ["kernel", "--random", "20", "--operations", "12", "--seed", "5"];
    let first = vmadiff(&args);
    assert_eq!(first.0, Some(0), "{}{}", first.1, first.2);
    assert!(first.1.starts_with("programs=20 operations="), "{}", first.1);
    assert_eq!(first, vmadiff(&args));
}

#[test]
fn bad_use_of_the_command_is_refused() {
    for (args, expected) in [
        (&["kernel"][..], "FILES"),
        (&["kernel", "/nowhere.txt"], "/nowhere.txt"),
        (&["kernel", "--random", "1", "--operations", "65"], "65"),
        (&["kernel", "--probe", "--random", "1"], "--probe"),
    ] {
        let (status, _, error) = vmadiff(args);
        assert_eq!(status, Some(2), "{args:?}: {error}");
        assert!(error.contains(expected), "{args:?}: {error}");
    }
}
