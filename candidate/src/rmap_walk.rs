//! Whether the reverse map still finds every anonymous page (point 9 of the contract).
//!
//! The kernel has no such check: it would walk from a page's anon_vma (`rmap_walk_anon`) to every
//! VMA on it, and look in each at the one address that the page's index stands for
//! (`vma_address`). Here the walk is turned round: for each pte, the VMA it lies in must be on the
//! page's anon_vma, and the page's index must stand for that very address.
//!
//! Only what a copy loses is reported. Without copies the original kernel loses pages as well, if
//! `userfaultfd_register()` merges by the wrong offset; that is not the contract's affair.

use vmadiff_machine::Event;
use vmadiff_machine::operand::{END_PAGES, Process};

use crate::addr::{Addr, each, pages};
use crate::handle::PageKey;
use crate::kernel::Kernel;
use crate::objects::Vma;

impl Kernel {
    /// Looks for pages of a process that the reverse map does not find. Those that were not known
    /// to be lost are reported, if a copy `is_to_blame`.
    pub(crate) fn check_rmap(&mut self, process: Process, is_to_blame: bool) {
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
        lost |= unseen;
        if lost == table.lost {
            return;
        }
        if is_to_blame {
            for addr in each(lost & !table.lost) {
                self.events.push(Event::UnreachablePage { process, page: addr.page() });
            }
        }
        let key = self.processes.get(usize::from(process.0)).copied().flatten();
        if let Some(mm) = key.and_then(|mm| self.mms.get_mut(mm)) {
            mm.page_table.lost = lost;
        }
    }

    /// Whether a walk over the page's anon_vma finds it at `addr`, in the VMA that is there.
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
