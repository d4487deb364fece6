//! Names that arrive at run time, kept for the rest of the process: events hold `&'static str`.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// The most names that a process keeps. The kernel functions and conditions that the candidate can
/// name are a few hundred.
pub(crate) const MAX_NAMES: usize = 4096;

static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// Returns `name` as a text that lives as long as the process; `None` where [`MAX_NAMES`] other
/// names are kept already. The same name is kept once.
pub(crate) fn intern(name: &str) -> Option<&'static str> {
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(kept) = names.get(name) {
        return Some(kept);
    }
    if names.len() == MAX_NAMES {
        return None;
    }
    let kept: &'static str = Box::leak(name.into());
    names.insert(kept);
    Some(kept)
}
