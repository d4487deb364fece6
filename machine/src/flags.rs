//! `vm_flags`, with the kernel's names and the values on x86-64 (`include/linux/mm.h`, 5.2).

use bitflags::bitflags;

bitflags! {
    /// The flags of a VMA (`vm_flags`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
    pub struct VmFlags: u32 {
        /// Pages may be read.
        const VM_READ = 0x0000_0001;
        /// Pages may be written.
        const VM_WRITE = 0x0000_0002;
        /// Pages may be executed.
        const VM_EXEC = 0x0000_0004;
        /// Writes go to the file, and every other mapping of the file shows them.
        const VM_SHARED = 0x0000_0008;
        /// `mprotect` may set `VM_READ`.
        const VM_MAYREAD = 0x0000_0010;
        /// `mprotect` may set `VM_WRITE`.
        const VM_MAYWRITE = 0x0000_0020;
        /// `mprotect` may set `VM_EXEC`.
        const VM_MAYEXEC = 0x0000_0040;
        /// Mapped with `MAP_SHARED`. `VM_SHARED` is not set if the file is open for reading only.
        const VM_MAYSHARE = 0x0000_0080;
        /// userfaultfd tracks missing pages.
        const VM_UFFD_MISSING = 0x0000_0200;
        /// Page ranges without `struct page`.
        const VM_PFNMAP = 0x0000_0400;
        /// userfaultfd tracks write-protected pages.
        const VM_UFFD_WP = 0x0000_1000;
        /// Pages are locked in memory and counted in `locked_vm`.
        const VM_LOCKED = 0x0000_2000;
        /// Memory-mapped I/O.
        const VM_IO = 0x0000_4000;
        /// `MADV_SEQUENTIAL`.
        const VM_SEQ_READ = 0x0000_8000;
        /// `MADV_RANDOM`.
        const VM_RAND_READ = 0x0001_0000;
        /// `MADV_DONTFORK`: `fork` does not copy the VMA.
        const VM_DONTCOPY = 0x0002_0000;
        /// `mremap` may not grow the mapping.
        const VM_DONTEXPAND = 0x0004_0000;
        /// Locked pages are faulted in when they are touched, not when they are locked.
        const VM_LOCKONFAULT = 0x0008_0000;
        /// The pages are charged to committed memory.
        const VM_ACCOUNT = 0x0010_0000;
        /// `MAP_NORESERVE`: the pages are not charged to committed memory.
        const VM_NORESERVE = 0x0020_0000;
        /// Backed by hugetlbfs.
        const VM_HUGETLB = 0x0040_0000;
        /// `MADV_WIPEONFORK`: the child gets the VMA without its pages.
        const VM_WIPEONFORK = 0x0200_0000;
        /// `MADV_DONTDUMP`, and memory of a device.
        const VM_DONTDUMP = 0x0400_0000;
        /// The VMA is new or changed since soft-dirty was last cleared. The merge rule ignores this
        /// flag.
        const VM_SOFTDIRTY = 0x0800_0000;
        /// `mseal()`: the VMA stays as it is. Linux 5.2.1 has no such flag, and later kernels have it above
        /// bit 31. The value here is that of `VM_MIXEDMAP`, which no mapping of a program has.
        const VM_SEALED = 0x1000_0000;
        /// `MADV_MERGEABLE`: KSM may merge the pages.
        const VM_MERGEABLE = 0x8000_0000;
    }
}

impl VmFlags {
    /// `VM_READ`, `VM_WRITE` and `VM_EXEC`.
    pub const ACCESS: VmFlags = VmFlags::VM_READ.union(VmFlags::VM_WRITE).union(VmFlags::VM_EXEC);
    /// `VM_SPECIAL`: mappings that never merge and cannot be locked.
    pub const VM_SPECIAL: VmFlags =
        VmFlags::VM_IO.union(VmFlags::VM_DONTEXPAND).union(VmFlags::VM_PFNMAP);
    /// The flags of a VMA that a userfaultfd context watches.
    pub const UFFD: VmFlags = VmFlags::VM_UFFD_MISSING.union(VmFlags::VM_UFFD_WP);
    /// The flags of a locked VMA.
    pub const LOCK: VmFlags = VmFlags::VM_LOCKED.union(VmFlags::VM_LOCKONFAULT);

    /// The names of the flags in the line `VmFlags:` of `/proc/PID/smaps`, each with its bit, in the order
    /// of the kernel's bits. Flags that no mapping of a program can have are left out. Kernels before 6.12 show `??`
    /// for `VM_LOCKONFAULT`.
    pub const SMAPS_NAMES: [(&'static str, u32); 28] = [
        ("rd", 0),
        ("wr", 1),
        ("ex", 2),
        ("sh", 3),
        ("mr", 4),
        ("mw", 5),
        ("me", 6),
        ("ms", 7),
        ("um", 9),
        ("pf", 10),
        ("uw", 12),
        ("lo", 13),
        ("io", 14),
        ("sr", 15),
        ("rr", 16),
        ("dc", 17),
        ("de", 18),
        ("lf", 19),
        ("ac", 20),
        ("nr", 21),
        ("ht", 22),
        ("wf", 25),
        ("dd", 26),
        ("sd", 27),
        // Advice on transparent huge pages. It is none of the flags that a machine knows, but `smaps`
        // shows it for ranges with that advice.
        ("hg", 29),
        ("nh", 30),
        ("mg", 31),
        // The kernel's bit is above 31.
        ("sl", 28),
    ];
}
