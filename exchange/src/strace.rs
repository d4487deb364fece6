//! Logs of `strace -f`: the calls that make, change and end address spaces.
//!
//! Understood are logs written to a file (`-o`, each line begins with the thread's number) and to
//! a terminal (`[pid N]` where there are several), with any of `-t -tt -ttt -r -T -y -X raw`, and
//! calls that another thread's line interrupts (`<unfinished ...>`, `<... resumed>`). What a line
//! says that is of no use here is counted by the call's name.

mod arguments;
mod call;
mod line;
mod log;
mod reader;

use std::io::{BufRead, Read as _};

use line::{Line, MAX_LINE_BYTES, interrupted, line, thread, without_time};
use reader::Reader;

pub use log::{Call, Event, FileName, Log, Pages};

/// The most calls that are kept of a log.
const MAX_EVENTS: usize = 1 << 20;
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
