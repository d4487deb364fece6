//! The check that the reverse map still finds every anonymous page (point 9 of the contract).
//!
//! The kernel has no such check. The kernel walks from the anon_vma of a page (`rmap_walk_anon`) to
//! every VMA on it, and looks in each VMA at the one address that the index of the page stands for
//! (`vma_address`). This check walks the other way: for each pte, the VMA of the pte must be on the
//! anon_vma of the page, and the index of the page must stand for the address of the pte.
//!
//! The check runs where an operation changed a VMA with an anon_vma or moved ptes. Without copies
//! 5.2.1 loses pages as well: see [`Kernel::may_reuse`], and `userfaultfd_register()`, which merges with
//! a wrong offset.

use vmadiff_machine::Event;
use vmadiff_machine::operand::{END_PAGES, Process};

use crate::addr::{Addr, each, pages};
use crate::handle::PageKey;
use crate::kernel::Kernel;
use crate::objects::Vma;

impl Kernel {
    /// Reports the pages of a process that the reverse map misses.
    pub(crate) fn check_rmap(&mut self, process: Process) {
        let mm = self.processes.get(usize::from(process.0)).copied().flatten();
        let Some(mm) = mm.and_then(|mm| self.mms.get(mm)) else { return };
        let table = &mm.page_table;
        let mut lost = 0;
        let mut unseen = table.anon;
        let mut next = mm.mmap;
        for _ in 0..END_PAGES {
            let (Some(key), true) = (next, unseen != 0) else { break };
            let Some(vma) = self.vmas.get(key) else { break };
            let range = pages(vma.vm_start, vma.vm_end);
            for addr in each(unseen & range) {
                if !self.rmap_finds(table.page[addr.0 as usize], vma, addr) {
                    lost |= pages(addr, addr + 1);
                }
            }
            unseen &= !range;
            next = vma.vm_next;
        }
        for addr in each(lost | unseen) {
            self.events.push(Event::UnreachablePage { process, page: addr.page() });
        }
    }

    /// Returns whether a walk over the anon_vma of the page finds it at `addr`, in the VMA there.
    fn rmap_finds(&self, page: PageKey, vma: &Vma, addr: Addr) -> bool {
        self.pages.get(page).is_some_and(|page| {
            page.index == vma.linear_page_index(addr)
                && (vma.anon_vma == Some(page.anon_vma)
                    || self
                        .chains
                        .newest_first(vma.anon_vma_chain)
                        .any(|anon_vma| anon_vma == page.anon_vma))
        })
    }
}
