//! A shared library as a machine: `lib:PATH`.
//!
//! The C interface is `machine/include/vmadiff.h`. A library runs in one of two ways:
//!
//! - *In this process* ([`Library::in_process`]): fast, and a fuzzing engine sees the coverage of
//!   the library. A crash of the library is a crash of the process, which the engine reports.
//! - *In a process of its own* ([`Library::isolated`]): a crash, an exit or an endless loop ends
//!   only that process, and is an event of the observation ([`Failure`]). The next program gets a
//!   new process. The started executable has to call [`serve`].
//!
//! Both ways check each observation by [`vmadiff_machine::abi::Observation::read`].
//!
//! Unsafe code is in `foreign.rs` only. It cannot protect this process from a library that writes
//! outside its buffers: [`Library::isolated`] does.

mod foreign;
mod in_process;
mod isolated;
mod wire;
mod worker;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use vmadiff_machine::failure::Failure;
use vmadiff_machine::op::Opcode;
use vmadiff_machine::{Machine, abi};

pub use worker::serve;

use foreign::Loaded;
use in_process::InProcess;
use isolated::{Isolated, Starter};

/// The environment variable with the time limit of an isolated library for an operation, in
/// seconds. The default is [`DEFAULT_TIMEOUT`].
pub const TIMEOUT: &str = "VMADIFF_LIBRARY_TIMEOUT";
/// The environment variable that shows the output of an isolated library, if it is set.
pub const OUTPUT: &str = "VMADIFF_LIBRARY_OUTPUT";
/// The default time limit of an isolated library for an operation, in seconds.
pub const DEFAULT_TIMEOUT: u64 = 5;

/// The reason why a file is not a machine.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be opened.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The loader of the operating system refuses the file.
    #[error("not a shared library that can be loaded here: {reason}{}", advice(reason))]
    NotALibrary {
        /// The message of the loader, which names the file.
        reason: String,
    },
    /// A function of the C interface is missing.
    #[error("{}: the function {symbol}() is missing: vmadiff.h says what a machine defines", path.display())]
    Symbol {
        /// The file.
        path: PathBuf,
        /// The function.
        symbol: &'static str,
    },
    /// The library has another version of the C interface.
    #[error("{}: version {found} of the C interface: expected {}", path.display(), abi::VERSION)]
    Version {
        /// The file.
        path: PathBuf,
        /// The library's version.
        found: u32,
    },
    /// `vmadiff_new()` returned a null pointer.
    #[error("{}: vmadiff_new() gave no machine", path.display())]
    NoMachine {
        /// The file.
        path: PathBuf,
    },
    /// `vmadiff_name()` wrote no name.
    #[error("{}: vmadiff_name() wrote no name: expected UTF-8 without control characters, then a NUL, in 64 bytes", path.display())]
    Name {
        /// The file.
        path: PathBuf,
    },
    /// `vmadiff_operations()` has bits that belong to no operation.
    #[error("{}: vmadiff_operations() is {found:#x}: expected bits 0 to {}", path.display(), Opcode::ALL.len() - 1)]
    Operations {
        /// The file.
        path: PathBuf,
        /// The library's answer.
        found: u64,
    },
    /// The library fails before the first program.
    #[error("{}: the library fails when it is loaded: {failure}", path.display())]
    Fails {
        /// The file.
        path: PathBuf,
        /// The failure.
        failure: Failure,
    },
    /// The process that is to run the library cannot be started.
    #[error("{}: no process to run the library in: {error}", path.display())]
    Start {
        /// The program that was started.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The process that runs the library refuses it.
    #[error("{0}")]
    Refused(String),
    /// The time limit is not a number of seconds from 1 to 3600.
    #[error("{TIMEOUT}: `{0}`: expected a number of seconds from 1 to 3600")]
    Timeout(String),
}

/// Returns a hint for a library that was built with a fuzz target's flags; else an empty text.
fn advice(reason: &str) -> &'static str {
    if reason.contains("__sanitizer_cov") {
        " (it was built with a fuzz target's flags, and this program does not know all of them)"
    } else {
        ""
    }
}

/// Defines the functions that a library calls if it was built with a fuzz target's flags: the
/// library uses them to register its coverage counters and to report comparisons. They ignore their
/// arguments and do nothing. A program that uses this macro and exports the symbols can load such a
/// library. In a fuzz target libFuzzer defines the functions.
///
/// The attribute that fixes the names is `unsafe`.
#[macro_export]
macro_rules! ignore_coverage {
    () => {
        $crate::ignore_coverage! {
            __sanitizer_cov_8bit_counters_init
            __sanitizer_cov_pcs_init
            __sanitizer_cov_trace_pc_indir
            __sanitizer_cov_trace_cmp1
            __sanitizer_cov_trace_cmp2
            __sanitizer_cov_trace_cmp4
            __sanitizer_cov_trace_cmp8
            __sanitizer_cov_trace_const_cmp1
            __sanitizer_cov_trace_const_cmp2
            __sanitizer_cov_trace_const_cmp4
            __sanitizer_cov_trace_const_cmp8
            __sanitizer_cov_trace_switch
            __sanitizer_cov_trace_div4
            __sanitizer_cov_trace_div8
            __sanitizer_cov_trace_gep
        }
    };
    ($($symbol:ident)*) => {
        const _: () = {$(
            #[unsafe(no_mangle)]
            extern "C" fn $symbol() {}
        )*};
    };
}

/// A shared library that has been checked to be a machine.
#[derive(Clone)]
pub struct Library {
    /// The path as it was given.
    path: PathBuf,
    how: How,
}

#[derive(Clone)]
enum How {
    InProcess(Arc<Loaded>),
    Isolated(Arc<Starter>),
}

impl Library {
    /// Loads the library at `path` into this process, for the rest of the process.
    ///
    /// # Errors
    /// Returns a [`LoadError`] if the file is not a machine of this version.
    pub fn in_process(path: &Path) -> Result<Library, LoadError> {
        let loaded = Loaded::open(path)?;
        Ok(Library { path: path.to_owned(), how: How::InProcess(Arc::new(loaded)) })
    }

    /// Loads the library at `path` into a process that runs `program` with `args` and the path. The
    /// program has to call [`serve`] with that path.
    ///
    /// # Errors
    /// Returns a [`LoadError`] if the file is not a machine of this version, or fails when it is
    /// loaded.
    pub fn isolated(path: &Path, program: &Path, args: &[&str]) -> Result<Library, LoadError> {
        let starter = Starter::new(path, program, args)?;
        Ok(Library { path: path.to_owned(), how: How::Isolated(Arc::new(starter)) })
    }

    /// Returns the path of the file, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns a new machine, at the start of a program without limits.
    pub fn machine(&self) -> Box<dyn Machine> {
        match &self.how {
            How::InProcess(loaded) => Box::new(InProcess::new(loaded.clone())),
            How::Isolated(starter) => Box::new(Isolated::new(starter.clone())),
        }
    }
}

impl PartialEq for Library {
    /// Returns whether both are the same file, run in the same way.
    fn eq(&self, other: &Library) -> bool {
        self.path == other.path
            && matches!(self.how, How::InProcess(_)) == matches!(other.how, How::InProcess(_))
    }
}

impl Eq for Library {}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Library").field("path", &self.path).finish_non_exhaustive()
    }
}

/// The name and the operations of a machine, as the library returned them, checked.
#[derive(Clone, Debug)]
struct Identity {
    /// The name: `lib:` and the library's own name.
    name: String,
    /// The set of operations: bit n is the operation with opcode n.
    operations: u64,
}

impl Identity {
    /// Checks a name and a set of operations.
    fn new(path: &Path, name: &[u8], operations: u64) -> Result<Identity, LoadError> {
        let path = || path.to_owned();
        let name = abi::text(name).ok_or_else(|| LoadError::Name { path: path() })?;
        if operations >> Opcode::ALL.len() != 0 {
            return Err(LoadError::Operations { path: path(), found: operations });
        }
        Ok(Identity { name: format!("lib:{name}"), operations })
    }

    fn has(&self, opcode: Opcode) -> bool {
        self.operations >> opcode as u8 & 1 == 1
    }
}
