//! The reasons why a kernel function ends early: an errno, or the death of the kernel.

use vmadiff_machine::{Assertion, Errno, Event, Object};

/// The kernel function, and the field it reads or the condition it asserts.
pub(crate) type Place = (&'static str, &'static str);

/// The reason why a kernel function ends early. `?` carries it upwards.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    /// The function returns `-errno`. Callers that go on in spite of it use [`Caught::errno`].
    Errno(Errno),
    /// The function read a freed object: the program is over.
    UseAfterFree(Object, &'static Place),
    /// A `BUG_ON` fired: the program is over.
    BugOn(&'static Place),
}

impl From<Errno> for Stop {
    fn from(errno: Errno) -> Stop {
        Stop::Errno(errno)
    }
}

impl Stop {
    /// Returns whether the program is over.
    pub(crate) fn is_fatal(&self) -> bool {
        !matches!(self, Stop::Errno(_))
    }

    /// Returns the event of a kernel that does not survive, or the errno of one that does.
    pub(crate) fn into_event(self) -> Result<Event, Errno> {
        match self {
            Stop::Errno(errno) => Err(errno),
            Stop::UseAfterFree(object, &(function, field)) => {
                Ok(Event::UseAfterFree { object, function, field })
            }
            Stop::BugOn(&(function, condition)) => {
                Ok(Event::Assertion { assertion: Assertion::BugOn, function, condition })
            }
        }
    }
}

/// The way in which a caller looks at an errno, as the kernel's callers do.
pub(crate) trait Caught<T> {
    /// Separates the errno, which the caller handles, from the end of the program, which the caller
    /// passes on.
    fn errno(self) -> Result<Result<T, Errno>, Stop>;
}

impl<T> Caught<T> for Result<T, Stop> {
    fn errno(self) -> Result<Result<T, Errno>, Stop> {
        match self {
            Ok(value) => Ok(Ok(value)),
            Err(Stop::Errno(errno)) => Ok(Err(errno)),
            Err(fatal) => Err(fatal),
        }
    }
}
