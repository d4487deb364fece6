//! SysV shared memory. A program has one segment.

use vmadiff_machine::operand::{Page, Process, SHM_PAGES, ShmFlags};
use vmadiff_machine::{Op, Part};

use super::arguments::{Arguments, Why};
use super::calls::{Calls, step};
use super::descriptors::Descriptor;
use super::step::Span;
use super::{DATA_PAGES, PAGE_SIZE};
use crate::flags as f;
use crate::syz::Call;

const IPC_RMID: u64 = 0;

impl Calls {
    /// Reads a call of SysV shared memory, and returns whether it is used.
    pub(super) fn segment(&mut self, at: usize, call: &Call) -> Result<bool, Why> {
        let args = Arguments(&call.arguments);
        let process = Process(0).into();
        let len = u64::from(SHM_PAGES);
        match (call.name.as_str(), self.descriptor(args.get(0))) {
            ("shmget", _) => {
                if args.number(1)?.div_ceil(PAGE_SIZE) != len {
                    return Err(format!("a segment that is not {len} pages long"));
                }
                if self.has_segment {
                    return Err("a second segment".into());
                }
                let is_used = self.made(call, Descriptor::Segment);
                self.has_segment = is_used;
                return Ok(is_used);
            }
            ("shmat", Some(Descriptor::Segment)) => {
                let given = args.flags(2, f::SHM)?;
                let mut flags = ShmFlags::empty();
                flags.set(ShmFlags::RDONLY, given & f::SHM_RDONLY != 0);
                flags.set(ShmFlags::EXEC, given & f::SHM_EXEC != 0);
                flags.set(ShmFlags::REMAP, given & f::SHM_REMAP != 0);
                if args.number(1) == Ok(0) {
                    return Err("an address that the kernel chooses".into());
                }
                let start = args.page(1)?;
                if start > DATA_PAGES - len {
                    return Err("a range that leaves the data area".into());
                }
                let span = Span { start, len };
                self.set_mapped(span, true);
                let op = Op::Shmat { process, page: Page(0).into(), flags: flags.into() };
                self.steps.push(step(at, op, &[(Part::Destination, span)]));
                self.made(call, Descriptor::Attachment(start));
            }
            ("shmdt", Some(Descriptor::Attachment(start))) => {
                let op = Op::Shmdt { process, page: Page(0).into() };
                self.steps.push(step(at, op, &[(Part::Target, Span { start, len })]));
            }
            ("shmctl", Some(Descriptor::Segment)) if args.number(1)? == IPC_RMID => {
                self.steps.push(step(at, Op::ShmRmid { process }, &[]));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }
}
