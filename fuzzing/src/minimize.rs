//! Minimization: shrinks a program to the fewest and simplest operations that show the same bug.
//!
//! A change is kept only if the signature stays the same, so the result shows the same bug. Changes
//! are tried in a fixed order until no change helps, so the result depends on the program alone.

use vmadiff_lockstep::divergence::{Divergence, Signature};
use vmadiff_machine::op::{MAX_OPERANDS, OperandType};
use vmadiff_machine::operand::{ARENA_PAGES, CopyFlags, Domain as _, END_PAGES, MremapFlags, Prot};
use vmadiff_machine::{Limits, Op, Opcode, Part, Program, Range, Role};

/// Returns the smallest program found for which `run` gives the same signature as for `program`;
/// `None` if `run` finds no divergence in `program`.
pub fn minimize(
    program: &Program,
    run: impl FnMut(&Program) -> Option<Divergence>,
) -> Option<(Program, Divergence)> {
    let mut shrink = Shrink::new(program, run)?;
    // Each pass makes the program simpler by the measure below or leaves it unchanged, so the loop
    // ends.
    while shrink.drop_operations()
        || shrink.drop_limits()
        || shrink.join_mappings()
        || shrink.plainer()
        || shrink.squeeze()
        || shrink.exchange_pages()
        || shrink.lower_together()
        || shrink.lower_operands()
        || shrink.lower_pairs()
    {}
    Some((shrink.best, shrink.divergence))
}

/// Returns the size of a program, the measure of the minimization. It counts, in this order of
/// weight: operations, limits, unusual calls, and the cost of operands.
pub fn size(program: &Program) -> (usize, usize, usize, usize) {
    let limits = program.limits.to_array().iter().flatten().count();
    let operands = program.ops.iter().map(|op| {
        op.opcode()
            .operands()
            .iter()
            .zip(op.values())
            .map(|(ty, value)| cost(ty, value))
            .sum::<usize>()
    });
    // Every process can make the system calls of Linux 5.2.1. The patch adds a system call, and no
    // process can call copy_vma() directly.
    let strange = program.ops.iter().map(|op| match op {
        Op::CopyVma { .. } => 2,
        Op::Copy { .. } => 1,
        _ => 0,
    });
    (program.ops.len(), limits, strange.sum(), operands.sum())
}

/// The limit of operations up to which pairs of operands are tried. A longer program has too many
/// pairs.
const MAX_PAIRED_OPS: usize = 6;

/// Returns the distance of a value from the simplest value: zero, or the value that a reader
/// expects.
fn cost(ty: &OperandType, value: u8) -> usize {
    let usual = match ty.role {
        Role::Protection => (Prot::R | Prot::W).index(),
        Role::Flags if ty.is::<CopyFlags>() => CopyFlags::FIXED.index(),
        // A short range in the middle of the arena is simpler than a long range at its start.
        Role::Length(_) => return 2 * usize::from(value),
        _ => return value.into(),
    };
    if value == usual { 0 } else { 8 + usize::from(value) }
}

struct Shrink<F> {
    best: Program,
    divergence: Divergence,
    signature: Signature,
    run: F,
}

impl<F: FnMut(&Program) -> Option<Divergence>> Shrink<F> {
    fn new(program: &Program, mut run: F) -> Option<Shrink<F>> {
        let divergence = run(program)?;
        let signature = divergence.signature.clone();
        let ops = program.ops.iter().take(divergence.step + 1);
        let ops = ops.map(|op| Op::from_bytes(op.opcode(), op.values())).collect();
        let best = Program { limits: program.limits, ops };
        // Operations after the divergence are not run. Reduced operands have the same meaning.
        Some(Shrink { best, divergence, signature, run })
    }

    /// Keeps `program` if it is simpler and has the same signature.
    fn keep(&mut self, mut program: Program) -> bool {
        if size(&program) >= size(&self.best) {
            return false;
        }
        let Some(fails) = program.limits.fail else { return self.keeps(program) };
        // Operations that were removed made allocations, too: an earlier one has to fail.
        (1..=fails).rev().any(|nth| {
            program.limits.fail = Some(nth);
            self.keeps(program.clone())
        })
    }

    /// Keeps `program` if it has the same signature.
    fn keeps(&mut self, mut program: Program) -> bool {
        match (self.run)(&program) {
            Some(divergence) if divergence.signature == self.signature => {
                program.ops.truncate(divergence.step + 1);
                self.best = program;
                self.divergence = divergence;
                true
            }
            _ => false,
        }
    }

    /// Removes operations: first half of the program at once, then shorter and shorter runs, down
    /// to one operation.
    fn drop_operations(&mut self) -> bool {
        let mut dropped = false;
        let mut length = self.best.ops.len().div_ceil(2);
        while length > 0 {
            let mut at = 0;
            while at + length <= self.best.ops.len() {
                let mut program = self.best.clone();
                program.ops.drain(at..at + length);
                if self.keep(program) {
                    dropped = true;
                } else {
                    at += 1;
                }
            }
            length /= 2;
        }
        // Pairs of operations that need each other, such as a fork and the exit of the child.
        let mut first = 0;
        while first < self.best.ops.len() {
            let mut second = first + 1;
            while second < self.best.ops.len() {
                let mut program = self.best.clone();
                program.ops.remove(second);
                program.ops.remove(first);
                if self.keep(program) {
                    dropped = true;
                } else {
                    second += 1;
                }
            }
            first += 1;
        }
        dropped
    }

    fn drop_limits(&mut self) -> bool {
        let mut dropped = false;
        for n in 0..Limits::NAMES.len() {
            let mut limits = self.best.limits.to_array();
            limits[n] = None;
            let limits = Limits::from_array(limits);
            dropped |= self.keep(Program { limits, ..self.best.clone() });
        }
        dropped
    }

    /// Replaces two mappings by one mapping that spans both. A hole between the two is needless if
    /// a later operation can make it.
    fn join_mappings(&mut self) -> bool {
        let mut joined = false;
        let mut second = 1;
        while second < self.best.ops.len() {
            let kept = (0..second).any(|first| {
                [first, second].into_iter().any(|like| {
                    let mut program = self.best.clone();
                    let spanned =
                        span(&program.ops[first], &program.ops[second], &program.ops[like]);
                    spanned.is_some_and(|op| {
                        program.ops[first] = op;
                        program.ops.remove(second);
                        self.keep(program)
                    })
                })
            });
            joined |= kept;
            second += usize::from(!kept);
        }
        joined
    }

    /// Replaces copies by simpler calls.
    fn plainer(&mut self) -> bool {
        let mut plainer = false;
        for at in 0..self.best.ops.len() {
            for by in [by_mremap, by_process_vm_mmap] {
                let Some(op) = self.best.ops.get(at).and_then(by) else { continue };
                let mut program = self.best.clone();
                program.ops[at] = op;
                plainer |= self.keep(program);
            }
        }
        plainer
    }

    /// Exchanges two pages in all operations. The source of a copy can then lie below the copy.
    fn exchange_pages(&mut self) -> bool {
        let mut exchanged = false;
        let pages = self.places(|ty, _| matches!(ty.role, Role::Start(_)));
        for high in 1..ARENA_PAGES as u8 {
            for low in 0..high {
                let other = |value| match value {
                    v if v == high => low,
                    v if v == low => high,
                    v => v,
                };
                exchanged |= self.keep_with(&pages, other);
            }
        }
        exchanged
    }

    /// Removes one page or two pages from the arena: every range over a removed page becomes
    /// shorter, and the pages above move down. Two pages are needed where the source and the
    /// destination of a copy must shrink together.
    fn squeeze(&mut self) -> bool {
        let mut squeezed = false;
        let mut first = END_PAGES as u8;
        while first > 0 {
            first -= 1;
            for second in (0..=first).rev() {
                let mut program = self.best.clone();
                for op in &mut program.ops {
                    *op = without_pages(op, first, second);
                }
                if self.keep(program) {
                    squeezed = true;
                    break;
                }
            }
        }
        squeezed
    }

    /// Lowers all operands of one kind that have the same value: both lengths of an `mremap()`, one
    /// process in every operation, or one page wherever it is an edge.
    fn lower_together(&mut self) -> bool {
        let mut lowered = false;
        let domains: Vec<(&str, usize)> = {
            let mut all: Vec<_> =
                self.operands().map(|(_, _, ty)| (ty.expected, ty.size)).collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        for (domain, size) in domains {
            for value in 1..=(size - 1) as u8 {
                for lower in [0, value - 1] {
                    let at = self.places(|ty, v| ty.expected == domain && v == value);
                    lowered |= at.len() > 1 && self.keep_with(&at, |_| lower);
                }
            }
        }
        lowered
    }

    /// Lowers single operands to the simplest value that keeps the signature.
    fn lower_operands(&mut self) -> bool {
        let mut lowered = false;
        for op in 0..self.best.ops.len() {
            for operand in 0..MAX_OPERANDS {
                let Some(now) = self.best.ops.get(op) else { return lowered };
                let Some(ty) = now.opcode().operands().get(operand) else { break };
                let now = now.values()[operand];
                let mut simpler: Vec<u8> = (0..=(ty.size - 1) as u8).collect();
                simpler.sort_by_key(|value| cost(ty, *value));
                simpler.truncate(simpler.iter().position(|value| *value == now).unwrap_or(0));
                lowered |=
                    simpler.into_iter().any(|value| self.keep_with(&[(op, operand)], |_| value));
            }
        }
        lowered
    }

    /// Lowers two operands of one operation at a time, also if another operation is then needless:
    /// a copy to another process can become a copy to another page, without the fork.
    fn lower_pairs(&mut self) -> bool {
        let ops = self.best.ops.len();
        if ops > MAX_PAIRED_OPS {
            return false;
        }
        // All pages past the last named page are alike, so the first of them is enough.
        let beyond = 1 + self
            .places(|ty, _| matches!(ty.role, Role::Start(_)))
            .into_iter()
            .map(|(op, operand)| self.best.ops[op].values()[operand])
            .max()
            .unwrap_or(0);
        for dropped in (0..ops).map(Some).chain([None]) {
            for changed in (0..ops).filter(|op| Some(*op) != dropped) {
                let op = self.best.ops[changed];
                let types = op.opcode().operands();
                let most = |n: usize| match types[n].role {
                    Role::Start(_) | Role::Length(_) => beyond.min((types[n].size - 1) as u8),
                    _ => (types[n].size - 1) as u8,
                };
                for (a, b) in
                    (0..types.len()).flat_map(|a| (a + 1..types.len()).map(move |b| (a, b)))
                {
                    for value in 0..=most(a) {
                        for other in 0..=most(b) {
                            let mut bytes = op.values();
                            (bytes[a], bytes[b]) = (value, other);
                            let mut program = self.best.clone();
                            program.ops[changed] = Op::from_bytes(op.opcode(), bytes);
                            if let Some(dropped) = dropped {
                                program.ops.remove(dropped);
                            }
                            if self.keep(program) {
                                return true;
                            }
                        }
                    }
                }
            }
        }
        false
    }

    fn operands(&self) -> impl Iterator<Item = (usize, usize, &'static OperandType)> {
        self.best.ops.iter().enumerate().flat_map(|(op, o)| {
            o.opcode().operands().iter().enumerate().map(move |(operand, ty)| (op, operand, ty))
        })
    }

    /// Returns the places of the operands whose type and value satisfy `wanted`.
    fn places(&self, wanted: impl Fn(&OperandType, u8) -> bool) -> Vec<(usize, usize)> {
        self.operands()
            .filter(|(op, operand, ty)| wanted(ty, self.best.ops[*op].values()[*operand]))
            .map(|(op, operand, _)| (op, operand))
            .collect()
    }

    fn keep_with(&mut self, places: &[(usize, usize)], to: impl Fn(u8) -> u8) -> bool {
        let mut program = self.best.clone();
        for &(op, operand) in places {
            let Some(op) = program.ops.get_mut(op) else { return false };
            let mut bytes = op.values();
            bytes[operand] = to(bytes[operand]);
            *op = Op::from_bytes(op.opcode(), bytes);
        }
        self.keep(program)
    }
}

/// Returns the `mremap()` that resembles a copy within one process.
fn by_mremap(op: &Op) -> Option<Op> {
    match *op {
        Op::Copy { process, page, len, src, dst_page, .. }
        | Op::CopyVma { process, page, len, src, dst_page, .. }
            if src == process =>
        {
            let flags = MremapFlags::MaymoveFixed.into();
            Some(Op::Mremap {
                process,
                page,
                old_len: len,
                new_len: len,
                flags,
                new_page: dst_page,
            })
        }
        _ => None,
    }
}

/// Returns the system call `process_vm_mmap()` in place of a direct call of `copy_vma()`.
fn by_process_vm_mmap(op: &Op) -> Option<Op> {
    match *op {
        Op::CopyVma { process, page, len, src, dst_page, .. } => {
            Some(Op::Copy { process, page, len, src, dst_page, flags: CopyFlags::FIXED.into() })
        }
        _ => None,
    }
}

/// Returns the operation in an arena without two pages, or without one page if both are the same.
fn without_pages(op: &Op, first: u8, second: u8) -> Op {
    let moved =
        |page: u8| page - u8::from(page > first) - u8::from(second != first && page > second);
    op.with_operands(|role, value| match role {
        Role::Start(_) => moved(value),
        Role::Length(part) => {
            let start = op.operand(Role::Start(part)).unwrap_or(0);
            moved(start + value) - moved(start)
        }
        _ => value,
    })
}

/// Returns a mapping with the attributes of `like` that spans two mappings of one process.
fn span(first: &Op, second: &Op, like: &Op) -> Option<Op> {
    if [first, second, like].iter().any(|op| op.opcode() != Opcode::Mmap) {
        return None;
    }
    let (a, b) = (first.range(Part::Destination)?, second.range(Part::Destination)?);
    let whole = Range { start: a.start.min(b.start), end: a.end.max(b.end) };
    let fits = first.process() == second.process() && usize::from(whole.len()) < ARENA_PAGES;
    fits.then(|| {
        like.with_operands(|role, value| match role {
            Role::Start(_) => whole.start.0,
            Role::Length(_) => whole.len(),
            _ => value,
        })
    })
}
