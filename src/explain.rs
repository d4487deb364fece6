//! Why: the sentence that says which point of the contract, or which condition of the merge rule,
//! fails, with the values that made it fail.
//!
//! It is worked out from what both machines showed before and after the operation, and says
//! nothing that cannot be read there. The points are those of the contract of a copy between
//! address spaces, in the reference's `contract.rs`.

mod merge;
mod refusal;

use vmadiff_machine::observation::{Event, Observation, PageSet};
use vmadiff_machine::operand::{ClearFlagsCtx, END_PAGES, MAX_PROCESSES, MremapFlags, Page};
use vmadiff_machine::{AddressSpace, Assertion, Limits, Object, Op, Opcode, VmFlags, Vma};

use crate::compare::Scope;
use crate::divergence::Class;
use crate::picture::{Painter, Range, Touched, pages_text, touched};
use crate::report::result_text;
use crate::run::Run;

/// A point of the contract, as it is cited.
fn point(number: u8) -> &'static str {
    match number {
        1 => {
            "point 1 of the contract: a copy has the source's file, offset, policy, pages and chain"
        }
        3 => "point 3 of the contract: a copy with flags cleared loses what the mask names",
        4 => "point 4 of the contract: a copy merges exactly where the original rule lets it",
        5 => "point 5 of the contract: whether the source was swallowed must not be read from it",
        6 => "point 6 of the contract: ranges that overlap are refused before anything is changed",
        7 => "point 7 of the contract: counters equal what a recount over the VMAs gives",
        8 => "point 8 of the contract: where copy_vma() says need_rmap_locks, they are taken",
        _ => "point 9 of the contract: every anonymous page stays reachable from its anon_vma",
    }
}

/// The flags that a copy loses with flags cleared.
const MASK: VmFlags = VmFlags::UFFD
    .union(VmFlags::LOCK)
    .union(VmFlags::VM_MERGEABLE)
    .union(VmFlags::VM_WIPEONFORK)
    .union(VmFlags::VM_DONTCOPY);

/// All that a sentence may be made of.
struct Case<'a> {
    op: &'a Op,
    limits: &'a Limits,
    names: (&'a str, &'a str),
    /// What the left machine showed before; the right one showed the same.
    before: &'a Observation,
    left: &'a Observation,
    right: &'a Observation,
    painter: Painter,
    touched: Vec<Touched>,
}

/// What is wrong after the last operation of a run, in a sentence; nothing where there is no
/// divergence.
pub fn why(run: &Run) -> Option<String> {
    let class = run.divergence.as_ref()?.class;
    let mut before = Default::default();
    let case = Case::of(run, &mut before)?;
    Some(match class {
        Class::Merge => case.merge(),
        Class::Flags => case.flags(),
        Class::Uffd => case.uffd(),
        Class::Aliasing => case.aliasing(),
        Class::Layout => case.layout(),
        Class::Offset => case.offset(),
        Class::AnonVma => case.anon_vma(),
        Class::RmapLocks => case.rmap_locks(),
        Class::Accounting => case.accounting(),
        Class::Errno => case.errno(),
        Class::Assertion => case.assertion(),
    })
}

/// What the merge rule says of the range that the last operation of a run copies or moves, and
/// each of its neighbours: the condition that keeps them apart, or that every one holds. Nothing
/// where it copies none.
pub fn merge_conditions(run: &Run) -> Vec<String> {
    let mut before = Default::default();
    Case::of(run, &mut before).map_or_else(Vec::new, |case| case.merge_conditions())
}

/// Pages of the VMAs whose flags are `wanted`.
fn recount(space: &AddressSpace, wanted: fn(VmFlags) -> bool) -> i64 {
    let vmas = space.vmas().iter().filter(|vma| wanted(vma.flags));
    vmas.map(|vma| i64::from(vma.end.0) - i64::from(vma.start.0)).sum()
}

fn is_locked(flags: VmFlags) -> bool {
    flags.contains(VmFlags::VM_LOCKED)
}

/// `is_data_mapping()`.
fn is_data(flags: VmFlags) -> bool {
    flags & (VmFlags::VM_WRITE | VmFlags::VM_SHARED) == VmFlags::VM_WRITE
}

fn is_charged(flags: VmFlags) -> bool {
    flags.contains(VmFlags::VM_ACCOUNT)
}

/// Names of flags, joined by `|`.
fn flag_names(flags: VmFlags) -> String {
    flags.iter_names().map(|(name, _)| name).collect::<Vec<_>>().join("|")
}

/// A list of ranges: `[1,2), [2,4) and [4,7)`.
fn list(ranges: &[Range]) -> String {
    let texts: Vec<String> = ranges.iter().map(Range::to_string).collect();
    match texts.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => texts.concat(),
    }
}

/// The page offset of a VMA's page, modulo 2^64 as the kernel adds.
fn pgoff_at(vma: &Vma, page: u8) -> vmadiff_machine::operand::PageOffset {
    let mut pgoff = vma.pgoff;
    pgoff.0 = pgoff.0.wrapping_add(page.into()).wrapping_sub(vma.start.0.into());
    pgoff
}

/// The VMAs that map one page in both machines, and where.
struct Both<'a> {
    process: usize,
    page: u8,
    left: (&'a AddressSpace, &'a Vma),
    right: (&'a AddressSpace, &'a Vma),
}

impl<'a> Case<'a> {
    /// The last operation of a run; none where there is none. `before` is where what was shown
    /// before it is kept.
    fn of(run: &'a Run, before: &'a mut Observation) -> Option<Case<'a>> {
        let (last, step) = (run.steps.len().checked_sub(1)?, run.steps.last()?);
        let mut painter = Painter::new(Scope::Models);
        for step in &run.steps {
            painter.picture(run.op(step), &step.left, &step.right);
        }
        *before = run.before(last).0;
        let op = run.op(step);
        Some(Case {
            op,
            limits: &run.program.limits,
            names: (&run.names.0, &run.names.1),
            before,
            left: &step.left,
            right: &step.right,
            painter,
            touched: touched(op, step.left.result),
        })
    }

    /// The first page of both machines for which `wrong` holds, and how far it goes on doing so.
    fn first(&self, wrong: impl Fn(&Both<'_>) -> bool) -> Option<(Both<'a>, Range)> {
        (0..MAX_PROCESSES).find_map(|process| {
            let (l, r) = (&self.left.spaces[process], &self.right.spaces[process]);
            let at = |page: u8| {
                let (lv, rv) = (l.vma_at(Page(page))?, r.vma_at(Page(page))?);
                let both = Both { process, page, left: (l, lv), right: (r, rv) };
                wrong(&both).then_some(both)
            };
            let start = (0..END_PAGES as u8).find(|&page| at(page).is_some())?;
            let end = (start..END_PAGES as u8).find(|&page| at(page).is_none());
            Some((at(start)?, Range { start, end: end.unwrap_or(END_PAGES as u8) }))
        })
    }

    fn role(&self, role: &str) -> Option<Touched> {
        self.touched.iter().copied().find(|t| t.role == role)
    }

    /// Whether a page of a process is in the range that the operation made.
    fn is_new(&self, process: usize, page: u8) -> bool {
        self.role("to").is_some_and(|to| to.process == process && to.range.contains(page))
    }

    fn is_copy(&self) -> bool {
        matches!(self.op.opcode(), Opcode::Copy | Opcode::CopyVma)
    }

    /// The flags and the context that the call says a copy loses.
    fn clears(&self) -> bool {
        match self.op {
            Op::Copy { .. } => true,
            Op::CopyVma { clear_flags_ctx, .. } => clear_flags_ctx.get() == ClearFlagsCtx::Clear,
            _ => false,
        }
    }

    /// What `mremap` and the copies unmap before they look for the source: in one address space
    /// that may cut it.
    fn unmapped_first(&self, process: usize) -> Vec<Range> {
        let mut ranges = Vec::new();
        if let Some(to) = self.role("to").filter(|to| to.process == process) {
            ranges.push(to.range);
        }
        if let Op::Mremap { page, old_len, new_len, flags, .. } = self.op
            && flags.get() == MremapFlags::MaymoveFixed
        {
            let range = |len| Range::new(page.get(), len);
            ranges.push(Range { start: range(new_len.get()).end, end: range(old_len.get()).end });
        }
        ranges
    }

    /// The source VMA of a copy or a move, as it is when `copy_vma()` is called.
    fn source(&self) -> Option<(Touched, &'a Vma, Range)> {
        let from = self.role("from")?;
        let space = &self.before.spaces[from.process];
        let vma = space.vma_at(Page(from.range.start))?;
        let mut left = Range::of(vma);
        for gone in self.unmapped_first(from.process) {
            if gone.is_empty() || !gone.overlaps(left) {
                continue;
            }
            if gone.start <= from.range.start {
                left.start = left.start.max(gone.end);
            } else {
                left.end = left.end.min(gone.start);
            }
        }
        Some((from, vma, left))
    }

    /// The VMAs on both sides of the new range as they are when `copy_vma()` is called: each with
    /// the part of it that was left.
    fn neighbours(&self) -> Option<[Option<(&'a Vma, Range)>; 2]> {
        let to = self.role("to")?;
        let space = &self.before.spaces[to.process];
        let gone = self.unmapped_first(to.process);
        let part = |page: Option<u8>, backwards: bool| {
            let page = page?;
            let vma = space.vma_at(Page(page))?;
            let is_gone = |page: u8| gone.iter().any(|gone| gone.contains(page));
            if is_gone(page) {
                return None;
            }
            let range = if backwards {
                let cut = (vma.start.0..page).rev().find(|&p| is_gone(p));
                Range { start: cut.map_or(vma.start.0, |cut| cut + 1), end: page + 1 }
            } else {
                let cut = (page..vma.end.0).find(|&p| is_gone(p));
                Range { start: page, end: cut.unwrap_or(vma.end.0) }
            };
            Some((vma, range))
        };
        Some([part(to.range.start.checked_sub(1), true), part(Some(to.range.end), false)])
    }

    /// VMAs of the space before, with the new range, that `space` shows as one.
    fn joined(&self, process: usize, space: &AddressSpace) -> Option<(Vec<Range>, Range)> {
        let before = &self.before.spaces[process];
        space.vmas().iter().find_map(|vma| {
            let whole = Range::of(vma);
            let mut parts: Vec<Range> = before
                .vmas()
                .iter()
                .map(Range::of)
                .map(|r| Range { start: r.start.max(whole.start), end: r.end.min(whole.end) })
                .filter(|part| !part.is_empty())
                .collect();
            if let Some(to) = self.role("to").filter(|to| to.process == process) {
                let to = to.range;
                parts = parts
                    .into_iter()
                    .flat_map(|p| {
                        [
                            Range { start: p.start, end: p.end.min(to.start) },
                            Range { start: p.start.max(to.end), end: p.end },
                        ]
                    })
                    .filter(|part| !part.is_empty())
                    .chain(whole.overlaps(to).then_some(to))
                    .collect();
            }
            parts.sort_by_key(|part| part.start);
            (parts.len() > 1).then_some((parts, whole))
        })
    }

    fn flags(&self) -> String {
        let differ = |both: &Both| both.left.1.flags != both.right.1.flags;
        let Some((both, range)) = self.first(differ) else { return self.nothing() };
        let (l, r) = (both.left.1.flags, both.right.1.flags);
        let (lost, kept) = (l - r, r - l);
        let mut text = format!("in {range} of process {}, {}", both.process, self.names.1);
        if !kept.is_empty() {
            text.push_str(&format!(" has {}, which {} has not", flag_names(kept), self.names.0));
        }
        if !lost.is_empty() {
            let and = if kept.is_empty() { "" } else { ";" };
            text.push_str(&format!("{and} lacks {} of {}", flag_names(lost), self.names.0));
        }
        text.push_str(&match self.op {
            Op::Copy { .. } | Op::CopyVma { .. } if self.is_new(both.process, range.start) => {
                let source = self.source().map_or_else(String::new, |(from, vma, _)| {
                    let has = flag_names(vma.flags & (lost | kept));
                    let has = if has.is_empty() { "has none of them".into() } else { format!("has {has}") };
                    format!(": the source {} of process {} {has}", Range::of(vma), from.process)
                });
                match (self.clears(), MASK.intersects(lost | kept)) {
                    (true, true) => format!("{source} ({})", point(3)),
                    (true, false) => format!("{source}, and the mask does not name it"),
                    (false, _) => format!("{source}, and clear_flags_ctx is false: none may change"),
                }
            }
            Op::Mremap { .. } => match self.source() {
                Some((_, vma, _)) => {
                    let has = vma.flags & (lost | kept);
                    let has = if has.is_empty() { "none of them".into() } else { flag_names(has) };
                    format!(": before, what is moved had {has}; only userfaultfd's flags end with a move")
                }
                None => String::new(),
            },
            Op::Fork { .. } => {
                ": no child has locked memory or is watched by userfaultfd; all other flags are the \
                 parent's"
                    .into()
            }
            _ => format!(" (after `{}`)", self.op),
        });
        text
    }

    fn uffd(&self) -> String {
        let Some((both, range)) =
            self.first(|both| both.left.1.uffd.is_some() != both.right.1.uffd.is_some())
        else {
            let of = |seen: &Observation| {
                let vmas = seen.spaces.iter().flat_map(|s| s.vmas());
                let mut all: Vec<_> = vmas.filter_map(|v| v.uffd).collect();
                all.sort_unstable();
                all.dedup();
                all.len()
            };
            let (l, r) = (of(self.left), of(self.right));
            return format!(
                "which VMAs share a userfaultfd context differs: {} has {l} contexts, {} has {r}",
                self.names.0, self.names.1
            );
        };
        let (with, without) = match both.right.1.uffd {
            Some(_) => (self.names.1, self.names.0),
            None => (self.names.0, self.names.1),
        };
        let reason = match self.op {
            Op::Fork { .. } => ": no child has a userfaultfd context without its event feature",
            Op::Copy { .. } | Op::CopyVma { .. } if self.clears() => {
                " (point 3 of the contract: a copy with flags cleared has no context)"
            }
            Op::Mremap { .. } => ": a moved range is not watched any more",
            _ => "",
        };
        format!(
            "in {range} of process {}, {with} has a userfaultfd context and {without} has none{reason}",
            both.process
        )
    }

    /// A use-after-free, of a source that a merge has swallowed or an overlap has unmapped.
    fn aliasing(&self) -> String {
        let freed = |seen: &Observation| {
            seen.events.iter().find_map(|event| match *event {
                Event::UseAfterFree { object, function, field } => Some((object, function, field)),
                _ => None,
            })
        };
        if let Some((object, function, field)) = freed(self.right).or_else(|| freed(self.left)) {
            return self.use_after_free(object, function, field);
        }
        let (Some(l), Some(r)) = (self.left.copy, self.right.copy) else {
            let ran = if self.left.copy.is_some() { self.names.0 } else { self.names.1 };
            return format!("copy_vma() ran in {ran} only");
        };
        let Some((from, vma, source)) = self.source() else { return self.nothing() };
        let Some(to) = self.role("to") else { return self.nothing() };
        let merged = self.merged_range(l.merged);
        let does = |redirected| if redirected { "redirects" } else { "does not redirect" };
        let inside = match merged {
            Some(merged) if from.process == to.process => {
                let is =
                    if merged.contains(source.start) { "starts inside" } else { "starts outside" };
                format!("the source VMA {source} {is} the merged VMA {merged} of the same process")
            }
            Some(merged) => format!(
                "the source VMA {} is of process {}, the merged VMA {merged} of process {}",
                Range::of(vma),
                from.process,
                to.process
            ),
            None => format!("the source VMA {source} of process {}", from.process),
        };
        format!(
            "{inside}: {} {} the source pointer, {} {} it (point 5 of the contract: exactly where \
             the merge swallowed it)",
            self.names.0,
            does(l.source_redirected),
            self.names.1,
            does(r.source_redirected)
        )
    }

    /// What the new range and its neighbours become where they merge, by the rule.
    fn merged_range(&self, merged: bool) -> Option<Range> {
        let to = self.role("to")?;
        if !merged {
            return None;
        }
        let (source, _, _) = self.source().map(|(from, vma, range)| (vma, range, from))?;
        let [prev, next] = self.neighbours()?;
        let (src, dst) = (self.role("from")?, &self.before.spaces[to.process]);
        let new = merge::New::copied(
            &self.before.spaces[src.process],
            source,
            (src.range, to.range),
            self.clears(),
        );
        let joins = |near: Option<(&'a Vma, Range)>| {
            near.filter(|(vma, range)| new.refused_by(dst, vma, *range, self).is_none())
        };
        let (prev, next) = (joins(prev), joins(next));
        let next = next.filter(|(next, _)| {
            prev.is_none_or(|(prev, _)| {
                prev.anon_vma.is_none()
                    || next.anon_vma.is_none()
                    || prev.anon_vma == next.anon_vma && dst.chain(prev) == dst.chain(next)
            })
        });
        if prev.is_none() && next.is_none() {
            return None;
        }
        Some(Range {
            start: prev.map_or(to.range.start, |(_, range)| range.start),
            end: next.map_or(to.range.end, |(_, range)| range.end),
        })
    }

    fn use_after_free(&self, object: Object, function: &str, field: &str) -> String {
        let kind = match object {
            Object::Vma => "VMA",
            Object::AnonVma => "anon_vma",
            Object::Mm => "mm",
        };
        let reads = format!("{function}() reads its {field} after that");
        if let (Some((from, vma, source)), Some(to)) = (self.source(), self.role("to")) {
            let (src, dst) = (from.range, to.range);
            if self.is_copy() && from.process == to.process && src.overlaps(dst) {
                let whole = Range::of(vma);
                let how = if whole.start >= dst.start && whole.end <= dst.end {
                    format!("the source VMA {whole}, in it, is freed")
                } else {
                    format!("the source VMA {whole} is cut")
                };
                return format!(
                    "source {src} and destination {dst} overlap in process {}: the destination is \
                     unmapped first, and {how}; {reads} ({})",
                    to.process,
                    point(6)
                );
            }
            if let Some([Some((_, prev)), Some((_, next))]) = self.neighbours()
                && from.process == to.process
                && object == Object::Vma
                && next == source
            {
                let whole = Range { start: prev.start, end: next.end };
                let point = match function {
                    "copy_vma" => point(5),
                    _ => {
                        "point 5 of the contract: the source pointer is redirected to what has \
                          swallowed the source"
                    }
                };
                return format!(
                    "{prev}, the new range {dst} and the source VMA {source} became one VMA, \
                     {whole}, and the source was freed by that merge; {reads} ({point})"
                );
            }
        }
        let merged = (0..MAX_PROCESSES).find_map(|process| {
            let (parts, whole) = self.joined(process, &self.left.spaces[process])?;
            Some(format!(
                ": in {}, {} of process {process} become {whole}",
                self.names.0,
                list(&parts)
            ))
        });
        format!(
            "`{}` makes {function}() read {field} of a {kind} that has been freed{}",
            self.op,
            merged.unwrap_or_default()
        )
    }

    fn layout(&self) -> String {
        if self.left.result != self.right.result {
            return format!(
                "`{}` answers {} in {} and {} in {}",
                self.op,
                result_text(self.left.result),
                self.names.0,
                result_text(self.right.result),
                self.names.1
            );
        }
        for process in 0..MAX_PROCESSES {
            let (l, r) = (&self.left.spaces[process], &self.right.spaces[process]);
            if l.alive != r.alive {
                let there = if l.alive { self.names.0 } else { self.names.1 };
                return format!("process {process} is there in {there} only");
            }
            let mapped = |space: &AddressSpace| {
                space.vmas().iter().fold(0u128, |set, vma| {
                    (vma.start.0..vma.end.0).fold(set, |set, page| set | 1 << page)
                })
            };
            let (lm, rm) = (mapped(l), mapped(r));
            if lm != rm {
                let (only, there, other) = if lm & !rm != 0 {
                    (lm & !rm, self.names.0, self.names.1)
                } else {
                    (rm & !lm, self.names.1, self.names.0)
                };
                let to = self.role("to").or_else(|| self.role("on"));
                let asked = to.filter(|to| to.process == process).map_or_else(String::new, |to| {
                    format!("; the operation is about {}", to.range)
                });
                return format!(
                    "pages {} of process {process} are mapped in {there} and not in {other}{asked}",
                    pages_text(only)
                );
            }
            let overlap = |space: &AddressSpace| {
                let pair = space.vmas().windows(2).find(|v| v[0].end > v[1].start)?;
                Some((Range::of(&pair[0]), Range::of(&pair[1])))
            };
            match (overlap(l), overlap(r)) {
                (None, Some((a, b))) => {
                    return format!(
                        "in {}, VMAs {a} and {b} of process {process} overlap",
                        self.names.1
                    );
                }
                (Some((a, b)), None) => {
                    return format!(
                        "in {}, VMAs {a} and {b} of process {process} overlap",
                        self.names.0
                    );
                }
                _ => {}
            }
        }
        let policies = self.first(|b| b.left.1.policy != b.right.1.policy);
        let files = self.first(|b| b.left.1.file.is_some() != b.right.1.file.is_some());
        let ops = self.first(|b| b.left.1.close != b.right.1.close);
        let copied = |process, range: Range| {
            if self.is_new(process, range.start) && self.source().is_some() {
                format!(" ({})", point(1))
            } else {
                String::new()
            }
        };
        if let Some((both, range)) = files {
            let (with, without) =
                if both.left.1.file.is_some() { self.names } else { (self.names.1, self.names.0) };
            return format!(
                "{range} of process {} is of a file in {with} and of none in {without}{}",
                both.process,
                copied(both.process, range)
            );
        }
        if let Some((both, range)) = policies {
            return format!(
                "the policy of {range} of process {} is {} in {} and {} in {}{}",
                both.process,
                both.left.1.policy.name(),
                self.names.0,
                both.right.1.policy.name(),
                self.names.1,
                copied(both.process, range)
            );
        }
        if let Some((both, range)) = ops {
            return format!("vm_ops of {range} of process {} differ", both.process);
        }
        format!("which VMAs are of the same file differs after `{}`", self.op)
    }

    fn offset(&self) -> String {
        let at = |vma: &Vma, page| pgoff_at(vma, page);
        let differ = |b: &Both| at(b.left.1, b.page) != at(b.right.1, b.page);
        let Some((both, range)) = self.first(differ) else { return self.nothing() };
        let (l, r) = (at(both.left.1, range.start), at(both.right.1, range.start));
        let shown = |p: vmadiff_machine::operand::PageOffset| {
            let text = p.to_string();
            if text.starts_with('@') { text } else { format!("@{text}") }
        };
        let rule = match (self.source(), self.role("to")) {
            (Some((from, vma, _)), Some(to)) if self.is_new(both.process, range.start) => {
                let distance = range.start - to.range.start;
                let page = from.range.start + distance;
                if vma.anon_vma.is_none() && vma.file.is_none() {
                    format!(
                        ": the source {} was never faulted, so the copy takes the offset of its new \
                         address",
                        Range::of(vma)
                    )
                } else {
                    let what = if vma.file.is_some() { "of a file" } else { "faulted" };
                    format!(
                        ": it is a copy of page {page} of process {}, {what}, which is at {}",
                        from.process,
                        shown(at(vma, page))
                    )
                }
            }
            _ => match self.before.spaces[both.process].vma_at(Page(range.start)) {
                Some(vma) => {
                    format!(": before the operation it was {}", shown(at(vma, range.start)))
                }
                None => String::new(),
            },
        };
        format!(
            "page {} of process {} is at vm_pgoff {} in {} and {} in {}{rule}",
            range.start,
            both.process,
            shown(l),
            self.names.0,
            shown(r),
            self.names.1
        )
    }

    fn anon_vma(&self) -> String {
        let lost = |seen: &Observation| {
            seen.events.iter().find_map(|event| match *event {
                Event::UnreachablePage { process, page } => Some((usize::from(process.0), page)),
                _ => None,
            })
        };
        if let Some((process, page)) = lost(self.right) {
            return self.unreachable(process, page, self.right, self.names.1);
        }
        if let Some((process, page)) = lost(self.left) {
            return self.unreachable(process, page, self.left, self.names.0);
        }
        let text = |space: &AddressSpace, vma: &Vma, is_left| {
            self.painter.anon_vma_text(space, vma, is_left)
        };
        let differ = |b: &Both| text(b.left.0, b.left.1, true) != text(b.right.0, b.right.1, false);
        if let Some((both, range)) = self.first(differ) {
            let (l, r) =
                (text(both.left.0, both.left.1, true), text(both.right.0, both.right.1, false));
            let rule = match (self.source(), self.op) {
                (Some((from, vma, _)), _) if self.is_new(both.process, range.start) => {
                    let space = &self.before.spaces[from.process];
                    let was = text(space, vma, true);
                    format!(
                        ": the source {} of process {} hangs on {was}, and the copy has to hang on \
                         all of it, as after a move",
                        Range::of(vma),
                        from.process
                    )
                }
                (_, Op::Fork { process }) => {
                    let space = &self.before.spaces[usize::from(process.get().0)];
                    match space.vma_at(Page(range.start)) {
                        Some(vma) if vma.flags.contains(VmFlags::VM_WIPEONFORK) => {
                            ": the parent's has VM_WIPEONFORK, so the child's hangs on none of the \
                             parent's, and has an anon_vma at once"
                                .into()
                        }
                        Some(vma) if vma.anon_vma.is_some() => format!(
                            ": the parent's hangs on {}; the child's hangs on all of that and on \
                             one of its own, new or taken up again",
                            text(space, vma, true)
                        ),
                        _ => String::new(),
                    }
                }
                _ => String::new(),
            };
            return format!(
                "{range} of process {}: anon_vma and chain (newest first) are {l} in {} and {r} in \
                 {}{rule}",
                both.process, self.names.0, self.names.1
            );
        }
        for process in 0..MAX_PROCESSES {
            let pages = |seen: &Observation| -> PageSet { seen.spaces[process].anon_pages };
            let (l, r) = (pages(self.left), pages(self.right));
            if l != r {
                let (only, there, other) = if l & !r != 0 {
                    (l & !r, self.names.0, self.names.1)
                } else {
                    (r & !l, self.names.1, self.names.0)
                };
                return format!(
                    "anonymous pages {} of process {process} are mapped in {there} and not in {other}",
                    pages_text(only)
                );
            }
        }
        format!("which VMAs share an anon_vma differs after `{}`", self.op)
    }

    fn unreachable(&self, process: usize, page: Page, seen: &Observation, name: &str) -> String {
        let is_left = std::ptr::eq(seen, self.left);
        let space = &seen.spaces[process];
        let mapped = space.vma_at(page).map(|vma| {
            format!(
                "page {page} of process {process} is mapped by {}, which hangs on {}",
                Range::of(vma),
                self.painter.anon_vma_text(space, vma, is_left)
            )
        });
        let mapped = mapped.unwrap_or_else(|| format!("page {page} of process {process}"));
        let source = match (self.source(), space.vma_at(page)) {
            (Some((from, source, _)), Some(vma)) if self.is_new(process, page.0) => {
                let of = &self.before.spaces[from.process];
                let here = self.painter.chain_letters(space, vma, is_left);
                let missing: Vec<String> = self
                    .painter
                    .chain_letters(of, source, true)
                    .into_iter()
                    .filter(|letter| !here.contains(letter))
                    .collect();
                let what = match missing.is_empty() {
                    true => {
                        "the chain lacks nothing, so it is the page itself, or its index, that is \
                             wrong"
                            .to_owned()
                    }
                    false => format!("{} is missing", missing.join(", ")),
                };
                format!(
                    "; it was copied from {} of process {}, which hangs on {}: {what}",
                    Range::of(source),
                    from.process,
                    self.painter.anon_vma_text(of, source, true)
                )
            }
            _ => String::new(),
        };
        format!(
            "in {name}, {mapped}{source}; a reverse-map walk from the page's anon_vma does not \
             find it there ({})",
            point(9)
        )
    }

    fn rmap_locks(&self) -> String {
        let (Some(l), Some(r)) = (self.left.copy, self.right.copy) else { return self.nothing() };
        let values = match (self.source(), self.merged_range(l.merged)) {
            (Some((from, vma, source)), Some(merged)) => {
                let shown = |range: Range, of: &Vma| {
                    let text = pgoff_at(of, range.start).to_string();
                    if text.starts_with('@') { text } else { format!("@{text}") }
                };
                if l.source_redirected {
                    Some(format!(
                        "the source was redirected to the merged VMA {merged}, so both vm_pgoff are \
                         the same one"
                    ))
                } else {
                    // The merged VMA's offsets are those of its first part.
                    let to = self.role("to").map(|to| to.range);
                    let [prev, _] = self.neighbours().unwrap_or([None, None]);
                    let first = match prev {
                        Some((prev, range)) if range.start == merged.start => shown(merged, prev),
                        _ => {
                            let never = vma.anon_vma.is_none() && vma.file.is_none();
                            match to {
                                Some(to) if never => format!("@{}", to.start),
                                _ => shown(from.range, vma),
                            }
                        }
                    };
                    let of = shown(source, vma);
                    let not = if l.need_rmap_locks { "" } else { "not " };
                    Some(format!(
                        "the merged VMA {merged} has vm_pgoff {first}, {not}at or below the source's \
                         {of}"
                    ))
                }
            }
            _ if !l.merged => Some("the copy is a duplicate, which comes after its source".into()),
            _ => None,
        };
        let values = values.map_or_else(String::new, |values| format!("{values}: "));
        let is = |need| if need { "true" } else { "false" };
        if l.need_rmap_locks == r.need_rmap_locks {
            return format!(
                "{values}need_rmap_locks is {} in both, and {} does not take the locks while it \
                 copies the pages: a reverse-map walk may miss them ({})",
                is(l.need_rmap_locks),
                if r.honoured { self.names.0 } else { self.names.1 },
                point(8)
            );
        }
        format!(
            "{values}need_rmap_locks is {} in {} and {} in {}",
            is(l.need_rmap_locks),
            self.names.0,
            is(r.need_rmap_locks),
            self.names.1
        )
    }

    fn accounting(&self) -> String {
        let says = |what: &str, l: i64, r: i64, counted: i64| {
            let wrong = if counted == l { self.names.1 } else { self.names.0 };
            format!(
                "{what}: a recount over the VMAs gives {counted}; {} says {l}, {} says {r}, so {wrong} \
                 is off by {} ({})",
                self.names.0,
                self.names.1,
                if counted == l { r - l } else { l - counted },
                point(7)
            )
        };
        for process in 0..MAX_PROCESSES {
            let (ls, rs) = (&self.left.spaces[process], &self.right.spaces[process]);
            let (l, r) = (&ls.counters, &rs.counters);
            let count = |name| format!("{name} of process {process}");
            if l.locked_vm != r.locked_vm {
                return says(&count("locked_vm"), l.locked_vm, r.locked_vm, recount(rs, is_locked));
            }
            if l.total_vm != r.total_vm {
                return says(&count("total_vm"), l.total_vm, r.total_vm, recount(rs, |_| true));
            }
            if l.data_vm != r.data_vm {
                return says(&count("data_vm"), l.data_vm, r.data_vm, recount(rs, is_data));
            }
            if l.map_count != r.map_count {
                let counted = rs.vmas().len() as i64;
                return says(&count("map_count"), l.map_count, r.map_count, counted);
            }
        }
        let counted = self.right.spaces.iter().map(|space| recount(space, is_charged)).sum();
        says("committed memory", self.left.committed, self.right.committed, counted)
    }

    fn assertion(&self) -> String {
        // One that the kernel does not survive names the divergence.
        let failed = |seen: &Observation| {
            let fatal = seen.events.iter().filter(|event| event.is_fatal());
            fatal.chain(&seen.events).find_map(|event| match *event {
                Event::Assertion { assertion, function, condition } => {
                    Some((assertion, function, condition))
                }
                _ => None,
            })
        };
        let (found, name) = match failed(self.right) {
            Some(found) => (Some(found), self.names.1),
            None => (failed(self.left), self.names.0),
        };
        let Some((assertion, function, condition)) = found else { return self.nothing() };
        let facts = match (function, condition, self.source()) {
            ("copy_vma", "faulted_in_anon_vma", Some((from, vma, source))) => {
                let space = &self.before.spaces[from.process];
                let is = if vma.file.is_some() {
                    "is of a file".into()
                } else if vma.anon_vma.is_some() {
                    format!("hangs on {}", self.painter.anon_vma_text(space, vma, true))
                } else {
                    "was never faulted".into()
                };
                let mut text = format!(
                    ": a source that is swallowed by the merge must be anonymous and never faulted, \
                     and {source} of process {} {is}",
                    from.process
                );
                if let Some(to) = self.role("to")
                    && from.process == to.process
                    && from.range.overlaps(to.range)
                {
                    text.push_str(&format!(
                        "; source {} and destination {} overlap ({})",
                        from.range,
                        to.range,
                        point(6)
                    ));
                }
                text
            }
            _ => (0..MAX_PROCESSES)
                .find_map(|process| {
                    let (parts, whole) = self.joined(process, &self.right.spaces[process])?;
                    let parts = list(&parts);
                    Some(format!(": {parts} of process {process} were joined to {whole}"))
                })
                .unwrap_or_default(),
        };
        let assertion = match assertion {
            Assertion::BugOn => "VM_BUG_ON",
            Assertion::WarnOn => "VM_WARN_ON",
        };
        format!(
            "`{}` makes {assertion}({condition}) fire in {function}() of {name}{facts}",
            self.op
        )
    }

    /// For what has no values to show.
    fn nothing(&self) -> String {
        format!("{} and {} show different things after `{}`", self.names.0, self.names.1, self.op)
    }
}

#[cfg(test)]
mod tests {
    use vmadiff_candidate::{Candidate, Revision};
    use vmadiff_machine::Machine as _;
    use vmadiff_reference::Reference;

    use super::*;
    use crate::lockstep::Lockstep;
    use crate::random::Walk;

    /// Calls `check` with random programs, each up to one of its copies or moves, on which the
    /// reference and the candidate at a revision agree or, at the end, do not.
    fn copies(revision: Revision, programs: usize, mut check: impl FnMut(&Run, &Case<'_>)) {
        let mut lockstep = Lockstep::new(Reference::new(), Candidate::new(revision));
        let mut walk = Walk::new(7);
        for _ in 0..programs {
            let whole = Run::of(&mut lockstep, walk.step());
            for n in 0..whole.steps.len() {
                let moves = whole.steps[n].left.copy.is_some();
                if !moves {
                    continue;
                }
                let last = n + 1 == whole.steps.len();
                let run = Run {
                    steps: whole.steps[..=n].to_vec(),
                    divergence: whole.divergence.clone().filter(|_| last),
                    program: whole.program.clone(),
                    names: whole.names.clone(),
                };
                let mut before = Observation::default();
                let case = Case::of(&run, &mut before).expect("a step");
                check(&run, &case);
            }
        }
    }

    #[test]
    fn the_conditions_and_the_merged_range_are_those_of_the_reference() {
        let (mut merged, mut apart) = (0, 0);
        copies(Revision::Fixed, 6000, |run, case| {
            let copy = case.left.copy.expect("a copy");
            let conditions = case.merge_conditions();
            let holds = conditions.iter().any(|c| c.ends_with("every condition holds"));
            assert_eq!(copy.merged, holds, "{}\n{conditions:?}\n{}", case.op, run.program);
            if copy.merged {
                merged += 1
            } else {
                apart += 1
            }
            // A copy leaves the merged VMA as it is; a move may cut the source from it.
            let to = case.role("to").expect("a destination");
            if case.is_copy() && copy.merged {
                let there = case.left.spaces[to.process].vma_at(Page(to.range.start));
                assert_eq!(
                    case.merged_range(true),
                    there.map(Range::of),
                    "{}\n{}",
                    case.op,
                    run.program
                );
            }
        });
        assert!(merged > 100 && apart > 100, "{merged} merged, {apart} did not");
    }

    #[test]
    fn need_rmap_locks_is_what_the_values_say() {
        let (mut needed, mut compared) = ([0, 0], 0);
        copies(Revision::Fixed, 6000, |run, case| {
            let copy = case.left.copy.expect("a copy");
            let text = case.rmap_locks();
            needed[usize::from(copy.need_rmap_locks)] += 1;
            if copy.merged && !copy.source_redirected {
                let below = text.contains(", at or below");
                assert_eq!(below, copy.need_rmap_locks, "{text}\n{}\n{}", case.op, run.program);
                let pgoffs: Vec<u64> = text
                    .split([' ', ',', ':'])
                    .filter_map(|word| word.strip_prefix('@')?.parse().ok())
                    .collect();
                if let [first, source] = pgoffs[..] {
                    compared += 1;
                    assert_eq!(first <= source, copy.need_rmap_locks, "{text}\n{}", run.program);
                }
            }
        });
        assert!(needed.iter().all(|n| *n > 50) && compared > 10, "{needed:?} {compared}");
    }

    #[test]
    fn every_freed_source_of_v2_is_traced_to_the_merge_or_the_overlap() {
        let mut merges = 0;
        let mut lockstep = Lockstep::new(Reference::new(), Candidate::new(Revision::V2));
        let mut walk = Walk::new(11);
        for _ in 0..20_000 {
            let run = Run::of(&mut lockstep, walk.step());
            let Some(divergence) = &run.divergence else { continue };
            if !divergence.signature.as_str().starts_with("aliasing/use-after-free/") {
                continue;
            }
            let why = why(&run).expect("a reason");
            let merge = why.contains("was freed by that merge");
            assert!(merge || why.contains("overlap in process"), "{why}\n{}", run.program);
            merges += usize::from(merge);
        }
        assert!(merges > 10, "{merges}");
    }

    #[test]
    fn a_recount_agrees_with_the_reference() {
        let mut machine = Reference::new();
        let mut walk = Walk::new(3);
        for _ in 0..2000 {
            let program = walk.step();
            machine.reset(&program.limits);
            let mut seen = Observation::default();
            for op in &program.ops {
                machine.step(op, &mut seen);
            }
            for space in &seen.spaces {
                assert_eq!(recount(space, |_| true), space.counters.total_vm);
                assert_eq!(recount(space, is_locked), space.counters.locked_vm);
                assert_eq!(recount(space, is_data), space.counters.data_vm);
            }
            let committed: i64 = seen.spaces.iter().map(|s| recount(s, is_charged)).sum();
            assert_eq!(committed, seen.committed);
        }
    }
}
