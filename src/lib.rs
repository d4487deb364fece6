//! Differential fuzzing of the Linux kernel's `copy_vma()`.
//!
//! # The problem
//!
//! `copy_vma()` makes a VMA that maps the same as another VMA: it merges the new range into its
//! neighbours, or duplicates the source. In 2019 a patch extended it to copy into *another* address
//! space. Merging, flags, userfaultfd contexts and the check for a source that the merge has
//! swallowed have to stay right in that case. Reading the code does not show whether they do: the
//! answer depends on earlier operations, on forks, faults and limits, and on the VMAs beside the
//! range.
//!
//! So two *machines* perform the same operations in lockstep, and the first difference between
//! their observations is the product. The [mod@reference] is a specification of the
//! right result. The [candidate] does the same as the kernel's code, at a
//! revision of the patch.
//!
//! # An example
//!
//! This example finds that plain `mremap` reads a VMA that it has freed, and shows the reason:
//!
//! ```
//! use vmadiff::{explain, lockstep::Lockstep, run::Run};
//! use vmadiff_candidate::{Candidate, Revision};
//! use vmadiff_reference::Reference;
//!
//! let mut lockstep = Lockstep::new(Reference::new(), Candidate::new(Revision::V2));
//! let program = "mmap 0 1 6 rw anon_private\n\
//!                mremap 0 4 2 2 MAYMOVE|FIXED 2\n".parse()?; // pages 4 and 5 to 2
//! let run = Run::of(&mut lockstep, &program);
//! let found = run.divergence.as_ref().expect("v2 has the bug");
//! assert_eq!(found.signature.as_str(), "aliasing/use-after-free/copy_vma/vm_mm");
//! assert!(explain::why(&run).is_some_and(|why| why.contains("the source was freed by that merge")));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # The flow
//!
//! ```text
//! sources                  lockstep                results
//!
//! generate ─┐                                    ┌─ compare      the first difference
//! mutate   ─┤            ┌─ reference ─┐         ├─ divergence   its class and signature
//! random   ─┼─ Program ──┤             ├─ obser- ┼─ triage       the programs of each signature
//! input    ─┤            └─ candidate ─┘ vations ├─ minimize     the shortest program
//! golden   ─┘                                    ├─ explain      the reason
//!                                                └─ report       the page
//! ```
//!
//! A fuzzing engine [mutates](mutate) programs and calls [`oracle::check_or_panic`] with each; the
//! command line does everything else. A machine of your own implements [`machine::Machine`];
//! `examples/own_machine.rs`
//! has one in forty lines. Lengths, page numbers, offsets and counters are in pages
//! everywhere (`map_count`: VMAs).

/// The candidate.
pub use vmadiff_candidate as candidate;
#[cfg(feature = "cli")]
pub use vmadiff_exchange::{export_c, export_syz, import, import_syz, strace, syz};
#[cfg(feature = "cli")]
pub use vmadiff_exhaust as exhaust;
#[cfg(feature = "cli")]
pub use vmadiff_explain::page;
pub use vmadiff_explain::{
    self as explain, contract_points, finding, merge_cases, picture, results, row, sarif, text,
};
pub use vmadiff_fuzzing::{
    crash, feedback, fresh, generate, guided, input, layout, machines, minimize, mutate, output,
    random, settings, stats, triage,
};
#[cfg(all(feature = "cli", target_os = "linux", target_arch = "x86_64"))]
pub use vmadiff_kernel as kernel;
pub use vmadiff_lockstep::{
    compare, divergence, golden, invariants, known, lockstep, run, visible,
};
/// The interface of machines: operations, programs, observations.
pub use vmadiff_machine as machine;
/// The reference.
pub use vmadiff_reference as reference;

/// The oracle of the fuzz targets, which shows a divergence as `vmadiff replay` does.
pub mod oracle {
    pub use vmadiff_fuzzing::oracle::*;

    use vmadiff_machine::{Machine, Program};

    use crate::feedback::Counters;
    use crate::finding::Finding;
    use crate::run::Run;
    use crate::text::{self, Look};

    /// Prepares the oracle of this process, before the first program. See
    /// [`vmadiff_fuzzing::oracle::prepare`].
    pub fn prepare(counters: &'static Counters) {
        vmadiff_fuzzing::oracle::prepare(counters, report);
    }

    /// Prepares the oracle of this process for two machines of your own. `left` is taken to be
    /// right, and `right` is compared with it. See [`vmadiff_fuzzing::oracle::prepare_machines`].
    pub fn prepare_machines(
        left: impl Machine + 'static,
        right: impl Machine + 'static,
        counters: &'static Counters,
    ) {
        let machines = Machines::new(Box::new(left), Box::new(right));
        vmadiff_fuzzing::oracle::prepare_machines(machines, counters, report);
    }

    fn report(lockstep: &mut Machines, program: &Program) -> String {
        text::finding(&Finding::of(Run::of(lockstep, program)), Look::default())
    }
}
