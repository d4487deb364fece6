//! Write-protect mode of userfaultfd, which later kernels have on some architectures.

mod common;
use common::returns;
use vmadiff_machine::{Errno, Machine as _, Observation, Program, VmFlags};
use vmadiff_reference::Reference;
use vmadiff_reference::later::{Rule, Rules};

const ANONYMOUS: Rules = Rules::NONE.with(Rule::UffdWp).with(Rule::UffdWriteprotect);
const FILES: Rules = ANONYMOUS.with(Rule::UffdWpFiles);

/// Runs a program, and returns the result of the last operation and the VMAs of each process: start, end, and
/// the flags of userfaultfd.
fn run(text: &str, rules: Rules) -> (Result<u8, Errno>, Vec<String>) {
    let program: Program = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    let (mut reference, mut seen) = (Reference::with_rules(rules), Observation::default());
    reference.reset(&program.limits);
    program.ops.iter().for_each(|op| reference.step(op, &mut seen));
    let vma = |vma: &vmadiff_machine::Vma| {
        let modes = [(VmFlags::VM_UFFD_MISSING, "m"), (VmFlags::VM_UFFD_WP, "w")];
        let modes = modes.iter().filter(|(flag, _)| vma.flags.contains(*flag));
        let modes: String = modes.map(|(_, mode)| *mode).collect();
        format!("{}-{}{modes}", vma.start.0, vma.end.0)
    };
    let maps = seen.spaces.iter().filter(|space| space.alive).map(|space| {
        let vmas: Vec<_> = space.vmas().iter().map(vma).collect();
        vmas.join(" ")
    });
    (seen.result, maps.collect())
}

/// Checks the result of the last operation and the VMAs of every process.
fn leaves(text: &str, rules: Rules, result: Result<u8, Errno>, maps: &[&str]) {
    let (found, shown) = run(text, rules);
    assert_eq!(found, result, "{rules}:\n{text}");
    assert_eq!(shown, maps, "{rules}:\n{text}");
}

#[test]
fn linux_5_2_1_refuses_the_mode_before_it_looks_at_the_range_and_opens_the_context() {
    let mapped = "mmap 0 1 2 rw anon_private\n";
    returns(&[
        (&format!("{mapped}uffd_register_wp 0 1 2"), Err(Errno::EINVAL)),
        (&format!("{mapped}uffd_register_wp 0 1 2 1 MISSING|WP"), Err(Errno::EINVAL)),
        (
            "mmap 0 1 2 r readonly_shared\nuffd_register_wp 0 1 2\nuffd_register 0 1 2",
            Err(Errno::EPERM),
        ),
        ("uffd_register_wp 0 1 2\nuffd_unregister 0 1 2", Err(Errno::EINVAL)),
        ("uffd_register_wp 0 1 2\nuffd_unregister 0 1 2 1", Err(Errno::EBADF)),
        ("uffd_register_wp 1 1 2", Err(Errno::ESRCH)),
    ]);
    leaves(&format!("{mapped}uffd_register_wp 0 1 2"), Rules::NONE, Err(Errno::EINVAL), &["1-3"]);
    // The second rule changes nothing without the first one.
    let alone = Rules::NONE.with(Rule::UffdWpFiles);
    leaves(&format!("{mapped}uffd_register_wp 0 1 2"), alone, Err(Errno::EINVAL), &["1-3"]);
}

#[test]
fn files_and_shared_memory_can_be_watched_only_with_their_rule() {
    for kind in ["file0_private", "file0_shared", "anon_shared"] {
        let text = format!("mmap 0 1 2 rw {kind}\nuffd_register_wp 0 1 1");
        leaves(&text, ANONYMOUS, Err(Errno::EINVAL), &["1-3"]);
        leaves(&text, FILES, Ok(0), &["1-2w 2-3"]);
    }
    for rules in [ANONYMOUS, FILES] {
        leaves("mmap 0 1 2 rw anon_private\nuffd_register_wp 0 2 9", rules, Ok(0), &["1-2 2-3w"]);
        leaves("shmat 0 1\nuffd_register_wp 0 1 4", rules, Err(Errno::EINVAL), &["1-5"]);
        leaves(
            "mmap 0 1 1 rw special\nuffd_register_wp 0 1 1",
            rules,
            Err(Errno::EINVAL),
            &["1-2"],
        );
        leaves("uffd_register_wp 0 1 1", rules, Err(Errno::EINVAL), &[""]);
    }
    let readonly = "mmap 0 1 1 r readonly_shared\nuffd_register_wp 0 1 1";
    leaves(readonly, ANONYMOUS, Err(Errno::EINVAL), &["1-2"]);
    leaves(readonly, FILES, Err(Errno::EPERM), &["1-2"]);
    let other = "mmap 0 1 1 rw anon_private\nuffd_register_wp 0 1 1\nuffd_register_wp 0 1 1 1";
    leaves(other, ANONYMOUS, Err(Errno::EBUSY), &["1-2w"]);
}

#[test]
fn a_registration_replaces_the_mode_unless_the_vma_has_all_of_it() {
    let map = "mmap 0 1 2 rw anon_private\n";
    for (calls, maps) in [
        // A context that watches more keeps it.
        ("uffd_register_wp 0 1 2 0 MISSING|WP\nuffd_register_wp 0 1 1", "1-3mw"),
        ("uffd_register_wp 0 1 2 0 MISSING|WP\nuffd_register 0 1 1", "1-3mw"),
        ("uffd_register_wp 0 1 2\nuffd_register_wp 0 1 1 0 MISSING|WP", "1-2mw 2-3w"),
        ("uffd_register_wp 0 1 2\nuffd_register 0 1 1", "1-2m 2-3w"),
        ("uffd_register 0 1 2\nuffd_register_wp 0 1 1", "1-2w 2-3m"),
        // Equal modes merge.
        ("uffd_register 0 1 1\nuffd_register_wp 0 1 2", "1-3w"),
        ("uffd_register_wp 0 1 2 0 MISSING|WP\nuffd_unregister 0 1 1", "1-2 2-3mw"),
    ] {
        leaves(&format!("{map}{calls}"), ANONYMOUS, Ok(0), &[maps]);
    }
}

#[test]
fn a_page_is_waited_for_in_missing_mode_only() {
    let map = "mmap 0 1 2 rw anon_private\nuffd_register_wp 0 1 2 0 ";
    leaves(&format!("{map}WP\nmlock 0 1 2"), ANONYMOUS, Ok(0), &["1-3w"]);
    leaves(&format!("{map}MISSING|WP\nmlock 0 1 2"), ANONYMOUS, Err(Errno::EAGAIN), &["1-3mw"]);
    leaves(&format!("{map}WP\ntouch 0 1"), ANONYMOUS, Ok(0), &["1-3w"]);
    leaves(&format!("{map}MISSING|WP\ntouch 0 1"), ANONYMOUS, Err(Errno::EAGAIN), &["1-3mw"]);
    let hole = "mmap 0 1 1 rw file0_shared\nmadvise 0 1 1 REMOVE\nuffd_register_wp 0 1 1 0 ";
    leaves(&format!("{hole}WP\nmlock 0 1 1"), FILES, Ok(0), &["1-2w"]);
    leaves(&format!("{hole}MISSING|WP\nmlock 0 1 1"), FILES, Err(Errno::EAGAIN), &["1-2mw"]);
}

#[test]
fn a_child_or_a_moved_vma_keeps_the_mode_with_the_feature_only() {
    let map = "mmap 0 1 2 rw anon_private\nuffd_register_wp 0 1 2 0 MISSING|WP\n";
    let with = |feature: &str, call: &str| format!("uffd_open 0 0 {feature}\n{map}{call}");
    leaves(&with("-", "fork 0"), ANONYMOUS, Ok(1), &["1-3mw", "1-3"]);
    leaves(&with("FORK", "fork 0"), ANONYMOUS, Ok(1), &["1-3mw", "1-3mw"]);
    let moves = "mremap 0 1 1 1 MAYMOVE|FIXED 9";
    leaves(&with("-", moves), ANONYMOUS, Ok(9), &["2-3mw 9-10"]);
    leaves(&with("REMAP", moves), ANONYMOUS, Ok(9), &["2-3mw 9-10mw"]);
}

#[test]
fn fork_copies_the_zero_pages_of_what_the_child_watches_in_write_protect_mode() {
    let text = |features, call| {
        format!(
            "uffd_open 0 0 {features}\nmmap 0 1 2 r anon_private POPULATE\n{call}\nfork 0\n\
             uffd_register 1 1 2 1\nmlock 1 1 2"
        )
    };
    let wp =
        text("FORK", "uffd_register_wp 0 1 2 0 MISSING|WP").replace("uffd_register 1 1 2 1\n", "");
    leaves(&wp, FILES, Ok(0), &["1-3mw", "1-3mw"]);
    // Without the rule, without the mode and without the context the child has to fault the pages in.
    leaves(&wp, ANONYMOUS, Err(Errno::EAGAIN), &["1-3mw", "1-3mw"]);
    let missing = wp.replace("uffd_register_wp 0 1 2 0 MISSING|WP", "uffd_register 0 1 2");
    leaves(&missing, FILES, Err(Errno::EAGAIN), &["1-3m", "1-3m"]);
    let dropped = text("-", "uffd_register_wp 0 1 2 0 WP");
    leaves(&dropped, FILES, Err(Errno::EAGAIN), &["1-3w", "1-3m"]);
}

/// Every rule of write-protect mode.
const ALL: Rules = FILES.with(Rule::UffdWpSeveral).with(Rule::UffdWpClears);

/// Two anonymous pages in write-protect mode, of which the first one is there.
const HALF: &str = "mmap 0 1 2 rw anon_private\ntouch 0 1 1\nuffd_register_wp 0 1 2\n";

/// Returns the result of the last operation.
fn answers(text: &str, rules: Rules) -> Result<u8, Errno> {
    run(text, rules).0
}

#[test]
fn a_range_is_write_protected_where_it_is_watched_in_this_mode() {
    let several = "mmap 0 1 1 rw anon_private\nmmap 0 2 1 r anon_private\nuffd_register_wp 0 1 2\n";
    for (text, before, since) in [
        (format!("{HALF}uffd_writeprotect 0 1 2"), Ok(0), Ok(0)),
        (format!("{HALF}uffd_writeprotect 0 1 2 0 -"), Ok(0), Ok(0)),
        (format!("{HALF}uffd_writeprotect 0 1 2 1"), Err(Errno::EBADF), Err(Errno::EBADF)),
        (format!("{HALF}uffd_writeprotect 0 1 0"), Err(Errno::EINVAL), Err(Errno::EINVAL)),
        // Any context of the process protects.
        (format!("{HALF}uffd_open 0 1\nuffd_writeprotect 0 1 1 1"), Ok(0), Ok(0)),
        (format!("{HALF}uffd_writeprotect 0 0 1"), Err(Errno::ENOENT), Err(Errno::ENOENT)),
        (format!("{HALF}uffd_writeprotect 0 0 2"), Err(Errno::ENOENT), Ok(0)),
        (format!("{several}uffd_writeprotect 0 1 2"), Err(Errno::ENOENT), Ok(0)),
        (
            format!("{HALF}mmap 0 3 1 rw anon_shared\nuffd_writeprotect 0 1 3"),
            Err(Errno::ENOENT),
            Err(Errno::ENOENT),
        ),
        (
            "mmap 0 1 1 rw anon_private\nuffd_register 0 1 1\nuffd_writeprotect 0 1 1".into(),
            Err(Errno::ENOENT),
            Err(Errno::ENOENT),
        ),
    ] {
        assert_eq!(answers(&text, ANONYMOUS), before, "{text}");
        assert_eq!(answers(&text, ALL), since, "{text}");
    }
    let text = format!("{HALF}uffd_open 0 0\nuffd_writeprotect 0 1 1");
    assert_eq!(answers(&text, Rules::NONE), Err(Errno::EINVAL));
    // An architecture without the mode knows the call.
    let without = Rules::NONE.with(Rule::UffdWriteprotect);
    assert_eq!(answers(&text, without), Err(Errno::ENOENT));
    // The first VMA is protected before the second one is refused.
    let part = format!("{HALF}mmap 0 3 1 rw anon_shared\nuffd_writeprotect 0 1 3\ntouch 0 1 1");
    assert_eq!(answers(&part, ALL), Err(Errno::EAGAIN));
    assert_eq!(answers(&part, ANONYMOUS), Ok(0));
}

#[test]
fn a_write_to_a_protected_page_waits() {
    const WAITS: Result<u8, Errno> = Err(Errno::EAGAIN);
    let protected = format!("{HALF}uffd_writeprotect 0 1 2\n");
    for (calls, expected) in [
        ("touch 0 1", Ok(0)),
        ("touch 0 1 1", WAITS),
        ("mlock 0 1 1", WAITS),
        ("mlock 0 1 1 1", Ok(0)),
        // A page that is not there is not protected.
        ("touch 0 2 1", Ok(0)),
        ("mlock 0 2 1", Ok(0)),
        ("uffd_writeprotect 0 1 1 0 -\ntouch 0 1 1", Ok(0)),
        ("madvise 0 1 1 DONTNEED\ntouch 0 1 1", Ok(0)),
        ("mprotect 0 1 1 r\nmprotect 0 1 1 rw\ntouch 0 1 1", WAITS),
        // The zero page is protected as well.
        ("touch 0 2\nuffd_writeprotect 0 2 1\ntouch 0 2 1", WAITS),
        // Without the feature, child and moved memory are not watched.
        ("fork 0\ntouch 1 1 1", Ok(0)),
        ("fork 0\ntouch 0 1 1", WAITS),
        ("mremap 0 1 1 1 MAYMOVE|FIXED 9\ntouch 0 9 1", Ok(0)),
        ("mremap 0 1 1 1 MAYMOVE|FIXED 9\nmmap 0 1 1 rw anon_private\ntouch 0 1 1", Ok(0)),
        ("uffd_unregister 0 1 2\ntouch 0 1 1", Ok(0)),
    ] {
        for rules in [ANONYMOUS, ALL] {
            assert_eq!(answers(&format!("{protected}{calls}"), rules), expected, "{calls}");
        }
    }
    for (calls, expected) in [
        ("fork 0\ntouch 1 1 1", WAITS),
        ("fork 0\ntouch 1 1", Ok(0)),
        ("mremap 0 1 1 1 MAYMOVE|FIXED 9\ntouch 0 9 1", WAITS),
        ("madvise 0 1 1 DONTFORK\nfork 0\ntouch 1 1 1", Err(Errno::EFAULT)),
        ("madvise 0 1 1 WIPEONFORK\nfork 0\ntouch 1 1 1", Ok(0)),
    ] {
        for rules in [ANONYMOUS, ALL] {
            let text = format!("uffd_open 0 0 FORK|REMAP\n{protected}{calls}");
            assert_eq!(answers(&text, rules), expected, "{calls}");
        }
    }
}

#[test]
fn without_the_mode_a_kernel_may_take_it_and_protect_nothing() {
    let rules = ANONYMOUS.with(Rule::UffdWpNoEffect);
    for calls in ["touch 0 1 1", "mlock 0 1 1", "fork 0\ntouch 0 1 1", "fork 0\ntouch 1 1 1"] {
        let text = format!("uffd_open 0 0 FORK\n{HALF}uffd_writeprotect 0 1 2\n{calls}");
        assert_eq!(answers(&text, ANONYMOUS), Err(Errno::EAGAIN), "{calls}");
        assert_eq!(answers(&text, rules), Ok(0), "{calls}");
    }
}

#[test]
fn a_page_that_is_not_watched_any_more_loses_the_protection_since_the_rule() {
    let protected = format!("{HALF}uffd_writeprotect 0 1 1\n");
    for calls in [
        "uffd_unregister 0 1 1\nuffd_register_wp 0 1 1\ntouch 0 1 1",
        "uffd_open 0 0\nuffd_register_wp 0 1 1\ntouch 0 1 1",
        "mremap 0 1 1 1 MAYMOVE|FIXED 9\nuffd_register_wp 0 9 1\ntouch 0 9 1",
    ] {
        let text = format!("{protected}{calls}");
        assert_eq!(answers(&text, ANONYMOUS), Err(Errno::EAGAIN), "{calls}");
        assert_eq!(answers(&text, ALL), Ok(0), "{calls}");
    }
    // A write in the meantime makes the entry writable, and takes a copy of a page that is shared.
    let written = "uffd_unregister 0 1 1\ntouch 0 1 1\nuffd_register_wp 0 1 1\ntouch 0 1 1";
    assert_eq!(answers(&format!("{protected}{written}"), ANONYMOUS), Ok(0));
    assert_eq!(answers(&format!("{protected}fork 0\n{written}"), ANONYMOUS), Ok(0));
    // The entry of a page that is taken over keeps the protection, that of a copy has none.
    let again = "uffd_unregister 0 1 1\ntouch 0 1 1\nmprotect 0 1 1 r\nmprotect 0 1 1 rw\n\
                 uffd_register_wp 0 1 1\ntouch 0 1 1";
    let taken_over = answers(&format!("{protected}{again}"), ANONYMOUS);
    assert_eq!(taken_over, Err(Errno::EAGAIN));
    assert_eq!(answers(&format!("{protected}fork 0\n{again}"), ANONYMOUS), Ok(0));
    let kept = "uffd_register 0 1 1\nuffd_register_wp 0 1 1\ntouch 0 1 1";
    assert_eq!(answers(&format!("{protected}{kept}"), ALL), Err(Errno::EAGAIN));
}

#[test]
fn markers_protect_the_pages_of_a_file() {
    const WAITS: Result<u8, Errno> = Err(Errno::EAGAIN);
    let map = "uffd_open 0 0 FORK\nmmap 0 1 2 rw file0_shared\nuffd_register_wp 0 1 2\n\
               uffd_writeprotect 0 1 1\n";
    for (calls, expected) in [
        ("touch 0 1 1", WAITS),
        ("touch 0 1", Ok(0)),
        ("touch 0 1\ntouch 0 1 1", WAITS),
        ("touch 0 2 1", Ok(0)),
        ("madvise 0 1 1 DONTNEED\ntouch 0 1 1", WAITS),
        ("madvise 0 1 1 REMOVE\ntouch 0 1 1", WAITS),
        ("mlock 0 1 1", Ok(0)),
        ("munmap 0 1 1\nmmap 0 1 1 rw file0_shared\nuffd_register_wp 0 1 1\ntouch 0 1 1", Ok(0)),
        ("fork 0\ntouch 1 1 1", WAITS),
        ("uffd_writeprotect 0 1 2 0 -\ntouch 0 1 1", Ok(0)),
        ("ftruncate 0 file0 0\ntouch 0 1 1", Err(Errno::SIGBUS)),
    ] {
        assert_eq!(answers(&format!("{map}{calls}"), ALL), expected, "{calls}");
    }
    // A private copy is made before the write waits.
    let private = "mmap 0 1 1 rw file0_private\nuffd_register_wp 0 1 1\nuffd_writeprotect 0 1 1\n";
    leaves(&format!("{private}touch 0 1 1"), ALL, WAITS, &["1-2w"]);
}
