//! The ends of calls that find no memory.

use vmadiff_machine::{Allocation, Errno, Machine, Observation, Program, VmFlags};
use vmadiff_reference::Reference;

/// Returns each way in which the last operation of a program ends without memory of a kind: the result, and
/// the ranges of the VMAs of each process that has any.
fn ways(program: &str, failed: Allocation) -> Vec<String> {
    let program: Program = format!("limits fail=1\n{program}").parse().expect("a program");
    let (mut reference, mut before) = (Reference::new(), Observation::default());
    reference.reset(&program.limits);
    let (last, ops) = program.ops.split_last().expect("an operation");
    ops.iter().for_each(|op| reference.step(op, &mut before));
    reference.step(last, &mut before.clone());
    let mut found = Vec::new();
    for n in 0.. {
        let mut seen = before.clone();
        if !reference.step_failing(last, failed, n, &mut seen) {
            return found;
        }
        let spaces = seen.spaces.iter().map(|space| {
            let ranges = space.vmas().iter().map(|vma| vma.range().to_string());
            ranges.collect::<Vec<_>>().concat()
        });
        let spaces: Vec<_> = spaces.filter(|space| !space.is_empty()).collect();
        let result = seen.result.map_or_else(Errno::name, |_| "ok");
        found.push(format!("{result} {}", spaces.join(" | ")));
    }
    found
}

use Allocation::{AnonVma, ChainEntry, Charge, Context, File, Mm, PageTable, Policy, Vma};

#[test]
fn a_call_fails_for_want_of_the_memory_that_it_needs_and_of_no_other() {
    let mapped = "mmap 0 1 4 rw anon_private\n";
    let private = "mmap 0 1 4 rw anon_private NORESERVE\n";
    for (program, failed, expected) in [
        // A cut.
        (format!("{mapped}munmap 0 2 1"), Vma, &["ENOMEM [1,5)", "ENOMEM [1,2)[2,5)"][..]),
        (format!("{mapped}munmap 0 2 1"), ChainEntry, &[]),
        (format!("{mapped}munmap 0 2 1"), Policy, &[]),
        (format!("{mapped}touch 0 1 1\nmunmap 0 4 1"), ChainEntry, &["ENOMEM [1,5)"]),
        (format!("{mapped}mbind 0 1 4 BIND\nmunmap 0 4 1"), Policy, &["ENOMEM [1,5)"]),
        (format!("{mapped}madvise 0 2 3 RANDOM"), Vma, &["EAGAIN [1,5)"]),
        // The policy of a VMA that is cut out already.
        (format!("{mapped}mbind 0 2 3 BIND"), Policy, &["ENOMEM [1,2)[2,5)"]),
        (format!("{mapped}mbind 0 2 3 DEFAULT"), Policy, &[]),
        (format!("{mapped}mbind 0 1 4 BIND\nmbind 0 1 4 DEFAULT"), Policy, &[]),
        (format!("{mapped}mbind 0 1 4 BIND\nmadvise 0 1 4 RANDOM"), Policy, &[]),
        (format!("{mapped}mbind 0 1 4 BIND"), Vma, &[]),
        // The VMA of a mapping, the file of shared memory, the page tables of the device.
        ("mmap 0 1 1 r anon_private".into(), Vma, &["ENOMEM "]),
        ("mmap 0 1 1 r anon_private".into(), File, &[]),
        ("mmap 0 1 1 r anon_private".into(), PageTable, &[]),
        ("mmap 0 1 1 r anon_shared".into(), File, &["ENOMEM "]),
        ("mmap 0 1 1 r special".into(), PageTable, &["ENOMEM "]),
        ("shmat 0 0".into(), Vma, &["ENOMEM "]),
        ("shmat 0 0".into(), Charge, &[]),
        // A charge. What is charged already is not charged again.
        ("mmap 0 1 4 rw anon_private\nmprotect 0 1 4 r\nmprotect 0 1 4 rw".into(), Charge, &[]),
        (format!("{mapped}mmap 0 2 1 rw anon_private"), Charge, &["ENOMEM [1,2)[3,5)"]),
        (format!("{private}mmap 0 2 1 rw anon_private NORESERVE"), Charge, &[]),
        ("mmap 0 1 4 r anon_private\nmprotect 0 1 4 rw".into(), Charge, &["ENOMEM [1,5)"]),
        (format!("{mapped}mremap 0 1 4 5"), Charge, &["ENOMEM [1,5)"]),
        (format!("{mapped}mremap 0 1 4 3"), Charge, &[]),
        (format!("{mapped}mremap 0 1 4 4 MAYMOVE|FIXED 9"), Charge, &[]),
        ("mmap 0 1 4 r anon_private\nmremap 0 1 4 5".into(), Charge, &[]),
        (format!("{mapped}mremap 0 1 4 5"), Vma, &[]),
        // The VMA of a move, and then a cut of its source, which stays.
        (
            format!("{mapped}touch 0 1 1\nmremap 0 1 2 2 MAYMOVE|FIXED 9"),
            Vma,
            &["ENOMEM [1,5)", "ok [1,5)[9,11)"],
        ),
        // A merge that needs a chain.
        (
            "mmap 0 3 1 rw anon_private\ntouch 0 3 1\nmmap 0 1 1 rw anon_private\n\
             mmap 0 2 1 rw anon_private"
                .into(),
            ChainEntry,
            &["ok [1,2)[2,3)[3,4)"],
        ),
        // A fault.
        (format!("{mapped}touch 0 1 1"), PageTable, &["ENOMEM [1,5)"]),
        (format!("{mapped}touch 0 1 1"), AnonVma, &["ENOMEM [1,5)"]),
        (format!("{mapped}touch 0 1"), AnonVma, &[]),
        (format!("{mapped}touch 0 1 1"), ChainEntry, &["ENOMEM [1,5)"]),
        (format!("{mapped}mlock 0 1 4"), AnonVma, &["EAGAIN [1,5)"]),
        // A child, of which nothing stays.
        (format!("{mapped}mmap 0 7 1 r anon_shared\nfork 0"), Vma, &["ENOMEM [1,5)[7,8)"; 2]),
        (format!("{mapped}mmap 0 7 1 r anon_shared\nfork 0"), Charge, &["ENOMEM [1,5)[7,8)"]),
        (format!("{mapped}fork 0"), Mm, &[]),
        (format!("{mapped}touch 0 1 1\nfork 0"), Vma, &["ENOMEM [1,5)"]),
        // An entry of a chain, where the parent has an anon_vma or the memory is wiped.
        (format!("{mapped}fork 0"), ChainEntry, &[]),
        (format!("{mapped}touch 0 1 1\nfork 0"), ChainEntry, &["ENOMEM [1,5)"]),
        (format!("{mapped}madvise 0 1 4 WIPEONFORK\nfork 0"), AnonVma, &["ENOMEM [1,5)"]),
        // A page table, where the entries are copied.
        (format!("{mapped}fork 0"), PageTable, &[]),
        (format!("{mapped}touch 0 1 1\nfork 0"), PageTable, &["ENOMEM [1,5)"]),
        ("mmap 0 1 1 r special\nfork 0".into(), PageTable, &["ENOMEM [1,2)"]),
        (format!("{mapped}touch 0 1 1\nmadvise 0 1 4 WIPEONFORK\nfork 0"), PageTable, &[]),
        ("uffd_register 0 1 1".into(), Context, &["ENOMEM "]),
        // A context that is opened anew is closed before, and its memory joins.
        (format!("{mapped}uffd_register 0 1 2\nuffd_open 0 0 FORK"), Context, &["ENOMEM [1,5)"]),
        // One context of the child for all its VMAs.
        (
            format!("uffd_open 0 0 FORK\n{mapped}mprotect 0 1 1 r\nuffd_register 0 1 4\nfork 0"),
            Context,
            &["ENOMEM [1,2)[2,5)"],
        ),
        (format!("{mapped}uffd_register 0 1 4\nfork 0"), Context, &[]),
        (format!("{mapped}uffd_register 0 1 4"), ChainEntry, &[]),
        (format!("{mapped}uffd_register 0 1 4\nuffd_register 0 1 4"), Context, &[]),
    ] {
        assert_eq!(ways(&program, failed), expected, "{failed}: {program}");
    }
}

#[test]
fn a_source_that_cannot_be_unmapped_stays_and_is_not_charged_any_more() {
    // move_vma() takes VM_ACCOUNT from the source before do_munmap(), which cuts it.
    let program: Program = "limits fail=1\nmmap 0 0 4 rw anon_private\ntouch 0 0 1\n\
                            mremap 0 0 2 2 MAYMOVE|FIXED 9"
        .parse()
        .expect("a program");
    let (mut reference, mut seen) = (Reference::new(), Observation::default());
    reference.reset(&program.limits);
    program.ops.iter().for_each(|op| reference.step(op, &mut seen));
    // The first VMA that is made is that of the copy, the second one is a half of the source.
    assert!(reference.step_failing(&program.ops[2], Vma, 1, &mut seen));
    let charged: Vec<_> = seen.spaces[0]
        .vmas()
        .iter()
        .map(|vma| (vma.range().to_string(), vma.flags.contains(VmFlags::VM_ACCOUNT)))
        .collect();
    assert_eq!(charged, [("[0,4)".to_owned(), false), ("[9,11)".to_owned(), true)]);
}

#[test]
fn a_copy_that_finds_no_memory_leaves_the_destination_unmapped_and_nothing_else() {
    let before = "fork 0\nmmap 0 1 2 rw anon_private\ntouch 0 1 1\nmmap 1 4 4 rw anon_private\n";
    for (failed, expected) in [
        (Charge, &["ENOMEM [1,3) | [4,5)[7,8)"][..]),
        (PageTable, &["ENOMEM [1,3) | [4,5)[7,8)"]),
        (Vma, &["ENOMEM [1,3) | [4,8)", "ENOMEM [1,3) | [4,5)[5,8)", "ENOMEM [1,3) | [4,5)[7,8)"]),
    ] {
        let program = format!("{before}copy 1 1 2 0 5 FIXED");
        assert_eq!(ways(&program, failed), expected, "{failed}");
    }
}
