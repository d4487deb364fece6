//! Locks that are taken twice, or not released.

use vmadiff_machine::observation::{Event, Observation};

use super::Case;
use crate::contract::Patch;
use crate::picture::Range;

impl Case<'_> {
    pub(super) fn deadlock(&self) -> String {
        let sides = [(self.right, self.names.1), (self.left, self.names.0)];
        let found = |seen: &Observation| {
            seen.events.iter().find_map(|event| match *event {
                Event::Deadlock { function, lock } => Some((true, function, lock)),
                Event::LockHeld { function, lock } => Some((false, function, lock)),
                _ => None,
            })
        };
        let found = sides.into_iter().find_map(|(seen, name)| Some((found(seen)?, name)));
        let Some(((twice, function, lock), name)) = found else { return self.nothing() };
        if !twice {
            return format!(
                "`{}` ends in {name} with {} held, which {function}() took",
                self.op,
                lock_text(lock)
            );
        }
        let why = match (&self.reason.copy, function) {
            (Some(copy), "copy_pte_range") => format!(
                ": the copy is made within process {}, {} and {} lie under one page-table page, and \
                 {function}() takes the lock of the destination and then that of the source{}",
                copy.process,
                copy.from,
                Range::of(&copy.new),
                self.hunk(Patch::CopyPageRange, function)
            ),
            _ => String::new(),
        };
        format!(
            "`{}` waits for itself for ever in {name}: {function}() takes {}, which the operation \
             holds already{why}",
            self.op,
            lock_text(lock)
        )
    }
}

/// Returns the name of a lock in a sentence.
fn lock_text(lock: &str) -> String {
    match lock {
        "ptl" => "a page-table lock".to_owned(),
        lock => lock.to_owned(),
    }
}
