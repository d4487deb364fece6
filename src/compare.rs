//! Whether two observations show the same, up to how objects are numbered.
//!
//! This runs after every operation of every program: cheapest first, no strings, no allocation
//! once its tables have grown.

use vmadiff_machine::{AddressSpace, Observation, Vma};

/// Which parts of an observation are compared: a recorded kernel shows less than a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything.
    Models,
    /// What golden traces record: neither committed memory, nor anonymous pages, nor events, nor
    /// whether the rmap locks were taken.
    Recorded,
}

/// A growing one-to-one correspondence between the object numbers of two machines.
#[derive(Debug, Default)]
pub(crate) struct Bijection {
    /// For each number of the left, the epoch it was met in and its partner; and the reverse.
    forward: Vec<(u32, u32)>,
    backward: Vec<(u32, u32)>,
    epoch: u32,
}

impl Bijection {
    /// Forgets all pairs.
    pub(crate) fn clear(&mut self) {
        self.epoch = match self.epoch.checked_add(1) {
            Some(epoch) => epoch,
            None => {
                self.forward.clear();
                self.backward.clear();
                1
            }
        };
    }

    /// Whether `left` and `right` are partners. Two that were not met before become so.
    #[inline]
    pub(crate) fn pairs(&mut self, left: Option<usize>, right: Option<usize>) -> bool {
        match (left, right) {
            (None, None) => true,
            (Some(l), Some(r)) => {
                for (table, at) in [(&mut self.forward, l), (&mut self.backward, r)] {
                    if table.len() <= at {
                        table.resize(at + 1, (0, 0));
                    }
                }
                let (to, from) = (&mut self.forward[l], &mut self.backward[r]);
                match (to.0 == self.epoch, from.0 == self.epoch) {
                    (false, false) => {
                        *to = (self.epoch, r as u32);
                        *from = (self.epoch, l as u32);
                        true
                    }
                    (true, true) => to.1 as usize == r && from.1 as usize == l,
                    _ => false,
                }
            }
            _ => false,
        }
    }
}

/// Compares the observations of two machines, operation by operation.
#[derive(Debug)]
pub struct Comparer {
    scope: Scope,
    anon_vmas: Bijection,
    uffds: Bijection,
    /// Files keep their identity over a whole program; the others are numbered anew each time.
    files: Bijection,
}

impl Comparer {
    /// A comparer for the first operation of a program.
    pub fn new(scope: Scope) -> Comparer {
        let mut comparer = Comparer {
            scope,
            anon_vmas: Bijection::default(),
            uffds: Bijection::default(),
            files: Bijection::default(),
        };
        comparer.reset();
        comparer
    }

    /// Starts over, for another program.
    pub fn reset(&mut self) {
        self.files.clear();
    }

    /// Whether both show the same.
    pub fn same(&mut self, left: &Observation, right: &Observation) -> bool {
        if left.result != right.result {
            return false;
        }
        match self.scope {
            Scope::Models => {
                if left.copy != right.copy
                    || left.events != right.events
                    || left.committed != right.committed
                {
                    return false;
                }
            }
            Scope::Recorded => {
                let recorded = |o: &Observation| {
                    o.copy.map(|c| (c.merged, c.need_rmap_locks, c.source_redirected))
                };
                if recorded(left) != recorded(right) {
                    return false;
                }
            }
        }
        self.anon_vmas.clear();
        self.uffds.clear();
        left.spaces.iter().zip(&right.spaces).all(|(l, r)| self.same_space(l, r))
    }

    fn same_space(&mut self, left: &AddressSpace, right: &AddressSpace) -> bool {
        left.alive == right.alive
            && left.counters == right.counters
            && (self.scope == Scope::Recorded || left.anon_pages == right.anon_pages)
            && left.vmas().len() == right.vmas().len()
            && left
                .vmas()
                .iter()
                .zip(right.vmas())
                .all(|(l, r)| self.same_vma(l, r) && self.same_anon_vma((left, l), (right, r)))
    }

    fn same_vma(&mut self, left: &Vma, right: &Vma) -> bool {
        left.start == right.start
            && left.end == right.end
            && left.flags == right.flags
            && left.pgoff == right.pgoff
            && left.policy == right.policy
            && left.close == right.close
            && self.files.pairs(left.file.map(|f| f.index()), right.file.map(|f| f.index()))
            && self.uffds.pairs(left.uffd.map(|u| u.index()), right.uffd.map(|u| u.index()))
    }

    fn same_anon_vma(&mut self, left: (&AddressSpace, &Vma), right: (&AddressSpace, &Vma)) -> bool {
        let own = |vma: &Vma| vma.anon_vma.map(|a| a.index());
        let (l, r) = (left.0.chain(left.1), right.0.chain(right.1));
        self.anon_vmas.pairs(own(left.1), own(right.1))
            && l.len() == r.len()
            && l.iter().zip(r).all(|(l, r)| self.anon_vmas.pairs(Some(l.index()), Some(r.index())))
    }
}
