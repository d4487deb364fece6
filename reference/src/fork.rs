//! `fork` (`dup_mmap()` of `kernel/fork.c`) and `exit` (`exit_mmap()` of `mm/mmap.c`).

use vmadiff_machine::VmFlags;

use crate::anon_vma::{AnonVmas, Chain};
use crate::mm::{Mm, Syscall};
use crate::vma::Vma;

/// Makes `child`, which is empty, a child of `parent`: VMA by VMA, in address order.
///
/// - `VM_DONTCOPY`: left out.
/// - No child has a userfaultfd context, nor anything locked.
/// - `VM_WIPEONFORK`: none of the parent's anonymous memory. It has its own anon_vma at once
///   (`anon_vma_prepare()`), and as `vm_prev` and `vm_next` are still those of the VMA it was
///   copied from, it may share one with the *parent's* neighbours.
/// - Else an anon_vma below the parent's ([`AnonVmas::fork`]), and the page table entries, if the
///   parent's VMA has an anon_vma; without, a fault brings back all there was
///   (`copy_page_range()`).
pub(crate) fn fork(parent: &Mm, child: &mut Mm, anon_vmas: &mut AnonVmas) {
    child.reset(true);
    let vmas = parent.vmas();
    for (at, of) in vmas.iter().enumerate() {
        if of.flags.contains(VmFlags::VM_DONTCOPY) {
            continue;
        }
        let mut vma = *of;
        vma.drop_uffd();
        if of.flags.contains(VmFlags::VM_WIPEONFORK) {
            (vma.anon_vma, vma.chain) = (None, Chain::EMPTY);
            let prev: Option<&Vma> = at.checked_sub(1).map(|prev| &vmas[prev]);
            anon_vmas.prepare(&mut vma, prev, vmas.get(at + 1));
        } else {
            anon_vmas.fork(&mut vma, of);
            if of.anon_vma.is_some() {
                *child.anon_pages_mut() |= parent.anon_pages() & of.range.set();
                child.zero_pages |= parent.zero_pages & of.range.set();
            }
        }
        // After the anon_vma was looked for: flags of neighbours are compared with these.
        vma.flags -= VmFlags::LOCK;
        child.insert(vma);
    }
}

impl Syscall<'_> {
    /// The process ends, and what it had mapped.
    pub(crate) fn exit(&mut self) {
        self.drop_vmas(0..self.mm.vmas().len());
        self.mm.reset(false);
    }
}
