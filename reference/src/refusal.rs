//! Refusals: the errno of a call together with the check that refused it.
//!
//! Every error of the reference is made as a [`Refusal`], so an errno cannot be without a reason
//! nor with the reason of another check.

use vmadiff_machine::operand::{Advice, Ctx, Page, Process};
use vmadiff_machine::{Errno, VmFlags};

use crate::function::Function;
use crate::range::Range;

/// An error of a call, and its reason. It fits in two registers: most calls of a random program are
/// refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The error that the call returns.
    pub errno: Errno,
    /// The kernel function that makes the check; `None` where there is no such process, so that no
    /// kernel code runs.
    pub function: Option<Function>,
    /// The process whose address space was checked: the caller, or the source of a copy.
    pub process: Process,
    /// The check that failed, with its values.
    pub rule: Rule,
    /// The work that was done before the check failed, and stays done.
    pub progress: Progress,
}

/// A check of a system call, with the values that made it fail. Ranges are VMAs unless a field
/// says otherwise, as they were when the check was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// There is no such process.
    NoProcess,
    /// The range has no pages.
    NoPages,
    /// The page must be mapped and is not.
    NotMapped(Page),
    /// No page of the range is mapped.
    NothingMapped(Range),
    /// The VMA that maps the first page of the range ends before the range.
    PastVma {
        /// The range that was asked for.
        range: Range,
        /// The VMA of its first page.
        vma: Range,
    },
    /// A VMA is where nothing may be mapped.
    Occupied(Range),
    /// No hole of the arena is long enough.
    NoHole {
        /// The VMA in the way: at the hint, or where a mapping would grow.
        occupied: Range,
        /// The pages of the longest hole.
        longest: u8,
    },
    /// The source and the destination of a copy or a move overlap.
    Overlap {
        /// The source range.
        from: Range,
        /// The destination range.
        to: Range,
    },
    /// The limit on VMAs (`sysctl_max_map_count`).
    MapCountLimit(Limit),
    /// The limit on pages (`RLIMIT_AS`).
    PageLimit(Limit),
    /// The limit on locked pages (`RLIMIT_MEMLOCK`).
    LockLimit(Limit),
    /// The limit on locked pages (`RLIMIT_MEMLOCK`), where a call locks every mapped page.
    LockAllLimit(Limit),
    /// The limit on processes.
    ProcessLimit(Limit),
    /// The limit on locked pages is 0, and the caller lacks `CAP_IPC_LOCK`.
    LockForbidden,
    /// The VMA has flags that the call does not take.
    HasFlags {
        /// The VMA.
        vma: Range,
        /// The flags that are in the way.
        flags: VmFlags,
    },
    /// The VMA lacks flags that the call needs.
    LacksFlags {
        /// The VMA.
        vma: Range,
        /// The flags that are missing.
        flags: VmFlags,
    },
    /// The VMA may not be accessed at all: it has none of `VM_READ`, `VM_WRITE`, `VM_EXEC`.
    NoAccess(Range),
    /// The VMA is of a file, and the advice is for anonymous memory.
    OfFile {
        /// The VMA.
        vma: Range,
        /// The advice.
        advice: Advice,
    },
    /// The VMA is not of a file, and the call removes pages of files.
    NotOfFile(Range),
    /// The VMA is of the device, which is no regular file.
    OfDevice(Range),
    /// The file is the device, which is no regular file.
    NoRegularFile,
    /// The kernel was built without transparent huge pages.
    NoHugePages,
    /// The VMA is of the device or of SysV shared memory. userfaultfd watches only anonymous memory and
    /// VMAs with the `vm_ops` of shmem.
    Unwatchable(Range),
    /// There is no memory for what the call needs.
    NoMemory,
    /// The segment of SysV shared memory was destroyed.
    SegmentDestroyed,
    /// No VMA is a part of an attachment of the segment at this page.
    NotAttached(Page),
    /// The VMA is of SysV shared memory and cannot be moved together with others.
    MovesAlone(Range),
    /// The VMA's pages cannot migrate, so `mbind` takes it for a hole.
    Unmovable(Range),
    /// The file is open for reading only.
    FileReadOnly,
    /// The page lies beyond the end of its file.
    BeyondFile(Page),
    /// The pages of the file at this range lie past the end of the longest file.
    PastLongestFile(Range),
    /// A userfaultfd context watches the VMA.
    Watched(Range),
    /// The page is missing and userfaultfd watches it: the call would block.
    WouldBlock {
        /// The missing page.
        page: Page,
        /// Its VMA.
        vma: Range,
    },
    /// The page is write-protected by userfaultfd: the write would block.
    WriteProtected {
        /// The page.
        page: Page,
        /// Its VMA.
        vma: Range,
    },
    /// No context watches the range in write-protect mode, or, before Linux 6.4, no one VMA has all of it.
    NotWriteProtectable(Range),
    /// A userfaultfd context other than the caller's watches the VMA.
    WatchedByOther {
        /// The VMA.
        vma: Range,
        /// The context that was to watch it.
        ctx: Ctx,
    },
    /// The process has not opened this userfaultfd context.
    NeverOpened(Ctx),
    /// The kernel does not know `MREMAP_DONTUNMAP`.
    UnknownFlag,
    /// The kernel does not know the advice.
    UnknownAdvice(Advice),
    /// The kernel does not have the call.
    UnknownCall,
    /// The kernel does not know the option of `prctl`.
    UnknownOption,
    /// The kernel does not know the mode of `UFFDIO_REGISTER`.
    UnknownMode,
    /// The kernel does not know the ioctl of userfaultfd.
    UnknownIoctl,
    /// `mlockall` has neither `MCL_CURRENT` nor `MCL_FUTURE`.
    NothingToLock,
    /// A call with `MREMAP_DONTUNMAP` may not resize.
    Resizes,
    /// The VMA is not private anonymous memory, and `MREMAP_DONTUNMAP` takes nothing else.
    NotAnonymous(Range),
    /// The VMA is private: no pages of it cannot be duplicated by `mremap`.
    PrivateDuplicate(Range),
}

/// A limit that a call would pass: `have + more` is above `max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The count at the time of the check.
    pub have: u16,
    /// The number that the call needs on top.
    pub more: u16,
    /// The limit.
    pub max: u16,
}

/// The work of a refused call that stays done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Progress {
    /// None: every address space is as it was.
    #[default]
    Nothing,
    /// The VMA has got an anon_vma, for the page that the fault then did not make.
    Prepared,
    /// The range below this page has been worked on. The VMA at the page may have been cut there.
    UpTo(Page),
    /// `mremap` has unmapped its destination, and the pages of the source past its new length.
    Unmapped,
    /// All but populating, which ended early.
    NotPopulated,
    /// All: `madvise` reports a hole after it has advised the rest.
    Everything,
}

impl Refusal {
    /// Returns the refusal with the work that was done before.
    #[inline]
    pub(crate) fn after(self, progress: Progress) -> Refusal {
        Refusal { progress, ..self }
    }
}

const _: () = assert!(size_of::<Result<u8, Refusal>>() <= 2 * size_of::<usize>());
