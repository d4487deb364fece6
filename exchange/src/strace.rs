//! Logs of `strace -f`: the calls that create, change and end address spaces.
//!
//! The reader understands logs that are written to a file (`-o`: each line begins with the thread's
//! number) and to a terminal (`[pid N]` if there are several threads), with any of the options `-t
//! -tt -ttt -r -T -y -X raw`. It joins the parts of interrupted calls (`<unfinished ...>`, `<...
//! resumed>`). Other calls are counted by name.

mod arguments;
mod call;
mod line;
mod log;
mod reader;

use std::io::{BufRead, Read as _};

use line::{Line, MAX_LINE_BYTES, interrupted, line, thread, without_time};
use reader::Reader;
use vmadiff_machine::Quote;

pub use log::{Call, Event, FileName, Log, Pages};

/// The limit of calls that are kept of a log.
const MAX_EVENTS: usize = 1 << 20;

/// The reason why a file is not a log.
#[derive(Debug, thiserror::Error)]
pub enum StraceError {
    /// Reading fails.
    #[error("line {line}")]
    Read {
        /// The line, counted from 1.
        line: usize,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The file is empty.
    #[error("the file is empty: expected what `strace -f` writes")]
    Empty,
    /// At least half of the lines are not lines of strace.
    #[error(
        "line {line}: not a line of strace: {}, nor are {others} of {lines} lines: expected \
         what `strace -f` writes",
        Quote(text)
    )]
    Garbage {
        /// The first line that is not a line of strace, counted from 1.
        line: usize,
        /// The beginning of this line.
        text: String,
        /// The number of lines that are not lines of strace.
        others: usize,
        /// The number of lines that are not empty.
        lines: usize,
    },
    /// The log has more calls than the limit.
    #[error("line {line}: the log goes on past {MAX_EVENTS} calls: expected a shorter one")]
    TooLong {
        /// The line, counted from 1.
        line: usize,
    },
}

/// Reads a log.
///
/// # Errors
/// [`StraceError`] with the line if reading fails, if the log is too long, or if at least half of
/// its lines are not lines of strace. Fewer such lines are accepted: a traced program may write to
/// the same file.
pub fn read(mut file: impl BufRead) -> Result<Log, StraceError> {
    let mut reader = Reader::default();
    let mut first_other: Option<(usize, String)> = None;
    let (mut others, mut understood) = (0, 0);
    let mut bytes = Vec::new();
    // The beginning of a line into which strace wrote a message. The next line is the rest.
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
        let shown = String::from_utf8_lossy(&bytes);
        let shown = if at == 1 { shown.trim_start_matches('\u{feff}') } else { &shown };
        let text = std::mem::take(&mut begun) + shown.trim_end();
        let text = match interrupted(&text) {
            Some((before, child)) => {
                begun.push_str(before);
                reader.line(at, None, &Line::Attached(child));
                continue;
            }
            None => text.as_str(),
        };
        if text.is_empty() {
            reader.count("(empty lines)");
            continue;
        }
        let (told, rest) = thread(text);
        // The lines of a stack trace (`-k`) begin with a blank.
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
    while let Some(&thread) = reader.unfinished.keys().next() {
        reader.never_resumed(thread);
    }
    // An interrupted call counts at the line where it took effect.
    reader.log.events.sort_by_key(|event| event.line);
    Ok(reader.log)
}
