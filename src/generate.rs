//! Fresh operations, from `arbitrary`'s unstructured bytes.
//!
//! Operands that matter are not uniform: ranges begin and end where earlier operations' ranges
//! did, sources lie beside destinations, processes exist. An [`Outline`] of the operations so far
//! says where that is. It knows nothing of what a kernel would make of them.

use arbitrary::{Result, Unstructured};
use vmadiff_machine::op::{MAX_OPERANDS, Opcode};
use vmadiff_machine::operand::{
    ARENA_PAGES, Access, Advice, Arg, ClearFlagsCtx, CopyFlags, Ctx, Domain, FilePage, Kind, Len,
    MAX_PROCESSES, MmapFlags, Mode, MremapFlags, Onfault, Page, Process, Prot,
};
use vmadiff_machine::{Limits, Op};

/// Where ranges begin and end in a sequence of operations, and how many processes it makes.
#[derive(Clone, Debug)]
pub struct Outline {
    edges: [u8; Outline::EDGES],
    count: usize,
    /// Processes that forks have made, 0 among them. Which of them ended is not known.
    processes: usize,
}

impl Outline {
    /// The latest edges are kept: that many.
    const EDGES: usize = 16;

    /// The outline of `ops`.
    pub fn of(ops: &[Op]) -> Outline {
        let mut outline = Outline { edges: [0; Outline::EDGES], count: 0, processes: 1 };
        for op in ops {
            outline.add(op);
        }
        outline
    }

    fn add(&mut self, op: &Op) {
        let mut range = |page: Arg<Page>, len: Arg<Len>| {
            for edge in [page.get(), page.get().plus(len.get())] {
                self.edges[self.count % Outline::EDGES] = edge.0;
                self.count += 1;
            }
        };
        match *op {
            Op::Mmap { page, len, .. }
            | Op::Munmap { page, len, .. }
            | Op::Mprotect { page, len, .. }
            | Op::Madvise { page, len, .. }
            | Op::Mlock { page, len, .. }
            | Op::Munlock { page, len, .. }
            | Op::Mbind { page, len, .. }
            | Op::UffdRegister { page, len, .. }
            | Op::UffdUnregister { page, len, .. } => range(page, len),
            Op::Mremap { page, old_len, new_len, new_page, .. } => {
                range(page, old_len);
                range(new_page, new_len);
            }
            Op::Copy { page, len, dst_page, .. } | Op::CopyVma { page, len, dst_page, .. } => {
                range(page, len);
                range(dst_page, len);
            }
            Op::Fork { .. } => self.processes = (self.processes + 1).min(MAX_PROCESSES),
            Op::Touch { .. } | Op::Exit { .. } => {}
        }
    }

    /// Where some range begins or ends.
    ///
    /// # Errors
    /// Never in practice: bytes that run out read as zeros.
    pub fn edge(&self, u: &mut Unstructured) -> Result<u8> {
        let known = self.count.min(Outline::EDGES);
        if known == 0 {
            u.int_in_range(0..=SPREAD - 1)
        } else {
            Ok(self.edges[u.choose_index(known)?])
        }
    }

    /// A page: mostly an edge, or a little beside one.
    pub fn page(&self, u: &mut Unstructured) -> Result<Page> {
        let page = match u.int_in_range(0..=7u8)? {
            0..=3 => self.edge(u)?,
            4 => self.edge(u)?.saturating_sub(u.int_in_range(1..=4)?),
            5 => self.edge(u)? + u.int_in_range(1..=4)?,
            _ => u.int_in_range(0..=SPREAD - 1)?,
        };
        Ok(Page(page % ARENA_PAGES as u8))
    }

    /// A length: short, or up to an edge.
    pub fn len(&self, from: Page, u: &mut Unstructured) -> Result<Len> {
        let len = match u.int_in_range(0..=15u8)? {
            0..=8 => u.int_in_range(1..=4)?,
            9..=13 => match self.edge(u)?.saturating_sub(from.0) {
                0 => 2,
                len => len,
            },
            14 => u.int_in_range(1..=12)?,
            _ => 0,
        };
        Ok(Len(len % ARENA_PAGES as u8))
    }

    /// A process: mostly one that a fork has made.
    pub fn process(&self, u: &mut Unstructured) -> Result<Process> {
        let among = if u.ratio(1, 32)? { MAX_PROCESSES } else { self.processes };
        Ok(Process(u.int_in_range(0..=among as u8 - 1)?))
    }
}

/// Pages that are named without reason lie below this: a crowded arena has more neighbours.
const SPREAD: u8 = 20;

/// Operations by how often they are wanted, in sixty-fourths.
const WEIGHTS: [(Opcode, u8); 15] = [
    (Opcode::Mmap, 14),
    (Opcode::Copy, 10),
    (Opcode::Mremap, 8),
    (Opcode::CopyVma, 5),
    (Opcode::Fork, 5),
    (Opcode::Touch, 5),
    (Opcode::Munmap, 3),
    (Opcode::Mprotect, 3),
    (Opcode::Madvise, 3),
    (Opcode::Mlock, 2),
    (Opcode::Munlock, 1),
    (Opcode::Mbind, 1),
    (Opcode::UffdRegister, 2),
    (Opcode::UffdUnregister, 1),
    (Opcode::Exit, 1),
];

fn pick<T: Copy>(u: &mut Unstructured, choices: &[T]) -> Result<T> {
    u.choose(choices).copied()
}

fn any<T: Domain>(u: &mut Unstructured) -> Result<T> {
    Ok(T::nth(u.int_in_range(0..=(T::SIZE - 1) as u8)?))
}

/// The usual value half of the time, any value otherwise.
fn mostly<T: Domain>(usual: T, u: &mut Unstructured) -> Result<T> {
    if u.arbitrary()? { Ok(usual) } else { any(u) }
}

/// A fresh operation that could follow those of `outline`.
///
/// # Errors
/// Never in practice: bytes that run out read as zeros.
pub fn operation(outline: &Outline, u: &mut Unstructured) -> Result<Op> {
    let mut at = u.int_in_range(0..=63u8)?;
    let opcode = WEIGHTS
        .iter()
        .find(|(_, weight)| {
            let here = at < *weight;
            at = at.saturating_sub(*weight);
            here
        })
        .map_or(Opcode::Mmap, |(opcode, _)| *opcode);
    let process = outline.process(u)?;
    let page = outline.page(u)?;
    let len = outline.len(page, u)?;
    // A page offset that would line up with a neighbour of the same file, or any.
    let pgoff = FilePage(if u.ratio(3, 4)? { page.0 } else { u.int_in_range(0..=40)? });
    let other = outline.page(u)?;
    let src = outline.process(u)?.into();
    let operation = match opcode {
        Opcode::Mmap => Op::Mmap {
            process: process.into(),
            page: page.into(),
            len: len.into(),
            prot: mostly(Prot::R | Prot::W, u)?.into(),
            kind: mostly(Kind::AnonPrivate, u)?.into(),
            flags: if u.ratio(3, 4)? { MmapFlags::empty() } else { any(u)? }.into(),
            pgoff: pgoff.into(),
        },
        Opcode::Munmap => {
            Op::Munmap { process: process.into(), page: page.into(), len: len.into() }
        }
        Opcode::Mprotect => Op::Mprotect {
            process: process.into(),
            page: page.into(),
            len: len.into(),
            prot: mostly(pick(u, &[Prot::R, Prot::R | Prot::W])?, u)?.into(),
        },
        Opcode::Mremap => Op::Mremap {
            process: process.into(),
            page: page.into(),
            old_len: len.into(),
            new_len: if u.ratio(3, 4)? { len } else { outline.len(page, u)? }.into(),
            flags: if u.ratio(3, 4)? { MremapFlags::MaymoveFixed } else { MremapFlags::InPlace }
                .into(),
            new_page: other.into(),
        },
        Opcode::Madvise => Op::Madvise {
            process: process.into(),
            page: page.into(),
            len: len.into(),
            advice: mostly(
                pick(u, &[Advice::Dontfork, Advice::Mergeable, Advice::Wipeonfork])?,
                u,
            )?
            .into(),
        },
        Opcode::Mlock => Op::Mlock {
            process: process.into(),
            page: page.into(),
            len: len.into(),
            onfault: any::<Onfault>(u)?.into(),
        },
        Opcode::Munlock => {
            Op::Munlock { process: process.into(), page: page.into(), len: len.into() }
        }
        Opcode::Mbind => Op::Mbind {
            process: process.into(),
            page: page.into(),
            len: len.into(),
            mode: any::<Mode>(u)?.into(),
        },
        Opcode::Touch => Op::Touch {
            process: process.into(),
            page: page.into(),
            access: mostly(Access::Write, u)?.into(),
        },
        Opcode::UffdRegister => Op::UffdRegister {
            process: process.into(),
            page: page.into(),
            len: len.into(),
            ctx: any::<Ctx>(u)?.into(),
        },
        Opcode::UffdUnregister => Op::UffdUnregister {
            process: process.into(),
            page: page.into(),
            len: len.into(),
            ctx: any::<Ctx>(u)?.into(),
        },
        Opcode::Fork => Op::Fork { process: process.into() },
        Opcode::Exit => Op::Exit { process: process.into() },
        Opcode::Copy => Op::Copy {
            process: process.into(),
            page: page.into(),
            len: len.into(),
            src,
            dst_page: other.into(),
            flags: mostly(CopyFlags::FIXED, u)?.into(),
        },
        Opcode::CopyVma => Op::CopyVma {
            process: process.into(),
            page: page.into(),
            len: len.into(),
            src,
            dst_page: other.into(),
            clear_flags_ctx: any::<ClearFlagsCtx>(u)?.into(),
        },
    };
    Ok(operation)
}

/// Limits: mostly none, or one that a short program reaches.
///
/// # Errors
/// Never in practice: bytes that run out read as zeros.
pub fn limits(u: &mut Unstructured) -> Result<Limits> {
    let mut limits = Limits::default();
    match u.int_in_range(0..=5u8)? {
        0 => limits.map_count = Some(u.int_in_range(1..=12)?),
        1 => limits.address_space = Some(u.int_in_range(0..=24)?),
        2 => limits.lock = Some(u.int_in_range(0..=12)?),
        3 => limits.processes = Some(u.int_in_range(1..=3)?),
        _ => {}
    }
    Ok(limits)
}

/// The operation with one operand changed, to a value that `outline` suggests or to any.
///
/// # Errors
/// Never in practice: bytes that run out read as zeros.
pub fn change_operand(op: &Op, outline: &Outline, u: &mut Unstructured) -> Result<Op> {
    let types = op.opcode().operands();
    let mut bytes: [u8; MAX_OPERANDS] = op.bytes();
    let n = u.choose_index(types.len())?;
    let from = Page(types.first().map_or(0, |_| bytes[1]) % ARENA_PAGES as u8);
    bytes[n] = match types[n].expected {
        expected if expected == Page::EXPECTED => outline.page(u)?.0,
        expected if expected == Len::EXPECTED => outline.len(from, u)?.0,
        expected if expected == Process::EXPECTED => outline.process(u)?.0,
        _ => u.int_in_range(0..=(types[n].size - 1) as u8)?,
    };
    Ok(Op::from_bytes(op.opcode(), bytes))
}

/// The operation that goes on where `op` ended: the next part of the same range to the next part
/// of the same destination. Copying one half and then the other is what the patch's mail
/// advertises.
pub fn continued(op: &Op) -> Op {
    let next = |page: Arg<Page>, len: Arg<Len>| {
        Arg::from(Page(page.get().plus(len.get()).0 % ARENA_PAGES as u8))
    };
    let mut op = *op;
    match &mut op {
        Op::Mmap { page, len, pgoff, .. } => {
            *pgoff = FilePage(pgoff.get().0.wrapping_add(len.get().0)).into();
            *page = next(*page, *len);
        }
        Op::Mremap { page, old_len, new_page, new_len, .. } => {
            *page = next(*page, *old_len);
            *new_page = next(*new_page, *new_len);
        }
        Op::Copy { page, len, dst_page, .. } | Op::CopyVma { page, len, dst_page, .. } => {
            *page = next(*page, *len);
            *dst_page = next(*dst_page, *len);
        }
        Op::Munmap { page, len, .. }
        | Op::Mprotect { page, len, .. }
        | Op::Madvise { page, len, .. }
        | Op::Mlock { page, len, .. }
        | Op::Munlock { page, len, .. }
        | Op::Mbind { page, len, .. }
        | Op::UffdRegister { page, len, .. }
        | Op::UffdUnregister { page, len, .. } => *page = next(*page, *len),
        Op::Touch { page, .. } => *page = next(*page, Len(1).into()),
        Op::Fork { .. } | Op::Exit { .. } => {}
    }
    op
}
