//! Roles of operands, and the ranges of pages that an operation names by them.
//!
//! Code that handles operations without knowing each of them (mutation, minimizing, drawing, the
//! shadow of the layout) asks an [`Op`] for its ranges and its processes, and an
//! [`OperandType`](crate::op::OperandType) for its role. The roles stand in the one table of
//! operations, [`crate::op`].

use crate::errno::Errno;
use crate::op::{MAX_OPERANDS, Op};
use crate::operand::{CopyFlags, Len, Page, Process};
use crate::range::Range;

/// The part that a range has in an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The range that the operation acts on, such as the one that `mprotect` changes.
    Target,
    /// The range that is moved or copied.
    Source,
    /// The range that the operation maps.
    Destination,
}

impl Part {
    /// Every part, the source before the destination.
    pub const ALL: [Part; 3] = [Part::Target, Part::Source, Part::Destination];
}

/// The role of an operand in its operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// The process that makes the call. The destination and the target are in its address space.
    Caller,
    /// The process that the source is in, where that can be another one than the caller.
    SourceProcess,
    /// The first page of a range.
    Start(Part),
    /// The length of a range. A destination without a length of its own is as long as the source;
    /// a target without one is a single page.
    Length(Part),
    /// The protection that pages get.
    Protection,
    /// The kind of memory that is mapped.
    Kind,
    /// The page offset into a file.
    Offset,
    /// A flag of the call, or several.
    Flags,
    /// Read or write.
    Access,
    /// A userfaultfd context of the caller.
    Context,
    /// The advice of `madvise`.
    Advice,
    /// The memory policy of `mbind`.
    Policy,
}

/// The place at which the kernel puts the destination of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Placement {
    /// The page that is given.
    Given,
    /// The page that is given where nothing is mapped there, otherwise the kernel's choice.
    Hint,
    /// The page where the source begins: it stays where it is.
    InPlace,
    /// The page where the source begins if it need not move, otherwise the kernel's choice.
    InPlaceOrChosen,
}

/// A range that an operation names, in the address space of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpRange {
    /// The process.
    pub process: Process,
    /// The part that the range has in the operation.
    pub part: Part,
    /// The pages. The range may be empty.
    pub range: Range,
}

impl Placement {
    /// Returns whether the kernel may choose the place.
    pub const fn is_choice(self) -> bool {
        matches!(self, Placement::Hint | Placement::InPlaceOrChosen)
    }
}

impl Op {
    /// The value of the operand with this role; `None` where the operation has none.
    pub fn operand(&self, role: Role) -> Option<u8> {
        let types = self.opcode().operands();
        let at = types.iter().position(|ty| ty.role == role)?;
        Some(self.values()[at])
    }

    /// The operation with every operand as `change` makes it of its role and its value.
    pub fn with_operands(&self, mut change: impl FnMut(Role, u8) -> u8) -> Op {
        let mut bytes: [u8; MAX_OPERANDS] = self.values();
        for (ty, byte) in self.opcode().operands().iter().zip(&mut bytes) {
            *byte = change(ty.role, *byte);
        }
        Op::from_bytes(self.opcode(), bytes)
    }

    /// The process that the source is in: the caller where the operation names no other.
    pub fn source_process(&self) -> Process {
        self.operand(Role::SourceProcess).map_or(self.process(), Process)
    }

    /// The processes that the operation names, the caller first, each once.
    pub fn processes(&self) -> impl Iterator<Item = Process> {
        let (caller, source) = (self.process(), self.source_process());
        std::iter::once(caller).chain((source != caller).then_some(source))
    }

    /// The place of the destination; `None` where the operation has none.
    pub fn placement(&self) -> Option<Placement> {
        match *self {
            Op::Mmap { .. } | Op::CopyVma { .. } => Some(Placement::Given),
            Op::Mremap { flags, .. } => Some(flags.get().placement()),
            Op::Copy { flags, .. } => {
                let given = CopyFlags::FIXED | CopyFlags::FIXED_NOREPLACE;
                let given = flags.get().intersects(given);
                Some(if given { Placement::Given } else { Placement::Hint })
            }
            Op::Munmap { .. }
            | Op::Mprotect { .. }
            | Op::Madvise { .. }
            | Op::Mlock { .. }
            | Op::Munlock { .. }
            | Op::Mbind { .. }
            | Op::Touch { .. }
            | Op::UffdRegister { .. }
            | Op::UffdUnregister { .. }
            | Op::Fork { .. }
            | Op::Exit { .. } => None,
        }
    }

    /// The length of the range with this part: its own operand, or else that of the source; a page
    /// where there is neither.
    pub fn length(&self, part: Part) -> Len {
        let own = self.operand(Role::Length(part));
        Len(own.or_else(|| self.operand(Role::Length(Part::Source))).unwrap_or(1))
    }

    /// The range with this part, before the operation is performed; `None` where the operation
    /// has none. A destination that the kernel chooses is taken to be where the caller asks for it.
    pub fn range(&self, part: Part) -> Option<Range> {
        let part_of_start = match (part, self.placement()) {
            (Part::Destination, Some(Placement::InPlace | Placement::InPlaceOrChosen)) => {
                Part::Source
            }
            _ => part,
        };
        let start = self.operand(Role::Start(part_of_start))?;
        Some(Range::new(Page(start), self.length(part)))
    }

    /// The ranges that the operation names, the source before the destination. `result` is the
    /// answer of the machine, which says where a destination is that the kernel chose.
    pub fn ranges(&self, result: Result<u8, Errno>) -> impl Iterator<Item = OpRange> {
        let op = *self;
        Part::ALL.into_iter().filter_map(move |part| {
            let process = match part {
                Part::Source => op.source_process(),
                Part::Target | Part::Destination => op.process(),
            };
            let mut range = op.range(part)?;
            if let (Part::Destination, Ok(page)) = (part, result)
                && op.placement() != Some(Placement::Given)
            {
                range = Range::new(Page(page), op.length(part));
            }
            Some(OpRange { process, part, range })
        })
    }

    /// The range that the operation maps, in the caller; `None` where it maps none.
    pub fn destination(&self, result: Result<u8, Errno>) -> Option<Range> {
        self.ranges(result).find(|named| named.part == Part::Destination).map(|named| named.range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::Opcode;
    use crate::program::Program;

    fn op(text: &str) -> Op {
        text.parse::<Program>().expect("a program").ops[0]
    }

    /// The ranges of an operation that the machine answers with `result`.
    fn ranges(text: &str, result: Result<u8, Errno>) -> Vec<(Part, u8, String)> {
        let named = |n: OpRange| (n.part, n.process.0, n.range.to_string());
        op(text).ranges(result).map(named).collect()
    }

    #[test]
    fn an_operation_names_its_ranges() {
        use Part::{Destination, Source, Target};
        const NONE: Result<u8, Errno> = Err(Errno::EINVAL);
        type Case<'a> = (&'a str, Result<u8, Errno>, &'a [(Part, u8, &'a str)]);
        let cases: [Case<'_>; 12] = [
            ("mmap 2 1 6 rw anon_private", Ok(1), &[(Destination, 2, "[1,7)")]),
            ("munmap 0 1 6", Ok(0), &[(Target, 0, "[1,7)")]),
            ("touch 0 3 1", Ok(0), &[(Target, 0, "[3,4)")]),
            ("mlock 0 3 0 1", Ok(0), &[(Target, 0, "[3,3)")]),
            ("mremap 0 4 2 3", Ok(4), &[(Source, 0, "[4,6)"), (Destination, 0, "[4,7)")]),
            (
                "mremap 0 4 2 3 MAYMOVE|FIXED 9",
                Ok(9),
                &[(Source, 0, "[4,6)"), (Destination, 0, "[9,12)")],
            ),
            (
                "mremap 0 4 2 3 MAYMOVE 9",
                Ok(125),
                &[(Source, 0, "[4,6)"), (Destination, 0, "[125,128)")],
            ),
            ("mremap 0 4 2 3 MAYMOVE 9", NONE, &[(Source, 0, "[4,6)"), (Destination, 0, "[4,7)")]),
            ("copy 1 4 2 0 9", Ok(126), &[(Source, 0, "[4,6)"), (Destination, 1, "[126,128)")]),
            ("copy 1 4 2 0 9", NONE, &[(Source, 0, "[4,6)"), (Destination, 1, "[9,11)")]),
            ("copy_vma 1 4 2 1 9", Ok(9), &[(Source, 1, "[4,6)"), (Destination, 1, "[9,11)")]),
            ("fork 0", Ok(1), &[]),
        ];
        for (text, result, expected) in cases {
            let expected: Vec<_> =
                expected.iter().map(|(part, at, range)| (*part, *at, (*range).into())).collect();
            assert_eq!(ranges(text, result), expected, "{text}");
        }
    }

    #[test]
    fn an_operation_names_each_process_once() {
        let processes = |text| op(text).processes().map(|p| p.0).collect::<Vec<_>>();
        assert_eq!(processes("copy 1 4 2 0 9"), [1, 0]);
        assert_eq!(processes("copy 1 4 2 1 9"), [1]);
        assert_eq!(processes("munmap 3 4 2"), [3]);
    }

    #[test]
    fn every_range_has_a_start_that_the_operation_names_once() {
        for &opcode in Opcode::ALL {
            let roles: Vec<Role> = opcode.operands().iter().map(|ty| ty.role).collect();
            assert_eq!(roles[0], Role::Caller, "{opcode:?}");
            for (n, role) in roles.iter().enumerate() {
                assert!(!roles[..n].contains(role), "{opcode:?} has two operands for {role:?}");
                if let Role::Length(part) = role {
                    assert!(roles.contains(&Role::Start(*part)), "{opcode:?}: {part:?}");
                }
            }
            let op = Op::from_bytes(opcode, [0; MAX_OPERANDS]);
            let maps = roles.contains(&Role::Start(Part::Destination));
            assert_eq!(op.placement().is_some(), maps, "{opcode:?}");
        }
    }

    #[test]
    fn operands_change_by_role() {
        let moved = op("copy 1 4 2 0 9").with_operands(|role, value| match role {
            Role::Start(_) => value + 1,
            _ => value,
        });
        assert_eq!(moved, op("copy 1 5 2 0 10"));
    }
}
