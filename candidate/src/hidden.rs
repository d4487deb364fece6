//! The objects that no observation shows, for the invariants.

use std::num::NonZeroU32;

use vmadiff_machine::AnonVmaId;
use vmadiff_machine::hidden::{self, Counted, Hidden, Pte, References};
use vmadiff_machine::operand::Process;

use crate::addr::each;
use crate::handle::Handle as _;
use crate::kernel::Kernel;
use crate::key::{AnonVmaKey, CtxKey};
use crate::observe::ctx_id;
use crate::revision::Revision;

impl Kernel {
    /// Writes every page, pte and anon_vma, the references to other objects, and the number of further ones.
    pub(crate) fn show_hidden(&self, hidden: &mut Hidden) {
        let id = |anon_vma: AnonVmaKey| {
            self.anon_vmas.get(anon_vma).map(|anon_vma| AnonVmaId::new(anon_vma.id))
        };
        hidden.pages.extend(self.pages.values().map(|page| hidden::AnonPage {
            number: page.id,
            anon_vma: id(page.anon_vma),
            index: page.index.shown(),
            map_count: page.mapcount,
        }));
        for (process, mm) in (0..).map(Process).zip(&self.processes) {
            let Some(mm) = mm.and_then(|mm| self.mms.get(mm)) else { continue };
            hidden.ptes.extend(each(mm.page_table.anon).map(|addr| {
                let page = self.pages.get(mm.page_table.page[addr.0 as usize]);
                let maps = page.map(|page| page.id);
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
        hidden.mms = Some(self.mms.values().filter(|mm| mm.mm_users > 0).count() as u32);
        self.show_references(hidden);
    }

    /// Writes the counters of references, and a count of the references that no VMA has.
    fn show_references(&self, hidden: &mut Hidden) {
        hidden.counts_references = true;
        let mut show = |to, counter, others| {
            hidden.references.push(References { to, counter, others: others as i64 });
        };
        for (key, file) in &self.files {
            let others = self.fds.iter().filter(|fd| **fd == key).count()
                + usize::from(self.shm.is_some_and(|shm| shm.shm_file == key))
                + self.files.values().filter(|other| other.private_data == Some(key)).count();
            show(Counted::File(file.id()), file.f_count, others);
        }
        for policy in self.policies.values() {
            show(Counted::Policy(policy.mode), policy.refcnt, 0);
        }
        for key in (1..).map_while(NonZeroU32::new).map(CtxKey).take(self.contexts.len()) {
            let Some(ctx) = key.get(self) else { continue };
            let fds = self.userfaultfd.iter().flatten().filter(|fd| **fd == Some(key)).count();
            show(Counted::Context(ctx_id(key)), ctx.refcount, fds + usize::from(ctx.kept));
        }
        for (key, mm) in &self.mms {
            let users = self.processes.iter().filter(|mm| **mm == Some(key)).count();
            let living = self.contexts.iter().filter(|ctx| ctx.refcount > 0);
            let contexts = living.filter(|ctx| ctx.mm == key).count();
            show(Counted::MmUsers, mm.mm_users, users);
            show(Counted::Mm, mm.mm_count, usize::from(mm.mm_users > 0) + contexts);
        }
    }
}
