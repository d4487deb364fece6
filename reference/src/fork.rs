//! `fork` (`dup_mmap()` of `kernel/fork.c`) and `exit` (`exit_mmap()` of `mm/mmap.c`).

use vmadiff_machine::operand::{Domain as _, Process, UffdFeatures};
use vmadiff_machine::{Allocation, Errno, Message, UffdEvent, UffdId, VmFlags};

use crate::anon_page::AnonPages;
use crate::anon_vma::AnonVmas;
use crate::chain::Chain;
use crate::function::Function;
use crate::later::{self, Later};
use crate::memory::Memory;
use crate::mm::{Mm, Syscall};
use crate::range::Range;
use crate::references::References;
use crate::refusal::{Limit, Refusal, Rule};
use crate::vma::Vma;
use crate::why::{ForkReason, ForkRule};
use crate::world::World;

/// Makes `child`, which is empty, a child of `parent`, VMA by VMA in address order, and passes
/// `found` the rule for each. The child marks new mappings for KSM if the parent does.
///
/// - `VM_DONTCOPY`: the child does not get the VMA.
/// - A child has no locked memory. It has a context of its own in place of each userfaultfd context with the
///   feature `FORK`, and no other context. `contexts` gets the contexts of parent and child.
/// - `VM_WIPEONFORK`: the child gets none of the parent's anonymous memory. Its VMA has an anon_vma
///   at once (`anon_vma_prepare()`). `vm_prev` and `vm_next` are still those of the parent's VMA, so
///   the child may share the anon_vma of the *parent's* neighbours. With
///   [`WipeonforkAnonVma`](later::Rule::WipeonforkAnonVma) it has none.
/// - Else the child gets an anon_vma below the parent's ([`AnonVmas::fork`]), and the page table
///   entries if the parent's VMA has an anon_vma. Without one, faults make every page again
///   (`copy_page_range()`); with [`UffdWpFiles`](later::Rule::UffdWpFiles) not where the child's context watches in
///   write-protect mode (`vma_needs_copy()`). Pages that both map are read-only in both.
fn dup_mmap(
    parent: &mut Mm,
    child: &mut Mm,
    (anon_vmas, anon_pages): (&mut AnonVmas, &mut AnonPages),
    references: &mut References,
    (later, memory): (&Later, &Memory),
    contexts: &mut Vec<(UffdId, UffdId)>,
    mut found: impl FnMut(ForkReason),
) -> Result<(), NoMemory> {
    child.reset(true);
    child.merge_any = parent.merge_any;
    for at in 0..parent.vmas().len() {
        let of = &parent.vmas()[at].clone();
        let mut found = |rule| found(ForkReason { parent: of.range, rule });
        if of.flags.contains(VmFlags::VM_DONTCOPY) {
            found(ForkRule::LeftOut);
            continue;
        }
        let wiped = of.flags.contains(VmFlags::VM_WIPEONFORK);
        let hangs = of.anon_vma.is_some() || wiped;
        if memory.is_short_of(|what| match what {
            Allocation::Charge => of.flags.contains(VmFlags::VM_ACCOUNT),
            Allocation::ChainEntry | Allocation::AnonVma => false,
            _ => of.duplicate_needs(what),
        }) {
            return Err(NoMemory);
        }
        let mut vma = *of;
        match of.uffd.filter(|ctx| references.tells(*ctx, UffdFeatures::FORK)) {
            None => vma.drop_uffd(),
            Some(ctx) => {
                let known = contexts.iter().find(|(parents, _)| *parents == ctx);
                let known = known.map(|(_, childs)| *childs);
                if known.is_none() && memory.is_short_of(|what| what == Allocation::Context) {
                    return Err(NoMemory);
                }
                vma.uffd = known.or_else(|| {
                    contexts.push((ctx, references.fork_context(ctx)));
                    contexts.last().map(|(_, childs)| *childs)
                });
            }
        }
        if memory.is_short_of(|what| {
            hangs && matches!(what, Allocation::ChainEntry | Allocation::AnonVma)
        }) {
            return Err(NoMemory);
        }
        let zero_pages = parent.zero_pages() & of.range.set();
        let watched = !wiped
            && vma.flags.contains(VmFlags::VM_UFFD_WP)
            && later.applies(later::Rule::UffdWpFiles, || of.anon_vma.is_none() && zero_pages != 0);
        let has_table = of.anon_vma.is_some() || watched;
        let no_table = !wiped
            && (has_table || of.is_of_device())
            && memory.is_short_of(|what| what == Allocation::PageTable);
        if wiped {
            (vma.anon_vma, vma.chain) = (None, Chain::EMPTY);
            if !later.applies(later::Rule::WipeonforkAnonVma, || true) {
                let vmas = parent.vmas();
                let prev: Option<&Vma> = at.checked_sub(1).map(|prev| &vmas[prev]);
                anon_vmas.prepare(&mut vma, prev, vmas.get(at + 1));
            }
            found(ForkRule::Wiped);
        } else {
            let reused = anon_vmas.fork(&mut vma, of, later);
            if has_table && !no_table {
                anon_pages.share((parent, of.range), (child, of.range.start));
                child.add_zero_pages(zero_pages);
                found(ForkRule::Inherited { reused });
            } else {
                found(ForkRule::NeverFaulted);
            }
            if vma.flags.contains(VmFlags::VM_UFFD_WP) {
                // The markers of a file are copied, too.
                let copied = match vma.is_anonymous() {
                    true => child.anon_pages() | child.zero_pages(),
                    false => of.range.set(),
                };
                child.write_protect(parent.write_protected() & of.range.set() & copied);
            }
        }
        // The lock flags go last: the search for an anon_vma compared the neighbours' flags with
        // them.
        vma.flags -= VmFlags::LOCK;
        references.get(&vma);
        child.driver.opens += u32::from(vma.has_close());
        child.insert(vma);
        if no_table {
            return Err(NoMemory);
        }
    }
    Ok(())
}

/// There is no memory for a part of the child. The child is as far as it was made.
struct NoMemory;

impl World {
    /// Makes a child of `process` at the lowest free index, and returns the index.
    ///
    /// # Errors
    /// `ESRCH` where the process is not there; `EAGAIN` where no index is free; `ENOMEM` without memory.
    /// The part of the child that was made is unmapped then. The entries of the parent that were copied
    /// stay read-only.
    #[inline]
    pub(crate) fn fork(&mut self, process: Process) -> Result<u8, Refusal> {
        self.call(process)?;
        self.copy_process(process)
    }

    fn copy_process(&mut self, process: Process) -> Result<u8, Refusal> {
        let max = self.limits.max_processes();
        let Some(child) = (0..max).find(|&at| !self.mms[at].alive) else {
            let limit = Limit { have: max as u16, more: 1, max: max as u16 };
            let call = self.syscall(process);
            return call.refuse(Errno::EAGAIN, Function::CopyProcess, Rule::ProcessLimit(limit));
        };
        let parent = usize::from(process.0);
        if let Ok([parent, of_child]) = self.mms.get_disjoint_mut([parent, child]) {
            let hung = (&mut self.anon_vmas, &mut self.anon_pages);
            let how = (&self.later, &self.memory);
            let limits = (parent.max_pages, parent.max_locked);
            let references = &mut self.references;
            let mut contexts = std::mem::take(&mut self.forked);
            let made = dup_mmap(parent, of_child, hung, references, how, &mut contexts, |reason| {
                if let Some(why) = &mut self.why {
                    why.fork.push(reason);
                }
            });
            // The charge of the memory outside comes after the VMAs of the arena.
            let made = if parent.outside_charged { Err(NoMemory) } else { made };
            (of_child.max_pages, of_child.max_locked) = limits;
            self.tell_of_fork(&contexts, made.is_ok().then_some(child));
            contexts.clear();
            self.forked = contexts;
            if made.is_err() {
                self.syscall(Process(child as u8)).exit();
                let call = self.syscall(process);
                return call.refuse(Errno::ENOMEM, Function::CopyProcess, Rule::NoMemory);
            }
        }
        Ok(child as u8)
    }
}

impl World {
    /// Tells the monitor of each context that it has a context in a child. The child gets the descriptor under
    /// the number that the parent's context has, unless the number is taken: then the monitor keeps it. Where
    /// the fork fails there is no child, and the monitor closes the descriptor.
    fn tell_of_fork(&mut self, contexts: &[(UffdId, UffdId)], child: Option<usize>) {
        for &(ctx, new) in contexts {
            let about = UffdEvent::Fork { child: child.map(|_| new) };
            self.messages.push(Message { ctx, about });
            let number = usize::from(self.references.number(new).index());
            match child.map(|child| &mut self.mms[child].uffd[number]) {
                Some(descriptor @ None) => *descriptor = Some(new),
                Some(Some(_)) => self.references.leave_to_monitor(new),
                None => {
                    self.references.close_context(new);
                }
            }
        }
    }
}

impl Syscall<'_> {
    /// Ends the process: unmaps everything that it had mapped, and closes its userfaultfd contexts.
    pub(crate) fn exit(&mut self) {
        self.anon_pages.zap(self.mm, Range::ALL);
        self.drop_vmas(0..self.mm.vmas().len());
        for ctx in self.mm.uffd.into_iter().flatten() {
            self.references.close_context(ctx);
        }
        self.mm.reset(false);
    }
}
