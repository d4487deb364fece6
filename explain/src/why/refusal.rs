//! Why a call is refused: the condition behind an errno, with the values that made it hold.

use vmadiff_machine::operand::{
    Access, Advice, CopyFlags, Ctx, END_PAGES, Kind, MmapFlags, MremapFlags, Page, Prot,
};
use vmadiff_machine::{AddressSpace, Errno, Op, VmFlags, Vma};

use super::{Case, flag_names, point};
use crate::picture::Range;
use crate::results::result_text;

/// The first page of a range that nothing maps.
fn hole(space: &AddressSpace, range: Range) -> Option<u8> {
    (range.start..range.end).find(|&page| space.vma_at(Page(page)).is_none())
}

/// The VMAs of a range for which `wanted` holds.
fn vmas(
    space: &AddressSpace,
    range: Range,
    wanted: impl Fn(&Vma) -> bool,
) -> impl Iterator<Item = Range> {
    let vmas = space.vmas().iter().filter(move |vma| Range::of(vma).overlaps(range) && wanted(vma));
    vmas.map(Range::of)
}

/// The pages of the longest range that nothing maps.
fn longest_hole(space: &AddressSpace) -> u8 {
    let (mut longest, mut end) = (0, 0);
    for vma in space.vmas() {
        longest = vma.start.0.saturating_sub(end).max(longest);
        end = vma.end.0;
    }
    (END_PAGES as u8).saturating_sub(end).max(longest)
}

fn prot_flags(prot: Prot) -> VmFlags {
    VmFlags::from_bits_truncate(prot.bits().into())
}

impl Case<'_> {
    /// What the two answer, and why the one that is taken to be right does.
    pub(super) fn errno(&self) -> String {
        let (l, r) = (self.left.result, self.right.result);
        let answers = format!(
            "`{}` answers {} in {} and {} in {}",
            self.op,
            result_text(l),
            self.names.0,
            result_text(r),
            self.names.1
        );
        let wrong =
            |errno: Errno| self.reason(errno).map(|reason| format!("{}: {reason}", errno.name()));
        match (l, r) {
            (Err(l), Err(r)) => match (wrong(l), wrong(r)) {
                (Some(l), Some(r)) => {
                    format!("{answers}. Both are so, and the first is looked for first: {l}; {r}")
                }
                (Some(l), None) => format!("{answers}. {l}; nothing speaks for {}", r.name()),
                _ => answers,
            },
            (Err(l), Ok(_)) => match wrong(l) {
                Some(reason) => format!("{answers}. {reason}"),
                None => answers,
            },
            (Ok(_), Err(r)) => match self.reason(r) {
                Some(reason) => format!(
                    "{answers}. {} would be for this: {reason}; but {} permits it",
                    r.name(),
                    self.names.0
                ),
                None => format!("{answers}. {}", self.against(r)),
            },
            (Ok(_), Ok(_)) => answers,
        }
    }

    /// The values that do not give a reason for an errno.
    fn against(&self, errno: Errno) -> String {
        let touched: Vec<String> = self
            .touched
            .iter()
            .map(|t| {
                let space = &self.before.spaces[t.process];
                let mapped: Vec<Range> = vmas(space, t.range, |_| true).collect();
                let mapped = match mapped.is_empty() {
                    true => "not mapped".into(),
                    false => format!("mapped by {}", super::list(&mapped)),
                };
                format!("{} {} of process {} is {mapped}", t.role, t.range, t.process)
            })
            .collect();
        let limits = match (errno, self.limits.to_string()) {
            (Errno::ENOMEM | Errno::EAGAIN | Errno::EPERM, limits) if limits.is_empty() => {
                ", and there are no limits".into()
            }
            (Errno::ENOMEM | Errno::EAGAIN | Errno::EPERM, limits) => {
                let process = self.touched.last().map_or(0, |t| t.process);
                let c = &self.before.spaces[process].counters;
                format!(
                    ", under {limits}, with {} VMAs, {} pages, {} locked in process {process}",
                    c.map_count, c.total_vm, c.locked_vm
                )
            }
            _ => String::new(),
        };
        format!("Nothing speaks for {}: {}{limits}", errno.name(), touched.join(", "))
    }

    /// The condition for which the operation may answer `errno`, where it holds.
    pub(super) fn reason(&self, errno: Errno) -> Option<String> {
        match errno {
            Errno::ESRCH => self.nobody(),
            Errno::EINVAL => self.invalid(),
            Errno::EFAULT => self.bad_range(),
            Errno::EEXIST => {
                let noreplace = match self.op {
                    Op::Mmap { flags, .. } => flags.get().contains(MmapFlags::FIXED_NOREPLACE),
                    Op::Copy { flags, .. } => flags.get().contains(CopyFlags::FIXED_NOREPLACE),
                    _ => false,
                };
                let to = self.role("to").filter(|_| noreplace)?;
                let there = vmas(&self.before.spaces[to.process], to.range, |_| true).next()?;
                Some(format!(
                    "{there} of process {} is mapped, and may not be replaced",
                    to.process
                ))
            }
            Errno::ENOTSUPP => {
                let (from, vma, _) = self.source()?;
                vma.uffd?;
                Some(format!(
                    "the source {} of process {} has a userfaultfd context",
                    Range::of(vma),
                    from.process
                ))
            }
            Errno::EACCES => self.not_permitted(),
            Errno::EPERM => self.may_not(),
            Errno::EBUSY => self.busy(),
            Errno::ENOMEM => self.hole_reason().or_else(|| self.limit()),
            Errno::EAGAIN => self
                .lock_limit()
                .or_else(|| self.too_many_processes())
                .or_else(|| self.would_block()),
            // Which contexts were opened is not shown, but the reference knows.
            Errno::EBADF => match self.op {
                Op::UffdUnregister { process, ctx, .. } if self.left.result == Err(errno) => Some(
                    format!("process {} has never opened its context {}", process.get(), ctx.get()),
                ),
                _ => None,
            },
            _ => None,
        }
    }

    fn nobody(&self) -> Option<String> {
        let gone = |process: usize| !self.before.spaces[process].alive;
        let caller = usize::from(self.op.process().0);
        let process = std::iter::once(caller)
            .chain(self.touched.iter().map(|t| t.process))
            .find(|&process| gone(process))?;
        Some(format!("there is no process {process}"))
    }

    fn overlap(&self) -> Option<(Range, Range, usize)> {
        let (from, to) = (self.role("from")?, self.role("to")?);
        let overlap = from.process == to.process && from.range.overlaps(to.range);
        overlap.then_some((from.range, to.range, from.process))
    }

    fn invalid(&self) -> Option<String> {
        let moves = match self.op {
            Op::Mremap { flags, .. } => flags.get() == MremapFlags::MaymoveFixed,
            _ => true,
        };
        if let Some((from, to, process)) = self.overlap().filter(|_| moves) {
            let cite = if self.is_copy() { format!(" ({})", point(6)) } else { String::new() };
            return Some(format!(
                "source {from} and destination {to} overlap in process {process}{cite}"
            ));
        }
        let on = self.touched.last()?;
        if on.range.is_empty() {
            return Some("the range has no pages".into());
        }
        let space = &self.before.spaces[on.process];
        match self.op {
            Op::Madvise { advice, .. } => {
                let of_file = |vma: &Vma| vma.file.is_some();
                let first = |found: Option<Range>, what: &str| {
                    found.map(|range| format!("{range} of process {} {what}", on.process))
                };
                match advice.get() {
                    Advice::Hugepage | Advice::Nohugepage => {
                        Some("the kernel has no transparent huge pages".into())
                    }
                    Advice::Wipeonfork => {
                        first(vmas(space, on.range, of_file).next(), "is of a file")
                    }
                    Advice::Dontneed | Advice::Free => first(
                        vmas(space, on.range, |vma| {
                            vma.flags.intersects(VmFlags::VM_LOCKED | VmFlags::VM_PFNMAP)
                        })
                        .next(),
                        "is locked, or of a device",
                    )
                    .or_else(|| {
                        (advice.get() == Advice::Free)
                            .then(|| first(vmas(space, on.range, of_file).next(), "is of a file"))?
                    }),
                    _ => first(
                        vmas(space, on.range, |vma| vma.flags.intersects(VmFlags::VM_SPECIAL))
                            .next(),
                        "is special",
                    ),
                }
            }
            Op::UffdRegister { .. } | Op::UffdUnregister { .. } => {
                if vmas(space, on.range, |_| true).next().is_none() {
                    return Some(format!("nothing is mapped in {}", on.range));
                }
                let device = vmas(space, on.range, |vma| vma.close).next()?;
                Some(format!("{device} is of the device"))
            }
            Op::Mremap { .. } => {
                let (_, vma, _) = self.source()?;
                let from = self.role("from")?;
                let duplicate = from.range.is_empty() && !vma.flags.contains(VmFlags::VM_MAYSHARE);
                duplicate.then(|| {
                    format!("{} is private, so no pages of it cannot be duplicated", Range::of(vma))
                })
            }
            _ => None,
        }
    }

    fn bad_range(&self) -> Option<String> {
        let from = self.role("from").or_else(|| self.role("on"))?;
        let space = &self.before.spaces[from.process];
        let at = |page| format!("page {page} of process {} is not mapped", from.process);
        if let Op::Touch { access, .. } = self.op {
            let Some(vma) = space.vma_at(Page(from.range.start)) else {
                return Some(at(from.range.start));
            };
            let wanted = match access.get() {
                Access::Read => VmFlags::VM_READ,
                Access::Write => VmFlags::VM_WRITE,
            };
            return (!vma.flags.contains(wanted))
                .then(|| format!("{} has no {}", Range::of(vma), flag_names(wanted)));
        }
        // Even of no pages the first is looked for.
        if space.vma_at(Page(from.range.start)).is_none() {
            return Some(at(from.range.start));
        }
        if let Some(page) = hole(space, from.range) {
            return Some(at(page));
        }
        self.role("from")?;
        let (_, vma, _) = self.source()?;
        let whole = Range::of(vma);
        if from.range.end > whole.end {
            return Some(format!("{} is of more than one VMA: {whole} ends before it", from.range));
        }
        let special = vma.flags & (VmFlags::VM_SPECIAL | VmFlags::VM_HUGETLB);
        (!special.is_empty()).then(|| format!("the source {whole} has {}", flag_names(special)))
    }

    fn not_permitted(&self) -> Option<String> {
        match self.op {
            Op::Mprotect { prot, .. } => {
                let on = self.role("on")?;
                let wanted = prot_flags(prot.get());
                let may = |vma: &Vma| VmFlags::from_bits_truncate(vma.flags.bits() >> 4);
                let space = &self.before.spaces[on.process];
                let lacks = space
                    .vmas()
                    .iter()
                    .find(|vma| Range::of(vma).overlaps(on.range) && !may(vma).contains(wanted))?;
                let missing = (wanted - may(lacks))
                    .iter_names()
                    .map(|(name, _)| name.replace("VM_", "VM_MAY"));
                let missing = missing.collect::<Vec<_>>().join("|");
                Some(format!("{} of process {} lacks {missing}", Range::of(lacks), on.process))
            }
            Op::Mmap { kind, prot, .. } => (kind.get() == Kind::ReadonlyShared
                && prot.get().contains(Prot::W))
            .then(|| "the file is open for reading only".into()),
            _ => None,
        }
    }

    fn may_not(&self) -> Option<String> {
        if let Op::UffdRegister { .. } = self.op {
            let on = self.role("on")?;
            let space = &self.before.spaces[on.process];
            let never =
                vmas(space, on.range, |v| !v.flags.contains(VmFlags::VM_MAYWRITE)).next()?;
            return Some(format!("{never} of process {} lacks VM_MAYWRITE", on.process));
        }
        let locks = match self.op {
            Op::Mmap { flags, .. } => flags.get().contains(MmapFlags::LOCKED),
            Op::Mlock { .. } => true,
            _ => false,
        };
        (locks && self.limits.lock == Some(0)).then(|| "the limit on locked pages is 0".into())
    }

    fn busy(&self) -> Option<String> {
        let on = self.role("on")?;
        let Op::UffdRegister { ctx, .. } = self.op else { return None };
        // Which context is whose is not shown; that one of them is in the way, is.
        if self.left.result != Err(Errno::EBUSY) {
            return None;
        }
        let watched =
            vmas(&self.before.spaces[on.process], on.range, |vma| vma.uffd.is_some()).next()?;
        let Ctx(ctx) = ctx.get();
        Some(format!(
            "{watched} of process {} is watched by a context that is not {ctx}",
            on.process
        ))
    }

    /// A hole, for the calls that answer `ENOMEM` to it.
    fn hole_reason(&self) -> Option<String> {
        if !matches!(
            self.op,
            Op::Mprotect { .. } | Op::Madvise { .. } | Op::Mlock { .. } | Op::Munlock { .. }
        ) {
            return None;
        }
        let on = self.role("on")?;
        let page = hole(&self.before.spaces[on.process], on.range)?;
        Some(format!("page {page} of process {} is not mapped", on.process))
    }

    /// The limit on pages or VMAs that is reached, or what else there is no room for.
    fn limit(&self) -> Option<String> {
        self.page_limit().or_else(|| self.map_limit()).or_else(|| match self.op {
            Op::Mlock { .. } => self.lock_limit().or_else(|| self.not_populated()),
            Op::Mremap { flags, .. } if flags.get() == MremapFlags::InPlace => self.in_the_way(),
            Op::Copy { flags, len, .. } if flags.get().is_empty() => {
                let to = self.role("to")?;
                let space = &self.before.spaces[to.process];
                let occupied = vmas(space, to.range, |_| true).next()?;
                let hole = longest_hole(space);
                (hole < len.get().0).then(|| {
                    format!(
                        "{occupied} of process {} is mapped, and its longest hole has {hole} pages",
                        to.process
                    )
                })
            }
            _ => None,
        })
    }

    /// `RLIMIT_AS`.
    fn page_limit(&self) -> Option<String> {
        let limit = i64::from(self.limits.address_space?);
        let to = *self.touched.last()?;
        let space = &self.before.spaces[to.process];
        let mapped = |range: Range| {
            (range.start..range.end).filter(|&page| space.vma_at(Page(page)).is_some()).count()
                as i64
        };
        let pages = i64::from(to.range.end) - i64::from(to.range.start);
        // What is replaced does not count.
        let (total, more) = match self.op {
            Op::Mmap { .. } | Op::CopyVma { .. } => {
                (space.counters.total_vm, pages - mapped(to.range))
            }
            Op::Copy { flags, .. } if !flags.get().is_empty() => {
                (space.counters.total_vm, pages - mapped(to.range))
            }
            // Where the address is chosen, nothing is replaced.
            Op::Copy { .. } => (space.counters.total_vm, pages),
            Op::Mremap { old_len, new_len, .. } => {
                let gone: i64 = self.unmapped_first(to.process).into_iter().map(mapped).sum();
                let gone = if self.moves() { gone } else { 0 };
                let more = i64::from(new_len.get().0) - i64::from(old_len.get().0);
                (space.counters.total_vm - gone, more)
            }
            _ => return None,
        };
        (more > 0 && total + more > limit).then(|| {
            format!(
                "process {} has {total} of at most {limit} pages, and the call adds {more}",
                to.process
            )
        })
    }

    /// `sysctl_max_map_count`.
    fn map_limit(&self) -> Option<String> {
        let limit = i64::from(self.limits.map_count?);
        let to = *self.touched.last()?;
        let space = &self.before.spaces[to.process];
        // Edges of the range at which a VMA is cut in two.
        let cuts = |range: Range| {
            let cut = |page: &u8| {
                let vma = space.vma_at(Page(*page));
                i64::from(vma.is_some_and(|vma| vma.start.0 != *page))
            };
            cut(&range.start) + cut(&range.end)
        };
        // One in the middle of a VMA leaves two; any other takes away as much as it leaves.
        let hole = |range: Range| {
            let vma = space.vma_at(Page(range.start));
            let inside = |vma: &Vma| vma.start.0 < range.start && range.end < vma.end.0;
            i64::from(range.start < range.end && vma.is_some_and(inside))
        };
        let room = match self.op {
            Op::Mremap { .. } if self.moves() => 6,
            Op::Mremap { page, old_len, new_len, .. } => {
                let end = |len| Range::new(page.get(), len).end;
                hole(Range { start: end(new_len.get()), end: end(old_len.get()) })
            }
            Op::Copy { .. } | Op::CopyVma { .. } => 2,
            Op::Mmap { .. } | Op::Munmap { .. } => hole(to.range),
            Op::Touch { .. } => 0,
            _ => cuts(to.range),
        };
        let count = space.counters.map_count;
        let of = format!("process {} has {count} of at most {limit} VMAs", to.process);
        if matches!(self.op, Op::Mmap { .. }) && count > limit {
            return Some(of);
        }
        (room > 0 && count + room > limit)
            .then(|| format!("{of}, and the call wants room for {room} more"))
    }

    /// Whether it is a move by `mremap`.
    fn moves(&self) -> bool {
        matches!(self.op, Op::Mremap { flags, .. } if flags.get() == MremapFlags::MaymoveFixed)
    }

    fn in_the_way(&self) -> Option<String> {
        let (from, to) = (self.role("from")?, self.role("to")?);
        let space = &self.before.spaces[to.process];
        let grown = Range { start: from.range.end, end: to.range.end };
        if grown.is_empty() {
            return None;
        }
        let there = vmas(space, grown, |_| true).next()?;
        Some(format!("{there} is in the way"))
    }

    /// What cannot be populated.
    fn not_populated(&self) -> Option<String> {
        let on = self.role("on")?;
        let space = &self.before.spaces[on.process];
        let never = vmas(space, on.range, |vma| !vma.flags.intersects(VmFlags::ACCESS)).next()?;
        Some(format!(
            "{never} of process {} may not be accessed, so it is not populated",
            on.process
        ))
    }

    fn lock_limit(&self) -> Option<String> {
        let limit = i64::from(self.limits.lock?);
        let to = *self.touched.last()?;
        let space = &self.before.spaces[to.process];
        let pages = i64::from(to.range.end) - i64::from(to.range.start);
        let source_locked =
            || self.source().is_some_and(|(_, vma, _)| vma.flags.contains(VmFlags::VM_LOCKED));
        let more = match self.op {
            Op::Mremap { old_len, new_len, .. } if source_locked() => {
                i64::from(new_len.get().0) - i64::from(old_len.get().0)
            }
            Op::Mlock { .. } => {
                let locked = (to.range.start..to.range.end)
                    .filter_map(|page| space.vma_at(Page(page)))
                    .filter(|vma| vma.flags.contains(VmFlags::VM_LOCKED));
                pages - locked.count() as i64
            }
            Op::Mmap { flags, .. } if flags.get().contains(MmapFlags::LOCKED) => pages,
            Op::CopyVma { .. } if !self.clears() && source_locked() => pages,
            _ => return None,
        };
        let locked = space.counters.locked_vm;
        (more > 0 && locked + more > limit).then(|| {
            format!(
                "process {} has {locked} of at most {limit} locked pages, and the call locks {more} \
                 more",
                to.process
            )
        })
    }

    fn too_many_processes(&self) -> Option<String> {
        let Op::Fork { .. } = self.op else { return None };
        let living = self.before.spaces.iter().filter(|space| space.alive).count();
        let limit = self.limits.max_processes();
        (living >= limit).then(|| format!("there are {living} of at most {limit} processes"))
    }

    /// Memory that is to be populated and that userfaultfd watches.
    fn would_block(&self) -> Option<String> {
        let populates = match self.op {
            Op::Touch { .. } | Op::Mlock { .. } | Op::Mremap { .. } => true,
            Op::Mmap { flags, .. } => flags.get().contains(MmapFlags::LOCKED),
            _ => false,
        };
        let on = self.touched.iter().find(|t| {
            let space = &self.before.spaces[t.process];
            vmas(space, t.range, |vma| vma.uffd.is_some()).next().is_some()
        });
        let on = on.filter(|_| populates)?;
        let space = &self.before.spaces[on.process];
        let watched = vmas(space, on.range, |vma| vma.uffd.is_some()).next()?;
        Some(format!(
            "{watched} of process {} is watched by userfaultfd: the call would block",
            on.process
        ))
    }
}
