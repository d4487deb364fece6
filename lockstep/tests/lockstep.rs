//! The lockstep of two scripted machines: the compared operations, and the end of a run.

use vmadiff_lockstep::divergence::Divergence;
use vmadiff_lockstep::invariants::{Broken, Side};
use vmadiff_lockstep::lockstep::Lockstep;
use vmadiff_machine::observation::{Event, FileId, PageId, Vma};
use vmadiff_machine::operand::{Mode, Page, PageOffset, Process};
use vmadiff_machine::{Errno, Limits, Machine, Object, Observation, Op, Opcode, Program, VmFlags};

/// A machine that shows the observations of a list.
#[derive(Clone)]
struct Script {
    name: &'static str,
    shows: Vec<Observation>,
    step: usize,
    /// Says that the next program goes on with the list, and does not begin it again.
    goes_on: bool,
    lacks: Option<Opcode>,
}

impl Script {
    fn new(shows: &[Observation]) -> Script {
        Script { name: "script", shows: shows.to_vec(), step: 0, goes_on: false, lacks: None }
    }
}

impl Machine for Script {
    fn name(&self) -> &str {
        self.name
    }

    fn has(&self, opcode: Opcode) -> bool {
        self.lacks != Some(opcode)
    }

    fn reset(&mut self, _: &Limits) {
        if !self.goes_on {
            self.step = 0;
        }
    }

    fn step(&mut self, _: &Op, seen: &mut Observation) {
        seen.clone_from(&self.shows[self.step]);
        self.step += 1;
    }
}

fn program(text: &str) -> Program {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Returns an observation in which process 0 maps one page of a file.
fn shows(file: u32, result: Result<u8, Errno>) -> Observation {
    let mut seen = Observation::default();
    seen.begin_step();
    seen.result = result;
    let space = seen.rewrite(Process(0));
    space.alive = true;
    let file = Some(FileId::new(file));
    let range = (Page(1), Page(2));
    let vma =
        Vma::new(range, PageOffset(0), VmFlags::VM_READ, None, file, None, Mode::Default, false);
    space.push(vma, []);
    seen
}

fn step(left: &[Observation], right: &[Observation]) -> Option<usize> {
    let ops = "touch 0 1\n".repeat(left.len());
    // The scripts show no state of a kernel, so the invariants do not hold.
    let mut lockstep = Lockstep::new(Script::new(left), Script::new(right)).without_invariants();
    lockstep.run(&program(&ops)).map(|found| found.step)
}

#[test]
fn every_operation_is_compared_also_one_that_fails() {
    for result in [Ok(0), Err(Errno::EFAULT)] {
        let left = vec![shows(0, result); 4];
        assert_eq!(step(&left, &left), None);
        for n in 0..left.len() {
            let mut right = left.clone();
            right[n].spaces[0].counters.total_vm = 1;
            assert_eq!(step(&left, &right), Some(n), "{result:?}");
        }
    }
}

#[test]
fn an_event_that_the_kernel_does_not_survive_ends_the_run_and_is_compared_first() {
    let mut fatal = shows(0, Ok(0));
    fatal.events.push(Event::UseAfterFree { object: Object::Vma, function: "f", field: "x" });
    let (plain, mut other) = (shows(0, Ok(0)), shows(0, Ok(0)));
    other.committed = 1;
    // Neither kernel survives the event, so the next observations are not compared.
    assert_eq!(step(&[fatal.clone(), plain.clone()], &[fatal.clone(), other]), None);
    let both = [plain.clone(), plain.clone()];
    assert_eq!(step(&[fatal.clone(), plain.clone()], &both), Some(0));
    assert_eq!(step(&both, &[fatal, plain]), Some(0));
}

#[test]
fn a_file_is_one_object_within_a_program_and_unknown_in_the_next() {
    let files = |files: [u32; 2]| Script {
        goes_on: true,
        ..Script::new(&files.map(|file| shows(file, Ok(0))))
    };
    for (left, right) in [([0, 0], [5, 4]), ([0, 1], [5, 5])] {
        // Two programs of one operation each.
        let mut lockstep = Lockstep::new(files(left), files(right)).without_invariants();
        let one = program("touch 0 1\n");
        assert!(lockstep.run(&one).is_none());
        assert!(lockstep.run(&one).is_none(), "{left:?} {right:?}");
        // One program of two operations.
        let mut lockstep = Lockstep::new(files(left), files(right)).without_invariants();
        let two = program("touch 0 1\ntouch 0 1\n");
        assert_eq!(lockstep.run(&two).map(|found| found.step), Some(1), "{left:?} {right:?}");
    }
}

#[test]
fn an_anonymous_page_keeps_its_pair_within_a_program() {
    /// Returns an observation in which process 0 has an anonymous page at each page from 1 on.
    fn maps(ids: &[u32]) -> Observation {
        let mut seen = shows(0, Ok(0));
        let space = &mut seen.spaces[0];
        space.anon_pages = ((1 << ids.len()) - 1) << 1;
        space.push_page_ids(ids.iter().copied().map(PageId::new));
        seen
    }
    let script = |ids: [&[u32]; 2]| Script { goes_on: true, ..Script::new(&ids.map(maps)) };
    for (left, right, expected) in [
        ([&[1, 2][..], &[2, 1][..]], [&[7, 5][..], &[7, 5][..]], Some("contents/touch/other-page")),
        ([&[1, 2], &[1, 2]], [&[7, 5], &[7, 6]], Some("contents/touch/page-lost")),
        ([&[1, 2], &[1, 3]], [&[7, 5], &[7, 5]], Some("contents/touch/page-kept")),
        ([&[1, 2], &[2, 1]], [&[7, 5], &[5, 7]], None),
        ([&[1, 2], &[1, 3]], [&[7, 5], &[7, 6]], None),
    ] {
        let mut lockstep = Lockstep::new(script(left), script(right)).without_invariants();
        let found = lockstep.run(&program("touch 0 1\ntouch 0 1\n"));
        let found = found.map(|found| format!("{} {}", found.step, found.signature));
        assert_eq!(found, expected.map(|name| format!("1 {name}")), "{left:?} {right:?}");
        // In another program the numbers stand for other pages.
        let mut lockstep = Lockstep::new(script(left), script(right)).without_invariants();
        for _ in 0..2 {
            assert!(lockstep.run(&program("touch 0 1\n")).is_none(), "{left:?} {right:?}");
        }
    }
}

#[test]
fn a_lost_page_is_named_before_the_counters() {
    let mut lost = Observation::default();
    let event = Event::UnreachablePage { process: Process(0), page: Page(1) };
    lost.events.push(event);
    let mut other = lost.clone();
    other.committed = 1;
    let run = |right: &Observation| {
        let [left, right] = [&lost, right].map(|seen| Script::new(std::slice::from_ref(seen)));
        Lockstep::new(left, right)
    };
    let (touch, name) = (program("touch 0 1\n"), |found: Divergence| found.signature.to_string());
    for right in [&lost, &other] {
        let found = run(right).run(&touch).expect("a finding");
        let broken = found.broken.clone().expect("a broken invariant");
        assert_eq!((broken.side, broken.text), (Side::Both, event.to_string()));
        assert_eq!(name(found), "anon-vma/unreachable-page");
    }
    // Another difference is named before it.
    let mut fails = lost.clone();
    fails.result = Err(Errno::EFAULT);
    let found = run(&fails).run(&touch).map(name);
    assert_eq!(found.as_deref(), Some("errno/touch/EFAULT-for-ok"));
    let found = run(&other).without_invariants().run(&touch).map(name);
    assert_eq!(found.as_deref(), Some("accounting/touch/committed-high"));
}

#[test]
fn a_machine_that_runs_alone_is_judged_by_its_events() {
    let touch = program("touch 0 1\n");
    let alone = |events: &[Event]| {
        let seen = Observation { events: events.to_vec(), ..Observation::default() };
        Lockstep::alone(Script::new(&[seen])).without_invariants().run(&touch)
    };
    assert!(alone(&[]).is_none());
    let held = Event::LockHeld { function: "f", lock: "ptl" };
    let freed = Event::UseAfterFree { object: Object::Vma, function: "f", field: "x" };
    for (events, name) in [
        (&[held][..], "deadlock/f/ptl-held"),
        (&[freed], "aliasing/use-after-free/f/x"),
        (&[held, freed], "deadlock/f/ptl-held"),
    ] {
        let found = alone(events).expect("a finding");
        assert_eq!((found.step, found.signature.as_str()), (0, name));
        let broken = found.broken.expect("the event");
        assert_eq!((broken.side, broken.text), (Side::Both, events[0].to_string()));
    }
}

#[test]
fn a_broken_invariant_says_whether_every_process_has_exited() {
    for (at_teardown, end) in [(false, ""), (true, ", after every process has exited")] {
        let broken = Broken { side: Side::Both, text: "a page is lost".to_owned(), at_teardown };
        assert_eq!(broken.to_string(), format!("a page is lost{end}"));
    }
}

#[test]
fn an_operation_that_one_machine_lacks_is_left_out() {
    let (left, right) = (shows(0, Ok(0)), shows(0, Ok(1)));
    let text = program("fork 0\ntouch 0 1\n");
    for left_lacks in [true, false] {
        let mut scripts =
            [Script::new(std::slice::from_ref(&left)), Script::new(std::slice::from_ref(&right))];
        scripts[usize::from(!left_lacks)].lacks = Some(Opcode::Fork);
        let [left, right] = scripts;
        let found = Lockstep::new(left, right).run(&text).expect("a divergence");
        assert_eq!(found.step, 1, "the step is the place in the program");
    }
}

#[test]
fn lockstep_has_the_names_and_the_last_observations_of_its_machines() {
    let script = |name, result| Script { name, ..Script::new(&[shows(0, result)]) };
    let mut lockstep = Lockstep::new(script("one", Ok(3)), script("two", Ok(4)));
    assert!(lockstep.run(&program("touch 0 1\n")).is_some());
    assert_eq!(lockstep.names(), ("one", "two"));
    let (left, right) = lockstep.seen();
    assert_eq!((left.result, right.result), (Ok(3), Ok(4)));
}
