//! Programs made of what real programs did: a log of `strace`, cut into pieces that stand alone.
//!
//! A log has few processes with large address spaces and many calls; a program has 64 pages and at
//! most [`MAX_OPS`] operations. So
//!
//! - processes that come of each other by fork are a *family*; `execve` begins another, because
//!   nothing of the old address space is left;
//! - a family's calls are cut into *windows*, each as long as it fits. A window begins with
//!   operations that map what was mapped then where its own calls reach, children by fork;
//! - within a window the edges of all ranges are laid out over the arena in their order. What was
//!   adjacent is adjacent, what was apart is apart, what was longer is not shorter, and a range that
//!   `mremap` moves has the same length on both sides.
//!
//! What a log does not tell is left out or guessed: the kernel's own mappings after `execve` are
//! taken to be anonymous where a call meets them, and of the files of a window two are told apart.

use std::collections::{BTreeMap, BTreeSet};

use vmadiff_machine::operand::{
    Access, Advice, FilePage, Kind, Len, MAX_PROCESSES, MmapFlags, Mode, MremapFlags, Onfault,
    Page, Process, Prot,
};
use vmadiff_machine::program::MAX_OPS;
use vmadiff_machine::{Op, Program};

use crate::strace::{Call, FileName, Log, Pages};

/// Pages of the arena that a window is laid out over: all but the first and the last.
const ROOM: u64 = 62;

/// A program, and where in the log it is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    /// The program.
    pub program: Program,
    /// The first and the last line of the log that it has a call of, counted from 1.
    pub lines: (usize, usize),
}

/// What came of a log.
#[derive(Debug, Default)]
pub struct Import {
    /// The programs, each once, in the order of the log.
    pub programs: Vec<Imported>,
    /// Calls that are in none, by name and reason, with their count.
    pub left_out: BTreeMap<String, usize>,
    /// Mappings that no call had made, and that were guessed.
    pub guessed: usize,
}

/// How a log is made into programs.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Write the first page of each private writable mapping, as a program does that wanted one;
    /// no log has accesses.
    pub touch: bool,
    /// The most operations of a program.
    pub operations: usize,
}

/// What a mapping shows. Objects are shown with the distance of address and page offset, which a
/// cut does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shows {
    Private,
    /// Anonymous shared memory, each a new object.
    Object {
        object: usize,
        distance: i64,
    },
    File {
        file: usize,
        shared: bool,
        read_only: bool,
        distance: i64,
    },
}

/// Everything that neighbours must have in common to be one mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Attributes {
    shows: Shows,
    prot: Prot,
    noreserve: bool,
    /// Locked, and if so on fault.
    locked: Option<bool>,
    /// `DONTFORK`, `DONTDUMP`, `WIPEONFORK`, `MERGEABLE`, and one of `RANDOM`, `SEQUENTIAL`.
    advice: [Option<Advice>; 5],
    policy: Mode,
}

impl Attributes {
    fn new(shows: Shows, prot: Prot) -> Attributes {
        Attributes {
            shows,
            prot,
            noreserve: false,
            locked: None,
            advice: [None; 5],
            policy: Mode::Default,
        }
    }

    fn advise(&mut self, advice: Advice) {
        let (at, to) = match advice {
            Advice::Dontfork => (0, true),
            Advice::Dofork => (0, false),
            Advice::Dontdump => (1, true),
            Advice::Dodump => (1, false),
            Advice::Wipeonfork => (2, true),
            Advice::Keeponfork => (2, false),
            Advice::Mergeable => (3, true),
            Advice::Unmergeable => (3, false),
            Advice::Random | Advice::Sequential => (4, true),
            Advice::Normal => (4, false),
            _ => return,
        };
        self.advice[at] = to.then_some(advice);
    }

    fn is_private_writable(&self) -> bool {
        let private = matches!(self.shows, Shows::Private | Shows::File { shared: false, .. });
        private && self.prot.contains(Prot::W)
    }

    /// The same, `pages` further on.
    fn moved(mut self, pages: i64) -> Attributes {
        if let Shows::Object { distance, .. } | Shows::File { distance, .. } = &mut self.shows {
            *distance = distance.wrapping_add(pages);
        }
        self
    }
}

/// An address space: what is mapped from each start to its end.
#[derive(Clone, Debug, Default)]
struct Space {
    mapped: BTreeMap<u64, (u64, Attributes)>,
    /// Whose child it is.
    parent: Option<usize>,
}

impl Space {
    /// What of `range` is mapped, cut to it.
    fn within(&self, range: Pages) -> Vec<(Pages, Attributes)> {
        let before = self.mapped.range(..range.start).next_back();
        before
            .into_iter()
            .chain(self.mapped.range(range.start..range.end))
            .map(|(start, (end, attributes))| {
                let part = Pages { start: range.start.max(*start), end: range.end.min(*end) };
                (part, *attributes)
            })
            .filter(|(part, _)| part.start < part.end)
            .collect()
    }

    fn unmap(&mut self, range: Pages) {
        for (part, _) in self.within(range) {
            let Some((&start, &(end, attributes))) = self.mapped.range(..=part.start).next_back()
            else {
                continue;
            };
            self.mapped.remove(&start);
            if start < part.start {
                self.mapped.insert(start, (part.start, attributes));
            }
            if part.end < end {
                self.mapped.insert(part.end, (end, attributes));
            }
        }
    }

    /// Maps a hole, and joins it with equal neighbours.
    fn map(&mut self, mut range: Pages, attributes: Attributes) {
        if let Some((&start, &(end, before))) = self.mapped.range(..range.start).next_back()
            && end == range.start
            && before == attributes
        {
            range.start = start;
        }
        if let Some(&(end, after)) = self.mapped.get(&range.end)
            && after == attributes
        {
            self.mapped.remove(&range.end);
            range.end = end;
        }
        self.mapped.insert(range.start, (range.end, attributes));
    }

    fn change(&mut self, range: Pages, change: impl Fn(&mut Attributes)) {
        for (part, mut attributes) in self.within(range) {
            change(&mut attributes);
            self.unmap(part);
            self.map(part, attributes);
        }
    }

    fn holes(&self, range: Pages) -> Vec<Pages> {
        let mut holes = Vec::new();
        let mut start = range.start;
        for (part, _) in self.within(range) {
            if start < part.start {
                holes.push(Pages { start, end: part.start });
            }
            start = part.end;
        }
        if start < range.end {
            holes.push(Pages { start, end: range.end });
        }
        holes
    }

    fn perform(&mut self, what: &What) {
        match *what {
            What::Map(range, attributes) => {
                self.unmap(range);
                self.map(range, attributes);
            }
            What::Unmap(range) => self.unmap(range),
            What::Protect(range, prot) => self.change(range, |a| a.prot = prot),
            What::Advise(range, advice) => self.change(range, |a| a.advise(advice)),
            What::Lock(range, locked) => self.change(range, |a| a.locked = locked),
            What::Bind(range, mode) => self.change(range, |a| a.policy = mode),
            What::Move { old, new } => {
                let shift = new.start.wrapping_sub(old.start);
                let moved = self.within(old);
                self.unmap(old);
                self.unmap(new);
                let mut last = None;
                for (part, attributes) in moved {
                    let start = part.start.wrapping_add(shift);
                    let end = part.end.wrapping_add(shift).min(new.end);
                    let attributes = attributes.moved(shift as i64);
                    if start < end {
                        self.map(Pages { start, end }, attributes);
                        last = Some((end, attributes));
                    }
                }
                if let Some((start, attributes)) = last.filter(|(end, _)| *end < new.end) {
                    self.map(Pages { start, end: new.end }, attributes);
                }
            }
            What::Fork { .. } | What::Exit => {}
        }
    }
}

/// A call, by what it does to an address space.
#[derive(Clone, Copy, Debug)]
enum What {
    Map(Pages, Attributes),
    Unmap(Pages),
    Protect(Pages, Prot),
    Advise(Pages, Advice),
    Lock(Pages, Option<bool>),
    Bind(Pages, Mode),
    Move { old: Pages, new: Pages },
    Fork { child: usize },
    Exit,
}

impl What {
    /// The ranges that it names.
    fn ranges(&self) -> Vec<Pages> {
        match *self {
            What::Map(range, _)
            | What::Unmap(range)
            | What::Protect(range, _)
            | What::Advise(range, _)
            | What::Lock(range, _)
            | What::Bind(range, _) => vec![range],
            What::Move { old, new } => vec![old, new],
            What::Fork { .. } | What::Exit => Vec::new(),
        }
    }
}

#[derive(Clone, Copy, Debug)]
struct Step {
    line: usize,
    space: usize,
    what: What,
    /// The page that is written next, if any.
    touch: Option<u64>,
}

/// The address spaces of one family that are alive, by number.
type Spaces = BTreeMap<usize, Space>;

fn perform(spaces: &mut Spaces, step: &Step) {
    match step.what {
        What::Fork { child } => {
            let parent = spaces.entry(step.space).or_default();
            let mut space = Space { parent: Some(step.space), ..parent.clone() };
            space.mapped.retain(|_, (_, attributes)| attributes.advice[0].is_none());
            // Locks are not inherited.
            let whole = Pages { start: 0, end: u64::MAX };
            space.change(whole, |attributes| attributes.locked = None);
            spaces.insert(child, space);
        }
        What::Exit => {
            spaces.remove(&step.space);
        }
        ref what => spaces.entry(step.space).or_default().perform(what),
    }
}

/// The threads of a log, and what they have done to which family.
#[derive(Default)]
struct Tracker {
    /// The address space and thread group of each living thread.
    threads: BTreeMap<u32, (usize, u32)>,
    spaces: Spaces,
    /// The family of each address space that there ever was.
    family: Vec<usize>,
    families: Vec<Vec<Step>>,
    breaks: BTreeMap<usize, u64>,
    files: Vec<FileName>,
    objects: usize,
    import: Import,
    touch: bool,
}

impl Tracker {
    fn new_space(&mut self, family: Option<usize>) -> usize {
        let space = self.family.len();
        let family = family.unwrap_or_else(|| {
            self.families.push(Vec::new());
            self.families.len() - 1
        });
        self.family.push(family);
        self.spaces.entry(space).or_default();
        space
    }

    fn leave_out(&mut self, what: &str) {
        *self.import.left_out.entry(what.into()).or_default() += 1;
    }

    fn step(&mut self, line: usize, space: usize, what: What) {
        let step = Step { line, space, what, touch: None };
        perform(&mut self.spaces, &step);
        self.families[self.family[space]].push(step);
    }

    /// Maps what must have been there, or the call would have failed.
    fn guess(&mut self, line: usize, space: usize, range: Pages) {
        for hole in self.spaces.entry(space).or_default().holes(range) {
            let guessed = Attributes::new(Shows::Private, Prot::R | Prot::W);
            self.step(line, space, What::Map(hole, guessed));
            self.import.guessed += 1;
        }
    }

    /// A thread is gone from its address space, which ends with the last.
    fn leave(&mut self, line: usize, thread: u32) {
        let Some((space, _)) = self.threads.remove(&thread) else { return };
        if !self.threads.values().any(|(other, _)| *other == space) {
            self.step(line, space, What::Exit);
        }
    }

    fn group(&self, thread: u32) -> Vec<u32> {
        let group = self.threads.get(&thread).map(|(_, group)| *group);
        let of_it = self.threads.iter().filter(|(_, (_, other))| Some(*other) == group);
        of_it.map(|(thread, _)| *thread).collect()
    }

    fn shows(&mut self, range: Pages, shared: bool, file: &Option<(FileName, u64)>) -> Shows {
        match file {
            None if !shared => Shows::Private,
            None => {
                self.objects += 1;
                Shows::Object { object: self.objects, distance: range.start as i64 }
            }
            Some((name, offset)) => {
                let known = self.files.iter().position(|file| file.name == name.name);
                let file = known.unwrap_or_else(|| {
                    self.files.push(name.clone());
                    self.files.len() - 1
                });
                Shows::File {
                    file,
                    shared,
                    read_only: name.read_only,
                    distance: range.start as i64 - *offset as i64,
                }
            }
        }
    }

    fn event(&mut self, line: usize, thread: u32, call: &Call) {
        let space = match (self.threads.get(&thread), call) {
            (Some((space, _)), _) => *space,
            (None, Call::Exit { .. }) => return,
            // The first, or one that strace was attached to.
            (None, _) => {
                let space = self.new_space(None);
                self.threads.insert(thread, (space, thread));
                space
            }
        };
        match *call {
            Call::Mmap { range, prot, shared, noreserve, locked, ref file } => {
                let shows = self.shows(range, shared, file);
                let locked = locked.then_some(false);
                let attributes = Attributes { noreserve, locked, ..Attributes::new(shows, prot) };
                self.step(line, space, What::Map(range, attributes));
                self.touch(space, range);
            }
            Call::Munmap(range)
                if self.spaces.entry(space).or_default().within(range).is_empty() =>
            {
                self.leave_out("munmap of what no call had mapped");
            }
            Call::Munmap(range) => self.step(line, space, What::Unmap(range)),
            Call::Mprotect(range, prot) => {
                self.guess(line, space, range);
                self.step(line, space, What::Protect(range, prot));
                self.touch(space, range);
            }
            Call::Mremap { old, new } if old.start != new.start && overlap(old, new) => {
                self.leave_out("mremap onto itself");
            }
            Call::Mremap { old, new } => {
                self.guess(line, space, old);
                self.step(line, space, What::Move { old, new });
            }
            Call::Madvise(_, Advice::Hugepage | Advice::Nohugepage) => {
                self.leave_out("madvise HUGEPAGE, NOHUGEPAGE");
            }
            Call::Madvise(range, advice) => {
                self.guess(line, space, range);
                self.step(line, space, What::Advise(range, advice));
            }
            Call::Mlock(range, onfault) => {
                self.guess(line, space, range);
                self.step(line, space, What::Lock(range, Some(onfault)));
            }
            Call::Munlock(range) => {
                self.guess(line, space, range);
                self.step(line, space, What::Lock(range, None));
            }
            Call::Mbind(range, mode) => {
                self.guess(line, space, range);
                self.step(line, space, What::Bind(range, mode));
            }
            Call::Brk(address) => self.brk(line, space, address.div_ceil(1 << 12)),
            Call::Clone { child, vm, thread: same_group } => {
                let group = self.threads[&thread].1;
                let of_child = if vm {
                    space
                } else {
                    let of_child = self.new_space(Some(self.family[space]));
                    self.step(line, space, What::Fork { child: of_child });
                    if let Some(end) = self.breaks.get(&space).copied() {
                        self.breaks.insert(of_child, end);
                    }
                    of_child
                };
                self.threads.insert(child, (of_child, if same_group { group } else { child }));
            }
            Call::Execve => {
                for thread in self.group(thread) {
                    self.leave(line, thread);
                }
                let space = self.new_space(None);
                self.threads.insert(thread, (space, thread));
            }
            Call::Exit { group: false } => self.leave(line, thread),
            Call::Exit { group: true } => {
                for thread in self.group(thread) {
                    self.leave(line, thread);
                }
            }
        }
    }

    fn brk(&mut self, line: usize, space: usize, end: u64) {
        let Some(before) = self.breaks.insert(space, end) else { return };
        if before < end {
            let heap = Attributes::new(Shows::Private, Prot::R | Prot::W);
            let range = Pages { start: before, end };
            self.step(line, space, What::Map(range, heap));
            self.touch(space, range);
        } else if end < before {
            self.step(line, space, What::Unmap(Pages { start: end, end: before }));
        }
    }

    /// Has the step that was last, a change of `range`, followed by a write to its first page,
    /// where that is private and writable.
    fn touch(&mut self, space: usize, range: Pages) {
        let first = self.spaces.entry(space).or_default().within(range).into_iter().next();
        if self.touch
            && first.is_some_and(|(_, attributes)| attributes.is_private_writable())
            && let Some(step) = self.families[self.family[space]].last_mut()
        {
            step.touch = Some(range.start);
        }
    }
}

fn overlap(a: Pages, b: Pages) -> bool {
    a.start < b.end && b.start < a.end
}

/// Makes programs of a log.
pub fn import(log: &Log, options: Options) -> Import {
    let options = Options { operations: options.operations.min(MAX_OPS), ..options };
    let mut tracker = Tracker { touch: options.touch, ..Tracker::default() };
    for event in &log.events {
        tracker.event(event.line, event.thread, &event.call);
    }
    let Tracker { families, mut import, .. } = tracker;
    let mut programs = Vec::new();
    for steps in &families {
        windows(steps, options, &mut programs, &mut import.left_out);
    }
    programs.sort_by_key(|imported| imported.lines);
    let mut met = BTreeSet::new();
    programs.retain(|imported| met.insert(imported.program.to_string()));
    import.programs = programs;
    import
}

/// Cuts what a family did into windows.
fn windows(
    steps: &[Step],
    options: Options,
    programs: &mut Vec<Imported>,
    left_out: &mut BTreeMap<String, usize>,
) {
    let mut spaces = Spaces::new();
    let mut from = 0;
    while from < steps.len() {
        let mut fits = None;
        for to in from + 1..=steps.len().min(from + options.operations) {
            let window = Window { spaces: &spaces, steps: &steps[from..to] };
            match window.program(options) {
                Some(program) => fits = Some((to, program)),
                None => break,
            }
        }
        let to = match fits {
            Some((to, program)) => {
                let changes =
                    steps[from..to].iter().filter(|step| !step.what.ranges().is_empty()).count();
                if changes >= 3 {
                    let lines = (steps[from].line, steps[to - 1].line);
                    programs.push(Imported { program, lines });
                } else if changes > 0 {
                    *left_out.entry("in a window of less than three calls".into()).or_default() +=
                        changes;
                }
                to
            }
            None => {
                *left_out.entry("that no window has room for".into()).or_default() += 1;
                from + 1
            }
        };
        for step in &steps[from..to] {
            perform(&mut spaces, step);
        }
        from = to;
    }
}

/// Part of what a family did, and what was there when it began.
struct Window<'a> {
    spaces: &'a Spaces,
    steps: &'a [Step],
}

/// How the addresses of a window lie in the arena.
#[derive(Default)]
struct Layout {
    /// Each edge's page in the arena.
    pages: BTreeMap<u64, u8>,
}

impl Layout {
    fn page(&self, edge: u64) -> Page {
        Page(self.pages.get(&edge).copied().unwrap_or(0))
    }

    fn range(&self, range: Pages) -> (Page, Len) {
        let (start, end) = (self.page(range.start), self.page(range.end));
        (start, Len(end.0.saturating_sub(start.0)))
    }
}

impl Window<'_> {
    /// The address spaces that it needs of those that were there, oldest first.
    fn needed(&self) -> Vec<usize> {
        let mut born = BTreeSet::new();
        let mut needed = BTreeSet::new();
        for step in self.steps {
            if !born.contains(&step.space) {
                needed.insert(step.space);
            }
            if let What::Fork { child } = step.what {
                born.insert(child);
            }
        }
        needed.into_iter().collect()
    }

    /// What is mapped in an address space where the window's calls reach, or beside it.
    fn before(&self, space: usize, reach: &[Pages]) -> Vec<(Pages, Attributes)> {
        let Some(space) = self.spaces.get(&space) else { return Vec::new() };
        let mut starts = BTreeSet::new();
        for range in reach {
            let wide = Pages { start: range.start.saturating_sub(1), end: range.end + 1 };
            for (part, _) in space.within(wide) {
                starts.extend(space.mapped.range(..=part.start).next_back().map(|(s, _)| *s));
            }
        }
        let whole = |start| {
            let (end, attributes) = space.mapped[&start];
            (Pages { start, end }, attributes)
        };
        starts.into_iter().map(whole).collect()
    }

    /// Lays the edges out over the arena; `None` where they are too many.
    fn layout(&self, before: &[Vec<(Pages, Attributes)>]) -> Option<Layout> {
        let ranges: Vec<Pages> = self
            .steps
            .iter()
            .flat_map(|step| step.what.ranges())
            .chain(before.iter().flatten().map(|(range, _)| *range))
            .collect();
        let mut edges: BTreeSet<u64> = ranges.iter().flat_map(|r| [r.start, r.end]).collect();
        // What moves is cut alike on both sides.
        let moves: Vec<(u64, u64, u64)> = self
            .steps
            .iter()
            .filter_map(|step| match step.what {
                What::Move { old, new } => {
                    let len = (old.end - old.start).min(new.end - new.start);
                    Some((old.start, new.start, len))
                }
                _ => None,
            })
            .collect();
        loop {
            if edges.len() as u64 > ROOM {
                return None;
            }
            let known = edges.len();
            for &(old, new, len) in &moves {
                for (from, to) in [(old, new), (new, old)] {
                    let more: Vec<_> =
                        edges.range(from..=from + len).map(|e| e - from + to).collect();
                    edges.extend(more);
                }
            }
            if edges.len() == known {
                break;
            }
        }
        let edges: Vec<u64> = edges.into_iter().collect();
        let cells: Vec<Pages> =
            edges.windows(2).map(|pair| Pages { start: pair[0], end: pair[1] }).collect();
        // Cells that are one moved are as long as each other: each is represented by the first.
        let mut like: Vec<usize> = (0..cells.len()).collect();
        let at = |edge: u64| edges.binary_search(&edge).ok();
        for &(old, new, len) in &moves {
            for cell in 0..cells.len() {
                if cells[cell].start < old || cells[cell].end > old + len {
                    continue;
                }
                let Some(other) = at(cells[cell].start - old + new) else { continue };
                let (a, b) = (like[cell], like[other]);
                like.iter_mut().filter(|l| **l == a.max(b)).for_each(|l| *l = a.min(b));
            }
        }
        // A hole is as short as can be, what is mapped is the longer the longer it was.
        let mapped = |cell: &Pages| ranges.iter().any(|range| overlap(*range, *cell));
        let log2 = |cell: &Pages| match mapped(cell) {
            true => u64::from((cell.end - cell.start).ilog2()),
            false => 0,
        };
        let total =
            |scale: u64| -> u64 { like.iter().map(|first| 1 + log2(&cells[*first]) / scale).sum() };
        let scale = (1..=64).find(|scale| total(*scale) <= ROOM)?;
        let mut pages = BTreeMap::new();
        let mut page = 1;
        for (n, edge) in edges.iter().enumerate() {
            pages.insert(*edge, page);
            if let Some(first) = like.get(n) {
                page += 1 + (log2(&cells[*first]) / scale) as u8;
            }
        }
        Some(Layout { pages })
    }

    /// The program; `None` where there is no room for it.
    fn program(&self, Options { touch, operations }: Options) -> Option<Program> {
        let needed = self.needed();
        let reach: Vec<Pages> = self.steps.iter().flat_map(|step| step.what.ranges()).collect();
        let before: Vec<_> = needed.iter().map(|space| self.before(*space, &reach)).collect();
        let layout = self.layout(&before)?;
        let mut writer = Writer { layout, touch, ..Writer::default() };
        for (n, space) in needed.iter().enumerate() {
            let parent = self.forked_from(*space, &needed[..n]);
            let inherited: &[_] = parent.map_or(&[], |at| &before[at]);
            match parent {
                None => writer.begin(*space),
                Some(at) => writer.fork(needed[at], *space)?,
            }
            writer.build(*space, inherited, &before[n]);
        }
        for step in self.steps {
            writer.step(step)?;
        }
        let program = Program { ops: writer.ops, ..Program::default() };
        (program.ops.len() <= operations).then_some(program)
    }

    /// Of those that are there already, the closest forebear, or the first.
    fn forked_from(&self, space: usize, there: &[usize]) -> Option<usize> {
        let mut next = self.spaces.get(&space).and_then(|space| space.parent);
        while let Some(forebear) = next {
            if let Some(at) = there.iter().position(|other| *other == forebear) {
                return Some(at);
            }
            next = self.spaces.get(&forebear).and_then(|space| space.parent);
        }
        (!there.is_empty()).then_some(0)
    }
}

/// Writes a program.
#[derive(Default)]
struct Writer {
    layout: Layout,
    /// Whether what is private and writable is written.
    touch: bool,
    ops: Vec<Op>,
    /// The address space of each process.
    processes: [Option<usize>; MAX_PROCESSES],
    /// Files in the order of their first use, and each one's distances.
    files: Vec<usize>,
    distances: Vec<(usize, i64)>,
}

fn position<T: PartialEq>(known: &mut Vec<T>, value: T) -> usize {
    known.iter().position(|other| *other == value).unwrap_or_else(|| {
        known.push(value);
        known.len() - 1
    })
}

impl Writer {
    /// The first process.
    fn begin(&mut self, space: usize) {
        self.processes[0] = Some(space);
    }

    fn process(&self, space: usize) -> Option<Process> {
        let at = self.processes.iter().position(|other| *other == Some(space))?;
        Some(Process(at as u8))
    }

    /// The child takes the lowest free index; `None` where there is none.
    fn fork(&mut self, parent: usize, child: usize) -> Option<()> {
        let process = self.process(parent)?.into();
        let free = self.processes.iter_mut().find(|process| process.is_none())?;
        *free = Some(child);
        self.ops.push(Op::Fork { process });
        Some(())
    }

    /// Turns what a child has inherited into what it is to have.
    fn build(
        &mut self,
        space: usize,
        inherited: &[(Pages, Attributes)],
        wanted: &[(Pages, Attributes)],
    ) {
        let Some(process) = self.process(space) else { return };
        for (range, _) in inherited.iter().filter(|(range, attributes)| {
            attributes.advice[0].is_none()
                && !wanted.iter().any(|(other, _)| overlap(*range, *other))
        }) {
            self.unmap(process, *range);
        }
        for (range, attributes) in wanted {
            let same = |(other, theirs): &&(Pages, Attributes)| {
                let forked = Attributes { locked: None, ..*theirs };
                *other == *range && forked == *attributes && theirs.advice[0].is_none()
            };
            if inherited.iter().any(|there| same(&there)) {
                continue;
            }
            self.map(process, *range, Attributes { locked: None, ..*attributes });
            if self.touch && attributes.is_private_writable() {
                self.touch(process, range.start);
            }
            let (page, len) = self.layout.range(*range);
            for advice in attributes.advice.iter().flatten() {
                self.ops.push(Op::Madvise {
                    process: process.into(),
                    page: page.into(),
                    len: len.into(),
                    advice: (*advice).into(),
                });
            }
            if attributes.policy != Mode::Default {
                self.bind(process, *range, attributes.policy);
            }
            if attributes.locked.is_some() {
                self.lock(process, *range, attributes.locked);
            }
        }
    }

    fn map(&mut self, process: Process, range: Pages, attributes: Attributes) {
        let (page, len) = self.layout.range(range);
        let (kind, pgoff) = match attributes.shows {
            Shows::Private => (Kind::AnonPrivate, 0),
            Shows::Object { .. } => (Kind::AnonShared, 0),
            Shows::File { file, shared, read_only, distance } => {
                let second = position(&mut self.files, file) % 2 == 1;
                let kind = match (shared, second) {
                    (true, _) if read_only && !attributes.prot.contains(Prot::W) => {
                        Kind::ReadonlyShared
                    }
                    (true, false) => Kind::File0Shared,
                    (true, true) => Kind::File1Shared,
                    (false, false) => Kind::File0Private,
                    (false, true) => Kind::File1Private,
                };
                // Offsets go on from one mapping to the next where they did, and only there.
                let which = position(&mut self.distances, (file, distance)) % 3;
                (kind, page.0 + 64 * which as u8)
            }
        };
        let mut flags = MmapFlags::empty();
        flags.set(MmapFlags::NORESERVE, attributes.noreserve);
        flags.set(MmapFlags::LOCKED, attributes.locked.is_some());
        self.ops.push(Op::Mmap {
            process: process.into(),
            page: page.into(),
            len: len.into(),
            prot: attributes.prot.into(),
            kind: kind.into(),
            flags: flags.into(),
            pgoff: FilePage(pgoff).into(),
        });
    }

    fn unmap(&mut self, process: Process, range: Pages) {
        let (page, len) = self.layout.range(range);
        self.ops.push(Op::Munmap { process: process.into(), page: page.into(), len: len.into() });
    }

    fn bind(&mut self, process: Process, range: Pages, mode: Mode) {
        let (page, len) = self.layout.range(range);
        let (process, page, len) = (process.into(), page.into(), len.into());
        self.ops.push(Op::Mbind { process, page, len, mode: mode.into() });
    }

    fn lock(&mut self, process: Process, range: Pages, locked: Option<bool>) {
        let (page, len) = self.layout.range(range);
        let (process, page, len) = (process.into(), page.into(), len.into());
        self.ops.push(match locked {
            None => Op::Munlock { process, page, len },
            Some(onfault) => {
                let onfault = if onfault { Onfault::Yes } else { Onfault::No };
                Op::Mlock { process, page, len, onfault: onfault.into() }
            }
        });
    }

    fn step(&mut self, step: &Step) -> Option<()> {
        let process = self.process(step.space)?;
        match step.what {
            What::Map(range, attributes) => self.map(process, range, attributes),
            What::Unmap(range) => self.unmap(process, range),
            What::Protect(range, prot) => {
                let (page, len) = self.layout.range(range);
                let (process, page, len) = (process.into(), page.into(), len.into());
                self.ops.push(Op::Mprotect { process, page, len, prot: prot.into() });
            }
            What::Advise(range, advice) => {
                let (page, len) = self.layout.range(range);
                let (process, page, len) = (process.into(), page.into(), len.into());
                self.ops.push(Op::Madvise { process, page, len, advice: advice.into() });
            }
            What::Lock(range, locked) => self.lock(process, range, locked),
            What::Bind(range, mode) => self.bind(process, range, mode),
            What::Move { old, new } => {
                let ((page, old_len), (new_page, new_len)) =
                    (self.layout.range(old), self.layout.range(new));
                let in_place = old.start == new.start;
                self.ops.push(Op::Mremap {
                    process: process.into(),
                    page: page.into(),
                    old_len: old_len.into(),
                    new_len: new_len.into(),
                    flags: match in_place {
                        true => MremapFlags::InPlace,
                        false => MremapFlags::MaymoveFixed,
                    }
                    .into(),
                    new_page: if in_place { Page(0) } else { new_page }.into(),
                });
            }
            What::Fork { child } => self.fork(step.space, child)?,
            What::Exit => {
                self.processes[usize::from(process.0)] = None;
                self.ops.push(Op::Exit { process: process.into() });
            }
        }
        if let Some(page) = step.touch {
            self.touch(process, page);
        }
        Some(())
    }

    fn touch(&mut self, process: Process, page: u64) {
        let page = self.layout.page(page).into();
        let (process, access) = (process.into(), Access::Write.into());
        self.ops.push(Op::Touch { process, page, access });
    }
}
