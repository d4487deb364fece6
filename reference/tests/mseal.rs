//! `mseal` of later kernels, and the calls that a seal forbids.

mod common;
use common::{marked, returns};
use vmadiff_machine::{Errno, Machine as _, Observation, Program, VmFlags};
use vmadiff_reference::Reference;
use vmadiff_reference::later::{Rule, Rules, Version};

/// Runs a program beside Linux 6.18, and returns the last observation.
fn run(text: &str) -> Observation {
    let program: Program = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    let mut reference = Reference::with_rules(Rules::of_version(Version(6, 18)));
    let mut seen = Observation::default();
    reference.reset(&program.limits);
    program.ops.iter().for_each(|op| reference.step(op, &mut seen));
    seen
}

/// Returns the VMAs of process 0: start, end, and `s` for a sealed VMA.
fn maps(seen: &Observation) -> String {
    marked(&seen.spaces[0], VmFlags::VM_SEALED, "s")
}

#[test]
fn linux_5_2_1_does_not_have_the_call() {
    returns(&[("mseal 0 1 0", Err(Errno::ENOSYS)), ("mseal 1 1 0", Err(Errno::ESRCH))]);
}

#[test]
fn a_range_without_holes_is_sealed() {
    let map = "mmap 0 1 4 rw anon_private\n";
    for (text, result, vmas) in [
        ("mseal 0 9 0", Ok(0), "1-5"),
        ("mseal 0 1 4", Ok(0), "1-5s"),
        ("mseal 0 2 2", Ok(0), "1-2 2-4s 4-5"),
        // A sealed part joins its sealed neighbours.
        ("mseal 0 1 1\nmseal 0 3 2\nmseal 0 2 1", Ok(0), "1-5s"),
        // A sealed VMA stays sealed.
        ("mseal 0 2 2\nmseal 0 2 2", Ok(0), "1-2 2-4s 4-5"),
        ("mseal 0 3 3", Err(Errno::ENOMEM), "1-5"),
        ("mseal 0 0 3", Err(Errno::ENOMEM), "1-5"),
    ] {
        let seen = run(&format!("{map}{text}"));
        assert_eq!((seen.result, maps(&seen).as_str()), (result, vmas), "{text}");
    }
    let seen = run("limits map_count=2\nmmap 0 1 4 rw anon_private\nmseal 0 2 2");
    assert_eq!((seen.result, maps(&seen).as_str()), (Err(Errno::ENOMEM), "1-2 2-5"));
}

#[test]
fn a_sealed_vma_stays_as_it_is() {
    let map = "mmap 0 1 6 rw anon_private\nmseal 0 3 2\n";
    let all = "1-3 3-5s 5-7";
    for (text, vmas) in [
        ("munmap 0 3 2", all),
        // The cut at the start of the range stays.
        ("munmap 0 2 4", "1-2 2-3 3-5s 5-7"),
        ("munmap 0 4 4", all),
        ("mmap 0 3 1 r file0_shared", all),
        ("mprotect 0 3 2 rw", all),
        ("mremap 0 3 2 2 MAYMOVE|FIXED 20", all),
        ("mremap 0 3 2 1", all),
        ("mremap 0 4 1 9 MAYMOVE", all),
        ("mremap 0 1 1 1 MAYMOVE|FIXED 4", all),
        ("shmat 0 1 REMAP", all),
    ] {
        let seen = run(&format!("{map}{text}"));
        assert_eq!((seen.result, maps(&seen).as_str()), (Err(Errno::EPERM), vmas), "{text}");
    }
    for (text, result) in [
        // These checks come before the seal's.
        ("mremap 0 3 2 0", Err(Errno::EINVAL)),
        ("mremap 0 3 2 2 MAYMOVE|FIXED 4", Err(Errno::EINVAL)),
        ("mmap 0 3 1 r anon_private FIXED_NOREPLACE", Err(Errno::EEXIST)),
        ("mlock 0 3 2", Ok(0)),
        ("mbind 0 3 2 BIND", Ok(0)),
        ("uffd_register 0 3 2", Ok(0)),
        ("touch 0 3 1", Ok(0)),
        ("exit 0", Ok(0)),
        // What lies before a sealed VMA keeps its new protection.
        ("fork 0\nmprotect 1 1 4 r", Err(Errno::EPERM)),
    ] {
        assert_eq!(run(&format!("{map}{text}")).result, result, "{text}");
    }
    // The kernel ignores that a part of an attachment is sealed.
    let seen = run("shmat 0 1\nmseal 0 2 1\nshmdt 0 1");
    assert_eq!((seen.result, maps(&seen).as_str()), (Ok(0), "2-3s"));
}

#[test]
fn a_sealed_vma_keeps_its_pages_if_nobody_can_write_them() {
    for (kind, prot, advice, result) in [
        ("anon_private", "r", "DONTNEED", Err(Errno::EPERM)),
        ("anon_private", "r", "DONTNEED_LOCKED", Err(Errno::EPERM)),
        ("anon_private", "r", "FREE", Err(Errno::EPERM)),
        ("anon_private", "r", "DONTFORK", Err(Errno::EPERM)),
        ("anon_private", "r", "WIPEONFORK", Err(Errno::EPERM)),
        ("anon_private", "r", "REMOVE", Err(Errno::EPERM)),
        ("anon_private", "rw", "REMOVE", Err(Errno::EINVAL)),
        ("anon_shared", "r", "REMOVE", Ok(0)),
        ("anon_private", "r", "DOFORK", Ok(0)),
        ("anon_private", "r", "COLD", Ok(0)),
        ("anon_private", "rw", "DONTNEED", Ok(0)),
        ("file0_private", "r", "DONTNEED", Ok(0)),
        ("anon_shared", "r", "DONTNEED", Ok(0)),
    ] {
        let text = format!("mmap 0 0 2 {prot} {kind}\nmseal 0 0 1\nmadvise 0 0 1 {advice}");
        assert_eq!(run(&text).result, result, "{text}");
    }
}

#[test]
fn a_seal_comes_before_the_limits_on_pages_where_cuts_do() {
    let text = "limits address_space=3\nmmap 0 0 3 r anon_private\nmseal 0 2 1\n\
                mmap 0 1 9 r anon_private";
    for (rules, result) in [
        (Rules::of_version(Version(6, 18)), Err(Errno::EPERM)),
        (Rules::NONE.with(Rule::Mseal), Err(Errno::ENOMEM)),
    ] {
        let program: Program = text.parse().expect("a program");
        let (mut reference, mut seen) = (Reference::with_rules(rules), Observation::default());
        reference.reset(&program.limits);
        program.ops.iter().for_each(|op| reference.step(op, &mut seen));
        assert_eq!(seen.result, result, "{rules}");
    }
}
