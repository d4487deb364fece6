//! Answers the questions of `ci/corpus` about programs.
//!
//! - `canonical OUT FILE…` writes each file that is a program to the folder OUT, in the corpus
//!   format and under its old name.
//! - `cases FILE…` prints the merge cases that each file reaches.
//! - `stats TITLE FILE…` prints the figures of a corpus.
//! - `check CORPUS` prints the errors of a corpus, one line for each.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use vmadiff::contract_points::{POINTS, contract_points};
use vmadiff::input::{self, InputError, Loaded};
use vmadiff::machines::MachineName;
use vmadiff::merge_cases::{CASES, merge_cases};
use vmadiff_candidate::Revision;
use vmadiff_machine::{Opcode, Program, corpus};

type Failure = Box<dyn Error>;

fn load(file: &Path) -> Result<Program, Failure> {
    let program = input::load(file).map_err(|e| format!("{}: {e}", file.display()))?.program;
    Ok(program)
}

fn canonical(out: &Path, files: &[PathBuf]) -> Result<(), Failure> {
    for file in files {
        let name = file.file_name().ok_or("a file without a name")?;
        match input::load(file) {
            Ok(Loaded { program, .. }) => fs::write(out.join(name), corpus::encode(&program))?,
            Err(InputError::Read(error)) => {
                return Err(format!("{}: {error}", file.display()).into());
            }
            Err(_) => {}
        }
    }
    Ok(())
}

/// Prints the merge cases that each file reaches, a word for each case: its number, and `x` if the
/// source is in another address space.
fn cases(files: &[PathBuf]) -> Result<(), Failure> {
    for file in files {
        let (within, across) = merge_cases(&load(file)?);
        print!("{}", file.display());
        for (counts, kind) in [(within, ""), (across, "x")] {
            for (n, _) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
                print!(" case{}{kind}", n + 1);
            }
        }
        println!();
    }
    Ok(())
}

fn stats(title: &str, files: &[PathBuf]) -> Result<(), Failure> {
    let (mut bytes, mut within, mut across) = (0, [0; CASES], [0; CASES]);
    let mut points = [0; POINTS];
    let mut operations: BTreeMap<&str, usize> = BTreeMap::new();
    for file in files {
        bytes += fs::metadata(file)?.len();
        let program = load(file)?;
        for op in &program.ops {
            *operations.entry(op.opcode().name()).or_default() += 1;
        }
        let (w, a) = merge_cases(&program);
        for n in 0..CASES {
            within[n] += w[n];
            across[n] += a[n];
        }
        for (sum, count) in points.iter_mut().zip(contract_points(&program)) {
            *sum += count;
        }
    }
    let total: usize = operations.values().sum();
    println!("{title}: {} files, {bytes} bytes, {total} operations", files.len());
    let counted = Opcode::ALL.iter().map(|opcode| {
        format!("{} {}", opcode.name(), operations.get(opcode.name()).copied().unwrap_or(0))
    });
    println!("  {}", counted.collect::<Vec<_>>().join(", "));
    fn row<const N: usize>(counts: [usize; N]) -> String {
        counts.map(|count| format!("{count:>7}")).concat()
    }
    println!("  merge case     {}", row::<CASES>(std::array::from_fn(|n| n + 1)));
    println!("    same mm      {}", row(within));
    println!("    from another {}", row(across));
    println!("  contract point {}", row::<POINTS>(std::array::from_fn(|n| n + 1)));
    println!("    put to a test{}", row(points));
    let bare: Vec<_> = (1..=POINTS).filter(|n| points[n - 1] == 0).map(|n| n.to_string()).collect();
    println!(
        "  uncovered contract points: {}",
        if bare.is_empty() { "none".into() } else { bare.join(", ") }
    );
    Ok(())
}

/// Returns the files of a folder in the order of their names; no files if the folder does not
/// exist.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Failure> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut files: Vec<_> =
        fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.sort();
    Ok(files)
}

/// Returns the errors of a corpus, one line for each.
fn check(folder: &Path) -> Result<Vec<String>, Failure> {
    let mut wrong = Vec::new();
    let at = |revision| MachineName::Candidate(revision).judged();
    let (mut v2, mut fixed) = (at(Revision::V2), at(Revision::Fixed));
    for target in ["cross_mm", "same_mm", "grown/cross_mm", "grown/same_mm"] {
        for file in files(&folder.join(target))? {
            let bytes = fs::read(&file)?;
            let shown = file.display();
            match corpus::decode(&bytes) {
                Err(error) => wrong.push(format!("{shown}: {error}")),
                Ok(program) if corpus::encode(&program) != bytes => {
                    wrong.push(format!("{shown}: not canonical: encoding gives other bytes"));
                }
                Ok(program) => {
                    if let Some(found) = fixed.run(&program) {
                        wrong.push(format!("{shown}: shows {} at fixed", found.signature));
                    }
                }
            }
        }
    }
    // Each regression shows its signature at v2. No other seed shows a divergence.
    let list = folder.join("regressions.txt");
    let text = fs::read_to_string(&list).map_err(|e| format!("{}: {e}", list.display()))?;
    let mut listed = BTreeMap::new();
    for (n, line) in text.lines().enumerate() {
        let mut words = line.split('#').next().unwrap_or("").split_whitespace();
        let Some(name) = words.next() else { continue };
        let Some(signature) = words.next().filter(|_| words.next().is_none()) else {
            wrong.push(format!("{}: line {}: expected NAME SIGNATURE", list.display(), n + 1));
            continue;
        };
        listed.insert(name.to_owned(), signature.to_owned());
        if !folder.join("seeds").join(format!("{name}.txt")).is_file() {
            wrong.push(format!("{}: {name}: no seed has that name", list.display()));
        }
    }
    for folder in [folder.join("seeds"), folder.join("real")] {
        for file in files(&folder)? {
            let shown = file.display();
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let program = load(&file)?;
            let found = v2.run(&program).map(|found| found.signature.to_string());
            match (found.as_deref(), listed.get(&name)) {
                (None, None) => {}
                (Some(found), Some(expected)) if found == expected => {}
                (Some(found), None) => {
                    wrong.push(format!("{shown}: shows {found} at v2, and is no regression"));
                }
                (found, Some(expected)) => wrong.push(format!(
                    "{shown}: expected {expected} at v2, shows {}",
                    found.unwrap_or("nothing")
                )),
            }
            if let Some(found) = fixed.run(&program) {
                wrong.push(format!("{shown}: shows {} at fixed", found.signature));
            }
        }
    }
    Ok(wrong)
}

fn run() -> Result<bool, Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let paths = |from: usize| arguments.iter().skip(from).map(PathBuf::from).collect::<Vec<_>>();
    match (arguments.first().map(String::as_str), arguments.get(1)) {
        (Some("canonical"), Some(out)) => canonical(Path::new(out), &paths(2))?,
        (Some("cases"), _) => cases(&paths(1))?,
        (Some("stats"), Some(title)) => stats(title, &paths(2))?,
        (Some("check"), Some(folder)) => {
            let wrong = check(Path::new(folder))?;
            for line in &wrong {
                eprintln!("{line}");
            }
            return Ok(wrong.is_empty());
        }
        _ => {
            return Err(
                "expected canonical OUT FILE…, cases FILE…, stats TITLE FILE… or check CORPUS"
                    .into(),
            );
        }
    }
    Ok(true)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("corpus: {error}");
            ExitCode::from(2)
        }
    }
}
