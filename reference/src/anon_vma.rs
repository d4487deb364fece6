//! The identity of anonymous memory: the anon_vma and the chain of each VMA, and the life of an
//! anon_vma: made, shared, reused, freed (`mm/rmap.c`).

use vmadiff_machine::hidden::{self, Hidden};
use vmadiff_machine::state::Objects;
use vmadiff_machine::{AnonVmaId, State, VmFlags};

use crate::chain::Chain;
use crate::later::{self, Later};
use crate::vma::Vma;

/// An entry of a chain, and the rest of the chain.
#[derive(Clone, Copy, Debug)]
struct Link {
    anon_vma: AnonVmaId,
    older: Chain,
}

#[derive(Clone, Copy, Debug)]
struct AnonVma {
    /// The anon_vma that a fork made this one below; itself for a root.
    parent: AnonVmaId,
    /// The VMAs that have it as their `anon_vma`.
    active: u32,
    /// The anon_vmas that have it as their parent; a root counts itself.
    children: u32,
    /// The VMAs that hang on it. At 0 the anon_vma is freed.
    vmas: u32,
}

impl AnonVma {
    /// Returns the count that 5.2.1 keeps (`anon_vma->degree`): VMAs and children together.
    fn degree(&self) -> u32 {
        self.active + self.children
    }
}

/// Every anon_vma.
#[derive(Debug, Default)]
pub(crate) struct AnonVmas {
    records: Vec<AnonVma>,
    /// The records whose anon_vma was freed.
    free: Vec<AnonVmaId>,
    links: Vec<Link>,
}

vmadiff_machine::clone_by_field!(AnonVmas { records, free, links });

impl AnonVmas {
    pub(crate) fn reset(&mut self) {
        self.records.clear();
        self.free.clear();
        self.links.clear();
    }

    /// Returns the entries of a chain, newest first.
    pub(crate) fn chain(&self, chain: Chain) -> impl Iterator<Item = AnonVmaId> {
        let link = |chain: Chain| Some(self.links[chain.0.checked_sub(1)? as usize]);
        std::iter::successors(link(chain), move |l| link(l.older)).map(|l| l.anon_vma)
    }

    /// Returns whether a chain has exactly one entry (`list_is_singular()`). A VMA with more
    /// entries descends from a fork.
    pub(crate) fn is_singular(&self, chain: Chain) -> bool {
        chain.0.checked_sub(1).is_some_and(|at| self.links[at as usize].older == Chain::EMPTY)
    }

    fn chain_of(&mut self, anon_vma: AnonVmaId, older: Chain) -> Chain {
        self.links.push(Link { anon_vma, older });
        Chain(self.links.len() as u32)
    }

    fn make(&mut self, parent: Option<AnonVmaId>) -> AnonVmaId {
        let id = self.free.pop().unwrap_or(AnonVmaId::new(self.records.len() as u32));
        let parent = parent.unwrap_or(id);
        let record = AnonVma { parent, active: 0, children: 0, vmas: 0 };
        match self.records.get_mut(id.index()) {
            Some(gone) => *gone = record,
            None => self.records.push(record),
        }
        self.records[parent.index()].children += 1;
        id
    }

    /// Counts a new VMA with the anon_vma and chain of `vma` (`anon_vma_clone()` of a split, a move
    /// or a merge, where the new VMA shares both).
    pub(crate) fn link(&mut self, vma: &Vma) {
        self.hang(vma.chain, 1);
        if let Some(own) = vma.anon_vma {
            self.records[own.index()].active += 1;
        }
    }

    fn hang(&mut self, mut chain: Chain, count: u32) {
        while let Some(at) = chain.0.checked_sub(1) {
            let Link { anon_vma, older } = self.links[at as usize];
            self.records[anon_vma.index()].vmas += count;
            chain = older;
        }
    }

    /// Counts the end of a VMA with the anon_vma and chain of `vma` (`unlink_anon_vmas()`). An
    /// anon_vma is freed with the last VMA that hangs on it, and no longer counts as a child of its
    /// parent. The parent is still there: a VMA that hangs on a child hangs on its parent.
    pub(crate) fn unlink(&mut self, vma: &Vma) {
        let mut chain = vma.chain;
        while let Some(at) = chain.0.checked_sub(1) {
            let Link { anon_vma, older } = self.links[at as usize];
            let record = &mut self.records[anon_vma.index()];
            record.vmas -= 1;
            if record.vmas == 0 {
                let parent = record.parent;
                self.records[parent.index()].children -= 1;
                self.free.push(anon_vma);
            }
            chain = older;
        }
        if let Some(own) = vma.anon_vma {
            self.records[own.index()].active -= 1;
        }
    }

    /// Returns the anon_vma that `vma`, which has none, would share with a neighbour.
    pub(crate) fn shared(
        &self,
        vma: &Vma,
        prev: Option<&Vma>,
        next: Option<&Vma>,
    ) -> Option<AnonVmaId> {
        let next = next.filter(|next| compatible(vma, next));
        let prev = prev.filter(|prev| compatible(prev, vma));
        let mut near = [next, prev].into_iter().flatten();
        near.find(|near| self.is_singular(near.chain) && near.anon_vma.is_some())?.anon_vma
    }

    /// Gives `vma` an anon_vma before its first anonymous page (`anon_vma_prepare()`): that of a
    /// compatible neighbour, so that the two may be merged later (`find_mergeable_anon_vma()`: the
    /// next VMA first), or a new one.
    pub(crate) fn prepare(&mut self, vma: &mut Vma, prev: Option<&Vma>, next: Option<&Vma>) {
        if vma.anon_vma.is_some() {
            return;
        }
        let shared = self.shared(vma, prev, next);
        let own = shared.unwrap_or_else(|| self.make(None));
        vma.anon_vma = Some(own);
        vma.chain = self.chain_of(own, Chain::EMPTY);
        self.link(vma);
    }

    /// Gives `child`, the copy of `parent` in a forked mm, its anon_vma and chain
    /// (`anon_vma_fork()`), and returns whether an anon_vma was reused. A parent without an anon_vma
    /// gives none. Else the child hangs on the parent's chain, and its own anon_vma is
    ///
    /// - the oldest one of the chain that is not the parent's own and has a degree below two (at
    ///   most one VMA or one child), so that repeated forks do not make the chain longer
    ///   (`anon_vma_clone()`); or else
    /// - a new one, at the head of the chain.
    ///
    /// With [`AnonVmaReuse`](later::Rule::AnonVmaReuse) an anon_vma is reused only if no VMA has it as
    /// its own, and at most one child. Then all VMAs of one anon_vma have one chain. A VMA can get an
    /// anon_vma in four ways: it is the first VMA of a new or a reused one; it shares the anon_vma of
    /// a neighbour whose chain has one entry, as its own chain then has; it is a part, a copy or a
    /// move of a VMA with that anon_vma; or it had none and takes in such a VMA. Each way but the
    /// first gives it the chain of a VMA that has the anon_vma already.
    pub(crate) fn fork(&mut self, child: &mut Vma, parent: &Vma, later: &Later) -> bool {
        child.anon_vma = None;
        child.chain = Chain::EMPTY;
        let Some(parents_own) = parent.anon_vma else { return false };
        let oldest = |reusable: fn(&AnonVma) -> bool| {
            self.chain(parent.chain)
                .filter(|&id| id != parents_own && reusable(&self.records[id.index()]))
                .last()
        };
        let mut again = oldest(|record| record.degree() < 2);
        let mended = || oldest(|record| record.active == 0 && record.children < 2);
        if later.applies(later::Rule::AnonVmaReuse, || mended() != again) {
            again = mended();
        }
        child.chain = parent.chain;
        child.anon_vma = again;
        if again.is_none() {
            let own = self.make(Some(parents_own));
            child.anon_vma = Some(own);
            child.chain = self.chain_of(own, parent.chain);
        }
        self.link(child);
        again.is_some()
    }

    /// Adds the anon_vmas that `state` has visited, and their ancestors.
    pub(crate) fn write_state(&self, state: &mut State) {
        let AnonVmas { records, free, links: _ } = self;
        state.word((records.len() - free.len()) as u64);
        for n in 0.. {
            let Some(index) = state.visited(Objects::AnonVma, n) else { break };
            let AnonVma { parent, active, children, vmas } = records[index as usize];
            let parent = state.number(Objects::AnonVma, Some(parent.index()));
            state.word(parent | u64::from(vmas) << 32);
            state.word(u64::from(active) | u64::from(children) << 32);
        }
    }

    /// Writes every anon_vma.
    pub(crate) fn show(&self, hidden: &mut Hidden) {
        for id in (0..self.records.len() as u32).map(AnonVmaId::new) {
            let record = self.records[id.index()];
            if record.vmas == 0 {
                continue;
            }
            let parent = |id: AnonVmaId| self.records[id.index()].parent;
            let mut root = id;
            while parent(root) != root {
                root = parent(root);
            }
            hidden.anon_vmas.push(hidden::AnonVma {
                id,
                parent: Some(record.parent),
                root: Some(root),
                degree: record.degree().into(),
                active_vmas: Some(record.active.into()),
                vmas: record.vmas,
                references: None,
            });
        }
    }

    /// Returns every anon_vma: its number, the VMAs that hang on it, its degree, and its parent.
    #[cfg(test)]
    pub(crate) fn living(&self) -> impl Iterator<Item = (AnonVmaId, u32, u32, AnonVmaId)> {
        let all = (0..self.records.len() as u32).map(AnonVmaId::new);
        all.filter(|id| !self.free.contains(id)).map(|id| {
            let record = self.records[id.index()];
            (id, record.vmas, record.degree(), record.parent)
        })
    }
}

/// Returns whether `b` may share the anon_vma of `a`, or `a` that of `b` (`anon_vma_compatible()`):
/// `a` ends where `b` begins, and the two differ only in the flags that `mprotect` changes. Unlike
/// the merge rule this check compares neither userfaultfd contexts (only their flags) nor
/// `vm_ops->close`.
fn compatible(a: &Vma, b: &Vma) -> bool {
    let may_differ = VmFlags::ACCESS | VmFlags::VM_SOFTDIRTY;
    a.range.end == b.range.start
        && a.policy == b.policy
        && a.file == b.file
        && may_differ.contains(a.flags ^ b.flags)
        && b.pgoff == a.pgoff.plus(a.range.len())
}
