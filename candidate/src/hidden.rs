//! The objects that no observation shows, for the invariants.

use slotmap::Key as _;
use vmadiff_machine::AnonVmaId;
use vmadiff_machine::hidden::{self, Hidden, Pte};
use vmadiff_machine::operand::Process;

use crate::addr::each;
use crate::kernel::Kernel;
use crate::key::{AnonVmaKey, PageKey};
use crate::revision::Revision;

/// Returns a small number for a page: its slot in the arena.
fn number(page: PageKey) -> u32 {
    page.data().as_ffi() as u32
}

impl Kernel {
    /// Writes every page, pte and anon_vma, and the number of other objects.
    pub(crate) fn show_hidden(&self, hidden: &mut Hidden) {
        let id = |anon_vma: AnonVmaKey| {
            self.anon_vmas.get(anon_vma).map(|anon_vma| AnonVmaId::new(anon_vma.id))
        };
        hidden.pages.extend(self.pages.iter().map(|(key, page)| hidden::AnonPage {
            number: number(key),
            anon_vma: id(page.anon_vma),
            index: page.index.shown(),
            map_count: page.mapcount,
        }));
        for (process, mm) in (0..).map(Process).zip(&self.processes) {
            let Some(mm) = mm.and_then(|mm| self.mms.get(mm)) else { continue };
            hidden.ptes.extend(each(mm.page_table.anon).map(|addr| {
                let page = mm.page_table.page[addr.0 as usize];
                let maps = self.pages.contains_key(page).then(|| number(page));
                Pte { process, page: addr.page(), maps }
            }));
        }
        hidden.anon_vmas.extend(self.anon_vmas.values().map(|anon_vma| hidden::AnonVma {
            id: AnonVmaId::new(anon_vma.id),
            parent: id(anon_vma.parent),
            root: id(anon_vma.root),
            degree: i64::from(anon_vma.num_children + anon_vma.num_active_vmas),
            // Before `fixed` the kernel keeps the sum alone.
            active_vmas:
                (self.revision == Revision::Fixed).then_some(anon_vma.num_active_vmas.into()),
            vmas: anon_vma.rb_root,
            references: Some(anon_vma.refcount.into()),
        }));
        hidden.vmas = Some(self.vmas.len() as u32);
        hidden.chain_entries = Some(self.chains.allocated() as u32);
        hidden.mms = Some(self.mms.len() as u32);
    }
}
