//! Which points of the contract of a copy programs put to the test (the table is in
//! `reference/src/contract.rs`): a point that no program of a corpus reaches is one that the corpus
//! says nothing of.

use vmadiff_machine::operand::{Len, Page, Process};
use vmadiff_machine::{Machine as _, Observation, Op, PageSet, Program, VmFlags};
use vmadiff_reference::Reference;

/// The points of the contract.
pub const POINTS: usize = 10;

/// How often each point was put to the test.
pub type Points = [usize; POINTS];

/// What a copy loses with its flags cleared.
const LOST: VmFlags = VmFlags::UFFD
    .union(VmFlags::LOCK)
    .union(VmFlags::VM_MERGEABLE)
    .union(VmFlags::VM_WIPEONFORK)
    .union(VmFlags::VM_DONTCOPY);

/// For each point, whether a copy of `len` pages from `page` of `src` to `to` was one where it could
/// have been broken.
fn reached(
    (src, page, len): (Process, Page, Len),
    (dst, to): (Process, Page),
    before: &Observation,
    after: &Observation,
) -> [bool; POINTS] {
    let done = after.result.is_ok();
    let source = before.spaces[usize::from(src.0)].vma_at(page).filter(|_| done);
    let copy = after.copy.filter(|_| done);
    let distance = page.0.abs_diff(to.0);
    let range: PageSet = ((1 << len.0) - 1) << page.0;
    [
        // A duplicate, with an anon_vma and chain to share.
        source.is_some_and(|vma| vma.anon_vma.is_some()) && copy.is_some_and(|c| !c.merged),
        done && src != dst,
        source.is_some_and(|vma| vma.flags.intersects(LOST)),
        copy.is_some_and(|copy| copy.merged),
        copy.is_some_and(|copy| copy.source_redirected),
        !done && src == dst && distance < len.0,
        source.is_some_and(|vma| vma.flags.contains(VmFlags::VM_ACCOUNT)),
        copy.is_some_and(|copy| copy.need_rmap_locks),
        done && before.spaces[usize::from(src.0)].anon_pages & range != 0,
        !done,
    ]
}

/// How often a program puts each point to the test: its copies, by either call.
pub fn contract_points(program: &Program) -> Points {
    let mut points = [0; POINTS];
    let mut machine = Reference::new();
    machine.reset(&program.limits);
    let mut seen = Observation::default();
    for op in &program.ops {
        let before = seen.clone();
        machine.step(op, &mut seen);
        let (src, page, len, to) = match *op {
            Op::Copy { src, page, len, dst_page, .. } => {
                (src, page, len, seen.result.map_or(dst_page.get(), Page))
            }
            Op::CopyVma { src, page, len, dst_page, .. } => (src, page, len, dst_page.get()),
            _ => continue,
        };
        let from = (src.get(), page.get(), len.get());
        for (count, here) in
            points.iter_mut().zip(reached(from, (op.process(), to), &before, &seen))
        {
            *count += usize::from(here);
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The points, counted from 1, that a program puts to the test.
    fn points(text: &str) -> Vec<usize> {
        let points = contract_points(&text.parse().expect("a program"));
        (1..=POINTS).filter(|n| points[n - 1] > 0).collect()
    }

    #[test]
    fn a_copy_tests_the_points_that_it_could_break() {
        let copy = |op: &str| points(&format!("mmap 0 4 3 rw anon_private LOCKED\nfork 0\n{op}\n"));
        assert_eq!(copy("copy 1 4 2 0 10 FIXED"), [1, 2, 3, 7, 9]);
        // Beside the mapping that the fork has there; its anon_vma is another one.
        assert_eq!(copy("copy 0 4 2 0 10 FIXED"), [1, 3, 7, 9]);
        assert_eq!(copy("copy 0 4 2 0 5 FIXED"), [6, 10]);
        assert_eq!(copy("copy 0 9 2 0 5 FIXED"), [10]);
        // Never faulted: the offset fits the new address, and the pages before it.
        let beside = "mmap 0 4 3 rw anon_private\ncopy 0 4 1 0 7 FIXED\n";
        assert_eq!(points(beside), [4, 5, 7, 8]);
    }
}
