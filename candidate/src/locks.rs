//! Locks, as acquisitions in order. As lockdep does, the candidate reports a lock that is taken while it
//! is held, and a lock that is still held when the operation ends.
//!
//! One operation runs at a time, so an acquisition never waits for another task. Only locks that
//! `copy_vma()` and its callers take are modelled: `mmap_sem`, the page-table lock, the two locks of the
//! reverse map, and that of SysV shared memory.

use vmadiff_machine::Event;

use crate::handle::{AnonVmaKey, MmKey, VmaKey, read};
use crate::kernel::Kernel;
use crate::objects::File;
use crate::stop::Stop;

/// A lock. Two equal values are the same lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    /// `mm->mmap_sem`, for reading or for writing.
    MmapSem(MmKey),
    /// The lock of a page-table page (`pte_lockptr()`). The arena lies under one page-table page, so an
    /// address space has one such lock.
    PageTable(MmKey),
    /// `anon_vma->root->rwsem`, by its root.
    AnonVma(AnonVmaKey),
    /// `mapping->i_mmap_rwsem` of an inode.
    IMmap(u8),
    /// `shm_ids.rwsem`.
    ShmIds,
}

impl Lock {
    /// Returns `i_mmap_rwsem` of the inode of a file.
    pub(crate) fn i_mmap(file: File) -> Lock {
        Lock::IMmap(file.inode)
    }

    /// Returns the name in reports.
    fn name(self) -> &'static str {
        match self {
            Lock::MmapSem(_) => "mmap_sem",
            Lock::PageTable(_) => "ptl",
            Lock::AnonVma(_) => "anon_vma_lock",
            Lock::IMmap(_) => "i_mmap_lock",
            Lock::ShmIds => "shm_ids.rwsem",
        }
    }
}

/// A lock that is held.
#[derive(Clone, Copy, Debug)]
struct Held {
    lock: Lock,
    /// The kernel function that took it.
    function: &'static str,
}

/// The locks that the running operation holds, in the order in which they were taken.
#[derive(Clone, Debug)]
pub(crate) struct Locks {
    /// The first `depth` entries are in use.
    held: [Held; MAX_DEPTH],
    depth: usize,
}

/// The most locks that an operation may hold, as lockdep's `MAX_LOCK_DEPTH`. A copy holds four: two
/// `mmap_sem`, and two locks of the reverse map or two page-table locks.
const MAX_DEPTH: usize = 8;

impl Default for Locks {
    fn default() -> Locks {
        let none = Held { lock: Lock::ShmIds, function: "" };
        Locks { held: [none; MAX_DEPTH], depth: 0 }
    }
}

impl Locks {
    /// Forgets the locks of the last operation, which may have ended the program.
    #[inline]
    pub(crate) fn clear(&mut self) {
        self.depth = 0;
    }

    #[inline]
    fn holds(&self, lock: Lock) -> bool {
        self.held().iter().any(|held| held.lock == lock)
    }

    #[inline]
    fn held(&self) -> &[Held] {
        self.held.get(..self.depth).unwrap_or_default()
    }

    /// Adds a lock; returns whether there was room.
    #[inline]
    fn push(&mut self, held: Held) -> bool {
        match self.held.get_mut(self.depth) {
            Some(free) => {
                *free = held;
                self.depth += 1;
                true
            }
            None => false,
        }
    }

    /// Removes a lock; returns whether it was held. The lock that was taken last is mostly the first to
    /// be released.
    #[inline]
    fn remove(&mut self, lock: Lock) -> bool {
        let Some(at) = self.held().iter().rposition(|held| held.lock == lock) else { return false };
        for at in at + 1..self.depth {
            self.held[at - 1] = self.held[at];
        }
        self.depth -= 1;
        true
    }
}

impl Kernel {
    /// Takes a lock. If the operation holds the lock already, it waits for itself for ever.
    ///
    /// The candidate goes on after the report, as a uniprocessor kernel does, in which a spinlock is
    /// nothing.
    #[inline]
    pub(crate) fn lock(&mut self, lock: Lock, function: &'static str) {
        if self.locks.holds(lock) {
            self.deadlock(lock, function);
        }
        if !self.locks.push(Held { lock, function }) {
            self.warn(function, "MAX_LOCK_DEPTH too low");
        }
    }

    #[cold]
    fn deadlock(&mut self, lock: Lock, function: &'static str) {
        self.events.push(Event::Deadlock { function, lock: lock.name() });
    }

    /// Releases a lock.
    #[inline]
    pub(crate) fn unlock(&mut self, lock: Lock, function: &'static str) {
        if !self.locks.remove(lock) {
            self.warn(function, "bad unlock balance");
        }
    }

    /// Runs `body` with a lock held. The lock is released after an error, too.
    #[inline]
    pub(crate) fn locked<T>(
        &mut self,
        lock: Lock,
        function: &'static str,
        body: impl FnOnce(&mut Kernel) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        self.lock(lock, function);
        let result = body(self);
        self.unlock(lock, function);
        result
    }

    /// Runs `body` with the page-table lock of an address space held (`pte_offset_map_lock()`).
    #[inline]
    pub(crate) fn pte_locked<T>(
        &mut self,
        mm: MmKey,
        function: &'static str,
        body: impl FnOnce(&mut Kernel) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        self.locked(Lock::PageTable(mm), function, body)
    }

    /// Reports a change of an address space whose `mmap_sem` is not held
    /// (`VM_BUG_ON(!rwsem_is_locked(&mm->mmap_sem))`).
    #[inline]
    pub(crate) fn assert_mmap_locked(&mut self, mm: MmKey, function: &'static str) {
        if !self.locks.holds(Lock::MmapSem(mm)) {
            self.warn(function, "!rwsem_is_locked(mmap_sem)");
        }
    }

    /// Returns the lock of an anon_vma, which lives in its root.
    #[inline]
    pub(crate) fn anon_vma_lock(&self, anon_vma: AnonVmaKey) -> Result<Lock, Stop> {
        const F: &str = "anon_vma_lock_write";
        let root = read!(self, F, anon_vma.root);
        // The lock is a field of the root.
        read!(self, F, root.refcount);
        Ok(Lock::AnonVma(root))
    }

    /// `take_rmap_locks()`: returns the locks, in the order in which they are taken.
    pub(crate) fn take_rmap_locks(&mut self, vma: VmaKey) -> Result<[Option<Lock>; 2], Stop> {
        const F: &str = "take_rmap_locks";
        let file = read!(self, F, vma.vm_file).map(Lock::i_mmap);
        let anon_vma = read!(self, F, vma.anon_vma);
        let anon_vma = anon_vma.map(|anon_vma| self.anon_vma_lock(anon_vma)).transpose()?;
        for lock in [file, anon_vma].into_iter().flatten() {
            self.lock(lock, F);
        }
        Ok([file, anon_vma])
    }

    /// `drop_rmap_locks()`: releases the locks in reverse order.
    pub(crate) fn drop_rmap_locks(&mut self, locks: [Option<Lock>; 2]) {
        const F: &str = "drop_rmap_locks";
        for lock in locks.into_iter().rev().flatten() {
            self.unlock(lock, F);
        }
    }

    /// Reports every lock that is still held when the operation ends.
    #[inline]
    pub(crate) fn check_locks(&mut self) {
        let left = self.locks.held().iter();
        self.events.extend(
            left.map(|&Held { lock, function }| Event::LockHeld { function, lock: lock.name() }),
        );
    }
}
