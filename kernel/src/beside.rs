//! The running kernel beside the reference. After each operation the two observations are compared.
//! A difference is reported, unless it goes away under rules for which it is unknown whether they
//! hold on the kernel.

use std::collections::BTreeMap;

use vmadiff_explain::picture::Painter;
use vmadiff_explain::results::answer_text;
use vmadiff_explain::text::{self, Look};
use vmadiff_lockstep::compare::{Comparer, Scope};
use vmadiff_lockstep::divergence::{Divergence, Signature};
use vmadiff_lockstep::invariants::Side;
use vmadiff_lockstep::invariants::shown::Shown;
use vmadiff_machine::{Machine as _, Observation, Op, Program, VmFlags};
use vmadiff_reference::Reference;
use vmadiff_reference::later::{About, Bug, Rule, Rules};

use crate::profile::Profile;
use crate::{Ended, Injection, Kernel, KernelError, Missing, Tolerance};

/// The end of the run of a program.
#[derive(Debug)]
pub enum End {
    /// The program ran to its last operation.
    Whole,
    /// The first operation that needs a facility which the kernel lacks; operation 0 if a limit of
    /// the program needs it.
    Lacks(Missing),
    /// An operation that blocks, by the decision of the reference.
    Blocked,
    /// A difference that goes away under these rules, for which it is unknown whether they hold.
    Undecided(Rules, Divergence),
    /// A difference.
    Differs(Divergence),
    /// A report of the kernel about itself, after an operation or, if the position of the divergence
    /// is behind the last operation, when the processes ended. The text is the report.
    Reported(Divergence, String),
    /// A difference after a failed allocation, which the kernel is known to tolerate.
    Tolerated(Tolerance, Divergence),
    /// An operation that gave no answer within the time limit.
    TimedOut,
    /// The kernel could not be driven or observed.
    Failed(KernelError),
}

/// The run of a program.
#[derive(Debug)]
pub struct Run {
    /// The number of operations after which kernel and reference showed the same.
    pub agree: usize,
    /// The reason of the end, at operation `agree`.
    pub end: End,
}

impl Run {
    /// Returns whether an answer did not come in time.
    fn is_late(&self) -> bool {
        matches!(self.end, End::TimedOut | End::Failed(KernelError::Late(_)))
    }
}

/// A program that did not agree, and agrees when it is run again in a new process.
#[derive(Debug)]
pub struct Unrepeated {
    /// The program.
    pub program: Program,
    /// The end of the run that did not agree.
    pub end: End,
    /// The process of that run had served other programs.
    pub served_before: bool,
}

/// The observations of both sides after an operation.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The index of the operation.
    pub at: usize,
    /// The observation of the reference, [reduced](Kernel::visible) to what the kernel shows.
    pub expected: &'a Observation,
    /// The observation of the kernel.
    pub shown: &'a Observation,
    /// The rules that the reference applied.
    pub applied: Rules,
    /// The program counters that the operation covered in the kernel, in their order, if coverage is
    /// collected.
    pub covered: &'a [u64],
}

/// Returns the tolerance that explains a difference from the reference after failing allocations.
fn tolerance(injection: &Injection, op: &Op, difference: &Divergence) -> Option<Tolerance> {
    let Injection { last, silent, .. } = injection;
    let succeeded = last.failed.then(|| Tolerance::of_succeeded(op, difference)).flatten();
    // The call was repeated in the state that the failed call left.
    succeeded.or(last.left).or(Tolerance::of_missing_pages(difference).filter(|_| *silent))
}

/// Returns the name of an error that the system under test alone can cause; `None` if the driving may have
/// failed for another reason.
fn misbehaviour(error: &KernelError, op: &Op) -> Option<String> {
    let name = op.opcode().name();
    match error {
        KernelError::Died(_) => Some(format!("process-died/{name}")),
        KernelError::Answer(_) => Some(format!("strange-answer/{name}")),
        _ => None,
    }
}

/// Returns the kernel function that decides a rule, its commit, and the side that has the bug:
/// `copy_vma(), commit 0123456789ab ("title"); bug of 5.2.1`.
fn rule_origin(about: &About) -> String {
    let commit = match about.commit {
        Some(commit) => format!(", commit {commit}"),
        None => String::new(),
    };
    let bug = match about.bug {
        Bug::Neither => "no bug of either side".to_owned(),
        side => format!("bug of {side}"),
    };
    format!("{}(){commit}; {bug}", about.function)
}

/// The running kernel and the reference in lockstep.
#[derive(Debug)]
pub struct Beside {
    kernel: Kernel,
    reference: Reference,
    comparer: Comparer,
    model: Observation,
    expected: Observation,
    shown: Observation,
    profile: Profile,
    applied: BTreeMap<Rule, u64>,
    /// The invariants of what the kernel shows.
    invariants: Shown,
    /// The invariant that kernel and reference broke first in the last program.
    broken: Option<Divergence>,
    /// The number of programs that broke each invariant.
    all_broken: BTreeMap<Signature, u64>,
    /// The programs that did not agree, and agree when they are run again.
    unrepeated: Vec<Unrepeated>,
    /// The programs that were late once, and were not when they were run again.
    late: u64,
}

impl Beside {
    /// Returns kernel and reference without rules: every difference from 5.2.1 is reported.
    pub fn new(kernel: Kernel) -> Beside {
        Beside {
            kernel,
            reference: Reference::new(),
            comparer: Comparer::new(Scope::Models),
            model: Observation::default(),
            expected: Observation::default(),
            shown: Observation::default(),
            profile: Profile::default(),
            applied: BTreeMap::new(),
            invariants: Shown::without_contexts(),
            broken: None,
            all_broken: BTreeMap::new(),
            unrepeated: Vec::new(),
            late: 0,
        }
    }

    /// Returns the kernel.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Walks the reverse map of every anonymous page after each operation, or not, from now on.
    ///
    /// # Errors
    /// Returns an error if the kernel does not let this user walk it.
    pub fn walk(&mut self, walk: bool) -> Result<(), KernelError> {
        self.kernel.set_walk(walk)
    }

    /// Ends the processes of the last program.
    pub fn finish(&mut self) {
        self.kernel.finish();
    }

    /// Repeats each operation with failing allocations, or not, from now on.
    ///
    /// # Errors
    /// Returns an error if the kernel cannot let allocations fail.
    pub fn inject(&mut self, inject: bool) -> Result<(), KernelError> {
        self.kernel.set_injection(inject)
    }

    /// Forgets the rules that were applied, and the invariants that were broken.
    pub fn forget_applied(&mut self) {
        self.applied.clear();
        self.all_broken.clear();
    }

    /// Returns the number of programs in which the kernel broke an invariant and the reference, with the
    /// rules that hold, did the same. Such an invariant is a known bug of the kernel.
    pub fn broken(&self) -> &BTreeMap<Signature, u64> {
        &self.all_broken
    }

    /// Returns the rules that are expected to hold on this kernel.
    pub fn profile(&self) -> Profile {
        self.profile
    }

    /// Sets the profile that is expected from now on, and forgets the rules that were applied.
    pub fn expect(&mut self, profile: Profile) {
        self.profile = profile;
        self.applied.clear();
        self.all_broken.clear();
    }

    /// Returns the number of operations that applied each rule.
    pub fn applied(&self) -> &BTreeMap<Rule, u64> {
        &self.applied
    }

    /// Runs a program. Process 0 may be one that has served other programs before. A program that does not agree
    /// is run again in a new process, and this run counts.
    pub fn run(&mut self, program: &Program) -> Run {
        if !self.kernel.can_keep() {
            return self.run_with(program, |_| ());
        }
        let (applied, withheld) = (self.applied.clone(), self.kernel.withheld());
        self.kernel.set_keeping(true);
        let first = self.run_under(self.profile.hold, program, |step| step.applied);
        self.kernel.set_keeping(false);
        let agrees = |end: &End| matches!(end, End::Whole | End::Lacks(_) | End::Blocked);
        if agrees(&first.end) {
            self.count_broken();
            return first;
        }
        let served_before = self.kernel.served_before();
        self.applied = applied;
        self.kernel.set_withheld(withheld);
        let run = self.run_with(program, |_| ());
        if first.is_late() {
            self.late += u64::from(agrees(&run.end));
        } else if agrees(&run.end) {
            let (program, end) = (program.clone(), first.end);
            self.unrepeated.push(Unrepeated { program, end, served_before });
        }
        run
    }

    /// Takes the programs that did not agree, and agree when they are run again.
    pub fn take_unrepeated(&mut self) -> Vec<Unrepeated> {
        std::mem::take(&mut self.unrepeated)
    }

    /// Counts the invariant that the last program broke.
    fn count_broken(&mut self) {
        if let Some(broken) = &self.broken {
            *self.all_broken.entry(broken.signature.clone()).or_default() += 1;
        }
    }

    /// Returns the number of programs that gave no answer in time, and did when they were run again: the machine
    /// had other work.
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Runs a program, and runs it again if it is late. A kernel that hangs is late each time.
    fn repeat_late(&mut self, mut run: impl FnMut(&mut Self) -> Run) -> Run {
        let applied = self.applied.clone();
        let first = run(self);
        if !first.is_late() {
            return first;
        }
        self.applied = applied;
        let again = run(self);
        self.late += u64::from(!again.is_late());
        again
    }

    /// Runs a program to its end, and calls `watch` with each step. A program that is late is run again, from its
    /// first step.
    pub fn run_with(&mut self, program: &Program, mut watch: impl FnMut(Step)) -> Run {
        let run = self.repeat_late(|this| {
            this.run_under(this.profile.hold, program, |step| {
                watch(step);
                step.applied
            })
        });
        self.count_broken();
        let End::Differs(divergence) = run.end else { return run };
        // The program is run again, and what was broken in its first run is shown.
        let broken = self.broken.take();
        let end = match self.undecided(program, &divergence) {
            Some(rules) => End::Undecided(rules, divergence),
            None => End::Differs(divergence),
        };
        self.broken = broken;
        Run { agree: run.agree, end }
    }

    /// Returns the unknown rules that make a difference go away: one of them, or all. `None` if they do
    /// not explain the difference, or if it goes away without them.
    fn undecided(&mut self, program: &Program, difference: &Divergence) -> Option<Rules> {
        let Profile { hold, unknown } = self.profile;
        if unknown.is_empty() {
            return None;
        }
        let (at, again) = (difference.step, self.run_under(hold, program, |_| Rules::NONE));
        let comes_again =
            |again: &Divergence| (again.step, &again.signature) == (at, &difference.signature);
        if !matches!(&again.end, End::Differs(again) if comes_again(again)) {
            return None;
        }
        let alone = unknown.iter().map(|rule| Rules::NONE.with(rule));
        let all = Some(unknown).filter(|unknown| unknown.iter().count() > 1);
        alone.chain(all).find(|rules| {
            let run = self.run_under(hold.union(*rules), program, |_| Rules::NONE);
            run.agree > at || !matches!(run.end, End::Differs(_))
        })
    }

    /// Runs a program beside a reference with `rules`. `watch` returns the applied rules to count.
    fn run_under(
        &mut self,
        rules: Rules,
        program: &Program,
        watch: impl FnMut(Step) -> Rules,
    ) -> Run {
        if let Some(missing) = self.kernel.lacks_limit(&program.limits) {
            return Run { agree: 0, end: End::Lacks(missing) };
        }
        self.kernel.reset(&program.limits);
        self.reference = Reference::with_rules(rules);
        self.reference.reset(&program.limits);
        self.comparer.reset();
        self.invariants.reset();
        self.broken = None;
        for seen in [&mut self.model, &mut self.expected, &mut self.shown] {
            seen.reset();
        }
        let run = self.steps(program, watch);
        if matches!(run.end, End::Reported(..)) {
            return run;
        }
        // Some reports appear when the memory of a process is freed.
        self.kernel.finish();
        match self.reported(program.ops.len()) {
            Some(end) => Run { agree: run.agree, end },
            None => run,
        }
    }

    /// Returns the end of a program by a report of the kernel, if there is a report.
    fn reported(&mut self, at: usize) -> Option<End> {
        let report = self.kernel.take_report()?;
        Some(End::Reported(Divergence::reported(at, &report.name), report.text))
    }

    /// Runs the operations of a program.
    fn steps(&mut self, program: &Program, mut watch: impl FnMut(Step) -> Rules) -> Run {
        for (at, op) in program.ops.iter().enumerate() {
            let facilities = self.kernel.facilities();
            let missing = facilities
                .lacks(op)
                .or(facilities.lacks_under(op, &program.limits))
                .or_else(|| facilities.lacks_in(op, &self.shown));
            if let Some(missing) = missing {
                return Run { agree: at, end: End::Lacks(missing) };
            }
            self.reference.step(op, &mut self.model);
            self.kernel.step(op, &mut self.shown);
            if let Some(end) = self.reported(at) {
                return Run { agree: at, end };
            }
            let injection = self.kernel.injection();
            if let Some(signature) = injection.and_then(|known| known.last.wrong.as_ref()) {
                let end = End::Differs(Divergence::after_failure(at, signature));
                return Run { agree: at, end };
            }
            match self.kernel.take_ended() {
                Some(Ended::TimedOut) => return Run { agree: at, end: End::TimedOut },
                Some(Ended::Failed(error)) => {
                    let end = match misbehaviour(&error, op) {
                        Some(name) => {
                            let finding = Divergence::reported(at, &name);
                            End::Reported(finding, format!("{error}\n"))
                        }
                        None => End::Failed(error),
                    };
                    return Run { agree: at, end };
                }
                blocked => {
                    self.kernel.visible(&self.model, &mut self.expected);
                    self.kernel.complete(&self.expected, &mut self.shown);
                    let (expected, shown) = (&self.expected, &self.shown);
                    let applied = self.reference.applied();
                    let covered = &self.kernel.take_covered();
                    for rule in watch(Step { at, expected, shown, applied, covered }).iter() {
                        *self.applied.entry(rule).or_default() += 1;
                    }
                    if !self.comparer.same(expected, shown) {
                        let divergence = Divergence::of(at, op, expected, shown);
                        let injection = self.kernel.injection();
                        let end =
                            match injection.and_then(|known| tolerance(known, op, &divergence)) {
                                Some(tolerance) => End::Tolerated(tolerance, divergence),
                                None => End::Differs(divergence),
                            };
                        return Run { agree: at, end };
                    }
                    let (expected, shown) = (&mut self.expected, &mut self.shown);
                    match self.kernel.shares_as(&self.model, expected, shown) {
                        Ok(true) => {}
                        Ok(false) => {
                            let divergence = Divergence::of(at, op, expected, shown);
                            return Run { agree: at, end: End::Differs(divergence) };
                        }
                        Err(error) => return Run { agree: at, end: End::Failed(error) },
                    }
                    if self.broken.is_none()
                        && let Some(violation) = self.invariants.check_spaces(op, &self.shown)
                    {
                        self.broken = Some(Divergence::broken(at, violation, Side::Both));
                    }
                    if blocked.is_some() {
                        return Run { agree: at + 1, end: End::Blocked };
                    }
                }
            }
        }
        Run { agree: program.ops.len(), end: End::Whole }
    }

    /// Runs a program and renders the run. Each operation is shown with the rules that it applied.
    pub fn report(&mut self, program: &Program, look: Look) -> (Run, String) {
        let unseen = match self.kernel.facilities().soft_dirty {
            true => VmFlags::empty(),
            false => VmFlags::VM_SOFTDIRTY,
        };
        let mut painter = Painter::new(Scope::Models).without(unseen);
        let (mut results, mut last) = (Vec::new(), None);
        let mut met = Rules::NONE;
        let run = self.run_with(program, |Step { at, expected, shown, applied, .. }| {
            last = Some(painter.picture(&program.ops[at], expected, shown));
            // A program that is late runs again, from its first operation.
            results.truncate(at);
            met = if at == 0 { applied } else { met.union(applied) };
            let (l, r) = (answer_text(expected), answer_text(shown));
            let result = if l == r { l } else { format!("{l} | {r}") };
            results.push(match applied.is_empty() {
                true => result,
                false => format!("{result}  ({applied})"),
            });
        });
        results.resize(program.ops.len(), "not run".into());
        let mark = match &run.end {
            End::Differs(_) | End::Undecided(..) => Some(run.agree),
            End::Reported(divergence, _) => Some(divergence.step),
            _ => None,
        };
        let sheet = text::program_lines(&program.limits, &program.ops, &results, mark, look);
        let drawing = last
            .map(|last| text::picture(&last, ("reference", self.kernel.name()), look).text(look));
        let end = end_text(&run, program, (self.kernel.name(), met), drawing.as_deref());
        let broken = self.broken.as_ref().map_or_else(String::new, broken_text);
        let text = format!("{}\n{}{broken}{end}", sheet.text(look), rules_text(met));
        (run, text)
    }
}

/// Returns the facts about the rules that a program met.
fn rules_text(met: Rules) -> String {
    met.iter()
        .map(|rule| {
            let about = rule.about();
            let since = match about.since {
                Some(version) => format!("since {version}"),
                None => "of some processors or architectures".into(),
            };
            let (name, text) = (about.name, about.text);
            let origin = rule_origin(about);
            format!("rule {name}, {since}: {text}\n  {origin}\n")
        })
        .collect()
}

/// Returns the sentence about an invariant that kernel and reference broke.
fn broken_text(broken: &Divergence) -> String {
    let Divergence { step, signature, broken, .. } = broken;
    let text = broken.as_ref().map_or("", |broken| broken.text.as_str());
    format!(
        "broken invariant {signature} after operation {}, by the reference with the rules that \
         hold, too: {text}\n",
        step + 1
    )
}

/// Returns the sentence about the end of a program: on the kernel of this name, which met these rules. `drawing`
/// shows the last operation.
fn end_text(
    run: &Run,
    program: &Program,
    (name, met): (&str, Rules),
    drawing: Option<&str>,
) -> String {
    // People count operations from 1.
    let (agree, at) = (run.agree, run.agree + 1);
    let sides = |title: String| format!("{title}\n\n{}", drawing.unwrap_or_default());
    let agrees = match met.is_empty() {
        true => format!("no difference between reference and {name}"),
        false => format!("no difference between reference, with the rules named, and {name}"),
    };
    match &run.end {
        End::Whole => format!("{agrees}\n"),
        End::Lacks(missing) if agree == 0 && program.limits.map_count.is_some() => {
            format!("not run: {name} lacks {missing}\n")
        }
        End::Lacks(missing) => {
            format!(
                "{name} lacks {missing}, so operation {at} and all after it were not run; \
                 {agrees} up to there\n"
            )
        }
        End::Blocked => format!(
            "operation {agree} blocks: it waits for a page that userfaultfd watches, and was \
             killed, so all after it were not run; {agrees} up to there\n"
        ),
        End::Undecided(rules, divergence) => sides(format!(
            "difference {} after operation {at}, undecided: the difference goes away under the \
             rules {rules}, and it is unknown whether they hold (vmadiff kernel --probe)",
            divergence.signature
        )),
        End::Differs(divergence) => {
            sides(format!("difference {} after operation {at}", divergence.signature))
        }
        End::Tolerated(tolerance, divergence) => format!(
            "difference {} after operation {at}, tolerated: {tolerance}\n",
            divergence.signature
        ),
        End::Reported(divergence, report) => {
            let after = match divergence.step < program.ops.len() {
                true => format!("after operation {}", divergence.step + 1),
                false => "when the processes ended".into(),
            };
            format!("{name} reports {} {after}\n\n{report}", divergence.signature)
        }
        End::TimedOut => format!("operation {at} gave no answer in time and was killed\n"),
        End::Failed(error) => format!("operation {at} could not be run: {error}\n"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_the_function_the_commit_and_the_side_with_the_bug_of_a_rule() {
        let origin = |rule: Rule| rule_origin(rule.about());
        assert_eq!(
            origin(Rule::UffdOffset),
            "userfaultfd_register(), commit 5543d3c43c41 (\"mm/uffd: allow vma to merge as much as \
             possible\"); bug of 5.2.1"
        );
        assert!(origin(Rule::MremapDontunmapLocked).ends_with("; bug of the later kernel"));
        assert_eq!(origin(Rule::ExecuteOnly), "arch_vma_access_permitted(); no bug of either side");
    }

    #[test]
    fn a_program_that_is_late_once_is_run_again_and_counted() {
        let kernel = match Kernel::new(crate::Options::default()) {
            Ok(kernel) => kernel,
            Err(error) => {
                println!("skipped: the running kernel cannot be driven: {error}");
                return;
            }
        };
        let mut beside = Beside::new(kernel);
        let late = || Run { agree: 3, end: End::TimedOut };
        let mut ends = vec![Run { agree: 4, end: End::Whole }, late()];
        let run = beside.repeat_late(|_| ends.pop().expect("two runs"));
        assert!(matches!(run, Run { agree: 4, end: End::Whole }));
        assert_eq!(beside.late(), 1);
        // What hangs is late again.
        assert!(beside.repeat_late(|_| late()).is_late());
        let failed = || Run { agree: 0, end: End::Failed(KernelError::Late(0)) };
        assert!(beside.repeat_late(|_| failed()).is_late());
        assert_eq!(beside.late(), 1);
    }
}
