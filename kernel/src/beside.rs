//! The running kernel beside the reference: what they show after each operation is compared, and
//! a difference is explained by a [rule](crate::profile) or reported.

use std::collections::{BTreeMap, BTreeSet};

use vmadiff_explain::picture::Painter;
use vmadiff_explain::results::result_text;
use vmadiff_explain::text::{self, Look};
use vmadiff_lockstep::compare::{Comparer, Scope};
use vmadiff_lockstep::divergence::Divergence;
use vmadiff_machine::{Errno, Limits, Machine as _, Observation, Op, Program};
use vmadiff_reference::Reference;

use crate::profile::{Difference, Instead, RULES, Rule};
use crate::{Ended, Kernel, KernelError, Missing};

/// How the run of a program ended.
#[derive(Debug)]
pub enum End {
    /// With its last operation.
    Whole,
    /// Before the first operation that needs what the kernel lacks; before any where its limits do.
    Lacks(Missing),
    /// With an operation that blocks, as the reference says it does.
    Blocked,
    /// With a difference that a rule explains: what follows is another program.
    Explained(&'static Rule),
    /// Before an operation that the kernel performs by a rule, in a way that has no words here
    /// ([`Instead::Unnameable`]).
    Unnameable(&'static Rule),
    /// With a difference that no rule explains.
    Differs(Divergence),
    /// With an operation that gave no answer in time.
    TimedOut,
    /// The kernel could not be driven or observed.
    Failed(KernelError),
}

/// Whether a rule holds on a kernel.
#[derive(Debug)]
pub enum Holds {
    /// It does what the rule says.
    Yes,
    /// It does what 5.2.1 does.
    No,
    /// It cannot run the rule's program.
    Unknown(Missing),
    /// It does a third thing, which the report shows.
    Otherwise(String),
}

/// What became of a program.
#[derive(Debug)]
pub struct Run {
    /// Operations after which kernel and reference showed the same.
    pub agree: usize,
    /// What ended it, at operation `agree`.
    pub end: End,
}

/// The running kernel and the reference in lockstep.
#[derive(Debug)]
pub struct Beside {
    kernel: Kernel,
    reference: Reference,
    comparer: Comparer,
    /// What the reference shows, before the operation and after.
    before: Observation,
    model: Observation,
    /// What of that the kernel could show, and what it shows.
    expected: Observation,
    shown: Observation,
    profile: Vec<&'static Rule>,
    applied: BTreeMap<&'static str, u64>,
    /// The rules about what is not shown that have begun to count in this program.
    begun: BTreeSet<&'static str>,
}

impl Beside {
    /// With no rules: every difference is reported.
    pub fn new(kernel: Kernel) -> Beside {
        Beside {
            kernel,
            reference: Reference::new(),
            comparer: Comparer::new(Scope::Models),
            before: Observation::default(),
            model: Observation::default(),
            expected: Observation::default(),
            shown: Observation::default(),
            profile: Vec::new(),
            applied: BTreeMap::new(),
            begun: BTreeSet::new(),
        }
    }

    /// The kernel.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// The rules that hold on this kernel.
    pub fn profile(&self) -> &[&'static Rule] {
        &self.profile
    }

    /// Runs a program up to its end, the first difference, or what the kernel lacks, and shows
    /// `watch` the expected and the shown observation of each operation.
    pub fn run_with(
        &mut self,
        program: &Program,
        mut watch: impl FnMut(usize, &Observation, &Observation),
    ) -> Run {
        if let Some(missing) = self.kernel.lacks_limit(&program.limits) {
            return Run { agree: 0, end: End::Lacks(missing) };
        }
        self.kernel.reset(&program.limits);
        self.reference.reset(&program.limits);
        self.comparer.reset();
        self.begun.clear();
        for seen in [&mut self.before, &mut self.model, &mut self.expected, &mut self.shown] {
            seen.reset();
        }
        for (agree, op) in program.ops.iter().enumerate() {
            if let Some(missing) = self.kernel.facilities().lacks(op) {
                return Run { agree, end: End::Lacks(missing) };
            }
            self.before.clone_from(&self.model);
            if let Some(rule) = self.step_reference(op, &program.limits) {
                return Run { agree, end: End::Unnameable(rule) };
            }
            self.kernel.step(op, &mut self.shown);
            match self.kernel.take_ended() {
                Some(Ended::TimedOut) => return Run { agree, end: End::TimedOut },
                Some(Ended::Failed(error)) => return Run { agree, end: End::Failed(error) },
                blocked => {
                    self.kernel.visible(&self.model, &mut self.expected);
                    watch(agree, &self.expected, &self.shown);
                    if !self.comparer.same(&self.expected, &self.shown) {
                        return Run { agree, end: self.difference(agree, op, &program.limits) };
                    }
                    if blocked.is_some() {
                        return Run { agree: agree + 1, end: End::Blocked };
                    }
                }
            }
        }
        Run { agree: program.ops.len(), end: End::Whole }
    }

    /// The reference performs `op`, or what a rule has this kernel do instead; where that cannot be
    /// said in operations, the rule.
    fn step_reference(&mut self, op: &Op, limits: &Limits) -> Option<&'static Rule> {
        let instead = self.profile.iter().find_map(|rule| {
            let instead = rule.instead(op, &self.before, limits)?;
            Some((*rule, instead))
        });
        match &instead {
            None => self.reference.step(op, &mut self.model),
            Some((_, Instead::Answers(result))) => {
                self.model.begin_step();
                self.model.result = *result;
            }
            Some((_, Instead::Does(ops, error))) => self.step_all(ops, *error),
            Some((rule, Instead::Unnameable)) => return Some(rule),
        }
        let answers = self.profile.iter().find_map(|rule| {
            let answer = rule.answers(op, &self.before, &self.model)?;
            Some((*rule, answer))
        });
        if let Some((_, answer)) = answers {
            self.model.result = answer;
        }
        let rules = instead
            .as_ref()
            .map(|(rule, _)| *rule)
            .into_iter()
            .chain(answers.map(|(rule, _)| rule));
        for rule in rules {
            *self.applied.entry(rule.name).or_default() += 1;
        }
        let begins = |rule: &&Rule| rule.begins(op, &self.before, &self.model);
        self.begun.extend(self.profile.iter().copied().filter(begins).map(|rule| rule.name));
        None
    }

    /// The reference performs `ops` as one operation: see [`Instead::Does`].
    fn step_all(&mut self, ops: &[Op], error: Option<Errno>) {
        let (mut first, mut changed) = (None, 0);
        self.model.begin_step();
        for op in ops {
            self.reference.step(op, &mut self.model);
            changed |= self.model.changed;
            first = first.or(Some(self.model.result));
            if self.model.result.is_err() {
                first = Some(self.model.result);
                break;
            }
        }
        self.model.changed = changed;
        self.model.result = match (first, error) {
            (Some(Err(error)), _) | (_, Some(error)) => Err(error),
            (Some(ok), None) => ok,
            (None, None) => Ok(0),
        };
    }

    /// Finds out which rules hold on this kernel, and knows them from now on.
    pub fn probe(&mut self) -> Vec<(&'static Rule, Holds)> {
        let found: Vec<_> = RULES.iter().map(|rule| (rule, self.try_rule(rule))).collect();
        let hold = found.iter().filter(|(_, holds)| matches!(holds, Holds::Yes));
        self.profile = hold.map(|(rule, _)| *rule).collect();
        self.applied.clear();
        found
    }

    /// Whether a rule holds: its last operation differs without it, and with it does not.
    fn try_rule(&mut self, rule: &'static Rule) -> Holds {
        let program: Program = match rule.program.parse() {
            Ok(program) => program,
            Err(error) => return Holds::Otherwise(format!("its program: {error}\n")),
        };
        self.profile.clear();
        let run = self.run(&program);
        match run.end {
            End::Whole => return Holds::No,
            End::Lacks(missing) => return Holds::Unknown(missing),
            End::Differs(_) if run.agree + 1 == program.ops.len() => {}
            _ => return Holds::Otherwise(self.report(&program, Look::default()).1),
        }
        self.profile.push(rule);
        match self.run(&program).end {
            End::Whole | End::Explained(_) | End::Unnameable(_) => Holds::Yes,
            _ => Holds::Otherwise(self.report(&program, Look::default()).1),
        }
    }

    /// How often each rule said what the kernel does instead.
    pub fn applied(&self) -> &BTreeMap<&'static str, u64> {
        &self.applied
    }

    /// Runs a program.
    pub fn run(&mut self, program: &Program) -> Run {
        self.run_with(program, |_, _, _| ())
    }

    fn difference(&self, step: usize, op: &Op, limits: &Limits) -> End {
        let difference = Difference {
            op,
            limits,
            before: &self.before,
            model: &self.model,
            expected: &self.expected,
            shown: &self.shown,
        };
        match self
            .profile
            .iter()
            .find(|rule| rule.explains(&difference, self.begun.contains(rule.name)))
        {
            Some(rule) => End::Explained(rule),
            None => End::Differs(Divergence::of(step, op, &self.expected, &self.shown)),
        }
    }

    /// Runs a program and renders what happens.
    pub fn report(&mut self, program: &Program, look: Look) -> (Run, String) {
        let (mut results, mut painter, mut last) = (Vec::new(), Painter::new(Scope::Models), None);
        let run = self.run_with(program, |step, expected, shown| {
            last = Some(painter.picture(&program.ops[step], expected, shown));
            let text = |seen: &Observation| result_text(seen.result);
            let (l, r) = (text(expected), text(shown));
            results.push(if l == r { l } else { format!("{l} | {r}") });
        });
        results.resize(program.ops.len(), "not run".into());
        let differs = matches!(run.end, End::Differs(_) | End::Explained(_));
        let mark = differs.then_some(run.agree);
        let sheet = text::program_lines(&program.limits, &program.ops, &results, mark, look);
        let at = run.agree;
        let name = self.kernel.name().to_owned();
        let sides = |title: String| {
            let drawing = last.map(|last| text::picture(&last, ("reference", &name), look));
            format!("{title}\n\n{}", drawing.map_or_else(String::new, |drawn| drawn.text(look)))
        };
        let end = match &run.end {
            End::Whole => format!("no difference between reference and {name}\n"),
            End::Lacks(missing) if at == 0 && program.limits.map_count.is_some() => {
                format!("not run: {name} lacks {missing}\n")
            }
            End::Lacks(missing) => format!("run up to operation {at}: {name} lacks {missing}\n"),
            End::Blocked => format!(
                "operation {} blocks: it waits for a page that userfaultfd watches, and was killed; \
                 no difference between reference and {name} up to there\n",
                at - 1
            ),
            End::Explained(rule) => sides(format!(
                "difference after operation {at}, explained by {}: {}",
                rule.name, rule.what
            )),
            End::Unnameable(rule) => format!(
                "run up to operation {at}: what {} does there no operations of 5.2.1 come to\n",
                rule.name
            ),
            End::Differs(divergence) => {
                sides(format!("difference {} after operation {at}", divergence.signature))
            }
            End::TimedOut => format!("operation {at} gave no answer in time and was killed\n"),
            End::Failed(error) => format!("operation {at} could not be run: {error}\n"),
        };
        let text = format!("{}\n{end}", sheet.text(look));
        (run, text)
    }
}
