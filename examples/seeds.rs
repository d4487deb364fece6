//! Prints the coverage of the seeds without fuzzing, as a table: the merge cases, and the seeded
//! faults that the seeds find. `ci/measure-seeds` adds libFuzzer's coverage and writes
//! docs/seeds.md.

use std::collections::BTreeSet;
use std::error::Error;
use std::fs;
use std::path::Path;

use vmadiff::machines::MachineName;
use vmadiff::merge_cases::{CASES, Cases, merge_cases};
use vmadiff_faults::Faults;
use vmadiff_machine::Program;

fn programs(folder: &str) -> Result<Vec<Program>, Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(folder);
    let mut files: Vec<_> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.sort();
    files.iter().map(|file| Ok(fs::read_to_string(file)?.parse()?)).collect()
}

/// Counts the merge cases that programs reach: first within an address space, then by copies from
/// another address space.
fn merges(programs: &[Program]) -> (Cases, Cases) {
    let mut sums = ([0; CASES], [0; CASES]);
    for (within, across) in programs.iter().map(merge_cases) {
        for n in 0..CASES {
            sums.0[n] += within[n];
            sums.1[n] += across[n];
        }
    }
    sums
}

/// A seeded fault: its name, and the machine that has the fault.
type Faulty = (String, MachineName);

/// Loads the libraries of all seeded faults.
fn faulty() -> Result<Vec<Faulty>, Box<dyn Error>> {
    let load = |name: String| {
        let machine = MachineName::in_process(&format!("candidate:fixed+{name}"), Path::new(""))?;
        Ok((name, machine))
    };
    Faults::find()?.all()?.into_iter().map(|fault| load(fault.name)).collect()
}

/// Returns the seeded faults that programs show without mutation.
fn shown<'a>(faults: &'a [Faulty], programs: &[Program]) -> BTreeSet<&'a str> {
    faults
        .iter()
        .filter(|(_, machine)| {
            let mut lockstep = machine.judged();
            programs.iter().any(|program| lockstep.run(program).is_some())
        })
        .map(|(name, _)| name.as_str())
        .collect()
}

fn main() -> Result<(), Box<dyn Error>> {
    let (written, real) = (programs("seeds")?, programs("real")?);
    let both: Vec<Program> = written.iter().chain(&real).cloned().collect();
    println!("| | written | real | both |\n|---|--:|--:|--:|");
    let row = |title: &str, of: &dyn Fn(&[Program]) -> String| {
        println!("| {title} | {} | {} | {} |", of(&written), of(&real), of(&both));
    };
    row("programs", &|programs| programs.len().to_string());
    row("operations", &|programs| {
        programs.iter().map(|program| program.ops.len()).sum::<usize>().to_string()
    });
    for n in 0..CASES {
        row(&format!("merges of case {}: same mm, from another mm", n + 1), &|programs| {
            let (within, across) = merges(programs);
            format!("{}, {}", within[n], across[n])
        });
    }
    let faults = faulty()?;
    row(&format!("seeded faults shown, of {}", faults.len()), &|programs| {
        shown(&faults, programs).len().to_string()
    });
    let (by_written, by_real) = (shown(&faults, &written), shown(&faults, &real));
    let more: Vec<_> = by_real.difference(&by_written).map(|name| format!("`{name}`")).collect();
    println!(
        "\nFaults that only real programs show: {}.",
        if more.is_empty() { "none".into() } else { more.join(", ") }
    );
    Ok(())
}
