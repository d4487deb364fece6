//! The observation of an address space.

use vmadiff_machine::operand::{END_PAGES, Mode, Process};
use vmadiff_machine::{AnonVmaId, Counters, FileId, Observation, PageId, UffdId, Vma};

use crate::addr::each;
use crate::handle::{AnonVmaKey, CtxKey, FileKey, PolicyKey};
use crate::kernel::Kernel;
use crate::objects::File;

impl File {
    /// Returns the number in observations.
    pub(crate) fn id(&self) -> FileId {
        FileId::new(self.f_inode.into())
    }
}

/// Returns the number in observations.
pub(crate) fn ctx_id(ctx: CtxKey) -> UffdId {
    UffdId::new(ctx.0.get() - 1)
}

impl Kernel {
    /// Writes the address space of a process to the observation, or that there is none.
    pub(crate) fn show(&self, process: Process, seen: &mut Observation) {
        let space = seen.rewrite(process);
        let mm = self.processes.get(usize::from(process.0)).copied().flatten();
        let Some(mm) = mm.and_then(|mm| self.mms.get(mm)) else { return };
        space.alive = true;
        space.counters = Counters {
            total_vm: mm.total_vm,
            locked_vm: mm.locked_vm,
            data_vm: mm.data_vm,
            map_count: mm.map_count,
        };
        space.anon_pages = mm.page_table.anon;
        space.zero_pages = mm.page_table.zero;
        space.writable_ptes = mm.page_table.write;
        space.push_page_ids(each(mm.page_table.anon).map(|addr| {
            // A pte that outlives its page shows a number that no page has.
            let page = self.pages.get(mm.page_table.page[addr.0 as usize]);
            PageId::new(page.map_or(self.page_ids, |page| page.id))
        }));
        let mut next = mm.mmap;
        // A bug may have tied the list into a ring. The next walk over it ends the program.
        for _ in 0..END_PAGES {
            let Some(key) = next else { return };
            let Some(vma) = self.vmas.get(key) else { return };
            let shown = Vma::new(
                (vma.vm_start.page(), vma.vm_end.page()),
                vma.vm_pgoff.shown(),
                vma.vm_flags,
                vma.anon_vma.and_then(|anon_vma| self.anon_vma_id(anon_vma)),
                vma.vm_file.and_then(|file| self.file_id(file)),
                vma.vm_userfaultfd_ctx.map(ctx_id),
                self.mode(vma.vm_policy),
                vma.vm_ops.has_close(),
            );
            let chain = self.chains.newest_first(vma.anon_vma_chain);
            space.push(shown, chain.filter_map(|anon_vma| self.anon_vma_id(anon_vma)));
            next = vma.vm_next;
        }
    }

    /// Returns the number of the inode, as all open files of one inode are one file in observations.
    fn file_id(&self, file: FileKey) -> Option<FileId> {
        self.files.get(file).map(File::id)
    }

    fn mode(&self, policy: Option<PolicyKey>) -> Mode {
        let policy = policy.and_then(|policy| self.policies.get(policy));
        policy.map_or(Mode::Default, |policy| policy.mode)
    }

    fn anon_vma_id(&self, anon_vma: AnonVmaKey) -> Option<AnonVmaId> {
        self.anon_vmas.get(anon_vma).map(|anon_vma| AnonVmaId::new(anon_vma.id))
    }
}
