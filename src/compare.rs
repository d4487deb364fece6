//! Whether two observations show the same, up to how objects are numbered.
//!
//! This runs after every operation of every program: cheapest first, no strings, no allocation
//! once its tables have grown.

use vmadiff_machine::observation::ProcessSet;
use vmadiff_machine::operand::MAX_PROCESSES;
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

/// Which objects are numbered anew for every observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Numbered {
    AnonVma,
    Uffd,
}

/// Compares the observations of two machines, operation by operation.
///
/// An address space that neither machine has rewritten since they were found to be the same is
/// not looked at again. All it has a say in is which objects are partners, so those pairs are
/// kept and entered anew. That gives what comparing everything would: the pairs are a set, and in
/// which order they are entered decides nothing.
#[derive(Debug)]
pub struct Comparer {
    scope: Scope,
    anon_vmas: Bijection,
    uffds: Bijection,
    /// Files keep their identity over a whole program; the others are numbered anew each time.
    files: Bijection,
    /// The partners that each address space was found to have when it was last looked at.
    partners: [Partners; MAX_PROCESSES],
}

/// Pairs of partners, without most repetitions.
#[derive(Debug, Default)]
struct Partners {
    pairs: Vec<(Numbered, u32, u32)>,
    /// The left numbers below 128 that are among them, of anon_vmas.
    anon_vmas: u128,
}

impl Partners {
    fn clear(&mut self) {
        self.pairs.clear();
        self.anon_vmas = 0;
    }

    #[inline]
    fn add(&mut self, what: Numbered, left: usize, right: usize) {
        if what == Numbered::AnonVma && left < 128 {
            if self.anon_vmas >> left & 1 == 1 {
                return;
            }
            self.anon_vmas |= 1 << left;
        }
        self.pairs.push((what, left as u32, right as u32));
    }
}

impl Comparer {
    /// A comparer for the first operation of a program.
    pub fn new(scope: Scope) -> Comparer {
        let mut comparer = Comparer {
            scope,
            anon_vmas: Bijection::default(),
            uffds: Bijection::default(),
            files: Bijection::default(),
            partners: Default::default(),
        };
        comparer.reset();
        comparer
    }

    /// Starts over, for another program.
    pub fn reset(&mut self) {
        self.files.clear();
        for partners in &mut self.partners {
            partners.clear();
        }
    }

    /// Whether both show the same, where they did before the last operation.
    pub fn same(&mut self, left: &Observation, right: &Observation) -> bool {
        self.same_spaces(left, right, left.changed | right.changed)
    }

    /// Whether both show the same, whatever they did before: [`Comparer::same`] without its short
    /// cut, to check it by.
    pub fn same_in_full(&mut self, left: &Observation, right: &Observation) -> bool {
        self.same_spaces(left, right, !0)
    }

    fn same_spaces(
        &mut self,
        left: &Observation,
        right: &Observation,
        changed: ProcessSet,
    ) -> bool {
        if !self.same_step(left, right) {
            return false;
        }
        self.anon_vmas.clear();
        self.uffds.clear();
        for process in 0..MAX_PROCESSES {
            let same = if changed >> process & 1 == 0 {
                self.same_partners(process)
            } else {
                self.partners[process].clear();
                self.same_space(process, &left.spaces[process], &right.spaces[process])
            };
            if !same {
                return false;
            }
        }
        true
    }

    /// Whether they show the same beside the address spaces.
    fn same_step(&self, left: &Observation, right: &Observation) -> bool {
        if left.result != right.result {
            return false;
        }
        match self.scope {
            Scope::Models => {
                left.copy == right.copy
                    && left.events == right.events
                    && left.committed == right.committed
            }
            Scope::Recorded => {
                let recorded = |o: &Observation| {
                    o.copy.map(|c| (c.merged, c.need_rmap_locks, c.source_redirected))
                };
                recorded(left) == recorded(right)
            }
        }
    }

    fn same_partners(&mut self, process: usize) -> bool {
        let Comparer { anon_vmas, uffds, partners, .. } = self;
        partners[process].pairs.iter().all(|&(what, left, right)| {
            let (left, right) = (Some(left as usize), Some(right as usize));
            match what {
                Numbered::AnonVma => anon_vmas.pairs(left, right),
                Numbered::Uffd => uffds.pairs(left, right),
            }
        })
    }

    fn same_space(&mut self, process: usize, left: &AddressSpace, right: &AddressSpace) -> bool {
        left.alive == right.alive
            && left.counters == right.counters
            && (self.scope == Scope::Recorded || left.anon_pages == right.anon_pages)
            && left.vmas().len() == right.vmas().len()
            && left.vmas().iter().zip(right.vmas()).all(|(l, r)| {
                self.same_vma(process, l, r) && self.same_anon_vma(process, (left, l), (right, r))
            })
    }

    fn same_vma(&mut self, process: usize, left: &Vma, right: &Vma) -> bool {
        left.start == right.start
            && left.end == right.end
            && left.flags == right.flags
            && left.pgoff == right.pgoff
            && left.policy == right.policy
            && left.close == right.close
            && self.files.pairs(left.file.map(|f| f.index()), right.file.map(|f| f.index()))
            && self.are_partners(
                process,
                Numbered::Uffd,
                (left.uffd.map(|u| u.index()), right.uffd.map(|u| u.index())),
            )
    }

    fn same_anon_vma(
        &mut self,
        process: usize,
        left: (&AddressSpace, &Vma),
        right: (&AddressSpace, &Vma),
    ) -> bool {
        let own = |vma: &Vma| vma.anon_vma.map(|a| a.index());
        let (l, r) = (left.0.chain(left.1), right.0.chain(right.1));
        self.are_partners(process, Numbered::AnonVma, (own(left.1), own(right.1)))
            && l.len() == r.len()
            && l.iter().zip(r).all(|(l, r)| {
                let pair = (Some(l.index()), Some(r.index()));
                self.are_partners(process, Numbered::AnonVma, pair)
            })
    }

    #[inline]
    fn are_partners(
        &mut self,
        process: usize,
        what: Numbered,
        (left, right): (Option<usize>, Option<usize>),
    ) -> bool {
        let table = match what {
            Numbered::AnonVma => &mut self.anon_vmas,
            Numbered::Uffd => &mut self.uffds,
        };
        if !table.pairs(left, right) {
            return false;
        }
        if let (Some(left), Some(right)) = (left, right) {
            self.partners[process].add(what, left, right);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmadiff_machine::VmFlags;
    use vmadiff_machine::observation::{AnonVmaId, UffdId, Vma};
    use vmadiff_machine::operand::{Mode, Page, PageOffset, Process};

    /// An observation in which each process has one-page VMAs with these anon_vmas, all changed.
    fn shows(anon_vmas: [&[u32]; 2], uffd: Option<u32>) -> Observation {
        let mut seen = Observation::default();
        seen.begin_step();
        for (process, anon_vmas) in (0..).zip(anon_vmas) {
            let space = seen.rewrite(Process(process));
            space.alive = true;
            for (page, &id) in (0..).zip(anon_vmas) {
                let (range, pgoff) = ((Page(page), Page(page + 1)), PageOffset(page.into()));
                let (id, uffd) = (AnonVmaId::new(id), uffd.map(UffdId::new));
                let vma = Vma::new(
                    range,
                    pgoff,
                    VmFlags::VM_READ,
                    Some(id),
                    None,
                    uffd,
                    Mode::Default,
                    false,
                );
                space.push(vma, [id]);
            }
        }
        seen
    }

    #[test]
    fn objects_are_compared_up_to_their_numbers_over_all_processes() {
        let mut comparer = Comparer::new(Scope::Models);
        for (left, right, same) in [
            ([&[0, 1][..], &[0]], [&[7, 300][..], &[7]], true),
            ([&[0, 1], &[0]], [&[7, 300], &[300]], false),
            ([&[0, 1], &[0]], [&[7, 7], &[7]], false),
            ([&[0, 0], &[0]], [&[7, 300], &[7]], false),
        ] {
            let (left, right) = (shows(left, Some(2)), shows(right, Some(0)));
            assert_eq!(comparer.same(&left, &right), same, "{left:?} {right:?}");
            assert_eq!(comparer.same_in_full(&left, &right), same, "{left:?} {right:?}");
        }
        assert!(!comparer.same(&shows([&[0], &[]], Some(0)), &shows([&[0], &[]], None)));
    }

    #[test]
    fn what_has_not_changed_still_has_a_say_in_what_is_the_same_object() {
        let mut comparer = Comparer::new(Scope::Models);
        let (mut left, mut right) = (shows([&[0], &[1]], None), shows([&[4], &[5]], None));
        assert!(comparer.same(&left, &right));
        // Process 1 now shares process 0's object on the left, but not on the right.
        let (shared, apart) = (shows([&[0], &[0]], None), shows([&[4], &[6]], None));
        for (seen, new) in [(&mut left, shared), (&mut right, apart)] {
            seen.begin_step();
            seen.spaces[1] = new.spaces[1].clone();
            seen.changed = 1 << 1;
        }
        assert!(!comparer.same(&left, &right));
    }
}
