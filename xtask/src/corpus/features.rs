//! The features of corpus files: the engine's coverage, and the merge cases of programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use duct::cmd;

use super::Ask;
use crate::shell;
use crate::targets::at_fixed;

/// A feature of a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Feature {
    /// A feature of libFuzzer.
    Engine(u32),
    /// An edge of the target's coverage.
    Edge(u32),
    /// A merge case, by its name.
    Case(String),
}

/// The features of files, by the name of the file.
pub(crate) type Features = BTreeMap<String, Vec<Feature>>;

/// Returns the features of files.
///
/// Each file runs in a process of its own. In one process, state that an earlier program leaves
/// (the candidate's arenas keep their room) would change the coverage of the next.
pub(crate) fn of_files(
    binary: &Path,
    flags: &[String],
    files: &[PathBuf],
    scratch: &Path,
) -> Result<Features> {
    let of_file = |file: &PathBuf| -> Result<(String, Vec<Feature>)> {
        let name = name(file);
        let control = scratch.join(format!("control-{name}"));
        let context = || control.display().to_string();
        // The lines of a control file: the number of files to merge, the number of files that need
        // no coverage, the names.
        fs::write(&control, format!("1\n0\n{}\n", file.display())).with_context(context)?;
        let flag = format!("-merge_control_file={}", control.display());
        let arguments = flags.iter().cloned().chain(["-merge_inner=1".to_owned(), flag]);
        let run = at_fixed(cmd(binary, arguments));
        let run = run.stdout_null().stderr_null().unchecked().run();
        let run = run.with_context(|| binary.display().to_string())?;
        ensure!(run.status.success(), "{} crashes: {}", file.display(), run.status);
        let text = fs::read_to_string(&control).with_context(context)?;
        fs::remove_file(&control).with_context(context)?;
        let features =
            parse(&text).with_context(|| format!("{} has no features", file.display()))?;
        Ok((name, features))
    };
    shell::on_all_cores(files, of_file).into_iter().collect()
}

/// Adds the merge cases of programs to their features.
pub(crate) fn add_cases(features: &mut Features, ask: &Ask, files: &[PathBuf]) -> Result<()> {
    let mut answers = String::new();
    for question in ask.of_files(&["cases"], files) {
        answers += &question.read().context("the example corpus")?;
        answers += "\n";
    }
    for (file, cases) in cases(&answers, files)? {
        features.entry(file).or_default().extend(cases);
    }
    Ok(())
}

/// Reads the cases of files; each line is `FILE CASE…`.
fn cases(answers: &str, files: &[PathBuf]) -> Result<Vec<(String, Vec<Feature>)>> {
    let lines: Vec<&str> = answers.lines().collect();
    ensure!(lines.len() == files.len(), "{} lines of {} files", lines.len(), files.len());
    let of_file = |(line, file): (&str, &PathBuf)| {
        let path = file.display().to_string();
        let cases = line.strip_prefix(&path).with_context(|| format!("{line}: expected {path}"))?;
        let cases = cases.split_whitespace().map(|case| Feature::Case(case.to_owned()));
        Ok((name(file), cases.collect()))
    };
    lines.into_iter().zip(files).map(of_file).collect()
}

/// Returns the name of a file, without its folder.
pub(crate) fn name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Reads the lines with features in libFuzzer's control file: `FT NUMBER FEATURE…` and `COV NUMBER
/// EDGE…`. Returns `None` if there are no features.
fn parse(control: &str) -> Option<Vec<Feature>> {
    let mut features = Vec::new();
    let mut any = false;
    for line in control.lines() {
        let mut words = line.split_whitespace();
        let kind = match words.next() {
            Some("FT") => Feature::Engine,
            Some("COV") => Feature::Edge,
            _ => continue,
        };
        any |= line.starts_with("FT ");
        features.extend(words.skip(1).filter_map(|word| word.parse().ok()).map(kind));
    }
    any.then_some(features)
}

/// Chooses, in the order of the files, each file with a feature that no seed and no earlier file
/// has. Returns the names of the chosen files and the number of all features.
pub(crate) fn choose<'a>(
    seeds: &'a Features,
    features: &'a Features,
    order: &[String],
) -> (BTreeSet<String>, usize) {
    let mut seen: BTreeSet<&Feature> = seeds.values().flatten().collect();
    let mut chosen = BTreeSet::new();
    for name in order {
        let mut fresh = false;
        for feature in features.get(name).into_iter().flatten() {
            fresh |= seen.insert(feature);
        }
        if fresh {
            chosen.insert(name.clone());
        }
    }
    (chosen, seen.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_read_from_the_control_file() {
        let text = "1\n0\n/x/FT 9\nSTARTED 0 12\nFT 0 7 9\nCOV 0 4\n";
        assert_eq!(
            parse(text),
            Some(vec![Feature::Engine(7), Feature::Engine(9), Feature::Edge(4)])
        );
        assert_eq!(parse("1\n0\nx\nSTARTED 0 12\n"), None);
        assert_eq!(parse("FT 0\n"), Some(vec![]), "a program that reaches nothing has been run");
    }

    #[test]
    fn cases_are_read_whatever_the_path_is() -> Result<()> {
        let files = ["/a folder/x".into(), "/b/y".into()];
        let case = |name: &str| Feature::Case(name.to_owned());
        assert_eq!(
            cases("/a folder/x case1 case3x\n/b/y\n", &files)?,
            [("x".to_owned(), vec![case("case1"), case("case3x")]), ("y".to_owned(), vec![])]
        );
        assert!(cases("/b/y\n/a folder/x\n", &files).is_err());
        assert!(cases("/a folder/x\n", &files).is_err());
        Ok(())
    }

    #[test]
    fn a_file_is_kept_that_adds_a_feature() {
        let of = |features: &[u32]| features.iter().map(|n| Feature::Engine(*n)).collect();
        let seeds = Features::from([("seed".to_owned(), of(&[1, 2]))]);
        let mut files = Features::from([
            ("a".to_owned(), of(&[1, 2])),
            ("b".to_owned(), of(&[2, 3])),
            ("c".to_owned(), of(&[3])),
            ("d".to_owned(), of(&[1])),
        ]);
        let order = ["c", "a", "b", "d"].map(str::to_owned);
        let (kept, seen) = choose(&seeds, &files, &order);
        assert_eq!((kept, seen), (BTreeSet::from(["c".to_owned()]), 3));
        // The order decides which of two equal files is kept.
        let other = ["b", "a", "c", "d"].map(str::to_owned);
        assert_eq!(choose(&seeds, &files, &other).0, BTreeSet::from(["b".to_owned()]));
        // A merge case is a feature that the engine does not have.
        files.entry("d".to_owned()).or_default().push(Feature::Case("1".to_owned()));
        let (kept, seen) = choose(&seeds, &files, &order);
        assert_eq!((kept, seen), (BTreeSet::from(["c".to_owned(), "d".to_owned()]), 4));
    }
}
