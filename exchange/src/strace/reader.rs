//! The reader of a log: follows threads, open files and interrupted calls.

use std::collections::{BTreeMap, BTreeSet};

use super::arguments::{number, split};
use super::call::{CALLS, call, limit, segment_pages};
use super::line::{Line, end_of};
use super::log::{Call, Event, FileName, Log};

/// The largest number of files of all living threads. A new thread past it does not know the names of
/// its parent's files.
const MAX_FILES: usize = 1 << 18;
/// The largest number of segments of SysV shared memory whose length is remembered. Linux has no more at a
/// time (`IPCMNI`).
const MAX_SEGMENTS: usize = 1 << 15;
/// The count of lines that strace wrote about itself or about a signal.
const REMARKS: &str = "(remarks and signals)";
/// The count of the additional lines of calls that have two lines.
const PARTS: &str = "(second lines of interrupted calls)";

/// A file that a thread has opened.
#[derive(Clone)]
struct Opened {
    file: FileName,
    /// The thread that opened it.
    by: u32,
}

/// Returns the process of the name of a file `/proc/PID/clear_refs`; `opener` is the thread that opened it.
fn clear_refs_of(name: &str, opener: Option<u32>) -> Option<u32> {
    match name.strip_prefix("/proc/")?.strip_suffix("/clear_refs")? {
        "self" | "thread-self" => opener,
        process => process.parse().ok(),
    }
}

/// The state of a log's threads and files at the current line.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) log: Log,
    /// The unfinished call of each thread: the name, the arguments and the line where the call
    /// begins.
    pub(super) unfinished: BTreeMap<u32, (String, String, usize)>,
    /// The living threads, by number.
    living: BTreeSet<u32>,
    /// The threads that were created after the first one.
    children: BTreeSet<u32>,
    /// The number of the first thread, once a line has given it.
    first: Option<u32>,
    /// The files by thread and descriptor. A new thread gets a copy of its parent's files; later
    /// changes are not shared. A program loader needs no more.
    files: BTreeMap<(u32, u64), Opened>,
    /// The pages of each segment of SysV shared memory, by its identifier.
    segments: BTreeMap<u64, u64>,
}

impl Reader {
    pub(super) fn count(&mut self, what: impl Into<String>) {
        *self.log.ignored.entry(what.into()).or_default() += 1;
    }

    /// Returns the thread of a line. A line without a number belongs to the only living thread, or
    /// to the first thread if several are alive.
    fn whose(&mut self, told: Option<u32>) -> u32 {
        let thread = match told {
            None => match (self.living.first(), self.living.len()) {
                (Some(&only), 1) => only,
                _ => self.first.unwrap_or(0),
            },
            Some(number) => number,
        };
        if told.is_some() && self.living.contains(&0) && !self.children.contains(&thread) {
            // strace gives the number of the first thread only after there are several threads.
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
            self.never_resumed(number);
            self.unfinished.insert(number, call);
        }
        let renamed = |thread| if thread == 0 { number } else { thread };
        for ((thread, descriptor), file) in std::mem::take(&mut self.files) {
            let file = Opened { by: renamed(file.by), ..file };
            self.files.insert((renamed(thread), descriptor), file);
        }
    }

    /// Counts the unfinished call of a thread, which is not resumed.
    pub(super) fn never_resumed(&mut self, thread: u32) {
        if let Some((name, ..)) = self.unfinished.remove(&thread) {
            self.count(format!("{name} (never resumed)"));
        }
    }

    /// Reads a finished call with its result.
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
                    self.files.insert((thread, descriptor), Opened { file, by: thread });
                }
                return self.count(name);
            }
            "close" | "dup" | "dup2" | "dup3" => {
                self.descriptor(thread, name, args, word);
                return self.count(name);
            }
            "write" | "pwrite64" => {
                return match self.clears_refs(thread, args) {
                    Some(process) => {
                        let call = Call::ClearRefs { process };
                        self.log.events.push(Event { line, thread, call });
                    }
                    None => self.count(name),
                };
            }
            "shmget" => {
                self.shmget(args, word);
                return self.count(name);
            }
            "shmctl" if !args.contains("IPC_RMID") => return self.count(name),
            "shmat" if !self.knows_segment(args) => {
                return self.count("shmat (of a segment that no call of the log made)");
            }
            "prlimit64" | "setrlimit" if limit(name, args).is_none() => return self.count(name),
            _ if !CALLS.contains(&name) => return self.count(name),
            _ => {}
        }
        let segment = |id| self.segments.get(&id).copied();
        let Some(call) = call(name, args, word, |text| self.file(thread, text), segment) else {
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
                if self.files.len() + known.len() <= MAX_FILES {
                    self.files.extend(known.into_iter().map(|(d, file)| ((child, d), file)));
                } else {
                    self.count("(threads whose files are not followed)");
                }
                // The log can have lines of the child before its parent's call returns.
                begun
            }
            _ => line,
        };
        self.log.events.push(Event { line, thread, call });
    }

    /// Follows a descriptor that is closed or duplicated.
    fn descriptor(&mut self, thread: u32, name: &str, args: &str, result: &str) {
        let named = |text: &str| number(text.split('<').next()?);
        let Some(old) = split(args).first().and_then(|text| named(text)) else { return };
        if name == "close" {
            self.files.remove(&(thread, old));
            return;
        }
        let Some(new) = named(result) else { return };
        match self.files.get(&(thread, old)).cloned() {
            Some(file) => self.files.insert((thread, new), file),
            None => self.files.remove(&(thread, new)),
        };
    }

    /// Returns the process of a write of `4` to its file `clear_refs`.
    fn clears_refs(&self, thread: u32, args: &str) -> Option<u32> {
        let args = split(args);
        let written = args.get(1)?.strip_prefix('"')?.strip_suffix('"')?;
        if written.trim_end_matches("\\n").trim() != "4" {
            return None;
        }
        let (digits, path) = args[0].split_once('<').unwrap_or((args[0], ""));
        let path = path.strip_suffix('>').unwrap_or(path);
        let shown = Some(path).filter(|path| !path.is_empty());
        let of_path = shown.map(|path| clear_refs_of(path, None));
        if of_path == Some(None) {
            return None;
        }
        // `-y` shows the number that `self` stood for, which a log without numbers does not know.
        let opened = self.files.get(&(thread, number(digits)?));
        let of_opened = opened.and_then(|it| clear_refs_of(&it.file.name, Some(it.by)));
        of_opened.or(of_path.flatten())
    }

    /// Remembers the length of a segment. A call that finds a segment may give a shorter length, or 0.
    fn shmget(&mut self, args: &str, id: &str) {
        let bytes = split(args).get(1).and_then(|bytes| number(bytes));
        if let (Some(id), Some(pages)) = (number(id), bytes.and_then(segment_pages))
            && self.segments.len() < MAX_SEGMENTS
        {
            self.segments.entry(id).or_insert(pages);
        }
    }

    fn knows_segment(&self, args: &str) -> bool {
        let id = split(args).first().and_then(|id| number(id));
        id.is_some_and(|id| self.segments.contains_key(&id))
    }

    /// Returns the file of a descriptor: the path that `-y` shows, or the path that was opened, or
    /// the number.
    fn file(&self, thread: u32, text: &str) -> Option<FileName> {
        let (digits, path) = text.split_once('<').unwrap_or((text, ""));
        let descriptor = number(digits)?;
        let opened = self.files.get(&(thread, descriptor));
        let path = path.strip_suffix('>').unwrap_or(path);
        let opened = opened.map(|opened| &opened.file);
        Some(FileName {
            name: match (path, opened) {
                ("", Some(file)) => file.name.clone(),
                ("", None) => format!("descriptor {descriptor}"),
                (path, _) => path.to_owned(),
            },
            read_only: opened.is_some_and(|file| file.read_only),
        })
    }

    /// Reads the rest of a call that was interrupted by another thread's line.
    fn resumed(&mut self, at: usize, thread: u32, name: &str, rest: &str) {
        if matches!(name, "exit" | "exit_group") {
            return self.count(PARTS);
        }
        if self.unfinished.get(&thread).is_some_and(|(begun, ..)| begun != name) {
            self.never_resumed(thread);
        }
        let Some((_, mut arguments, begun)) = self.unfinished.remove(&thread) else {
            return self.count(format!("{name} (resumed, never begun)"));
        };
        self.count(PARTS);
        // The line has the rest of the arguments, if any, and then the result as usual.
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

    /// Reads a line of the log. `told` is the thread's number, if the line has one.
    pub(super) fn line(&mut self, at: usize, told: Option<u32>, line: &Line<'_>) {
        if let Line::Attached(child) = *line {
            self.children.insert(child);
            self.living.insert(child);
            return self.count(REMARKS);
        }
        if *line == Line::Remark {
            return self.count(REMARKS);
        }
        let thread = self.whose(told);
        match *line {
            Line::Call { name, arguments, result } => {
                self.finished((at, at), thread, name, arguments, result);
            }
            Line::Unfinished { name, arguments } => {
                // `exit` and `exit_group` never return.
                if matches!(name, "exit" | "exit_group") {
                    return self.finished((at, at), thread, name, arguments, "?");
                }
                self.never_resumed(thread);
                self.unfinished.insert(thread, (name.to_owned(), arguments.to_owned(), at));
            }
            Line::Resumed { name, rest } => self.resumed(at, thread, name, rest),
            Line::Ended => {
                self.living.remove(&thread);
                let files = self.files.range((thread, 0)..=(thread, u64::MAX));
                let files: Vec<_> = files.map(|(key, _)| *key).collect();
                files.iter().for_each(|key| drop(self.files.remove(key)));
                self.never_resumed(thread);
                self.count("(ends of threads)");
                self.log.events.push(Event { line: at, thread, call: Call::Ended });
            }
            Line::Attached(_) | Line::Remark => {}
        }
    }
}
