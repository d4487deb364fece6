//! `madvise` (`mm/madvise.c`, `ksm_madvise()` of `mm/ksm.c`).

use vmadiff_machine::operand::{Access, Advice, FilePage, UffdFeatures};
use vmadiff_machine::{Errno, UffdEvent, VmFlags};

use crate::change::Hole;
use crate::clear_refs::Joined;
use crate::function::Function;
use crate::later;
use crate::memory_merge::marked;
use crate::mm::Syscall;
use crate::range::Range;
use crate::refusal::{Progress, Refusal, Rule};
use crate::vma::Vma;

/// Returns the flags that `advice` gives a VMA (`madvise_behavior()`).
///
/// # Errors
/// The rule that forbids the advice for this VMA.
fn advised(vma: &Vma, advice: Advice) -> Result<VmFlags, Rule> {
    use VmFlags as F;
    let (old, read_ahead) = (vma.flags, F::VM_RAND_READ | F::VM_SEQ_READ);
    let unless = |wrong: F, flags: F| match old & wrong {
        found if found.is_empty() => Ok(flags),
        found => Err(Rule::HasFlags { vma: vma.range, flags: found }),
    };
    match advice {
        Advice::Normal => Ok(old - read_ahead),
        Advice::Random => Ok((old - read_ahead) | F::VM_RAND_READ),
        Advice::Sequential => Ok((old - read_ahead) | F::VM_SEQ_READ),
        Advice::Dontfork => Ok(old | F::VM_DONTCOPY),
        Advice::Dofork => unless(F::VM_IO, old - F::VM_DONTCOPY),
        Advice::Dontdump => Ok(old | F::VM_DONTDUMP),
        Advice::Dodump => unless(F::VM_SPECIAL, old - F::VM_DONTDUMP),
        Advice::Wipeonfork if !vma.is_anonymous() => Err(Rule::OfFile { vma: vma.range, advice }),
        Advice::Wipeonfork => Ok(old | F::VM_WIPEONFORK),
        Advice::Keeponfork => Ok(old - F::VM_WIPEONFORK),
        Advice::Mergeable => Ok(marked(old)),
        Advice::Unmergeable => Ok(old - F::VM_MERGEABLE),
        Advice::Willneed
        | Advice::Dontneed
        | Advice::Free
        | Advice::Hugepage
        | Advice::Nohugepage
        | Advice::Cold
        | Advice::Pageout
        | Advice::PopulateRead
        | Advice::PopulateWrite
        | Advice::DontneedLocked
        | Advice::Remove => Ok(old),
    }
}

/// Returns the rule of later kernels that brought `advice`; `None` if 5.2.1 has it.
fn rule_of(advice: Advice) -> Option<later::Rule> {
    match advice {
        Advice::Cold => Some(later::Rule::MadviseCold),
        Advice::Pageout => Some(later::Rule::MadvisePageout),
        Advice::PopulateRead | Advice::PopulateWrite => Some(later::Rule::MadvisePopulate),
        Advice::DontneedLocked => Some(later::Rule::MadviseDontneedLocked),
        _ => None,
    }
}

impl Syscall<'_> {
    /// Advises how `range` will be used: advice of 5.2.1 ([`Syscall::advise`]), or advice of a later
    /// kernel, which 5.2.1 refuses.
    ///
    /// # Errors
    /// `EINVAL` for an advice that the kernel does not know; the errors of the advice.
    pub(crate) fn madvise(&mut self, range: Range, advice: Advice) -> Result<u8, Refusal> {
        let Some(rule) = rule_of(advice) else { return self.advise(range, advice) };
        if !self.later.hold.has(rule) {
            let unknown = Rule::UnknownAdvice(advice);
            return self.refuse(Errno::EINVAL, Function::MadviseBehaviorValid, unknown);
        }
        let result = match advice {
            Advice::PopulateRead => self.populate_advised(range, Access::Read),
            Advice::PopulateWrite => self.populate_advised(range, Access::Write),
            _ => self.advise(range, advice),
        };
        // 5.2.1 answers EINVAL and does nothing.
        let same = |refusal: Refusal| {
            (refusal.errno, refusal.progress) == (Errno::EINVAL, Progress::Nothing)
        };
        self.later.applies(rule, || !result.is_err_and(same));
        result
    }

    /// Advises how `range` will be used. `DONTNEED` and `DONTNEED_LOCKED` empty its page tables. `FREE`
    /// would do so under memory pressure, which there is none of. `COLD` and `PAGEOUT` reclaim pages,
    /// which come back when they are touched. `WILLNEED` reads ahead, which no observation shows.
    ///
    /// # Errors
    /// `EINVAL` for an advice that the kernel was built without, even for no pages; `EINVAL` for a
    /// VMA that the advice does not suit and `ENOMEM` where a cut passes the limit on VMAs, both of
    /// which end the walk (`EAGAIN` with [`MadviseCutEagain`](later::Rule::MadviseCutEagain)); `EAGAIN`
    /// without memory for a cut, which ends the walk, too; `ENOMEM` for holes, after all the rest is done. With
    /// [`Mseal`](later::Rule::Mseal), `EPERM` for a sealed VMA that keeps its pages. The errors of
    /// [`Syscall::remove_pages`], which end the walk.
    fn advise(&mut self, range: Range, advice: Advice) -> Result<u8, Refusal> {
        if matches!(advice, Advice::Hugepage | Advice::Nohugepage) {
            return self.refuse(Errno::EINVAL, Function::MadviseBehaviorValid, Rule::NoHugePages);
        }
        self.walk(range, Hole::Remembered, |this, at, part| {
            let vma = this.mm.vmas()[at];
            this.may_advise(&vma, advice)?;
            if advice == Advice::Remove {
                return this.remove_pages(&vma, part).map(|()| at);
            }
            let drops = matches!(advice, Advice::Dontneed | Advice::DontneedLocked);
            let reclaims = matches!(advice, Advice::Free | Advice::Cold | Advice::Pageout);
            if drops || reclaims {
                // `can_madv_lru_vma()`, `madvise_free_single_vma()`.
                let mut refused = VmFlags::VM_LOCKED | VmFlags::VM_PFNMAP;
                refused.set(VmFlags::VM_LOCKED, advice != Advice::DontneedLocked);
                let flags = vma.flags & refused;
                if !flags.is_empty() {
                    let rule = Rule::HasFlags { vma: vma.range, flags };
                    return this.refuse(Errno::EINVAL, Function::MadviseDontneedFree, rule);
                }
                if drops || advice == Advice::Free {
                    this.tell(vma.uffd, UffdFeatures::REMOVE, UffdEvent::Remove(part));
                }
                if advice == Advice::Free && !vma.is_anonymous() {
                    let rule = Rule::OfFile { vma: vma.range, advice };
                    return this.refuse(Errno::EINVAL, Function::MadviseFreeSingleVma, rule);
                }
                if drops {
                    this.zap(part);
                }
                return Ok(at);
            }
            match advised(&vma, advice) {
                Ok(flags) => this.change_flags(at, part, flags, Joined::Takes).map_err(|refusal| {
                    let cut = || refusal.errno == Errno::ENOMEM;
                    // `madvise_behavior()` has another error for a cut without memory.
                    let again = refusal.rule == Rule::NoMemory;
                    match again || this.later.applies(later::Rule::MadviseCutEagain, cut) {
                        true => Refusal { errno: Errno::EAGAIN, ..refusal },
                        false => refusal,
                    }
                }),
                Err(rule) => this.refuse(Errno::EINVAL, Function::MadviseBehavior, rule),
            }
        })?;
        Ok(0)
    }

    /// Removes the pages of `part` from the file of `vma` (`madvise_remove()`). Every process that maps
    /// them finds a new page there, with the value 0. Private copies stay.
    ///
    /// # Errors
    /// `EINVAL` for locked memory and for memory without a file; `EACCES` for memory that is not shared
    /// and writable (with [`MadviseRemoveReadable`](later::Rule::MadviseRemoveReadable), for memory that is
    /// not shared or can never be written); `ENODEV` for the device; `EFBIG` and `EINVAL` where the range ends or
    /// begins past the end of the longest file, which a mapping that has grown can do.
    fn remove_pages(&mut self, vma: &Vma, part: Range) -> Result<(), Refusal> {
        let refuse = |this: &Self, errno, rule| this.refuse(errno, Function::MadviseRemove, rule);
        let locked = vma.flags & VmFlags::VM_LOCKED;
        if !locked.is_empty() {
            let rule = Rule::HasFlags { vma: vma.range, flags: locked };
            return refuse(self, Errno::EINVAL, rule);
        }
        let Some(file) = vma.file else {
            return refuse(self, Errno::EINVAL, Rule::NotOfFile(vma.range));
        };
        let lacking = (VmFlags::VM_SHARED | VmFlags::VM_WRITE) - vma.flags;
        let may_write = || vma.flags.contains(VmFlags::VM_SHARED | VmFlags::VM_MAYWRITE);
        if !lacking.is_empty() && !self.later.applies(later::Rule::MadviseRemoveReadable, may_write)
        {
            let rule = Rule::LacksFlags { vma: vma.range, flags: lacking };
            return refuse(self, Errno::EACCES, rule);
        }
        self.tell(vma.uffd, UffdFeatures::REMOVE, UffdEvent::Remove(part));
        let first = vma.pgoff_of(part.start).0;
        let end = first.saturating_add(part.len().into());
        // The kernel computes with signed bytes.
        let refused = match () {
            () if first > FilePage::TOP => Some((Errno::EINVAL, Rule::PastLongestFile(part))),
            () if vma.is_of_device() => Some((Errno::ENODEV, Rule::OfDevice(vma.range))),
            () if end > FilePage::TOP => Some((Errno::EFBIG, Rule::PastLongestFile(part))),
            () => None,
        };
        if let Some((errno, rule)) = refused {
            return self.refuse(errno, Function::VfsFallocate, rule);
        }
        self.shmem.remove(file, first..end);
        Ok(())
    }
}
