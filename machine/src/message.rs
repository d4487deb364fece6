//! The messages that the monitor of a userfaultfd context reads (`struct uffd_msg`).

use std::fmt;

use crate::observation::UffdId;
use crate::operand::Page;
use crate::range::Range;

/// A message to the monitor of a userfaultfd context with event features.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message {
    /// The context.
    pub ctx: UffdId,
    /// The event that the message is about.
    pub about: UffdEvent,
}

/// The event of a [`Message`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UffdEvent {
    /// `UFFD_EVENT_FORK`.
    Fork {
        /// The context of the child; `None` if the fork fails after the context was made.
        child: Option<UffdId>,
    },
    /// `UFFD_EVENT_REMAP`.
    Remap {
        /// The range that was moved, with the old length of the call.
        from: Range,
        /// The page to which it was moved.
        to: Page,
    },
    /// `UFFD_EVENT_REMOVE`, with the range.
    Remove(Range),
    /// `UFFD_EVENT_UNMAP`, with the range of the whole call.
    Unmap(Range),
}

impl UffdEvent {
    /// Returns the event's name in signatures.
    pub const fn name(self) -> &'static str {
        match self {
            UffdEvent::Fork { .. } => "FORK",
            UffdEvent::Remap { .. } => "REMAP",
            UffdEvent::Remove(_) => "REMOVE",
            UffdEvent::Unmap(_) => "UNMAP",
        }
    }

    /// Returns the context of the child of a fork.
    pub const fn child(self) -> Option<UffdId> {
        match self {
            UffdEvent::Fork { child } => child,
            _ => None,
        }
    }

    /// Returns whether two events are the same, but for the number of the context of a child.
    pub fn is_like(self, other: UffdEvent) -> bool {
        match (self, other) {
            (UffdEvent::Fork { child: one }, UffdEvent::Fork { child: other }) => {
                one.is_some() == other.is_some()
            }
            (one, other) => one == other,
        }
    }
}

impl fmt::Display for Message {
    /// Writes the message: `UNMAP [4,6)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.about.name();
        match self.about {
            UffdEvent::Fork { child: Some(_) } => write!(f, "{name}"),
            UffdEvent::Fork { child: None } => write!(f, "{name} of no process"),
            UffdEvent::Remap { from, to } => write!(f, "{name} {from} to {to}"),
            UffdEvent::Remove(range) | UffdEvent::Unmap(range) => write!(f, "{name} {range}"),
        }
    }
}
