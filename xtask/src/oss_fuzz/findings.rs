//! The services' handling of a finding: reproduce it on another machine, and tell it from others.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::runner::{Run, Runner};
use super::stack::frames;
use super::{Sanitizer, check, fail, say};
use crate::faults;
use crate::project::entries;

/// A seeded fault that fuzzing finds within seconds.
const PLANTED: &str = "mask-no-locked";
/// libFuzzer's exit status for a crash.
const CRASH: i32 = 77;
/// The exit status of a process that SIGABRT ended.
const ABORTED: i32 = 134;

/// Makes a copy of a target under another name, with other settings, and returns its binary.
fn with_settings(runner: &Runner, name: &str, settings: &[&str]) -> Result<PathBuf> {
    let (from, to) = (runner.out.join("cross_mm"), runner.out.join(name));
    for ending in ["", ".options"] {
        let path = |path: &Path| format!("{}{ending}", path.display());
        fs::copy(path(&from), path(&to)).with_context(|| path(&to))?;
    }
    let file = runner.out.join(format!("{name}.settings"));
    let text: String = settings.iter().flat_map(|line| [line, "\n"]).collect();
    fs::write(&file, text).with_context(|| file.display().to_string())?;
    Ok(to)
}

/// Checks that wrong settings are reported, and do not count as a finding.
pub(crate) fn settings(runner: &Runner) -> Result<()> {
    let elsewhere = runner.folder("elsewhere")?;
    let target = with_settings(runner, "wrong", &["VMADIFF_REVISION=v2", "VMADIFF_REVISON=v2"])?;
    let Run { status, log } = runner.run(&elsewhere, &target, &["-runs=1"])?;
    if status != 2 {
        return Err(fail(&log, format!("wrong settings: status {status}, expected 2")));
    }
    if !log.contains("wrong.settings: line 2: ") {
        return Err(fail(&log, "wrong settings are not named"));
    }
    check(entries(&elsewhere)?.is_empty(), "wrong settings are taken for a finding")
}

/// Checks that programs of known bugs reproduce in another folder, and that two bugs have different
/// stacks.
pub(crate) fn reproduce(runner: &Runner, corpus: &Path, sanitizer: Sanitizer) -> Result<()> {
    let target = with_settings(runner, "all_count", &["VMADIFF_REVISION=v2"])?;
    let artifacts = runner.folder("artifacts")?;
    let mut stacks = Vec::new();
    for name in ["bug-a", "bug-c", "mask-locked-copy"] {
        let file = artifacts.join(format!("{name}.vmad"));
        let from = corpus.join(format!("{name}.vmad"));
        fs::copy(&from, &file).with_context(|| from.display().to_string())?;
        let run = runner.run(&runner.path("elsewhere"), &target, &[file.display().to_string()])?;
        let Run { status, log } = run;
        if status != CRASH && status != ABORTED {
            return Err(fail(&log, format!("{name} does not reproduce: status {status}")));
        }
        if !log.contains("ERROR: libFuzzer: deadly signal") {
            return Err(fail(&log, format!("{name} is no crash")));
        }
        let stack = frames(&log, sanitizer);
        if stack.len() != 3 {
            return Err(fail(&log, format!("{name}: expected three frames, found {stack:?}")));
        }
        say(format!("{name} reproduces elsewhere, in {}", stack.join(" ")));
        stacks.push(stack);
    }
    let [bug_a, bug_c, mask_locked_copy] = &stacks[..] else { return Ok(()) };
    check(bug_a != bug_c, "two bugs have the same frames")?;
    check(bug_c == mask_locked_copy, "one signature, two stacks")?;
    // ClusterFuzz names a bug after this frame, which begins with the crate's name.
    let own = "::crash::use_after_free::copy_vma";
    let has = bug_a.iter().any(|frame| frame.ends_with(own));
    check(has, format!("bug-a: expected a frame that ends with {own}"))
}

/// Checks that fuzzing finds a fault, and that its artifact reproduces.
pub(crate) fn planted(runner: &Runner, root: &Path, sanitizer: Sanitizer) -> Result<()> {
    let target = with_settings(runner, "planted", &["VMADIFF_CANDIDATE=lib:planted.so"])?;
    let library = faults::fuzz_library(root, PLANTED)?;
    fs::copy(&library, runner.out.join("planted.so"))
        .with_context(|| library.display().to_string())?;
    let elsewhere = runner.path("elsewhere");
    let mut flags = runner.flags("planted")?;
    let prefix = runner.path("planted-").display().to_string();
    flags.extend(["-max_total_time=120".to_owned(), format!("-artifact_prefix={prefix}")]);
    flags.push(runner.path("grown-cross_mm_fixed").display().to_string());
    let Run { status, log } = runner.run(&elsewhere, &target, &flags)?;
    if status != CRASH {
        return Err(fail(&log, format!("the planted fault is not found: status {status}")));
    }
    let crash = runner.path("planted-crash-").display().to_string();
    let folder = runner.path("");
    let artifact = entries(&folder)?
        .into_iter()
        .map(|path| path.display().to_string())
        .find(|path| path.starts_with(&crash))
        .with_context(|| format!("{crash}*: expected the artifact of a crash"))?;
    let Run { status, log } = runner.run(&elsewhere, &target, &[artifact])?;
    if status != CRASH {
        let what = "the planted fault's artifact does not reproduce";
        return Err(fail(&log, format!("{what}: status {status}")));
    }
    let frames = frames(&log, sanitizer).join(" ");
    say(format!("the planted fault is found, and its artifact reproduces, in {frames}"));
    Ok(())
}
