//! The kernel functions that refuse calls.

use std::fmt;

macro_rules! functions {
    ($($variant:ident $name:literal,)*) => {
        /// A function of the kernel that checks something and can refuse a call.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Function { $(#[doc = concat!("`", $name, "()`.")] $variant,)* }

        impl Function {
            /// The kernel's name of the function.
            pub const fn name(self) -> &'static str {
                match self { $(Function::$variant => $name,)* }
            }
        }
    };
}

functions! {
    AccessError "access_error",
    ApplyVmaLockFlags "apply_vma_lock_flags",
    CanDoMlock "can_do_mlock",
    CheckVmaFlags "check_vma_flags",
    CopyProcess "copy_process",
    CopyVma "copy_vma",
    DoMlock "do_mlock",
    DoMmap "do_mmap",
    DoMprotectPkey "do_mprotect_pkey",
    DoMseal "do_mseal",
    DoMunmap "__do_munmap",
    DoShmat "do_shmat",
    DoSysFtruncate "do_sys_ftruncate",
    DoSyscall64 "do_syscall_64",
    DoPageFault "__do_page_fault",
    HandleUserfault "handle_userfault",
    KsysIoctl "ksys_ioctl",
    MayExpandVm "may_expand_vm",
    KsysShmdt "ksys_shmdt",
    Madvise "madvise",
    MadviseBehavior "madvise_behavior",
    MadviseBehaviorValid "madvise_behavior_valid",
    MadviseDontneedFree "madvise_dontneed_free",
    MadviseFreeSingleVma "madvise_free_single_vma",
    MadviseRemove "madvise_remove",
    MbindRange "mbind_range",
    MlockFutureCheck "mlock_future_check",
    Mlockall "mlockall",
    MoveVma "move_vma",
    MprotectFixup "mprotect_fixup",
    Mremap "mremap",
    MremapTo "mremap_to",
    MwriteprotectRange "mwriteprotect_range",
    Prctl "prctl",
    ProcessVmMmap "process_vm_mmap",
    QueuePagesTestWalk "queue_pages_test_walk",
    ShmctlDown "shmctl_down",
    ShmemFault "shmem_fault",
    SplitVma "split_vma",
    Userfaultfd "userfaultfd",
    UserfaultfdIoctl "userfaultfd_ioctl",
    UserfaultfdRegister "userfaultfd_register",
    UserfaultfdUnregister "userfaultfd_unregister",
    ValidateRange "validate_range",
    VfsFallocate "vfs_fallocate",
    VmaCanUserfault "vma_can_userfault",
    VmaToResize "vma_to_resize",
}

impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
