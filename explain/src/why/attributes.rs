//! What pages are mapped, and what is said of each: layout, flags, contexts, offsets.

use vmadiff_machine::observation::Observation;
use vmadiff_machine::operand::{MAX_PROCESSES, Page};
use vmadiff_machine::{AddressSpace, Op, Vma};

use super::{Both, Case, MASK, flag_names, pgoff_at, point};
use crate::picture::{Range, pages_text};
use crate::results::result_text;

impl Case<'_> {
    pub(super) fn flags(&self) -> String {
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

    pub(super) fn uffd(&self) -> String {
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

    pub(super) fn layout(&self) -> String {
        if self.left.result != self.right.result {
            let hint = match self.op {
                Op::Copy { process, dst_page, len, flags, .. } if flags.get().is_empty() => {
                    let asked = Range::new(dst_page.get(), len.get());
                    let process = usize::from(process.get().0);
                    let space = &self.before.spaces[process];
                    let mut vmas = space.vmas().iter().map(Range::of);
                    match vmas.find(|vma| vma.overlaps(asked)) {
                        Some(vma) => format!(
                            ": the hint {asked} is not free, {vma} of process {process} is mapped, so \
                             the copy goes to the highest hole that is long enough"
                        ),
                        None => format!(": the hint {asked} is free, so it is taken"),
                    }
                }
                _ => String::new(),
            };
            return format!(
                "`{}` answers {} in {} and {} in {}{hint}",
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

    pub(super) fn offset(&self) -> String {
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
}
