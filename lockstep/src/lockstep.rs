//! Lockstep: two machines, the same operations, and the first difference, or the first invariant that
//! one of them breaks.

use std::num::NonZeroU32;

use vmadiff_machine::op::MAX_OPERANDS;
use vmadiff_machine::operand::MAX_PROCESSES;
use vmadiff_machine::{
    Allocation, Hidden, Limits, Machine, Observation, Op, Opcode, Program, State,
};

use crate::compare::{Comparer, Scope};
use crate::divergence::{Class, Divergence};
use crate::failing::{Before, Failed};
use crate::invariants::hidden::Recounter;
use crate::invariants::shown::Shown;
use crate::invariants::{Broken, Side, Violation, lost_page};
use crate::visible;

/// Two machines that are driven together, or one alone, and what they showed last.
///
/// One lockstep runs any number of programs, and reuses machines, observations and tables.
pub struct Lockstep<L: Machine, R: Machine> {
    /// `None` where the right machine runs alone.
    left: Option<L>,
    right: R,
    seen: (Observation, Observation),
    comparer: Comparer,
    /// The full comparison, by which `comparer` is checked.
    full: Option<Comparer>,
    /// `None` where invariants are not checked.
    invariants: Option<Invariants>,
    /// The tables at the state that was saved last. Their memory is kept for reuse.
    saved: Option<Box<Saved>>,
    /// An allocation of the program is still to fail.
    fails: bool,
    /// The allocation that has failed on the right machine.
    failed: Option<Allocation>,
    /// The left machine has ended that operation as the right one did.
    settled: bool,
    /// How many ways to end that operation are passed over ([`Failed::settle`]).
    passed_over: usize,
    /// The state before the last operation of a program in which an allocation fails.
    before: Option<Box<Before>>,
}

/// The observations and the tables that belong to a state of the machines.
struct Saved {
    seen: (Observation, Observation),
    comparer: Comparer,
    shown: Option<Shown>,
    fails: bool,
    failed: Option<Allocation>,
}

/// The tables of the invariants.
struct Invariants {
    shown: Shown,
    recounter: Recounter,
    hidden: Hidden,
    /// Whether every machine shows its hidden state, as far as is known.
    all_show: bool,
    /// The programs that were run to their end, and how many of them are between two recounts.
    programs: u32,
    every: NonZeroU32,
}

impl Invariants {
    fn new() -> Invariants {
        Invariants {
            shown: Shown::default(),
            recounter: Recounter::default(),
            hidden: Hidden::default(),
            all_show: true,
            programs: 0,
            every: NonZeroU32::MIN,
        }
    }

    /// Recounts the hidden state of a machine.
    fn recount(&mut self, machine: &mut impl Machine, seen: &Observation) -> Option<Violation> {
        self.hidden.clear();
        match machine.show_hidden(&mut self.hidden) {
            Ok(true) => self.recounter.check(seen, &self.hidden),
            Ok(false) => {
                self.all_show = false;
                None
            }
            Err(failure) => Some(Violation::failed(&failure)),
        }
    }
}

/// The result of one operation on both machines.
#[derive(Clone, Debug)]
pub enum Advance {
    /// Both machines show the same, and no invariant is broken.
    Same,
    /// A difference, or a broken invariant.
    Found(Divergence),
    /// Both kernels died of the same thing.
    Dead,
}

/// How far a program was run.
enum End {
    /// A finding.
    Found(Divergence),
    /// Both kernels died of the same thing.
    Dead,
    /// The last operation.
    Done,
}

impl<R: Machine> Lockstep<R, R> {
    /// Drives one machine alone: it is judged by the invariants, and by the events that it reports.
    pub fn alone(machine: R) -> Lockstep<R, R> {
        Lockstep::of(None, machine)
    }
}

impl<L: Machine, R: Machine> Lockstep<L, R> {
    /// Drives `left`, which is taken to be right, and `right`, which is judged by it. Both are judged
    /// by the [invariants](crate::invariants).
    pub fn new(left: L, right: R) -> Lockstep<L, R> {
        Lockstep::of(Some(left), right)
    }

    fn of(left: Option<L>, right: R) -> Lockstep<L, R> {
        Lockstep {
            left,
            right,
            seen: (Observation::default(), Observation::default()),
            comparer: Comparer::new(Scope::Models),
            full: None,
            invariants: Some(Invariants::new()),
            saved: None,
            fails: false,
            failed: None,
            settled: false,
            passed_over: 0,
            before: None,
        }
    }

    /// Checks every comparison by a full comparison ([`Comparer::same_in_full`]). This doubles the
    /// work of comparing.
    pub fn checked(mut self) -> Lockstep<L, R> {
        self.full = Some(Comparer::new(Scope::Models));
        self
    }

    /// Recounts hidden state, and ends every process, after the first program from now on and then
    /// after each `every`th: for runs of many programs. At the start that is every program.
    pub fn recount_every(&mut self, every: NonZeroU32) {
        if let Some(invariants) = &mut self.invariants {
            (invariants.programs, invariants.every) = (0, every);
        }
    }

    /// Leaves the invariants out: machines are only compared.
    pub fn without_invariants(mut self) -> Lockstep<L, R> {
        self.invariants = None;
        self
    }

    /// Runs a program up to the first difference or broken invariant. Operations that one of the
    /// machines lacks are left out.
    pub fn run(&mut self, program: &Program) -> Option<Divergence> {
        self.run_with(program, |_, _, _| ())
    }

    /// Runs a program up to the first difference or broken invariant, and shows `watch` each operation
    /// that was performed, by its position, with both observations: those of the one machine twice
    /// where it runs alone. The finding can be at an earlier operation than the last one shown.
    ///
    /// Two ways to end an operation in which an allocation fails can show the same, and differ in what is
    /// seen later. So there is a finding after such an operation only if every way leads to one. Where
    /// another way does not, `watch` is shown that run, too, from the first operation on.
    ///
    /// # Panics
    /// Panics if the [check](Lockstep::checked) by a full comparison finds the comparison wrong.
    pub fn run_with(
        &mut self,
        program: &Program,
        mut watch: impl FnMut(usize, &Observation, &Observation),
    ) -> Option<Divergence> {
        let programs = self.invariants.as_ref().map_or(0, |invariants| invariants.programs);
        let found = self.run_to_end(program, &mut watch)?;
        if !self.settled {
            return Some(found);
        }
        let again = |lockstep: &mut Self, passed_over, watch: &mut dyn FnMut(_, &_, &_)| {
            if let Some(invariants) = &mut lockstep.invariants {
                invariants.programs = programs;
            }
            lockstep.passed_over = passed_over;
            let found = lockstep.run_to_end(program, watch);
            lockstep.passed_over = 0;
            found
        };
        let mut passed_over = 0;
        loop {
            passed_over += 1;
            match again(self, passed_over, &mut |_, _, _| ()) {
                Some(_) if self.settled => {}
                Some(_) => return Some(found),
                None => return again(self, passed_over, &mut watch),
            }
        }
    }

    /// Runs a program up to the first difference or broken invariant, and judges its end.
    fn run_to_end(
        &mut self,
        program: &Program,
        watch: impl FnMut(usize, &Observation, &Observation),
    ) -> Option<Divergence> {
        match self.perform(program, false, watch) {
            End::Found(divergence) => return Some(divergence),
            End::Dead => return None,
            End::Done => {}
        }
        let last = program.ops.len().checked_sub(1)?;
        let broken = self.at_end(last)?;
        // The recount after each operation finds the one that broke the invariant.
        match self.perform(program, true, |_, _, _| ()) {
            End::Found(divergence) => Some(divergence),
            _ => Some(broken),
        }
    }

    /// Performs the operations, with a recount of hidden state after each where `recounts`.
    fn perform(
        &mut self,
        program: &Program,
        recounts: bool,
        mut watch: impl FnMut(usize, &Observation, &Observation),
    ) -> End {
        self.begin(&program.limits);
        for (step, op) in program.ops.iter().enumerate() {
            if !self.has(op.opcode()) {
                continue;
            }
            let found = self.step(step, op, &mut watch);
            let found = found.or_else(|| recounts.then(|| self.recount(step)).flatten());
            if let Some(divergence) = found {
                return End::Found(divergence);
            }
            if self.seen.1.is_fatal() {
                // Both kernels die of the same thing here: there is nothing further to compare.
                return End::Dead;
            }
        }
        End::Done
    }

    /// Goes back to the start of a program, which runs under `limits`, for [`Lockstep::advance`].
    pub fn begin(&mut self, limits: &Limits) {
        self.right.reset(limits);
        self.seen.1.reset();
        (self.fails, self.failed) = (limits.fail.is_some_and(|nth| nth > 0), None);
        self.settled = false;
        if let Some(left) = &mut self.left {
            left.reset(limits);
            self.seen.0.reset();
            self.comparer.reset();
            if let Some(full) = &mut self.full {
                full.reset();
            }
        }
        if let Some(invariants) = &mut self.invariants {
            invariants.shown.reset();
        }
    }

    /// Returns whether both machines have the operation.
    pub fn has(&self, opcode: Opcode) -> bool {
        self.left.as_ref().is_none_or(|left| left.has(opcode)) && self.right.has(opcode)
    }

    /// Performs one operation, the `step`th of the program that [`Lockstep::begin`] began. Both machines
    /// [have it](Lockstep::has). After a result other than [`Advance::Same`] another program begins.
    pub fn advance(&mut self, step: usize, op: &Op) -> Advance {
        match self.step(step, op, |_, _, _| ()) {
            Some(divergence) => Advance::Found(divergence),
            None if self.seen.1.is_fatal() => Advance::Dead,
            None => Advance::Same,
        }
    }

    /// Keeps the present state for [`Lockstep::restore`], and returns whether both machines can.
    pub fn save(&mut self) -> bool {
        if !self.left.as_mut().is_none_or(Machine::save) || !self.right.save() {
            return false;
        }
        let shown = self.invariants.as_ref().map(|invariants| &invariants.shown);
        match &mut self.saved {
            Some(saved) => {
                saved.seen.0.clone_from(&self.seen.0);
                saved.seen.1.clone_from(&self.seen.1);
                saved.comparer.clone_from(&self.comparer);
                if let (Some(saved), Some(shown)) = (&mut saved.shown, shown) {
                    saved.clone_from(shown);
                }
                (saved.fails, saved.failed) = (self.fails, self.failed);
            }
            None => {
                let (seen, comparer) = (self.seen.clone(), self.comparer.clone());
                let (shown, fails, failed) = (shown.cloned(), self.fails, self.failed);
                self.saved = Some(Box::new(Saved { seen, comparer, shown, fails, failed }));
            }
        }
        true
    }

    /// Goes back to the state that was saved last, in the same program.
    pub fn restore(&mut self) {
        let Some(saved) = &self.saved else { return };
        if let Some(left) = &mut self.left {
            left.restore();
        }
        self.right.restore();
        (self.fails, self.failed) = (saved.fails, saved.failed);
        self.seen.0.clone_from(&saved.seen.0);
        self.seen.1.clone_from(&saved.seen.1);
        self.comparer.clone_from(&saved.comparer);
        if let Some(full) = &mut self.full {
            full.clone_from(&saved.comparer);
        }
        if let (Some(invariants), Some(shown)) = (&mut self.invariants, &saved.shown) {
            invariants.shown.clone_from(shown);
        }
    }

    /// Adds the state of both machines to `state`, and returns whether both write it themselves. Of a
    /// machine that does not, the observation and the hidden state are added.
    ///
    /// # Errors
    /// The finding, at operation `step`, that a shared library fails when it is asked for its hidden
    /// state.
    pub fn write_state(&mut self, step: usize, state: &mut State) -> Result<bool, Divergence> {
        let mut is_whole = true;
        if let Some(left) = &mut self.left {
            is_whole &= write_state(left, &self.seen.0, state)
                .map_err(|violation| Divergence::broken(step, violation, Side::Left))?;
        }
        let written = write_state(&mut self.right, &self.seen.1, state);
        written
            .map(|written| written && is_whole)
            .map_err(|violation| Divergence::broken(step, violation, Side::Right))
    }

    /// Performs one operation on both machines and judges what follows.
    #[inline]
    fn step(
        &mut self,
        step: usize,
        op: &Op,
        mut watch: impl FnMut(usize, &Observation, &Observation),
    ) -> Option<Divergence> {
        if self.fails {
            self.remember();
        }
        let (left, right) = (&mut self.seen.0, &mut self.seen.1);
        if let Some(machine) = &mut self.left {
            machine.step(op, left);
            self.right.step(op, right);
            if self.fails && right.failed.is_some() {
                let divergence = self.settle_failed(step, op);
                watch(step, &self.seen.0, &self.seen.1);
                return divergence.or_else(|| self.check_shown(step, op));
            }
            watch(step, left, right);
            let same = self.comparer.same(left, right);
            if let Some(full) = &mut self.full {
                assert_eq!(same, full.same_in_full(left, right), "comparing in part is wrong");
            }
            if !same {
                let history = Some(self.comparer.pages());
                let divergence = Divergence::with_history(step, op, left, right, history);
                // A lost page is graver than the locks or the counters, in which the machines differ.
                let lost = lost_page(right).filter(|_| self.invariants.is_some());
                return match lost {
                    Some(lost)
                        if matches!(divergence.class, Class::RmapLocks | Class::Accounting) =>
                    {
                        Some(Divergence::broken(step, lost, Side::Both))
                    }
                    _ => Some(divergence),
                };
            }
        } else {
            self.right.step(op, right);
            self.failed = self.failed.or(right.failed);
            watch(step, right, right);
            if let Some(divergence) = Divergence::event(step, right) {
                return Some(divergence);
            }
        }
        self.check_shown(step, op)
    }

    /// Checks the invariants of the observation after an operation after which both machines show the
    /// same.
    #[inline]
    fn check_shown(&mut self, step: usize, op: &Op) -> Option<Divergence> {
        let invariants = self.invariants.as_mut()?;
        let right = &self.seen.1;
        let violation = match right.is_fatal() {
            true => None,
            false => invariants.shown.check(op, right).or_else(|| lost_page(right)),
        };
        violation.map(|violation| Divergence::broken(step, violation, Side::Both))
    }

    /// Keeps what the left machine shows, before an operation in which an allocation may fail.
    #[cold]
    fn remember(&mut self) {
        match &mut self.before {
            Some(before) => before.keep(&self.seen.0, &self.comparer),
            None => self.before = Some(Box::new(Before::new(&self.seen.0, &self.comparer))),
        }
    }

    /// Judges an operation in which an allocation failed on the right machine, and lets the left machine
    /// go on in the same way.
    #[cold]
    fn settle_failed(&mut self, step: usize, op: &Op) -> Option<Divergence> {
        self.fails = false;
        self.failed = self.seen.1.failed;
        let (left, before) = (self.left.as_mut()?, self.before.as_ref()?);
        let mut failed = Failed {
            step,
            op,
            failed: self.failed?,
            left,
            seen: (&mut self.seen.0, &self.seen.1),
            comparer: &mut self.comparer,
            before,
            passed_over: self.passed_over,
        };
        let shown = self.invariants.as_mut().map(|invariants| &mut invariants.shown);
        let divergence = failed.settle(shown).err();
        self.settled = divergence.is_none() && failed.passed_over == 0;
        if let Some(full) = &mut self.full {
            full.clone_from(&self.comparer);
        }
        divergence
    }

    /// Returns the allocation of the program that has failed on the right machine.
    pub fn failed(&self) -> Option<Allocation> {
        self.failed
    }

    /// Recounts the hidden state of both machines.
    fn recount(&mut self, step: usize) -> Option<Divergence> {
        let invariants = self.invariants.as_mut()?;
        let right = invariants.recount(&mut self.right, &self.seen.1);
        let left = self.left.as_mut().and_then(|left| invariants.recount(left, &self.seen.0));
        let side = match (&left, &right) {
            (Some(_), None) => Side::Left,
            (None, Some(_)) if self.left.is_some() => Side::Right,
            _ => Side::Both,
        };
        right.or(left).map(|violation| Divergence::broken(step, violation, side))
    }

    /// Reads every page that a process has at the end of a program.
    fn read_all(&mut self, last: usize) -> Option<Divergence> {
        let lacks = |left: &L| !left.has(Opcode::Touch);
        if !self.right.has(Opcode::Touch) || self.left.as_ref().is_some_and(lacks) {
            return None;
        }
        for process in 0..MAX_PROCESSES as u8 {
            let space = &self.seen.1.spaces[usize::from(process)];
            let mut set = visible::readable(space);
            while set != 0 {
                let page = set.trailing_zeros() as u8;
                set &= set - 1;
                let mut operands = [0; MAX_OPERANDS];
                (operands[0], operands[1]) = (process, page);
                let read = Op::from_bytes(Opcode::Touch, operands);
                let mut found = self.step(last, &read, |_, _, _| ());
                if let Some(found) = &mut found {
                    let text = self.read_text(process, page);
                    found.broken.get_or_insert(Broken {
                        side: Side::Right,
                        text,
                        at_teardown: false,
                    });
                    return Some(found.clone());
                }
                if self.seen.1.is_fatal() {
                    return None;
                }
            }
        }
        None
    }

    #[cold]
    fn read_text(&self, process: u8, page: u8) -> String {
        let value = |seen: &Observation| match seen.read {
            Some(value) => format!("reads as {value}"),
            None => "is not read".to_owned(),
        };
        format!(
            "at the end, page {page} of process {process} {}, and {} in {}",
            value(&self.seen.1),
            value(&self.seen.0),
            self.names().0
        )
    }

    /// Judges the end of a program, if it is the turn of this program.
    fn at_end(&mut self, last: usize) -> Option<Divergence> {
        let invariants = self.invariants.as_mut()?;
        invariants.programs = invariants.programs.wrapping_add(1);
        if !invariants.programs.wrapping_sub(1).is_multiple_of(invariants.every.get()) {
            return None;
        }
        self.judge(last)
    }

    /// Judges a program that ends here, with the operation `last`: recounts hidden state, reads every
    /// page, ends every process, and looks at what is left.
    pub fn judge(&mut self, last: usize) -> Option<Divergence> {
        self.invariants.as_ref()?;
        let found = self.recount(last).or_else(|| self.read_all(last));
        if found.is_some() || self.seen.1.is_fatal() {
            return found;
        }
        let lacks_exit = |left: &L| !left.has(Opcode::Exit);
        if !self.right.has(Opcode::Exit) || self.left.as_ref().is_some_and(lacks_exit) {
            return None;
        }
        let alive = (0..MAX_PROCESSES).filter(|&at| self.seen.1.spaces[at].alive);
        let alive = alive.fold(0u8, |set, at| set | 1 << at);
        let mut found = None;
        for process in (0..MAX_PROCESSES as u8).filter(|process| alive >> process & 1 == 1) {
            let mut operands = [0; MAX_OPERANDS];
            operands[0] = process;
            let exit = Op::from_bytes(Opcode::Exit, operands);
            found = self.step(last, &exit, |_, _, _| ());
            if found.is_some() {
                break;
            }
            if self.seen.1.is_fatal() {
                // Both kernels die of the same thing.
                return None;
            }
        }
        let mut found = found.or_else(|| self.recount(last))?;
        let differ =
            || Broken { side: Side::Right, text: "the machines differ".into(), at_teardown: true };
        found.broken.get_or_insert_with(differ).at_teardown = true;
        Some(found)
    }

    /// Returns the observations of both machines after the last performed operation.
    pub fn seen(&self) -> (&Observation, &Observation) {
        (if self.left.is_some() { &self.seen.0 } else { &self.seen.1 }, &self.seen.1)
    }

    /// The machines' names, left and right; the same twice where one machine runs alone.
    pub fn names(&self) -> (&str, &str) {
        let right = self.right.name();
        (self.left.as_ref().map_or(right, Machine::name), right)
    }

    /// Whether one machine runs alone.
    pub fn is_alone(&self) -> bool {
        self.left.is_none()
    }

    /// Whether each machine has shown its hidden state so far, wherever it was asked for.
    pub fn shows_hidden(&self) -> bool {
        self.invariants.as_ref().is_none_or(|invariants| invariants.all_show)
    }
}

/// Adds the state of a machine to `state`, and returns whether the machine writes it itself.
fn write_state(
    machine: &mut impl Machine,
    seen: &Observation,
    state: &mut State,
) -> Result<bool, Violation> {
    state.begin();
    if machine.write_state(state) {
        return Ok(true);
    }
    seen.write_state(state);
    let mut hidden = Hidden::default();
    if machine.show_hidden(&mut hidden).map_err(|failure| Violation::failed(&failure))? {
        hidden.write_state(state);
    }
    Ok(false)
}
