//! The first difference between two machines: its class, and its signature.
//!
//! Attributes are compared page by page, not VMA by VMA. So a wrong flag is a `flags` divergence,
//! even if the flag also prevents a merge. A difference is a `merge` divergence only if all pages
//! have the same attributes and the VMAs have other edges.

use std::cmp::Ordering;
use std::fmt::{self, Write as _};

use vmadiff_machine::observation::{Event, Observation, Vma};
use vmadiff_machine::operand::{END_PAGES, MAX_PROCESSES};
use vmadiff_machine::{AddressSpace, Errno, Op, Opcode, UffdEvent, UffdId, VmFlags};

use crate::compare::Bijection;
use crate::contents;
use crate::invariants::{Broken, Side, UNREACHABLE, Violation};
use crate::page_ids::Pages;

/// The class of a divergence: the part of the state in which two machines differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Class {
    /// The edges of VMAs differ, and all pages have the same attributes; or `copy_vma()` merged on
    /// one machine only.
    Merge,
    /// `vm_flags`.
    Flags,
    /// userfaultfd contexts, and the messages to their monitors.
    Uffd,
    /// The aliasing check: the redirection of the source, a use-after-free, or a call of
    /// `copy_vma()` on one machine only.
    Aliasing,
    /// The processes, the mapped pages, the address that the call returned, or the file, the memory
    /// policy or the `vm_ops` of a page.
    Layout,
    /// Page offsets.
    Offset,
    /// The anon_vma of a VMA, the chain of a VMA, the anonymous pages, or a page that the reverse
    /// map does not find.
    AnonVma,
    /// The rmap locks: needed or not, or taken or not.
    RmapLocks,
    /// A lock that is taken while it is held, or is still held when the operation ends.
    Deadlock,
    /// The contents of memory: the value that a process reads, the anonymous page that a page table entry
    /// maps, or the write bit of an entry.
    Contents,
    /// An object that is allocated and not in use.
    Leak,
    /// Counters, or the calls of `vm_ops->open` and `vm_ops->close`.
    Accounting,
    /// The error of the call.
    Errno,
    /// A kernel assertion, or a failure of a machine in a shared library (`assertion/library/…`).
    Assertion,
}

impl Class {
    /// Every class, the four that were asked for by name first.
    pub const ALL: [Class; 14] = [
        Class::Merge,
        Class::Flags,
        Class::Uffd,
        Class::Aliasing,
        Class::Layout,
        Class::Offset,
        Class::AnonVma,
        Class::RmapLocks,
        Class::Deadlock,
        Class::Contents,
        Class::Leak,
        Class::Accounting,
        Class::Errno,
        Class::Assertion,
    ];

    /// Returns the class's name in signatures and tables.
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
            Class::Deadlock => "deadlock",
            Class::Contents => "contents",
            Class::Leak => "leak",
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

/// The signature of a divergence. Divergences with equal signatures are taken to be the same bug.
///
/// The form is `class/part/detail`. The part is an operation, or the kernel code that several
/// operations share. The form is `class/detail` if the difference is an event, because an event
/// names its kernel function. The detail says in which direction the right machine differs from the
/// left. A signature does not depend on addresses, processes or the program.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signature(String);

impl Signature {
    /// Returns the signature as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the signature as the stem of a file name: `-` replaces other characters than ASCII
    /// letters, digits, `-`, `_` and `.`. Two signatures have two stems: where a character other than `/`
    /// was replaced, the stem ends with the replaced characters as hexadecimal numbers.
    pub fn file_stem(&self) -> String {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let mut stem: String = self.0.chars().map(|c| if plain(c) { c } else { '-' }).collect();
        for c in self.0.chars().filter(|c| *c != '/' && !plain(*c)) {
            let _ = write!(stem, "-{:x}", u32::from(c));
        }
        stem
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The first operation after which two machines show different things, or one of them breaks an
/// [invariant](crate::invariants).
#[derive(Clone, Debug)]
pub struct Divergence {
    /// The position in the program, counted from 0, of the operation after which the machines
    /// differ.
    pub step: usize,
    /// The class.
    pub class: Class,
    /// The signature.
    pub signature: Signature,
    /// The invariant that is broken; `None` where the machines differ.
    pub broken: Option<Broken>,
}

impl Divergence {
    /// Returns the divergence of two observations that differ after `op`.
    pub fn of(step: usize, op: &Op, left: &Observation, right: &Observation) -> Divergence {
        Divergence::with_history(step, op, left, right, None)
    }

    /// Returns the divergence of two observations that differ after `op`. `history` has the pairs of
    /// pages before the operation: without it, a page that has taken the place of another one is not
    /// noticed.
    pub(crate) fn with_history(
        step: usize,
        op: &Op,
        left: &Observation,
        right: &Observation,
        history: Option<&Pages>,
    ) -> Divergence {
        let Finding { class, detail, of_operation } = find(op, left, right, history);
        if !of_operation {
            let signature = Signature(format!("{class}/{detail}"));
            return Divergence { step, class, signature, broken: None };
        }
        // The flags depend on the operands, so they do not tell bugs apart.
        let is_other = class == Class::Flags && changes_in_place(op.opcode());
        Divergence::in_part(step, op, class, if is_other { "other" } else { &detail })
    }

    /// The finding that a call in which an allocation failed has left a change that the other machine
    /// does not know. `left` is the state before the call, with the result of the call.
    pub(crate) fn half_way(
        step: usize,
        op: &Op,
        left: &Observation,
        right: &Observation,
        history: Option<&Pages>,
    ) -> Divergence {
        let Finding { class, detail, .. } = find(op, left, right, history);
        let detail = format!("{HALF_WAY}{detail}");
        Divergence::in_part(step, op, class, &detail)
    }

    /// The finding that is of the operation, in the part of the kernel that the operation uses.
    fn in_part(step: usize, op: &Op, class: Class, detail: &str) -> Divergence {
        let signature = Signature(format!("{class}/{}/{detail}", part(op.opcode(), class)));
        Divergence { step, class, signature, broken: None }
    }

    /// Returns whether the finding is that of a call in which an allocation failed, and which has left
    /// a change.
    pub fn is_half_way(&self) -> bool {
        let detail = self.signature.as_str().rsplit('/').next();
        detail.is_some_and(|detail| detail.starts_with(HALF_WAY))
    }

    /// The finding that a machine breaks an invariant after an operation.
    pub fn broken(step: usize, violation: Violation, side: Side) -> Divergence {
        let Violation { class, detail, text } = violation;
        let broken = Some(Broken { side, text, at_teardown: false });
        Divergence { step, class, signature: Signature(format!("{class}/{detail}")), broken }
    }

    /// The finding that a running kernel reports a bug of its own in its log after an operation.
    /// `report` names the report: `KASAN-slab-use-after-free/copy_vma`.
    pub fn reported(step: usize, report: &str) -> Divergence {
        let class = Class::Assertion;
        let signature = Signature(format!("{class}/kernel/{report}"));
        Divergence { step, class, signature, broken: None }
    }

    /// The finding that a call in which an allocation failed left a change. `change` is the signature
    /// of the difference from the state before the call.
    pub fn after_failure(step: usize, change: &str) -> Divergence {
        let class = Class::Assertion;
        let signature = Signature(format!("{class}/failed-call/{change}"));
        Divergence { step, class, signature, broken: None }
    }

    /// The finding that the only machine reports an event; `None` where it reports none.
    pub(crate) fn event(step: usize, seen: &Observation) -> Option<Divergence> {
        let text = seen.events.first()?.to_string();
        let Finding { class, detail, .. } = events(&Observation::default(), seen, |_| true)?;
        let broken = Some(Broken { side: Side::Both, text, at_teardown: false });
        Some(Divergence { step, class, signature: Signature(format!("{class}/{detail}")), broken })
    }
}

/// The beginning of the detail of a call that has left a change.
const HALF_WAY: &str = "half-way-";

/// Returns whether the operation changes existing mappings. All these operations use `vma_merge()`
/// and `split_vma()`.
fn changes_in_place(opcode: Opcode) -> bool {
    use Opcode::{
        Madvise, Mbind, Mlock, Mlockall, Mprotect, Mseal, Munlock, Munlockall, UffdOpen,
        UffdRegister, UffdRegisterWp, UffdUnregister,
    };
    matches!(
        opcode,
        Mprotect
            | Madvise
            | Mlock
            | Munlock
            | Mlockall
            | Munlockall
            | Mseal
            | Mbind
            | UffdOpen
            | UffdRegister
            | UffdRegisterWp
            | UffdUnregister
    )
}

/// Returns the part of the kernel that a signature names. Operations that share kernel functions
/// share a name in the classes in which these functions are at fault. So one bug in a shared
/// function does not get a signature for each operation.
fn part(opcode: Opcode, class: Class) -> &'static str {
    use Opcode::{Copy, CopyVma, Mmap, Mremap, Munmap, Shmat, Shmdt};
    let shared = matches!(
        class,
        Class::Merge | Class::Aliasing | Class::Layout | Class::Offset | Class::AnonVma
    );
    match opcode {
        Copy | CopyVma | Mremap if shared => "copy_vma",
        Mmap | Munmap | Shmat | Shmdt if shared => "map",
        opcode if shared && changes_in_place(opcode) => "change",
        // A direct call of `copy_vma()` has the name of the system call that makes the same call.
        CopyVma => Copy.name(),
        opcode => opcode.name(),
    }
}

/// The class and the detail of a difference.
struct Finding {
    class: Class,
    detail: String,
    /// Says whether the operation belongs in the signature. Not set for an event, which names its
    /// kernel function.
    of_operation: bool,
}

fn finding(class: Class, detail: impl Into<String>) -> Option<Finding> {
    Some(Finding { class, detail: detail.into(), of_operation: true })
}

/// Returns the first difference in an order that puts causes before consequences.
fn find(op: &Op, left: &Observation, right: &Observation, history: Option<&Pages>) -> Finding {
    events(left, right, Event::is_fatal)
        .or_else(|| results(left, right))
        .or_else(|| events(left, right, |_| true))
        .or_else(|| layout(left, right))
        .or_else(|| pages(left, right))
        .or_else(|| merge(left, right))
        .or_else(|| anon_vmas(left, right))
        .or_else(|| {
            let detail = contents::difference(op.process(), left, right, history)?;
            finding(Class::Contents, detail)
        })
        .or_else(|| rmap_locks(left, right))
        .or_else(|| messages(left, right))
        .or_else(|| accounting(left, right))
        .or_else(|| {
            // The messages are the same but for the contexts, which VMAs showed before.
            let message = right.messages.first()?;
            finding(Class::Uffd, format!("other-context-{}", message.about.name()))
        })
        .unwrap_or(Finding {
            class: Class::Layout,
            // `Comparer` found a difference that no function above finds. This is a defect of this
            // file. It is reported and not hidden.
            detail: "unclassified".into(),
            of_operation: true,
        })
}

/// Returns the first event that differs and for which `wanted` holds. A fatal event comes before
/// the results, because it explains any result. An event that the kernel survives comes after the
/// results, because it may follow from a call that should have been refused.
fn events(left: &Observation, right: &Observation, wanted: fn(&Event) -> bool) -> Option<Finding> {
    let n = (0..left.events.len().max(right.events.len())).find(|&n| {
        let (l, r) = (left.events.get(n), right.events.get(n));
        l != r && l.into_iter().chain(r).any(wanted)
    })?;
    // An event of the left machine alone is a difference, too.
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
            (Class::Assertion, format!("{side}{function}/{condition}"))
        }
        Event::UnreachablePage { .. } => (Class::AnonVma, format!("{side}{UNREACHABLE}")),
        Event::Deadlock { function, lock } => (Class::Deadlock, format!("{side}{function}/{lock}")),
        Event::LockHeld { function, lock } => {
            (Class::Deadlock, format!("{side}{function}/{lock}-held"))
        }
        Event::Library(failure) => {
            (Class::Assertion, format!("{side}library/{}", failure.detail()))
        }
    };
    // The list of known divergences has a space after a signature, and `#` before a comment.
    let detail: String = detail.chars().filter(|c| !c.is_whitespace() && *c != '#').collect();
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

/// Returns the VMA that maps each page of an address space.
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

/// The flags with grave effects, the gravest first. If several flags differ, the first of them is
/// named.
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

/// Compares the attributes of pages that are mapped on both machines. Each attribute is compared
/// for all pages before the next attribute.
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
    // The arithmetic is modulo 2^64, as in the kernel.
    let offset = |page: u8, vma: &Vma| {
        vma.pgoff.0.wrapping_sub(vma.start.0.into()).wrapping_add(page.into())
    };
    // A merge decides about VM_SOFTDIRTY, and the other flags about the merge. So these come first.
    let but = |ignored: VmFlags| {
        each(&mut |_, l, r| {
            finding(Class::Flags, flag_difference(l.flags - ignored, r.flags - ignored)?)
        })
    };
    but(VmFlags::VM_SOFTDIRTY)
        .or_else(|| but(VmFlags::empty()))
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
    // All pages have the same attributes, so VMAs can differ only by their edges.
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
    for (l, r) in left.spaces.iter().zip(&right.spaces) {
        if l.zero_pages != r.zero_pages {
            let what = if r.zero_pages & !l.zero_pages != 0 { "kept" } else { "lost" };
            return finding(Class::AnonVma, format!("zero-pages-{what}"));
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

/// Returns the first message that differs. Contexts are compared up to renumbering.
fn messages(left: &Observation, right: &Observation) -> Option<Finding> {
    let mut known = Bijection::default();
    for n in 0..left.messages.len().max(right.messages.len()) {
        let (what, about) = match (left.messages.get(n), right.messages.get(n)) {
            (Some(l), Some(r)) => {
                let context = known.pairs(Some(l.ctx.index()), Some(r.ctx.index()));
                let child = |about: UffdEvent| about.child().map(UffdId::index);
                let same = l.about.is_like(r.about) && known.pairs(child(l.about), child(r.about));
                if context && same {
                    continue;
                }
                // A message that is missing shows the next one in its place.
                match left.messages.len().cmp(&right.messages.len()) {
                    Ordering::Less => ("more", r.about),
                    Ordering::Equal => ("other", r.about),
                    Ordering::Greater => ("missing", l.about),
                }
            }
            (Some(l), None) => ("missing", l.about),
            (None, Some(r)) => ("more", r.about),
            (None, None) => break,
        };
        return finding(Class::Uffd, format!("{what}-{}", about.name()));
    }
    None
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
    let shared = [
        ("committed", left.committed, right.committed),
        ("vm_ops-open", left.driver.opens.into(), right.driver.opens.into()),
        ("vm_ops-close", left.driver.closes.into(), right.driver.closes.into()),
        // A destroyed segment has nothing attached, and less than a segment with nothing attached.
        ("shm_nattch", left.attached.unwrap_or(-1), right.attached.unwrap_or(-1)),
    ];
    counters.chain(shared).find(|(_, l, r)| l != r).and_then(|(name, l, r)| {
        finding(Class::Accounting, format!("{name}-{}", if r > l { "high" } else { "low" }))
    })
}
