//! Every point in which the revisions differ, beside the bugs.

mod common;

use common::{copied, events, layout, result, run};
use vmadiff_candidate::{Candidate, Revision};
use vmadiff_machine::{Machine, Observation, Opcode, VmFlags};

#[test]
fn each_revision_has_a_name_that_reads_back() {
    for (&revision, name) in Revision::ALL.iter().zip(["original", "rfc", "v2", "fixed"]) {
        assert_eq!((revision.name(), revision.to_string()), (name, name.to_owned()));
        assert_eq!(name.parse(), Ok(revision));
        let candidate = Candidate::new(revision);
        assert_eq!(candidate.name(), format!("candidate:{name}"));
        assert_eq!(candidate.revision(), revision);
    }
    let unknown = "v3".parse::<Revision>().map_err(|error| error.to_string());
    assert_eq!(
        unknown,
        Err("no revision is called `v3`: expected original, rfc, v2 or fixed".into())
    );
}

#[test]
fn the_original_kernel_has_no_copies_between_address_spaces() {
    for &opcode in Opcode::ALL {
        let copies = matches!(opcode, Opcode::Copy | Opcode::CopyVma);
        assert_eq!(Candidate::new(Revision::Original).has(opcode), !copies);
        assert!(Candidate::new(Revision::V2).has(opcode));
    }
    for copy in ["copy 0 1 1 0 5 FIXED", "copy_vma 0 1 1 0 5", "copy 7 0 0 0 0"] {
        let seen = run(Revision::Original, &format!("mmap 0 1 1 rw anon_private\n{copy}"));
        assert_eq!(result(&seen), "-ENOSYS");
        assert_eq!(layout(&seen, 0), "1..2@1");
    }
}

/// The answer of each revision to the last operation: rfc, v2, fixed.
#[test]
fn refusals_of_the_call() {
    let two = "mmap 0 1 4 rw anon_private\nfork 0\n";
    let device = "mmap 0 1 4 rw special\nfork 0\n";
    for (setup, copy, [rfc, v2, fixed]) in [
        (two, "copy 1 1 2 0 10 FIXED", ["10", "10", "10"]),
        // PVMMAP_FIXED_NOREPLACE came with v2.
        (two, "copy 1 1 2 0 10 FIXED_NOREPLACE", ["-EINVAL", "10", "10"]),
        (two, "copy 1 1 2 0 4 FIXED_NOREPLACE", ["-EINVAL", "-EEXIST", "-EEXIST"]),
        (two, "copy 1 1 2 0 4 FIXED|FIXED_NOREPLACE", ["-EINVAL", "-EEXIST", "-EEXIST"]),
        (two, "copy 1 1 2 5 4 FIXED_NOREPLACE", ["-EINVAL", "-ESRCH", "-ESRCH"]),
        // I/O memory has an errno of its own in the RFC, which looks at the rest first: the
        // device has VM_DONTEXPAND as well.
        (device, "copy 1 1 2 0 10 FIXED", ["-EFAULT"; 3]),
        // The order of the others is one.
        (two, "copy 5 1 0 0 10 FIXED", ["-ESRCH"; 3]),
        (two, "copy 1 1 0 5 10 FIXED", ["-EINVAL"; 3]),
        (two, "copy 1 9 1 5 10 FIXED", ["-ESRCH"; 3]),
        (two, "copy 1 0 2 0 10 FIXED", ["-EFAULT"; 3]),
        (two, "copy 1 3 3 0 10 FIXED", ["-EFAULT"; 3]),
        (two, "mprotect 0 2 1 r\ncopy 1 1 2 0 10 FIXED", ["-EFAULT"; 3]),
        (two, "uffd_register 0 1 4\ncopy 1 1 2 0 10 FIXED", ["-ENOTSUPP"; 3]),
        (two, "uffd_register 0 1 4\ncopy 1 1 2 0 1 FIXED", ["-ENOTSUPP"; 3]),
    ] {
        let program = format!("{setup}{copy}");
        let answers = [Revision::Rfc, Revision::V2, Revision::Fixed]
            .map(|revision| result(&run(revision, &program)));
        assert_eq!(answers, [rfc, v2, fixed], "{program}");
    }
}

#[test]
fn limits_of_the_call() {
    for (limits, copy, expected) in [
        ("map_count=4", "copy 1 1 2 0 10 FIXED", "10"),
        ("map_count=3", "copy 1 1 2 0 10 FIXED", "-ENOMEM"),
        ("map_count=0", "copy 1 1 2 0 10 FIXED", "-ENOMEM"),
        ("address_space=7", "copy 1 1 2 0 10 FIXED", "-ENOMEM"),
        ("address_space=8", "copy 1 1 2 0 10 FIXED", "10"),
        // Pages that are replaced do not count.
        ("address_space=7", "copy 1 1 2 0 20 FIXED", "20"),
        // A copy is not locked: it needs no leave to lock.
        ("lock=3", "mlock 0 1 3\ncopy 1 1 3 0 10 FIXED", "10"),
    ] {
        let setup = "mmap 0 1 4 rw anon_private\nmmap 0 20 2 rw anon_private\nfork 0";
        let program = format!("limits {limits}\n{setup}\n{copy}");
        let seen = run(Revision::Fixed, &program);
        assert_eq!(result(&seen), expected, "{program}");
        assert!(seen.events.is_empty(), "{program}");
    }
}

#[test]
fn without_fixed_the_destination_is_a_hint() {
    for (what, setup, copy, expected) in [
        ("a free hint is taken", "", "copy 1 1 2 0 10", "10"),
        ("else the highest hole is", "", "copy 1 1 2 0 2", "126"),
        ("up to the end of the arena", "", "copy 1 1 4 0 0", "124"),
        (
            "a hole is filled from its top",
            "mmap 1 63 63 rw anon_shared\nmremap 1 63 1 2 - 0\nmmap 1 20 43 rw anon_shared\n",
            "copy 1 1 4 0 0",
            "16",
        ),
    ] {
        let program = format!("mmap 0 1 4 rw anon_private\nfork 0\n{setup}{copy}");
        assert_eq!(result(&run(Revision::V2, &program)), expected, "{what}");
    }
}

#[test]
fn which_flags_and_context_a_copy_keeps() {
    let cleared = VmFlags::VM_UFFD_MISSING
        | VmFlags::VM_MERGEABLE
        | VmFlags::VM_LOCKED
        | VmFlags::VM_LOCKONFAULT
        | VmFlags::VM_WIPEONFORK
        | VmFlags::VM_DONTCOPY;
    // The child is there before the flags are: a fork would drop some.
    let setup = "mmap 0 1 4 rw anon_private\nfork 0\nmlock 0 1 4 1\nmadvise 0 1 4 MERGEABLE\n\
                 madvise 0 1 4 WIPEONFORK\nmadvise 0 1 4 DONTFORK\nmadvise 0 1 4 RANDOM\n";
    let flags = |seen: &Observation| {
        let vma = seen.spaces[1].vmas().last().copied();
        vma.map(|vma| (vma.flags, vma.uffd.is_some()))
    };
    let all = VmFlags::VM_READ
        | VmFlags::VM_WRITE
        | VmFlags::VM_MAYREAD
        | VmFlags::VM_MAYWRITE
        | VmFlags::VM_MAYEXEC
        | VmFlags::VM_ACCOUNT
        | VmFlags::VM_SOFTDIRTY
        | VmFlags::VM_RAND_READ
        | cleared;
    let unwatched = all - VmFlags::VM_UFFD_MISSING;

    let copy = format!("{setup}copy 1 1 2 0 10 FIXED");
    assert_eq!(flags(&run(Revision::V2, &copy)), Some((unwatched, false)));
    assert_eq!(flags(&run(Revision::Rfc, &copy)), Some((unwatched, false)));
    assert_eq!(flags(&run(Revision::Fixed, &copy)), Some((all - cleared, false)));

    // A direct call has the same answer at every revision.
    for revision in [Revision::Rfc, Revision::V2, Revision::Fixed] {
        let watched = format!("{setup}uffd_register 0 1 4\n");
        let keep = run(revision, &format!("{watched}copy_vma 1 1 2 0 10 0"));
        assert_eq!(flags(&keep), Some((all, true)), "{revision}");
        assert_eq!(keep.spaces[1].counters.locked_vm, 2, "{revision}");
        let clear = run(revision, &format!("{watched}copy_vma 1 1 2 0 10 1"));
        assert_eq!(flags(&clear), Some((all - cleared, false)), "{revision}");
        assert_eq!(clear.spaces[1].counters.locked_vm, 0, "{revision}");
    }
}

#[test]
fn a_direct_call_has_the_caller_of_fixed_at_every_revision() {
    let locked = "mmap 0 1 4 rw anon_private LOCKED\nfork 0\n";
    for (program, expected) in [
        ("mmap 0 1 4 rw anon_private\ncopy_vma 0 1 4 0 3 1".to_owned(), "-EINVAL"),
        (format!("limits lock=4\n{locked}copy_vma 1 1 4 0 10 0"), "10"),
        (format!("limits lock=5\n{locked}copy_vma 0 1 2 0 10 0"), "-EAGAIN"),
        (format!("limits lock=5\n{locked}copy_vma 0 1 2 0 10 1"), "10"),
        // Which of two refusals comes first.
        (format!("limits lock=5\n{locked}copy_vma 0 1 2 0 2 0"), "-EAGAIN"),
        (format!("limits lock=5 address_space=5\n{locked}copy_vma 0 1 2 0 10 0"), "-ENOMEM"),
    ] {
        for revision in [Revision::Rfc, Revision::V2, Revision::Fixed] {
            let seen = run(revision, &program);
            assert_eq!(result(&seen), expected, "{revision}: {program}");
            assert!(seen.events.is_empty(), "{revision}: {program}");
        }
    }
}

/// The source lies in the address space that is copied into, and unmapping the destination splits
/// it: the pointer that was looked up before is then to a VMA that is not the source.
#[test]
fn a_source_that_the_destination_was_cut_out_of_is_copied_from_what_is_left() {
    let program = "mmap 0 1 10 rw anon_private\ncopy 0 8 2 0 3 FIXED";
    let fixed = run(Revision::Fixed, program);
    assert!(fixed.events.is_empty(), "{:?}", fixed.events);
    assert_eq!(layout(&fixed, 0), "1..11@1");
    assert_eq!(copied(&fixed), "merged rmap-locks honoured redirected");
}

/// Of a source that loses its first page to the destination, v2 computes the offset from what is
/// left: the difference of two addresses wraps, and is shifted afterwards.
#[test]
fn the_offset_of_a_source_that_was_cut_is_far_past_the_file() {
    let program = "mmap 0 1 2 rw file0_shared\ncopy 0 1 1 0 1 FIXED";
    let seen = run(Revision::V2, program);
    assert_eq!(result(&seen), "1");
    assert_eq!(seen.spaces[0].vmas()[0].pgoff.0, 1 << 52);
    assert_eq!(result(&run(Revision::V2, &format!("{program}\ntouch 0 1"))), "SIGBUS");

    let program = "mmap 0 1 2 rw anon_private\ntouch 0 1 1\ntouch 0 2 1\ncopy 0 1 2 0 0 FIXED";
    // The copy is made within one process, which is bug F.
    let deadlock = "deadlock: copy_pte_range() takes ptl, which is held already";
    let lost = "unreachable page: rmap does not find page 1 of process 0";
    assert_eq!(events(&run(Revision::V2, program)), [deadlock, lost]);
}

/// Two revisions, two orders of the same refusals: nothing that can be observed differs in
/// `mremap`, for want of huge pages.
#[test]
fn mremap_refuses_alike_at_all_revisions() {
    for (program, expected) in [
        ("mremap 0 1 1 2 MAYMOVE|FIXED 9", "-EFAULT"),
        ("mmap 0 1 2 rw anon_private\nmremap 0 1 0 2 MAYMOVE|FIXED 9", "-EINVAL"),
        ("mmap 0 1 2 rw anon_private\nmremap 0 1 3 3 MAYMOVE|FIXED 9", "-EFAULT"),
        ("mmap 0 1 2 rw special\nmremap 0 1 1 2 MAYMOVE|FIXED 9", "-EFAULT"),
        ("mmap 0 1 2 rw special\nmremap 0 1 0 2 MAYMOVE|FIXED 9", "-EFAULT"),
        ("mmap 0 1 2 rw special\nmremap 0 1 2 2 MAYMOVE|FIXED 9", "9"),
        ("mmap 0 1 2 rw special\nmremap 0 1 2 1 MAYMOVE|FIXED 9", "9"),
        ("mmap 0 1 2 rw anon_shared\nmremap 0 1 0 2 MAYMOVE|FIXED 9", "9"),
    ] {
        for &revision in Revision::ALL {
            let seen = run(revision, program);
            assert_eq!(result(&seen), expected, "{revision}: {program}");
            assert!(seen.events.is_empty(), "{revision}: {program}: {:?}", seen.events);
        }
    }
}
