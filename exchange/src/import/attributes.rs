//! The attributes of a mapping, as far as a log gives them.

use vmadiff_machine::operand::{Advice, Mode, Prot};

use crate::strace::Pages;

/// The contents of a mapping. For objects and files they include the distance between address and
/// page offset, which stays the same if the mapping is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    Private,
    /// Shared anonymous memory; each `mmap()` makes a new object.
    Object {
        object: usize,
        distance: i64,
    },
    File {
        file: usize,
        shared: bool,
        read_only: bool,
        distance: i64,
    },
    /// A segment of SysV shared memory.
    Segment {
        id: u64,
        pages: u64,
        /// The address of the segment's first page, whether it is still mapped or not.
        start: i64,
        read_only: bool,
        exec: bool,
    },
}

/// The attributes that two neighbours must have in common to be one mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) shows: Shows,
    pub(super) prot: Prot,
    pub(super) noreserve: bool,
    /// The lock: `Some(true)` with `MLOCK_ONFAULT`, `Some(false)` without, `None` if the mapping is
    /// not locked.
    pub(super) locked: Option<bool>,
    /// `DONTFORK`, `DONTDUMP`, `WIPEONFORK`, `MERGEABLE`, and one of `RANDOM`, `SEQUENTIAL`.
    pub(super) advice: [Option<Advice>; 5],
    pub(super) policy: Mode,
    /// The mapping is sealed (`mseal`).
    pub(super) sealed: bool,
}

impl Attributes {
    pub(super) fn new(shows: Shows, prot: Prot) -> Attributes {
        Attributes {
            shows,
            prot,
            noreserve: false,
            locked: None,
            advice: [None; 5],
            policy: Mode::Default,
            sealed: false,
        }
    }

    pub(super) fn advise(&mut self, advice: Advice) {
        let (at, to) = match advice {
            Advice::Dontfork => (0, true),
            Advice::Dofork => (0, false),
            Advice::Dontdump => (1, true),
            Advice::Dodump => (1, false),
            Advice::Wipeonfork => (2, true),
            Advice::Keeponfork => (2, false),
            Advice::Mergeable => (3, true),
            Advice::Unmergeable => (3, false),
            Advice::Random | Advice::Sequential => (4, true),
            Advice::Normal => (4, false),
            _ => return,
        };
        self.advice[at] = to.then_some(advice);
    }

    /// Returns whether the mapping of `range` is a whole attachment of the segment `id`.
    pub(super) fn is_attachment(&self, range: Pages, of: Option<u64>) -> bool {
        matches!(
            self.shows,
            Shows::Segment { id, pages, start, .. }
                if Some(id) == of && start as u64 == range.start && range.end - range.start == pages
        )
    }

    pub(super) fn is_private_writable(&self) -> bool {
        let private = matches!(self.shows, Shows::Private | Shows::File { shared: false, .. });
        private && self.prot.contains(Prot::W)
    }

    /// Returns the attributes of the mapping after a move by `pages`.
    pub(super) fn moved(mut self, pages: i64) -> Attributes {
        if let Shows::Object { distance, .. } | Shows::File { distance, .. } = &mut self.shows {
            *distance = distance.wrapping_add(pages);
        }
        if let Shows::Segment { start, .. } = &mut self.shows {
            *start = start.wrapping_add(pages);
        }
        self
    }
}
