//! SysV shared memory (`ipc/shm.c`): the segment of a program. Its pages are those of a shmem file.

use vmadiff_machine::operand::{FilePage, MmapFlags, Prot, SHM_PAGES, ShmFlags};
use vmadiff_machine::{Allocation, Errno};

use crate::addr::Addr;
use crate::handle::{FileKey, MmKey, VmaKey, read};
use crate::kernel::Kernel;
use crate::locks::Lock;
use crate::objects::VmOps;
use crate::populate::OnError;
use crate::shmem::Inodes;
use crate::stop::{Caught, Stop};
use crate::vma_list::{Links, Walk};

/// `shmid_kernel`: a segment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShmidKernel {
    /// The file of the segment. The file of each attachment has a reference to it as well.
    pub(crate) shm_file: FileKey,
    /// The VMAs that map the segment, and the calls of `shmat()` that are running.
    pub(crate) shm_nattch: i64,
    /// `SHM_DEST`: the segment is destroyed when nothing is attached.
    pub(crate) dest: bool,
}

impl ShmidKernel {
    /// Returns a segment that nothing maps.
    pub(crate) const fn new(shm_file: FileKey) -> ShmidKernel {
        ShmidKernel { shm_file, shm_nattch: 0, dest: false }
    }
}

impl Kernel {
    /// `do_shmat()`: maps the segment at `addr`.
    ///
    /// # Errors
    /// `EINVAL` where the segment was destroyed, and over a mapping without `SHM_REMAP`. `ENOMEM` where
    /// there is no memory. The errors of `do_mmap()`.
    pub(crate) fn do_shmat(
        &mut self,
        mm: MmKey,
        addr: Addr,
        shmflg: ShmFlags,
    ) -> Result<Addr, Stop> {
        const F: &str = "do_shmat";
        let mut prot = Prot::R;
        prot.set(Prot::W, !shmflg.contains(ShmFlags::RDONLY));
        prot.set(Prot::X, shmflg.contains(ShmFlags::EXEC));
        let Some(shp) = &mut self.shm else { return Err(Errno::EINVAL.into()) };
        // The segment cannot be destroyed while the call runs.
        shp.shm_nattch += 1;
        let base = shp.shm_file;
        let base = self.get_file(base)?;
        if let Err(errno) = self.allocate(Allocation::File).errno()? {
            self.fput(base)?;
            self.locked(Lock::ShmIds, F, |kernel| kernel.shm_detach(F))?;
            return Err(errno.into());
        }
        // `alloc_file_clone()`.
        let writable = !shmflg.contains(ShmFlags::RDONLY);
        let file = self.alloc_file(Inodes::SEGMENT, writable, Some(base));
        let size = SHM_PAGES.into();
        let attach = |kernel: &mut Kernel| {
            let links = kernel.find_vma_links(mm, addr, addr + size)?;
            if !shmflg.contains(ShmFlags::REMAP) && links == Links::Occupied {
                return Err(Errno::EINVAL.into());
            }
            let how = (Some(file), true);
            let (flags, pgoff) = (MmapFlags::empty(), FilePage::first(0));
            kernel.do_mmap(mm, addr, size, prot, how, flags, pgoff, None)
        };
        let result = self.locked(Lock::MmapSem(mm), F, attach).errno()?;
        let populated = match result {
            Ok(true) => self.mm_populate(mm, addr, size, OnError::Ignore).errno()?,
            _ => Ok(()),
        };
        self.fput(file)?;
        self.locked(Lock::ShmIds, F, |kernel| kernel.shm_detach(F))?;
        result?;
        populated?;
        Ok(addr)
    }

    /// `ksys_shmdt()`: unmaps what is left of the attachment at `addr`. A part of it is a VMA at the
    /// distance from `addr` that its page offset says.
    ///
    /// # Errors
    /// `EINVAL` where there is no such VMA.
    pub(crate) fn shmdt(&mut self, mm: MmKey, addr: Addr) -> Result<(), Stop> {
        const F: &str = "ksys_shmdt";
        self.locked(Lock::MmapSem(mm), F, |kernel| {
            let mut next = kernel.find_vma(mm, addr)?;
            let mut walk = Walk::new();
            // The first part says which file is detached, and how long it is.
            let mut found: Option<(FileKey, u32)> = None;
            while let Some(vma) = next {
                walk.step()?;
                next = read!(kernel, F, vma.vm_next);
                let (start, end) = (read!(kernel, F, vma.vm_start), read!(kernel, F, vma.vm_end));
                if found.is_some_and(|(_, size)| end - addr > size) {
                    break;
                }
                let Some(file) = kernel.attached_at(vma, addr)? else { continue };
                if found.is_none_or(|(known, _)| known == file) {
                    found = Some((file, SHM_PAGES.into()));
                    kernel.do_munmap(mm, start, end - start, None)?;
                }
            }
            found.map(|_| ()).ok_or(Errno::EINVAL.into())
        })
    }

    /// Returns the file of a VMA that is a part of an attachment at `addr`.
    fn attached_at(&self, vma: VmaKey, addr: Addr) -> Result<Option<FileKey>, Stop> {
        const F: &str = "ksys_shmdt";
        let (start, pgoff) = (read!(self, F, vma.vm_start), read!(self, F, vma.vm_pgoff));
        // The kernel subtracts without a sign: a VMA that begins below `addr` is at a huge distance.
        let is_part = read!(self, F, vma.vm_ops) == VmOps::Shm
            && start >= addr
            && u64::from(start - addr) == pgoff.0;
        Ok(read!(self, F, vma.vm_file).filter(|_| is_part))
    }

    /// `shmctl()` with `IPC_RMID` (`shmctl_down()`, `do_shm_rmid()`).
    ///
    /// # Errors
    /// `EINVAL` where the segment was destroyed.
    pub(crate) fn shm_rmid(&mut self) -> Result<(), Stop> {
        const F: &str = "shmctl_down";
        self.locked(Lock::ShmIds, F, |kernel| {
            let shp = kernel.shm.as_mut().ok_or(Errno::EINVAL)?;
            shp.dest = true;
            if shp.shm_nattch == 0 { kernel.shm_destroy() } else { Ok(()) }
        })
    }

    /// `shm_mmap()`: counts the VMA of a new attachment.
    ///
    /// # Errors
    /// `EINVAL` where the segment was destroyed.
    pub(crate) fn shm_mmap(&mut self) -> Result<VmOps, Stop> {
        let shp = self.shm.as_mut().ok_or(Errno::EINVAL)?;
        shp.shm_nattch += 1;
        Ok(VmOps::Shm)
    }

    /// `shm_open()`: counts one more VMA.
    pub(crate) fn shm_open(&mut self) {
        match &mut self.shm {
            Some(shp) => shp.shm_nattch += 1,
            None => self.warn("shm_open", "err"),
        }
    }

    /// `shm_close()`: counts one VMA less.
    pub(crate) fn shm_close(&mut self) -> Result<(), Stop> {
        const F: &str = "shm_close";
        self.locked(Lock::ShmIds, F, |kernel| kernel.shm_detach(F))
    }

    /// Takes one off `shm_nattch`, and destroys the segment where `shm_may_destroy()` says so.
    fn shm_detach(&mut self, function: &'static str) -> Result<(), Stop> {
        let Some(shp) = &mut self.shm else {
            self.warn(function, "IS_ERR(shp)");
            return Ok(());
        };
        shp.shm_nattch -= 1;
        if shp.shm_nattch == 0 && shp.dest { self.shm_destroy() } else { Ok(()) }
    }

    /// `shm_destroy()`.
    fn shm_destroy(&mut self) -> Result<(), Stop> {
        match self.shm.take() {
            Some(shp) => self.fput(shp.shm_file),
            None => Ok(()),
        }
    }
}
