//! The calls into a library: the only unsafe code of this crate.
#![allow(unsafe_code)]

use std::ffi::c_void;
use std::fs;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::ptr::NonNull;

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
use vmadiff_machine::abi::{Hidden, NAME_BYTES, Observation, Op, RawLimits, VERSION};

use crate::{Identity, LoadError};

/// A `struct vmadiff_machine`, whose layout only the library knows.
type Raw = c_void;

/// The functions of `vmadiff.h`.
#[derive(Clone, Copy)]
struct Functions {
    new: unsafe extern "C" fn() -> *mut Raw,
    free: unsafe extern "C" fn(*mut Raw),
    name: unsafe extern "C" fn(*const Raw, *mut u8),
    operations: unsafe extern "C" fn(*const Raw) -> u64,
    reset: unsafe extern "C" fn(*mut Raw, *const RawLimits),
    step: unsafe extern "C" fn(*mut Raw, *const Op, *mut Observation),
    hidden: Option<unsafe extern "C" fn(*mut Raw, *mut Hidden)>,
}

/// A library in this process.
pub(crate) struct Loaded {
    functions: Functions,
    pub(crate) identity: Identity,
}

impl Loaded {
    /// Loads a library for the rest of the process: it is never unloaded, because a fuzzing engine
    /// keeps pointers to its coverage counters.
    pub(crate) fn open(path: &Path) -> Result<Loaded, LoadError> {
        // The loader would search its own folders for a path without a slash.
        let file = fs::canonicalize(path)
            .map_err(|error| LoadError::File { path: path.to_owned(), error })?;
        // SAFETY: the user names the library and so permits running its code. Its functions have
        // the types of `vmadiff.h` if its version is ours.
        // RTLD_NOW resolves all symbols now: later, a missing function would end the process.
        let library = unsafe { Library::open(Some(&file), RTLD_NOW | RTLD_LOCAL) }
            .map_err(|error| LoadError::NotALibrary { reason: chain(&error) })?;
        let library = ManuallyDrop::new(library);
        let missing = |symbol| LoadError::Symbol { path: path.to_owned(), symbol };
        macro_rules! function {
            ($symbol:literal) => {{
                // SAFETY: the type is that of the header, for the version that was checked first.
                let function = unsafe { library.get(concat!($symbol, "\0").as_bytes()) };
                *function.map_err(|_| missing($symbol))?
            }};
        }
        let version: unsafe extern "C" fn() -> u32 = function!("vmadiff_abi_version");
        // SAFETY: `vmadiff_abi_version()` takes nothing and returns a number in every version.
        let found = unsafe { version() };
        if found != VERSION {
            return Err(LoadError::Version { path: path.to_owned(), found });
        }
        let functions = Functions {
            new: function!("vmadiff_new"),
            free: function!("vmadiff_free"),
            name: function!("vmadiff_name"),
            operations: function!("vmadiff_operations"),
            reset: function!("vmadiff_reset"),
            step: function!("vmadiff_step"),
            // SAFETY: the type is that of the header. A library may lack this function.
            hidden: unsafe { library.get(b"vmadiff_hidden\0") }.ok().map(|function| *function),
        };
        let machine = Instance::new(functions)
            .ok_or_else(|| LoadError::NoMachine { path: path.to_owned() })?;
        let mut name = [u8::MAX; NAME_BYTES];
        // SAFETY: the machine is the library's own, and the buffer has the length that the header
        // requires.
        let operations = unsafe {
            (functions.name)(machine.raw.as_ptr(), name.as_mut_ptr());
            (functions.operations)(machine.raw.as_ptr())
        };
        Ok(Loaded { functions, identity: Identity::new(path, &name, operations)? })
    }

    /// Returns a new machine; `None` if the library returns a null pointer.
    pub(crate) fn instance(&self) -> Option<Instance> {
        Instance::new(self.functions)
    }
}

/// Returns the text of the deepest cause of an error.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    let texts: Vec<String> = causes.map(ToString::to_string).collect();
    // The last cause is the message of the operating system.
    texts.last().cloned().unwrap_or_default()
}

/// A machine of a library in this process. The header promises that one thread uses it: a raw
/// pointer is not `Send`.
pub(crate) struct Instance {
    functions: Functions,
    raw: NonNull<Raw>,
}

impl Instance {
    fn new(functions: Functions) -> Option<Instance> {
        // SAFETY: the library is never unloaded, so its functions live as long as the process.
        let raw = unsafe { (functions.new)() };
        NonNull::new(raw).map(|raw| Instance { functions, raw })
    }

    pub(crate) fn reset(&mut self, limits: &RawLimits) {
        // SAFETY: the machine is the library's own and not yet freed; the limits outlive the call.
        unsafe { (self.functions.reset)(self.raw.as_ptr(), limits) }
    }

    #[inline]
    pub(crate) fn step(&mut self, op: &Op, seen: &mut Observation) {
        // SAFETY: as for `reset`. Every bit pattern is an `Observation`, so reading the bytes that
        // the library wrote is sound.
        unsafe { (self.functions.step)(self.raw.as_ptr(), op, seen) }
    }

    /// Asks for the hidden state; a library without the function shows none.
    pub(crate) fn hidden(&mut self, hidden: &mut Hidden) {
        hidden.forget();
        match self.functions.hidden {
            // SAFETY: as for `step`. Every bit pattern is a `Hidden`.
            Some(function) => unsafe { function(self.raw.as_ptr(), hidden) },
            None => hidden.shown = 0,
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // SAFETY: the machine is the library's own, and is freed here only.
        unsafe { (self.functions.free)(self.raw.as_ptr()) }
    }
}
