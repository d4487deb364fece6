//! Random programs of a given length, made without a corpus.

use arbitrary::Unstructured;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng as _;
use vmadiff_machine::{Op, Program};

use crate::generate::{limits, operation};
use crate::layout::Layout;

/// The number of random bytes from which one operation is made.
const BYTES: usize = 64;

/// Returns program number `number` of the seed `seed`. The same arguments make the same program on
/// every machine. An operation that is not `wanted` is drawn again.
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
        // `Unstructured` reads zeros after its last byte, so this does not fail.
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
