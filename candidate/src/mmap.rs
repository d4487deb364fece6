//! `do_mmap()` and `mmap_region()`: make a new mapping.

use vmadiff_machine::operand::{FilePage, Kind, MmapFlags, Prot};
use vmadiff_machine::{Allocation, Errno, VmFlags};

use crate::addr::{Addr, MAX_LFS_FILESIZE, PAGE_SHIFT, Pgoff};
use crate::handle::{FileKey, MmKey, VmaKey, edit, read};
use crate::kernel::Kernel;
use crate::locks::Lock;
use crate::objects::{Chain, VmOps, Vma};
use crate::populate::OnError;
use crate::shmem::Inodes;
use crate::stop::{Caught, Stop};
use crate::userfaultfd_event::Uf;
use crate::vma_list::Links;
use crate::vma_merge::Attributes;

/// `calc_vm_prot_bits()`.
pub(crate) fn calc_vm_prot_bits(prot: Prot) -> VmFlags {
    let mut flags = VmFlags::empty();
    flags.set(VmFlags::VM_READ, prot.contains(Prot::R));
    flags.set(VmFlags::VM_WRITE, prot.contains(Prot::W));
    flags.set(VmFlags::VM_EXEC, prot.contains(Prot::X));
    flags
}

/// `accountable_mapping()`: returns whether the mapping is charged, as private writable memory is.
fn accountable_mapping(flags: VmFlags) -> bool {
    flags & (VmFlags::VM_NORESERVE | VmFlags::VM_SHARED | VmFlags::VM_WRITE) == VmFlags::VM_WRITE
}

/// Returns the descriptor behind a kind of mapping, and whether it is mapped `MAP_SHARED`.
fn fd_and_sharing(kind: Kind) -> (Option<usize>, bool) {
    match kind {
        Kind::AnonPrivate => (None, false),
        Kind::AnonShared => (None, true),
        Kind::File0Private => (Some(Inodes::MEMFD_0), false),
        Kind::File0Shared => (Some(Inodes::MEMFD_0), true),
        Kind::File1Private => (Some(Inodes::MEMFD_1), false),
        Kind::File1Shared => (Some(Inodes::MEMFD_1), true),
        Kind::ReadonlyShared => (Some(Inodes::READONLY), true),
        Kind::Special => (Some(Inodes::DEVICE), true),
    }
}

impl Kernel {
    /// `mmap()` with `MAP_FIXED`.
    ///
    /// # Errors
    /// `EINVAL` for an empty range. `ENOMEM` past a limit, or where there is no memory: mappings in the
    /// range may be unmapped then. `EEXIST` over a mapping that may not be replaced. `EPERM` or `EAGAIN`
    /// where memory may not be locked. `EACCES` for a writable mapping of a file that is open for reading
    /// only.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn mmap(
        &mut self,
        mm: MmKey,
        addr: Addr,
        len: u32,
        prot: Prot,
        kind: Kind,
        flags: MmapFlags,
        pgoff: FilePage,
    ) -> Result<Addr, Stop> {
        let (fd, shared) = fd_and_sharing(kind);
        // `ksys_mmap_pgoff()`: `fget()`.
        let file = match fd {
            Some(fd) => Some(self.get_file(self.fds[fd])?),
            None => None,
        };
        let result =
            self.vm_mmap_pgoff((file, shared), mm, addr, len, prot, flags, pgoff).errno()?;
        if let Some(file) = file {
            self.fput(file)?;
        }
        Ok(result?)
    }

    /// `vm_mmap_pgoff()`.
    #[allow(clippy::too_many_arguments)]
    fn vm_mmap_pgoff(
        &mut self,
        file: (Option<FileKey>, bool),
        mm: MmKey,
        addr: Addr,
        len: u32,
        prot: Prot,
        flags: MmapFlags,
        pgoff: FilePage,
    ) -> Result<Addr, Stop> {
        const F: &str = "vm_mmap_pgoff";
        let mut uf = std::mem::take(&mut self.lists.unmap);
        let mapped = self
            .locked(Lock::MmapSem(mm), F, |kernel| {
                kernel.do_mmap(mm, addr, len, prot, file, flags, pgoff, Some(&mut uf))
            })
            .errno()?;
        self.userfaultfd_unmap_complete(&mut uf)?;
        self.lists.unmap = uf;
        if mapped? {
            self.mm_populate(mm, addr, len, OnError::Ignore)?;
        }
        Ok(addr)
    }

    /// `file_mmap_ok()`: returns whether the mapping ends within the longest file (`MAX_LFS_FILESIZE`), in
    /// bytes. The device has no such length.
    fn file_mmap_ok(&self, file: FileKey, pgoff: Pgoff, len: u32) -> Result<bool, Stop> {
        const F: &str = "file_mmap_ok";
        let maxsize = match usize::from(read!(self, F, file.f_inode)) {
            Inodes::DEVICE => u64::MAX,
            _ => MAX_LFS_FILESIZE,
        };
        Ok(pgoff.0 <= (maxsize - (u64::from(len) << PAGE_SHIFT)) >> PAGE_SHIFT)
    }

    /// `do_mmap()`: returns whether the mapping is populated at once.
    #[allow(clippy::too_many_arguments)]
    pub(crate) fn do_mmap(
        &mut self,
        mm: MmKey,
        addr: Addr,
        len: u32,
        prot: Prot,
        (file, shared): (Option<FileKey>, bool),
        flags: MmapFlags,
        pgoff: FilePage,
        uf: Uf<'_>,
    ) -> Result<bool, Stop> {
        const F: &str = "do_mmap";
        if len == 0 {
            return Err(Errno::EINVAL.into());
        }
        if read!(self, F, mm.map_count) > self.max_map_count() {
            return Err(Errno::ENOMEM.into());
        }
        if flags.contains(MmapFlags::FIXED_NOREPLACE)
            && self.find_vma_links(mm, addr, addr + len)? == Links::Occupied
        {
            return Err(Errno::EEXIST.into());
        }
        let mut vm_flags = calc_vm_prot_bits(prot)
            | read!(self, F, mm.def_flags)
            | VmFlags::VM_MAYREAD
            | VmFlags::VM_MAYWRITE
            | VmFlags::VM_MAYEXEC;
        if flags.contains(MmapFlags::LOCKED) {
            vm_flags |= VmFlags::VM_LOCKED;
            if !self.can_do_mlock() {
                return Err(Errno::EPERM.into());
            }
        }
        self.mlock_future_check(mm, vm_flags, len)?;
        let pgoff = Pgoff(pgoff.offset().0);
        if let Some(file) = file
            && !self.file_mmap_ok(file, pgoff, len)?
        {
            return Err(Errno::EOVERFLOW.into());
        }
        if shared {
            vm_flags |= VmFlags::VM_SHARED | VmFlags::VM_MAYSHARE;
            if let Some(file) = file
                && !read!(self, F, file.writable)
            {
                if prot.contains(Prot::W) {
                    return Err(Errno::EACCES.into());
                }
                vm_flags -= VmFlags::VM_MAYWRITE | VmFlags::VM_SHARED;
            }
        }
        let pgoff = match (file, shared) {
            (Some(_), _) => pgoff,
            (None, true) => Pgoff(0),
            (None, false) => addr.linear(),
        };
        if flags.contains(MmapFlags::NORESERVE) {
            vm_flags |= VmFlags::VM_NORESERVE;
        }
        self.mmap_region(mm, file, (addr, len), vm_flags, pgoff, uf)?;
        // `MAP_NONBLOCK`, which would take `MAP_POPULATE` back, is never given.
        Ok(vm_flags.contains(VmFlags::VM_LOCKED) || flags.contains(MmapFlags::POPULATE))
    }

    /// `mmap_region()`.
    fn mmap_region(
        &mut self,
        mm: MmKey,
        file: Option<FileKey>,
        (addr, len): (Addr, u32),
        mut vm_flags: VmFlags,
        pgoff: Pgoff,
        uf: Uf<'_>,
    ) -> Result<(), Stop> {
        const F: &str = "mmap_region";
        let end = addr + len;
        if !self.may_mmap_overlapped_region(mm, addr, len)? {
            return Err(Errno::ENOMEM.into());
        }
        let prev = match self.clear_old_maps(mm, addr, end, uf)? {
            Links::After(prev) => prev,
            Links::Occupied => return Err(Errno::ENOMEM.into()),
        };
        let mut charged = 0;
        if accountable_mapping(vm_flags) {
            self.vm_enough_memory(len)?;
            charged = len;
            vm_flags |= VmFlags::VM_ACCOUNT;
        }
        let new = Attributes {
            vm_flags,
            anon_vma: None,
            file,
            pgoff,
            policy: None,
            vm_userfaultfd_ctx: None,
        };
        let vma = match self.vma_merge(mm, prev, addr, end, &new)? {
            Some(vma) => vma,
            None => {
                let made = self.new_vma(mm, (addr, end), pgoff, file, &mut vm_flags).errno()?;
                // `unacct_error`.
                let vma = made.inspect_err(|_| self.vm_unacct_memory(charged))?;
                self.vma_link(mm, vma, prev)?;
                vma
            }
        };
        self.vm_stat_account(mm, vm_flags, i64::from(len))?;
        if vm_flags.contains(VmFlags::VM_LOCKED) {
            if vm_flags.intersects(VmFlags::VM_SPECIAL) {
                *edit!(self, F, vma.vm_flags) -= VmFlags::LOCK;
            } else {
                *edit!(self, F, mm.locked_vm) += i64::from(len);
            }
        }
        *edit!(self, F, vma.vm_flags) |= VmFlags::VM_SOFTDIRTY;
        Ok(())
    }

    /// Makes the VMA of a mapping that does not merge, and lets its driver set it up.
    ///
    /// # Errors
    /// `ENOMEM` where there is no memory, and the errors of the driver. The VMA is freed then.
    fn new_vma(
        &mut self,
        mm: MmKey,
        (addr, end): (Addr, Addr),
        pgoff: Pgoff,
        file: Option<FileKey>,
        vm_flags: &mut VmFlags,
    ) -> Result<VmaKey, Stop> {
        const F: &str = "mmap_region";
        let vma = self.vm_area_alloc(Vma {
            vm_start: addr,
            vm_end: end,
            vm_pgoff: pgoff,
            vm_flags: *vm_flags,
            vm_mm: mm,
            vm_prev: None,
            vm_next: None,
            anon_vma: None,
            anon_vma_chain: Chain::EMPTY,
            vm_file: None,
            vm_ops: VmOps::Anonymous,
            vm_policy: None,
            vm_userfaultfd_ctx: None,
        })?;
        match self.call_mmap(mm, file, end - addr, vm_flags).errno()? {
            Ok((vm_file, vm_ops)) => {
                *edit!(self, F, vma.vm_flags) = *vm_flags;
                *edit!(self, F, vma.vm_file) = vm_file;
                *edit!(self, F, vma.vm_ops) = vm_ops;
                Ok(vma)
            }
            Err(errno) => {
                // `free_vma`.
                self.vm_area_free(vma);
                Err(errno.into())
            }
        }
    }

    /// Unmaps the VMAs in the range, as `mmap_region()` does first.
    ///
    /// # Errors
    /// `ENOMEM` where `do_munmap()` fails.
    fn clear_old_maps(
        &mut self,
        mm: MmKey,
        addr: Addr,
        end: Addr,
        uf: Uf<'_>,
    ) -> Result<Links, Stop> {
        let links = self.find_vma_links(mm, addr, end)?;
        if links != Links::Occupied {
            return Ok(links);
        }
        match self.do_munmap(mm, addr, end - addr, uf) {
            Err(Stop::Errno(_)) => Err(Errno::ENOMEM.into()),
            Err(fatal) => Err(fatal),
            Ok(()) => self.find_vma_links(mm, addr, end),
        }
    }

    /// Sets up a new mapping as its driver does: `call_mmap()`, `shmem_zero_setup()` or
    /// `vma_set_anonymous()`.
    ///
    /// # Errors
    /// `ENOMEM` where there is no memory. The errors of [`Kernel::shm_mmap`]. The VMA has no file then.
    fn call_mmap(
        &mut self,
        mm: MmKey,
        file: Option<FileKey>,
        len: u32,
        vm_flags: &mut VmFlags,
    ) -> Result<(Option<FileKey>, VmOps), Stop> {
        const F: &str = "mmap_region";
        let Some(file) = file else {
            return if vm_flags.contains(VmFlags::VM_SHARED) {
                // `shmem_zero_setup()`: the VMA takes over the reference to its new file.
                self.allocate(Allocation::File)?;
                let inode = self.inodes.create_object(len)?;
                Ok((Some(self.alloc_file(inode, true, None)), VmOps::Shmem))
            } else {
                Ok((None, VmOps::Anonymous))
            };
        };
        let vm_file = self.get_file(file)?;
        let inode = read!(self, F, file.f_inode);
        let vm_ops = if usize::from(inode) == Inodes::DEVICE {
            // `remap_pfn_range()` maps all pages at once.
            if let Err(errno) = self.pte_alloc(mm).errno()? {
                // `unmap_and_free_vma`.
                self.fput(vm_file)?;
                return Err(errno.into());
            }
            *vm_flags |=
                VmFlags::VM_IO | VmFlags::VM_PFNMAP | VmFlags::VM_DONTEXPAND | VmFlags::VM_DONTDUMP;
            VmOps::Device
        } else if inode == Inodes::SEGMENT {
            match self.shm_mmap().errno()? {
                Ok(vm_ops) => vm_ops,
                Err(errno) => {
                    self.fput(vm_file)?;
                    return Err(errno.into());
                }
            }
        } else {
            VmOps::Shmem
        };
        Ok((Some(vm_file), vm_ops))
    }
}
