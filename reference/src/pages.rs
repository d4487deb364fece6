//! Pages: the effect of a fault (`mm/memory.c`), and populating, which faults on purpose
//! (`mm/gup.c`).

use vmadiff_machine::operand::{Access, Page};
use vmadiff_machine::{Allocation, Errno, VmFlags};

use crate::change::Hole;
use crate::function::Function;
use crate::later;
use crate::mm::Syscall;
use crate::range::Range;
use crate::refusal::{Progress, Refusal, Rule};
use crate::shmem::Content;
use crate::vma::Vma;

/// The end of a fault that does not give the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// The page lies beyond the end of the file.
    Sigbus,
    /// There is no memory for the page table or for the anon_vma of the VMA (`VM_FAULT_OOM`).
    NoMemory,
    /// The page is missing and userfaultfd watches for it: the fault waits until someone fills the page.
    Waits,
    /// The page is write-protected by userfaultfd: the fault waits until someone removes the protection.
    WriteProtected,
}

impl Syscall<'_> {
    /// Reads or writes the value of a page, as the process does, and returns the value. A write writes
    /// `value`.
    ///
    /// # Errors
    /// `EAGAIN` where userfaultfd watches the VMA for missing pages, even if the access is not permitted,
    /// and where a write has to wait because userfaultfd write-protects the page; `EFAULT` where nothing
    /// is mapped or the access is not permitted (`access_error()`); `SIGBUS` beyond the end of the file.
    pub(crate) fn touch(&mut self, page: Page, access: Access, value: u8) -> Result<u8, Refusal> {
        let Some(at) = self.mm.vma_at(page) else {
            return self.refuse(Errno::EFAULT, Function::DoPageFault, Rule::NotMapped(page));
        };
        let Vma { range: vma, flags, uffd, .. } = self.mm.vmas()[at];
        if uffd.is_some() && flags.contains(VmFlags::VM_UFFD_MISSING) {
            return self.refuse(Errno::EAGAIN, Function::HandleUserfault, Rule::Watched(vma));
        }
        let refused = match access {
            Access::Write if !flags.contains(VmFlags::VM_WRITE) => {
                Some(Rule::LacksFlags { vma, flags: VmFlags::VM_WRITE })
            }
            // Memory that may be written or executed may be read.
            Access::Read if !flags.intersects(VmFlags::ACCESS) => Some(Rule::NoAccess(vma)),
            Access::Read if self.is_execute_only(flags) => {
                Some(Rule::LacksFlags { vma, flags: VmFlags::VM_READ })
            }
            _ => None,
        };
        if let Some(rule) = refused {
            return self.refuse(Errno::EFAULT, Function::AccessError, rule);
        }
        self.fault_in(at, page, access == Access::Write, Errno::SIGBUS)?;
        if access == Access::Write && !self.anon_pages.set_value(self.mm, page, value) {
            let vma = &self.mm.vmas()[at];
            if let Some(file) = vma.file {
                self.shmem.set_value(file, vma.pgoff_of(page).0, value);
            }
        }
        Ok(self.value(at, page))
    }

    /// Returns the value of a page of the VMA at `at` that is present: that of the anonymous page, else
    /// that of the file's page. The zero page has the value 0.
    fn value(&self, at: usize, page: Page) -> u8 {
        let vma = &self.mm.vmas()[at];
        let of_file = || vma.file.map_or(0, |file| self.shmem.value(file, vma.pgoff_of(page).0));
        self.anon_pages.value(self.mm, page).unwrap_or_else(of_file)
    }

    /// Makes `page` of the VMA at `at` present, as [`Syscall::fault`] does.
    ///
    /// # Errors
    /// `sigbus` for a page beyond the file; `ENOMEM` without memory; `EAGAIN` where userfaultfd watches.
    fn fault_in(
        &mut self,
        at: usize,
        page: Page,
        write: bool,
        sigbus: Errno,
    ) -> Result<(), Refusal> {
        let had = self.mm.vmas()[at].anon_vma;
        let Err(fault) = self.fault(at, page, write) else { return Ok(()) };
        let Vma { range: vma, anon_vma, .. } = self.mm.vmas()[at];
        let (errno, function, rule) = match fault {
            Fault::Sigbus => (sigbus, Function::ShmemFault, Rule::BeyondFile(page)),
            Fault::NoMemory => (Errno::ENOMEM, Function::DoPageFault, Rule::NoMemory),
            Fault::Waits => {
                (Errno::EAGAIN, Function::HandleUserfault, Rule::WouldBlock { page, vma })
            }
            Fault::WriteProtected => {
                (Errno::EAGAIN, Function::HandleUserfault, Rule::WriteProtected { page, vma })
            }
        };
        let progress = if anon_vma == had { Progress::Nothing } else { Progress::Prepared };
        Err(Refusal { errno, function: Some(function), process: self.process, rule, progress })
    }

    /// Makes `page` of the VMA at `at` present for reading or writing (`handle_mm_fault()`).
    /// Permissions have been checked.
    ///
    /// - An anonymous page that is present serves every access; a write may copy it
    ///   ([`Syscall::own_anon_page`]). Any other present page serves reads.
    /// - A write to private memory needs an anonymous page, and the VMA an anon_vma for it. The VMA
    ///   gets the anon_vma first (`do_anonymous_page()`, `do_cow_fault()`, `wp_page_copy()`), and
    ///   keeps it if the fault then fails.
    /// - A read of anonymous memory shows the zero page, which needs no anon_vma.
    /// - A page of a file comes from the page cache, for private mappings too. There userfaultfd
    ///   watches for pages that are missing in the page cache (`shmem_getpage_gfp()`); in anonymous
    ///   memory, for pages that are missing in the page table. A VMA that is in write-protect mode only does not
    ///   make a missing page wait.
    /// - The device has all its pages from the start.
    fn fault(&mut self, at: usize, page: Page, write: bool) -> Result<(), Fault> {
        let bit = 1 << page.0;
        let vma = self.mm.vmas()[at];
        let copy = write && !vma.flags.contains(VmFlags::VM_SHARED);
        // `do_wp_page()` is not reached where the entry permits writes already.
        let protected = write
            && vma.flags.contains(VmFlags::VM_UFFD_WP)
            && self.mm.write_protected() & !self.mm.writable() & bit != 0;
        let present = self.mm.anon_pages() | self.mm.zero_pages();
        if protected && present & bit != 0 {
            return Err(Fault::WriteProtected);
        }
        if self.mm.anon_pages() & bit != 0 {
            if copy {
                self.own_anon_page(at, page);
            }
            return Ok(());
        }
        if vma.is_of_device() || (!copy && self.mm.zero_pages() & bit != 0) {
            return Ok(());
        }
        // `do_anonymous_page()` makes the page table first. `do_cow_fault()` makes it later.
        let makes_table = |what| what == Allocation::PageTable;
        let missing = self.mm.zero_pages() & bit == 0;
        if missing && vma.file.is_none() && self.memory.is_short_of(makes_table) {
            return Err(Fault::NoMemory);
        }
        if copy {
            self.prepare(at)?;
        }
        if missing && vma.file.is_some() && self.memory.is_short_of(makes_table) {
            return Err(Fault::NoMemory);
        }
        let watched = vma.flags.contains(VmFlags::VM_UFFD_MISSING);
        match vma.file {
            None => {
                if watched && self.mm.zero_pages() & bit == 0 {
                    return Err(Fault::Waits);
                }
                if !copy {
                    self.mm.add_zero_pages(bit);
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
            let value = self.value(at, page);
            self.mm.drop_zero_pages(bit);
            self.add_anon_page(at, page, value);
        }
        if protected {
            // A marker protects the page of the file that the fault has mapped, or its copy.
            self.mm.write_protect(bit);
            return Err(Fault::WriteProtected);
        }
        Ok(())
    }

    /// Gives the VMA at `at` an anon_vma, unless it has one (`anon_vma_prepare()`).
    ///
    /// # Errors
    /// [`Fault::NoMemory`], where nothing has changed.
    fn prepare(&mut self, at: usize) -> Result<(), Fault> {
        let vmas = self.mm.vmas();
        let mut vma = vmas[at];
        if vma.anon_vma.is_some() {
            return Ok(());
        }
        let prev = at.checked_sub(1).map(|prev| &vmas[prev]);
        let next = vmas.get(at + 1);
        if self.memory.is_short_of(|what| match what {
            Allocation::ChainEntry => true,
            Allocation::AnonVma => self.anon_vmas.shared(&vma, prev, next).is_none(),
            _ => false,
        }) {
            return Err(Fault::NoMemory);
        }
        self.anon_vmas.prepare(&mut vma, prev, next);
        *self.mm.vma_mut(at) = vma;
        Ok(())
    }

    /// Returns whether protection keys forbid to read memory with these flags
    /// ([`ExecuteOnly`](later::Rule::ExecuteOnly)).
    fn is_execute_only(&self, flags: VmFlags) -> bool {
        self.later.applies(later::Rule::ExecuteOnly, || flags & VmFlags::ACCESS == VmFlags::VM_EXEC)
    }

    /// Faults in `part` of the VMA at `at`, page by page, up to the first page that fails
    /// (`populate_vma_page_range()`). Private writable memory is written, so that it is copied now.
    /// Any other memory is read, even if only writing or executing is permitted. Memory that is
    /// locked on fault is left as it is; 5.2.1 checks its permissions first, kernels with
    /// [`MlockOnfault`](later::Rule::MlockOnfault) do not.
    ///
    /// # Errors
    /// `EFAULT` where no access is permitted (`check_vma_flags()`) or the page lies beyond the file;
    /// `EAGAIN` where the fault waits for userfaultfd.
    pub(crate) fn populate_part(&mut self, at: usize, part: Range) -> Result<(), Refusal> {
        let vma = self.mm.vmas()[at];
        let on_fault = vma.flags.contains(VmFlags::VM_LOCKONFAULT);
        let refused = if !vma.flags.intersects(VmFlags::ACCESS) {
            Some(Rule::NoAccess(vma.range))
        } else if self.is_execute_only(vma.flags) {
            Some(Rule::LacksFlags { vma: vma.range, flags: VmFlags::VM_READ })
        } else {
            None
        };
        match refused {
            Some(_) if self.later.applies(later::Rule::MlockOnfault, || on_fault) => return Ok(()),
            Some(rule) => return self.refuse(Errno::EFAULT, Function::CheckVmaFlags, rule),
            None if on_fault => return Ok(()),
            None => {}
        }
        let write = vma.is_private_writable();
        part.pages().try_for_each(|page| self.fault_in(at, page, write, Errno::EFAULT))
    }

    /// Faults in `range` page by page for reading or writing, up to the first page that fails
    /// (`madvise_populate()` of later kernels). Memory that is locked on fault is populated, too.
    ///
    /// # Errors
    /// `ENOMEM` for a hole, at once, or with [`MadvisePopulateWalks`](later::Rule::MadvisePopulateWalks) after
    /// the rest; `EINVAL` where the access is not permitted, or for a device; `EFAULT` beyond the end of the
    /// file; `EAGAIN` where the fault waits for userfaultfd. Pages before stay.
    pub(crate) fn populate_advised(&mut self, range: Range, access: Access) -> Result<u8, Refusal> {
        let needed = match access {
            Access::Read => VmFlags::VM_READ,
            Access::Write => VmFlags::VM_WRITE,
        };
        let hole = match self.later.hold.has(later::Rule::MadvisePopulateWalks) {
            true => Hole::Remembered,
            false => Hole::Stops(Function::Madvise),
        };
        let mut end = range.start;
        self.walk(range, hole, |this, at, part| {
            this.later.applies(later::Rule::MadvisePopulateWalks, || part.start > end);
            end = part.end;
            let Vma { range: vma, flags, .. } = this.mm.vmas()[at];
            let device = flags & (VmFlags::VM_IO | VmFlags::VM_PFNMAP);
            let rule = match () {
                () if !device.is_empty() => Some(Rule::HasFlags { vma, flags: device }),
                () if !flags.contains(needed) => Some(Rule::LacksFlags { vma, flags: needed }),
                () => None,
            };
            if let Some(rule) = rule {
                return this.refuse(Errno::EINVAL, Function::CheckVmaFlags, rule);
            }
            for page in part.pages() {
                let done = this.fault_in(at, page, access == Access::Write, Errno::EFAULT);
                done.map_err(|refusal| match page > range.start {
                    true => refusal.after(Progress::UpTo(page)),
                    false => refusal,
                })?;
            }
            Ok(at)
        })?;
        Ok(0)
    }

    /// Faults in `range`, VMA by VMA, except for the device (`__mm_populate()`).
    ///
    /// # Errors
    /// The first error of [`Syscall::populate_part`], which ends populating.
    pub(crate) fn populate(&mut self, range: Range) -> Result<(), Refusal> {
        self.populate_each(range, Err)
    }

    /// Faults in `range` for a caller that ignores errors (`mm_populate()`): populating goes on at the
    /// next VMA.
    ///
    /// # Errors
    /// `EAGAIN` where a fault waits for userfaultfd.
    pub(crate) fn populate_quietly(&mut self, range: Range) -> Result<(), Refusal> {
        self.populate_each(range, |refusal| match refusal.errno {
            Errno::EAGAIN => Err(refusal),
            _ => Ok(()),
        })
    }

    /// Faults in the part of `range` in each VMA, except for the device. `failed` gets the error of a
    /// VMA, and returns whether populating goes on.
    fn populate_each(
        &mut self,
        range: Range,
        failed: impl Fn(Refusal) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut rest = range;
        while let Some((at, part)) = self.mm.first_in(rest) {
            if !self.mm.vmas()[at].flags.intersects(VmFlags::VM_IO | VmFlags::VM_PFNMAP) {
                self.populate_part(at, part).or_else(&failed)?;
            }
            rest.start = part.end;
        }
        Ok(())
    }

    /// Empties the page tables of `range` (`zap_page_range()`). Where userfaultfd watches a file in write-protect
    /// mode, a marker keeps the protection of an entry (`zap_install_uffd_wp_if_needed()`).
    pub(crate) fn zap(&mut self, range: Range) {
        if self.mm.write_protected() & range.set() != 0 {
            let marks = |vma: &&Vma| !vma.is_anonymous() && vma.flags.contains(VmFlags::VM_UFFD_WP);
            let marked = self.mm.all_in(range).iter().filter(marks);
            let marked = marked.fold(0, |set, vma| set | vma.range.set());
            self.mm.drop_write_protection(range.set() & !marked);
        }
        self.mm.drop_zero_pages(range.set());
        self.anon_pages.zap(self.mm, range);
    }
}
