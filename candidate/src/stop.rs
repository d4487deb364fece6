//! Why a kernel function ends early: with an errno, or because the kernel does not survive.

use vmadiff_machine::{Assertion, Errno, Event, Object};

/// The kernel function, and what it reads or asserts.
pub(crate) type Place = (&'static str, &'static str);

/// Why a kernel function ends early; carried upwards by `?`.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stop {
    /// It returns `-errno`. Callers that go on in spite of it use [`Caught::errno`].
    Errno(Errno),
    /// It read a freed object: the program is over.
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
    /// The event of a kernel that does not survive; the errno of one that does.
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

/// For callers that look at an errno, as the kernel's do.
pub(crate) trait Caught<T> {
    /// Separates the errno, which the caller handles, from the end of the program, which it
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
