//! The layout that a program has probably built so far, from which further operations are made.
//!
//! The layout is an estimate, not a model. It assumes that each operation succeeds, and that VMAs
//! do not merge. A wrong estimate wastes an operation; it does not change a verdict.

use arbitrary::{Result, Unstructured};
use vmadiff_machine::operand::{
    ARENA_PAGES, Access, Ctx, Domain, END_PAGES, File, Kind, Len, MAX_PROCESSES, MlockallFlags,
    MmapFlags, Page, Process, Prot, ShmFlags,
};
use vmadiff_machine::{Op, PageSet, Part, Placement, Range, Role};

/// Returns the set of one page. In a set of edges it stands for the edge before the page; the edge
/// at the end of the arena is in no set.
fn bit(page: Page) -> PageSet {
    PageSet::from(true).unbounded_shl(page.0.into())
}

/// Returns a random page of a set; `None` if the set is empty.
fn any(mut set: PageSet, u: &mut Unstructured) -> Result<Option<Page>> {
    if set == 0 {
        return Ok(None);
    }
    for _ in 0..u.choose_index(set.count_ones() as usize)? {
        set &= set - 1;
    }
    Ok(Some(Page(set.trailing_zeros() as u8)))
}

/// Returns the page as an operand: the remainder if `page` is past the arena.
fn operand(page: u8) -> Page {
    Page(page % ARENA_PAGES as u8)
}

/// The address space of one process.
#[derive(Clone, Copy, Debug, Default)]
struct Space {
    mapped: PageSet,
    /// The first page of each VMA, and the first page after each VMA.
    edges: PageSet,
    /// The mapped pages that may be written.
    writable: PageSet,
    /// The mapped pages that were written.
    written: PageSet,
    /// The locked pages.
    locked: PageSet,
    /// The mapped pages that are shared and may be written: pages can be removed from the file.
    shared: PageSet,
    /// The old and the new range of the last move within the process.
    moved: Option<(Range, Range)>,
    /// The pages at which the segment of SysV shared memory was attached.
    attached: PageSet,
}

impl Space {
    fn split(&mut self, range: Range) {
        self.edges |= bit(range.start) | bit(range.end);
    }

    fn unmap(&mut self, range: Range) {
        let inside = range.set();
        self.split(range);
        self.mapped &= !inside;
        self.writable &= !inside;
        self.written &= !inside;
        self.locked &= !inside;
        self.shared &= !inside;
        self.attached &= !inside;
        self.edges &= !(inside & !bit(range.start));
        self.drop_loose_edges();
    }

    fn map(&mut self, range: Range) {
        self.unmap(range);
        self.mapped |= range.set();
        self.split(range);
    }

    /// Removes the edges that have no mapped page on either side.
    fn drop_loose_edges(&mut self) {
        self.edges &= self.mapped | self.mapped << 1;
    }

    fn is_free(&self, range: Range) -> bool {
        self.mapped & range.set() == 0
    }

    /// Returns the highest hole of the arena that has room for `len` pages.
    fn highest_hole(&self, len: Len) -> Option<Range> {
        let last = END_PAGES as u8 - len.0;
        (0..=last).rev().map(|start| Range::new(Page(start), len)).find(|hole| self.is_free(*hole))
    }

    /// Returns the range that the kernel probably gives the destination of an operation; `None` if
    /// the operation has no destination or if there is no room.
    fn destination(&self, op: &Op) -> Option<Range> {
        let asked = op.range(Part::Destination)?;
        let chosen = || self.highest_hole(op.length(Part::Destination));
        match op.placement()? {
            Placement::Given | Placement::InPlace => Some(asked),
            Placement::Hint if self.is_free(asked) => Some(asked),
            Placement::Hint => chosen(),
            Placement::InPlaceOrChosen => {
                let grown = Range { start: op.range(Part::Source)?.end, end: asked.end };
                let grows = bit(grown.start) & self.edges != 0 && self.is_free(grown);
                if grown.is_empty() || grows { Some(asked) } else { chosen() }
            }
        }
    }

    /// Returns the first edge after `page`, or the page after it if there is no such edge.
    fn next_edge(&self, page: Page) -> Page {
        match self.edges & (!1 << page.0) {
            0 => Page(page.0 + 1),
            later => Page(later.trailing_zeros() as u8),
        }
    }
}

/// The layout that a sequence of operations has probably built.
#[derive(Clone, Debug)]
pub struct Layout {
    spaces: [Space; MAX_PROCESSES],
    /// The living processes: bit `n` stands for process `n`.
    alive: u8,
    /// The userfaultfd contexts that were opened: bit `n` stands for context `n`.
    contexts: u8,
    /// The distance, in pages, of the last move.
    shift: i8,
    /// The segment of SysV shared memory was removed.
    removed: bool,
    /// The memfds that were mapped: bit `n` stands for file `n`.
    files: u8,
}

/// The bound of pages that are chosen at random. Random pages are low, because VMAs in a crowded
/// arena have more neighbours.
const SPREAD: u8 = 20;

impl Layout {
    /// Returns the layout that `ops` have probably built.
    pub fn of(ops: &[Op]) -> Layout {
        let spaces = [Space::default(); MAX_PROCESSES];
        let mut layout =
            Layout { spaces, alive: 1, contexts: 0, shift: 0, removed: false, files: 0 };
        for op in ops {
            layout.add(op);
        }
        layout
    }

    /// Takes one more operation into account.
    pub fn add(&mut self, op: &Op) {
        if !op.processes().all(|process| self.is_alive(process)) {
            return;
        }
        let space = &mut self.spaces[usize::from(op.process().0)];
        let target = op.range(Part::Target).unwrap_or_default();
        match *op {
            // The kernel refuses it: the file is open for reading only.
            Op::Mmap { kind, prot, .. }
                if kind.get() == Kind::ReadonlyShared && prot.get().contains(Prot::W) => {}
            Op::Mmap { flags, prot, kind, .. } => {
                let range = op.range(Part::Destination).unwrap_or_default();
                space.map(range);
                match kind.get() {
                    Kind::File0Private | Kind::File0Shared => self.files |= 1,
                    Kind::File1Private | Kind::File1Shared => self.files |= 2,
                    _ => {}
                }
                if flags.get().contains(MmapFlags::LOCKED) {
                    space.locked |= range.set();
                }
                if prot.get().contains(Prot::W) {
                    space.writable |= range.set();
                    if matches!(
                        kind.get(),
                        Kind::AnonShared | Kind::File0Shared | Kind::File1Shared
                    ) {
                        space.shared |= range.set();
                    }
                    if flags.get().intersects(MmapFlags::LOCKED | MmapFlags::POPULATE) {
                        space.written |= range.set();
                    }
                }
            }
            Op::Shmat { page, flags, .. } => {
                let range = op.range(Part::Destination).unwrap_or_default();
                if space.is_free(range) || flags.get().contains(ShmFlags::REMAP) {
                    space.map(range);
                    space.attached |= bit(page.get());
                    if !flags.get().contains(ShmFlags::RDONLY) {
                        space.writable |= range.set();
                        space.shared |= range.set();
                    }
                }
            }
            Op::Shmdt { page, .. } => {
                if space.attached & bit(page.get()) != 0 {
                    space.unmap(target);
                }
            }
            Op::ShmRmid { .. } => self.removed = true,
            Op::Munmap { .. } => space.unmap(target),
            Op::Mprotect { prot, .. } => {
                space.split(target);
                space.drop_loose_edges();
                match prot.get().contains(Prot::W) {
                    true => space.writable |= target.set() & space.mapped,
                    false => {
                        space.writable &= !target.set();
                        space.shared &= !target.set();
                    }
                }
            }
            Op::Madvise { .. }
            | Op::Mlock { .. }
            | Op::Munlock { .. }
            | Op::Mbind { .. }
            | Op::Mseal { .. }
            | Op::UffdRegister { .. }
            | Op::UffdRegisterWp { .. }
            | Op::UffdWriteprotect { .. }
            | Op::UffdUnregister { .. } => {
                space.split(target);
                space.drop_loose_edges();
                match op {
                    Op::UffdRegister { ctx, .. } | Op::UffdRegisterWp { ctx, .. } => {
                        self.contexts |= 1 << ctx.get().0;
                    }
                    Op::Mlock { .. } => space.locked |= target.set() & space.mapped,
                    Op::Munlock { .. } => space.locked &= !target.set(),
                    _ => {}
                }
            }
            Op::Mlockall { flags, .. } => {
                // Populating writes private memory.
                let written = MlockallFlags::CURRENT | MlockallFlags::ONFAULT;
                if flags.get() & written == MlockallFlags::CURRENT {
                    space.written |= space.writable;
                }
                if flags.get().contains(MlockallFlags::CURRENT) {
                    space.locked = space.mapped;
                }
            }
            Op::Munlockall { .. } => space.locked = 0,
            Op::ClearRefs { .. }
            | Op::Ftruncate { .. }
            | Op::Prlimit { .. }
            | Op::MemoryMerge { .. } => {}
            Op::UffdOpen { ctx, .. } => self.contexts |= 1 << ctx.get().0,
            Op::Touch { access, .. } => {
                if access.get() == Access::Write {
                    space.written |= target.set() & space.writable;
                }
            }
            // Linux 5.2.1 refuses `MREMAP_DONTUNMAP`.
            Op::Mremap { flags, .. } if flags.get().keeps_source() => {}
            Op::Mremap { .. } => {
                let Some((from, to)) = self.moved(op) else { return };
                let space = &mut self.spaces[usize::from(op.process().0)];
                if to.start != from.start {
                    space.unmap(from);
                    space.moved = Some((from, to));
                } else if to.end < from.end {
                    space.unmap(Range { start: to.end, end: from.end });
                }
            }
            Op::Copy { .. } | Op::CopyVma { .. } => {
                self.moved(op);
            }
            Op::Fork { .. } => {
                let free = self.alive.trailing_ones() as usize;
                if free < MAX_PROCESSES {
                    self.spaces[free] = Space { locked: 0, ..*space };
                    self.alive |= 1 << free;
                }
            }
            Op::Exit { process } => {
                *space = Space::default();
                self.alive &= !(1 << process.get().0);
            }
        }
    }

    /// Maps the pages of an operation's source at its destination as well, and returns both ranges.
    fn moved(&mut self, op: &Op) -> Option<(Range, Range)> {
        let dst = usize::from(op.process().0);
        let (from, to) = (op.range(Part::Source)?, self.spaces[dst].destination(op)?);
        let shown = Range::new(from.start, Len(to.len()));
        let source = self.spaces[usize::from(op.source_process().0)];
        if from.set() & !source.mapped != 0 {
            // The kernel refuses to move or copy a hole.
            return None;
        }
        let moved = |set: PageSet| (set & shown.set()) >> from.start.0 << to.start.0;
        let space = &mut self.spaces[dst];
        space.map(to);
        space.writable |= moved(source.writable);
        space.written |= moved(source.written);
        space.shared |= moved(source.shared);
        if matches!(op, Op::Mremap { .. }) {
            space.locked |= moved(source.locked);
        }
        self.shift = to.start.0 as i8 - from.start.0 as i8;
        Some((from, to))
    }

    /// Returns the userfaultfd contexts that were opened: bit `n` stands for context `n`.
    pub fn contexts(&self) -> u8 {
        self.contexts
    }

    /// Returns a userfaultfd context: mostly one that was opened.
    ///
    /// # Errors
    /// As [`Layout::process`].
    pub fn context(&self, u: &mut Unstructured) -> Result<Ctx> {
        let opened = if u.ratio(1, 16)? { 0 } else { self.contexts };
        match any(opened.into(), u)? {
            Some(n) => Ok(Ctx(n.0)),
            None => Ok(Ctx(u.int_in_range(0..=(Ctx::SIZE - 1) as u8)?)),
        }
    }

    /// Returns the number of pages that a process has mapped.
    pub fn pages(&self, process: Process) -> u8 {
        self.space(process).mapped.count_ones() as u8
    }

    /// Returns the number of pages that a process has locked.
    pub fn locked(&self, process: Process) -> u8 {
        self.space(process).locked.count_ones() as u8
    }

    /// Returns the number of VMAs of a process.
    pub fn vmas(&self, process: Process) -> u8 {
        let space = self.space(process);
        (space.edges & space.mapped).count_ones() as u8
    }

    /// Returns whether a memfd was mapped.
    pub fn has_file(&self) -> bool {
        self.files != 0
    }

    /// Returns a file: mostly a memfd that was mapped.
    ///
    /// # Errors
    /// As [`Layout::process`].
    pub fn file(&self, u: &mut Unstructured) -> Result<File> {
        let mapped = if u.ratio(1, 16)? { 0 } else { self.files };
        match any(mapped.into(), u)? {
            Some(n) => Ok(File::nth(n.0)),
            None => Ok(File::nth(u.int_in_range(0..=(File::SIZE - 1) as u8)?)),
        }
    }

    /// Returns whether the segment of SysV shared memory is destroyed.
    pub fn is_destroyed(&self) -> bool {
        self.removed && !self.is_attached()
    }

    /// Returns whether a process has attached the segment of SysV shared memory.
    pub fn is_attached(&self) -> bool {
        self.spaces.iter().any(|space| space.attached != 0)
    }

    /// Returns a process and the page at which it has attached the segment of SysV shared memory; `None`
    /// if no process has.
    ///
    /// # Errors
    /// As [`Layout::process`].
    pub fn attached(&self, u: &mut Unstructured) -> Result<Option<(Process, Page)>> {
        let having = |(n, space): (usize, &Space)| PageSet::from(space.attached != 0) << n;
        let processes = self.spaces.iter().enumerate().map(having).sum();
        let Some(Page(process)) = any(processes, u)? else { return Ok(None) };
        let page = any(self.spaces[usize::from(process)].attached, u)?;
        Ok(page.map(|page| (Process(process), page)))
    }

    /// Returns whether any process has a mapping.
    pub fn mapped(&self) -> bool {
        self.spaces.iter().any(|space| space.mapped != 0)
    }

    /// Returns a process: mostly a living one that has a mapping.
    ///
    /// # Errors
    /// As [`Layout::process`].
    pub fn with_mapping(&self, u: &mut Unstructured) -> Result<Process> {
        let mut having = self.alive;
        for (n, space) in self.spaces.iter().enumerate() {
            having &= !(u8::from(space.mapped == 0) << n);
        }
        if u.ratio(1, 32)? {
            return self.process(u);
        }
        any(having.into(), u)?.map_or_else(|| self.process(u), |n| Ok(Process(n.0)))
    }

    /// Returns the number of living processes.
    pub fn processes(&self) -> usize {
        self.alive.count_ones() as usize
    }

    fn is_alive(&self, process: Process) -> bool {
        self.alive >> process.0 & 1 == 1
    }

    fn space(&self, process: Process) -> &Space {
        &self.spaces[usize::from(process.0)]
    }

    /// Returns a process: a living one, or in one of 32 cases any process.
    ///
    /// # Errors
    /// Never in practice, also for the methods below: `Unstructured` reads zeros after its last
    /// byte.
    pub fn process(&self, u: &mut Unstructured) -> Result<Process> {
        let among = if self.alive == 0 || u.ratio(1, 32)? { u8::MAX } else { self.alive };
        Ok(Process(any(among.into(), u)?.map_or(0, |n| n.0)))
    }

    /// Returns a page at which a VMA of any process begins or ends.
    pub fn edge(&self, u: &mut Unstructured) -> Result<Page> {
        let edges = self.spaces.iter().fold(0, |edges, space| edges | space.edges);
        match any(edges, u)? {
            Some(page) => Ok(operand(page.0)),
            None => Ok(Page(u.int_in_range(0..=SPREAD - 1)?)),
        }
    }

    /// Returns a page that does not depend on the layout: mostly a low one, sometimes the last one.
    fn anywhere(&self, u: &mut Unstructured) -> Result<Page> {
        Ok(Page(match u.int_in_range(0..=31u8)? {
            0 => ARENA_PAGES as u8 - 1,
            1 => u.int_in_range(0..=ARENA_PAGES as u8 - 1)?,
            _ => u.int_in_range(0..=SPREAD - 1)?,
        }))
    }

    /// Returns a page: mostly an edge, or a page close to one.
    pub fn page(&self, u: &mut Unstructured) -> Result<Page> {
        let edge = self.edge(u)?.0;
        Ok(operand(match u.int_in_range(0..=7u8)? {
            0..=3 => edge,
            4 => edge.saturating_sub(u.int_in_range(1..=4)?),
            5 => edge + u.int_in_range(1..=4)?,
            _ => return self.anywhere(u),
        }))
    }

    /// Returns a length that does not depend on the layout: mostly a short one, sometimes 0 or the
    /// longest.
    pub fn len(&self, u: &mut Unstructured) -> Result<Len> {
        Ok(Len(match u.int_in_range(0..=63u8)? {
            0 => 0,
            1 => ARENA_PAGES as u8 - 1,
            2..=5 => u.int_in_range(1..=16)?,
            _ => u.int_in_range(1..=4)?,
        }))
    }

    /// Returns the range for an operation: mostly one VMA of the process, several VMAs, or part of
    /// one.
    pub fn range(&self, process: Process, u: &mut Unstructured) -> Result<(Page, Len)> {
        let space = self.space(process);
        let from = match u.int_in_range(0..=15u8)? {
            0..=8 => any(space.mapped & space.edges, u)?,
            9..=13 => any(space.mapped, u)?,
            // A range that begins in a hole.
            14 => any(space.edges & !space.mapped, u)?,
            _ => None,
        };
        let Some(from) = from.map(|page| operand(page.0)) else {
            return Ok((self.anywhere(u)?, self.len(u)?));
        };
        let end = space.next_edge(from);
        let len = match u.int_in_range(0..=15u8)? {
            0..=7 => end.0 - from.0,
            8..=10 => u.int_in_range(1..=end.0 - from.0)?,
            11..=12 => space.next_edge(end).0 - from.0,
            _ => self.len(u)?.0,
        };
        Ok((from, Len(len % ARENA_PAGES as u8)))
    }

    /// Returns a range of shared memory that may be written: all of it from its first page, or a part.
    /// `None` if the process has none.
    pub fn removable(&self, process: Process, u: &mut Unstructured) -> Result<Option<(Page, Len)>> {
        let shared = self.space(process).shared & Range::new(Page(0), Len(ARENA_PAGES as u8)).set();
        let first = if u.arbitrary()? { shared & !(shared << 1) } else { shared };
        let Some(from) = any(first, u)? else { return Ok(None) };
        let run = (shared >> from.0).trailing_ones().min(ARENA_PAGES as u32 - 1) as u8;
        let len = if u.arbitrary()? { run } else { u.int_in_range(1..=run)? };
        Ok(Some((from, Len(len))))
    }

    /// Returns a page to access: mostly a mapped page that was not written.
    pub fn untouched(&self, process: Process, u: &mut Unstructured) -> Result<Page> {
        let space = self.space(process);
        let fresh = match u.int_in_range(0..=7u8)? {
            0..=4 => space.writable & !space.written,
            5 => space.mapped & !space.written,
            _ => space.mapped,
        };
        match any(fresh, u)? {
            Some(page) => Ok(operand(page.0)),
            None => self.anywhere(u),
        }
    }

    /// Returns a place for `len` pages: mostly beside a VMA, on either side, or over a VMA.
    pub fn place(&self, process: Process, len: Len, u: &mut Unstructured) -> Result<Page> {
        let space = self.space(process);
        let first = space.mapped & !(space.mapped << 1);
        let past = !space.mapped & (space.mapped << 1);
        let page = match u.int_in_range(0..=15u8)? {
            0..=5 => any(past, u)?,
            6..=10 => any(first, u)?.map(|page| Page(page.0.saturating_sub(len.0))),
            11 => any(space.edges & space.mapped, u)?,
            12 => any(space.edges, u)?.map(|page| Page(page.0.saturating_sub(len.0))),
            13 => any(past, u)?.map(|page| Page(page.0 + len.0)),
            _ => None,
        };
        match page {
            Some(page) => Ok(operand(page.0)),
            None => self.anywhere(u),
        }
    }

    /// Returns a hole behind a VMA: its start, and its length up to the next VMA or to the end of
    /// the arena.
    fn hole(&self, process: Process, u: &mut Unstructured) -> Result<Option<(Page, Len)>> {
        let mapped = self.space(process).mapped;
        let from = any(!mapped & (mapped << 1), u)?;
        Ok(from.map(|from| match mapped >> from.0 {
            0 => (from, Len(END_PAGES as u8 - from.0)),
            later => (from, Len(later.trailing_zeros() as u8)),
        }))
    }

    /// Returns the length of a hole of the process, or a length one page shorter or longer; `None`
    /// if there is no hole or if no operand can have the length.
    pub fn fitting(&self, process: Process, u: &mut Unstructured) -> Result<Option<Len>> {
        let Some((_, hole)) = self.hole(process, u)? else { return Ok(None) };
        let len = hole.0 + u.int_in_range(0..=2)?;
        Ok(Some(Len(len - 1)).filter(|len| usize::from(len.0) < ARENA_PAGES))
    }

    /// Returns the way back of the last move in a process: the pages, and their old place. `None` if
    /// there was no move, or if no operand can have the places. A mapping that returns meets VMAs
    /// that were mapped beside its old place in the meantime.
    pub fn way_back(&self, process: Process) -> Option<(Page, Len, Page)> {
        let (old, new) = self.space(process).moved?;
        let len = new.len().min(old.len());
        let named = [new.start.0, len, old.start.0].map(usize::from);
        (len > 0 && named.iter().all(|operand| *operand < ARENA_PAGES)).then_some((
            new.start,
            Len(len),
            old.start,
        ))
    }

    /// Returns a range for a new mapping: beside the place that the last move left, beside a VMA,
    /// over a VMA, or in the hole behind a VMA, which it fills completely or up to one page.
    pub fn fresh(&self, process: Process, u: &mut Unstructured) -> Result<(Page, Len)> {
        if let Some((old, _)) = self.space(process).moved
            && u.ratio(1, 4)?
        {
            let len = self.len(u)?;
            let page = match u.arbitrary()? {
                true => old.end.0,
                false => old.start.0.saturating_sub(len.0),
            };
            return Ok((operand(page), len));
        }
        if u.ratio(1, 4)?
            && let Some((from, len)) = self.hole(process, u)?
        {
            let left = u8::from(u.ratio(1, 4)?);
            let len = len.0.min(ARENA_PAGES as u8 - 1).saturating_sub(left);
            return Ok((operand(from.0), Len(len.max(1))));
        }
        let len = self.len(u)?;
        Ok((self.place(process, len, u)?, len))
    }

    /// Returns a destination for pages that are moved or copied from `from` in `src`: mostly beside
    /// a VMA, or at the distance of the last move, or at the same address in another process. The
    /// page offsets of neighbours then match.
    pub fn destination(
        &self,
        (src, from, len): (Process, Page, Len),
        dst: Process,
        u: &mut Unstructured,
    ) -> Result<Page> {
        match u.int_in_range(0..=15u8)? {
            0..=1 => Ok(operand(from.0.saturating_add_signed(self.shift))),
            // The destination begins at the end of the source. In one address space, the neighbour
            // of the destination may then be the source itself.
            2 => Ok(operand(from.0 + len.0)),
            3..=4 => Ok(operand(from.0.saturating_sub(len.0))),
            // The destination overlaps the source.
            5 => Ok(operand((from.0 + u.int_in_range(0..=2 * len.0)?).saturating_sub(len.0))),
            6..=9 if src != dst => Ok(from),
            _ => self.place(dst, len, u),
        }
    }
}

/// Gives each operation whose process is not alive a living one, as far as a layout can tell. A
/// mutation that inserts an exit, or removes a fork, would otherwise leave the rest of the program
/// without effect.
pub fn keep_to_living(ops: &mut [Op]) {
    let mut layout = Layout::of(&[]);
    for op in ops {
        let alive = layout.alive;
        if alive != 0 && !op.processes().all(|process| layout.is_alive(process)) {
            *op = op.with_operands(|role, value| match role {
                Role::Caller | Role::SourceProcess if alive >> value & 1 == 0 => {
                    let turned = alive.rotate_right(value.into());
                    (value + turned.trailing_zeros() as u8) % MAX_PROCESSES as u8
                }
                _ => value,
            });
        }
        layout.add(op);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_pcg::Pcg32;
    use rand_pcg::rand_core::{Rng as _, SeedableRng as _};
    use vmadiff_machine::Program;

    fn layout(text: &str) -> Layout {
        Layout::of(&text.parse::<Program>().expect("a program").ops)
    }

    fn sets(layout: &Layout, process: u8) -> [Vec<u8>; 3] {
        let space = layout.space(Process(process));
        let pages = |set: PageSet| (0..128).filter(|n| set >> n & 1 == 1).collect::<Vec<u8>>();
        [space.mapped, space.edges, space.written].map(pages)
    }

    #[test]
    fn operations_leave_pages_edges_and_written_pages() {
        // The mapped pages, their edges, and the written pages.
        let cases: [(&str, [&[u8]; 3]); 12] = [
            ("mmap 0 1 3 rw anon_private", [&[1, 2, 3], &[1, 4], &[]]),
            ("mmap 0 1 3 rw anon_private\ntouch 0 2 1", [&[1, 2, 3], &[1, 4], &[2]]),
            ("mmap 0 1 3 rw anon_private\nmunmap 0 2 1", [&[1, 3], &[1, 2, 3, 4], &[]]),
            ("mmap 0 1 3 rw anon_private\nmprotect 0 2 1 r", [&[1, 2, 3], &[1, 2, 3, 4], &[]]),
            ("mmap 0 1 3 rw anon_private\nmunmap 0 0 9", [&[], &[], &[]]),
            (
                "mmap 0 1 3 rw anon_private\ntouch 0 3 1\nmremap 0 3 1 2 MAYMOVE|FIXED 8",
                [&[1, 2, 8, 9], &[1, 3, 8, 10], &[8]],
            ),
            ("mmap 0 1 3 rw anon_private\nmremap 0 1 3 1", [&[1], &[1, 2], &[]]),
            (
                "mmap 0 1 3 rw anon_private\ncopy 0 1 2 0 5 FIXED",
                [&[1, 2, 3, 5, 6], &[1, 4, 5, 7], &[]],
            ),
            (
                "mmap 0 1 3 rw anon_private\ncopy 0 1 2 0 2",
                [&[1, 2, 3, 126, 127], &[1, 4, 126], &[]],
            ),
            ("mmap 0 1 2 rw anon_private\nmremap 0 1 2 3 MAYMOVE", [&[1, 2, 3], &[1, 4], &[]]),
            (
                "mmap 0 1 3 rw anon_private\ntouch 0 1 1\nmremap 0 1 1 2 MAYMOVE",
                [&[2, 3, 126, 127], &[2, 4, 126], &[126]],
            ),
            (
                "mmap 0 1 3 rw anon_private\nmremap 0 1 3 3 MAYMOVE|FIXED|DONTUNMAP 8",
                [&[1, 2, 3], &[1, 4], &[]],
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(sets(&layout(text), 0), expected, "{text}");
        }
    }

    #[test]
    fn a_fork_takes_the_lowest_free_process_and_all_that_is_mapped() {
        let family =
            layout("mmap 0 1 1 rw anon_private\nfork 0\nfork 1\nexit 1\nmunmap 0 1 1\nfork 2");
        assert_eq!(family.alive, 0b111);
        assert_eq!([0, 1, 2].map(|n| sets(&family, n)[0].clone()), [vec![], vec![1], vec![1]]);
    }

    #[test]
    fn a_mapping_that_moved_returns_to_a_place_beside_which_something_new_is_mapped() {
        let moved = layout(
            "mmap 0 4 2 rw anon_private\nmremap 0 4 2 2 MAYMOVE|FIXED 20\nmmap 0 2 2 rw anon_private",
        );
        assert_eq!(moved.way_back(Process(0)), Some((Page(20), Len(2), Page(4))));
        assert_eq!(moved.way_back(Process(1)), None);
        assert_eq!(layout("mmap 0 4 2 rw anon_private").way_back(Process(0)), None);
        let mut rng = Pcg32::seed_from_u64(1);
        let mut beside = 0;
        for _ in 0..1_000 {
            let mut bytes = [0; 24];
            rng.fill_bytes(&mut bytes);
            let u = &mut Unstructured::new(&bytes);
            let (page, len) = moved.fresh(Process(0), u).expect("a range");
            beside += usize::from(page.0 == 6 || page.0 + len.0 == 4);
        }
        assert!(beside > 200, "{beside}");
    }

    #[test]
    fn what_is_drawn_can_be_named_whatever_the_bytes() {
        let crowded = layout("mmap 0 63 63 rw anon_private\nmmap 0 0 63 rw anon_private\nfork 0");
        let mut rng = Pcg32::seed_from_u64(1);
        for _ in 0..20_000 {
            let mut bytes = [0; 24];
            rng.fill_bytes(&mut bytes);
            let u = &mut Unstructured::new(&bytes);
            for layout in [&crowded, &Layout::of(&[])] {
                let process = layout.process(u).expect("a process");
                let (page, len) = layout.range(process, u).expect("a range");
                let to = layout.destination((process, page, len), process, u).expect("a page");
                for page in [page, to, layout.edge(u).expect("an edge")] {
                    assert!(usize::from(page.0) < ARENA_PAGES && usize::from(len.0) < ARENA_PAGES);
                }
            }
        }
    }
}
