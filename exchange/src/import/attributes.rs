//! The attributes of a mapping, as far as a log tells them.

use vmadiff_machine::operand::{Advice, Mode, Prot};

/// What a mapping shows. Objects are shown with the distance of address and page offset, which a
/// cut does not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    Private,
    /// Anonymous shared memory, each a new object.
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
}

/// Everything that neighbours must have in common to be one mapping.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attributes {
    pub(super) shows: Shows,
    pub(super) prot: Prot,
    pub(super) noreserve: bool,
    /// Locked, and if so on fault.
    pub(super) locked: Option<bool>,
    /// `DONTFORK`, `DONTDUMP`, `WIPEONFORK`, `MERGEABLE`, and one of `RANDOM`, `SEQUENTIAL`.
    pub(super) advice: [Option<Advice>; 5],
    pub(super) policy: Mode,
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

    pub(super) fn is_private_writable(&self) -> bool {
        let private = matches!(self.shows, Shows::Private | Shows::File { shared: false, .. });
        private && self.prot.contains(Prot::W)
    }

    /// The same, `pages` further on.
    pub(super) fn moved(mut self, pages: i64) -> Attributes {
        if let Shows::Object { distance, .. } | Shows::File { distance, .. } = &mut self.shows {
            *distance = distance.wrapping_add(pages);
        }
        self
    }
}
