//! The original kernel's semantics of an address space (Linux 5.2.1), as a specification, and the
//! contract of a copy between two address spaces.
//!
//! The reference states what must be true, in the shortest form that can be checked by reading. It
//! does not follow the kernel's steps. An address space is a sorted list of VMAs. A range is changed
//! VMA by VMA: each part is joined to a neighbour if the merge rule allows it, else cut out at both
//! ends. Counters are counted when they are shown.
//!
//! Behaviours of later kernels are named [rules](later), and none holds unless it is asked for.
//!
//! Each decision can be asked for its [reason](why): the check that refused a call, the conditions
//! that kept two VMAs apart, the origin of a copy's attributes.
//!
//! Each rule is in one file:
//!
//! | rule | file |
//! |---|---|
//! | the merge of two neighbours, and the attributes that are kept | `merge.rs` |
//! | changing part of a VMA; walking a range and its holes | `change.rs` |
//! | the anon_vma of a VMA: shared, reused, freed | `anon_vma.rs`, `chain.rs` |
//! | the pages that an access makes; populating | `pages.rs`, `shmem.rs` |
//! | anonymous pages, and whether the reverse map finds them | `anon_page.rs` |
//! | counters and limits | `accounting.rs` |
//! | the references to files, policies and contexts | `references.rs` |
//! | the attributes of a copied or moved VMA | `copy_vma.rs` |
//! | the VMAs of a child | `fork.rs` |
//! | copies between address spaces | `contract.rs` |
//! | each system call | `mmap.rs`, `mprotect.rs`, `mremap.rs`, `madvise.rs`, `mlock.rs`, `mbind.rs`, `uffd.rs`, `shm.rs`, `mseal.rs`, `ftruncate.rs` |
//! | memory that a call does not get | `memory.rs`, and where each call needs memory |
//! | the state in words, for the exhaustive search | `state.rs` |
//! | the reasons | `why.rs`, `refusal.rs`, `function.rs` |
//! | the rules of later kernels | `later.rs`, and where each decision is made |

mod accounting;
mod anon_page;
mod anon_vma;
mod chain;
mod change;
mod clear_refs;
mod contract;
mod copy_vma;
mod fork;
mod ftruncate;
pub mod function;
#[cfg(test)]
mod invariants;
pub mod later;
mod madvise;
mod mbind;
mod memory;
mod memory_merge;
mod merge;
mod mlock;
mod mm;
mod mmap;
mod mprotect;
mod mremap;
mod mseal;
mod pages;
mod perform;
mod range;
mod references;
pub mod refusal;
mod shm;
mod shmem;
mod state;
mod uffd;
mod vma;
pub mod why;
mod world;

pub use contract::{CLEARED, MENDED};
pub use later::Rules;
pub use range::Range;
pub use refusal::Refusal;
pub use why::Why;

use vmadiff_machine::{Allocation, Failure, Hidden, Limits, Machine, Observation, Op, State};

use world::World;

/// The name of the machine without rules of later kernels.
const NAME: &str = "reference";

/// The specification, as a machine.
///
/// ```
/// use vmadiff_machine::{Machine, Observation, Program};
/// use vmadiff_reference::Reference;
///
/// // A range that was never faulted is moved next to its old place: the VMAs merge.
/// let program: Program = "mmap 0 1 6 rw anon_private\n\
///                         mremap 0 4 2 2 MAYMOVE|FIXED 2\n".parse()?;
/// let (mut reference, mut seen) = (Reference::new(), Observation::default());
/// for op in &program.ops {
///     reference.step(op, &mut seen);
/// }
/// assert_eq!(seen.spaces[0].counters.total_vm, 4);
/// # Ok::<(), vmadiff_machine::TextError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Reference {
    name: String,
    world: World,
    /// The state that was saved last. Its memory is kept for reuse.
    saved: Option<Box<World>>,
    /// The state before the last operation of a program in which an allocation fails.
    before: Option<Box<World>>,
}

impl Reference {
    /// Returns the machine at the start of a program without limits.
    pub fn new() -> Reference {
        let mut reference =
            Reference { name: NAME.to_owned(), world: World::default(), saved: None, before: None };
        reference.reset(&Limits::default());
        reference
    }

    /// Returns the machine of a kernel on which `rules` hold.
    ///
    /// ```
    /// use vmadiff_machine::{Errno, Machine, Observation, Program};
    /// use vmadiff_reference::{Reference, later::{Rule, Rules}};
    ///
    /// let program: Program = "mremap 0 4 2 1 -\n".parse()?;
    /// let mut seen = Observation::default();
    /// let mut later = Reference::with_rules(Rules::NONE.with(Rule::MremapUnmapped));
    /// later.step(&program.ops[0], &mut seen);
    /// assert_eq!(seen.result, Err(Errno::EFAULT));
    /// assert!(later.applied().has(Rule::MremapUnmapped));
    /// # Ok::<(), vmadiff_machine::TextError>(())
    /// ```
    pub fn with_rules(rules: Rules) -> Reference {
        let mut reference = Reference::new();
        reference.name = rules.iter().fold(NAME.to_owned(), |name, rule| name + "+" + rule.name());
        reference.world.later.hold = rules;
        reference
    }

    /// Returns the machine of that name: `reference`, and `+RULE` for each rule that holds.
    ///
    /// ```
    /// use vmadiff_machine::Machine;
    /// use vmadiff_reference::{MENDED, Reference};
    ///
    /// let name = "reference+anon-vma-reuse+uffd-offset";
    /// assert_eq!(Reference::named(name).as_ref().map(Machine::name), Some(name));
    /// assert_eq!(Reference::with_rules(MENDED).name(), name);
    /// assert!(Reference::named("reference+no-such-rule").is_none());
    /// ```
    pub fn named(name: &str) -> Option<Reference> {
        let mut parts = name.split('+');
        let rules = (parts.next() == Some(NAME)).then(|| parts.map(later::Rule::named))?;
        Some(Reference::with_rules(rules.collect::<Option<_>>()?))
    }

    /// Returns the rules that hold.
    pub fn rules(&self) -> Rules {
        self.world.later.hold
    }

    /// Returns the rules that the last operation applied: those that made it differ from 5.2.1.
    pub fn applied(&self) -> Rules {
        self.world.later.applied.get()
    }

    /// Performs one operation as [`Machine::step`] does, and returns the reasons of its decisions.
    ///
    /// ```
    /// use vmadiff_machine::{Errno, Observation, Program};
    /// use vmadiff_reference::{Reference, function::Function, refusal::Rule};
    ///
    /// let program: Program = "mprotect 0 4 1 r\n".parse()?;
    /// let mut seen = Observation::default();
    /// let why = Reference::new().step_explained(&program.ops[0], &mut seen);
    /// let refusal = why.refusal.ok_or("nothing is mapped there")?;
    /// assert_eq!((refusal.errno, refusal.function), (Errno::ENOMEM, Some(Function::DoMprotectPkey)));
    /// assert!(matches!(refusal.rule, Rule::NotMapped(page) if page.0 == 4));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn step_explained(&mut self, op: &Op, seen: &mut Observation) -> Why {
        if self.world.limits.fail.is_some() {
            self.remember();
        }
        self.world.why = Some(Box::default());
        let refusal = self.perform(op, seen).err();
        let why = self.world.why.take().map_or_else(Why::default, |why| *why);
        Why { refusal, ..why }
    }

    /// Keeps the present state for [`Machine::take_back`].
    #[cold]
    fn remember(&mut self) {
        match &mut self.before {
            Some(before) => (**before).clone_from(&self.world),
            None => self.before = Some(Box::new(self.world.clone())),
        }
    }

    /// Performs one operation. Inlined, so that [`Machine::step`] need not make a refusal of which
    /// it takes the errno alone.
    #[inline(always)]
    fn perform(&mut self, op: &Op, seen: &mut Observation) -> Result<u8, Refusal> {
        seen.begin_step();
        self.world.later.applied.set(Rules::NONE);
        self.world.anon_pages.begin();
        let result = self.world.perform(op, &mut seen.copy, &mut seen.read);
        seen.result = result.map_err(|refusal| refusal.errno);
        self.world.show(seen);
        self.world.find_lost_pages(&mut seen.events);
        result
    }
}

impl Default for Reference {
    fn default() -> Reference {
        Reference::new()
    }
}

impl Machine for Reference {
    fn name(&self) -> &str {
        &self.name
    }

    fn reset(&mut self, limits: &Limits) {
        self.world.reset(limits);
    }

    fn step(&mut self, op: &Op, seen: &mut Observation) {
        if self.world.limits.fail.is_some() {
            self.remember();
        }
        // The result is in `seen`.
        let _ = self.perform(op, seen);
    }

    fn step_failing(
        &mut self,
        op: &Op,
        failed: Allocation,
        n: u32,
        seen: &mut Observation,
    ) -> bool {
        if !self.take_back() {
            return false;
        }
        self.world.memory.fail(failed, n);
        // The result is in `seen`.
        let _ = self.perform(op, seen);
        self.world.memory.recover()
    }

    fn take_back(&mut self) -> bool {
        let Some(before) = &self.before else { return false };
        self.world.clone_from(before);
        true
    }

    fn show_hidden(&mut self, hidden: &mut Hidden) -> Result<bool, Failure> {
        self.world.anon_pages.show(&self.world.mms, hidden);
        self.world.anon_vmas.show(hidden);
        self.world.references.show(&self.world.segment, hidden);
        Ok(true)
    }

    fn write_state(&self, state: &mut State) -> bool {
        self.world.write_state(state);
        true
    }

    fn save(&mut self) -> bool {
        match &mut self.saved {
            Some(saved) => (**saved).clone_from(&self.world),
            None => self.saved = Some(Box::new(self.world.clone())),
        }
        true
    }

    fn restore(&mut self) {
        if let Some(saved) = &self.saved {
            self.world.clone_from(saved);
        }
    }
}

/// The examples of the readme file, which are tested.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
