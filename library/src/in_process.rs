//! A library in this process, as a machine.

use std::sync::Arc;

use vmadiff_machine::failure::Failure;
use vmadiff_machine::observation::Event;
use vmadiff_machine::{Hidden, Limits, Machine, Observation, Op, Opcode, abi};

use crate::foreign::{Instance, Loaded};

pub(crate) struct InProcess {
    loaded: Arc<Loaded>,
    /// The machine; `None` if the library returned none for this program.
    instance: Option<Instance>,
    buffer: Box<abi::Observation>,
    hidden: Box<abi::Hidden>,
}

impl InProcess {
    pub(crate) fn new(loaded: Arc<Loaded>) -> InProcess {
        let instance = loaded.instance();
        InProcess { loaded, instance, buffer: abi::Observation::new(), hidden: abi::Hidden::new() }
    }
}

impl Machine for InProcess {
    fn name(&self) -> &str {
        &self.loaded.identity.name
    }

    fn has(&self, opcode: Opcode) -> bool {
        self.loaded.identity.has(opcode)
    }

    fn reset(&mut self, limits: &Limits) {
        if self.instance.is_none() {
            self.instance = self.loaded.instance();
        }
        if let Some(instance) = &mut self.instance {
            instance.reset(&limits.into());
        }
    }

    fn step(&mut self, op: &Op, seen: &mut Observation) {
        let Some(instance) = &mut self.instance else { return fail(seen, Failure::NoMachine) };
        self.buffer.forget();
        instance.step(&op.into(), &mut self.buffer);
        if let Err(nonsense) = self.buffer.read(seen) {
            // The library may have written parts that its answer does not announce.
            self.buffer.forget_all();
            fail(seen, Failure::Nonsense(nonsense));
        }
    }

    fn show_hidden(&mut self, hidden: &mut Hidden) -> Result<bool, Failure> {
        let Some(instance) = &mut self.instance else { return Err(Failure::NoMachine) };
        instance.hidden(&mut self.hidden);
        self.hidden.read(hidden).map_err(Failure::Nonsense)
    }
}

/// Records that the machine failed: an event that ends the program.
pub(crate) fn fail(seen: &mut Observation, failure: Failure) {
    seen.begin_step();
    seen.events.push(Event::Library(failure));
}
