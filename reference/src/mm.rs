//! An address space: VMAs in address order, page tables, and the cuts with which every operation on
//! a range begins.

use vmadiff_machine::operand::{END_PAGES, Len, MAX_PROCESSES, Page, Process};
use vmadiff_machine::state::Objects;
use vmadiff_machine::{DriverCalls, Errno, Limits, Message, PageSet, State, UffdId, VmFlags};

use crate::anon_page::{AnonPages, PageNumbers, bits, no_pages};
use crate::anon_vma::AnonVmas;
use crate::function::Function;
use crate::later::Later;
use crate::memory::Memory;
use crate::range::Range;
use crate::references::References;
use crate::refusal::{Progress, Refusal, Rule};
use crate::shm::Segment;
use crate::shmem::Shmem;
use crate::vma::Vma;
use crate::why::Why;

/// An address space.
#[derive(Debug, Default)]
pub(crate) struct Mm {
    /// A process has this address space.
    pub(crate) alive: bool,
    /// Sorted, disjoint, none of them empty.
    vmas: Vec<Vma>,
    /// The pages whose page table entry maps an anonymous page.
    anon_pages: PageSet,
    /// The anonymous page of each entry of `anon_pages`.
    pub(crate) page_numbers: PageNumbers,
    /// The entries of `anon_pages` that permit writes. An entry that maps a page which another entry maps
    /// too is not among them.
    writable: PageSet,
    /// The operation may have lost pages to the reverse map.
    pub(crate) may_lose_pages: bool,
    /// The pages whose page table entry maps the zero page. Entries that map pages of files are not
    /// kept: with such an entry a fault need not look into the page cache, where the page is anyway.
    zero_pages: PageSet,
    /// The pages whose page table entry, or the marker in place of one, is write-protected by userfaultfd
    /// (`pte_mkuffd_wp()`). Only a VMA with `VM_UFFD_WP` asks for it.
    write_protected: PageSet,
    /// The userfaultfd contexts that its process has opened.
    pub(crate) uffd: [Option<UffdId>; 2],
    /// The pages by which `locked_vm` differs from a count: kernels with `MREMAP_DONTUNMAP` unlock a
    /// whole VMA and do not count that.
    pub(crate) locked_excess: i64,
    /// The lock flags that a new mapping gets: those of `mlockall` with `MCL_FUTURE` (`def_flags`).
    pub(crate) lock_future: VmFlags,
    /// New mappings are marked for KSM (`MMF_VM_MERGE_ANY`).
    pub(crate) merge_any: bool,
    /// The largest number of pages that its process may map (`RLIMIT_AS`), where there is a limit.
    pub(crate) max_pages: Option<u8>,
    /// The largest number of pages that its process may lock (`RLIMIT_MEMLOCK`), where there is a limit.
    pub(crate) max_locked: Option<u8>,
    /// Memory outside the arena has `VM_ACCOUNT`, by a rule of later kernels.
    pub(crate) outside_charged: bool,
    /// The pages charged to committed memory when the address space was last shown.
    pub(crate) committed: i64,
    /// The VMAs that mapped the segment when the address space was last shown.
    pub(crate) attached: i64,
    /// The calls of `vm_ops->open` and `vm_ops->close` that the operation makes.
    pub(crate) driver: DriverCalls,
    /// The address space may differ from what was shown last.
    pub(crate) changed: bool,
}

vmadiff_machine::clone_by_field!(Mm {
    alive,
    vmas,
    anon_pages,
    page_numbers,
    writable,
    may_lose_pages,
    zero_pages,
    write_protected,
    uffd,
    locked_excess,
    lock_future,
    merge_any,
    max_pages,
    max_locked,
    outside_charged,
    committed,
    attached,
    driver,
    changed
});

/// Every address space, by the index of its process.
pub(crate) type Mms = [Mm; MAX_PROCESSES];

impl Mm {
    #[inline]
    pub(crate) fn reset(&mut self, alive: bool) {
        self.vmas.clear();
        let (vmas, page_numbers) =
            (std::mem::take(&mut self.vmas), std::mem::take(&mut self.page_numbers));
        // The calls of an operation that ends the process are shown after it.
        let driver = self.driver;
        *self = Mm { alive, vmas, page_numbers, driver, changed: true, ..Mm::default() };
        if self.page_numbers.is_empty() {
            self.page_numbers = no_pages();
        }
    }

    pub(crate) fn vmas(&self) -> &[Vma] {
        &self.vmas
    }

    pub(crate) fn vma_mut(&mut self, at: usize) -> &mut Vma {
        self.changed = true;
        &mut self.vmas[at]
    }

    pub(crate) fn anon_pages(&self) -> PageSet {
        self.anon_pages
    }

    pub(crate) fn zero_pages(&self) -> PageSet {
        self.zero_pages
    }

    /// Adds entries that map the zero page.
    pub(crate) fn add_zero_pages(&mut self, pages: PageSet) {
        self.changed |= pages != 0;
        self.zero_pages |= pages;
    }

    /// Empties entries that map the zero page.
    pub(crate) fn drop_zero_pages(&mut self, pages: PageSet) {
        self.changed |= self.zero_pages & pages != 0;
        self.zero_pages &= !pages;
    }

    /// Adds entries that map anonymous pages; their `page_numbers` are set.
    pub(crate) fn add_anon_pages(&mut self, pages: PageSet) {
        self.changed = true;
        self.may_lose_pages = true;
        self.anon_pages |= pages;
    }

    /// Empties entries that map anonymous pages.
    pub(crate) fn drop_anon_pages(&mut self, pages: PageSet) {
        self.changed |= self.anon_pages & pages != 0;
        self.anon_pages &= !pages;
        self.writable &= !pages;
    }

    pub(crate) fn writable(&self) -> PageSet {
        self.writable
    }

    /// Lets the entry of an anonymous page permit writes (`maybe_mkwrite()`).
    pub(crate) fn make_writable(&mut self, page: Page) {
        self.changed |= self.writable >> page.0 & 1 == 0;
        self.writable |= 1 << page.0;
    }

    /// Lets no entry of `range` permit writes (`ptep_set_wrprotect()`, `change_pte_range()`). The next
    /// write faults.
    pub(crate) fn protect(&mut self, range: Range) {
        self.changed |= self.writable & range.set() != 0;
        self.writable &= !range.set();
    }

    pub(crate) fn write_protected(&self) -> PageSet {
        self.write_protected
    }

    /// Lets userfaultfd write-protect entries (`pte_mkuffd_wp()`).
    pub(crate) fn write_protect(&mut self, pages: PageSet) {
        self.changed |= pages & (self.writable | !self.write_protected) != 0;
        self.write_protected |= pages;
        self.writable &= !pages;
    }

    /// Removes the protection by userfaultfd (`pte_clear_uffd_wp()`). The next write faults all the same.
    pub(crate) fn drop_write_protection(&mut self, pages: PageSet) {
        self.changed |= pages & self.write_protected != 0;
        self.write_protected &= !pages;
    }

    /// Moves the entries of `from` to `to`, a hole, as they are (`move_ptes()`).
    pub(crate) fn move_entries(&mut self, from: Range, to: Page) {
        let moved = |pages: PageSet| (pages & from.set()) >> from.start.0 << to.0;
        let (anon, zero) = (moved(self.anon_pages), moved(self.zero_pages));
        let (writable, protected) = (moved(self.writable), moved(self.write_protected));
        let numbers = usize::from(from.start.0)..usize::from(from.end.0);
        self.page_numbers.copy_within(numbers, to.0.into());
        self.drop_anon_pages(from.set());
        self.drop_zero_pages(from.set());
        self.drop_write_protection(from.set());
        self.add_anon_pages(anon);
        self.add_zero_pages(zero);
        self.writable |= writable;
        self.write_protected |= protected;
    }

    /// Returns the index of the first VMA that ends after `page` (`find_vma()`); the number of VMAs
    /// if none does.
    pub(crate) fn first_ending_after(&self, page: Page) -> usize {
        self.vmas.iter().position(|vma| vma.range.end > page).unwrap_or(self.vmas.len())
    }

    /// Returns the index of the VMA that maps `page`.
    pub(crate) fn vma_at(&self, page: Page) -> Option<usize> {
        let at = self.first_ending_after(page);
        self.vmas.get(at).filter(|vma| vma.range.start <= page).map(|_| at)
    }

    /// Returns whether `page` lies inside a VMA and is not its first page, so that a cut is possible.
    pub(crate) fn is_within(&self, page: Page) -> bool {
        self.vma_at(page).is_some_and(|at| self.vmas[at].range.start < page)
    }

    /// Returns the index of the first VMA that maps a page of `range`, and the part of `range` that
    /// it maps.
    pub(crate) fn first_in(&self, range: Range) -> Option<(usize, Range)> {
        if range.is_empty() {
            return None;
        }
        let at = self.first_ending_after(range.start);
        let vma = self.vmas.get(at).filter(|vma| vma.range.overlaps(range))?;
        Some((at, vma.range.intersection(range)))
    }

    /// Returns the VMAs that map a page of `range`.
    pub(crate) fn all_in(&self, range: Range) -> &[Vma] {
        let from = self.first_ending_after(range.start);
        let count = self.vmas[from..].iter().take_while(|vma| vma.range.start < range.end).count();
        &self.vmas[from..from + count]
    }

    /// Returns the range that the kernel chooses for `len` pages (`unmapped_area_topdown()`): the end
    /// of the highest hole of the arena that is long enough.
    ///
    /// # Errors
    /// The pages of the longest hole, where no hole is long enough.
    pub(crate) fn unmapped_area(&self, len: Len) -> Result<Range, u8> {
        let mut end = Page(END_PAGES as u8);
        let mut longest = 0;
        for vma in self.vmas.iter().rev() {
            if end.0 - vma.range.end.0 >= len.0 {
                break;
            }
            longest = longest.max(end.0 - vma.range.end.0);
            end = vma.range.start;
        }
        let start = end.0.checked_sub(len.0).ok_or(longest.max(end.0))?;
        Ok(Range { start: Page(start), end })
    }

    /// Returns the range at the start of the lowest hole of the arena that has `len` pages
    /// (`unmapped_area()`); `None` where no hole is long enough.
    pub(crate) fn lowest_unmapped_area(&self, len: Len) -> Option<Range> {
        let mut start = Page(0);
        for vma in &self.vmas {
            if vma.range.start.0 - start.0 >= len.0 {
                break;
            }
            start = vma.range.end;
        }
        let end = start.0.checked_add(len.0).filter(|end| usize::from(*end) <= END_PAGES)?;
        Some(Range { start, end: Page(end) })
    }

    /// Adds a VMA in a hole, and returns its index.
    pub(crate) fn insert(&mut self, vma: Vma) -> usize {
        let at = self.first_ending_after(vma.range.start);
        self.vmas.insert(at, vma);
        self.changed = true;
        at
    }

    /// Adds the address space to `state`, and visits its objects.
    pub(crate) fn write_state(&self, anon_vmas: &AnonVmas, state: &mut State) {
        // The last five belong to one operation, or are counted when the address space is shown.
        let Mm {
            alive: _,
            vmas,
            anon_pages,
            page_numbers,
            writable,
            zero_pages,
            write_protected,
            uffd,
            locked_excess,
            lock_future,
            merge_any,
            max_pages,
            max_locked,
            outside_charged,
            may_lose_pages: _,
            committed: _,
            attached: _,
            driver: _,
            changed: _,
        } = self;
        state.word(vmas.len() as u64);
        for vma in vmas {
            vma.write_state(anon_vmas, state);
        }
        state.pages(*anon_pages);
        for page in bits(*anon_pages) {
            let number = state.number(Objects::AnonPage, Some(page_numbers[page].into()));
            state.word(number);
        }
        state.pages(*zero_pages);
        state.pages(*writable);
        state.pages(*write_protected);
        let [first, second] =
            uffd.map(|uffd| state.number(Objects::Uffd, uffd.map(|uffd| uffd.index())));
        state.word(first | second << 32);
        state.word(*locked_excess as u64);
        state.word(u64::from(lock_future.bits()) | u64::from(*outside_charged) << 32);
        state.word((*merge_any).into());
        for limit in [max_pages, max_locked] {
            state.word(limit.map_or(u64::MAX, u64::from));
        }
    }
}

/// A system call: the address space it works on, and the state that all address spaces share.
pub(crate) struct Syscall<'a> {
    /// The process that has `mm`.
    pub(crate) process: Process,
    pub(crate) mm: &'a mut Mm,
    pub(crate) anon_vmas: &'a mut AnonVmas,
    pub(crate) anon_pages: &'a mut AnonPages,
    pub(crate) shmem: &'a mut Shmem,
    pub(crate) segment: &'a mut Segment,
    pub(crate) references: &'a mut References,
    pub(crate) messages: &'a mut Vec<Message>,
    pub(crate) limits: &'a Limits,
    pub(crate) later: &'a Later,
    pub(crate) memory: &'a Memory,
    /// The reasons of the operation, where they are asked for.
    pub(crate) why: Option<&'a mut Why>,
}

impl Syscall<'_> {
    /// Returns the refusal of `rule`, which the kernel function `function` checks.
    #[inline]
    pub(crate) fn refuse<T>(
        &self,
        errno: Errno,
        function: Function,
        rule: Rule,
    ) -> Result<T, Refusal> {
        let progress = Progress::Nothing;
        Err(Refusal { errno, function: Some(function), process: self.process, rule, progress })
    }

    /// Cuts the VMA at `at` in two at `page`, which lies inside it (`__split_vma()`). Both halves
    /// keep all attributes.
    pub(crate) fn cut(&mut self, at: usize, page: Page) {
        let whole = *self.mm.vma_mut(at);
        self.mm.vmas[at].range.end = page;
        let upper = whole.part(Range { start: page, end: whole.range.end });
        self.mm.vmas.insert(at + 1, upper);
        self.mm.driver.opens += u32::from(upper.has_close());
        self.anon_vmas.link(&upper);
        self.references.get(&upper);
    }

    /// Cuts the VMA at `at` in two at `page`, as [`Syscall::cut`] does, where there is memory.
    ///
    /// # Errors
    /// `ENOMEM` without memory for the new half.
    pub(crate) fn try_cut(&mut self, at: usize, page: Page) -> Result<(), Refusal> {
        let vma = &self.mm.vmas[at];
        self.get_memory(Function::SplitVma, |what| vma.duplicate_needs(what))?;
        self.cut(at, page);
        Ok(())
    }

    /// Cuts the VMA at `at` in two at `page`, under the limit on VMAs.
    ///
    /// # Errors
    /// `ENOMEM` (`split_vma()`); the errors of [`Syscall::try_cut`].
    pub(crate) fn cut_within_limit(&mut self, at: usize, page: Page) -> Result<(), Refusal> {
        self.may_map(1, Function::SplitVma)?;
        self.try_cut(at, page)
    }

    /// Removes the VMAs at these indices. Their pages are left to the caller.
    pub(crate) fn drop_vmas(&mut self, places: std::ops::Range<usize>) {
        for vma in self.mm.vmas.drain(places) {
            self.anon_vmas.unlink(&vma);
            self.references.put(&vma);
            self.mm.driver.closes += u32::from(vma.has_close());
        }
        self.mm.changed = true;
    }
}
