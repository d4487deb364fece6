//! Names that a shared library gives at run time. They are kept until the process ends, because
//! events hold `&'static str`.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// The largest number of names that a process keeps. The candidate can name a few hundred kernel
/// functions and conditions.
pub(crate) const MAX_NAMES: usize = 4096;

static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());

/// Returns `name` as a text that lives as long as the process. Each name is kept once. Returns
/// `None` if [`MAX_NAMES`] other names are kept already.
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
