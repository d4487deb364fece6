//! The state of the kernel in words: everything on which later answers depend, up to the keys of
//! objects.
//!
//! Each structure is taken apart without `..`, so a new field does not compile until it is either
//! written or said to have no effect.

use slotmap::{Key as _, KeyData};
use vmadiff_machine::operand::END_PAGES;
use vmadiff_machine::state::Objects;
use vmadiff_machine::{State, written};

use crate::addr::each;
use crate::kernel::Kernel;
use crate::key::{AnonVmaKey, CtxKey, FileKey, MmKey, PageKey, PolicyKey, VmaKey};
use crate::objects::{AnonPage, AnonVma, File, Mempolicy, Mm, PageTable, UserfaultfdCtx, Vma};
use crate::shm::ShmidKernel;
use crate::shmem::Inodes;

/// Returns the slot of an object in its arena.
fn slot(key: KeyData) -> usize {
    key.as_ffi() as u32 as usize
}

fn ctx_number(ctx: Option<CtxKey>, state: &mut State) -> u64 {
    state.number(Objects::Uffd, ctx.map(CtxKey::index))
}

/// The word of an object that was freed. No object has this number.
const FREED: u64 = 0xffff;

impl Kernel {
    /// Adds the state to `state`. Objects are visited in the order of processes and of addresses.
    pub(crate) fn write_state(&self, state: &mut State) {
        // The left out fields keep memory for reuse, number new objects, or belong to one operation.
        let Kernel {
            revision: _,
            limits,
            vmas,
            mms,
            spare_ptes: _,
            anon_vmas,
            pages,
            chains,
            inodes,
            files,
            policies,
            contexts,
            processes,
            rlim,
            current: _,
            userfaultfd,
            fds,
            committed,
            shm,
            anon_vma_ids: _,
            anon_vma_ids_free: _,
            page_ids: _,
            page_ids_free: _,
            page_ids_freed: _,
            writes,
            dead: _,
            memory,
            locks: _,
            lists: _,
            messages: _,
            events: _,
            copy: _,
            read: _,
            driver: _,
            dirty: _,
            rmap_dirty: _,
        } = self;
        for limit in limits.to_array() {
            state.word(limit.map_or(u64::MAX, u64::from));
        }
        if limits.fail.is_some() {
            state.word(memory.left().into());
        }
        for ((process, key), rlim) in (0u64..).zip(processes).zip(rlim) {
            if let Some(key) = *key {
                for limit in rlim {
                    state.word(limit.map_or(u64::MAX, u64::from));
                }
                let mm = self.mm_number(key, state);
                state.word(process | mm << 32);
                match mms.get(key) {
                    Some(mm) => self.write_mm(key, mm, state),
                    None => state.word(FREED),
                }
            }
        }
        for [first, second] in userfaultfd {
            let [first, second] = [first, second].map(|ctx| ctx_number(*ctx, state));
            state.word(first | second << 32);
        }
        for file in fds {
            let file = self.file_number(Some(*file), state);
            state.word(file);
        }
        // Objects that nothing reaches have no other effect than their number.
        state.word(vmas.len() as u64 | (mms.len() as u64) << 32);
        state.word(files.len() as u64 | (policies.len() as u64) << 32);
        state.word(contexts.iter().filter(|ctx| ctx.refcount > 0).count() as u64);
        state.word(chains.allocated() as u64);
        state.word(*committed as u64);
        match shm {
            Some(ShmidKernel { shm_file, shm_nattch, dest }) => {
                let file = self.file_number(Some(*shm_file), state);
                state.word(1 | u64::from(*dest) << 1 | file << 32);
                state.word(*shm_nattch as u64);
            }
            None => state.word(0),
        }
        self.write_references(state);
        inodes.write_state(state);
        state.word(pages.len() as u64);
        for n in 0.. {
            let Some(page) = state.visited(Objects::AnonPage, n) else { break };
            self.write_page(KeyData::from_ffi(page).into(), state);
        }
        state.word(anon_vmas.len() as u64);
        for n in 0.. {
            let Some(anon_vma) = state.visited(Objects::AnonVma, n) else { break };
            self.write_anon_vma(KeyData::from_ffi(anon_vma).into(), state);
        }
        let next = state.value(written(*writes));
        state.word(next);
    }

    fn write_mm(&self, key: MmKey, mm: &Mm, state: &mut State) {
        // The counters of references are written with those of the mms that no process has.
        let Mm {
            mmap,
            map_count,
            total_vm,
            locked_vm,
            data_vm,
            def_flags,
            page_table,
            mm_users: _,
            mm_count: _,
        } = mm;
        for count in [map_count, total_vm, locked_vm, data_vm] {
            state.word(*count as u64);
        }
        state.word(def_flags.bits().into());
        let (mut prev, mut next) = (None, *mmap);
        // A bug may have tied the list into a ring.
        for _ in 0..=END_PAGES {
            let Some(vma) = next else { break };
            next = self.write_vma((key, vma), prev, state);
            prev = Some(vma);
        }
        // The end of the list: no VMA begins with this word.
        state.word(u64::MAX);
        let PageTable { allocated, anon, zero, write, page } = page_table;
        state.word((*allocated).into());
        state.pages(*anon);
        for addr in each(*anon) {
            let page = page[addr.0 as usize];
            let number = match self.pages.get(page) {
                Some(AnonPage { id, .. }) => {
                    state.number_of(Objects::AnonPage, *id as usize, page.data().as_ffi())
                }
                None => FREED,
            };
            state.word(number);
        }
        state.pages(*zero);
        state.pages(*write);
    }

    /// Adds a VMA, and returns the next one.
    fn write_vma(
        &self,
        (mm, vma): (MmKey, VmaKey),
        prev: Option<VmaKey>,
        state: &mut State,
    ) -> Option<VmaKey> {
        let Some(vma) = self.vmas.get(vma) else {
            state.word(FREED);
            return None;
        };
        let Vma {
            vm_start,
            vm_end,
            vm_pgoff,
            vm_flags,
            vm_mm,
            vm_prev,
            vm_next,
            anon_vma,
            anon_vma_chain,
            vm_file,
            vm_ops,
            vm_policy,
            vm_userfaultfd_ctx,
        } = *vma;
        // The links back are those of a list, except after a bug.
        let links = u64::from(vm_mm == mm) | u64::from(vm_prev == prev) << 1;
        state.word(u64::from(vm_start.0) | u64::from(vm_end.0) << 16 | links << 32);
        state.word(vm_pgoff.shown().0);
        state.word(u64::from(vm_flags.bits()) | (vm_ops as u64) << 32);
        let file = self.file_number(vm_file, state);
        let policy = self.policy_number(vm_policy, state);
        let ctx = ctx_number(vm_userfaultfd_ctx, state);
        state.word(file | policy << 32);
        let own = anon_vma.map_or(0, |anon_vma| self.anon_vma_number(anon_vma, state));
        state.word(ctx | own << 32);
        for anon_vma in self.chains.newest_first(anon_vma_chain) {
            let number = self.anon_vma_number(anon_vma, state);
            state.word(number);
        }
        // The end of the chain: no object has this number.
        state.word(0);
        vm_next
    }

    fn mm_number(&self, key: MmKey, state: &mut State) -> u64 {
        match self.mms.contains_key(key) {
            true => state.number_of(Objects::Mm, slot(key.data()), key.data().as_ffi()),
            false => FREED,
        }
    }

    fn file_number(&self, key: Option<FileKey>, state: &mut State) -> u64 {
        let Some(key) = key else { return 0 };
        match self.files.contains_key(key) {
            true => state.number_of(Objects::OpenFile, slot(key.data()), key.data().as_ffi()),
            false => FREED,
        }
    }

    fn policy_number(&self, key: Option<PolicyKey>, state: &mut State) -> u64 {
        let Some(key) = key else { return 0 };
        match self.policies.contains_key(key) {
            true => state.number_of(Objects::Policy, slot(key.data()), key.data().as_ffi()),
            false => FREED,
        }
    }

    /// Adds the objects that have counters of references.
    fn write_references(&self, state: &mut State) {
        for n in 0.. {
            let Some(ctx) = state.visited(Objects::Uffd, n) else { break };
            let Some(&UserfaultfdCtx { refcount, mm, features, number, kept }) =
                self.contexts.get(ctx as usize)
            else {
                continue;
            };
            // The address space of a freed context is not read.
            let mm = if refcount > 0 { self.mm_number(mm, state) } else { 0 };
            state.word(refcount as u64);
            state.word(mm | u64::from(kept) << 32);
            state.word(u64::from(features.bits()) | u64::from(number.0) << 8);
        }
        for n in 0.. {
            let Some(mm) = state.visited(Objects::Mm, n) else { break };
            let Some(mm) = self.mms.get(KeyData::from_ffi(mm).into()) else { continue };
            state.word(mm.mm_users as u64);
            state.word(mm.mm_count as u64);
        }
        for n in 0.. {
            let Some(policy) = state.visited(Objects::Policy, n) else { break };
            let policy = self.policies.get(KeyData::from_ffi(policy).into());
            let Some(&Mempolicy { mode, refcnt }) = policy else { continue };
            state.word(mode as u64);
            state.word(refcnt as u64);
        }
        for n in 0.. {
            let Some(file) = state.visited(Objects::OpenFile, n) else { break };
            let file = self.files.get(KeyData::from_ffi(file).into());
            let Some(&File { f_inode, writable, f_count, private_data }) = file else { continue };
            let object = Inodes::is_object(f_inode).then_some(f_inode.into());
            let known = if object.is_none() { u64::from(f_inode) + 1 } else { 0 };
            let object = state.number(Objects::File, object);
            let base = self.file_number(private_data, state);
            state.word(u64::from(writable) | known << 1 | object << 16 | base << 32);
            state.word(f_count as u64);
        }
    }

    fn anon_vma_number(&self, key: AnonVmaKey, state: &mut State) -> u64 {
        match self.anon_vmas.get(key) {
            Some(anon_vma) => {
                state.number_of(Objects::AnonVma, anon_vma.id as usize, key.data().as_ffi())
            }
            None => FREED,
        }
    }

    fn write_page(&self, page: PageKey, state: &mut State) {
        let Some(&AnonPage { anon_vma, index, mapcount, data, id: _ }) = self.pages.get(page)
        else {
            return;
        };
        let anon_vma = self.anon_vma_number(anon_vma, state);
        state.word(anon_vma | u64::from(mapcount) << 32);
        state.word(index.shown().0);
        let value = state.value(data);
        state.word(value);
    }

    /// Adds an anon_vma, and visits its relatives.
    fn write_anon_vma(&self, anon_vma: AnonVmaKey, state: &mut State) {
        let found = self.anon_vmas.get(anon_vma);
        let Some(&AnonVma {
            root,
            parent,
            num_children,
            num_active_vmas,
            refcount,
            rb_root,
            id: _,
        }) = found
        else {
            return;
        };
        let (root, parent) =
            (self.anon_vma_number(root, state), self.anon_vma_number(parent, state));
        state.word(root | parent << 32);
        state.word(u64::from(num_children as u32) | u64::from(num_active_vmas as u32) << 32);
        state.word(u64::from(refcount as u32) | u64::from(rb_root) << 32);
    }
}
