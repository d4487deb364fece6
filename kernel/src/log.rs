//! The log of the running kernel, `/dev/kmsg`: the reports of the kernel about itself are attributed
//! to the operation after which they appear.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;

use rustix::fs::OFlags;
use vmadiff_kernel_log::{MAX_LINES, Report, report};

use crate::error::KernelError;

/// The size of the longest record of `/dev/kmsg`.
const RECORD: usize = 8192;

/// The open log of the kernel.
#[derive(Debug)]
pub(crate) struct Log(File);

impl Log {
    /// Opens the log at its end: earlier messages are skipped.
    pub(crate) fn open() -> Result<Log, KernelError> {
        let failed = |source| KernelError::Controller { what: "opening /dev/kmsg", error: source };
        let flags = OFlags::NONBLOCK.bits() as i32;
        let mut file =
            OpenOptions::new().read(true).custom_flags(flags).open("/dev/kmsg").map_err(failed)?;
        file.seek(SeekFrom::End(0)).map_err(failed)?;
        Ok(Log(file))
    }

    /// Reads the messages since the last call and returns the first report in them.
    pub(crate) fn read(&mut self) -> Option<Report> {
        let mut lines = Vec::new();
        let mut record = [0; RECORD];
        // The number of records is bounded, because a broken kernel may print without end.
        for _ in 0..10 * MAX_LINES {
            match self.0.read(&mut record) {
                Ok(read) if read > 0 => {
                    let record = String::from_utf8_lossy(&record[..read]);
                    lines.extend(message(&record).map(str::to_owned));
                }
                // The record was overwritten before it was read. The next read continues after it.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                // There are no more records.
                _ => break,
            }
        }
        report(lines.iter().map(String::as_str))
    }
}

/// Returns the lines of the text of a record: `4,1234,2500000,-;text`. The kernel writes a newline in the
/// text as `\x0a`. Lines that begin with a space after the text are the record's properties.
fn message(record: &str) -> impl Iterator<Item = &str> {
    let text = record.split_once(';').and_then(|(_, text)| text.lines().next());
    text.into_iter().flat_map(|text| text.split("\\x0a")).filter(|line| !line.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_of_a_record_is_between_its_head_and_its_properties() {
        let record = "4,339,5140900,-;BUG: Bad page; map\n SUBSYSTEM=acpi\n DEVICE=+acpi:1\n";
        assert_eq!(message(record).collect::<Vec<_>>(), ["BUG: Bad page; map"]);
        let record = "4,339,5140900,-;\\x0abut task is already\\x0aholding lock:\\x0a\n";
        assert_eq!(message(record).collect::<Vec<_>>(), ["but task is already", "holding lock:"]);
        assert_eq!(message("no record").count(), 0);
    }
}
