//! Pages: what a fault does (`mm/memory.c`), and populating, which faults on purpose
//! (`mm/gup.c`).

use vmadiff_machine::operand::{Access, Page};
use vmadiff_machine::{Errno, VmFlags};

use crate::mm::Syscall;
use crate::range::Range;
use crate::shmem::Content;
use crate::vma::Vma;

/// How a fault ends that does not give the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// Beyond the end of the file.
    Sigbus,
    /// The page is missing, and userfaultfd watches: the fault waits for someone to fill it.
    Waits,
}

impl Syscall<'_> {
    /// One byte of a page is read or written by the process.
    ///
    /// # Errors
    /// `EAGAIN` where userfaultfd watches the VMA, whether or not the access is permitted;
    /// `EFAULT` where nothing is mapped or the access is not permitted (`access_error()`);
    /// `SIGBUS` beyond the end of the file.
    pub(crate) fn touch(&mut self, page: Page, access: Access) -> Result<u8, Errno> {
        let at = self.mm.vma_at(page).ok_or(Errno::EFAULT)?;
        let Vma { flags, uffd, .. } = self.mm.vmas()[at];
        if uffd.is_some() {
            return Err(Errno::EAGAIN);
        }
        let permitted = match access {
            Access::Write => VmFlags::VM_WRITE,
            // What may be written or executed may be read.
            Access::Read => VmFlags::ACCESS,
        };
        if !flags.intersects(permitted) {
            return Err(Errno::EFAULT);
        }
        match self.fault(at, page, access == Access::Write) {
            Ok(()) => Ok(0),
            Err(Fault::Sigbus) => Err(Errno::SIGBUS),
            Err(Fault::Waits) => Err(Errno::EAGAIN),
        }
    }

    /// The VMA at `at` gives `page` for reading or writing (`handle_mm_fault()`); permissions have
    /// been checked.
    ///
    /// - An anonymous page that is there serves every access; what else is there serves reads.
    /// - A write to private memory needs an anonymous page, and the VMA an anon_vma for it. It
    ///   gets the anon_vma first (`do_anonymous_page()`, `do_cow_fault()`, `wp_page_copy()`), and
    ///   keeps it if the fault then fails.
    /// - Anonymous memory that is read shows the zero page, which needs no anon_vma.
    /// - A page of a file comes by way of the page cache, for private mappings too. userfaultfd
    ///   watches for pages that are missing there (`shmem_getpage_gfp()`); for anonymous memory,
    ///   for pages that are missing in the page table.
    /// - The device has all its pages from the start.
    fn fault(&mut self, at: usize, page: Page, write: bool) -> Result<(), Fault> {
        let bit = 1 << page.0;
        if self.mm.anon_pages() & bit != 0 {
            return Ok(());
        }
        let vma = self.mm.vmas()[at];
        let copy = write && !vma.flags.contains(VmFlags::VM_SHARED);
        if vma.has_close() || (!copy && self.mm.zero_pages & bit != 0) {
            return Ok(());
        }
        if copy {
            self.prepare(at);
        }
        let watched = vma.uffd.is_some();
        match vma.file {
            None => {
                if watched && self.mm.zero_pages & bit == 0 {
                    return Err(Fault::Waits);
                }
                if !copy {
                    self.mm.zero_pages |= bit;
                }
            }
            Some(file) => {
                let pgoff = vma.pgoff_of(page).0;
                match self.shmem.content(file, pgoff) {
                    Content::Cached => {}
                    Content::Beyond => return Err(Fault::Sigbus),
                    Content::Missing if watched => return Err(Fault::Waits),
                    Content::Missing => self.shmem.cache(file, pgoff),
                }
            }
        }
        if copy {
            self.mm.zero_pages &= !bit;
            *self.mm.anon_pages_mut() |= bit;
        }
        Ok(())
    }

    /// `anon_vma_prepare()` of the VMA at `at`.
    fn prepare(&mut self, at: usize) {
        let vmas = self.mm.vmas();
        let mut vma = vmas[at];
        if vma.anon_vma.is_some() {
            return;
        }
        let prev = at.checked_sub(1).map(|prev| &vmas[prev]);
        self.anon_vmas.prepare(&mut vma, prev, vmas.get(at + 1));
        *self.mm.vma_mut(at) = vma;
    }

    /// Faults in `part` of the VMA at `at`, page by page, up to the first that fails
    /// (`populate_vma_page_range()`). Private writable memory is written, so that it is copied
    /// now; else it is read, whether or not reading is permitted, if anything is. Memory that is
    /// locked on fault is left as it is.
    ///
    /// # Errors
    /// `EFAULT` where nothing is permitted (`check_vma_flags()`) or the file ends; `EAGAIN` where
    /// the fault waits for userfaultfd.
    pub(crate) fn populate_part(&mut self, at: usize, part: Range) -> Result<(), Errno> {
        let vma = self.mm.vmas()[at];
        if !vma.flags.intersects(VmFlags::ACCESS) {
            return Err(Errno::EFAULT);
        }
        if vma.flags.contains(VmFlags::VM_LOCKONFAULT) {
            return Ok(());
        }
        let write = vma.is_private_writable();
        part.pages().try_for_each(|page| match self.fault(at, page, write) {
            Ok(()) => Ok(()),
            Err(Fault::Sigbus) => Err(Errno::EFAULT),
            Err(Fault::Waits) => Err(Errno::EAGAIN),
        })
    }

    /// Faults in `range`, VMA by VMA, the device left out (`__mm_populate()`).
    ///
    /// # Errors
    /// That of [`Syscall::populate_part`], where populating ends.
    pub(crate) fn populate(&mut self, range: Range) -> Result<(), Errno> {
        let mut rest = range;
        while let Some((at, part)) = self.mm.first_in(rest) {
            if !self.mm.vmas()[at].flags.intersects(VmFlags::VM_IO | VmFlags::VM_PFNMAP) {
                self.populate_part(at, part)?;
            }
            rest.start = part.end;
        }
        Ok(())
    }

    /// The same where the caller does not want to know (`mm_populate()`): of `mmap` and `mremap`,
    /// whose range is one VMA's.
    ///
    /// # Errors
    /// `EAGAIN` where a fault waits for userfaultfd.
    pub(crate) fn populate_quietly(&mut self, range: Range) -> Result<(), Errno> {
        match self.populate(range) {
            Err(Errno::EAGAIN) => Err(Errno::EAGAIN),
            _ => Ok(()),
        }
    }

    /// The page tables of `range` are emptied (`zap_page_range()`).
    pub(crate) fn zap(&mut self, range: Range) {
        self.mm.zero_pages &= !range.set();
        if self.mm.anon_pages() & range.set() != 0 {
            *self.mm.anon_pages_mut() &= !range.set();
        }
    }
}
