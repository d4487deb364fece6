//! The state of two machines in lockstep: it is saved, restored and written as words.

use vmadiff_lockstep::invariants::Side;
use vmadiff_lockstep::lockstep::{Advance, Lockstep};
use vmadiff_machine::observation::{FileId, Vma};
use vmadiff_machine::operand::{Mode, Page, PageOffset, Process};
use vmadiff_machine::{
    Allocation, Failure, Hidden, Limits, Machine, Observation, Op, Program, State, VmFlags,
};

/// A machine that shows the observations of a list.
#[derive(Clone)]
struct Script {
    shows: Vec<Observation>,
    step: usize,
    /// The step that was saved last; `None` where the machine cannot save its state.
    saved: Option<usize>,
    /// The next operation after a restored state shows what follows in the list.
    goes_on: bool,
    /// The machine writes its own state.
    writes: bool,
    hidden: Result<Option<u32>, Failure>,
}

impl Script {
    fn new(shows: &[Observation]) -> Script {
        let shows = shows.to_vec();
        Script { shows, step: 0, saved: Some(0), goes_on: false, writes: false, hidden: Ok(None) }
    }
}

impl Machine for Script {
    fn name(&self) -> &str {
        "script"
    }

    fn reset(&mut self, _: &Limits) {
        self.step = 0;
    }

    fn step(&mut self, _: &Op, seen: &mut Observation) {
        seen.clone_from(&self.shows[self.step]);
        self.step += 1;
    }

    fn show_hidden(&mut self, hidden: &mut Hidden) -> Result<bool, Failure> {
        hidden.vmas = self.hidden?;
        Ok(hidden.vmas.is_some())
    }

    fn write_state(&self, state: &mut State) -> bool {
        if self.writes {
            state.word(77);
        }
        self.writes
    }

    fn save(&mut self) -> bool {
        let can = self.saved.is_some();
        self.saved = can.then_some(self.step);
        can
    }

    fn restore(&mut self) {
        if !self.goes_on {
            self.step = self.saved.expect("a saved state");
        }
    }
}

fn touch() -> Op {
    let program: Program = "touch 0 1".parse().expect("a program");
    program.ops[0]
}

/// Returns an observation in which process 0 maps one page of a file.
fn maps(file: u32, pgoff: u64) -> Observation {
    let mut seen = Observation::default();
    seen.begin_step();
    let space = seen.rewrite(Process(0));
    space.alive = true;
    (space.counters.total_vm, space.counters.map_count) = (1, 1);
    let (range, file) = ((Page(1), Page(2)), Some(FileId::new(file)));
    let (flags, offset) = (VmFlags::VM_READ, PageOffset(pgoff));
    space.push(Vma::new(range, offset, flags, None, file, None, Mode::Default, false), []);
    seen
}

#[test]
fn a_program_goes_on_from_the_state_that_was_saved() {
    // The offset of the page changes in the third operation, which breaks an invariant.
    let left = Script::new(&[maps(1, 0), maps(1, 0), maps(1, 3)]);
    let right = Script::new(&[maps(5, 0), maps(5, 0), maps(5, 3)]);
    let mut lockstep = Lockstep::new(left, right).checked();
    lockstep.begin(&Limits::default());
    assert!(matches!(lockstep.advance(0, &touch()), Advance::Same));
    for _ in 0..2 {
        assert!(lockstep.save());
        assert!(matches!(lockstep.advance(1, &touch()), Advance::Same));
        for _ in 0..2 {
            match lockstep.advance(2, &touch()) {
                Advance::Found(found) => {
                    assert_eq!(found.signature.as_str(), "offset/invariant/offset-changed");
                }
                other => panic!("{other:?}"),
            }
            lockstep.restore();
            let (left, right) = lockstep.seen();
            assert_eq!(left.spaces[0].vmas()[0].pgoff, PageOffset(0));
            assert_eq!(right.spaces[0].vmas()[0].pgoff, PageOffset(0));
            assert!(matches!(lockstep.advance(1, &touch()), Advance::Same));
        }
        lockstep.restore();
    }
}

#[test]
fn objects_that_came_after_the_saved_state_have_no_pairs_in_it() {
    // The state is saved after the first operation. The third operation follows on it.
    for (left, right, same) in
        [([1, 2, 2], [5, 6, 7], true), ([1, 2, 2], [5, 6, 5], false), ([1, 2, 1], [5, 6, 6], false)]
    {
        let script = |files: [u32; 3]| {
            let mut script = Script::new(&files.map(|file| maps(file, 0)));
            script.goes_on = true;
            script
        };
        let mut lockstep = Lockstep::new(script(left), script(right)).without_invariants();
        lockstep.begin(&Limits::default());
        assert!(matches!(lockstep.advance(0, &touch()), Advance::Same));
        assert!(lockstep.save());
        assert!(matches!(lockstep.advance(1, &touch()), Advance::Same));
        lockstep.restore();
        let third = lockstep.advance(1, &touch());
        assert_eq!(matches!(third, Advance::Same), same, "{left:?} {right:?}");
    }
}

#[test]
fn a_state_is_saved_if_both_machines_can() {
    for (left_can, right_can) in [(true, true), (true, false), (false, true), (false, false)] {
        let script = |can: bool| {
            let mut script = Script::new(&[maps(1, 0)]);
            script.saved = can.then_some(0);
            script
        };
        let mut lockstep = Lockstep::new(script(left_can), script(right_can));
        lockstep.begin(&Limits::default());
        assert_eq!(lockstep.save(), left_can && right_can, "{left_can} {right_can}");
        let mut alone = Lockstep::alone(script(right_can));
        alone.begin(&Limits::default());
        assert_eq!(alone.save(), right_can);
        assert_eq!((lockstep.is_alone(), alone.is_alone()), (false, true));
    }
}

/// Returns the words of two machines after one operation, and whether both write their state.
fn words(left: Script, right: Script) -> (Vec<u64>, bool) {
    let mut lockstep = Lockstep::new(left, right).without_invariants();
    lockstep.begin(&Limits::default());
    assert!(matches!(lockstep.advance(0, &touch()), Advance::Same));
    let mut state = State::default();
    let whole = lockstep.write_state(0, &mut state).expect("a state");
    (state.words().to_vec(), whole)
}

#[test]
fn the_words_of_a_state_are_those_of_both_machines() {
    let plain = Script::new(&[maps(1, 0)]);
    let script = |change: fn(&mut Script)| {
        let mut script = plain.clone();
        change(&mut script);
        script
    };
    let writes = script(|script| script.writes = true);
    let hidden = [
        script(|script| script.hidden = Ok(Some(1))),
        script(|script| script.hidden = Ok(Some(2))),
    ];
    // A machine that writes its own state is not asked for anything else.
    assert_eq!(words(writes.clone(), writes.clone()), (vec![77, 77], true));
    let (left, left_whole) = words(writes.clone(), plain.clone());
    let (right, right_whole) = words(plain.clone(), writes.clone());
    assert_eq!((left_whole, right_whole), (false, false));
    assert_eq!((left.first(), right.last()), (Some(&77), Some(&77)));
    let (both, whole) = words(plain.clone(), plain.clone());
    assert!(!whole);
    assert_eq!(both, [&left[1..], &left[1..]].concat());
    assert_eq!(left[1..], right[..right.len() - 1]);
    // The words have the observation and the hidden state.
    let other = Script::new(&[maps(1, 3)]);
    assert_ne!(words(other.clone(), other).0, both);
    let [one, two] = hidden.map(|hidden| words(plain.clone(), hidden).0);
    assert!(one != both && one != two);
}

#[test]
fn a_machine_that_cannot_show_its_hidden_state_is_a_finding_of_its_side() {
    let plain = Script::new(&[maps(1, 0)]);
    let fails = Script { hidden: Err(Failure::TimedOut), ..plain.clone() };
    for (left, right, side) in [(&fails, &plain, Side::Left), (&plain, &fails, Side::Right)] {
        let mut lockstep = Lockstep::new(left.clone(), right.clone());
        lockstep.begin(&Limits::default());
        let found = lockstep.write_state(6, &mut State::default()).expect_err("a failure");
        assert_eq!((found.step, found.signature.as_str()), (6, "assertion/library/timed-out"));
        assert_eq!(found.broken.map(|broken| broken.side), Some(side));
    }
}

#[test]
fn an_allocation_fails_only_in_a_program_that_lets_one_fail() {
    let mut fails = maps(1, 0);
    fails.failed = Some(Allocation::Vma);
    for (limits, expected) in
        [("", None), ("limits fail=0\n", None), ("limits fail=1\n", fails.failed)]
    {
        let (left, right) = (Script::new(&[maps(1, 0)]), Script::new(std::slice::from_ref(&fails)));
        let mut lockstep = Lockstep::new(left, right).without_invariants();
        let program: Program = format!("{limits}touch 0 1\n").parse().expect("a program");
        assert!(lockstep.run(&program).is_none());
        assert_eq!(lockstep.failed(), expected, "{limits}");
    }
}
