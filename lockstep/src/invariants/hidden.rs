//! The invariants of objects that no observation shows, by a recount of all of them:
//!
//! - A page is mapped by as many page table entries as its map count says, and by one at least.
//! - A page that more than one page table entry maps is writable through none of them.
//! - Every page is found by a walk from its anon_vma: where it is mapped, the VMA has the page's index
//!   at that address, and the page's anon_vma in its chain.
//! - An anon_vma has as many VMAs, children and references as its counters say, and one VMA at least.
//!   Its parent and its root are there, and the anon_vmas of a chain have one root.
//! - The counters of references to files, policies, userfaultfd contexts and address spaces equal the
//!   references (`references.rs`).
//! - Every `vm_area_struct`, `anon_vma_chain` entry and `mm_struct` that is allocated is in use.
//!
//! An object that is allocated and not in use is a leak.

use vmadiff_machine::hidden::{AnonVma, Hidden, Pte};
use vmadiff_machine::operand::MAX_PROCESSES;
use vmadiff_machine::{AddressSpace, AnonVmaId, Observation, PageSet, Vma};

use super::{UNREACHABLE, Violation, references};
use crate::divergence::Class;

/// The recount of an anon_vma.
#[derive(Clone, Copy, Debug, Default)]
struct Recount {
    /// The VMAs that have it as their own.
    active: i64,
    /// The anon_vmas that have it as their parent.
    children: i64,
    /// The VMAs whose chain has it.
    vmas: u32,
    /// Other anon_vmas that have it as their root.
    descendants: i64,
    /// Its place in [`Hidden::anon_vmas`], counting from 1; 0 where it is not allocated.
    at: u32,
}

/// Recounts the hidden state of one machine.
#[derive(Debug, Default)]
pub struct Recounter {
    /// By the number of the anon_vma.
    anon_vmas: Vec<Recount>,
    /// By the number of the page: the page table entries that map it, and its place in
    /// [`Hidden::pages`].
    pages: Vec<(u32, u32)>,
    references: references::Recount,
}

/// The element at `index`; the table grows so that it is there.
pub(super) fn slot<T: Clone + Default>(table: &mut Vec<T>, index: usize) -> &mut T {
    if table.len() <= index {
        table.resize(index + 1, T::default());
    }
    &mut table[index]
}

impl Recounter {
    /// Returns the first invariant that the state breaks.
    pub fn check(&mut self, seen: &Observation, hidden: &Hidden) -> Option<Violation> {
        self.pages(seen, hidden)
            .or_else(|| self.unreachable(seen, hidden))
            .or_else(|| self.anon_vmas(seen, hidden))
            .or_else(|| objects(seen, hidden))
            .or_else(|| self.references.check(seen, hidden))
    }

    fn pages(&mut self, seen: &Observation, hidden: &Hidden) -> Option<Violation> {
        self.pages.clear();
        for (at, page) in (0..).zip(&hidden.pages) {
            *slot(&mut self.pages, page.number as usize) = (0, at);
        }
        let mut shown: [PageSet; MAX_PROCESSES] = [0; MAX_PROCESSES];
        for pte in &hidden.ptes {
            shown[usize::from(pte.process.0)] |= 1 << pte.page.0;
            match pte.maps {
                Some(number) => slot(&mut self.pages, number as usize).0 += 1,
                None => return Some(freed_page(pte)),
            }
        }
        for page in &hidden.pages {
            let (mapped, _) = self.pages[page.number as usize];
            if mapped == 0 {
                let text = format!(
                    "an anonymous page with the map count {} is mapped nowhere and is not freed",
                    page.map_count
                );
                return Some(Violation::new(Class::Leak, "page", text));
            }
            if mapped != page.map_count {
                let text = format!(
                    "an anonymous page has the map count {}, and {mapped} page table entries map it",
                    page.map_count
                );
                return Some(Violation::new(Class::AnonVma, "invariant/map-count", text));
            }
        }
        if let Some(differ) = (0..MAX_PROCESSES).find(|&at| shown[at] != seen.spaces[at].anon_pages)
        {
            let text = format!("the page table of process {differ} is not the one that is shown");
            return Some(Violation::new(Class::AnonVma, "invariant/page-table", text));
        }
        self.writable_twice(seen, hidden)
    }

    /// Returns the first entry that permits writes to a page which another entry maps, too: the write of
    /// one process would reach the other.
    fn writable_twice(&self, seen: &Observation, hidden: &Hidden) -> Option<Violation> {
        let (pte, mapped) = hidden.ptes.iter().find_map(|pte| {
            let space = &seen.spaces[usize::from(pte.process.0)];
            let (mapped, _) = *self.pages.get(pte.maps? as usize)?;
            let writable = space.writable_ptes >> pte.page.0 & 1 == 1;
            (writable && mapped > 1).then_some((pte, mapped))
        })?;
        let text = format!(
            "the page table entry of page {} of process {} permits writes, and {mapped} entries map its \
             anonymous page",
            pte.page, pte.process
        );
        Some(Violation::new(Class::Contents, "invariant/writable-shared", text))
    }

    /// Returns the first page that a walk from its anon_vma does not find (`rmap_walk_anon()`,
    /// `vma_address()`).
    fn unreachable(&self, seen: &Observation, hidden: &Hidden) -> Option<Violation> {
        let lost = hidden.ptes.iter().find(|pte| {
            let space = &seen.spaces[usize::from(pte.process.0)];
            let page = pte.maps.and_then(|number| self.pages.get(number as usize));
            let page = page.and_then(|&(_, at)| hidden.pages.get(at as usize));
            let (Some(page), Some(vma)) = (page, space.vma_at(pte.page)) else { return true };
            let index = vma.pgoff.0.wrapping_add((pte.page.0 - vma.start.0).into());
            let hangs = |id: AnonVmaId| vma.anon_vma == Some(id) || space.chain(vma).contains(&id);
            page.index.0 != index || !page.anon_vma.is_some_and(hangs)
        })?;
        let (page, process) = (lost.page, lost.process);
        let text = format!("a reverse-map walk does not find page {page} of process {process}");
        Some(Violation::new(Class::AnonVma, UNREACHABLE, text))
    }

    fn anon_vmas(&mut self, seen: &Observation, hidden: &Hidden) -> Option<Violation> {
        self.anon_vmas.clear();
        for (at, anon_vma) in (1..).zip(&hidden.anon_vmas) {
            slot(&mut self.anon_vmas, anon_vma.id.index()).at = at;
        }
        for anon_vma in &hidden.anon_vmas {
            let (Some(parent), Some(root)) = (anon_vma.parent, anon_vma.root) else {
                return Some(relative_freed(anon_vma));
            };
            slot(&mut self.anon_vmas, parent.index()).children += 1;
            slot(&mut self.anon_vmas, root.index()).descendants += i64::from(root != anon_vma.id);
            // A root is its own root, and that of its children.
            if self.root(root, hidden) != Some(root) || self.root(parent, hidden) != Some(root) {
                let text = "an anon_vma has another root than its parent".to_owned();
                return Some(Violation::new(Class::AnonVma, "invariant/root", text));
            }
        }
        for space in &seen.spaces {
            for vma in space.vmas() {
                if let Some(violation) = self.chain(space, vma, hidden) {
                    return Some(violation);
                }
            }
        }
        hidden
            .anon_vmas
            .iter()
            .find_map(|anon_vma| miscounted(anon_vma, &self.anon_vmas[anon_vma.id.index()]))
    }

    /// Returns the root of an anon_vma; `None` where the anon_vma or its root was freed.
    fn root(&self, id: AnonVmaId, hidden: &Hidden) -> Option<AnonVmaId> {
        let at = self.anon_vmas.get(id.index())?.at.checked_sub(1)?;
        hidden.anon_vmas[at as usize].root
    }

    /// Counts the entries of a VMA's chain.
    fn chain(&mut self, space: &AddressSpace, vma: &Vma, hidden: &Hidden) -> Option<Violation> {
        let chain = space.chain(vma);
        let mut root = None;
        for &id in chain {
            slot(&mut self.anon_vmas, id.index()).vmas += 1;
            let Some(own) = self.root(id, hidden) else {
                let text = chain_text(vma, "has a freed anon_vma in its chain");
                return Some(Violation::new(Class::AnonVma, "invariant/chain", text));
            };
            if *root.get_or_insert(own) != own {
                let text = chain_text(vma, "has anon_vmas of different roots in its chain");
                return Some(Violation::new(Class::AnonVma, "invariant/root", text));
            }
        }
        if let Some(own) = vma.anon_vma {
            slot(&mut self.anon_vmas, own.index()).active += 1;
        }
        if vma.anon_vma.is_some_and(|own| !chain.contains(&own))
            || vma.anon_vma.is_none() != chain.is_empty()
        {
            let text = chain_text(vma, "has a chain that does not fit its anon_vma");
            return Some(Violation::new(Class::AnonVma, "invariant/chain", text));
        }
        None
    }
}

#[cold]
fn freed_page(pte: &Pte) -> Violation {
    let text = format!("page {} of process {} maps a freed page", pte.page, pte.process);
    Violation::new(Class::AnonVma, "invariant/page-freed", text)
}

#[cold]
fn relative_freed(anon_vma: &AnonVma) -> Violation {
    let freed = if anon_vma.parent.is_none() { "parent" } else { "root" };
    let text = format!("the {freed} of an anon_vma was freed before it");
    Violation::new(Class::AnonVma, "invariant/parent", text)
}

#[cold]
fn chain_text(vma: &Vma, what: &str) -> String {
    format!("the VMA {}..{} {what}", vma.start, vma.end)
}

fn miscounted(anon_vma: &AnonVma, recount: &Recount) -> Option<Violation> {
    let AnonVma { degree, active_vmas, vmas, references, .. } = *anon_vma;
    if recount.vmas == 0 {
        let text = "an anon_vma is in no VMA's chain and is not freed".to_owned();
        return Some(Violation::new(Class::Leak, "anon_vma", text));
    }
    let expected = 1 + recount.descendants;
    let (detail, text) = if vmas != recount.vmas {
        ("invariant/vmas", format!("counts {vmas} VMAs, and {} chains have it", recount.vmas))
    } else if active_vmas.is_some_and(|active| active != recount.active) {
        let active = active_vmas.unwrap_or_default();
        (
            "invariant/active-vmas",
            format!("counts {active} VMAs of its own, and has {}", recount.active),
        )
    } else if degree != recount.active + recount.children {
        let (active, children) = (recount.active, recount.children);
        (
            "invariant/degree",
            format!("has degree {degree}, and {active} VMAs of its own and {children} children"),
        )
    } else if references.is_some_and(|references| references != expected) {
        let references = references.unwrap_or_default();
        (
            "invariant/references",
            format!("counts {references} references, and there are {expected}"),
        )
    } else {
        return None;
    };
    Some(Violation::new(Class::AnonVma, detail, format!("an anon_vma {text}")))
}

fn objects(seen: &Observation, hidden: &Hidden) -> Option<Violation> {
    let vmas =
        || seen.spaces.iter().flat_map(|space| space.vmas().iter().map(move |vma| (space, vma)));
    let used_vmas = vmas().count();
    let used_entries: usize = vmas().map(|(space, vma)| space.chain(vma).len()).sum();
    let used_mms = seen.spaces.iter().filter(|space| space.alive).count();
    let objects = [
        ("vm_area_struct", "vm_area_struct", hidden.vmas, used_vmas),
        ("anon_vma_chain", "anon_vma_chain", hidden.chain_entries, used_entries),
        ("mm_struct", "mm_struct", hidden.mms, used_mms),
    ];
    objects.into_iter().find_map(|(detail, name, allocated, used)| {
        let allocated = allocated? as usize;
        (allocated != used).then(|| {
            let text =
                format!("{allocated} objects of type {name} are allocated, and {used} are in use");
            Violation::new(Class::Leak, detail, text)
        })
    })
}
