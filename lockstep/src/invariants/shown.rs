//! The invariants of an observation:
//!
//! - VMAs are not empty, sorted and disjoint.
//! - `total_vm`, `locked_vm`, `data_vm`, `map_count` and committed memory equal a recount.
//! - A driver that has `vm_ops->close` was told of as many VMAs as it has. `shm_nattch` equals the VMAs
//!   that map the segment. No VMA maps a destroyed segment, and a removed segment that no VMA maps is
//!   destroyed.
//! - `VM_UFFD_*` is set exactly where there is a userfaultfd context.
//! - A page table entry permits writes only to an anonymous page, and only where the VMA permits them.
//! - The file and the file offset of a page change only where an operation maps the page anew or moves
//!   another page there.

use std::ops::Range;

use vmadiff_machine::operand::{Kind, Len, MAX_PROCESSES, Page, PageOffset, Process};
use vmadiff_machine::{
    AddressSpace, Counters, DriverCalls, FileId, Observation, Op, PageSet, Part, VmFlags, Vma,
};

use super::Violation;
use crate::divergence::Class;

/// The pages from `start` up to `end`, each with the same file and the same distance between the
/// page's number and its offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    start: u8,
    end: u8,
    file: Option<FileId>,
    /// The offset of page 0, modulo 2^64.
    origin: u64,
}

impl Span {
    fn of(vma: &Vma) -> Span {
        let (start, end) = (vma.start.0, vma.end.0);
        Span { start, end, file: vma.file, origin: vma.pgoff.0.wrapping_sub(start.into()) }
    }
}

/// Checks the observations of one machine, operation by operation.
#[derive(Debug, Default)]
pub struct Shown {
    /// Whether the machine shows no userfaultfd contexts.
    hides_contexts: bool,
    /// The pages of each process after the last operation.
    last: [Vec<Span>; MAX_PROCESSES],
    /// The pages that each process has charged to committed memory.
    committed: [i64; MAX_PROCESSES],
    /// The VMAs of each process that have `vm_ops->close`.
    closable: [i64; MAX_PROCESSES],
    /// The VMAs of each process that map the segment of SysV shared memory.
    mapped: [i64; MAX_PROCESSES],
    /// The segment was removed (`IPC_RMID`).
    removed: bool,
    /// The VMAs that drivers with `vm_ops->close` count: those that `mmap` and `shmat` made and `vm_ops->open` was
    /// called for, less those that `vm_ops->close` was called for.
    attached: i64,
    /// The pages of the address space that is being looked at.
    now: Vec<Span>,
}

vmadiff_machine::clone_by_field!(Shown {
    hides_contexts,
    last,
    committed,
    closable,
    mapped,
    removed,
    attached,
    now
});

impl Shown {
    /// Returns the invariants of a running kernel. It shows the flags of userfaultfd, and no contexts.
    pub fn without_contexts() -> Shown {
        Shown { hides_contexts: true, ..Shown::default() }
    }

    /// Starts over, for another program.
    pub fn reset(&mut self) {
        self.last.iter_mut().for_each(Vec::clear);
        self.committed = [0; MAX_PROCESSES];
        (self.closable, self.attached) = ([0; MAX_PROCESSES], 0);
        (self.mapped, self.removed) = ([0; MAX_PROCESSES], false);
    }

    /// Returns the first invariant that the state after `op` breaks. Only the address spaces that the
    /// operation changed are looked at.
    #[inline]
    pub fn check(&mut self, op: &Op, seen: &Observation) -> Option<Violation> {
        if let Some(violation) = self.check_spaces(op, seen) {
            return Some(violation);
        }
        if let Some(violation) = self.attached(op, seen) {
            return Some(violation);
        }
        let committed = self.committed.iter().sum::<i64>();
        (committed != seen.committed).then(|| {
            let text = format!(
                "committed memory is {}, and the VM_ACCOUNT mappings have {committed} pages",
                seen.committed
            );
            Violation::new(Class::Accounting, "invariant/committed", text)
        })
    }

    /// Returns the first invariant of the address spaces that the state after `op` breaks: the ones that
    /// a running kernel shows too, in `/proc`.
    #[inline]
    pub fn check_spaces(&mut self, op: &Op, seen: &Observation) -> Option<Violation> {
        for process in 0..MAX_PROCESSES {
            if seen.changed >> process & 1 == 1 {
                let violation = self.space(Process(process as u8), op, &seen.spaces[process]);
                if violation.is_some() {
                    return violation;
                }
            }
        }
        None
    }

    /// Checks the VMAs that drivers count, as `shm_nattch` counts the VMAs of a segment.
    #[inline]
    fn attached(&mut self, op: &Op, seen: &Observation) -> Option<Violation> {
        // The VMAs of a driver with `vm_ops->close` do not merge, so each of these calls makes one.
        let made = seen.result.is_ok()
            && match op {
                Op::Mmap { kind, .. } => kind.get() == Kind::Special,
                Op::Shmat { .. } => true,
                _ => false,
            };
        let DriverCalls { opens, closes } = seen.driver;
        self.attached += i64::from(opens) - i64::from(closes) + i64::from(made);
        let closable = self.closable.iter().sum::<i64>();
        if closable != self.attached {
            let text = format!(
                "the drivers with vm_ops->close were told of {} VMAs, and there are {closable}",
                self.attached
            );
            return Some(Violation::new(Class::Accounting, "invariant/vm_ops", text));
        }
        self.removed |= seen.result.is_ok() && matches!(op, Op::ShmRmid { .. });
        let mapped = self.mapped.iter().sum::<i64>();
        let (detail, says) = match seen.attached {
            Some(0) if mapped == 0 && self.removed => {
                let text = "the segment was removed, and no VMA maps it, but it is not destroyed";
                return Some(Violation::new(Class::Leak, "shmid_kernel", text.into()));
            }
            Some(attached) if attached == mapped => return None,
            None if mapped == 0 => return None,
            Some(attached) => ("invariant/shm_nattch", format!("shm_nattch is {attached}")),
            None => ("invariant/shm-destroyed", "the segment was destroyed".into()),
        };
        let text = format!("{says}, and {mapped} VMAs map the segment");
        Some(Violation::new(Class::Accounting, detail, text))
    }

    /// Checks one address space; `None` where it breaks no invariant.
    fn space(&mut self, process: Process, op: &Op, space: &AddressSpace) -> Option<Violation> {
        self.now.clear();
        let mut counters = Counters { map_count: space.vmas().len() as i64, ..Counters::default() };
        let (mut committed, mut closable, mut mapped, mut end) = (0, 0, 0, 0);
        let mut may_write = 0;
        for vma in space.vmas() {
            if vma.start.0 < end || vma.start >= vma.end {
                return Some(overlap(process, vma, end));
            }
            end = vma.end.0;
            let pages = i64::from(vma.end.0 - vma.start.0);
            let count = |counted: bool| if counted { pages } else { 0 };
            counters.total_vm += pages;
            counters.locked_vm += count(vma.flags.contains(VmFlags::VM_LOCKED));
            // `is_data_mapping()`.
            let shared_writable = vma.flags & (VmFlags::VM_WRITE | VmFlags::VM_SHARED);
            counters.data_vm += count(shared_writable == VmFlags::VM_WRITE);
            committed += count(vma.flags.contains(VmFlags::VM_ACCOUNT));
            if vma.flags.contains(VmFlags::VM_WRITE) {
                may_write |= vma.range().set();
            }
            closable += i64::from(vma.close);
            // The device's VMAs are special, those of the segment are not.
            mapped += i64::from(vma.close && !vma.flags.intersects(VmFlags::VM_SPECIAL));
            if !self.hides_contexts && vma.flags.intersects(VmFlags::UFFD) != vma.uffd.is_some() {
                return Some(context(process, vma));
            }
            self.now.push(Span::of(vma));
        }
        let wrong = space.writable_ptes & !(may_write & space.anon_pages);
        if wrong != 0 {
            return Some(writable(process, wrong));
        }
        if counters != space.counters {
            return miscounted(process, &space.counters, &counters);
        }
        let at = usize::from(process.0);
        self.committed[at] = committed;
        (self.closable[at], self.mapped[at]) = (closable, mapped);
        if self.last[at] != self.now {
            let anew = if op.process() == process { mapped_anew(op) } else { 0..0 };
            if let Some(violation) = self.moved(process, anew) {
                return Some(violation);
            }
            std::mem::swap(&mut self.last[at], &mut self.now);
        }
        None
    }

    /// Returns the first page outside `anew` that had another file or offset before.
    fn moved(&self, process: Process, anew: Range<u8>) -> Option<Violation> {
        let mut rest = self.now.iter().peekable();
        for old in &self.last[usize::from(process.0)] {
            while rest.next_if(|new| new.end <= old.start).is_some() {}
            for new in rest.clone().take_while(|new| new.start < old.end) {
                if (old.file, old.origin) == (new.file, new.origin) {
                    continue;
                }
                let both = old.start.max(new.start)..old.end.min(new.end);
                if let Some(page) = both.clone().find(|page| !anew.contains(page)) {
                    return Some(offset(process, page, old, new));
                }
            }
        }
        None
    }
}

/// The pages that an operation of a process maps anew, or moves other pages to, in its own address
/// space. An operation that chooses the address takes a hole, where no page had an offset before.
fn mapped_anew(op: &Op) -> Range<u8> {
    let range = |start: Page, len: Len| start.0..start.0 + len.0;
    match *op {
        Op::Mmap { page, len, .. } => range(page.get(), len.get()),
        Op::Shmat { page, .. } => range(page.get(), op.length(Part::Destination)),
        Op::Mremap { new_len, flags, new_page, .. } if flags.get().is_fixed() => {
            range(new_page.get(), new_len.get())
        }
        Op::Copy { dst_page, len, .. } | Op::CopyVma { dst_page, len, .. } => {
            range(dst_page.get(), len.get())
        }
        _ => 0..0,
    }
}

#[cold]
fn overlap(process: Process, vma: &Vma, end: u8) -> Violation {
    let text = format!(
        "a VMA of process {process} is {}..{}, and the VMA before it ends at {end}",
        vma.start, vma.end
    );
    Violation::new(Class::Layout, "invariant/overlap", text)
}

#[cold]
fn writable(process: Process, pages: PageSet) -> Violation {
    let text = format!(
        "the page table entry of page {} of process {process} permits writes, and no VMA permits them \
         there or no anonymous page is mapped",
        pages.trailing_zeros()
    );
    Violation::new(Class::Contents, "invariant/write-bit", text)
}

#[cold]
fn context(process: Process, vma: &Vma) -> Violation {
    let (detail, has) = match vma.uffd {
        Some(_) => ("invariant/context-without-flags", "a userfaultfd context and no VM_UFFD flag"),
        None => ("invariant/flags-without-context", "a VM_UFFD flag and no userfaultfd context"),
    };
    let text = format!("the VMA {}..{} of process {process} has {has}", vma.start, vma.end);
    Violation::new(Class::Uffd, detail, text)
}

#[cold]
fn miscounted(process: Process, shown: &Counters, counted: &Counters) -> Option<Violation> {
    let counters = [
        ("invariant/total_vm", "total_vm", shown.total_vm, counted.total_vm),
        ("invariant/locked_vm", "locked_vm", shown.locked_vm, counted.locked_vm),
        ("invariant/data_vm", "data_vm", shown.data_vm, counted.data_vm),
        ("invariant/map_count", "map_count", shown.map_count, counted.map_count),
    ];
    let (detail, name, shown, counted) = counters.into_iter().find(|(.., a, b)| a != b)?;
    let text = format!("{name} of process {process} is {shown}, and a recount gives {counted}");
    Some(Violation::new(Class::Accounting, detail, text))
}

#[cold]
fn offset(process: Process, page: u8, old: &Span, new: &Span) -> Violation {
    let at = |span: &Span| PageOffset(span.origin.wrapping_add(page.into()));
    let text = match old.file == new.file {
        true => format!(
            "page {page} of process {process} had the page offset {} and has {}, and no operation \
             moved it",
            at(old),
            at(new)
        ),
        false => format!("page {page} of process {process} shows another file than before"),
    };
    let detail = match old.file == new.file {
        true => "invariant/offset-changed",
        false => "invariant/file-changed",
    };
    Violation::new(Class::Offset, detail, text)
}
