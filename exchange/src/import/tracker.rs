//! The tracker of a log's threads: finds the address space that each call changes.

use std::collections::BTreeMap;

use vmadiff_machine::operand::{Advice, Prot};

use super::attributes::{Attributes, Shows};
use super::change::{Change, Step};
use super::space::{Spaces, perform};
use crate::strace::{Call, FileName, Pages};

/// The threads of a log, and the steps of each family.
#[derive(Default)]
pub(super) struct Tracker {
    /// The address space and thread group of each living thread.
    threads: BTreeMap<u32, (usize, u32)>,
    spaces: Spaces,
    /// The family of each address space, also of address spaces that have ended.
    family: Vec<usize>,
    pub(super) families: Vec<Vec<Step>>,
    breaks: BTreeMap<usize, u64>,
    files: Vec<FileName>,
    objects: usize,
    /// The number of calls that are left out, by name and reason.
    pub(super) left_out: BTreeMap<String, usize>,
    /// The number of mappings that no call of the log made.
    pub(super) guessed: usize,
    /// The first page of private writable memory is written.
    touch: bool,
    /// The last event has become a step, or was left out with a reason.
    counted: bool,
}

impl Tracker {
    /// Returns the tracker of a log. If `touch` is set, private writable mappings are written.
    pub(super) fn new(touch: bool) -> Tracker {
        Tracker { touch, ..Tracker::default() }
    }

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
        self.counted = true;
        *self.left_out.entry(what.into()).or_default() += 1;
    }

    fn step(&mut self, line: usize, space: usize, change: Change) {
        self.counted = true;
        self.add(Step { line, space, change, is_call: true, touch: None });
    }

    fn add(&mut self, step: Step) {
        perform(&mut self.spaces, &step);
        self.families[self.family[step.space]].push(step);
    }

    /// Maps the holes of `range`: the call succeeded, so the whole range was mapped.
    fn guess(&mut self, line: usize, space: usize, range: Pages) {
        for hole in self.spaces.entry(space).or_default().holes(range) {
            let guessed = Attributes::new(Shows::Private, Prot::R | Prot::W);
            let change = Change::Map(hole, guessed);
            self.add(Step { line, space, change, is_call: false, touch: None });
            self.guessed += 1;
        }
    }

    /// Changes a range. All of it must have been mapped, so holes are guessed first.
    fn change(&mut self, line: usize, space: usize, range: Pages, change: Change) {
        self.guess(line, space, range);
        self.step(line, space, change);
    }

    /// Removes a thread from its address space, which ends with its last thread.
    fn leave(&mut self, line: usize, thread: u32) {
        let Some((space, _)) = self.threads.remove(&thread) else { return };
        if !self.threads.values().any(|(other, _)| *other == space) {
            self.step(line, space, Change::Exit);
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

    /// Tracks an event of a thread, and counts a call that becomes no step.
    pub(super) fn event(&mut self, line: usize, thread: u32, call: &Call) {
        self.counted = false;
        self.track(line, thread, call);
        if !self.counted && *call != Call::Ended {
            // A new thread, the end of one of several threads, or a call that only asks (`brk(0)`).
            self.leave_out("that change no address space");
        }
    }

    fn track(&mut self, line: usize, thread: u32, call: &Call) {
        let space = match (self.threads.get(&thread), call) {
            (Some((space, _)), _) => *space,
            (None, Call::Exit { .. } | Call::Ended) => return,
            // The first thread, or a thread to which strace was attached.
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
                self.step(line, space, Change::Map(range, attributes));
                self.touch(space, range);
            }
            Call::Munmap(range)
                if self.spaces.entry(space).or_default().within(range).is_empty() =>
            {
                self.leave_out("munmap of what no call had mapped");
            }
            Call::Munmap(range) => self.step(line, space, Change::Unmap(range)),
            Call::Mprotect(range, prot) => {
                self.change(line, space, range, Change::Protect(range, prot));
                self.touch(space, range);
            }
            Call::Mremap { old, new, .. } if old.start != new.start && old.overlaps(new) => {
                self.leave_out("mremap onto itself");
            }
            Call::Mremap { old, new, keeps_source } => {
                self.change(line, space, old, Change::Move { old, new, keeps_source });
            }
            Call::Madvise(_, Advice::Hugepage | Advice::Nohugepage) => {
                self.leave_out("madvise HUGEPAGE, NOHUGEPAGE");
            }
            Call::Madvise(range, advice) => {
                self.change(line, space, range, Change::Advise(range, advice));
            }
            Call::Mlock(range, onfault) => {
                self.change(line, space, range, Change::Lock(range, Some(onfault)));
            }
            Call::Munlock(range) => self.change(line, space, range, Change::Lock(range, None)),
            Call::Mbind(range, mode) => {
                self.change(line, space, range, Change::Bind(range, mode));
            }
            Call::Brk(address) => self.brk(line, space, address.div_ceil(1 << 12)),
            Call::Clone { child, vm, thread: same_group } => {
                let group = self.threads.get(&thread).map_or(thread, |(_, group)| *group);
                let of_child = if vm { space } else { self.fork(line, space) };
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
            Call::Ended => {
                self.leave(line, thread);
                // If the end is a step, then no call has made this step.
                if let Some(step) = self.families[self.family[space]].last_mut()
                    && self.counted
                {
                    step.is_call = false;
                }
            }
            Call::Exit { group: true } => {
                for thread in self.group(thread) {
                    self.leave(line, thread);
                }
            }
        }
    }

    /// Copies an address space and returns the number of the copy.
    fn fork(&mut self, line: usize, space: usize) -> usize {
        let child = self.new_space(Some(self.family[space]));
        self.step(line, space, Change::Fork { child });
        if let Some(end) = self.breaks.get(&space).copied() {
            self.breaks.insert(child, end);
        }
        child
    }

    fn brk(&mut self, line: usize, space: usize, end: u64) {
        let Some(before) = self.breaks.insert(space, end) else { return };
        if before < end {
            let heap = Attributes::new(Shows::Private, Prot::R | Prot::W);
            let range = Pages { start: before, end };
            self.step(line, space, Change::Map(range, heap));
            self.touch(space, range);
        } else if end < before {
            self.step(line, space, Change::Unmap(Pages { start: end, end: before }));
        }
    }

    /// Adds a write of the first page of `range` to the last step, if the page is private and
    /// writable. The last step is a change of `range`.
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
