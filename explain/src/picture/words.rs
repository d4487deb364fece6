//! The words of a picture: permissions, flags, and other attributes as short texts.

use vmadiff_lockstep::compare::Scope;
use vmadiff_machine::VmFlags;
use vmadiff_machine::observation::{CopyReport, PageSet};
use vmadiff_machine::operand::END_PAGES;

/// One attribute of a VMA or of an address space, as a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// The word as it is shown: `rw-p`, `@4`, `lo`, `anon=A[BA]`.
    pub text: String,
    /// The other machine shows another value for some of the pages.
    pub differs: bool,
}

/// Returns the words of a line. Words that differ are marked by `!`.
pub fn marked(words: &[Word]) -> Vec<String> {
    let mark = |word: &Word| format!("{}{}", if word.differs { "!" } else { "" }, word.text);
    words.iter().map(mark).collect()
}

/// The flags beside the permissions, with the abbreviations of `/proc/PID/smaps`.
pub(super) const ABBREVIATIONS: [(VmFlags, &str); 15] = [
    (VmFlags::VM_UFFD_MISSING, "um"),
    (VmFlags::VM_UFFD_WP, "uw"),
    (VmFlags::VM_LOCKED, "lo"),
    (VmFlags::VM_LOCKONFAULT, "lf"),
    (VmFlags::VM_DONTCOPY, "dc"),
    (VmFlags::VM_WIPEONFORK, "wf"),
    (VmFlags::VM_MERGEABLE, "mg"),
    (VmFlags::VM_ACCOUNT, "ac"),
    (VmFlags::VM_NORESERVE, "nr"),
    (VmFlags::VM_SEQ_READ, "sr"),
    (VmFlags::VM_RAND_READ, "rr"),
    (VmFlags::VM_DONTDUMP, "dd"),
    (VmFlags::VM_IO, "io"),
    (VmFlags::VM_PFNMAP, "pf"),
    (VmFlags::VM_DONTEXPAND, "de"),
];

/// Returns the abbreviations that the legend explains, each with the kernel's name of the flag.
pub fn legend() -> impl Iterator<Item = (&'static str, &'static str)> {
    ABBREVIATIONS
        .into_iter()
        .map(|(flag, short)| (short, flag.iter_names().next().map_or("", |(name, _)| name)))
}

/// Returns the permissions as in `/proc/PID/maps`; `S` is a shared mapping that can never be made
/// writable.
pub fn permissions(flags: VmFlags) -> String {
    let letter = |flag, letter| if flags.contains(flag) { letter } else { '-' };
    let sharing = match (flags.contains(VmFlags::VM_SHARED), flags.contains(VmFlags::VM_MAYSHARE)) {
        (true, _) => 's',
        (false, true) => 'S',
        (false, false) => 'p',
    };
    [
        letter(VmFlags::VM_READ, 'r'),
        letter(VmFlags::VM_WRITE, 'w'),
        letter(VmFlags::VM_EXEC, 'x'),
        sharing,
    ]
    .into_iter()
    .collect()
}

/// Returns a set of pages as ranges: `1..4 6..7`.
pub fn pages_text(pages: PageSet) -> String {
    let mut ranges = Vec::new();
    let mut page = 0;
    while page < END_PAGES {
        let start = page;
        while page < END_PAGES && pages >> page & 1 == 1 {
            page += 1;
        }
        if page > start {
            ranges.push(format!("{start}..{page}"));
        } else {
            page += 1;
        }
    }
    ranges.join(" ")
}

/// Returns the report of `copy_vma()` as text.
pub fn copy_text(copy: CopyReport, scope: Scope) -> String {
    let mut text = String::from(if copy.merged { "merged" } else { "duplicated" });
    if copy.source_redirected {
        text.push_str(", source redirected");
    }
    if copy.need_rmap_locks {
        // A recorded kernel does not show whether the locks were taken.
        text.push_str(match (scope, copy.honoured) {
            (Scope::Recorded, _) => ", need_rmap_locks",
            (Scope::Models, true) => ", rmap locks taken",
            (Scope::Models, false) => ", rmap locks NOT taken",
        });
    }
    text
}
