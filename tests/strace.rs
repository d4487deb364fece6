//! Logs of strace: the system calls that are read from a log, and the programs that are made from
//! them.

mod common;

use std::fs;

use vmadiff::import::{Import, Options, import};
use vmadiff::strace::{Call, Log, StraceError, read};
use vmadiff_machine::{Machine as _, Observation, Op};

fn log(text: &str) -> Log {
    read(text.as_bytes()).expect("a log")
}

/// Returns the number of calls that are in programs, left out, and not used.
fn sum(log: &Log, import: &Import) -> usize {
    let taken: usize = import.programs.iter().map(|program| program.calls).sum();
    taken + import.left_out.values().sum::<usize>() + log.ignored_calls()
}

fn programs_with(text: &str, touch: bool) -> Import {
    import(&log(text), Options { touch, operations: 64, process: None })
}

/// Returns the only program that is made from a log.
fn program(text: &str) -> String {
    let import = programs_with(text, false);
    assert_eq!(import.programs.len(), 1, "{import:?}");
    import.programs[0].program.to_string()
}

const THREE: &str = "mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x1000\n\
                     mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x3000\n\
                     munmap(0x1000, 4096) = 0\n";

#[test]
fn every_way_to_write_a_line_says_the_same() {
    let plain = log(THREE).events;
    assert_eq!(plain.len(), 3);
    for (before, after) in [
        ("", " <0.000012>"),
        ("12:34:56 ", ""),
        ("12:34:56.789012 ", ""),
        ("1700000000.123456 ", ""),
        ("     0.000123 ", ""),
        ("     0.000123 (+     0.000001) ", ""),
    ] {
        let text: String = THREE.lines().map(|line| format!("{before}{line}{after}\n")).collect();
        if before.contains("(+") {
            // strace never writes two columns of time.
            assert!(matches!(read(text.as_bytes()), Err(StraceError::Garbage { .. })), "{text}");
            continue;
        }
        assert_eq!(log(&text).events, plain, "{text}");
    }
    for prefix in ["1234 ", "1234  12:34:56 ", "[pid  1234] ", "[pid 1234] 12:34:56.789012 "] {
        let text: String = THREE.lines().map(|line| format!("{prefix}{line}\n")).collect();
        let events = log(&text).events;
        assert!(events.iter().all(|event| event.thread == 1234), "{events:?}");
        let calls = |events: &[vmadiff::strace::Event]| -> Vec<Call> {
            events.iter().map(|event| event.call.clone()).collect()
        };
        assert_eq!(calls(&events), calls(&plain), "{prefix}");
    }
    // `-X raw` and `-X verbose` write flags as numbers.
    let raw = THREE.replace("PROT_READ", "0x1").replace("MAP_PRIVATE|MAP_ANONYMOUS", "0x22");
    assert_eq!(log(&raw).events, plain);
    let verbose = THREE.replace("PROT_READ", "0x1 /* PROT_READ */");
    assert_eq!(log(&verbose).events, plain);
}

#[test]
fn neighbours_stay_neighbours_and_what_is_apart_stays_apart() {
    let text = "\
mmap(NULL, 1048576, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000000000
mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS|MAP_NORESERVE, -1, 0) = 0x7f0000100000
mmap(NULL, 8192, PROT_NONE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f0000200000
mprotect(0x7f0000040000, 4096, PROT_READ|PROT_EXEC) = 0
madvise(0x7f0000200000, 8192, MADV_DONTFORK) = 0
";
    let program = program(text);
    assert_eq!(
        program,
        "mmap 0 1 16 rw anon_private\n\
         mmap 0 17 1 rw anon_private NORESERVE\n\
         mmap 0 19 2 - anon_private\n\
         mprotect 0 8 1 rx\n\
         madvise 0 19 2 DONTFORK\n"
    );
}

#[test]
fn what_mremap_moves_is_as_long_on_both_sides_and_cut_alike() {
    let text = "\
mmap(NULL, 65536, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x10000000
mremap(0x10000000, 65536, 131072, MREMAP_MAYMOVE) = 0x20000000
mprotect(0x20004000, 4096, PROT_READ) = 0
mremap(0x20000000, 131072, 65536, MREMAP_MAYMOVE) = 0x20000000
";
    let text = program(text);
    let words: Vec<Vec<&str>> = text.lines().map(|line| line.split(' ').collect()).collect();
    let n = |line: usize, word: usize| words[line][word].parse::<u8>().expect("a number");
    // The lines: `mmap 0 page len`, `mremap 0 page old new flags to`, `mprotect 0 page len`, and an
    // `mremap` in place.
    assert_eq!((n(0, 2), n(0, 3)), (n(1, 2), n(1, 3)), "{text}");
    assert!(n(1, 4) > n(1, 3) && words[1][5] == "MAYMOVE|FIXED", "{text}");
    let to = n(1, 6);
    assert!(to < n(2, 2) && n(2, 2) + n(2, 3) < to + n(1, 3), "{text}");
    assert_eq!((n(3, 2), n(3, 3), n(3, 4)), (to, n(1, 4), n(1, 3)), "{text}");
    assert_eq!(words[3].len(), 5, "{text}");
}

#[test]
fn shared_memory_is_attached_detached_and_removed() {
    let text = "\
shmget(IPC_PRIVATE, 65536, IPC_CREAT|0600) = 7
mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x10000
shmat(7, NULL, SHM_RDONLY) = 0x20000
shmat(7, 0x40000, SHM_REMAP) = 0x40000
mprotect(0x44000, 4096, PROT_READ) = 0
shmctl(7, IPC_RMID, NULL) = 0
fork() = 2
shmdt(0x40000) = 0
";
    assert_eq!(
        program(text),
        "mmap 0 1 1 r anon_private\n\
         shmat 0 3 RDONLY\n\
         shmat 0 8 REMAP\n\
         mprotect 0 9 1 r\n\
         shm_rmid 0\n\
         fork 0\n\
         shmdt 0 8\n"
    );
}

#[test]
fn all_memory_is_locked_and_unlocked() {
    let text = "\
mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x10000
mlockall(MCL_CURRENT|MCL_FUTURE) = 0
mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x40000
munlockall() = 0
mlockall(MCL_ONFAULT) = -1 EINVAL (Invalid argument)
";
    assert_eq!(
        program(text),
        "mmap 0 1 1 r anon_private\n\
         mlockall 0 CURRENT|FUTURE\n\
         mmap 0 3 1 r anon_private\n\
         munlockall 0\n"
    );
}

#[test]
fn memory_is_sealed_and_a_later_window_begins_with_sealed_memory() {
    let mut text = "\
mmap(NULL, 8192, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x10000
madvise(0x10000, 8192, MADV_DONTDUMP) = 0
mseal(0x11000, 4096, 0) = 0
mseal(0x11000, 4096, 1) = -1 EINVAL (Invalid argument)
"
    .to_owned();
    let sealed = "mmap 0 1 2 r anon_private\nmadvise 0 1 2 DONTDUMP\nmseal 0 2 1\n";
    assert_eq!(program(&text), sealed);
    for n in 1..200 {
        let change = if n % 2 == 0 { "MADV_DODUMP" } else { "MADV_DONTDUMP" };
        text += &format!("madvise(0x10000, 8192, {change}) = 0\n");
    }
    let import = programs_with(&text, false);
    assert!(import.programs.len() > 2);
    for imported in &import.programs[1..] {
        let text = imported.program.to_string();
        assert!(text.lines().any(|line| line.starts_with("mseal 0 ")), "{text}");
    }
}

#[test]
fn a_file_that_is_cut_inside_a_mapping_is_cut_at_the_same_place() {
    let open = "memfd_create(\"a\", 0) = 3\nmemfd_create(\"b\", 0) = 4\n\
                ftruncate(3, 16384) = 0\n";
    let map = "mmap(NULL, 16384, PROT_READ|PROT_WRITE, MAP_SHARED, 3, 0) = 0x10000\n";
    for (calls, ops) in [
        ("", ""),
        ("ftruncate(3, 16384) = 0\n", ""),
        ("ftruncate(4, 0) = 0\n", ""),
        ("ftruncate(3, 8192) = 0\n", "ftruncate 0 file0 3\n"),
        ("ftruncate(3, 5000) = 0\n", "ftruncate 0 file0 3\n"),
        ("ftruncate(3, 0) = 0\n", "ftruncate 0 file0 1\n"),
        (
            "ftruncate(3, 0) = 0\nftruncate(3, 65536) = 0\n",
            "ftruncate 0 file0 1\nftruncate 0 file0 255\n",
        ),
    ] {
        // Each end of the file has to be an edge of another call.
        let cut = "mprotect(0x12000, 8192, PROT_READ) = 0\nmlock(0x12000, 8192) = 0\n";
        let text = program(&format!("{open}{map}{cut}{calls}"));
        let mapped = "mmap 0 1 4 rw file0_shared - 1\nmprotect 0 3 2 r\nmlock 0 3 2\n";
        assert_eq!(text, format!("{mapped}{ops}"), "{calls}");
    }
}

#[test]
fn a_window_after_mcl_future_begins_with_it() {
    let mut text = "mlockall(MCL_CURRENT|MCL_FUTURE|MCL_ONFAULT) = 0\n".to_owned();
    for n in 1..200 {
        let call = "mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0)";
        text += &format!("{call} = 0x{n:x}0000\n");
    }
    let import = programs_with(&text, false);
    assert!(import.programs.len() > 2);
    for imported in &import.programs[1..] {
        let text = imported.program.to_string();
        assert!(text.contains("mlockall 0 FUTURE|ONFAULT\n"), "{text}");
    }
}

#[test]
fn a_limit_that_is_lifted_is_imported_and_a_number_of_bytes_is_left_out() {
    const NONE: &str = "{rlim_cur=RLIM64_INFINITY, rlim_max=RLIM64_INFINITY}";
    let (lifted, bytes) = ("prlimit 0 AS 255\n", "prlimit of a number of bytes");
    for (call, ops, why) in [
        (format!("prlimit64(0, RLIMIT_AS, {NONE}, NULL)"), lifted, ""),
        (format!("prlimit64(7, RLIMIT_MEMLOCK, {NONE}, {NONE})"), "prlimit 0 MEMLOCK 255\n", ""),
        ("setrlimit(RLIMIT_AS, {rlim_cur=RLIM_INFINITY, rlim_max=4096})".into(), lifted, ""),
        ("prlimit64(0, 0x9, {rlim_cur=18446744073709551615, rlim_max=1}, NULL)".into(), lifted, ""),
        (
            "prlimit64(0, 0x9 /* RLIMIT_AS */, {rlim_cur=18446744073709551615 /* RLIM64_INFINITY */, \
             rlim_max=1}, NULL)"
                .into(),
            lifted,
            "",
        ),
        ("prlimit64(0, RLIMIT_AS, {rlim_cur=8192*1024, rlim_max=8192*1024}, NULL)".into(), "", bytes),
        ("setrlimit(RLIMIT_MEMLOCK, {rlim_cur=0, rlim_max=0})".into(), "", bytes),
        (format!("prlimit64(8, RLIMIT_AS, {NONE}, NULL)"), "", "prlimit of a process that the log"),
    ] {
        let before = THREE.lines().map(|line| format!("7 {line}\n")).collect::<String>();
        let text = format!("{before}7 {call} = 0\n");
        let import = programs_with(&text, false);
        let three = "mmap 0 1 1 r anon_private\nmmap 0 3 1 r anon_private\nmunmap 0 1 1\n";
        assert_eq!(import.programs[0].program.to_string(), format!("{three}{ops}"), "{call}");
        let reasons: Vec<&String> = import.left_out.keys().collect();
        assert_eq!(reasons.len(), usize::from(!why.is_empty()), "{reasons:?}");
        assert!(reasons.iter().all(|reason| reason.starts_with(why)), "{call}: {reasons:?}");
    }
    for (call, counted) in [
        (format!("prlimit64(0, RLIMIT_AS, NULL, {NONE}) = 0"), "prlimit64"),
        (format!("prlimit64(0, RLIMIT_NOFILE, {NONE}, NULL) = 0"), "prlimit64"),
        (format!("setrlimit(RLIMIT_AS, {NONE}) = -1 EPERM (no)"), "setrlimit EPERM"),
        ("prlimit64(0, RLIMIT_AS, 0x7f, NULL) = 0".into(), "prlimit64 (not understood)"),
        ("prlimit64(0, RLIMIT_AS, {rlim_cur=what}, NULL) = 0".into(), "prlimit64 (not understood)"),
    ] {
        assert_eq!(log(&format!("{call}\n")).ignored.get(counted), Some(&1), "{call}");
    }
}

#[test]
fn a_child_of_vfork_does_not_lift_the_limit_of_its_parent() {
    let text = format!(
        "{}1 vfork( <unfinished ...>\n2 setrlimit(RLIMIT_AS, {{rlim_cur=RLIM_INFINITY, rlim_max=1}}) = 0\n\
         2 execve(\"/a\", [], 0x1) = 0\n1 <... vfork resumed>) = 2\n",
        THREE.lines().map(|line| format!("1 {line}\n")).collect::<String>()
    );
    let import = programs_with(&text, false);
    assert!(!import.programs[0].program.to_string().contains("prlimit"), "{import:?}");
    let reason = "prlimit of one of several processes with one address space";
    assert_eq!(import.left_out.get(reason), Some(&1));
}

#[test]
fn a_write_of_4_to_clear_refs_is_an_operation_of_the_process_that_the_file_belongs_to() {
    let open = |name: &str| format!("7 openat(AT_FDCWD, \"{name}\", O_WRONLY) = 3\n");
    let of_self = open("/proc/self/clear_refs");
    let of_parent = open("/proc/7/clear_refs");
    let fork = "7 fork() = 8\n";
    let clear = "clear_refs 0\n";
    for (calls, ops) in [
        (format!("{of_self}7 write(3, \"4\", 1) = 1\n"), clear),
        (format!("{of_self}7 pwrite64(3, \" 4\\n\", 3, 0) = 3\n"), clear),
        (format!("{of_parent}7 write(3, \"4\\n\", 2) = 2\n"), clear),
        (format!("{of_self}{fork}8 write(3, \"4\", 1) = 1\n"), "fork 0\nclear_refs 0\n"),
        (
            format!("{fork}{}7 write(3, \"4\", 1) = 1\n", open("/proc/8/clear_refs")),
            "fork 0\nclear_refs 1\n",
        ),
        // The shell makes the file its standard output, and takes that back.
        (
            format!(
                "{of_parent}7 dup2(3, 1) = 1\n7 close(3) = 0\n7 write(1, \"4\\n\", 2) = 2\n\
                 7 dup2(11, 1) = 1\n7 write(1, \"4\\n\", 2) = 2\n"
            ),
            clear,
        ),
        ("7 write(1</proc/7/clear_refs>, \"4\\n\", 2) = 2\n".into(), clear),
        (
            format!(
                "{of_self}7 write(3</proc/7/clear_refs>, \"4\", 1 <unfinished ...>\n\
                     7 <... write resumed>) = 1\n"
            ),
            clear,
        ),
        // These clear other bits, or are writes to another file.
        (format!("{of_self}7 write(3, \"1\", 1) = 1\n7 write(3, \"44\", 2) = 2\n"), ""),
        (format!("{of_self}7 close(3) = 0\n7 write(3, \"4\", 1) = 1\n"), ""),
        (format!("{of_self}7 write(3<socket:[9]>, \"4\", 1) = 1\n"), ""),
        (format!("{}7 write(3, \"4\", 1) = 1\n", open("/proc/self/oom_adj")), ""),
        ("7 write(3, \"4\", 1) = 1\n".into(), ""),
    ] {
        let before = THREE.lines().map(|line| format!("7 {line}\n")).collect::<String>();
        let text = format!("{before}{calls}");
        let three = "mmap 0 1 1 r anon_private\nmmap 0 3 1 r anon_private\nmunmap 0 1 1\n";
        assert_eq!(program(&text), format!("{three}{ops}"), "{calls}");
        let log = log(&text);
        let import = import(&log, Options { touch: true, operations: 64, process: None });
        assert_eq!(log.calls(), sum(&log, &import), "{calls}");
    }
    // A log without numbers knows the process that opened the file.
    let of_self = of_self.replace("7 openat", "openat");
    let text = format!("{THREE}{of_self}write(3</proc/7/clear_refs>, \"4\", 1) = 1\n");
    assert!(program(&text).ends_with(clear));
    let text = format!("{THREE}write(3</proc/7/clear_refs>, \"4\", 1) = 1\n");
    let import = programs_with(&text, false);
    let reason = "clear_refs of a process that the log does not have";
    assert_eq!(import.left_out.get(reason), Some(&1), "{import:?}");
}

#[test]
fn a_program_has_one_segment_of_shared_memory() {
    let mut text = String::new();
    for (id, prot) in [(1, "PROT_READ"), (2, "PROT_NONE")] {
        text += &format!("shmget(0x{id}, 4096, IPC_CREAT|0600) = {id}\n");
        for place in 1..=3 {
            text += &format!("shmat({id}, NULL, 0) = 0x{id}{place}0000\n");
        }
        text += &format!("mprotect(0x{id}10000, 4096, {prot}) = 0\n");
    }
    let import = programs_with(&text, false);
    let programs: Vec<String> =
        import.programs.iter().map(|imported| imported.program.to_string()).collect();
    let attached = "shmat 0 1\nshmat 0 6\nshmat 0 11\nmprotect 0 1 4";
    assert_eq!(programs, [format!("{attached} r\n"), format!("{attached} -\n")]);
}

#[test]
fn an_attachment_that_was_made_before_the_window_is_made_again() {
    let mut text = "shmget(0x1, 4096, IPC_CREAT|0600) = 1\nshmat(1, NULL, 0) = 0x10000\n\
                    mprotect(0x10000, 4096, PROT_READ) = 0\n"
        .to_owned();
    // The limit of operations ends the first window.
    for _ in 0..3 {
        text +=
            "madvise(0x10000, 4096, MADV_DONTFORK) = 0\nmadvise(0x10000, 4096, MADV_DOFORK) = 0\n";
    }
    text += "shmdt(0x10000) = 0\n";
    let options = Options { touch: false, operations: 6, process: None };
    let import = import(&log(&text), options);
    let last = import.programs.last().map(|imported| imported.program.to_string());
    assert_eq!(
        last.as_deref(),
        Some(
            "shmat 0 1\nmprotect 0 1 4 r\nmadvise 0 1 4 DONTFORK\nmadvise 0 1 4 DOFORK\nshmdt 0 1\n"
        )
    );
}

#[test]
fn shared_memory_that_cannot_be_imported_is_counted() {
    let text = "\
shmget(0x1, 0, 0600) = 5
shmat(5, NULL, 0) = 0x10000
shmat(9, NULL, 0) = -1 EINVAL (Invalid argument)
shmdt(0x10000) = 0
shmctl(5, IPC_STAT, {shm_perm={uid=0}}) = 0
";
    let log = log(text);
    let import = import(&log, Options { touch: false, operations: 64, process: None });
    assert_eq!(sum(&log, &import), 5);
    for name in
        ["shmget", "shmat (of a segment that no call of the log made)", "shmat EINVAL", "shmctl"]
    {
        assert_eq!(log.ignored.get(name), Some(&1), "{name}: {:?}", log.ignored);
    }
    assert_eq!(import.left_out.get("shmdt of what no call had attached"), Some(&1));
}

#[test]
fn brk_is_a_mapping_that_grows_and_shrinks() {
    let text = "brk(NULL) = 0x555500001000\nbrk(0x555500003000) = 0x555500003000\n\
                brk(0x555500004000) = 0x555500004000\nbrk(0x555500002000) = 0x555500002000\n";
    assert_eq!(
        program(text),
        "mmap 0 1 2 rw anon_private\nmmap 0 3 1 rw anon_private\nmunmap 0 2 2\n"
    );
}

#[test]
fn processes_fork_threads_share_and_vfork_shares_until_exec() {
    let mmap = |thread: u32, at: u32| {
        format!(
            "{thread} mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x{at}000\n"
        )
    };
    let text = [
        mmap(1, 1),
        // A thread has the same address space.
        "1 clone3({flags=CLONE_VM|CLONE_FS|CLONE_THREAD|CLONE_SETTLS, stack=0x1}, 88) = 2\n".into(),
        mmap(2, 3),
        // The log has a call of the child before the clone() of its parent returns.
        "1 clone(child_stack=NULL, flags=CLONE_CHILD_SETTID|SIGCHLD <unfinished ...>\n".into(),
        mmap(3, 5),
        "1 <... clone resumed>, child_tidptr=0x7f) = 3\n".into(),
        // A child of vfork has the address space of its parent, and later one of its own, which
        // belongs to another family.
        "1 vfork( <unfinished ...>\n".into(),
        mmap(4, 7),
        "4 execve(\"/bin/true\", [\"true\"], 0x1 /* 2 vars */) = 0\n".into(),
        "1 <... vfork resumed>) = 4\n".into(),
        mmap(4, 1),
        mmap(4, 5),
        mmap(4, 7),
        "4 exit_group(0) = ?\n4 +++ exited with 0 +++\n".into(),
        "3 exit_group(0) = ?\n3 +++ exited with 0 +++\n".into(),
        "1 --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=3} ---\n".into(),
        "2 exit(0 <unfinished ...>\n2 +++ exited with 0 +++\n".into(),
        mmap(1, 9),
        "1 +++ killed by SIGKILL +++\n".into(),
    ]
    .concat();
    let import = programs_with(&text, false);
    let programs: Vec<String> = import.programs.iter().map(|p| p.program.to_string()).collect();
    assert_eq!(
        programs,
        [
            "mmap 0 1 1 r anon_private\nmmap 0 3 1 r anon_private\nfork 0\n\
             mmap 1 5 1 r anon_private\nmmap 0 7 1 r anon_private\nexit 1\n\
             mmap 0 9 1 r anon_private\nexit 0\n",
            "mmap 0 1 1 r anon_private\nmmap 0 3 1 r anon_private\n\
             mmap 0 5 1 r anon_private\nexit 0\n",
        ]
    );
}

#[test]
fn on_a_terminal_a_thread_has_a_number_only_where_there_are_several() {
    let mmap = |at: u32| {
        format!("mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x{at}000\n")
    };
    let text = [
        mmap(1),
        // The message of strace interrupts a line, which continues after it.
        "clone(child_stack=NULL, flags=SIGCHLDstrace: Process 8 attached\n".into(),
        ", child_tidptr=0x7f) = 8\n".into(),
        "[pid 7] ".into(),
        mmap(3),
        "[pid 8] ".into(),
        mmap(4),
        "[pid 8] +++ exited with 0 +++\n".into(),
        mmap(5),
    ]
    .concat();
    let log = log(&text);
    assert_eq!((log.ignored_calls(), log.other_lines()), (0, 2), "{:?}", log.ignored);
    let threads: Vec<u32> = log.events.iter().map(|event| event.thread).collect();
    assert_eq!(threads, [7, 7, 7, 8, 8, 7]);
    assert_eq!(log.events[1].call, Call::Clone { child: 8, vm: false, thread: false });
}

#[test]
fn files_are_told_apart_and_offsets_go_on_where_they_did() {
    let text = "\
openat(AT_FDCWD, \"/lib/a.so\", O_RDONLY|O_CLOEXEC) = 3
mmap(NULL, 40960, PROT_READ, MAP_PRIVATE|MAP_DENYWRITE, 3, 0) = 0x10000000
mmap(0x10002000, 16384, PROT_READ|PROT_EXEC, MAP_PRIVATE|MAP_FIXED|MAP_DENYWRITE, 3, 0x2000) = 0x10002000
mmap(0x10006000, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_FIXED|MAP_DENYWRITE, 3, 0x5000) = 0x10006000
close(3) = 0
openat(AT_FDCWD, \"/b\", O_RDONLY) = 3
mmap(NULL, 4096, PROT_READ, MAP_SHARED, 3</b (1)>, 0) = 0x20000000
memfd_create(\"m\", 0) = 4
mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, 4</memfd:m>(deleted), 0x1000) = 0x30000000
";
    assert_eq!(
        program(text),
        "mmap 0 1 9 r file0_private - 1\n\
         mmap 0 3 3 rx file0_private - 3\n\
         mmap 0 6 2 rw file0_private - 70\n\
         mmap 0 11 1 r readonly_shared - 139\n\
         mmap 0 13 1 rw file0_shared - 13\n"
    );
}

#[test]
fn a_long_log_is_cut_into_windows_that_stand_alone() {
    let mut text = String::from(
        "mmap(NULL, 1048576, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x10000000\n",
    );
    for n in 0..200u64 {
        let at = 0x1000_0000 + n * 4096;
        text.push_str(&format!("mprotect({at:#x}, 4096, PROT_READ|PROT_WRITE) = 0\n"));
    }
    let import = programs_with(&text, true);
    assert!(import.programs.len() >= 4, "{}", import.programs.len());
    let mut last = 0;
    for imported in &import.programs {
        let program = &imported.program;
        assert!(imported.lines.0 > last, "{:?}", imported.lines);
        last = imported.lines.1;
        let text = program.to_string();
        assert!(text.starts_with("mmap 0 ") && program.ops.len() <= 64, "{text}");
        // A call that succeeded in the real program succeeds in each piece.
        let mut machine = vmadiff::machines::REFERENCE.build();
        machine.reset(&program.limits);
        let mut seen = Observation::default();
        for op in &program.ops {
            machine.step(op, &mut seen);
            assert!(seen.result.is_ok(), "{op}: {:?} in\n{text}", seen.result);
        }
    }
    assert_eq!(last, 201);
}

#[test]
fn what_is_of_no_use_is_counted_by_name() {
    let text = format!(
        "{THREE}write(1, \"mmap(\\\") = 0\\n\", 12) = 12\nread(0, \"\", 1) = 0\nread(0, \"\", 1) = 0\n\
         mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = -1 ENOMEM (Cannot \
         allocate memory)\nmprotect(0x1000, what) = 0\nmadvise(0x3000, 4096, MADV_HWPOISON) = 0\n\
         --- SIGSEGV {{si_signo=SIGSEGV}} ---\nhello from the program\n<... munmap resumed>) = 0\n\
         munmap(0x3000, 4096 <unfinished ...>\n"
    );
    let log = log(&text);
    assert_eq!(log.events.len(), 3);
    let ignored: Vec<String> = log.ignored.iter().map(|(what, n)| format!("{n} {what}")).collect();
    assert_eq!(
        ignored,
        [
            "1 (lines that are not strace's)",
            "1 (remarks and signals)",
            "1 madvise (not understood)",
            "1 mmap ENOMEM",
            "1 mprotect (not understood)",
            "1 munmap (never resumed)",
            "1 munmap (resumed, never begun)",
            "2 read",
            "1 write",
        ]
    );
}

#[test]
fn a_move_that_keeps_the_source_is_imported_as_one() {
    let log = log(include_str!("strace/dontunmap.strace"));
    let import = import(&log, Options { touch: false, operations: 64, process: None });
    let moves: Vec<String> = import.programs[0]
        .program
        .ops
        .iter()
        .filter(|op| matches!(op, Op::Mremap { .. }))
        .map(Op::to_string)
        .collect();
    assert_eq!(moves, ["mremap 0 1 3 3 MAYMOVE|FIXED|DONTUNMAP 10"]);
    assert_eq!((import.programs.len(), import.programs[0].calls, log.calls()), (1, 6, 6));
}

#[test]
fn every_call_is_taken_or_left_out_for_one_reason() {
    let brk = "brk(NULL) = 0x5000\nbrk(0x9000) = 0x9000\n";
    let thread = "clone(flags=CLONE_VM|CLONE_THREAD) = 7\n7 exit(0) = ?\n7 +++ exited with 0 +++\n";
    let process = "fork() = 8\n8 exit_group(0) = ?\n8 +++ exited with 0 +++\n";
    let unknown = "write(1, \"\", 0) = 0\nmunmap(0x900000, 4096) = 0\nmprotect(0x1000, what) = 0\n\
                   madvise(0x3000, 4096, MADV_HUGEPAGE) = 0\n--- SIGINT ---\n";
    let guessed = "mprotect(0x80000, 4096, PROT_READ) = 0\n";
    let long = THREE.repeat(50);
    let two = include_str!("strace/two-calls.strace");
    let dontunmap = include_str!("strace/dontunmap.strace");
    let again = format!("{dontunmap}100 execve(\"/a\", [], 0x1) = 0\n{dontunmap}");
    let threes =
        format!("{THREE}{brk}{thread}{THREE}{process}{unknown}{guessed}{long}execve() = 0\n");
    let numbered = format!("100 execve(\"/a\", [], 0x1) = 0\n{two}");
    for text in [THREE, two, dontunmap, &again, &threes, &numbered, brk, unknown] {
        for operations in [4, 64] {
            let log = log(text);
            let import = import(&log, Options { touch: true, operations, process: None });
            let calls = text.lines().filter(|line| line.contains('(')).count();
            assert_eq!(log.calls(), calls, "{text}");
            assert_eq!(calls, sum(&log, &import), "{import:?}\n{text}");
            assert_eq!(log.lines, log.calls() + log.other_lines(), "{text}");
        }
    }
}

#[test]
fn every_line_is_one_call_or_one_line_without_a_call() {
    let lines = [
        "1 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x1000\n",
        "1 clone(child_stack=NULL, flags=SIGCHLD <unfinished ...>\n",
        "2 munmap(0x1000, 4096 <unfinished ...>\n",
        "1 <... clone resumed>, child_tidptr=0x7f) = 2\n",
        "2 <... mmap resumed>) = 0x1000\n",
        "\n",
        "2 read(0, \"\", 1 <unfinished ...>\n",
        "2 exit_group(0 <unfinished ...>\n",
        "2 <... exit_group resumed>) = ?\n",
        "2 +++ exited with 0 +++\n",
        "1 --- SIGCHLD {si_signo=SIGCHLD} ---\n",
        "1 clone(child_stack=NULL, flags=SIGCHLDstrace: Process 3 attached\n",
        ", child_tidptr=0x7f) = 3\n",
        "1 write(1, \"roses\", 5roses\n",
        "3 munmap(0x1000, 4096 <unfinished ...>\n",
        "3 +++ killed by SIGKILL +++\n",
        "1 munmap(0x1000, 4096) = 0\n",
        "1 munmap(0x1000, 4096 <unfinished ...>\n",
    ];
    // Also of a log that begins or ends anywhere.
    for from in 0..lines.len() {
        for to in from + 1..=lines.len() {
            let text = lines[from..to].concat();
            let Ok(log) = read(text.as_bytes()) else { continue };
            assert_eq!(log.lines, to - from, "{text}");
            assert_eq!(log.lines, log.calls() + log.other_lines(), "{:?}\n{text}", log.ignored);
            let import = import(&log, Options { touch: true, operations: 64, process: None });
            assert_eq!(log.calls(), sum(&log, &import), "{import:?}\n{text}");
        }
    }
    let whole = log(&lines.concat());
    assert_eq!((whole.lines, whole.calls(), whole.other_lines()), (18, 10, 8));
}

#[test]
fn map_populate_is_a_flag_of_the_mapping() {
    let flags = "MAP_PRIVATE|MAP_ANONYMOUS|MAP_POPULATE";
    let text = format!(
        "mmap(NULL, 8192, PROT_READ|PROT_WRITE, {flags}, -1, 0) = 0x1000\n\
         mmap(NULL, 4096, PROT_NONE, {flags}, -1, 0) = 0x7000\n\
         mmap(NULL, 4096, PROT_READ, {flags}|MAP_NONBLOCK, -1, 0) = 0x9000\n"
    );
    assert_eq!(
        program(&text),
        "mmap 0 1 2 rw anon_private POPULATE\nmmap 0 4 1 - anon_private POPULATE\n\
         mmap 0 6 1 r anon_private\n"
    );
}

#[test]
fn one_process_is_imported_with_all_that_it_inherits() {
    let mmap = |process: u32, at: u32| {
        format!(
            "{process} mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x{at}000\n"
        )
    };
    let text = [
        mmap(1, 1),
        "1 clone3({flags=CLONE_VM|CLONE_THREAD}, 88) = 2\n".into(),
        "2 fork() = 3\n".into(),
        mmap(1, 3),
        "3 mprotect(0x1000, 4096, PROT_NONE) = 0\n".into(),
        mmap(2, 5),
        mmap(3, 7),
        mmap(3, 9),
        "1 munmap(0x1000, 4096) = 0\n".into(),
        "3 exit_group(0) = ?\n3 +++ exited with 0 +++\n".into(),
    ]
    .concat();
    let log = log(&text);
    assert_eq!(log.processes().into_iter().collect::<Vec<_>>(), [1, 3]);
    for (process, expected) in [
        (
            1,
            "mmap 0 1 1 r anon_private\nfork 0\nmmap 0 3 1 r anon_private\n\
             mmap 0 5 1 r anon_private\nmunmap 0 1 1\n",
        ),
        (
            3,
            "mmap 0 1 1 r anon_private\nmprotect 0 1 1 -\nmmap 0 3 1 r anon_private\n\
             mmap 0 5 1 r anon_private\nexit 0\n",
        ),
    ] {
        let import = import(&log, Options { touch: false, operations: 64, process: Some(process) });
        let programs: Vec<_> = import.programs.iter().map(|p| p.program.to_string()).collect();
        assert_eq!(programs, [expected], "{process}");
        assert_eq!(log.calls(), sum(&log, &import), "{import:?}");
        assert!(import.left_out.contains_key("of another process"));
    }
}

#[test]
fn what_is_no_log_is_refused_with_the_line() {
    let error = |bytes: &[u8]| read(bytes).expect_err("no log").to_string();
    assert!(error(b"").contains("the file is empty"));
    assert!(error(b"\n\n").contains("the file is empty"));
    assert!(error(b"\x7fELF\x00\xff\xfe").contains("line 1: not a line of strace"));
    assert!(
        error(b"exit(0) = ?\nroses\nviolets\n").contains("line 2: not a line of strace: `roses`")
    );
    // A very long line and a deeply nested line give an error.
    assert!(error(&b"(".repeat(3 << 20)).contains("line 1"));
    let deep = format!("mmap({} = 0\n", "[".repeat(1 << 19));
    assert!(error(deep.as_bytes()).contains("line 1"));
    // A log that is cut at any byte is read up to the cut, or refused. Reading never panics.
    let whole = "1 clone3({flags=CLONE_VM, a=\"x\\\"\"}, 88) = 2\n2 mmap(NULL, 4096, PROT_READ, \
                 MAP_SHARED, 3</a>, 0) = 0xfffffffffffff000\n1 brk(0xffffffffffffffff) = \
                 0xffffffffffffffff\n2 munmap(0xfffffffffffff000, 18446744073709551615) = 0\n";
    for cut in 0..whole.len() {
        if let Ok(log) = read(&whole.as_bytes()[..cut]) {
            import(&log, Options { touch: true, operations: 4, process: None });
        }
    }
}

#[test]
fn the_command_writes_programs_and_nothing_over_another_file() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("a.log"), format!("{THREE}write(1, \"\", 0) = 0\n"))
        .expect("a file");
    fs::write(folder.path().join("bad.log"), "roses\n").expect("a file");
    fs::write(folder.path().join("two.log"), include_str!("strace/two-calls.strace"))
        .expect("a file");
    fs::write(folder.path().join("none.log"), "write(1, \"\", 0) = 0\n").expect("a file");
    let vmadiff =
        |args: &[&str]| common::vmadiff(folder.path(), &[&["import-strace"], args].concat());
    let args = ["a.log", "--out", "real", "--origin", "a\ntest"];
    let (status, out, error) = vmadiff(&args);
    assert_eq!(status, Some(0), "{error}");
    assert_eq!(out, "1 programs, 3 operations of 3 calls in 4 lines\n");
    assert_eq!(error, "calls: 4 read = 3 taken + 0 left out + 1 not used\nnot used: 1 write\n");
    let written = fs::read_to_string(folder.path().join("real/a-1.txt")).expect("it is there");
    assert_eq!(
        written,
        "# strace -f of a test, lines 1 to 3.\nmmap 0 1 1 r anon_private\n\
         mmap 0 3 1 r anon_private\nmunmap 0 1 1\n"
    );
    let (status, _, error) = vmadiff(&args);
    assert_eq!(status, Some(2));
    assert!(
        error.contains("a-1.txt: the folder has results: use --force to replace them"),
        "{error}"
    );
    assert_eq!(vmadiff(&[&args[..], &["--force"]].concat()).0, Some(0));
    for (args, says) in [
        (["bad.log", "--out", "x"], "bad.log: line 1: not a line of strace: `roses`"),
        (["none.log", "--out", "x"], "none.log: no call in 1 lines maps or changes memory"),
        (["missing.log", "--out", "x"], "missing.log: No such file"),
        (
            ["two.log", "--out", "x"],
            "two.log: no program in 2 lines\n\
             calls: 2 read = 0 taken + 2 left out + 0 not used\n\
             left out: 2 in a window of fewer than three changes of memory\n",
        ),
    ] {
        let (status, _, error) = vmadiff(&args);
        assert_eq!(status, Some(2), "{error}");
        assert!(error.contains(says), "{error}");
        assert!(!folder.path().join("x").exists());
    }
    let (status, _, error) = vmadiff(&["a.log", "--out", "x", "--pid", "7"]);
    assert_eq!(status, Some(2));
    assert!(error.contains("a.log: no process 7: it has 0"), "{error}");
    let (status, _, json) = vmadiff(&["two.log", "--out", "y", "--json", "--operations", "4"]);
    assert_eq!(status, Some(2), "{json}");
    let (status, _, json) = vmadiff(&["a.log", "--out", "y", "--json"]);
    assert_eq!(status, Some(0), "{json}");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(
        (&json["calls"], &json["taken"], &json["not_used"]["write"]),
        (&4.into(), &3.into(), &1.into())
    );
    assert!(vmadiff(&["--help"]).1.contains("Example"));
}
