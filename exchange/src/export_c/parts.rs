//! The parts of the runtime that a C program needs.

use vmadiff_machine::operand::{Advice, MmapFlags, Mode};
use vmadiff_machine::{Limits, Op, Opcode, Placement};

use super::call::file;
use super::expectation::is_write;

/// The C that is the same for all programs. The lines between `#if USES_…` and `#endif` are left
/// out if the program does not need them.
const RUNTIME: &str = include_str!("../export_runtime.c");

/// The parts of the runtime that the programs of a C file need.
pub(super) struct Parts<'a> {
    /// The program, then the programs of its rules: the limits and the operations of each.
    pub(super) programs: Vec<(&'a Limits, &'a [Op])>,
    /// An expectation depends on rules of later kernels.
    pub(super) rules: bool,
    /// Only the combinations of rules that the releases have are expected.
    pub(super) releases: bool,
}

impl Parts<'_> {
    /// Returns whether the programs need the part called `name`.
    pub(super) fn has(&self, name: &str) -> bool {
        let any = |wanted: fn(&Op) -> bool| self.ops().any(wanted);
        let limited = |wanted: fn(&Limits) -> bool| self.programs.iter().any(|(l, _)| wanted(l));
        let locks = |op: &Op| match op {
            Op::Mlock { .. } | Op::Mlockall { .. } => true,
            Op::Mmap { flags, .. } => flags.get().contains(MmapFlags::LOCKED),
            _ => false,
        };
        let unlimited =
            |(limits, ops): &(&Limits, &[Op])| limits.lock.is_none() && ops.iter().any(locks);
        let lock = self.programs.iter().any(unlimited);
        let uffd = any(|op| {
            use Opcode::{
                UffdOpen, UffdRegister, UffdRegisterWp, UffdUnregister, UffdWriteprotect,
            };
            [UffdOpen, UffdRegister, UffdRegisterWp, UffdUnregister, UffdWriteprotect]
                .contains(&op.opcode())
        });
        let advises = |op: &Op, wanted: [Advice; 2]| match op {
            Op::Madvise { advice, .. } => wanted.contains(&advice.get()),
            _ => false,
        };
        match name {
            "TOUCH" => any(|op| matches!(op, Op::Touch { .. })),
            "CONTENTS" => any(is_write),
            "WATCHED_TOUCH" => uffd && self.has("TOUCH"),
            "UFFD" => uffd,
            "VMA_OF" => self.has("WATCHED_TOUCH") || self.has("WRITEPROTECT"),
            "WRITEPROTECT" => any(|op| matches!(op, Op::UffdWriteprotect { .. })),
            "EVENTS" => any(|op| matches!(op, Op::UffdOpen { .. })),
            "FORK" => any(|op| matches!(op, Op::Fork { .. })),
            "EXIT" => any(|op| matches!(op, Op::Exit { .. })),
            "COPY" => any(|op| matches!(op, Op::Copy { .. })),
            "MBIND" => any(|op| matches!(op, Op::Mbind { .. })),
            "NODE0" => any(|op| match op {
                Op::Mbind { mode, .. } => mode.get() != Mode::Default,
                _ => false,
            }),
            "FILES" => any(|op| match op {
                Op::Mmap { kind, .. } => file(kind.get()).is_some(),
                Op::Ftruncate { .. } => true,
                _ => false,
            }),
            "SEGMENT" => {
                any(|op| matches!(op, Op::Shmat { .. } | Op::Shmdt { .. } | Op::ShmRmid { .. }))
            }
            "MLOCKALL" => any(|op| matches!(op, Op::Mlockall { .. })),
            "MSEAL" => any(|op| matches!(op, Op::Mseal { .. })),
            "SET_LIMIT" => self.has("PRLIMIT") || self.has("ADDRESS_SPACE"),
            "PRLIMIT" => any(|op| matches!(op, Op::Prlimit { .. })),
            "CLEAR_REFS" => any(|op| matches!(op, Op::ClearRefs { .. })),
            "HUGE" => self.ops().any(|op| advises(op, [Advice::Hugepage, Advice::Nohugepage])),
            "FREED" => [Advice::Free, Advice::Pageout]
                .into_iter()
                .all(|advice| self.ops().any(|op| advises(op, [advice; 2]))),
            "RECLAIM" => self.has("UFFD") && self.ops().any(|op| advises(op, [Advice::Pageout; 2])),
            "LATER_ADVICE" => any(|op| match op {
                Op::Madvise { advice, .. } => advice.get().number() >= Advice::Cold.number(),
                _ => false,
            }),
            "KSM" => {
                let advice = [Advice::Mergeable, Advice::Unmergeable];
                self.has("MEMORY_MERGE") || self.ops().any(|op| advises(op, advice))
            }
            "MEMORY_MERGE" => any(|op| matches!(op, Op::MemoryMerge { .. })),
            "NORESERVE" => any(|op| match op {
                Op::Mmap { flags, .. } => flags.get().contains(MmapFlags::NORESERVE),
                _ => false,
            }),
            "RULES" => self.rules,
            "RELEASES" => self.releases,
            "CHOICE" => any(|op| match op {
                // Linux 5.2.1 refuses MREMAP_DONTUNMAP. Later kernels choose an address.
                Op::Mremap { .. } => op.placement().is_some_and(Placement::is_choice),
                Op::Copy { .. } => op.placement() == Some(Placement::Hint),
                _ => false,
            }),
            "DONTUNMAP" => any(|op| match op {
                Op::Mremap { flags, .. } => flags.get().keeps_source(),
                _ => false,
            }),
            "MAP_COUNT" => limited(|limits| limits.map_count.is_some()),
            "ADDRESS_SPACE" => limited(|limits| limits.address_space.is_some()),
            "LOCK_LIMIT" => limited(|limits| limits.lock.is_some()),
            "LOCK" => lock,
            "LOCKS" => lock || self.has("LOCK_LIMIT") || self.has("PRLIMIT"),
            "LIMITS" => self.has("LOCKS") || self.has("SET_LIMIT"),
            "RLIMIT" => {
                ["SET_LIMIT", "LOCK_LIMIT", "MLOCKALL"].into_iter().any(|name| self.has(name))
            }
            _ => unreachable!("the runtime asks for {name}"),
        }
    }

    fn ops(&self) -> impl Iterator<Item = &Op> {
        self.programs.iter().flat_map(|(_, ops)| ops.iter())
    }

    /// Returns the runtime without the parts that are not needed.
    pub(super) fn runtime(&self) -> String {
        let mut kept = String::new();
        // For each open `#if`, whether its lines are kept; `None` for an `#if` that is left to the
        // compiler.
        let mut open: Vec<Option<bool>> = Vec::new();
        for line in RUNTIME.lines() {
            let keeps = open.iter().all(|keep| keep.unwrap_or(true));
            if let Some(name) = line.strip_prefix("#if USES_") {
                open.push(Some(self.has(name)));
            } else if line == "#endif" && open.pop().flatten().is_some() {
                // The `#if` was for this function and is left out.
            } else if keeps {
                if line.starts_with("#if") {
                    open.push(None);
                }
                kept.push_str(line);
                kept.push('\n');
            } else if line.starts_with("#if") {
                open.push(None);
            }
        }
        kept
    }
}
