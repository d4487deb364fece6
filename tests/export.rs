//! Programs for a running kernel: the C code compiles without a warning, runs, and checks the
//! kernel without vmadiff.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;
use vmadiff::export_c::export_c;
use vmadiff::export_syz::export_syz;
use vmadiff::random::Walk;
use vmadiff_machine::program::MAX_OPS;
use vmadiff_machine::{Limits, Op, Opcode, Program};

/// Returns the C compilers of this computer. `cc` is always one of them, because Rust needs it.
fn compilers() -> Vec<&'static str> {
    let runs = |name: &&str| Command::new(name).arg("--version").output().is_ok();
    let found: Vec<_> = ["gcc", "clang"].into_iter().filter(runs).collect();
    println!("compilers: {found:?}");
    if found.is_empty() { vec!["cc"] } else { found }
}

/// Compiles C in `folder` with the options that the comment at the top of the C code names, and
/// returns the path of the program.
fn compile(compiler: &str, folder: &Path, name: &str, c: &str) -> PathBuf {
    let (source, program) = (folder.join(format!("{name}.c")), folder.join(name));
    fs::write(&source, c).expect("a file");
    let output = Command::new(compiler)
        .args(["-Wall", "-Wextra", "-Werror", "-o"])
        .arg(&program)
        .arg(&source)
        .output()
        .expect("it runs");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{compiler} {name}: {errors}");
    program
}

fn run(program: &Path) -> (i32, String) {
    let Output { status, stdout, .. } = Command::new(program).output().expect("it runs");
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
        .map(|entry| {
            let path = entry.expect("a seed").path();
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
            77 => impossible.push(format!("{name}: {}", text.lines().last().unwrap_or_default())),
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
        assert!(text.ends_with(&format!("agrees: {} operations\n", program.ops.len())), "{text}");
    }
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
fn the_c_program_and_vmadiff_kernel_judge_alike_and_name_the_same_rules() {
    use vmadiff::kernel::{Beside, End};
    use vmadiff_kernel::{Kernel, Options};
    use vmadiff_reference::later::{Rule, Rules};

    let Ok(kernel) = Kernel::new(Options::default()) else {
        return println!("skipped: the running kernel cannot be driven");
    };
    let mut beside = Beside::new(kernel);
    beside.probe();
    let several = program(
        "mmap 0 10 2 rw anon_private\nmmap 0 12 2 r anon_private\nmmap 0 15 2 rw anon_private\n\
         touch 0 10 1\ntouch 0 15 1\nmremap 0 10 8 8 MAYMOVE|FIXED 30\nuffd_register 0 35 2\n\
         mremap 0 30 8 8 MAYMOVE|FIXED 40\n",
    );
    let folder = folder();
    let outside = programs("kernel/outside").into_iter().map(|(name, p)| (name + "-outside", p));
    let all = Rule::ALL
        .iter()
        .map(|rule| (rule.name().to_owned(), rule.about().probe.parse().expect("a program")));
    let (mut whole, mut met) = (0, 0);
    for (name, program) in all.chain(outside).chain([("several".into(), several)]) {
        let mut applied = Rules::NONE;
        let run_beside = beside.run_with(&program, |step| applied = applied.union(step.applied));
        if !matches!(run_beside.end, End::Whole) {
            println!("{name}: skipped: {:?}", run_beside.end);
            continue;
        }
        let c = export_c(&program, &name);
        let (status, text) = run(&compile("cc", folder.path(), &name, &c));
        assert_eq!(status, 0, "{name}: {text}");
        let named = named(&text);
        assert!(named.iter().all(|rule| applied.iter().any(|a| a.name() == *rule)), "{text}");
        // A C program cannot see a rule that changes VMAs only.
        let shown = named.is_empty() || text.contains("     as with the rules ");
        assert!(shown, "{text}");
        (whole, met) = (whole + 1, met + usize::from(!named.is_empty()));
    }
    println!("{whole} programs, rules named in {met}");
    assert!(whole > 0);
}

#[test]
fn a_c_program_accepts_each_combination_of_rules_and_nothing_else() {
    // Each of the two rules changes one result, so there are four kernels.
    let text = "mmap 0 0 1 rw anon_private\nmremap 0 1 1 1 MAYMOVE|FIXED 0\n\
                mmap 0 2 1 - anon_private\nmlock 0 2 1 1\n";
    let c = export_c(&program(text), "rules");
    let kernels = "#define KERNELS { \"Linux 5.2.1\", \"mremap-unmapped\", \"mlock-onfault\", \
                   \"mremap-unmapped, mlock-onfault\" }";
    assert!(c.contains(kernels), "{c}");
    let folder = folder();
    let (status, text) = run(&compile("cc", folder.path(), "rules", &c));
    assert!(status == 0 || text.contains("EPERM"), "{text}");
    // A behaviour of no kernel is reported, although there are rules.
    for (n, (from, to)) in [
        ("SYS_mlock2, PAGE(2), PAGES(1), MLOCK_ONFAULT", "SYS_mlock2, PAGE(60), PAGES(1), 7"),
        ("SYS_mmap, PAGE(2), PAGES(1), PROT_NONE", "SYS_mmap, PAGE(2), PAGES(1), PROT_READ"),
        ("SYS_mremap, PAGE(1)", "SYS_mremap, PAGE(0)"),
    ]
    .into_iter()
    .enumerate()
    {
        assert_eq!(c.matches(from).count(), 1, "{from} in {c}");
        let name = format!("wrong{n}");
        let (status, text) = run(&compile("cc", folder.path(), &name, &c.replace(from, to)));
        assert_eq!(status, 1, "{text}");
        assert!(text.contains("differs: "), "{text}");
    }
}

#[test]
fn what_blocks_is_met_as_expected_and_ends_the_run() {
    let text =
        "mmap 0 1 2 rw anon_private\nuffd_register 0 1 1\ntouch 0 2 1\nmlock 0 1 1\nfork 0\n";
    let folder = folder();
    let c = export_c(&program(text), "blocks");
    let (status, text) = run(&compile("cc", folder.path(), "blocks", &c));
    if text.contains("no userfaultfd") {
        assert_eq!(status, 77, "{text}");
        return println!("not run: {text}");
    }
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("mlock 0 1 1") && text.contains(" blocked\n"), "{text}");
    assert!(text.ends_with("agrees: it blocks, as expected; 1 operations after it are not run\n"));
}

#[test]
fn a_copy_meets_enosys_and_says_what_is_expected() {
    let text = "mmap 0 1 4 rw anon_private LOCKED\nfork 0\ncopy 1 1 4 0 10 FIXED\nexit 1\n";
    let c = export_c(&program(text), "copy");
    assert!(c.contains("never merged"));
    assert!(c.contains("v2, operation 3 goes another way:\n * flags/copy/VM_LOCKED-kept.\n"));
    let folder = folder();
    let (status, text) = run(&compile("cc", folder.path(), "copy", &c));
    assert_eq!(status, 77, "{text}");
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
    assert_eq!(status, 77);
    assert!(text.ends_with("not all run: 2 operations are left out, see the table\n"), "{text}");
}

#[test]
fn a_kernel_that_does_something_else_differs() {
    let folder = folder();
    let c = export_c(&program("mmap 0 1 6 rw anon_private\nfork 0\nmunmap 1 2 1\n"), "wrong");
    let cases = [
        (".result = PAGE(1)", ".result = PAGE(2)", "differs: expected 2\n"),
        (".result = 0,", ".result = -EINVAL,", "differs: expected -EINVAL\n"),
        ("[0] = \"1-7 rw-p\"", "[0] = \"1-7 r--p\"", "process 0 has    1-7 rw-p\n"),
        (
            "[1] = \"1-2 rw-p, 3-7 rw-p\"",
            "[1] = \"1-7 rw-p\"",
            "process 1 has    1-2 rw-p, 3-7 rw-p\n",
        ),
    ];
    for (n, (from, to, says)) in cases.into_iter().enumerate() {
        assert_eq!(c.matches(from).count(), 1, "{from}");
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
    let limits = Limits::from_array([Some(255); 4]);
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
uffd_unregister 0 1 0 1
uffd_unregister 0 1 0 0
mlock 0 1 1 1
munlock 0 1 1
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
ioctl$UFFDIO_UNREGISTER(r3, 0x8010aa01, &(0x7f0000200000)={&(0x7f0000001000/0x1000)=nil, 0x0})
ioctl$UFFDIO_UNREGISTER(0xffffffffffffffff, 0x8010aa01, &(0x7f0000200000)={&(0x7f0000001000/0x1000)=nil, 0x0})
mlock2(&(0x7f0000001000/0x1000)=nil, 0x1000, 0x1)
munlock(&(0x7f0000001000/0x1000)=nil, 0x1000)
madvise(&(0x7f0000001000/0x1000)=nil, 0x1000, 0xa)
mprotect(&(0x7f0000001000/0x1000)=nil, 0x1000, 0x5)
r4 = memfd_create(&(0x7f0000200000)='file1\x00', 0x0)
ftruncate(r4, 0x1000000)
fallocate(r4, 0x0, 0x0, 0x200000)
mmap(&(0x7f0000001000/0x1000)=nil, 0x1000, 0x3, 0x100002, r4, 0x0)
# copy 0 1 1 0 9: process_vm_mmap() was never merged
# copy_vma 0 1 1 0 9: copy_vma() is no system call
# exit 0: the program would end
# 6 of 22 lines of the program are left out.
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
