//! The operations as calls of C.

use vmadiff_machine::operand::{
    Access, CopyFlags, File, Kind, MlockallFlags, MmapFlags, Mode, Onfault, Prot, ShmFlags,
    UffdFeatures,
};
use vmadiff_machine::{Errno, Op};

/// Returns the C name of the descriptor of the file that `kind` maps.
pub(super) fn file(kind: Kind) -> Option<&'static str> {
    match kind {
        Kind::AnonPrivate | Kind::AnonShared | Kind::Special => None,
        Kind::File0Private | Kind::File0Shared => Some("FILE0"),
        Kind::File1Private | Kind::File1Shared => Some("FILE1"),
        Kind::ReadonlyShared => Some("READONLY"),
    }
}

/// Returns the names of `given` whose condition holds, joined by `|`; `0` if no condition holds.
fn joined(given: impl IntoIterator<Item = (bool, &'static str)>) -> String {
    let names: Vec<_> = given.into_iter().filter(|(is, _)| *is).map(|(_, name)| name).collect();
    if names.is_empty() { "0".into() } else { names.join(" | ") }
}

fn prot(prot: Prot) -> String {
    if prot.is_empty() {
        return "PROT_NONE".into();
    }
    joined([
        (prot.contains(Prot::R), "PROT_READ"),
        (prot.contains(Prot::W), "PROT_WRITE"),
        (prot.contains(Prot::X), "PROT_EXEC"),
    ])
}

fn mmap_flags(kind: Kind, flags: MmapFlags) -> String {
    let private = matches!(kind, Kind::AnonPrivate | Kind::File0Private | Kind::File1Private);
    let noreplace = flags.contains(MmapFlags::FIXED_NOREPLACE);
    joined([
        (private, "MAP_PRIVATE"),
        (!private, "MAP_SHARED"),
        (matches!(kind, Kind::AnonPrivate | Kind::AnonShared), "MAP_ANONYMOUS"),
        (!noreplace, "MAP_FIXED"),
        (noreplace, "MAP_FIXED_NOREPLACE"),
        (flags.contains(MmapFlags::NORESERVE), "MAP_NORESERVE"),
        (flags.contains(MmapFlags::LOCKED), "MAP_LOCKED"),
        (flags.contains(MmapFlags::POPULATE), "MAP_POPULATE"),
    ])
}

/// Returns the call and its arguments as the initializer of an array.
pub(super) fn call(op: &Op) -> String {
    match *op {
        Op::Mmap { page, len, prot: protection, kind, flags, pgoff, .. } => {
            let kind = kind.get();
            let (fd, offset) = match file(kind) {
                Some(name) => (name, pgoff.get().offset().0),
                None => ("-1", 0),
            };
            format!(
                "SYS_mmap, PAGE({page}), PAGES({len}), {}, {}, {fd}, PAGES({offset})",
                prot(protection.get()),
                mmap_flags(kind, flags.get()),
            )
        }
        Op::Munmap { page, len, .. } => format!("SYS_munmap, PAGE({page}), PAGES({len})"),
        Op::Mprotect { page, len, prot: protection, .. } => {
            format!("SYS_mprotect, PAGE({page}), PAGES({len}), {}", prot(protection.get()))
        }
        Op::Mremap { page, old_len, new_len, flags, new_page, .. } => {
            let flags = flags.get();
            let mut call = format!("SYS_mremap, PAGE({page}), PAGES({old_len}), PAGES({new_len})");
            if flags.may_move() {
                let flags = joined([
                    (true, "MREMAP_MAYMOVE"),
                    (flags.is_fixed(), "MREMAP_FIXED"),
                    (flags.keeps_source(), "MREMAP_DONTUNMAP"),
                ]);
                call = format!("{call}, {flags}");
            }
            // The kernel reads the new address only with MREMAP_FIXED or MREMAP_DONTUNMAP.
            if flags.is_fixed() || flags.keeps_source() {
                call = format!("{call}, PAGE({new_page})");
            }
            call
        }
        Op::Madvise { page, len, advice, .. } => {
            format!("SYS_madvise, PAGE({page}), PAGES({len}), MADV_{}", advice.get().name())
        }
        Op::Mlock { page, len, onfault, .. } => {
            let flags = joined([(onfault.get() == Onfault::Yes, "MLOCK_ONFAULT")]);
            format!("SYS_mlock2, PAGE({page}), PAGES({len}), {flags}")
        }
        Op::Munlock { page, len, .. } => format!("SYS_munlock, PAGE({page}), PAGES({len})"),
        Op::Mbind { page, len, mode, .. } => {
            let mode = mode.get();
            let nodes = if mode == Mode::Default { "0, 0" } else { "(long)&node0, 64" };
            format!("SYS_mbind, PAGE({page}), PAGES({len}), MPOL_{}, {nodes}, 0", mode.name())
        }
        Op::Touch { page, access, .. } => {
            format!("TOUCH, PAGE({page}), {}", u8::from(access.get() == Access::Write))
        }
        Op::UffdRegister { page, len, ctx, .. } => {
            format!("UFFD_REGISTER, PAGE({page}), PAGES({len}), {ctx}, 1")
        }
        Op::UffdRegisterWp { page, len, ctx, mode, .. } => {
            let mode = mode.get().number();
            format!("UFFD_REGISTER, PAGE({page}), PAGES({len}), {ctx}, {mode}")
        }
        Op::UffdWriteprotect { page, len, ctx, mode, .. } => {
            let mode = mode.get().number();
            format!("UFFD_WRITEPROTECT, PAGE({page}), PAGES({len}), {ctx}, {mode}")
        }
        Op::UffdUnregister { page, len, ctx, .. } => {
            format!("UFFD_UNREGISTER, PAGE({page}), PAGES({len}), {ctx}")
        }
        Op::UffdOpen { ctx, features, .. } => {
            let features = features.get();
            let features = joined([
                (features.contains(UffdFeatures::FORK), "UFFD_FEATURE_EVENT_FORK"),
                (features.contains(UffdFeatures::REMAP), "UFFD_FEATURE_EVENT_REMAP"),
                (features.contains(UffdFeatures::REMOVE), "UFFD_FEATURE_EVENT_REMOVE"),
                (features.contains(UffdFeatures::UNMAP), "UFFD_FEATURE_EVENT_UNMAP"),
            ]);
            format!("UFFD_OPEN, {ctx}, {features}")
        }
        Op::Fork { .. } => "FORK".into(),
        Op::Exit { .. } => "EXIT".into(),
        Op::Copy { page, len, src, dst_page, flags, .. } => {
            let flags = flags.get();
            let flags = joined([
                (flags.contains(CopyFlags::FIXED), "PVMMAP_FIXED"),
                (flags.contains(CopyFlags::FIXED_NOREPLACE), "PVMMAP_FIXED_NOREPLACE"),
            ]);
            format!("COPY, {src}, PAGE({page}), PAGES({len}), PAGE({dst_page}), {flags}")
        }
        Op::Shmat { page, flags, .. } => {
            let flags = flags.get();
            let flags = joined([
                (flags.contains(ShmFlags::RDONLY), "SHM_RDONLY"),
                (flags.contains(ShmFlags::EXEC), "SHM_EXEC"),
                (flags.contains(ShmFlags::REMAP), "SHM_REMAP"),
            ]);
            format!("SYS_shmat, SEGMENT, PAGE({page}), {flags}")
        }
        Op::Shmdt { page, .. } => format!("SYS_shmdt, PAGE({page})"),
        Op::ShmRmid { .. } => "SYS_shmctl, SEGMENT, IPC_RMID".into(),
        Op::Mlockall { flags, .. } => {
            let flags = flags.get();
            let flags = joined([
                (flags.contains(MlockallFlags::CURRENT), "MCL_CURRENT"),
                (flags.contains(MlockallFlags::FUTURE), "MCL_FUTURE"),
                (flags.contains(MlockallFlags::ONFAULT), "MCL_ONFAULT"),
            ]);
            format!("SYS_mlockall, {flags}")
        }
        Op::Munlockall { .. } => "SYS_munlockall".into(),
        Op::Mseal { page, len, .. } => format!("SYS_mseal, PAGE({page}), PAGES({len}), 0"),
        Op::ClearRefs { .. } => "CLEAR_REFS".into(),
        Op::MemoryMerge { merge, .. } => format!("SYS_prctl, PR_SET_MEMORY_MERGE, {merge}"),
        Op::Prlimit { resource, max, .. } => {
            format!("PRLIMIT, RLIMIT_{}, PAGES({max})", resource.get().name())
        }
        Op::Ftruncate { file, length, .. } => {
            let name = match file.get() {
                File::File0 => "FILE0",
                File::File1 => "FILE1",
                File::Readonly => "READONLY",
                File::Special => unreachable!("the program ends before it"),
            };
            format!("SYS_ftruncate, {name}, PAGES({length})")
        }
        Op::CopyVma { .. } => unreachable!("the program ends before it"),
    }
}

/// Returns the expected result as a C expression.
pub(super) fn result(op: &Op, result: Result<u8, Errno>) -> String {
    match (op, result) {
        (Op::Mmap { .. } | Op::Mremap { .. } | Op::Copy { .. } | Op::Shmat { .. }, Ok(page)) => {
            format!("PAGE({page})")
        }
        (_, Ok(value)) => value.to_string(),
        (_, Err(Errno::SIGBUS)) => "BUS_ERROR".into(),
        // This number is internal to the kernel; the headers of user space do not have it.
        (_, Err(Errno::ENOTSUPP)) => format!("-{}", Errno::ENOTSUPP.number()),
        (_, Err(errno)) => format!("-{}", errno.name()),
    }
}
