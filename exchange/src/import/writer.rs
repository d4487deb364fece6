//! The writer of a program: each change of a window becomes an operation.

use std::collections::BTreeSet;

use vmadiff_machine::Op;
use vmadiff_machine::operand::{
    Access, File, FileLength, FilePage, Kind, Len, MAX_PROCESSES, MlockallFlags, MmapFlags, Mode,
    MremapFlags, Onfault, Page, PageLimit, Process, Prot, ShmFlags,
};

use super::attributes::{Attributes, Shows};
use super::change::{Change, Step};
use super::layout::Layout;
use crate::strace::Pages;

/// The writer of a program's operations.
#[derive(Default)]
pub(super) struct Writer {
    layout: Layout,
    /// The first page of private writable memory is written.
    touch: bool,
    ops: Vec<Op>,
    /// The address space of each process.
    processes: [Option<usize>; MAX_PROCESSES],
    /// The files in the order of their first use, and the distances of each file.
    files: Vec<usize>,
    distances: Vec<(usize, i64)>,
    /// The segment of SysV shared memory that is the program's.
    segment: Option<u64>,
    /// The address space and the page of each attachment of it.
    attached: BTreeSet<(usize, u64)>,
}

fn position<T: PartialEq>(known: &mut Vec<T>, value: T) -> usize {
    known.iter().position(|other| *other == value).unwrap_or_else(|| {
        known.push(value);
        known.len() - 1
    })
}

impl Writer {
    /// Returns a writer over a layout.
    pub(super) fn new(layout: Layout, touch: bool, segment: Option<u64>) -> Writer {
        Writer { layout, touch, segment, ..Writer::default() }
    }

    /// Returns the operations that were written.
    pub(super) fn into_ops(self) -> Vec<Op> {
        self.ops
    }

    /// Adds the first process.
    pub(super) fn begin(&mut self, space: usize) {
        self.processes[0] = Some(space);
    }

    fn process(&self, space: usize) -> Option<Process> {
        let at = self.processes.iter().position(|other| *other == Some(space))?;
        Some(Process(at as u8))
    }

    /// Forks a child, which takes the lowest free index; `None` if no index is free.
    pub(super) fn fork(&mut self, parent: usize, child: usize) -> Option<()> {
        let process = self.process(parent)?.into();
        let free = self.processes.iter_mut().find(|process| process.is_none())?;
        *free = Some(child);
        let inherited: Vec<u64> =
            self.attached.iter().filter(|(of, _)| *of == parent).map(|(_, page)| *page).collect();
        self.attached.extend(inherited.into_iter().map(|page| (child, page)));
        self.ops.push(Op::Fork { process });
        Some(())
    }

    /// Turns the mappings that a child has inherited into the mappings that it must have. Mappings that
    /// it makes later are locked with `lock_future`.
    pub(super) fn build(
        &mut self,
        space: usize,
        inherited: &[(Pages, Attributes)],
        wanted: &[(Pages, Attributes)],
        lock_future: MlockallFlags,
    ) {
        let Some(process) = self.process(space) else { return };
        for (range, _) in inherited.iter().filter(|(range, attributes)| {
            attributes.advice[0].is_none()
                && !wanted.iter().any(|(other, _)| range.overlaps(*other))
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
            match attributes.shows {
                Shows::Segment { .. } if attributes.is_attachment(*range, self.segment) => {
                    self.attach(space, process, *range, attributes, false);
                }
                _ => self.map(process, *range, Attributes { locked: None, ..*attributes }),
            }
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
            if attributes.sealed {
                self.seal(process, *range);
            }
        }
        if !lock_future.is_empty() {
            self.lock_all(process, lock_future);
        }
    }

    /// Returns whether a file of the log is the second file of the program.
    fn is_second(&mut self, file: usize) -> bool {
        position(&mut self.files, file) % 2 == 1
    }

    /// Returns the page offset at `page` of a mapping of a file. Neighbours whose page offsets match in
    /// the log match in the program. Up to three different distances stay different.
    fn offset(&mut self, page: Page, file: usize, distance: i64) -> u8 {
        page.0 + 64 * (position(&mut self.distances, (file, distance)) % 3) as u8
    }

    fn truncate(&mut self, process: Process, file: usize, past: Option<(Pages, Attributes)>) {
        let length = match past {
            Some((range, Attributes { shows: Shows::File { distance, .. }, .. })) => {
                let (page, _) = self.layout.range(range);
                self.offset(page, file, distance)
            }
            _ => u8::MAX,
        };
        let which = if self.is_second(file) { File::File1 } else { File::File0 };
        let (process, length) = (process.into(), FileLength(length).into());
        self.ops.push(Op::Ftruncate { process, file: which.into(), length });
    }

    fn map(&mut self, process: Process, range: Pages, attributes: Attributes) {
        let (page, len) = self.layout.range(range);
        let (kind, pgoff) = match attributes.shows {
            Shows::Private => (Kind::AnonPrivate, 0),
            // The program has one segment. A part of an attachment, and other segments, are objects.
            Shows::Object { .. } | Shows::Segment { .. } => (Kind::AnonShared, 0),
            Shows::File { file, shared, read_only, distance } => {
                let second = self.is_second(file);
                let kind = match (shared, second) {
                    (true, _) if read_only && !attributes.prot.contains(Prot::W) => {
                        Kind::ReadonlyShared
                    }
                    (true, false) => Kind::File0Shared,
                    (true, true) => Kind::File1Shared,
                    (false, false) => Kind::File0Private,
                    (false, true) => Kind::File1Private,
                };
                (kind, self.offset(page, file, distance))
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
            pgoff: FilePage::first(pgoff).into(),
        });
    }

    /// Attaches the segment. A protection that was changed afterwards is changed again.
    fn attach(
        &mut self,
        space: usize,
        process: Process,
        range: Pages,
        attributes: &Attributes,
        remap: bool,
    ) {
        let Shows::Segment { read_only, exec, .. } = attributes.shows else { return };
        let (page, len) = self.layout.range(range);
        let (mut flags, mut prot) = (ShmFlags::empty(), Prot::R);
        flags.set(ShmFlags::RDONLY, read_only);
        flags.set(ShmFlags::EXEC, exec);
        flags.set(ShmFlags::REMAP, remap);
        prot.set(Prot::W, !read_only);
        prot.set(Prot::X, exec);
        self.attached.insert((space, range.start));
        self.ops.push(Op::Shmat {
            process: process.into(),
            page: page.into(),
            flags: flags.into(),
        });
        if attributes.prot != prot {
            self.protect(process, (page, len), attributes.prot);
        }
    }

    fn protect(&mut self, process: Process, (page, len): (Page, Len), prot: Prot) {
        let (process, page, len) = (process.into(), page.into(), len.into());
        self.ops.push(Op::Mprotect { process, page, len, prot: prot.into() });
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

    fn seal(&mut self, process: Process, range: Pages) {
        let (page, len) = self.layout.range(range);
        self.ops.push(Op::Mseal { process: process.into(), page: page.into(), len: len.into() });
    }

    fn lock_all(&mut self, process: Process, flags: MlockallFlags) {
        let process = process.into();
        self.ops.push(match flags.is_empty() {
            true => Op::Munlockall { process },
            false => Op::Mlockall { process, flags: flags.into() },
        });
    }

    fn resize(&mut self, process: Process, old: Pages, new: Pages, keeps_source: bool) {
        let ((page, old_len), (new_page, new_len)) =
            (self.layout.range(old), self.layout.range(new));
        let in_place = old.start == new.start;
        self.ops.push(Op::Mremap {
            process: process.into(),
            page: page.into(),
            old_len: old_len.into(),
            new_len: new_len.into(),
            flags: match (in_place, keeps_source) {
                (true, _) => MremapFlags::InPlace,
                // The log has the address, also if the kernel chose it.
                (false, false) => MremapFlags::MaymoveFixed,
                (false, true) => MremapFlags::MaymoveFixedDontunmap,
            }
            .into(),
            new_page: if in_place { Page(0) } else { new_page }.into(),
        });
    }

    /// Writes a step; `None` if no process is free for it.
    pub(super) fn step(&mut self, step: &Step) -> Option<()> {
        let process = self.process(step.space)?;
        match step.change {
            Change::Map(range, attributes) => self.map(process, range, attributes),
            Change::Unmap(range) => self.unmap(process, range),
            Change::Seal(range) => self.seal(process, range),
            Change::Truncate(file, past) => self.truncate(process, file, past),
            Change::Attach(range, ref attributes, remap) => {
                if step.change.segment() != self.segment {
                    return None;
                }
                self.attach(step.space, process, range, attributes, remap);
            }
            Change::Detach(range) => match self.attached.remove(&(step.space, range.start)) {
                true => {
                    let page = self.layout.page(range.start).into();
                    self.ops.push(Op::Shmdt { process: process.into(), page });
                }
                false => self.unmap(process, range),
            },
            Change::Remove(_) => {
                if step.change.segment() != self.segment {
                    return None;
                }
                self.ops.push(Op::ShmRmid { process: process.into() });
            }
            Change::Protect(range, prot) => {
                let place = self.layout.range(range);
                self.protect(process, place, prot);
            }
            Change::Advise(range, advice) => {
                let (page, len) = self.layout.range(range);
                let (process, page, len) = (process.into(), page.into(), len.into());
                self.ops.push(Op::Madvise { process, page, len, advice: advice.into() });
            }
            Change::Lock(range, locked) => self.lock(process, range, locked),
            Change::LockAll(flags) => self.lock_all(process, flags),
            Change::Unlimit(resource) => {
                let (process, resource) = (process.into(), resource.into());
                self.ops.push(Op::Prlimit { process, resource, max: PageLimit(u8::MAX).into() });
            }
            Change::ClearRefs => self.ops.push(Op::ClearRefs { process: process.into() }),
            Change::Bind(range, mode) => self.bind(process, range, mode),
            Change::Move { old, new, keeps_source } => {
                self.resize(process, old, new, keeps_source);
            }
            Change::Fork { child } => self.fork(step.space, child)?,
            Change::Exit => {
                self.processes[usize::from(process.0)] = None;
                self.ops.push(Op::Exit { process: process.into() });
            }
        }
        if let Some(Op::Mmap { flags, .. }) = self.ops.last_mut().filter(|_| step.populates) {
            *flags = (flags.get() | MmapFlags::POPULATE).into();
        }
        if let Some(page) = step.touch {
            self.touch(process, page);
        }
        Some(())
    }

    fn touch(&mut self, process: Process, page: u64) {
        let (process, page) = (process.into(), self.layout.page(page).into());
        self.ops.push(Op::Touch { process, page, access: Access::Write.into() });
    }
}
