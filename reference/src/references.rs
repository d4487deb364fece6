//! The references that keep files, memory policies and userfaultfd contexts alive.
//!
//! A VMA has a reference to its file, and a policy of its own. It has none to its context: a context lives
//! as long as its descriptor. Before the last descriptor is closed, the context is taken off every VMA.

use vmadiff_machine::hidden::{self, Counted, Hidden};
use vmadiff_machine::operand::{Ctx, Mode, UffdFeatures};
use vmadiff_machine::state::Objects;
use vmadiff_machine::{FileId, State, UffdId};

use crate::shm::Segment;
use crate::shmem::{DEVICE, SEGMENT};
use crate::vma::Vma;

/// A userfaultfd context that was opened.
#[derive(Clone, Copy, Debug)]
struct Context {
    /// The process that opened it has the descriptor.
    open: bool,
    /// The caller of a copy has a descriptor as well, or the monitor has the only one.
    kept: bool,
    /// The events of which the monitor gets a message.
    features: UffdFeatures,
    /// The number of its descriptor in the process that opened it. The context of a child has the number of
    /// the context of the parent.
    number: Ctx,
}

/// The references of a program. The descriptors of the memfds and of the device are never closed.
#[derive(Debug, Default)]
pub(crate) struct References {
    /// The VMAs that map each file. At 0, a file without a descriptor is freed.
    files: Vec<u32>,
    /// The VMAs that have a policy of each mode.
    policies: [u32; Mode::ALL.len()],
    /// Every context, by its number.
    contexts: Vec<Context>,
}

vmadiff_machine::clone_by_field!(References { files, policies, contexts });

impl References {
    pub(crate) fn reset(&mut self) {
        self.files.clear();
        self.policies = Default::default();
        self.contexts.clear();
    }

    /// Counts a new VMA.
    #[inline]
    pub(crate) fn get(&mut self, vma: &Vma) {
        if let Some(file) = vma.file {
            if self.files.len() <= file.index() {
                self.files.resize(file.index() + 1, 0);
            }
            self.files[file.index()] += 1;
        }
        self.policies[vma.policy as usize] += 1;
    }

    /// Counts the end of a VMA.
    #[inline]
    pub(crate) fn put(&mut self, vma: &Vma) {
        if let Some(file) = vma.file {
            self.files[file.index()] -= 1;
        }
        self.policies[vma.policy as usize] -= 1;
    }

    /// Counts the change of a VMA's policy.
    pub(crate) fn replace_policy(&mut self, old: Mode, new: Mode) {
        self.policies[old as usize] -= 1;
        self.policies[new as usize] += 1;
    }

    /// Opens a context.
    pub(crate) fn open_context(&mut self, features: UffdFeatures, number: Ctx) -> UffdId {
        self.contexts.push(Context { open: true, kept: false, features, number });
        UffdId::new(self.contexts.len() as u32 - 1)
    }

    /// Opens the context of a child that watches what `ctx` watches in the parent.
    pub(crate) fn fork_context(&mut self, ctx: UffdId) -> UffdId {
        let Context { features, number, .. } = self.contexts[ctx.index()];
        self.open_context(features, number)
    }

    /// Closes the descriptor of a context. Returns whether it was the last one.
    pub(crate) fn close_context(&mut self, ctx: UffdId) -> bool {
        let context = &mut self.contexts[ctx.index()];
        context.open = false;
        !context.kept
    }

    /// Returns whether the monitor of a context gets messages about an event.
    pub(crate) fn tells(&self, ctx: UffdId, feature: UffdFeatures) -> bool {
        self.contexts[ctx.index()].features.contains(feature)
    }

    /// Returns the number of the context's descriptor.
    pub(crate) fn number(&self, ctx: UffdId) -> Ctx {
        self.contexts[ctx.index()].number
    }

    /// The monitor keeps the only descriptor of a context, because the number is taken.
    pub(crate) fn leave_to_monitor(&mut self, ctx: UffdId) {
        let context = &mut self.contexts[ctx.index()];
        (context.open, context.kept) = (false, true);
    }

    /// Keeps a context that a copy has in another address space than that of the context. The caller who
    /// asks for such a copy answers for it: when the process of the context ends, the copy would point to
    /// a freed context.
    pub(crate) fn keep_context(&mut self, ctx: UffdId) {
        self.contexts[ctx.index()].kept = true;
    }

    /// Returns the VMAs that map the file, and those that have a policy of the mode.
    #[cfg(test)]
    pub(crate) fn vmas(&self, file: FileId, mode: Mode) -> (u32, u32) {
        let of_file = self.files.get(file.index()).copied().unwrap_or_default();
        (of_file, self.policies[mode as usize])
    }

    /// Returns whether there is a descriptor of the context.
    #[cfg(test)]
    pub(crate) fn has_context(&self, ctx: UffdId) -> bool {
        self.contexts.get(ctx.index()).is_some_and(|context| context.open || context.kept)
    }

    /// Adds the counts of the files that every program has, and of the objects that `state` has visited.
    pub(crate) fn write_state(&self, state: &mut State) {
        let References { files, policies, contexts } = self;
        let count = |file: usize| u64::from(files.get(file).copied().unwrap_or_default());
        (0..=SEGMENT.index()).for_each(|file| state.word(count(file)));
        for n in 0.. {
            let Some(file) = state.visited(Objects::File, n) else { break };
            state.word(count(file as usize));
        }
        policies.iter().for_each(|&count| state.word(count.into()));
        for n in 0.. {
            let Some(ctx) = state.visited(Objects::Uffd, n) else { break };
            let Context { open, kept, features, number } = contexts[ctx as usize];
            let descriptors = u64::from(open) | u64::from(kept) << 1;
            state.word(descriptors | u64::from(features.bits()) << 8 | u64::from(number.0) << 16);
        }
    }

    /// Writes the references to each object that is there.
    pub(crate) fn show(&self, segment: &Segment, hidden: &mut Hidden) {
        hidden.counts_references = true;
        let mut show = |to, vmas: u32, others: i64| {
            if i64::from(vmas) + others > 0 {
                let counter = i64::from(vmas) + others;
                hidden.references.push(hidden::References { to, counter, others });
            }
        };
        let files = self.files.len().max(SEGMENT.index() + 1);
        for file in (0..files as u32).map(FileId::new) {
            let vmas = self.files.get(file.index()).copied().unwrap_or_default();
            let descriptor = file <= DEVICE || file == SEGMENT && !segment.is_destroyed();
            show(Counted::File(file), vmas, descriptor.into());
        }
        for &mode in Mode::ALL.iter().filter(|mode| **mode != Mode::Default) {
            show(Counted::Policy(mode), self.policies[mode as usize], 0);
        }
        for (number, context) in (0..).zip(&self.contexts) {
            let descriptors = i64::from(context.open) + i64::from(context.kept);
            show(Counted::Context(UffdId::new(number)), 0, descriptors);
        }
    }
}
