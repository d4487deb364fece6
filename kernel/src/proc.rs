//! The state of a process's arena, read from `/proc`.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;

use vmadiff_machine::VmFlags;
use vmadiff_machine::operand::{ARENA_START, END_PAGES, Mode, Page, PageOffset};

use crate::worker::PAGE;

/// The identity of a file: device and inode.
pub(crate) type Inode = (u64, u64);

/// A VMA as `smaps` shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mapping {
    pub(crate) start: Page,
    pub(crate) end: Page,
    pub(crate) flags: VmFlags,
    /// The page offset of a file mapping: for anonymous memory `smaps` shows 0.
    pub(crate) pgoff: PageOffset,
    pub(crate) file: Option<Inode>,
    /// The number of pages of anonymous memory.
    pub(crate) anonymous: u64,
    pub(crate) policy: Mode,
}

/// The counters of a process, in pages. A counter is `None` on a system whose `status` has no line for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) total_vm: i64,
    pub(crate) locked_vm: Option<i64>,
    pub(crate) data_vm: Option<i64>,
}

impl Status {
    /// Reads the counters from the text of `status`.
    fn of(text: &[u8]) -> Result<Status, ProcError> {
        let text = String::from_utf8_lossy(text);
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
            line.and_then(kilobytes).map(|pages| pages as i64)
        };
        let without = || not_understood("status", "there is no line VmSize".to_owned());
        Ok(Status {
            total_vm: value("VmSize").ok_or_else(without)?,
            locked_vm: value("VmLck"),
            data_vm: value("VmData"),
        })
    }
}

/// Returns the flags that a line such as `VmFlags: rd wr mr` names.
///
/// The names are in the order of their bits. Kernels before 6.12 have no name for `VM_LOCKONFAULT`
/// and show `??`, which is recognized by its position.
fn flags(names: &str) -> Result<VmFlags, String> {
    const LOCKONFAULT: u32 = VmFlags::VM_LOCKONFAULT.bits().trailing_zeros();
    let names: Vec<&str> = names.split_ascii_whitespace().collect();
    let bit = |at: usize| {
        let name = names.get(at)?;
        VmFlags::SMAPS_NAMES.iter().find(|(known, _)| known == name).map(|(_, bit)| *bit)
    };
    let mut flags = VmFlags::empty();
    for (at, name) in names.iter().enumerate() {
        let bit = match bit(at) {
            Some(bit) => bit,
            None if *name == "??" => {
                let before = at.checked_sub(1).is_none_or(|at| bit(at) < Some(LOCKONFAULT));
                let after = bit(at + 1).is_none_or(|bit| bit > LOCKONFAULT);
                if !before || !after {
                    return Err(
                        "a flag is `??`, and its position is not that of VM_LOCKONFAULT".into()
                    );
                }
                LOCKONFAULT
            }
            None => return Err(format!("no mapping of a program has the flag `{name}`")),
        };
        flags |= VmFlags::from_bits_retain(1 << bit);
    }
    Ok(flags)
}

/// Returns the kernel addresses `from..to` as pages of the arena; `None` if they lie outside.
fn pages(from: u64, to: u64) -> Option<(Page, Page)> {
    let page = |address: u64| {
        let page = (address / PAGE).checked_sub(ARENA_START)?;
        (page <= END_PAGES as u64).then_some(Page(page as u8))
    };
    Some((page(from)?, page(to)?)).filter(|(from, to)| from < to)
}

/// The first address after the arena.
const END: u64 = (ARENA_START + END_PAGES as u64) * PAGE;

/// A parser that reads mappings from the text of `smaps`, line by line.
#[derive(Default)]
struct Parser {
    mappings: Vec<Mapping>,
    /// The present lines describe a mapping of the arena.
    inside: bool,
    /// The mappings of the arena are complete: all further lines lie beyond the arena.
    done: bool,
}

impl Parser {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let wrong = || format!("`{line}` is not a line of smaps");
        if line.as_bytes().first().is_none_or(|c| !c.is_ascii_uppercase()) {
            return self.header(line).ok_or_else(wrong);
        }
        if !self.inside {
            return Ok(());
        }
        let mapping = self.mappings.last_mut().ok_or_else(wrong)?;
        let (key, value) = line.split_once(':').ok_or_else(wrong)?;
        match key {
            "Anonymous" => mapping.anonymous = kilobytes(value).ok_or_else(wrong)?,
            "VmFlags" => {
                mapping.flags = flags(value)?;
                self.inside = false;
            }
            _ => {}
        }
        Ok(())
    }

    /// Reads the first line of a mapping: `100000000-100001000 rw-p 00000000 00:00 0   /a/path`.
    fn header(&mut self, line: &str) -> Option<()> {
        let mut words = line.split_ascii_whitespace();
        let (from, to) = words.next()?.split_once('-')?;
        let hex = |text: &str| u64::from_str_radix(text, 16).ok();
        let (from, to) = (hex(from)?, hex(to)?);
        self.done = from >= END;
        self.inside = false;
        let Some((start, end)) = pages(from, to) else { return Some(()) };
        self.inside = true;
        let offset = hex(words.nth(1)?)?;
        let (major, minor) = words.next()?.split_once(':')?;
        let device = hex(major)? << 32 | hex(minor)?;
        let inode: u64 = words.next()?.parse().ok()?;
        self.mappings.push(Mapping {
            start,
            end,
            flags: VmFlags::empty(),
            pgoff: PageOffset(offset / PAGE),
            file: (inode != 0).then_some((device, inode)),
            anonymous: 0,
            policy: Mode::Default,
        });
        Some(())
    }
}

/// Returns `   12 kB` as a number of pages.
fn kilobytes(text: &str) -> Option<u64> {
    let kilobytes: u64 = text.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes / (PAGE / 1024))
}

/// The open files in `/proc` that show a process.
#[derive(Debug)]
pub(crate) struct Proc {
    pid: i32,
    smaps: File,
    status: File,
    /// `None` on a system that has no such file.
    pagemap: Option<File>,
}

/// The error of a file in `/proc` that could not be read or not be understood.
#[derive(Debug, thiserror::Error)]
#[error("/proc/PID/{file}: {source}")]
pub struct ProcError {
    /// The file.
    pub file: &'static str,
    /// The reason.
    pub source: io::Error,
}

fn in_file(file: &'static str) -> impl Fn(io::Error) -> ProcError {
    move |source| ProcError { file, source }
}

fn not_understood(file: &'static str, what: String) -> ProcError {
    ProcError { file, source: io::Error::new(io::ErrorKind::InvalidData, what) }
}

impl Proc {
    pub(crate) fn open(pid: i32) -> Result<Proc, ProcError> {
        let open =
            |file: &'static str| File::open(format!("/proc/{pid}/{file}")).map_err(in_file(file));
        let pagemap = match open("pagemap") {
            Err(error) if error.source.kind() == io::ErrorKind::NotFound => None,
            pagemap => Some(pagemap?),
        };
        Ok(Proc { pid, smaps: open("smaps")?, status: open("status")?, pagemap })
    }

    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Reads the mappings of the arena, in address order.
    pub(crate) fn mappings(&self, policies: bool) -> Result<Vec<Mapping>, ProcError> {
        // One read returns a page of text at most, in whole mappings, and the arena lies below most
        // other mappings: reading stops when it has passed the arena.
        let mut chunk = [0; PAGE as usize];
        let (mut offset, mut rest) = (0, Vec::new());
        let mut parser = Parser::default();
        while !parser.done {
            let read = self.smaps.read_at(&mut chunk, offset).map_err(in_file("smaps"))?;
            if read == 0 {
                break;
            }
            offset += read as u64;
            rest.extend_from_slice(&chunk[..read]);
            let whole = rest.iter().rposition(|c| *c == b'\n').map_or(0, |at| at + 1);
            let text = String::from_utf8_lossy(&rest[..whole]);
            for line in text.lines() {
                parser.line(line).map_err(|what| not_understood("smaps", what))?;
                if parser.done {
                    break;
                }
            }
            rest.drain(..whole);
        }
        let mut mappings = parser.mappings;
        if policies {
            self.policies(&mut mappings)?;
        }
        Ok(mappings)
    }

    /// Adds the policies from `numa_maps`: `100000000 prefer:0 …`.
    fn policies(&self, mappings: &mut [Mapping]) -> Result<(), ProcError> {
        let text = fs::read_to_string(format!("/proc/{}/numa_maps", self.pid))
            .map_err(in_file("numa_maps"))?;
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let address = words.next().and_then(|word| u64::from_str_radix(word, 16).ok());
            let at = address.and_then(|from| pages(from, from + PAGE));
            let mapping = at.and_then(|(page, _)| mappings.iter_mut().find(|m| m.start == page));
            let (Some(mapping), Some(policy)) = (mapping, words.next()) else { continue };
            let name = policy.split([':', '=']).next();
            let mode = Mode::ALL.iter().find(|mode| Some(mode.numa_maps_name()) == name);
            mapping.policy = *mode.ok_or_else(|| {
                not_understood("numa_maps", format!("`{policy}` is no policy of a program"))
            })?;
        }
        Ok(())
    }

    /// Reads the counters of the whole process.
    pub(crate) fn status(&self) -> Result<Status, ProcError> {
        let mut text = [0; PAGE as usize];
        let read = self.status.read_at(&mut text, 0).map_err(in_file("status"))?;
        Status::of(&text[..read])
    }

    /// Reads the number of locked pages outside the arena.
    pub(crate) fn locked_outside(&self) -> Result<i64, ProcError> {
        let text =
            fs::read_to_string(format!("/proc/{}/smaps", self.pid)).map_err(in_file("smaps"))?;
        let (mut locked, mut outside) = (0, 0);
        for line in text.lines() {
            let mut words = line.split_ascii_whitespace();
            let range = words.next().and_then(|range| range.split_once('-'));
            let hex = |text: &str| u64::from_str_radix(text, 16).ok();
            if let Some((from, to)) = range.and_then(|(from, to)| Some((hex(from)?, hex(to)?))) {
                let pages = (to - from) / PAGE;
                outside = if self::pages(from, to).is_some() { 0 } else { pages as i64 };
            } else if line.starts_with("VmFlags:") && words.any(|name| name == "lo") {
                locked += outside;
            }
        }
        Ok(locked)
    }

    /// Reads the page table entries of the arena from `pagemap`.
    pub(crate) fn pagemap(&self) -> Result<[PageEntry; END_PAGES], ProcError> {
        let mut bytes = [0; 8 * END_PAGES];
        let lacks = || in_file("pagemap")(io::ErrorKind::NotFound.into());
        let file = self.pagemap.as_ref().ok_or_else(lacks)?;
        file.read_exact_at(&mut bytes, 8 * ARENA_START).map_err(in_file("pagemap"))?;
        let mut entries = [PageEntry(0); END_PAGES];
        for (entry, bytes) in entries.iter_mut().zip(bytes.as_chunks().0) {
            *entry = PageEntry(u64::from_ne_bytes(*bytes));
        }
        Ok(entries)
    }

    /// Returns whether the process waits in `function`, as far as the kernel shows it.
    pub(crate) fn waits_in(&self, function: &str) -> bool {
        let read = |file| fs::read_to_string(format!("/proc/{}/{file}", self.pid));
        // Kernels before 5.16 that are built without frame pointers do not find the function in
        // `wchan`. They find it in `stack`, which is for root only.
        read("wchan").is_ok_and(|name| name == function)
            || read("stack").is_ok_and(|stack| stack.contains(function))
    }

    /// Reads the number of VMAs of the process, which `map_count` counts.
    pub(crate) fn map_count(&self) -> Result<u32, ProcError> {
        let text =
            fs::read_to_string(format!("/proc/{}/maps", self.pid)).map_err(in_file("maps"))?;
        // The gate area is shown, but it is no VMA of the process.
        Ok(text.lines().filter(|line| !line.ends_with("[vsyscall]")).count() as u32)
    }
}

/// An entry of `pagemap`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageEntry(u64);

impl PageEntry {
    /// Returns the number of the page frame; 0 if the reader may not see it.
    pub(crate) fn frame(self) -> u64 {
        self.0 & ((1 << 55) - 1)
    }

    /// Returns whether the page is swapped out. The frame number has another meaning then.
    pub(crate) fn is_swapped(self) -> bool {
        self.0 & 1 << 62 != 0
    }

    /// Returns whether the entry of a shared mapping is a marker of userfaultfd, in place of a page that it has
    /// write-protected. It is shown like a page that is swapped out.
    pub(crate) fn is_marker(self) -> bool {
        self.is_swapped() && self.0 & 1 << 57 != 0
    }

    /// Returns whether the entry maps a page that belongs to no file: anonymous memory, or the zero
    /// page.
    pub(crate) fn is_anonymous(self) -> bool {
        const PRESENT: u64 = 1 << 63;
        const SWAPPED: u64 = 1 << 62;
        const FILE: u64 = 1 << 61;
        self.0 & (PRESENT | SWAPPED) != 0 && self.0 & FILE == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Mapping>, String> {
        let mut parser = Parser::default();
        text.lines().try_for_each(|line| parser.line(line))?;
        Ok(parser.mappings)
    }

    #[test]
    fn what_smaps_shows_of_the_arena_is_read_and_nothing_else() {
        let text = "00400000-00401000 r-xp 00000000 fd:00 12 /bin/true\n\
                    Size: 4 kB\nAnonymous: 4 kB\nVmFlags: rd ex zz \n\
                    100002000-100005000 rw-s 00007000 00:01 1043 /memfd:0 (deleted)\n\
                    Anonymous:             8 kB\nTHPeligible: 0\nVmFlags: rd wr sh mr mw me ms sd \n\
                    7ffc0000000-7ffc0021000 rw-p 00000000 00:00 0 [stack]\n";
        let mappings = parse(text).expect("smaps");
        let flags = VmFlags::from_bits_retain(0x0800_00fb);
        assert_eq!(
            mappings,
            [Mapping {
                start: Page(2),
                end: Page(5),
                flags,
                pgoff: PageOffset(7),
                file: Some((1, 1043)),
                anonymous: 2,
                policy: Mode::Default,
            }]
        );
    }

    #[test]
    fn what_is_not_smaps_is_an_error_that_shows_it() {
        for text in [
            "100000000 rw-p 0 00:00 0\n",
            "100000000-100001000 rw-p\n",
            "\n",
            "100000000-100001000 rw-p 00000000 00:00 0\nAnonymous: many\n",
            "100000000-100001000 rw-p 00000000 00:00 0\nVmFlags: rd zz\n",
        ] {
            let error = parse(text).expect_err(text);
            assert!(error.contains('`'), "{error}");
        }
    }

    #[test]
    fn counters_that_a_system_does_not_show_are_left_out() {
        let status = |text: &str| Status::of(text.as_bytes()).ok();
        let all = "Name: a\nVmSize:\t  8 kB\nVmLck:\t 4 kB\nVmData: 16 kB\n";
        let expected = Status { total_vm: 2, locked_vm: Some(1), data_vm: Some(4) };
        assert_eq!(status(all), Some(expected));
        let few = Status { total_vm: 2, ..Status::default() };
        assert_eq!(status("VmSize: 8 kB\nVmLock: 4 kB\n"), Some(few));
        assert_eq!(status("Name: a\n"), None);
    }

    #[test]
    fn a_flag_without_a_name_is_known_by_its_place() {
        let locked = VmFlags::VM_READ | VmFlags::LOCK;
        assert_eq!(flags("rd lo ??"), Ok(locked));
        assert_eq!(flags("rd lo ?? sd"), Ok(locked | VmFlags::VM_SOFTDIRTY));
        assert_eq!(flags("rd lo lf"), Ok(locked));
        assert!(flags("rd ?? lo").is_err());
        assert!(flags("rd sd ??").is_err());
    }
}
