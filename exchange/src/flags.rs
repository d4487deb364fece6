//! The names and the values of the flags that calls have, as on x86-64.

/// A flag: its name and its value.
pub(crate) type Flag = (&'static str, u64);

pub(crate) const MAP_SHARED: u64 = 0x1;
pub(crate) const MAP_PRIVATE: u64 = 0x2;
/// The bits of the type of a mapping: `MAP_SHARED`, `MAP_PRIVATE` or `MAP_SHARED_VALIDATE`.
pub(crate) const MAP_TYPE: u64 = 0xf;
pub(crate) const MAP_FIXED: u64 = 0x10;
pub(crate) const MAP_ANONYMOUS: u64 = 0x20;
pub(crate) const MAP_GROWSDOWN: u64 = 0x100;
pub(crate) const MAP_LOCKED: u64 = 0x2000;
pub(crate) const MAP_NORESERVE: u64 = 0x4000;
pub(crate) const MAP_POPULATE: u64 = 0x8000;
pub(crate) const MAP_NONBLOCK: u64 = 0x1_0000;
pub(crate) const MAP_HUGETLB: u64 = 0x4_0000;
pub(crate) const MAP_FIXED_NOREPLACE: u64 = 0x10_0000;
pub(crate) const SHM_RDONLY: u64 = 0o10000;
pub(crate) const SHM_REMAP: u64 = 0o40000;
pub(crate) const SHM_EXEC: u64 = 0o100000;
pub(crate) const MREMAP_DONTUNMAP: u64 = 4;
pub(crate) const MLOCK_ONFAULT: u64 = 1;
pub(crate) const CLONE_VM: u64 = 0x100;
pub(crate) const CLONE_THREAD: u64 = 0x1_0000;

/// The flags of `mmap()`.
pub(crate) const MAP: &[Flag] = &[
    ("MAP_FILE", 0),
    ("MAP_SHARED", MAP_SHARED),
    ("MAP_PRIVATE", MAP_PRIVATE),
    ("MAP_SHARED_VALIDATE", 0x3),
    ("MAP_FIXED", MAP_FIXED),
    ("MAP_ANONYMOUS", MAP_ANONYMOUS),
    ("MAP_32BIT", 0x40),
    ("MAP_GROWSDOWN", MAP_GROWSDOWN),
    ("MAP_DENYWRITE", 0x800),
    ("MAP_EXECUTABLE", 0x1000),
    ("MAP_LOCKED", MAP_LOCKED),
    ("MAP_NORESERVE", MAP_NORESERVE),
    ("MAP_POPULATE", MAP_POPULATE),
    ("MAP_NONBLOCK", MAP_NONBLOCK),
    ("MAP_STACK", 0x2_0000),
    ("MAP_HUGETLB", MAP_HUGETLB),
    ("MAP_SYNC", 0x8_0000),
    ("MAP_FIXED_NOREPLACE", MAP_FIXED_NOREPLACE),
];

/// The flags of `mremap()`.
pub(crate) const MREMAP: &[Flag] =
    &[("MREMAP_MAYMOVE", 1), ("MREMAP_FIXED", 2), ("MREMAP_DONTUNMAP", MREMAP_DONTUNMAP)];

/// The flags of `shmat()`.
pub(crate) const SHM: &[Flag] = &[
    ("SHM_RDONLY", SHM_RDONLY),
    ("SHM_RND", 0o20000),
    ("SHM_REMAP", SHM_REMAP),
    ("SHM_EXEC", SHM_EXEC),
];

/// The protections of a mapping. The last three are no protections of
/// [`Prot`](vmadiff_machine::operand::Prot).
pub(crate) const PROT: &[Flag] = &[
    ("PROT_NONE", 0),
    ("PROT_READ", 1),
    ("PROT_WRITE", 2),
    ("PROT_EXEC", 4),
    ("PROT_SEM", 8),
    ("PROT_GROWSDOWN", 0x0100_0000),
    ("PROT_GROWSUP", 0x0200_0000),
];

/// The flags of `clone()`.
pub(crate) const CLONE: &[Flag] = &[("CLONE_VM", CLONE_VM), ("CLONE_THREAD", CLONE_THREAD)];

/// The flags of `mlock2()`.
pub(crate) const MLOCK: &[Flag] = &[("MLOCK_ONFAULT", MLOCK_ONFAULT)];

/// The flags of `mlockall()`.
pub(crate) const MCL: &[Flag] = &[("MCL_CURRENT", 1), ("MCL_FUTURE", 2), ("MCL_ONFAULT", 4)];

/// The resources of `prlimit()` that are memory.
pub(crate) const RLIMIT: &[Flag] = &[("RLIMIT_MEMLOCK", 8), ("RLIMIT_AS", 9)];

/// Returns the value of the flag with this name.
pub(crate) fn value(flags: &[Flag], name: &str) -> Option<u64> {
    flags.iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
}
