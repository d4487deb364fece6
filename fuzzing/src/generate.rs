//! New operations, made from the unstructured bytes of `arbitrary`.
//!
//! The operands that matter are not uniform: most ranges begin and end where VMAs do, most sources
//! lie beside destinations, and most processes exist. A [`Layout`] of the operations so far gives
//! these places.

use arbitrary::{Result, Unstructured};
use vmadiff_machine::op::{MAX_OPERANDS, Opcode};
use vmadiff_machine::operand::{
    ARENA_PAGES, Access, Advice, ClearFlagsCtx, CopyFlags, Ctx, Domain, FileLength, FilePage, Kind,
    Len, MAX_PROCESSES, MemoryMerge, MlockallFlags as M, MmapFlags, Mode, MremapFlags, Onfault,
    Page, PageLimit, Process, Prot, Resource, SHM_PAGES, ShmFlags, UffdFeatures, UffdMode,
    WriteprotectMode,
};
use vmadiff_machine::{Limits, Op, Part, Role};

use crate::layout::Layout;

/// The number of operations.
const OPCODES: usize = Opcode::ALL.len();

/// Returns the weights of the operations in the order of [`Opcode::ALL`]; 0 for an operation that is
/// not listed.
const fn weights<const N: usize>(listed: [(Opcode, u8); N]) -> [u8; OPCODES] {
    let mut weights = [0; OPCODES];
    let mut n = 0;
    while n < N {
        weights[listed[n].0 as usize] = listed[n].1;
        n += 1;
    }
    weights
}

/// The usual weights of the operations.
const WEIGHTS: [u8; OPCODES] = weights([
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
    (Opcode::Shmat, 2),
    (Opcode::Shmdt, 1),
    (Opcode::ShmRmid, 1),
    (Opcode::Mlockall, 1),
    (Opcode::Munlockall, 1),
    (Opcode::Mseal, 1),
    (Opcode::ClearRefs, 1),
    (Opcode::Ftruncate, 1),
    (Opcode::Prlimit, 1),
    (Opcode::MemoryMerge, 1),
    (Opcode::UffdOpen, 1),
    (Opcode::UffdRegisterWp, 1),
    (Opcode::UffdWriteprotect, 1),
]);

/// The operations and the operands that new operations are drawn from.
///
/// With [`Mix::ALL`] every operation is possible, so a program of a few operations rarely has several
/// of one rare sort. Swarm testing (Groce et al., 2012) draws a random subset for each program: within
/// the subset, the operations meet each other often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mix {
    weights: [u8; OPCODES],
    /// The kind that most mappings have.
    kind: Kind,
    /// The protection that most mappings have.
    prot: Prot,
    /// The flags of the calls of `mmap` that are not drawn at random.
    flags: MmapFlags,
    /// The advice that most calls of `madvise` give, if it is always the same.
    advice: Option<Advice>,
}

impl Mix {
    /// Every operation, with its usual weight.
    pub const ALL: Mix = Mix {
        weights: WEIGHTS,
        kind: Kind::AnonPrivate,
        prot: Prot::from_bits_retain(Prot::R.bits() | Prot::W.bits()),
        flags: MmapFlags::empty(),
        advice: None,
    };

    /// The operations that make and change families of processes: their anon_vmas, and the chains of
    /// VMAs that merge and are split.
    const FAMILY: [(Opcode, u8); 5] = [
        (Opcode::Mmap, 1),
        (Opcode::Touch, 3),
        (Opcode::Fork, 4),
        (Opcode::Exit, 4),
        (Opcode::Mprotect, 3),
    ];

    /// Returns a random subset of the operations, always with `mmap`, in which rare operations are as
    /// frequent as the others; in two of eight cases [`Mix::ALL`], in one the operations of families.
    ///
    /// # Errors
    /// Never in practice: `Unstructured` reads zeros after its last byte.
    pub fn swarm(u: &mut Unstructured) -> Result<Mix> {
        let mut mix = Mix::ALL;
        match u.int_in_range(0..=7u8)? {
            0..=1 => return Ok(mix),
            2 => {
                mix.weights = weights(Mix::FAMILY);
                return Ok(mix);
            }
            _ => {}
        }
        for weight in &mut mix.weights {
            *weight = if u.arbitrary()? { 4 } else { 0 };
        }
        mix.weights[Opcode::Mmap as usize] = 4;
        if u.arbitrary()? {
            mix.kind = any(u)?;
        }
        if u.ratio(1, 4)? {
            mix.prot = any(u)?;
        }
        if u.ratio(1, 4)? {
            mix.flags = any(u)?;
        }
        if u.ratio(1, 3)? {
            mix.advice = Some(any(u)?);
        }
        Ok(mix)
    }

    /// Adds the operations that lock memory.
    pub(crate) fn lock(&mut self) {
        for opcode in [Opcode::Mlock, Opcode::Mlockall] {
            let weight = &mut self.weights[opcode as usize];
            *weight = (*weight).max(4);
        }
    }

    /// Returns whether the operation is in the mix.
    pub fn has(&self, opcode: Opcode) -> bool {
        self.weights[opcode as usize] > 0
    }

    /// Returns a random operation.
    fn opcode(&self, u: &mut Unstructured) -> Result<Opcode> {
        let sum: u16 = self.weights.iter().map(|weight| u16::from(*weight)).sum();
        let mut at = u.int_in_range(0..=sum.saturating_sub(1))?;
        let here = |(_, weight): &(&Opcode, &u8)| {
            let weight = u16::from(**weight);
            let here = at < weight;
            at = at.saturating_sub(weight);
            here
        };
        let found = Opcode::ALL.iter().zip(&self.weights).find(here);
        Ok(found.map_or(Opcode::Mmap, |(opcode, _)| *opcode))
    }
}

fn pick<T: Copy>(u: &mut Unstructured, choices: &[T]) -> Result<T> {
    u.choose(choices).copied()
}

fn any<T: Domain>(u: &mut Unstructured) -> Result<T> {
    Ok(T::nth(u.int_in_range(0..=(T::SIZE - 1) as u8)?))
}

/// Returns the usual value in half of the cases, and any value in the others.
fn mostly<T: Domain>(usual: T, u: &mut Unstructured) -> Result<T> {
    if u.arbitrary()? { Ok(usual) } else { any(u) }
}

/// Returns the flags of an `mremap()`: mostly a move to a given page. `MREMAP_DONTUNMAP` is rare,
/// because Linux 5.2.1 refuses it.
fn mremap_flags(u: &mut Unstructured) -> Result<MremapFlags> {
    Ok(match u.int_in_range(0..=31u8)? {
        0 => MremapFlags::MaymoveDontunmap,
        1 => MremapFlags::MaymoveFixedDontunmap,
        2..=6 => MremapFlags::Maymove,
        7..=11 => MremapFlags::InPlace,
        _ => MremapFlags::MaymoveFixed,
    })
}

/// Returns the new length of an `mremap()` of `len` pages: mostly the old length, as for a move. If
/// the kernel may choose the place, it is a longer length or the length of a hole.
fn new_len(
    flags: MremapFlags,
    (process, len): (Process, Len),
    layout: &Layout,
    u: &mut Unstructured,
) -> Result<Len> {
    if flags != MremapFlags::Maymove {
        return if u.ratio(3, 4)? { Ok(len) } else { layout.len(u) };
    }
    let longer = Len((len.0 + u.int_in_range(1..=8)?).min(ARENA_PAGES as u8 - 1));
    let fitting = if u.ratio(1, 4)? { layout.fitting(process, u)? } else { None };
    Ok(fitting.unwrap_or(longer))
}

/// The calls that Linux 5.2.1 does not have.
pub(crate) const LATER_CALLS: [Opcode; 4] =
    [Opcode::Mseal, Opcode::MemoryMerge, Opcode::UffdRegisterWp, Opcode::UffdWriteprotect];

/// Returns a new operation of `mix` to follow the operations of `layout`.
///
/// # Errors
/// Never in practice: `Unstructured` reads zeros after its last byte.
pub fn operation(layout: &Layout, mix: &Mix, u: &mut Unstructured) -> Result<Op> {
    let opcode = opcode(layout, mix, u)?;
    let places = places(opcode, layout, u)?;
    complete(opcode, places, layout, mix, u)
}

/// Returns an operation of `mix` that mostly changes something after the operations of `layout`.
fn opcode(layout: &Layout, mix: &Mix, u: &mut Unstructured) -> Result<Opcode> {
    Ok(match mix.opcode(u)? {
        // Where the last process exits, nothing further happens.
        Opcode::Exit if layout.processes() < 2 && !u.ratio(1, 16)? => Opcode::Mmap,
        Opcode::Fork if layout.processes() == MAX_PROCESSES && !u.ratio(1, 8)? => {
            if mix.has(Opcode::Exit) { Opcode::Exit } else { Opcode::Mmap }
        }
        later if LATER_CALLS.contains(&later) && !u.ratio(1, 4)? => Opcode::Mmap,
        // A destroyed segment stays destroyed.
        Opcode::Shmat | Opcode::ShmRmid if layout.is_destroyed() && !u.ratio(1, 8)? => Opcode::Mmap,
        // Removed at once, the segment would be destroyed before it is attached.
        Opcode::Shmdt | Opcode::ShmRmid if !layout.is_attached() && !u.ratio(1, 8)? => {
            Opcode::Shmat
        }
        // A file that nobody maps shows nothing.
        Opcode::Ftruncate if !layout.has_file() && !u.ratio(1, 8)? => Opcode::Mmap,
        opcode @ (Opcode::Fork | Opcode::Exit | Opcode::Shmat) => opcode,
        // Without a mapping, nearly everything fails.
        _ if !layout.mapped() && !u.ratio(1, 8)? => Opcode::Mmap,
        Opcode::UffdUnregister if layout.contexts() == 0 && !u.ratio(1, 8)? => Opcode::UffdRegister,
        opcode => opcode,
    })
}

/// The processes and pages of an operation, as far as it has them.
struct Places {
    process: Process,
    /// The source of a copy; else the process.
    src: Process,
    page: Page,
    len: Len,
    /// The destination of a move or a copy.
    to: Page,
    flags: MremapFlags,
    /// A move back to where the pages came from.
    is_back: bool,
    /// The range can be removed.
    is_removed: bool,
}

/// Returns places that fit the operation after those of `layout`.
fn places(opcode: Opcode, layout: &Layout, u: &mut Unstructured) -> Result<Places> {
    // Mostly a page at which the segment was attached.
    let attached =
        if opcode == Opcode::Shmdt && !u.ratio(1, 8)? { layout.attached(u)? } else { None };
    let process = match opcode {
        Opcode::Shmdt if attached.is_some() => attached.map_or(Process(0), |(process, _)| process),
        Opcode::Mmap | Opcode::Exit | Opcode::Shmat | Opcode::Copy | Opcode::CopyVma => {
            layout.process(u)?
        }
        _ => layout.with_mapping(u)?,
    };
    let flags = if opcode == Opcode::Mremap { mremap_flags(u)? } else { MremapFlags::InPlace };
    let src = match opcode {
        Opcode::Copy | Opcode::CopyVma => layout.with_mapping(u)?,
        _ => process,
    };
    // Pages can be removed from shared memory that may be written.
    let removed = match opcode {
        Opcode::Madvise if u.ratio(1, 4)? => layout.removable(process, u)?,
        _ => None,
    };
    let (page, mut len) = match opcode {
        Opcode::Mmap => layout.fresh(process, u)?,
        Opcode::Touch => (layout.untouched(process, u)?, Len(1)),
        Opcode::Fork
        | Opcode::Exit
        | Opcode::ShmRmid
        | Opcode::Mlockall
        | Opcode::Munlockall
        | Opcode::ClearRefs
        | Opcode::Ftruncate
        | Opcode::Prlimit
        | Opcode::MemoryMerge
        | Opcode::UffdOpen => (Page(0), Len(0)),
        Opcode::Shmat => (layout.place(process, Len(SHM_PAGES), u)?, Len(SHM_PAGES)),
        Opcode::Shmdt => (attached.map_or_else(|| layout.page(u), |(_, page)| Ok(page))?, Len(0)),
        _ => match removed {
            Some(range) => range,
            None => layout.range(src, u)?,
        },
    };
    // If the kernel chooses the destination of a copy, the choice depends on the holes that have
    // room.
    if opcode == Opcode::Copy
        && u.ratio(1, 8)?
        && let Some(fitting) = layout.fitting(process, u)?
    {
        len = fitting;
    }
    let back = match opcode {
        Opcode::Mremap if flags == MremapFlags::MaymoveFixed && u.ratio(1, 4)? => {
            layout.way_back(process)
        }
        _ => None,
    };
    let (page, len, to) = match (back, opcode) {
        (Some(back), _) => back,
        (None, Opcode::Mremap | Opcode::Copy | Opcode::CopyVma) => {
            (page, len, layout.destination((src, page, len), process, u)?)
        }
        (None, _) => (page, len, page),
    };
    let (is_back, is_removed) = (back.is_some(), removed.is_some());
    Ok(Places { process, src, page, len, to, flags, is_back, is_removed })
}

/// Returns the operation at these places, with its other operands.
fn complete(
    opcode: Opcode,
    places: Places,
    layout: &Layout,
    mix: &Mix,
    u: &mut Unstructured,
) -> Result<Op> {
    let Places { process, src, page, len, to, flags, is_back, is_removed } = places;
    Ok(match opcode {
        Opcode::Mmap => Op::Mmap {
            process: process.into(),
            page: page.into(),
            len: len.into(),
            prot: mostly(mix.prot, u)?.into(),
            kind: mostly(mix.kind, u)?.into(),
            flags: if u.ratio(3, 4)? { mix.flags } else { any(u)? }.into(),
            // Mostly the page offset with which neighbours from the same file match; sometimes any
            // page offset.
            pgoff: match u.int_in_range(0..=63u8)? {
                0 => FilePage::nth(u.int_in_range(FilePage::FIRST..=u8::MAX)?),
                1..=16 => FilePage::first(u.int_in_range(0..=40)?),
                _ => FilePage::first(page.0),
            }
            .into(),
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
            old_len: if !is_back && u.ratio(1, 24)? { Len(0) } else { len }.into(),
            new_len: if is_back { len } else { new_len(flags, (process, len), layout, u)? }.into(),
            flags: flags.into(),
            new_page: to.into(),
        },
        Opcode::Madvise => Op::Madvise {
            process: process.into(),
            page: page.into(),
            len: len.into(),
            advice: match (is_removed, mix.advice) {
                (true, _) => Advice::Remove,
                (false, Some(advice)) => mostly(advice, u)?,
                (false, None) => {
                    mostly(pick(u, &[Advice::Dontfork, Advice::Mergeable, Advice::Wipeonfork])?, u)?
                }
            }
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
        Opcode::UffdRegisterWp => Op::UffdRegisterWp {
            process: process.into(),
            page: page.into(),
            len: len.into(),
            ctx: any::<Ctx>(u)?.into(),
            mode: any::<UffdMode>(u)?.into(),
        },
        Opcode::UffdWriteprotect => Op::UffdWriteprotect {
            process: process.into(),
            page: page.into(),
            len: len.into(),
            ctx: layout.context(u)?.into(),
            mode: mostly(WriteprotectMode::Wp, u)?.into(),
        },
        Opcode::UffdUnregister => Op::UffdUnregister {
            process: process.into(),
            page: page.into(),
            len: len.into(),
            ctx: layout.context(u)?.into(),
        },
        Opcode::UffdOpen => Op::UffdOpen {
            process: process.into(),
            ctx: any::<Ctx>(u)?.into(),
            features: any::<UffdFeatures>(u)?.into(),
        },
        Opcode::Fork => Op::Fork { process: process.into() },
        Opcode::Exit => Op::Exit { process: process.into() },
        Opcode::Copy => Op::Copy {
            process: process.into(),
            page: page.into(),
            len: len.into(),
            src: src.into(),
            dst_page: to.into(),
            flags: mostly(CopyFlags::FIXED, u)?.into(),
        },
        Opcode::CopyVma => Op::CopyVma {
            process: process.into(),
            page: page.into(),
            len: len.into(),
            src: src.into(),
            dst_page: to.into(),
            clear_flags_ctx: any::<ClearFlagsCtx>(u)?.into(),
        },
        Opcode::Shmat => Op::Shmat {
            process: process.into(),
            page: page.into(),
            flags: mostly(ShmFlags::empty(), u)?.into(),
        },
        Opcode::Shmdt => Op::Shmdt { process: process.into(), page: page.into() },
        Opcode::ShmRmid => Op::ShmRmid { process: process.into() },
        Opcode::Mlockall => {
            let what = pick(u, &[M::CURRENT, M::FUTURE, M::CURRENT | M::FUTURE])?;
            let how = if u.ratio(1, 3)? { M::ONFAULT } else { M::empty() };
            let flags = if u.ratio(1, 16)? { any(u)? } else { what | how };
            Op::Mlockall { process: process.into(), flags: flags.into() }
        }
        Opcode::Munlockall => Op::Munlockall { process: process.into() },
        Opcode::ClearRefs => Op::ClearRefs { process: process.into() },
        Opcode::Ftruncate => {
            // Mostly an end inside a mapping whose page offset is its page.
            let length = match u.int_in_range(0..=7u8)? {
                0..=3 => layout.page(u)?.0,
                4..=6 => u.int_in_range(0..=40)?,
                _ => u.arbitrary()?,
            };
            Op::Ftruncate {
                process: process.into(),
                file: layout.file(u)?.into(),
                length: FileLength(length).into(),
            }
        }
        Opcode::Prlimit => {
            let resource = if u.ratio(3, 4)? { Resource::As } else { Resource::Memlock };
            // Mostly about as many pages as are mapped, or few, so that the limit is met.
            let max = match (u.int_in_range(0..=7u8)?, resource) {
                (0..=5, Resource::As) => layout.pages(process) + u.int_in_range(0..=4)?,
                (0..=5, Resource::Memlock) => layout.locked(process) + u.int_in_range(0..=4)?,
                _ => u.arbitrary()?,
            };
            Op::Prlimit {
                process: process.into(),
                resource: resource.into(),
                max: PageLimit(max).into(),
            }
        }
        Opcode::MemoryMerge => {
            // Mostly on: the call that ends it does nothing by itself.
            let merge = if u.ratio(3, 4)? { MemoryMerge::On } else { MemoryMerge::Off };
            Op::MemoryMerge { process: process.into(), merge: merge.into() }
        }
        Opcode::Mseal => Op::Mseal { process: process.into(), page: page.into(), len: len.into() },
    })
}

/// Returns limits: mostly no limits, sometimes limits that a short program reaches.
///
/// # Errors
/// Never in practice: `Unstructured` reads zeros after its last byte.
pub fn limits(u: &mut Unstructured) -> Result<Limits> {
    let mut limits = Limits::default();
    match u.int_in_range(0..=9u8)? {
        0 => limits.map_count = Some(u.int_in_range(1..=12)?),
        1 => {
            // With a few pages hardly any mapping succeeds.
            let least = if u.ratio(1, 8)? { 0 } else { 6 };
            limits.address_space = Some(u.int_in_range(least..=24)?);
        }
        2 => {
            limits.lock = Some(u.int_in_range(0..=12)?);
            if u.ratio(1, 4)? {
                limits.address_space = Some(u.int_in_range(6..=24)?);
            }
        }
        3 => limits.processes = Some(u.int_in_range(1..=3)?),
        // Programs with a failing allocation are slower, so they are rare.
        4 if u.ratio(1, 5)? => limits.fail = Some(u.int_in_range(1..=40)?),
        _ => {}
    }
    Ok(limits)
}

/// Sets the limits that a program has, mostly about to what a process uses in `layout`, so that the next
/// operation meets them.
///
/// # Errors
/// Never in practice: `Unstructured` reads zeros after its last byte.
pub fn tighten(limits: &mut Limits, layout: &Layout, u: &mut Unstructured) -> Result<()> {
    let process = layout.process(u)?;
    for (limit, used) in [
        (&mut limits.map_count, layout.vmas(process)),
        (&mut limits.address_space, layout.pages(process)),
        (&mut limits.lock, layout.locked(process)),
    ] {
        if limit.is_some() && u.ratio(3, 4)? {
            *limit = Some(used + u.int_in_range(0..=3)?);
        }
    }
    Ok(())
}

/// Returns the operation with one operand changed, to a value from `layout` or to any value.
///
/// # Errors
/// Never in practice: `Unstructured` reads zeros after its last byte.
pub fn change_operand(op: &Op, layout: &Layout, u: &mut Unstructured) -> Result<Op> {
    let types = op.opcode().operands();
    let mut bytes: [u8; MAX_OPERANDS] = op.bytes();
    let n = u.choose_index(types.len())?;
    bytes[n] = match types[n].role {
        Role::Start(_) => layout.page(u)?.0,
        Role::Length(_) => layout.len(u)?.0,
        Role::Caller | Role::SourceProcess => layout.process(u)?.0,
        _ => u.int_in_range(0..=(types[n].size - 1) as u8)?,
    };
    Ok(Op::from_bytes(op.opcode(), bytes))
}

/// Returns the operation that continues `op`: its ranges begin where the ranges of `op` end. The
/// patch's mail advertises copies in parts: first one half, then the other.
pub fn continued(op: &Op) -> Op {
    op.with_operands(|role, value| match role {
        Role::Start(part) => (value + op.length(part).0) % ARENA_PAGES as u8,
        Role::Offset => value.wrapping_add(op.length(Part::Destination).0),
        _ => value,
    })
}
