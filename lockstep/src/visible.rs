//! The part of an observation that a running kernel shows through `/proc`.
//!
//! `vmadiff kernel` and the C programs of `vmadiff export --c` compare this part. The reduction leaves
//! out anon_vmas and their chains, userfaultfd contexts (the VMA flags stay), page offsets of anonymous
//! memory, policies of files, zero pages, calls of drivers, and committed memory.

use vmadiff_machine::operand::{ARENA_PAGES, Ctx, MAX_PROCESSES, Mode, Process};
use vmadiff_machine::{
    AddressSpace, FileId, Message, Observation, Op, PageSet, Range, UffdEvent, UffdId, VmFlags, Vma,
};

/// The facilities of a kernel on which the visible part depends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visible {
    /// `smaps` shows `VM_SOFTDIRTY`: the kernel has `CONFIG_MEM_SOFT_DIRTY`.
    pub soft_dirty: bool,
    /// `pagemap` shows frame numbers, so that anonymous pages can be told from the zero page.
    pub frames: bool,
    /// `numa_maps` shows policies.
    pub numa: bool,
}

impl Visible {
    /// The visible part on a kernel with all facilities.
    pub const ALL: Visible = Visible { soft_dirty: true, frames: true, numa: true };

    /// Returns the flags that are shown.
    pub fn flags(self) -> VmFlags {
        if self.soft_dirty { VmFlags::all() } else { VmFlags::all() - VmFlags::VM_SOFTDIRTY }
    }

    /// Reduces the observation of a model to its visible part. The result is written to `reduced`, which
    /// has to hold the visible part of the step before.
    pub fn reduce(self, model: &Observation, reduced: &mut Observation) {
        reduced.begin_step();
        (reduced.result, reduced.read) = (model.result, model.read);
        reduced.attached = model.attached;
        reduced.messages.extend_from_slice(&model.messages);
        for at in (0..MAX_PROCESSES).filter(|at| model.changed >> at & 1 == 1) {
            let (from, to) = (&model.spaces[at], reduced.rewrite(Process(at as u8)));
            to.alive = from.alive;
            to.counters = from.counters;
            to.anon_pages = if self.frames { from.anon_pages } else { 0 };
            for vma in from.vmas() {
                let pgoff = if vma.file.is_some() { vma.pgoff } else { vma.start.linear_offset() };
                let shown = vma.file.is_none() && self.numa;
                let policy = if shown { vma.policy } else { Mode::Default };
                let flags = vma.flags & self.flags();
                let range = (vma.start, vma.end);
                to.push(Vma::new(range, pgoff, flags, None, vma.file, None, policy, false), []);
            }
        }
    }
}

/// Returns the pages of an address space that are read at the end of a program: its anonymous pages and
/// its pages of files, as far as an operand can name them. A read of any of them changes nothing that
/// is shown.
pub fn readable(space: &AddressSpace) -> PageSet {
    let files = space.vmas().iter().filter(|vma| vma.file.is_some());
    let pages = files.fold(space.anon_pages, |set, vma| set | vma.range().set());
    pages & ((1 << ARENA_PAGES) - 1)
}

/// The files of a program, numbered in the order in which the memory of processes shows them.
#[derive(Debug, Default)]
pub struct Files(Vec<FileId>);

impl Files {
    fn number(&mut self, file: FileId) -> usize {
        self.0.iter().position(|known| *known == file).unwrap_or_else(|| {
            self.0.push(file);
            self.0.len() - 1
        })
    }
}

/// Returns the visible memory of a process as lines: the counters in pages; each VMA with its first page,
/// one past its last page, its flags as in `smaps`, its file or policy; the anonymous pages.
pub fn memory(space: &AddressSpace, files: &mut Files) -> String {
    let counters = space.counters;
    let mut text = format!(
        "VmSize {}, VmLck {}, VmData {}",
        counters.total_vm, counters.locked_vm, counters.data_vm
    );
    for vma in space.vmas() {
        text.push_str(&format!("\n{}-{}", vma.start, vma.end));
        for (name, bit) in VmFlags::SMAPS_NAMES {
            if vma.flags.bits() >> bit & 1 == 1 {
                text.push(' ');
                text.push_str(name);
            }
        }
        if let Some(file) = vma.file {
            text.push_str(&format!(", file {}, page {}", files.number(file), vma.pgoff.0));
        } else if vma.policy != Mode::Default {
            text.push_str(&format!(", policy {}", vma.policy.numa_maps_name()));
        }
    }
    if space.anon_pages != 0 {
        text.push_str("\nanonymous");
        let (mut from, mut rest) = (0, space.anon_pages);
        while rest != 0 {
            let gap = rest.trailing_zeros();
            (from, rest) = (from + gap, rest >> gap);
            let run = rest.trailing_ones();
            text.push_str(&format!(" {from}-{}", from + run));
            (from, rest) = (from + run, rest.checked_shr(run).unwrap_or(0));
        }
    }
    text
}

/// The userfaultfd contexts of a program. Each has the name that its process has for it: the process and the
/// number.
#[derive(Debug, Default)]
pub struct Contexts(Vec<(UffdId, Process, Ctx)>);

impl Contexts {
    /// Takes note of the contexts that an operation has registered or made. `seen` is the whole observation
    /// after the operation, which shows the contexts of VMAs.
    pub fn note(&mut self, op: &Op, seen: &Observation) {
        match *op {
            Op::UffdRegister { process, page, len, ctx }
            | Op::UffdRegisterWp { process, page, len, ctx, .. } => {
                let range = Range::new(page.get(), len.get());
                let space = &seen.spaces[usize::from(process.get().0)];
                let within = space.vmas().iter().filter(|vma| vma.range().overlaps(range));
                for id in within.filter_map(|vma| vma.uffd) {
                    if self.name(id).is_none() {
                        self.0.push((id, process.get(), ctx.get()));
                    }
                }
            }
            Op::Fork { .. } => {
                let Ok(process) = seen.result else { return };
                for message in &seen.messages {
                    if let Some(child) = message.about.child()
                        && let Some((_, ctx)) = self.name(message.ctx)
                    {
                        self.0.push((child, Process(process), ctx));
                    }
                }
            }
            _ => {}
        }
    }

    fn name(&self, id: UffdId) -> Option<(Process, Ctx)> {
        let found = self.0.iter().find(|(known, ..)| *known == id);
        found.map(|&(_, process, ctx)| (process, ctx))
    }
}

/// Returns the messages of an operation as lines: `UNMAP 4-6, context 0 of process 1`.
pub fn messages(messages: &[Message], contexts: &Contexts) -> String {
    let line = |message: &Message| {
        let name = message.about.name();
        let about = match message.about {
            UffdEvent::Fork { .. } => name.to_owned(),
            UffdEvent::Remap { from, to } => format!("{name} {}-{} to {to}", from.start, from.end),
            UffdEvent::Remove(range) | UffdEvent::Unmap(range) => {
                format!("{name} {}-{}", range.start, range.end)
            }
        };
        match contexts.name(message.ctx) {
            Some((process, ctx)) => format!("{about}, context {ctx} of process {process}"),
            None => about,
        }
    };
    messages.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use vmadiff_machine::Program;
    use vmadiff_machine::operand::Page;

    use super::*;

    #[test]
    fn a_context_has_the_name_that_its_process_has_for_it() {
        let op = |text: &str| text.parse::<Program>().expect("an operation").ops[0];
        let (id, of_child) = (UffdId::new(7), UffdId::new(9));
        let mut seen = Observation::default();
        let range = (Page(4), Page(6));
        let flags = VmFlags::VM_UFFD_MISSING;
        let vma = Vma::new(
            range,
            Page(4).linear_offset(),
            flags,
            None,
            None,
            Some(id),
            Mode::Default,
            false,
        );
        seen.spaces[2].push(vma, []);
        let mut contexts = Contexts::default();
        contexts.note(&op("uffd_register 2 5 3 1"), &seen);
        // The range has the context of another call, which stays.
        contexts.note(&op("uffd_register 2 4 1 0"), &seen);
        let fork = Message { ctx: id, about: UffdEvent::Fork { child: Some(of_child) } };
        seen.result = Ok(3);
        seen.messages = vec![fork];
        contexts.note(&op("fork 2"), &seen);
        let range = Range { start: Page(4), end: Page(6) };
        let about = |ctx, about| Message { ctx, about };
        for (message, line) in [
            (fork, "FORK, context 1 of process 2"),
            (about(id, UffdEvent::Unmap(range)), "UNMAP 4-6, context 1 of process 2"),
            (about(of_child, UffdEvent::Remove(range)), "REMOVE 4-6, context 1 of process 3"),
            (
                about(of_child, UffdEvent::Remap { from: range, to: Page(0) }),
                "REMAP 4-6 to 0, context 1 of process 3",
            ),
        ] {
            assert_eq!(messages(&[message], &contexts), line);
        }
        assert_eq!(messages(&[fork, fork], &contexts).lines().count(), 2);
        assert_eq!(messages(&[], &contexts), "");
    }
}
