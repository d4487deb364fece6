//! Programs: limits, then operations.

use std::fmt;

use crate::op::Op;

/// The largest number of operations of a program: ten times as many as any known bug needs, and few
/// enough that a person can read a whole report.
pub const MAX_OPS: usize = 64;

/// The limits of a program. `None` is the kernel's default, which no program reaches.
///
/// Limits apply to the arena. The process's own text, stack and heap are left out, as in the
/// observations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Limits {
    /// The largest number of VMAs of a process (`sysctl_max_map_count`).
    pub map_count: Option<u8>,
    /// The largest number of mapped pages of a process (`RLIMIT_AS`).
    pub address_space: Option<u8>,
    /// The largest number of locked pages of a process (`RLIMIT_MEMLOCK`). A process with this
    /// limit lacks `CAP_IPC_LOCK`.
    pub lock: Option<u8>,
    /// The largest number of processes at one time. A value outside 1 to
    /// [`MAX_PROCESSES`](crate::operand::MAX_PROCESSES) means the nearest number in this range.
    pub processes: Option<u8>,
    /// The allocation of the program that fails, counted from 1 over all operations. With 0 none
    /// fails. A machine that cannot let an allocation fail does not look at this number.
    pub fail: Option<u8>,
}

impl Limits {
    /// The names of the limits in the text form, in the order in which they are written.
    pub const NAMES: [&'static str; 5] =
        ["map_count", "address_space", "lock", "processes", "fail"];

    /// Returns the limits in the order of [`Limits::NAMES`].
    pub const fn to_array(&self) -> [Option<u8>; 5] {
        [self.map_count, self.address_space, self.lock, self.processes, self.fail]
    }

    /// Returns the limits from an array in the order of [`Limits::NAMES`].
    pub const fn from_array(limits: [Option<u8>; 5]) -> Limits {
        let [map_count, address_space, lock, processes, fail] = limits;
        Limits { map_count, address_space, lock, processes, fail }
    }

    /// Returns the largest number of VMAs of a process; 65530 (`sysctl_max_map_count`) without a
    /// limit.
    pub fn max_map_count(&self) -> u32 {
        self.map_count.map_or(65_530, u32::from)
    }

    /// Returns the largest number of processes at one time, from 1 to
    /// [`MAX_PROCESSES`](crate::operand::MAX_PROCESSES).
    pub fn max_processes(&self) -> usize {
        self.processes.map_or(crate::operand::MAX_PROCESSES, |n| {
            usize::from(n).clamp(1, crate::operand::MAX_PROCESSES)
        })
    }
}

/// A sequence of operations, and the limits under which they run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Program {
    /// The limits.
    pub limits: Limits,
    /// The operations, at most [`MAX_OPS`]. The readers of programs refuse more.
    pub ops: Vec<Op>,
}

impl fmt::Display for Limits {
    /// Writes the text form: `limits map_count=8 lock=4`, or nothing if no limit is set.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = || Limits::NAMES.iter().zip(self.to_array()).filter_map(|(n, l)| Some((n, l?)));
        if given().next().is_some() {
            f.write_str("limits")?;
        }
        given().try_for_each(|(name, limit)| write!(f, " {name}={limit}"))
    }
}

impl fmt::Display for Program {
    /// Writes the text form, one operation a line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.limits != Limits::default() {
            writeln!(f, "{}", self.limits)?;
        }
        self.ops.iter().try_for_each(|op| writeln!(f, "{op}"))
    }
}
