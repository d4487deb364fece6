//! What kernels after 5.2.1 are known to do differently: rules by name.
//!
//! A rule says what the kernel does *instead*, where that can be said in terms of what the
//! reference knows: then the run goes on. Where it cannot, the rule *explains* a difference: then
//! the program ends there, for what follows would be compared with another history.
//!
//! Which rules hold on a kernel is not looked up by its version, for distributions port changes
//! back: each rule has a program, `corpus/kernel/NAME.txt`, whose last operation shows it.

use vmadiff_machine::operand::{Len, Mode, Page};
use vmadiff_machine::{Errno, Limits, Observation, Op, Vma};

/// A difference between reference and kernel.
#[derive(Clone, Copy, Debug)]
pub struct Difference<'a> {
    /// The operation after which they differ.
    pub op: &'a Op,
    /// The limits of the program.
    pub limits: &'a Limits,
    /// What the reference showed before.
    pub before: &'a Observation,
    /// What the reference shows.
    pub model: &'a Observation,
    /// What of it the kernel could show.
    pub expected: &'a Observation,
    /// What the kernel shows.
    pub shown: &'a Observation,
}

/// What a kernel does in place of an operation.
#[derive(Clone, Copy, Debug)]
pub enum Instead {
    /// Nothing; it answers that.
    Answers(Result<u8, Errno>),
    /// What the original kernel does for this operation.
    Does(Op),
}

type IsInstead = fn(&Op, &Observation, &Limits) -> Option<Instead>;
type Explains = fn(&Difference) -> bool;

/// Something that a kernel does otherwise than 5.2.1.
#[derive(Debug)]
pub struct Rule {
    /// What it is called.
    pub name: &'static str,
    /// The first version of Linux that it holds on; "-" where it is no matter of the version.
    pub since: &'static str,
    /// What is different.
    pub what: &'static str,
    /// Where that comes from: kernel function, and the title of the change where it is known.
    pub cite: &'static str,
    /// A program whose last operation shows it.
    pub program: &'static str,
    how: How,
}

#[derive(Debug)]
enum How {
    Instead(IsInstead),
    Explains(Explains),
}

impl Rule {
    /// What the kernel does instead of `op`, if this rule says so, where the reference has shown
    /// `before`.
    pub fn instead(&self, op: &Op, before: &Observation, limits: &Limits) -> Option<Instead> {
        match self.how {
            How::Instead(instead) => instead(op, before, limits),
            How::Explains(_) => None,
        }
    }

    /// Whether the difference is of this kind.
    pub fn explains(&self, difference: &Difference) -> bool {
        match self.how {
            How::Instead(_) => false,
            How::Explains(explains) => explains(difference),
        }
    }
}

macro_rules! rules {
    ($($name:literal since $since:literal: $what:literal; $cite:literal; $how:ident($function:expr);)*) => {
        /// Every rule.
        pub static RULES: &[Rule] = &[$(Rule {
            name: $name,
            since: $since,
            what: $what,
            cite: $cite,
            program: include_str!(concat!("../../corpus/kernel/", $name, ".txt")),
            how: How::$how($function),
        },)*];
    };
}

rules! {
    "mbind-holes" since "5.5":
        "mbind with a policy refuses any hole in the range, and the default policy none";
        "queue_pages_test_walk(), “mm/mempolicy.c: fix checking unmapped holes for mbind”";
        Instead(mbind_holes);
    "mremap-unmapped" since "5.16":
        "mremap looks for the mapping before anything else: EFAULT where there is none, and nothing is unmapped";
        "mremap(), “mm, hugepages: add mremap() support for hugepage backed vma”";
        Instead(mremap_unmapped);
}

/// What a process has mapped in `page..page + len`.
fn mapped(before: &Observation, process: u8, page: Page, len: Len) -> Vec<Vma> {
    let (start, end) = (page, page.plus(len));
    let vmas = before.spaces[usize::from(process)].vmas().iter();
    vmas.filter(|vma| vma.start < end && start < vma.end).copied().collect()
}

fn is_alive(before: &Observation, process: u8) -> bool {
    before.spaces[usize::from(process)].alive
}

fn mbind_holes(op: &Op, before: &Observation, _: &Limits) -> Option<Instead> {
    let Op::Mbind { process, page, len, mode } = *op else { return None };
    let (start, end) = (page.get(), page.get().plus(len.get()));
    let vmas = mapped(before, process.get().0, start, len.get());
    let (first, last) = (vmas.first()?, vmas.last()?);
    if mode.get() != Mode::Default {
        // Holes elsewhere the reference refuses as well.
        return (last.end < end).then_some(Instead::Answers(Err(Errno::EFAULT)));
    }
    (first.start > start).then(|| {
        let len = Len(end.0 - first.start.0).into();
        Instead::Does(Op::Mbind { process, page: first.start.into(), len, mode })
    })
}

fn mremap_unmapped(op: &Op, before: &Observation, _: &Limits) -> Option<Instead> {
    let Op::Mremap { process, page, new_len, .. } = *op else { return None };
    let process = process.get().0;
    let unmapped = mapped(before, process, page.get(), Len(1)).is_empty();
    (is_alive(before, process) && new_len.get().0 > 0 && unmapped)
        .then_some(Instead::Answers(Err(Errno::EFAULT)))
}
