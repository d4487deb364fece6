//! What kernels after 5.2.1 are known to do differently: rules by name.
//!
//! A rule says what the kernel does *instead*, where that can be said in terms of what the
//! reference knows: then the run goes on. Where it cannot, the rule *explains* a difference: then
//! the program ends there, for what follows would be compared with another history.
//!
//! Which rules hold on a kernel is not looked up by its version, for distributions port changes
//! back: each rule has a program, `corpus/kernel/NAME.txt`, whose last operation shows it.

use vmadiff_machine::operand::{
    ARENA_PAGES, Advice, END_PAGES, Len, Mode, MremapFlags, Onfault, Page,
};
use vmadiff_machine::{Errno, Limits, Observation, Op, VmFlags, Vma};

/// A difference between reference and kernel.
#[derive(Clone, Copy, Debug)]
pub struct Difference<'a> {
    /// The operation after which they differ.
    pub op: &'a Op,
    /// The limits of the program.
    pub limits: &'a Limits,
    /// What the reference showed before.
    pub before: &'a Observation,
    /// What the reference shows.
    pub model: &'a Observation,
    /// What of it the kernel could show.
    pub expected: &'a Observation,
    /// What the kernel shows.
    pub shown: &'a Observation,
}

/// What a kernel does in place of an operation.
#[derive(Clone, Debug)]
pub enum Instead {
    /// Nothing; it answers that.
    Answers(Result<u8, Errno>),
    /// What the original kernel does for these operations, up to the first that fails. It answers
    /// as the first, or as the one that fails, or with that error behind the last.
    Does(Vec<Op>, Option<Errno>),
    /// Something that no operations of the original kernel come to: the program ends before it.
    Unnameable,
}

type IsInstead = fn(&Op, &Observation, &Limits) -> Option<Instead>;
type Answers = fn(&Op, &Observation, &Observation) -> Option<Result<u8, Errno>>;
type Explains = fn(&Difference) -> bool;
type Begins = fn(&Op, &Observation, &Observation) -> bool;

/// Something that a kernel does otherwise than 5.2.1.
#[derive(Debug)]
pub struct Rule {
    /// What it is called.
    pub name: &'static str,
    /// The first version of Linux that it holds on; "-" where it is no matter of the version.
    pub since: &'static str,
    /// What is different.
    pub what: &'static str,
    /// Where that comes from: kernel function, and the title of the change where it is known.
    pub cite: &'static str,
    /// A program whose last operation shows it.
    pub program: &'static str,
    how: How,
}

#[derive(Debug)]
enum How {
    /// It does something else.
    Instead(IsInstead),
    /// It does the same and answers otherwise.
    Answers(Answers),
    /// The difference is seen at once.
    Explains(Explains),
    /// Something that is not shown is different from the operation on that the first function
    /// tells; it explains those differences later that the second tells.
    Hidden(Begins, Explains),
}

impl Rule {
    /// What the kernel does instead of `op`, if this rule says so, where the reference has shown
    /// `before`.
    pub fn instead(&self, op: &Op, before: &Observation, limits: &Limits) -> Option<Instead> {
        match self.how {
            How::Instead(instead) => instead(op, before, limits),
            _ => None,
        }
    }

    /// What the kernel answers, if this rule says so, where the reference shows `after`.
    pub fn answers(
        &self,
        op: &Op,
        before: &Observation,
        after: &Observation,
    ) -> Option<Result<u8, Errno>> {
        match self.how {
            How::Answers(answers) => answers(op, before, after),
            _ => None,
        }
    }

    /// Whether something that is not shown is different from this operation on.
    pub fn begins(&self, op: &Op, before: &Observation, after: &Observation) -> bool {
        matches!(self.how, How::Hidden(begins, _) if begins(op, before, after))
    }

    /// Whether the difference is of this kind; `begun` whether it [begins](Rule::begins) earlier in
    /// the program.
    pub fn explains(&self, difference: &Difference, begun: bool) -> bool {
        match self.how {
            How::Explains(explains) => explains(difference),
            How::Hidden(_, explains) => begun && explains(difference),
            How::Instead(_) | How::Answers(_) => false,
        }
    }
}

macro_rules! rules {
    ($($name:literal since $since:literal: $what:literal; $cite:literal; $how:ident($($function:expr),*);)*) => {
        /// Every rule.
        pub static RULES: &[Rule] = &[$(Rule {
            name: $name,
            since: $since,
            what: $what,
            cite: $cite,
            program: include_str!(concat!("../../corpus/kernel/", $name, ".txt")),
            how: How::$how($($function),*),
        },)*];
    };
}

rules! {
    "mbind-holes" since "5.5":
        "mbind with a policy refuses any hole in the range, and the default policy none";
        "queue_pages_test_walk(), “mm/mempolicy.c: fix checking unmapped holes for mbind”";
        Instead(mbind_holes);
    "wipeonfork-anon-vma" since "5.7":
        "a VM_WIPEONFORK mapping has no anon_vma in the child until it is touched, so that it merges";
        "dup_mmap(), “mm: don't prepare anon_vma if vma has VM_WIPEONFORK”";
        Hidden(wipes_on_fork, is_where_vmas_end);
    "mremap-unmapped-first" since "5.16":
        "mremap looks for the mapping before it looks for overlaps and limits: EFAULT where there is none; until 6.17";
        "mremap(), “mm, hugepages: add mremap() support for hugepage backed vma”";
        Instead(mremap_unmapped_first);
    "mremap-unmapped" since "5.16":
        "mremap answers EFAULT where nothing is mapped, even to shrink, and does nothing";
        "mremap(), “mm, hugepages: add mremap() support for hugepage backed vma”";
        Instead(mremap_unmapped);
    "madvise-cut-eagain" since "5.17":
        "madvise answers EAGAIN where a cut is one VMA too many";
        "madvise_vma_behavior(), “mm: rearrange madvise code to allow for reuse”";
        Answers(madvise_cut);
    "mlock-onfault" since "5.18":
        "mlock2 with MLOCK_ONFAULT does not look whether the memory is accessible";
        "populate_vma_page_range(), “mm/munlock: delete FOLL_MLOCK and FOLL_POPULATE”";
        Answers(mlock_onfault);
    "mremap-grow-merges" since "5.19":
        "a mapping that grows in place merges with what it grows up to";
        "mremap(), vma_merge(), “mm: add merging after mremap resize”";
        Explains(mremap_grow_merges);
    "anon-vma-reuse" since "6.0":
        "a forked VMA does not take up again an anon_vma that another VMA has, so that two VMAs of one that was split do not merge";
        "anon_vma_clone(), “mm: rmap: fix anon_vma->degree ambiguity leading to double-reuse”";
        Hidden(takes_up_again, is_where_vmas_end);
    "mmap-merges-next" since "6.1":
        "mmap joins what it maps with the mapping above first, and then with the one below only where the anon_vma of that is the same; until 6.11";
        "mmap_region(), “mm/mmap: use advanced maple tree API for mmap_region()”";
        Explains(mmap_merges_next);
    "uffd-offset" since "6.4":
        "where a userfaultfd range begins inside a VMA, merging looks at the page offset there, not at that of the VMA's start";
        "userfaultfd_register(), “mm/uffd: fix vma operation where start addr cuts part of vma”";
        Explains(uffd_offset);
    "mprotect-uncharge" since "6.5":
        "anonymous memory that was never faulted is not charged any more when mprotect forbids writing";
        "mprotect_fixup(), “mm/mprotect: allow unfaulted VMAs to be unaccounted on mprotect()”";
        Explains(mprotect_uncharge);
    "mmap-cuts-first" since "6.12":
        "mmap cuts what it will replace before it looks at limits: where it fails, the cuts stay";
        "mmap_region(), vms_gather_munmap_vmas(), series “Avoid MAP_FIXED gap exposure”";
        Explains(mmap_cuts_first);
    "merge-unfaulted" since "6.16":
        "a VMA that was never faulted takes in a range that was, if that hangs on one anon_vma only";
        "is_mergeable_anon_vma(), “mm/vma: fix incorrectly disallowed anonymous VMA merges”";
        Explains(merge_unfaulted);
    "mremap-several" since "6.17":
        "a move without resizing moves every mapping in the range, and keeps the holes between them";
        "remap_move(), “mm/mremap: permit mremap() move of multiple VMAs”";
        Instead(mremap_several);
    "mremap-checks-first" since "6.17":
        "a move looks at everything that can be wrong before it unmaps the destination";
        "check_prep_vma(), “mm/mremap: check remap conditions earlier”";
        Instead(mremap_checks_first);
    "uffd-unregister-other" since "6.17":
        "a mapping that another userfaultfd context watches is not unregistered: EINVAL";
        "userfaultfd_unregister(), “userfaultfd: prevent unregistering VMAs through a different userfaultfd”";
        Explains(uffd_unregister_other);
    "execute-only" since "-":
        "with protection keys, memory that may only be executed cannot be read (4.9, but of the processor)";
        "execute_only_pkey()";
        Explains(execute_only);
}

/// What a process has mapped in `page..page + len`.
fn mapped(before: &Observation, process: u8, page: Page, len: Len) -> Vec<Vma> {
    let (start, end) = (page, page.plus(len));
    let vmas = before.spaces[usize::from(process)].vmas().iter();
    vmas.filter(|vma| vma.start < end && start < vma.end).copied().collect()
}

fn mbind_holes(op: &Op, before: &Observation, _: &Limits) -> Option<Instead> {
    let Op::Mbind { process, page, len, mode } = *op else { return None };
    let (start, end) = (page.get(), page.get().plus(len.get()));
    let vmas = mapped(before, process.get().0, start, len.get());
    let (first, last) = (vmas.first()?, vmas.last()?);
    if mode.get() != Mode::Default {
        // Holes elsewhere the reference refuses as well.
        return (last.end < end).then_some(Instead::Answers(Err(Errno::EFAULT)));
    }
    (first.start > start).then(|| {
        let len = Len(end.0 - first.start.0).into();
        let op = Op::Mbind { process, page: first.start.into(), len, mode };
        Instead::Does(vec![op], None)
    })
}

/// An `mremap` of a process that is there, to some pages.
struct Mremap {
    process: u8,
    page: Page,
    old_len: Len,
    new_len: Len,
    new_page: Page,
    moves: bool,
    /// What is mapped at `page`.
    vma: Option<Vma>,
    /// It moves, and the ranges overlap or there are too many VMAs for it (`mremap_to()`).
    refused: bool,
}

impl Mremap {
    fn of(op: &Op, before: &Observation, limits: &Limits) -> Option<Mremap> {
        let Op::Mremap { process, page, old_len, new_len, flags, new_page } = *op else {
            return None;
        };
        let (page, old_len, process) = (page.get(), old_len.get(), process.get().0);
        let (new_page, new_len) = (new_page.get(), new_len.get());
        let space = &before.spaces[usize::from(process)];
        if !space.alive || new_len.0 == 0 {
            return None;
        }
        let moves = flags.get() == MremapFlags::MaymoveFixed;
        let overlaps = page.plus(old_len) > new_page && new_page.plus(new_len) > page;
        let full = space.vmas().len() as u64 + 6 > u64::from(limits.max_map_count());
        let refused = moves && (overlaps || full);
        let vma = space.vma_at(page).copied();
        Some(Mremap { process, page, old_len, new_len, new_page, moves, vma, refused })
    }
}

const EFAULT: Instead = Instead::Answers(Err(Errno::EFAULT));

fn mremap_unmapped_first(op: &Op, before: &Observation, limits: &Limits) -> Option<Instead> {
    let mremap = Mremap::of(op, before, limits)?;
    (mremap.vma.is_none() && mremap.refused).then_some(EFAULT)
}

fn mremap_unmapped(op: &Op, before: &Observation, limits: &Limits) -> Option<Instead> {
    let mremap = Mremap::of(op, before, limits)?;
    (mremap.vma.is_none() && !mremap.refused).then_some(EFAULT)
}

fn mremap_several(op: &Op, before: &Observation, limits: &Limits) -> Option<Instead> {
    let Op::Mremap { process, flags, .. } = *op else { return None };
    let Mremap { page, old_len: len, new_len, new_page, moves, vma, refused, .. } =
        Mremap::of(op, before, limits)?;
    let end = page.plus(len);
    if !moves || refused || len != new_len || vma?.end >= end {
        return None;
    }
    let mut moves = Vec::new();
    for vma in mapped(before, process.get().0, page, len) {
        // One that userfaultfd watches moves alone.
        if vma.flags.intersects(VmFlags::UFFD) {
            return Some(Instead::Does(moves, Some(Errno::EFAULT)));
        }
        let from = vma.start.max(page);
        let part = Len(vma.end.min(end).0 - from.0).into();
        let to = new_page.plus(Len(from.0 - page.0));
        // A part may begin past the arena, where none of its own could.
        if from.max(to).0 >= ARENA_PAGES as u8 {
            return Some(Instead::Unnameable);
        }
        moves.push(Op::Mremap {
            process,
            page: from.into(),
            old_len: part,
            new_len: part,
            flags,
            new_page: to.into(),
        });
    }
    Some(Instead::Does(moves, None))
}

fn mremap_checks_first(op: &Op, before: &Observation, limits: &Limits) -> Option<Instead> {
    let Mremap { process, page, old_len, new_len, moves, vma, refused, .. } =
        Mremap::of(op, before, limits)?;
    let vma = vma.filter(|_| moves && !refused)?;
    // What is past the new length goes first, in any kernel.
    let old_len = old_len.min(new_len);
    let counters = &before.spaces[usize::from(process)].counters;
    let more = i64::from(new_len.0) - i64::from(old_len.0);
    let past = |limit, used| more > 0 && used + more > i64::from(limit);
    let error = if old_len.0 == 0 && !vma.flags.contains(VmFlags::VM_MAYSHARE) {
        Errno::EINVAL
    } else if page.plus(old_len) > vma.end {
        Errno::EFAULT
    } else if vma.flags.contains(VmFlags::VM_LOCKED)
        && past(limits.max_locked(), counters.locked_vm)
    {
        Errno::EAGAIN
    } else if past(limits.max_address_space(), counters.total_vm) {
        Errno::ENOMEM
    } else {
        return None;
    };
    Some(Instead::Answers(Err(error)))
}

fn wipes_on_fork(op: &Op, _: &Observation, after: &Observation) -> bool {
    let (Op::Fork { .. }, Ok(child)) = (op, after.result) else { return false };
    let wiped = |vma: &Vma| vma.flags.contains(VmFlags::VM_WIPEONFORK) && vma.anon_vma.is_some();
    after.spaces[usize::from(child)].vmas().iter().any(wiped)
}

fn takes_up_again(op: &Op, _: &Observation, after: &Observation) -> bool {
    let (Op::Fork { .. }, Ok(child)) = (op, after.result) else { return false };
    let vmas = || after.spaces.iter().flat_map(|space| space.vmas());
    let shared = |anon_vma| vmas().filter(|vma| vma.anon_vma == Some(anon_vma)).count() > 1;
    let space = &after.spaces[usize::from(child)];
    // A VMA on one anon_vma only was wiped: see "wipeonfork-anon-vma".
    let forked = |vma: &&Vma| space.chain(vma).len() > 1;
    space.vmas().iter().filter(forked).filter_map(|vma| vma.anon_vma).any(shared)
}

/// Whether every page shows the same, but for flags in `ignored`, and VMAs may end elsewhere.
fn is_same_by_page(difference: &Difference, ignored: VmFlags) -> bool {
    is_same_by_page_but(difference, ignored, |l, r| {
        let pgoff = |vma: &Vma| vma.pgoff.0.wrapping_sub(vma.start.0.into());
        pgoff(l) == pgoff(r)
    })
}

/// The same, with another idea of when page offsets are the same.
fn is_same_by_page_but(
    difference: &Difference,
    ignored: VmFlags,
    same_offset: fn(&Vma, &Vma) -> bool,
) -> bool {
    let Difference { expected, shown, .. } = difference;
    expected.result == shown.result
        && expected.spaces.iter().zip(&shown.spaces).all(|(expected, shown)| {
            let same = |page| match (expected.vma_at(page), shown.vma_at(page)) {
                (None, None) => true,
                (Some(l), Some(r)) => {
                    ignored.contains(l.flags ^ r.flags)
                        && l.policy == r.policy
                        && l.file.is_some() == r.file.is_some()
                        && same_offset(l, r)
                }
                _ => false,
            };
            expected.alive == shown.alive
                && expected.anon_pages == shown.anon_pages
                && (0..END_PAGES as u8).map(Page).all(same)
        })
}

fn is_where_vmas_end(difference: &Difference) -> bool {
    is_same_by_page(difference, VmFlags::empty())
}

fn mlock_onfault(op: &Op, _: &Observation, after: &Observation) -> Option<Result<u8, Errno>> {
    let Op::Mlock { process, page, len, onfault } = *op else { return None };
    let (process, start) = (process.get().0, page.get());
    let vmas = mapped(after, process, start, len.get());
    let locked: u8 = vmas
        .iter()
        .filter(|vma| vma.flags.contains(VmFlags::LOCK))
        .map(|vma| vma.end.min(start.plus(len.get())).0 - vma.start.max(start).0)
        .sum();
    // All of it was locked: what failed is populating.
    let populating = after.result == Err(Errno::ENOMEM) && locked == len.get().0;
    (onfault.get() == Onfault::Yes && populating).then_some(Ok(0))
}

fn uffd_offset(difference: &Difference) -> bool {
    let (Op::UffdRegister { process, page, .. } | Op::UffdUnregister { process, page, .. }) =
        *difference.op
    else {
        return false;
    };
    let space = &difference.before.spaces[usize::from(process.get().0)];
    // The original kernel's mistake may give pages another offset, which shows where it is a file's.
    space.vma_at(page.get()).is_some_and(|vma| vma.start < page.get())
        && is_same_by_page_but(difference, VmFlags::empty(), |_, _| true)
}

fn mprotect_uncharge(difference: &Difference) -> bool {
    let Op::Mprotect { process, page, len, .. } = *difference.op else { return false };
    let (before, process) = (difference.before, process.get().0);
    let uncharged = |vma: &Vma| {
        // What was wiped has an anon_vma only in the original kernel: "wipeonfork-anon-vma".
        let unfaulted = vma.anon_vma.is_none() || vma.flags.contains(VmFlags::VM_WIPEONFORK);
        vma.flags.contains(VmFlags::VM_ACCOUNT) && vma.file.is_none() && unfaulted
    };
    // What is not charged merges with other neighbours, so that a limit is met elsewhere.
    let Difference { limits, expected, shown, .. } = difference;
    let other_limit = limits.map_count.is_some()
        && matches!(
            (expected.result, shown.result),
            (Ok(_), Err(Errno::ENOMEM)) | (Err(Errno::ENOMEM), Ok(_))
        );
    mapped(before, process, page.get(), len.get()).iter().any(uncharged)
        && (other_limit || is_same_by_page(difference, VmFlags::VM_ACCOUNT))
}

fn madvise_cut(op: &Op, _: &Observation, after: &Observation) -> Option<Result<u8, Errno>> {
    let Op::Madvise { process, page, len, advice } = *op else { return None };
    let (start, end) = (page.get(), page.get().plus(len.get()));
    // ENOMEM is for holes, too. But a cut that was made leaves no VMA beyond the range.
    let uncut =
        |vma: &Vma| (vma.start < start || vma.end > end) && !is_as_advised(vma.flags, advice.get());
    let vmas = mapped(after, process.get().0, start, len.get());
    (after.result == Err(Errno::ENOMEM) && vmas.iter().any(uncut)).then_some(Err(Errno::EAGAIN))
}

/// Whether the advice leaves a mapping with these flags as it is.
fn is_as_advised(flags: VmFlags, advice: Advice) -> bool {
    use VmFlags as F;
    let read_ahead = flags & (F::VM_RAND_READ | F::VM_SEQ_READ);
    match advice {
        Advice::Normal => read_ahead.is_empty(),
        Advice::Random => read_ahead == F::VM_RAND_READ,
        Advice::Sequential => read_ahead == F::VM_SEQ_READ,
        Advice::Dontfork => flags.contains(F::VM_DONTCOPY),
        Advice::Dofork => !flags.contains(F::VM_DONTCOPY),
        Advice::Dontdump => flags.contains(F::VM_DONTDUMP),
        Advice::Dodump => !flags.contains(F::VM_DONTDUMP),
        Advice::Wipeonfork => flags.contains(F::VM_WIPEONFORK),
        Advice::Keeponfork => !flags.contains(F::VM_WIPEONFORK),
        Advice::Mergeable => flags.intersects(F::VM_MERGEABLE | F::VM_MAYSHARE),
        Advice::Unmergeable => !flags.contains(F::VM_MERGEABLE),
        Advice::Willneed
        | Advice::Dontneed
        | Advice::Free
        | Advice::Hugepage
        | Advice::Nohugepage => true,
    }
}

fn mmap_cuts_first(difference: &Difference) -> bool {
    let failed = matches!(difference.op, Op::Mmap { .. }) && difference.shown.result.is_err();
    failed && is_where_vmas_end(difference)
}

fn merge_unfaulted(difference: &Difference) -> bool {
    let mut merged = 0;
    let all_unfaulted =
        difference.model.spaces.iter().zip(&difference.shown.spaces).all(|(m, s)| {
            m.vmas().windows(2).all(|pair| {
                let (left, right) = (&pair[0], &pair[1]);
                let edge = left.end;
                let adjacent = edge == right.start;
                // Where a VMA ends for the reference and not for the kernel.
                if !adjacent || s.vma_at(edge).is_none_or(|vma| vma.start == edge) {
                    return true;
                }
                merged += 1;
                left.anon_vma.is_some() != right.anon_vma.is_some()
            })
        });
    merged > 0 && all_unfaulted && is_where_vmas_end(difference)
}

fn mremap_grow_merges(difference: &Difference) -> bool {
    let Op::Mremap { process, page, new_len, flags, .. } = *difference.op else { return false };
    let end = page.get().plus(new_len.get());
    let goes_on = |seen: &Observation| {
        let vma = seen.spaces[usize::from(process.get().0)].vma_at(page.get());
        vma.is_some_and(|vma| vma.end > end)
    };
    flags.get() == MremapFlags::InPlace
        && !goes_on(difference.model)
        && goes_on(difference.shown)
        && is_where_vmas_end(difference)
}

fn mmap_merges_next(difference: &Difference) -> bool {
    let Op::Mmap { process, page, len, .. } = *difference.op else { return false };
    let (start, end) = (page.get(), page.get().plus(len.get()));
    let vma = |seen: &Observation| {
        let vma = seen.spaces[usize::from(process.get().0)].vma_at(start)?;
        Some((vma.start < start, vma.end > end))
    };
    vma(difference.model).is_some_and(|(below, _)| below)
        && vma(difference.shown) == Some((false, true))
        && is_where_vmas_end(difference)
}

fn uffd_unregister_other(difference: &Difference) -> bool {
    let Op::UffdUnregister { process, page, len, .. } = *difference.op else { return false };
    let vmas = mapped(difference.before, process.get().0, page.get(), len.get());
    difference.shown.result == Err(Errno::EINVAL) && vmas.iter().any(|vma| vma.uffd.is_some())
}

fn execute_only(difference: &Difference) -> bool {
    let (process, page, len) = match *difference.op {
        Op::Touch { process, page, .. } => (process, page, Len(1)),
        Op::Mlock { process, page, len, .. } => (process, page, len.get()),
        _ => return false,
    };
    let Difference { before, expected, shown, .. } = difference;
    let only = |vma: &Vma| vma.flags & VmFlags::ACCESS == VmFlags::VM_EXEC;
    mapped(before, process.get().0, page.get(), len).iter().any(only)
        && expected.result.is_ok()
        && matches!(shown.result, Err(Errno::EFAULT | Errno::ENOMEM))
}
