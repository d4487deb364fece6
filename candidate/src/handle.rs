//! Handles: keys that are read and written through like the kernel's pointers. A handle outlives its
//! object, and a read through such a handle is reported.
//!
//! Every access names the kernel function that makes it, as a `const` called `F` by convention:
//!
//! ```ignore
//! const F: &str = "copy_vma";
//! let start = read!(self, F, vma.vm_start);
//! *edit!(self, F, vma.vm_end) = end;
//! ```

use vmadiff_machine::Object;

use crate::kernel::Kernel;
use crate::objects::{AnonVma, File, Mempolicy, Mm, UserfaultfdCtx, Vma};

pub(crate) use crate::key::{AnonVmaKey, CtxKey, FileKey, MmKey, PageKey, PolicyKey, VmaKey};

/// A pointer to an object that can be freed under it.
pub(crate) trait Handle: Copy {
    /// The object that the handle points to.
    type Target;

    /// The name of the kind of object in reports.
    const OBJECT: Object;

    /// The name of the kind of object in reports, for macros that have a handle and no type.
    #[inline]
    fn object(self) -> Object {
        Self::OBJECT
    }

    /// Returns the object, or `None` if it was freed.
    fn get(self, kernel: &Kernel) -> Option<&Self::Target>;

    /// Returns the object, or `None` if it was freed. The operation then counts as one that changes
    /// something.
    fn get_mut(self, kernel: &mut Kernel) -> Option<&mut Self::Target>;
}

impl Handle for VmaKey {
    type Target = Vma;
    const OBJECT: Object = Object::Vma;

    #[inline]
    fn get(self, kernel: &Kernel) -> Option<&Vma> {
        kernel.vmas.get(self)
    }

    #[inline]
    fn get_mut(self, kernel: &mut Kernel) -> Option<&mut Vma> {
        kernel.dirty = true;
        kernel.vmas.get_mut(self)
    }
}

impl Handle for MmKey {
    type Target = Mm;
    const OBJECT: Object = Object::Mm;

    #[inline]
    fn get(self, kernel: &Kernel) -> Option<&Mm> {
        kernel.mms.get(self)
    }

    #[inline]
    fn get_mut(self, kernel: &mut Kernel) -> Option<&mut Mm> {
        kernel.dirty = true;
        kernel.mms.get_mut(self)
    }
}

impl Handle for AnonVmaKey {
    type Target = AnonVma;
    const OBJECT: Object = Object::AnonVma;

    #[inline]
    fn get(self, kernel: &Kernel) -> Option<&AnonVma> {
        kernel.anon_vmas.get(self)
    }

    #[inline]
    fn get_mut(self, kernel: &mut Kernel) -> Option<&mut AnonVma> {
        kernel.anon_vmas.get_mut(self)
    }
}

impl Handle for FileKey {
    type Target = File;
    const OBJECT: Object = Object::File;

    #[inline]
    fn get(self, kernel: &Kernel) -> Option<&File> {
        kernel.files.get(self)
    }

    #[inline]
    fn get_mut(self, kernel: &mut Kernel) -> Option<&mut File> {
        kernel.files.get_mut(self)
    }
}

impl Handle for PolicyKey {
    type Target = Mempolicy;
    const OBJECT: Object = Object::Policy;

    #[inline]
    fn get(self, kernel: &Kernel) -> Option<&Mempolicy> {
        kernel.policies.get(self)
    }

    #[inline]
    fn get_mut(self, kernel: &mut Kernel) -> Option<&mut Mempolicy> {
        kernel.policies.get_mut(self)
    }
}

impl Handle for CtxKey {
    type Target = UserfaultfdCtx;
    const OBJECT: Object = Object::Context;

    #[inline]
    fn get(self, kernel: &Kernel) -> Option<&UserfaultfdCtx> {
        kernel.contexts.get(self.index()).filter(|ctx| ctx.refcount > 0)
    }

    #[inline]
    fn get_mut(self, kernel: &mut Kernel) -> Option<&mut UserfaultfdCtx> {
        kernel.contexts.get_mut(self.index()).filter(|ctx| ctx.refcount > 0)
    }
}

/// Reads a field through a handle. A stale handle ends the program.
macro_rules! read {
    ($kernel:expr, $function:expr, $handle:ident . $field:ident) => {
        $crate::handle::Handle::get($handle, &*$kernel)
            .ok_or_else(|| $crate::handle::stale!($function, $handle.$field))?
            .$field
    };
}

/// Gives mutable access to a field through a handle. A stale handle ends the program.
macro_rules! edit {
    ($kernel:expr, $function:expr, $handle:ident . $field:ident) => {
        &mut $crate::handle::Handle::get_mut($handle, &mut *$kernel)
            .ok_or_else(|| $crate::handle::stale!($function, $handle.$field))?
            .$field
    };
}

/// Makes the [`Stop`](crate::stop::Stop) for a read of a field through a stale handle.
macro_rules! stale {
    ($function:expr, $handle:ident . $field:ident) => {
        $crate::stop::Stop::UseAfterFree(
            $crate::handle::Handle::object($handle),
            const { &($function, stringify!($field)) },
        )
    };
}

/// `BUG_ON`: ends the program where the condition holds.
macro_rules! bug_on {
    ($condition:expr, $function:expr, $text:expr) => {
        if $condition {
            return Err($crate::stop::Stop::BugOn(const { &($function, $text) }));
        }
    };
}

/// `WARN_ON`: reports where the condition holds. The kernel goes on.
macro_rules! warn_on {
    ($kernel:expr, $condition:expr, $function:expr, $text:expr) => {
        if $condition {
            $kernel.warn($function, $text);
        }
    };
}

pub(crate) use {bug_on, edit, read, stale, warn_on};

#[cfg(test)]
mod tests {
    use slotmap::Key;
    use vmadiff_machine::{Errno, Object};

    use super::*;
    use crate::addr::Addr;
    use crate::revision::Revision;
    use crate::stop::Stop;

    const F: &str = "the_reader";

    /// Returns the object, function and field that a report would name.
    fn told<T>(result: Result<T, Stop>) -> Option<(Object, &'static str, &'static str)> {
        match result {
            Err(Stop::UseAfterFree(object, &(function, field))) => Some((object, function, field)),
            _ => None,
        }
    }

    fn end(kernel: &Kernel, vma: VmaKey) -> Result<Addr, Stop> {
        Ok(read!(kernel, F, vma.vm_end))
    }

    fn set_end(kernel: &mut Kernel, vma: VmaKey) -> Result<(), Stop> {
        *edit!(kernel, F, vma.vm_end) = Addr(9);
        Ok(())
    }

    fn map_count(kernel: &Kernel, mm: MmKey) -> Result<i64, Stop> {
        Ok(read!(kernel, F, mm.map_count))
    }

    fn refcount(kernel: &Kernel, anon_vma: AnonVmaKey) -> Result<i32, Stop> {
        Ok(read!(kernel, F, anon_vma.refcount))
    }

    #[test]
    fn a_stale_handle_is_told_with_object_function_and_field() -> Result<(), Errno> {
        let mut kernel = Kernel::new(Revision::Original);
        let program: vmadiff_machine::Program =
            "mmap 0 1 2 rw anon_private\ntouch 0 1 1".parse().map_err(|_| Errno::EINVAL)?;
        let mut seen = vmadiff_machine::Observation::default();
        for op in &program.ops {
            kernel.step(op, &mut seen);
        }
        let mm = kernel.processes[0].unwrap_or_default();
        let vma = kernel.mms[mm].mmap.unwrap_or_default();
        let anon_vma = kernel.vmas[vma].anon_vma.unwrap_or_default();
        assert_eq!(told(end(&kernel, vma)), None);
        assert_eq!(told(set_end(&mut kernel, vma)), None);
        assert_eq!(told(refcount(&kernel, anon_vma)), None);
        assert_eq!(told(map_count(&kernel, mm)), None);

        assert!(kernel.mmput(mm).is_ok());
        assert_eq!(told(end(&kernel, vma)), Some((Object::Vma, F, "vm_end")));
        assert_eq!(told(set_end(&mut kernel, vma)), Some((Object::Vma, F, "vm_end")));
        assert_eq!(told(refcount(&kernel, anon_vma)), Some((Object::AnonVma, F, "refcount")));
        assert_eq!(told(map_count(&kernel, mm)), Some((Object::Mm, F, "map_count")));
        assert_eq!(told(end(&kernel, VmaKey::null())), Some((Object::Vma, F, "vm_end")));
        Ok(())
    }
}
