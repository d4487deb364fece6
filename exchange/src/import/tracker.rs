//! The tracker of a log's threads: finds the address space that each call changes.

use std::collections::{BTreeMap, BTreeSet};

use vmadiff_machine::operand::{Advice, MlockallFlags, Prot, Resource};

use super::attributes::{Attributes, Shows};
use super::change::{Change, Step};
use super::space::{Spaces, perform};
use super::window::Options;
use crate::strace::{Call, FileName, Pages};

/// The largest number of mappings in living address spaces after a fork. A fork past it would let
/// memory grow with the square of the log, because each living process has a copy of its parent's
/// mappings. Real programs have a hundredth of it.
const MAX_LIVING: usize = 1 << 19;

/// The largest number of mappings that forks copy, so that a log takes bounded time.
const MAX_COPIED: usize = 1 << 25;

/// The mappings that each change may visit, and the largest number of further mappings that all changes
/// visit, so that a log takes bounded time: it could call `mlockall` again and again.
const FREE_VISITS: usize = 8;
const MAX_VISITED: usize = 1 << 20;

/// The threads of a log, and the steps of each family.
#[derive(Default)]
pub(super) struct Tracker {
    /// The address space and thread group of each living thread.
    threads: BTreeMap<u32, (usize, u32)>,
    /// The living threads of each thread group.
    groups: BTreeMap<u32, BTreeSet<u32>>,
    /// The number of living threads of each address space.
    users: BTreeMap<usize, usize>,
    /// The number of mappings of the living address spaces.
    mappings: usize,
    /// The number of mappings that forks have copied.
    copied: usize,
    /// The number of mappings that changes have visited, past the first ones of each.
    visited: usize,
    spaces: Spaces,
    /// The family of each address space, also of address spaces that have ended.
    family: Vec<usize>,
    pub(super) families: Vec<Vec<Step>>,
    breaks: BTreeMap<usize, u64>,
    files: BTreeMap<String, usize>,
    /// The files that were cut short of a mapping.
    cut: BTreeSet<usize>,
    objects: usize,
    /// The number of calls that are left out, by name and reason.
    pub(super) left_out: BTreeMap<String, usize>,
    /// The number of mappings that no call of the log made.
    pub(super) guessed: usize,
    /// The first page of private writable memory is written.
    touch: bool,
    /// The process to import; all processes without it.
    process: Option<u32>,
    /// The current event belongs to a process to import.
    is_wanted: bool,
    /// The current event is a call.
    is_call: bool,
    /// The last event has become a step, or was left out with a reason.
    counted: bool,
}

impl Tracker {
    /// Returns the tracker of a log.
    pub(super) fn new(Options { touch, process, .. }: Options) -> Tracker {
        Tracker { touch, process, ..Tracker::default() }
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
        self.visited += self.visits(space, &change).saturating_sub(FREE_VISITS);
        if self.visited > MAX_VISITED {
            return self.leave_out("changes of too many mappings");
        }
        if self.is_call && !self.is_wanted {
            self.leave_out("of another process");
        }
        self.counted = true;
        self.add(line, space, change, self.is_call && self.is_wanted);
    }

    /// Returns the number of mappings that a change visits.
    fn visits(&self, space: usize, change: &Change) -> usize {
        let Some(space) = self.spaces.get(&space) else { return 0 };
        match change {
            Change::LockAll(_) => space.mapped.len(),
            change => {
                let ranges = change.ranges().into_iter().filter(|range| range.start < range.end);
                ranges.map(|range| space.mapped.range(range.start..range.end).count()).sum()
            }
        }
    }

    /// Returns the number of mappings of an address space.
    fn size(&self, space: usize) -> usize {
        self.spaces.get(&space).map_or(0, |space| space.mapped.len())
    }

    /// Adds a thread to an address space and to a thread group.
    fn enter(&mut self, thread: u32, space: usize, group: u32) {
        self.forget(thread);
        self.threads.insert(thread, (space, group));
        self.groups.entry(group).or_default().insert(thread);
        *self.users.entry(space).or_default() += 1;
    }

    /// Removes a thread, and returns its address space if this was its last thread.
    fn forget(&mut self, thread: u32) -> Option<usize> {
        let (space, group) = self.threads.remove(&thread)?;
        if let Some(threads) = self.groups.get_mut(&group) {
            threads.remove(&thread);
            if threads.is_empty() {
                self.groups.remove(&group);
            }
        }
        let users = self.users.get_mut(&space)?;
        *users -= 1;
        if *users > 0 {
            return None;
        }
        self.users.remove(&space);
        Some(space)
    }

    fn add(&mut self, line: usize, space: usize, change: Change, is_call: bool) {
        let child = match change {
            Change::Fork { child } => Some(child),
            _ => None,
        };
        let is_wanted = self.is_wanted;
        let step = Step { line, space, change, is_call, is_wanted, touch: None, populates: false };
        let before = self.size(space);
        perform(&mut self.spaces, &step);
        let copied = child.map_or(0, |child| self.size(child));
        self.mappings = (self.mappings + self.size(space) + copied).saturating_sub(before);
        self.copied += copied;
        self.families[self.family[space]].push(step);
    }

    /// Returns the last step of the family of `space`.
    fn last_step(&mut self, space: usize) -> Option<&mut Step> {
        self.families[self.family[space]].last_mut()
    }

    /// Maps the holes of `range`: the call succeeded, so the whole range was mapped.
    fn guess(&mut self, line: usize, space: usize, range: Pages) {
        for hole in self.spaces.entry(space).or_default().holes(range) {
            let guessed = Attributes::new(Shows::Private, Prot::R | Prot::W);
            let change = Change::Map(hole, guessed);
            self.add(line, space, change, false);
            self.guessed += usize::from(self.is_wanted);
        }
    }

    /// Changes a range. All of it must have been mapped, so holes are guessed first.
    fn change(&mut self, line: usize, space: usize, range: Pages, change: Change) {
        self.guess(line, space, range);
        self.step(line, space, change);
    }

    /// Removes a thread from its address space, which ends with its last thread.
    fn leave(&mut self, line: usize, thread: u32) {
        if let Some(space) = self.forget(thread) {
            self.step(line, space, Change::Exit);
        }
    }

    fn group(&self, thread: u32) -> Vec<u32> {
        let group = self.threads.get(&thread).and_then(|(_, group)| self.groups.get(group));
        group.into_iter().flatten().copied().collect()
    }

    fn shows(&mut self, range: Pages, shared: bool, file: &Option<(FileName, u64)>) -> Shows {
        match file {
            None if !shared => Shows::Private,
            None => {
                self.objects += 1;
                Shows::Object { object: self.objects, distance: range.start as i64 }
            }
            Some((name, offset)) => {
                let next = self.files.len();
                let file = *self.files.entry(name.name.clone()).or_insert(next);
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
        self.is_wanted = self.process.is_none_or(|process| {
            self.threads.get(&thread).map_or(thread, |(_, group)| *group) == process
        });
        self.is_call = *call != Call::Ended;
        self.track(line, thread, call);
        if !self.counted && self.is_call {
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
                self.enter(thread, space, thread);
                space
            }
        };
        match *call {
            Call::Mmap { range, prot, shared, noreserve, locked, populated, ref file } => {
                let shows = self.shows(range, shared, file);
                let locked = locked.then_some(false);
                let attributes = Attributes { noreserve, locked, ..Attributes::new(shows, prot) };
                self.step(line, space, Change::Map(range, attributes));
                match self.last_step(space) {
                    Some(step) if populated => step.populates = true,
                    _ => self.touch(space, range),
                }
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
            Call::Mlockall(flags) => self.step(line, space, Change::LockAll(flags)),
            Call::Munlockall => self.step(line, space, Change::LockAll(MlockallFlags::empty())),
            Call::Mseal(range) => self.change(line, space, range, Change::Seal(range)),
            Call::Ftruncate(ref name, pages) => self.ftruncate(line, space, name, pages),
            Call::Mbind(range, mode) => {
                self.change(line, space, range, Change::Bind(range, mode));
            }
            Call::Shmat { id, range, read_only, exec, remap } => {
                let (pages, start) = (range.end - range.start, range.start as i64);
                let shows = Shows::Segment { id, pages, start, read_only, exec };
                let mut prot = Prot::R;
                prot.set(Prot::W, !read_only);
                prot.set(Prot::X, exec);
                self.step(line, space, Change::Attach(range, Attributes::new(shows, prot), remap));
            }
            Call::Shmdt { start } => {
                match self.spaces.get(&space).and_then(|space| space.attachment(start)) {
                    Some(range) => self.step(line, space, Change::Detach(range)),
                    None => self.leave_out("shmdt of what no call had attached"),
                }
            }
            Call::ShmRmid { id } => self.step(line, space, Change::Remove(id)),
            Call::Prlimit { process, resource, infinite } => {
                self.prlimit(line, process.unwrap_or(thread), resource, infinite);
            }
            Call::ClearRefs { process } => match self.threads.get(&process) {
                Some(&(space, _)) => self.step(line, space, Change::ClearRefs),
                None => self.leave_out("clear_refs of a process that the log does not have"),
            },
            Call::Brk(address) => self.brk(line, space, address.div_ceil(1 << 12)),
            Call::Clone { child, vm, thread: same_group } => {
                let group = self.threads.get(&thread).map_or(thread, |(_, group)| *group);
                let of_child = if vm { Some(space) } else { self.fork(line, space) };
                // Without an address space the child begins a family of its own at its first call.
                if let Some(of_child) = of_child {
                    self.enter(child, of_child, if same_group { group } else { child });
                }
            }
            Call::Execve => {
                for thread in self.group(thread) {
                    self.leave(line, thread);
                }
                let space = self.new_space(None);
                self.enter(thread, space, thread);
            }
            Call::Exit { group: false } | Call::Ended => self.leave(line, thread),
            Call::Exit { group: true } => {
                for thread in self.group(thread) {
                    self.leave(line, thread);
                }
            }
        }
    }

    /// Copies an address space and returns the number of the copy; `None` if there are too many
    /// mappings to copy.
    fn fork(&mut self, line: usize, space: usize) -> Option<usize> {
        let size = self.size(space);
        if self.mappings + size > MAX_LIVING || self.copied + size > MAX_COPIED {
            self.leave_out("fork of too many mappings");
            return None;
        }
        let child = self.new_space(Some(self.family[space]));
        self.step(line, space, Change::Fork { child });
        if let Some(end) = self.breaks.get(&space).copied() {
            self.breaks.insert(child, end);
        }
        Some(child)
    }

    /// Truncates a file that the address space maps. An end inside a mapping, or below it, becomes the
    /// place of that mapping in the program; the file was cut before a higher end matters.
    fn ftruncate(&mut self, line: usize, space: usize, name: &FileName, pages: u64) {
        let Some(&wanted) = self.files.get(&name.name) else {
            return self.leave_out("ftruncate of a file that is not mapped");
        };
        let mapped = self.spaces.entry(space).or_default().mapped.iter();
        let past = mapped.filter_map(|(&start, &(end, attributes))| match attributes.shows {
            Shows::File { file, distance, .. } if file == wanted => {
                // The address at which the file ends now.
                let at = distance.saturating_add_unsigned(pages).max(start as i64) as u64;
                (at < end).then_some((
                    (at as i64).saturating_sub(distance),
                    Pages { start: at, end },
                    attributes,
                ))
            }
            _ => None,
        });
        // The first page of the file that is past its end, and mapped.
        let past = past.min_by_key(|&(offset, ..)| offset);
        let past = past.map(|(_, range, attributes)| (range, attributes));
        if past.is_none() && !self.cut.remove(&wanted) {
            return self.leave_out("ftruncate past all that is mapped");
        }
        if past.is_some() {
            self.cut.insert(wanted);
        }
        self.step(line, space, Change::Truncate(wanted, past));
    }

    /// Lifts a limit. A limit in the log counts what the program does not have, such as the program text, and
    /// the lengths of a program are others, so no other limit can be imported.
    fn prlimit(&mut self, line: usize, thread: u32, resource: Resource, infinite: bool) {
        let Some(&(space, group)) = self.threads.get(&thread) else {
            return self.leave_out("prlimit of a process that the log does not have");
        };
        if !infinite {
            return self.leave_out("prlimit of a number of bytes, which a program cannot have");
        }
        // Threads have the limits of their process. A child of vfork has limits of its own.
        if self.users.get(&space) != self.groups.get(&group).map(BTreeSet::len).as_ref() {
            return self.leave_out("prlimit of one of several processes with one address space");
        }
        self.step(line, space, Change::Unlimit(resource));
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
            && let Some(step) = self.last_step(space)
        {
            step.touch = Some(range.start);
        }
    }
}
