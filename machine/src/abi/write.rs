//! The library's side: writes a machine's observation into the caller's buffer.

use super::{
    BUG_ON, COPIED, COPY_HONOURED, COPY_MERGED, COPY_NEED_LOCKS, COPY_REDIRECTED, DEADLOCK,
    DESTROYED, Event, LOCK_HELD, MAX_EVENTS, MAX_MESSAGES, MESSAGE_FORK, MESSAGE_REMAP,
    MESSAGE_REMOVE, MESSAGE_UNMAP, Message, Observation, READ, Space, UNREACHABLE_PAGE,
    USE_AFTER_FREE, Vma, WARN_ON, members, put_text,
};
use crate::message::{self, UffdEvent};
use crate::observation::{self, Assertion, Object, PageSet};
use crate::range::Range;

impl Observation {
    /// Writes the observation `seen` of the last operation: the head, the events, and the changed
    /// address spaces. If a list is longer than the buffer, its count is larger than the capacity,
    /// and the loader refuses the observation.
    pub fn write(&mut self, seen: &observation::Observation) {
        let (error, value) = match seen.result {
            Ok(value) => (0, value),
            Err(error) => (error.number(), 0),
        };
        (self.error, self.value) = (error.into(), value.into());
        self.copy = seen.copy.map_or(0, |copy| {
            let bit = |set: bool, bit: u32| if set { bit } else { 0 };
            COPIED
                | bit(copy.merged, COPY_MERGED)
                | bit(copy.need_rmap_locks, COPY_NEED_LOCKS)
                | bit(copy.honoured, COPY_HONOURED)
                | bit(copy.source_redirected, COPY_REDIRECTED)
        });
        self.changed = seen.changed.into();
        self.committed = seen.committed;
        self.attached = seen.attached.unwrap_or(DESTROYED);
        (self.opens, self.closes) = (seen.driver.opens, seen.driver.closes);
        self.event_count = seen.events.len() as u32;
        self.read = seen.read.map_or(0, |value| READ | u32::from(value));
        self.failed = seen.failed.map_or(0, |failed| failed as u32);
        self.message_count = seen.messages.len() as u32;
        for (to, message) in self.messages.iter_mut().zip(seen.messages.iter().take(MAX_MESSAGES)) {
            *to = Message::of(message);
        }
        for (to, event) in self.events.iter_mut().zip(seen.events.iter().take(MAX_EVENTS)) {
            to.write(event);
        }
        for process in members(seen.changed) {
            self.spaces[process].write(&seen.spaces[process]);
        }
    }
}

impl Message {
    fn of(message: &message::Message) -> Message {
        let ctx = message.ctx.number();
        let empty = Message { kind: 0, ctx, child: 0, start: 0, end: 0, to: 0 };
        let about = |kind, range: Range| Message {
            kind,
            start: range.start.0.into(),
            end: range.end.0.into(),
            ..empty
        };
        match message.about {
            UffdEvent::Fork { child } => Message {
                kind: MESSAGE_FORK,
                child: child.map_or(0, observation::UffdId::number),
                ..empty
            },
            UffdEvent::Remap { from, to } => {
                Message { to: to.0.into(), ..about(MESSAGE_REMAP, from) }
            }
            UffdEvent::Remove(range) => about(MESSAGE_REMOVE, range),
            UffdEvent::Unmap(range) => about(MESSAGE_UNMAP, range),
        }
    }
}

impl Event {
    fn write(&mut self, event: &observation::Event) {
        let mut put = |kind, function: &str, text: &str| {
            self.kind = kind;
            put_text(function, &mut self.function);
            put_text(text, &mut self.text);
        };
        match event {
            observation::Event::UseAfterFree { object, function, field } => {
                put(USE_AFTER_FREE, function, field);
                self.object = match object {
                    Object::Vma => 0,
                    Object::AnonVma => 1,
                    Object::Mm => 2,
                    Object::File => 3,
                    Object::Policy => 4,
                    Object::Context => 5,
                };
            }
            observation::Event::Assertion { assertion, function, condition } => {
                let kind = match assertion {
                    Assertion::BugOn => BUG_ON,
                    Assertion::WarnOn => WARN_ON,
                };
                put(kind, function, condition);
            }
            observation::Event::UnreachablePage { process, page } => {
                put(UNREACHABLE_PAGE, "", "");
                (self.process, self.page) = (process.0.into(), page.0.into());
            }
            observation::Event::Deadlock { function, lock } => put(DEADLOCK, function, lock),
            observation::Event::LockHeld { function, lock } => put(LOCK_HELD, function, lock),
            // The machine runs another library. The failure of that library is a failure of this
            // machine.
            observation::Event::Library(failure) => put(BUG_ON, "library", &failure.detail()),
        }
    }
}

impl Space {
    fn write(&mut self, space: &observation::AddressSpace) {
        let counters = space.counters;
        (self.total_vm, self.locked_vm) = (counters.total_vm, counters.locked_vm);
        (self.data_vm, self.map_count) = (counters.data_vm, counters.map_count);
        let words = |set: PageSet| [set as u64, (set >> 64) as u64];
        self.anon_pages = words(space.anon_pages);
        self.zero_pages = words(space.zero_pages);
        self.writable_ptes = words(space.writable_ptes);
        let mut rest = space.anon_pages;
        for id in space.page_ids() {
            // A machine that shows more identities than pages writes them nowhere.
            let Some(to) = self.page_ids.get_mut(rest.trailing_zeros() as usize) else { break };
            *to = id.number();
            rest &= rest - 1;
        }
        (self.alive, self.reserved) = (space.alive.into(), 0);
        (self.vma_count, self.chain_count) =
            (space.vmas().len() as u32, space.chains().len() as u32);
        for (to, vma) in self.vmas.iter_mut().zip(space.vmas()) {
            *to = Vma {
                pgoff: vma.pgoff.0,
                flags: vma.flags.bits(),
                anon_vma: vma.anon_vma.map_or(0, |id| id.number()),
                file: vma.file.map_or(0, |id| id.number()),
                uffd: vma.uffd.map_or(0, |id| id.number()),
                chain_count: space.chain(vma).len() as u32,
                start: vma.start.0,
                end: vma.end.0,
                policy: vma.policy as u8,
                close: vma.close.into(),
            };
        }
        for (to, id) in self.chain.iter_mut().zip(space.chains()) {
            *to = id.number();
        }
    }
}
