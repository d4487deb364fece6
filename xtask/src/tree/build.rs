//! Configures and builds a kernel for `ARCH=um` or `ARCH=x86_64`.

use std::fs;
use std::io::{BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use duct::cmd;

use crate::guest::System;
use crate::project::{files, tail};
use crate::shell;

/// The configuration of every architecture.
const FRAGMENT: &str = include_str!("common.config");

/// The architecture of a machine.
pub(crate) struct Architecture {
    /// The name for `make`.
    pub(crate) name: &'static str,
    /// The folder of its source.
    folder: &'static str,
    /// What it adds to the configuration.
    fragment: &'static str,
    /// The kernel: its target of `make`, and its file.
    target: &'static str,
    file: &'static str,
}

pub(crate) fn architecture(machine: System) -> Architecture {
    match machine {
        System::Uml => Architecture {
            name: "um",
            folder: "arch/um",
            fragment: include_str!("uml.config"),
            target: "linux",
            file: "linux",
        },
        System::Qemu | System::Kvm => Architecture {
            name: "x86_64",
            folder: "arch/x86",
            fragment: include_str!("x86_64.config"),
            target: "bzImage",
            file: "arch/x86/boot/bzImage",
        },
    }
}

/// The build of a kernel. Each has its own configuration and its own build folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// SLUB's checks of freed and of overwritten objects.
    Plain,
    /// KASAN. With SLUB's checks it reports an error of its own at the start.
    Kasan,
    /// Plain, with lock debugging.
    Lockdep,
    /// Plain, with the search for memory that nothing points to.
    Kmemleak,
    /// Plain, with coverage of the files of [`COVERED`], and debug information for their lines.
    Kcov,
}

/// The objects whose coverage KCOV collects. KCOV for all objects ends the kernel at its start: code that
/// runs before there is a current task is among them.
const COVERED: [&str; 11] = [
    "fork",
    "ksm",
    "madvise",
    "memory",
    "mlock",
    "mmap",
    "mprotect",
    "mremap",
    "rmap",
    "userfaultfd",
    "vma",
];

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Plain => "plain",
            Kind::Kasan => "kasan",
            Kind::Lockdep => "lockdep",
            Kind::Kmemleak => "kmemleak",
            Kind::Kcov => "kcov",
        }
    }

    /// Returns the configuration that is asked for.
    pub(crate) fn fragment(self, machine: System) -> String {
        let more = match self {
            Kind::Plain => "CONFIG_SLUB_DEBUG_ON=y\n",
            Kind::Kasan => "CONFIG_KASAN=y\nCONFIG_KASAN_GENERIC=y\n",
            Kind::Lockdep => {
                "CONFIG_SLUB_DEBUG_ON=y\nCONFIG_PROVE_LOCKING=y\nCONFIG_DEBUG_ATOMIC_SLEEP=y\n"
            }
            Kind::Kmemleak => {
                "CONFIG_DEBUG_KMEMLEAK=y\n# CONFIG_DEBUG_KMEMLEAK_AUTO_SCAN is not set\n"
            }
            Kind::Kcov => {
                "CONFIG_SLUB_DEBUG_ON=y\nCONFIG_KCOV=y\n# CONFIG_KCOV_INSTRUMENT_ALL is not set\n\
                 CONFIG_DEBUG_INFO_DWARF_TOOLCHAIN_DEFAULT=y\nCONFIG_DEBUG_INFO_REDUCED=y\n"
            }
        };
        format!("{FRAGMENT}\n{}\n{more}", architecture(machine).fragment)
    }
}

/// Returns the arguments of every `make`.
fn arguments(tree: &Path, out: &Path, machine: System) -> Vec<String> {
    let text = |name: &str, path: &Path| format!("{name}{}", path.display());
    let mut words = vec![
        "-C".into(),
        tree.display().to_string(),
        format!("ARCH={}", architecture(machine).name),
        text("O=", out),
        format!("-j{}", shell::cores()),
        // `__get_wchan()` reads the stack of another task, which KASAN reports.
        "KASAN_SANITIZE_process.o=n".into(),
    ];
    // They count only for a kernel with KCOV.
    words.extend(COVERED.map(|object| format!("KCOV_INSTRUMENT_{object}.o=y")));
    words
}

/// Builds a kernel and returns its path.
///
/// # Errors
/// Returns an error with the options that were asked for and not taken, or with the first error of
/// the compiler.
pub(crate) fn build(tree: &Path, out: &Path, kind: Kind, machine: System) -> Result<PathBuf> {
    fs::create_dir_all(out).with_context(|| out.display().to_string())?;
    configure(tree, out, kind, machine)?;
    make(tree, out, machine)?;
    Ok(out.join(architecture(machine).file))
}

/// Checks that everything is there that a build needs.
///
/// # Errors
/// Returns an error that names the first tool that is missing, and its package.
pub(crate) fn check_tools(machine: System) -> Result<()> {
    for (tool, package) in
        [("make", "make"), ("gcc", "gcc"), ("flex", "flex"), ("bison", "bison"), ("bc", "bc")]
    {
        ensure!(
            shell::find(tool).is_some(),
            "there is no {tool}: Debian has it in the package {package}"
        );
    }
    // The build of x86_64 reads its own objects with objtool.
    let elf = || {
        let compile = cmd!("gcc", "-E", "-include", "libelf.h", "-x", "c", "/dev/null");
        compile.stdout_null().stderr_null().run().is_ok()
    };
    ensure!(
        machine == System::Uml || elf(),
        "there is no libelf.h: Debian has it in the package libelf-dev"
    );
    Ok(())
}

fn configure(tree: &Path, out: &Path, kind: Kind, machine: System) -> Result<()> {
    let (fragment, config) = (kind.fragment(machine), out.join(".config"));
    let (stamp, context) = (out.join("fragment"), || config.display().to_string());
    if !config.exists() || fs::read_to_string(&stamp).ok().as_ref() != Some(&fragment) {
        run_make(tree, out, machine, "tinyconfig")?;
        // A later line overrides an earlier one.
        let tiny = fs::read_to_string(&config).with_context(context)?;
        fs::write(&config, format!("{tiny}\n{fragment}")).with_context(context)?;
    }
    run_make(tree, out, machine, "olddefconfig")?;
    let taken = fs::read_to_string(&config).with_context(context)?;
    let lost = not_taken(&fragment, &taken);
    let known = if lost.is_empty() { String::new() } else { kconfig(tree, machine)? };
    let (lost, unknown): (Vec<_>, Vec<_>) = lost.into_iter().partition(|line| {
        let name = option(line).unwrap_or_default().trim_start_matches("CONFIG_");
        known.lines().any(|line| line.split_whitespace().eq(["config", name]))
    });
    if !unknown.is_empty() {
        eprintln!("ci/tree: this version does not have {}", unknown.join(", "));
    }
    ensure!(
        lost.is_empty(),
        "the configuration was asked for and not taken: {} (a dependency is missing)",
        lost.join(", ")
    );
    fs::write(&stamp, fragment).with_context(|| stamp.display().to_string())
}

/// Returns the text of all Kconfig files of a source.
fn kconfig(tree: &Path, machine: System) -> Result<String> {
    let mut text = String::new();
    let own = architecture(machine).folder;
    for folder in ["init", "mm", "lib", "kernel", "fs", own, "block", "security", "drivers"] {
        let folder = tree.join(folder);
        let output =
            cmd!("grep", "-rhsE", "--include=Kconfig*", "^[[:space:]]*(menu)?config ", folder);
        text += &output.unchecked().read()?.replace("menuconfig", "config");
        text += "\n";
    }
    Ok(text)
}

/// Returns the name of the option that a line of a configuration sets.
fn option(line: &str) -> Option<&str> {
    let name = line.strip_prefix("# ").unwrap_or(line);
    let end = name.find([' ', '='])?;
    name.starts_with("CONFIG_").then(|| &name[..end])
}

/// Returns the lines of a fragment that a configuration does not have. An option that is not in the
/// configuration at all is not set.
fn not_taken<'a>(fragment: &'a str, config: &str) -> Vec<&'a str> {
    let has = |wanted: &str| config.lines().any(|line| line == wanted);
    let lines = fragment.lines().filter(|line| option(line).is_some());
    lines
        .filter(|line| match line.strip_prefix("# ").and_then(|rest| rest.split(' ').next()) {
            Some(name) => config.lines().any(|line| line.starts_with(&format!("{name}="))),
            None => !has(line),
        })
        .collect()
}

fn run_make(tree: &Path, out: &Path, machine: System, target: &str) -> Result<()> {
    let mut words = arguments(tree, out, machine);
    words.extend(["-s".to_owned(), target.to_owned()]);
    let output = cmd("make", words).stderr_to_stdout().stdout_capture().unchecked().run()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.success(), "make {target}: {}", first_error(&text));
    Ok(())
}

/// Builds the kernel and shows the number of objects that are compiled.
fn make(tree: &Path, out: &Path, machine: System) -> Result<()> {
    let mut words = arguments(tree, out, machine);
    words.push(architecture(machine).target.to_owned());
    let log = out.join("build.log");
    let (began, mut objects, mut text) = (Instant::now(), 0, String::new());
    let reader = cmd("make", words).stderr_to_stdout().unchecked().reader()?;
    let mut bytes = Vec::new();
    let mut lines = BufReader::new(&reader);
    let terminal = std::io::stderr().is_terminal();
    while lines.read_until(b'\n', &mut bytes)? > 0 {
        let line = String::from_utf8_lossy(&bytes);
        if line.starts_with("  CC ") || line.starts_with("  AS ") {
            objects += 1;
            if terminal {
                eprint!("\rci/tree: building, {objects} objects, {} s ", began.elapsed().as_secs());
                let _ = std::io::stderr().flush();
            }
        }
        text += &line;
        bytes.clear();
    }
    if terminal {
        eprintln!();
    }
    fs::write(&log, &text).with_context(|| log.display().to_string())?;
    let done = reader.try_wait()?.is_some_and(|output| output.status.success());
    if !done {
        bail!("the kernel does not build, see {}:\n{}", log.display(), first_error(&text));
    }
    eprintln!("ci/tree: built {objects} objects in {} s", began.elapsed().as_secs());
    Ok(())
}

/// Returns the first error of a build, with the lines that explain it; the last lines if no line is
/// an error.
fn first_error(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let is_error = |line: &&str| {
        line.contains(" error: ") || line.contains("undefined reference") || line.contains("*** ")
    };
    match lines.iter().position(is_error) {
        Some(at) => lines[at..lines.len().min(at + 5)].join("\n"),
        None => tail(text, 5),
    }
}

/// Returns the state of a source for the name of its build: each file's name, size and time.
pub(crate) fn state(folder: &Path) -> Result<String> {
    let mut text = String::new();
    for file in files(folder, Some(".git"))? {
        let data = file.symlink_metadata().with_context(|| file.display().to_string())?;
        let time = data.modified().ok().and_then(|time| time.elapsed_since_epoch());
        text += &format!("{} {} {time:?}\n", file.display(), data.len());
    }
    Ok(text)
}

/// The time since the epoch in nanoseconds.
trait SinceEpoch {
    fn elapsed_since_epoch(self) -> Option<u128>;
}

impl SinceEpoch for std::time::SystemTime {
    fn elapsed_since_epoch(self) -> Option<u128> {
        self.duration_since(std::time::UNIX_EPOCH).ok().map(|since| since.as_nanos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_that_was_dropped_is_named() {
        let fragment = "# a comment\nCONFIG_SWAP=y\nCONFIG_KSM=y\n# CONFIG_SLUB_TINY is not set\n\
                        # CONFIG_OTHER is not set\n";
        let config = "CONFIG_KSM=y\n# CONFIG_SWAP is not set\nCONFIG_SLUB_TINY=y\n";
        assert_eq!(not_taken(fragment, config), ["CONFIG_SWAP=y", "# CONFIG_SLUB_TINY is not set"]);
        assert_eq!(option("# CONFIG_SLUB_TINY is not set"), Some("CONFIG_SLUB_TINY"));
        assert_eq!(option("# a comment"), None);
    }

    #[test]
    fn the_first_error_of_the_compiler_is_shown() {
        let log = "  CC      mm/vma.o\nmm/vma.c:3:1: warning: unused\nmm/vma.c:7:2: error: expected\n    \
                   7 | x\n      | ^\nmake[1]: *** [mm/vma.o] Error 1\nother.c:1:1: error: late\n";
        assert!(first_error(log).starts_with("mm/vma.c:7:2: error: expected\n"));
        assert_eq!(first_error("one\ntwo\n"), "one\ntwo");
    }

    #[test]
    fn every_kind_asks_for_options_once_each() {
        let kinds = [Kind::Plain, Kind::Kasan, Kind::Lockdep, Kind::Kmemleak, Kind::Kcov];
        let machines = [System::Uml, System::Qemu];
        for (kind, machine) in kinds.iter().flat_map(|kind| machines.map(|machine| (kind, machine)))
        {
            let fragment = kind.fragment(machine);
            let mut names: Vec<_> = fragment.lines().filter_map(option).collect();
            let count = names.len();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), count, "{}", kind.name());
        }
    }
}
