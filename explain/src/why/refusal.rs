//! Refused calls: the check that failed, and its values.

use vmadiff_machine::operand::Process;
use vmadiff_machine::{AddressSpace, Errno};
use vmadiff_reference::Refusal;
use vmadiff_reference::refusal::{Limit, Progress, Rule};

use super::{Case, flag_names, list};
use crate::picture::Range;
use crate::results::result_text;

/// Returns the VMAs that map a page of a range.
fn vmas(space: &AddressSpace, range: Range) -> Vec<Range> {
    space.vmas().iter().map(Range::of).filter(|vma| vma.overlaps(range)).collect()
}

/// Returns the check of a refusal in words.
pub(super) fn rule_text(rule: Rule, process: Process) -> String {
    let of = format!("of process {process}");
    let at_most = |limit: Limit, things: &str| {
        format!("process {process} has {} of at most {} {things}", limit.have, limit.max)
    };
    match rule {
        Rule::NoProcess => format!("there is no process {process}"),
        Rule::NoPages => "the range has no pages".into(),
        Rule::NotMapped(page) => format!("page {page} {of} is not mapped"),
        Rule::NothingMapped(range) => format!("nothing is mapped in {range} {of}"),
        Rule::PastVma { range, vma } => {
            format!("{range} {of} is not within one VMA: {vma} ends before it")
        }
        Rule::Occupied(vma) => format!("{vma} {of} is in the way"),
        Rule::NoHole { occupied, longest } => {
            format!("{occupied} {of} is in the way, and the longest hole has {longest} pages")
        }
        Rule::Overlap { from, to } => format!("source {from} and destination {to} overlap {of}")
            .replace(" of process", " in process"),
        Rule::MapCountLimit(limit) if limit.more == 0 => at_most(limit, "VMAs"),
        Rule::MapCountLimit(limit) => {
            let more = limit.more;
            format!("{}, and the call may need {more} more", at_most(limit, "VMAs"))
        }
        Rule::PageLimit(limit) => {
            format!("{}, and the call adds {}", at_most(limit, "pages"), limit.more)
        }
        Rule::LockLimit(limit) => {
            format!("{}, and the call locks {} more", at_most(limit, "locked pages"), limit.more)
        }
        Rule::LockAllLimit(limit) => {
            let (have, max) = (limit.have, limit.max);
            format!("process {process} maps {have} pages and may lock {max}")
        }
        Rule::ProcessLimit(limit) => {
            format!("there are {} of at most {} processes", limit.have, limit.max)
        }
        Rule::LockForbidden => "the limit on locked pages is 0".into(),
        Rule::HasFlags { vma, flags } => format!("{vma} {of} has {}", flag_names(flags)),
        Rule::LacksFlags { vma, flags } => format!("{vma} {of} lacks {}", flag_names(flags)),
        Rule::NoAccess(vma) => format!("{vma} {of} may not be accessed"),
        Rule::OfFile { vma, advice } => {
            format!("{vma} {of} is of a file, and {} is for anonymous memory", advice.name())
        }
        Rule::NotOfFile(vma) => format!("{vma} {of} is not of a file"),
        Rule::OfDevice(vma) => format!("{vma} {of} is of the device, which is no regular file"),
        Rule::NoRegularFile => "the file is the device, which is no regular file".into(),
        Rule::UnknownFlag => "Linux 5.2.1 does not know MREMAP_DONTUNMAP".into(),
        Rule::UnknownAdvice(advice) => {
            format!("Linux 5.2.1 does not know MADV_{}", advice.name())
        }
        Rule::UnknownOption => "Linux 5.2.1 does not know PR_SET_MEMORY_MERGE".into(),
        Rule::UnknownMode => "Linux 5.2.1 does not have UFFDIO_REGISTER_MODE_WP".into(),
        Rule::UnknownIoctl => "Linux 5.2.1 does not have UFFDIO_WRITEPROTECT".into(),
        Rule::UnknownCall => "Linux 5.2.1 does not have the call".into(),
        Rule::NothingToLock => "neither MCL_CURRENT nor MCL_FUTURE is given".into(),
        Rule::Resizes => "a call with MREMAP_DONTUNMAP may not resize".into(),
        Rule::NotAnonymous(vma) => format!("{vma} {of} is not private anonymous memory"),
        Rule::NoHugePages => "the kernel has no transparent huge pages".into(),
        Rule::NoMemory => "there is no memory for what the call needs".into(),
        Rule::Unwatchable(vma) => {
            format!("{vma} {of} is of the device or of SysV shared memory")
        }
        Rule::MovesAlone(vma) => {
            format!("{vma} {of} is of SysV shared memory, and cannot be moved together with others")
        }
        Rule::SegmentDestroyed => "the segment of shared memory was destroyed".into(),
        Rule::NotAttached(page) => {
            format!("no VMA {of} is a part of a segment that was attached at page {page}")
        }
        Rule::Unmovable(vma) => format!("the pages of {vma} {of} cannot migrate"),
        Rule::FileReadOnly => "the file is open for reading only".into(),
        Rule::BeyondFile(page) => format!("page {page} {of} lies beyond the end of its file"),
        Rule::PastLongestFile(range) => {
            format!("the pages of the file at {range} {of} lie past the end of the longest file")
        }
        Rule::Watched(vma) => format!("{vma} {of} has a userfaultfd context"),
        Rule::WouldBlock { page, vma } => format!(
            "page {page} {of} is missing, and userfaultfd watches {vma}: the call would block"
        ),
        Rule::WriteProtected { page, vma } => format!(
            "page {page} {of} is write-protected, and userfaultfd watches {vma}: the call would block"
        ),
        Rule::NotWriteProtectable(range) => {
            format!("userfaultfd does not watch {range} {of} in write-protect mode")
        }
        Rule::WatchedByOther { vma, ctx } => {
            format!("{vma} {of} is watched by a context that is not {}", ctx.0)
        }
        Rule::NeverOpened(ctx) => {
            format!("process {process} has never opened its context {}", ctx.0)
        }
        Rule::PrivateDuplicate(vma) => {
            format!("{vma} {of} is private, and only a shared mapping can be duplicated")
        }
    }
}

/// Returns the completed part of a refused call in words; empty if nothing was done.
fn progress_text(progress: Progress) -> String {
    match progress {
        Progress::Nothing => String::new(),
        Progress::Prepared => "; the VMA got an anon_vma, and keeps it".into(),
        Progress::UpTo(page) => {
            format!("; the call changed the range below page {page}, and the change stays")
        }
        Progress::Unmapped => "; the call unmapped the destination, and it stays unmapped".into(),
        Progress::NotPopulated => {
            "; the call did everything but populating, and the changes stay".into()
        }
        Progress::Everything => "; the call did everything else, and the changes stay".into(),
    }
}

impl Case<'_> {
    /// Returns the reference's refusal as text: `EINVAL: the range has no pages (do_mmap())`.
    pub(super) fn refusal_text(&self, refusal: &Refusal) -> String {
        let rule = rule_text(refusal.rule, refusal.process);
        let function = refusal.function.map(|function| format!("{function}()"));
        let cite = matches!(refusal.rule, Rule::Overlap { .. }) && self.is_copy();
        let cite = cite.then(|| self.point(6).to_owned());
        let source: Vec<String> = function.into_iter().chain(cite).collect();
        let source = match source.is_empty() {
            true => String::new(),
            false => format!(" ({})", source.join("; ")),
        };
        let progress = progress_text(refusal.progress);
        format!("{}: {rule}{source}{progress}", refusal.errno.name())
    }

    /// Returns the sentence for different errors: both results, and the check that decides.
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
        match (&self.reason.refusal, l, r) {
            (Some(refusal), Err(_), Err(_)) => {
                format!(
                    "{answers}. {}. It is the first check that fails",
                    self.refusal_text(refusal)
                )
            }
            (Some(refusal), ..) => format!("{answers}. {}", self.refusal_text(refusal)),
            (None, Err(errno), _) | (None, _, Err(errno)) => {
                format!("{answers}. {}", self.against(errno))
            }
            (None, Ok(_), Ok(_)) => answers,
        }
    }

    /// Returns the values with which the reference performs a call that another machine refuses.
    fn against(&self, errno: Errno) -> String {
        let touched: Vec<String> = self
            .touched
            .iter()
            .map(|t| {
                let mapped = vmas(&self.before.spaces[t.process], t.range);
                let mapped = match mapped.is_empty() {
                    true => "not mapped".into(),
                    false => format!("mapped by {}", list(&mapped)),
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
        format!("The reference has no reason for {}: {}{limits}", errno.name(), touched.join(", "))
    }
}
