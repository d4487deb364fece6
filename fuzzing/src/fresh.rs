//! Random programs of a given length, made without a corpus.

use arbitrary::Unstructured;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng as _;
use vmadiff_machine::program::MAX_OPS;
use vmadiff_machine::{Op, Program};

use crate::generate::{Mix, limits, operation, tighten};
use crate::layout::Layout;

/// The number of random bytes from which one operation is made.
const BYTES: usize = 64;

fn bytes(rng: &mut Pcg64) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// Returns a random mix: half of the operations in most cases, else all of them or families.
pub(crate) fn mix(rng: &mut Pcg64) -> Mix {
    Mix::swarm(&mut Unstructured::new(&bytes(rng))).unwrap_or(Mix::ALL)
}

/// Returns the number of operations of a fresh program, from 16 random bits or more. Half of the
/// programs are short: a bug that needs few operations is found sooner.
pub(crate) fn length(random: u32) -> usize {
    let most = if random & 1 == 0 { MAX_OPS } else { MAX_OPS / 4 };
    1 + (random >> 1) as usize % most
}

/// Returns program number `number` of the seed `seed`. The same arguments make the same program on
/// every machine. An operation that is not `wanted` is drawn again. The program is shorter where its
/// last process exits.
pub fn program(seed: u64, number: u64, operations: usize, wanted: impl Fn(&Op) -> bool) -> Program {
    let mut program = Program::default();
    make(&mut program, (seed, number), operations, wanted);
    program
}

/// Makes [`program`] of every operation in the place of another program, and returns its mix.
pub(crate) fn program_into(
    program: &mut Program,
    seed: u64,
    number: u64,
    operations: usize,
) -> Mix {
    make(program, (seed, number), operations, |_| true)
}

fn make(
    program: &mut Program,
    (seed, number): (u64, u64),
    operations: usize,
    wanted: impl Fn(&Op) -> bool,
) -> Mix {
    let mut rng = Pcg64::new(u128::from(seed) << 64 | u128::from(number), 0);
    program.ops.clear();
    program.limits = limits(&mut Unstructured::new(&bytes(&mut rng))).unwrap_or_default();
    let mut mix = mix(&mut rng);
    if program.limits.lock.is_some() {
        mix.lock();
    }
    // The number of operations after which the program comes close to its limits.
    let close = 1 + rng.next_u32() as usize % operations.max(1);
    let mut layout = Layout::of(&[]);
    extend(program, &mut layout, close.min(operations), &mix, &mut rng, &wanted);
    // `Unstructured` reads zeros after its last byte, so this does not fail.
    let _ = tighten(&mut program.limits, &layout, &mut Unstructured::new(&bytes(&mut rng)));
    extend(program, &mut layout, operations, &mix, &mut rng, &wanted);
    mix
}

/// Appends up to `more` random operations to a program, from a random mix.
pub(crate) fn append(program: &mut Program, more: usize, rng: &mut Pcg64) {
    let mix = mix(rng);
    let operations = (program.ops.len() + more).min(MAX_OPS);
    extend(program, &mut Layout::of(&program.ops), operations, &mix, rng, &|_| true);
}

/// Appends operations until the program has so many, or until its last process has exited.
fn extend(
    program: &mut Program,
    layout: &mut Layout,
    operations: usize,
    mix: &Mix,
    rng: &mut Pcg64,
    wanted: &impl Fn(&Op) -> bool,
) {
    while program.ops.len() < operations && layout.processes() > 0 {
        // `Unstructured` reads zeros after its last byte, so this does not fail.
        if let Ok(op) = operation(layout, mix, &mut Unstructured::new(&bytes(rng)))
            && wanted(&op)
        {
            layout.add(&op);
            program.ops.push(op);
        }
    }
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
        // A program is shorter where its last process exits.
        assert!((150 * 24..=200 * 24).contains(&ops.len()), "{}", ops.len());
        for opcode in Opcode::ALL {
            let is_copy = matches!(opcode, Opcode::Copy | Opcode::CopyVma);
            assert_eq!(!ops.contains(opcode), is_copy, "{opcode:?}");
        }
        assert!(first.iter().any(|program| program.limits.map_count.is_some()));
    }

    #[test]
    fn a_program_goes_on_after_its_operations() {
        let mut rng = Pcg64::new(1, 0);
        for number in 0..200 {
            let start = program(1, number, 6, |_| true);
            let mut longer = start.clone();
            append(&mut longer, 10, &mut rng);
            assert!(longer.ops.starts_with(&start.ops) && longer.limits == start.limits);
            // A program ends where its last process exits.
            let ended = |program: &Program| Layout::of(&program.ops).processes() == 0;
            assert!(longer.ops.len() == start.ops.len() + 10 || ended(&longer), "{longer}");
        }
        let mut full = program(1, 0, MAX_OPS, |op| op.opcode() != Opcode::Exit);
        append(&mut full, 10, &mut rng);
        assert_eq!(full.ops.len(), MAX_OPS);
    }
}
