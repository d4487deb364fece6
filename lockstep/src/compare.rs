//! The comparison of two observations, up to renumbering of objects.
//!
//! The comparison runs after every operation of every program. So the cheapest checks come first,
//! there are no strings, and nothing is allocated once the tables have grown.

use vmadiff_machine::observation::ProcessSet;
use vmadiff_machine::operand::MAX_PROCESSES;
use vmadiff_machine::{AddressSpace, Observation, UffdId, Vma};

use crate::page_ids::Pages;

/// The parts of an observation that are compared. A recorded kernel shows less than a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All parts.
    Models,
    /// What golden traces record: neither committed memory, nor page tables, nor the values of pages, nor
    /// messages to monitors, nor events, nor calls of drivers, nor whether the rmap locks were taken.
    Recorded,
}

/// A one-to-one correspondence between the object numbers of two machines.
#[derive(Debug, Default)]
pub(crate) struct Bijection {
    /// The partner of each number of the left machine, or [`ALONE`].
    forward: Vec<u32>,
    /// The partner of each number of the right machine, or [`ALONE`].
    backward: Vec<u32>,
}

vmadiff_machine::clone_by_field!(Bijection { forward, backward });

/// The entry of a number that has no partner.
pub(crate) const ALONE: u32 = u32::MAX;

impl Bijection {
    /// Removes all pairs.
    pub(crate) fn clear(&mut self) {
        self.forward.clear();
        self.backward.clear();
    }

    /// Returns whether `left` and `right` are partners. Two numbers without partners become
    /// partners.
    #[inline]
    pub(crate) fn pairs(&mut self, left: Option<usize>, right: Option<usize>) -> bool {
        let (left, right) = match (left, right) {
            (None, None) => return true,
            (Some(left), Some(right)) => (left, right),
            _ => return false,
        };
        for (table, at) in [(&mut self.forward, left), (&mut self.backward, right)] {
            if table.len() <= at {
                table.resize(at + 1, ALONE);
            }
        }
        let (to, from) = (&mut self.forward[left], &mut self.backward[right]);
        if *to == ALONE && *from == ALONE {
            (*to, *from) = (right as u32, left as u32);
        }
        *to as usize == right
    }

    /// Returns the partner of a number of the left machine.
    pub(crate) fn partner(&self, left: usize) -> Option<usize> {
        let right = self.forward.get(left).copied().filter(|right| *right != ALONE);
        right.map(|right| right as usize)
    }

    /// Returns whether a number of the right machine has a partner.
    pub(crate) fn is_paired(&self, right: usize) -> bool {
        self.backward.get(right).is_some_and(|left| *left != ALONE)
    }

    /// Removes the pair of `left` and its partner.
    pub(crate) fn part(&mut self, left: usize) {
        let right = std::mem::replace(&mut self.forward[left], ALONE);
        self.backward[right as usize] = ALONE;
    }
}

/// The pairs of objects that are numbered anew for every observation, and the address spaces that
/// show each pair.
#[derive(Debug, Default)]
struct Partners {
    pairs: Bijection,
    /// The address spaces that show each number of the left machine.
    shown_by: Vec<ProcessSet>,
    /// The numbers of the left machine that each address space shows.
    shown: [Vec<usize>; MAX_PROCESSES],
}

vmadiff_machine::clone_by_field!(Partners { pairs, shown_by, shown });

impl Partners {
    fn clear(&mut self) {
        self.pairs.clear();
        self.shown_by.clear();
        self.shown.iter_mut().for_each(Vec::clear);
    }

    /// Returns whether `left` and `right`, shown by a process, are partners. Two numbers without
    /// partners become partners.
    #[inline]
    fn pairs(&mut self, process: usize, left: Option<usize>, right: Option<usize>) -> bool {
        if !self.pairs.pairs(left, right) {
            return false;
        }
        if let Some(left) = left {
            if self.shown_by.len() <= left {
                self.shown_by.resize(left + 1, 0);
            }
            if self.shown_by[left] >> process & 1 == 0 {
                self.shown_by[left] |= 1 << process;
                self.shown[process].push(left);
            }
        }
        true
    }

    /// Removes the pairs that only this process shows, because the process may show other objects
    /// now.
    fn part(&mut self, process: usize) {
        for left in self.shown[process].drain(..) {
            self.shown_by[left] &= !(1 << process);
            if self.shown_by[left] == 0 {
                self.pairs.part(left);
            }
        }
    }
}

/// Compares the observations of two machines, operation by operation.
///
/// An address space is not compared again if neither machine has rewritten it since it was found
/// equal. Its pairs of objects stay. Pairs that only changed address spaces show are removed before
/// new pairs are entered. The result is the same as that of a full comparison, because the pairs
/// are a set: the order in which they are entered has no effect.
#[derive(Debug)]
pub struct Comparer {
    scope: Scope,
    anon_vmas: Partners,
    uffds: Partners,
    /// The pairs of files. A file keeps its identity over a whole program.
    files: Bijection,
    /// The pairs of anonymous pages. A page keeps its identity for as long as it is mapped.
    pages: Pages,
}

vmadiff_machine::clone_by_field!(Comparer { scope, anon_vmas, uffds, files, pages });

impl Comparer {
    /// Returns a comparer for the first operation of a program.
    pub fn new(scope: Scope) -> Comparer {
        Comparer {
            scope,
            anon_vmas: Partners::default(),
            uffds: Partners::default(),
            files: Bijection::default(),
            pages: Pages::default(),
        }
    }

    /// Goes back to the start, for another program.
    pub fn reset(&mut self) {
        self.anon_vmas.clear();
        self.uffds.clear();
        self.files.clear();
        self.pages.clear();
    }

    /// Returns the pairs of anonymous pages.
    pub(crate) fn pages(&self) -> &Pages {
        &self.pages
    }

    /// Returns whether both observations are equal. They must have been equal before the last
    /// operation.
    pub fn same(&mut self, left: &Observation, right: &Observation) -> bool {
        self.same_spaces(left, right, left.changed | right.changed)
    }

    /// Returns whether both observations are equal, without any condition on the state before. This
    /// is the full comparison, by which [`Comparer::same`] is checked.
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
        // The messages are about contexts that were shown before the operation.
        let messages =
            self.scope == Scope::Models && !(left.messages.is_empty() && right.messages.is_empty());
        if messages && !self.same_messages(left, right) {
            return false;
        }
        let changed = || (0..MAX_PROCESSES).filter(|process| changed >> process & 1 == 1);
        for process in changed() {
            self.anon_vmas.part(process);
            self.uffds.part(process);
        }
        let same = changed()
            .all(|process| self.same_space(process, &left.spaces[process], &right.spaces[process]));
        if same && messages && !self.same_children(left, right) {
            return false;
        }
        if same && self.scope == Scope::Models {
            changed().for_each(|process| self.pages.settle(process, &left.spaces[process]));
        }
        same
    }

    /// Returns whether everything but the address spaces is equal.
    fn same_step(&self, left: &Observation, right: &Observation) -> bool {
        if left.result != right.result {
            return false;
        }
        match self.scope {
            Scope::Models => {
                // Few operations have events, so the cheap check for any event comes first.
                let events = !left.events.is_empty() || !right.events.is_empty();
                left.copy == right.copy
                    && left.read == right.read
                    && left.committed == right.committed
                    && left.driver == right.driver
                    && left.attached == right.attached
                    && (!events || left.events == right.events)
            }
            Scope::Recorded => {
                let recorded = |o: &Observation| {
                    o.copy.map(|c| (c.merged, c.need_rmap_locks, c.source_redirected))
                };
                recorded(left) == recorded(right)
            }
        }
    }

    /// Returns whether both machines send the same messages to the same contexts.
    fn same_messages(&self, left: &Observation, right: &Observation) -> bool {
        left.messages.len() == right.messages.len()
            && left
                .messages
                .iter()
                .zip(&right.messages)
                .all(|(l, r)| l.about.is_like(r.about) && self.same_context(l.ctx, r.ctx))
    }

    /// Returns whether the messages about forks, which are the same otherwise, name the same contexts of the
    /// child.
    fn same_children(&self, left: &Observation, right: &Observation) -> bool {
        let children = left.messages.iter().zip(&right.messages);
        children
            .filter_map(|(l, r)| l.about.child().zip(r.about.child()))
            .all(|(l, r)| self.same_context(l, r))
    }

    /// Returns whether two contexts are partners, or neither is shown.
    fn same_context(&self, left: UffdId, right: UffdId) -> bool {
        match self.uffds.pairs.partner(left.index()) {
            Some(partner) => partner == right.index(),
            None => !self.uffds.pairs.is_paired(right.index()),
        }
    }

    fn same_space(&mut self, process: usize, left: &AddressSpace, right: &AddressSpace) -> bool {
        left.alive == right.alive
            && left.counters == right.counters
            && (self.scope == Scope::Recorded
                || (left.anon_pages, left.zero_pages) == (right.anon_pages, right.zero_pages)
                    && left.writable_ptes == right.writable_ptes
                    && self.pages.same(left, right))
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
            && self.uffds.pairs(
                process,
                left.uffd.map(|u| u.index()),
                right.uffd.map(|u| u.index()),
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
        self.anon_vmas.pairs(process, own(left.1), own(right.1))
            && l.len() == r.len()
            && l.iter()
                .zip(r)
                .all(|(l, r)| self.anon_vmas.pairs(process, Some(l.index()), Some(r.index())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_pcg::Pcg32;
    use rand_pcg::rand_core::{Rng as _, SeedableRng as _};
    use vmadiff_machine::observation::{AnonVmaId, CopyReport, Event, FileId, PageId, UffdId, Vma};
    use vmadiff_machine::operand::{Mode, Page, PageOffset, Process};
    use vmadiff_machine::{Errno, Message, Range, UffdEvent, VmFlags};

    /// Returns an observation in which each process has one-page VMAs with these anon_vmas. Both
    /// address spaces are marked as changed.
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

    #[test]
    fn comparing_what_has_changed_gives_what_comparing_everything_gives() {
        let mut random = Pcg32::seed_from_u64(5);
        let mut below = |n: u32| (random.next_u32() >> 8) % n;
        let (mut comparer, mut agreed) = (Comparer::new(Scope::Models), [0, 0]);
        for _ in 0..20_000 {
            comparer.reset();
            let (mut left, mut right) = (shows([&[], &[]], None), shows([&[], &[]], None));
            for _ in 0..6 {
                // The right machine has other numbers. Now and then a number stands for another
                // object.
                let shift = below(3);
                let mut ids = [[0; 2]; 2];
                for id in ids.iter_mut().flatten() {
                    *id = below(3);
                }
                let twin = |id: u32, odd: bool| (id + shift + u32::from(odd)) % 3;
                let odd = below(6) == 0;
                let others = ids.map(|ids| [twin(ids[0], false), twin(ids[1], odd)]);
                let changed = below(4) as ProcessSet;
                for (seen, ids) in [(&mut left, ids), (&mut right, others)] {
                    let new = shows([&ids[0], &ids[1]], Some(ids[0][0]));
                    seen.begin_step();
                    for process in (0..2).filter(|process| changed >> process & 1 == 1) {
                        seen.spaces[process] = new.spaces[process].clone();
                    }
                    seen.changed = changed;
                }
                let same = Comparer::new(Scope::Models).same_in_full(&left, &right);
                assert_eq!(comparer.same(&left, &right), same, "{left:?} {right:?}");
                agreed[usize::from(same)] += 1;
                if !same {
                    break;
                }
            }
        }
        assert!(agreed.iter().all(|&count| count > 1000), "{agreed:?}");
    }

    /// Returns an observation with one VMA of a file, with every field set.
    fn full() -> Observation {
        let mut seen = Observation::default();
        seen.begin_step();
        seen.read = Some(7);
        seen.copy = Some(CopyReport {
            merged: true,
            need_rmap_locks: true,
            honoured: true,
            source_redirected: true,
        });
        vmas(&mut seen, &[vma(|_| ())], &[&[AnonVmaId::new(0), AnonVmaId::new(1)]]);
        seen
    }

    fn vma(change: impl Fn(&mut Vma)) -> Vma {
        let mut vma = Vma::new(
            (Page(1), Page(3)),
            PageOffset(1),
            VmFlags::VM_READ,
            Some(AnonVmaId::new(0)),
            Some(FileId::new(0)),
            Some(UffdId::new(0)),
            Mode::Default,
            false,
        );
        change(&mut vma);
        vma
    }

    /// Makes process 0 show these VMAs, with these chains.
    fn vmas(seen: &mut Observation, vmas: &[Vma], chains: &[&[AnonVmaId]]) {
        let space = seen.rewrite(Process(0));
        space.alive = true;
        for (vma, chain) in vmas.iter().zip(chains) {
            space.push(*vma, chain.iter().copied());
        }
    }

    /// The name of a field, whether a recorded kernel shows the field, and a change of the field.
    type Field = (&'static str, bool, fn(&mut Observation));

    const FIELDS: &[Field] = &[
        ("result: another value", true, |o| o.result = Ok(1)),
        ("result: an error", true, |o| o.result = Err(Errno::EINVAL)),
        ("copy: none", true, |o| o.copy = None),
        ("copy.merged", true, |o| copy(o, |c| c.merged = false)),
        ("copy.need_rmap_locks", true, |o| copy(o, |c| c.need_rmap_locks = false)),
        ("copy.honoured", false, |o| copy(o, |c| c.honoured = false)),
        ("copy.source_redirected", true, |o| copy(o, |c| c.source_redirected = false)),
        ("events", false, |o| {
            o.events.push(Event::UnreachablePage { process: Process(0), page: Page(1) });
        }),
        ("messages", false, |o| o.messages.push(message(0, UffdEvent::Unmap(Range::ALL)))),
        ("committed", false, |o| o.committed = 1),
        ("driver.opens", false, |o| o.driver.opens = 1),
        ("driver.closes", false, |o| o.driver.closes = 1),
        ("attached", false, |o| o.attached = Some(1)),
        ("attached: destroyed", false, |o| o.attached = None),
        ("read: none", false, |o| o.read = None),
        ("read: another value", false, |o| o.read = Some(8)),
        ("alive", true, |o| o.spaces[0].alive = false),
        ("counters.total_vm", true, |o| o.spaces[0].counters.total_vm = 1),
        ("counters.locked_vm", true, |o| o.spaces[0].counters.locked_vm = 1),
        ("counters.data_vm", true, |o| o.spaces[0].counters.data_vm = 1),
        ("counters.map_count", true, |o| o.spaces[0].counters.map_count = 1),
        ("anon_pages", false, |o| o.spaces[0].anon_pages = 2),
        ("zero_pages", false, |o| o.spaces[0].zero_pages = 2),
        ("writable_ptes", false, |o| o.spaces[0].writable_ptes = 2),
        ("page_ids", false, |o| o.spaces[0].push_page_ids([PageId::new(0)])),
        ("no VMA", true, |o| vmas(o, &[], &[])),
        ("two VMAs", true, |o| {
            let (lower, upper) = (vma(|v| v.end = Page(2)), vma(|v| v.start = Page(2)));
            vmas(o, &[lower, upper], &[CHAIN, CHAIN]);
        }),
        ("start", true, |o| one(o, |v| v.start = Page(0))),
        ("end", true, |o| one(o, |v| v.end = Page(2))),
        ("pgoff", true, |o| one(o, |v| v.pgoff = PageOffset(2))),
        ("flags", true, |o| one(o, |v| v.flags |= VmFlags::VM_WRITE)),
        ("anon_vma: none", true, |o| one(o, |v| v.anon_vma = None)),
        ("anon_vma: another", true, |o| one(o, |v| v.anon_vma = Some(AnonVmaId::new(1)))),
        ("file: none", true, |o| one(o, |v| v.file = None)),
        ("file: another", true, |o| one(o, |v| v.file = Some(FileId::new(1)))),
        ("uffd: none", true, |o| one(o, |v| v.uffd = None)),
        ("policy", true, |o| one(o, |v| v.policy = Mode::Bind)),
        ("close", true, |o| one(o, |v| v.close = true)),
        ("chain: shorter", true, |o| vmas(o, &[vma(|_| ())], &[&[AnonVmaId::new(0)]])),
        ("chain: another order", true, |o| {
            vmas(o, &[vma(|_| ())], &[&[AnonVmaId::new(1), AnonVmaId::new(0)]]);
        }),
    ];

    /// Returns an observation with two VMAs, which have these userfaultfd contexts.
    fn two(uffds: [u32; 2]) -> Observation {
        let mut seen = full();
        let [lower, upper] = uffds.map(|id| Some(UffdId::new(id)));
        let lower = vma(|v| (v.end, v.uffd) = (Page(2), lower));
        let upper = vma(|v| (v.start, v.uffd) = (Page(2), upper));
        vmas(&mut seen, &[lower, upper], &[CHAIN, CHAIN]);
        seen
    }

    #[test]
    fn a_userfaultfd_context_is_another_one_if_it_was_seen_elsewhere() {
        for scope in [Scope::Models, Scope::Recorded] {
            let mut comparer = Comparer::new(scope);
            assert!(comparer.same(&two([0, 1]), &two([3, 2])));
            assert!(!comparer.same(&two([0, 0]), &two([3, 2])));
            assert!(!comparer.same(&two([0, 1]), &two([2, 2])));
        }
    }

    fn message(ctx: u32, about: UffdEvent) -> Message {
        Message { ctx: UffdId::new(ctx), about }
    }

    #[test]
    fn a_message_is_compared_with_the_message_in_its_place() {
        let range = |start| Range { start: Page(start), end: Page(9) };
        let unmap = |start| UffdEvent::Unmap(range(start));
        let fork = |child: Option<u32>| UffdEvent::Fork { child: child.map(UffdId::new) };
        // Contexts 0 and 1 of the left machine have the numbers 3 and 2 on the right.
        let (before, renumbered) = (two([0, 1]), two([3, 2]));
        let with = |seen: &Observation, messages: &[Message]| {
            let mut seen = seen.clone();
            (seen.messages, seen.changed) = (messages.to_vec(), 0);
            seen
        };
        let remap = |start, to| UffdEvent::Remap { from: range(start), to: Page(to) };
        for (left, right, same) in [
            (message(0, unmap(1)), message(3, unmap(1)), true),
            (message(0, unmap(1)), message(2, unmap(1)), false),
            (message(0, unmap(1)), message(3, unmap(2)), false),
            (message(0, unmap(1)), message(3, UffdEvent::Remove(range(1))), false),
            (message(1, remap(1, 4)), message(2, remap(1, 4)), true),
            (message(1, remap(1, 4)), message(2, remap(1, 5)), false),
            // Neither is shown.
            (message(7, unmap(1)), message(9, unmap(1)), true),
            (message(7, unmap(1)), message(3, unmap(1)), false),
            (message(0, fork(Some(1))), message(3, fork(Some(2))), true),
            (message(0, fork(Some(1))), message(3, fork(Some(3))), false),
            (message(0, fork(Some(1))), message(3, fork(None)), false),
            (message(0, fork(None)), message(3, fork(None)), true),
        ] {
            let mut comparer = Comparer::new(Scope::Models);
            assert!(comparer.same(&before, &renumbered));
            let (left, right) = (with(&before, &[left]), with(&renumbered, &[right]));
            assert_eq!(
                comparer.same(&left, &right),
                same,
                "{:?}, {:?}",
                left.messages,
                right.messages
            );
            assert!(!comparer.same(&left, &with(&renumbered, &[])));
        }
    }

    #[test]
    fn an_event_is_compared_with_the_event_in_its_place() {
        let unreachable = |page| Event::UnreachablePage { process: Process(0), page: Page(page) };
        let with = |events: &[Event]| {
            let mut seen = full();
            seen.events.extend_from_slice(events);
            seen
        };
        let (one, two) = (unreachable(1), unreachable(2));
        let mut comparer = Comparer::new(Scope::Models);
        assert!(comparer.same(&with(&[one, two]), &with(&[one, two])));
        for other in [&[two][..], &[one, one], &[two, one], &[one]] {
            assert!(!comparer.same(&with(&[one, two]), &with(other)), "{other:?}");
        }
        assert!(!comparer.same(&with(&[one]), &with(&[two])));
    }

    #[test]
    fn the_page_offset_of_anonymous_memory_is_compared() {
        let anonymous = |pgoff| {
            let mut seen = full();
            one(&mut seen, |v| (v.file, v.pgoff) = (None, PageOffset(pgoff)));
            seen
        };
        for scope in [Scope::Models, Scope::Recorded] {
            assert!(Comparer::new(scope).same(&anonymous(1), &anonymous(1)));
            assert!(!Comparer::new(scope).same(&anonymous(1), &anonymous(2)));
        }
    }

    #[test]
    fn every_process_is_compared() {
        for process in 0..MAX_PROCESSES {
            let changed = || {
                let mut seen = full();
                seen.rewrite(Process(process as u8)).alive = true;
                seen
            };
            let mut other = changed();
            other.spaces[process].counters.total_vm = 1;
            for scope in [Scope::Models, Scope::Recorded] {
                assert!(Comparer::new(scope).same(&changed(), &changed()));
                assert!(!Comparer::new(scope).same(&changed(), &other), "{process}");
                assert!(!Comparer::new(scope).same_in_full(&changed(), &other), "{process}");
            }
        }
    }

    #[test]
    fn a_machine_that_changes_what_the_other_leaves_alone_is_noticed() {
        let mut left = full();
        left.changed = 0;
        let mut other = full();
        other.spaces[0].counters.total_vm = 1;
        assert!(!Comparer::new(Scope::Models).same(&left, &other));
        assert!(!Comparer::new(Scope::Models).same(&other, &left));
    }

    const CHAIN: &[AnonVmaId] = &[AnonVmaId::new(0), AnonVmaId::new(1)];

    fn copy(seen: &mut Observation, change: impl Fn(&mut CopyReport)) {
        if let Some(copy) = &mut seen.copy {
            change(copy);
        }
    }

    fn one(seen: &mut Observation, change: impl Fn(&mut Vma)) {
        vmas(seen, &[vma(change)], &[CHAIN]);
    }

    #[test]
    fn a_change_of_any_field_makes_observations_differ() {
        for scope in [Scope::Models, Scope::Recorded] {
            for (name, recorded, change) in FIELDS {
                // A file keeps its identity, so both machines have shown it before.
                let mut comparer = Comparer::new(scope);
                assert!(comparer.same(&full(), &full()), "{name}");
                let (left, mut right) = (full(), full());
                change(&mut right);
                let differ = scope == Scope::Models || *recorded;
                assert_eq!(comparer.same(&left, &right), !differ, "{name}, {scope:?}");
                comparer.reset();
                assert!(comparer.same_in_full(&full(), &full()), "{name}");
                assert_eq!(comparer.same_in_full(&left, &right), !differ, "{name}, {scope:?}");
            }
        }
    }
}
