//! The running kernel agrees with the reference, which applies the rules that hold on the kernel.
//!
//! If vmadiff cannot run programs on the kernel, for example in a container without pidfds, each
//! test prints the reason and passes. With `VMADIFF_KERNEL=required` it fails. `VMADIFF_RECORD=1`
//! writes the files of `corpus/kernel/recorded` again.
#![cfg(all(feature = "cli", target_os = "linux", target_arch = "x86_64"))]

mod common;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, fs};

use common::rules::{RECORDED_FLAGS, folder, program, shown};
use vmadiff::fresh;
use vmadiff::kernel::{Beside, End, Holds, Profile, Step};
use vmadiff::text::Look;
use vmadiff_kernel::{Kernel, Options};
use vmadiff_machine::{Machine as _, Observation, Program};
use vmadiff_reference::later::{Rule, Rules};

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

/// Returns the running kernel with its rules, or prints why the test is skipped.
fn beside() -> Option<Beside> {
    match Kernel::new(Options::default()) {
        Ok(kernel) => {
            let mut beside = Beside::new(kernel);
            beside.probe();
            Some(beside)
        }
        Err(error) if env::var_os("VMADIFF_KERNEL").is_some_and(|value| value == "required") => {
            panic!("the running kernel cannot be driven: {error}")
        }
        Err(error) => {
            println!("skipped: the running kernel cannot be driven: {error}");
            None
        }
    }
}

/// Runs programs, prints how many ended early and why, and returns how many ran to their end.
fn all_agree(beside: &mut Beside, programs: impl IntoIterator<Item = (String, Program)>) -> u32 {
    let (mut whole, mut lacks) = (0, BTreeMap::new());
    for (name, program) in programs {
        let (run, report) = beside.report(&program, Look::default());
        match run.end {
            End::Whole | End::Blocked => whole += 1,
            End::Lacks(missing) => *lacks.entry(missing).or_insert(0) += 1,
            _ => panic!("{name}:\n{report}"),
        }
    }
    println!("{}: {whole} whole, cut short: {lacks:?}", beside.kernel().name());
    whole
}

#[test]
fn every_seed_does_on_the_running_kernel_what_the_reference_says() {
    let Some(mut beside) = beside() else { return };
    let seeds = corpus("seeds");
    assert!(seeds.len() >= 100);
    assert!(all_agree(&mut beside, seeds) >= 30);
}

#[test]
fn random_programs_do_what_the_reference_says() {
    let Some(mut beside) = beside() else { return };
    let facilities = *beside.kernel().facilities();
    let program = |number| {
        let program = fresh::program(0, number, 24, |op| facilities.lacks(op).is_none());
        (format!("program {number}"), program)
    };
    assert!(all_agree(&mut beside, (0..200).map(program)) >= 100);
}

#[test]
fn each_rule_holds_or_does_not_or_says_why_it_is_unknown() {
    let Some(mut beside) = beside() else { return };
    let found = beside.probe();
    assert_eq!(found.len(), Rule::ALL.len());
    for (rule, holds) in found {
        let profile = beside.profile();
        assert_eq!(profile.hold.has(rule), matches!(holds, Holds::Yes), "{}", rule.name());
        assert_eq!(profile.unknown.has(rule), matches!(holds, Holds::Unknown(_)));
        match holds {
            Holds::Yes | Holds::No => {}
            Holds::Unknown(why) => println!("{}: unknown: {why}", rule.name()),
            Holds::Otherwise(report) => panic!("{}:\n{report}", rule.name()),
        }
    }
}

/// Runs a program and returns the applied rules, the reason of the end, and the last observation.
fn last(beside: &mut Beside, program: &Program) -> (Rules, End, Observation) {
    let (mut met, mut seen) = (Rules::NONE, Observation::default());
    let run = beside.run_with(program, |Step { shown, applied, .. }| {
        met = met.union(applied);
        seen.clone_from(shown);
    });
    (met, run.end, seen)
}

#[test]
fn the_programs_outside_a_rule_agree_and_do_not_apply_it() {
    let Some(mut beside) = beside() else { return };
    for &rule in Rule::ALL {
        let (met, end, _) = last(&mut beside, &program("outside", rule));
        assert!(!met.has(rule), "{}", rule.name());
        match end {
            End::Whole => {}
            End::Lacks(missing) => println!("{}: skipped: no {missing}", rule.name()),
            end => panic!("{}: {end:?}", rule.name()),
        }
    }
}

#[test]
fn a_kernel_with_a_rule_shows_what_is_recorded_of_the_rule() {
    let Some(mut beside) = beside() else { return };
    let facilities = *beside.kernel().facilities();
    if !facilities.frames || !facilities.numa {
        println!("skipped: the kernel does not show page frames or policies");
        return;
    }
    let hold = beside.profile().hold;
    for rule in hold.iter() {
        beside.expect(Profile { hold: rule.refines().with(rule), unknown: Rules::NONE });
        let (_, _, seen) = last(&mut beside, &program("", rule));
        let file = folder("recorded").join(format!("{}.txt", rule.name()));
        if env::var_os("VMADIFF_RECORD").is_some() {
            let name = beside.kernel().name();
            let version = name.split('-').next().unwrap_or(name);
            fs::write(&file, format!("# {version}\n{}", shown(&seen, RECORDED_FLAGS)))
                .expect("a file");
        }
        match fs::read_to_string(&file) {
            Ok(text) => {
                let (_, recorded) = text.split_once('\n').expect("a line that names the kernel");
                assert_eq!(shown(&seen, RECORDED_FLAGS), recorded, "{}", rule.name());
            }
            Err(error) => println!("{}: not recorded: {error}", rule.name()),
        }
    }
}

#[test]
fn a_difference_is_reported_undecided_or_explained_by_what_the_probe_said() {
    let Some(mut beside) = beside() else { return };
    let Profile { hold, .. } = beside.profile();
    for rule in hold.iter() {
        let (program, only) = (program("", rule), Rules::NONE.with(rule));
        let at_last = |agree| agree + 1 == program.ops.len();

        beside.expect(Profile { hold: hold.without(rule), unknown: Rules::NONE });
        let (run, report) = beside.report(&program, Look::default());
        assert!(matches!(run.end, End::Differs(_)) && at_last(run.agree), "{report}");
        assert!(!report.contains(&format!("rule {}, ", rule.name())), "{report}");

        beside.expect(Profile { hold: hold.without(rule), unknown: only });
        let (run, report) = beside.report(&program, Look::default());
        let End::Undecided(rules, _) = run.end else { panic!("{report}") };
        assert!(rules == only && at_last(run.agree), "{report}");
        assert!(
            report.contains(&format!(
                "undecided: the difference goes away under the rules {}",
                rule.name()
            )),
            "{report}"
        );

        beside.expect(Profile { hold, unknown: Rules::NONE });
        let (run, report) = beside.report(&program, Look::default());
        assert!(matches!(run.end, End::Whole), "{report}");
        let names = |line: &str| line.contains("  (") && line.contains(rule.name());
        assert!(report.lines().any(names), "{report}");
        assert!(report.contains(&format!("rule {}, ", rule.name())), "{report}");
        let applied = beside.applied().get(&rule).copied();
        assert_eq!(applied, Some(1), "{}", rule.name());
    }
}

#[test]
fn an_operation_that_blocks_is_killed_and_says_so() {
    let program: Program = "mmap 0 0 2 rw anon_private\nfork 0\nuffd_register 1 1 1 0\n\
                            mlock 1 0 2\nmunmap 1 0 2\n"
        .parse()
        .expect("a program");
    let Some(mut beside) = beside() else { return };
    if !beside.kernel().facilities().userfaultfd {
        println!("skipped 1: no userfaultfd");
        return;
    }
    let began = Instant::now();
    let (run, report) = beside.report(&program, Look::default());
    assert!(matches!(run.end, End::Blocked), "{report}");
    assert_eq!(run.agree, 4, "{report}");
    assert!(report.contains("operation 4 blocks"), "{report}");
    assert!(began.elapsed() < Duration::from_secs(30));
    // The machine can run another program afterwards.
    let (run, report) =
        beside.report(&"mmap 0 0 2 rw anon_private\n".parse().expect("a program"), Look::default());
    assert!(matches!(run.end, End::Whole), "{report}");
}

fn vmadiff(args: &[&str]) -> (Option<i32>, String, String) {
    common::vmadiff(Path::new("."), args)
}

#[test]
fn the_command_shows_a_program_and_runs_the_same_random_ones_for_a_seed() {
    if beside().is_none() {
        return;
    }
    let seed = concat!(env!("CARGO_MANIFEST_DIR"), "/corpus/seeds/bug-a.txt");
    let (status, text, error) = vmadiff(&["kernel", seed]);
    assert_eq!(status, Some(0), "{text}{error}");
    assert!(text.contains("no difference between reference and linux"), "{text}");

    // What was not run is not status 0.
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).expect("a file");
        path.display().to_string()
    };
    let copy = file("copy.txt", "mmap 0 0 2 rw anon_private\nfork 0\ncopy 1 0 2 0 8 FIXED\n");
    let (status, text, error) = vmadiff(&["kernel", seed, &copy]);
    assert_eq!(status, Some(3), "{text}{error}");
    assert!(text.contains("so operation 3 and all after it were not run"), "{text}");
    let limited = file("limited.txt", "limits map_count=8\nmmap 0 0 2 rw anon_private\n");
    let (status, text, error) = vmadiff(&["kernel", &limited]);
    assert_eq!(status, Some(3), "{text}{error}");
    assert!(text.contains("not run: "), "{text}");

    let args = ["kernel", "--random", "20", "--operations", "12", "--seed", "5"];
    let first = vmadiff(&args);
    assert_eq!(first.0, Some(0), "{}{}", first.1, first.2);
    assert!(first.1.starts_with("programs=20 operations="), "{}", first.1);
    assert_eq!(first, vmadiff(&args));
}

/// Without rules every kernel after 5.2.1 differs from the reference in some program, so the test needs
/// no kernel with a bug.
#[test]
fn a_known_difference_is_marked_and_does_not_count() {
    if beside().is_none() {
        return;
    }
    let run = |number: usize, more: &[&str]| {
        let number = number.to_string();
        let args =
            ["kernel", "--no-rules", "--random", "1", "--color", "never", "--first", &number];
        vmadiff(&[&args[..], more].concat())
    };
    let differs = (0..60).map(|number| (number, run(number, &[])));
    let found = differs.into_iter().find(|(_, (status, ..))| *status == Some(1));
    let Some((number, (_, text, _))) = found else { panic!("no program differs from 5.2.1") };
    let signature = text
        .lines()
        .find_map(|line| line.strip_suffix(" (1 programs)"))
        .unwrap_or_else(|| panic!("no signature in {text}"));

    let folder = tempfile::tempdir().expect("a folder");
    let list = folder.path().join("known.txt").display().to_string();
    let run_with = |known: &str| {
        fs::write(&list, known).expect("a file");
        run(number, &["--known", &list])
    };
    let (status, text, error) = run_with(&format!("{signature} seen before\n"));
    assert_eq!(status, Some(0), "{text}{error}");
    let line = format!("known: {signature} (1 programs): seen before\n");
    assert!(text.ends_with(&line), "{text}");

    let (status, text, error) = run_with("leak/invariant/nothing-of-this seen before\n");
    assert_eq!(status, Some(1), "{text}{error}");
    assert!(text.contains(&format!("\n{signature} (1 programs)\n")), "{text}");

    let (status, _, error) = run_with("nonsense\n");
    assert_eq!(status, Some(2), "{error}");
    assert!(error.contains("known.txt") && error.contains("line 1"), "{error}");
}

/// A kernel since 5.16 has the rule `mremap-unmapped`, so it differs from 5.2.
#[test]
fn a_release_is_expected_instead_of_what_the_kernel_shows() {
    if beside().is_none() {
        return;
    }
    let args = ["kernel", "--random", "60", "--color", "never"];
    let (_, probed, _) = vmadiff(&args);
    let newer = probed.lines().next().is_some_and(|line| line.contains(" rule-mremap-unmapped="));
    let (status, text, error) = vmadiff(&[&args[..], &["--expect", "5.2"]].concat());
    assert_eq!(status, Some(i32::from(newer)), "{text}{error}");
}

#[test]
fn ctrl_c_prints_the_counts_of_the_programs_so_far() {
    if beside().is_none() {
        return;
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmadiff"));
    command.args(["kernel", "--random", "1000000000"]);
    let began = Instant::now();
    let (status, text) =
        common::interrupt(&mut command, || began.elapsed() > Duration::from_secs(4));
    assert_eq!(status, Some(130), "{text}");
    assert!(text.starts_with("programs=") && !text.starts_with("programs=1000000000"), "{text}");
}

#[test]
fn bad_use_of_the_command_is_refused() {
    for (args, expected) in [
        (&["kernel"][..], "FILES"),
        (&["kernel", "/nowhere.txt"], "/nowhere.txt"),
        (&["kernel", "--random", "1", "--operations", "65"], "65"),
        (&["kernel", "--probe", "--random", "1"], "--probe"),
        (&["kernel", "/nowhere.txt", "--known", "a"], "--known"),
        (&["kernel", "--random", "1", "--known", "/nowhere.txt"], "/nowhere.txt"),
        (&["kernel", "--random", "1", "--expect", "6"], "6"),
        (&["kernel", "--random", "1", "--expect", "6.1", "--no-rules"], "--no-rules"),
    ] {
        let (status, _, error) = vmadiff(args);
        assert_eq!(status, Some(2), "{args:?}: {error}");
        assert!(error.contains(expected), "{args:?}: {error}");
    }
}

#[test]
fn a_program_of_an_allocator_goes_on_after_a_rule_of_later_kernels() {
    use vmadiff::import::{Options, import};

    let log = include_bytes!("strace/mimalloc.strace");
    let log = vmadiff::strace::read(&log[..]).expect("a log");
    let imported = import(&log, Options { touch: true, operations: 64, process: None });
    let [imported] = &imported.programs[..] else { panic!("one program: {imported:?}") };
    let program = &imported.program;
    // The loader makes memory read-only that was never touched, in the middle of the program.
    let rules = Rules::NONE.with(Rule::MprotectUncharge);
    let mut reference = vmadiff_reference::Reference::with_rules(rules);
    let (mut seen, mut applied) = (Observation::default(), Vec::new());
    reference.reset(&program.limits);
    for (at, op) in program.ops.iter().enumerate() {
        reference.step(op, &mut seen);
        if reference.applied() == rules {
            applied.push(at);
        }
    }
    assert!(applied.iter().any(|at| at + 1 < program.ops.len()), "{applied:?}\n{program}");
    let Some(mut beside) = beside() else { return };
    let run = beside.run(program);
    assert!(matches!(run.end, End::Whole), "{run:?}\n{program}");
}

#[test]
fn minimize_takes_the_running_kernel() {
    let Some(mut beside) = beside() else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let several = "mmap 0 0 1 rw anon_private\nmmap 0 2 1 r anon_private\nmlock 0 2 1\nfork 0\n\
                   mmap 0 40 3 rw anon_private\nmremap 0 0 3 3 MAYMOVE|FIXED 10\nmunmap 0 40 3\n";
    fs::write(folder.path().join("several.txt"), several).expect("a file");
    let minimize = |args: &[&str]| {
        let all = [&["minimize", "several.txt", "-o", "small.txt", "--kernel"], args].concat();
        common::vmadiff(folder.path(), &all)
    };
    // The rules explain every difference of a kernel that the reference knows.
    let (status, _, error) = minimize(&[]);
    assert_eq!(status, Some(2));
    assert!(error.contains("no divergence between reference and linux"), "{error}");
    if !beside.profile().hold.has(Rule::MremapSeveral) {
        return println!("skipped: no rule of the program holds");
    }
    let (_, out, error) = minimize(&["--no-rules"]);
    assert!(out.contains(" of 7 operations, "), "{out}{error}");
    let small = fs::read_to_string(folder.path().join("small.txt")).expect("it is written");
    let program: Program = small.parse().expect("a program");
    assert!(program.ops.len() <= 3, "{small}");
    beside.expect(Profile::default());
    assert!(matches!(beside.run(&program).end, End::Differs(_)), "{small}");
}

#[test]
fn an_invariant_that_kernel_and_reference_break_is_told_and_counted() {
    let Some(mut beside) = beside() else { return };
    beside.probe();
    let hold = beside.profile().hold;
    // Since 5.7 `locked_vm` keeps the pages of the old VMA, which is unlocked.
    if !hold.has(Rule::MremapDontunmap) || hold.has(Rule::MremapDontunmapCuts) {
        return;
    }
    let program: Program = "mmap 0 1 3 rw anon_private LOCKED\n\
                            mremap 0 1 2 2 MAYMOVE|FIXED|DONTUNMAP 8\n"
        .parse()
        .expect("a program");
    let (run, text) = beside.report(&program, Look::default());
    assert!(matches!(run.end, End::Whole), "{text}");
    assert!(text.contains("broken invariant accounting/invariant/locked_vm after operation 2"));
    let counts: Vec<_> = beside.broken().values().collect();
    assert_eq!(counts, [&1]);
    let moved = "mmap 0 1 3 rw anon_private LOCKED\nmremap 0 1 2 2 MAYMOVE|FIXED 8\n";
    let (_, text) = beside.report(&moved.parse().expect("a program"), Look::default());
    assert!(!text.contains("broken invariant"), "{text}");
}
