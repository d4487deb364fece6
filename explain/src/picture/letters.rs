//! Names of objects in a picture: letters for anon_vmas, numbers for files and contexts.

use std::collections::BTreeMap;

/// The letters of objects. An object keeps its letter as long as it lives. If both machines have an
/// object at the same place, it has the same letter in both.
#[derive(Debug, Default)]
pub(super) struct Letters {
    /// The letter number of each object of the right machine, kept from step to step.
    right: BTreeMap<usize, usize>,
    /// The letter number of each object of the left machine, for this step.
    left: BTreeMap<usize, usize>,
}

impl Letters {
    /// Names all objects, which are given in the same order for both machines. `pairs` are the
    /// objects (left, right) that both machines have at the same place.
    pub(super) fn name(&mut self, left: &[usize], right: &[usize], pairs: &[(usize, usize)]) {
        self.right.retain(|object, _| right.contains(object));
        for object in right {
            let free = (0..).find(|n| !self.right.values().any(|taken| taken == n));
            if let Some(free) = free {
                self.right.entry(*object).or_insert(free);
            }
        }
        self.left.clear();
        for (l, r) in pairs {
            let Some(&letter) = self.right.get(r) else { continue };
            if !self.left.contains_key(l) && !self.left.values().any(|taken| *taken == letter) {
                self.left.insert(*l, letter);
            }
        }
        for object in left {
            if self.left.contains_key(object) {
                continue;
            }
            let taken = |n: &usize| {
                self.left.values().any(|taken| taken == n)
                    || self.right.values().any(|taken| taken == n)
            };
            if let Some(free) = (0..).find(|n| !taken(n)) {
                self.left.insert(*object, free);
            }
        }
    }

    /// Returns the letter number of an object; `None` if the object is gone.
    pub(super) fn of(&self, is_left: bool, object: usize) -> Option<usize> {
        let table = if is_left { &self.left } else { &self.right };
        table.get(&object).copied()
    }
}

pub(super) fn letter(n: Option<usize>) -> String {
    let Some(n) = n else { return "?".into() };
    let letter = char::from(b'A' + (n % 26) as u8);
    if n < 26 { letter.to_string() } else { format!("{letter}{}", n / 26) }
}

pub(super) fn number(n: Option<usize>) -> String {
    n.map_or_else(|| "?".into(), |n| n.to_string())
}
