//! Anonymous pages: their values, the page table entries that share them, and whether the reverse map
//! finds them (point 9 of the contract).
//!
//! Two entries share a page only after a copy, and then neither is writable: the next write copies the
//! page, unless by then no other entry maps it. A move takes the page with its entry, which stays
//! writable.
//!
//! A page is found by a walk from its anon_vma (`rmap_walk_anon()`): each VMA that hangs on the anon_vma
//! is asked for the one address at which it has the page's index (`vma_address()`). A page is lost
//! where the VMA that maps it does not hang on the page's anon_vma, or has another index at the address
//! of the page.

use vmadiff_machine::hidden::{self, Hidden, Pte};
use vmadiff_machine::operand::{END_PAGES, Page, PageOffset, Process};
use vmadiff_machine::state::Objects;
use vmadiff_machine::{AnonVmaId, Event, PageId, PageSet, State};

use crate::anon_vma::AnonVmas;
use crate::mm::{Mm, Syscall};
use crate::range::Range;
use crate::world::World;

/// The number of an anonymous page.
pub(crate) type PageNumber = u16;

/// The anonymous page that each page table entry maps, where it maps one.
pub(crate) type PageNumbers = Vec<PageNumber>;

/// Returns page table entries that map no page.
pub(crate) fn no_pages() -> PageNumbers {
    vec![0; END_PAGES]
}

#[derive(Clone, Copy, Debug)]
struct AnonPage {
    anon_vma: AnonVmaId,
    index: PageOffset,
    /// The page table entries that map the page. At 0 the page is freed.
    mapped: u16,
    value: u8,
}

/// Every anonymous page.
#[derive(Debug, Default)]
pub(crate) struct AnonPages {
    pages: Vec<AnonPage>,
    free: Vec<PageNumber>,
    /// The numbers that the operation has freed. They are free from the next operation on.
    freed: Vec<PageNumber>,
}

vmadiff_machine::clone_by_field!(AnonPages { pages, free, freed });

impl AnonPages {
    pub(crate) fn reset(&mut self) {
        self.pages.clear();
        self.free.clear();
        self.freed.clear();
    }

    /// Begins an operation.
    #[inline]
    pub(crate) fn begin(&mut self) {
        self.free.append(&mut self.freed);
    }

    /// Makes a page that one page table entry maps.
    fn make(&mut self, anon_vma: AnonVmaId, index: PageOffset, value: u8) -> PageNumber {
        let page = AnonPage { anon_vma, index, mapped: 1, value };
        match self.free.pop() {
            Some(number) => {
                self.pages[usize::from(number)] = page;
                number
            }
            None => {
                self.pages.push(page);
                (self.pages.len() - 1) as PageNumber
            }
        }
    }

    /// Counts one page table entry less.
    fn unmap(&mut self, number: PageNumber) {
        let page = &mut self.pages[usize::from(number)];
        page.mapped -= 1;
        if page.mapped == 0 {
            self.freed.push(number);
        }
    }

    /// Empties the page table entries of `range`.
    pub(crate) fn zap(&mut self, mm: &mut Mm, range: Range) {
        for page in bits(mm.anon_pages() & range.set()) {
            self.unmap(mm.page_numbers[page]);
        }
        mm.drop_anon_pages(range.set());
    }

    /// Maps the anonymous pages of `from` at `to` in the same address space as well.
    pub(crate) fn share_within(&mut self, mm: &mut Mm, from: Range, to: Page) {
        mm.protect(from);
        let set = mm.anon_pages() & from.set();
        for page in bits(set) {
            let number = mm.page_numbers[page];
            self.pages[usize::from(number)].mapped += 1;
            mm.page_numbers[page - usize::from(from.start.0) + usize::from(to.0)] = number;
        }
        mm.add_anon_pages(set >> from.start.0 << to.0);
    }

    /// Maps the anonymous pages of `from` in another address space, at `to` (`copy_one_pte()`).
    pub(crate) fn share(&mut self, (src, from): (&mut Mm, Range), (dst, to): (&mut Mm, Page)) {
        src.protect(from);
        let set = src.anon_pages() & from.set();
        for page in bits(set) {
            let number = src.page_numbers[page];
            self.pages[usize::from(number)].mapped += 1;
            dst.page_numbers[page - usize::from(from.start.0) + usize::from(to.0)] = number;
        }
        dst.add_anon_pages(set >> from.start.0 << to.0);
    }

    /// Adds the pages that page table entries map, and which `state` has visited.
    pub(crate) fn write_state(&self, state: &mut State) {
        let AnonPages { pages, free: _, freed: _ } = self;
        for n in 0.. {
            let Some(number) = state.visited(Objects::AnonPage, n) else { break };
            // The address spaces have added each entry, and so the number of entries.
            let AnonPage { anon_vma, index, mapped: _, value } = pages[number as usize];
            let anon_vma = state.number(Objects::AnonVma, Some(anon_vma.index()));
            state.word(anon_vma);
            state.word(index.0);
            let value = state.value(value);
            state.word(value);
        }
    }

    /// Returns the anonymous page of each page of `mm.anon_pages()`, in address order.
    #[inline]
    pub(crate) fn ids(mm: &Mm) -> impl Iterator<Item = PageId> {
        bits(mm.anon_pages()).map(|page| PageId::new(mm.page_numbers[page].into()))
    }

    /// Returns the pages of `mm` whose anonymous page another entry maps, too.
    #[cfg(test)]
    pub(crate) fn shared(&self, mm: &Mm) -> PageSet {
        let shared = |page: &usize| self.pages[usize::from(mm.page_numbers[*page])].mapped > 1;
        bits(mm.anon_pages()).filter(shared).fold(0, |set, page| set | 1 << page)
    }

    /// Returns the anonymous page at `page`, where one is mapped.
    fn number_at(mm: &Mm, page: Page) -> Option<usize> {
        let mapped = mm.anon_pages() >> page.0 & 1 == 1;
        mapped.then(|| usize::from(mm.page_numbers[usize::from(page.0)]))
    }

    /// Returns the value of the anonymous page at `page`, where one is mapped.
    pub(crate) fn value(&self, mm: &Mm, page: Page) -> Option<u8> {
        AnonPages::number_at(mm, page).map(|number| self.pages[number].value)
    }

    /// Gives the anonymous page at `page` a value, and returns whether one is mapped there.
    pub(crate) fn set_value(&mut self, mm: &Mm, page: Page, value: u8) -> bool {
        let number = AnonPages::number_at(mm, page);
        if let Some(number) = number {
            self.pages[number].value = value;
        }
        number.is_some()
    }

    /// Writes the pages and the page table entries of every process.
    pub(crate) fn show(&self, mms: &[Mm], hidden: &mut Hidden) {
        let free = |number: &PageNumber| self.pages[usize::from(*number)].mapped == 0;
        for number in (0..self.pages.len() as PageNumber).filter(|number| !free(number)) {
            let AnonPage { anon_vma, index, mapped, .. } = self.pages[usize::from(number)];
            hidden.pages.push(hidden::AnonPage {
                number: number.into(),
                anon_vma: Some(anon_vma),
                index,
                map_count: mapped.into(),
            });
        }
        for (process, mm) in (0..).map(Process).zip(mms) {
            hidden.ptes.extend(bits(mm.anon_pages()).map(|page| Pte {
                process,
                page: Page(page as u8),
                maps: Some(mm.page_numbers[page].into()),
            }));
        }
    }
}

/// The pages of a set, in ascending order.
pub(crate) fn bits(mut set: PageSet) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let page = set.trailing_zeros() as usize;
        // Clears the lowest bit.
        set &= set.wrapping_sub(1);
        (page < END_PAGES).then_some(page)
    })
}

impl Syscall<'_> {
    /// Gives `page` of the VMA at `at`, which has an anon_vma, a new anonymous page of this value
    /// (`page_add_new_anon_rmap()`). The entry is writable: pages are made for writes alone.
    pub(crate) fn add_anon_page(&mut self, at: usize, page: Page, value: u8) {
        let vma = self.mm.vmas()[at];
        if let Some(own) = vma.anon_vma {
            self.mm.page_numbers[usize::from(page.0)] =
                self.anon_pages.make(own, vma.pgoff_of(page), value);
            self.mm.add_anon_pages(1 << page.0);
            self.mm.drop_write_protection(1 << page.0);
            self.mm.make_writable(page);
        }
    }

    /// Makes the entry of the anonymous page at `page` of the VMA at `at` writable (`do_wp_page()`). A
    /// page that is mapped once becomes the VMA's own (`page_move_anon_rmap()`). Otherwise the entry
    /// gets a copy.
    pub(crate) fn own_anon_page(&mut self, at: usize, page: Page) {
        let number = self.mm.page_numbers[usize::from(page.0)];
        let anon = &mut self.anon_pages.pages[usize::from(number)];
        if anon.mapped > 1 {
            let value = anon.value;
            self.anon_pages.unmap(number);
            self.add_anon_page(at, page, value);
        } else if let Some(own) = self.mm.vmas()[at].anon_vma {
            anon.anon_vma = own;
            self.mm.make_writable(page);
        }
    }
}

impl Mm {
    /// Calls `found` with each page that the reverse map does not find.
    fn lost(&self, anon_vmas: &AnonVmas, pages: &AnonPages, mut found: impl FnMut(Page)) {
        for vma in self.vmas() {
            for page in bits(self.anon_pages() & vma.range.set()) {
                let anon = &pages.pages[usize::from(self.page_numbers[page])];
                let page = Page(page as u8);
                let hangs = vma.anon_vma == Some(anon.anon_vma)
                    || anon_vmas.chain(vma.chain).any(|id| id == anon.anon_vma);
                if !hangs || anon.index != vma.pgoff_of(page) {
                    found(page);
                }
            }
        }
    }
}

impl World {
    /// Reports the pages that the operation has lost to the reverse map. A page can be lost where VMAs
    /// were joined, or where pages were copied or moved.
    #[inline]
    pub(crate) fn find_lost_pages(&mut self, events: &mut Vec<Event>) {
        for (process, mm) in (0..).map(Process).zip(&mut self.mms) {
            if std::mem::take(&mut mm.may_lose_pages) && mm.anon_pages() != 0 {
                mm.lost(&self.anon_vmas, &self.anon_pages, |page| {
                    events.push(Event::UnreachablePage { process, page });
                });
            }
        }
    }
}
