//! Operations. Each is one system call, one access to memory, or a direct call of `copy_vma()`.
//!
//! The table below is the only list of the operations. It gives the name of each operation in the
//! text form, its number in the corpus format, its operands, and the [role](crate::role) of each
//! operand.

use std::any::TypeId;
use std::fmt;

use crate::operand::{
    Access, Advice, Arg, ClearFlagsCtx, CopyFlags, Ctx, Domain, File, FileLength, FilePage, Kind,
    Len, MemoryMerge, MlockallFlags, MmapFlags, Mode, MremapFlags, Onfault, Page, PageLimit,
    Process, Prot, Resource, ShmFlags, UffdFeatures, UffdMode, WriteprotectMode,
};
use crate::role::{Part, Role};

/// The largest number of operands of an operation.
pub const MAX_OPERANDS: usize = 7;

/// The role and the values of an operand, for code that handles operands without knowing the
/// operation: the text form, the corpus format, mutation, minimizing.
#[derive(Clone, Copy, Debug)]
pub struct OperandType {
    /// The name of the field, for messages.
    pub name: &'static str,
    /// The role of the operand in the operation.
    pub role: Role,
    /// The number of values.
    pub size: usize,
    /// The description of a value in messages: "a page, 0 to 63".
    pub expected: &'static str,
    /// The description of the operand.
    pub doc: &'static str,
    /// Says whether the text form leaves the operand out if it is zero and no operand is written
    /// after it.
    pub optional: bool,
    domain: fn() -> TypeId,
    parse: fn(&str) -> Option<u8>,
    write: fn(u8, &mut fmt::Formatter<'_>) -> fmt::Result,
    describe: fn(u8) -> &'static str,
}

impl OperandType {
    const fn of<T: Domain>(name: &'static str, doc: &'static str, role: Role) -> OperandType {
        OperandType {
            name,
            role,
            size: T::SIZE,
            expected: T::EXPECTED,
            doc,
            optional: T::OPTIONAL,
            domain: TypeId::of::<T>,
            parse: |text| T::parse(text).map(T::index),
            write: |byte, f| Arg::<T>::from_byte(byte).get().write(f),
            describe: |byte| Arg::<T>::from_byte(byte).get().describe(),
        }
    }

    /// Returns whether the operand's values are `T`s.
    pub fn is<T: Domain>(&self) -> bool {
        (self.domain)() == TypeId::of::<T>()
    }

    /// Returns the byte of the value whose text form is `text`; `None` if there is no such value.
    pub fn parse(&self, text: &str) -> Option<u8> {
        (self.parse)(text)
    }

    /// Writes the text form of the value that `byte` stands for.
    pub fn write(&self, byte: u8, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.write)(byte, f)
    }

    /// Returns the description of the value that `byte` stands for; an empty text for a number or a
    /// set of flags.
    pub fn describe(&self, byte: u8) -> &'static str {
        (self.describe)(byte)
    }

    /// Returns the smallest byte with the same meaning as `byte`.
    pub fn reduce(&self, byte: u8) -> u8 {
        (usize::from(byte) % self.size) as u8
    }
}

macro_rules! operations {
    ($($(#[doc = $doc:literal])* $opcode:literal $variant:ident $name:literal {
        $($(#[doc = $fdoc:literal])* $field:ident: $type:ident as $role:expr,)*
    })*) => {
        /// One operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Op {
            $($(#[doc = $doc])* $variant { $($(#[doc = $fdoc])* $field: Arg<$type>,)* },)*
        }

        /// The kind of an operation, without operands. Its number is the one in the corpus format.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Opcode { $($(#[doc = $doc])* $variant = $opcode,)* }

        impl Opcode {
            /// Every operation, in the order of the numbers.
            pub const ALL: &'static [Opcode] = &[$(Opcode::$variant,)*];

            /// Returns the operation's name in the text form.
            pub const fn name(self) -> &'static str {
                match self { $(Opcode::$variant => $name,)* }
            }

            /// Returns the description of the operation.
            pub const fn doc(self) -> &'static str {
                match self { $(Opcode::$variant => concat!($($doc),*),)* }
            }

            /// Returns the operands, in the order of the text form. The process is the first.
            pub const fn operands(self) -> &'static [OperandType] {
                match self {
                    $(Opcode::$variant => const { &[$(
                        OperandType::of::<$type>(stringify!($field), concat!($($fdoc),*), $role),
                    )*] },)*
                }
            }
        }

        impl Op {
            /// Returns the kind of the operation, without operands.
            pub const fn opcode(&self) -> Opcode {
                match self { $(Op::$variant { .. } => Opcode::$variant,)* }
            }

            /// Returns the process that makes the call. For a copy this is the destination.
            #[inline]
            pub fn process(&self) -> Process {
                match self { $(Op::$variant { process, .. } => process.get(),)* }
            }

            /// Returns the bytes of the operands. Bytes past the opcode's operands are 0.
            pub fn bytes(&self) -> [u8; MAX_OPERANDS] {
                let mut bytes = [0; MAX_OPERANDS];
                match *self {
                    $(Op::$variant { $($field,)* } => {
                        for (to, from) in bytes.iter_mut().zip([$($field.byte(),)*]) {
                            *to = from;
                        }
                    })*
                }
                bytes
            }

            /// Returns the values of the operands, each as the smallest byte with the same meaning.
            /// Values past the opcode's operands are 0.
            #[inline]
            pub fn values(&self) -> [u8; MAX_OPERANDS] {
                let mut values = [0; MAX_OPERANDS];
                match *self {
                    $(Op::$variant { $($field,)* } => {
                        for (to, from) in values.iter_mut().zip([$($field.get().index(),)*]) {
                            *to = from;
                        }
                    })*
                }
                values
            }

            /// Returns the operation with these operands. Every byte is valid. Bytes past the
            /// opcode's operands are ignored.
            pub fn from_bytes(opcode: Opcode, bytes: [u8; MAX_OPERANDS]) -> Op {
                let mut bytes = bytes.into_iter();
                let mut next = || bytes.next().unwrap_or(0);
                match opcode {
                    $(Opcode::$variant => Op::$variant { $($field: Arg::from_byte(next()),)* },)*
                }
            }
        }
    };
}

operations! {
    /// `mmap(page, len, prot, MAP_FIXED | flags, kind, pgoff)`.
    0 Mmap "mmap" {
        /// The caller.
        process: Process as Role::Caller,
        /// The first page.
        page: Page as Role::Start(Part::Destination),
        /// The length.
        len: Len as Role::Length(Part::Destination),
        /// The protection.
        prot: Prot as Role::Protection,
        /// The kind of memory that is mapped.
        kind: Kind as Role::Kind,
        /// Flags in addition to `MAP_FIXED`. `MAP_FIXED_NOREPLACE` replaces `MAP_FIXED`.
        flags: MmapFlags as Role::Flags,
        /// Offset into the file; ignored for anonymous memory.
        pgoff: FilePage as Role::Offset,
    }
    /// `munmap(page, len)`.
    1 Munmap "munmap" {
        /// The caller.
        process: Process as Role::Caller,
        /// The first page.
        page: Page as Role::Start(Part::Target),
        /// The length.
        len: Len as Role::Length(Part::Target),
    }
    /// `mprotect(page, len, prot)`.
    2 Mprotect "mprotect" {
        /// The caller.
        process: Process as Role::Caller,
        /// The first page.
        page: Page as Role::Start(Part::Target),
        /// The length.
        len: Len as Role::Length(Part::Target),
        /// The protection.
        prot: Prot as Role::Protection,
    }
    /// `mremap(page, old_len, new_len, flags, new_page)`.
    3 Mremap "mremap" {
        /// The caller.
        process: Process as Role::Caller,
        /// The first page.
        page: Page as Role::Start(Part::Source),
        /// The length of the source; 0 duplicates a shared mapping.
        old_len: Len as Role::Length(Part::Source),
        /// The length of the result.
        new_len: Len as Role::Length(Part::Destination),
        /// The flags: resize in place, may move or must move.
        flags: MremapFlags as Role::Flags,
        /// The first page of the destination; ignored with `-` and `MAYMOVE`, a hint with
        /// `MAYMOVE|DONTUNMAP`.
        new_page: Page as Role::Start(Part::Destination),
    }
    /// `madvise(page, len, advice)`.
    4 Madvise "madvise" {
        /// The caller.
        process: Process as Role::Caller,
        /// The first page.
        page: Page as Role::Start(Part::Target),
        /// The length.
        len: Len as Role::Length(Part::Target),
        /// The advice.
        advice: Advice as Role::Advice,
    }
    /// `mlock2(page, len, onfault)`.
    5 Mlock "mlock" {
        /// The caller.
        process: Process as Role::Caller,
        /// The first page.
        page: Page as Role::Start(Part::Target),
        /// The length.
        len: Len as Role::Length(Part::Target),
        /// Says whether `MLOCK_ONFAULT` is given.
        onfault: Onfault as Role::Flags,
    }
    /// `munlock(page, len)`.
    6 Munlock "munlock" {
        /// The caller.
        process: Process as Role::Caller,
        /// The first page.
        page: Page as Role::Start(Part::Target),
        /// The length.
        len: Len as Role::Length(Part::Target),
    }
    /// `mbind(page, len, mode, node 0)`.
    7 Mbind "mbind" {
        /// The caller.
        process: Process as Role::Caller,
        /// The first page.
        page: Page as Role::Start(Part::Target),
        /// The length.
        len: Len as Role::Length(Part::Target),
        /// The policy.
        mode: Mode as Role::Policy,
    }
    /// Reads or writes the value of a page, one byte. Each write writes a new value. The result is
    /// `EFAULT` if the access raises `SIGSEGV`, `SIGBUS` if the page is beyond the end of the file, and
    /// `EAGAIN` if userfaultfd watches the VMA. In the last case the access is not made, because it might
    /// block.
    8 Touch "touch" {
        /// The caller.
        process: Process as Role::Caller,
        /// The page.
        page: Page as Role::Start(Part::Target),
        /// Read or write.
        access: Access as Role::Access,
    }
    /// `UFFDIO_REGISTER` in missing mode on one of the caller's contexts. The context is opened on
    /// first use.
    9 UffdRegister "uffd_register" {
        /// The caller.
        process: Process as Role::Caller,
        /// The first page.
        page: Page as Role::Start(Part::Target),
        /// The length.
        len: Len as Role::Length(Part::Target),
        /// The context.
        ctx: Ctx as Role::Context,
    }
    /// `UFFDIO_UNREGISTER` on one of the caller's contexts. The result is `EBADF` if the context
    /// was never opened.
    10 UffdUnregister "uffd_unregister" {
        /// The caller.
        process: Process as Role::Caller,
        /// The first page.
        page: Page as Role::Start(Part::Target),
        /// The length.
        len: Len as Role::Length(Part::Target),
        /// The context.
        ctx: Ctx as Role::Context,
    }
    /// `fork()`. The child gets the lowest free process index, which is the result. The result is
    /// `EAGAIN` if no index is free.
    11 Fork "fork" {
        /// The parent.
        process: Process as Role::Caller,
    }
    /// `exit()`: the process and its address space end.
    12 Exit "exit" {
        /// The process.
        process: Process as Role::Caller,
    }
    /// `process_vm_mmap(src, page, len, dst_page, flags)`, called by the destination.
    13 Copy "copy" {
        /// The caller, which is the destination.
        process: Process as Role::Caller,
        /// The first page of the source.
        page: Page as Role::Start(Part::Source),
        /// The length.
        len: Len as Role::Length(Part::Source),
        /// The source process.
        src: Process as Role::SourceProcess,
        /// The first page of the destination.
        dst_page: Page as Role::Start(Part::Destination),
        /// The flags. Without any flag `dst_page` is a hint.
        flags: CopyFlags as Role::Flags,
    }
    /// A direct call of `copy_vma()`, the function under test. The operation does the same as
    /// `copy` with `FIXED`, with two exceptions: `clear_flags_ctx` is an operand, and a source with
    /// a userfaultfd context is not refused.
    14 CopyVma "copy_vma" {
        /// The destination process.
        process: Process as Role::Caller,
        /// The first page of the source.
        page: Page as Role::Start(Part::Source),
        /// The length.
        len: Len as Role::Length(Part::Source),
        /// The source process.
        src: Process as Role::SourceProcess,
        /// The first page of the destination.
        dst_page: Page as Role::Start(Part::Destination),
        /// The argument `clear_flags_ctx` of `copy_vma()`.
        clear_flags_ctx: ClearFlagsCtx as Role::Flags,
    }
    /// `shmat(id, page, flags)` of the program's SysV shared memory segment: maps the segment, which
    /// is [`SHM_PAGES`](crate::operand::SHM_PAGES) long. Every process knows the id.
    15 Shmat "shmat" {
        /// The caller.
        process: Process as Role::Caller,
        /// The first page.
        page: Page as Role::Start(Part::Destination),
        /// The flags.
        flags: ShmFlags as Role::Flags,
    }
    /// `shmdt(page)`: unmaps the VMAs that are left of an attachment at this page.
    16 Shmdt "shmdt" {
        /// The caller.
        process: Process as Role::Caller,
        /// The page at which the segment was attached.
        page: Page as Role::Start(Part::Target),
    }
    /// `shmctl(id, IPC_RMID)`: the segment is destroyed when no VMA maps it. A destroyed segment
    /// cannot be attached.
    17 ShmRmid "shm_rmid" {
        /// The caller.
        process: Process as Role::Caller,
    }
    /// `mlockall(flags)`.
    18 Mlockall "mlockall" {
        /// The caller.
        process: Process as Role::Caller,
        /// The flags: any of `MCL_CURRENT`, `MCL_FUTURE`, `MCL_ONFAULT`.
        flags: MlockallFlags as Role::Flags,
    }
    /// `munlockall()`.
    19 Munlockall "munlockall" {
        /// The caller.
        process: Process as Role::Caller,
    }
    /// `mseal(page, len, 0)`. Linux 5.2.1 does not have it; since 6.10.
    20 Mseal "mseal" {
        /// The caller.
        process: Process as Role::Caller,
        /// The first page.
        page: Page as Role::Start(Part::Target),
        /// The length.
        len: Len as Role::Length(Part::Target),
    }
    /// A write of `4` to `/proc/PID/clear_refs`: no VMA is soft-dirty any more, and the entries of private
    /// memory are read-only until the next write.
    21 ClearRefs "clear_refs" {
        /// The process.
        process: Process as Role::Caller,
    }
    /// `ftruncate(file, length)`: gives a memfd another length. Pages past a lower end are unmapped in
    /// every process, private copies of them as well, and an access to them raises `SIGBUS`. New pages
    /// have the value 0.
    22 Ftruncate "ftruncate" {
        /// The caller.
        process: Process as Role::Caller,
        /// The file.
        file: File as Role::File,
        /// The new length, in pages.
        length: FileLength as Role::FileLength,
    }
    /// `prlimit(0, resource, max, NULL)`: gives the process another limit, also one below what it has. Mappings
    /// stay as they are. A child begins with the limits of its parent.
    23 Prlimit "prlimit" {
        /// The process.
        process: Process as Role::Caller,
        /// The resource.
        resource: Resource as Role::Resource,
        /// The limit.
        max: PageLimit as Role::Limit,
    }
    /// `prctl(PR_SET_MEMORY_MERGE, merge)`: `1` marks every mapping that KSM takes (`VM_MERGEABLE`), and every
    /// later one. `0` ends that and removes every mark. Linux 5.2.1 does not have the option; since 6.4.
    24 MemoryMerge "memory_merge" {
        /// The caller.
        process: Process as Role::Caller,
        /// The argument of the option.
        merge: MemoryMerge as Role::Flags,
    }
    /// `userfaultfd()` and `UFFDIO_API`: opens a context with event features. If the context is open, it
    /// is closed first: then it watches nothing any more.
    25 UffdOpen "uffd_open" {
        /// The caller.
        process: Process as Role::Caller,
        /// The context.
        ctx: Ctx as Role::Context,
        /// The features: any of `UFFD_FEATURE_EVENT_FORK`, `_REMAP`, `_REMOVE`, `_UNMAP`.
        features: UffdFeatures as Role::Flags,
    }
    /// `UFFDIO_REGISTER` with `UFFDIO_REGISTER_MODE_WP` on one of the caller's contexts. The context is
    /// opened on first use. Linux 5.2.1 refuses the mode, and 5.7 has
    /// it on x86-64.
    26 UffdRegisterWp "uffd_register_wp" {
        /// The caller.
        process: Process as Role::Caller,
        /// The first page.
        page: Page as Role::Start(Part::Target),
        /// The length.
        len: Len as Role::Length(Part::Target),
        /// The context.
        ctx: Ctx as Role::Context,
        /// The mode of the registration.
        mode: UffdMode as Role::Flags,
    }
    /// `UFFDIO_WRITEPROTECT` on one of the caller's contexts: write-protects the pages of the range, or removes
    /// the protection. A write to a protected page waits. Linux 5.2.1 does not have the call, and 5.7
    /// has it.
    27 UffdWriteprotect "uffd_writeprotect" {
        /// The caller.
        process: Process as Role::Caller,
        /// The first page.
        page: Page as Role::Start(Part::Target),
        /// The length.
        len: Len as Role::Length(Part::Target),
        /// The context.
        ctx: Ctx as Role::Context,
        /// The mode of the call.
        mode: WriteprotectMode as Role::Flags,
    }
}

impl Opcode {
    /// Returns the operation with this number in the corpus format.
    pub fn from_number(number: u8) -> Option<Opcode> {
        Opcode::ALL.get(usize::from(number)).copied()
    }

    /// Returns the operation with this name in the text form.
    pub fn from_name(name: &str) -> Option<Opcode> {
        Opcode::ALL.iter().copied().find(|o| o.name() == name)
    }
}

impl fmt::Display for Op {
    /// Writes the text form. Optional operands at the end of the line are left out if they are
    /// zero.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let opcode = self.opcode();
        let (types, bytes) = (opcode.operands(), self.bytes());
        // The process is the first operand and is always written.
        let left_out = (1..types.len())
            .rev()
            .take_while(|&n| types[n].optional && types[n].reduce(bytes[n]) == 0)
            .count();
        let shown = types.len() - left_out;
        f.write_str(opcode.name())?;
        for (ty, byte) in types.iter().zip(bytes).take(shown) {
            f.write_str(" ")?;
            ty.write(byte, f)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_every_operand_is_valid_and_kept() {
        for &opcode in Opcode::ALL {
            assert_eq!(Opcode::from_number(opcode as u8), Some(opcode));
            assert_eq!(Opcode::from_name(opcode.name()), Some(opcode));
            for byte in 0..=255 {
                let bytes = [byte; MAX_OPERANDS];
                let op = Op::from_bytes(opcode, bytes);
                let count = opcode.operands().len();
                assert_eq!(op.bytes()[..count], bytes[..count]);
                assert_eq!(op.opcode(), opcode);
            }
        }
    }

    #[test]
    fn operands_that_mean_the_same_are_equal() {
        let a = Op::from_bytes(Opcode::Munmap, [0, 1, 2, 0, 0, 0, 0]);
        let b = Op::from_bytes(Opcode::Munmap, [8, 65, 130, 0, 0, 0, 0]);
        assert_eq!(a, b);
        assert_ne!(a.bytes(), b.bytes());
        assert_eq!(b.to_string(), "munmap 0 1 2");
        assert_eq!((a.values(), b.values()), (a.bytes(), a.bytes()));
    }

    #[test]
    fn every_operand_value_has_a_text_form_that_reads_back() {
        for &opcode in Opcode::ALL {
            for ty in opcode.operands() {
                for byte in 0..ty.size {
                    struct Shown<'a>(&'a OperandType, u8);
                    impl fmt::Display for Shown<'_> {
                        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                            self.0.write(self.1, f)
                        }
                    }
                    let text = Shown(ty, byte as u8).to_string();
                    assert_eq!(ty.parse(&text), Some(byte as u8), "{} {text}", ty.name);
                }
                for wrong in ["", "|", "--", "0x", "0x+1", "+1", "-1", "256", "é"] {
                    assert_eq!(ty.parse(wrong), None, "{} {wrong:?}", ty.name);
                }
            }
        }
    }
}
