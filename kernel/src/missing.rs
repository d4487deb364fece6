//! Facilities of the world of a program that a running kernel lacks, found by running small
//! programs.

use std::fmt;

use vmadiff_machine::observation::Vma;
use vmadiff_machine::operand::{Access, Advice, File, Kind, MlockallFlags, MmapFlags, Resource};
use vmadiff_machine::{Limits, Observation, Op, Placement, Range, VmFlags};

/// The reason why a program, or the rest of it, is not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Missing {
    /// `copy`: the kernel has no `process_vm_mmap()`, or the number of the call was not given.
    Copies,
    /// `copy_vma`: no system call is a call of `copy_vma()` alone.
    CopyVma,
    /// Mapping `special`: the machine has no such device.
    Device,
    /// `userfaultfd`: the kernel lacks it, or this user may not use it.
    Userfaultfd,
    /// `uffd_open`: the kernel has no events of userfaultfd, this user may not have them, or their messages cannot
    /// be read. Where allocations are made to fail, it is left out as well.
    Events,
    /// `MADV_MERGEABLE` and `PR_SET_MEMORY_MERGE`: the kernel was built without KSM.
    Ksm,
    /// `mbind`: the kernel was built without NUMA.
    Numa,
    /// Locking without a limit: the caller has neither `CAP_IPC_LOCK` nor a sufficient
    /// `RLIMIT_MEMLOCK`.
    Locking,
    /// `fork`: the system refuses the call that makes the child a child of the controller
    /// (`CLONE_PARENT`).
    Forking,
    /// `MAP_NORESERVE`: `vm.overcommit_memory` is 2, so the kernel ignores the flag.
    Noreserve,
    /// `mremap` that lets the kernel choose the address: the memory outside the arena could not be
    /// mapped, so the kernel may choose an address outside. `RLIMIT_AS` may be too low.
    Placement,
    /// Reading memory that may only be written: on User Mode Linux the answer depends on whether the
    /// page is there already, which is not shown for pages of files.
    WriteOnly,
    /// `shmat`: the kernel was built without SysV shared memory, or a limit on it is reached.
    SharedMemory,
    /// `clear_refs`: the kernel was built without soft-dirty flags.
    SoftDirty,
    /// The limit `map_count`: `vm.max_map_count` counts for the whole machine, which runs other
    /// programs too.
    MapCount,
    /// `uffd_writeprotect` of a private mapping of a file: what it protects depends on the pages that are there,
    /// and the reference does not keep which pages of a file those are.
    PrivateFiles,
    /// The limit `fail`: a kernel makes other allocations than the models do. `ci/tree --fail` lets each
    /// allocation of each operation fail.
    Fail,
}

impl Missing {
    /// All reasons.
    pub const ALL: [Missing; 17] = [
        Missing::WriteOnly,
        Missing::Copies,
        Missing::CopyVma,
        Missing::Device,
        Missing::Userfaultfd,
        Missing::Events,
        Missing::Ksm,
        Missing::Numa,
        Missing::Locking,
        Missing::Forking,
        Missing::Noreserve,
        Missing::Placement,
        Missing::SharedMemory,
        Missing::SoftDirty,
        Missing::MapCount,
        Missing::PrivateFiles,
        Missing::Fail,
    ];

    /// Returns the name of the reason in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Missing::Copies => "copies",
            Missing::CopyVma => "copy_vma",
            Missing::Device => "device",
            Missing::Userfaultfd => "userfaultfd",
            Missing::Events => "userfaultfd-events",
            Missing::Ksm => "ksm",
            Missing::Numa => "numa",
            Missing::Locking => "locking",
            Missing::Forking => "forking",
            Missing::Noreserve => "noreserve",
            Missing::Placement => "placement",
            Missing::WriteOnly => "write-only",
            Missing::SharedMemory => "shared_memory",
            Missing::SoftDirty => "soft-dirty",
            Missing::MapCount => "map_count",
            Missing::PrivateFiles => "private-files",
            Missing::Fail => "fail",
        }
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The facilities that the running kernel has and this user may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facilities {
    /// Copies between address spaces: `process_vm_mmap()`.
    pub copies: bool,
    /// userfaultfd.
    pub userfaultfd: bool,
    /// Event features of userfaultfd, of which the controller is the monitor. It needs `pidfd_getfd()`.
    pub events: bool,
    /// KSM.
    pub ksm: bool,
    /// NUMA policies.
    pub numa: bool,
    /// As many pages can be locked as a program asks for.
    pub locking: bool,
    /// The whole address space can be locked, which is much larger than the arena.
    pub locking_all: bool,
    /// A limit of a process can be raised. `mlockall` compares the whole address space with the limit on
    /// locked pages, which is therefore raised during the call.
    pub raising: bool,
    /// A process can make another child of its parent.
    pub forking: bool,
    /// `MAP_NORESERVE` is honoured.
    pub noreserve: bool,
    /// The kernel has transparent huge pages, and the option `huge_pages` is off: advice on them is
    /// withheld, because the world of a program has none.
    pub huge_pages: bool,
    /// `VM_SOFTDIRTY` is shown.
    pub soft_dirty: bool,
    /// `pagemap` shows frame numbers, so that anonymous pages can be told from the zero page and from each
    /// other. Without them neither the anonymous pages nor what processes share is compared.
    pub frames: bool,
    /// An address that the kernel chooses lies in the arena.
    pub placement: bool,
    /// Memory that may only be written can be read.
    pub write_only: bool,
    /// SysV shared memory.
    pub shared_memory: bool,
    /// `status` has the line `VmLck`.
    pub locked_vm: bool,
    /// `status` has the line `VmData`.
    pub data_vm: bool,
}

impl Facilities {
    /// Returns the facility that `op` needs and the kernel lacks.
    pub fn lacks(&self, op: &Op) -> Option<Missing> {
        match *op {
            Op::Copy { .. } if !self.copies => Some(Missing::Copies),
            Op::CopyVma { .. } => Some(Missing::CopyVma),
            Op::Mmap { kind, .. } if kind.get() == Kind::Special => Some(Missing::Device),
            Op::Ftruncate { file, .. } if file.get() == File::Special => Some(Missing::Device),
            Op::Mmap { flags, .. } if flags.get().contains(MmapFlags::LOCKED) && !self.locking => {
                Some(Missing::Locking)
            }
            Op::Mmap { flags, .. }
                if flags.get().contains(MmapFlags::NORESERVE) && !self.noreserve =>
            {
                Some(Missing::Noreserve)
            }
            Op::Mremap { .. }
                if op.placement().is_some_and(Placement::is_choice) && !self.placement =>
            {
                Some(Missing::Placement)
            }
            Op::Shmat { .. } | Op::Shmdt { .. } | Op::ShmRmid { .. } if !self.shared_memory => {
                Some(Missing::SharedMemory)
            }
            Op::Fork { .. } if !self.forking => Some(Missing::Forking),
            Op::Mlock { .. } if !self.locking => Some(Missing::Locking),
            Op::Mlockall { .. } if !self.locking_all => Some(Missing::Locking),
            Op::ClearRefs { .. } if !self.soft_dirty => Some(Missing::SoftDirty),
            Op::Mbind { .. } if !self.numa => Some(Missing::Numa),
            Op::UffdRegister { .. } | Op::UffdRegisterWp { .. } if !self.userfaultfd => {
                Some(Missing::Userfaultfd)
            }
            Op::UffdOpen { .. } if !self.events => Some(Missing::Events),
            Op::Madvise { advice, .. }
                if matches!(advice.get(), Advice::Mergeable | Advice::Unmergeable) && !self.ksm =>
            {
                Some(Missing::Ksm)
            }
            Op::MemoryMerge { .. } if !self.ksm => Some(Missing::Ksm),
            _ => None,
        }
    }

    /// Returns the facility that `op` needs in a program under `limits` and the kernel lacks.
    pub fn lacks_under(&self, op: &Op, limits: &Limits) -> Option<Missing> {
        let raises = match *op {
            Op::Mlockall { flags, .. } => flags.get().contains(MlockallFlags::CURRENT),
            Op::Prlimit { resource, .. } => resource.get() == Resource::Memlock,
            _ => false,
        };
        (raises && limits.lock.is_some() && !self.raising).then_some(Missing::Locking)
    }

    /// Returns the facility that `op` needs in the state `before` and the kernel lacks.
    pub fn lacks_in(&self, op: &Op, before: &Observation) -> Option<Missing> {
        let space = before.spaces.get(usize::from(op.process().0))?;
        match *op {
            Op::Touch { page, access, .. } => {
                let only_written = space
                    .vma_at(page.get())
                    .is_some_and(|vma| vma.flags & VmFlags::ACCESS == VmFlags::VM_WRITE);
                (!self.write_only && access.get() == Access::Read && only_written)
                    .then_some(Missing::WriteOnly)
            }
            Op::UffdWriteprotect { page, len, .. } => {
                let range = Range::new(page.get(), len.get());
                let of_file = |vma: &Vma| {
                    vma.file.is_some()
                        && vma.flags & (VmFlags::VM_UFFD_WP | VmFlags::VM_SHARED)
                            == VmFlags::VM_UFFD_WP
                        && vma.range().overlaps(range)
                };
                space.vmas().iter().any(of_file).then_some(Missing::PrivateFiles)
            }
            _ => None,
        }
    }

    /// Returns whether `op` is advice on transparent huge pages and the kernel has them.
    pub fn withholds(&self, op: &Op) -> bool {
        let advised = match op {
            Op::Madvise { advice, .. } => advice.get(),
            _ => return false,
        };
        self.huge_pages && matches!(advised, Advice::Hugepage | Advice::Nohugepage)
    }

    /// Returns the facility that a program under `limits` needs and the kernel lacks.
    /// `whole_machine` permits setting `vm.max_map_count`.
    pub fn lacks_limit(&self, limits: &Limits, whole_machine: bool) -> Option<Missing> {
        let fails = limits.fail.is_some_and(|nth| nth > 0).then_some(Missing::Fail);
        let map_count = limits.map_count.is_some() && !whole_machine;
        map_count.then_some(Missing::MapCount).or(fails)
    }
}

impl fmt::Display for Facilities {
    /// Writes the list of facilities: `has ksm, numa; lacks userfaultfd`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = [
            ("copies", self.copies),
            ("userfaultfd", self.userfaultfd),
            ("events of userfaultfd", self.events),
            ("ksm", self.ksm),
            ("numa", self.numa),
            ("locking", self.locking),
            ("locking of all memory", self.locking_all),
            ("raising of limits", self.raising),
            ("forking", self.forking),
            ("noreserve", self.noreserve),
            ("huge pages (their advice is withheld)", self.huge_pages),
            ("soft-dirty flags", self.soft_dirty),
            (
                "page frame numbers, which show the anonymous pages and what processes share",
                self.frames,
            ),
            ("placement in the arena", self.placement),
            ("reading of write-only memory", self.write_only),
            ("SysV shared memory", self.shared_memory),
            ("the counter VmLck", self.locked_vm),
            ("the counter VmData", self.data_vm),
        ];
        for (word, wanted) in [("has", true), ("; lacks", false)] {
            let names = all.iter().filter(|(_, has)| *has == wanted).map(|(name, _)| *name);
            let names: Vec<_> = names.collect();
            if !names.is_empty() {
                write!(f, "{word} {}", names.join(", "))?;
            }
        }
        Ok(())
    }
}
