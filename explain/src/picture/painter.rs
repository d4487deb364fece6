//! The painter: makes pictures from the observations of two machines.

use vmadiff_lockstep::compare::Scope;
use vmadiff_machine::observation::PageSet;
use vmadiff_machine::operand::{END_PAGES, MAX_PROCESSES, Mode, Page};
use vmadiff_machine::{AddressSpace, Observation, Op, VmFlags, Vma};

use super::letters::{Letters, letter, number};
use super::set::{edge, edges, has, pages};
use super::words::{ABBREVIATIONS, Word, copy_text, pages_text, permissions};
use super::{Bar, Picture, ProcessPicture, Range, Side, Space, Touched, touched};

/// The painter of the operations of a program, which are pictured in their order.
#[derive(Debug)]
pub struct Painter {
    scope: Scope,
    /// The flags that the machines cannot show.
    unseen: VmFlags,
    anon_vmas: Letters,
    files: Letters,
    uffds: Letters,
    /// The address space of each process before the next operation, as pictured.
    before: [Option<Space>; MAX_PROCESSES],
    /// The edges of the VMAs of each process before the next operation, as the right machine showed
    /// them.
    edges: [PageSet; MAX_PROCESSES],
}

impl Painter {
    /// Returns a painter at the start of a program.
    pub fn new(scope: Scope) -> Painter {
        let mut before: [Option<Space>; MAX_PROCESSES] = Default::default();
        before[0] = Some(Space { bars: Vec::new(), counters: Vec::new() });
        Painter {
            scope,
            unseen: VmFlags::empty(),
            anon_vmas: Letters::default(),
            files: Letters::default(),
            uffds: Letters::default(),
            before,
            edges: [0; MAX_PROCESSES],
        }
    }

    /// Leaves out flags that the machines cannot show.
    pub fn without(mut self, unseen: VmFlags) -> Painter {
        self.unseen = unseen;
        self
    }

    /// Returns the picture of the next operation of the program.
    pub fn picture(&mut self, op: &Op, left: &Observation, right: &Observation) -> Picture {
        self.name_objects(left, right);
        let all_touched = touched(op, left.result);
        let mut processes = Vec::new();
        for process in 0..MAX_PROCESSES {
            let (l, r) = (&left.spaces[process], &right.spaces[process]);
            let touched: Vec<_> =
                all_touched.iter().copied().filter(|t| t.process == process).collect();
            let shown_before = self.before[process].take();
            if l.alive || r.alive {
                let added = all_touched
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
        // If a machine does not survive the operation, its failure is the only difference.
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
        if self.scope == Scope::Models {
            seen.messages.iter().for_each(|message| say(format!("message {message}")));
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
            // A lost address space is compared with nothing. The other address space is compared
            // with itself, so that nothing is marked.
            let (other, other_is_left) =
                if other_lost { (space, is_left) } else { (other, !is_left) };
            Side::Alive(self.space((space, is_left), (other, other_is_left), old_edges))
        };
        let compare = !lost_left && !lost_right && l.alive && r.alive;
        let mut picture = ProcessPicture {
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
        // If one side does not map a page, only the other side has words for it.
        let pages_differ = if compare {
            (differing(&picture.left) | differing(&picture.right)) & self.unlike(l, r)
        } else {
            0
        };
        let locks_differ = self.add_rmap_locks(&mut picture, left, right);
        ProcessPicture { pages_differ: pages_differ | locks_differ, ..picture }
    }

    /// Adds the rmap locks to the VMA that has the copied range, on each machine that needs them,
    /// and returns the range if only one machine takes them.
    fn add_rmap_locks(
        &self,
        picture: &mut ProcessPicture,
        left: &Observation,
        right: &Observation,
    ) -> PageSet {
        let to = picture.touched.iter().find(|touched| touched.role == "to");
        let Some(to) = to.map(|to| to.range).filter(|_| self.scope == Scope::Models) else {
            return 0;
        };
        let word = |seen: &Observation| {
            let copy = seen.copy.filter(|copy| copy.need_rmap_locks)?;
            Some(if copy.honoured { "rmap-locks" } else { "no-rmap-locks" })
        };
        let (l, r) = (word(left), word(right));
        let differs = l.is_some() && r.is_some() && l != r;
        for (side, word) in [(&mut picture.left, l), (&mut picture.right, r)] {
            let (Side::Alive(space), Some(word)) = (side, word) else { continue };
            if let Some(bar) = space.bars.iter_mut().find(|bar| bar.range.contains(to.start)) {
                bar.words.push(Word { text: word.into(), differs });
            }
        }
        if differs { pages(to) } else { 0 }
    }

    /// Returns the pages whose words differ in the two address spaces.
    fn unlike(&self, left: &AddressSpace, right: &AddressSpace) -> PageSet {
        (0..END_PAGES as u8).fold(0, |set, page| {
            let l = left.vma_at(Page(page)).map(|v| self.words(left, v, true, page));
            let r = right.vma_at(Page(page)).map(|v| self.words(right, v, false, page));
            if l == r { set } else { set | edge(page) }
        })
    }

    /// Returns an address space as pictured beside another one. Each has a flag: it is the left
    /// machine's.
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

    /// Returns the words of a VMA. The page offset is the offset of `page`.
    fn words(&self, space: &AddressSpace, vma: &Vma, is_left: bool, page: u8) -> Vec<String> {
        let mut pgoff = vma.pgoff;
        // The addition is modulo 2^64, as in the kernel.
        pgoff.0 = pgoff.0.wrapping_add(u64::from(page - vma.start.0));
        let mut words = vec![permissions(vma.flags)];
        // An offset is shown relative to the arena for anonymous memory, and to the start of the
        // file for a file. Any other offset is unusual and is shown in full.
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
        if !(vma.flags | self.unseen).contains(VmFlags::VM_SOFTDIRTY) {
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

    /// Returns the letters of a VMA's chain, newest first, as in the last picture.
    pub fn chain_letters(&self, space: &AddressSpace, vma: &Vma, is_left: bool) -> Vec<String> {
        let name = |object: usize| letter(self.anon_vmas.of(is_left, object));
        space.chain(vma).iter().map(|a| name(a.index())).collect()
    }

    /// Returns the letters of a VMA's anon_vma and chain, as in the last picture: `A[BA]`.
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

/// A function that returns the objects of one kind that a VMA has.
type Objects = fn(&AddressSpace, &Vma) -> Vec<usize>;

/// Returns a VMA's anon_vma and the anon_vmas of its chain.
fn anon_vmas(space: &AddressSpace, vma: &Vma) -> Vec<usize> {
    let chain = space.chain(vma).iter();
    vma.anon_vma.iter().chain(chain).map(|a| a.index()).collect()
}

#[cfg(test)]
mod tests {
    use vmadiff_machine::operand::Process;
    use vmadiff_machine::{Machine as _, Program};
    use vmadiff_reference::Reference;

    use super::*;

    #[test]
    fn a_flag_that_no_machine_can_show_is_left_out() {
        let program: Program = "mmap 0 1 2 rw anon_private".parse().expect("a program");
        let (mut machine, mut seen) = (Reference::new(), Observation::default());
        machine.reset(&program.limits);
        machine.step(&program.ops[0], &mut seen);
        let mut vma = seen.spaces[0].vmas()[0];
        vma.flags -= VmFlags::VM_SOFTDIRTY;
        seen.rewrite(Process(0)).push(vma, []);
        seen.spaces[0].alive = true;
        for (unseen, shown) in [(VmFlags::empty(), true), (VmFlags::VM_SOFTDIRTY, false)] {
            let mut painter = Painter::new(Scope::Models).without(unseen);
            let picture = painter.picture(&program.ops[0], &seen, &seen);
            let bar = &picture.processes[0].left.bars()[0];
            assert_eq!(bar.words.iter().any(|word| word.text == "-sd"), shown, "{bar:?}");
        }
    }
}
