//! The export of a Rust machine through the C interface.

use super::{Hidden, NAME_BYTES, Observation, Op, RawLimits, put_text};
use crate::op::Opcode;
use crate::program::Limits;
use crate::{Errno, Machine, hidden, observation};

/// A machine that a shared library exports, and its last observation: the `struct vmadiff_machine`
/// of the header.
pub struct Exported {
    machine: Box<dyn Machine>,
    seen: observation::Observation,
    hidden: hidden::Hidden,
}

impl Exported {
    /// Returns `machine` in the form that the exported functions take.
    pub fn new(machine: impl Machine + 'static) -> Exported {
        let (seen, hidden) = (observation::Observation::default(), hidden::Hidden::default());
        Exported { machine: Box::new(machine), seen, hidden }
    }

    /// Writes the machine's name (`vmadiff_name()`). A name that is too long is cut.
    pub fn name(&self, name: &mut [u8; NAME_BYTES]) {
        put_text(self.machine.name(), name);
    }

    /// Returns the set of operations that the machine has (`vmadiff_operations()`).
    pub fn operations(&self) -> u64 {
        let has = |opcode: &&Opcode| self.machine.has(**opcode);
        Opcode::ALL.iter().filter(has).fold(0, |set, opcode| set | 1 << *opcode as u8)
    }

    /// Goes back to the start of a program (`vmadiff_reset()`).
    pub fn reset(&mut self, limits: &RawLimits) {
        self.machine.reset(&Limits::from(limits));
        self.seen.reset();
    }

    /// Performs one operation and writes the observation (`vmadiff_step()`). The machine answers
    /// `ENOSYS` to an operation that this version of the interface does not know.
    pub fn step(&mut self, op: &Op, seen: &mut Observation) {
        match op.to_op() {
            Some(op) => self.machine.step(&op, &mut self.seen),
            None => {
                self.seen.begin_step();
                self.seen.result = Err(Errno::ENOSYS);
            }
        }
        seen.write(&self.seen);
    }

    /// `vmadiff_hidden()`.
    pub fn hidden(&mut self, hidden: &mut Hidden) {
        self.hidden.clear();
        // A machine that runs another library, which fails, shows nothing.
        let shown = self.machine.show_hidden(&mut self.hidden);
        hidden.write(shown.unwrap_or(false).then_some(&self.hidden));
    }
}

/// Makes a shared library of a machine: defines the functions of `include/vmadiff.h`. Each call of
/// `vmadiff_new()` evaluates the expression to get a machine.
///
/// The crate must be a `cdylib` and needs nothing else:
///
/// ```
/// # use vmadiff_machine::{Limits, Machine, Observation, Op};
/// # struct Mine;
/// # impl Machine for Mine {
/// #     fn name(&self) -> &str { "mine" }
/// #     fn reset(&mut self, _: &Limits) {}
/// #     fn step(&mut self, _: &Op, seen: &mut Observation) { seen.begin_step() }
/// # }
/// vmadiff_machine::export_machine!(Mine);
/// ```
///
/// The functions have fixed names, so a library can export one machine only. `unsafe` is in the
/// attribute that fixes the names: nothing else in the library may use these names. References and
/// boxes in the signatures are pointers for C. By the rules of the header they are never null. A
/// panic aborts the process.
#[macro_export]
macro_rules! export_machine {
    ($machine:expr) => {
        const _: () = {
            use ::std::boxed::Box;
            use $crate::abi;

            #[unsafe(no_mangle)]
            extern "C" fn vmadiff_abi_version() -> u32 {
                abi::VERSION
            }

            #[unsafe(no_mangle)]
            extern "C" fn vmadiff_new() -> Box<abi::Exported> {
                Box::new(abi::Exported::new($machine))
            }

            #[unsafe(no_mangle)]
            extern "C" fn vmadiff_free(machine: Box<abi::Exported>) {
                drop(machine);
            }

            #[unsafe(no_mangle)]
            extern "C" fn vmadiff_name(machine: &abi::Exported, name: &mut [u8; abi::NAME_BYTES]) {
                machine.name(name);
            }

            #[unsafe(no_mangle)]
            extern "C" fn vmadiff_operations(machine: &abi::Exported) -> u64 {
                machine.operations()
            }

            #[unsafe(no_mangle)]
            extern "C" fn vmadiff_reset(machine: &mut abi::Exported, limits: &abi::RawLimits) {
                machine.reset(limits);
            }

            #[unsafe(no_mangle)]
            extern "C" fn vmadiff_step(
                machine: &mut abi::Exported,
                op: &abi::Op,
                seen: &mut abi::Observation,
            ) {
                machine.step(op, seen);
            }

            #[unsafe(no_mangle)]
            extern "C" fn vmadiff_hidden(machine: &mut abi::Exported, hidden: &mut abi::Hidden) {
                machine.hidden(hidden);
            }
        };
    };
}
