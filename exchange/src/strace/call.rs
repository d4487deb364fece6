//! Reads the calls that an import needs from their arguments.

use vmadiff_machine::operand::{Advice, MlockallFlags, Mode, Prot, Resource};

use super::arguments::{flags, number, split};
use super::log::{Call, FileName, Pages};
use crate::flags as f;

/// The bound of page numbers: the pages of a process (`TASK_SIZE`) and of a file lie below.
const MAX_PAGE: u64 = 1 << 52;

/// The names of the calls that are read.
pub(super) const CALLS: [&str; 27] = [
    "brk",
    "clone",
    "clone3",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "fork",
    "ftruncate",
    "madvise",
    "mbind",
    "mlock",
    "mlock2",
    "mlockall",
    "mmap",
    "mprotect",
    "mremap",
    "mseal",
    "munlock",
    "munlockall",
    "munmap",
    "prlimit64",
    "setrlimit",
    "shmat",
    "shmctl",
    "shmdt",
    "vfork",
];

fn prot(text: &str) -> Option<Prot> {
    Prot::from_bits(u8::try_from(flags(text, f::PROT)?).ok()?)
}

fn mlockall_flags(bits: u64) -> Option<MlockallFlags> {
    MlockallFlags::from_bits(u8::try_from(bits).ok()?)
}

/// Returns the pages of a range in bytes; `None` if it has no page or is not in a process's address
/// space.
fn pages(start: u64, len: u64) -> Option<Pages> {
    let end = start.checked_add(len)?.checked_add(0xfff)? >> 12;
    let start = start >> 12;
    (start < end && end <= MAX_PAGE && len > 0).then_some(Pages { start, end })
}

/// Returns the pages of a segment of `bytes` bytes; `None` where a process has no room for it.
pub(super) fn segment_pages(bytes: u64) -> Option<u64> {
    pages(0, bytes).map(|pages| pages.end)
}

/// Returns the resource of `prlimit64` or `setrlimit`, and its new limit; `None` if the call sets no limit of
/// memory.
pub(super) fn limit<'a>(name: &str, arguments: &'a str) -> Option<(Resource, &'a str)> {
    let args = split(arguments);
    let (at, to) = if name == "setrlimit" { (0, 1) } else { (1, 2) };
    let resource = match flags(args.get(at)?, f::RLIMIT)? {
        8 => Resource::Memlock,
        9 => Resource::As,
        _ => return None,
    };
    Some((resource, *args.get(to)?)).filter(|(_, max)| *max != "NULL")
}

fn prlimit(name: &str, arguments: &str) -> Option<Call> {
    let (resource, max) = limit(name, arguments)?;
    let soft = max.strip_prefix("{rlim_cur=")?.split(',').next()?.trim();
    // strace writes `8192*1024` for a limit of 8 MiB.
    let infinite = match soft {
        "RLIM_INFINITY" | "RLIM64_INFINITY" => true,
        _ => number(soft.split(['*', '/']).next()?.trim())? == u64::MAX,
    };
    let process = match name {
        "setrlimit" => 0,
        _ => number(split(arguments).first()?)?.try_into().ok()?,
    };
    Some(Call::Prlimit { process: Some(process).filter(|p| *p > 0), resource, infinite })
}

/// Reads a call; `None` if its arguments are not understood. `file` returns the file of a
/// descriptor, `segment` the pages of a segment of SysV shared memory.
pub(super) fn call(
    name: &str,
    arguments: &str,
    result: &str,
    file: impl Fn(&str) -> Option<FileName>,
    segment: impl Fn(u64) -> Option<u64>,
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
            keeps_source: flags(arg(3)?, f::MREMAP)? & f::MREMAP_DONTUNMAP != 0,
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
        "mlock2" => Call::Mlock(range()?, flags(arg(2)?, f::MLOCK)? & f::MLOCK_ONFAULT != 0),
        "munlock" => Call::Munlock(range()?),
        "ftruncate" => Call::Ftruncate(file(arg(0)?)?, number(arg(1)?)?.div_ceil(1 << 12)),
        "mseal" => Call::Mseal(range()?),
        "mlockall" => Call::Mlockall(mlockall_flags(flags(arg(0)?, f::MCL)?)?),
        "munlockall" => Call::Munlockall,
        "prlimit64" | "setrlimit" => prlimit(name, arguments)?,
        "mbind" => {
            let mode = arg(2)?.split('|').next()?;
            let named = mode.strip_prefix("MPOL_");
            let is = |m: &&Mode| match named {
                Some(name) => m.name() == name,
                None => number(mode) == Some(m.number().into()),
            };
            Call::Mbind(range()?, *Mode::ALL.iter().find(is)?)
        }
        "shmat" => {
            let (id, start) = (number(arg(0)?)?, number(result)?);
            let bits = flags(arg(2)?, f::SHM)?;
            Call::Shmat {
                id,
                range: pages(start, segment(id)? << 12)?,
                read_only: bits & f::SHM_RDONLY != 0,
                exec: bits & f::SHM_EXEC != 0,
                remap: bits & f::SHM_REMAP != 0,
            }
        }
        "shmdt" => Call::Shmdt { start: number(arg(0)?)? >> 12 },
        "shmctl" => Call::ShmRmid { id: number(arg(0)?)? },
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
    let bits = flags(arg(3)?, f::MAP)?;
    let has = |flag: u64| bits & flag != 0;
    if has(f::MAP_HUGETLB | f::MAP_GROWSDOWN) {
        return None;
    }
    let file = if has(f::MAP_ANONYMOUS) {
        None
    } else {
        let offset = number(arg(5)?)? >> 12;
        Some((file(arg(4)?)?, offset)).filter(|_| offset < MAX_PAGE)
    };
    Some(Call::Mmap {
        range: pages(number(result)?, number(arg(1)?)?)?,
        prot: prot(arg(2)?)?,
        shared: has(f::MAP_SHARED),
        noreserve: has(f::MAP_NORESERVE),
        locked: has(f::MAP_LOCKED),
        populated: has(f::MAP_POPULATE) && !has(f::MAP_NONBLOCK),
        file,
    })
}

fn clone(name: &str, arguments: &str, result: &str) -> Option<Call> {
    let child = result.parse().ok().filter(|child| *child > 0)?;
    let given = arguments.split("flags=").nth(1).unwrap_or("0");
    let given = given.split([',', '}', ')', ' ']).next()?;
    let bits = match name {
        "vfork" => f::CLONE_VM,
        "fork" => 0,
        _ => flags(given, f::CLONE)?,
    };
    Some(Call::Clone { child, vm: bits & f::CLONE_VM != 0, thread: bits & f::CLONE_THREAD != 0 })
}
