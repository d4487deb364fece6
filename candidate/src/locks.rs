//! Locks, as acquisitions in order. As lockdep does, the candidate reports a lock that is taken while it
//! is held, and a lock that is still held when the operation ends.
//!
//! One operation runs at a time, so an acquisition never waits for another task. Only locks that
//! `copy_vma()` and its callers take are modelled: `mmap_sem`, the page-table lock, the two locks of the
//! reverse map, and that of SysV shared memory.
//!
//! `mmap_sem` is taken for reading by page faults, by populating, and by the kinds of `madvise()` that
//! change no VMA, and for writing by all other system calls. The other locks are taken for writing alone.
//! A lock that the operation holds cannot be taken again, in either mode. A read lock under a read lock
//! waits only if a writer has come in between, and no other task runs here; it is reported all the same, as
//! lockdep does: another thread of the process may be that writer.

use vmadiff_machine::Event;

use crate::handle::{AnonVmaKey, MmKey, VmaKey, read};
use crate::kernel::Kernel;
use crate::stop::Stop;

/// A lock. Two equal values are the same lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lock {
    /// `mm->mmap_sem`.
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

/// Gives `i_mmap_rwsem` of the inode of a file, if there is a file.
macro_rules! i_mmap {
    ($kernel:expr, $function:expr, $file:expr) => {
        match $file {
            Some(file) => Some($crate::locks::Lock::IMmap($crate::handle::read!(
                $kernel,
                $function,
                file.f_inode
            ))),
            None => None,
        }
    };
}

pub(crate) use i_mmap;

/// The mode in which a lock is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// `down_read()`.
    Read,
    /// `down_write()`; the only mode of a spinlock.
    Write,
}

/// A lock that is held.
#[derive(Clone, Copy, Debug)]
struct Held {
    lock: Lock,
    mode: Mode,
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
        let none = Held { lock: Lock::ShmIds, mode: Mode::Write, function: "" };
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

    /// Returns the mode in which a lock is held; `None` where it is not held.
    #[inline]
    fn mode(&self, lock: Lock) -> Option<Mode> {
        self.held().iter().find(|held| held.lock == lock).map(|held| held.mode)
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
    /// Takes a lock for writing.
    #[inline]
    pub(crate) fn lock(&mut self, lock: Lock, function: &'static str) {
        self.acquire(lock, Mode::Write, function);
    }

    /// Takes a lock. If the operation holds the lock already, it waits for itself for ever.
    ///
    /// The candidate goes on after the report, as a uniprocessor kernel does, in which a spinlock is
    /// nothing.
    #[inline]
    pub(crate) fn acquire(&mut self, lock: Lock, mode: Mode, function: &'static str) {
        if self.locks.holds(lock) {
            self.deadlock(lock, function);
        }
        if !self.locks.push(Held { lock, mode, function }) {
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

    /// Makes a lock that is held for writing one that is held for reading (`downgrade_write()`).
    pub(crate) fn downgrade(&mut self, lock: Lock, function: &'static str) {
        match self.locks.held.iter_mut().take(self.locks.depth).find(|held| held.lock == lock) {
            Some(held) if held.mode == Mode::Write => held.mode = Mode::Read,
            _ => self.warn(function, "downgrading a read lock"),
        }
    }

    /// Runs `body` with a lock held for writing. The lock is released after an error, too.
    #[inline]
    pub(crate) fn locked<T>(
        &mut self,
        lock: Lock,
        function: &'static str,
        body: impl FnOnce(&mut Kernel) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        self.locked_for(Mode::Write, lock, function, body)
    }

    /// Runs `body` with a lock held in a mode. The lock is released after an error, too.
    #[inline]
    pub(crate) fn locked_for<T>(
        &mut self,
        mode: Mode,
        lock: Lock,
        function: &'static str,
        body: impl FnOnce(&mut Kernel) -> Result<T, Stop>,
    ) -> Result<T, Stop> {
        self.acquire(lock, mode, function);
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

    /// Reports a change of the VMAs of an address space whose `mmap_sem` is not held for writing
    /// (`lockdep_assert_held_exclusive(&mm->mmap_sem)`).
    #[inline]
    pub(crate) fn assert_mmap_write_locked(&mut self, mm: MmKey, function: &'static str) {
        if self.locks.mode(Lock::MmapSem(mm)) != Some(Mode::Write) {
            self.warn(function, "!lockdep_is_held_type(mmap_sem, 0)");
        }
    }

    /// Reports a change of the page table of an address space whose `mmap_sem` is not held
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
        let file = i_mmap!(self, F, read!(self, F, vma.vm_file));
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
            left.map(|&Held { lock, function, .. }| Event::LockHeld {
                function,
                lock: lock.name(),
            }),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::revision::Revision;

    const F: &str = "the_function";

    /// Returns what the kernel reports of locks that `take` takes.
    fn reports(take: impl FnOnce(&mut Kernel, Lock)) -> Vec<String> {
        let mut kernel = Kernel::new(Revision::Fixed);
        let mm = kernel.processes[0].unwrap_or_default();
        take(&mut kernel, Lock::MmapSem(mm));
        kernel.check_locks();
        kernel.events.iter().map(Event::to_string).collect()
    }

    #[test]
    fn a_lock_that_is_held_cannot_be_taken_again_in_any_mode() {
        for held in [Mode::Read, Mode::Write] {
            for taken in [Mode::Read, Mode::Write] {
                let reported = reports(|kernel, sem| {
                    kernel.acquire(sem, held, F);
                    kernel.acquire(sem, taken, F);
                    kernel.unlock(sem, F);
                    kernel.unlock(sem, F);
                });
                let expected = "deadlock: the_function() takes mmap_sem, which is held already";
                assert_eq!(reported, [expected], "{taken:?} under {held:?}");
            }
        }
    }

    #[test]
    fn a_lock_of_another_object_can_be_taken() {
        let reported = reports(|kernel, sem| {
            let other = Lock::MmapSem(kernel.mm_alloc());
            let body = |kernel: &mut Kernel| kernel.locked_for(Mode::Read, other, F, |_| Ok(()));
            assert!(kernel.locked(sem, F, body).is_ok());
        });
        assert!(reported.is_empty(), "{reported:?}");
    }

    #[test]
    fn vmas_change_under_a_write_lock_and_pages_under_any() {
        let unlocked = "assertion: VM_WARN_ON(!rwsem_is_locked(mmap_sem)) in the_function()";
        let shared = "assertion: VM_WARN_ON(!lockdep_is_held_type(mmap_sem, 0)) in the_function()";
        type Take = fn(&mut Kernel, Lock);
        let cases: [(Take, &[&str]); 4] = [
            (|_, _| (), &[unlocked, shared]),
            (|kernel, sem| kernel.acquire(sem, Mode::Read, F), &[shared]),
            (|kernel, sem| kernel.lock(sem, F), &[]),
            (
                |kernel, sem| {
                    kernel.lock(sem, F);
                    kernel.downgrade(sem, F);
                },
                &[shared],
            ),
        ];
        for (at, (take, expected)) in cases.into_iter().enumerate() {
            let reported = reports(|kernel, sem| {
                let Lock::MmapSem(mm) = sem else { return };
                take(kernel, sem);
                kernel.assert_mmap_locked(mm, F);
                kernel.assert_mmap_write_locked(mm, F);
                kernel.locks.clear();
            });
            assert_eq!(reported, expected, "case {at}");
        }
    }

    #[test]
    fn only_a_write_lock_is_downgraded() {
        let reported = reports(|kernel, sem| {
            kernel.acquire(sem, Mode::Read, F);
            kernel.downgrade(sem, F);
            kernel.unlock(sem, F);
        });
        assert_eq!(reported, ["assertion: VM_WARN_ON(downgrading a read lock) in the_function()"]);
    }
}
