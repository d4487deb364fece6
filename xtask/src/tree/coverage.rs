//! The coverage of the kernel's own code: the lines that the programs reached, as a table and as
//! annotated source.
//!
//! A kernel with KCOV calls a function at the start of each basic block. A *point* is the address behind
//! such a call, which KCOV reports. The points of a kernel are found in its machine code, and their lines
//! in its debug information.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use duct::cmd;

use super::farm::Patched;

/// The files whose lines are shown. A release does not have all of them.
const FILES: [&str; 9] = [
    "mm/vma.c",
    "mm/mmap.c",
    "mm/mremap.c",
    "mm/rmap.c",
    "mm/mlock.c",
    "mm/madvise.c",
    "mm/mprotect.c",
    "fs/userfaultfd.c",
    "kernel/fork.c",
];

/// The function that KCOV calls.
const TRACE: &str = "__sanitizer_cov_trace_pc";

/// The points that each section covered first.
pub(crate) type Covered = BTreeMap<String, BTreeSet<u64>>;

/// The lines of a file.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lines {
    /// The lines with a point.
    all: BTreeSet<u32>,
    /// The lines with a point that the corpus reached.
    corpus: BTreeSet<u32>,
    /// The lines with a point that any section reached.
    reached: BTreeSet<u32>,
}

/// The coverage by file.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Coverage(BTreeMap<&'static str, Lines>);

impl Coverage {
    /// Finds the lines of the points that were covered in a kernel with debug information.
    pub(crate) fn of(kernel: &Path, covered: &Covered) -> Result<Coverage> {
        let symbols = cmd!("nm", kernel).read().context("nm")?;
        let trace = symbols.lines().find_map(|line| {
            let mut words = line.split_whitespace();
            let address = u64::from_str_radix(words.next()?, 16).ok()?;
            (words.nth(1)? == TRACE).then_some(address)
        });
        let trace = trace.with_context(|| format!("{}: no KCOV", kernel.display()))?;
        let code = cmd!("objdump", "-d", "--no-show-raw-insn", kernel).read().context("objdump")?;
        let mut points = points(&code, trace);
        points.extend(covered.values().flatten());
        // The address behind a call may be that of another line.
        let calls: String = points.iter().map(|point| format!("{:x}\n", point - 1)).collect();
        let lines =
            cmd!("addr2line", "-e", kernel).stdin_bytes(calls).read().context("addr2line")?;
        let mut coverage = Coverage::default();
        for (point, line) in points.iter().zip(lines.lines()) {
            let Some((file, line)) = place(line) else { continue };
            let lines = coverage.0.entry(file).or_default();
            lines.all.insert(line);
            for (section, points) in covered {
                if points.contains(point) {
                    lines.reached.insert(line);
                    if section == "corpus" {
                        lines.corpus.insert(line);
                    }
                }
            }
        }
        Ok(coverage)
    }

    /// Returns the table of the files.
    pub(crate) fn table(&self) -> String {
        let mut text =
            format!("{:<18} {:>6} {:>8} {:>8}\n", "lines reached", "lines", "corpus", "all");
        let mut row = |name: &str, [all, corpus, reached]: [usize; 3]| {
            let share = 100 * reached / all.max(1);
            text += &format!("{name:<18} {all:>6} {corpus:>8} {reached:>8}  {share:>3} %\n");
        };
        let mut sum = [0; 3];
        for file in FILES {
            let Some(lines) = self.0.get(file) else { continue };
            let counts = [lines.all.len(), lines.corpus.len(), lines.reached.len()];
            row(file, counts);
            for (sum, count) in sum.iter_mut().zip(counts) {
                *sum += count;
            }
        }
        row("all", sum);
        text
    }

    /// Writes the source of each file into a folder. A line begins with `+` if it was reached, and with
    /// `-` if it has a point and was not reached.
    pub(crate) fn annotate(&self, folder: &Path, source: &Path, patched: &Patched) -> Result<()> {
        for (file, lines) in &self.0 {
            let text = match patched.get(Path::new(file)) {
                Some(Some(content)) => content.clone(),
                _ => fs::read(source.join(file)).with_context(|| (*file).to_owned())?,
            };
            let target = folder.join(file);
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent).with_context(|| parent.display().to_string())?;
            }
            let text = String::from_utf8_lossy(&text);
            fs::write(&target, lines.annotated(&text))
                .with_context(|| target.display().to_string())?;
        }
        Ok(())
    }
}

impl Lines {
    fn annotated(&self, source: &str) -> String {
        let mark = |number: u32| match (self.reached.contains(&number), self.all.contains(&number))
        {
            (true, _) => '+',
            (false, true) => '-',
            (false, false) => ' ',
        };
        (1..).zip(source.lines()).map(|(n, line)| format!("{} {n:>5} {line}\n", mark(n))).collect()
    }
}

/// Checks a folder for annotated source before anything runs: it may not be in the project, which has
/// no text of the kernel, and has to be new or empty.
pub(crate) fn check_folder(folder: &Path, project: &Path) -> Result<()> {
    let shown = folder.display();
    let mut exists = folder;
    while !exists.exists() {
        let Some(parent) = exists.parent() else { break };
        exists = parent;
    }
    let exists = exists.canonicalize().with_context(|| shown.to_string())?;
    let project = project.canonicalize().with_context(|| project.display().to_string())?;
    ensure!(
        !exists.starts_with(&project),
        "{shown} is in the project, which has no text of the kernel: name a folder elsewhere"
    );
    if folder.exists() {
        let mut entries = fs::read_dir(folder).with_context(|| shown.to_string())?;
        ensure!(entries.next().is_none(), "{shown} is not empty: name a new folder");
    }
    Ok(())
}

/// Returns the points in the output of `objdump -d`. The compiler calls the function directly, or by a
/// register that has its address.
fn points(code: &str, trace: u64) -> BTreeSet<u64> {
    let (mut points, mut registers, mut called) = (BTreeSet::new(), BTreeSet::new(), false);
    for line in code.lines() {
        let Some((address, instruction)) = line.split_once(":\t") else {
            // A function begins.
            if line.ends_with(">:") {
                registers.clear();
                called = false;
            }
            continue;
        };
        let Ok(address) = u64::from_str_radix(address.trim(), 16) else { continue };
        if std::mem::take(&mut called) {
            points.insert(address);
        }
        let mut words = instruction.split_whitespace();
        let (name, operands) = (words.next().unwrap_or(""), words.next().unwrap_or(""));
        if name.starts_with("call") {
            let target = operands.trim_start_matches('*');
            called = registers.contains(target) || instruction.ends_with(&format!("<{TRACE}>"));
            // A function keeps these registers only.
            registers.retain(|name: &&str| {
                ["%rbx", "%rbp", "%r12", "%r13", "%r14", "%r15"].contains(name)
            });
            continue;
        }
        // A register that is popped gets its old value for the caller: the code behind the return goes
        // on with the value before.
        if name.starts_with("mov") || name.starts_with("lea") || name.starts_with("xor") {
            let target = operands.rsplit(',').next().unwrap_or("");
            registers.remove(target);
            let value = operands.strip_prefix("$0x").and_then(|rest| rest.split(',').next());
            let value = value.and_then(|value| u64::from_str_radix(value, 16).ok());
            if value == Some(trace) {
                registers.insert(target);
            }
        }
    }
    points
}

/// Returns the file and the line of a line of `addr2line`: `/tree/mm/vma.c:12 (discriminator 3)`.
fn place(text: &str) -> Option<(&'static str, u32)> {
    let (path, rest) = text.rsplit_once(':')?;
    let line = rest.split(' ').next()?.parse().ok()?;
    let file = FILES.into_iter().find(|file| {
        path.strip_suffix(file).is_some_and(|tree| tree.is_empty() || tree.ends_with('/'))
    })?;
    Some((file, line))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn points_lie_behind_direct_calls_and_calls_by_a_register_with_the_address() {
        let code = "\
0000000060001000 <one>:
    60001000:\tmovabs $0x6007bd46,%rbx
    60001004:\tcall   *%rbx
    60001006:\tmov    0x60(%rbp),%r12
    6000100a:\tmovabs $0x60090000,%rax
    60001014:\tcall   *%rax
    60001016:\tpop    %rbx
    60001017:\tret
    60001018:\tcall   *%rbx
    6000101a:\tmov    %rax,%rbx
    6000101d:\tcall   *%rbx
    6000101f:\tret
0000000060002000 <two>:
    60002000:\tcall   *%rbx
    60002002:\tcall   6007bd46 <__sanitizer_cov_trace_pc>
    60002007:\tret
";
        let expected = [0x6000_1006, 0x6000_101a, 0x6000_2007];
        assert_eq!(points(code, 0x6007_bd46), BTreeSet::from(expected));
    }

    #[test]
    fn a_place_is_that_of_a_file_that_is_shown() {
        assert_eq!(place("/a/tree/mm/vma.c:12 (discriminator 3)"), Some(("mm/vma.c", 12)));
        assert_eq!(place("/a/tree/kernel/fork.c:7"), Some(("kernel/fork.c", 7)));
        for other in ["??:0", "/a/tree/mm/vma.h:3", "/a/tree/other_mm/vma.c:3", "mm/vma.c:?"] {
            assert_eq!(place(other), None, "{other}");
        }
    }

    #[test]
    fn the_table_and_the_source_show_the_lines_that_were_reached() {
        let lines = Lines {
            all: BTreeSet::from([1, 3, 4]),
            corpus: BTreeSet::from([1]),
            reached: BTreeSet::from([1, 3]),
        };
        assert_eq!(lines.annotated("a\nb\nc\nd\n"), "+     1 a\n      2 b\n+     3 c\n-     4 d\n");
        let table = Coverage(BTreeMap::from([("mm/vma.c", lines)])).table();
        assert!(table.contains("mm/vma.c                3        1        2   66 %\n"), "{table}");
    }

    #[test]
    fn annotated_source_goes_to_a_new_folder_outside_the_project() -> Result<()> {
        let (project, other) = (Scratch::new()?, Scratch::new()?);
        check_folder(&other.path().join("new/folder"), project.path())?;
        check_folder(other.path(), project.path())?;
        let error = |folder: &Path| {
            check_folder(folder, project.path()).err().map(|error| format!("{error:#}"))
        };
        let inside = error(&project.path().join("new")).unwrap_or_default();
        assert!(inside.contains("is in the project"), "{inside}");
        fs::write(other.path().join("file"), "kept")?;
        assert!(error(other.path()).unwrap_or_default().contains("is not empty"));
        Ok(())
    }
}
