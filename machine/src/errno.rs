//! The errors with which an operation can end.

use std::fmt;

macro_rules! errnos {
    ($($(#[$doc:meta])* $name:ident = $number:literal,)*) => {
        /// An error of an operation, by the kernel's name and number.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(clippy::upper_case_acronyms)]
        #[repr(u16)]
        pub enum Errno { $($(#[$doc])* $name = $number,)* }

        impl Errno {
            /// Every error, in the order of the numbers.
            pub const ALL: &'static [Errno] = &[$(Errno::$name,)*];

            /// Returns the kernel's name of the error.
            pub const fn name(self) -> &'static str {
                match self { $(Errno::$name => stringify!($name),)* }
            }
        }
    };
}

errnos! {
    /// Locking is not permitted (`can_do_mlock`), or a read-only shared file cannot be watched.
    EPERM = 1,
    /// userfaultfd does not watch the range in write-protect mode.
    ENOENT = 2,
    /// No process has the given index.
    ESRCH = 3,
    /// The userfaultfd context was never opened.
    EBADF = 9,
    /// A limit on locked pages is exceeded, or `fork` finds no free process index, or the operation
    /// would block on a missing page that userfaultfd watches.
    EAGAIN = 11,
    /// A limit on mappings or pages is exceeded, or a range has a hole and must not have one.
    ENOMEM = 12,
    /// The file is open for reading only.
    EACCES = 13,
    /// Nothing is mapped at the address, or the access is not permitted (`SIGSEGV`).
    EFAULT = 14,
    /// The mapping belongs to another userfaultfd context.
    EBUSY = 16,
    /// The destination is mapped already.
    EEXIST = 17,
    /// The file is a device, from which no pages can be removed.
    ENODEV = 19,
    /// The call does not accept an operand.
    EINVAL = 22,
    /// The range ends past the longest file.
    EFBIG = 27,
    /// The machine does not have the operation.
    ENOSYS = 38,
    /// The mapping would end past the longest file.
    EOVERFLOW = 75,
    /// The source has a userfaultfd context (the kernel's own number, not `EOPNOTSUPP`).
    ENOTSUPP = 524,
    /// Not an errno: the access raised `SIGBUS`, because it is beyond the end of the file.
    SIGBUS = 1000,
}

impl Errno {
    /// Returns the positive number of the error.
    pub const fn number(self) -> u16 {
        self as u16
    }

    /// Returns the error with this positive number; `None` if no operation ends with such an error.
    pub fn from_number(number: u16) -> Option<Errno> {
        Errno::ALL.iter().copied().find(|e| e.number() == number)
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Errno::SIGBUS { f.write_str("SIGBUS") } else { write!(f, "-{}", self.name()) }
    }
}
