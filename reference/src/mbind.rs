//! `mbind` on the only node (`mm/mempolicy.c`).

use vmadiff_machine::operand::Mode;
use vmadiff_machine::{Errno, VmFlags};

use crate::change::Hole;
use crate::clear_refs::Joined;
use crate::function::Function;
use crate::later;
use crate::mm::Syscall;
use crate::range::Range;
use crate::refusal::{Refusal, Rule};
use crate::vma::Vma;

impl Syscall<'_> {
    /// Gives `range` a policy. A VMA that has the policy already is left alone, so it does not merge
    /// either.
    ///
    /// # Errors
    /// `EFAULT`, before any change, for a hole at the start, or between two VMAs of the range unless
    /// the policy is the default (`queue_pages_test_walk()`). A hole at the end is not noticed, and
    /// a VMA whose pages cannot migrate is taken for a hole. Kernels with
    /// [`MbindHoles`](later::Rule::MbindHoles) treat a hole at the start or the end as one between
    /// two VMAs. `ENOMEM` where a cut passes the limit
    /// on VMAs, which ends `mbind_range()`.
    pub(crate) fn mbind(&mut self, range: Range, mode: Mode) -> Result<u8, Refusal> {
        if range.is_empty() {
            return Ok(0);
        }
        let unmovable = VmFlags::VM_IO | VmFlags::VM_PFNMAP;
        let seen = self.mm.all_in(range).iter().filter(|vma| !vma.flags.intersects(unmovable));
        let mut pairs = seen.clone().zip(seen.skip(1));
        let torn = pairs.find(|(a, b)| a.range.end < b.range.start).map(|(a, _)| a.range.end);
        if let Some(page) = torn.filter(|_| mode != Mode::Default) {
            let rule = match self.mm.vma_at(page) {
                Some(at) => Rule::Unmovable(self.mm.vmas()[at].range),
                None => Rule::NotMapped(page),
            };
            return self.refuse(Errno::EFAULT, Function::QueuePagesTestWalk, rule);
        }
        if self.mm.vma_at(range.start).is_none()
            && !self.later.applies(later::Rule::MbindHoles, || {
                mode == Mode::Default && self.mm.first_in(range).is_some()
            })
        {
            return self.refuse(Errno::EFAULT, Function::MbindRange, Rule::NotMapped(range.start));
        }
        let end = self.mm.all_in(range).last().map_or(range.end, |last| last.range.end);
        if self.later.applies(later::Rule::MbindHoles, || mode != Mode::Default && end < range.end)
        {
            return self.refuse(Errno::EFAULT, Function::QueuePagesTestWalk, Rule::NotMapped(end));
        }
        self.walk(range, Hole::Ignored, |this, at, part| {
            let vma = &this.mm.vmas()[at];
            if vma.policy == mode {
                return Ok(at);
            }
            let new = Vma { policy: mode, ..vma.part(part) };
            this.change(at, &new, Joined::Keeps)
        })?;
        Ok(0)
    }
}
