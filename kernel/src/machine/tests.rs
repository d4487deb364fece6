//! The machine leaves nothing behind and changes nothing outside the arena.

use std::fs;
use std::time::Instant;

use vmadiff_machine::{PageId, Program};

use super::*;

/// A program with every call of [`worker`], made by two processes, except `memory_merge`: it marks all
/// memory of a process, and nothing removes the marks.
const ALL: &str = "mmap 0 0 8 rw anon_private LOCKED\nmmap 0 60 63 rw file0_private - 3\n\
                   mmap 0 20 4 rw anon_shared NORESERVE\nmmap 0 30 4 r readonly_shared\n\
                   touch 0 63 1\ntouch 0 59 1\ntouch 0 0 0\nmprotect 0 1 2 r\n\
                   mremap 0 4 2 3 MAYMOVE|FIXED 40\nmremap 0 1 2 9 MAYMOVE\nmremap 0 63 50 10\nmadvise 0 0 3 DONTFORK\n\
                   mlock 0 20 4 1\nmunlock 0 0 63\nmbind 0 0 3 BIND\nuffd_register 0 40 2 0\n\
                   uffd_unregister 0 40 2 0\nuffd_open 0 1 UNMAP\nuffd_register_wp 0 40 1 0 WP\n\
                   uffd_writeprotect 0 40 1 0 -\nshmat 0 50\nshmdt 0 50\nshmat 0 55\nshm_rmid 0\n\
                   mlockall 0 CURRENT|FUTURE\nmunlockall 0\nmseal 0 10 1\nclear_refs 0\n\
                   ftruncate 0 file1 3\nfork 0\nmunmap 1 0 63\nmmap 1 63 63 rw anon_private\n\
                   fork 1\nexit 1\n";

/// Returns the running kernel at the start of a program; `None`, with a message, if the test has to
/// be skipped. With `VMADIFF_KERNEL=required` a kernel that cannot be driven is an error.
fn begun() -> Option<Kernel> {
    let mut kernel = match Kernel::new(Options::default()) {
        Ok(kernel) => kernel,
        Err(error) => {
            let required = std::env::var_os("VMADIFF_KERNEL");
            assert!(required.is_none_or(|value| value != "required"), "{error}");
            println!("skipped: the running kernel cannot be driven: {error}");
            return None;
        }
    };
    kernel.reset(&Limits::default());
    Some(kernel)
}

fn run(kernel: &mut Kernel, program: &str) -> Observation {
    let program: Program = program.parse().expect("a program");
    let mut seen = Observation::default();
    for op in &program.ops {
        kernel.step(op, &mut seen);
        assert!(kernel.ended().is_none(), "{op}: {:?}", kernel.ended());
    }
    seen
}

fn pids(kernel: &Kernel) -> Vec<i32> {
    kernel.processes.iter().flatten().map(|process| process.proc.pid()).collect()
}

/// Returns every mapping outside the arena, and whether it is locked.
fn outside(pid: i32) -> Vec<String> {
    let smaps = fs::read_to_string(format!("/proc/{pid}/smaps")).expect("smaps");
    let mut maps = String::new();
    for line in smaps.lines() {
        match line.strip_prefix("VmFlags:") {
            Some(flags) if flags.contains(" lo") => maps.push_str(" locked\n"),
            Some(_) => maps.push('\n'),
            // The other lines have a name and a colon.
            None if line.split(' ').next().is_some_and(|word| !word.ends_with(':')) => {
                maps.push_str(line);
            }
            None => {}
        }
    }
    let arena = "100000000".."100080000";
    let outside = |line: &&str| {
        let (from, _) = line.split_once('-').expect("a range");
        from.len() != arena.start.len() || !arena.contains(&from)
    };
    maps.lines().filter(outside).map(str::to_owned).collect()
}

#[test]
fn what_is_not_the_arena_is_never_changed() {
    let Some(mut kernel) = begun() else { return };
    let before = outside(pids(&kernel)[0]);
    assert!(!before.is_empty());
    let seen = run(&mut kernel, ALL);
    assert!(seen.spaces[0].alive && !seen.spaces[1].alive && seen.spaces[2].alive);
    for pid in pids(&kernel) {
        assert_eq!(outside(pid), before);
    }
}

#[test]
fn the_kernel_chooses_the_highest_hole_of_the_arena_or_none() {
    let full = "mmap 0 0 63 rw anon_private\nmmap 0 63 63 r anon_private\n";
    for (rest, result) in [
        ("mremap 0 0 1 2 MAYMOVE\n", Ok(126)),
        ("mremap 0 0 1 3 MAYMOVE\n", Err(Errno::ENOMEM)),
        ("munmap 0 10 5\nmremap 0 0 1 3 MAYMOVE\n", Ok(12)),
        ("munmap 0 63 63\nmremap 0 0 1 10 MAYMOVE\n", Ok(118)),
    ] {
        let Some(mut kernel) = begun() else { return };
        let seen = run(&mut kernel, &format!("{full}{rest}"));
        assert_eq!(seen.result, result, "{rest}");
    }
}

#[test]
fn nothing_is_left_of_a_program() {
    let Some(mut kernel) = begun() else { return };
    run(&mut kernel, ALL);
    let running = pids(&kernel);
    assert_eq!(running.len(), 2);
    kernel.reset(&Limits::default());
    assert!(running.iter().all(|pid| !fs::exists(format!("/proc/{pid}")).expect("/proc")));
    let running = pids(&kernel);
    drop(kernel);
    assert!(running.iter().all(|pid| !fs::exists(format!("/proc/{pid}")).expect("/proc")));
}

#[test]
fn processes_end_with_the_thread_that_made_them() {
    let thread = std::thread::spawn(|| {
        let mut kernel = begun()?;
        run(&mut kernel, ALL);
        let running = pids(&kernel);
        // The controller ends as if it had been killed: no destructor runs.
        std::mem::forget(kernel);
        Some(running)
    });
    let Some(running) = thread.join().expect("a thread") else { return };
    // The process is gone, or is a zombie that nobody has waited for.
    let ended = |pid: &i32| match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Err(_) => true,
        Ok(stat) => stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X'])),
    };
    let began = Instant::now();
    while !running.iter().all(ended) {
        assert!(began.elapsed() < Duration::from_secs(20), "{running:?} still run");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn an_operation_that_this_kernel_lacks_answers_enosys_and_does_nothing() {
    let Some(mut kernel) = begun() else { return };
    let seen = run(&mut kernel, "mmap 0 0 1 rw anon_private\ncopy 0 0 1 0 4 FIXED\n");
    assert_eq!(seen.result, Err(Errno::ENOSYS));
    assert_eq!(seen.changed, 0);
    assert!(!kernel.has(Opcode::Copy) && kernel.has(Opcode::Mremap));
}

#[test]
fn a_system_call_that_is_not_process_vm_mmap_is_an_error_that_says_what_it_does() {
    if begun().is_none() {
        return;
    }
    let error = |number: i64| {
        let options = Options { process_vm_mmap: Some(number as u32), ..Options::default() };
        Kernel::new(options)
            .map(|_| ())
            .expect_err("this kernel has no process_vm_mmap")
            .to_string()
    };
    for (number, expected) in [
        (1_000_000, "it answers invalid arguments with: Function not implemented"),
        (libc::SYS_getpid, "it accepts invalid arguments"),
        // The call ends its process.
        (libc::SYS_exit_group, "it accepts invalid arguments"),
        (libc::SYS_openat, "it answers invalid arguments with: "),
        // These refuse the invalid arguments, and are no copy.
        (libc::SYS_munmap, "to a child that copies from its parent"),
    ] {
        let text = error(number);
        let begin = format!("system call {number} is not process_vm_mmap(): ");
        assert!(text.starts_with(&begin) && text.contains(expected), "{text}");
    }
}

#[test]
fn a_process_reads_what_was_written_and_each_program_begins_with_empty_pages() {
    let Some(mut kernel) = begun() else { return };
    let private = "mmap 0 1 2 rw anon_private\ntouch 0 1 1\n";
    let file = "mmap 0 1 2 rw file0_shared - 3\n";
    for (program, read) in [
        (format!("{private}touch 0 1"), 1),
        (format!("{private}touch 0 1 1\ntouch 0 1"), 2),
        (format!("{private}touch 0 2"), 0),
        (format!("{private}fork 0\ntouch 1 1 1\ntouch 0 1"), 1),
        (format!("{private}fork 0\ntouch 0 1 1\ntouch 1 1"), 1),
        (format!("{file}touch 0 1 1\nmmap 0 9 1 r file0_private - 3\ntouch 0 9"), 1),
        (format!("{file}touch 0 1"), 0),
        ("shmat 0 1\ntouch 0 1 1\nshmat 0 9\ntouch 0 9".into(), 1),
        ("shmat 0 1\ntouch 0 1".into(), 0),
    ] {
        kernel.reset(&Limits::default());
        assert_eq!(run(&mut kernel, &program).read, Some(read), "{program}");
    }
}

#[test]
fn pages_that_were_given_up_are_not_reclaimed() {
    let Some(mut kernel) = begun() else { return };
    let map = "mmap 0 0 1 rw anon_private\ntouch 0 0 1\n";
    for (advice, withheld) in [
        ("madvise 0 0 1 FREE\nmadvise 0 0 1 PAGEOUT\n", 1),
        ("madvise 0 0 1 FREE\nfork 0\nmadvise 1 0 1 PAGEOUT\n", 1),
        // The program before has given up pages, and this program has not.
        ("madvise 0 0 1 PAGEOUT\nmadvise 0 0 1 FREE\n", 0),
    ] {
        for _ in 0..200 {
            kernel.reset(&Limits::default());
            kernel.set_withheld(0);
            let seen = run(&mut kernel, &format!("{map}{advice}"));
            if kernel.facilities().frames {
                assert_eq!(seen.spaces[0].anon_pages, 1, "{advice}");
            }
            assert_eq!(run(&mut kernel, "touch 0 0\n").read, Some(1), "{advice}");
            assert_eq!(kernel.withheld(), withheld, "{advice}");
        }
    }
}

#[test]
fn pages_of_files_are_not_reclaimed() {
    let Some(mut kernel) = begun() else { return };
    // A page that nobody has written would be dropped from the file, and userfaultfd would miss it.
    for (kind, advice, withheld) in [
        ("anon_shared", "madvise 0 0 1 PAGEOUT\n", 1),
        ("anon_shared", "madvise 0 1 1 PAGEOUT\n", 0),
        ("anon_private", "madvise 0 0 1 PAGEOUT\n", 0),
    ] {
        kernel.reset(&Limits::default());
        kernel.set_withheld(0);
        let map = format!("mmap 0 0 1 rw {kind} POPULATE\nuffd_register 0 0 1\n");
        let locked = run(&mut kernel, &format!("{map}{advice}mlockall 0 CURRENT\n"));
        assert_eq!(kernel.withheld(), withheld, "{kind}: {advice}");
        assert_eq!(locked.result, Ok(0), "{kind}: {advice}");
    }
}

#[test]
fn cold_refuses_what_pageout_refuses() {
    let Some(mut kernel) = begun() else { return };
    for (maps, range) in [
        ("mmap 0 0 2 rw anon_private\ntouch 0 0 1\n", "0 2"),
        ("mmap 0 0 2 rw anon_private\n", "0 0"),
        ("mmap 0 0 2 rw anon_private LOCKED\n", "1 1"),
        ("mmap 0 0 1 r anon_private\nmmap 0 2 1 rw anon_private\n", "0 3"),
        ("mmap 0 0 1 r anon_private\nmmap 0 2 1 rw anon_private LOCKED\n", "0 3"),
        ("", "4 1"),
        ("mmap 0 0 2 - anon_private\n", "0 2"),
        ("mmap 0 0 2 rw anon_shared\ntouch 0 0 1\n", "0 2"),
        ("mmap 0 0 2 rw file0_private\ntouch 0 0 1\n", "0 2"),
        ("mmap 0 0 2 rw file0_shared\ntouch 0 0 1\n", "0 2"),
        ("mmap 0 0 2 r readonly_shared\n", "0 2"),
        ("shmat 0 0\n", "0 4"),
    ] {
        let [cold, pageout] = ["COLD", "PAGEOUT"].map(|advice| {
            kernel.reset(&Limits::default());
            run(&mut kernel, &format!("{maps}madvise 0 {range} {advice}\n")).result
        });
        assert_eq!(cold, pageout, "{maps}{range}");
    }
}

#[test]
fn pages_that_processes_share_are_told_from_pages_that_they_do_not_share() {
    let Some(mut kernel) = begun() else { return };
    if !kernel.facilities().frames {
        println!("skipped: this user may not see page frame numbers");
        return;
    }
    let forked = "mmap 0 1 2 rw anon_private\ntouch 0 1 1\ntouch 0 2 1\nfork 0\n";
    // The model, with the pages of both processes.
    for (program, pages, agrees) in [
        (forked.to_owned(), [[0, 1], [0, 1]], true),
        (forked.to_owned(), [[0, 1], [2, 1]], false),
        (format!("{forked}touch 1 1 1"), [[0, 1], [2, 1]], true),
        (format!("{forked}touch 1 1 1"), [[0, 1], [0, 1]], false),
    ] {
        kernel.reset(&Limits::default());
        let mut shown = Observation::default();
        for op in &program.parse::<Program>().expect("a program").ops {
            kernel.step(op, &mut shown);
        }
        let mut model = Observation::default();
        for (space, pages) in model.spaces.iter_mut().zip(pages) {
            (space.alive, space.anon_pages) = (true, 0b110);
            space.push_page_ids(pages.map(PageId::new));
        }
        let mut expected = Observation::default();
        let found = kernel.shares_as(&model, &mut expected, &mut shown);
        assert_eq!(found.expect("pagemap"), agrees, "{program}{pages:?}");
        assert_eq!(shown.spaces[0].page_ids().is_empty(), agrees);
    }
}

/// Returns the observation after each operation, as text.
fn shown(kernel: &mut Kernel, program: &Program) -> Vec<String> {
    let mut seen = Observation::default();
    kernel.reset(&program.limits);
    let step = |op| {
        kernel.step(op, &mut seen);
        assert!(kernel.ended().is_none(), "{op}: {:?}", kernel.ended());
        format!("{seen:?}")
    };
    program.ops.iter().map(step).collect()
}

/// Programs that change state of a process which outlives their mappings.
const LEAVING: [&str; 8] = [
    "mmap 0 0 4 rw anon_private\ntouch 0 1 1\ntouch 0 3\nmprotect 0 1 1 r\nmremap 0 1 2 9 MAYMOVE|FIXED 20\n",
    "mlockall 0 CURRENT|FUTURE\nmmap 0 8 2 rw anon_private\nmunmap 0 9 1\n",
    "shmat 0 1\ntouch 0 1 1\nshmat 0 9\ntouch 0 9\nshmdt 0 1\nshm_rmid 0\nshmdt 0 9\nshmat 0 3\n",
    "mmap 0 0 4 rw file0_shared - 3\ntouch 0 0 1\ntouch 0 2 1\nmmap 0 8 4 rw file0_private - 3\ntouch 0 8 1\n",
    "mmap 0 0 4 rw anon_private\ntouch 0 0 1\nfork 0\ntouch 1 0 1\nfork 1\nexit 1\nmunmap 0 0 2\n",
    "mmap 0 0 4 rw anon_private\nuffd_register 0 1 1 0\nmprotect 0 0 4 r\n",
    "mmap 0 0 4 rw anon_private\nmbind 0 0 4 BIND\nmmap 0 9 1 rw anon_private\n",
    "mmap 0 0 4 rw anon_private\ntouch 0 0 1\nclear_refs 0\nmmap 0 9 1 rw anon_private\n",
];

#[test]
fn a_process_that_has_served_another_program_shows_the_same_as_a_new_one() {
    let Some(mut kernel) = begun() else { return };
    let facilities = *kernel.facilities();
    let programs = LEAVING.map(|text| {
        let mut program: Program = text.parse().expect("a program");
        program.ops.retain(|op| facilities.lacks(op).is_none());
        program
    });
    let new = programs.each_ref().map(|program| shown(&mut kernel, program));
    kernel.set_keeping(true);
    let mut served = 0;
    for before in &programs {
        for (program, new) in programs.iter().zip(&new) {
            shown(&mut kernel, before);
            kernel.finish();
            assert_eq!(shown(&mut kernel, program), *new, "after {before}:\n{program}");
            served += usize::from(kernel.served_before());
            kernel.finish();
        }
    }
    assert!(!kernel.can_keep() || served == programs.len() * programs.len(), "{served}");
}

#[test]
fn process_0_is_kept_unless_something_stays_that_cannot_be_put_back() {
    let Some(mut kernel) = begun() else { return };
    kernel.set_keeping(true);
    if !kernel.can_keep() {
        println!("skipped: a process of this system serves one program");
        return;
    }
    let mut pid = |text: &str| {
        let program: Program = text.parse().expect("a program");
        shown(&mut kernel, &program);
        let pids = pids(&kernel);
        kernel.finish();
        pids.first().copied()
    };
    let maps = "mmap 0 0 4 rw anon_private\ntouch 0 0 1\n";
    let first = pid(maps);
    assert!(first.is_some());
    for text in ["", "mlockall 0 FUTURE\n", "fork 0\n", "mmap 0 9 1 r file0_private\n"] {
        assert_eq!(pid(text), first, "{text}");
    }
    for text in [
        "limits lock=3\n",
        "limits address_space=9\n",
        "mmap 0 0 1 rw anon_private\nmadvise 0 0 1 MERGEABLE\n",
        "prlimit 0 AS 9\n",
        "memory_merge 0 1\n",
    ] {
        let before = pid(text);
        let after = pid(maps);
        assert!(after.is_some() && after != before, "{text}");
    }
    // A limit on locking needs a process without a capability.
    let before = pid(maps);
    assert_ne!(pid("limits lock=3\n"), before);
}
