//! The coverage of the kernel's own code by the operations of a program: KCOV
//! (Documentation/dev-tools/kcov.rst). `unsafe` code is here because mapping memory and `ioctl` have no
//! safe wrapper.
//!
//! Each process of a program has an area into which the kernel writes program counters while the
//! process runs. The controller makes the areas, so that processes inherit them. A process enables its
//! own area.
#![allow(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::os::fd::{AsRawFd as _, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::{io, ptr, slice};

use vmadiff_machine::operand::MAX_PROCESSES;

use crate::error::KernelError;

const FILE: &str = "/sys/kernel/debug/kcov";
/// The size of an area in words of 64 bits. The first word is the number of program counters. An area
/// is small, because a child gets the page tables of all areas.
const WORDS: usize = 8192;
const BYTES: usize = 8 * WORDS;
/// `_IOR('c', 1, unsigned long)` and `_IO('c', 100)`.
const KCOV_INIT_TRACE: u64 = 0x8008_6301;
const KCOV_ENABLE: u64 = 0x6364;
const KCOV_TRACE_PC: usize = 0;

/// The areas of all processes, as a process inherits them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Areas([(RawFd, usize); MAX_PROCESSES]);

impl Areas {
    fn of(&self, process: u8) -> Option<(RawFd, &'static [AtomicU64])> {
        let (file, start) = *self.0.get(usize::from(process))?;
        // SAFETY: the area is mapped as long as a process of a program runs, and as long as a
        // `Coverage` lives. The kernel writes to it while the process runs, so the words are atomic.
        Some((file, unsafe { slice::from_raw_parts(start as *const AtomicU64, WORDS) }))
    }

    /// Returns the descriptors of the areas.
    pub(crate) fn files(&self) -> impl Iterator<Item = RawFd> + '_ {
        self.0.iter().map(|(file, _)| *file)
    }

    /// Lets the kernel write the program counters of the calling process into the area of `process`.
    pub(crate) fn enable(&self, process: u8) {
        if let Some((file, _)) = self.of(process) {
            // SAFETY: the call takes a number.
            unsafe { libc::syscall(libc::SYS_ioctl, file, KCOV_ENABLE, KCOV_TRACE_PC) };
        }
    }

    /// Returns the number of program counters in the area of `process`.
    pub(crate) fn count(&self, process: u8) -> u32 {
        self.of(process).map_or(0, |(_, area)| area[0].load(Ordering::Relaxed) as u32)
    }

    /// Empties the area of `process`.
    pub(crate) fn clear(&self, process: u8) {
        if let Some((_, area)) = self.of(process) {
            area[0].store(0, Ordering::Relaxed);
        }
    }
}

/// The areas of all processes, as the controller has them.
#[derive(Debug)]
pub(crate) struct Coverage {
    areas: Areas,
    _files: Vec<File>,
}

impl Coverage {
    /// Makes the areas.
    ///
    /// # Errors
    /// Returns an error if the kernel was built without KCOV, or debugfs is not mounted.
    pub(crate) fn new() -> Result<Coverage, KernelError> {
        let failed =
            |error| KernelError::Controller { what: "opening /sys/kernel/debug/kcov", error };
        let (mut files, mut areas) = (Vec::new(), [(-1, 0); MAX_PROCESSES]);
        for area in &mut areas {
            let file = OpenOptions::new().read(true).write(true).open(FILE).map_err(failed)?;
            let fd = file.as_raw_fd();
            let (prot, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED);
            // SAFETY: the first call takes a number. The second maps memory at an address that the
            // kernel chooses.
            let start = unsafe {
                if libc::syscall(libc::SYS_ioctl, fd, KCOV_INIT_TRACE, WORDS) == -1 {
                    return Err(failed(io::Error::last_os_error()));
                }
                libc::mmap(ptr::null_mut(), BYTES, prot, flags, fd, 0)
            };
            if start == libc::MAP_FAILED {
                return Err(failed(io::Error::last_os_error()));
            }
            *area = (fd, start as usize);
            files.push(file);
        }
        Ok(Coverage { areas: Areas(areas), _files: files })
    }

    pub(crate) fn areas(&self) -> Areas {
        self.areas
    }

    /// Returns the first `count` program counters in the area of `process`, as far as the area has room for
    /// them.
    pub(crate) fn counters(&self, process: u8, count: u32) -> impl Iterator<Item = u64> {
        let area = self.areas.of(process).map_or(&[][..], |(_, area)| &area[1..]);
        area.iter().take(count as usize).map(|word| word.load(Ordering::Relaxed))
    }
}

impl Drop for Coverage {
    fn drop(&mut self) {
        for (_, start) in self.areas.0 {
            // SAFETY: the mapping is this value's own.
            unsafe { libc::munmap(start as *mut _, BYTES) };
        }
    }
}
