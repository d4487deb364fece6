//! The first difference between two machines: its class, and its signature.
//!
//! A difference is judged page by page, not VMA by VMA, so that a flag that is wrong is a `flags`
//! divergence although it also keeps the VMA from merging: only where every page shows the same
//! and the VMAs still end elsewhere did the merge go wrong.

use std::fmt;

use vmadiff_machine::observation::{Event, Observation, Vma};
use vmadiff_machine::operand::{END_PAGES, MAX_PROCESSES};
use vmadiff_machine::{AddressSpace, Errno, Op, Opcode, VmFlags};

use crate::compare::Bijection;

/// What two machines disagree about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// Where VMAs begin and end, the pages showing the same.
    Merge,
    /// `vm_flags`.
    Flags,
    /// userfaultfd contexts.
    Uffd,
    /// The aliasing check: source redirection, a stale source, a use-after-free.
    Aliasing,
    /// Which pages are mapped, and what is mapped there.
    Layout,
    /// Page offsets.
    Offset,
    /// The anon_vma of a mapping, its chain, or the anonymous pages that hang on it.
    AnonVma,
    /// Whether the rmap locks are needed, or were taken.
    RmapLocks,
    /// Counters.
    Accounting,
    /// What the call answers.
    Errno,
    /// A kernel assertion; or a machine in a shared library failed (`assertion/library/…`).
    Assertion,
}

impl Class {
    /// Every class, the four that were asked for by name first.
    pub const ALL: [Class; 11] = [
        Class::Merge,
        Class::Flags,
        Class::Uffd,
        Class::Aliasing,
        Class::Layout,
        Class::Offset,
        Class::AnonVma,
        Class::RmapLocks,
        Class::Accounting,
        Class::Errno,
        Class::Assertion,
    ];

    /// Its name in signatures and tables.
    pub const fn name(self) -> &'static str {
        match self {
            Class::Merge => "merge",
            Class::Flags => "flags",
            Class::Uffd => "uffd",
            Class::Aliasing => "aliasing",
            Class::Layout => "layout",
            Class::Offset => "offset",
            Class::AnonVma => "anon-vma",
            Class::RmapLocks => "rmap-locks",
            Class::Accounting => "accounting",
            Class::Errno => "errno",
            Class::Assertion => "assertion",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What makes a divergence the same bug as another one: `class/part/detail`, the part being the
/// operation or what it shares with others, or `class/event` where an event names the place.
///
/// It says which way the right machine is off from the left, and nothing of where in the address
/// space, in which process, or in which program.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signature(String);

impl Signature {
    /// As text, for lists and tables.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// As the stem of a file name.
    pub fn file_stem(&self) -> String {
        self.0
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '-' })
            .collect()
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The first operation after which two machines show different things.
#[derive(Clone, Debug)]
pub struct Divergence {
    /// The operation, counted from 0.
    pub step: usize,
    /// What they disagree about.
    pub class: Class,
    /// What makes it the same bug as another one.
    pub signature: Signature,
}

impl Divergence {
    /// The divergence of two observations that were found to differ after `op`.
    pub fn of(step: usize, op: &Op, left: &Observation, right: &Observation) -> Divergence {
        let Finding { class, detail, of_operation } = find(left, right);
        let part = part(op.opcode(), class);
        let detail = match (class, part) {
            // Which flags they are depends on what was asked for.
            (Class::Flags, _) if changes_in_place(op.opcode()) => "other".into(),
            _ => detail,
        };
        let signature = if of_operation {
            format!("{class}/{part}/{detail}")
        } else {
            format!("{class}/{detail}")
        };
        Divergence { step, class, signature: Signature(signature) }
    }
}

/// Operations that change what is mapped already, by the same functions: `vma_merge()` and
/// `split_vma()`.
fn changes_in_place(opcode: Opcode) -> bool {
    use Opcode::{Madvise, Mbind, Mlock, Mprotect, Munlock, UffdRegister, UffdUnregister};
    matches!(opcode, Mprotect | Madvise | Mlock | Munlock | Mbind | UffdRegister | UffdUnregister)
}

/// The part of the kernel that a signature names. What operations do by the same functions has the
/// same name where those functions are what goes wrong, so that a bug in one of them is not met
/// under the name of every operation.
fn part(opcode: Opcode, class: Class) -> &'static str {
    use Opcode::{Copy, CopyVma, Mmap, Mremap, Munmap};
    let shared = matches!(
        class,
        Class::Merge | Class::Aliasing | Class::Layout | Class::Offset | Class::AnonVma
    );
    match opcode {
        Copy | CopyVma | Mremap if shared => "copy_vma",
        Mmap | Munmap if shared => "map",
        opcode if shared && changes_in_place(opcode) => "change",
        // A direct call is made as the system call makes it.
        CopyVma => Copy.name(),
        opcode => opcode.name(),
    }
}

struct Finding {
    class: Class,
    detail: String,
    /// Whether the operation belongs in the signature: not where an event names its place.
    of_operation: bool,
}

fn finding(class: Class, detail: impl Into<String>) -> Option<Finding> {
    Some(Finding { class, detail: detail.into(), of_operation: true })
}

/// What differs, by the first of these that does. The order puts causes before consequences.
fn find(left: &Observation, right: &Observation) -> Finding {
    events(left, right, Event::is_fatal)
        .or_else(|| results(left, right))
        .or_else(|| events(left, right, |_| true))
        .or_else(|| layout(left, right))
        .or_else(|| pages(left, right))
        .or_else(|| merge(left, right))
        .or_else(|| anon_vmas(left, right))
        .or_else(|| rmap_locks(left, right))
        .or_else(|| accounting(left, right))
        .unwrap_or(Finding {
            class: Class::Layout,
            // Comparer found a difference that no question above asks about: a defect of this
            // file, shown rather than hidden.
            detail: "unclassified".into(),
            of_operation: true,
        })
}

/// An event that one of them has and the other has not, of those that `wanted` wants: one that
/// the kernel does not survive explains any result, but one that it survives may be the result
/// of a call that should have been refused.
fn events(left: &Observation, right: &Observation, wanted: fn(&Event) -> bool) -> Option<Finding> {
    let n = (0..left.events.len().max(right.events.len())).find(|&n| {
        let (l, r) = (left.events.get(n), right.events.get(n));
        l != r && l.into_iter().chain(r).any(wanted)
    })?;
    // An event of the left alone is as much a difference as one of the right alone.
    let (event, side) = match (right.events.get(n), left.events.get(n)) {
        (Some(event), _) => (event, ""),
        (None, Some(event)) => (event, "missing-"),
        (None, None) => return None,
    };
    let (class, detail) = match event {
        Event::UseAfterFree { function, field, .. } => {
            (Class::Aliasing, format!("{side}use-after-free/{function}/{field}"))
        }
        Event::Assertion { function, condition, .. } => {
            // A signature is one word: a list has it before the reason.
            (Class::Assertion, format!("{side}{function}/{}", condition.replace(' ', "")))
        }
        Event::UnreachablePage { .. } => (Class::AnonVma, format!("{side}unreachable-page")),
        Event::Library(failure) => {
            (Class::Assertion, format!("{side}library/{}", failure.detail()))
        }
    };
    Some(Finding { class, detail, of_operation: false })
}

fn results(left: &Observation, right: &Observation) -> Option<Finding> {
    if left.result == right.result {
        return None;
    }
    match (left.result, right.result) {
        (Ok(_), Ok(_)) => finding(Class::Layout, "other-address"),
        (left, right) => {
            let name = |result: Result<u8, Errno>| result.map_or_else(|e| e.name(), |_| "ok");
            finding(Class::Errno, format!("{}-for-{}", name(right), name(left)))
        }
    }
}

/// What each page of an address space is mapped by.
fn by_page(space: &AddressSpace) -> [Option<&Vma>; END_PAGES] {
    let mut pages = [None; END_PAGES];
    for vma in space.vmas() {
        let range = usize::from(vma.start.0)..usize::from(vma.end.0).min(END_PAGES);
        for page in pages.get_mut(range).into_iter().flatten() {
            *page = Some(vma);
        }
    }
    pages
}

fn layout(left: &Observation, right: &Observation) -> Option<Finding> {
    for (l, r) in left.spaces.iter().zip(&right.spaces) {
        match (l.alive, r.alive) {
            (true, false) => return finding(Class::Layout, "process-gone"),
            (false, true) => return finding(Class::Layout, "process-left"),
            _ => {}
        }
        for (l, r) in by_page(l).into_iter().zip(by_page(r)) {
            match (l, r) {
                (Some(_), None) => return finding(Class::Layout, "not-mapped"),
                (None, Some(_)) => return finding(Class::Layout, "still-mapped"),
                _ => {}
            }
        }
    }
    let overlap = |space: &AddressSpace| space.vmas().windows(2).any(|v| v[0].end > v[1].start);
    let differ = left.spaces.iter().zip(&right.spaces).any(|(l, r)| overlap(l) != overlap(r));
    if differ { finding(Class::Layout, "overlap") } else { None }
}

/// Flags in the order in which a difference in several is named: what has the gravest effect
/// first.
const GRAVEST_FIRST: [VmFlags; 8] = [
    VmFlags::VM_LOCKED,
    VmFlags::VM_LOCKONFAULT,
    VmFlags::VM_UFFD_MISSING,
    VmFlags::VM_UFFD_WP,
    VmFlags::VM_DONTCOPY,
    VmFlags::VM_WIPEONFORK,
    VmFlags::VM_MERGEABLE,
    VmFlags::VM_ACCOUNT,
];

fn flag_difference(left: VmFlags, right: VmFlags) -> Option<String> {
    let differ = left ^ right;
    let flag = GRAVEST_FIRST
        .into_iter()
        .find(|flag| differ.contains(*flag))
        .or_else(|| differ.iter().next())?;
    let name = flag.iter_names().next().map_or("bits", |(name, _)| name);
    Some(format!("{name}-{}", if right.contains(flag) { "kept" } else { "lost" }))
}

/// Attributes that every page of a mapping has, whatever VMA it is in. Each question is asked of
/// all pages before the next.
fn pages(left: &Observation, right: &Observation) -> Option<Finding> {
    let (mut files, mut uffds) = (Bijection::default(), Bijection::default());
    let each = |question: &mut dyn FnMut(u8, &Vma, &Vma) -> Option<Finding>| {
        left.spaces.iter().zip(&right.spaces).find_map(|(l, r)| {
            by_page(l)
                .into_iter()
                .zip(by_page(r))
                .zip(0u8..)
                .find_map(|((l, r), page)| question(page, l?, r?))
        })
    };
    // Modulo 2^64, as the kernel subtracts.
    let offset = |page: u8, vma: &Vma| {
        vma.pgoff.0.wrapping_sub(vma.start.0.into()).wrapping_add(page.into())
    };
    each(&mut |_, l, r| finding(Class::Flags, flag_difference(l.flags, r.flags)?))
        .or_else(|| {
            each(&mut |_, l, r| {
                if uffds.pairs(l.uffd.map(|u| u.index()), r.uffd.map(|u| u.index())) {
                    return None;
                }
                finding(Class::Uffd, presence(l.uffd.is_some(), r.uffd.is_some()))
            })
        })
        .or_else(|| {
            each(&mut |_, l, r| {
                let same = files.pairs(l.file.map(|f| f.index()), r.file.map(|f| f.index()));
                if same { None } else { finding(Class::Layout, "other-file") }
            })
        })
        .or_else(|| {
            each(&mut |_, l, r| {
                if l.policy == r.policy { None } else { finding(Class::Layout, "other-policy") }
            })
        })
        .or_else(|| {
            each(&mut |_, l, r| {
                if l.close == r.close { None } else { finding(Class::Layout, "other-vm_ops") }
            })
        })
        .or_else(|| {
            each(&mut |page, l, r| {
                let (l, r) = (offset(page, l), offset(page, r));
                if l == r { None } else { finding(Class::Offset, "other-pgoff") }
            })
        })
}

fn presence(left: bool, right: bool) -> &'static str {
    match (left, right) {
        (false, true) => "kept",
        (true, false) => "lost",
        _ => "other",
    }
}

fn merge(left: &Observation, right: &Observation) -> Option<Finding> {
    if let (Some(l), Some(r)) = (left.copy, right.copy) {
        if l.merged != r.merged {
            return finding(Class::Merge, if r.merged { "merged" } else { "not-merged" });
        }
        if l.source_redirected != r.source_redirected {
            let detail =
                if r.source_redirected { "source-redirected" } else { "source-not-redirected" };
            return finding(Class::Aliasing, detail);
        }
    }
    // The pages are mapped alike: it is by their edges alone that VMAs can differ.
    left.spaces.iter().zip(&right.spaces).find_map(|(l, r)| {
        let starts = |space: &AddressSpace| {
            space.vmas().iter().fold(0u128, |set, v| set | 1 << (v.start.0 % END_PAGES as u8))
        };
        let (l, r) = (starts(l), starts(r));
        if l & !r != 0 {
            return finding(Class::Merge, "merged");
        }
        if r & !l != 0 { finding(Class::Merge, "not-merged") } else { None }
    })
}

fn anon_vmas(left: &Observation, right: &Observation) -> Option<Finding> {
    let mut known = Bijection::default();
    for (l, r) in left.spaces.iter().zip(&right.spaces) {
        for (lv, rv) in l.vmas().iter().zip(r.vmas()) {
            if !known.pairs(lv.anon_vma.map(|a| a.index()), rv.anon_vma.map(|a| a.index())) {
                let what = presence(lv.anon_vma.is_some(), rv.anon_vma.is_some());
                return finding(Class::AnonVma, format!("anon_vma-{what}"));
            }
            let (l, r) = (l.chain(lv), r.chain(rv));
            if l.len() != r.len() {
                let what = if l.len() < r.len() { "longer" } else { "shorter" };
                return finding(Class::AnonVma, format!("chain-{what}"));
            }
            if !l.iter().zip(r).all(|(l, r)| known.pairs(Some(l.index()), Some(r.index()))) {
                return finding(Class::AnonVma, "chain-other");
            }
        }
    }
    for (l, r) in left.spaces.iter().zip(&right.spaces) {
        if l.anon_pages != r.anon_pages {
            let what = if r.anon_pages & !l.anon_pages != 0 { "kept" } else { "lost" };
            return finding(Class::AnonVma, format!("pages-{what}"));
        }
    }
    None
}

fn rmap_locks(left: &Observation, right: &Observation) -> Option<Finding> {
    match (left.copy, right.copy) {
        (Some(l), Some(r)) if l.need_rmap_locks != r.need_rmap_locks => {
            finding(Class::RmapLocks, if r.need_rmap_locks { "needed" } else { "not-needed" })
        }
        (Some(l), Some(r)) if l.honoured != r.honoured => {
            finding(Class::RmapLocks, if r.honoured { "taken" } else { "not-taken" })
        }
        (Some(_), None) => finding(Class::Aliasing, "copy_vma-not-called"),
        (None, Some(_)) => finding(Class::Aliasing, "copy_vma-called"),
        _ => None,
    }
}

fn accounting(left: &Observation, right: &Observation) -> Option<Finding> {
    let counters = (0..MAX_PROCESSES).flat_map(|p| {
        let (l, r) = (&left.spaces[p].counters, &right.spaces[p].counters);
        [
            ("locked_vm", l.locked_vm, r.locked_vm),
            ("total_vm", l.total_vm, r.total_vm),
            ("data_vm", l.data_vm, r.data_vm),
            ("map_count", l.map_count, r.map_count),
        ]
    });
    let committed = std::iter::once(("committed", left.committed, right.committed));
    counters.chain(committed).find(|(_, l, r)| l != r).and_then(|(name, l, r)| {
        finding(Class::Accounting, format!("{name}-{}", if r > l { "high" } else { "low" }))
    })
}
