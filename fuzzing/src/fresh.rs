//! Random programs of a given length, each from nothing.

use arbitrary::Unstructured;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng as _;
use vmadiff_machine::{Op, Program};

use crate::generate::{limits, operation};
use crate::layout::Layout;

/// The most bytes that an operation is made from.
const BYTES: usize = 64;

/// Returns program `number` of those that `seed` makes, which are the same on every machine. An
/// operation that is not `wanted` is drawn anew.
pub fn program(seed: u64, number: u64, operations: usize, wanted: impl Fn(&Op) -> bool) -> Program {
    let mut rng = Pcg64::new(u128::from(seed) << 64 | u128::from(number), 0);
    let mut fill = || {
        let mut bytes = [0u8; BYTES];
        rng.fill_bytes(&mut bytes);
        bytes
    };
    let mut program = Program::default();
    if let Ok(limits) = limits(&mut Unstructured::new(&fill())) {
        program.limits = limits;
    }
    let mut layout = Layout::of(&[]);
    while program.ops.len() < operations {
        // Bytes that run out read as zeros: it never fails.
        if let Ok(op) = operation(&layout, &mut Unstructured::new(&fill()))
            && wanted(&op)
        {
            layout.add(&op);
            program.ops.push(op);
        }
    }
    program
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmadiff_machine::Opcode;

    #[test]
    fn programs_are_the_same_for_the_same_seed_and_have_what_is_wanted() {
        let programs = |seed| -> Vec<Program> {
            let wanted = |op: &Op| !matches!(op.opcode(), Opcode::Copy | Opcode::CopyVma);
            (0..200).map(|number| program(seed, number, 24, wanted)).collect()
        };
        let first = programs(1);
        assert_eq!(first, programs(1));
        assert_ne!(first, programs(2));
        let ops: Vec<Opcode> =
            first.iter().flat_map(|program| &program.ops).map(Op::opcode).collect();
        assert_eq!(ops.len(), 200 * 24);
        for opcode in Opcode::ALL {
            let is_copy = matches!(opcode, Opcode::Copy | Opcode::CopyVma);
            assert_eq!(!ops.contains(opcode), is_copy, "{opcode:?}");
        }
        assert!(first.iter().any(|program| program.limits.map_count.is_some()));
    }
}
