//! User Mode Linux on processors that have more registers than it knows.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use duct::cmd;
use sha1::{Digest as _, Sha1};

use crate::project::hex;
use crate::scratch::Scratch;

/// The library, which hands over the registers that the kernel does not know.
const SOURCE: &str = include_str!("registers.c");

/// The bytes of registers that every version of User Mode Linux can keep.
#[cfg(target_arch = "x86_64")]
const KNOWN: u32 = 2696;

/// Returns whether the processor's registers do not fit into the buffer of User Mode Linux. The first program of
/// such a kernel is killed by `SIGSEGV`.
#[cfg(target_arch = "x86_64")]
fn are_many() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count};
    const STATES: u32 = 0xd;
    __cpuid(0).eax >= STATES && __cpuid_count(STATES, 0).ebx > KNOWN
}

#[cfg(not(target_arch = "x86_64"))]
fn are_many() -> bool {
    false
}

/// Returns the library to load before User Mode Linux on this computer, if it needs one. The library is kept in
/// `folder`.
///
/// # Errors
/// Returns an error if the library cannot be compiled.
pub(crate) fn library(folder: &Path) -> Result<Option<PathBuf>> {
    if are_many() { built(folder).map(Some) } else { Ok(None) }
}

/// Compiles the library, unless that was done before.
fn built(folder: &Path) -> Result<PathBuf> {
    let kept = folder.join(format!("registers-{}.so", hex(&Sha1::digest(SOURCE)[..3])));
    if !kept.exists() {
        let work = Scratch::within(folder)?;
        let part = work.path().join("registers.so");
        cmd!("cc", "-O2", "-shared", "-fPIC", "-x", "c", "-o", &part, "-")
            .stdin_bytes(SOURCE)
            .run()
            .context("cc: the library for User Mode Linux does not build")?;
        fs::rename(&part, &kept).with_context(|| kept.display().to_string())?;
    }
    Ok(kept)
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;

    /// The library is loaded into a program that reads and writes the registers of a child.
    #[test]
    fn a_short_buffer_of_registers_is_taken_and_words_are_read() -> Result<()> {
        let folder = Scratch::new()?;
        let (library, program) = (built(folder.path())?, folder.path().join("program"));
        cmd!("cc", "-x", "c", "-o", &program, "-")
            .stdin_bytes(include_str!("registers_test.c"))
            .run()?;
        cmd!(&program).env("LD_PRELOAD", &library).run()?;
        assert_eq!(built(folder.path())?, library);
        Ok(())
    }
}
