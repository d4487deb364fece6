//! An operation in which an allocation fails on the right machine: the left machine is asked how it can
//! end.

use vmadiff_lockstep::divergence::Divergence;
use vmadiff_lockstep::lockstep::Lockstep;
use vmadiff_machine::observation::{Event, Vma};
use vmadiff_machine::operand::{Mode, Page, PageOffset, Process};
use vmadiff_machine::{
    Allocation, Errno, Limits, Machine, Object, Observation, Op, PageSet, Program, VmFlags,
};

/// A machine that shows one observation after each operation.
struct Shows(Vec<Observation>, usize);

/// A machine with several ways to end an operation without memory.
struct Ways {
    /// Each operation with memory.
    shows: Shows,
    ways: Vec<Observation>,
}

impl Machine for Shows {
    fn name(&self) -> &str {
        "shows"
    }

    fn reset(&mut self, _: &Limits) {
        self.1 = 0;
    }

    fn step(&mut self, _: &Op, seen: &mut Observation) {
        seen.clone_from(&self.0[self.1]);
        self.1 += 1;
    }

    fn step_failing(&mut self, _: &Op, _: Allocation, n: u32, _: &mut Observation) -> bool {
        assert_eq!(n, 0, "there was no way before");
        false
    }
}

impl Machine for Ways {
    fn name(&self) -> &str {
        "ways"
    }

    fn reset(&mut self, limits: &Limits) {
        self.shows.reset(limits);
    }

    fn step(&mut self, op: &Op, seen: &mut Observation) {
        self.shows.step(op, seen);
    }

    fn step_failing(&mut self, _: &Op, what: Allocation, n: u32, seen: &mut Observation) -> bool {
        assert_eq!(what, Allocation::Vma);
        assert!(n as usize <= self.ways.len(), "there was no way before");
        let way = self.ways.get(n as usize);
        way.map(|way| seen.clone_from(way)).is_some()
    }

    fn take_back(&mut self) -> bool {
        self.shows.1 -= 1;
        true
    }
}

/// A machine that shows the nth further operation after the nth way.
struct Hides(Ways);

impl Machine for Hides {
    fn name(&self) -> &str {
        "hides"
    }

    fn reset(&mut self, limits: &Limits) {
        self.0.reset(limits);
    }

    fn step(&mut self, op: &Op, seen: &mut Observation) {
        self.0.step(op, seen);
    }

    fn step_failing(&mut self, op: &Op, what: Allocation, n: u32, seen: &mut Observation) -> bool {
        self.0.shows.1 = n as usize + 1;
        self.0.step_failing(op, what, n, seen)
    }

    fn take_back(&mut self) -> bool {
        self.0.take_back()
    }
}

/// Returns an observation of this result, in which process 0 has this many pages in its counter.
fn shows(result: Result<u8, Errno>, total_vm: i64) -> Observation {
    let mut seen = Observation::default();
    seen.begin_step();
    seen.result = result;
    let space = seen.rewrite(Process(0));
    (space.alive, space.counters.total_vm) = (true, total_vm);
    seen
}

const NO_MEMORY: Result<u8, Errno> = Err(Errno::ENOMEM);

/// Runs two operations. The left machine ends the first one with 9 pages, and without memory with 1 or
/// 2 pages. The right machine shows `first`, and then both show `then`. Returns the signature.
fn run(first: Observation, then: (i64, i64)) -> Option<String> {
    let program: Program = "limits fail=1\nmunmap 0 1\nmunmap 0 1\n".parse().expect("a program");
    let mut right = vec![first, shows(Ok(0), then.1)];
    right[0].failed = Some(Allocation::Vma);
    let left = Ways {
        shows: Shows(vec![shows(Ok(0), 9), shows(Ok(0), then.0)], 0),
        ways: vec![shows(NO_MEMORY, 1), shows(Ok(0), 2)],
    };
    let mut lockstep = Lockstep::new(left, Shows(right, 0)).without_invariants();
    let found = lockstep.run(&program);
    assert_eq!(lockstep.failed(), Some(Allocation::Vma));
    found.map(|found| format!("{} {}", found.step, found.signature))
}

#[test]
fn an_operation_ends_in_a_way_of_the_left_machine_or_changes_nothing() {
    for (result, total_vm) in [(Ok(0), 9), (NO_MEMORY, 1), (Ok(0), 2)] {
        assert_eq!(run(shows(result, total_vm), (0, 0)), None, "{result:?} {total_vm}");
    }
    // The left machine has taken the operation back, so the next one is its first.
    assert_eq!(run(shows(NO_MEMORY, 0), (0, 9)), None);
}

#[test]
fn a_change_that_the_left_machine_does_not_know_is_a_divergence() {
    for (result, total_vm, expected) in [
        (NO_MEMORY, 2, "0 accounting/munmap/half-way-total_vm-high"),
        (NO_MEMORY, -1, "0 accounting/munmap/half-way-total_vm-low"),
        (NO_MEMORY, 9, "0 accounting/munmap/half-way-total_vm-high"),
        (Ok(0), 3, "0 accounting/munmap/total_vm-low"),
        (Ok(0), 0, "0 accounting/munmap/total_vm-low"),
        (Err(Errno::EAGAIN), 0, "0 errno/munmap/EAGAIN-for-ENOMEM"),
        (Err(Errno::EINVAL), 1, "0 errno/munmap/EINVAL-for-ENOMEM"),
    ] {
        let found = run(shows(result, total_vm), (0, 0));
        assert_eq!(found.as_deref(), Some(expected), "{result:?} {total_vm}");
    }
}

#[test]
fn the_program_goes_on_after_the_failure() {
    for (result, total_vm) in [(Ok(0), 9), (NO_MEMORY, 1), (Ok(0), 2)] {
        assert_eq!(run(shows(result, total_vm), (4, 4)), None, "{result:?} {total_vm}");
        let found = run(shows(result, total_vm), (4, 5));
        assert_eq!(found.as_deref(), Some("1 accounting/munmap/total_vm-high"), "{result:?}");
    }
}

#[test]
fn the_state_before_the_failure_is_that_of_the_operation_before() {
    let program: Program = "limits fail=2\nmunmap 0 1\nmunmap 0 1\n".parse().expect("a program");
    let left = Ways { shows: Shows(vec![shows(Ok(0), 4), shows(Ok(0), 9)], 0), ways: Vec::new() };
    let right = [4, 5].map(|total_vm| {
        let mut fails = shows(NO_MEMORY, total_vm);
        fails.failed = Some(Allocation::Vma);
        Shows(vec![shows(Ok(0), 4), fails], 0)
    });
    let [same, other] = right;
    let mut lockstep = Lockstep::new(left, same).without_invariants();
    for _ in 0..2 {
        assert!(lockstep.run(&program).is_none());
    }
    let left = Ways { shows: Shows(vec![shows(Ok(0), 4), shows(Ok(0), 9)], 0), ways: Vec::new() };
    let found = Lockstep::new(left, other).without_invariants().run(&program);
    let found = found.expect("a divergence");
    assert_eq!(found.signature.as_str(), "accounting/munmap/half-way-total_vm-high");
}

/// Runs one operation, in which the right machine shows this and lets an allocation fail. Returns the
/// signature.
fn run_one(left: impl Machine, right: &Observation, invariants: bool) -> Option<String> {
    found(left, right, invariants).map(|found| found.signature.to_string())
}

/// Runs one operation as [`run_one`] does, and returns the finding.
fn found(left: impl Machine, right: &Observation, invariants: bool) -> Option<Divergence> {
    let program: Program = "limits fail=1\nmunmap 0 1\n".parse().expect("a program");
    let mut right = right.clone();
    right.failed = Some(Allocation::Vma);
    let mut lockstep = Lockstep::new(left, Shows(vec![right], 0));
    if !invariants {
        lockstep = lockstep.without_invariants();
    }
    lockstep.run(&program)
}

/// A machine that ends its operation with memory in one way, and without memory in these.
fn ways(ordinary: Result<u8, Errno>, ways: &[Observation]) -> Ways {
    Ways { shows: Shows(vec![shows(ordinary, 0)], 0), ways: ways.to_vec() }
}

#[test]
fn an_operation_that_needs_no_memory_is_compared_with_its_one_way() {
    let other = [shows(NO_MEMORY, 1), shows(Ok(0), 2)];
    let right = shows(Err(Errno::EAGAIN), 1);
    // The call is refused for another reason.
    let found = run_one(ways(Err(Errno::EINVAL), &other), &right, false);
    assert_eq!(found.as_deref(), Some("errno/munmap/EAGAIN-for-EINVAL"));
    // The call needs memory.
    for ordinary in [NO_MEMORY, Ok(0)] {
        let found = run_one(ways(ordinary, &other), &right, false);
        assert_eq!(found.as_deref(), Some("errno/munmap/EAGAIN-for-ENOMEM"), "{ordinary:?}");
    }
    // The left machine cannot take the call back.
    let found = run_one(Shows(vec![shows(Ok(0), 0)], 0), &right, false);
    assert_eq!(found.as_deref(), Some("errno/munmap/EAGAIN-for-ok"));
}

#[test]
fn a_state_that_breaks_an_invariant_is_named_by_it_where_the_call_needs_memory() {
    // Nothing is mapped, so a recount gives no pages.
    let mut right = shows(NO_MEMORY, 5);
    for (ordinary, invariants, expected) in [
        (Ok(0), true, "accounting/invariant/total_vm"),
        (Ok(0), false, "accounting/munmap/half-way-total_vm-high"),
        (Err(Errno::EINVAL), true, "errno/munmap/ENOMEM-for-EINVAL"),
    ] {
        let found = run_one(ways(ordinary, &[]), &right, invariants);
        assert_eq!(found.as_deref(), Some(expected), "{ordinary:?} {invariants}");
    }
    right.events.push(Event::UseAfterFree { object: Object::Vma, function: "f", field: "x" });
    let found = run_one(ways(Ok(0), &[]), &right, true);
    assert_eq!(found.as_deref(), Some("aliasing/use-after-free/f/x"));
}

#[test]
fn a_finding_tells_whether_a_failed_call_has_left_a_change() {
    for (result, total_vm, half_way) in
        [(NO_MEMORY, 5, true), (Ok(0), 5, false), (Err(Errno::EAGAIN), 0, false)]
    {
        let found = found(ways(Ok(0), &[]), &shows(result, total_vm), false);
        assert_eq!(found.expect("a finding").is_half_way(), half_way, "{result:?}");
    }
}

/// Returns an observation in which process 0 has a VMA of this length and these anonymous pages.
fn maps(result: Result<u8, Errno>, len: u8, anon_pages: PageSet) -> Observation {
    let mut seen = shows(result, 0);
    let (range, offset) = ((Page(1), Page(1 + len)), PageOffset(0));
    let flags = VmFlags::VM_READ;
    let vma = Vma::new(range, offset, flags, None, None, None, Mode::Default, false);
    seen.spaces[0].push(vma, []);
    seen.spaces[0].anon_pages = anon_pages;
    seen
}

#[test]
fn the_closest_way_has_the_same_edges_and_anonymous_memory() {
    let again = Err(Errno::EAGAIN);
    let mut right = maps(NO_MEMORY, 2, 0b110);
    right.spaces[0].counters.total_vm = 5;
    for (at, (all, expected)) in [
        // A way with the same edges and the same memory is closer than no change.
        (vec![maps(NO_MEMORY, 2, 0b110)], "accounting/munmap/total_vm-high"),
        (vec![maps(again, 2, 0b110)], "errno/munmap/ENOMEM-for-EAGAIN"),
        (vec![maps(NO_MEMORY, 2, 0b10)], "anon-vma/map/pages-kept"),
        (vec![maps(NO_MEMORY, 1, 0b110)], "layout/map/still-mapped"),
        (vec![maps(again, 2, 0b10)], "errno/munmap/ENOMEM-for-EAGAIN"),
        // A way with neither is not.
        (vec![maps(NO_MEMORY, 1, 0b10)], "layout/map/half-way-still-mapped"),
        // The closest of several ways.
        (
            vec![maps(NO_MEMORY, 1, 0b10), maps(again, 2, 0b10), maps(NO_MEMORY, 2, 0b10)],
            "anon-vma/map/pages-kept",
        ),
        (
            vec![maps(NO_MEMORY, 1, 0b110), maps(again, 2, 0b110), maps(again, 1, 0b110)],
            "errno/munmap/ENOMEM-for-EAGAIN",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let found = run_one(ways(Ok(0), &all), &right, false);
        assert_eq!(found.as_deref(), Some(expected), "case {at}");
    }
    // The same memory counts for more than the same result.
    let [mut way, mut right] = [Err(Errno::EAGAIN), NO_MEMORY].map(|result| shows(result, 0));
    (way.spaces[0].anon_pages, right.spaces[0].anon_pages) = (0b10, 0b10);
    let found = run_one(ways(Ok(0), &[way]), &right, false);
    assert_eq!(found.as_deref(), Some("errno/munmap/ENOMEM-for-EAGAIN"));
}

#[test]
fn a_finding_needs_that_every_way_that_shows_the_same_leads_to_one() {
    let program: Program = "limits fail=1\nmunmap 0 1\nmunmap 0 1\n".parse().expect("a program");
    let find = |ways: &[i64], then: i64| {
        let mut right = vec![shows(NO_MEMORY, 1), shows(Ok(0), then)];
        right[0].failed = Some(Allocation::Vma);
        let later = ways.iter().map(|&total_vm| shows(Ok(0), total_vm));
        let left = Hides(Ways {
            shows: Shows([shows(Ok(0), 9)].into_iter().chain(later).collect(), 0),
            ways: vec![shows(NO_MEMORY, 1); ways.len()],
        });
        let mut lockstep = Lockstep::new(left, Shows(right, 0)).without_invariants();
        let mut steps = Vec::new();
        let found = lockstep.run_with(&program, |at, _, _| steps.push(at));
        (found.map(|found| (found.step, found.signature.to_string())), steps)
    };
    assert_eq!(find(&[4, 5, 6], 4), (None, vec![0, 1]));
    assert_eq!(find(&[4, 5, 6], 6), (None, vec![0, 1, 0, 1]));
    let high = Some((1, "accounting/munmap/total_vm-high".to_owned()));
    assert_eq!(find(&[4, 5, 6], 7), (high, vec![0, 1]));
}
