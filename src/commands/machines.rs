//! The machines that a command runs.

use std::ffi::OsStr;

use clap::Args;
use clap::builder::{PossibleValue, TypedValueParser};
use vmadiff::known::Known;
use vmadiff::lockstep::Lockstep;
use vmadiff::machines::{MachineName, Machines as Boxed, UnknownMachine};
use vmadiff_candidate::Revision;
use vmadiff_faults::Faults;

/// The machines that run: two in lockstep, or one alone.
#[derive(Args)]
pub(crate) struct Machines {
    /// The machine that is taken to be right: reference, reference+RULE, candidate:REVISION,
    /// candidate:fixed+FAULT, or lib:PATH, a shared library. Without it: the reference, which for
    /// candidate:fixed has the fixes of later kernels that fixed has
    #[arg(long, value_name = "MACHINE", value_parser = machine(), hide_possible_values = true)]
    left: Option<MachineName>,
    /// The machine that is compared with it
    #[arg(long, value_name = "MACHINE", default_value = "candidate:v2", value_parser = machine(),
          hide_possible_values = true)]
    right: MachineName,
    /// Compare candidate:fixed with this seeded fault; `vmadiff faults` lists the faults
    #[arg(long, value_name = "NAME", conflicts_with = "right", value_parser = fault(),
          hide_possible_values = true)]
    fault: Option<MachineName>,
    /// Run this machine alone and judge it by the invariants, without a second machine
    #[arg(long, value_name = "MACHINE", conflicts_with_all = ["left", "right", "fault"],
          value_parser = machine(), hide_possible_values = true)]
    alone: Option<MachineName>,
}

impl Machines {
    /// Builds the machines.
    pub(crate) fn lockstep(&self) -> Boxed {
        if let Some(machine) = &self.alone {
            return Lockstep::alone(machine.build());
        }
        Lockstep::new(self.judge().build(), self.judged().build())
    }

    /// The machine that is judged.
    pub(crate) fn judged(&self) -> &MachineName {
        self.alone.as_ref().or(self.fault.as_ref()).unwrap_or(&self.right)
    }

    /// Returns the options that choose the same machines, each with its machine.
    pub(crate) fn options(&self) -> Vec<(&'static str, String)> {
        if let Some(machine) = &self.alone {
            return vec![("--alone", machine.to_string())];
        }
        vec![("--left", self.judge().to_string()), ("--right", self.judged().to_string())]
    }

    /// The machine that is taken to be right.
    fn judge(&self) -> MachineName {
        self.left.clone().unwrap_or_else(|| self.judged().judge())
    }

    /// The list of known divergences, where no other list is given. A machine that runs alone has none.
    pub(crate) fn known(&self) -> Known {
        match &self.alone {
            Some(_) => Known::default(),
            None => self.judged().known(),
        }
    }
}

/// The names of the machines in a sentence: `between LEFT and RIGHT`, or `in MACHINE alone`.
pub(crate) fn sides(lockstep: &Boxed) -> String {
    let (left, right) = lockstep.names();
    match lockstep.is_alone() {
        true => format!("in {right} alone"),
        false => format!("between {left} and {right}"),
    }
}

/// A parser of machine names. Completions of shells show the names that it lists.
#[derive(Clone)]
struct Parser {
    parse: fn(&str) -> Result<MachineName, UnknownMachine>,
    names: fn() -> Vec<String>,
}

/// Returns the parser of an option that takes a machine.
pub(crate) fn machine() -> impl TypedValueParser<Value = MachineName> {
    Parser { parse: str::parse, names: machine_names }
}

/// Returns the parser of an option that takes a seeded fault.
fn fault() -> impl TypedValueParser<Value = MachineName> {
    Parser { parse: MachineName::faulty, names: fault_names }
}

impl TypedValueParser for Parser {
    type Value = MachineName;

    fn parse_ref(
        &self,
        command: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &OsStr,
    ) -> Result<MachineName, clap::Error> {
        self.parse.parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new((self.names)().into_iter().map(PossibleValue::new)))
    }
}

/// Returns the names of the faults that are known here; none if they cannot be read.
fn fault_names() -> Vec<String> {
    let faults = Faults::find().and_then(|faults| faults.all()).unwrap_or_default();
    faults.into_iter().map(|fault| fault.name).collect()
}

fn machine_names() -> Vec<String> {
    let revisions = Revision::ALL.iter().map(|revision| format!("candidate:{revision}"));
    let faulty = fault_names().into_iter().map(|fault| format!("candidate:fixed+{fault}"));
    std::iter::once("reference".to_owned()).chain(revisions).chain(faulty).collect()
}
