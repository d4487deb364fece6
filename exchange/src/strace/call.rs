//! Reads the calls that an import needs from their arguments.

use vmadiff_machine::operand::{Advice, Mode, Prot};

use super::arguments::{flags, number, split};
use super::log::{Call, FileName, Pages};

/// The bound of page numbers: the pages of a process (`TASK_SIZE`) and of a file lie below.
const MAX_PAGE: u64 = 1 << 52;

/// The names of the calls that are read.
pub(super) const CALLS: [&str; 18] = [
    "brk",
    "clone",
    "clone3",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "fork",
    "madvise",
    "mbind",
    "mlock",
    "mlock2",
    "mmap",
    "mprotect",
    "mremap",
    "munlock",
    "munmap",
    "vfork",
];

/// The flags of `mmap()` that are read. `MAP_HUGETLB` and `MAP_GROWSDOWN` are read to refuse such
/// calls.
const MAP: [(&str, u64); 8] = [
    ("MAP_SHARED", 0x1),
    ("MAP_SHARED_VALIDATE", 0x3),
    ("MAP_PRIVATE", 0x2),
    ("MAP_ANONYMOUS", 0x20),
    ("MAP_GROWSDOWN", 0x100),
    ("MAP_LOCKED", 0x2000),
    ("MAP_NORESERVE", 0x4000),
    ("MAP_HUGETLB", 0x4_0000),
];
const MREMAP: [(&str, u64); 3] =
    [("MREMAP_MAYMOVE", 1), ("MREMAP_FIXED", 2), ("MREMAP_DONTUNMAP", 4)];
const PROT: [(&str, u64); 6] = [
    ("PROT_READ", 1),
    ("PROT_WRITE", 2),
    ("PROT_EXEC", 4),
    // Other protection bits have a meaning that `Prot` does not have.
    ("PROT_SEM", 8),
    ("PROT_GROWSDOWN", 0x0100_0000),
    ("PROT_GROWSUP", 0x0200_0000),
];
const CLONE: [(&str, u64); 2] = [("CLONE_VM", 0x100), ("CLONE_THREAD", 0x1_0000)];

fn prot(text: &str) -> Option<Prot> {
    Prot::from_bits(u8::try_from(flags(text, &PROT)?).ok()?)
}

/// Returns the pages of a range in bytes; `None` if it has no page or is not in a process's address
/// space.
fn pages(start: u64, len: u64) -> Option<Pages> {
    let end = start.checked_add(len)?.checked_add(0xfff)? >> 12;
    let start = start >> 12;
    (start < end && end <= MAX_PAGE && len > 0).then_some(Pages { start, end })
}

/// Reads a call; `None` if its arguments are not understood. `file` returns the file of a
/// descriptor.
pub(super) fn call(
    name: &str,
    arguments: &str,
    result: &str,
    file: impl Fn(&str) -> Option<FileName>,
) -> Option<Call> {
    let args = split(arguments);
    let arg = |n: usize| args.get(n).copied();
    let range = || pages(number(arg(0)?)?, number(arg(1)?)?);
    Some(match name {
        "mmap" => mmap(&args, result, file)?,
        "munmap" => Call::Munmap(range()?),
        "mprotect" => Call::Mprotect(range()?, prot(arg(2)?)?),
        "mremap" => Call::Mremap {
            old: range()?,
            new: pages(number(result)?, number(arg(2)?)?)?,
            keeps_source: flags(arg(3)?, &MREMAP)? & 4 != 0,
        },
        "madvise" => {
            let advice = arg(2)?;
            let named = advice.strip_prefix("MADV_");
            let is = |a: &&Advice| match named {
                Some(name) => a.name() == name,
                None => number(advice) == Some(a.number().into()),
            };
            Call::Madvise(range()?, *Advice::ALL.iter().find(is)?)
        }
        "mlock" => Call::Mlock(range()?, false),
        "mlock2" => Call::Mlock(range()?, flags(arg(2)?, &[("MLOCK_ONFAULT", 1)])? & 1 != 0),
        "munlock" => Call::Munlock(range()?),
        "mbind" => {
            let mode = arg(2)?.split('|').next()?;
            let named = mode.strip_prefix("MPOL_");
            let is = |m: &&Mode| match named {
                Some(name) => m.name() == name,
                None => number(mode) == Some(m.number().into()),
            };
            Call::Mbind(range()?, *Mode::ALL.iter().find(is)?)
        }
        "brk" => Call::Brk(number(result)?),
        "fork" | "vfork" | "clone" | "clone3" => clone(name, arguments, result)?,
        "execve" | "execveat" => Call::Execve,
        "exit" => Call::Exit { group: false },
        "exit_group" => Call::Exit { group: true },
        _ => return None,
    })
}

fn mmap(args: &[&str], result: &str, file: impl Fn(&str) -> Option<FileName>) -> Option<Call> {
    let arg = |n: usize| args.get(n).copied();
    let bits = flags(arg(3)?, &MAP)?;
    if bits & 0x4_0100 != 0 {
        return None;
    }
    let file = if bits & 0x20 != 0 {
        None
    } else {
        let offset = number(arg(5)?)? >> 12;
        Some((file(arg(4)?)?, offset)).filter(|_| offset < MAX_PAGE)
    };
    Some(Call::Mmap {
        range: pages(number(result)?, number(arg(1)?)?)?,
        prot: prot(arg(2)?)?,
        shared: bits & 1 != 0,
        noreserve: bits & 0x4000 != 0,
        locked: bits & 0x2000 != 0,
        file,
    })
}

fn clone(name: &str, arguments: &str, result: &str) -> Option<Call> {
    let child = result.parse().ok().filter(|child| *child > 0)?;
    let given = arguments.split("flags=").nth(1).unwrap_or("0");
    let given = given.split([',', '}', ')', ' ']).next()?;
    let bits = match name {
        "vfork" => 0x100,
        "fork" => 0,
        _ => flags(given, &CLONE)?,
    };
    Some(Call::Clone { child, vm: bits & 0x100 != 0, thread: bits & 0x1_0000 != 0 })
}
