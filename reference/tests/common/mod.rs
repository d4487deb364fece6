//! Runs programs, and renders each address space as a line of text.
#![allow(dead_code, reason = "each test file uses what it needs")]

use std::fmt::Write;

use vmadiff_machine::operand::{Mode, Page};
use vmadiff_machine::{
    AddressSpace, AnonVmaId, CopyReport, Errno, Machine, Observation, Program, UffdId, VmFlags,
};
use vmadiff_reference::{Reference, Why};

/// The results of a program, and the last observation.
pub(crate) struct Outcome {
    pub(crate) results: Vec<Result<u8, Errno>>,
    /// The report of every operation that copied.
    pub(crate) copies: Vec<CopyReport>,
    pub(crate) seen: Observation,
}

/// Runs a program from its text form.
pub(crate) fn run(text: &str) -> Outcome {
    let program: Program = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    let mut reference = Reference::new();
    let mut seen = Observation::default();
    reference.reset(&program.limits);
    let (mut results, mut copies) = (Vec::new(), Vec::new());
    for op in &program.ops {
        reference.step(op, &mut seen);
        results.push(seen.result);
        copies.extend(seen.copy);
    }
    Outcome { results, copies, seen }
}

/// Runs a program and returns the reasons of its last operation.
pub(crate) fn reasons(text: &str) -> Why {
    let program: Program = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    let (mut reference, mut seen) = (Reference::new(), Observation::default());
    reference.reset(&program.limits);
    let reasons = program.ops.iter().map(|op| reference.step_explained(op, &mut seen));
    reasons.last().expect("an operation")
}

/// Returns the VMAs of an address space, separated by spaces: start, end, and `mark` for a VMA that has
/// the flag.
pub(crate) fn marked(space: &AddressSpace, flag: VmFlags, mark: &str) -> String {
    let one = |vma: &vmadiff_machine::Vma| {
        let mark = if vma.flags.contains(flag) { mark } else { "" };
        format!("{}-{}{mark}", vma.start.0, vma.end.0)
    };
    space.vmas().iter().map(one).collect::<Vec<_>>().join(" ")
}

impl Outcome {
    /// Returns the result of the last operation.
    pub(crate) fn last(&self) -> Result<u8, Errno> {
        *self.results.last().expect("a program has operations")
    }

    /// Returns the address spaces of the living processes, one a line; VMAs separated by `, `. A VMA
    /// is its range, its protection, its offset (`@page` for an offset of the arena), its flags
    /// (without `VM_MAY*`, `VM_SHARED`, `VM_ACCOUNT`, `VM_SOFTDIRTY`), then its file, userfaultfd
    /// context and policy, then its anon_vma and chain. Objects are numbered in order of appearance.
    pub(crate) fn maps(&self) -> String {
        let mut numbers = Numbers::default();
        let alive = self.seen.spaces.iter().filter(|space| space.alive);
        alive.map(|space| numbers.line(space)).collect::<Vec<_>>().join("\n")
    }

    /// Returns the pages of a process that show an anonymous page, such as `1 2 5`.
    pub(crate) fn anon_pages(&self, process: usize) -> String {
        let pages = self.seen.spaces[process].anon_pages;
        let pages = (0..128).filter(|page| pages >> page & 1 == 1);
        pages.map(|page: u8| page.to_string()).collect::<Vec<_>>().join(" ")
    }

    /// Returns the flags of the VMA at `page`.
    pub(crate) fn flags(&self, process: usize, page: u8) -> VmFlags {
        self.seen.spaces[process].vma_at(Page(page)).map_or(VmFlags::empty(), |vma| vma.flags)
    }
}

#[derive(Default)]
struct Numbers {
    anon_vmas: Vec<AnonVmaId>,
    uffds: Vec<UffdId>,
}

fn number<T: PartialEq>(all: &mut Vec<T>, one: T) -> usize {
    all.iter().position(|other| *other == one).unwrap_or_else(|| {
        all.push(one);
        all.len() - 1
    })
}

impl Numbers {
    fn line(&mut self, space: &AddressSpace) -> String {
        let left_out = VmFlags::ACCESS
            | VmFlags::VM_MAYREAD
            | VmFlags::VM_MAYWRITE
            | VmFlags::VM_MAYEXEC
            | VmFlags::VM_SHARED
            | VmFlags::VM_MAYSHARE
            | VmFlags::VM_ACCOUNT
            | VmFlags::VM_SOFTDIRTY
            | VmFlags::VM_UFFD_MISSING;
        let mut line = String::new();
        for vma in space.vmas() {
            if !line.is_empty() {
                line.push_str(", ");
            }
            let _ = write!(line, "{}..{} ", vma.start, vma.end);
            for (flag, letter) in
                [(VmFlags::VM_READ, 'r'), (VmFlags::VM_WRITE, 'w'), (VmFlags::VM_EXEC, 'x')]
            {
                line.push(if vma.flags.contains(flag) { letter } else { '-' });
            }
            let _ = write!(line, " {}", vma.pgoff);
            for (name, _) in (vma.flags - left_out).iter_names() {
                let _ = write!(line, " {}", name.trim_start_matches("VM_"));
            }
            if let Some(file) = vma.file {
                let _ = write!(line, " file{}", file.index());
            }
            if let Some(uffd) = vma.uffd {
                let _ = write!(line, " uffd{}", number(&mut self.uffds, uffd));
            }
            if vma.policy != Mode::Default {
                let _ = write!(line, " {}", vma.policy.name());
            }
            let mut letter = |id| (b'A' + number(&mut self.anon_vmas, id) as u8) as char;
            if let Some(anon_vma) = vma.anon_vma {
                let own = letter(anon_vma);
                let chain: String = space.chain(vma).iter().map(|id| letter(*id)).collect();
                let _ = write!(line, " {own}[{chain}]");
            }
        }
        line
    }
}

/// Runs each program and checks the address spaces it ends with, process by process.
#[track_caller]
pub(crate) fn ends_with(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(run(text).maps(), *expected, "\n{text}");
    }
}

/// Runs each program and checks what its last operation returns.
#[track_caller]
pub(crate) fn returns(cases: &[(&str, Result<u8, Errno>)]) {
    for (text, expected) in cases {
        assert_eq!(run(text).last(), *expected, "\n{text}");
    }
}
