//! The anonymous pages of two machines, paired over time.
//!
//! A page keeps its number for as long as it is mapped, and so does the pair of two pages. A page that
//! takes the place of another one, by a wrong move or by a copy that only one machine makes, is
//! therefore seen, even where both machines show the same sets of pages.

use vmadiff_machine::operand::MAX_PROCESSES;
use vmadiff_machine::{AddressSpace, PageId};

use crate::compare::Bijection;

/// The pairs of the pages that are mapped.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    pairs: Bijection,
    /// The page table entries that map each page of the left machine.
    mapped: Vec<u32>,
    /// The pages of the left machine that each address space has shown last.
    shown: [Vec<PageId>; MAX_PROCESSES],
}

vmadiff_machine::clone_by_field!(Pages { pairs, mapped, shown });

impl Pages {
    pub(crate) fn clear(&mut self) {
        self.pairs.clear();
        self.mapped.clear();
        self.shown.iter_mut().for_each(Vec::clear);
    }

    /// Returns whether both machines map the same pages in an address space that has changed. Two pages
    /// that neither machine has shown before become a pair.
    #[inline]
    pub(crate) fn same(&mut self, left: &AddressSpace, right: &AddressSpace) -> bool {
        let (left, right) = (left.page_ids(), right.page_ids());
        left.len() == right.len()
            && left.iter().zip(right).all(|(left, right)| {
                let same = self.pairs.pairs(Some(left.index()), Some(right.index()));
                if same {
                    self.count(*left);
                }
                same
            })
    }

    #[inline]
    fn count(&mut self, left: PageId) {
        let at = left.index();
        if self.mapped.len() <= at {
            self.mapped.resize(at + 1, 0);
        }
        self.mapped[at] += 1;
    }

    /// Removes the pairs that no address space shows any more. Called for each address space that has
    /// changed, once all of them were found equal.
    #[inline]
    pub(crate) fn settle(&mut self, process: usize, left: &AddressSpace) {
        for page in self.shown[process].drain(..) {
            let mapped = &mut self.mapped[page.index()];
            *mapped -= 1;
            if *mapped == 0 {
                self.pairs.part(page.index());
            }
        }
        self.shown[process].extend(left.page_ids());
    }

    /// Returns the name of the difference between two pages that are mapped at the same place; `None`
    /// where they are a pair, or where neither was mapped before.
    pub(crate) fn difference(&self, left: PageId, right: PageId) -> Option<&'static str> {
        let partner = self.pairs.partner(left.index());
        match (partner, self.pairs.is_paired(right.index())) {
            (Some(partner), _) if partner == right.index() => None,
            (Some(_), true) => Some("other-page"),
            (Some(_), false) => Some("page-lost"),
            (None, true) => Some("page-kept"),
            (None, false) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use vmadiff_machine::observation::Observation;
    use vmadiff_machine::operand::Process;

    use super::*;
    use crate::compare::{Comparer, Scope};

    /// Returns an observation in which these processes show these pages, from page 0 on.
    fn shows(spaces: &[(u8, &[u32])]) -> Observation {
        let mut seen = Observation::default();
        seen.begin_step();
        for &(process, pages) in spaces {
            let space = seen.rewrite(Process(process));
            (space.alive, space.anon_pages) = (true, (1 << pages.len()) - 1);
            space.push_page_ids(pages.iter().map(|&page| PageId::new(page)));
        }
        seen
    }

    /// The processes that have changed, each with its pages; on the left and on the right machine.
    type Step<'a> = [&'a [(u8, &'a [u32])]; 2];

    /// Returns whether the machines agree after each of these steps.
    fn agrees(steps: &[Step<'_>]) -> Vec<bool> {
        let mut comparer = Comparer::new(Scope::Models);
        steps.iter().map(|[left, right]| comparer.same(&shows(left), &shows(right))).collect()
    }

    #[test]
    fn pages_are_compared_up_to_their_numbers_and_over_time() {
        // A page stays the same page: two pages that have changed places are noticed.
        assert_eq!(
            agrees(&[[&[(0, &[1, 2])], &[(0, &[7, 5])]], [&[(0, &[2, 1])], &[(0, &[5, 7])]]]),
            [true; 2]
        );
        assert_eq!(
            agrees(&[[&[(0, &[1, 2])], &[(0, &[7, 5])]], [&[(0, &[2, 1])], &[(0, &[7, 5])]]]),
            [true, false]
        );
        // Which processes share a page.
        for (right, same) in [([7, 5], true), ([7, 7], false)] {
            let [a, b] = right;
            let found = agrees(&[[&[(0, &[1]), (1, &[2])], &[(0, &[a]), (1, &[b])]]]);
            assert_eq!(found, [same], "{right:?}");
        }
        assert_eq!(agrees(&[[&[(0, &[1]), (1, &[1])], &[(0, &[7]), (1, &[5])]]]), [false]);
        // A page that another process still maps keeps its pair.
        let steps: &[Step<'_>] = &[
            [&[(0, &[1]), (1, &[1])], &[(0, &[7]), (1, &[7])]],
            [&[(0, &[])], &[(0, &[])]],
            [&[(0, &[1])], &[(0, &[3])]],
        ];
        assert_eq!(agrees(steps), [true, true, false]);
    }

    #[test]
    fn the_number_of_a_freed_page_may_stand_for_another_page_afterwards() {
        let steps: &[Step<'_>] = &[
            [&[(0, &[1, 2])], &[(0, &[7, 5])]],
            [&[(0, &[2])], &[(0, &[5])]],
            [&[(0, &[2, 1])], &[(0, &[5, 6])]],
        ];
        assert_eq!(agrees(steps), [true; 3]);
    }

    #[test]
    fn the_difference_of_two_pages_tells_a_lost_page_from_one_that_is_kept() {
        let mut pages = Pages::default();
        let first = [shows(&[(0, &[1, 2])]), shows(&[(0, &[7, 5])])];
        assert!(pages.same(&first[0].spaces[0], &first[1].spaces[0]));
        for (left, right, expected) in [
            (1, 7, None),
            (1, 5, Some("other-page")),
            (1, 9, Some("page-lost")),
            (9, 7, Some("page-kept")),
            (9, 9, None),
        ] {
            let found = pages.difference(PageId::new(left), PageId::new(right));
            assert_eq!(found, expected, "{left} and {right}");
        }
    }
}
