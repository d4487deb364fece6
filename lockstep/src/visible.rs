//! The part of an observation that a running kernel shows through `/proc`.
//!
//! `vmadiff kernel` and the C programs of `vmadiff export --c` compare this part. The reduction leaves
//! out anon_vmas and their chains, userfaultfd contexts (the VMA flags stay), page offsets of anonymous
//! memory, policies of files, zero pages, calls of drivers, and committed memory.

use vmadiff_machine::operand::{ARENA_PAGES, MAX_PROCESSES, Mode, Process};
use vmadiff_machine::{AddressSpace, FileId, Observation, PageSet, VmFlags, Vma};

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
