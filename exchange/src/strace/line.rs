//! The lines of a log: thread, time, and the parts of a call.

/// The limit of a line's length. The lines of strace are far shorter.
pub(super) const MAX_LINE_BYTES: u64 = 1 << 20;

/// A line without thread and time.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
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
    /// A signal, or a message of strace itself.
    Remark,
}

/// Reads the thread's number at the beginning of a line, and returns the rest of the line.
pub(super) fn thread(line: &str) -> (Option<u32>, &str) {
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

/// Removes times from the beginning of a line: `12:34:56.789`, `1700000000.123456`, `0.000123`.
pub(super) fn without_time(mut line: &str) -> &str {
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

/// Returns the offset of the first byte of `ends` in `text` that is outside of strings, brackets,
/// comments and the names of files.
pub(super) fn end_of(text: &str, ends: &[u8]) -> Option<usize> {
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
            // `3</lib/libc.so.6>`: `-y` shows the file of a descriptor.
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

/// Reads a line without thread and time; `None` if strace writes no such line.
pub(super) fn line(text: &str) -> Option<Line<'_>> {
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
    // Old versions of strace write `Process 7 attached` without `strace:`. The lines of a stack
    // trace (`-k`) begin with ` > `.
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

/// Splits a line into which strace wrote that it follows a new thread: returns the text before the
/// message, and the thread.
pub(super) fn interrupted(text: &str) -> Option<(&str, u32)> {
    let (before, child) = text.strip_suffix(" attached")?.rsplit_once("strace: Process ")?;
    let is_call = before.contains('(') && text.len() as u64 <= MAX_LINE_BYTES;
    Some((before, child.parse().ok()?)).filter(|_| is_call)
}
