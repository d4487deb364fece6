//! Which of the eight cases of `vma_merge()` operations meet, as far as what a machine shows tells.

use vmadiff_machine::operand::Page;
use vmadiff_machine::{AddressSpace, Machine as _, Observation, Op, Program, Vma};
use vmadiff_reference::Reference;

/// The cases of `vma_merge()`, in the order of its comment.
pub const CASES: usize = 8;

/// How often each case was met.
pub type Cases = [usize; CASES];

/// The process whose mappings an operation changes, and where; `None` for one that merges nothing.
fn reach(op: &Op, seen: &Observation) -> Option<(usize, Page, Page)> {
    let page = seen.result.ok()?;
    let (process, start, len) = match *op {
        Op::Mmap { process, page, len, .. }
        | Op::Mprotect { process, page, len, .. }
        | Op::Madvise { process, page, len, .. }
        | Op::Mlock { process, page, len, .. }
        | Op::Munlock { process, page, len, .. }
        | Op::Mbind { process, page, len, .. }
        | Op::UffdRegister { process, page, len, .. }
        | Op::UffdUnregister { process, page, len, .. } => (process, page.get(), len.get()),
        Op::Mremap { process, new_len, .. } => (process, Page(page), new_len.get()),
        Op::Copy { process, len, .. } => (process, Page(page), len.get()),
        Op::CopyVma { process, dst_page, len, .. } => (process, dst_page.get(), len.get()),
        _ => return None,
    };
    Some((usize::from(process.get().0), start, start.plus(len)))
}

/// Whether the mapping is still what it was, but for its edges.
fn same(a: &Vma, b: &Vma) -> bool {
    (a.flags, a.file, a.uffd, a.policy) == (b.flags, b.file, b.uffd, b.policy)
}

/// Which case a part of the range was: from where it lay in the VMA that it was of, if any, and how
/// far the VMA reaches that has it now.
fn case(part: (Page, Page), was: Option<&Vma>, now: &Vma, last: bool) -> Option<usize> {
    let (left, right) = (now.start < part.0, last && now.end > part.1);
    match was {
        None => match (left, right) {
            (true, true) => Some(1),
            (true, false) => Some(2),
            (false, true) => Some(3),
            (false, false) => None,
        },
        Some(was) => match (was.start < part.0, part.1 < was.end, left, right) {
            (true, false, false, true) => Some(4),
            (false, true, true, false) => Some(5),
            (false, false, true, true) => Some(6),
            (false, false, true, false) => Some(7),
            (false, false, false, true) => Some(8),
            _ => None,
        },
    }
}

/// The cases that an operation on `range` met.
fn met(op: &Op, before: &AddressSpace, after: &AddressSpace, range: (Page, Page)) -> Vec<usize> {
    let makes =
        matches!(op, Op::Mmap { .. } | Op::Mremap { .. } | Op::Copy { .. } | Op::CopyVma { .. });
    if makes {
        // The range was unmapped first, whatever was there.
        let now = after.vma_at(range.0);
        return now.and_then(|now| case(range, None, now, true)).into_iter().collect();
    }
    let parts = before.vmas().iter().filter(|vma| vma.start < range.1 && range.0 < vma.end);
    parts
        .filter_map(|was| {
            let part = (was.start.max(range.0), was.end.min(range.1));
            let now = after.vma_at(part.0).filter(|now| !same(was, now))?;
            // What follows in the range joins this part, not this part it.
            case(part, Some(was), now, part.1 == range.1)
        })
        .collect()
}

/// How often a program meets each case, within an address space and by copies from another.
pub fn merge_cases(program: &Program) -> (Cases, Cases) {
    let (mut within, mut across) = ([0; CASES], [0; CASES]);
    let mut machine = Reference::new();
    machine.reset(&program.limits);
    let mut seen = Observation::default();
    for op in &program.ops {
        let before = seen.spaces.clone();
        machine.step(op, &mut seen);
        let Some((process, start, end)) = reach(op, &seen) else { continue };
        let other = match *op {
            Op::Copy { src, .. } | Op::CopyVma { src, .. } => usize::from(src.get().0) != process,
            _ => false,
        };
        let cases = if other { &mut across } else { &mut within };
        for n in met(op, &before[process], &seen.spaces[process], (start, end)) {
            cases[n - 1] += 1;
        }
    }
    (within, across)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_between_two_others_is_case_1_and_a_copy_beside_one_is_of_another_mm() {
        let cases = |text: &str| merge_cases(&text.parse().expect("a program"));
        let between = "mmap 0 0 1 rw anon_private\nmmap 0 2 1 rw anon_private\n\
                       mmap 0 1 1 rw anon_private\n";
        assert_eq!(cases(between), ([1, 0, 0, 0, 0, 0, 0, 0], [0; CASES]));
        let beside = "mmap 0 0 2 rw anon_private\nfork 0\nmunmap 1 1 1\n\
                      copy 1 0 1 0 1 FIXED\n";
        assert_eq!(cases(beside), ([0; CASES], [0, 1, 0, 0, 0, 0, 0, 0]));
    }
}
