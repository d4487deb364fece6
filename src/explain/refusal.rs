//! Why a call is refused: the condition behind an errno, with the values that made it hold.

use vmadiff_machine::operand::{Access, Advice, Ctx, MmapFlags, MremapFlags, Page, Prot};
use vmadiff_machine::{AddressSpace, Errno, Op, VmFlags, Vma};

use super::{Case, flag_names, point};
use crate::picture::Range;
use crate::report::result_text;

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
    fn reason(&self, errno: Errno) -> Option<String> {
        match errno {
            Errno::ESRCH => self.nobody(),
            Errno::EINVAL => self.invalid(),
            Errno::EFAULT => self.bad_range(),
            Errno::EEXIST => {
                let to = self.role("to")?;
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
            Errno::EAGAIN => self.lock_limit().or_else(|| self.would_block()),
            _ => None,
        }
    }

    fn nobody(&self) -> Option<String> {
        let gone = |process: usize| !self.before.spaces[process].alive;
        let caller = usize::from(self.op.bytes()[0]) % self.before.spaces.len();
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
            Op::Mmap { .. } => Some("the file is open for reading only".into()),
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
        (self.limits.lock == Some(0)).then(|| "the limit on locked pages is 0".into())
    }

    fn busy(&self) -> Option<String> {
        let on = self.role("on")?;
        let Op::UffdRegister { ctx, .. } = self.op else { return None };
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

    /// The limit on VMAs or pages that is reached.
    fn limit(&self) -> Option<String> {
        let to = *self.touched.last()?;
        let space = &self.before.spaces[to.process];
        let pages = i64::from(to.range.end) - i64::from(to.range.start);
        if let Some(limit) = self.limits.address_space {
            let mapped = (to.range.start..to.range.end)
                .filter(|&page| space.vma_at(Page(page)).is_some())
                .count() as i64;
            let more = match self.op {
                Op::Mremap { page: _, old_len, new_len, .. } => {
                    i64::from(new_len.get().0) - i64::from(old_len.get().0)
                }
                _ => pages - mapped,
            };
            let total = space.counters.total_vm;
            if total + more > i64::from(limit) {
                return Some(format!(
                    "process {} has {total} of at most {limit} pages, and the call adds {more}",
                    to.process
                ));
            }
        }
        if let Some(limit) = self.limits.map_count {
            // What each call wants to have room for before it begins.
            let (room, needs) = match self.op {
                Op::Mremap { flags, .. } if flags.get() == MremapFlags::MaymoveFixed => (6, "six"),
                Op::Copy { .. } | Op::CopyVma { .. } => (2, "two"),
                _ => (1, "one"),
            };
            let count = space.counters.map_count;
            if count + room > i64::from(limit) {
                return Some(format!(
                    "process {} has {count} of at most {limit} VMAs, and the call wants room for \
                     {needs} more",
                    to.process
                ));
            }
        }
        if let Op::Mlock { .. } = self.op {
            return self.lock_limit();
        }
        if let Op::Mremap { flags, .. } = self.op
            && flags.get() == MremapFlags::InPlace
        {
            let from = self.role("from")?;
            let grown = Range { start: from.range.end, end: to.range.end };
            let there = vmas(space, grown, |_| true).next()?;
            return Some(format!("{there} is in the way"));
        }
        None
    }

    fn lock_limit(&self) -> Option<String> {
        let limit = self.limits.lock?;
        let to = *self.touched.last()?;
        let space = &self.before.spaces[to.process];
        let pages = i64::from(to.range.end) - i64::from(to.range.start);
        let more = match self.op {
            Op::Mremap { old_len, new_len, .. } => {
                i64::from(new_len.get().0) - i64::from(old_len.get().0)
            }
            Op::Mlock { .. } => {
                let locked = (to.range.start..to.range.end)
                    .filter_map(|page| space.vma_at(Page(page)))
                    .filter(|vma| vma.flags.contains(VmFlags::VM_LOCKED));
                pages - locked.count() as i64
            }
            Op::Mmap { flags, .. } if !flags.get().contains(MmapFlags::LOCKED) => return None,
            _ => pages,
        };
        let locked = space.counters.locked_vm;
        (locked + more > i64::from(limit)).then(|| {
            format!(
                "process {} has {locked} of at most {limit} locked pages, and the call locks {more} \
                 more",
                to.process
            )
        })
    }

    fn would_block(&self) -> Option<String> {
        let on = *self.touched.last()?;
        let space = &self.before.spaces[on.process];
        let watched = vmas(space, on.range, |vma| vma.uffd.is_some()).next()?;
        Some(format!(
            "{watched} of process {} is watched by userfaultfd: the call would block",
            on.process
        ))
    }
}
