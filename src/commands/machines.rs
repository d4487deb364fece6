//! The two machines that a command runs.

use clap::Args;
use vmadiff::lockstep::Lockstep;
use vmadiff::machines::MachineName;
use vmadiff_machine::Machine;

/// Two machines in lockstep, of any kind.
pub(crate) type Boxed = Lockstep<Box<dyn Machine>, Box<dyn Machine>>;

/// The two machines that run in lockstep.
#[derive(Args)]
pub(crate) struct Machines {
    /// The machine that is taken to be right: reference, candidate:REVISION, candidate:fixed+FAULT,
    /// or lib:PATH for a shared library
    #[arg(long, value_name = "MACHINE", default_value = "reference")]
    left: MachineName,
    /// The machine that is compared with it
    #[arg(long, value_name = "MACHINE", default_value = "candidate:v2")]
    right: MachineName,
    /// Compare candidate:fixed with this seeded fault; `vmadiff faults` lists the faults
    #[arg(long, value_name = "NAME", conflicts_with = "right", value_parser = MachineName::faulty)]
    fault: Option<MachineName>,
}

impl Machines {
    /// Builds both machines.
    pub(crate) fn lockstep(&self) -> Boxed {
        Lockstep::new(self.left.build(), self.fault.as_ref().unwrap_or(&self.right).build())
    }
}
