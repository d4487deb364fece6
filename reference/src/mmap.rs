//! `mmap` and `munmap` (`mm/mmap.c`).

use vmadiff_machine::operand::{
    FilePage, Kind, Len, MmapFlags, Mode, Page, PageOffset, Prot, UffdFeatures,
};
use vmadiff_machine::{Allocation, Errno, VmFlags};

use crate::chain::Chain;
use crate::function::Function;
use crate::later;
use crate::merge::Origin;
use crate::mm::Syscall;
use crate::range::Range;
use crate::refusal::{Progress, Refusal, Rule};
use crate::shmem::{DEVICE, MEMFDS};
use crate::vma::Vma;

/// Returns the flags of a protection (`calc_vm_prot_bits()`).
pub(crate) fn access(prot: Prot) -> VmFlags {
    VmFlags::from_bits_truncate(prot.bits().into())
}

/// Returns the flags that `kind` adds, and those that it takes from `VM_MAYREAD | VM_MAYWRITE |
/// VM_MAYEXEC`.
fn flags_of(kind: Kind) -> (VmFlags, VmFlags) {
    let shared = VmFlags::VM_SHARED | VmFlags::VM_MAYSHARE;
    match kind {
        Kind::AnonPrivate | Kind::File0Private | Kind::File1Private => {
            (VmFlags::empty(), VmFlags::empty())
        }
        Kind::AnonShared | Kind::File0Shared | Kind::File1Shared => (shared, VmFlags::empty()),
        // Shared, but the file is open for reading only, so no write can reach it.
        Kind::ReadonlyShared => (VmFlags::VM_MAYSHARE, VmFlags::VM_MAYWRITE),
        Kind::Special => (shared | VmFlags::VM_SPECIAL | VmFlags::VM_DONTDUMP, VmFlags::empty()),
    }
}

impl Syscall<'_> {
    /// Maps `len` pages at `page` and replaces the mappings there. Memory that is private, writable
    /// and not `VM_NORESERVE` is charged (`accountable_mapping()`). `MAP_LOCKED`, and `mlockall` with
    /// `MCL_FUTURE` before it, lock and populate the mapping, except for the device, which is never
    /// locked. `MAP_POPULATE` only populates it. The VMA is soft-dirty, a neighbour that the range joins,
    /// too.
    ///
    /// # Errors
    /// In the order of the checks: `EINVAL` for no pages; `ENOMEM` where there are more VMAs than
    /// the limit (the call may pass the limit by one); `EEXIST` for `MAP_FIXED_NOREPLACE` over a
    /// mapping; `EPERM`, `EAGAIN` where locking is not permitted or past its limit; `EACCES` to
    /// write a file that is open for reading; `ENOMEM` past the limit on pages, without the replaced
    /// pages, or where cutting a VMA in three passes the limit on VMAs; `ENOMEM` without memory, after
    /// the replaced mappings are unmapped; `EAGAIN` where populating waits for userfaultfd.
    ///
    /// With [`MmapCutsFirst`](later::Rule::MmapCutsFirst) a call that fails at the limit on pages has
    /// cut the replaced mappings. With [`Mseal`](later::Rule::Mseal), `EPERM` where a replaced VMA is sealed.
    /// With [`MemoryMerge`](later::Rule::MemoryMerge) the VMA may be marked for KSM: see
    /// [`Syscall::memory_merge`].
    pub(crate) fn mmap(
        &mut self,
        (page, len): (Page, Len),
        prot: Prot,
        kind: Kind,
        how: MmapFlags,
        offset: FilePage,
    ) -> Result<u8, Refusal> {
        let range = Range::new(page, len);
        if range.is_empty() {
            return self.refuse(Errno::EINVAL, Function::DoMmap, Rule::NoPages);
        }
        self.may_map(0, Function::DoMmap)?;
        if how.contains(MmapFlags::FIXED_NOREPLACE)
            && let Some(there) = self.mm.all_in(range).first()
        {
            return self.refuse(Errno::EEXIST, Function::DoMmap, Rule::Occupied(there.range));
        }
        let mut lock = self.mm.lock_future;
        if how.contains(MmapFlags::LOCKED) {
            self.can_do_mlock()?;
            lock |= VmFlags::VM_LOCKED;
        }
        self.may_map_locked(lock, len)?;
        // The device has no longest length (`file_mmap_size_max()`).
        let pgoff = offset.offset();
        let is_limited = !matches!(kind, Kind::AnonPrivate | Kind::AnonShared | Kind::Special);
        if is_limited && pgoff.0 + u64::from(len.0) > FilePage::TOP {
            return self.refuse(Errno::EOVERFLOW, Function::DoMmap, Rule::PastLongestFile(range));
        }
        if kind == Kind::ReadonlyShared && prot.contains(Prot::W) {
            return self.refuse(Errno::EACCES, Function::DoMmap, Rule::FileReadOnly);
        }
        self.replace(range)?;

        let (adds, takes) = flags_of(kind);
        let may = VmFlags::VM_MAYREAD | VmFlags::VM_MAYWRITE | VmFlags::VM_MAYEXEC;
        let mut flags = access(prot) | (may - takes) | adds | VmFlags::VM_SOFTDIRTY;
        flags.set(VmFlags::VM_NORESERVE, how.contains(MmapFlags::NORESERVE));
        if kind != Kind::Special {
            flags |= lock;
        }
        let charged = VmFlags::VM_WRITE | VmFlags::VM_SHARED | VmFlags::VM_NORESERVE;
        flags.set(VmFlags::VM_ACCOUNT, flags & charged == VmFlags::VM_WRITE);
        let charges = flags.contains(VmFlags::VM_ACCOUNT);
        self.get_memory(Function::DoMmap, |what| charges && what == Allocation::Charge)
            .map_err(|refusal| refusal.after(Progress::Unmapped))?;
        let (file, pgoff) = match kind {
            Kind::AnonPrivate => (None, page.linear_offset()),
            Kind::AnonShared => (Some(self.shmem.make(len.0)), PageOffset(0)),
            Kind::File0Private | Kind::File0Shared => (Some(MEMFDS[0]), pgoff),
            Kind::File1Private | Kind::File1Shared => (Some(MEMFDS[1]), pgoff),
            Kind::ReadonlyShared => (Some(MEMFDS[2]), pgoff),
            Kind::Special => (Some(DEVICE), pgoff),
        };
        let mut new = Vma {
            range,
            pgoff,
            flags,
            anon_vma: None,
            chain: Chain::EMPTY,
            file,
            attachment: 0,
            uffd: None,
            policy: Mode::Default,
        };
        self.mark_before_merge(&mut new);
        if let Some(at) = self.join(&new, Origin::Mapped) {
            self.set_soft_dirty(at, true);
        } else {
            self.get_memory(Function::DoMmap, |what| match what {
                Allocation::Vma => true,
                Allocation::File => kind == Kind::AnonShared,
                // The device maps all its pages at once.
                Allocation::PageTable => kind == Kind::Special,
                _ => false,
            })
            .map_err(|refusal| refusal.after(Progress::Unmapped))?;
            self.mark_new(&mut new);
            self.references.get(&new);
            self.mm.insert(new);
        }
        if flags.contains(VmFlags::VM_LOCKED) || how.contains(MmapFlags::POPULATE) {
            self.populate_quietly(range).map_err(|r| r.after(Progress::NotPopulated))?;
        }
        Ok(page.0)
    }

    /// Makes room for a mapping of `range`, as `mmap_region()` does first.
    ///
    /// # Errors
    /// `ENOMEM` past the limit on pages, without the replaced pages, or where cutting a VMA in three
    /// passes the limit on VMAs.
    pub(crate) fn replace(&mut self, range: Range) -> Result<(), Refusal> {
        if let Err(refusal) = self.may_expand(range.len().into(), self.mm.mapped_in(range)) {
            let cuts = || [range.start, range.end].into_iter().any(|page| self.mm.is_within(page));
            let sealed = self.mm.all_in(range).iter().any(Vma::is_sealed);
            let told = || {
                let tells = |ctx| self.references.tells(ctx, UffdFeatures::UNMAP);
                self.mm.all_in(range).iter().any(|vma| vma.uffd.is_some_and(tells))
            };
            let mapped = self.mm.first_in(range).is_some();
            if mapped
                && self.later.applies(later::Rule::MmapCutsFirst, || sealed || cuts() || told())
            {
                self.cut_out(range)?;
                self.tell_of_unmap(range, range.end);
            }
            return Err(refusal);
        }
        if self.mm.first_in(range).is_some() {
            self.munmap(range)?;
        }
        Ok(())
    }

    /// Unmaps `range` (`__do_munmap()`).
    ///
    /// # Errors
    /// `EINVAL` for no pages; `ENOMEM` where the range lies inside one VMA, which would become two,
    /// past the limit on VMAs. Any other cut is made under any limit: it removes as many VMAs as it
    /// makes. `ENOMEM` without memory for a cut. With [`Mseal`](later::Rule::Mseal), `EPERM` where a VMA is
    /// sealed.
    pub(crate) fn munmap(&mut self, range: Range) -> Result<(), Refusal> {
        if range.is_empty() {
            return self.refuse(Errno::EINVAL, Function::DoMunmap, Rule::NoPages);
        }
        if self.mm.first_in(range).is_some() {
            let at = self.cut_out(range)?;
            self.tell_of_unmap(range, range.end);
            self.zap(range);
            self.mm.drop_write_protection(range.set());
            self.drop_vmas(at..at + self.mm.all_in(range).len());
        }
        Ok(())
    }

    /// Cuts the VMAs of `range`, of which there is one, at both ends of the range, and returns the
    /// index of the first one inside.
    ///
    /// # Errors
    /// `ENOMEM` for the same reasons as in [`Syscall::munmap`]. A first cut stays.
    fn cut_out(&mut self, range: Range) -> Result<usize, Refusal> {
        let mut at = self.mm.first_ending_after(range.start);
        let first = self.mm.vmas()[at];
        let mut progress = Progress::Nothing;
        if first.range.start < range.start {
            if range.end < first.range.end {
                self.may_map(1, Function::DoMunmap)?;
            }
            self.may_modify(&first, Function::DoMunmap)?;
            self.try_cut(at, range.start)?;
            at += 1;
            progress = Progress::UpTo(range.start);
        }
        let sealed = self.mm.all_in(range).iter().find(|vma| vma.is_sealed()).copied();
        if let Some(vma) = sealed {
            // The monitors of the VMAs before it get a message although nothing is unmapped.
            self.tell_of_unmap(range, vma.range.start);
            self.may_modify(&vma, Function::DoMunmap).map_err(|refusal| refusal.after(progress))?;
        }
        if self.mm.is_within(range.end) {
            self.try_cut(self.mm.first_ending_after(range.end), range.end)?;
        }
        Ok(at)
    }
}
