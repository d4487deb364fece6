//! `ci/faults check`: each patch applies and builds, and its program shows the class and the
//! mistake that the head of the patch names.

use std::fs;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use duct::cmd;
use vmadiff_faults::{Fault, Faults, Flavour};

use super::{build, named, report};
use crate::project::{self, tail};
use crate::{Status, shell};

/// A part of the sentence that gives no reason but only says that the machines differ (`explain/`).
const NO_REASON: &str = "show different things after";

/// The faults to check; by default all.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Check a fifth of the faults, chosen by the commit
    #[arg(long, conflicts_with = "names")]
    fifth: bool,
    #[arg(value_name = "NAME")]
    names: Vec<String>,
}

/// Runs `ci/faults check`.
pub(crate) fn run(args: &Args, root: &Path, faults: &Faults) -> Result<Status> {
    let start = Instant::now();
    let all = faults.all()?;
    let total = all.len();
    let chosen = if args.fifth {
        let (said, chosen) = chosen_fifth(all)?;
        println!("{said}");
        chosen
    } else if args.names.is_empty() {
        all
    } else {
        named(faults, &args.names)?
    };
    let vmadiff = project::build_vmadiff(root)?;
    let builder = build::Builder::new(root, faults, Flavour::Plain)?;
    let results = shell::with_progress("check", shell::cores(), &chosen, |fault| {
        builder.build(&fault.name)?;
        show(&vmadiff, faults, fault)
    });
    let failures = build::failures(&chosen, results);
    if args.fifth {
        let names: Vec<&str> = chosen.iter().map(|fault| fault.name.as_str()).collect();
        println!("checked: {}", names.join(" "));
    }
    println!(
        "{} of {total} faults checked in {:.0} s, {} failed",
        chosen.len(),
        start.elapsed().as_secs_f64(),
        failures.len()
    );
    report(chosen.len(), &failures)
}

/// Returns the fifth of the faults that the checked out commit chooses, and a line with its number and
/// the commit.
pub(crate) fn chosen_fifth<F>(all: Vec<F>) -> Result<(String, Vec<F>)> {
    let commit = cmd!("git", "rev-parse", "HEAD").read().context("git does not run")?;
    let (number, chosen) = fifth(all, commit.trim())?;
    Ok((format!("fifth {number} of 5, chosen by commit {}", commit.trim()), chosen))
}

/// Returns the number of the fifth that a commit chooses, from 1 to 5, and the faults in it.
fn fifth<F>(all: Vec<F>, commit: &str) -> Result<(usize, Vec<F>)> {
    let digits = commit.get(..8).and_then(|digits| u32::from_str_radix(digits, 16).ok());
    let digits = digits.with_context(|| format!("`{commit}`: expected the hash of a commit"))?;
    let number = (digits % 5) as usize;
    let chosen = all.into_iter().enumerate().filter(|(n, _)| n % 5 == number);
    Ok((number + 1, chosen.map(|(_, fault)| fault).collect()))
}

/// Replays the program of a fault on its library, and judges the output.
fn show(vmadiff: &Path, faults: &Faults, fault: &Fault) -> Result<()> {
    let file = faults.program(&fault.name);
    let program = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    let output = cmd!(vmadiff, "replay", &file, "--fault", &fault.name)
        .stdout_capture()
        .stderr_capture()
        .unchecked()
        .run()
        .context("vmadiff does not run")?;
    let text = String::from_utf8_lossy(&output.stdout);
    match output.status.code() {
        Some(1) => judge(fault, &program, &text),
        Some(0) => bail!("its program shows nothing"),
        _ => bail!("{}", tail(&String::from_utf8_lossy(&output.stderr), 5)),
    }
}

/// Judges the output of a fault's program: it has to show the fault's class, at the last operation,
/// with a reason, and the program has to begin with the fault's title.
fn judge(fault: &Fault, program: &str, shown: &str) -> Result<()> {
    let prefixes = ["divergence ", "broken invariant "];
    let found =
        shown.lines().find_map(|line| prefixes.iter().find_map(|prefix| line.strip_prefix(prefix)));
    let found = found.and_then(|line| line.split_once(" after operation "));
    let (signature, step) = found.context("its program shows no divergence")?;
    let class = signature.split('/').next().unwrap_or_default();
    ensure!(class == fault.class, "its program shows {signature}: expected class {}", fault.class);
    let operations = program.lines().filter(|line| is_operation(line)).count();
    let ran = step.trim().parse::<usize>().context("the number of an operation")?;
    ensure!(ran == operations, "its program diverges after {ran} operations and has {operations}");
    let title = format!("# {signature}: {}", fault.wrong);
    let first = program.lines().next().unwrap_or_default();
    ensure!(first == title, "its program begins with `{first}`: expected `{title}`");
    let reason = shown.split_once("\nwhy: ").and_then(|(_, rest)| rest.split("\n\n").next());
    let reason = reason.context("no reason is given")?.split_whitespace().collect::<Vec<_>>();
    let reason = reason.join(" ");
    ensure!(!reason.contains(NO_REASON), "the reason only says that the machines differ");
    ensure!(!reason.contains('?'), "an object without a letter in the reason: {reason}");
    Ok(())
}

/// Returns whether a line of a program is an operation.
fn is_operation(line: &str) -> bool {
    let line = line.trim_start();
    !line.is_empty() && !line.starts_with('#') && !line.starts_with("limits ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(name: &str) -> Fault {
        let patch = "class: flags\nfunction: copy_vma\ntier: plain\nwrong: it is kept\n\ndiff --git a/x b/x\n";
        Fault::parse(name, patch).expect("a head")
    }

    #[test]
    fn five_fifths_are_all_faults_and_a_commit_always_chooses_the_same() -> Result<()> {
        let all: Vec<Fault> = (0..23).map(|n| fault(&format!("f-{n:02}"))).collect();
        let mut seen = Vec::new();
        for commit in ["00000000aa", "00000001aa", "00000002aa", "00000003aa", "00000004aa"] {
            let (number, chosen) = fifth(all.clone(), commit)?;
            assert_eq!(fifth(all.clone(), commit)?, (number, chosen.clone()));
            assert!((4..=5).contains(&chosen.len()));
            seen.extend(chosen);
        }
        seen.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(seen, all);
        assert!(fifth(all, "no hash").is_err());
        Ok(())
    }

    const PROGRAM: &str = "# flags/copy/VM_LOCKED-kept: it is kept\nlimits map_count=8\n\nfork 0 # two\ncopy 1 0 1 0 2 FIXED\n";
    const SHOWN: &str = "x.txt\n\ndivergence flags/copy/VM_LOCKED-kept after operation 2\nwhy: the flag is cleared\n";

    #[test]
    fn a_fault_shows_its_class_at_the_last_operation_with_a_reason() {
        judge(&fault("kept"), PROGRAM, SHOWN).expect("as it should be");
        let broken = SHOWN.replace("divergence ", "broken invariant ");
        judge(&fault("kept"), PROGRAM, &broken).expect("a finding of the invariants");
        for (from, to, error) in [
            (
                "divergence flags/",
                "divergence merge/",
                "its program shows merge/copy/VM_LOCKED-kept: expected class flags",
            ),
            ("operation 2", "operation 1", "its program diverges after 1 operations and has 2"),
            ("VM_LOCKED-kept", "VM_IO-kept", "expected `# flags/copy/VM_IO-kept: it is kept`"),
            ("why: the flag is cleared", "", "no reason is given"),
            (
                "the flag is cleared",
                "the machines show different things\n  after it",
                "only says that",
            ),
            ("the flag is cleared", "anon_vma ? differs", "an object without a letter"),
            ("divergence ", "", "shows no divergence"),
        ] {
            let shown = SHOWN.replace(from, to);
            let found = judge(&fault("kept"), PROGRAM, &shown).expect_err(error).to_string();
            assert!(found.contains(error), "{found}");
        }
    }
}
