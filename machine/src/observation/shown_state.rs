//! An observation as a part of a machine's [state](crate::state).

use crate::observation::{
    AddressSpace, AnonVmaId, Counters, FileId, Observation, PageId, UffdId, Vma,
};
use crate::state::{Objects, State};

impl Observation {
    /// Adds what the observation shows of the machine's state to `state`, which
    /// [has begun](State::begin). The fields that belong to one operation are left out.
    pub fn write_state(&self, state: &mut State) {
        let Observation {
            result: _,
            read: _,
            failed: _,
            copy: _,
            driver: _,
            attached,
            messages: _,
            events: _,
            committed,
            spaces,
            changed: _,
        } = self;
        state.word(attached.is_some().into());
        state.word(attached.unwrap_or_default() as u64);
        state.word(*committed as u64);
        for space in spaces {
            space.write_state(state);
        }
    }
}

impl AddressSpace {
    fn write_state(&self, state: &mut State) {
        let AddressSpace {
            alive,
            counters,
            anon_pages,
            zero_pages,
            writable_ptes,
            page_ids,
            vmas,
            chains,
        } = self;
        let Counters { total_vm, locked_vm, data_vm, map_count } = *counters;
        state.word(u64::from(*alive) | (vmas.len() as u64) << 8);
        for count in [total_vm, locked_vm, data_vm, map_count] {
            state.word(count as u64);
        }
        state.pages(*anon_pages);
        state.pages(*zero_pages);
        state.pages(*writable_ptes);
        for page in page_ids {
            let number = state.number(Objects::AnonPage, Some(PageId::index(*page)));
            state.word(number);
        }
        for vma in vmas {
            let Vma { start, end, pgoff, flags, anon_vma, file, uffd, policy, close, chain } = *vma;
            let numbers = [
                state.number(Objects::AnonVma, anon_vma.map(AnonVmaId::index)),
                state.number(Objects::File, file.map(FileId::index)),
                state.number(Objects::Uffd, uffd.map(UffdId::index)),
            ];
            state.word(u64::from(start.0) | u64::from(end.0) << 8 | (policy as u64) << 16);
            state.word(pgoff.0);
            state.word(u64::from(flags.bits()) | u64::from(close) << 32);
            for number in numbers {
                state.word(number);
            }
            state.word((chain.1 - chain.0).into());
            for anon_vma in &chains[chain.0 as usize..chain.1 as usize] {
                let number = state.number(Objects::AnonVma, Some(anon_vma.index()));
                state.word(number);
            }
        }
    }
}
