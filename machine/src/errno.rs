//! The errors an operation can end with.

use std::fmt;

macro_rules! errnos {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// An error of an operation, by the kernel's name and number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(clippy::upper_case_acronyms)]
        #[repr(u16)]
        pub enum Errno { $($(#[$doc])* $name = $number,)* }

        impl Errno {
            /// Every error, in the order of their numbers.
            pub const ALL: &'static [Errno] = &[$(Errno::$name,)*];

            /// The kernel's name.
            pub const fn name(self) -> &'static str {
                match self { $(Errno::$name => stringify!($name),)* }
            }
        }
    };
}

errnos! {
    /// Locking is not permitted (`can_do_mlock`), or a read-only shared file cannot be watched.
    EPERM = 1,
    /// No process has that index.
    ESRCH = 3,
    /// The userfaultfd context was never opened.
    EBADF = 9,
    /// Past a limit on lockable pages; no free process index for `fork`; or the operation would
    /// block on a missing page that userfaultfd watches.
    EAGAIN = 11,
    /// Past a limit on mappings or pages, or a hole in a range that must have none.
    ENOMEM = 12,
    /// The file is open for reading only.
    EACCES = 13,
    /// Nothing is mapped there, or the access is not permitted (`SIGSEGV`).
    EFAULT = 14,
    /// The mapping belongs to another userfaultfd context.
    EBUSY = 16,
    /// Something is mapped there already.
    EEXIST = 17,
    /// An operand the call does not take.
    EINVAL = 22,
    /// The machine has no such call.
    ENOSYS = 38,
    /// The source has a userfaultfd context (the kernel's own number, not `EOPNOTSUPP`).
    ENOTSUPP = 524,
    /// Not an errno: the access raised `SIGBUS`, beyond the end of the file.
    SIGBUS = 1000,
}

impl Errno {
    /// The positive number.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// The error with that positive number, if it is one that operations end with.
    pub fn from_number(number: u16) -> Option<Errno> {
        Errno::ALL.iter().copied().find(|e| e.number() == number)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Errno::SIGBUS { f.write_str("SIGBUS") } else { write!(f, "-{}", self.name()) }
    }
}
