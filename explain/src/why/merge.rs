//! Merges: the condition of the merge rule that keeps two VMAs apart, with its values.

use vmadiff_machine::operand::{MAX_PROCESSES, Page};
use vmadiff_machine::{AddressSpace, Vma};
use vmadiff_reference::why::{MergeBarrier, MergeDecision, Neighbour};

use super::{Case, flag_names, index};
use crate::picture::Range;

/// A border between two VMAs of one machine, inside one VMA of the other machine.
struct Border {
    process: usize,
    /// The page at which the second VMA begins.
    page: Page,
    parts: (Range, Range),
    whole: Range,
    /// The right machine has the one VMA, the left machine the two.
    right_merged: bool,
}

/// Returns a border between two VMAs of `two` that lies inside one VMA of `one`.
fn border(two: &AddressSpace, one: &AddressSpace) -> Option<(Vma, Vma, Range)> {
    two.vmas().windows(2).filter(|pair| pair[0].end == pair[1].start).find_map(|pair| {
        let border = pair[1].start;
        let whole = one.vmas().iter().find(|vma| vma.start < border && border < vma.end)?;
        Some((pair[0], pair[1], Range::of(whole)))
    })
}

impl Case<'_> {
    /// Returns a failed condition of the merge rule in words.
    fn barrier_text(&self, barrier: &MergeBarrier, near: &Neighbour, of: &MergeDecision) -> String {
        let (new, near) = (Range::of(&of.new), near.range);
        match *barrier {
            MergeBarrier::Flags { differ } => {
                format!("their vm_flags differ in {}", flag_names(differ))
            }
            MergeBarrier::Special { .. } => format!("{new} is special"),
            MergeBarrier::File { .. } => "their files differ".into(),
            MergeBarrier::Attachment => "they are of different calls of shmat()".into(),
            MergeBarrier::Kept => format!("{new} is a copy of {near}, which stays mapped"),
            MergeBarrier::Close => format!("{near} has a vm_ops->close handler"),
            MergeBarrier::Uffd { .. } => "their userfaultfd contexts differ".into(),
            MergeBarrier::Policy { new, near } => {
                format!("their policies are {} and {}", new.name(), near.name())
            }
            MergeBarrier::Offset { lower, pages, upper } => {
                format!("their vm_pgoff are not contiguous: {lower} + {pages} is not {upper}")
            }
            MergeBarrier::AnonVma => "their anon_vmas differ".into(),
            MergeBarrier::NotSingular { unfaulted, links } => format!(
                "{unfaulted} has no anon_vma, and the chain of {near} has {links} anon_vmas, not \
                 exactly one"
            ),
            MergeBarrier::OtherNeighbour { left } => {
                format!("its anon_vma is not that of {left}, which merges")
            }
        }
    }

    /// Returns the reference's last decision about a border: the neighbour, and the merge that was
    /// asked for.
    fn decision_at(&self, process: usize, border: Page) -> Option<(&Neighbour, &MergeDecision)> {
        let decisions = self.reason.merges.iter().rev().filter(|d| index(d.process) == process);
        decisions
            .filter_map(|decision| {
                let near = if decision.new.start == border {
                    decision.left.as_ref()
                } else if decision.new.end == border {
                    decision.right.as_ref()
                } else {
                    None
                };
                Some((near?, decision))
            })
            .next()
    }

    /// Returns the first border that only one machine has.
    fn first_border(&self) -> Option<Border> {
        (0..MAX_PROCESSES).find_map(|process| {
            let (l, r) = (&self.left.spaces[process], &self.right.spaces[process]);
            let of = |found: (Vma, Vma, Range), right_merged| Border {
                process,
                page: found.1.start,
                parts: (Range::of(&found.0), Range::of(&found.1)),
                whole: found.2,
                right_merged,
            };
            let right = border(l, r).map(|found| of(found, true));
            right.or_else(|| border(r, l).map(|found| of(found, false)))
        })
    }

    /// Returns the sentence for one VMA in one machine and two VMAs in the other.
    pub(super) fn merge(&self) -> String {
        let Some(Border { process, page, parts: (a, b), whole, right_merged }) =
            self.first_border()
        else {
            return self.merge_of_copy();
        };
        let condition = match self.decision_at(process, page) {
            Some((near, decision)) => match near.barriers.first() {
                Some(barrier) => format!(
                    "the merge rule forbids the merge, because {}",
                    self.barrier_text(barrier, near, decision)
                ),
                None => "every condition of the merge rule holds, so they must merge".into(),
            },
            None => format!(
                "the call does not ask the merge rule at page {page}, so {}",
                match self.before.spaces[process].vmas().iter().any(|vma| vma.start == page) {
                    true => "the two stay as they are",
                    false => "a VMA is cut there exactly where the call cuts it",
                }
            ),
        };
        let cite = if self.is_copy() { format!(" ({})", self.point(4)) } else { String::new() };
        let (does, other) =
            if right_merged { (self.names.1, self.names.0) } else { (self.names.0, self.names.1) };
        format!(
            "{does} has {a} and {b} of process {process} as one VMA, {whole}, and {other} has two: \
             {condition}{cite}"
        )
    }

    /// Returns the answers of the merge rule for the range that is copied or moved, one for each
    /// neighbour.
    pub(super) fn merge_conditions(&self) -> Vec<String> {
        let Some(decision) = self.reason.copy_merge() else { return Vec::new() };
        decision
            .neighbours()
            .map(|near| match near.barriers.first() {
                Some(barrier) => format!(
                    "the merge rule forbids a merge with {}, because {}",
                    near.range,
                    self.barrier_text(barrier, near, decision)
                ),
                None => format!("every condition for a merge with {} holds", near.range),
            })
            .collect()
    }

    /// Returns the sentence for a merge in `copy_vma()` of one machine only, if the VMAs do not
    /// show it any more.
    fn merge_of_copy(&self) -> String {
        let (Some(l), Some(r), Some(to)) = (self.left.copy, self.right.copy, self.role("to"))
        else {
            return self.nothing();
        };
        let conditions = self.merge_conditions();
        let conditions = if conditions.is_empty() {
            "it has no neighbour".into()
        } else {
            conditions.join("; ")
        };
        let does = |merged| if merged { "merges" } else { "does not merge" };
        format!(
            "copy_vma() of {} {} the new range {} of process {}, that of {} {} it: {conditions}",
            self.names.0,
            does(l.merged),
            to.range,
            to.process,
            self.names.1,
            does(r.merged)
        )
    }
}
