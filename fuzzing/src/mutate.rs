//! The structure-aware mutator: decodes a program, mutates it and encodes it.
//!
//! `mutatis` drives the mutations of a program; `arbitrary` makes new operations. The module is
//! independent of the fuzzing engine: [`mutate`] and [`crossover`] have the signatures of
//! libFuzzer's hooks.

use arbitrary::Unstructured;
use mutatis::{Candidates, Context, Mutate, Session};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::Rng as _;
use vmadiff_machine::operand::{Access, Arg, CopyFlags, Domain as _};
use vmadiff_machine::program::MAX_OPS;
use vmadiff_machine::{Op, Program, Role, corpus};

use crate::fresh;
use crate::generate::{self, Mix};
use crate::layout::{self, Layout};

/// Mutates programs, with new operations of a mix.
#[derive(Clone, Copy, Debug)]
pub struct ProgramMutator(pub Mix);

/// A small change of a program.
type Mutation = fn(&mut Program, &Mix, &mut Unstructured) -> arbitrary::Result<()>;

/// The condition under which a mutation applies to a program.
#[derive(Clone, Copy)]
enum Needs {
    Nothing,
    Operations,
    /// The program has room for more operations: the mutation makes it longer.
    Room,
    OperationsAndRoom,
}

/// The mutations: the name, the weight in the random choice, the condition, and the function.
const MUTATIONS: [(&str, u32, Needs, Mutation); 17] = [
    ("insert", 8, Needs::Room, insert),
    ("append", 6, Needs::Room, append),
    ("continue", 3, Needs::OperationsAndRoom, continue_one),
    ("delete", 3, Needs::Operations, delete),
    ("change an operand", 10, Needs::Operations, change_operand),
    ("retarget to an edge", 3, Needs::Operations, retarget),
    ("move to another process", 2, Needs::Operations, move_process),
    ("align the page offset", 1, Needs::Operations, align_pgoff),
    ("flip a flag", 2, Needs::Operations, flip_flag),
    ("toggle a fork", 1, Needs::Operations, toggle_fork),
    ("grow a family", 3, Needs::OperationsAndRoom, grow_family),
    ("copy between relatives", 2, Needs::OperationsAndRoom, copy_between_relatives),
    ("replace", 2, Needs::Operations, replace),
    ("swap", 2, Needs::Operations, swap),
    ("duplicate a slice", 1, Needs::OperationsAndRoom, duplicate),
    ("exchange processes", 1, Needs::Operations, exchange_processes),
    ("change the limits", 3, Needs::Nothing, change_limits),
];

impl Mutate<Program> for ProgramMutator {
    fn mutate(
        &mut self,
        candidates: &mut Candidates<'_>,
        program: &mut Program,
    ) -> mutatis::Result<()> {
        let mix = self.0;
        let full = candidates.shrink() || program.ops.len() >= MAX_OPS;
        for (_, weight, needs, mutation) in MUTATIONS {
            if full && matches!(needs, Needs::Room | Needs::OperationsAndRoom) {
                continue;
            }
            if program.ops.is_empty()
                && matches!(needs, Needs::Operations | Needs::OperationsAndRoom)
            {
                continue;
            }
            candidates.mutation_group(weight, |context, _| {
                let bytes = random_bytes(context);
                mutation(program, &mix, &mut Unstructured::new(&bytes))
                    .map_err(|_| mutatis::Error::other("no random bytes left"))
            })?;
        }
        Ok(())
    }
}

/// Returns the random bytes for one mutation. A new operation takes about twenty bytes; a family
/// takes four bytes a member.
fn random_bytes(context: &mut Context) -> [u8; 96] {
    let mut bytes = [0; 96];
    context.rng().gen_bytes(&mut bytes);
    bytes
}

fn position(program: &Program, u: &mut Unstructured) -> arbitrary::Result<usize> {
    u.choose_index(program.ops.len())
}

fn insert(program: &mut Program, mix: &Mix, u: &mut Unstructured) -> arbitrary::Result<()> {
    let at = u.choose_index(program.ops.len() + 1)?;
    // Mostly the layout before this operation; sometimes the layout at the end, so that edges of
    // later operations are met as well.
    let seen = if u.ratio(3, 4)? { at } else { program.ops.len() };
    let op = generate::operation(&Layout::of(&program.ops[..seen]), mix, u)?;
    program.ops.insert(at, op);
    Ok(())
}

fn append(program: &mut Program, mix: &Mix, u: &mut Unstructured) -> arbitrary::Result<()> {
    program.ops.push(generate::operation(&Layout::of(&program.ops), mix, u)?);
    Ok(())
}

fn continue_one(program: &mut Program, _: &Mix, u: &mut Unstructured) -> arbitrary::Result<()> {
    let at = position(program, u)?;
    let op = generate::continued(&program.ops[at]);
    program.ops.insert(at + 1, op);
    Ok(())
}

fn delete(program: &mut Program, _: &Mix, u: &mut Unstructured) -> arbitrary::Result<()> {
    let at = position(program, u)?;
    let most = (program.ops.len() - at).min(4);
    let count = u.int_in_range(1..=most)?;
    program.ops.drain(at..at + count);
    Ok(())
}

fn change_operand(program: &mut Program, _: &Mix, u: &mut Unstructured) -> arbitrary::Result<()> {
    let at = position(program, u)?;
    program.ops[at] =
        generate::change_operand(&program.ops[at], &Layout::of(&program.ops[..at]), u)?;
    Ok(())
}

/// Returns the indexes of the operands of an operation whose role is `wanted`.
fn operands(op: &Op, wanted: fn(Role) -> bool) -> impl Iterator<Item = usize> {
    let types = op.opcode().operands();
    (0..types.len()).filter(move |n| wanted(types[*n].role))
}

/// Changes one operand whose role is wanted. `change` gets the old value and the number of values,
/// and returns the new value.
fn change_by_role(
    program: &mut Program,
    u: &mut Unstructured,
    wanted: fn(Role) -> bool,
    change: impl FnOnce(u8, usize, &mut Unstructured) -> arbitrary::Result<u8>,
) -> arbitrary::Result<()> {
    let all: Vec<(usize, usize)> = (0..program.ops.len())
        .flat_map(|at| operands(&program.ops[at], wanted).map(move |n| (at, n)))
        .collect();
    if all.is_empty() {
        return Ok(());
    }
    let (at, n) = all[u.choose_index(all.len())?];
    let op = program.ops[at];
    let ty = &op.opcode().operands()[n];
    let mut bytes = op.bytes();
    bytes[n] = change(ty.reduce(bytes[n]), ty.size, u)?;
    program.ops[at] = Op::from_bytes(op.opcode(), bytes);
    Ok(())
}

/// Moves the start of a range to a page at which another range begins or ends.
fn retarget(program: &mut Program, _: &Mix, u: &mut Unstructured) -> arbitrary::Result<()> {
    let layout = Layout::of(&program.ops);
    let starts = |role| matches!(role, Role::Start(_));
    change_by_role(program, u, starts, |_, _, u| Ok(layout.edge(u)?.0))
}

fn is_process(role: Role) -> bool {
    matches!(role, Role::Caller | Role::SourceProcess)
}

fn move_process(program: &mut Program, _: &Mix, u: &mut Unstructured) -> arbitrary::Result<()> {
    let layout = Layout::of(&program.ops);
    change_by_role(program, u, is_process, |_, _, u| Ok(layout.process(u)?.0))
}

/// Changes the page offset of a file mapping so that it continues another mapping of the same file, or
/// misses that by a few pages.
fn align_pgoff(program: &mut Program, _: &Mix, u: &mut Unstructured) -> arbitrary::Result<()> {
    let (at, like) = (position(program, u)?, position(program, u)?);
    let like = program.ops[like];
    if let (
        Op::Mmap { page, pgoff, kind, .. },
        Op::Mmap { page: other, pgoff: shown, kind: of, .. },
    ) = (&mut program.ops[at], like)
    {
        let distance = page.get().0.wrapping_sub(other.get().0);
        let near = if u.ratio(3, 4)? { 0 } else { u.int_in_range(-3..=3i8)? };
        let byte = shown.get().index().wrapping_add(distance).wrapping_add_signed(near);
        *pgoff = Arg::from_byte(byte);
        *kind = of;
    }
    Ok(())
}

fn flip_flag(program: &mut Program, _: &Mix, u: &mut Unstructured) -> arbitrary::Result<()> {
    let flags =
        |role| matches!(role, Role::Protection | Role::Flags | Role::Access | Role::Context);
    change_by_role(program, u, flags, |value, size, u| {
        if size.is_power_of_two() {
            return Ok(value ^ 1 << u.int_in_range(0..=size.trailing_zeros() - 1)?);
        }
        // Not every combination of flags is a value. The value is replaced by another one.
        let further = u.int_in_range(1..=size - 1)?;
        Ok(((usize::from(value) + further) % size) as u8)
    })
}

/// Removes a fork, or inserts a fork at a random place.
fn toggle_fork(program: &mut Program, _: &Mix, u: &mut Unstructured) -> arbitrary::Result<()> {
    let at = position(program, u)?;
    if matches!(program.ops[at], Op::Fork { .. }) {
        program.ops.remove(at);
    } else if program.ops.len() < MAX_OPS {
        let process = Layout::of(&program.ops[..at]).process(u)?;
        program.ops.insert(at, Op::Fork { process: process.into() });
    }
    Ok(())
}

/// Inserts forks, generations (a process forks and exits), writes, and mostly a copy between
/// relatives over the same pages. The order of forks and exits decides which anon_vmas are shared,
/// which are reused (`anon_vma_clone()`), and by which chains pages are reached.
fn grow_family(program: &mut Program, _: &Mix, u: &mut Unstructured) -> arbitrary::Result<()> {
    let at = u.choose_index(program.ops.len() + 1)?;
    let mut layout = Layout::of(&program.ops[..at]);
    let mut family = Vec::new();
    let mut add = |op: Op, layout: &mut Layout| {
        layout.add(&op);
        family.push(op);
    };
    for _ in 0..u.int_in_range(2..=12u8)? {
        let process = layout.process(u)?.into();
        let kind = u.int_in_range(0..=7u8)?;
        if kind < 6 {
            add(Op::Fork { process }, &mut layout);
        }
        if matches!(kind, 3..=6) {
            add(Op::Exit { process }, &mut layout);
        }
        if kind == 7 {
            let page = layout.untouched(process.get(), u)?.into();
            add(Op::Touch { process, page, access: Access::Write.into() }, &mut layout);
        }
    }
    if u.ratio(3, 4)? {
        add(relatives_copy(&layout, u)?, &mut layout);
    }
    family.truncate(MAX_OPS - program.ops.len());
    program.ops.splice(at..at, family);
    Ok(())
}

/// Returns a copy of mapped pages, or of some of them, to the same pages of a relative. The copy
/// then lies beside the rest of the relative's own mapping, with which it merges unless the
/// anon_vmas differ.
fn relatives_copy(layout: &Layout, u: &mut Unstructured) -> arbitrary::Result<Op> {
    let src = layout.process(u)?;
    let (page, mut len) = layout.range(src, u)?;
    if len.0 > 1 && u.arbitrary()? {
        len.0 = u.int_in_range(1..=len.0 - 1)?;
    }
    let [process, src] = [layout.process(u)?, src].map(Arg::from);
    let (dst_page, flags) = (page.into(), CopyFlags::FIXED.into());
    Ok(Op::Copy { process, page: page.into(), len: len.into(), src, dst_page, flags })
}

fn copy_between_relatives(
    program: &mut Program,
    _: &Mix,
    u: &mut Unstructured,
) -> arbitrary::Result<()> {
    let end = program.ops.len();
    let at = if u.arbitrary()? { end } else { u.choose_index(end + 1)? };
    let op = relatives_copy(&Layout::of(&program.ops[..at]), u)?;
    program.ops.insert(at, op);
    Ok(())
}

fn replace(program: &mut Program, mix: &Mix, u: &mut Unstructured) -> arbitrary::Result<()> {
    let at = position(program, u)?;
    program.ops[at] = generate::operation(&Layout::of(&program.ops[..at]), mix, u)?;
    Ok(())
}

fn swap(program: &mut Program, _: &Mix, u: &mut Unstructured) -> arbitrary::Result<()> {
    let (a, b) = (position(program, u)?, position(program, u)?);
    program.ops.swap(a, b);
    Ok(())
}

fn duplicate(program: &mut Program, _: &Mix, u: &mut Unstructured) -> arbitrary::Result<()> {
    let at = position(program, u)?;
    let room = (program.ops.len() - at).min(8).min(MAX_OPS - program.ops.len());
    let count = u.int_in_range(1..=room)?;
    let slice: Vec<Op> = program.ops[at..at + count].to_vec();
    let to = u.choose_index(program.ops.len() + 1)?;
    program.ops.splice(to..to, slice);
    Ok(())
}

/// Exchanges two processes in every operation from a random one on.
fn exchange_processes(
    program: &mut Program,
    _: &Mix,
    u: &mut Unstructured,
) -> arbitrary::Result<()> {
    let layout = Layout::of(&program.ops);
    let (a, b) = (layout.process(u)?.0, layout.process(u)?.0);
    let from = position(program, u)?;
    for op in &mut program.ops[from..] {
        *op = op.with_operands(|role, value| match value {
            p if is_process(role) && p == a => b,
            p if is_process(role) && p == b => a,
            value => value,
        });
    }
    Ok(())
}

fn change_limits(program: &mut Program, _: &Mix, u: &mut Unstructured) -> arbitrary::Result<()> {
    program.limits = generate::limits(u)?;
    Ok(())
}

/// Encodes as many operations of `program` as fit in `bytes`, and returns the length.
fn encode(program: &mut Program, bytes: &mut [u8]) -> usize {
    loop {
        if let Some(len) = corpus::encode_into(program, bytes) {
            return len;
        }
        if program.ops.pop().is_none() {
            return 0;
        }
    }
}

/// The limit of rounds in which a mutation is repeated until the program changes.
const MOST_ROUNDS: u32 = 12;

/// The largest number of mutations of a fresh program before it runs.
const MOST_OF_FRESH: u32 = 8;

/// A way to make the next program of guided fuzzing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// A fresh random program with some mutations, in place of the program of the corpus.
    Fresh,
    /// The program of the corpus, continued at random: what it has built is met by new operations.
    Continued,
    /// The program of the corpus with a few small changes.
    Changed,
}

impl Way {
    /// Every way.
    pub const ALL: [Way; 3] = [Way::Fresh, Way::Continued, Way::Changed];

    /// Half of the programs are fresh. Without them, guided fuzzing needs more executions than random programs
    /// where coverage leads nowhere.
    fn random(rng: &mut Pcg64) -> Way {
        match rng.next_u32() % 4 {
            0 | 1 => Way::Fresh,
            2 => Way::Continued,
            _ => Way::Changed,
        }
    }

    /// Makes a program of `program` in this way. The same seed makes the same program.
    pub fn make(self, program: &mut Program, seed: u64) {
        self.make_what_is_run(program, &mut Pcg64::new(seed.into(), 0), |program| program);
    }

    fn make_what_is_run(self, program: &mut Program, rng: &mut Pcg64, run: fn(Program) -> Program) {
        let before = run(program.clone());
        let mut mix = Mix::ALL;
        let rounds = match self {
            Way::Fresh => {
                let operations = fresh::length(rng.next_u32());
                mix = fresh::program_into(program, rng.next_u64(), 0, operations);
                rng.next_u32() % (MOST_OF_FRESH + 1)
            }
            Way::Continued => {
                let more = fresh::length(rng.next_u32());
                fresh::append(program, more, rng);
                0
            }
            Way::Changed => {
                if rng.next_u32() & 1 != 0 {
                    mix = fresh::mix(rng);
                }
                // Several small changes in a row reach programs that one change cannot reach. A short
                // program needs more changes.
                let more = if program.ops.len() < 2 { 3 } else { 0 };
                1 + rng.next_u32().trailing_ones().min(3) + more
            }
        };
        *program = run(std::mem::take(program));
        let mut session = Session::new().seed(rng.next_u64());
        let mut mutator = ProgramMutator(mix);
        for round in 0..MOST_ROUNDS {
            // One mutation in ten changes nothing, and a program without a process is not continued. Running
            // the same program again shows nothing new.
            if round >= rounds && *program != before {
                break;
            }
            if session.mutate_with(&mut mutator, program).is_err() {
                break;
            }
            layout::keep_to_living(&mut program.ops);
            *program = run(std::mem::take(program));
        }
    }
}

/// Mutates the corpus file in the first `size` bytes of `data` in place, up to `max_size` bytes,
/// and returns the new length. Bytes that are not a program are replaced by a new program.
pub fn mutate(data: &mut [u8], size: usize, max_size: usize, seed: u32) -> usize {
    mutate_what_is_run(data, size, max_size, seed, |program| program)
}

/// Mutates as [`mutate`] does, for a target that runs the program that `run` makes of its input.
pub fn mutate_what_is_run(
    data: &mut [u8],
    size: usize,
    max_size: usize,
    seed: u32,
    run: fn(Program) -> Program,
) -> usize {
    // The seeds of libFuzzer have 31 bits, so each decision takes bits of a generator of its own.
    let mut rng = Pcg64::new(seed.into(), 0);
    let way = Way::random(&mut rng);
    let mut program = match way {
        Way::Fresh => Program::default(),
        Way::Continued | Way::Changed => corpus::decode(&data[..size]).unwrap_or_default(),
    };
    way.make_what_is_run(&mut program, &mut rng, run);
    let room = max_size.min(data.len());
    encode(&mut program, &mut data[..room])
}

/// Splices two corpus files: the first operations of one, then the last operations of the other.
pub fn crossover(data1: &[u8], data2: &[u8], out: &mut [u8], seed: u32) -> usize {
    let (Ok(mut program), Ok(other)) = (corpus::decode(data1), corpus::decode(data2)) else {
        return 0;
    };
    let bytes = seed.to_le_bytes();
    let mut u = Unstructured::new(&bytes);
    let cut = |len: usize, u: &mut Unstructured| u.choose_index(len + 1).unwrap_or(len);
    program.ops.truncate(cut(program.ops.len(), &mut u));
    let from = cut(other.ops.len(), &mut u);
    let room = MAX_OPS - program.ops.len();
    program.ops.extend(other.ops[from..].iter().take(room));
    encode(&mut program, out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::without_copies;

    /// Mutates `rounds` times, beginning with no program, and returns each program after encoding.
    fn chain(rounds: u32) -> Vec<Program> {
        let mut data = vec![0; corpus::MAX_BYTES];
        let mut size = 0;
        (0..rounds)
            .map(|seed| {
                let room = data.len();
                size = mutate(&mut data, size, room, seed.wrapping_mul(0x9e37_79b9));
                corpus::decode(&data[..size]).expect("what the mutator writes is a program")
            })
            .collect()
    }

    #[test]
    fn what_the_mutator_writes_is_a_program_of_bounded_length_and_it_grows() {
        let programs = chain(2_000);
        assert!(programs.iter().all(|p| p.ops.len() <= MAX_OPS));
        assert!(programs.iter().any(|p| p.ops.len() == MAX_OPS));
    }

    #[test]
    fn every_operation_and_every_limit_is_generated() {
        let programs = chain(5_000);
        for &opcode in vmadiff_machine::Opcode::ALL {
            assert!(
                programs.iter().any(|p| p.ops.iter().any(|op| op.opcode() == opcode)),
                "{opcode:?}"
            );
        }
        for n in 0..vmadiff_machine::Limits::NAMES.len() {
            assert!(programs.iter().any(|p| p.limits.to_array()[n].is_some()), "limit {n}");
        }
    }

    #[test]
    fn a_mutation_is_another_program() {
        let mut data = vec![0; corpus::MAX_BYTES];
        let programs = chain(500);
        // Not the seed by which a program was made: a fresh program depends on the seed alone.
        for (seed, program) in (1_000_001..).zip(&programs) {
            let bytes = corpus::encode(program);
            data[..bytes.len()].copy_from_slice(&bytes);
            let room = data.len();
            let size = mutate(&mut data, bytes.len(), room, seed);
            assert_ne!(&data[..size], bytes, "{program}");
        }
    }

    #[test]
    fn what_a_target_does_not_run_is_not_put_in() {
        let copy = "mmap 0 0 2 rw anon_private\ncopy 0 0 1 0 4 FIXED\n";
        let start = corpus::encode(&copy.parse().expect("a program"));
        let mut data = vec![0; corpus::MAX_BYTES];
        for seed in 0..1_000 {
            data[..start.len()].copy_from_slice(&start);
            let room = data.len();
            let size = mutate_what_is_run(&mut data, start.len(), room, seed, without_copies);
            let program = corpus::decode(&data[..size]).expect("a program");
            assert_eq!(program, without_copies(program.clone()));
        }
    }

    #[test]
    fn the_same_seed_makes_the_same_mutation() {
        assert_eq!(chain(100), chain(100));
    }

    #[test]
    fn a_mutation_stays_within_the_size_it_is_given() {
        let mut data = vec![0xff; 600];
        for max in [0, 4, 9, 13, 14, 30, 600] {
            for seed in 0..50 {
                assert!(mutate(&mut data, max.min(40), max, seed) <= max);
            }
        }
    }

    #[test]
    fn crossover_takes_the_head_of_one_and_the_tail_of_the_other() {
        let [a, b] = ["mmap 0 1 2 rw anon_private\n", "fork 0\nexit 1\n"]
            .map(|text| corpus::encode(&text.repeat(20).parse().expect("a program")));
        let mut out = vec![0; corpus::MAX_BYTES];
        for seed in 0..2_000 {
            let size = crossover(&a, &b, &mut out, seed);
            let ops = corpus::decode(&out[..size]).expect("a program").ops;
            let head = ops.iter().take_while(|op| matches!(op, Op::Mmap { .. })).count();
            assert!(head <= 20 && ops.len() - head <= 40);
            assert!(ops[head..].iter().all(|op| !matches!(op, Op::Mmap { .. })));
        }
    }
}
