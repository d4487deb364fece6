//! The end of a program: hidden state is recounted, every page is read, and every process exits.

use std::cell::RefCell;
use std::rc::Rc;

use vmadiff_lockstep::divergence::Divergence;
use vmadiff_lockstep::invariants::Side;
use vmadiff_lockstep::lockstep::{Advance, Lockstep};
use vmadiff_machine::observation::Event;
use vmadiff_machine::operand::Process;
use vmadiff_machine::{
    Failure, Hidden, Limits, Machine, Object, Observation, Op, Opcode, PageSet, Program,
};

/// A machine with two processes, 0 and 3. It has no VMAs.
#[derive(Clone)]
struct Toy {
    name: &'static str,
    lacks: Option<Opcode>,
    /// The number of operations of the program so far, and their text. Clones share the text.
    count: usize,
    performed: Rc<RefCell<Vec<String>>>,
    /// The anonymous pages of each process.
    pages: [PageSet; 4],
    /// The value that each page has.
    value: Option<u8>,
    /// A `vm_area_struct` is leaked by this operation of the program, or by the first one with this name.
    leaks_at: Option<usize>,
    leaks_in: Option<Opcode>,
    leaked: bool,
    /// The kernel does not survive operations with this name.
    dies_in: Option<Opcode>,
    dead: bool,
    hidden: Result<bool, Failure>,
}

impl Toy {
    fn new(name: &'static str) -> Toy {
        Toy {
            name,
            lacks: None,
            count: 0,
            performed: Rc::default(),
            pages: [0; 4],
            value: Some(0),
            leaks_at: None,
            leaks_in: None,
            leaked: false,
            dies_in: None,
            dead: false,
            hidden: Ok(true),
        }
    }

    fn with(mut self, change: impl Fn(&mut Toy)) -> Toy {
        change(&mut self);
        self
    }
}

impl Machine for Toy {
    fn name(&self) -> &str {
        self.name
    }

    fn has(&self, opcode: Opcode) -> bool {
        self.lacks != Some(opcode)
    }

    fn reset(&mut self, _: &Limits) {
        self.performed.borrow_mut().clear();
        (self.count, self.leaked, self.dead) = (0, false, false);
    }

    fn step(&mut self, op: &Op, seen: &mut Observation) {
        assert!(!self.dead, "{op} after the kernel has died");
        assert!(self.count < 100, "{op} after the end of the program");
        seen.begin_step();
        if self.count == 0 {
            for (process, pages) in (0..).zip(self.pages) {
                let space = seen.rewrite(Process(process));
                (space.alive, space.anon_pages) = (process == 0 || process == 3, pages);
            }
        }
        self.leaked |= self.leaks_at == Some(self.count);
        self.leaked |= self.leaks_in == Some(op.opcode());
        self.count += 1;
        self.performed.borrow_mut().push(op.to_string());
        match op.opcode() {
            Opcode::Touch => seen.read = self.value,
            Opcode::Exit => seen.rewrite(op.process()).alive = false,
            _ => {}
        }
        if self.dies_in == Some(op.opcode()) {
            self.dead = true;
            let (object, function, field) = (Object::Vma, "f", "x");
            seen.events.push(Event::UseAfterFree { object, function, field });
        }
    }

    fn show_hidden(&mut self, hidden: &mut Hidden) -> Result<bool, Failure> {
        assert!(!self.dead, "the kernel has died");
        hidden.vmas = Some(self.leaked.into());
        self.hidden
    }
}

fn program(text: &str) -> Program {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Returns three operations that neither touch memory nor end a process.
fn three() -> Program {
    program(&"munmap 0 1 0\n".repeat(3))
}

/// Returns the operation, the signature and the machine of a finding, and whether it was made when every
/// process had exited.
fn found(divergence: Option<Divergence>) -> Option<(usize, String, Side, bool)> {
    let Divergence { step, signature, broken, .. } = divergence?;
    let broken = broken.expect("a broken invariant");
    Some((step, signature.to_string(), broken.side, broken.at_teardown))
}

#[test]
fn a_leak_is_found_at_the_end_and_named_after_the_operation_that_made_it() {
    let (leaks, sound) = (Toy::new("leaks").with(|toy| toy.leaks_at = Some(1)), Toy::new("sound"));
    let leak = |side| Some((1, "leak/vm_area_struct".to_owned(), side, false));
    let run =
        |left: &Toy, right: &Toy| found(Lockstep::new(left.clone(), right.clone()).run(&three()));
    assert_eq!(run(&sound, &sound), None);
    assert_eq!(run(&leaks, &sound), leak(Side::Left));
    assert_eq!(run(&sound, &leaks), leak(Side::Right));
    assert_eq!(run(&leaks, &leaks), leak(Side::Both));
    assert_eq!(found(Lockstep::alone(leaks.clone()).run(&three())), leak(Side::Both));
    assert_eq!(found(Lockstep::alone(sound).run(&three())), None);
    let mut without = Lockstep::alone(leaks).without_invariants();
    assert_eq!(found(without.run(&three())), None);
}

#[test]
fn hidden_state_is_recounted_after_the_first_of_several_programs() {
    let leaks = Toy::new("leaks").with(|toy| toy.leaks_at = Some(1));
    let mut lockstep = Lockstep::alone(leaks);
    let mut finds = |programs: usize| -> Vec<bool> {
        (0..programs).map(|_| lockstep.run(&three()).is_some()).collect()
    };
    assert_eq!(finds(2), [true, true]);
    lockstep.recount_every(3.try_into().expect("a number above 0"));
    let mut finds = |programs: usize| -> Vec<bool> {
        (0..programs).map(|_| lockstep.run(&three()).is_some()).collect()
    };
    assert_eq!(finds(5), [true, false, false, true, false]);
}

#[test]
fn a_machine_may_show_no_hidden_state_or_fail_to() {
    let toy = |hidden| Toy::new("toy").with(|toy| (toy.hidden, toy.leaks_at) = (hidden, Some(1)));
    let sound = Toy::new("sound");
    for (left, right) in [(&toy(Ok(false)), &sound), (&sound, &toy(Ok(false)))] {
        let mut lockstep = Lockstep::new(left.clone(), right.clone());
        assert!(lockstep.shows_hidden(), "nothing was asked for");
        assert!(lockstep.run(&three()).is_none());
        assert!(!lockstep.shows_hidden());
    }
    let mut lockstep = Lockstep::new(sound.clone(), sound.clone());
    assert!(lockstep.run(&three()).is_none());
    assert!(lockstep.shows_hidden());
    let mut lockstep = Lockstep::new(sound, toy(Err(Failure::TimedOut)));
    let failed = Some((0, "assertion/library/timed-out".to_owned(), Side::Right, false));
    assert_eq!(found(lockstep.run(&three())), failed);
}

#[test]
fn every_process_exits_at_the_end() {
    let exits = ["munmap 0 1 0", "munmap 0 1 0", "munmap 0 1 0", "exit 0", "exit 3"];
    let toy = Toy::new("toy");
    let log = Rc::clone(&toy.performed);
    assert_eq!(found(Lockstep::alone(toy).run(&three())), None);
    assert_eq!(log.take(), exits);
    // A leak of the last exit.
    let leaks = Toy::new("leaks").with(|toy| toy.leaks_in = Some(Opcode::Exit));
    let leak = |side| Some((2, "leak/vm_area_struct".to_owned(), side, true));
    let sound = Toy::new("sound");
    assert_eq!(found(Lockstep::new(sound.clone(), leaks.clone()).run(&three())), leak(Side::Right));
    assert_eq!(found(Lockstep::alone(leaks.clone()).run(&three())), leak(Side::Both));
    // A machine without the operation.
    let lacks = Toy::new("lacks").with(|toy| toy.lacks = Some(Opcode::Exit));
    for (left, right) in [(&lacks, &leaks), (&leaks, &lacks)] {
        let log = Rc::clone(&right.performed);
        assert_eq!(found(Lockstep::new(left.clone(), right.clone()).run(&three())), None);
        assert_eq!(log.take(), exits[..3]);
    }
    // The machines differ.
    let dies = Toy::new("dies").with(|toy| toy.dies_in = Some(Opcode::Exit));
    let died = Some((2, "aliasing/use-after-free/f/x".to_owned(), Side::Right, true));
    assert_eq!(found(Lockstep::new(sound, dies).run(&three())), died);
}

#[test]
fn every_page_is_read_at_the_end() {
    let mut pages = [0; 4];
    (pages[0], pages[3]) = (1 << 3 | 1 << 5, 1 << 60);
    // A machine with pages and no objects does not show its hidden state.
    let toy = |name, value| {
        Toy::new(name)
            .with(move |toy| (toy.pages, toy.value, toy.hidden) = (pages, value, Ok(false)))
    };
    let left = toy("left", Some(7));
    let log = Rc::clone(&left.performed);
    assert_eq!(found(Lockstep::new(left.clone(), toy("right", Some(7))).run(&three())), None);
    let all = log.take();
    assert_eq!(all[3..], ["touch 0 3", "touch 0 5", "touch 3 60", "exit 0", "exit 3"]);

    for (value, name, says) in
        [(Some(0), "read-zero", "reads as 0"), (None, "read-other", "is not read")]
    {
        let divergence = Lockstep::new(left.clone(), toy("right", value)).run(&three());
        let divergence = divergence.expect("another value");
        assert_eq!(divergence.signature.as_str(), format!("contents/touch/{name}"));
        assert_eq!(divergence.step, 2);
        let broken = divergence.broken.expect("the page");
        assert_eq!((broken.side, broken.at_teardown), (Side::Right, false));
        let text = format!("at the end, page 3 of process 0 {says}, and reads as 7 in left");
        assert_eq!(broken.text, text);
    }
    // A machine without the operation.
    for lacks_left in [true, false] {
        let lacks = |has: bool, value| {
            toy("toy", value).with(|toy| toy.lacks = (!has).then_some(Opcode::Touch))
        };
        let right = lacks(lacks_left, Some(0));
        let log = Rc::clone(&right.performed);
        assert_eq!(found(Lockstep::new(lacks(!lacks_left, Some(7)), right).run(&three())), None);
        assert_eq!(log.take()[3..], ["exit 0", "exit 3"]);
    }
}

#[test]
fn a_kernel_that_has_died_is_not_asked_again() {
    // Both kernels die of the same thing, which is no difference.
    for (opcode, last) in [(Opcode::Touch, "touch 0 3"), (Opcode::Exit, "exit 0")] {
        let dies = |name| {
            Toy::new(name).with(|toy| {
                (toy.dies_in, toy.hidden) = (Some(opcode), Ok(false));
                (toy.pages[0], toy.pages[3]) = (1 << 3 | 1 << 5, 1 << 60);
            })
        };
        let (left, right) = (dies("left"), dies("right"));
        let log = Rc::clone(&right.performed);
        assert_eq!(found(Lockstep::new(left, right).run(&three())), None);
        assert_eq!(log.take().last().map(String::as_str), Some(last));
    }
}

#[test]
fn a_program_is_driven_operation_by_operation() {
    let lockstep = |left: Toy, right: Toy| {
        let mut lockstep = Lockstep::new(left, right);
        lockstep.begin(&Limits::default());
        lockstep.advance(4, &three().ops[0])
    };
    let (sound, dies) =
        (Toy::new("sound"), Toy::new("dies").with(|toy| toy.dies_in = Some(Opcode::Munmap)));
    assert!(matches!(lockstep(sound.clone(), sound.clone()), Advance::Same));
    assert!(matches!(lockstep(dies.clone(), dies.clone()), Advance::Dead));
    match lockstep(sound, dies) {
        Advance::Found(found) => assert_eq!(found.step, 4),
        other => panic!("{other:?}"),
    }
}
