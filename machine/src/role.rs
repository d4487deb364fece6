//! Roles of operands, and the ranges of pages that an operation names by them.
//!
//! Mutation, minimizing, drawing and the layout of the generator handle every operation alike. This
//! code asks an [`Op`] for its ranges and its processes, and an
//! [`OperandType`](crate::op::OperandType) for its role. The table of operations in [`crate::op`]
//! gives the roles.

use crate::errno::Errno;
use crate::op::{MAX_OPERANDS, Op, Opcode};
use crate::operand::{CopyFlags, Len, Page, Process, SHM_PAGES};
use crate::range::Range;

/// The part of a range in an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The range on which the operation acts, such as the range that `mprotect` changes.
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
    /// The process that makes the call. The target and the destination are in its address space.
    Caller,
    /// The process whose address space has the source, for operations in which this process can
    /// differ from the caller.
    SourceProcess,
    /// The first page of a range.
    Start(Part),
    /// The length of a range. A destination without a length of its own is as long as the source. A
    /// target without a length is a single page. `shmat` and `shmdt` have the length of the segment.
    Length(Part),
    /// The protection of the pages.
    Protection,
    /// The kind of memory that is mapped.
    Kind,
    /// The page offset into a file.
    Offset,
    /// The new length of a file.
    FileLength,
    /// The file whose length is changed.
    File,
    /// The resource that is limited.
    Resource,
    /// A limit.
    Limit,
    /// The flags of the call.
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

impl Role {
    /// One more than the largest number of a role.
    const NUMBERS: usize = 20;

    /// Returns the number of the role in the table of places.
    const fn number(self) -> usize {
        match self {
            Role::Caller => 0,
            Role::SourceProcess => 1,
            Role::Start(part) => 2 + part as usize,
            Role::Length(part) => 5 + part as usize,
            Role::Protection => 8,
            Role::Kind => 9,
            Role::Offset => 10,
            Role::FileLength => 11,
            Role::File => 12,
            Role::Resource => 13,
            Role::Limit => 14,
            Role::Flags => 15,
            Role::Access => 16,
            Role::Context => 17,
            Role::Advice => 18,
            Role::Policy => 19,
        }
    }
}

/// The place of the operand with each role in each operation; [`ABSENT`] where it has none.
static PLACES: [[u8; Role::NUMBERS]; Opcode::ALL.len()] = {
    let mut places = [[ABSENT; Role::NUMBERS]; Opcode::ALL.len()];
    let mut opcode = 0;
    while opcode < places.len() {
        let operands = Opcode::ALL[opcode].operands();
        let mut at = 0;
        while at < operands.len() {
            places[opcode][operands[at].role.number()] = at as u8;
            at += 1;
        }
        opcode += 1;
    }
    places
};

const ABSENT: u8 = u8::MAX;

/// The place at which the kernel puts the destination of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Placement {
    /// The given page.
    Given,
    /// The given page if the destination is free there, otherwise the kernel's choice.
    Hint,
    /// The first page of the source: the mapping stays in its place.
    InPlace,
    /// The first page of the source if the mapping need not move, otherwise the kernel's choice.
    InPlaceOrChosen,
}

/// A range that an operation names, in the address space of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpRange {
    /// The process whose address space has the range.
    pub process: Process,
    /// The part of the range in the operation.
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
    /// Returns the value of the operand with this role; `None` if the operation has no such
    /// operand.
    #[inline]
    pub fn operand(&self, role: Role) -> Option<u8> {
        match PLACES[self.opcode() as usize][role.number()] {
            ABSENT => None,
            at => Some(self.values()[usize::from(at)]),
        }
    }

    /// Returns the operation with changed operands: `change` gets the role and the value of each
    /// operand, and returns its new byte.
    pub fn with_operands(&self, mut change: impl FnMut(Role, u8) -> u8) -> Op {
        let mut bytes: [u8; MAX_OPERANDS] = self.values();
        for (ty, byte) in self.opcode().operands().iter().zip(&mut bytes) {
            *byte = change(ty.role, *byte);
        }
        Op::from_bytes(self.opcode(), bytes)
    }

    /// Returns the process whose address space has the source: the caller if the operation names no
    /// other process.
    pub fn source_process(&self) -> Process {
        self.operand(Role::SourceProcess).map_or(self.process(), Process)
    }

    /// Returns the processes that the operation names, each once, the caller first.
    pub fn processes(&self) -> impl Iterator<Item = Process> {
        let (caller, source) = (self.process(), self.source_process());
        std::iter::once(caller).chain((source != caller).then_some(source))
    }

    /// Returns the place of the destination; `None` if the operation has no destination.
    pub fn placement(&self) -> Option<Placement> {
        match *self {
            Op::Mmap { .. } | Op::CopyVma { .. } | Op::Shmat { .. } => Some(Placement::Given),
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
            | Op::UffdRegisterWp { .. }
            | Op::UffdWriteprotect { .. }
            | Op::UffdUnregister { .. }
            | Op::Fork { .. }
            | Op::Exit { .. }
            | Op::Shmdt { .. }
            | Op::ShmRmid { .. }
            | Op::Mlockall { .. }
            | Op::Munlockall { .. }
            | Op::Mseal { .. }
            | Op::ClearRefs { .. }
            | Op::Ftruncate { .. }
            | Op::Prlimit { .. }
            | Op::MemoryMerge { .. }
            | Op::UffdOpen { .. } => None,
        }
    }

    /// Returns the length of the range with this part. Without an operand for this length, the
    /// result is the length of the source. Without a source it is one page. A segment of shared memory
    /// is attached and detached whole.
    pub fn length(&self, part: Part) -> Len {
        if matches!(self, Op::Shmat { .. } | Op::Shmdt { .. }) {
            return Len(SHM_PAGES);
        }
        let own = self.operand(Role::Length(part));
        Len(own.or_else(|| self.operand(Role::Length(Part::Source))).unwrap_or(1))
    }

    /// Returns the range with this part, before the operation is performed; `None` if the operation
    /// has no such range. For a destination that the kernel chooses, the result is the place that
    /// the caller asks for.
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

    /// Returns the ranges that the operation names, the source before the destination. `result` is
    /// the answer of the machine. It gives the first page of a destination that the kernel chose.
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

    /// Returns the range that the operation maps in the caller's address space; `None` if the
    /// operation has no destination.
    pub fn destination(&self, result: Result<u8, Errno>) -> Option<Range> {
        self.ranges(result).find(|named| named.part == Part::Destination).map(|named| named.range)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::program::Program;

    fn op(text: &str) -> Op {
        text.parse::<Program>().expect("a program").ops[0]
    }

    /// Returns the ranges of an operation that the machine answers with `result`.
    fn ranges(text: &str, result: Result<u8, Errno>) -> Vec<(Part, u8, String)> {
        let named = |n: OpRange| (n.part, n.process.0, n.range.to_string());
        op(text).ranges(result).map(named).collect()
    }

    #[test]
    fn an_operation_names_its_ranges() {
        use Part::{Destination, Source, Target};
        const NONE: Result<u8, Errno> = Err(Errno::EINVAL);
        type Case<'a> = (&'a str, Result<u8, Errno>, &'a [(Part, u8, &'a str)]);
        let cases: [Case<'_>; 14] = [
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
            ("shmat 1 9 RDONLY", Ok(9), &[(Destination, 1, "[9,13)")]),
            ("shmdt 1 9", Ok(0), &[(Target, 1, "[9,13)")]),
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
    fn an_operand_is_found_by_its_role() {
        for &opcode in Opcode::ALL {
            let bytes = std::array::from_fn(|at| at as u8);
            let op = Op::from_bytes(opcode, bytes);
            let roles = opcode.operands().iter().map(|ty| ty.role);
            for (role, value) in roles.clone().zip(op.values()) {
                assert_eq!(op.operand(role), Some(value), "{opcode:?}: {role:?}");
            }
            let absent = [Role::Kind, Role::Length(Part::Source), Role::Policy];
            for role in absent.into_iter().filter(|role| !roles.clone().any(|r| r == *role)) {
                assert_eq!(op.operand(role), None, "{opcode:?}: {role:?}");
            }
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
