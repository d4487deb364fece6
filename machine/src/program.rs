//! Programs: limits, then operations.

use std::fmt;

use crate::op::Op;

/// Operations a program may have: room for every bug known so far ten times over, and few enough
/// that a report is read and not searched.
pub const MAX_OPS: usize = 64;

/// What a program may use up; `None` is the kernel's default, which no program reaches.
///
/// Counts are those of the arena: the process's own text, stack and heap are left out, as in the
/// observations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Mappings a process may have (`sysctl_max_map_count`).
    pub map_count: Option<u8>,
    /// Pages a process may have mapped (`RLIMIT_AS`).
    pub address_space: Option<u8>,
    /// Pages a process may have locked (`RLIMIT_MEMLOCK`); if given, the process lacks
    /// `CAP_IPC_LOCK`.
    pub lock: Option<u8>,
    /// Processes there may be at one time, counting from 1; above
    /// [`MAX_PROCESSES`](crate::operand::MAX_PROCESSES) it means that.
    pub processes: Option<u8>,
}

impl Limits {
    /// The names in the text form, in the order they are written.
    pub const NAMES: [&'static str; 4] = ["map_count", "address_space", "lock", "processes"];

    /// The limits in the order of [`Limits::NAMES`].
    pub const fn to_array(&self) -> [Option<u8>; 4] {
        [self.map_count, self.address_space, self.lock, self.processes]
    }

    /// The inverse of [`Limits::to_array`].
    pub const fn from_array(limits: [Option<u8>; 4]) -> Limits {
        let [map_count, address_space, lock, processes] = limits;
        Limits { map_count, address_space, lock, processes }
    }

    /// Mappings a process may have: `sysctl_max_map_count`.
    pub fn max_map_count(&self) -> u32 {
        self.map_count.map_or(65_530, u32::from)
    }

    /// Pages a process may have mapped.
    pub fn max_address_space(&self) -> u32 {
        self.address_space.map_or(u32::MAX, u32::from)
    }

    /// Pages a process may have locked.
    pub fn max_locked(&self) -> u32 {
        self.lock.map_or(u32::MAX, u32::from)
    }

    /// Processes there may be at one time, 1 to [`MAX_PROCESSES`](crate::operand::MAX_PROCESSES).
    pub fn max_processes(&self) -> usize {
        self.processes.map_or(crate::operand::MAX_PROCESSES, |n| {
            usize::from(n).clamp(1, crate::operand::MAX_PROCESSES)
        })
    }
}

/// A sequence of operations, and the limits they run under.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Program {
    /// What it may use up.
    pub limits: Limits,
    /// At most [`MAX_OPS`] operations; readers refuse more.
    pub ops: Vec<Op>,
}

impl fmt::Display for Limits {
    /// `limits map_count=8 lock=4`; nothing where there is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = || Limits::NAMES.iter().zip(self.to_array()).filter_map(|(n, l)| Some((n, l?)));
        if given().next().is_some() {
            f.write_str("limits")?;
        }
        given().try_for_each(|(name, limit)| write!(f, " {name}={limit}"))
    }
}

impl fmt::Display for Program {
    /// The text form, one operation a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.limits != Limits::default() {
            writeln!(f, "{}", self.limits)?;
        }
        self.ops.iter().try_for_each(|op| writeln!(f, "{op}"))
    }
}
