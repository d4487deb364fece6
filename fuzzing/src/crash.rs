//! Functions that end the process after a finding, each named after the family of the finding.
//!
//! ClusterFuzz treats crashes as one bug if the three uppermost frames of their stacks are the same.
//! Frames of the panic machinery do not count. A harness that panics in one place therefore has all
//! its bugs filed as one. Here each family of signatures has a function of its own, which is not
//! inlined: `vmadiff_fuzzing::crash::flags::copy` for `flags/copy/…`,
//! `vmadiff_fuzzing::crash::use_after_free::copy_vma` for `aliasing/use-after-free/copy_vma/…`.
//!
//! No name here contains the word "assert": ClusterFuzz skips frames that contain it.

use vmadiff_lockstep::divergence::Signature;

/// A function that ends the process with a report.
type End = fn(&str) -> !;

/// Makes a module for each class of divergence, with a function for each family.
macro_rules! families {
    ($($module:ident $class:literal: $names:ident;)*) => {
        $($names! { $module $class })*

        /// Returns the function for a class and a part, and whether no other family shares the
        /// function.
        fn end_of(class: &str, part: &str) -> (End, bool) {
            match class {
                $($class => $module::end_of(part),)*
                _ => (other, false),
            }
        }

        functions! { @one other "a class without a name" }
    };
}

/// Makes the module of a class: a function for each part, and `other` for every other part.
macro_rules! functions {
    ($module:ident $class:literal; $($name:ident $part:literal)*) => {
        mod $module {
            $(functions! { @one $name concat!($class, "/", $part) })*
            functions! { @one other concat!($class, "/…") }

            pub(super) fn end_of(part: &str) -> (super::End, bool) {
                match part {
                    $($part => ($name, true),)*
                    _ => (other, false),
                }
            }
        }
    };
    (@one $name:ident $what:expr) => {
        #[cold]
        #[inline(never)]
        pub(super) fn $name(report: &str) -> ! {
            // Each body has a different text. Otherwise a linker may fold the functions into one.
            panic!("{}\n{report}", std::hint::black_box($what));
        }
    };
}

/// The parts of signatures that are operations, or code that several operations share.
macro_rules! parts {
    ($module:ident $class:literal) => {
        functions! { $module $class;
            mmap "mmap"
            munmap "munmap"
            mprotect "mprotect"
            mremap "mremap"
            madvise "madvise"
            mlock "mlock"
            munlock "munlock"
            mbind "mbind"
            touch "touch"
            uffd_register "uffd_register"
            uffd_unregister "uffd_unregister"
            fork "fork"
            exit "exit"
            copy "copy"
            copy_vma "copy_vma"
            shmat "shmat"
            shmdt "shmdt"
            shm_rmid "shm_rmid"
            mlockall "mlockall"
            munlockall "munlockall"
            mseal "mseal"
            clear_refs "clear_refs"
            ftruncate "ftruncate"
            prlimit "prlimit"
            memory_merge "memory_merge"
            uffd_open "uffd_open"
            uffd_register_wp "uffd_register_wp"
            uffd_writeprotect "uffd_writeprotect"
            map "map"
            change "change"
            invariant "invariant"
            unreachable_page "unreachable-page"
            missing_unreachable_page "missing-unreachable-page"
        }
    };
}

/// The objects that can leak.
macro_rules! objects {
    ($module:ident $class:literal) => {
        functions! { $module $class;
            page "page"
            anon_vma "anon_vma"
            vm_area_struct "vm_area_struct"
            anon_vma_chain "anon_vma_chain"
            mm_struct "mm_struct"
            mm_users "mm_users"
            file "file"
            mempolicy "mempolicy"
            userfaultfd_ctx "userfaultfd_ctx"
            shmid_kernel "shmid_kernel"
        }
    };
}

/// The kernel functions that an event can name.
macro_rules! places {
    ($module:ident $class:literal) => {
        functions! { $module $class;
            anon_vma_chain_link "anon_vma_chain_link"
            anon_vma_clone "anon_vma_clone"
            anon_vma_compatible "anon_vma_compatible"
            anon_vma_fork "anon_vma_fork"
            anon_vma_free "anon_vma_free"
            anon_vma_lock_write "anon_vma_lock_write"
            anon_vma_merge "anon_vma_merge"
            anon_vma_prepare "__anon_vma_prepare"
            apply_mlockall_flags "apply_mlockall_flags"
            apply_vma_lock_flags "apply_vma_lock_flags"
            can_madv_dontneed_vma "can_madv_dontneed_vma"
            change_protection "change_protection"
            change_pte_range "change_pte_range"
            clear_refs_pte_range "clear_refs_pte_range"
            clear_refs_write "clear_refs_write"
            copy_page_range "copy_page_range"
            copy_pte_range "copy_pte_range"
            copy_vma "copy_vma"
            count_mm_mlocked_page_nr "count_mm_mlocked_page_nr"
            count_vma_pages_range "count_vma_pages_range"
            detach_vmas_to_be_unmapped "detach_vmas_to_be_unmapped"
            do_anonymous_page "do_anonymous_page"
            do_fault "do_fault"
            do_mbind "do_mbind"
            do_mlock "do_mlock"
            do_mmap "do_mmap"
            do_mprotect_pkey "do_mprotect_pkey"
            do_munmap "__do_munmap"
            do_shmat "do_shmat"
            do_sys_ftruncate "do_sys_ftruncate"
            do_user_addr_fault "do_user_addr_fault"
            do_wp_page "do_wp_page"
            drop_rmap_locks "drop_rmap_locks"
            dup_mmap "dup_mmap"
            dup_userfaultfd "dup_userfaultfd"
            dup_userfaultfd_complete "dup_userfaultfd_complete"
            exit_mmap "exit_mmap"
            file_mmap_ok "file_mmap_ok"
            find_mergeable_anon_vma "find_mergeable_anon_vma"
            find_vma "find_vma"
            find_vma_links "find_vma_links"
            find_vma_prev "find_vma_prev"
            find_vma_without_flags "find_vma_without_flags"
            fput "__fput"
            fput_inner "fput"
            free_pgtables "free_pgtables"
            get_file "get_file"
            handle_mm_fault "handle_mm_fault"
            handle_pte_fault "handle_pte_fault"
            handle_userfault "handle_userfault"
            insert_vm_struct "__insert_vm_struct"
            ksys_shmdt "ksys_shmdt"
            library "library"
            lock_anon_vma_root "lock_anon_vma_root"
            madvise "madvise"
            madvise_behavior "madvise_behavior"
            madvise_dontneed_free "madvise_dontneed_free"
            madvise_remove "madvise_remove"
            may_expand_vm "may_expand_vm"
            mbind_range "mbind_range"
            mlock_fixup "mlock_fixup"
            mlock_future_check "mlock_future_check"
            mlockall "mlockall"
            mm_populate "__mm_populate"
            mmap_process_vm "mmap_process_vm"
            mmap_region "mmap_region"
            mmdrop "mmdrop"
            mmget "mmget"
            mmget_not_zero "mmget_not_zero"
            mmgrab "mmgrab"
            mmput "mmput"
            move_page_tables "move_page_tables"
            move_ptes "move_ptes"
            move_vma "move_vma"
            mpol_dup "mpol_dup"
            mpol_equal "mpol_equal"
            mpol_put "mpol_put"
            mprotect_fixup "mprotect_fixup"
            mremap "mremap"
            mremap_to "mremap_to"
            mremap_userfaultfd_prep "mremap_userfaultfd_prep"
            munlock "munlock"
            munlockall "munlockall"
            munlock_vma_pages_range "munlock_vma_pages_range"
            page_move_anon_rmap "page_move_anon_rmap"
            page_set_anon_rmap "__page_set_anon_rmap"
            populate_vma_page_range "populate_vma_page_range"
            process_vm_mmap "process_vm_mmap"
            put_anon_vma "put_anon_vma"
            queue_pages_test_walk "queue_pages_test_walk"
            remove_vma "remove_vma"
            remove_vma_list "remove_vma_list"
            reusable_anon_vma "reusable_anon_vma"
            set_pte_at "set_pte_at"
            shm_close "shm_close"
            shm_open "shm_open"
            shmctl_down "shmctl_down"
            shmem_fault "shmem_fault"
            split_vma "split_vma"
            split_vma_at "__split_vma"
            take_rmap_locks "take_rmap_locks"
            unlink_anon_vmas "unlink_anon_vmas"
            unlink_file_vma "unlink_file_vma"
            unmap_mapping_pages "unmap_mapping_pages"
            unmap_page_range "unmap_page_range"
            unmapped_area_topdown "unmapped_area_topdown"
            userfaultfd_ctx_get "userfaultfd_ctx_get"
            userfaultfd_ctx_put "userfaultfd_ctx_put"
            userfaultfd_ioctl "userfaultfd_ioctl"
            userfaultfd_register "userfaultfd_register"
            userfaultfd_release "userfaultfd_release"
            userfaultfd_remove "userfaultfd_remove"
            userfaultfd_unmap_prep "userfaultfd_unmap_prep"
            userfaultfd_unregister "userfaultfd_unregister"
            validate_mm "validate_mm"
            vfs_fallocate "vfs_fallocate"
            vm_area_dup "vm_area_dup"
            vm_mmap_pgoff "vm_mmap_pgoff"
            vm_ops_open "vm_ops_open"
            vm_stat_account "vm_stat_account"
            vm_munmap "__vm_munmap"
            vma_adjust "__vma_adjust"
            vma_dup_policy "vma_dup_policy"
            vma_expandable "vma_expandable"
            vma_link "vma_link"
            vma_link_list "__vma_link_list"
            vma_merge "vma_merge"
            vma_replace_policy "vma_replace_policy"
            vma_to_resize "vma_to_resize"
            vma_unlink_common "__vma_unlink_common"
            wp_page_reuse "wp_page_reuse"
            zap_page_range_single "zap_page_range_single"
            zap_pte_range "zap_pte_range"
        }
    };
}

families! {
    merge "merge": parts;
    flags "flags": parts;
    uffd "uffd": parts;
    aliasing "aliasing": parts;
    use_after_free "aliasing/use-after-free": places;
    layout "layout": parts;
    offset "offset": parts;
    anon_vma "anon-vma": parts;
    rmap_locks "rmap-locks": parts;
    deadlock "deadlock": places;
    contents "contents": parts;
    leak "leak": objects;
    accounting "accounting": parts;
    errno "errno": parts;
    bug_on "assertion": places;
}

/// Returns the function for a signature, and whether no other family shares the function.
fn end(signature: &str) -> (End, bool) {
    let mut words = signature.split('/');
    let (class, part) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
    if part == "use-after-free" {
        return end_of("aliasing/use-after-free", words.next().unwrap_or(""));
    }
    end_of(class, part)
}

/// Ends the process in the function of the signature's family.
///
/// # Panics
/// Always, with the report.
#[inline(never)]
pub fn end_with(signature: &Signature, report: &str) -> ! {
    end(signature.as_str()).0(report)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs;
    use std::path::Path;

    use super::*;
    use vmadiff_lockstep::divergence::Class;
    use vmadiff_lockstep::known::Known;
    use vmadiff_machine::Opcode;

    /// Returns the families, by the address of the function that no other family shares.
    fn own(families: impl IntoIterator<Item = String>) -> BTreeMap<usize, String> {
        let mut ends = BTreeMap::new();
        for family in families {
            let (end, own) = end(&format!("{family}/detail"));
            assert!(own, "{family} has no function");
            let other = ends.insert(end as usize, family.clone());
            assert!(other.is_none(), "{family} and {other:?} end in one function");
        }
        ends
    }

    /// Returns every text between `before` and `after` in the candidate's source.
    fn in_candidate(before: &str, after: char) -> Vec<String> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../candidate/src");
        let mut found: Vec<String> = Vec::new();
        for entry in fs::read_dir(folder).expect("the candidate's source") {
            let text = fs::read_to_string(entry.expect("a file").path()).expect("text");
            let text = text.split("#[cfg(test)]").next().expect("the code before its tests");
            found.extend(
                text.split(before)
                    .skip(1)
                    .filter_map(|rest| rest.split_once(after).map(|(name, _)| name.to_owned())),
            );
        }
        found.sort();
        found.dedup();
        found
    }

    #[test]
    fn every_class_and_operation_ends_in_a_function_of_its_own() {
        let parts = Opcode::ALL.iter().map(|opcode| opcode.name());
        let parts: Vec<&str> = parts.chain(["map", "change", "invariant"]).collect();
        let classes = Class::ALL
            .iter()
            .filter(|class| !matches!(class, Class::Assertion | Class::Deadlock | Class::Leak));
        own(classes.flat_map(|class| parts.iter().map(move |part| format!("{class}/{part}"))));
        own(["anon-vma/unreachable-page".into(), "anon-vma/copy_vma".into()]);
        let objects = ["page", "anon_vma", "vm_area_struct", "anon_vma_chain"].into_iter();
        let counted = ["file", "mempolicy", "userfaultfd_ctx", "mm_users", "mm_struct"];
        let objects = objects.chain(counted);
        own(objects.map(|object| format!("leak/{object}")));
    }

    #[test]
    fn every_kernel_function_that_reads_or_asserts_has_one_of_each() {
        let functions = in_candidate("const F: &str = \"", '"');
        assert!(functions.len() > 50, "{functions:?}");
        let of = |class: &'static str| functions.iter().map(move |f| format!("{class}/{f}"));
        own(["aliasing/use-after-free", "assertion", "deadlock"].into_iter().flat_map(of));
    }

    #[test]
    fn what_is_known_has_a_function_and_what_is_not_foreseen_ends_in_its_class() {
        let lists = [
            include_str!("../../corpus/known-v2.txt"),
            include_str!("../../corpus/known-original.txt"),
        ];
        for list in lists {
            Known::parse(list).expect("a list");
        }
        for line in lists.concat().lines().filter(|line| !line.is_empty() && !line.starts_with('#'))
        {
            assert!(end(line.split(' ').next().expect("a signature")).1, "{line}");
        }
        let (flags, uffd) = (end("flags/unforeseen/x"), end("uffd/unforeseen/x"));
        assert!(!flags.1 && !uffd.1 && flags.0 as usize != uffd.0 as usize);
    }

    #[test]
    fn the_report_is_what_the_process_ends_with() {
        let ended = std::panic::catch_unwind(|| end("flags/copy/VM_LOCKED-kept").0("the report"));
        let text = ended.expect_err("it ends");
        assert_eq!(
            text.downcast_ref::<String>().map(String::as_str),
            Some("flags/copy\nthe report")
        );
    }
}
