//! `vm_flags`, with the kernel's names and its x86-64 values (`include/linux/mm.h`, 5.2).

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
        /// Writes reach the file and every other mapping of it.
        const VM_SHARED = 0x0000_0008;
        /// `mprotect` may give `VM_READ`.
        const VM_MAYREAD = 0x0000_0010;
        /// `mprotect` may give `VM_WRITE`.
        const VM_MAYWRITE = 0x0000_0020;
        /// `mprotect` may give `VM_EXEC`.
        const VM_MAYEXEC = 0x0000_0040;
        /// Mapped with `MAP_SHARED`; without `VM_SHARED` where the file is open for reading only.
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
        /// `MADV_DONTFORK`: not copied by fork.
        const VM_DONTCOPY = 0x0002_0000;
        /// `mremap` may not change its length.
        const VM_DONTEXPAND = 0x0004_0000;
        /// Locked pages are faulted in when touched, not at once.
        const VM_LOCKONFAULT = 0x0008_0000;
        /// Its pages are charged to committed memory.
        const VM_ACCOUNT = 0x0010_0000;
        /// `MAP_NORESERVE`: its pages are not charged.
        const VM_NORESERVE = 0x0020_0000;
        /// Backed by hugetlbfs.
        const VM_HUGETLB = 0x0040_0000;
        /// `MADV_WIPEONFORK`: empty in the child.
        const VM_WIPEONFORK = 0x0200_0000;
        /// `MADV_DONTDUMP`.
        const VM_DONTDUMP = 0x0400_0000;
        /// New or changed since soft-dirty was last cleared; ignored when merging.
        const VM_SOFTDIRTY = 0x0800_0000;
        /// `MADV_MERGEABLE`: KSM may merge its pages.
        const VM_MERGEABLE = 0x8000_0000;
    }
}

impl VmFlags {
    /// The three permissions.
    pub const ACCESS: VmFlags = VmFlags::VM_READ.union(VmFlags::VM_WRITE).union(VmFlags::VM_EXEC);
    /// `VM_SPECIAL`: mappings that never merge and cannot be locked.
    pub const VM_SPECIAL: VmFlags =
        VmFlags::VM_IO.union(VmFlags::VM_DONTEXPAND).union(VmFlags::VM_PFNMAP);
    /// The flags that say a userfaultfd context watches the mapping.
    pub const UFFD: VmFlags = VmFlags::VM_UFFD_MISSING.union(VmFlags::VM_UFFD_WP);
    /// The flags that say the mapping is locked.
    pub const LOCK: VmFlags = VmFlags::VM_LOCKED.union(VmFlags::VM_LOCKONFAULT);
}
