//! Random programs of a given length, each from nothing.

use arbitrary::Unstructured;
use vmadiff_machine::{Op, Program};

use crate::generate::{limits, operation};
use crate::layout::Layout;

/// Bytes that an operation is made from, at most.
const BYTES: usize = 64;

/// The program with that number of those that `seed` makes: the same ones everywhere. Operations
/// that are not `wanted` are drawn anew.
pub fn program(seed: u64, number: u64, operations: usize, wanted: impl Fn(&Op) -> bool) -> Program {
    let mut state = mix(mix(seed) ^ number);
    let mut bytes = [0u8; BYTES];
    let mut fill = || {
        for word in bytes.as_chunks_mut().0 {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            *word = mix(state).to_le_bytes();
        }
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

/// The finalizer of splitmix64: every bit of the result depends on every bit of `x`.
fn mix(x: u64) -> u64 {
    let x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
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
