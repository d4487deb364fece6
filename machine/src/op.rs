//! Operations: one system call each, or a direct call of `copy_vma()`.
//!
//! The table below is the one place that says which operations there are, what they are called
//! in the text form, which number they have in the corpus format and which operands they take.

use std::fmt;

use crate::operand::{
    Access, Advice, Arg, ClearFlagsCtx, CopyFlags, Ctx, Domain, FilePage, Kind, Len, MmapFlags,
    Mode, MremapFlags, Onfault, Page, Process, Prot,
};

/// The most operands an operation has.
pub const MAX_OPERANDS: usize = 7;

/// What an operand ranges over, for code that handles operands without knowing the operation:
/// the text form, the corpus format, mutation.
#[derive(Clone, Copy, Debug)]
pub struct OperandType {
    /// The name of the field.
    pub name: &'static str,
    /// The number of values.
    pub size: usize,
    /// What messages call one.
    pub expected: &'static str,
    /// Whether the text form leaves it out where it is zero and nothing follows.
    pub optional: bool,
    parse: fn(&str) -> Option<u8>,
    write: fn(u8, &mut fmt::Formatter<'_>) -> fmt::Result,
}

impl OperandType {
    const fn of<T: Domain>(name: &'static str) -> OperandType {
        OperandType {
            name,
            size: T::SIZE,
            expected: T::EXPECTED,
            optional: T::OPTIONAL,
            parse: |text| T::parse(text).map(T::index),
            write: |byte, f| Arg::<T>::from_byte(byte).get().write(f),
        }
    }

    /// The byte of the value whose text form is `text`.
    pub fn parse(&self, text: &str) -> Option<u8> {
        (self.parse)(text)
    }

    /// Writes the text form of the value that `byte` stands for.
    pub fn write(&self, byte: u8, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (self.write)(byte, f)
    }

    /// The least byte that means what `byte` means.
    pub fn reduce(&self, byte: u8) -> u8 {
        (usize::from(byte) % self.size) as u8
    }
}

macro_rules! operations {
    ($($(#[$doc:meta])* $opcode:literal $variant:ident $name:literal {
        $($(#[$fdoc:meta])* $field:ident: $type:ident,)*
    })*) => {
        /// One operation.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Op {
            $($(#[$doc])* $variant { $($(#[$fdoc])* $field: Arg<$type>,)* },)*
        }

        /// The operation with a given number, without its operands.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum Opcode { $($(#[$doc])* $variant = $opcode,)* }

        impl Opcode {
            /// Every operation, in the order of their numbers.
            pub const ALL: &'static [Opcode] = &[$(Opcode::$variant,)*];

            /// Its name in the text form.
            pub const fn name(self) -> &'static str {
                match self { $(Opcode::$variant => $name,)* }
            }

            /// Its operands, in the order of the text form; the process is the first.
            pub const fn operands(self) -> &'static [OperandType] {
                match self {
                    $(Opcode::$variant => const { &[$(OperandType::of::<$type>(stringify!($field)),)*] },)*
                }
            }
        }

        impl Op {
            /// The operation without its operands.
            pub const fn opcode(&self) -> Opcode {
                match self { $(Op::$variant { .. } => Opcode::$variant,)* }
            }

            /// Who performs it; in a copy the destination.
            #[inline]
            pub fn process(&self) -> Process {
                match self { $(Op::$variant { process, .. } => process.get(),)* }
            }

            /// The bytes of the operands; as many as the opcode has operands count.
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

            /// The values of the operands: of each the least byte that means the same, 0 for those
            /// that the operation does not have.
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

            /// The operation with these operands; all bytes are valid, those beyond the
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
        process: Process,
        /// Where.
        page: Page,
        /// How long.
        len: Len,
        /// The protection.
        prot: Prot,
        /// What is mapped.
        kind: Kind,
        /// Flags beside `MAP_FIXED`.
        flags: MmapFlags,
        /// Offset into the file; ignored for anonymous memory.
        pgoff: FilePage,
    }
    /// `munmap(page, len)`.
    1 Munmap "munmap" {
        /// The caller.
        process: Process,
        /// Where.
        page: Page,
        /// How long.
        len: Len,
    }
    /// `mprotect(page, len, prot)`.
    2 Mprotect "mprotect" {
        /// The caller.
        process: Process,
        /// Where.
        page: Page,
        /// How long.
        len: Len,
        /// The protection.
        prot: Prot,
    }
    /// `mremap(page, old_len, new_len, flags, new_page)`.
    3 Mremap "mremap" {
        /// The caller.
        process: Process,
        /// Where.
        page: Page,
        /// How long it is taken to be; 0 duplicates a shared mapping.
        old_len: Len,
        /// How long it shall be.
        new_len: Len,
        /// Whether it moves.
        flags: MremapFlags,
        /// Where to; ignored without `MAYMOVE|FIXED`.
        new_page: Page,
    }
    /// `madvise(page, len, advice)`.
    4 Madvise "madvise" {
        /// The caller.
        process: Process,
        /// Where.
        page: Page,
        /// How long.
        len: Len,
        /// The advice.
        advice: Advice,
    }
    /// `mlock2(page, len, onfault)`.
    5 Mlock "mlock" {
        /// The caller.
        process: Process,
        /// Where.
        page: Page,
        /// How long.
        len: Len,
        /// Whether `MLOCK_ONFAULT` is given.
        onfault: Onfault,
    }
    /// `munlock(page, len)`.
    6 Munlock "munlock" {
        /// The caller.
        process: Process,
        /// Where.
        page: Page,
        /// How long.
        len: Len,
    }
    /// `mbind(page, len, mode, node 0)`.
    7 Mbind "mbind" {
        /// The caller.
        process: Process,
        /// Where.
        page: Page,
        /// How long.
        len: Len,
        /// The policy.
        mode: Mode,
    }
    /// One byte of a page is read or written. `EFAULT` where that raises `SIGSEGV`, `SIGBUS`
    /// beyond the end of the file, `EAGAIN` where the VMA is watched by userfaultfd (the access
    /// is not made: it might block).
    8 Touch "touch" {
        /// The caller.
        process: Process,
        /// Where.
        page: Page,
        /// Read or write.
        access: Access,
    }
    /// `UFFDIO_REGISTER` in missing mode on one of the caller's contexts, opened on first use.
    9 UffdRegister "uffd_register" {
        /// The caller.
        process: Process,
        /// Where.
        page: Page,
        /// How long.
        len: Len,
        /// Which context.
        ctx: Ctx,
    }
    /// `UFFDIO_UNREGISTER` on one of the caller's contexts; `EBADF` where it was never opened.
    10 UffdUnregister "uffd_unregister" {
        /// The caller.
        process: Process,
        /// Where.
        page: Page,
        /// How long.
        len: Len,
        /// Which context.
        ctx: Ctx,
    }
    /// `fork()`: the child takes the lowest free index, which is the result; `EAGAIN` where
    /// there is none.
    11 Fork "fork" {
        /// The parent.
        process: Process,
    }
    /// `exit()`: the process and its address space end.
    12 Exit "exit" {
        /// The process.
        process: Process,
    }
    /// `process_vm_mmap(src, page, len, dst_page, flags)`, called by the destination.
    13 Copy "copy" {
        /// The caller, which is the destination.
        process: Process,
        /// Where in the source.
        page: Page,
        /// How long.
        len: Len,
        /// The source.
        src: Process,
        /// Where in the caller.
        dst_page: Page,
        /// Whether `dst_page` is a hint.
        flags: CopyFlags,
    }
    /// A direct call of the function under test: what `copy` does with `FIXED`, but with
    /// `clear_flags_ctx` as given, and not refused for a userfaultfd context of the source.
    14 CopyVma "copy_vma" {
        /// The destination.
        process: Process,
        /// Where in the source.
        page: Page,
        /// How long.
        len: Len,
        /// The source.
        src: Process,
        /// Where in the destination.
        dst_page: Page,
        /// The argument of `copy_vma()`.
        clear_flags_ctx: ClearFlagsCtx,
    }
}

impl Opcode {
    /// The operation with that number.
    pub fn from_number(number: u8) -> Option<Opcode> {
        Opcode::ALL.get(usize::from(number)).copied()
    }

    /// The operation with that name.
    pub fn from_name(name: &str) -> Option<Opcode> {
        Opcode::ALL.iter().copied().find(|o| o.name() == name)
    }
}

impl fmt::Display for Op {
    /// The text form. Trailing operands that are zero are left out where they may be.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let opcode = self.opcode();
        let (types, bytes) = (opcode.operands(), self.bytes());
        // The process, which is first, is always shown.
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
