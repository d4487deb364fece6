//! The reasons of the reference, checked against its observations on random programs: each decision
//! has a reason, and each reason is true.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use vmadiff_fuzzing::generate::Mix;
use vmadiff_fuzzing::mutate::ProgramMutator;
use vmadiff_lockstep::compare::{Comparer, Scope};
use vmadiff_machine::operand::{END_PAGES, MAX_PROCESSES, Page, Process, Resource};
use vmadiff_machine::{
    AddressSpace, Limits, Machine, Observation, Op, Opcode, Program, VmFlags, Vma,
};
use vmadiff_reference::refusal::{Progress, Rule};
use vmadiff_reference::why::{
    CopyKind, CopyReason, ForkRule, MergeBarrier, MergeDecision, Neighbour, OffsetReason, Point,
};
use vmadiff_reference::{Range, Reference, Refusal, Why};

/// One operation of a program, with its observations and reasons.
struct Step<'a> {
    op: &'a Op,
    /// The limits of each process.
    limits: &'a [Limits; MAX_PROCESSES],
    /// The machine before the operation.
    machine: &'a Reference,
    before: &'a Observation,
    after: &'a Observation,
    why: &'a Why,
}

fn space(seen: &Observation, process: Process) -> &AddressSpace {
    &seen.spaces[usize::from(process.0)]
}

fn is_mapped(space: &AddressSpace, range: Range) -> bool {
    (range.start.0..range.end.0).any(|page| space.vma_at(Page(page)).is_some())
}

/// Returns the name of an enum's variant.
fn variant(value: &impl std::fmt::Debug) -> String {
    let text = format!("{value:?}");
    text.split([' ', '(', '{']).next().unwrap_or_default().to_owned()
}

/// Programs for two refusals that the corpus does not have: a hole that is too short for a copy, and
/// a device for `mbind`.
const RARE: [&str; 2] = [
    "mmap 0 1 4 rw anon_private\nfork 0\nmmap 1 62 63 rw file0_shared\nmmap 1 5 57 rw anon_shared\n\
     copy 1 1 4 0 2\n",
    "mmap 0 0 1 rw anon_private\nmmap 0 1 1 rw special\nmmap 0 2 1 rw anon_private\nmbind 0 0 3 BIND\n",
];

/// Returns the hand-written programs of the corpus.
fn corpus() -> Vec<Program> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../corpus");
    let mut files = Vec::new();
    for folder in ["faults", "review", "seeds"] {
        let entries = fs::read_dir(corpus.join(folder)).expect("a folder of programs");
        files.extend(entries.map(|entry| entry.expect("a file").path()));
    }
    files.sort();
    let program = |file: &PathBuf| {
        let text = fs::read_to_string(file).expect("text");
        text.parse().unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    };
    let rare = RARE.iter().map(|text| text.parse().expect("a program"));
    files.iter().map(program).chain(rare).collect()
}

/// Calls `check` with every operation of the programs of the corpus, and of `mutants` programs that
/// are mutated from them. A quarter of the mutated programs runs under tight limits.
fn each_step(seed: u64, mutants: usize, mut check: impl FnMut(&Step<'_>)) {
    let corpus = corpus();
    let mut session = mutatis::Session::new().seed(seed);
    let mut comparer = Comparer::new(Scope::Models);
    for n in 0..corpus.len() + mutants {
        let mut program = corpus[n % corpus.len()].clone();
        for _ in 0..(n / corpus.len() * 4) {
            // The mutator fails only if nothing can be mutated; then the program stays unchanged.
            let _ = session.mutate_with(&mut ProgramMutator(Mix::ALL), &mut program);
        }
        if n >= corpus.len() && n.is_multiple_of(4) {
            let limit = |max: usize| Some((n / 4 % max) as u8);
            let (map_count, lock) = (limit(7), limit(5));
            program.limits = match n / 4 % 3 {
                0 => Limits { map_count, ..Limits::default() },
                1 => Limits { lock, ..Limits::default() },
                _ => Limits {
                    map_count,
                    lock,
                    address_space: limit(40),
                    processes: limit(4),
                    fail: None,
                },
            };
        }
        let (mut machine, mut plain) = (Reference::new(), Reference::new());
        machine.reset(&program.limits);
        plain.reset(&program.limits);
        comparer.reset();
        let (mut after, mut shown) = (Observation::default(), Observation::default());
        let mut limits = [program.limits; MAX_PROCESSES];
        for op in &program.ops {
            let (before, old) = (after.clone(), machine.clone());
            let why = machine.step_explained(op, &mut after);
            plain.step(op, &mut shown);
            assert!(comparer.same_in_full(&after, &shown), "{op}: explained, not the same");
            let step = Step {
                op,
                limits: &limits,
                machine: &old,
                before: &before,
                after: &after,
                why: &why,
            };
            check(&step);
            let process = usize::from(op.process().0);
            match (op, after.result) {
                (Op::Prlimit { resource, max, .. }, Ok(_)) => match resource.get() {
                    Resource::As => limits[process].address_space = Some(max.get().0),
                    Resource::Memlock if program.limits.lock.is_some() => {
                        limits[process].lock = Some(max.get().0);
                    }
                    Resource::Memlock => {}
                },
                (Op::Fork { .. }, Ok(child)) => limits[usize::from(child)] = limits[process],
                _ => {}
            }
        }
    }
}

/// Returns whether the rule that refused a call is true of the state before the call, or of the
/// state after the call if it did some work first.
fn holds(step: &Step<'_>, refusal: &Refusal) -> bool {
    let process = refusal.process;
    let seen = if refusal.progress == Progress::Nothing { step.before } else { step.after };
    let here = space(seen, process);
    let limits = &step.limits[usize::from(process.0)];
    let at = |range: Range| here.vma_at(range.start).copied();
    let is = |range: Range| {
        at(range).is_some_and(|vma| (vma.start, vma.end) == (range.start, range.end))
    };
    let with = |range: Range, wanted: &dyn Fn(&Vma) -> bool| {
        is(range) && at(range).is_some_and(|vma| wanted(&vma))
    };
    let limited = |have: i64, limit: vmadiff_reference::refusal::Limit, max: Option<u8>| {
        (i64::from(limit.have), Some(limit.max)) == (have, max.map(u16::from))
            && limit.have + limit.more > limit.max
    };
    match refusal.rule {
        Rule::NoProcess => !here.alive,
        Rule::NoPages => step.op.bytes()[1..].contains(&0) || step.op.opcode() == Opcode::Mremap,
        Rule::NotMapped(page) => here.vma_at(page).is_none(),
        Rule::NothingMapped(range) => !range.is_empty() && !is_mapped(here, range),
        Rule::PastVma { range, vma } => is(vma) && vma.contains(range.start) && !vma.covers(range),
        Rule::Occupied(vma) => is(vma),
        Rule::NoHole { occupied, longest } => {
            let hole = |start: u8| {
                let free = (start..END_PAGES as u8).take_while(|p| here.vma_at(Page(*p)).is_none());
                free.count()
            };
            is(occupied) && (0..END_PAGES as u8).map(hole).max() == Some(longest.into())
        }
        Rule::Overlap { from, to } => from.start < to.end && to.start < from.end || from.is_empty(),
        Rule::MapCountLimit(limit) => limited(here.counters.map_count, limit, limits.map_count),
        Rule::PageLimit(limit) => limited(here.counters.total_vm, limit, limits.address_space),
        Rule::LockLimit(limit) => limited(here.counters.locked_vm, limit, limits.lock),
        Rule::LockAllLimit(limit) => limited(here.counters.total_vm, limit, limits.lock),
        Rule::ProcessLimit(limit) => {
            let alive = step.before.spaces.iter().filter(|space| space.alive).count();
            alive == usize::from(limit.have) && limit.have == limit.max
        }
        Rule::LockForbidden => limits.lock == Some(0),
        Rule::HasFlags { vma, flags } => {
            !flags.is_empty() && with(vma, &|vma| vma.flags.contains(flags))
        }
        Rule::LacksFlags { vma, flags } => {
            !flags.is_empty() && with(vma, &|vma| !vma.flags.intersects(flags))
        }
        Rule::NoAccess(vma) => with(vma, &|vma| !vma.flags.intersects(VmFlags::ACCESS)),
        Rule::OfFile { vma, .. } => with(vma, &|vma| vma.file.is_some()),
        Rule::NotOfFile(vma) => with(vma, &|vma| vma.file.is_none()),
        Rule::OfDevice(vma) => with(vma, &|vma| vma.flags.contains(VmFlags::VM_PFNMAP)),
        Rule::PastLongestFile(range) => !range.is_empty(),
        Rule::NoRegularFile => step.op.opcode() == Opcode::Ftruncate,
        Rule::NoHugePages => step.op.opcode() == Opcode::Madvise,
        // No program of these tests lets an allocation fail.
        Rule::NoMemory => false,
        Rule::Unwatchable(vma) => with(vma, &|vma| vma.close),
        Rule::SegmentDestroyed => step.before.attached.is_none(),
        // An attached VMA that begins at the page with the offset 0 would be found.
        Rule::NotAttached(page) => {
            let found = |vma: &Vma| vma.close && vma.start == page && vma.pgoff.0 == 0;
            !here.vmas().iter().any(|vma| found(vma) && !vma.flags.intersects(VmFlags::VM_SPECIAL))
        }
        Rule::MovesAlone(vma) => with(vma, &|vma| vma.close),
        Rule::Unmovable(vma) => {
            with(vma, &|vma| vma.flags.intersects(VmFlags::VM_IO | VmFlags::VM_PFNMAP))
        }
        Rule::FileReadOnly => matches!(step.op.opcode(), Opcode::Mmap | Opcode::Ftruncate),
        Rule::BeyondFile(page) => here.vma_at(page).is_some_and(|vma| vma.file.is_some()),
        Rule::Watched(vma) => with(vma, &|vma| vma.uffd.is_some()),
        Rule::WouldBlock { page, vma } => {
            vma.contains(page) && with(vma, &|vma| vma.uffd.is_some())
        }
        Rule::WatchedByOther { vma, .. } => with(vma, &|vma| vma.uffd.is_some()),
        Rule::NeverOpened(_) => {
            matches!(step.op.opcode(), Opcode::UffdUnregister | Opcode::UffdWriteprotect)
        }
        Rule::UnknownFlag => {
            matches!(step.op, Op::Mremap { flags, .. } if flags.get().keeps_source())
        }
        Rule::UnknownAdvice(_) => step.op.opcode() == Opcode::Madvise,
        Rule::UnknownOption => step.op.opcode() == Opcode::MemoryMerge,
        Rule::UnknownMode => step.op.opcode() == Opcode::UffdRegisterWp,
        Rule::UnknownIoctl => step.op.opcode() == Opcode::UffdWriteprotect,
        // Only with rules of later kernels, which these programs run without.
        Rule::WriteProtected { .. } | Rule::NotWriteProtectable(_) => false,
        Rule::UnknownCall => step.op.opcode() == Opcode::Mseal,
        Rule::NothingToLock => step.op.opcode() == Opcode::Mlockall,
        Rule::Resizes => match *step.op {
            Op::Mremap { old_len, new_len, .. } => old_len != new_len || new_len.get().0 == 0,
            _ => false,
        },
        Rule::NotAnonymous(vma) => with(vma, &|vma| vma.file.is_some()),
        Rule::PrivateDuplicate(vma) => with(vma, &|vma| !vma.flags.contains(VmFlags::VM_MAYSHARE)),
    }
}

#[test]
fn every_error_has_a_reason_that_is_true_and_no_success_has_one() {
    let mut rules = BTreeSet::new();
    let mut functions = BTreeSet::new();
    each_step(1, 3000, |step| {
        let refusal = step.why.refusal;
        assert_eq!(step.after.result.err(), refusal.map(|refusal| refusal.errno), "{}", step.op);
        let Some(refusal) = refusal else { return };
        assert!(holds(step, &refusal), "{}: {refusal:?}\n{:?}", step.op, step.before);
        assert_eq!(refusal.function.is_none(), refusal.rule == Rule::NoProcess);
        rules.insert(variant(&refusal.rule));
        functions.extend(refusal.function.map(|function| function.name()));
    });
    assert_eq!(rules.len(), 41, "{rules:?}");
    assert!(functions.len() >= 28, "{} functions: {functions:?}", functions.len());
}

/// Returns the attributes of a page that a walk over the VMAs changes.
fn attributes(space: &AddressSpace, page: u8) -> Option<(VmFlags, bool, u32)> {
    space.vma_at(Page(page)).map(|vma| (vma.flags, vma.uffd.is_some(), vma.policy.number()))
}

#[test]
fn a_refused_call_has_done_as_much_as_it_says() {
    let mut kinds = BTreeSet::new();
    let mut shorter = 0;
    each_step(2, 6000, |step| {
        let Some(refusal) = step.why.refusal else { return };
        kinds.insert(variant(&refusal.progress));
        let (before, after) = (&step.before.spaces, &step.after.spaces);
        let process = usize::from(step.op.process().0);
        match refusal.progress {
            Progress::Nothing => {
                assert_eq!(format!("{before:?}"), format!("{after:?}"), "{}", step.op);
            }
            Progress::Prepared => {
                let page = Page(step.op.bytes()[1]);
                let prepared = |spaces: &[AddressSpace]| {
                    spaces[process].vma_at(page).is_some_and(|vma| vma.anon_vma.is_some())
                };
                assert!(!prepared(before) && prepared(after), "{}", step.op);
            }
            Progress::UpTo(page) => {
                for page in page.0..END_PAGES as u8 {
                    let at = |spaces: &[AddressSpace]| attributes(&spaces[process], page);
                    assert_eq!(at(before), at(after), "{}: page {page}", step.op);
                }
                // The same call on the range below does all of its work and changes the same pages.
                let mut bytes = step.op.bytes();
                let start = bytes[1] % 64;
                if page.0 == start {
                    return;
                }
                bytes[2] = page.0 - start;
                let op = Op::from_bytes(step.op.opcode(), bytes);
                let (mut machine, mut seen) = (step.machine.clone(), step.before.clone());
                machine.step(&op, &mut seen);
                for page in start..page.0 {
                    let at = |spaces: &[AddressSpace]| attributes(&spaces[process], page);
                    assert_eq!(at(&seen.spaces), at(after), "{}: page {page}", step.op);
                }
                shorter += 1;
            }
            Progress::Unmapped => {
                let Op::Mremap { new_page, new_len, .. } = *step.op else { panic!("{}", step.op) };
                let to = Range::new(new_page.get(), new_len.get());
                assert!(!is_mapped(&after[process], to), "{}", step.op);
            }
            Progress::NotPopulated => {
                let page = step.op.bytes()[1] % 64;
                let lock = attributes(&after[process], page).map(|(flags, ..)| flags);
                assert!(
                    matches!(step.op.opcode(), Opcode::Mremap | Opcode::Mlockall | Opcode::Mmap)
                        || lock.is_some_and(|flags| flags.contains(VmFlags::VM_LOCKED)
                            || flags.intersects(VmFlags::VM_SPECIAL)),
                    "{}",
                    step.op
                );
            }
            Progress::Everything => assert_eq!(step.op.opcode(), Opcode::Madvise),
        }
    });
    assert!(kinds.len() == 6, "{kinds:?}");
    assert!(shorter > 20, "{shorter}");
}

/// Returns whether a failed condition of the merge rule is true of two VMAs.
fn differs(barrier: &MergeBarrier, new: &Vma, near: &Vma, chain: usize) -> bool {
    match *barrier {
        MergeBarrier::Flags { differ } => {
            differ == (new.flags ^ near.flags) - VmFlags::VM_SOFTDIRTY && !differ.is_empty()
        }
        MergeBarrier::Special { flags } => new.flags.contains(flags) && !flags.is_empty(),
        MergeBarrier::File { new: a, near: b } => (a, b) == (new.file, near.file) && a != b,
        // Only with a rule of later kernels, which this test does not have.
        MergeBarrier::Kept => false,
        MergeBarrier::Attachment => near.close && new.file == near.file,
        MergeBarrier::Close => near.close,
        MergeBarrier::Uffd { new: a, near: b } => (a, b) == (new.uffd, near.uffd) && a != b,
        MergeBarrier::Policy { new: a, near: b } => (a, b) == (new.policy, near.policy) && a != b,
        MergeBarrier::Offset { lower, pages, upper } => lower.plus(pages) != upper,
        MergeBarrier::AnonVma => new.anon_vma != near.anon_vma && near.anon_vma.is_some(),
        MergeBarrier::NotSingular { links, .. } => {
            usize::from(links) == chain
                && links != 1
                && new.anon_vma.is_some() != near.anon_vma.is_some()
        }
        MergeBarrier::OtherNeighbour { .. } => near.anon_vma.is_some(),
    }
}

/// Returns the decision of an operation that asks the merge rule once and unmaps nothing
/// afterwards.
fn only_decision<'a>(step: &Step<'a>) -> Option<&'a MergeDecision> {
    let [decision] = &step.why.merges[..] else { return None };
    (step.op.opcode() != Opcode::Mremap && step.after.result.is_ok()).then_some(decision)
}

#[test]
fn every_merge_decision_agrees_with_the_vmas_and_every_barrier_with_its_values() {
    let mut barriers = BTreeSet::new();
    let (mut merged, mut apart) = (0, 0);
    each_step(3, 3000, |step| {
        let Some(decision) = only_decision(step) else { return };
        let after = space(step.after, decision.process);
        let edges =
            |page: Page| after.vmas().iter().any(|vma| vma.start == page || vma.end == page);
        match decision.merged() {
            Some(whole) => {
                merged += 1;
                let vma = after.vma_at(decision.new.start).expect("the merged VMA");
                assert_eq!((vma.start, vma.end), (whole.start, whole.end), "{}", step.op);
            }
            None => {
                apart += 1;
                assert!(edges(decision.new.start) && edges(decision.new.end), "{}", step.op);
            }
        }
        let before = space(step.before, decision.process);
        for near in decision.neighbours() {
            let Some(vma) = before.vma_at(near.range.start) else { continue };
            for barrier in &near.barriers {
                barriers.insert(variant(barrier));
                let chain = before.chain(vma).len();
                assert!(differs(barrier, &decision.new, vma, chain), "{}: {near:?}", step.op);
            }
        }
        // A neighbour is reported if and only if a VMA is mapped beside the new range.
        let beside = |near: &Option<Neighbour>, page: Option<u8>| {
            let there = page.and_then(|page| before.vma_at(Page(page))).is_some();
            near.is_some() == there || step.op.opcode() == Opcode::Mmap
        };
        let (start, end) = (decision.new.start.0, decision.new.end.0);
        let inside = decision.was.is_some_and(|was| was.start < decision.new.start);
        assert!(inside || beside(&decision.left, start.checked_sub(1)), "{}", step.op);
        let inside = decision.was.is_some_and(|was| was.end > decision.new.end);
        assert!(inside || beside(&decision.right, Some(end)), "{}", step.op);
    });
    assert!(merged > 500 && apart > 500, "{merged} merged, {apart} did not");
    assert!(barriers.len() >= 9, "{barriers:?}");
}

/// Checks that the reasons of a copy or a move agree with the report of `copy_vma()`.
fn check_copy(step: &Step<'_>, copy: &CopyReason) {
    let report = step.after.copy.expect("copy_vma() ran");
    assert_eq!(copy.merged.is_some(), report.merged, "{}", step.op);
    assert_eq!(copy.redirected, report.source_redirected, "{}", step.op);
    assert_eq!(copy.rmap_locks.needed(), report.need_rmap_locks, "{}", step.op);
    let decision = step.why.copy_merge().expect("a decision");
    let whole = copy.merged.map(|vma| (vma.start, vma.end));
    assert_eq!(decision.merged().map(|range| (range.start, range.end)), whole, "{}", step.op);

    let is_copy = step.op.opcode() != Opcode::Mremap;
    assert_eq!(copy.kind == CopyKind::Move, !is_copy);
    if let CopyKind::CopyCleared(mask) = copy.kind {
        assert_eq!(copy.new.flags, copy.source.flags - mask, "{}", step.op);
        assert_eq!(copy.new.uffd, None, "{}", step.op);
    } else {
        assert_eq!(copy.new.flags, copy.source.flags, "{}", step.op);
    }
    let fresh = copy.source.anon_vma.is_none() && copy.source.file.is_none();
    assert_eq!(copy.pgoff == OffsetReason::NeverFaulted, fresh, "{}", step.op);
    if is_copy {
        let after = space(step.after, copy.process);
        let vma = after.vma_at(copy.new.start).expect("the copy");
        let pgoff = vma.pgoff.plus(copy.new.start.0 - vma.start.0);
        assert_eq!(pgoff, copy.new.pgoff, "{}", step.op);
        // The VMA of a copy is soft-dirty, and the reasons are of the moment before.
        assert_eq!(vma.flags, copy.new.flags | VmFlags::VM_SOFTDIRTY, "{}", step.op);
        assert_eq!(
            (vma.file, vma.uffd, vma.policy),
            (copy.new.file, copy.new.uffd, copy.new.policy)
        );
        assert!(vma.anon_vma.is_some() || copy.new.anon_vma.is_none(), "{}", step.op);
    }
}

#[test]
fn the_reasons_of_a_copy_agree_with_its_report_and_with_the_new_mapping() {
    let (mut copies, mut points) = (0, BTreeSet::<Point>::new());
    each_step(4, 3000, |step| {
        let is_copy = matches!(step.op.opcode(), Opcode::Copy | Opcode::CopyVma);
        if let Some(copy) = &step.why.copy {
            copies += 1;
            check_copy(step, copy);
        }
        if step.after.result.is_ok() {
            assert_eq!(step.why.copy.is_some(), step.after.copy.is_some(), "{}", step.op);
        }
        let tests = |point: u8| step.why.points.contains(&Point(point));
        let caller = space(step.before, step.op.process()).alive;
        assert_eq!(tests(10), is_copy && caller && step.after.result.is_err(), "{}", step.op);
        assert!(is_copy || step.why.points.is_empty(), "{}", step.op);
        points.extend(&step.why.points);
    });
    assert!(copies > 500, "{copies}");
    assert_eq!(points.len(), Point::COUNT, "{points:?}");
}

#[test]
fn the_reasons_of_a_fork_say_which_vmas_the_child_has() {
    let mut rules = BTreeSet::new();
    each_step(5, 3000, |step| {
        let (Op::Fork { process }, Ok(child)) = (*step.op, step.after.result) else {
            assert!(step.why.fork.is_empty());
            return;
        };
        let (parent, child) =
            (space(step.before, process.get()), space(step.after, Process(child)));
        assert_eq!(step.why.fork.len(), parent.vmas().len());
        for reason in &step.why.fork {
            rules.insert(variant(&reason.rule));
            let mapped = child.vma_at(reason.parent.start);
            assert_eq!(mapped.is_none(), reason.rule == ForkRule::LeftOut);
            let Some(vma) = mapped else { continue };
            let of = parent.vma_at(reason.parent.start).expect("the parent's");
            let links = |space: &AddressSpace, vma| space.chain(vma).len();
            let expected = match reason.rule {
                ForkRule::LeftOut | ForkRule::NeverFaulted => 0,
                ForkRule::Wiped => 1,
                ForkRule::Inherited { reused: true } => links(parent, of),
                ForkRule::Inherited { reused: false } => links(parent, of) + 1,
            };
            assert_eq!(links(child, vma), expected, "{reason:?}");
        }
    });
    assert_eq!(rules.len(), 4, "{rules:?}");
}
