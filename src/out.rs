//! Standard output and standard error of the commands.

use std::fmt::Display;
use std::io::{self, StdoutLock, Write};

use vmadiff_machine::Plain;

/// The largest number of characters of a line on standard error.
const MAX_LINE: usize = 4000;

/// Standard output. An error says that it is standard output that failed. If the reader has gone,
/// the process ends as other tools do, by `SIGPIPE`.
pub(crate) struct Stdout(StdoutLock<'static>);

/// Returns standard output.
pub(crate) fn stdout() -> Stdout {
    Stdout(io::stdout().lock())
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(failed)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(failed)
    }
}

fn failed(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        end_by_sigpipe();
    }
    io::Error::new(error.kind(), format!("standard output: {error}"))
}

/// Ends the process quietly, as the signal `SIGPIPE` does. The process ignores the signal until
/// then: a library that crashes must not end it.
pub(crate) fn end_by_sigpipe() -> ! {
    #[cfg(all(target_os = "linux", target_arch = "x86_64"))]
    vmadiff::kernel::remove_segments();
    #[cfg(unix)]
    {
        use signal_hook::{consts::SIGPIPE, low_level::emulate_default_handler};
        let _ = emulate_default_handler(SIGPIPE);
    }
    std::process::exit(141)
}

/// Writes a message to standard error, with the name of the program.
pub(crate) fn note(message: impl Display) {
    remark(format!("vmadiff: {message}"));
}

/// Writes a text to standard error: without control characters, and no line too long to read. A text
/// that nobody can read is no error.
pub(crate) fn remark(message: impl Display) {
    let mut text = String::new();
    for line in message.to_string().lines() {
        let end = line.char_indices().nth(MAX_LINE).map(|(end, _)| end);
        let shown = Plain(&line[..end.unwrap_or(line.len())]);
        let rest = if end.is_some() { "…" } else { "" };
        text.push_str(&format!("{shown}{rest}\n"));
    }
    let _ = io::stderr().write_all(text.as_bytes());
}

/// Writes lines for another program to standard error, whole.
pub(crate) fn record(lines: &str) {
    let _ = io::stderr().write_all(format!("{lines}\n").as_bytes());
}
