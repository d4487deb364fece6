//! `vma_merge()`: merges a range that has given attributes into its neighbours, where the rules
//! allow it.
//!
//! `AAAA` is the range, `P` the VMA before it (`prev`), `N` and `X` the VMAs after it. In cases 4
//! to 8 the range is mapped already, and its attributes change.
//!
//! ```text
//!  case 1   PPPP AAAA NNNN  ->  PPPPPPPPPPPP      case 5   PPPP AANN  ->  PPPPPP NN
//!  case 2   PPPP AAAA       ->  PPPPPPPP          case 6   PPPP AAAA XXXX  ->  PPPPPPPPPPPP
//!  case 3        AAAA NNNN  ->      NNNNNNNN      case 7   PPPP AAAA XXXX  ->  PPPPPPPP XXXX
//!  case 4   PPAA NNNN       ->  PP NNNNNN         case 8   PPPP AAAA XXXX  ->  PPPP XXXXXXXX
//! ```

use vmadiff_machine::VmFlags;

use crate::addr::{Addr, Pgoff};
use crate::handle::{AnonVmaKey, CtxKey, FileKey, MmKey, PolicyKey, VmaKey, read, warn_on};
use crate::kernel::Kernel;
use crate::objects::Vma;
use crate::stop::{Caught, Stop};

/// The attributes that the range would have as a VMA of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes {
    pub(crate) vm_flags: VmFlags,
    pub(crate) anon_vma: Option<AnonVmaKey>,
    pub(crate) file: Option<FileKey>,
    pub(crate) pgoff: Pgoff,
    pub(crate) policy: Option<PolicyKey>,
    pub(crate) vm_userfaultfd_ctx: Option<CtxKey>,
}

impl Kernel {
    /// `is_mergeable_vma()`.
    fn is_mergeable_vma(&self, vma: &Vma, new: &Attributes) -> bool {
        // VM_SOFTDIRTY does not prevent a merge.
        VmFlags::VM_SOFTDIRTY.contains(vma.vm_flags ^ new.vm_flags)
            && vma.vm_file == new.file
            && !vma.vm_ops.has_close()
            && vma.vm_userfaultfd_ctx == new.vm_userfaultfd_ctx
    }

    /// `is_mergeable_anon_vma()`: returns whether the two anon_vmas allow a merge. A VMA whose
    /// chain came from a parent does not lend its anon_vma.
    fn is_mergeable_anon_vma(
        anon_vma1: Option<AnonVmaKey>,
        anon_vma2: Option<AnonVmaKey>,
        vma: Option<&Vma>,
    ) -> bool {
        let one_is_missing = anon_vma1.is_none() || anon_vma2.is_none();
        if one_is_missing && vma.is_none_or(|vma| vma.anon_vma_chain.is_singular()) {
            return true;
        }
        anon_vma1 == anon_vma2
    }

    /// `can_vma_merge_before()`: returns whether the range, which ends where `vma` starts, can
    /// merge into `vma`.
    fn can_vma_merge_before(&self, vma: &Vma, new: &Attributes, pglen: u32) -> bool {
        self.is_mergeable_vma(vma, new)
            && Self::is_mergeable_anon_vma(new.anon_vma, vma.anon_vma, Some(vma))
            && vma.vm_pgoff == new.pgoff + pglen
    }

    /// `can_vma_merge_after()`: returns whether the range, which starts where `vma` ends, can merge
    /// into `vma`.
    fn can_vma_merge_after(&self, vma: &Vma, new: &Attributes) -> bool {
        self.is_mergeable_vma(vma, new)
            && Self::is_mergeable_anon_vma(new.anon_vma, vma.anon_vma, Some(vma))
            && vma.vm_pgoff + vma.pages() == new.pgoff
    }

    /// Returns the attributes of the part of a VMA that begins at `start`. Most callers of
    /// `vma_merge()` change one of them and pass the rest.
    pub(crate) fn attributes(&self, vma: VmaKey, start: Addr) -> Result<Attributes, Stop> {
        const F: &str = "vma_merge";
        Ok(Attributes {
            vm_flags: read!(self, F, vma.vm_flags),
            anon_vma: read!(self, F, vma.anon_vma),
            file: read!(self, F, vma.vm_file),
            pgoff: read!(self, F, vma.vm_pgoff).at(start, read!(self, F, vma.vm_start)),
            policy: read!(self, F, vma.vm_policy),
            vm_userfaultfd_ctx: read!(self, F, vma.vm_userfaultfd_ctx),
        })
    }

    /// `vma_merge()`: returns the VMA that the range became part of, or `None` without a merge. A merge
    /// for which there is no memory is not made.
    pub(crate) fn vma_merge(
        &mut self,
        mm: MmKey,
        prev: Option<VmaKey>,
        addr: Addr,
        end: Addr,
        new: &Attributes,
    ) -> Result<Option<VmaKey>, Stop> {
        const F: &str = "vma_merge";
        if new.vm_flags.intersects(VmFlags::VM_SPECIAL) {
            return Ok(None);
        }
        let pglen = end - addr;
        let area = match prev {
            Some(prev) => read!(self, F, prev.vm_next),
            None => read!(self, F, mm.mmap),
        };
        let mut next = area;
        if let Some(area) = area {
            let area_end = read!(self, F, area.vm_end);
            if area_end == end {
                next = read!(self, F, area.vm_next);
            }
            warn_on!(self, end > area_end, F, "area && end > area->vm_end");
        }
        if let Some(prev) = prev {
            let prev_start = read!(self, F, prev.vm_start);
            warn_on!(self, addr <= prev_start, F, "prev && addr <= prev->vm_start");
        }
        warn_on!(self, addr >= end, F, "addr >= end");

        // `mergeable_next` is the next VMA, where the range can merge into it.
        let mergeable_next = match next {
            Some(next) if read!(self, F, next.vm_start) == end => {
                let same_policy = self.mpol_equal(new.policy, read!(self, F, next.vm_policy))?;
                self.vmas
                    .get(next)
                    .filter(|vma| same_policy && self.can_vma_merge_before(vma, new, pglen))
                    .map(|vma| (next, vma.vm_end, vma.vm_pgoff, vma.anon_vma))
            }
            _ => None,
        };

        if let Some(prev) = prev {
            let fits = read!(self, F, prev.vm_end) == addr
                && self.mpol_equal(read!(self, F, prev.vm_policy), new.policy)?;
            let mergeable =
                self.vmas.get(prev).filter(|vma| fits && self.can_vma_merge_after(vma, new));
            if let Some(vma) = mergeable {
                let (start, pgoff, anon_vma) = (vma.vm_start, vma.vm_pgoff, vma.anon_vma);
                let to = match mergeable_next {
                    // Cases 1 and 6.
                    Some((_, next_end, _, next_anon_vma))
                        if Self::is_mergeable_anon_vma(anon_vma, next_anon_vma, None) =>
                    {
                        next_end
                    }
                    // Cases 2, 5 and 7.
                    _ => end,
                };
                let adjusted = self.vma_adjust(prev, start, to, pgoff, None, Some(prev)).errno()?;
                return Ok(adjusted.ok().map(|()| prev));
            }
        }

        let Some((next, next_end, next_pgoff, _)) = mergeable_next else { return Ok(None) };
        if let Some(prev) = prev
            && addr < read!(self, F, prev.vm_end)
        {
            // Case 4.
            let (start, pgoff) = (read!(self, F, prev.vm_start), read!(self, F, prev.vm_pgoff));
            let adjusted = self.vma_adjust(prev, start, addr, pgoff, None, Some(next)).errno()?;
            return Ok(adjusted.ok().map(|()| next));
        }
        // Case 3, where `area` is `next`, and case 8, where `area` goes.
        let Some(area) = area else { return Ok(Some(next)) };
        let pgoff = next_pgoff - pglen;
        let adjusted = self.vma_adjust(area, addr, next_end, pgoff, None, Some(next)).errno()?;
        Ok(adjusted.ok().map(|()| next))
    }
}
