//! Programs for a running kernel: the C code compiles without a warning, runs, and checks the
//! kernel without vmadiff.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::{PoisonError, RwLock};

use tempfile::TempDir;
use vmadiff::export_c::export_c;
use vmadiff::export_syz::export_syz;
use vmadiff::random::Walk;
use vmadiff_machine::program::MAX_OPS;
use vmadiff_machine::{Limits, Machine as _, Observation, Op, Opcode, Program};
use vmadiff_reference::Reference;

/// Returns the C compilers of this computer. `cc` is always one of them, because Rust needs it.
fn compilers() -> Vec<&'static str> {
    let runs = |name: &&str| {
        let _forks = FORKS.read().unwrap_or_else(PoisonError::into_inner);
        Command::new(name).arg("--version").output().is_ok()
    };
    let found: Vec<_> = ["gcc", "clang"].into_iter().filter(runs).collect();
    println!("compilers: {found:?}");
    if found.is_empty() { vec!["cc"] } else { found }
}

/// A process that is started has the descriptors of this process until it executes its program, and a
/// userfaultfd context is released with its last descriptor. So no test starts a process while another test runs
/// a program on the kernel.
static FORKS: RwLock<()> = RwLock::new(());

/// Runs a command to its end.
fn output(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let forks = FORKS.read().unwrap_or_else(PoisonError::into_inner);
    let child = command.spawn().expect("it runs");
    drop(forks);
    child.wait_with_output().expect("it ends")
}

/// Compiles C in `folder` with the options that the comment at the top of the C code names, and
/// returns the path of the program.
fn compile(compiler: &str, folder: &Path, name: &str, c: &str) -> PathBuf {
    let (source, program) = (folder.join(format!("{name}.c")), folder.join(name));
    fs::write(&source, c).expect("a file");
    let mut command = Command::new(compiler);
    command.args(["-Wall", "-Wextra", "-Werror", "-o"]).arg(&program).arg(&source);
    let output = output(&mut command);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{compiler} {name}: {errors}");
    program
}

fn run(program: &Path) -> (i32, String) {
    let Output { status, stdout, .. } = output(&mut Command::new(program));
    (status.code().expect("it exits"), String::from_utf8(stdout).expect("UTF-8"))
}

fn program(text: &str) -> Program {
    text.parse().expect("a program")
}

/// Returns the programs in a folder of the corpus, with their names.
fn programs(folder: &str) -> Vec<(String, Program)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(folder);
    let mut seeds: Vec<_> = fs::read_dir(folder)
        .expect("there are seeds")
        .map(|entry| entry.expect("a seed").path())
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, program(&fs::read_to_string(&path).expect("text")))
        })
        .collect();
    seeds.sort_by(|a, b| a.0.cmp(&b.0));
    seeds
}

/// Returns whether a kernel without the patch can run the whole program.
fn is_for_any_kernel(program: &Program) -> bool {
    !program.ops.iter().any(|op| {
        matches!(op, Op::Copy { .. } | Op::CopyVma { .. }) || op.to_string().contains("special")
    })
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn the_running_kernel_agrees_with_the_reference_on_the_seeds() {
    let (folder, compilers) = (folder(), compilers());
    let (mut agreed, mut impossible) = (0, Vec::new());
    let seeds = programs("seeds").into_iter().filter(|(_, program)| is_for_any_kernel(program));
    for (n, (name, program)) in seeds.enumerate() {
        // The compilers take turns, so that each compiles every part of the runtime.
        let compiler = compilers[n % compilers.len()];
        let c = export_c(&program, &name);
        let (status, text) = run(&compile(compiler, folder.path(), &name, &c));
        match status {
            0 => agreed += 1,
            2 => impossible.push(format!("{name}: {}", text.lines().last().unwrap_or_default())),
            _ => panic!("{name}: status {status}\n{text}"),
        }
    }
    println!("{agreed} agreed, {} could not be run: {impossible:#?}", impossible.len());
    assert!(agreed >= 20, "{agreed} agreed, {impossible:#?}");
}

#[test]
fn the_running_kernel_does_again_what_real_programs_did() {
    let folder = folder();
    let real = programs("real");
    assert!(real.len() >= 50);
    for (name, program) in real {
        let (status, text) = run(&compile("cc", folder.path(), &name, &export_c(&program, &name)));
        assert_eq!(status, 0, "{name}: {text}");
        assert!(text.contains(&format!("\nagrees: {} operations", program.ops.len())), "{text}");
    }
}

/// Runs programs as C and by `vmadiff kernel`, and checks that both judge alike. Returns the number of
/// programs that both ran to their end, and the number in which a rule was applied; `None` where the
/// running kernel cannot be driven.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn judge_alike(programs: impl IntoIterator<Item = (String, Program)>) -> Option<(usize, usize)> {
    use vmadiff::kernel::{Beside, End};
    use vmadiff_kernel::{Kernel, Options};
    use vmadiff_reference::later::Rules;

    let alone = || FORKS.write().unwrap_or_else(PoisonError::into_inner);
    let forks = alone();
    let Ok(kernel) = Kernel::new(Options::default()) else {
        println!("skipped: the running kernel cannot be driven");
        return None;
    };
    let mut beside = Beside::new(kernel);
    beside.probe();
    drop(forks);
    let folder = folder();
    let (mut whole, mut ruled) = (0, 0);
    for (name, program) in programs {
        let mut applied = Rules::NONE;
        let forks = alone();
        let run_beside = beside.run_with(&program, |step| applied = applied.union(step.applied));
        drop(forks);
        let (status, text) = run(&compile("cc", folder.path(), &name, &export_c(&program, &name)));
        match run_beside.end {
            End::Whole | End::Blocked => assert_eq!(status, 0, "{name}: {text}"),
            End::Differs(_) => assert_eq!(status, 1, "{name}: {text}"),
            End::Undecided(..) => assert_eq!(status, 2, "{name}: {text}"),
            // The C can limit the number of VMAs, which `vmadiff kernel` does for a whole machine only.
            End::Lacks(_) => assert_ne!(status, 1, "{name}: {text}"),
            ref other => println!("{name}: skipped: {other:?}"),
        }
        if matches!(run_beside.end, End::Whole) {
            let named = named(&text);
            assert!(named.iter().all(|rule| applied.iter().any(|a| a.name() == *rule)), "{text}");
            (whole, ruled) = (whole + 1, ruled + usize::from(!named.is_empty()));
        }
    }
    println!("{whole} programs run to their end, rules named in {ruled}");
    assert!(whole > 0);
    Some((whole, ruled))
}

/// Returns the rules that a C program names at the end of its output.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn named(text: &str) -> Vec<&str> {
    let last = text.lines().last().unwrap_or_default();
    last.split_once(", with the rules ")
        .map_or(Vec::new(), |(_, rules)| rules.split(", ").collect())
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn the_c_program_and_vmadiff_kernel_judge_the_rules_alike() {
    use vmadiff_reference::later::Rule;

    let several = program(
        "mmap 0 10 2 rw anon_private\nmmap 0 12 2 r anon_private\nmmap 0 15 2 rw anon_private\n\
         touch 0 10 1\ntouch 0 15 1\nmremap 0 10 8 8 MAYMOVE|FIXED 30\nuffd_register 0 35 2\n\
         mremap 0 30 8 8 MAYMOVE|FIXED 40\n",
    );
    let outside = programs("kernel/outside").into_iter().map(|(name, p)| (name + "-outside", p));
    let all = Rule::ALL
        .iter()
        .map(|rule| (rule.name().to_owned(), rule.about().probe.parse().expect("a program")));
    judge_alike(all.chain(outside).chain([("several".into(), several)]));
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn the_c_program_and_vmadiff_kernel_judge_random_programs_alike() {
    let mut programs = Vec::new();
    let mut walk = Walk::new(17);
    while programs.len() < 12 {
        let program = walk.step();
        if is_for_any_kernel(program) && program.ops.len() > 8 {
            programs.push((format!("random{}", programs.len()), program.clone()));
        }
    }
    judge_alike(programs);
}

/// Returns whether the program sends a message to the monitor of a userfaultfd context.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
fn sends_messages(program: &Program) -> bool {
    let mut reference = Reference::new();
    reference.reset(&program.limits);
    let mut seen = Observation::default();
    program.ops.iter().any(|op| {
        reference.step(op, &mut seen);
        !seen.messages.is_empty()
    })
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn the_c_program_and_vmadiff_kernel_judge_random_programs_with_messages_alike() {
    let mut programs = Vec::new();
    let mut walk = Walk::new(18);
    while programs.len() < 8 {
        let program = walk.step();
        if is_for_any_kernel(program) && sends_messages(program) {
            programs.push((format!("random{}", programs.len()), program.clone()));
        }
    }
    judge_alike(programs);
}

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn the_c_program_and_vmadiff_kernel_see_the_same_wrong_expectations() {
    // The last operation shows the state that the comparison of mapped pages alone does not show.
    let text = "mmap 0 0 2 rw anon_private\nmmap 0 2 2 rw file0_private - 1\nshmat 0 8\n\
                touch 0 0 1\nmprotect 0 1 1 r\nfork 0\ntouch 1 0 1\ntouch 0 0 0\n";
    let c = export_c(&program(text), "planted");
    let folder = folder();
    let right = run(&compile("cc", folder.path(), "right", &c));
    if right.0 == 2 {
        return println!("not run: {}", right.1);
    }
    assert_eq!(right.0, 0, "{}", right.1);
    for (n, (from, to, says)) in [
        ("VmSize 8, VmLck 0, VmData 4\\n", "VmSize 9, VmLck 0, VmData 4\\n", "> VmSize 8"),
        ("VmSize 8, VmLck 0, VmData 3\\n", "VmSize 8, VmLck 0, VmData 2\\n", "> VmSize 8"),
        ("0-1 rd wr mr mw me ac sd\\n", "0-1 rd wr mr mw me sd\\n", "> 0-1 rd wr mr mw me ac"),
        (
            "2-4 rd wr mr mw me ac sd, file 0, page 1",
            "2-4 rd wr mr mw me ac sd, file 0, page 2",
            "page 1",
        ),
        (".attached = 2", ".attached = 1", "shm_nattch is 2, expected 1"),
        ("anonymous 0-1", "anonymous 0-2", "> anonymous 0-1"),
        (".result = PAGE(8)", ".result = PAGE(9)", "differs: expected 9"),
        (".result = 1,", ".result = -ENOMEM,", "differs: expected -ENOMEM"),
        (
            "{ TOUCH, PAGE(0), 0 },\n\t\t.expected = {\n\t\t\t.result = 1,",
            "{ TOUCH, PAGE(0), 0 },\n\t\t.expected = {\n\t\t\t.result = 2,",
            "differs: expected 2",
        ),
        (
            ".contents[1] = \"0-1=2",
            ".contents[1] = \"0-1=1",
            "at the end page 0 of process 1 reads as 2, expected 1",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(c.contains(from), "{from} in {c}");
        let (status, text) =
            run(&compile("cc", folder.path(), &format!("wrong{n}"), &c.replace(from, to)));
        if from.starts_with("anonymous") && status == 0 {
            println!("this user does not see the anonymous pages");
            continue;
        }
        assert_eq!(status, 1, "{from}: {text}");
        assert!(text.contains(says), "{says} in {text}");
        assert!(text.contains("this is Linux "), "{text}");
    }
}

/// Takes some minutes: the figures are in docs/reproducers.md.
#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
#[ignore = "takes some minutes"]
fn the_c_program_and_vmadiff_kernel_judge_the_corpus_alike() {
    let folders = ["bench", "faults", "kernel", "kernel/outside", "real", "review", "seeds"];
    let all = folders.into_iter().flat_map(|folder| {
        let name = move |(name, program)| (format!("{}-{name}", folder.replace('/', "-")), program);
        programs(folder).into_iter().map(name)
    });
    let judged = judge_alike(all);
    assert!(judged.is_none_or(|(whole, ruled)| whole > 200 && ruled > 20), "{judged:?}");
}

#[test]
fn a_c_program_expects_each_combination_of_rules_and_nothing_else() {
    let text = "mmap 0 0 1 rw anon_private\nmremap 0 1 1 1 MAYMOVE|FIXED 0\n\
                mmap 0 2 1 - anon_private\nmlock 0 2 1 1\n";
    let c = export_c(&program(text), "rules");
    let folder = folder();
    let (status, text) = run(&compile("cc", folder.path(), "rules", &c));
    if status == 2 {
        return println!("not run: {text}");
    }
    assert_eq!(status, 0, "{text}");
    for rule in ["mremap-unmapped", "mlock-onfault"] {
        assert_eq!(text.matches(&format!("rule {rule}, since ")).count(), 1, "{text}");
    }
    // A behaviour of no kernel is reported, although there are rules.
    let main = c.find("/* ---- the program ---- */").expect("the program");
    let (rules, main) = c.split_at(main);
    for (n, (from, to)) in [
        ("SYS_mlock2, PAGE(2), PAGES(1), MLOCK_ONFAULT", "SYS_mlock2, PAGE(60), PAGES(1), 7"),
        ("SYS_mmap, PAGE(2), PAGES(1), PROT_NONE", "SYS_mmap, PAGE(2), PAGES(1), PROT_READ"),
        ("SYS_mremap, PAGE(1)", "SYS_mremap, PAGE(0)"),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(main.contains(from), "{from} in {main}");
        let name = format!("wrong{n}");
        let c = format!("{rules}{}", main.replace(from, to));
        let (status, text) = run(&compile("cc", folder.path(), &name, &c));
        assert_eq!(status, 1, "{text}");
        assert!(text.contains("differs: "), "{text}");
    }
    // The behaviour of 5.2.1 is not expected on a kernel that has the rule.
    let never =
        main.replace(".with = RULE_MREMAP_UNMAPPED", ".with = 1 << 30 | RULE_MREMAP_UNMAPPED");
    assert_ne!(never, main);
    let (status, without) = run(&compile("cc", folder.path(), "never", &format!("{rules}{never}")));
    let holds = text.contains("rule mremap-unmapped, since 5.16: holds\n");
    assert_eq!(status, i32::from(holds), "{without}");
    // A probe that cannot be run leaves its rule unknown, and the difference undecided.
    let broken = c.replace("SYS_mremap, PAGE(1), PAGES(1), PAGES(1)", "-1");
    let probe_only =
        format!("{}{main}", &broken[..broken.find("/* ---- the program").expect("it")]);
    let (status, text) = run(&compile("cc", folder.path(), "undecided", &probe_only));
    assert!(text.contains("rule mremap-unmapped, since 5.16: this kernel does not have"), "{text}");
    let holds = text.contains("undecided: ");
    assert_eq!(status, if holds { 2 } else { 0 }, "{text}");
}

#[test]
fn a_program_with_many_rules_expects_what_the_releases_do() {
    let text = "mmap 0 0 1 rw anon_private\nmprotect 0 0 1 r\nmremap 0 1 1 1 MAYMOVE|FIXED 0\n\
                mmap 0 2 1 - anon_private\nmlock 0 2 1 1\nmmap 0 10 1 rw anon_private\n\
                mmap 0 12 1 r anon_private\nmremap 0 10 3 3 MAYMOVE|FIXED 20\nmunmap 0 0 63\n\
                mmap 0 1 3 rw anon_private\nmunmap 0 2 1\nmremap 0 1 1 2\nmunmap 0 0 63\n\
                shmat 0 0\nmprotect 0 0 2 r\nmprotect 0 1 1 rw\nmprotect 0 1 3 r\nmprotect 0 1 1 rw\n\
                mremap 0 0 1 1 MAYMOVE|FIXED|DONTUNMAP 40\n";
    let c = export_c(&program(text), "many");
    assert!(c.contains("#define COMBINATIONS {"), "{c}");
    let (status, text) = run(&compile("cc", folder().path(), "many", &c));
    assert_ne!(status, 1, "{text}");
}

#[test]
fn what_blocks_is_met_as_expected_and_ends_the_run() {
    let text =
        "mmap 0 1 2 rw anon_private\nuffd_register 0 1 1\ntouch 0 2 1\nmlock 0 1 1\nfork 0\n";
    let folder = folder();
    let c = export_c(&program(text), "blocks");
    let (status, text) = run(&compile("cc", folder.path(), "blocks", &c));
    if text.contains("no userfaultfd") {
        assert_eq!(status, 2, "{text}");
        return println!("not run: {text}");
    }
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("mlock 0 1 1") && text.contains(" blocked\n"), "{text}");
    assert!(text.ends_with("agrees: it blocks, as expected; 1 operations after it are not run\n"));
}

/// The program of each event of userfaultfd, with a text that is in its C.
const EVENTS: [(&str, &str, &str); 9] = [
    (
        "fork",
        "uffd_open 0 0 FORK|UNMAP\nmmap 0 1 4 rw anon_private\nuffd_register 0 1 2\nfork 0\n\
         uffd_register 1 4 1\nuffd_register 1 3 1 1\nfork 1\nmunmap 2 1 4\nmunmap 1 1 4\n\
         uffd_unregister 0 1 4\n",
        "\"UNMAP 1-5, context 0 of process 2\"",
    ),
    (
        "move",
        "uffd_open 0 1 REMAP|UNMAP\nmmap 0 1 2 rw anon_private\nuffd_register 0 1 2 1\n\
         mremap 0 1 2 2 MAYMOVE|FIXED 9\n",
        "\"REMAP 1-3 to 9, context 1 of process 0\\n\"",
    ),
    (
        "shrinking-move",
        "uffd_open 0 0 REMAP\nmmap 0 1 3 rw anon_private\nuffd_register 0 1 3\n\
         mremap 0 1 3 2 MAYMOVE|FIXED 9\n",
        ".with = RULE_UFFD_REMAP_LENGTH,",
    ),
    (
        "dontneed",
        "uffd_open 0 0 REMOVE\nmmap 0 1 3 rw anon_private\ntouch 0 2 1\nuffd_register 0 2 1\n\
         madvise 0 1 3 DONTNEED\nmadvise 0 1 1 DONTNEED\n",
        "\"REMOVE 2-3, context 0 of process 0\"",
    ),
    (
        "remove",
        "uffd_open 0 0 REMOVE\nmmap 0 1 3 rw anon_shared\nuffd_register 0 1 2\n\
         madvise 0 1 1 REMOVE\nmadvise 0 3 1 REMOVE\n",
        "\"REMOVE 1-2, context 0 of process 0\"",
    ),
    (
        "unmap",
        "uffd_open 0 0 UNMAP\nuffd_open 0 1 UNMAP\nmmap 0 1 9 rw anon_private\nuffd_register 0 1 2\n\
         uffd_register 0 5 3 1\nmunmap 0 2 4\nmmap 0 7 1 r anon_private\nmmap 0 1 1 rw anon_private\n\
         mmap 0 20 2 rw anon_private\nuffd_register 0 20 2\nmremap 0 20 2 1\n\
         mremap 0 9 1 1 MAYMOVE|FIXED 6\n",
        "\"UNMAP 2-6, context 0 of process 0\\n\"",
    ),
    (
        "reopened",
        "uffd_open 0 0 FORK|UNMAP\nmmap 0 1 4 rw anon_private\nuffd_register 0 1 2\nfork 0\n\
         uffd_open 0 0 UNMAP\nuffd_register 0 3 1\nmunmap 0 1 1\nmunmap 0 3 1\nmunmap 1 2 1\n\
         uffd_open 1 0\nmunmap 1 1 1\nuffd_register 1 3 1\nmunmap 1 3 1\nexit 1\nfork 0\n",
        "UFFD_OPEN, 0, 0 }",
    ),
    (
        "blocks",
        "uffd_open 0 0 FORK|UNMAP\nmmap 0 1 2 rw anon_private\nuffd_register 0 1 2\nmunmap 0 2 1\n\
         fork 0\nmlock 1 1 1\nfork 0\n",
        "UFFD_FEATURE_EVENT_FORK | UFFD_FEATURE_EVENT_UNMAP",
    ),
    (
        "blocks-later",
        "uffd_open 0 0 UNMAP\nuffd_register 0 1 1 1\nmmap 0 1 4 rw anon_private\n\
         uffd_register 0 1 1 1\nuffd_register 0 3 1\nmlockall 0 FUTURE\nmmap 0 3 1 rw anon_private\n\
         mlock 0 1 1\n",
        "UFFD_FEATURE_EVENT_UNMAP",
    ),
];

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
#[test]
fn the_c_program_and_vmadiff_kernel_judge_messages_of_userfaultfd_alike() {
    for (name, text, has) in EVENTS {
        let c = export_c(&program(text), name);
        assert!(c.contains(has), "{name}: {has} in {c}");
    }
    let judged = judge_alike(EVENTS.map(|(name, text, _)| (name.to_owned(), program(text))));
    // All but the two that block.
    assert!(judged.is_none_or(|(whole, _)| whole == EVENTS.len() - 2), "{judged:?}");
}

#[test]
fn a_wrong_message_is_noticed() {
    let folder = folder();
    for (name, from, to, says) in [
        ("fork", "\"FORK, context 0 of process 0\"", "NULL", " > FORK, context 0 of process 0\n"),
        ("fork", "of process 2\"", "of process 1\"", " > UNMAP 1-5, context 0 of process 2\n"),
        ("move", "to 9, context 1", "to 8, context 1", " > REMAP 1-3 to 9, context 1"),
        ("move", "UNMAP 1-3", "UNMAP 1-2", " > UNMAP 1-3, context 1"),
        ("dontneed", "REMOVE 2-3", "UNMAP 2-3", " > REMOVE 2-3, context 0"),
        (
            "remove",
            ".messages =\n\t\t\t\t\"REMOVE 1-2, context 0 of process 0\",\n",
            "",
            " > REMOVE 1-2",
        ),
        ("unmap", "UNMAP 2-6, context 1 of", "UNMAP 2-6, context 0 of", " > UNMAP 2-6, context 1"),
        // The kernel sends no message: the context has no feature of the event.
        (
            "unmap",
            "UFFD_OPEN, 1, UFFD_FEATURE_EVENT_UNMAP",
            "UFFD_OPEN, 1, 0",
            " > UNMAP 2-6, context 1 of process 0\n",
        ),
        (
            "dontneed",
            "UFFD_OPEN, 0, UFFD_FEATURE_EVENT_REMOVE",
            "UFFD_OPEN, 0, UFFD_FEATURE_EVENT_UNMAP",
            " > no message\n",
        ),
    ] {
        let (_, text, _) = EVENTS.iter().find(|(of, ..)| *of == name).expect("a program");
        let c = export_c(&program(text), name);
        let (right, said) = run(&compile("cc", folder.path(), "right", &c));
        if right == 2 {
            println!("not run: {said}");
            continue;
        }
        assert_eq!(right, 0, "{name}: {said}");
        let main = c.find("/* ---- the program ---- */").expect("the program");
        let (before, main) = c.split_at(main);
        assert!(main.contains(from), "{from} in {main}");
        let wrong = format!("{before}{}", main.replace(from, to));
        let (status, said) = run(&compile("cc", folder.path(), "wrong", &wrong));
        assert_eq!(status, 1, "{name}, {from}: {said}");
        assert!(said.contains("\ndiffers: messages of userfaultfd\n"), "{said}");
        assert!(said.contains(says), "{says} in {said}");
    }
}

#[test]
fn a_kernel_without_events_of_userfaultfd_says_so() {
    let folder = folder();
    let (_, text, _) = EVENTS[0];
    let c = export_c(&program(text), "lacks");
    for (n, (from, to, says)) in [
        (
            ".features = features }",
            ".features = features | 1UL << 63 }",
            "no events of userfaultfd: they want",
        ),
        ("syscall(SYS_pidfd_getfd,", "syscall(-1,", "no pidfd_getfd(), by which"),
        ("syscall(SYS_userfaultfd,", "syscall(-1,", "no userfaultfd: it wants"),
    ]
    .into_iter()
    .enumerate()
    {
        assert!(c.contains(from), "{from} in {c}");
        let name = format!("lacks{n}");
        let (status, text) = run(&compile("cc", folder.path(), &name, &c.replace(from, to)));
        assert_eq!(status, 2, "{text}");
        assert!(text.contains(says) || text.contains("no userfaultfd"), "{says} in {text}");
        assert!(text.contains("uffd_open 0 0 FORK|UNMAP") && text.contains(" not run\n"), "{text}");
    }
}

#[test]
fn pages_that_were_given_up_are_not_reclaimed() {
    let folder = folder();
    let text = "mmap 0 0 3 rw anon_private\ntouch 0 0 1\ntouch 0 1 1\nmlock 0 2 1\n\
                madvise 0 0 1 FREE\nfork 0\nmadvise 0 0 2 PAGEOUT\nmadvise 1 0 2 PAGEOUT\n\
                madvise 0 1 2 PAGEOUT\nmadvise 0 2 2 PAGEOUT\nmadvise 0 3 1 PAGEOUT\ntouch 0 0\n\
                touch 1 0\n";
    let c = export_c(&program(text), "freed");
    assert!(c.contains("MADV_PAGEOUT && freed"), "{c}");
    let (status, text) = run(&compile("cc", folder.path(), "freed", &c));
    assert_ne!(status, 1, "{text}");
    let text = "mmap 0 0 1 rw anon_private\ntouch 0 0 1\nmadvise 0 0 1 PAGEOUT\n";
    let c = export_c(&program(text), "pageout");
    assert!(!c.contains("freed"), "{c}");
    // A page of a file that nobody has written would be dropped, and userfaultfd would miss it.
    let text = "mmap 0 0 1 rw anon_shared POPULATE\nuffd_register 0 0 1\nmadvise 0 0 1 PAGEOUT\n\
                mlockall 0 CURRENT\n";
    let (status, text) =
        run(&compile("cc", folder.path(), "reclaim", &export_c(&program(text), "reclaim")));
    assert_ne!(status, 1, "{text}");
}

#[test]
fn sealed_memory_is_expected_with_the_rule() {
    let text = "mmap 0 0 4 r anon_private\nmseal 0 1 2\nmunmap 0 0 3\nmadvise 0 1 1 DONTNEED\n\
                fork 0\nmprotect 1 0 4 rw\n";
    let c = export_c(&program(text), "sealed");
    assert!(c.contains("SYS_mseal, PAGE(1), PAGES(2), 0"), "{c}");
    let folder = folder();
    let (status, text) = run(&compile("cc", folder.path(), "sealed", &c));
    assert_ne!(status, 1, "{text}");
}

#[test]
fn soft_dirty_memory_is_compared_where_the_kernel_shows_it() {
    let text = "mmap 0 0 2 rw anon_private\ntouch 0 0 1\nclear_refs 0\nmmap 0 2 1 rw anon_private\n\
                fork 0\ntouch 1 0 1\nclear_refs 1\nmmap 1 8 1 r anon_private LOCKED\nmunlock 1 8 1\n";
    let c = export_c(&program(text), "soft-dirty");
    assert!(c.contains("CLEAR_REFS") && c.contains("/proc/self/clear_refs"), "{c}");
    let folder = folder();
    let (status, text) = run(&compile("cc", folder.path(), "soft-dirty", &c));
    assert_ne!(status, 1, "{text}");
}

#[test]
fn removed_pages_are_expected_to_be_zero() {
    let text = "mmap 0 0 3 rw file0_shared\nmmap 0 8 3 rw file0_private\ntouch 0 1 1\n\
                touch 0 2 1\ntouch 0 9 1\nfork 0\nmadvise 1 0 2 REMOVE\ntouch 0 1\ntouch 0 2\n\
                touch 0 9\nmprotect 0 2 1 r\nmadvise 0 2 1 REMOVE\ntouch 0 2\n";
    let c = export_c(&program(text), "removed");
    assert!(c.contains("SYS_madvise, PAGE(0), PAGES(2), MADV_REMOVE"), "{c}");
    let folder = folder();
    let (status, text) = run(&compile("cc", folder.path(), "removed", &c));
    assert_ne!(status, 1, "{text}");
}

#[test]
fn pages_past_the_end_of_a_truncated_file_are_expected_to_be_gone() {
    let text = "mmap 0 0 3 rw file0_shared\nmmap 0 8 3 rw file0_private\ntouch 0 1 1\n\
                touch 0 10 1\nfork 0\nftruncate 1 file0 1\ntouch 0 1\ntouch 0 10\n\
                ftruncate 0 file0 3\ntouch 0 1\ntouch 0 10\nftruncate 0 readonly 1\n";
    let c = export_c(&program(text), "truncated");
    assert!(c.contains("SYS_ftruncate, FILE0, PAGES(1)"), "{c}");
    assert!(c.contains("SYS_ftruncate, READONLY, PAGES(1)"), "{c}");
    let folder = folder();
    let (status, text) = run(&compile("cc", folder.path(), "truncated", &c));
    assert_ne!(status, 1, "{text}");
    let c = export_c(&program("ftruncate 0 special 1\nmmap 0 0 1 rw anon_private\n"), "device");
    assert!(c.contains("no kernel has the device that is truncated here"), "{c}");
}

#[test]
fn a_limit_that_is_set_later_holds_in_c() {
    for (limits, calls) in [
        (
            "",
            "mmap 0 0 2 rw anon_private\nprlimit 0 AS 3\nmmap 0 4 2 rw anon_private\nfork 0\n\
              mmap 1 4 2 rw anon_private\nprlimit 1 AS 4\nmmap 1 4 2 rw anon_private\nprlimit 0 MEMLOCK\n",
        ),
        (
            "limits address_space=1\n",
            "mmap 0 0 2 rw anon_private\nprlimit 0 AS 2\nmmap 0 0 2 r anon_private\n",
        ),
        (
            "limits lock=1\n",
            "mmap 0 0 2 rw anon_private\nmlock 0 0 2\nprlimit 0 MEMLOCK 2\nmlock 0 0 2\n\
             prlimit 0 MEMLOCK\nmunlock 0 0 2\nmlock 0 0 1\nmlockall 0 CURRENT\nprlimit 0 MEMLOCK 1\n\
             mlockall 0 CURRENT\nprlimit 0 MEMLOCK 2\nmlockall 0 CURRENT\n",
        ),
    ] {
        let c = export_c(&program(&format!("{limits}{calls}")), "limit");
        assert!(c.contains("PRLIMIT, RLIMIT_"), "{c}");
        let folder = folder();
        let (status, text) = run(&compile("cc", folder.path(), "limit", &c));
        assert_ne!(status, 1, "{text}");
    }
}

#[test]
fn memory_that_the_process_marks_for_ksm_is_expected_with_the_rules() {
    let text = "mmap 0 0 2 rw anon_private\nmemory_merge 0 1\nmmap 0 2 1 rw anon_private\nfork 0\n\
                mmap 1 4 1 rw file0_private\nmemory_merge 1 0\nmmap 0 3 1 rw anon_private\n";
    let c = export_c(&program(text), "marked");
    assert!(c.contains("SYS_prctl, PR_SET_MEMORY_MERGE, 1"), "{c}");
    let folder = folder();
    let (status, text) = run(&compile("cc", folder.path(), "marked", &c));
    assert_ne!(status, 1, "{text}");
}

#[test]
fn memory_that_is_watched_in_write_protect_mode_is_expected_with_the_rules() {
    let text = "mmap 0 0 2 rw anon_private\nmmap 0 2 2 rw file0_shared\nuffd_register_wp 0 0 1\n\
                uffd_register_wp 0 2 1 0 MISSING|WP\nuffd_register 0 1 1\ntouch 0 0 1\nfork 0\n";
    let c = export_c(&program(text), "watched");
    assert!(c.contains("UFFD_REGISTER, PAGE(2), PAGES(1), 0, 3"), "{c}");
    let folder = folder();
    let (status, text) = run(&compile("cc", folder.path(), "watched", &c));
    assert_ne!(status, 1, "{text}");
}

#[test]
fn pages_are_write_protected_in_exported_c() {
    let map = "mmap 0 0 2 rw anon_private\nmmap 0 2 1 rw file0_shared\ntouch 0 0 1\n\
               uffd_register_wp 0 0 3\nuffd_writeprotect 0 0 1\n";
    for rest in [
        "touch 0 0\ntouch 0 1 1\ntouch 0 0 1\n",
        "uffd_writeprotect 0 0 1 0 -\ntouch 0 0 1\n",
        "uffd_writeprotect 0 2 1\ntouch 0 2 0\ntouch 0 2 1\n",
        "uffd_writeprotect 0 3 1\nuffd_writeprotect 0 0 3\n",
        "mmap 0 3 1 rw file0_private\nuffd_register_wp 0 3 1\nuffd_writeprotect 0 3 1\n",
    ] {
        let c = export_c(&program(&format!("{map}{rest}")), "protected");
        assert!(c.contains("UFFD_WRITEPROTECT, PAGE(0), PAGES(1), 0, 1"), "{c}");
        let folder = folder();
        let (status, text) = run(&compile("cc", folder.path(), "protected", &c));
        assert_ne!(status, 1, "{rest}: {text}");
    }
}

#[test]
fn mlockall_locks_the_arena_only() {
    for text in [
        "mmap 0 1 2 rw anon_private\nmlockall 0 CURRENT|FUTURE\nmmap 0 9 1 r file0_shared\n\
         fork 0\nmunlockall 0\n",
        "mmap 0 1 2 rw anon_private\nuffd_register 0 1 1\nmlockall 0 CURRENT\n",
        "limits lock=2\nmmap 0 1 3 rw anon_private\nmlockall 0 CURRENT\nmunmap 0 1 1\n\
         mlockall 0 CURRENT|FUTURE\nmmap 0 9 1 r anon_private\n",
    ] {
        let folder = folder();
        let (status, text) =
            run(&compile("cc", folder.path(), "all", &export_c(&program(text), "all")));
        assert_ne!(status, 1, "{text}");
    }
}

#[test]
fn a_copy_meets_enosys_and_says_what_is_expected() {
    let text = "mmap 0 1 4 rw anon_private LOCKED\nfork 0\ncopy 1 1 4 0 10 FIXED\nexit 1\n";
    let c = export_c(&program(text), "copy");
    assert!(c.contains("never merged"));
    assert!(c.contains("v2, operation 3 goes another way:\n * flags/copy/VM_LOCKED-kept.\n"));
    let folder = folder();
    let (status, text) = run(&compile("cc", folder.path(), "copy", &c));
    assert_eq!(status, 2, "{text}");
    let line = text.lines().find(|line| line.contains("copy 1")).expect("the copy is shown");
    assert!(line.ends_with(" -ENOSYS"), "{text}");
    assert!(text.contains("this kernel does not have the call; expected is 10\n"), "{text}");
    assert!(text.ends_with("not all run: 2 of 4 operations, no difference\n"), "{text}");
}

#[test]
fn what_is_no_system_call_is_left_out_visibly() {
    let text = "mmap 0 1 4 rw anon_private\ncopy_vma 0 1 2 0 9\nfork 0\n";
    let c = export_c(&program(text), "direct");
    assert!(c.contains("copy_vma() is no system call"), "{c}");
    let folder = folder();
    let (status, text) = run(&compile("cc", folder.path(), "direct", &c));
    assert_eq!(status, 2);
    assert!(text.ends_with("not all run: 2 operations are left out, see the table\n"), "{text}");
}

#[test]
fn a_kernel_that_does_something_else_differs() {
    let folder = folder();
    let c = export_c(&program("mmap 0 1 6 rw anon_private\nfork 0\nmunmap 1 2 1\n"), "wrong");
    let cases = [
        (".result = PAGE(1)", ".result = PAGE(2)", "differs: expected 2\n"),
        (".result = 1,", ".result = -EINVAL,", "differs: expected -EINVAL\n"),
        ("1-7 rd wr mr mw me ac sd\"", "1-7 rd mr mw me ac sd\"", "> 1-7 rd wr mr mw me ac"),
        ("\"3-7 rd", "\"3-8 rd", "> 3-7 rd wr mr mw me ac"),
    ];
    for (n, (from, to, says)) in cases.into_iter().enumerate() {
        assert!(c.contains(from), "{from} in {c}");
        let name = format!("wrong{n}");
        let (status, text) = run(&compile("cc", folder.path(), &name, &c.replace(from, to)));
        assert_eq!(status, 1, "{text}");
        assert!(text.contains(says), "{says} in {text}");
    }
    assert_eq!(run(&compile("cc", folder.path(), "right", &c)).0, 0);
}

#[test]
fn whatever_a_program_has_its_c_compiles_without_a_warning() {
    let folder = folder();
    let mut walk = Walk::new(4);
    // The programs: an empty one, one for each operation, the longest one, and random ones.
    let mut programs = vec![Program::default()];
    for &opcode in Opcode::ALL {
        let ops = vec![Op::from_bytes(opcode, [0, 1, 2, 3, 0, 0, 0])];
        programs.push(Program { ops, ..Program::default() });
    }
    let longest = (0..MAX_OPS).map(|_| Op::from_bytes(Opcode::Mmap, [7, 63, 63, 7, 6, 7, 255]));
    let limits = Limits::from_array([Some(255); 5]);
    programs.push(Program { limits, ops: longest.collect() });
    programs.extend((0..20).map(|_| walk.step().clone()));
    for (n, program) in programs.iter().enumerate() {
        for compiler in compilers() {
            compile(compiler, folder.path(), "program", &export_c(program, &format!("p{n}")));
        }
    }
}

#[test]
fn a_name_cannot_leave_the_comment_it_stands_in() {
    let program = program("fork 0\n");
    for name in ["*/ int x; /*", "a\nmunmap(0x0)", "\\", "é\u{2028}", "*\r/"] {
        let (c, syz) = (export_c(&program, name), export_syz(&program, name));
        assert_eq!(c.lines().count(), export_c(&program, "plain").lines().count(), "{name:?}");
        assert_eq!(c.matches("*/").count(), export_c(&program, "plain").matches("*/").count());
        assert_eq!(syz.lines().count(), export_syz(&program, "plain").lines().count(), "{name:?}");
        assert!(c.is_ascii() && syz.is_ascii());
    }
}

#[test]
fn a_program_for_syzkaller_has_each_operation_or_says_why_not() {
    let text = "limits lock=4
mmap 0 1 6 rw anon_private LOCKED
mmap 0 9 2 r readonly_shared - 3
mmap 0 20 2 rw special
touch 0 1 1
touch 0 2
fork 0
munmap 1 1 2
mremap 0 4 2 2 MAYMOVE|FIXED 2
mbind 0 1 1 BIND
mbind 0 1 1 DEFAULT
uffd_register 0 1 2 1
uffd_register_wp 0 1 1 1 MISSING|WP
uffd_unregister 0 1 0 1
uffd_unregister 0 1 0 0
mlock 0 1 1 1
munlock 0 1 1
mlockall 0 CURRENT|FUTURE
munlockall 0
madvise 0 1 1 DONTFORK
mprotect 0 1 1 rx
mmap 0 1 1 rw file1_private FIXED_NOREPLACE
copy 0 1 1 0 9
copy_vma 0 1 1 0 9
exit 0
";
    let expected = r#"# all: a program of vmadiff (`vmadiff export --syz`).
munmap(&(0x7f0000000000/0x81000)=nil, 0x81000)
# limits lock=4: of the system or the process
mmap(&(0x7f0000001000/0x6000)=nil, 0x6000, 0x3, 0x2032, 0xffffffffffffffff, 0x0)
r0 = open(&(0x7f0000200000)='./file0\x00', 0x42, 0x1ff)
ftruncate(r0, 0x1000000)
fallocate(r0, 0x0, 0x0, 0x200000)
r1 = open(&(0x7f0000200000)='./file0\x00', 0x0, 0x0)
mmap(&(0x7f0000009000/0x2000)=nil, 0x2000, 0x1, 0x11, r1, 0x3000)
# mmap 0 20 2 rw special: no kernel has the device
getrandom(&(0x7f0000001000)=""/1, 0x1, 0x0)
r2 = memfd_create(&(0x7f0000200000)='file0\x00', 0x0)
ftruncate(r2, 0x1000000)
fallocate(r2, 0x0, 0x0, 0x200000)
write(r2, &(0x7f0000002000), 0x1)
syz_clone(0x11, 0x0, 0x0, 0x0, 0x0, 0x0)
# munmap 1 1 2: of another process
mremap(&(0x7f0000004000/0x2000)=nil, 0x2000, 0x2000, 0x3, &(0x7f0000002000/0x2000)=nil)
mbind(&(0x7f0000001000/0x1000)=nil, 0x1000, 0x2, &(0x7f0000200000)=0x1, 0x40, 0x0)
mbind(&(0x7f0000001000/0x1000)=nil, 0x1000, 0x0, 0x0, 0x0, 0x0)
r3 = userfaultfd(0x80800)
ioctl$UFFDIO_API(r3, 0xc018aa3f, &(0x7f0000200000)={0xaa, 0x0, 0x0})
ioctl$UFFDIO_REGISTER(r3, 0xc020aa00, &(0x7f0000200000)={{&(0x7f0000001000/0x2000)=nil, 0x2000}, 0x1, 0x0})
ioctl$UFFDIO_REGISTER(r3, 0xc020aa00, &(0x7f0000200000)={{&(0x7f0000001000/0x1000)=nil, 0x1000}, 0x3, 0x0})
ioctl$UFFDIO_UNREGISTER(r3, 0x8010aa01, &(0x7f0000200000)={&(0x7f0000001000/0x1000)=nil, 0x0})
ioctl$UFFDIO_UNREGISTER(0xffffffffffffffff, 0x8010aa01, &(0x7f0000200000)={&(0x7f0000001000/0x1000)=nil, 0x0})
mlock2(&(0x7f0000001000/0x1000)=nil, 0x1000, 0x1)
munlock(&(0x7f0000001000/0x1000)=nil, 0x1000)
mlockall(0x3)
munlockall()
madvise(&(0x7f0000001000/0x1000)=nil, 0x1000, 0xa)
mprotect(&(0x7f0000001000/0x1000)=nil, 0x1000, 0x5)
r4 = memfd_create(&(0x7f0000200000)='file1\x00', 0x0)
ftruncate(r4, 0x1000000)
fallocate(r4, 0x0, 0x0, 0x200000)
mmap(&(0x7f0000001000/0x1000)=nil, 0x1000, 0x3, 0x100002, r4, 0x0)
# copy 0 1 1 0 9: process_vm_mmap() was never merged
# copy_vma 0 1 1 0 9: copy_vma() is no system call
# exit 0: the program would end
# 6 of 25 lines of the program are left out.
"#;
    assert_eq!(export_syz(&program(text), "all"), expected);
}

#[test]
fn the_command_writes_one_form_and_nothing_over_another_file() {
    let folder = folder();
    fs::write(folder.path().join("a.txt"), "fork 0\n").expect("a file");
    fs::write(folder.path().join("bad.txt"), "fork 9\n").expect("a file");
    let vmadiff = |args: &[&str]| common::vmadiff(folder.path(), &[&["export"], args].concat());
    assert_eq!(vmadiff(&["--c", "a.txt"]).1, export_c(&program("fork 0\n"), "a"));
    assert_eq!(vmadiff(&["--syz", "a.txt"]).1, export_syz(&program("fork 0\n"), "a"));
    assert_eq!(vmadiff(&["--c", "a.txt", "-o", "a.c"]).0, Some(0));
    let (status, _, error) = vmadiff(&["--syz", "a.txt", "-o", "a.c"]);
    assert_eq!(status, Some(2));
    assert!(error.contains("a.c: the file exists: use --force to overwrite it"), "{error}");
    assert_eq!(
        fs::read_to_string(folder.path().join("a.c")).expect("it is there"),
        export_c(&program("fork 0\n"), "a")
    );
    for args in [&["a.txt"][..], &["--c", "--syz", "a.txt"], &["--c"]] {
        assert_eq!(vmadiff(args).0, Some(2), "{args:?}");
    }
    let (status, _, error) = vmadiff(&["--c", "bad.txt"]);
    assert_eq!(status, Some(2));
    assert!(error.contains("bad.txt: line 1, column 6"), "{error}");
    let (status, help, _) = vmadiff(&["--help"]);
    assert!(status == Some(0) && help.contains("Example"), "{help}");
}

#[test]
fn the_programs_of_reports_compile() {
    let folder = tempfile::tempdir().expect("a folder");
    let reports = Path::new(env!("CARGO_MANIFEST_DIR")).join("kernel/reports");
    let mut count = 0;
    for entry in fs::read_dir(reports).expect("a folder") {
        let path = entry.expect("an entry").path();
        let text = fs::read_to_string(&path).expect("C");
        let name = path.file_stem().and_then(|name| name.to_str()).expect("a name");
        for compiler in compilers() {
            compile(compiler, folder.path(), name, &text);
        }
        count += 1;
    }
    assert!(count > 0);
}
