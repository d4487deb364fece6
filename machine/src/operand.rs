//! The operands of an operation: the values of each, and the byte that stores a value.
//!
//! An operand is one byte, and every byte is valid: [`Arg::get`] reduces the byte to the operand's
//! range. So a fuzzer may flip any bit. The byte itself is kept, so that encoding a decoded program
//! gives the same bytes.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use bitflags::bitflags;

use crate::role::Placement;

/// The largest number of processes of a program at one time. Reverse-map trees get interesting at
/// three generations of processes. Eight processes leave room for two such families.
pub const MAX_PROCESSES: usize = 8;

/// The number of pages that an operand can name: the length of the arena. Two VMAs and the holes
/// beside them fit many times. A set of all pages up to [`END_PAGES`] fits into one `u128`.
pub const ARENA_PAGES: usize = 64;

/// One past the last page that can be mapped. A range begins inside the arena and is shorter than
/// [`ARENA_PAGES`].
pub const END_PAGES: usize = 2 * ARENA_PAGES;

/// The address of page 0, in pages. An anonymous private mapping made at page `p` has the page
/// offset `ARENA_START + p` (`addr >> PAGE_SHIFT`, `do_mmap`).
pub const ARENA_START: u64 = 0x10_0000;

/// The length of each file, in pages.
pub const FILE_PAGES: u64 = 4096;

/// The length of the SysV shared memory segment of a program, in pages.
pub const SHM_PAGES: u8 = 4;

/// The values of a type of operand: [`Domain::SIZE`] values in a fixed order.
pub trait Domain: Copy + Eq + fmt::Debug + 'static {
    /// The number of values, from 1 to 256.
    const SIZE: usize;
    /// The description of a value in messages: "a page, 0 to 63".
    const EXPECTED: &'static str;
    /// Says whether the text form leaves the operand out if it is zero and the last of the line.
    /// Not set for an operand that a reader would miss.
    const OPTIONAL: bool;

    /// Returns the value at `index`, which is below [`Domain::SIZE`].
    fn nth(index: u8) -> Self;
    /// Returns the index of the value: the inverse of [`Domain::nth`].
    fn index(self) -> u8;
    /// Writes the text form.
    fn write(self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
    /// Reads the text form; returns `None` if `text` is not the text form of a value.
    fn parse(text: &str) -> Option<Self>;
    /// Returns the description of a value with a name of its own; an empty text for a number or a set
    /// of flags.
    fn describe(self) -> &'static str {
        ""
    }
}

/// An operand: a byte that is read as a value of `T`. Two operands are equal if their values are
/// equal.
#[derive(Clone, Copy)]
pub struct Arg<T> {
    byte: u8,
    domain: PhantomData<T>,
}

impl<T: Domain> Arg<T> {
    /// Returns the operand that `byte` stores. Every byte is valid.
    pub const fn from_byte(byte: u8) -> Self {
        Arg { byte, domain: PhantomData }
    }

    /// Returns the byte as it was given.
    pub const fn byte(self) -> u8 {
        self.byte
    }

    /// Returns the value that the byte stands for.
    #[inline]
    pub fn get(self) -> T {
        T::nth((usize::from(self.byte) % T::SIZE) as u8)
    }
}

impl<T: Domain> From<T> for Arg<T> {
    fn from(value: T) -> Self {
        Arg::from_byte(value.index())
    }
}

impl<T: Domain> PartialEq for Arg<T> {
    fn eq(&self, other: &Self) -> bool {
        self.get() == other.get()
    }
}

impl<T: Domain> Eq for Arg<T> {}

impl<T: Domain> Hash for Arg<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.get().index().hash(state);
    }
}

impl<T: Domain> fmt::Debug for Arg<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().fmt(f)
    }
}

impl<T: Domain> fmt::Display for Arg<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.get().write(f)
    }
}

/// Reads a decimal number, or a hexadecimal number after `0x`.
pub(crate) fn parse_number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) if !digits.starts_with(['+', '-']) => u32::from_str_radix(digits, 16).ok(),
        Some(_) => None,
        None if text.starts_with('+') => None,
        None => text.parse().ok(),
    }
}

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident: $size:expr, $optional:literal, $expected:literal;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u8);

        impl Domain for $name {
            const SIZE: usize = $size;
            const EXPECTED: &'static str = $expected;
            const OPTIONAL: bool = $optional;

            fn nth(index: u8) -> Self {
                $name(index)
            }
            fn index(self) -> u8 {
                self.0
            }
            fn write(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
            fn parse(text: &str) -> Option<Self> {
                let number = parse_number(text)?;
                ((number as usize) < Self::SIZE).then_some($name(number as u8))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    )*};
}

numbers! {
    /// The index of a process. An operation answers `ESRCH` if the process does not exist.
    Process: MAX_PROCESSES, true, "a process, 0 to 7";
    /// A page number, counted from the start of the arena: the first page of an operation's range,
    /// or an edge of a VMA. An operand is below [`ARENA_PAGES`]. An edge is at most [`END_PAGES`].
    Page: ARENA_PAGES, true, "a page, 0 to 63";
    /// The length of a range, in pages. Most calls refuse the length 0 or do nothing.
    Len: ARENA_PAGES, false, "a length in pages, 0 to 63";
    /// The length of a file, in pages.
    FileLength: 256, true, "the length of a file in pages, 0 to 255";
    /// A limit of a process, in pages. A process cannot map as many pages as the largest number.
    PageLimit: 256, false, "a limit in pages, 0 to 255";
    /// One of the two userfaultfd contexts of a process.
    Ctx: 2, true, "a userfaultfd context, 0 or 1";
}

/// A page of a file: one of the first 240, or one of the last 16 that a file can have. In the text form
/// `top` is the last of these, and `top-3` the third before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FilePage(u8);

impl FilePage {
    /// The last page of the longest file (`MAX_LFS_FILESIZE`).
    pub const TOP: u64 = (1 << 51) - 1;
    /// The number of the first pages that the operand can name.
    pub const FIRST: u8 = 240;

    /// Returns one of the first pages of a file: `page`, or the last of them.
    pub const fn first(page: u8) -> FilePage {
        FilePage(if page < Self::FIRST { page } else { Self::FIRST - 1 })
    }

    /// Returns the page at an offset in pages; `None` if the operand cannot name it.
    pub fn at(offset: u64) -> Option<FilePage> {
        (0..=u8::MAX).map(FilePage).find(|page| page.offset().0 == offset)
    }

    /// Returns the offset of the page in its file.
    pub const fn offset(self) -> PageOffset {
        PageOffset(if self.0 < Self::FIRST { self.0 as u64 } else { Self::TOP - self.before_top() })
    }

    const fn before_top(self) -> u64 {
        (u8::MAX - self.0) as u64
    }
}

impl Domain for FilePage {
    const SIZE: usize = 256;
    const EXPECTED: &'static str = "an offset into the file in pages, 0 to 239 or top-15 to top";
    const OPTIONAL: bool = true;

    fn nth(index: u8) -> Self {
        FilePage(index)
    }
    fn index(self) -> u8 {
        self.0
    }
    fn write(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.before_top() {
            _ if self.0 < Self::FIRST => write!(f, "{}", self.0),
            0 => f.write_str("top"),
            before => write!(f, "top-{before}"),
        }
    }
    fn parse(text: &str) -> Option<Self> {
        let below = |number: u32, end: u8| u8::try_from(number).ok().filter(|n| *n < end);
        match text.strip_prefix("top") {
            Some("") => Some(FilePage(u8::MAX)),
            Some(before) => {
                let before = parse_number(before.strip_prefix('-')?)?;
                Some(FilePage(u8::MAX - below(before, u8::MAX - Self::FIRST + 1)?))
            }
            None => below(parse_number(text)?, Self::FIRST).map(FilePage),
        }
    }
}

impl Page {
    /// Returns the page that is `len` pages after this one.
    #[inline]
    pub const fn plus(self, len: Len) -> Page {
        Page(self.0 + len.0)
    }

    /// Returns the page offset of an anonymous private mapping that is made at this page.
    #[inline]
    pub const fn linear_offset(self) -> PageOffset {
        PageOffset(ARENA_START + self.0 as u64)
    }
}

/// A page offset (`vm_pgoff`) of the first page of a VMA. For a file this is the offset into the
/// file, in pages. For anonymous private memory this is the address of the page, in pages, at which
/// it was first mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageOffset(pub u64);

impl PageOffset {
    /// Returns the offset that is `pages` pages after this one, modulo 2^64.
    #[inline]
    pub const fn plus(self, pages: u8) -> PageOffset {
        PageOffset(self.0.wrapping_add(pages as u64))
    }
}

impl fmt::Display for PageOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Offsets of anonymous memory are in this range. A larger offset can only be a wrapped one.
        if (ARENA_START..2 * ARENA_START).contains(&self.0) {
            write!(f, "@{}", self.0 - ARENA_START)
        } else {
            write!(f, "{}", self.0)
        }
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $type:ident: $optional:literal, $expected:literal {
        $($(#[doc = $vdoc:literal])* $variant:ident = $number:literal $text:literal,)*
    })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $type { $($(#[doc = $vdoc])* $variant,)* }

        impl $type {
            /// Every value, in the order of the bytes.
            pub const ALL: &'static [$type] = &[$($type::$variant,)*];
            const NAMES: &'static [&'static str] = &[$($text,)*];
            const NUMBERS: &'static [u32] = &[$($number,)*];

            /// Returns the kernel's number of the value.
            pub const fn number(self) -> u32 {
                Self::NUMBERS[self as usize]
            }

            /// Returns the value's name in the text form.
            pub const fn name(self) -> &'static str {
                Self::NAMES[self as usize]
            }
        }

        impl Domain for $type {
            const SIZE: usize = Self::ALL.len();
            const EXPECTED: &'static str = $expected;
            const OPTIONAL: bool = $optional;

            #[inline]
            fn nth(index: u8) -> Self {
                Self::ALL[usize::from(index)]
            }
            fn index(self) -> u8 {
                self as u8
            }
            fn write(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.name())
            }
            fn describe(self) -> &'static str {
                match self { $($type::$variant => concat!($($vdoc),*),)* }
            }
            fn parse(text: &str) -> Option<Self> {
                let at = Self::NAMES.iter().position(|name| *name == text).or_else(|| {
                    let number = parse_number(text)?;
                    Self::NUMBERS.iter().position(|n| *n == number)
                })?;
                Some(Self::ALL[at])
            }
        }
    )*};
}

names! {
    /// The kind of memory that `mmap` maps.
    Kind: false, "a kind: anon_private, anon_shared, file0_private, file0_shared, file1_private, file1_shared, readonly_shared or special" {
        /// `MAP_PRIVATE | MAP_ANONYMOUS`.
        AnonPrivate = 0 "anon_private",
        /// `MAP_SHARED | MAP_ANONYMOUS`: a new shmem object as long as the mapping.
        AnonShared = 1 "anon_shared",
        /// `MAP_PRIVATE` of the first memfd.
        File0Private = 2 "file0_private",
        /// `MAP_SHARED` of the first memfd.
        File0Shared = 3 "file0_shared",
        /// `MAP_PRIVATE` of the second memfd.
        File1Private = 4 "file1_private",
        /// `MAP_SHARED` of the second memfd.
        File1Shared = 5 "file1_shared",
        /// `MAP_SHARED` of a third memfd, opened for reading only: `VM_MAYSHARE` without
        /// `VM_SHARED` and without `VM_MAYWRITE`.
        ReadonlyShared = 6 "readonly_shared",
        /// `MAP_SHARED` of a device that maps all its pages at once by `remap_pfn_range()`: `VM_IO |
        /// VM_PFNMAP | VM_DONTEXPAND | VM_DONTDUMP`, with a `vm_ops->close` handler.
        Special = 7 "special",
    }
    /// The advice of `madvise`, by the kernel's names and numbers.
    Advice: false, "an advice, such as DONTFORK" {
        /// Clears `VM_RAND_READ` and `VM_SEQ_READ`.
        Normal = 0 "NORMAL",
        /// Sets `VM_RAND_READ`.
        Random = 1 "RANDOM",
        /// Sets `VM_SEQ_READ`.
        Sequential = 2 "SEQUENTIAL",
        /// Reads ahead. Changes nothing in observations.
        Willneed = 3 "WILLNEED",
        /// Drops the pages.
        Dontneed = 4 "DONTNEED",
        /// Allows the kernel to drop anonymous pages under memory pressure, which never occurs.
        Free = 8 "FREE",
        /// Sets `VM_DONTCOPY`.
        Dontfork = 10 "DONTFORK",
        /// Clears `VM_DONTCOPY`.
        Dofork = 11 "DOFORK",
        /// Sets `VM_MERGEABLE` if KSM accepts the mapping.
        Mergeable = 12 "MERGEABLE",
        /// Clears `VM_MERGEABLE`.
        Unmergeable = 13 "UNMERGEABLE",
        /// Refused: the recorded kernels have no transparent huge pages.
        Hugepage = 14 "HUGEPAGE",
        /// Refused: the recorded kernels have no transparent huge pages.
        Nohugepage = 15 "NOHUGEPAGE",
        /// Sets `VM_DONTDUMP`.
        Dontdump = 16 "DONTDUMP",
        /// Clears `VM_DONTDUMP`.
        Dodump = 17 "DODUMP",
        /// Sets `VM_WIPEONFORK`.
        Wipeonfork = 18 "WIPEONFORK",
        /// Clears `VM_WIPEONFORK`.
        Keeponfork = 19 "KEEPONFORK",
        /// Allows the kernel to reclaim the pages first. Linux 5.2.1 refuses it; since 5.4.
        Cold = 20 "COLD",
        /// Reclaims the pages. Linux 5.2.1 refuses it; since 5.4.
        Pageout = 21 "PAGEOUT",
        /// Faults all pages in for reading. Linux 5.2.1 refuses it; since 5.14.
        PopulateRead = 22 "POPULATE_READ",
        /// Faults all pages in for writing. Linux 5.2.1 refuses it; since 5.14.
        PopulateWrite = 23 "POPULATE_WRITE",
        /// Drops the pages, of locked memory as well. Linux 5.2.1 refuses it; since 5.18.
        DontneedLocked = 24 "DONTNEED_LOCKED",
        /// Removes the pages from the file that is mapped: every process then finds new pages there.
        Remove = 9 "REMOVE",
    }
    /// The file of `ftruncate`.
    File: false, "a file: file0, file1, readonly or special" {
        /// The first memfd.
        File0 = 0 "file0",
        /// The second memfd.
        File1 = 1 "file1",
        /// The third memfd, which is open for reading only: refused.
        Readonly = 2 "readonly",
        /// The device: refused.
        Special = 3 "special",
    }
    /// The resource that `prlimit` limits.
    Resource: false, "a resource: AS or MEMLOCK" {
        /// `RLIMIT_AS`: the pages that the process has mapped.
        As = 9 "AS",
        /// `RLIMIT_MEMLOCK`: the pages that the process has locked. Without the limit `lock` of the program
        /// the process has `CAP_IPC_LOCK`, and the limit does not hold.
        Memlock = 8 "MEMLOCK",
    }
    /// The mode of `mbind`. The node is always node 0.
    Mode: false, "a memory policy: DEFAULT, PREFERRED, BIND or INTERLEAVE" {
        /// `MPOL_DEFAULT`: the VMA has no policy of its own.
        Default = 0 "DEFAULT",
        /// `MPOL_PREFERRED`.
        Preferred = 1 "PREFERRED",
        /// `MPOL_BIND`.
        Bind = 2 "BIND",
        /// `MPOL_INTERLEAVE`.
        Interleave = 3 "INTERLEAVE",
    }
    /// The flags of `mremap`. `MREMAP_FIXED` and `MREMAP_DONTUNMAP` without `MREMAP_MAYMOVE` are
    /// left out, because every kernel refuses them. New combinations are added at the end, so that
    /// the bytes of stored programs keep their meaning.
    MremapFlags: true, "mremap flags: -, MAYMOVE, MAYMOVE|FIXED, MAYMOVE|DONTUNMAP or MAYMOVE|FIXED|DONTUNMAP" {
        /// No flags: resize in place or fail.
        InPlace = 0 "-",
        /// `MREMAP_MAYMOVE | MREMAP_FIXED`: move to the given page.
        MaymoveFixed = 3 "MAYMOVE|FIXED",
        /// `MREMAP_MAYMOVE`: resize in place, or move to a page that the kernel chooses.
        Maymove = 1 "MAYMOVE",
        /// `MREMAP_MAYMOVE | MREMAP_DONTUNMAP`: move the pages to the given page if it is free,
        /// otherwise to a page that the kernel chooses. The old mapping stays, without pages. Linux
        /// 5.2.1 refuses `MREMAP_DONTUNMAP`, which Linux 5.7 introduced.
        MaymoveDontunmap = 5 "MAYMOVE|DONTUNMAP",
        /// `MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP`: move the pages to the given page.
        /// The old mapping stays, without pages.
        MaymoveFixedDontunmap = 7 "MAYMOVE|FIXED|DONTUNMAP",
    }
    /// The flag `MLOCK_ONFAULT` of `mlock2`.
    Onfault: true, "0, or 1 for MLOCK_ONFAULT" {
        /// Lock and populate.
        No = 0 "0",
        /// `MLOCK_ONFAULT`: lock pages when they are touched.
        Yes = 1 "1",
    }
    /// The argument of `PR_SET_MEMORY_MERGE`.
    MemoryMerge: false, "0, or 1 to mark mappings" {
        /// Removes the mark of every mapping, and marks no new one.
        Off = 0 "0",
        /// Marks every mapping that KSM takes (`VM_MERGEABLE`), and every new one.
        On = 1 "1",
    }
    /// The mode of `uffd_register_wp` (`UFFDIO_REGISTER_MODE_…`).
    UffdMode: true, "a mode: WP or MISSING|WP" {
        /// `UFFDIO_REGISTER_MODE_WP`: the context watches write-protected pages.
        Wp = 2 "WP",
        /// `UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP`: the context watches missing pages as well.
        MissingWp = 3 "MISSING|WP",
    }
    /// The mode of `uffd_writeprotect` (`UFFDIO_WRITEPROTECT_MODE_…`).
    WriteprotectMode: true, "a mode: WP, or - to remove the protection" {
        /// `UFFDIO_WRITEPROTECT_MODE_WP`: protects the pages.
        Wp = 1 "WP",
        /// 0: removes the protection.
        None = 0 "-",
    }
    /// The access of `touch`.
    Access: true, "0 to read or 1 to write" {
        /// Reads one byte.
        Read = 0 "0",
        /// Writes one byte.
        Write = 1 "1",
    }
    /// The `clear_flags_ctx` argument of the extended `copy_vma()`.
    ClearFlagsCtx: true, "clear_flags_ctx, 0 or 1" {
        /// `false`: the flags and the userfaultfd context are copied.
        Keep = 0 "0",
        /// `true`: the userfaultfd context and the flags of the clear mask are dropped.
        Clear = 1 "1",
    }
}

impl Mode {
    /// Returns the name of the policy in `/proc/PID/numa_maps`.
    pub const fn numa_maps_name(self) -> &'static str {
        match self {
            Mode::Default => "default",
            Mode::Preferred => "prefer",
            Mode::Bind => "bind",
            Mode::Interleave => "interleave",
        }
    }
}

impl MremapFlags {
    /// Returns whether `MREMAP_MAYMOVE` is given.
    pub const fn may_move(self) -> bool {
        !matches!(self, MremapFlags::InPlace)
    }

    /// Returns whether `MREMAP_FIXED` is given.
    pub const fn is_fixed(self) -> bool {
        matches!(self, MremapFlags::MaymoveFixed | MremapFlags::MaymoveFixedDontunmap)
    }

    /// Returns whether `MREMAP_DONTUNMAP` is given.
    pub const fn keeps_source(self) -> bool {
        matches!(self, MremapFlags::MaymoveDontunmap | MremapFlags::MaymoveFixedDontunmap)
    }

    /// Returns the place to which the mapping goes.
    pub const fn placement(self) -> Placement {
        match self {
            MremapFlags::InPlace => Placement::InPlace,
            MremapFlags::Maymove => Placement::InPlaceOrChosen,
            MremapFlags::MaymoveDontunmap => Placement::Hint,
            MremapFlags::MaymoveFixed | MremapFlags::MaymoveFixedDontunmap => Placement::Given,
        }
    }
}

bitflags! {
    /// A protection: any of `PROT_READ`, `PROT_WRITE`, `PROT_EXEC`, with the kernel's values.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct Prot: u8 {
        /// `PROT_READ`.
        const R = 1;
        /// `PROT_WRITE`.
        const W = 2;
        /// `PROT_EXEC`.
        const X = 4;
    }

    /// The flags of `mmap` in addition to `MAP_FIXED`, with the numbers of the golden traces, which
    /// have no `MAP_POPULATE`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct MmapFlags: u8 {
        /// `MAP_NORESERVE`.
        const NORESERVE = 1;
        /// `MAP_LOCKED`.
        const LOCKED = 2;
        /// `MAP_FIXED_NOREPLACE` instead of `MAP_FIXED`.
        const FIXED_NOREPLACE = 4;
        /// `MAP_POPULATE`: faults all pages in, and ignores errors.
        const POPULATE = 8;
    }

    /// The flags of `mlockall` (`MCL_…`), with the kernel's values. `-` and `ONFAULT` alone are refused.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct MlockallFlags: u8 {
        /// `MCL_CURRENT`: locks and populates every mapping that there is.
        const CURRENT = 1;
        /// `MCL_FUTURE`: locks every mapping that the process makes later.
        const FUTURE = 2;
        /// `MCL_ONFAULT`: locks pages when they are touched.
        const ONFAULT = 4;
    }

    /// The event features of a userfaultfd context (`UFFD_FEATURE_EVENT_…`): the calls of which the monitor of
    /// the context gets a message. The bits are numbered anew.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct UffdFeatures: u8 {
        /// `UFFD_FEATURE_EVENT_FORK`: a child has a context of its own, which watches what the context
        /// watches in the parent.
        const FORK = 1;
        /// `UFFD_FEATURE_EVENT_REMAP`: memory that `mremap` moves is still watched.
        const REMAP = 2;
        /// `UFFD_FEATURE_EVENT_REMOVE`: `madvise` drops pages.
        const REMOVE = 4;
        /// `UFFD_FEATURE_EVENT_UNMAP`: memory is unmapped.
        const UNMAP = 8;
    }

    /// The flags of `process_vm_mmap` (`PVMMAP_…`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct CopyFlags: u8 {
        /// `PVMMAP_FIXED`: the copy goes to the given page. Without a flag, the page is a hint.
        const FIXED = 1;
        /// `PVMMAP_FIXED_NOREPLACE`: the copy goes to the given page, and is refused if something
        /// is mapped there.
        const FIXED_NOREPLACE = 2;
    }

    /// The flags of `shmat` (`SHM_…`). The bits are numbered anew; the kernel's are 010000 and above.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct ShmFlags: u8 {
        /// `SHM_RDONLY`: the segment is mapped for reading only.
        const RDONLY = 1;
        /// `SHM_EXEC`: the segment is mapped for execution as well.
        const EXEC = 2;
        /// `SHM_REMAP`: existing mappings are replaced. Without it they make the call fail.
        const REMAP = 4;
    }
}

macro_rules! flag_domain {
    ($($type:ident: $bits:literal, $expected:literal;)*) => {$(
        impl Domain for $type {
            const SIZE: usize = 1 << $bits;
            const EXPECTED: &'static str = $expected;
            const OPTIONAL: bool = true;

            fn nth(index: u8) -> Self {
                $type::from_bits_truncate(index)
            }
            fn index(self) -> u8 {
                self.bits()
            }
            fn write(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                if self.is_empty() {
                    return f.write_str("-");
                }
                for (n, (name, _)) in self.iter_names().enumerate() {
                    f.write_str(if n == 0 { "" } else { "|" })?;
                    f.write_str(name)?;
                }
                Ok(())
            }
            fn parse(text: &str) -> Option<Self> {
                if text == "-" {
                    return Some($type::empty());
                }
                if let Some(number) = parse_number(text) {
                    return $type::from_bits(u8::try_from(number).ok()?);
                }
                text.split('|').try_fold($type::empty(), |all, name| {
                    Some(all | $type::from_name(name)?)
                })
            }
        }
    )*};
}

flag_domain! {
    MmapFlags: 4, "mmap flags: - or any of NORESERVE, LOCKED, FIXED_NOREPLACE, POPULATE, joined by |";
    MlockallFlags: 3, "mlockall flags: - or any of CURRENT, FUTURE, ONFAULT, joined by |";
    UffdFeatures: 4, "userfaultfd features: - or any of FORK, REMAP, REMOVE, UNMAP, joined by |";
    CopyFlags: 2, "copy flags: - or any of FIXED, FIXED_NOREPLACE, joined by |";
    ShmFlags: 3, "shmat flags: - or any of RDONLY, EXEC, REMAP, joined by |";
}

impl Domain for Prot {
    const SIZE: usize = 8;
    const EXPECTED: &'static str = "a protection: - or letters of rwx, in that order";
    const OPTIONAL: bool = false;

    fn nth(index: u8) -> Self {
        Prot::from_bits_truncate(index)
    }
    fn index(self) -> u8 {
        self.bits()
    }
    fn write(self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("-");
        }
        for (letter, bit) in [("r", Prot::R), ("w", Prot::W), ("x", Prot::X)] {
            f.write_str(if self.contains(bit) { letter } else { "" })?;
        }
        Ok(())
    }
    fn parse(text: &str) -> Option<Self> {
        // A search of eight texts is fast enough.
        const TEXTS: [&str; 8] = ["-", "r", "w", "rw", "x", "rx", "wx", "rwx"];
        let bits = TEXTS
            .iter()
            .position(|t| *t == text)
            .or_else(|| parse_number(text).map(|n| n as usize).filter(|n| *n < TEXTS.len()))?;
        Some(Prot::from_bits_truncate(bits as u8))
    }
}
