//! The messages of a kernel that report a bug of its own: an oops, KASAN, `WARN_ON`, `VM_BUG_ON`,
//! SLUB, lockdep, kmemleak.
//!
//! The same code reads the records of `/dev/kmsg`, on a kernel that goes on, and the console of a
//! kernel that died. [`report`] finds the first report in the lines of a log and names it.

/// A report of a kernel about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// The name, as a part of a signature: `KASAN-slab-use-after-free/copy_vma`. It has no addresses
    /// and no numbers that change from run to run.
    pub name: String,
    /// The lines of the report, at most [`MAX_LINES`].
    pub text: String,
}

/// The most lines of a report that are kept. A KASAN report has about sixty.
pub const MAX_LINES: usize = 100;

/// The beginnings of reports, after which the name of a function or a place follows. The second
/// column is the kind in signatures; empty if the rest of the line names the kind.
const BEGINNINGS: [(&str, &str); 16] = [
    ("BUG: KASAN: ", "KASAN"),
    ("BUG: KFENCE: ", "KFENCE"),
    ("WARNING: possible ", "lockdep"),
    ("WARNING: suspicious ", "lockdep"),
    ("WARNING: ", "WARN"),
    ("kernel BUG at ", "BUG"),
    ("BUG at ", "BUG"),
    ("BUG: ", "BUG"),
    ("BUG ", "SLUB"),
    ("Oops: ", "Oops"),
    ("general protection fault", "Oops"),
    ("Kernel panic - not syncing: Kernel mode fault", "Oops"),
    ("Kernel panic - not syncing", "panic"),
    ("list_add ", "list"),
    ("list_del ", "list"),
    ("kmemleak: ", "kmemleak"),
];

/// The reports of lockdep that begin neither with “possible” nor with “suspicious”.
const LOCKDEP: [&str; 3] = ["bad unlock balance", "lock held", "held lock freed"];

/// Returns the report that begins in the lines; `None` if no line begins one.
pub fn report<'a>(lines: impl IntoIterator<Item = &'a str>) -> Option<Report> {
    let mut lines = lines.into_iter().map(without_time).skip_while(|line| kind(line).is_none());
    let first = lines.next()?;
    let (kind, rest) = kind(first)?;
    let text: Vec<&str> = std::iter::once(first).chain(lines).take(MAX_LINES).collect();
    let name = name(kind, rest, &text);
    Some(Report { name, text: text.iter().flat_map(|line| [*line, "\n"]).collect() })
}

/// Returns whether a line begins a report.
pub fn begins(line: &str) -> bool {
    kind(without_time(line)).is_some()
}

/// Returns the line without the time of the kernel, “[   12.345678] ”.
fn without_time(line: &str) -> &str {
    let Some((time, rest)) = line.strip_prefix('[').and_then(|rest| rest.split_once("] ")) else {
        return line;
    };
    let is_time = |c: char| c.is_ascii_digit() || c == '.' || c == ' ';
    if !time.is_empty() && time.chars().all(is_time) { rest } else { line }
}

/// Returns the kind of report that a line begins, and the rest of the line.
fn kind(line: &str) -> Option<(&'static str, &str)> {
    // The count of leaks is the only message of kmemleak that reports a bug.
    if line.starts_with("kmemleak: ") && !line.contains("suspected memory leak") {
        return None;
    }
    // These reports of lockdep have a name that begins as a warning of the kernel's own code does.
    if let Some(rest) = line.strip_prefix("WARNING: ")
        && LOCKDEP.iter().any(|name| rest.starts_with(name))
    {
        return Some(("lockdep", rest));
    }
    BEGINNINGS.iter().find_map(|(begin, kind)| Some((*kind, line.strip_prefix(begin)?)))
}

/// Returns the name of a report.
fn name(kind: &str, rest: &str, text: &[&str]) -> String {
    let what = match kind {
        "KASAN" | "KFENCE" => rest.split_once(" in ").map_or(rest, |(what, _)| what),
        // A warning or an assertion is named by its function, not by its line.
        "WARN" | "Oops" | "panic" if function(rest).is_some() || kind != "panic" => "",
        "BUG" if rest.contains(".c:") || rest.contains(".h:") => "",
        "lockdep" => rest.trim_end_matches('!').trim_end_matches(" detected"),
        // The name of the cache is followed by the state of the kernel: `(Not tainted): what`.
        "SLUB" => rest.rsplit_once("): ").map_or(rest, |(_, what)| what),
        _ => rest,
    };
    let mut name = kind.to_owned();
    let what = words(what);
    if !what.is_empty() {
        name += "-";
        name += &what;
    }
    let place = function(rest).or_else(|| {
        let stack = text.iter().skip(1).filter(|line| !line.contains("Code:"));
        stack.filter_map(|line| function(line)).find(|function| !is_machinery(function))
    });
    if let Some(place) = place {
        name += "/";
        name += place;
    }
    name
}

/// Returns the first words of a text, joined by `-`, up to a word that has a number or a sign.
fn words(text: &str) -> String {
    let is_word = |word: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_alphabetic() || "-_'()".contains(c))
    };
    let plain = |word: &str| -> String {
        word.chars().filter(|c| c.is_ascii_alphabetic() || "-_".contains(*c)).collect()
    };
    let text = text.trim_start_matches([':', ' ']);
    let words = text.split_whitespace().map(|word| word.trim_end_matches([',', '.', ':', '!']));
    words.take_while(|word| is_word(word)).take(6).map(plain).collect::<Vec<_>>().join("-")
}

/// Returns the first function of a line: `copy_vma+0x2e3/0x508`. Suffixes that the compiler adds,
/// such as `.isra.0`, are left out.
fn function(line: &str) -> Option<&str> {
    line.split_whitespace().find_map(|word| {
        let (name, offset) = word.rsplit_once("+0x")?;
        let name = name.rsplit_once(':').map_or(name, |(_, name)| name);
        let name = name.split('.').next()?.trim_start_matches(['(', '[', '?']);
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        (is_name && offset.contains("/0x")).then_some(name)
    })
}

/// The functions that print reports and stacks, which stand above the function of interest.
const MACHINERY: [&str; 23] = [
    "dump_stack",
    "dump_stack_lvl",
    "show_stack",
    "um_set_signals",
    "unblock_signals",
    "print_report",
    "print_address_description",
    "kasan_report",
    "kasan_check_range",
    "panic",
    "vpanic",
    "check_panic_on_warn",
    "__warn",
    "warn_slowpath_fmt",
    "report_bug",
    "segv",
    "segv_handler",
    "sig_handler_common",
    "sig_handler",
    "timer_real_alarm_handler",
    "hard_handler",
    "check_slab",
    "slab_err",
];

fn is_machinery(function: &str) -> bool {
    MACHINERY.contains(&function)
        || ["__asan_", "__kasan_", "_printk", "__dump", "slab_pad", "check_bytes", "free_to_"]
            .iter()
            .any(|begin| function.starts_with(begin))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Option<String> {
        report(text.lines()).map(|report| report.name)
    }

    #[test]
    fn a_report_is_named_by_its_kind_and_its_function() {
        for (text, expected) in [
            (
                "[    2.500000] BUG: KASAN: slab-use-after-free in copy_vma+0x2e3/0x508\n\
                 [    2.500001] Read of size 8 at addr 0000000061c5f010 by task vmadiff/31\n",
                "KASAN-slab-use-after-free/copy_vma",
            ),
            (
                "BUG: KASAN: use-after-free in folio_lock_anon_vma_read.isra.0+0x2/0x9\n",
                "KASAN-use-after-free/folio_lock_anon_vma_read",
            ),
            ("WARNING: CPU: 0 PID: 22 at mm/vma.c:1234 vma_merge+0x2/0x9\n", "WARN/vma_merge"),
            (
                "WARNING: mm/rmap.c:443 at unlink_anon_vmas+0x2/0x9, CPU#0: vmadiff/33\n",
                "WARN/unlink_anon_vmas",
            ),
            (
                "kernel BUG at mm/mmap.c:333!\nCall Trace:\n dump_stack+0x1/0x2\n \
                 [<60082>] ? validate_mm+0x1/0x2\n",
                "BUG/validate_mm",
            ),
            (
                "WARNING: possible circular locking dependency detected\n",
                "lockdep-circular-locking-dependency",
            ),
            ("WARNING: bad unlock balance detected!\n", "lockdep-bad-unlock-balance"),
            ("WARNING: held lock freed!\n", "lockdep-held-lock-freed"),
            (
                "Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b\n",
                "panic-Attempted-to-kill-init",
            ),
            ("Kernel panic - not syncing: Fatal exception\n", "panic-Fatal-exception"),
            (
                "BUG: Bad rss-counter state mm:00000000a1b2 type:MM_ANONPAGES val:1\n",
                "BUG-Bad-rss-counter-state",
            ),
            (
                "BUG: Bad page state in process vmadiff  pfn:0b2c9\n",
                "BUG-Bad-page-state-in-process-vmadiff",
            ),
            ("BUG vm_area_struct (Not tainted): Poison overwritten\n", "SLUB-Poison-overwritten"),
            (
                "Kernel panic - not syncing: Kernel mode fault at addr 0x8, ip 0x600a\nCPU: 0\n \
                 panic+0x1/0x2\n segv+0x1/0x2\n vma_link+0x1/0x2\n",
                "Oops/vma_link",
            ),
            ("kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)", "kmemleak"),
        ] {
            assert_eq!(named(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn other_messages_are_no_reports() {
        for text in [
            "",
            "reboot: Power down",
            "[    0.000000] Linux version 6.12.117",
            "kmemleak: Kernel memory leak detector initialized",
            "process 'vmadiff' launched '/vmadiff'",
            "[a text in brackets] BUGS are fixed",
            "mmap: vmadiff (31): VmData 1 exceed data ulimit 2",
        ] {
            assert_eq!(named(text), None, "{text}");
        }
    }

    #[test]
    fn a_report_has_the_lines_from_its_first_one_and_an_end() {
        let text = format!("before\n[    1.000000] BUG: Bad page map\n{}", "line\n".repeat(500));
        let report = report(text.lines()).expect("a report");
        assert!(report.text.starts_with("BUG: Bad page map\nline\n"), "{}", report.text);
        assert_eq!(report.text.lines().count(), MAX_LINES);
    }
}
