//! The limit on the number of VMAs, `vm.max_map_count`, set for the time of one operation.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;

use crate::error::KernelError;

/// The setting `vm.max_map_count`, which counts for the whole machine.
#[derive(Debug)]
pub(crate) struct MapCount {
    file: File,
    usual: u32,
}

const MAX_MAP_COUNT: &str = "/proc/sys/vm/max_map_count";

fn setting(error: io::Error) -> KernelError {
    KernelError::Controller { what: "setting vm.max_map_count", error }
}

impl MapCount {
    /// Opens the setting and remembers its value.
    pub(crate) fn open() -> Result<MapCount, KernelError> {
        let usual = fs::read_to_string(MAX_MAP_COUNT).map_err(setting)?;
        let usual = usual.trim().parse().map_err(|e| setting(io::Error::other(e)))?;
        let file = OpenOptions::new().write(true).open(MAX_MAP_COUNT).map_err(setting)?;
        Ok(MapCount { file, usual })
    }

    fn set(&self, limit: u32) -> io::Result<()> {
        // The kernel ignores a write that does not begin at offset 0 (`sysctl_writes_strict`).
        self.file.write_all_at(limit.to_string().as_bytes(), 0)
    }

    /// Limits every process of the machine, until the returned value is dropped.
    pub(crate) fn limit(&mut self, limit: u32) -> Result<Limited<'_>, KernelError> {
        self.set(limit).map_err(setting)?;
        Ok(Limited(self))
    }
}

/// A guard: `vm.max_map_count` is set until it is dropped.
pub(crate) struct Limited<'a>(&'a mut MapCount);

impl Drop for Limited<'_> {
    fn drop(&mut self) {
        let usual = self.0.usual;
        let _ = self.0.set(usual);
    }
}
