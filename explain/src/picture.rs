//! What there is to see of an operation: the address spaces of both machines as bars, what the
//! operation touched, and what differs. How it is drawn is another matter:
//! [as text](crate::draw).

use std::collections::BTreeMap;

use vmadiff_lockstep::compare::Scope;
use vmadiff_machine::observation::{CopyReport, PageSet};
use vmadiff_machine::operand::{CopyFlags, END_PAGES, Len, MAX_PROCESSES, Mode, MremapFlags, Page};
use vmadiff_machine::{AddressSpace, Errno, Observation, Op, VmFlags, Vma};

/// The flags beside the permissions, as `/proc/PID/smaps` abbreviates them.
const ABBREVIATIONS: [(VmFlags, &str); 15] = [
    (VmFlags::VM_UFFD_MISSING, "um"),
    (VmFlags::VM_UFFD_WP, "uw"),
    (VmFlags::VM_LOCKED, "lo"),
    (VmFlags::VM_LOCKONFAULT, "lf"),
    (VmFlags::VM_DONTCOPY, "dc"),
    (VmFlags::VM_WIPEONFORK, "wf"),
    (VmFlags::VM_MERGEABLE, "mg"),
    (VmFlags::VM_ACCOUNT, "ac"),
    (VmFlags::VM_NORESERVE, "nr"),
    (VmFlags::VM_SEQ_READ, "sr"),
    (VmFlags::VM_RAND_READ, "rr"),
    (VmFlags::VM_DONTDUMP, "dd"),
    (VmFlags::VM_IO, "io"),
    (VmFlags::VM_PFNMAP, "pf"),
    (VmFlags::VM_DONTEXPAND, "de"),
];

/// The abbreviations that need a word: each with the flag's name in the kernel.
pub fn legend() -> impl Iterator<Item = (&'static str, &'static str)> {
    ABBREVIATIONS
        .into_iter()
        .map(|(flag, short)| (short, flag.iter_names().next().map_or("", |(name, _)| name)))
}

/// A range of pages, the end exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The first page.
    pub start: u8,
    /// One past the last page.
    pub end: u8,
}

impl Range {
    /// `len` pages from `page` on.
    pub fn new(page: Page, len: Len) -> Range {
        Range { start: page.0, end: page.plus(len).0 }
    }

    /// Where a VMA is.
    pub fn of(vma: &Vma) -> Range {
        Range { start: vma.start.0, end: vma.end.0 }
    }

    /// Whether there is no page in it.
    pub fn is_empty(self) -> bool {
        self.start >= self.end
    }

    /// Whether the two have a page in common.
    pub fn overlaps(self, other: Range) -> bool {
        self.start.max(other.start) < self.end.min(other.end)
    }

    /// Whether `page` is one of its pages.
    pub fn contains(self, page: u8) -> bool {
        (self.start..self.end).contains(&page)
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{},{})", self.start, self.end)
    }
}

/// A range that an operation names, in the address space of one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touched {
    /// The process.
    pub process: usize,
    /// Whether it is where something comes `from`, where it goes `to`, or what is worked `on`.
    pub role: &'static str,
    /// The range. It may be empty.
    pub range: Range,
}

/// What an operation touches; `result` says where the kernel put what had no fixed place.
pub fn touched(op: &Op, result: Result<u8, Errno>) -> Vec<Touched> {
    let at = |process: u8, role, page, len| Touched {
        process: usize::from(process),
        role,
        range: Range::new(page, len),
    };
    match *op {
        Op::Mmap { process, page, len, .. } => {
            vec![at(process.get().0, "to", page.get(), len.get())]
        }
        Op::Munmap { process, page, len }
        | Op::Mprotect { process, page, len, .. }
        | Op::Madvise { process, page, len, .. }
        | Op::Mlock { process, page, len, .. }
        | Op::Munlock { process, page, len }
        | Op::Mbind { process, page, len, .. }
        | Op::UffdRegister { process, page, len, .. }
        | Op::UffdUnregister { process, page, len, .. } => {
            vec![at(process.get().0, "on", page.get(), len.get())]
        }
        Op::Touch { process, page, .. } => vec![at(process.get().0, "on", page.get(), Len(1))],
        Op::Mremap { process, page, old_len, new_len, flags, new_page } => {
            let to = match flags.get() {
                MremapFlags::InPlace => page.get(),
                MremapFlags::MaymoveFixed => new_page.get(),
            };
            let process = process.get().0;
            vec![
                at(process, "from", page.get(), old_len.get()),
                at(process, "to", to, new_len.get()),
            ]
        }
        Op::Copy { process, page, len, src, dst_page, flags } => {
            let fixed = flags.get().intersects(CopyFlags::FIXED | CopyFlags::FIXED_NOREPLACE);
            let to = match result {
                Ok(chosen) if !fixed => Page(chosen),
                _ => dst_page.get(),
            };
            vec![
                at(src.get().0, "from", page.get(), len.get()),
                at(process.get().0, "to", to, len.get()),
            ]
        }
        Op::CopyVma { process, page, len, src, dst_page, .. } => vec![
            at(src.get().0, "from", page.get(), len.get()),
            at(process.get().0, "to", dst_page.get(), len.get()),
        ],
        Op::Fork { .. } | Op::Exit { .. } => Vec::new(),
    }
}

/// One thing that is said of a VMA, or of an address space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// As it is shown: `rw-p`, `@4`, `lo`, `anon=A[BA]`.
    pub text: String,
    /// Whether the other machine says otherwise of any of the pages.
    pub differs: bool,
}

/// A VMA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Where it is.
    pub range: Range,
    /// What is said of it.
    pub words: Vec<Word>,
    /// Edges of the VMAs before, and of the range that was added, that are none any more.
    pub joined: Vec<u8>,
}

/// An address space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Space {
    /// The VMAs in address order.
    pub bars: Vec<Bar>,
    /// Counters in pages (maps: VMAs), and the anonymous pages.
    pub counters: Vec<Word>,
}

/// What a machine shows of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Side {
    /// There is no such process.
    Gone,
    /// The kernel did not survive.
    Lost,
    /// An address space.
    Alive(Space),
}

impl Side {
    fn space(&self) -> Option<&Space> {
        match self {
            Side::Alive(space) => Some(space),
            Side::Gone | Side::Lost => None,
        }
    }

    /// The bars, if there are any.
    pub fn bars(&self) -> &[Bar] {
        self.space().map_or(&[], |space| &space.bars)
    }
}

/// A process, as both machines show it.
#[derive(Clone, Debug)]
pub struct ProcessPicture {
    /// Its index.
    pub process: usize,
    /// What the operation touched there.
    pub touched: Vec<Touched>,
    /// Its address space before the operation, where that touched it.
    pub before: Option<Space>,
    /// The left machine's.
    pub left: Side,
    /// The right machine's.
    pub right: Side,
    /// Pages that differ.
    pub pages_differ: PageSet,
    /// Pages at which a VMA begins or ends in one machine only.
    pub edges_differ: PageSet,
}

impl ProcessPicture {
    /// Whether both machines show the same.
    pub fn same(&self) -> bool {
        self.left == self.right
    }

    /// Whether nothing maps `page`, and the operation does not touch it.
    pub fn is_gap(&self, page: u8) -> bool {
        let before = self.before.iter().flat_map(|space| &space.bars);
        let mut bars = before.chain(self.left.bars()).chain(self.right.bars());
        !bars.any(|bar| bar.range.contains(page))
            && !self.touched.iter().any(|t| t.range.contains(page))
    }

    /// Every edge and every end of a touched range, ascending: what has to be told apart.
    pub fn edges(&self) -> Vec<u8> {
        let before = self.before.iter().flat_map(|space| &space.bars);
        let bars = before.chain(self.left.bars()).chain(self.right.bars());
        let mut edges: Vec<u8> = bars
            .flat_map(|bar| [bar.range.start, bar.range.end])
            .chain(self.touched.iter().flat_map(|t| [t.range.start, t.range.end]))
            .collect();
        edges.sort_unstable();
        edges.dedup();
        edges
    }
}

/// The words of a line, what differs marked by `!`.
pub fn marked(words: &[Word]) -> Vec<String> {
    let mark = |word: &Word| format!("{}{}", if word.differs { "!" } else { "" }, word.text);
    words.iter().map(mark).collect()
}

impl Picture {
    /// What differs, a line each.
    pub fn differences(&self, names: (&str, &str)) -> Vec<String> {
        let names = [names.0, names.1];
        let differs = |words: &[Word]| words.iter().any(|word| word.differs);
        let mut lines = Vec::new();
        for (name, said) in names.iter().zip(&self.said) {
            let said = said.iter().filter(|word| word.differs);
            lines.extend(said.map(|word| format!("{name}: {}", word.text)));
        }
        for process in &self.processes {
            let of = format!("process {}", process.process);
            for (name, side) in names.iter().zip([&process.left, &process.right]) {
                let Side::Alive(space) = side else { continue };
                if differs(&space.counters) {
                    let counters = marked(&space.counters).join(", ");
                    lines.push(format!("{of} of {name}: {counters}"));
                }
                for bar in space.bars.iter().filter(|bar| differs(&bar.words)) {
                    let words = marked(&bar.words).join(" ");
                    lines.push(format!("{of} of {name}: {} {words}", bar.range));
                }
            }
            if process.edges_differ != 0 {
                for page in (0..=END_PAGES as u8).filter(|page| has(process.edges_differ, *page)) {
                    let ends = |side: &Side| {
                        let mut bars = side.bars().iter();
                        bars.any(|bar| bar.range.start == page || bar.range.end == page)
                    };
                    let name = if ends(&process.left) { names[0] } else { names[1] };
                    lines.push(format!("{of}: a VMA begins or ends at page {page} in {name} only"));
                }
            }
        }
        lines
    }
}

/// All that there is to see after an operation.
#[derive(Clone, Debug)]
pub struct Picture {
    /// What each machine says of the operation beside its result: `copy_vma()`, events, committed
    /// memory.
    pub said: [Vec<Word>; 2],
    /// The living processes.
    pub processes: Vec<ProcessPicture>,
}

/// Gives objects their letters: the same one as long as the object lives, and the same one in
/// both machines where both have it at the same place.
#[derive(Debug, Default)]
struct Letters {
    /// By the number that the right machine gives an object, from step to step.
    right: BTreeMap<usize, usize>,
    /// By the left machine's numbers, for this step.
    left: BTreeMap<usize, usize>,
}

impl Letters {
    /// Names all objects, given in the same order for both machines. `pairs` are those that both
    /// have at one place.
    fn name(&mut self, left: &[usize], right: &[usize], pairs: &[(usize, usize)]) {
        self.right.retain(|object, _| right.contains(object));
        for object in right {
            let free = (0..).find(|n| !self.right.values().any(|taken| taken == n));
            if let Some(free) = free {
                self.right.entry(*object).or_insert(free);
            }
        }
        self.left.clear();
        for (l, r) in pairs {
            let Some(&letter) = self.right.get(r) else { continue };
            if !self.left.contains_key(l) && !self.left.values().any(|taken| *taken == letter) {
                self.left.insert(*l, letter);
            }
        }
        for object in left {
            if self.left.contains_key(object) {
                continue;
            }
            let taken = |n: &usize| {
                self.left.values().any(|taken| taken == n)
                    || self.right.values().any(|taken| taken == n)
            };
            if let Some(free) = (0..).find(|n| !taken(n)) {
                self.left.insert(*object, free);
            }
        }
    }

    /// The object's number; none where it is gone.
    fn of(&self, is_left: bool, object: usize) -> Option<usize> {
        let table = if is_left { &self.left } else { &self.right };
        table.get(&object).copied()
    }
}

fn letter(n: Option<usize>) -> String {
    let Some(n) = n else { return "?".into() };
    let letter = char::from(b'A' + (n % 26) as u8);
    if n < 26 { letter.to_string() } else { format!("{letter}{}", n / 26) }
}

fn number(n: Option<usize>) -> String {
    n.map_or_else(|| "?".into(), |n| n.to_string())
}

/// The permissions as in `/proc/PID/maps`; `S` is a shared mapping that can never be written.
pub fn permissions(flags: VmFlags) -> String {
    let letter = |flag, letter| if flags.contains(flag) { letter } else { '-' };
    let sharing = match (flags.contains(VmFlags::VM_SHARED), flags.contains(VmFlags::VM_MAYSHARE)) {
        (true, _) => 's',
        (false, true) => 'S',
        (false, false) => 'p',
    };
    [
        letter(VmFlags::VM_READ, 'r'),
        letter(VmFlags::VM_WRITE, 'w'),
        letter(VmFlags::VM_EXEC, 'x'),
        sharing,
    ]
    .into_iter()
    .collect()
}

/// Sets of pages as ranges: `1..4 6..7`.
pub fn pages_text(pages: PageSet) -> String {
    let mut ranges = Vec::new();
    let mut page = 0;
    while page < END_PAGES {
        let start = page;
        while page < END_PAGES && pages >> page & 1 == 1 {
            page += 1;
        }
        if page > start {
            ranges.push(format!("{start}..{page}"));
        } else {
            page += 1;
        }
    }
    ranges.join(" ")
}

/// What `copy_vma()` answered.
pub fn copy_text(copy: CopyReport, scope: Scope) -> String {
    let mut text = String::from(if copy.merged { "merged" } else { "duplicated" });
    if copy.source_redirected {
        text.push_str(", source redirected");
    }
    if copy.need_rmap_locks {
        // A recorded kernel does not say whether they were taken.
        text.push_str(match (scope, copy.honoured) {
            (Scope::Recorded, _) => ", need_rmap_locks",
            (Scope::Models, true) => ", rmap locks taken",
            (Scope::Models, false) => ", rmap locks NOT taken",
        });
    }
    text
}

/// Makes the pictures of a program's operations, in their order.
#[derive(Debug)]
pub struct Painter {
    scope: Scope,
    anon_vmas: Letters,
    files: Letters,
    uffds: Letters,
    /// The address spaces before the next operation, as pictured.
    before: [Option<Space>; MAX_PROCESSES],
    /// Likewise, as observed on the right: where VMAs ended.
    edges: [PageSet; MAX_PROCESSES],
}

impl Painter {
    /// At the start of a program.
    pub fn new(scope: Scope) -> Painter {
        let mut before: [Option<Space>; MAX_PROCESSES] = Default::default();
        before[0] = Some(Space { bars: Vec::new(), counters: Vec::new() });
        Painter {
            scope,
            anon_vmas: Letters::default(),
            files: Letters::default(),
            uffds: Letters::default(),
            before,
            edges: [0; MAX_PROCESSES],
        }
    }

    /// The picture after the next operation of the program.
    pub fn picture(&mut self, op: &Op, left: &Observation, right: &Observation) -> Picture {
        self.name_objects(left, right);
        let all_touched = touched(op, left.result);
        let added: &[Touched] = match op {
            Op::Mmap { .. } | Op::Mremap { .. } | Op::Copy { .. } | Op::CopyVma { .. } => {
                &all_touched
            }
            _ => &[],
        };
        let mut processes = Vec::new();
        for process in 0..MAX_PROCESSES {
            let (l, r) = (&left.spaces[process], &right.spaces[process]);
            let touched: Vec<_> =
                all_touched.iter().copied().filter(|t| t.process == process).collect();
            let shown_before = self.before[process].take();
            if l.alive || r.alive {
                let added = added
                    .iter()
                    .filter(|t| t.process == process && t.role == "to")
                    .fold(0, |set, t| set | edge(t.range.start) | edge(t.range.end));
                let old_edges = self.edges[process] | added;
                processes.push(self.process(
                    process,
                    touched,
                    shown_before,
                    (left, right),
                    old_edges,
                ));
            }
            self.before[process] = r.alive.then(|| self.space((r, false), (r, false), 0));
            self.edges[process] = edges(r);
        }
        let mut said = [self.said(left), self.said(right)];
        let texts = said.clone().map(|words| words.into_iter().map(|w| w.text).collect::<Vec<_>>());
        // What one of them does not survive is all that there is to compare.
        let fatal = left.is_fatal() || right.is_fatal();
        for ((words, other), seen) in said.iter_mut().zip([&texts[1], &texts[0]]).zip([left, right])
        {
            for word in words {
                word.differs = !other.contains(&word.text) && (!fatal || seen.is_fatal());
            }
        }
        Picture { said, processes }
    }

    fn said(&self, seen: &Observation) -> Vec<Word> {
        let mut said = Vec::new();
        let mut say = |text| said.push(Word { text, differs: false });
        if let Some(copy) = seen.copy {
            say(format!("copy_vma: {}", copy_text(copy, self.scope)));
        }
        seen.events.iter().for_each(|event| say(event.to_string()));
        if seen.is_fatal() {
            say("the kernel does not survive this".into());
        } else if self.scope == Scope::Models && seen.committed != 0 {
            say(format!("committed {}", seen.committed));
        }
        said
    }

    fn process(
        &self,
        process: usize,
        touched: Vec<Touched>,
        before: Option<Space>,
        (left, right): (&Observation, &Observation),
        old_edges: PageSet,
    ) -> ProcessPicture {
        let (l, r) = (&left.spaces[process], &right.spaces[process]);
        let (lost_left, lost_right) = (left.is_fatal(), right.is_fatal());
        let side = |lost, space: &AddressSpace, other: &AddressSpace, is_left: bool, other_lost| {
            if lost {
                return Side::Lost;
            }
            if !space.alive {
                return Side::Gone;
            }
            // With what was lost nothing is compared: only with itself.
            let (other, other_is_left) =
                if other_lost { (space, is_left) } else { (other, !is_left) };
            Side::Alive(self.space((space, is_left), (other, other_is_left), old_edges))
        };
        let compare = !lost_left && !lost_right && l.alive && r.alive;
        let picture = ProcessPicture {
            process,
            before: before.filter(|_| !touched.is_empty()),
            touched,
            left: side(lost_left, l, r, true, lost_right),
            right: side(lost_right, r, l, false, lost_left),
            pages_differ: 0,
            edges_differ: if compare { edges(l) ^ edges(r) } else { 0 },
        };
        let differing = |side: &Side| {
            let bars = side.bars().iter().filter(|bar| bar.words.iter().any(|w| w.differs));
            bars.fold(0, |set, bar| set | pages(bar.range))
        };
        // A page that one side does not map has words on the other side only.
        let pages_differ = if compare {
            (differing(&picture.left) | differing(&picture.right)) & self.unlike(l, r)
        } else {
            0
        };
        ProcessPicture { pages_differ, ..picture }
    }

    /// The pages of which the two address spaces show different things.
    fn unlike(&self, left: &AddressSpace, right: &AddressSpace) -> PageSet {
        (0..END_PAGES as u8).fold(0, |set, page| {
            let l = left.vma_at(Page(page)).map(|v| self.words(left, v, true, page));
            let r = right.vma_at(Page(page)).map(|v| self.words(right, v, false, page));
            if l == r { set } else { set | edge(page) }
        })
    }

    /// An address space beside another one; each with whether it is the left machine's.
    fn space(
        &self,
        (space, is_left): (&AddressSpace, bool),
        (other, other_is_left): (&AddressSpace, bool),
        old_edges: PageSet,
    ) -> Space {
        let bars = space.vmas().iter().map(|vma| {
            let range = Range::of(vma);
            let mut words: Vec<Word> = self
                .words(space, vma, is_left, range.start)
                .into_iter()
                .map(|text| Word { text, differs: false })
                .collect();
            for page in range.start..range.end {
                let mine = self.words(space, vma, is_left, page);
                let theirs = other
                    .vma_at(Page(page))
                    .map(|v| self.words(other, v, other_is_left, page))
                    .unwrap_or_default();
                for (word, mine) in words.iter_mut().zip(mine) {
                    word.differs |= !theirs.contains(&mine);
                }
            }
            let joined =
                (range.start + 1..range.end).filter(|page| has(old_edges, *page)).collect();
            Bar { range, words, joined }
        });
        Space { bars: bars.collect(), counters: self.counters(space, other) }
    }

    fn counters(&self, space: &AddressSpace, other: &AddressSpace) -> Vec<Word> {
        let (mine, theirs) = (&space.counters, &other.counters);
        let mut words: Vec<Word> = [
            ("total", mine.total_vm, theirs.total_vm),
            ("locked", mine.locked_vm, theirs.locked_vm),
            ("data", mine.data_vm, theirs.data_vm),
            ("maps", mine.map_count, theirs.map_count),
        ]
        .map(|(name, mine, theirs)| Word {
            text: format!("{name} {mine}"),
            differs: other.alive && mine != theirs,
        })
        .into();
        let (mine, theirs) = (space.anon_pages, other.anon_pages);
        if self.scope == Scope::Models && (mine != 0 || other.alive && theirs != 0) {
            let text = if mine == 0 { "none".into() } else { pages_text(mine) };
            words.push(Word {
                text: format!("anonymous pages {text}"),
                differs: other.alive && mine != theirs,
            });
        }
        words
    }

    /// What is said of a VMA, its page offset as it is at `page`.
    fn words(&self, space: &AddressSpace, vma: &Vma, is_left: bool, page: u8) -> Vec<String> {
        let mut pgoff = vma.pgoff;
        // Modulo 2^64, as the kernel adds.
        pgoff.0 = pgoff.0.wrapping_add(u64::from(page - vma.start.0));
        let mut words = vec![permissions(vma.flags)];
        // Anonymous memory counts from the arena, files from their start; what does not is odd
        // enough to be shown in full.
        let counted = pgoff.to_string();
        words.push(match (counted.starts_with('@'), vma.file.is_some()) {
            (true, false) => counted,
            (false, true) => format!("@{counted}"),
            (true, true) | (false, false) => format!("@{:#x}", pgoff.0),
        });
        for (flag, text) in ABBREVIATIONS {
            if vma.flags.contains(flag) {
                words.push(text.into());
            }
        }
        if !vma.flags.contains(VmFlags::VM_SOFTDIRTY) {
            words.push("-sd".into());
        }
        let name = |object: usize| letter(self.anon_vmas.of(is_left, object));
        let chain = self.chain_letters(space, vma, is_left).concat();
        match (vma.anon_vma, chain.is_empty()) {
            (None, true) => {}
            (None, false) => words.push(format!("anon=-[{chain}]")),
            (Some(own), _) => words.push(format!("anon={}[{chain}]", name(own.index()))),
        }
        if let Some(file) = vma.file {
            words.push(format!("file={}", number(self.files.of(is_left, file.index()))));
        }
        if let Some(uffd) = vma.uffd {
            words.push(format!("uffd={}", number(self.uffds.of(is_left, uffd.index()))));
        }
        if vma.policy != Mode::Default {
            words.push(vma.policy.name().to_lowercase());
        }
        if vma.close {
            words.push("close".into());
        }
        words
    }

    /// The letters of a VMA's chain, newest first, as pictured last.
    pub fn chain_letters(&self, space: &AddressSpace, vma: &Vma, is_left: bool) -> Vec<String> {
        let name = |object: usize| letter(self.anon_vmas.of(is_left, object));
        space.chain(vma).iter().map(|a| name(a.index())).collect()
    }

    /// The letters of a VMA's anon_vma and chain, as pictured last: `A[BA]`.
    pub fn anon_vma_text(&self, space: &AddressSpace, vma: &Vma, is_left: bool) -> String {
        let name = |object: usize| letter(self.anon_vmas.of(is_left, object));
        let own = vma.anon_vma.map_or_else(|| "none".into(), |own| name(own.index()));
        format!("{own}[{}]", self.chain_letters(space, vma, is_left).concat())
    }

    fn name_objects(&mut self, left: &Observation, right: &Observation) {
        let kinds: [(&mut Letters, Objects); 3] = [
            (&mut self.anon_vmas, anon_vmas),
            (&mut self.files, |_, vma| vma.file.iter().map(|f| f.index()).collect()),
            (&mut self.uffds, |_, vma| vma.uffd.iter().map(|u| u.index()).collect()),
        ];
        for (letters, objects) in kinds {
            let all = |seen: &Observation| {
                let spaces = seen.spaces.iter();
                let objects = spaces.flat_map(|s| s.vmas().iter().flat_map(|v| objects(s, v)));
                objects.collect::<Vec<usize>>()
            };
            let mut pairs = Vec::new();
            for (l, r) in left.spaces.iter().zip(&right.spaces) {
                for page in 0..END_PAGES as u8 {
                    if let (Some(lv), Some(rv)) = (l.vma_at(Page(page)), r.vma_at(Page(page))) {
                        let (lv, rv) = (objects(l, lv), objects(r, rv));
                        if lv.len() == rv.len() {
                            pairs.extend(lv.into_iter().zip(rv));
                        }
                    }
                }
            }
            letters.name(&all(left), &all(right), &pairs);
        }
    }
}

/// The objects of one kind that a VMA has.
type Objects = fn(&AddressSpace, &Vma) -> Vec<usize>;

/// A VMA's anon_vma, and those of its chain.
fn anon_vmas(space: &AddressSpace, vma: &Vma) -> Vec<usize> {
    let chain = space.chain(vma).iter();
    vma.anon_vma.iter().chain(chain).map(|a| a.index()).collect()
}

/// Whether a page is in a set.
pub fn has(set: PageSet, page: u8) -> bool {
    set & edge(page) != 0
}

fn edge(page: u8) -> PageSet {
    1u128.checked_shl(page.into()).unwrap_or(0)
}

fn pages(range: Range) -> PageSet {
    (range.start..range.end).fold(0, |set, page| set | edge(page))
}

fn edges(space: &AddressSpace) -> PageSet {
    space.vmas().iter().fold(0, |set, vma| set | edge(vma.start.0) | edge(vma.end.0))
}
