//! The anon_vmas, and the chains that tie VMAs to them (`mm/rmap.c`).

use vmadiff_machine::{Allocation, Errno, VmFlags};

use crate::handle::{AnonVmaKey, VmaKey, bug_on, edit, read, warn_on};
use crate::kernel::Kernel;
use crate::locks::Lock;
use crate::objects::AnonVma;
use crate::revision::Revision;
use crate::stop::{Caught, Stop};

impl Kernel {
    /// `anon_vma_alloc()`: makes an anon_vma that is its own root and parent. Its one reference is
    /// that of the first VMA.
    ///
    /// # Errors
    /// `ENOMEM` where there is no memory.
    fn anon_vma_alloc(&mut self) -> Result<AnonVmaKey, Stop> {
        self.allocate(Allocation::AnonVma)?;
        let id = self.take_anon_vma_id();
        Ok(self.anon_vmas.insert_with_key(|anon_vma| AnonVma {
            root: anon_vma,
            parent: anon_vma,
            num_children: 0,
            num_active_vmas: 0,
            refcount: 1,
            rb_root: 0,
            id,
        }))
    }

    /// `anon_vma_free()`.
    fn anon_vma_free(&mut self, anon_vma: AnonVmaKey) -> Result<(), Stop> {
        const F: &str = "anon_vma_free";
        bug_on!(read!(self, F, anon_vma.refcount) != 0, F, "refcount");
        // `anon_vma_free()` asks whether the lock of the root is held.
        let root = read!(self, F, anon_vma.root);
        read!(self, F, root.refcount);
        if let Some(freed) = self.anon_vmas.remove(anon_vma) {
            self.return_anon_vma_id(freed.id);
        }
        Ok(())
    }

    /// `put_anon_vma()`.
    fn put_anon_vma(&mut self, anon_vma: AnonVmaKey) -> Result<(), Stop> {
        const F: &str = "put_anon_vma";
        let refcount = edit!(self, F, anon_vma.refcount);
        *refcount -= 1;
        if *refcount != 0 {
            return Ok(());
        }
        let root = read!(self, F, anon_vma.root);
        self.anon_vma_free(anon_vma)?;
        if root == anon_vma {
            return Ok(());
        }
        let refcount = edit!(self, F, root.refcount);
        *refcount -= 1;
        if *refcount == 0 {
            self.anon_vma_free(root)?;
        }
        Ok(())
    }

    /// `lock_anon_vma_root()`: takes the lock of a chain's root once, and warns where the anon_vmas of
    /// the chain have different roots.
    fn lock_anon_vma_root(
        &mut self,
        root: Option<AnonVmaKey>,
        anon_vma: AnonVmaKey,
    ) -> Result<Option<AnonVmaKey>, Stop> {
        const F: &str = "lock_anon_vma_root";
        let new_root = read!(self, F, anon_vma.root);
        if root == Some(new_root) {
            return Ok(root);
        }
        warn_on!(self, root.is_some(), F, "root");
        self.unlock_anon_vma_root(root);
        self.lock(Lock::AnonVma(new_root), F);
        Ok(Some(new_root))
    }

    /// `unlock_anon_vma_root()`.
    fn unlock_anon_vma_root(&mut self, root: Option<AnonVmaKey>) {
        if let Some(root) = root {
            self.unlock(Lock::AnonVma(root), "unlock_anon_vma_root");
        }
    }

    /// `anon_vma_chain_link()`.
    fn anon_vma_chain_link(&mut self, vma: VmaKey, anon_vma: AnonVmaKey) -> Result<(), Stop> {
        const F: &str = "anon_vma_chain_link";
        let mut chain = read!(self, F, vma.anon_vma_chain);
        self.chains.add(&mut chain, anon_vma);
        *edit!(self, F, vma.anon_vma_chain) = chain;
        *edit!(self, F, anon_vma.rb_root) += 1;
        Ok(())
    }

    /// `anon_vma_prepare()`: gives a VMA an anon_vma before its first anonymous page.
    ///
    /// # Errors
    /// `ENOMEM` where there is no memory. Nothing is changed then.
    pub(crate) fn anon_vma_prepare(&mut self, vma: VmaKey) -> Result<(), Stop> {
        const F: &str = "__anon_vma_prepare";
        if read!(self, F, vma.anon_vma).is_some() {
            return Ok(());
        }
        self.allocate(Allocation::ChainEntry)?;
        let anon_vma = match self.find_mergeable_anon_vma(vma)? {
            Some(anon_vma) => anon_vma,
            None => {
                let anon_vma = self.anon_vma_alloc()?;
                // A root is its own parent.
                *edit!(self, F, anon_vma.num_children) += 1;
                anon_vma
            }
        };
        let lock = self.anon_vma_lock(anon_vma)?;
        self.lock(lock, F);
        *edit!(self, F, vma.anon_vma) = Some(anon_vma);
        self.anon_vma_chain_link(vma, anon_vma)?;
        *edit!(self, F, anon_vma.num_active_vmas) += 1;
        self.unlock(lock, F);
        Ok(())
    }

    /// `find_mergeable_anon_vma()`: returns the anon_vma of a neighbour, so that the two VMAs can
    /// merge later.
    fn find_mergeable_anon_vma(&self, vma: VmaKey) -> Result<Option<AnonVmaKey>, Stop> {
        const F: &str = "find_mergeable_anon_vma";
        if let Some(near) = read!(self, F, vma.vm_next)
            && let Some(anon_vma) = self.reusable_anon_vma(near, vma, near)?
        {
            return Ok(Some(anon_vma));
        }
        match read!(self, F, vma.vm_prev) {
            Some(near) => self.reusable_anon_vma(near, near, vma),
            None => Ok(None),
        }
    }

    /// `reusable_anon_vma()`: returns the anon_vma of `old`, which is `a` or `b`. `a` comes before
    /// `b` in address order.
    fn reusable_anon_vma(
        &self,
        old: VmaKey,
        a: VmaKey,
        b: VmaKey,
    ) -> Result<Option<AnonVmaKey>, Stop> {
        const F: &str = "reusable_anon_vma";
        if !self.anon_vma_compatible(a, b)? {
            return Ok(None);
        }
        let anon_vma = read!(self, F, old.anon_vma);
        let singular = read!(self, F, old.anon_vma_chain).is_singular();
        Ok(anon_vma.filter(|_| singular))
    }

    /// `anon_vma_compatible()`: returns whether `mprotect` could make the two VMAs one.
    fn anon_vma_compatible(&self, a: VmaKey, b: VmaKey) -> Result<bool, Stop> {
        const F: &str = "anon_vma_compatible";
        let may_differ = VmFlags::ACCESS | VmFlags::VM_SOFTDIRTY;
        let (a_start, a_pgoff) = (read!(self, F, a.vm_start), read!(self, F, a.vm_pgoff));
        let b_start = read!(self, F, b.vm_start);
        let flags = read!(self, F, a.vm_flags) ^ read!(self, F, b.vm_flags);
        Ok(read!(self, F, a.vm_end) == b_start
            && self.mpol_equal(read!(self, F, a.vm_policy), read!(self, F, b.vm_policy))?
            && read!(self, F, a.vm_file) == read!(self, F, b.vm_file)
            && may_differ.contains(flags)
            && read!(self, F, b.vm_pgoff) == a_pgoff + (b_start - a_start))
    }

    /// `anon_vma_clone()`: attaches all anon_vmas of `src` to `dst`.
    ///
    /// A `dst` without an anon_vma, as in fork, may be given one of these anon_vmas
    /// ([`Kernel::may_reuse`]).
    ///
    /// # Errors
    /// `ENOMEM` where there is no memory, also without `GFP_NOWAIT`. `dst` has no anon_vma then.
    pub(crate) fn anon_vma_clone(&mut self, dst: VmaKey, src: VmaKey) -> Result<(), Stop> {
        const F: &str = "anon_vma_clone";
        let mut root = None;
        let mut entry = self.chains.oldest(read!(self, F, src.anon_vma_chain));
        while let Some((at, anon_vma)) = entry {
            if let Err(errno) = self.allocate(Allocation::ChainEntry).errno()? {
                // `enomem_failure`: the anon_vma does not count `dst` yet.
                self.unlock_anon_vma_root(root);
                *edit!(self, F, dst.anon_vma) = None;
                self.unlink_anon_vmas(dst)?;
                return Err(errno.into());
            }
            root = self.lock_anon_vma_root(root, anon_vma)?;
            self.anon_vma_chain_link(dst, anon_vma)?;
            if read!(self, F, dst.anon_vma).is_none()
                && read!(self, F, src.anon_vma) != Some(anon_vma)
                && self.may_reuse(anon_vma)?
            {
                *edit!(self, F, dst.anon_vma) = Some(anon_vma);
            }
            entry = self.chains.newer(at);
        }
        if let Some(anon_vma) = read!(self, F, dst.anon_vma) {
            *edit!(self, F, anon_vma.num_active_vmas) += 1;
        }
        self.unlock_anon_vma_root(root);
        Ok(())
    }

    /// Returns whether `anon_vma_clone()` may give the anon_vma to another VMA.
    ///
    /// 5.2.1 asks `anon_vma->degree < 2`. The degree is the sum of both counters, so an anon_vma
    /// without a child is reused although a VMA has it (CVE-2022-42703). `fixed` asks both counters,
    /// as upstream does since 2555283eb40d: a reused anon_vma has no VMA of its own.
    ///
    /// All VMAs of one anon_vma then have one chain: the first VMA gets a chain, and every other one
    /// gets a clone of it, by a split, a move, a merge or a copy, or shares it as a neighbour with
    /// exactly one entry (`find_mergeable_anon_vma()`). Therefore VMAs that merge lose no page.
    fn may_reuse(&self, anon_vma: AnonVmaKey) -> Result<bool, Stop> {
        const F: &str = "anon_vma_clone";
        let num_children = read!(self, F, anon_vma.num_children);
        let num_active_vmas = read!(self, F, anon_vma.num_active_vmas);
        Ok(match self.revision {
            Revision::Original | Revision::Rfc | Revision::V2 => num_children + num_active_vmas < 2,
            Revision::Fixed => num_children < 2 && num_active_vmas == 0,
        })
    }

    /// `anon_vma_fork()`: attaches the child's VMA to the parent's anon_vmas and to one of its own.
    ///
    /// # Errors
    /// `ENOMEM` where there is no memory. The child's VMA hangs on no anon_vma then.
    pub(crate) fn anon_vma_fork(&mut self, vma: VmaKey, pvma: VmaKey) -> Result<(), Stop> {
        const F: &str = "anon_vma_fork";
        let Some(parent) = read!(self, F, pvma.anon_vma) else { return Ok(()) };
        *edit!(self, F, vma.anon_vma) = None;
        self.anon_vma_clone(vma, pvma)?;
        if read!(self, F, vma.anon_vma).is_some() {
            return Ok(());
        }
        let Ok(anon_vma) = self.anon_vma_alloc().errno()? else {
            self.unlink_anon_vmas(vma)?;
            return Err(Errno::ENOMEM.into());
        };
        if let Err(errno) = self.allocate(Allocation::ChainEntry).errno()? {
            self.put_anon_vma(anon_vma)?;
            self.unlink_anon_vmas(vma)?;
            return Err(errno.into());
        }
        let root = read!(self, F, parent.root);
        *edit!(self, F, anon_vma.root) = root;
        *edit!(self, F, root.refcount) += 1;
        *edit!(self, F, anon_vma.parent) = parent;
        *edit!(self, F, anon_vma.num_active_vmas) += 1;
        *edit!(self, F, vma.anon_vma) = Some(anon_vma);
        let lock = self.anon_vma_lock(anon_vma)?;
        self.lock(lock, F);
        self.anon_vma_chain_link(vma, anon_vma)?;
        *edit!(self, F, parent.num_children) += 1;
        self.unlock(lock, F);
        Ok(())
    }

    /// `unlink_anon_vmas()`: detaches a VMA that goes, and frees the anon_vmas that are left
    /// without any VMA.
    pub(crate) fn unlink_anon_vmas(&mut self, vma: VmaKey) -> Result<(), Stop> {
        const F: &str = "unlink_anon_vmas";
        self.rmap_dirty = true;
        let mut chain = read!(self, F, vma.anon_vma_chain);
        let mut root = None;
        let mut entry = self.chains.newest(chain);
        while let Some((at, anon_vma)) = entry {
            entry = self.chains.older(at);
            root = self.lock_anon_vma_root(root, anon_vma)?;
            let rb_root = edit!(self, F, anon_vma.rb_root);
            *rb_root = rb_root.saturating_sub(1);
            if *rb_root == 0 {
                let parent = read!(self, F, anon_vma.parent);
                *edit!(self, F, parent.num_children) -= 1;
                continue;
            }
            self.chains.delete(&mut chain, at);
        }
        if let Some(anon_vma) = read!(self, F, vma.anon_vma) {
            *edit!(self, F, anon_vma.num_active_vmas) -= 1;
        }
        self.unlock_anon_vma_root(root);
        while let Some((at, anon_vma)) = self.chains.newest(chain) {
            let num_children = read!(self, F, anon_vma.num_children);
            let num_active_vmas = read!(self, F, anon_vma.num_active_vmas);
            warn_on!(self, num_children + num_active_vmas != 0, F, "anon_vma->degree");
            self.put_anon_vma(anon_vma)?;
            self.chains.delete(&mut chain, at);
        }
        *edit!(self, F, vma.anon_vma_chain) = chain;
        Ok(())
    }

    /// `anon_vma_merge()`: detaches `next`, which was merged into `vma` and goes.
    pub(crate) fn anon_vma_merge(&mut self, vma: VmaKey, next: VmaKey) -> Result<(), Stop> {
        const F: &str = "anon_vma_merge";
        let differ = read!(self, F, vma.anon_vma) != read!(self, F, next.anon_vma);
        bug_on!(differ, F, "vma->anon_vma != next->anon_vma");
        self.unlink_anon_vmas(next)
    }
}
