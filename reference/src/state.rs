//! The state of the reference in words: everything on which later answers depend, up to the numbers of
//! objects.
//!
//! Each structure is taken apart without `..`, so a new field does not compile until it is either
//! written or said to have no effect.

use vmadiff_machine::state::Objects;
use vmadiff_machine::{State, written};

use crate::anon_vma::AnonVmas;
use crate::vma::Vma;
use crate::world::World;

impl World {
    /// Adds the state to `state`. Objects are visited in the order of processes and of addresses.
    pub(crate) fn write_state(&self, state: &mut State) {
        // The rules that hold never change. The reasons and the messages belong to one operation.
        let World {
            limits,
            mms,
            anon_vmas,
            anon_pages,
            shmem,
            segment,
            references,
            messages: _,
            forked: _,
            writes,
            later: _,
            memory: _,
            why: _,
        } = self;
        for limit in limits.to_array() {
            state.word(limit.map_or(u64::MAX, u64::from));
        }
        for (process, mm) in (0u64..).zip(mms) {
            if mm.alive {
                state.word(process);
                mm.write_state(anon_vmas, state);
            }
        }
        segment.write_state(state);
        shmem.write_state(state);
        references.write_state(state);
        anon_pages.write_state(state);
        anon_vmas.write_state(state);
        let next = state.value(written(*writes));
        state.word(next);
    }
}

impl Vma {
    pub(crate) fn write_state(&self, anon_vmas: &AnonVmas, state: &mut State) {
        let Vma { range, pgoff, flags, anon_vma, chain, file, attachment, uffd, policy } = *self;
        let object = file.filter(|file| crate::shmem::is_object(*file));
        let known = file.filter(|_| object.is_none()).map_or(0, |file| file.index() as u64 + 1);
        let attachment = (attachment > 0).then_some(attachment.into());
        state.word(u64::from(range.start.0) | u64::from(range.end.0) << 8 | known << 16);
        state.word(pgoff.0);
        state.word(u64::from(flags.bits()) | (policy as u64) << 32);
        let object = state.number(Objects::File, object.map(|file| file.index()));
        let uffd = state.number(Objects::Uffd, uffd.map(|uffd| uffd.index()));
        let attachment = state.number(Objects::OpenFile, attachment);
        let own = state.number(Objects::AnonVma, anon_vma.map(|id| id.index()));
        state.word(object | uffd << 16 | attachment << 32 | own << 48);
        for id in anon_vmas.chain(chain) {
            let number = state.number(Objects::AnonVma, Some(id.index()));
            state.word(number);
        }
        // The end of the chain: no object has this number.
        state.word(0);
    }
}
