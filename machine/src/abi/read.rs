//! The loader's side: checks every field that a library wrote, then uses it.

use super::{
    BUG_ON, COPIED, COPY_HONOURED, COPY_MERGED, COPY_NEED_LOCKS, COPY_REDIRECTED, DEADLOCK,
    DESTROYED, Event, LOCK_HELD, MAX_CHAIN, MAX_EVENTS, MAX_MESSAGES, MAX_OBJECT, MAX_VMAS,
    MESSAGE_FORK, MESSAGE_REMAP, MESSAGE_REMOVE, MESSAGE_UNMAP, Message, Observation, READ, Space,
    UNREACHABLE_PAGE, UNWRITTEN, USE_AFTER_FREE, Vma, WARN_ON, members, text,
};
use crate::allocation::Allocation;
use crate::errno::Errno;
use crate::failure::{Nonsense, Place};
use crate::flags::VmFlags;
use crate::message::{self, UffdEvent};
use crate::names::intern;
use crate::observation::{
    self, AnonVmaId, Assertion, CopyReport, Counters, DriverCalls, FileId, Object, PageId,
    ProcessSet, UffdId,
};
use crate::operand::{Domain as _, END_PAGES, MAX_PROCESSES, Mode, Page, PageOffset, Process};
use crate::range::Range;

impl Observation {
    /// Reads the observation of one operation into `seen`, which holds the observation of the
    /// operation before it.
    ///
    /// # Errors
    /// [`Nonsense`] that names the first field that breaks a rule of the header. `seen` is then
    /// well-formed, and has parts of both observations.
    pub fn read(&mut self, seen: &mut observation::Observation) -> Result<(), Nonsense> {
        seen.begin_step();
        let error =
            |field, value: i64, expected| Nonsense { place: Place::Head, field, value, expected };
        seen.result = match self.error {
            0 if (self.value as usize) < END_PAGES => Ok(self.value as u8),
            0 => return Err(error("value", written(self.value), "a page, 0 to 127, or a process")),
            number => Err(u16::try_from(number)
                .ok()
                .and_then(Errno::from_number)
                .ok_or_else(|| error("error", written(number), "0 or an errno of errno.rs"))?),
        };
        seen.copy = copy_report(self.copy)
            .ok_or_else(|| error("copy", written(self.copy), "0, or VMADIFF_COPIED and flags"))?;
        if self.changed >> MAX_PROCESSES != 0 {
            return Err(error("changed", written(self.changed), "bits 0 to 7"));
        }
        if self.committed == i64::MIN {
            return Err(error("committed", self.committed, "a number of pages"));
        }
        seen.committed = self.committed;
        if self.attached == i64::MIN {
            return Err(error("attached", self.attached, "a number of VMAs, or VMADIFF_DESTROYED"));
        }
        seen.attached = (self.attached != DESTROYED).then_some(self.attached);
        for (field, calls) in [("opens", self.opens), ("closes", self.closes)] {
            if calls == UNWRITTEN {
                return Err(error(field, written(calls), "a number of calls"));
            }
        }
        seen.driver = DriverCalls { opens: self.opens, closes: self.closes };
        seen.read = match self.read {
            0 => None,
            read if read & !0xff == READ => Some(read as u8),
            read => return Err(error("read", written(read), "0, or VMADIFF_READ and a byte")),
        };
        seen.failed = match self.failed {
            0 => None,
            failed => Some(Allocation::from_number(failed).ok_or_else(|| {
                error("failed", written(failed), "0, or an enum vmadiff_allocation")
            })?),
        };
        if self.message_count as usize > MAX_MESSAGES {
            return Err(error("message_count", written(self.message_count), "at most 256"));
        }
        for (n, message) in (0..self.message_count).zip(&self.messages) {
            seen.messages.push(message.read(Place::Message(n))?);
        }
        if self.event_count as usize > MAX_EVENTS {
            return Err(error("event_count", written(self.event_count), "at most 1088"));
        }
        for (n, event) in (0..self.event_count).zip(&self.events) {
            seen.events.push(event.read(Place::Event(n))?);
        }
        for process in members(self.changed as ProcessSet) {
            let (at, space) = (process as u8, &mut self.spaces[process]);
            space.read(at, seen.rewrite(Process(at)))?;
            space.forget();
        }
        Ok(())
    }
}

/// Returns a value as a message shows it: −1 if the library did not write the field.
fn written(value: u32) -> i64 {
    if value == UNWRITTEN { -1 } else { value.into() }
}

/// Reads the answer of `copy_vma()`: `Some(None)` if the function did not run to its end, `None` if
/// the bits are not valid.
fn copy_report(bits: u32) -> Option<Option<CopyReport>> {
    const ALL: u32 = COPIED | COPY_MERGED | COPY_NEED_LOCKS | COPY_HONOURED | COPY_REDIRECTED;
    if bits == 0 {
        return Some(None);
    }
    (bits & !ALL == 0 && bits & COPIED != 0).then_some(Some(CopyReport {
        merged: bits & COPY_MERGED != 0,
        need_rmap_locks: bits & COPY_NEED_LOCKS != 0,
        honoured: bits & COPY_HONOURED != 0,
        source_redirected: bits & COPY_REDIRECTED != 0,
    }))
}

impl Message {
    #[cold]
    fn read(&self, place: Place) -> Result<message::Message, Nonsense> {
        let wrong = |field, value: u32, expected| Nonsense {
            place,
            field,
            value: written(value),
            expected,
        };
        let object = |number: u32| UffdId::from_number(number).filter(|_| number <= MAX_OBJECT);
        let ctx = object(self.ctx)
            .ok_or_else(|| wrong("ctx", self.ctx, "an object number, 1 to 65535"))?;
        let page = |field, value: u32| match u8::try_from(value) {
            Ok(page) if usize::from(page) <= END_PAGES => Ok(Page(page)),
            _ => Err(wrong(field, value, "a page, 0 to 128")),
        };
        let range = || Ok(Range { start: page("start", self.start)?, end: page("end", self.end)? });
        let about = match self.kind {
            MESSAGE_FORK if self.child == 0 => UffdEvent::Fork { child: None },
            MESSAGE_FORK => {
                let child = object(self.child).ok_or_else(|| {
                    wrong("child", self.child, "0, or an object number up to 65535")
                })?;
                UffdEvent::Fork { child: Some(child) }
            }
            MESSAGE_REMAP => UffdEvent::Remap { from: range()?, to: page("to", self.to)? },
            MESSAGE_REMOVE => UffdEvent::Remove(range()?),
            MESSAGE_UNMAP => UffdEvent::Unmap(range()?),
            other => return Err(wrong("kind", other, "1 to 4")),
        };
        Ok(message::Message { ctx, about })
    }
}

impl Event {
    #[cold]
    fn read(&self, place: Place) -> Result<observation::Event, Nonsense> {
        let wrong = |field, value: u32, expected| Nonsense {
            place,
            field,
            value: written(value),
            expected,
        };
        let name = |field, bytes| {
            let error = |expected| Nonsense { place, field, value: -1, expected };
            let text = text(bytes).ok_or(error("UTF-8 without control characters, then a NUL"))?;
            intern(text).ok_or(error("one of 4096 different texts"))
        };
        let assertion = |assertion| {
            let (function, condition) =
                (name("function", &self.function)?, name("text", &self.text)?);
            Ok(observation::Event::Assertion { assertion, function, condition })
        };
        match self.kind {
            USE_AFTER_FREE => {
                let object = match self.object {
                    0 => Object::Vma,
                    1 => Object::AnonVma,
                    2 => Object::Mm,
                    3 => Object::File,
                    4 => Object::Policy,
                    5 => Object::Context,
                    other => return Err(wrong("object", other, "0 to 5")),
                };
                let (function, field) =
                    (name("function", &self.function)?, name("text", &self.text)?);
                Ok(observation::Event::UseAfterFree { object, function, field })
            }
            BUG_ON => assertion(Assertion::BugOn),
            WARN_ON => assertion(Assertion::WarnOn),
            UNREACHABLE_PAGE if self.process as usize >= MAX_PROCESSES => {
                Err(wrong("process", self.process, "0 to 7"))
            }
            UNREACHABLE_PAGE if self.page as usize >= END_PAGES => {
                Err(wrong("page", self.page, "0 to 127"))
            }
            UNREACHABLE_PAGE => Ok(observation::Event::UnreachablePage {
                process: Process(self.process as u8),
                page: Page(self.page as u8),
            }),
            DEADLOCK => {
                let (function, lock) =
                    (name("function", &self.function)?, name("text", &self.text)?);
                Ok(observation::Event::Deadlock { function, lock })
            }
            LOCK_HELD => {
                let (function, lock) =
                    (name("function", &self.function)?, name("text", &self.text)?);
                Ok(observation::Event::LockHeld { function, lock })
            }
            other => Err(wrong("kind", other, "0 to 5")),
        }
    }
}

impl Space {
    fn read(&self, process: u8, to: &mut observation::AddressSpace) -> Result<(), Nonsense> {
        let wrong = |field, value: u32, expected| {
            Err(Nonsense { place: Place::Space(process), field, value: written(value), expected })
        };
        if self.alive > 1 {
            return wrong("alive", self.alive, "0 or 1");
        }
        if self.vma_count as usize > MAX_VMAS {
            return wrong("vma_count", self.vma_count, "at most 128");
        }
        if self.chain_count as usize > MAX_CHAIN {
            return wrong("chain_count", self.chain_count, "at most 8192");
        }
        if self.reserved != 0 {
            return wrong("reserved", self.reserved, "0");
        }
        let counters = Counters {
            total_vm: self.total_vm,
            locked_vm: self.locked_vm,
            data_vm: self.data_vm,
            map_count: self.map_count,
        };
        let set = |words: [u64; 2]| u128::from(words[0]) | u128::from(words[1]) << 64;
        let (anon_pages, zero_pages) = (set(self.anon_pages), set(self.zero_pages));
        let writable_ptes = set(self.writable_ptes);
        if self.alive == 0 {
            let is_empty = counters == Counters::default()
                && anon_pages | zero_pages | writable_ptes == 0
                && self.vma_count == 0
                && self.chain_count == 0;
            return if is_empty { Ok(()) } else { wrong("alive", 0, "1, since the rest is not 0") };
        }
        (to.alive, to.counters) = (true, counters);
        (to.anon_pages, to.zero_pages) = (anon_pages, zero_pages);
        to.writable_ptes = writable_ptes;
        let mut rest = anon_pages;
        while rest != 0 {
            let number = self.page_ids[rest.trailing_zeros() as usize];
            match PageId::from_number(number).filter(|_| number <= MAX_OBJECT) {
                Some(id) => to.push_page_ids([id]),
                None => return wrong("page_ids", number, "object numbers, 1 to 65535"),
            }
            rest &= rest - 1;
        }
        let chain = &self.chain[..self.chain_count as usize];
        let vmas = &self.vmas[..self.vma_count as usize];
        let is_number = |id: &u32| id.wrapping_sub(1) < MAX_OBJECT;
        if !chain.iter().fold(true, |all, id| all & is_number(id)) {
            let id = chain.iter().find(|id| !is_number(id)).copied();
            return wrong("chain", id.unwrap_or(0), "object numbers, 1 to 65535");
        }
        if !vmas.iter().zip(ends_before(vmas)).all(|(vma, before)| vma.is_sound(before))
            || vmas.iter().map(|vma| u64::from(vma.chain_count)).sum::<u64>() != chain.len() as u64
        {
            return Err(self.broken(process, vmas));
        }
        to.extend(
            vmas.iter().map(|vma| (vma.shown(), vma.chain_count)),
            chain.iter().map(|id| AnonVmaId::new(id - 1)),
        );
        Ok(())
    }

    /// Returns the error that names the first field of a VMA that breaks a rule.
    #[cold]
    fn broken(&self, process: u8, vmas: &[Vma]) -> Nonsense {
        let mut left = self.chain_count;
        for ((n, vma), before) in (0..).zip(vmas).zip(ends_before(vmas)) {
            let at = Place::Vma(process, n);
            match left.checked_sub(vma.chain_count) {
                None => return vma.wrong(at, "chain_count"),
                Some(rest) => left = rest,
            }
            if let Some(field) = vma.unsound(before) {
                return vma.wrong(at, field);
            }
        }
        Nonsense {
            place: Place::Space(process),
            field: "chain_count",
            value: self.chain_count.into(),
            expected: "the sum of chain_count of the VMAs",
        }
    }
}

/// Returns the end of the VMA before each VMA; 0 for the first.
fn ends_before(vmas: &[Vma]) -> impl Iterator<Item = u8> {
    std::iter::once(0).chain(vmas.iter().map(|vma| vma.end))
}

impl Vma {
    /// Returns whether the VMA breaks no rule. The VMA before it ends at `before`.
    #[inline]
    fn is_sound(&self, before: u8) -> bool {
        // The condition has no branches, because it runs for every VMA that a library shows.
        (self.start >= before)
            & (self.start < self.end)
            & (usize::from(self.end) <= END_PAGES)
            & (self.flags & !VmFlags::all().bits() == 0)
            & (usize::from(self.policy) < Mode::ALL.len())
            & (self.close <= 1)
            & (self.anon_vma.max(self.file).max(self.uffd) <= MAX_OBJECT)
    }

    /// Returns the first field that breaks a rule, if any.
    fn unsound(&self, before: u8) -> Option<&'static str> {
        let rules = [
            ("start", self.start >= before),
            ("end", self.start < self.end && usize::from(self.end) <= END_PAGES),
            ("flags", VmFlags::from_bits(self.flags).is_some()),
            ("policy", usize::from(self.policy) < Mode::ALL.len()),
            ("close", self.close <= 1),
            ("anon_vma", self.anon_vma <= MAX_OBJECT),
            ("file", self.file <= MAX_OBJECT),
            ("uffd", self.uffd <= MAX_OBJECT),
        ];
        rules.into_iter().find_map(|(field, holds)| (!holds).then_some(field))
    }

    /// Returns the VMA as a Rust value. The VMA must be sound.
    #[inline]
    fn shown(&self) -> observation::Vma {
        observation::Vma::new(
            (Page(self.start), Page(self.end)),
            PageOffset(self.pgoff),
            VmFlags::from_bits_truncate(self.flags),
            AnonVmaId::from_number(self.anon_vma),
            FileId::from_number(self.file),
            UffdId::from_number(self.uffd),
            Mode::nth(self.policy),
            self.close == 1,
        )
    }

    /// Returns the error that names a field of this VMA.
    #[cold]
    fn wrong(&self, place: Place, field: &'static str) -> Nonsense {
        let (value, expected) = match field {
            "start" => (self.start.into(), "a page that is not below the end of the VMA before"),
            "end" => (self.end.into(), "a page above start, at most 128"),
            "flags" => (self.flags, "bits of vm_flags"),
            "policy" => (self.policy.into(), "0 to 3"),
            "close" => (self.close.into(), "0 or 1"),
            "anon_vma" => (self.anon_vma, "0, or an object number up to 65535"),
            "file" => (self.file, "0, or an object number up to 65535"),
            "uffd" => (self.uffd, "0, or an object number up to 65535"),
            _ => (self.chain_count, "at most what is left of chain"),
        };
        Nonsense { place, field, value: value.into(), expected }
    }
}
