//! `ci/faults oracle`: each patch that weakens the oracle is noticed by the test that its head names.
//!
//! There is one copy of the project, `target/faults/oracle/copy`: links to the project's files, and
//! copies of the crates that patches change. It has a target folder of its own, so that a patch costs
//! the crates that depend on its file.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use duct::cmd;
use vmadiff_faults::{Faults, OracleFault, Test};

use super::{apply, build, check, report};
use crate::Status;
use crate::project::{entries, link, lock, tail};
use crate::scratch::Group;

/// The table of all faults of the oracle.
const TABLE: &str = "docs/oracle-faults.md";
/// The time limit of a test: a weakened harness may run forever. The longest test takes seconds.
const TIME_LIMIT: Duration = Duration::from_secs(300);
/// A patch may leave a variable or a function unused.
const NO_WARNINGS: &str = "-Awarnings";

/// The faults that are checked; by default all.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Check a fifth of the faults, which the commit chooses, and that the other patches apply
    #[arg(long, conflicts_with = "names")]
    fifth: bool,
    /// Write docs/oracle-faults.md from the heads of the patches, and check nothing
    #[arg(long, conflicts_with_all = ["fifth", "names"])]
    table: bool,
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

/// Runs `ci/faults oracle`.
pub(crate) fn run(args: &Args, root: &Path, faults: &Faults) -> Result<Status> {
    let start = Instant::now();
    let all = faults.oracle()?;
    let text = table(&all);
    let file = root.join(TABLE);
    if args.table {
        fs::write(&file, text).with_context(|| TABLE.to_owned())?;
        return Ok(Status::Clean);
    }
    let written = fs::read_to_string(&file).with_context(|| TABLE.to_owned())?;
    ensure!(written == text, "{TABLE} is out of date: `ci/faults oracle --table` writes it");
    let total = all.len();
    let mut chosen = if args.fifth {
        let (said, chosen) = check::chosen_fifth(all.clone())?;
        println!("{said}");
        chosen
    } else if args.names.is_empty() {
        all.clone()
    } else {
        args.names.iter().map(|name| Ok(faults.oracle_named(name)?)).collect::<Result<_>>()?
    };
    // Of a fault that is not checked, the patch has to apply at least.
    let left_out: Vec<OracleFault> = match args.fifth {
        true => all.into_iter().filter(|fault| !chosen.contains(fault)).collect(),
        false => Vec::new(),
    };
    // Patches of one file side by side: the other crates are not built again between them.
    chosen.sort_by(|a, b| (&a.file, &a.name).cmp(&(&b.file, &b.name)));
    let copy = Copy::new(root, faults)?;
    // A test that fails without a patch notices nothing.
    copy.clean(chosen.iter().map(|fault| &fault.noticed_by))?;
    println!("{:>6.1} s  the tests pass without a patch", start.elapsed().as_secs_f64());
    let mut failures = Vec::new();
    for fault in &left_out {
        if let Err(error) = copy.stage(&faults.oracle_patch(&fault.name), fault) {
            failures.push((fault.name.as_str(), format!("{error:#}")));
        }
    }
    for fault in &chosen {
        let begin = Instant::now();
        let result = copy.check(&faults.oracle_patch(&fault.name), fault);
        let said = if result.is_ok() { "noticed" } else { "FAILED" };
        println!("{:>6.1} s  {said} {}", begin.elapsed().as_secs_f64(), fault.name);
        if let Err(error) = result {
            failures.push((fault.name.as_str(), format!("{error:#}")));
        }
    }
    copy.restore(None)?;
    println!(
        "{} of {total} faults of the oracle checked in {:.0} s, {} failed",
        chosen.len(),
        start.elapsed().as_secs_f64(),
        failures.len()
    );
    report(chosen.len(), &failures)
}

/// The copy of the project that patches are applied to.
struct Copy<'a> {
    root: &'a Path,
    folder: PathBuf,
    target: PathBuf,
    /// The folders of the project that patches change.
    crates: BTreeSet<PathBuf>,
    /// Two runs at once would write the same copy.
    _lock: File,
}

impl<'a> Copy<'a> {
    fn new(root: &'a Path, faults: &Faults) -> Result<Copy<'a>> {
        let base = root.join("target/faults/oracle");
        let lock = lock(&base)?;
        let all = faults.oracle()?;
        let first =
            |fault: &OracleFault| fault.file.components().next().map(|c| c.as_os_str().into());
        let crates: BTreeSet<PathBuf> = all.iter().filter_map(first).collect();
        let folder = base.join("copy");
        fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries(root)? {
            let Some(name) = entry.file_name() else { continue };
            let hidden = name.to_string_lossy().starts_with('.');
            if hidden || name == OsStr::new("target") || crates.contains(Path::new(name)) {
                continue;
            }
            link(&entry, &folder.join(name))?;
        }
        let target = base.join("target");
        let copy = Copy { root, folder, target, crates, _lock: lock };
        copy.restore(None)?;
        Ok(copy)
    }

    /// Makes the crates the same as in the project, except one file. A file that does not change keeps
    /// its time, by which cargo decides what to build.
    fn restore(&self, but: Option<&Path>) -> Result<()> {
        for name in &self.crates {
            let to = self.folder.join(name);
            if to.is_symlink() {
                fs::remove_file(&to).with_context(|| to.display().to_string())?;
            }
            build::transfer_but(
                &self.root.join(name),
                &to,
                but.map(|file| self.folder.join(file)).as_deref(),
            )?;
        }
        Ok(())
    }

    /// Runs the tests without a patch.
    fn clean<'t>(&self, tests: impl Iterator<Item = &'t Test>) -> Result<()> {
        let mut targets: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
        for test in tests {
            targets.entry((&test.package, &test.target)).or_default().insert(&test.name);
        }
        for ((package, target), names) in targets {
            let names: Vec<&str> = names.into_iter().collect();
            let output = self.cargo_test(package, target, false, &names)?;
            let text = String::from_utf8_lossy(&output.stdout);
            for name in &names {
                match outcome(&text, name) {
                    Some("ok") => {}
                    Some(_) => bail!(
                        "{package} {target} {name} fails without a patch:\n{}",
                        tail(&text, 30)
                    ),
                    None => bail!("{package} {target} has no test {name}:\n{}", tail(&text, 30)),
                }
            }
        }
        Ok(())
    }

    /// Applies a patch apart from the copy, and returns the patched file.
    fn stage(&self, patch: &Path, fault: &OracleFault) -> Result<PathBuf> {
        let stage = self.folder.with_file_name("stage");
        if stage.exists() {
            fs::remove_dir_all(&stage).context("stage")?;
        }
        let (from, staged) = (self.root.join(&fault.file), stage.join(&fault.file));
        fs::create_dir_all(staged.parent().unwrap_or(&stage)).context("stage")?;
        fs::copy(&from, &staged).with_context(|| from.display().to_string())?;
        apply::apply(patch, &stage)?;
        Ok(staged)
    }

    /// Applies a patch, and demands that the code builds and that its test fails.
    fn check(&self, patch: &Path, fault: &OracleFault) -> Result<()> {
        // The file in the copy is written once, so that cargo builds once.
        let staged = self.stage(patch, fault)?;
        self.restore(Some(&fault.file))?;
        build::update(&staged, &self.folder.join(&fault.file))?;

        let Test { package, target, name } = &fault.noticed_by;
        let built = self.cargo_test(package, target, true, &[])?;
        if !built.status.success() {
            bail!("does not build:\n{}", tail(&String::from_utf8_lossy(&built.stdout), 30));
        }
        let output = self.cargo_test(package, target, false, &[name])?;
        judge(&String::from_utf8_lossy(&output.stdout), name)
    }

    /// Builds a test target, or runs tests of it. The output includes the messages of cargo.
    fn cargo_test(
        &self,
        package: &str,
        target: &str,
        build: bool,
        names: &[&str],
    ) -> Result<Output> {
        let mut arguments = vec!["test", "--locked", "--quiet", "-p", package];
        match target {
            "lib" => arguments.push("--lib"),
            test => arguments.extend(["--test", test]),
        }
        if build {
            arguments.push("--no-run");
        } else {
            arguments.extend(["--", "--exact", "--format", "pretty"]);
            arguments.extend(names);
        }
        let handle = cmd("cargo", arguments)
            .dir(&self.folder)
            .env("CARGO_TARGET_DIR", &self.target)
            .env("RUSTFLAGS", NO_WARNINGS)
            .env("CARGO_PROFILE_DEV_DEBUG", "false")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .stderr_to_stdout()
            .stdout_capture()
            .unchecked()
            .before_spawn(|cargo| {
                cargo.process_group(0);
                Ok(())
            })
            .start()
            .context("cargo does not run")?;
        // The tests are processes of cargo, and end with its group.
        let _group = handle.pids().first().and_then(|cargo| Group::led_by(*cargo));
        // Building has no time limit.
        if build || names.is_empty() {
            return Ok(handle.wait()?.clone());
        }
        match handle.wait_timeout(TIME_LIMIT)? {
            Some(output) => Ok(output.clone()),
            None => {
                bail!("{package} {target}: no end after {} s", TIME_LIMIT.as_secs())
            }
        }
    }
}

/// Returns the outcome of a test from the output of `cargo test`.
fn outcome<'t>(output: &'t str, name: &str) -> Option<&'t str> {
    let line = format!("test {name} ... ");
    output.lines().find_map(|text| text.strip_prefix(&line)).map(str::trim)
}

/// Judges the output of a test that has to notice a patch.
fn judge(output: &str, name: &str) -> Result<()> {
    match outcome(output, name) {
        Some("FAILED") => Ok(()),
        Some("ok") => bail!("{name} does not notice it"),
        _ => bail!("{name} does not end:\n{}", tail(output, 15)),
    }
}

/// Writes the table of all faults of the oracle.
fn table(faults: &[OracleFault]) -> String {
    let mut out = String::from(
        "# Faults of the oracle\n\n\
         Each patch in `faults/oracle/` weakens the reference or the harness. The test in the last column\n\
         fails with the patch and passes without it; `ci/faults oracle` checks both. `ci/faults oracle\n\
         --table` writes this table from the heads of the patches.\n",
    );
    let files: BTreeSet<&Path> = faults.iter().map(|fault| fault.file.as_path()).collect();
    for file in files {
        let of_file = faults.iter().filter(|fault| fault.file == file);
        let _ = write!(
            out,
            "\n## {}\n\n| patch | wrong | noticed by |\n|---|---|---|\n",
            file.display()
        );
        for OracleFault { name, wrong, noticed_by, .. } in of_file {
            let Test { package, target, name: test } = noticed_by;
            let _ = writeln!(out, "| {name} | {wrong} | `{package}` {target}: `{test}` |");
        }
    }
    let _ = writeln!(out, "\n{} faults.", faults.len());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_notices_a_patch_if_it_fails_and_in_no_other_way() {
        judge("running 1 test\ntest a::b ... FAILED\n", "a::b").expect("noticed");
        for (output, error) in [
            ("running 1 test\ntest a::b ... ok\n", "a::b does not notice it"),
            ("running 0 tests\n", "a::b does not end"),
            ("error[E0425]: cannot find value\n", "a::b does not end"),
            ("test a::bc ... FAILED\n", "a::b does not end"),
        ] {
            let found = judge(output, "a::b").expect_err(error).to_string();
            assert!(found.starts_with(error), "{found}");
        }
    }

    #[test]
    fn the_table_has_every_patch_under_its_file() -> Result<()> {
        let fault = |name: &str, file: &str| {
            let patch = format!(
                "class: oracle\nfile: {file}\nwrong: w\nnoticed-by: p lib a::b\n\n\
                 diff --git a/{file} b/{file}\n+++ b/{file}\n"
            );
            OracleFault::parse(name, &patch)
        };
        let faults = [fault("one", "b.rs")?, fault("two", "a.rs")?];
        let text = table(&faults);
        let rows = "## a.rs\n\n| patch | wrong | noticed by |\n|---|---|---|\n\
                    | two | w | `p` lib: `a::b` |\n\n## b.rs\n";
        assert!(text.contains(rows), "{text}");
        assert!(text.ends_with("\n2 faults.\n"));
        Ok(())
    }

    #[test]
    fn the_table_in_docs_is_that_of_the_patches() -> Result<()> {
        let root = crate::project::root()?;
        let all = Faults::of(root.clone()).oracle()?;
        assert!(all.len() >= 30, "{} faults of the oracle", all.len());
        assert!(
            fs::read_to_string(root.join(TABLE))? == table(&all),
            "run ci/faults oracle --table"
        );
        Ok(())
    }
}
