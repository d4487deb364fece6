//! The machines that a command runs.

use clap::Args;
use vmadiff::lockstep::Lockstep;
use vmadiff::machines::{MachineName, Machines as Boxed};

/// The machines that run: two in lockstep, or one alone.
#[derive(Args)]
pub(crate) struct Machines {
    /// The machine that is taken to be right: reference, reference+RULE, candidate:REVISION,
    /// candidate:fixed+FAULT, or lib:PATH, a shared library. Without it: the reference, which for
    /// candidate:fixed has the fixes of later kernels that fixed has
    #[arg(long, value_name = "MACHINE")]
    left: Option<MachineName>,
    /// The machine that is compared with it
    #[arg(long, value_name = "MACHINE", default_value = "candidate:v2")]
    right: MachineName,
    /// Compare candidate:fixed with this seeded fault; `vmadiff faults` lists the faults
    #[arg(long, value_name = "NAME", conflicts_with = "right", value_parser = MachineName::faulty)]
    fault: Option<MachineName>,
    /// Run this machine alone and judge it by the invariants, without a second machine
    #[arg(long, value_name = "MACHINE", conflicts_with_all = ["left", "right", "fault"])]
    alone: Option<MachineName>,
}

impl Machines {
    /// Builds the machines.
    pub(crate) fn lockstep(&self) -> Boxed {
        if let Some(machine) = &self.alone {
            return Lockstep::alone(machine.build());
        }
        let right = self.judged();
        let left = self.left.clone().unwrap_or_else(|| right.judge());
        Lockstep::new(left.build(), right.build())
    }

    /// The machine that is judged.
    pub(crate) fn judged(&self) -> &MachineName {
        self.alone.as_ref().or(self.fault.as_ref()).unwrap_or(&self.right)
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
