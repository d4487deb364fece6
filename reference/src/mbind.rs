//! `mbind` on the only node (`mm/mempolicy.c`).

use vmadiff_machine::operand::Mode;
use vmadiff_machine::{Errno, VmFlags};

use crate::change::Hole;
use crate::mm::Syscall;
use crate::range::Range;
use crate::vma::Vma;

impl Syscall<'_> {
    /// Gives `range` a policy. What has it already is left alone, so it does not merge either.
    ///
    /// # Errors
    /// `EFAULT`, before anything is changed, for a hole at the start, or between two VMAs of the
    /// range unless the policy is the default (`queue_pages_test_walk()`). A hole at the end is
    /// not noticed, and a mapping whose pages cannot migrate is taken for one. `ENOMEM` for a cut
    /// too many, where `mbind_range()` ends.
    pub(crate) fn mbind(&mut self, range: Range, mode: Mode) -> Result<u8, Errno> {
        if range.is_empty() {
            return Ok(0);
        }
        let unmovable = VmFlags::VM_IO | VmFlags::VM_PFNMAP;
        let seen = self.mm.all_in(range).iter().filter(|vma| !vma.flags.intersects(unmovable));
        let torn = seen.clone().zip(seen.skip(1)).any(|(a, b)| a.range.end < b.range.start);
        if (torn && mode != Mode::Default) || self.mm.vma_at(range.start).is_none() {
            return Err(Errno::EFAULT);
        }
        self.walk(range, Hole::Ignored, |this, at, part| {
            let vma = &this.mm.vmas()[at];
            if vma.policy == mode {
                return Ok(at);
            }
            let new = Vma { policy: mode, ..vma.part(part) };
            this.change(at, &new)
        })?;
        Ok(0)
    }
}
