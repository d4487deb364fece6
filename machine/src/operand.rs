//! The operands of an operation: what they range over, and the byte each is stored in.
//!
//! An operand is one byte, and every byte means something: it is reduced to the operand's range
//! where it is read ([`Arg::get`]). The byte itself is kept, so that encoding a decoded program
//! gives the same bytes, and a fuzzer that flips bits is never refused for it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use bitflags::bitflags;

use crate::role::Placement;

/// Processes a program may have at one time. Reverse-map trees get interesting at three
/// generations; eight leaves room for two families.
pub const MAX_PROCESSES: usize = 8;

/// Pages an operand can name: the arena. Two VMAs and the holes beside them fit many times over,
/// and a set of pages with what runs past its end ([`END_PAGES`]) is one `u128`.
pub const ARENA_PAGES: usize = 64;

/// One past the last page that can ever be mapped: a range begins inside the arena and is less
/// than [`ARENA_PAGES`] long.
pub const END_PAGES: usize = 2 * ARENA_PAGES;

/// The address of page 0, in pages: an anonymous private mapping made at page `p` has this plus
/// `p` as its page offset (`addr >> PAGE_SHIFT`, `do_mmap`).
pub const ARENA_START: u64 = 0x10_0000;

/// The length of each file, in pages.
pub const FILE_PAGES: u64 = 4096;

/// A value an operand byte stands for: one of [`Domain::SIZE`] in a fixed order.
pub trait Domain: Copy + Eq + fmt::Debug + 'static {
    /// How many values there are; at least 1, at most 256.
    const SIZE: usize;
    /// What messages call one: "a page, 0 to 63".
    const EXPECTED: &'static str;
    /// Whether the text form may leave out a trailing zero: not where a reader would miss it.
    const OPTIONAL: bool;

    /// The value at `index`, which is below [`Domain::SIZE`].
    fn nth(index: u8) -> Self;
    /// The inverse of [`Domain::nth`].
    fn index(self) -> u8;
    /// Writes the text form.
    fn write(self, f: &mut fmt::Formatter<'_>) -> fmt::Result;
    /// Reads the text form; `None` where it is not one.
    fn parse(text: &str) -> Option<Self>;
}

/// An operand: a byte, read as one of `T`'s values. Two are equal if they mean the same.
#[derive(Clone, Copy)]
pub struct Arg<T> {
    byte: u8,
    domain: PhantomData<T>,
}

impl<T: Domain> Arg<T> {
    /// The operand stored in `byte`; every byte is one.
    pub const fn from_byte(byte: u8) -> Self {
        Arg { byte, domain: PhantomData }
    }

    /// The byte, as it was given.
    pub const fn byte(self) -> u8 {
        self.byte
    }

    /// What the byte means.
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

/// A decimal or `0x` number.
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
    /// The index of a process. An operation of a process that is not there answers `ESRCH`.
    Process: MAX_PROCESSES, true, "a process, 0 to 7";
    /// A page number, counted from the start of the arena: where an operation's range begins, or
    /// an edge of a VMA. As an operand below [`ARENA_PAGES`]; an edge may be up to [`END_PAGES`].
    Page: ARENA_PAGES, true, "a page, 0 to 63";
    /// The length of a range, in pages; zero is a length that most calls refuse.
    Len: ARENA_PAGES, false, "a length in pages, 0 to 63";
    /// An offset into a file, in pages.
    FilePage: 256, true, "an offset into the file in pages, 0 to 255";
    /// One of the two userfaultfd contexts of a process.
    Ctx: 2, true, "a userfaultfd context, 0 or 1";
}

impl Page {
    /// The page `len` pages on.
    #[inline]
    pub const fn plus(self, len: Len) -> Page {
        Page(self.0 + len.0)
    }

    /// The page offset of an anonymous private mapping that starts here.
    #[inline]
    pub const fn linear_offset(self) -> PageOffset {
        PageOffset(ARENA_START + self.0 as u64)
    }
}

/// A page offset (`vm_pgoff`): the page of the file, or for anonymous private memory of the
/// address space it was first mapped in, that a VMA's first page shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PageOffset(pub u64);

impl PageOffset {
    /// The offset `pages` on.
    #[inline]
    pub const fn plus(self, pages: u8) -> PageOffset {
        PageOffset(self.0.wrapping_add(pages as u64))
    }
}

impl fmt::Display for PageOffset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As far as an arena could reach; what lies beyond is no page's offset, but a wrapped one.
        if (ARENA_START..2 * ARENA_START).contains(&self.0) {
            write!(f, "@{}", self.0 - ARENA_START)
        } else {
            write!(f, "{}", self.0)
        }
    }
}

macro_rules! names {
    ($($(#[$doc:meta])* $type:ident: $optional:literal, $expected:literal {
        $($(#[$vdoc:meta])* $variant:ident = $number:literal $text:literal,)*
    })*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $type { $($(#[$vdoc])* $variant,)* }

        impl $type {
            /// Every value, in the order of their bytes.
            pub const ALL: &'static [$type] = &[$($type::$variant,)*];
            const NAMES: &'static [&'static str] = &[$($text,)*];
            const NUMBERS: &'static [u32] = &[$($number,)*];

            /// The kernel's number for it.
            pub const fn number(self) -> u32 {
                Self::NUMBERS[self as usize]
            }

            /// Its name in the text form.
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
    /// What `mmap` maps.
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
        /// `MAP_SHARED` of a device that maps all its pages at once and wants to be told when a
        /// mapping goes: `VM_IO | VM_PFNMAP | VM_DONTEXPAND`, and `vm_ops->close` exists.
        Special = 7 "special",
    }
    /// The advice of `madvise`, by the kernel's names and numbers.
    Advice: false, "an advice, such as DONTFORK" {
        /// Undoes `RANDOM` and `SEQUENTIAL`.
        Normal = 0 "NORMAL",
        /// Sets `VM_RAND_READ`.
        Random = 1 "RANDOM",
        /// Sets `VM_SEQ_READ`.
        Sequential = 2 "SEQUENTIAL",
        /// Reads ahead; changes nothing that is observed.
        Willneed = 3 "WILLNEED",
        /// Drops the pages.
        Dontneed = 4 "DONTNEED",
        /// Lets anonymous pages go under memory pressure, of which there is none.
        Free = 8 "FREE",
        /// Sets `VM_DONTCOPY`.
        Dontfork = 10 "DONTFORK",
        /// Clears `VM_DONTCOPY`.
        Dofork = 11 "DOFORK",
        /// Sets `VM_MERGEABLE` where KSM takes the mapping.
        Mergeable = 12 "MERGEABLE",
        /// Clears `VM_MERGEABLE`.
        Unmergeable = 13 "UNMERGEABLE",
        /// Refused: the kernels recorded have no transparent huge pages.
        Hugepage = 14 "HUGEPAGE",
        /// Refused, likewise.
        Nohugepage = 15 "NOHUGEPAGE",
        /// Sets `VM_DONTDUMP`.
        Dontdump = 16 "DONTDUMP",
        /// Clears `VM_DONTDUMP`.
        Dodump = 17 "DODUMP",
        /// Sets `VM_WIPEONFORK`.
        Wipeonfork = 18 "WIPEONFORK",
        /// Clears `VM_WIPEONFORK`.
        Keeponfork = 19 "KEEPONFORK",
    }
    /// The mode of `mbind`, always on node 0.
    Mode: false, "a memory policy: DEFAULT, PREFERRED, BIND or INTERLEAVE" {
        /// No policy of its own.
        Default = 0 "DEFAULT",
        /// `MPOL_PREFERRED`.
        Preferred = 1 "PREFERRED",
        /// `MPOL_BIND`.
        Bind = 2 "BIND",
        /// `MPOL_INTERLEAVE`.
        Interleave = 3 "INTERLEAVE",
    }
    /// The flags of `mremap`. `MREMAP_FIXED` and `MREMAP_DONTUNMAP` without `MREMAP_MAYMOVE`, which
    /// every kernel refuses, are left out. New combinations are added at the end, so that the bytes
    /// of stored programs keep their meaning.
    MremapFlags: true, "mremap flags: -, MAYMOVE, MAYMOVE|FIXED, MAYMOVE|DONTUNMAP or MAYMOVE|FIXED|DONTUNMAP" {
        /// Resize in place or fail.
        InPlace = 0 "-",
        /// `MREMAP_MAYMOVE | MREMAP_FIXED`: move to the page given.
        MaymoveFixed = 3 "MAYMOVE|FIXED",
        /// `MREMAP_MAYMOVE`: resize in place, or move to where the kernel chooses.
        Maymove = 1 "MAYMOVE",
        /// `MREMAP_MAYMOVE | MREMAP_DONTUNMAP`: move the pages to the page given if that is free,
        /// otherwise to where the kernel chooses, and keep the old mapping, without pages. Linux
        /// 5.2.1 refuses `MREMAP_DONTUNMAP`, which is of Linux 5.7.
        MaymoveDontunmap = 5 "MAYMOVE|DONTUNMAP",
        /// `MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP`: the same, always to the page given.
        MaymoveFixedDontunmap = 7 "MAYMOVE|FIXED|DONTUNMAP",
    }
    /// Whether `mlock2` has `MLOCK_ONFAULT`.
    Onfault: true, "0, or 1 for MLOCK_ONFAULT" {
        /// Lock and populate.
        No = 0 "0",
        /// `MLOCK_ONFAULT`: lock pages when they are touched.
        Yes = 1 "1",
    }
    /// What `touch` does.
    Access: true, "0 to read or 1 to write" {
        /// Reads one byte.
        Read = 0 "0",
        /// Writes one byte.
        Write = 1 "1",
    }
    /// The `clear_flags_ctx` argument of the extended `copy_vma()`.
    ClearFlagsCtx: true, "clear_flags_ctx, 0 or 1" {
        /// `false`: flags and userfaultfd context are copied.
        Keep = 0 "0",
        /// `true`: the flags of the mask and the context are dropped.
        Clear = 1 "1",
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

    /// The place to which the mapping goes.
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

    /// The flags of `mmap` beside `MAP_FIXED`, by the numbers of the golden traces.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct MmapFlags: u8 {
        /// `MAP_NORESERVE`.
        const NORESERVE = 1;
        /// `MAP_LOCKED`.
        const LOCKED = 2;
        /// `MAP_FIXED_NOREPLACE` instead of `MAP_FIXED`.
        const FIXED_NOREPLACE = 4;
    }

    /// The flags of `process_vm_mmap` (`PVMMAP_…`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct CopyFlags: u8 {
        /// `PVMMAP_FIXED`: the destination is taken as given; without, it is a hint.
        const FIXED = 1;
        /// `PVMMAP_FIXED_NOREPLACE`: taken as given, and refused over a mapping.
        const FIXED_NOREPLACE = 2;
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
    MmapFlags: 3, "mmap flags: - or any of NORESERVE, LOCKED, FIXED_NOREPLACE, joined by |";
    CopyFlags: 2, "copy flags: - or any of FIXED, FIXED_NOREPLACE, joined by |";
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
        // The eight texts are few enough to be tried.
        const TEXTS: [&str; 8] = ["-", "r", "w", "rw", "x", "rx", "wx", "rwx"];
        let bits = TEXTS
            .iter()
            .position(|t| *t == text)
            .or_else(|| parse_number(text).map(|n| n as usize).filter(|n| *n < TEXTS.len()))?;
        Some(Prot::from_bits_truncate(bits as u8))
    }
}
