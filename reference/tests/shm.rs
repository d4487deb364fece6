//! The segment of SysV shared memory (`ipc/shm.c`): attachments, removal, and the flags of its mappings.

mod common;
use common::{returns, run};
use vmadiff_machine::{Errno, VmFlags};

#[test]
fn each_vma_is_an_attachment_and_a_removed_segment_lives_until_the_last_one_goes() {
    for (text, attached) in [
        ("munmap 0 0 1", Some(0)),
        ("shmat 0 0", Some(1)),
        ("shmat 0 0\nshmat 0 8", Some(2)),
        ("shmat 0 0\nmunmap 0 1 1", Some(2)),
        ("shmat 0 0\nfork 0", Some(2)),
        ("shmat 0 0\nfork 0\nexit 0", Some(1)),
        ("shmat 0 0\nshmdt 0 0", Some(0)),
        ("shmat 0 0\nshm_rmid 0", Some(1)),
        ("shmat 0 0\nshm_rmid 0\nshmat 0 8", Some(2)),
        ("shmat 0 0\nshm_rmid 0\nshmdt 0 0", None),
        ("shmat 0 0\nshm_rmid 0\nshmdt 0 0\nmunmap 0 0 1", None),
        ("shm_rmid 0", None),
    ] {
        assert_eq!(run(text).seen.attached, attached, "{text}");
    }
}

#[test]
fn a_destroyed_segment_is_refused_and_so_is_a_place_that_is_taken() {
    returns(&[
        ("shm_rmid 0\nshmat 0 0", Err(Errno::EINVAL)),
        ("shm_rmid 0\nshm_rmid 0", Err(Errno::EINVAL)),
        ("shmat 0 0\nshm_rmid 0\nshm_rmid 0", Ok(0)),
        ("mmap 0 3 1 r anon_private\nshmat 0 0", Err(Errno::EINVAL)),
        ("mmap 0 3 1 r anon_private\nshmat 0 0 REMAP", Ok(0)),
        ("mmap 0 4 1 r anon_private\nshmat 0 0", Ok(0)),
    ]);
}

#[test]
fn the_flags_of_an_attachment_follow_from_those_of_the_call() {
    use VmFlags as F;
    let always = F::VM_READ | F::VM_MAYREAD | F::VM_MAYEXEC | F::VM_MAYSHARE | F::VM_SOFTDIRTY;
    let writes = F::VM_WRITE | F::VM_MAYWRITE | F::VM_SHARED;
    for (flags, expected) in [
        ("", always | writes),
        ("RDONLY", always),
        ("EXEC", always | writes | F::VM_EXEC),
        ("RDONLY|EXEC", always | F::VM_EXEC),
    ] {
        assert_eq!(run(&format!("shmat 0 0 {flags}")).flags(0, 0), expected, "{flags}");
    }
}
