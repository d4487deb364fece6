//! The segment of SysV shared memory of a program. `unsafe` code is here because the calls have no safe
//! wrapper.
#![allow(unsafe_code)]

use std::io;
use std::sync::{Mutex, Once};

use vmadiff_machine::operand::SHM_PAGES;

use crate::worker::PAGE;

/// The ids of the segments that are in use.
static IN_USE: Mutex<Vec<i32>> = Mutex::new(Vec::new());

/// Removes every segment that a program uses. The kernel keeps a segment after the process that made it,
/// so this has to run before the process ends without dropping its values. It runs at
/// [`std::process::exit`], and has to be called before the process ends by a signal.
pub fn remove_segments() {
    // A thread that holds the lock may be the one that ends the process.
    let Ok(mut ids) = IN_USE.try_lock() else { return };
    ids.drain(..).for_each(remove);
}

extern "C" fn at_exit() {
    remove_segments();
}

fn remove(id: i32) {
    // SAFETY: the call touches no memory. A segment that is destroyed already answers EINVAL: its id is
    // given to another segment only after all others.
    unsafe { libc::shmctl(id, libc::IPC_RMID, std::ptr::null_mut()) };
}

/// A segment of its own for a program. It is removed when the value is dropped, so none is left behind.
#[derive(Debug)]
pub(crate) struct Segment {
    id: i32,
}

impl Segment {
    /// Makes a segment that nobody else can find by a key.
    ///
    /// # Errors
    /// The error of `shmget()`: the kernel has no SysV shared memory, or a limit is reached.
    pub(crate) fn new() -> io::Result<Segment> {
        // The id is the inode number of the mappings. The first segment of all has the id 0, which
        // `smaps` shows for memory without a file. The next one is taken instead.
        let segment = Segment::make()?;
        if segment.id == 0 { Segment::make() } else { Ok(segment) }
    }

    fn make() -> io::Result<Segment> {
        static WATCH_EXIT: Once = Once::new();
        // SAFETY: the function may be called at any time. Workers end without it (`_exit`).
        WATCH_EXIT.call_once(|| unsafe {
            libc::atexit(at_exit);
        });
        let bytes = usize::from(SHM_PAGES) * PAGE as usize;
        // Execution is permitted, too: SHM_EXEC asks for it.
        let flags = libc::IPC_CREAT | libc::IPC_EXCL | 0o700;
        // SAFETY: the call touches no memory of this process.
        match unsafe { libc::shmget(libc::IPC_PRIVATE, bytes, flags) } {
            -1 => Err(io::Error::last_os_error()),
            id => {
                if let Ok(mut ids) = IN_USE.lock() {
                    ids.push(id);
                }
                Ok(Segment { id })
            }
        }
    }

    /// Returns the id, as `shmat()` takes it.
    pub(crate) fn id(&self) -> i32 {
        self.id
    }

    /// Returns `shm_nattch`; `None` if the segment was destroyed.
    pub(crate) fn attached(&self) -> Option<i64> {
        // SAFETY: the kernel fills the structure, which lives until the call returns.
        unsafe {
            let mut status: libc::shmid_ds = std::mem::zeroed();
            let answer = libc::shmctl(self.id, libc::IPC_STAT, &raw mut status);
            (answer != -1).then_some(status.shm_nattch as i64)
        }
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        if let Ok(mut ids) = IN_USE.lock() {
            ids.retain(|id| *id != self.id);
        }
        remove(self.id);
    }
}
