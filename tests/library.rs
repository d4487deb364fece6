//! Machines in shared libraries. The example in C and the candidate agree with the reference. A
//! library that misbehaves is an error or a finding.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use vmadiff::lockstep::Lockstep;
use vmadiff::machines::MachineName;
use vmadiff::random::Walk;
use vmadiff_candidate::{Candidate, Revision};
use vmadiff_library::TIMEOUT;
use vmadiff_machine::abi::{self, Exported};
use vmadiff_machine::{Limits, Machine, Observation, Op, Opcode, Program};
use vmadiff_reference::Reference;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Compiles C into a shared library with the command of examples/machine.c. Without a C compiler it
/// prints a line and returns `None`.
fn compile(folder: &Path, name: &str, flags: &[&str], source: &Path) -> Option<PathBuf> {
    let library = folder.join(format!("{name}.so"));
    let output = Command::new("cc")
        .args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared"])
        .args(["-I", "machine/include", "-I", "examples"])
        .args(flags)
        .arg(source)
        .arg("-o")
        .arg(&library)
        .current_dir(ROOT)
        .output();
    let Ok(output) = output else {
        println!("skipped: there is no C compiler (cc)");
        return None;
    };
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    Some(library)
}

fn in_process(library: &Path) -> Box<dyn Machine> {
    let name = format!("lib:{}", library.display());
    MachineName::in_process(&name, Path::new("")).expect("a machine").build()
}

/// A machine that is called through the C interface, without a shared library.
struct Behind(Exported, Box<abi::Observation>, Vec<Opcode>);

impl Behind {
    fn new(machine: impl Machine + 'static) -> Behind {
        let exported = Exported::new(machine);
        let has = |opcode: &Opcode| exported.operations() >> *opcode as u8 & 1 == 1;
        let opcodes = Opcode::ALL.iter().copied().filter(has).collect();
        Behind(exported, abi::Observation::new(), opcodes)
    }
}

impl Machine for Behind {
    fn name(&self) -> &str {
        "behind the C interface"
    }

    fn has(&self, opcode: Opcode) -> bool {
        self.2.contains(&opcode)
    }

    fn reset(&mut self, limits: &Limits) {
        self.0.reset(&limits.into());
    }

    fn step(&mut self, op: &Op, seen: &mut Observation) {
        self.1.forget();
        self.0.step(&op.into(), &mut self.1);
        self.1.read(seen).expect("a model breaks no rule of the interface");
    }
}

#[test]
fn every_model_shows_the_same_through_the_c_interface() {
    let revisions = Revision::ALL.iter().map(|&revision| Candidate::new(revision));
    let models = revisions.map(|candidate| Box::new(candidate) as Box<dyn Machine>);
    for (seed, (model, same)) in (0..).zip(models.clone().zip(models)) {
        let name = model.name().to_owned();
        let mut lockstep = Lockstep::new(model, Behind::new(same)).checked();
        let mut walk = Walk::new(seed);
        for _ in 0..3000 {
            let program = walk.step();
            // A bug that both have is no difference between them.
            let found = lockstep.run(program).filter(|found| found.broken.is_none());
            assert!(found.is_none(), "{name}:\n{program}");
        }
    }
    let mut lockstep = Lockstep::new(Reference::new(), Behind::new(Reference::new())).checked();
    let mut walk = Walk::new(99);
    for _ in 0..3000 {
        let program = walk.step();
        let found = lockstep.run(program).filter(|found| found.broken.is_none());
        assert!(found.is_none(), "reference:\n{program}");
    }
}

#[test]
fn the_machine_in_c_agrees_with_the_reference() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = Path::new("examples/machine.c");
    let Some(library) = compile(folder.path(), "machine", &["-Wpedantic"], source) else { return };
    let mut lockstep = Lockstep::new(Reference::new(), in_process(&library));
    assert_eq!(lockstep.names().1, "lib:c-example");
    let (mut walk, mut operations) = (Walk::new(13), 0);
    for _ in 0..30_000 {
        let program = walk.step();
        let found = lockstep.run_with(program, |_, _, _| operations += 1);
        assert!(found.is_none(), "{found:?}\n{program}");
    }
    assert!(operations > 100_000, "{operations} operations that the machine has");
    // Programs with limits: they show every error of mmap and munmap.
    let mut errors = std::collections::BTreeSet::new();
    for n in 0..30_000u32 {
        let limit =
            |shift: u32, most: u32| (n >> shift).is_multiple_of(3).then_some((n % most) as u8);
        let limits = Limits::from_array([limit(0, 7), limit(2, 40), limit(4, 20), None, None]);
        let program = Program { limits, ops: walk.step().ops.clone() };
        let found = lockstep.run_with(&program, |_, seen, _| {
            errors.insert(seen.result.err());
        });
        assert!(found.is_none(), "{found:?}\n{program}");
    }
    let names: Vec<_> = errors.iter().flatten().map(|error| error.name()).collect();
    assert_eq!(
        names,
        [
            "EPERM",
            "ESRCH",
            "EAGAIN",
            "ENOMEM",
            "EACCES",
            "EFAULT",
            "EEXIST",
            "EINVAL",
            "EOVERFLOW",
            "SIGBUS"
        ]
    );
}

#[test]
fn ctrl_c_interrupts_the_command_and_not_the_library() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = Path::new("examples/machine.c");
    let Some(library) = compile(folder.path(), "machine", &[], source) else { return };
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmadiff"));
    let right = format!("lib:{}", library.display());
    command.args(["random", "--operations", "100000000000", "--right", &right]);
    let began = Instant::now();
    let (status, text) =
        common::interrupt(&mut command, || began.elapsed() > Duration::from_secs(2));
    assert_eq!(status, Some(130), "{text}");
    assert!(text.contains(": 0 diverge between reference and lib:c-example"), "{text}");
}

#[test]
fn the_candidate_is_a_library_by_one_line() {
    let target = Path::new(env!("CARGO_BIN_EXE_vmadiff")).ancestors().nth(2).expect("a folder");
    let output = Command::new(env!("CARGO"))
        .args(["build", "--offline", "--quiet", "-p", "vmadiff-candidate-library", "--target-dir"])
        .arg(target)
        .current_dir(ROOT)
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let library = target.join("debug/libvmadiff_candidate_library.so");
    let linked = Candidate::new(Revision::Fixed);
    let mut lockstep = Lockstep::new(linked, in_process(&library)).checked();
    assert_eq!(lockstep.names().1, "lib:candidate:fixed");
    let mut walk = Walk::new(7);
    for _ in 0..10_000 {
        let program = walk.step();
        assert!(lockstep.run(program).is_none(), "{program}");
    }
    let golden = Path::new(ROOT).join("corpus/golden/original.jsonl.gz");
    let machine = format!("lib:{}", library.display());
    let (status, output, errors) = common::vmadiff(
        Path::new(ROOT),
        &["conform", &golden.display().to_string(), "--machine", &machine],
    );
    assert_eq!(status, Some(0), "{errors}");
    assert!(output.contains("differ=0 bug=0 skipped=0"), "{output}");
}

/// The C example with another statement for `munmap 0 9`.
const MISBEHAVING: &str = "
#include <stdio.h>
#define vmadiff_step good_step
#include \"machine.c\"
#undef vmadiff_step
int deep(volatile int *p) { volatile int a[1000]; a[0] = *p; return a[0] ? deep(a) + a[0] : 0; }
void vmadiff_step(struct vmadiff_machine *m, const struct vmadiff_op *op,
                  struct vmadiff_observation *seen) {
    if (op->opcode == VMADIFF_MUNMAP && op->u.munmap.page == 9) {
        struct vmadiff_space *space = &seen->spaces[0];
        (void)space;
        DO
        return;
    }
    good_step(m, op, seen);
}
";

struct Misbehaving {
    folder: TempDir,
}

impl Misbehaving {
    fn new() -> Misbehaving {
        let folder = tempfile::tempdir().expect("a folder");
        let bad =
            "mmap 0 2 3 rw anon_private\nmmap 0 20 3 r anon_private\nmunmap 0 9 4\nmunmap 0 2 2\n";
        fs::write(folder.path().join("bad.txt"), bad).expect("a file");
        fs::write(folder.path().join("good.txt"), "mmap 0 2 3 rw anon_private\n").expect("a file");
        Misbehaving { folder }
    }

    fn library(&self, name: &str, code: &str, flags: &[&str]) -> Option<String> {
        let source = self.folder.path().join(format!("{name}.c"));
        fs::write(&source, code).expect("a file");
        compile(self.folder.path(), name, flags, &source)
            .map(|library| format!("lib:{}", library.display()))
    }

    /// Builds the example that executes `statement` at `munmap 0 9`.
    fn doing(&self, name: &str, statement: &str) -> Option<String> {
        self.library(name, &MISBEHAVING.replace("DO", statement), &["-Wno-infinite-recursion"])
    }

    fn vmadiff(&self, args: &[&str], (name, value): (&str, &str)) -> (Option<i32>, String, String) {
        let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_vmadiff"))
            .args(args)
            .env(name, value)
            .current_dir(self.folder.path())
            .output()
            .expect("it runs");
        let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
        (status.code(), text(stdout), text(stderr))
    }
}

#[test]
fn a_library_that_misbehaves_is_a_finding_with_its_program() {
    let with = Misbehaving::new();
    let good = "good_step(m, op, seen);";
    for (name, statement, signature) in [
        ("abort", "abort();", "SIGABRT"),
        ("null", "*(volatile int *)8 = 1;", "SIGSEGV"),
        ("trap", "__builtin_trap();", "SIGILL"),
        // The signal handler of Rust recognizes a stack overflow, and aborts.
        ("stack", "int one = 1; seen->value = deep(&one);", "SIGABRT"),
        ("exit", "exit(3);", "exited"),
        ("exit-0", "exit(0);", "exited"),
        ("nothing", "", "bad-error"),
        ("order", "GOOD space->vmas[1].start = 3;", "bad-start"),
        ("empty", "GOOD space->vmas[0].end = 2;", "bad-end"),
        ("bounds", "GOOD space->vmas[1].end = 200;", "bad-end"),
        ("count", "GOOD space->vma_count = 4000000;", "bad-vma_count"),
        ("enum", "GOOD space->vmas[0].policy = 9;", "bad-policy"),
        ("errno", "GOOD seen->error = 5;", "bad-error"),
        ("object", "GOOD space->vmas[0].file = 1u << 30;", "bad-file"),
        ("changed", "GOOD seen->changed = 1u << 31;", "bad-changed"),
        (
            "text",
            "GOOD seen->event_count = 1; memset(seen->events, 'x', sizeof(seen->events[0]));\
             seen->events[0].kind = VMADIFF_BUG_ON;",
            "bad-function",
        ),
    ] {
        let statement = statement.replace("GOOD", good);
        let Some(library) = with.doing(name, &statement) else { return };
        let none = ("NONE", "");
        let replay = ["replay", "bad.txt", "good.txt", "--right", &library];
        let (status, output, errors) = with.vmadiff(&replay, none);
        assert_eq!(status, Some(1), "{name}: {errors}");
        let found = format!("divergence assertion/library/{signature} after operation 3");
        assert!(output.contains(&found), "{name}: {output}");
        assert!(
            output.contains("why: the library lib:c-example failed at `munmap 0 9 4`"),
            "{output}"
        );
        assert!(
            output.contains("good.txt") && output.contains("no divergence"),
            "{name}: {output}"
        );
        // The next program runs in a new process, so the program can be minimized.
        let small = format!("{name}.txt");
        let minimize = ["minimize", "bad.txt", "-o", &small, "--right", &library];
        let (status, output, errors) = with.vmadiff(&minimize, none);
        assert_eq!(status, Some(0), "{name}: {errors}");
        assert!(output.contains(&format!("assertion/library/{signature}")), "{output}");
        let small = fs::read_to_string(with.folder.path().join(small)).expect("a program");
        assert!(small.lines().count() <= 3 && small.contains("munmap 0 9"), "{name}: {small}");
    }
}

#[test]
fn a_library_that_does_not_return_is_a_finding_after_the_time_limit() {
    let with = Misbehaving::new();
    let Some(library) = with.doing("loop", "for (;;) (void)*(volatile uint8_t *)op;") else {
        return;
    };
    let args = ["replay", "bad.txt", "good.txt", "--right", &library];
    let (status, output, errors) = with.vmadiff(&args, (TIMEOUT, "1"));
    assert_eq!(status, Some(1), "{errors}");
    assert!(
        output.contains("divergence assertion/library/timed-out after operation 3"),
        "{output}"
    );
    assert!(output.contains("no divergence"), "{output}");
    for wrong in ["0", "-1", "3601", "a while"] {
        let (status, _, errors) = with.vmadiff(&args, (TIMEOUT, wrong));
        assert_eq!(status, Some(2));
        assert!(errors.contains("expected a number of seconds from 1 to 3600"), "{errors}");
    }
}

#[test]
fn what_a_library_prints_does_not_disturb() {
    let with = Misbehaving::new();
    let print =
        "puts(\"noise\"); fflush(stdout); fputs(\"more noise\", stderr); good_step(m, op, seen);";
    let Some(library) = with.doing("noise", print) else { return };
    let args = ["replay", "bad.txt", "--right", &library];
    let (status, output, errors) = with.vmadiff(&args, ("NONE", ""));
    assert_eq!((status, errors.as_str()), (Some(0), ""), "{output}");
    assert!(!output.contains("noise"));
    let (status, _, errors) = with.vmadiff(&args, (vmadiff_library::OUTPUT, "1"));
    assert_eq!(status, Some(0));
    assert!(errors.contains("noise") && errors.contains("more noise"), "{errors}");
}

#[test]
fn a_file_that_is_no_machine_is_refused_with_the_reason() {
    let with = Misbehaving::new();
    let example = "#include \"machine.c\"\n";
    let other = |what: &str, instead: &str| {
        format!(
            "#include <stdlib.h>\n#include <string.h>\n#include \"vmadiff.h\"\n\
             #define {what} good\n{example}#undef {what}\n{instead}\n"
        )
    };
    let name = "void vmadiff_name(const struct vmadiff_machine *m, char n[64]) { (void)m; DO }";
    let name = |code: &str| other("vmadiff_name", &name.replace("DO", code));
    let begin = |code: &str| {
        format!("{example}__attribute__((constructor)) static void begin(void) {{ {code} }}\n")
    };
    let cases = [
        (
            "version",
            other("vmadiff_abi_version", "uint32_t vmadiff_abi_version(void) { return 7; }"),
            "version 7 of the C interface: expected 4",
        ),
        ("symbol", other("vmadiff_reset", ""), "the function vmadiff_reset() is missing"),
        (
            "null",
            other("vmadiff_new", "struct vmadiff_machine *vmadiff_new(void) { return 0; }"),
            "vmadiff_new() gave no machine",
        ),
        ("nul", name("memset(n, 'n', 64);"), "vmadiff_name() wrote no name"),
        ("utf8", name("strcpy(n, \"\\xff\");"), "vmadiff_name() wrote no name"),
        ("control", name("strcpy(n, \"a\\033[2J\");"), "vmadiff_name() wrote no name"),
        ("unnamed", name(""), "vmadiff_name() wrote no name"),
        (
            "operations",
            other(
                "vmadiff_operations",
                "uint64_t vmadiff_operations(const struct vmadiff_machine *m) { (void)m; return ~0ull; }",
            ),
            "vmadiff_operations() is 0xffffffffffffffff: expected bits",
        ),
        ("crash", begin("abort();"), "fails when it is loaded: it ended with SIGABRT"),
        (
            "exit",
            begin("exit(4);"),
            "fails when it is loaded: it ended its process with exit status 4",
        ),
        ("loop", begin("for (;;) ;"), "did not return within the time limit"),
        (
            "undefined",
            format!("{example}extern int nowhere(void); int here(void) {{ return nowhere(); }}\n"),
            "not a shared library that can be loaded here",
        ),
    ];
    for (file, code, error) in cases {
        let Some(library) = with.library(file, &code, &["-Wno-unused-parameter"]) else { return };
        for args in [
            &["replay", "good.txt", "--right", &library][..],
            &["replay", "good.txt", "--left", &library],
            &["conform", "good.txt", "--machine", &library],
        ] {
            let (status, output, errors) = with.vmadiff(args, (TIMEOUT, "1"));
            assert_eq!((status, output.as_str()), (Some(2), ""), "{file}: {errors}");
            assert!(errors.contains(error) && errors.contains(file), "{file}: {errors}");
        }
    }
    for (library, error) in [
        ("lib:", "expected lib:PATH"),
        ("lib:none.so", "none.so: No such file"),
        ("lib:good.txt", "not a shared library"),
        ("lib:.", "not a shared library"),
    ] {
        let args = ["replay", "good.txt", "--right", library];
        let (status, _, errors) = with.vmadiff(&args, ("NONE", ""));
        assert_eq!(status, Some(2), "{library}");
        assert!(errors.contains(error), "{library}: {errors}");
    }
}
