//! The contents of memory: which page an entry maps, whether it permits writes, and the value that is read.

use vmadiff_machine::operand::{END_PAGES, MAX_PROCESSES, Page};
use vmadiff_machine::{Observation, Op, PageSet};

use super::Case;
use crate::picture::pages_text;

/// A place at which an anonymous page is mapped.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Place {
    process: usize,
    page: u8,
}

impl Case<'_> {
    pub(super) fn contents(&self) -> String {
        let found = self.sharing().or_else(|| self.other_page()).or_else(|| self.write_bits());
        found.or_else(|| self.read()).unwrap_or_else(|| self.nothing())
    }

    /// Names the first two places that share a page in one machine only.
    fn sharing(&self) -> Option<String> {
        let mapped: Vec<Place> = places(self.left).collect();
        mapped.iter().enumerate().find_map(|(n, &place)| {
            let other = mapped[..n].iter().copied().find(|&other| {
                is_same(self.left, place, other) != is_same(self.right, place, other)
            })?;
            let (shares, apart) = match is_same(self.left, place, other) {
                true => (self.names.0, self.names.1),
                false => (self.names.1, self.names.0),
            };
            Some(format!(
                "{} and {} map the same anonymous page in {shares}, and two pages in {apart}{}",
                place_text(other),
                place_text(place),
                self.sharing_rule()
            ))
        })
    }

    /// Returns the rule that decides whether an operation makes pages shared.
    fn sharing_rule(&self) -> &'static str {
        match self.op {
            Op::Fork { .. } | Op::Copy { .. } | Op::CopyVma { .. } => {
                ": the copy of a page table shares every anonymous page (copy_one_pte())"
            }
            Op::Touch { .. } | Op::Mlock { .. } | Op::Mprotect { .. } => {
                ": a write to a page that another entry maps too gives the writer a page of its own \
                 (do_wp_page())"
            }
            _ => "",
        }
    }

    /// Names the first place at which the machines map pages that were at different places before.
    fn other_page(&self) -> Option<String> {
        let origin = |seen: &Observation, before: &Observation, place: Place| {
            let id = seen.spaces[place.process].page_id(Page(place.page))?;
            // The same place first: most pages have not moved.
            let mut there = std::iter::once(place).chain(places(before));
            there.find(|p| before.spaces[p.process].page_id(Page(p.page)) == Some(id))
        };
        places(self.left).find_map(|place| {
            let left = origin(self.left, &self.before, place);
            let right = origin(self.right, &self.before_right, place);
            let text = |origin: Option<Place>| match origin {
                Some(origin) if origin == place => "the page that was there before".to_owned(),
                Some(origin) => format!("the page that was at {} before", place_text(origin)),
                None => "a new page".to_owned(),
            };
            let (left, right) = (text(left), text(right));
            (left != right).then(|| {
                format!(
                    "{} maps {right} in {}, and {left} in {}",
                    place_text(place),
                    self.names.1,
                    self.names.0
                )
            })
        })
    }

    /// Names the entries that permit writes in one machine only.
    fn write_bits(&self) -> Option<String> {
        (0..MAX_PROCESSES).find_map(|process| {
            let bits = |seen: &Observation| -> PageSet { seen.spaces[process].writable_ptes };
            let (l, r) = (bits(self.left), bits(self.right));
            if l == r {
                return None;
            }
            let (only, there, other) = match r & !l {
                0 => (l & !r, self.names.0, self.names.1),
                only => (only, self.names.1, self.names.0),
            };
            Some(format!(
                "the page table entries of pages {} of process {process} permit writes in {there}, and \
                 not in {other}{}",
                pages_text(only),
                self.write_bit_rule()
            ))
        })
    }

    /// Returns the rule for the write bit of an entry.
    fn write_bit_rule(&self) -> &'static str {
        match self.op {
            Op::Fork { .. } | Op::Copy { .. } | Op::CopyVma { .. } => {
                ": the copy of a page table makes each anonymous page read-only on both sides, so that \
                 the first write copies it (copy_one_pte())"
            }
            Op::Mprotect { .. } => {
                ": a change of the protection makes the entries of private memory read-only, and the \
                 next write faults (change_pte_range())"
            }
            Op::Mremap { .. } => ": a move takes the entries as they are (move_ptes())",
            _ => ": a write to private memory makes the entry writable (maybe_mkwrite())",
        }
    }

    /// Names the values that were read.
    fn read(&self) -> Option<String> {
        let (Op::Touch { process, page, .. }, true) = (self.op, self.left.read != self.right.read)
        else {
            return None;
        };
        let value = |seen: &Observation| match seen.read {
            Some(value) => format!("the value {value}"),
            None => "no value".to_owned(),
        };
        Some(format!(
            "page {} of process {} reads as {} in {}, and as {} in {}",
            page.get(),
            process.get(),
            value(self.right),
            self.names.1,
            value(self.left),
            self.names.0
        ))
    }
}

/// Returns the places at which a machine maps anonymous pages.
fn places(seen: &Observation) -> impl Iterator<Item = Place> {
    seen.spaces.iter().enumerate().flat_map(|(process, space)| {
        (0..END_PAGES as u8)
            .filter(move |page| space.anon_pages >> page & 1 == 1)
            .map(move |page| Place { process, page })
    })
}

/// Returns whether two places map the same page.
fn is_same(seen: &Observation, a: Place, b: Place) -> bool {
    let id = |place: Place| seen.spaces[place.process].page_id(Page(place.page));
    id(a).is_some() && id(a) == id(b)
}

fn place_text(place: Place) -> String {
    format!("page {} of process {}", place.page, place.process)
}
