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

#[test]
fn shmdt_unmaps_the_parts_of_one_attachment_at_their_places() {
    let after = |text: &str| {
        let outcome = run(text);
        let vmas = outcome.seen.spaces[0].vmas().iter().map(|vma| vma.range().to_string());
        (outcome.last(), vmas.collect::<Vec<_>>().concat())
    };
    let parts = "shmat 0 0\nmunmap 0 1 1\n";
    // The second half of another attachment lies where that of the first one was.
    let two = "shmat 0 0\nshmat 0 8\nmunmap 0 2 2\nmremap 0 10 2 2 MAYMOVE|FIXED 2\n";
    for (text, expected) in [
        (format!("{parts}shmdt 0 0"), (Ok(0), "")),
        (format!("{parts}shmdt 0 2"), (Err(Errno::EINVAL), "[0,1)[2,4)")),
        (format!("{parts}shmdt 0 8"), (Err(Errno::EINVAL), "[0,1)[2,4)")),
        (format!("{two}shmdt 0 0"), (Ok(0), "[2,4)[8,10)")),
        ("mmap 0 0 4 rw file0_shared\nshmdt 0 0".into(), (Err(Errno::EINVAL), "[0,4)")),
        // A part that was moved away is where an attachment at page 18 would have it.
        ("shmat 0 0\nmremap 0 2 2 2 MAYMOVE|FIXED 20\nshmdt 0 18".into(), (Ok(0), "[0,2)")),
        ("shmat 0 0\nmremap 0 2 2 2 MAYMOVE|FIXED 20\nshmdt 0 0".into(), (Ok(0), "[20,22)")),
    ] {
        let (result, vmas) = after(&text);
        assert_eq!((result, vmas.as_str()), expected, "{text}");
    }
}
