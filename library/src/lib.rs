//! A shared library as a machine: `lib:PATH`.
//!
//! The C interface is `machine/include/vmadiff.h`. A library runs in one of two ways:
//!
//! - *In this process* ([`Library::in_process`]): fast, and a fuzzing engine sees its coverage. A
//!   crash of the library is a crash of the process, which the engine reports.
//! - *In a process of its own* ([`Library::isolated`]): a crash, an exit or an endless loop ends
//!   that process alone, and is an event of the observation ([`Failure`]). The next program starts
//!   a new process. The program that is started has to call [`serve`] when it is asked to.
//!
//! Both ways check each observation by [`vmadiff_machine::abi::Observation::read`].
//!
//! Unsafe code is in `foreign.rs` alone. It cannot protect this process from a library that writes
//! outside its buffers: for that there is the process of its own.

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

/// The seconds that an isolated library has for an operation: [`DEFAULT_TIMEOUT`] if not set.
pub const TIMEOUT: &str = "VMADIFF_LIBRARY_TIMEOUT";
/// Shows what an isolated library prints, if set.
pub const OUTPUT: &str = "VMADIFF_LIBRARY_OUTPUT";
/// The seconds that an isolated library has for an operation by default.
pub const DEFAULT_TIMEOUT: u64 = 5;

/// Why a file is not a machine.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be opened.
    #[error("{}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The loader of the operating system refuses the file.
    #[error("not a shared library that can be loaded here: {reason}{}", advice(reason))]
    NotALibrary {
        /// What the loader says; it names the file.
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
    /// `vmadiff_new()` gave a null pointer.
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
    /// `vmadiff_operations()` has bits of no operation.
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
        /// How.
        failure: Failure,
    },
    /// The process that is to run the library cannot be started.
    #[error("{}: no process to run the library in: {error}", path.display())]
    Start {
        /// The program that was started.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// The process that runs the library refuses it.
    #[error("{0}")]
    Refused(String),
    /// The time limit is not one.
    #[error("{TIMEOUT}: `{0}`: expected a number of seconds from 1 to 3600")]
    Timeout(String),
}

/// A hint for a library that was built to be fuzzed.
fn advice(reason: &str) -> &'static str {
    if reason.contains("__sanitizer_cov") {
        " (it was built with a fuzz target's flags, and this program does not know all of them)"
    } else {
        ""
    }
}

/// Defines the functions that a library calls where it was built with a fuzz target's flags: by them
/// it registers its coverage counters and tells of comparisons. They do nothing, whatever they are
/// given. The program that uses this macro, and exports the symbols, can load such a library. In a
/// fuzz target libFuzzer defines them.
///
/// `unsafe` is in the attribute that fixes the names.
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

/// A shared library that was found to be a machine.
#[derive(Clone)]
pub struct Library {
    /// As it was given.
    path: PathBuf,
    how: How,
}

#[derive(Clone)]
enum How {
    InProcess(Arc<Loaded>),
    Isolated(Arc<Starter>),
}

impl Library {
    /// Loads the library at `path` into this process, for the rest of its life.
    ///
    /// # Errors
    /// [`LoadError`] where the file is not a machine of this version.
    pub fn in_process(path: &Path) -> Result<Library, LoadError> {
        let loaded = Loaded::open(path)?;
        Ok(Library { path: path.to_owned(), how: How::InProcess(Arc::new(loaded)) })
    }

    /// Loads the library at `path` into a process that runs `program` with `args` and the path, and
    /// has to call [`serve`] with that path.
    ///
    /// # Errors
    /// [`LoadError`] where the file is not a machine of this version, or fails when it is loaded.
    pub fn isolated(path: &Path, program: &Path, args: &[&str]) -> Result<Library, LoadError> {
        let starter = Starter::new(path, program, args)?;
        Ok(Library { path: path.to_owned(), how: How::Isolated(Arc::new(starter)) })
    }

    /// The file, as it was given.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// A new machine, at the start of a program without limits.
    pub fn machine(&self) -> Box<dyn Machine> {
        match &self.how {
            How::InProcess(loaded) => Box::new(InProcess::new(loaded.clone())),
            How::Isolated(starter) => Box::new(Isolated::new(starter.clone())),
        }
    }
}

impl PartialEq for Library {
    /// Whether both are the same file, run in the same way.
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

/// The name and the operations of a machine, as the library gave them, checked.
#[derive(Clone, Debug)]
struct Identity {
    /// `lib:` and the library's own name.
    name: String,
    /// Bit n for the operation with opcode n.
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
