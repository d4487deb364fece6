//! Programs of syzkaller: the calls that are read, and the programs that are made from them.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use vmadiff::export_syz::export_syz;
use vmadiff::import_syz::{Import, import};
use vmadiff::syz::{SyzError, parse};
use vmadiff_machine::operand::{Ctx, File, FilePage, Kind, MAX_PROCESSES, Page, Process};
use vmadiff_machine::{Limits, Op, Placement, Program};

fn imported(text: &str) -> Import {
    import(&parse(text).unwrap_or_else(|error| panic!("{error} in\n{text}")))
}

fn program(text: &str) -> String {
    imported(text).program.to_string()
}

/// Returns the part of a program that the export for syzkaller keeps: process 0 without copies,
/// `special` and limits. Operands that the kernel does not read are 0. Files and userfaultfd contexts
/// are numbered in the order of their first use.
fn kept(program: &Program) -> Program {
    let (mut files, mut contexts, mut forks) = (Vec::new(), Vec::new(), 0);
    let number = |known: &mut Vec<u8>, value: u8| {
        let at = known.iter().position(|other| *other == value);
        at.unwrap_or_else(|| {
            known.push(value);
            known.len() - 1
        }) as u8
    };
    let mut attached = Vec::new();
    let ops = program.ops.iter().filter(|op| op.process() == Process(0)).filter_map(|op| {
        Some(match *op {
            Op::Copy { .. }
            | Op::CopyVma { .. }
            | Op::Exit { .. }
            | Op::ClearRefs { .. }
            | Op::UffdOpen { .. }
            | Op::Prlimit { .. }
            | Op::MemoryMerge { .. } => {
                return None;
            }
            Op::Mmap { process, page, len, prot, kind, flags, pgoff } => {
                let (file, is_shared) = match kind.get() {
                    Kind::Special => return None,
                    Kind::AnonPrivate | Kind::AnonShared | Kind::ReadonlyShared => (None, false),
                    Kind::File0Private => (Some(0), false),
                    Kind::File0Shared => (Some(0), true),
                    Kind::File1Private => (Some(1), false),
                    Kind::File1Shared => (Some(1), true),
                };
                let kind = match file.map(|file| (number(&mut files, file), is_shared)) {
                    None => kind.get(),
                    Some((0, false)) => Kind::File0Private,
                    Some((0, true)) => Kind::File0Shared,
                    Some((_, false)) => Kind::File1Private,
                    Some((_, true)) => Kind::File1Shared,
                };
                let has_offset = !matches!(kind, Kind::AnonPrivate | Kind::AnonShared);
                let pgoff = if has_offset { pgoff } else { FilePage::first(0).into() };
                Op::Mmap { process, page, len, prot, kind: kind.into(), flags, pgoff }
            }
            Op::Mremap { process, page, old_len, new_len, flags, new_page } => {
                let is_read = matches!(flags.get().placement(), Placement::Given | Placement::Hint);
                let new_page = if is_read { new_page } else { Page(0).into() };
                Op::Mremap { process, page, old_len, new_len, flags, new_page }
            }
            Op::UffdRegister { process, page, len, ctx } => {
                let ctx = Ctx(number(&mut contexts, ctx.get().0)).into();
                Op::UffdRegister { process, page, len, ctx }
            }
            Op::UffdRegisterWp { process, page, len, ctx, mode } => {
                let ctx = Ctx(number(&mut contexts, ctx.get().0)).into();
                Op::UffdRegisterWp { process, page, len, ctx, mode }
            }
            Op::UffdWriteprotect { process, page, len, ctx, mode } => {
                let known = contexts.iter().position(|other| *other == ctx.get().0);
                let ctx = Ctx(known.unwrap_or(contexts.len()) as u8).into();
                Op::UffdWriteprotect { process, page, len, ctx, mode }
            }
            Op::UffdUnregister { process, page, len, ctx } => {
                let known = contexts.iter().position(|other| *other == ctx.get().0);
                let ctx = Ctx(known.unwrap_or(contexts.len()) as u8).into();
                Op::UffdUnregister { process, page, len, ctx }
            }
            Op::Ftruncate { process, file, length } => {
                let file = match file.get() {
                    File::Special => return None,
                    File::Readonly => File::Readonly,
                    which => File::ALL[usize::from(number(&mut files, which as u8).min(1))],
                };
                Op::Ftruncate { process, file: file.into(), length }
            }
            // syzkaller names what an earlier call has attached.
            Op::Shmat { page, .. } => {
                attached.push(page.get());
                *op
            }
            Op::Shmdt { page, .. } => return attached.contains(&page.get()).then_some(*op),
            Op::Fork { .. } => {
                forks += 1;
                return (forks < MAX_PROCESSES).then_some(*op);
            }
            op => op,
        })
    });
    Program { limits: Limits::default(), ops: ops.collect() }
}

#[test]
fn a_program_that_goes_to_syzkaller_and_back_is_the_same_as_far_as_syzkaller_has_it() {
    let mut round_trips = 0;
    for folder in ["seeds", "real", "faults", "review", "kernel", "kernel/outside", "cross_mm"] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(folder);
        for entry in fs::read_dir(&folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            let Ok(loaded) = vmadiff::input::load(&path) else { continue };
            let original = loaded.program;
            let text = export_syz(&original, "round-trip");
            let back = imported(&text);
            let kept = kept(&original);
            assert_eq!(back.program.to_string(), kept.to_string(), "{}\n{text}", path.display());
            // Only the files' preparation is not used.
            let calls = text.lines().filter(|line| !line.starts_with('#')).count();
            let not_used: usize = back.not_used.values().sum();
            assert!(back.not_used.keys().all(|name| ["fallocate", "ftruncate"].contains(&&**name)));
            let left_out: usize = back.left_out.values().sum();
            assert_eq!(calls, back.taken + not_used + left_out, "{}", path.display());
            let forks = "syz_clone (more children than processes)";
            assert!(back.left_out.keys().all(|what| what == forks), "{:?}", back.left_out);
            round_trips += usize::from(!kept.ops.is_empty());
        }
    }
    assert!(round_trips > 500, "{round_trips}");
}

const UNMAP: &str = "munmap(&(0x7f0000000000/0x81000)=nil, 0x81000)\n";

#[test]
fn every_way_to_write_a_call_says_the_same() {
    let one = "mprotect 0 2 1 rw\n";
    for call in [
        "mprotect(&(0x7f0000002000/0x1000)=nil, 0x1000, 0x3)",
        "mprotect(&(0x7f0000002000/0x1000)=nil, 4096, 3)",
        "mprotect(&(0x7f0000002000/0x1000)=nil, 0x1, PROT_READ|PROT_WRITE)",
        "mprotect(&(0x7f0000002000), 0x1000, 0x3)",
        "mprotect(&(0x7f0000003000-0x1000)=nil, 0x1000, 0x3)",
        "mprotect(&(0x7f0000001000+0x1000)=nil, 0x1000, 0x3,)",
        "  mprotect( &(0x7f0000002000/0x1000)=nil , 0x1000 , 0x3 ) # a comment",
        "mprotect$variant(&(0x7f0000002000/0x1000)=nil, 0x1000, 0x3) (async)",
        "r7 = mprotect(&(0x7f0000002000/0x1000)=nil, 0x1000, 0x3) (fail_nth: 5, async, rerun: 2)",
        "pkey_mprotect(&(0x7f0000002000/0x1000)=nil, 0x1000, 0x3, 0xffffffffffffffff)",
        "# {Threaded:true}\n\nmprotect(&(0x7f0000002000/0x1000)=nil, 0x1000, 0x3)\r\n",
    ] {
        assert_eq!(program(&format!("{UNMAP}{call}\n")), one, "{call}");
    }
}

#[test]
fn each_call_on_memory_becomes_its_operation() {
    for (calls, operations) in [
        (
            "mmap(&(0x7f0000003000/0x2000)=nil, 0x2000, 0x3, 0x32, 0xffffffffffffffff, 0x0)",
            "mmap 0 3 2 rw anon_private",
        ),
        (
            "mmap(&(0x7f0000003000/0x2000)=nil, 0x2000, PROT_NONE, \
             MAP_SHARED|MAP_ANONYMOUS|MAP_FIXED_NOREPLACE|MAP_LOCKED|MAP_NORESERVE, 0x0, 0x0)",
            "mmap 0 3 2 - anon_shared NORESERVE|LOCKED|FIXED_NOREPLACE",
        ),
        // Without MAP_FIXED the kernel takes a free address.
        (
            "mmap(&(0x7f0000003000/0x2000)=nil, 0x2000, 0x1, 0x22, 0xffffffffffffffff, 0x0)",
            "mmap 0 3 2 r anon_private",
        ),
        (
            "mmap(&(0x7f0000003000/0x2000)=nil, 0x2000, 0x3, 0x8032, 0xffffffffffffffff, 0x0)\n\
             mmap(&(0x7f0000006000/0x1000)=nil, 0x1000, 0x1, 0x8032, 0xffffffffffffffff, 0x0)",
            "mmap 0 3 2 rw anon_private POPULATE\nmmap 0 6 1 r anon_private POPULATE",
        ),
        (
            "r0 = memfd_create(&(0x7f0000100000)='a\\x00', 0x0)\nr1 = dup(r0)\n\
             r2 = openat(0xffffffffffffff9c, &(0x7f0000100000)='./b\\x00', 0x0, 0x0)\n\
             r3 = creat(&(0x7f0000100000)='./b\\x00', 0x0)\n\
             mmap(&(0x7f0000001000/0x1000)=nil, 0x1000, 0x3, 0x11, r1, 0x2000)\n\
             mmap(&(0x7f0000002000/0x1000)=nil, 0x1000, 0x1, 0x11, r2, 0x0)\n\
             mmap$any(&(0x7f0000003000/0x1000)=nil, 0x1000, 0x1, 0x12, r2, 0x0)\n\
             mmap(&(0x7f0000004000/0x1000)=nil, 0x1000, 0x1, 0x11, r3, 0x0)",
            "mmap 0 1 1 rw file0_shared - 2\nmmap 0 2 1 r readonly_shared\n\
             mmap 0 3 1 r file1_private\nmmap 0 4 1 r file1_shared",
        ),
        ("munmap(&(0x7f0000003000/0x2000)=nil, 0x1001)", "munmap 0 3 2"),
        (
            "r0 = shmget$private(0x0, 0x4000, 0x3c0, &(0x7f0000100000/0x4000)=nil)\n\
             r1 = shmat(r0, &(0x7f0000003000/0x4000)=nil, SHM_RDONLY|SHM_REMAP)\n\
             shmctl$IPC_RMID(r0, 0x0)\nshmdt(r1)",
            "shmat 0 3 RDONLY|REMAP\nshm_rmid 0\nshmdt 0 3",
        ),
        (
            "mremap(&(0x7f0000003000/0x2000)=nil, 0x2000, 0x1000, MREMAP_MAYMOVE|MREMAP_FIXED, \
             &(0x7f0000009000/0x1000)=nil)",
            "mremap 0 3 2 1 MAYMOVE|FIXED 9",
        ),
        ("mremap(&(0x7f0000003000/0x2000)=nil, 0x2000, 0x3000, 0x0, nil)", "mremap 0 3 2 3"),
        // The kernel rounds the old length up to pages, and here around to 0.
        (
            "mremap(&(0x7f0000003000/0x2000)=nil, 0xfffffffffffffe74, 0x1000, 0x7, \
             &(0x7f0000009000/0x1000)=nil)",
            "mremap 0 3 0 1 MAYMOVE|FIXED|DONTUNMAP 9",
        ),
        ("madvise(&(0x7f0000003000/0x2000)=nil, 0x2000, 0xa)", "madvise 0 3 2 DONTFORK"),
        ("madvise(&(0x7f0000003000/0x2000)=nil, 0x2000, MADV_FREE)", "madvise 0 3 2 FREE"),
        // mlock() takes every page of its bytes.
        ("mlock(&(0x7f0000003800/0x1000)=nil, 0x1000)", "mlock 0 3 2"),
        ("mlock2(&(0x7f0000003000/0x1000)=nil, 0x1000, 0x1)", "mlock 0 3 1 1"),
        ("munlock(&(0x7f0000003000/0x1000)=nil, 0x1000)", "munlock 0 3 1"),
        ("mlockall(0x5)", "mlockall 0 CURRENT|ONFAULT"),
        ("munlockall()", "munlockall 0"),
        ("mseal(&(0x7f0000003000/0x2000)=nil, 0x2000, 0x0)", "mseal 0 3 2"),
        ("madvise(&(0x7f0000003000/0x2000)=nil, 0x2000, 0x9)", "madvise 0 3 2 REMOVE"),
        (
            "mbind(&(0x7f0000003000/0x1000)=nil, 0x1000, MPOL_BIND, &(0x7f0000100000)=0x1, 0x40, 0x0)",
            "mbind 0 3 1 BIND",
        ),
        ("mbind(&(0x7f0000003000/0x1000)=nil, 0x1000, 0x0, 0x0, 0x0, 0x0)", "mbind 0 3 1 DEFAULT"),
        (
            "r0 = userfaultfd(0x801)\nr1 = userfaultfd(0x801)\n\
             ioctl$UFFDIO_API(r1, 0xc018aa3f, &(0x7f0000100000))\n\
             ioctl$UFFDIO_REGISTER(r1, 0xc020aa00, \
             &(0x7f0000100000)={{&(0x7f0000003000/0x1000)=nil, 0x1000}, 0x1})\n\
             ioctl$UFFDIO_REGISTER(r0, 0xc020aa00, \
             &AUTO={{&(0x7f0000005000/0x1000)=nil, 0x1000}, 0x1})\n\
             ioctl$UFFDIO_UNREGISTER(r0, 0x8010aa01, &AUTO={&(0x7f0000005000/0x1000)=nil, 0x1000})",
            "uffd_register 0 3 1\nuffd_register 0 5 1 1\nuffd_unregister 0 5 1 1",
        ),
        (
            "r0 = userfaultfd(0x801)\nioctl$UFFDIO_REGISTER(r0, 0xc020aa00, \
             &AUTO={{&(0x7f0000003000/0x1000)=nil, 0x1000}, 0x3})\n\
             ioctl$UFFDIO_REGISTER(r0, 0xc020aa00, \
             &AUTO={{&(0x7f0000005000/0x1000)=nil, 0x1000}, 0x2})",
            "uffd_register_wp 0 3 1 0 MISSING|WP\nuffd_register_wp 0 5 1",
        ),
        (
            "r0 = userfaultfd(0x801)\nioctl$UFFDIO_REGISTER(r0, 0xc020aa00, \
             &AUTO={{&(0x7f0000003000/0x2000)=nil, 0x2000}, 0x2})\n\
             ioctl$UFFDIO_WRITEPROTECT(r0, 0xc018aa06, \
             &AUTO={{&(0x7f0000003000/0x1000)=nil, 0x1000}, 0x1})\n\
             ioctl$UFFDIO_WRITEPROTECT(r0, 0xc018aa06, \
             &AUTO={{&(0x7f0000004000/0x1000)=nil, 0x1000}, 0x0})",
            "uffd_register_wp 0 3 2\nuffd_writeprotect 0 3 1\nuffd_writeprotect 0 4 1 0 -",
        ),
        (
            "getrandom(&(0x7f0000003000)=\"\"/8, 0x8, 0x0)\nr0 = memfd_create(0x0, 0x0)\n\
             write(r0, &(0x7f0000004008), 0x8)",
            "touch 0 3 1\ntouch 0 4",
        ),
        // A value is written into the data area before its call.
        (
            "munmap(&(0x7f0000003000/0x1000)=nil, 0x1000)\n\
             setsockopt(0xffffffffffffffff, 0x0, 0x0, &(0x7f0000003040)={0x1, @a={0x2}}, 0x8)",
            "munmap 0 3 1\ntouch 0 3 1",
        ),
        ("syz_clone(0x11, 0x0, 0x0, 0x0, 0x0, 0x0)\nfork()", "fork 0\nfork 0"),
        ("syz_clone3(&AUTO={0x11, 0x0, <r1=>0x0}, AUTO)", "fork 0"),
    ] {
        assert_eq!(program(&format!("{UNMAP}{calls}\n")), format!("{operations}\n"), "{calls}");
    }
}

#[test]
fn the_data_area_is_mapped_at_the_beginning_unless_the_program_unmaps_it() {
    let call = "mprotect(&(0x7f0000ffb000/0x2000)=nil, 0x2000, 0x1)\n";
    assert_eq!(program(call), "mmap 0 1 4 rwx anon_private\nmprotect 0 2 2 r\n");
    let unmap = "munmap(&(0x7f0000ff0000/0x10000)=nil, 0x10000)\n";
    assert_eq!(program(&format!("{unmap}{call}")), "mprotect 0 1 2 r\n");
    // The first and the last page of the data area have no neighbours in the data area.
    let first = "madvise(&(0x7f0000000000/0x1000)=nil, 0x1000, 0x4)\n";
    assert_eq!(program(first), "mmap 0 1 2 rwx anon_private\nmadvise 0 1 1 DONTNEED\n");
}

#[test]
fn ranges_that_are_far_apart_keep_their_order_and_what_is_adjacent_stays_so() {
    let text = "r0 = open(&(0x7f0000fff000)='./a\\x00', 0x2, 0x0)\n\
                mmap(&(0x7f0000010000/0x80000)=nil, 0x80000, 0x3, 0x12, r0, 0x300000)\n\
                mmap(&(0x7f0000090000/0x10000)=nil, 0x10000, 0x1, 0x12, r0, 0x380000)\n\
                mremap(&(0x7f0000090000/0x10000)=nil, 0x10000, 0x10000, 0x3, \
                &(0x7f0000800000/0x10000)=nil)\n";
    let imported = imported(text);
    let ops: Vec<String> = imported.program.ops.iter().map(Op::to_string).collect();
    let number = |op: usize, word: usize| -> u8 {
        ops[op].split(' ').nth(word).and_then(|word| word.parse().ok()).expect("a number")
    };
    assert_eq!(ops.len(), 4, "{ops:?}");
    let (page, len, next) = (number(1, 2), number(1, 3), number(2, 2));
    assert_eq!((page + len, number(1, 7) + len), (next, number(2, 7)), "{ops:?}");
    assert_eq!((number(3, 2), number(3, 3), number(3, 4)), (next, number(2, 3), number(2, 3)));
    assert!(number(3, 6) > next + number(2, 3), "{ops:?}");
    assert!(number(0, 2) < page && number(0, 2) + number(0, 3) > number(3, 6), "{ops:?}");
}

#[test]
fn what_is_left_out_is_counted_by_name_and_reason() {
    let text = "mmap(&(0x7f0000003000/0x1000)=nil, 0x1000, 0x3, 0x32, 0xffffffffffffffff, 0x0)\n\
        mmap(&(0x7f0000003000/0x1000)=nil, 0x1000, 0x3, 0x22, 0xffffffffffffffff, 0x0)\n\
        mmap(nil, 0x1000, 0x3, 0x22, 0xffffffffffffffff, 0x0)\n\
        mmap(&(0x7f0000003000/0x1000)=nil, 0x1000, 0x3, 0x40032, 0xffffffffffffffff, 0x0)\n\
        mmap$dsp(&(0x7f0000003000/0x1000)=nil, 0x1000, 0x3, 0x12, 0xffffffffffffffff, 0x0)\n\
        mmap(&(0x7f0000003000/0x1000)=nil, 0x1000, 0x3, 0x30, 0xffffffffffffffff, 0x0)\n\
        munmap(&(0x7f0000003004/0x1000)=nil, 0x1000)\n\
        munmap(&(0x7f0000fff000/0x2000)=nil, 0x2000)\n\
        munmap(&(0x7f0001000000/0x1000)=nil, 0x1000)\n\
        munmap(&(0x7f0000003000/0x1000)=nil, 0xffffffffffffffff)\n\
        munmap(r5, 0x1000)\n\
        mremap(&(0x7f0000003000/0x1000)=nil, 0x1000, 0x1000, 0x2, &(0x7f0000003000/0x1000)=nil)\n\
        madvise(&(0x7f0000003000/0x1000)=nil, 0x1000, 0x64)\n\
        madvise(&(0x7f0000003000/0x1000)=nil, 0x1000, MADV_HWPOISON)\n\
        mbind(&(0x7f0000003000/0x1000)=nil, 0x1000, 0x2, &(0x7f0000000000)=0x2, 0x40, 0x0)\n\
        ioctl$UFFDIO_REGISTER(0xffffffffffffffff, 0xc020aa00, \
        &AUTO={{&(0x7f0000003000/0x1000)=nil, 0x1000}, 0x1})\n\
        r9 = userfaultfd(0x801)\n\
        ioctl$UFFDIO_REGISTER(r9, 0xc020aa00, \
        &AUTO={{&(0x7f0000003000/0x1000)=nil, 0x1000}, 0x4})\n\
        syz_clone(0x111, 0x0, 0x0, 0x0, 0x0, 0x0)\n\
        getrandom(&(0x7f0000900000)=\"\"/8, 0x8, 0x0)\n\
        shmat(0x0, &(0x7f0000003000/0x1000)=nil, 0x0) (async)\nexit(0x0)\nexit(0x1)\n";
    let Import { program, taken, left_out, not_used, properties } = imported(text);
    assert_eq!(program.to_string(), "mmap 0 1 3 rwx anon_private\nmmap 0 2 1 rw anon_private\n");
    let shown = |counts: BTreeMap<String, usize>| -> Vec<String> {
        counts.into_iter().map(|(what, n)| format!("{n} {what}")).collect()
    };
    let calls = text.lines().count();
    assert_eq!(calls, taken + left_out.values().sum::<usize>() + not_used.values().sum::<usize>());
    assert_eq!(
        shown(left_out),
        [
            "1 getrandom (memory that no call changes)",
            "1 ioctl$UFFDIO_REGISTER (an unknown mode of UFFDIO_REGISTER)",
            "1 ioctl$UFFDIO_REGISTER (no userfaultfd of the program)",
            "1 madvise (advice 100)",
            "1 madvise (not understood)",
            "1 mbind (nodes other than node 0)",
            "1 mmap (MAP_HUGETLB or MAP_GROWSDOWN)",
            "2 mmap (an address that the kernel chooses)",
            "1 mmap (neither shared nor private)",
            "1 mmap$dsp (no file of the program)",
            "1 mremap (flags that are refused)",
            "1 munmap (a length that wraps around)",
            "1 munmap (a range that leaves the data area)",
            "1 munmap (an address inside a page)",
            "2 munmap (an address outside the data area)",
            "1 syz_clone (a child in the same address space)",
        ]
    );
    assert_eq!(
        (shown(not_used), shown(properties)),
        (vec!["2 exit".to_owned(), "1 shmat".into()], vec!["1 async".to_owned()],)
    );
    // A program has at most 64 operations.
    let long = "mlock(&(0x7f0000003000/0x1000)=nil, 0x1000)\n".repeat(70);
    let long = imported(&long);
    assert_eq!((long.program.ops.len(), long.taken), (64, 63));
    assert_eq!(shown(long.left_out), ["7 mlock (past 64 operations)"]);
    // A window of the arena has room for some thirty ranges that are apart.
    let apart: String = (0..60)
        .map(|n| format!("mlock(&(0x7f00000{n:02}000/0x1000)=nil, 0x1000)\n"))
        .enumerate()
        .map(|(n, line)| line.replace(&format!("{n:02}000/"), &format!("{:02x}000/", 4 * n)))
        .collect();
    let apart = imported(&apart);
    assert!((20..40).contains(&apart.taken), "{}", apart.taken);
    assert_eq!(
        apart.left_out,
        BTreeMap::from([("mlock (no room in the arena)".to_owned(), 60 - apart.taken)])
    );
}

#[test]
fn what_is_no_program_of_syzkaller_is_refused_with_the_place() {
    for (text, line, column, what) in [
        ("\nmmap 0 1 6 rw anon_private", 2, 5, "expected `(`"),
        ("r0 = ", 1, 6, "expected a call"),
        ("> munmap()", 1, 1, "expected a call"),
        ("munmap(0x1 0x2)", 1, 12, "expected `,` or `)`"),
        ("munmap(0xg)", 1, 8, "expected a number"),
        ("munmap(0x10000000000000000)", 1, 8, "expected a number"),
        ("munmap(&(0x1-0x2)=nil)", 1, 17, "64 bits"),
        ("munmap(\"é", 1, 8, "expected \" before the end"),
        ("munmap(\"\\é", 1, 8, "expected \" before the end"),
        ("é", 1, 1, "expected a call"),
        ("munmap() (", 1, 11, "a property"),
        ("munmap() munmap()", 1, 10, "the end of the line"),
    ] {
        let error = parse(text).expect_err(text);
        assert_eq!((error.line, error.column), (line, column), "{text}: {error}");
        assert!(error.what.contains(what), "{text}: {error}");
    }
    let deep: Result<_, SyzError> = parse(&format!("munmap({}", "{".repeat(1 << 20)));
    assert!(deep.expect_err("too deep").what.contains("inside more than 64"));
    // A program that is cut at any byte, or has a wrong byte, is read or refused. Nothing panics.
    let whole = "r0 = memfd_create(&(0x7f0000100000)='a\\x00', 0x0) (fail_nth: 1)\n\
                 mmap(&(0x7f0000ff1000/0xf000)=nil, 0xf000, 0x3, 0x8011, r0, 0x7000) (async)\n\
                 ioctl$UFFDIO_REGISTER(r0, 0xc020aa00, &(0x7f0000000080-0x8)={{&(0x7f0000ff2000)=nil, \
                 0xe000}, @a=0x1, [r0/2+1], ANY=[@B=\"00\"/4], <r1=>0x0})\n\
                 mremap(&(0x7f0000000000/0x1000)=nil, 0xffffffffffffffff, 0x1000000, 0x3, \
                 &(0x7f0000fff000)=nil)\n";
    for cut in 0..whole.len() {
        for byte in ["", "\\", "0", "f", "(", "\"", "é"] {
            if let Ok(calls) = parse(&format!("{}{byte}{}", &whole[..cut], &whole[cut..])) {
                import(&calls);
            }
        }
        if let Ok(calls) = parse(&whole[..cut]) {
            import(&calls);
        }
    }
}

#[test]
fn the_command_prints_the_program_and_counts_what_is_left_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let text = "mlock(&(0x7f0000001000/0x2000)=nil, 0x2000) (async)\nclose(0x0)\n";
    fs::write(folder.path().join("a.syz"), text).expect("a file");
    fs::write(folder.path().join("none.syz"), "close(0x0)\n").expect("a file");
    fs::write(folder.path().join("bad.syz"), b"munmap(\xff)").expect("a file");
    fs::write(folder.path().join("mail.syz"), "> munmap()\n").expect("a file");
    let vmadiff = |args: &[&str]| common::vmadiff(folder.path(), &[&["import-syz"], args].concat());
    let counts = "calls: 2 read = 1 taken + 0 left out + 1 not used\nnot used: 1 close\n\
                  properties not used: 1 async\n";
    let program = "# Imported from a.syz (syzkaller).\n\
                   mmap 0 1 4 rwx anon_private\nmlock 0 2 2\n";
    assert_eq!(vmadiff(&["a.syz"]), (Some(0), program.into(), counts.into()));
    let (status, _, json) = vmadiff(&["a.syz", "--json", "-o", "a.txt"]);
    assert_eq!(status, Some(0), "{json}");
    let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((&json["calls"], &json["taken"]), (&2.into(), &1.into()));
    for (args, says) in [
        (&["a.syz", "-o", "a.txt"][..], "a.txt: the file exists"),
        (&["none.syz"], "none.syz: no call maps or changes memory\ncalls: 1 read"),
        (&["bad.syz"], "bad.syz: offset 7: not text"),
        (&["mail.syz"], "mail.syz: line 1, column 1: expected a call"),
        (&["missing.syz"], "missing.syz: No such file"),
    ] {
        let (status, out, error) = vmadiff(args);
        assert_eq!((status, out), (Some(2), String::new()), "{error}");
        assert!(error.contains(says), "{error}");
    }
}
