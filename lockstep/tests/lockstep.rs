//! The lockstep of two scripted machines: the compared operations, and the end of a run.

use vmadiff_lockstep::lockstep::Lockstep;
use vmadiff_machine::observation::{Event, FileId, Vma};
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
