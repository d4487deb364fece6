//! `vma_merge()`: whether a range with given attributes becomes part of its neighbours.
//!
//! `AAAA` is the range, `P` the VMA before it (`prev`), `N` and `X` those after. In cases 4 to 8
//! the range is mapped already, and its attributes change.
//!
//! ```text
//!  case 1   PPPP AAAA NNNN  ->  PPPPPPPPPPPP      case 5   PPPP AANN  ->  PPPPPP NN
//!  case 2   PPPP AAAA       ->  PPPPPPPP          case 6   PPPP AAAA XXXX  ->  PPPPPPPPPPPP
//!  case 3        AAAA NNNN  ->      NNNNNNNN      case 7   PPPP AAAA XXXX  ->  PPPPPPPP XXXX
//!  case 4   PPAA NNNN       ->  PP NNNNNN         case 8   PPPP AAAA XXXX  ->  PPPP XXXXXXXX
//! ```

use vmadiff_machine::VmFlags;
use vmadiff_machine::operand::Mode;

use crate::addr::{Addr, Pgoff};
use crate::handle::{AnonVmaKey, MmKey, VmaKey, read, warn_on};
use crate::kernel::Kernel;
use crate::objects::{Chain, File, UserfaultfdCtx, Vma};
use crate::revision::Revision;
use crate::stop::Stop;

/// What the range would have if it were a VMA of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attributes {
    pub(crate) vm_flags: VmFlags,
    pub(crate) anon_vma: Option<AnonVmaKey>,
    /// The chain of the VMA that has the range, or that it is a copy of.
    pub(crate) anon_vma_chain: Chain,
    pub(crate) file: Option<File>,
    pub(crate) pgoff: Pgoff,
    pub(crate) policy: Mode,
    pub(crate) vm_userfaultfd_ctx: Option<UserfaultfdCtx>,
    /// It is a copy of a VMA that stays where it is.
    pub(crate) is_copy: bool,
}

impl Attributes {
    fn anon_vma(&self) -> (Option<AnonVmaKey>, Chain) {
        (self.anon_vma, self.anon_vma_chain)
    }
}

impl Vma {
    fn anon_vma(&self) -> (Option<AnonVmaKey>, Chain) {
        (self.anon_vma, self.anon_vma_chain)
    }
}

impl Kernel {
    /// `is_mergeable_vma()`.
    fn is_mergeable_vma(&self, vma: &Vma, new: &Attributes) -> bool {
        // The merged VMA becomes soft-dirty as a whole: that flag keeps nothing apart.
        VmFlags::VM_SOFTDIRTY.contains(vma.vm_flags ^ new.vm_flags)
            && vma.vm_file == new.file
            && !vma.vm_ops.has_close()
            && vma.vm_userfaultfd_ctx == new.vm_userfaultfd_ctx
    }

    /// `is_mergeable_anon_vma()`. A VMA whose chain came from a parent does not lend its anon_vma.
    ///
    /// In `fixed`, a copy merges with VMAs of the same anon_vma only if their chains are the same too:
    /// a child may take up again the anon_vma of a relative, and the copy comes next to a VMA that has
    /// the same one with another chain. Merged, pages of the one would not be found through the chain
    /// of the other. Without copies the original kernel does not look, and two VMAs of one that was
    /// forked apart may merge so.
    fn is_mergeable_anon_vma(
        &self,
        (anon_vma1, chain1): (Option<AnonVmaKey>, Chain),
        (anon_vma2, chain2): (Option<AnonVmaKey>, Chain),
        vma: Option<&Vma>,
        is_copy: bool,
    ) -> bool {
        let one_is_missing = anon_vma1.is_none() || anon_vma2.is_none();
        if one_is_missing && vma.is_none_or(|vma| vma.anon_vma_chain.is_singular()) {
            return true;
        }
        let same_chain = || self.chains.newest_first(chain1).eq(self.chains.newest_first(chain2));
        anon_vma1 == anon_vma2 && (!is_copy || self.revision != Revision::Fixed || same_chain())
    }

    /// `can_vma_merge_before()`: the range ends where `vma` starts; do the offsets fit as well?
    fn can_vma_merge_before(&self, vma: &Vma, new: &Attributes, pglen: u32) -> bool {
        self.is_mergeable_vma(vma, new)
            && self.is_mergeable_anon_vma(new.anon_vma(), vma.anon_vma(), Some(vma), new.is_copy)
            && vma.vm_pgoff == new.pgoff + pglen
    }

    /// `can_vma_merge_after()`: `vma` ends where the range starts; do the offsets fit as well?
    fn can_vma_merge_after(&self, vma: &Vma, new: &Attributes) -> bool {
        self.is_mergeable_vma(vma, new)
            && self.is_mergeable_anon_vma(new.anon_vma(), vma.anon_vma(), Some(vma), new.is_copy)
            && vma.vm_pgoff + vma.pages() == new.pgoff
    }

    /// The attributes of the part of a VMA that begins at `start`: what most callers of
    /// `vma_merge()` pass it, but for the one they change.
    pub(crate) fn attributes(&self, vma: VmaKey, start: Addr) -> Result<Attributes, Stop> {
        const F: &str = "vma_merge";
        Ok(Attributes {
            vm_flags: read!(self, F, vma.vm_flags),
            anon_vma: read!(self, F, vma.anon_vma),
            anon_vma_chain: read!(self, F, vma.anon_vma_chain),
            file: read!(self, F, vma.vm_file),
            pgoff: read!(self, F, vma.vm_pgoff).at(start, read!(self, F, vma.vm_start)),
            policy: read!(self, F, vma.vm_policy),
            vm_userfaultfd_ctx: read!(self, F, vma.vm_userfaultfd_ctx),
            is_copy: false,
        })
    }

    /// `vma_merge()`: the VMA that the range became part of, if it could.
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

        // The next VMA, where the range can merge into it.
        let mergeable_next = match next {
            Some(next) if read!(self, F, next.vm_start) == end => {
                let policy = read!(self, F, next.vm_policy);
                self.vmas
                    .get(next)
                    .filter(|vma| {
                        policy == new.policy && self.can_vma_merge_before(vma, new, pglen)
                    })
                    .map(|vma| (next, vma.vm_end, vma.vm_pgoff, vma.anon_vma()))
            }
            _ => None,
        };

        if let Some(prev) = prev {
            let prev_end = read!(self, F, prev.vm_end);
            let mergeable = self.vmas.get(prev).filter(|vma| {
                prev_end == addr
                    && vma.vm_policy == new.policy
                    && self.can_vma_merge_after(vma, new)
            });
            if let Some(vma) = mergeable {
                let (start, pgoff, anon_vma) = (vma.vm_start, vma.vm_pgoff, vma.anon_vma());
                let to = match mergeable_next {
                    // Cases 1 and 6.
                    Some((_, next_end, _, next_anon_vma))
                        if self.is_mergeable_anon_vma(
                            anon_vma,
                            next_anon_vma,
                            None,
                            new.is_copy,
                        ) =>
                    {
                        next_end
                    }
                    // Cases 2, 5 and 7.
                    _ => end,
                };
                self.vma_adjust(prev, start, to, pgoff, None, Some(prev))?;
                return Ok(Some(prev));
            }
        }

        let Some((next, next_end, next_pgoff, _)) = mergeable_next else { return Ok(None) };
        if let Some(prev) = prev
            && addr < read!(self, F, prev.vm_end)
        {
            // Case 4.
            let (start, pgoff) = (read!(self, F, prev.vm_start), read!(self, F, prev.vm_pgoff));
            self.vma_adjust(prev, start, addr, pgoff, None, Some(next))?;
            return Ok(Some(next));
        }
        // Cases 3, where `area` is `next`, and 8, where it goes.
        let Some(area) = area else { return Ok(Some(next)) };
        self.vma_adjust(area, addr, next_end, next_pgoff - pglen, None, Some(next))?;
        Ok(Some(next))
    }
}
