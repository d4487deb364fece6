//! Which condition of the merge rule holds two VMAs apart, with its values.

use vmadiff_machine::operand::{MAX_PROCESSES, Mode, PageOffset};
use vmadiff_machine::{AddressSpace, AnonVmaId, FileId, UffdId, VmFlags, Vma};

use super::{Case, MASK, flag_names, pgoff_at, point};
use crate::picture::Range;

/// A range that is to be mapped, with the attributes that `vma_merge()` is asked with.
pub(super) struct New {
    range: Range,
    pgoff: PageOffset,
    flags: VmFlags,
    anon_vma: Option<AnonVmaId>,
    chain: Vec<AnonVmaId>,
    file: Option<FileId>,
    uffd: Option<UffdId>,
    policy: Mode,
}

impl New {
    /// A VMA that is there, as if it were to be mapped.
    fn like(space: &AddressSpace, vma: &Vma) -> New {
        New {
            range: Range::of(vma),
            pgoff: vma.pgoff,
            flags: vma.flags,
            anon_vma: vma.anon_vma,
            chain: space.chain(vma).to_vec(),
            file: vma.file,
            uffd: vma.uffd,
            policy: vma.policy,
        }
    }

    /// A copy of what `source` has at `from`.
    pub(super) fn copied(
        space: &AddressSpace,
        source: &Vma,
        (from, range): (Range, Range),
        clears: bool,
    ) -> New {
        let like = New::like(space, source);
        let never_faulted = source.anon_vma.is_none() && source.file.is_none();
        let pgoff = if never_faulted {
            vmadiff_machine::operand::Page(range.start).linear_offset()
        } else {
            pgoff_at(source, from.start)
        };
        let (flags, uffd) =
            if clears { (like.flags - MASK, None) } else { (like.flags, like.uffd) };
        New { range, pgoff, flags, uffd, ..like }
    }

    /// The condition that keeps the range from becoming part of `near`, of which `part` is left
    /// beside it; none where the rule lets them merge. Both are of one observation, in which
    /// equal ids are one object.
    pub(super) fn refused_by(
        &self,
        space: &AddressSpace,
        near: &Vma,
        part: Range,
        case: &Case<'_>,
    ) -> Option<String> {
        let differ = (self.flags ^ near.flags) - VmFlags::VM_SOFTDIRTY;
        if !differ.is_empty() {
            return Some(format!("their vm_flags differ in {}", flag_names(differ)));
        }
        if self.flags.intersects(VmFlags::VM_SPECIAL) {
            return Some(format!("{} is special", self.range));
        }
        if self.file != near.file {
            return Some("their files differ".into());
        }
        if near.close {
            return Some(format!("vm_ops->close of {part} wants to be called"));
        }
        if self.uffd != near.uffd {
            return Some("their userfaultfd contexts differ".into());
        }
        if self.policy != near.policy {
            let (a, b) = (self.policy.name(), near.policy.name());
            return Some(format!("their policies are {a} and {b}"));
        }
        let (lower, expected) = if part.start < self.range.start {
            let pages = u64::from(part.end - part.start);
            let first = pgoff_at(near, part.start);
            ((first, pages), self.pgoff)
        } else {
            let pages = u64::from(self.range.end - self.range.start);
            ((self.pgoff, pages), pgoff_at(near, part.start))
        };
        if lower.0.0.wrapping_add(lower.1) != expected.0 {
            return Some(format!(
                "vm_pgoff does not run on: {} + {} is not {expected}",
                lower.0, lower.1
            ));
        }
        let singular = space.chain(near).len() == 1;
        match (self.anon_vma, near.anon_vma) {
            (Some(a), Some(b)) if a != b => Some("their anon_vmas differ".into()),
            // Of what no copy brings there, `vma_merge()` does not ask.
            (Some(_), Some(_)) if case.is_copy() && self.chain != space.chain(near) => {
                let text = case.chain_text(space, near);
                Some(format!(
                    "they have one anon_vma, but their chains differ ({part} has {text}): a page of \
                     the one would not be found through the other's"
                ))
            }
            (None, None) | (Some(_), Some(_)) => None,
            _ if singular => None,
            (mine, _) => {
                let none = if mine.is_none() { self.range } else { part };
                let links = space.chain(near).len();
                Some(format!(
                    "{none} has no anon_vma, and {part} hangs on {links}, not on exactly one"
                ))
            }
        }
    }
}

impl Case<'_> {
    fn chain_text(&self, space: &AddressSpace, vma: &Vma) -> String {
        let is_left = self.left.spaces.iter().any(|other| std::ptr::eq(other, space));
        self.painter.anon_vma_text(space, vma, is_left)
    }

    /// Where one machine has one VMA and the other two.
    pub(super) fn merge(&self) -> String {
        for process in 0..MAX_PROCESSES {
            let (l, r) = (&self.left.spaces[process], &self.right.spaces[process]);
            let apart = |two: &AddressSpace, one: &AddressSpace| {
                two.vmas().windows(2).filter(|pair| pair[0].end == pair[1].start).find_map(|pair| {
                    let border = pair[1].start;
                    let whole = one.vmas().iter().find(|v| v.start < border && border < v.end)?;
                    Some((pair[0], pair[1], Range::of(whole)))
                })
            };
            let (found, two, does, other) = match (apart(l, r), apart(r, l)) {
                (Some(found), _) => (found, l, self.names.1, self.names.0),
                (None, Some(found)) => (found, r, self.names.0, self.names.1),
                (None, None) => continue,
            };
            let (a, b, whole) = found;
            // The range that the operation is about is the new one; the rule is not symmetric.
            let is_new = |vma: &Vma| {
                self.touched.iter().any(|t| {
                    t.process == process && t.role != "from" && t.range.overlaps(Range::of(vma))
                })
            };
            let (new, near) = if is_new(&b) || !is_new(&a) { (b, a) } else { (a, b) };
            let new = New::like(two, &new);
            let (a, b) = (Range::of(&a), Range::of(&b));
            let condition = match new.refused_by(two, &near, Range::of(&near), self) {
                Some(condition) => format!("they must not merge, for {condition}"),
                None => "every condition of the merge rule holds: they must merge".into(),
            };
            let cite = if self.is_copy() { format!(" ({})", point(4)) } else { String::new() };
            return format!(
                "{does} has {a} and {b} of process {process} as one VMA, {whole}, and {other} has two: \
                 {condition}{cite}"
            );
        }
        self.merge_of_copy()
    }

    /// What the rule says of the range that is copied or moved, and each of its neighbours.
    pub(super) fn merge_conditions(&self) -> Vec<String> {
        let (Some(to), Some((from, source, _)), Some(near)) =
            (self.role("to"), self.source(), self.neighbours())
        else {
            return Vec::new();
        };
        let space = &self.before.spaces[to.process];
        let of = &self.before.spaces[from.process];
        let new = New::copied(of, source, (from.range, to.range), self.clears());
        near.into_iter()
            .flatten()
            .map(|(vma, part)| match new.refused_by(space, vma, part, self) {
                Some(condition) => format!("with {part} it must not, for {condition}"),
                None => format!("with {part} every condition holds"),
            })
            .collect()
    }

    /// Where `copy_vma()` merged in one machine only, and the VMAs do not show it any more.
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
