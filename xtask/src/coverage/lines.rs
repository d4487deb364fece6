//! The lines that programs reach, compared with the list of lines that no program reaches.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// The list of lines that no program reaches. An entry is `FILE FUNCTION -- LINE -- WHY`; `*` as
/// the line means every line of the function.
pub(crate) struct Explained(Vec<Line>);

/// A line of a function, identified by its text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    /// The file and the name of the function.
    function: String,
    text: String,
}

/// The entry for every line of a function.
const EVERY: &str = "*";

impl Explained {
    /// # Errors
    /// Returns an error with the number of the first line that does not have the form.
    pub(crate) fn parse(text: &str) -> Result<Explained> {
        let mut lines = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let parts: Vec<&str> = line.splitn(3, " -- ").collect();
            let [function, text, _] = parts[..] else {
                bail!("line {number}: expected FILE FUNCTION -- LINE -- WHY");
            };
            lines.push(Line { function: function.to_owned(), text: text.to_owned() });
        }
        Ok(Explained(lines))
    }
}

/// The number of lines of a model, and the number of lines reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    lines: u32,
    reached: u32,
    explained: u32,
}

/// The coverage of the models.
#[derive(Debug)]
pub(crate) struct Coverage {
    /// The lines that are neither reached nor listed: `FILE:NUMBER: TEXT`.
    pub(crate) open: Vec<String>,
    /// The entries of the list whose lines are reached or do not exist.
    needless: Vec<Line>,
    models: BTreeMap<String, Counts>,
    /// The functions in the order of the files.
    functions: Vec<(String, Counts)>,
}

impl Coverage {
    /// Reads the output of `llvm-cov export -format=lcov`. `source` returns the text of a file,
    /// whose path is relative to the root.
    pub(crate) fn new(
        lcov: &str,
        root: &Path,
        explained: &Explained,
        source: impl Fn(&str) -> Result<String>,
    ) -> Result<Coverage> {
        let mut coverage = Coverage {
            open: Vec::new(),
            needless: Vec::new(),
            models: BTreeMap::new(),
            functions: Vec::new(),
        };
        let mut used = BTreeSet::new();
        let mut file = None;
        for record in lcov.lines() {
            if let Some(path) = record.strip_prefix("SF:") {
                let path = Path::new(path);
                let path = path.strip_prefix(root).unwrap_or(path).display().to_string();
                file = Some(File::new(&path, &source(&path)?));
            } else if let Some(line) = record.strip_prefix("DA:") {
                let file = file.as_ref().with_context(|| format!("lcov: {record}: of no file"))?;
                let mut numbers = line.split(',').map(str::parse::<usize>);
                let (Some(Ok(number)), Some(Ok(hits))) = (numbers.next(), numbers.next()) else {
                    bail!("lcov: {record}: expected a line and a count");
                };
                coverage.add(file, number, hits > 0, explained, &mut used);
            }
        }
        coverage.needless =
            explained.0.iter().filter(|line| !used.contains(line)).cloned().collect();
        Ok(coverage)
    }

    fn add<'a>(
        &mut self,
        file: &File,
        number: usize,
        reached: bool,
        explained: &'a Explained,
        used: &mut BTreeSet<&'a Line>,
    ) {
        // The tests in a file do not belong to the model.
        if file.tests.is_some_and(|tests| number >= tests) {
            return;
        }
        let (text, function) = file.line(number);
        let model = file.path.split('/').next().unwrap_or_default().to_owned();
        let model = self.models.entry(model).or_default();
        let mut none = Counts::default();
        let in_function = match function {
            None => &mut none,
            Some(name) => {
                let known = self.functions.iter().rposition(|(other, _)| other == name);
                let at = known.unwrap_or_else(|| {
                    self.functions.push((name.to_owned(), Counts::default()));
                    self.functions.len() - 1
                });
                &mut self.functions[at].1
            }
        };
        for counts in [&mut *model, in_function] {
            counts.lines += 1;
            counts.reached += u32::from(reached);
        }
        if reached {
            return;
        }
        let function = function.unwrap_or_default();
        let find = |text: &str| {
            explained.0.iter().find(|line| line.function == function && line.text == text)
        };
        match find(text).or_else(|| find(EVERY)) {
            Some(line) => {
                used.insert(line);
                model.explained += 1;
            }
            None => self.open.push(format!("{}:{number}: {text}", file.path)),
        }
    }

    /// Returns the summary of each model, then the lines and entries that need work.
    pub(crate) fn text(&self, models: &[&str]) -> Result<String> {
        let mut text = String::new();
        for &name in models {
            let counts =
                self.models.get(name).with_context(|| format!("lcov: no line of {name}"))?;
            let Counts { lines, reached, explained } = *counts;
            let share = 100.0 * f64::from(reached) / f64::from(lines);
            writeln!(
                text,
                "{name}: {reached} of {lines} lines, {share:.2} %; {explained} of the others are \
                 explained"
            )?;
        }
        if !self.open.is_empty() {
            text += "expected a seed that reaches them, or why none can in docs/unreached.txt:\n";
            self.open.iter().try_for_each(|line| writeln!(text, "{line}"))?;
            text += "\n";
        }
        for Line { function, text: line } in &self.needless {
            writeln!(text, "docs/unreached.txt: reached after all: {function} -- {line}")?;
        }
        Ok(text)
    }

    /// Returns a line for each function: lines reached, all lines, file and name.
    pub(crate) fn functions(&self) -> String {
        self.functions
            .iter()
            .map(|(name, counts)| format!("{:4} {:4}  {name}\n", counts.reached, counts.lines))
            .collect()
    }
}

/// A source file.
struct File {
    path: String,
    /// The text of each line, and the function it is in (file and name): the last function that
    /// began.
    lines: Vec<(String, Option<String>)>,
    /// The number of the first line of its tests.
    tests: Option<usize>,
}

impl File {
    fn new(path: &str, source: &str) -> File {
        let mut function: Option<String> = None;
        let mut lines = Vec::new();
        for line in source.lines() {
            if let Some(name) = function_name(line) {
                function = Some(format!("{path} {name}"));
            }
            lines.push((line.trim().to_owned(), function.clone()));
        }
        let tests = source.lines().position(|line| line.starts_with("#[cfg(test)]"));
        File { path: path.to_owned(), lines, tests: tests.map(|n| n + 1) }
    }

    /// Returns the text of a line without its indentation, and the function it is in.
    fn line(&self, number: usize) -> (&str, Option<&str>) {
        match number.checked_sub(1).and_then(|n| self.lines.get(n)) {
            Some((text, function)) => (text, function.as_deref()),
            None => ("", None),
        }
    }
}

/// Returns the name of the function or the macro that begins on a line.
fn function_name(line: &str) -> Option<&str> {
    let mut line = line.trim_start_matches(' ');
    if let Some(rest) = line.strip_prefix("pub") {
        let rest = match rest.strip_prefix('(') {
            Some(place) => place.split_once(')')?.1,
            None => rest,
        };
        line = rest.strip_prefix(' ')?;
    }
    line = line.strip_prefix("const ").unwrap_or(line);
    line = line.strip_prefix("fn ").or_else(|| line.strip_prefix("macro_rules! "))?;
    let end = line.find(|c: char| !(c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
    Some(&line[..end.unwrap_or(line.len())])
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "\
pub(crate) const fn merge(a: u32) -> bool {
    if a > 1 {
        return true;
    }
    false
}

impl X {
    fn name(&self) -> &str {
        self.name
    }
}

#[cfg(test)]
mod tests {
    fn never() {}
}
";

    /// Returns the lcov of the source in both models, in which the lines `unreached` are not
    /// reached.
    fn lcov(unreached: &[usize]) -> String {
        let hits = |number| u8::from(!unreached.contains(&number));
        let lines: String = [1, 2, 3, 5, 9, 10, 16]
            .map(|number| format!("DA:{number},{}\n", hits(number)))
            .concat();
        format!(
            "SF:/project/reference/src/a.rs\n{lines}end_of_record\n\
                 SF:/project/candidate/src/b.rs\nDA:1,7\nend_of_record\n"
        )
    }

    fn coverage(unreached: &[usize], list: &str) -> Result<Coverage> {
        let explained = Explained::parse(list)?;
        Coverage::new(&lcov(unreached), Path::new("/project"), &explained, |_| Ok(SOURCE.into()))
    }

    #[test]
    fn a_line_is_reached_or_explained_or_open() -> Result<()> {
        let all = coverage(&[], "# nothing\n\n")?;
        assert_eq!(
            all.text(&["reference", "candidate"])?,
            "reference: 6 of 6 lines, 100.00 %; 0 of the others are explained\n\
             candidate: 1 of 1 lines, 100.00 %; 0 of the others are explained\n"
        );
        let list = "reference/src/a.rs merge -- return true; -- a guard -- of no use\n\
                    reference/src/a.rs name -- * -- for people\n";
        let some = coverage(&[3, 5, 9, 10], list)?;
        assert_eq!(some.open, ["reference/src/a.rs:5: false"]);
        assert_eq!(
            some.text(&["reference"])?,
            "reference: 2 of 6 lines, 33.33 %; 3 of the others are explained\n\
             expected a seed that reaches them, or why none can in docs/unreached.txt:\n\
             reference/src/a.rs:5: false\n\n"
        );
        Ok(())
    }

    #[test]
    fn an_explained_line_that_is_reached_is_told() -> Result<()> {
        let list = "reference/src/a.rs merge -- false -- never\n\
                    reference/src/a.rs name -- * -- for people\n";
        let text = coverage(&[9], list)?.text(&["reference"])?;
        assert!(
            text.ends_with(
                "docs/unreached.txt: reached after all: reference/src/a.rs merge -- false\n"
            ),
            "{text}"
        );
        assert!(!text.contains("a.rs name"), "{text}");
        Ok(())
    }

    #[test]
    fn the_tests_of_a_file_are_not_counted() -> Result<()> {
        assert!(coverage(&[16], "")?.open.is_empty());
        Ok(())
    }

    #[test]
    fn functions_have_their_lines() -> Result<()> {
        assert_eq!(
            coverage(&[3, 10], "")?.functions(),
            "   3    4  reference/src/a.rs merge\n   1    2  reference/src/a.rs name\n   \
             1    1  candidate/src/b.rs merge\n"
        );
        Ok(())
    }

    #[test]
    fn a_model_without_lines_is_an_error() -> Result<()> {
        let error = coverage(&[], "")?.text(&["kernel"]).expect_err("no lines");
        assert_eq!(error.to_string(), "lcov: no line of kernel");
        Ok(())
    }

    #[test]
    fn a_list_that_is_not_of_the_form_is_refused() {
        let error = Explained::parse("# a\na.rs f -- x\n").err().expect("an error");
        assert_eq!(error.to_string(), "line 2: expected FILE FUNCTION -- LINE -- WHY");
    }

    #[test]
    fn a_function_begins_with_its_signature() {
        let cases = [
            ("fn step(&mut self) {", Some("step")),
            ("    pub(crate) const fn vma_merge2(", Some("vma_merge2")),
            ("pub fn new<T>() -> T {", Some("new")),
            ("macro_rules! edit {", Some("edit")),
            ("    let f = |fn_name| 1;", None),
            ("    // fn old()", None),
            ("type F = fn (u32);", None),
            ("public fn x()", None),
        ];
        for (line, name) in cases {
            assert_eq!(function_name(line), name, "{line}");
        }
    }
}
