//! The differences in the contents of memory: the value that a process reads, the anonymous page that
//! an entry maps, and the entries that permit writes without a fault.

use vmadiff_machine::operand::{MAX_PROCESSES, Process};
use vmadiff_machine::{AddressSpace, Observation, PageId, PageSet};

use crate::compare::Bijection;
use crate::page_ids::Pages;

/// Returns the detail of the first difference. Both machines map anonymous pages at the same places.
/// `caller` is the process that made the call. `history` has the pairs of pages before the operation.
pub(crate) fn difference(
    caller: Process,
    left: &Observation,
    right: &Observation,
    history: Option<&Pages>,
) -> Option<&'static str> {
    sharing(left, right)
        .or_else(|| other_page(left, right, history?))
        .or_else(|| write_bits(caller, left, right))
        .or_else(|| reads(left, right))
}

/// The anonymous pages of both machines, by their place.
fn pages<'a>(
    left: &'a AddressSpace,
    right: &'a AddressSpace,
) -> impl Iterator<Item = (PageId, PageId)> + 'a {
    left.page_ids().iter().copied().zip(right.page_ids().iter().copied())
}

/// Compares which entries map the same page.
fn sharing(left: &Observation, right: &Observation) -> Option<&'static str> {
    let mut pairs = Bijection::default();
    left.spaces.iter().zip(&right.spaces).flat_map(|(l, r)| pages(l, r)).find_map(|(l, r)| {
        if pairs.pairs(Some(l.index()), Some(r.index())) {
            return None;
        }
        // One of both was seen before.
        Some(match pairs.is_paired(r.index()) {
            true => "page-shared",
            false => "page-not-shared",
        })
    })
}

/// Compares the pages with those that were at their place, or at the place from which they were moved.
fn other_page(left: &Observation, right: &Observation, history: &Pages) -> Option<&'static str> {
    let spaces = left.spaces.iter().zip(&right.spaces);
    spaces.flat_map(|(l, r)| pages(l, r)).find_map(|(l, r)| history.difference(l, r))
}

/// Compares the write bits of the entries: those of the caller, and then those of the others.
fn write_bits(caller: Process, left: &Observation, right: &Observation) -> Option<&'static str> {
    let bits = |at: usize| (left.spaces[at].writable_ptes, right.spaces[at].writable_ptes);
    let detail = |(l, r): (PageSet, PageSet), kept, lost| match (l == r, r & !l != 0) {
        (true, _) => None,
        (false, true) => Some(kept),
        (false, false) => Some(lost),
    };
    let caller = usize::from(caller.0);
    let own = detail(bits(caller), "write-bit-kept", "write-bit-lost");
    own.or_else(|| {
        let mut others = (0..MAX_PROCESSES).filter(|at| *at != caller);
        others.find_map(|at| detail(bits(at), "other-write-bit-kept", "other-write-bit-lost"))
    })
}

/// Compares the value that a `touch` has read.
fn reads(left: &Observation, right: &Observation) -> Option<&'static str> {
    match (left.read, right.read) {
        (l, r) if l == r => None,
        (_, Some(0)) => Some("read-zero"),
        _ => Some("read-other"),
    }
}
