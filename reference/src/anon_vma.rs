//! The identity of anonymous memory: which anon_vma a VMA has, which ones it hangs on, and when
//! an anon_vma is shared, made, taken again or gone (`mm/rmap.c`).

use vmadiff_machine::{AnonVmaId, VmFlags};

use crate::vma::Vma;

/// The anon_vmas a VMA hangs on, newest first (`anon_vma_chain`).
///
/// A chain is never changed: a VMA gets a whole one, and the only new ones are that of a first
/// fault (one entry) and that of a forked VMA (its parent's with one entry more). So it is a list
/// that shares its tail, and copying one is copying this index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Chain(u32);

impl Chain {
    pub(crate) const EMPTY: Chain = Chain(0);
}

/// An entry of a chain and what comes after it.
#[derive(Clone, Copy, Debug)]
struct Link {
    anon_vma: AnonVmaId,
    older: Chain,
}

#[derive(Clone, Copy, Debug)]
struct AnonVma {
    /// Itself for one that no fork made.
    parent: AnonVmaId,
    /// How many VMAs have it as their `anon_vma`, plus how many anon_vmas have it as their parent
    /// (a root counts itself).
    degree: u32,
    /// How many VMAs hang on it. At none, it is gone.
    vmas: u32,
}

/// Every anon_vma there is.
#[derive(Clone, Debug, Default)]
pub(crate) struct AnonVmas {
    records: Vec<AnonVma>,
    /// Records whose anon_vma is gone.
    free: Vec<AnonVmaId>,
    links: Vec<Link>,
}

impl AnonVmas {
    pub(crate) fn reset(&mut self) {
        self.records.clear();
        self.free.clear();
        self.links.clear();
    }

    /// The entries of a chain, newest first.
    pub(crate) fn chain(&self, chain: Chain) -> impl Iterator<Item = AnonVmaId> {
        let link = |chain: Chain| Some(self.links[chain.0.checked_sub(1)? as usize]);
        std::iter::successors(link(chain), move |l| link(l.older)).map(|l| l.anon_vma)
    }

    /// `list_is_singular()`: exactly one entry. A VMA with more descends from a fork.
    pub(crate) fn is_singular(&self, chain: Chain) -> bool {
        chain.0.checked_sub(1).is_some_and(|at| self.links[at as usize].older == Chain::EMPTY)
    }

    /// Whether two VMAs have the same anon_vma, or none, and hang on the same ones.
    pub(crate) fn are_same(&self, a: &Vma, b: &Vma) -> bool {
        a.anon_vma == b.anon_vma
            && (a.chain == b.chain || self.chain(a.chain).eq(self.chain(b.chain)))
    }

    fn chain_of(&mut self, anon_vma: AnonVmaId, older: Chain) -> Chain {
        self.links.push(Link { anon_vma, older });
        Chain(self.links.len() as u32)
    }

    fn make(&mut self, parent: Option<AnonVmaId>) -> AnonVmaId {
        let id = self.free.pop().unwrap_or(AnonVmaId::new(self.records.len() as u32));
        let parent = parent.unwrap_or(id);
        let record = AnonVma { parent, degree: 0, vmas: 0 };
        match self.records.get_mut(id.index()) {
            Some(gone) => *gone = record,
            None => self.records.push(record),
        }
        self.records[parent.index()].degree += 1;
        id
    }

    /// A VMA with this anon_vma and chain comes into being (`anon_vma_clone()` of a split, a move
    /// or a merge, where the new VMA shares all).
    pub(crate) fn link(&mut self, vma: &Vma) {
        self.hang(vma.chain, 1);
        if let Some(own) = vma.anon_vma {
            self.records[own.index()].degree += 1;
        }
    }

    fn hang(&mut self, mut chain: Chain, count: u32) {
        while let Some(at) = chain.0.checked_sub(1) {
            let Link { anon_vma, older } = self.links[at as usize];
            self.records[anon_vma.index()].vmas += count;
            chain = older;
        }
    }

    /// A VMA with this anon_vma and chain goes (`unlink_anon_vmas()`). An anon_vma on which no
    /// VMA hangs any more goes too and no longer counts as a child of its parent, which lives: a
    /// VMA that hangs on a child hangs on its parent.
    pub(crate) fn unlink(&mut self, vma: &Vma) {
        let mut chain = vma.chain;
        while let Some(at) = chain.0.checked_sub(1) {
            let Link { anon_vma, older } = self.links[at as usize];
            let record = &mut self.records[anon_vma.index()];
            record.vmas -= 1;
            if record.vmas == 0 {
                let parent = record.parent;
                self.records[parent.index()].degree -= 1;
                self.free.push(anon_vma);
            }
            chain = older;
        }
        if let Some(own) = vma.anon_vma {
            self.records[own.index()].degree -= 1;
        }
    }

    /// `vma` is about to get its first anonymous page (`anon_vma_prepare()`). It shares the
    /// anon_vma of a neighbour that is like it, so that the two may be merged one day
    /// (`find_mergeable_anon_vma()`: the next first), or gets one of its own.
    pub(crate) fn prepare(&mut self, vma: &mut Vma, prev: Option<&Vma>, next: Option<&Vma>) {
        if vma.anon_vma.is_some() {
            return;
        }
        let next = next.filter(|next| compatible(vma, next));
        let prev = prev.filter(|prev| compatible(prev, vma));
        let shared = [next, prev]
            .into_iter()
            .flatten()
            .filter(|near| self.is_singular(near.chain))
            .find_map(|near| near.anon_vma);
        let own = shared.unwrap_or_else(|| self.make(None));
        vma.anon_vma = Some(own);
        vma.chain = self.chain_of(own, Chain::EMPTY);
        self.link(vma);
    }

    /// `child` is `parent` in a forked mm (`anon_vma_fork()`). Nothing where the parent has no
    /// anon_vma. Else the child hangs on all that its parent hangs on, and for its own takes
    ///
    /// - the oldest of those that is not its parent's own and has a degree below two (at most one
    ///   VMA or one child), so that forking again and again does not make the chain longer
    ///   (`anon_vma_clone()`); or else
    /// - a new one.
    pub(crate) fn fork(&mut self, child: &mut Vma, parent: &Vma) {
        child.anon_vma = None;
        child.chain = Chain::EMPTY;
        let Some(parents_own) = parent.anon_vma else { return };
        let again = self
            .chain(parent.chain)
            .filter(|&id| id != parents_own && self.records[id.index()].degree < 2)
            .last();
        child.chain = parent.chain;
        child.anon_vma = again;
        if again.is_none() {
            let own = self.make(Some(parents_own));
            child.anon_vma = Some(own);
            child.chain = self.chain_of(own, parent.chain);
        }
        self.link(child);
    }

    /// For every anon_vma there is: how many VMAs hang on it, its degree, and its parent.
    #[cfg(test)]
    pub(crate) fn living(&self) -> impl Iterator<Item = (AnonVmaId, u32, u32, AnonVmaId)> {
        let all = (0..self.records.len() as u32).map(AnonVmaId::new);
        all.filter(|id| !self.free.contains(id)).map(|id| {
            let AnonVma { parent, degree, vmas } = self.records[id.index()];
            (id, vmas, degree, parent)
        })
    }
}

/// `anon_vma_compatible()`: `a` ends where `b` begins, and they differ in nothing but what
/// `mprotect` changes. Unlike the merge rule it does not look at userfaultfd contexts (their
/// flags it does see) nor at `vm_ops->close`.
fn compatible(a: &Vma, b: &Vma) -> bool {
    let may_differ = VmFlags::ACCESS | VmFlags::VM_SOFTDIRTY;
    a.range.end == b.range.start
        && a.policy == b.policy
        && a.file == b.file
        && may_differ.contains(a.flags ^ b.flags)
        && b.pgoff == a.pgoff.plus(a.range.len())
}
