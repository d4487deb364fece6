//! Logs of `strace -f`: the calls that make, change and end address spaces.
//!
//! Understood are logs written to a file (`-o`, each line begins with the thread's number) and to
//! a terminal (`[pid N]` where there are several), with any of `-t -tt -ttt -r -T -y -X raw`, and
//! calls that another thread's line interrupts (`<unfinished ...>`, `<... resumed>`). What a line
//! says that is of no use here is counted by the call's name.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, Read as _};

use vmadiff_machine::operand::{Advice, Mode, Prot};

/// The longest line; what strace writes of a call is far shorter.
const MAX_LINE_BYTES: u64 = 1 << 20;
/// The most calls that are kept of a log.
const MAX_EVENTS: usize = 1 << 20;
/// One past the last page that a process can map (`TASK_SIZE`), and the pages of a file offset.
const MAX_PAGE: u64 = 1 << 52;

/// Why a file is not a log.
#[derive(Debug, thiserror::Error)]
pub enum StraceError {
    /// Reading failed.
    #[error("line {line}")]
    Read {
        /// The line, counted from 1.
        line: usize,
        /// Why.
        source: std::io::Error,
    },
    /// It has no bytes.
    #[error("the file is empty: expected what `strace -f` writes")]
    Empty,
    /// Most of it is not what strace writes.
    #[error(
        "line {line}: not a line of strace: `{text}`, nor are {others} of {lines} lines: expected \
         what `strace -f` writes"
    )]
    Garbage {
        /// The first such line, counted from 1.
        line: usize,
        /// Its beginning.
        text: String,
        /// How many lines are none.
        others: usize,
        /// How many there are.
        lines: usize,
    },
    /// It is more than is kept.
    #[error("line {line}: the log goes on past {MAX_EVENTS} calls: expected a shorter one")]
    TooLong {
        /// The line, counted from 1.
        line: usize,
    },
}

/// A range of pages, by their numbers in the whole address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pages {
    /// The first page.
    pub start: u64,
    /// One past the last page; above `start`.
    pub end: u64,
}

/// What a file descriptor shows.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FileName {
    /// Its path, or if that is not known its number.
    pub name: String,
    /// Whether it was seen to be opened for reading only.
    pub read_only: bool,
}

/// A call that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// `mmap`, at the address that it returned.
    Mmap {
        /// Where.
        range: Pages,
        /// The protection.
        prot: Prot,
        /// `MAP_SHARED`.
        shared: bool,
        /// `MAP_NORESERVE`.
        noreserve: bool,
        /// `MAP_LOCKED`.
        locked: bool,
        /// The file, and the page of it; `None` for anonymous memory.
        file: Option<(FileName, u64)>,
    },
    /// `munmap`.
    Munmap(Pages),
    /// `mprotect`.
    Mprotect(Pages, Prot),
    /// `mremap`, to the address that it returned.
    Mremap {
        /// What is resized or moved.
        old: Pages,
        /// What it becomes.
        new: Pages,
    },
    /// `madvise`.
    Madvise(Pages, Advice),
    /// `mlock`, `mlock2`; whether with `MLOCK_ONFAULT`.
    Mlock(Pages, bool),
    /// `munlock`.
    Munlock(Pages),
    /// `mbind`.
    Mbind(Pages, Mode),
    /// `brk`: the address that it returned, in bytes.
    Brk(u64),
    /// `fork`, `vfork`, `clone`, `clone3`.
    Clone {
        /// The new thread.
        child: u32,
        /// It shares the address space (`CLONE_VM`).
        vm: bool,
        /// It is of the same thread group (`CLONE_THREAD`).
        thread: bool,
    },
    /// `execve`.
    Execve,
    /// The thread ends, or with `group` all of its group.
    Exit {
        /// `exit_group`.
        group: bool,
    },
}

/// A call in the order in which it took effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The line where it ends, counted from 1.
    pub line: usize,
    /// The thread; 0 for the first one, as long as its number is not told.
    pub thread: u32,
    /// What it did.
    pub call: Call,
}

/// What a log says.
#[derive(Debug, Default)]
pub struct Log {
    /// The calls of use here.
    pub events: Vec<Event>,
    /// What else there is, by name, with its count: other calls, failed ones, lines that are none.
    pub ignored: BTreeMap<String, usize>,
    /// How many lines it has.
    pub lines: usize,
}

/// A line without thread and time.
#[derive(Debug, PartialEq, Eq)]
enum Line<'a> {
    Call {
        name: &'a str,
        arguments: &'a str,
        result: &'a str,
    },
    Unfinished {
        name: &'a str,
        arguments: &'a str,
    },
    Resumed {
        name: &'a str,
        rest: &'a str,
    },
    /// `+++ exited with 0 +++`.
    Ended,
    /// `strace: Process 7 attached`.
    Attached(u32),
    /// A signal, or a remark of strace's own.
    Remark,
}

/// Takes the thread's number off the beginning.
fn thread(line: &str) -> (Option<u32>, &str) {
    let line = line.trim_start();
    let (digits, rest) = match line.strip_prefix("[pid ") {
        Some(rest) => match rest.split_once(']') {
            Some((digits, rest)) => (digits.trim(), rest),
            None => return (None, line),
        },
        None => match line.split_once(char::is_whitespace) {
            Some(parts) => parts,
            None => return (None, line),
        },
    };
    match digits.parse() {
        Ok(thread) => (Some(thread), rest.trim_start()),
        Err(_) => (None, line),
    }
}

/// Takes times off the beginning: `12:34:56.789`, `1700000000.123456`, `0.000123`.
fn without_time(mut line: &str) -> &str {
    loop {
        let Some((word, rest)) = line.split_once(char::is_whitespace) else { return line };
        let word = word.strip_prefix('+').unwrap_or(word);
        let is_time = word.starts_with(|c: char| c.is_ascii_digit())
            && word.contains(['.', ':'])
            && word.chars().all(|c| c.is_ascii_digit() || c == '.' || c == ':');
        if !is_time {
            return line;
        }
        line = rest.trim_start();
    }
}

/// Where the text ends that `text` opens with: the offset of the first of `ends` outside of
/// strings, brackets, comments and names of files.
fn end_of(text: &str, ends: &[u8]) -> Option<usize> {
    let bytes = text.as_bytes();
    let (mut at, mut depth) = (0, 0usize);
    while let Some(&byte) = bytes.get(at) {
        if depth == 0 && ends.contains(&byte) {
            return Some(at);
        }
        let skip_to = |end: &str, from: usize| text.get(from..)?.find(end).map(|n| from + n);
        match byte {
            b'"' => {
                at += 1;
                while *bytes.get(at)? != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'/' if bytes.get(at + 1) == Some(&b'*') => at = skip_to("*/", at + 2)? + 1,
            // `3</lib/libc.so.6>`: what `-y` says of a descriptor.
            b'<' if at > 0 && bytes[at - 1].is_ascii_alphanumeric() => at = skip_to(">", at)?,
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.checked_sub(1)?,
            _ => {}
        }
        at += 1;
    }
    None
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase() || c == '_')
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

fn line(text: &str) -> Option<Line<'_>> {
    if text.starts_with("+++ ") {
        return Some(if text.starts_with("+++ superseded") { Line::Remark } else { Line::Ended });
    }
    let remark = ["--- ", "strace: ", "[ Process PID="].iter().any(|p| text.starts_with(p));
    if let Some(thread) = text
        .strip_prefix("strace: Process ")
        .and_then(|rest| rest.strip_suffix(" attached"))
        .and_then(|number| number.parse().ok())
    {
        return Some(Line::Attached(thread));
    }
    // Where another program's output was cut into: `Process 7 attached` of old versions too.
    if remark || text.starts_with("Process ") || text.starts_with(" > ") {
        return Some(Line::Remark);
    }
    if let Some(rest) = text.strip_prefix("<... ") {
        let (name, rest) = rest.split_once(" resumed>")?;
        return is_name(name).then_some(Line::Resumed { name, rest });
    }
    let (name, rest) = text.split_once('(')?;
    if !is_name(name) {
        return (name == "????").then_some(Line::Remark);
    }
    if let Some(arguments) = rest.trim_end().strip_suffix("<unfinished ...>") {
        let arguments = arguments.trim_end().trim_end_matches(',');
        return Some(Line::Unfinished { name, arguments });
    }
    let end = end_of(rest, b")")?;
    let result = rest[end + 1..].trim_start().strip_prefix("= ")?.trim_start();
    Some(Line::Call { name, arguments: &rest[..end], result })
}

/// A line into which strace wrote that it follows a new thread: what was there before, and which.
fn interrupted(text: &str) -> Option<(&str, u32)> {
    let (before, child) = text.strip_suffix(" attached")?.rsplit_once("strace: Process ")?;
    let is_call = before.contains('(') && text.len() as u64 <= MAX_LINE_BYTES;
    Some((before, child.parse().ok()?)).filter(|_| is_call)
}

/// The arguments of a call, without their names and without comments.
fn split(arguments: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let mut rest = arguments;
    loop {
        let end = end_of(rest, b",");
        let part = rest[..end.unwrap_or(rest.len())].trim();
        parts.push(part.split("/*").next().unwrap_or_default().trim());
        match end {
            Some(end) => rest = &rest[end + 1..],
            None => return parts,
        }
    }
}

fn number(text: &str) -> Option<u64> {
    match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None if text == "NULL" => Some(0),
        None => text.parse().ok(),
    }
}

/// Flags by names and numbers; names that are not in `known` count as nothing.
fn flags(text: &str, known: &[(&str, u64)]) -> Option<u64> {
    text.split('|').try_fold(0, |all, word| {
        let word = word.trim();
        if word.starts_with(|c: char| c.is_ascii_digit()) {
            return Some(all | number(word)?);
        }
        if !word.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_') {
            return None;
        }
        Some(all | known.iter().find(|(name, _)| *name == word).map_or(0, |(_, bit)| *bit))
    })
}

/// The bits of `mmap`'s flags that are read, `MAP_HUGETLB` and `MAP_GROWSDOWN` to refuse them.
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
const PROT: [(&str, u64); 6] = [
    ("PROT_READ", 1),
    ("PROT_WRITE", 2),
    ("PROT_EXEC", 4),
    // Those that mean something else are none of the three.
    ("PROT_SEM", 8),
    ("PROT_GROWSDOWN", 0x0100_0000),
    ("PROT_GROWSUP", 0x0200_0000),
];
const CLONE: [(&str, u64); 2] = [("CLONE_VM", 0x100), ("CLONE_THREAD", 0x1_0000)];

fn prot(text: &str) -> Option<Prot> {
    Prot::from_bits(u8::try_from(flags(text, &PROT)?).ok()?)
}

/// The pages of a range in bytes; `None` where it has none or is no range of a process.
fn pages(start: u64, len: u64) -> Option<Pages> {
    let end = start.checked_add(len)?.checked_add(0xfff)? >> 12;
    let start = start >> 12;
    (start < end && end <= MAX_PAGE && len > 0).then_some(Pages { start, end })
}

/// What was learned of a log's threads and files on the way.
#[derive(Default)]
struct Reader {
    log: Log,
    /// Calls that are not finished: by thread, the name, the arguments and where they begin.
    unfinished: BTreeMap<u32, (String, String, usize)>,
    /// Threads by number, those that have not ended.
    living: BTreeSet<u32>,
    /// Threads that began after the first.
    children: BTreeSet<u32>,
    /// The number that the first thread turned out to have.
    first: Option<u32>,
    /// Files by descriptor and thread: good enough for what a loader does.
    files: BTreeMap<(u32, u64), FileName>,
}

impl Reader {
    fn count(&mut self, what: impl Into<String>) {
        *self.log.ignored.entry(what.into()).or_default() += 1;
    }

    /// Whose line it is: one without a number is of the only thread that is left, or of the first
    /// if it was never told apart.
    fn whose(&mut self, told: Option<u32>) -> u32 {
        let thread = match told {
            None => match (self.living.first(), self.living.len()) {
                (Some(&only), 1) => only,
                _ => self.first.unwrap_or(0),
            },
            Some(number) => number,
        };
        if told.is_some() && self.living.contains(&0) && !self.children.contains(&thread) {
            // The first thread was not numbered until there were several.
            self.rename_first(thread);
        }
        self.living.insert(thread);
        thread
    }

    fn rename_first(&mut self, number: u32) {
        self.first = Some(number);
        self.living.remove(&0);
        self.living.insert(number);
        for event in &mut self.log.events {
            if event.thread == 0 {
                event.thread = number;
            }
        }
        if let Some(call) = self.unfinished.remove(&0) {
            self.unfinished.insert(number, call);
        }
        for ((thread, descriptor), file) in std::mem::take(&mut self.files) {
            let thread = if thread == 0 { number } else { thread };
            self.files.insert((thread, descriptor), file);
        }
    }

    /// A call with its result.
    fn finished(&mut self, at: (usize, usize), thread: u32, name: &str, args: &str, result: &str) {
        let (begun, line) = at;
        let word = result.split([' ', '<']).next().unwrap_or_default();
        if let Some(errno) = result.strip_prefix("-1 ") {
            let errno = errno.split(' ').next().unwrap_or_default();
            let of_use = CALLS.contains(&name);
            self.count(if of_use { format!("{name} {errno}") } else { name.to_owned() });
            return;
        }
        match name {
            "open" | "openat" | "memfd_create" => {
                let file = FileName {
                    name: args.split('"').nth(1).unwrap_or_default().to_owned(),
                    read_only: args.contains("O_RDONLY"),
                };
                if let Some(descriptor) = number(word) {
                    self.files.insert((thread, descriptor), file);
                }
                return self.count(name);
            }
            _ if !CALLS.contains(&name) => return self.count(name),
            _ => {}
        }
        let Some(call) = self.call(thread, name, args, word) else {
            return self.count(format!("{name} (not understood)"));
        };
        let line = match call {
            Call::Clone { child, .. } => {
                self.children.insert(child);
                let known: Vec<_> = self
                    .files
                    .range((thread, 0)..=(thread, u64::MAX))
                    .map(|(k, f)| (k.1, f.clone()))
                    .collect();
                self.files.extend(known.into_iter().map(|(d, file)| ((child, d), file)));
                // The child may be heard of before its parent returns.
                begun
            }
            _ => line,
        };
        self.log.events.push(Event { line, thread, call });
    }

    fn call(&self, thread: u32, name: &str, arguments: &str, result: &str) -> Option<Call> {
        let args = split(arguments);
        let arg = |n: usize| args.get(n).copied();
        let range = || pages(number(arg(0)?)?, number(arg(1)?)?);
        Some(match name {
            "mmap" => {
                let bits = flags(arg(3)?, &MAP)?;
                if bits & 0x4_0100 != 0 {
                    return None;
                }
                let file = if bits & 0x20 != 0 {
                    None
                } else {
                    let offset = number(arg(5)?)? >> 12;
                    Some((self.file(thread, arg(4)?)?, offset)).filter(|_| offset < MAX_PAGE)
                };
                Call::Mmap {
                    range: pages(number(result)?, number(arg(1)?)?)?,
                    prot: prot(arg(2)?)?,
                    shared: bits & 1 != 0,
                    noreserve: bits & 0x4000 != 0,
                    locked: bits & 0x2000 != 0,
                    file,
                }
            }
            "munmap" => Call::Munmap(range()?),
            "mprotect" => Call::Mprotect(range()?, prot(arg(2)?)?),
            "mremap" => {
                Call::Mremap { old: range()?, new: pages(number(result)?, number(arg(2)?)?)? }
            }
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
            "fork" | "vfork" | "clone" | "clone3" => {
                let child = result.parse().ok().filter(|child| *child > 0)?;
                let given = arguments.split("flags=").nth(1).unwrap_or("0");
                let given = given.split([',', '}', ')', ' ']).next()?;
                let bits = match name {
                    "vfork" => 0x100,
                    "fork" => 0,
                    _ => flags(given, &CLONE)?,
                };
                Call::Clone { child, vm: bits & 0x100 != 0, thread: bits & 0x1_0000 != 0 }
            }
            "execve" | "execveat" => Call::Execve,
            "exit" => Call::Exit { group: false },
            "exit_group" => Call::Exit { group: true },
            _ => return None,
        })
    }

    /// The file behind a descriptor: as `-y` names it, or as it was opened, or its number.
    fn file(&self, thread: u32, text: &str) -> Option<FileName> {
        let (digits, path) = text.split_once('<').unwrap_or((text, ""));
        let descriptor = number(digits)?;
        let opened = self.files.get(&(thread, descriptor));
        let path = path.strip_suffix('>').unwrap_or(path);
        Some(FileName {
            name: match (path, opened) {
                ("", Some(file)) => file.name.clone(),
                ("", None) => format!("descriptor {descriptor}"),
                (path, _) => path.to_owned(),
            },
            read_only: opened.is_some_and(|file| file.read_only),
        })
    }

    fn line(&mut self, at: usize, told: Option<u32>, line: &Line<'_>) {
        if let Line::Attached(child) = *line {
            self.children.insert(child);
            self.living.insert(child);
            return;
        }
        if *line == Line::Remark {
            return self.count("(remarks and signals)");
        }
        let thread = self.whose(told);
        match *line {
            Line::Call { name, arguments, result } => {
                self.finished((at, at), thread, name, arguments, result);
            }
            Line::Unfinished { name, arguments } => {
                // A thread that ends never returns from it.
                if matches!(name, "exit" | "exit_group") {
                    return self.finished((at, at), thread, name, arguments, "?");
                }
                self.unfinished.insert(thread, (name.to_owned(), arguments.to_owned(), at));
            }
            Line::Resumed { name, rest } => {
                if matches!(name, "exit" | "exit_group") {
                    return;
                }
                let begun = self.unfinished.remove(&thread).filter(|(begun, ..)| begun == name);
                let Some((_, mut arguments, begun)) = begun else {
                    return self.count(format!("{name} (resumed, never begun)"));
                };
                // The rest of the arguments, if any, then the result as on any line.
                let Some(end) = end_of(rest, b")") else {
                    return self.count(format!("{name} (not understood)"));
                };
                let more = rest[..end].trim().trim_start_matches(',').trim();
                if !more.is_empty() {
                    arguments.push_str(", ");
                    arguments.push_str(more);
                }
                match rest[end + 1..].trim_start().strip_prefix("= ") {
                    Some(result) => {
                        let result = result.trim_start();
                        self.finished((begun, at), thread, name, &arguments, result);
                    }
                    None => self.count(format!("{name} (not understood)")),
                }
            }
            Line::Ended => {
                self.living.remove(&thread);
                self.unfinished.remove(&thread);
                let call = Call::Exit { group: false };
                self.log.events.push(Event { line: at, thread, call });
            }
            Line::Attached(_) | Line::Remark => {}
        }
    }
}

/// The calls of use here.
const CALLS: [&str; 18] = [
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

/// Reads a log.
///
/// # Errors
/// [`StraceError`] with the line, where reading fails, where the log is too long, and where half
/// of the lines or more are not what strace writes. (A few are where a program writes between.)
pub fn read(mut file: impl BufRead) -> Result<Log, StraceError> {
    let mut reader = Reader::default();
    let mut first_other: Option<(usize, String)> = None;
    let (mut others, mut understood) = (0, 0);
    let mut bytes = Vec::new();
    // The beginning of a line that strace itself wrote into: the next line goes on.
    let mut begun = String::new();
    for at in 1.. {
        bytes.clear();
        let read = |source| StraceError::Read { line: at, source };
        let length =
            file.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes).map_err(read)?;
        if length == 0 {
            break;
        }
        reader.log.lines = at;
        let text = std::mem::take(&mut begun) + String::from_utf8_lossy(&bytes).trim_end();
        let text = match interrupted(&text) {
            Some((before, child)) => {
                begun.push_str(before);
                reader.line(at, None, &Line::Attached(child));
                continue;
            }
            None => text.as_str(),
        };
        if text.is_empty() {
            continue;
        }
        let (told, rest) = thread(text);
        // A stack that `-k` shows begins with a blank.
        let shown = if text.starts_with(" > ") { text } else { without_time(rest) };
        match line(shown) {
            Some(line) => {
                understood += 1;
                reader.line(at, told, &line);
            }
            None => {
                others += 1;
                first_other.get_or_insert_with(|| (at, shown.chars().take(40).collect()));
            }
        }
        if reader.log.events.len() > MAX_EVENTS {
            return Err(StraceError::TooLong { line: at });
        }
    }
    let lines = others + understood;
    if lines == 0 {
        return Err(StraceError::Empty);
    }
    if let Some((line, text)) = first_other.filter(|_| others * 2 >= lines) {
        return Err(StraceError::Garbage { line, text, others, lines });
    }
    if others > 0 {
        reader.log.ignored.insert("(lines that are not strace's)".into(), others);
    }
    for (_, (name, ..)) in std::mem::take(&mut reader.unfinished) {
        reader.count(format!("{name} (never resumed)"));
    }
    // Calls that were interrupted count where they took effect.
    reader.log.events.sort_by_key(|event| event.line);
    Ok(reader.log)
}
