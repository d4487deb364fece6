//! An operation in which an allocation fails on the right machine: the left machine is asked how it can
//! end.

use vmadiff_lockstep::lockstep::Lockstep;
use vmadiff_machine::operand::Process;
use vmadiff_machine::{Allocation, Errno, Limits, Machine, Observation, Op, Program};

/// A machine that shows one observation after each operation.
struct Shows(Vec<Observation>, usize);

/// A machine with several ways to end its first operation without memory.
struct Ways {
    /// The first operation with memory, and then the other operation: after the nth way the nth one, if
    /// there are so many.
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
        self.shows.1 = (n as usize + 1).min(self.shows.0.len() - 1);
        let way = self.ways.get(n as usize);
        way.map(|way| seen.clone_from(way)).is_some()
    }

    fn take_back(&mut self) -> bool {
        self.shows.1 = 0;
        true
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
fn a_finding_needs_that_every_way_that_shows_the_same_leads_to_one() {
    let program: Program = "limits fail=1\nmunmap 0 1\nmunmap 0 1\n".parse().expect("a program");
    let find = |ways: &[i64], then: i64| {
        let mut right = vec![shows(NO_MEMORY, 1), shows(Ok(0), then)];
        right[0].failed = Some(Allocation::Vma);
        let later = ways.iter().map(|&total_vm| shows(Ok(0), total_vm));
        let left = Ways {
            shows: Shows([shows(Ok(0), 9)].into_iter().chain(later).collect(), 0),
            ways: vec![shows(NO_MEMORY, 1); ways.len()],
        };
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
