//! The memory outside the arena, all of which is mapped.
//!
//! In the world of a program nothing outside the arena is free, so that an address that the kernel
//! chooses lies in the arena. Process 0 maps every hole that it has, shared and without access, of a
//! file of its own, so that nothing in the arena merges with it. Its children inherit that.
//!
//! The code runs in a worker, so it makes system calls only.
#![allow(unsafe_code)]

use std::ops::Range;
use std::os::fd::RawFd;

use libc::{
    MAP_FIXED_NOREPLACE, MAP_NORESERVE, MAP_SHARED, O_CLOEXEC, O_RDONLY, PROT_NONE, SYS_mmap,
    SYS_munlock,
};
use vmadiff_machine::operand::{ARENA_START, END_PAGES};

use crate::worker::{PAGE, checked};

/// The arena, in bytes.
pub(crate) const ARENA: Range<u64> = ARENA_START * PAGE..(ARENA_START + END_PAGES as u64) * PAGE;
/// The end of the addresses that a program can have (`TASK_SIZE` with four levels of page tables).
const TASK_SIZE: u64 = 0x7fff_ffff_f000;
/// The usual `vm.mmap_min_addr`.
const MMAP_MIN_ADDR: u64 = 0x1_0000;
/// Room below the stack. The kernel keeps `stack_guard_gap`, 256 pages, free there: it chooses no
/// address in it.
const STACK_ROOM: u64 = 64 * PAGE;

/// A line of `/proc/self/maps`, as far as it has been read.
#[derive(Default)]
struct Line {
    start: u64,
    end: u64,
    /// 0 in the start, 1 in the end, 2 in the rest.
    field: u8,
    /// The last characters of the rest.
    tail: [u8; 7],
}

impl Line {
    /// Takes the next byte, and returns whether the line ends with it.
    fn take(&mut self, byte: u8) -> bool {
        let digit = (byte as char).to_digit(16).map(u64::from);
        match (self.field, digit) {
            (0, Some(digit)) => self.start = self.start << 4 | digit,
            (1, Some(digit)) => self.end = self.end << 4 | digit,
            (0 | 1, None) => self.field += 1,
            _ => {
                self.tail.rotate_left(1);
                self.tail[6] = byte;
            }
        }
        byte == b'\n'
    }

    fn is_stack(&self) -> bool {
        self.tail == *b"stack]\n"
    }
}

/// Maps every hole of the caller's memory outside the arena, of the file `file`. A hole is mapped
/// when the mapping above it has been read: the kernel goes on reading above that.
///
/// # Errors
/// The number of the first error; what was mapped before stays mapped.
pub(crate) fn fill(file: RawFd) -> Result<(), i32> {
    let mut free = PAGE;
    each_mapping(|line| {
        let room = if line.is_stack() { STACK_ROOM } else { 0 };
        let hole = free..line.start.saturating_sub(room).min(TASK_SIZE);
        free = free.max(line.end);
        fill_hole(hole, file)
    })?;
    fill_hole(free..TASK_SIZE, file)
}

/// Unlocks the caller's memory outside the arena, which `mlockall` has locked too. In the world of a
/// program, nothing outside the arena is locked.
///
/// # Errors
/// The number of the error of reading the mappings.
pub(crate) fn unlock() -> Result<(), i32> {
    each_mapping(|line| {
        if line.end <= ARENA.start || line.start >= ARENA.end {
            // SAFETY: unlocking changes no content. The kernel refuses the gate area, which is not
            // locked.
            unsafe { libc::syscall(SYS_munlock, line.start, line.end - line.start) };
        }
        Ok(())
    })
}

/// Calls `each` for every mapping of the caller, in the order of addresses.
///
/// # Errors
/// The first error of `each`; the number of the error of reading the mappings.
fn each_mapping(mut each: impl FnMut(&Line) -> Result<(), i32>) -> Result<(), i32> {
    let path = c"/proc/self/maps";
    // SAFETY: the path is a string that ends with a zero byte.
    let maps = unsafe { libc::open(path.as_ptr(), O_RDONLY | O_CLOEXEC) };
    let maps = checked(maps.into())? as RawFd;
    let read = read_mappings(maps, &mut each);
    // SAFETY: a descriptor that nothing here uses any more.
    unsafe { libc::close(maps) };
    read
}

fn read_mappings(maps: RawFd, each: &mut impl FnMut(&Line) -> Result<(), i32>) -> Result<(), i32> {
    let mut line = Line::default();
    let mut chunk = [0u8; 1024];
    loop {
        // SAFETY: the buffer is as long as it is said to be.
        let read = unsafe { libc::read(maps, chunk.as_mut_ptr().cast(), chunk.len()) };
        let read = checked(read as libc::c_long)? as usize;
        if read == 0 {
            return Ok(());
        }
        for &byte in chunk.iter().take(read) {
            if line.take(byte) {
                each(&line)?;
                line = Line::default();
            }
        }
    }
}

/// Maps a hole except the pages of the arena.
fn fill_hole(hole: Range<u64>, file: RawFd) -> Result<(), i32> {
    fill_range(hole.start..hole.end.min(ARENA.start), file)?;
    fill_range(hole.start.max(ARENA.end)..hole.end, file)
}

fn fill_range(range: Range<u64>, file: RawFd) -> Result<(), i32> {
    if range.is_empty() {
        return Ok(());
    }
    let flags = MAP_SHARED | MAP_NORESERVE | MAP_FIXED_NOREPLACE;
    let length = range.end - range.start;
    // SAFETY: nothing is mapped there, which NOREPLACE sees to, and the mapping cannot be accessed.
    let result = unsafe {
        libc::syscall(SYS_mmap, range.start, length, PROT_NONE, flags, file, range.start)
    };
    match checked(result) {
        // Only a privileged process may map below `vm.mmap_min_addr`, where the kernel chooses no
        // address.
        Err(libc::EPERM | libc::EACCES) if range.start < MMAP_MIN_ADDR => {
            fill_range(MMAP_MIN_ADDR..range.end, file)
        }
        result => result.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_maps_is_read_byte_by_byte() {
        for (text, start, end, stack) in [
            (
                "00400000-00452000 r-xp 00000000 08:02 173521 /usr/bin/dbus-daemon\n",
                0x40_0000,
                0x45_2000,
                false,
            ),
            (
                "7fffb2c0d000-7fffb2c2e000 rw-p 00000000 00:00 0          [stack]\n",
                0x7fff_b2c0_d000,
                0x7fff_b2c2_e000,
                true,
            ),
            (
                "35b1a21000-35b1a22000 rw-p 00000000 00:00 0\n",
                0x35_b1a2_1000,
                0x35_b1a2_2000,
                false,
            ),
        ] {
            let mut line = Line::default();
            let ends: Vec<bool> = text.bytes().map(|byte| line.take(byte)).collect();
            assert_eq!(ends.iter().filter(|end| **end).count(), 1);
            assert_eq!((line.start, line.end, line.is_stack()), (start, end, stack), "{text}");
        }
    }
}
