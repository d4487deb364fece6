//! `ci/corpus`: keeps the corpus small and useful.

mod features;
mod prune;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Subcommand;
use duct::{Expression, cmd};
use sha1::{Digest, Sha1};

use crate::project::{self, CORPUS, FUZZ_CORPUS, GROWN, absolute, files, hex, tail};
use crate::targets::{Main, Target};
use crate::{Status, fuzz};

/// The committed corpus has to be smaller than this number of bytes.
const LIMIT: u64 = 1 << 20;
/// The folders of the committed corpus that count for the limit.
const COMMITTED: [&str; 6] = ["cross_mm", "same_mm", "codec", "seeds", "real", "grown"];

/// Grow, prune and check the corpus
///
/// To merge the findings of other machines, copy them into fuzz/corpus/TARGET, under any name and
/// in any order, and prune: only the contents decide which files are kept. A second prune changes
/// nothing. docs/coverage.md shows the coverage of the corpus.
///
/// Exit status: 0 all is well, 1 the check failed, 2 bad use or a failed build.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Fuzz at revision fixed; new files go to fuzz/corpus/TARGET
    Grow {
        /// The seconds of each target
        #[arg(long, value_name = "N", default_value_t = 60,
              value_parser = clap::value_parser!(u32).range(1..=9_999_999))]
        seconds: u32,
        /// The targets to fuzz
        #[arg(value_name = "TARGET", default_values = ["cross_mm", "same_mm", "codec"])]
        targets: Vec<Main>,
    },
    /// Keep the files of two folders that add coverage or a merge case, and empty the second folder
    Prune {
        /// The folder that is emptied, with a folder TARGET for each target; fuzz/corpus of the
        /// project by default
        #[arg(long, value_name = "FOLDER")]
        found: Option<PathBuf>,
        /// The folder to keep in, with a folder TARGET for each target; corpus/grown of the project
        /// by default
        #[arg(long, value_name = "FOLDER")]
        kept: Option<PathBuf>,
        /// The targets whose corpus is pruned
        #[arg(value_name = "TARGET", default_values = ["cross_mm", "same_mm", "codec"])]
        targets: Vec<Main>,
    },
    /// Check that every file has the right name, form and size
    Check,
    /// Show files, bytes, operations, merge cases, points of the contract, and coverage by kernel
    /// function
    Stats,
}

/// The example `corpus`, which answers questions about programs.
struct Ask(PathBuf);

impl Ask {
    fn new(root: &Path) -> Result<Ask> {
        Ok(Ask(project::build_corpus_example(root)?))
    }

    /// Returns the question about files, split into several command lines, whose length is limited.
    fn of_files(&self, question: &[&str], files: &[PathBuf]) -> Vec<Expression> {
        let ask = |some: &[PathBuf]| {
            let paths = some.iter().map(|path| path.as_os_str().to_owned());
            cmd(&self.0, question.iter().map(Into::into).chain(paths))
        };
        files.chunks(500).map(ask).collect()
    }
}

/// Runs `ci/corpus`.
pub(crate) fn run(args: Args) -> Result<Status> {
    match args.command {
        Command::Grow { seconds, targets } => {
            // Two runs in the same folder at once lose nothing: libFuzzer names files by their
            // contents.
            let status = fuzz::run(fuzz::Args::at_fixed(seconds, targets))?;
            ensure!(
                status == Status::Clean,
                "the corpus is not grown, because fuzzing found something: see above"
            );
            Ok(Status::Clean)
        }
        Command::Prune { found, kept, targets } => {
            if let Some(found) = &found {
                ensure!(found.is_dir(), "--found {}: expected a folder", found.display());
            }
            let found = found.as_deref().map(absolute).transpose()?;
            let kept = kept.as_deref().map(absolute).transpose()?;
            let root = project::enter()?;
            let found = found.unwrap_or_else(|| root.join(FUZZ_CORPUS));
            let kept = kept.unwrap_or_else(|| root.join(GROWN));
            let targets: Vec<Target> = targets.into_iter().map(Target::from).collect();
            prune::run(&root, &Ask::new(&root)?, &found, &kept, &targets)?;
            Ok(Status::Clean)
        }
        Command::Check => check(&project::enter()?),
        Command::Stats => stats(&project::enter()?),
    }
}

/// Returns the name that libFuzzer gives to a file with these contents.
fn name_of(contents: &[u8]) -> String {
    hex(Sha1::digest(contents))
}

fn check(root: &Path) -> Result<Status> {
    let ask = Ask::new(root)?;
    let asked = cmd!(&ask.0, "check", CORPUS).unchecked().run().context("the example corpus")?;
    let mut status = if asked.status.success() { Status::Clean } else { Status::Found };
    for file in misnamed(Path::new(GROWN))? {
        eprintln!("{}: expected its SHA-1 as name", file.display());
        status = Status::Found;
    }
    let mut bytes = 0;
    for folder in COMMITTED {
        bytes += size(&files(&Path::new(CORPUS).join(folder), None)?)?;
    }
    if bytes >= LIMIT {
        eprintln!("{CORPUS}: {bytes} bytes: expected less than {LIMIT}");
        status = Status::Found;
    }
    if status == Status::Clean {
        println!("the corpus is as it should be, {bytes} bytes");
    }
    Ok(status)
}

/// Returns the files below a folder that are not named after their contents.
fn misnamed(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut misnamed = Vec::new();
    for file in files(folder, None)? {
        let contents = fs::read(&file).with_context(|| file.display().to_string())?;
        if file.file_name().is_none_or(|name| name != name_of(&contents).as_str()) {
            misnamed.push(file);
        }
    }
    Ok(misnamed)
}

/// Returns the size of all files together, in bytes.
fn size(files: &[PathBuf]) -> Result<u64> {
    let size =
        |file: &PathBuf| Ok(file.metadata().with_context(|| file.display().to_string())?.len());
    files.iter().map(size).sum()
}

fn stats(root: &Path) -> Result<Status> {
    let ask = Ask::new(root)?;
    for folder in ["seeds", "real", "cross_mm", "same_mm", "grown/cross_mm", "grown/same_mm"] {
        let path = Path::new(CORPUS).join(folder);
        if path.is_dir() {
            // All files are asked about at once, because the answer is their sum.
            let mut question = vec!["stats".into(), folder.into()];
            question.extend(files(&path, None)?.into_iter().map(PathBuf::into_os_string));
            cmd(&ask.0, question).run().context("the example corpus")?;
        }
    }
    for folder in ["codec", "grown/codec"] {
        let path = Path::new(CORPUS).join(folder);
        if path.is_dir() {
            let files = files(&path, None)?;
            println!("{folder}: {} files, {} bytes", files.len(), size(&files)?);
        }
    }
    let coverage = cmd!(root.join("ci/coverage"))
        .stderr_to_stdout()
        .stdout_capture()
        .unchecked()
        .run()
        .context("ci/coverage")?;
    // Status 1: a line is not reached and not explained. The report of the functions is whole.
    if !matches!(coverage.status.code(), Some(0 | 1)) {
        println!("{}", tail(&String::from_utf8_lossy(&coverage.stdout), 1));
        println!("no coverage of the kernel's functions: see above");
        return Ok(Status::Clean);
    }
    let file = project::target_folder(root).join("coverage/report/functions.txt");
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    print!("{}", kernel_functions(&text));
    Ok(Status::Clean)
}

/// Returns the number of the candidate's functions (which are the kernel's) whose lines are all
/// reached.
fn kernel_functions(functions: &str) -> String {
    let mut all = 0;
    let mut part = BTreeMap::new();
    let candidate = functions.lines().filter(|line| line.contains(" candidate/"));
    for (number, line) in candidate.enumerate() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [reached, lines, _, name] = words[..] else { continue };
        all += 1;
        if reached != lines {
            part.insert(number, format!("  {name}: {reached} of {lines} lines\n"));
        }
    }
    let whole = all - part.len();
    let head = format!(
        "kernel functions of which they reach every line: {whole} of {all}; of the others\n"
    );
    head + &part.into_values().collect::<String>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_file_is_named_as_libfuzzer_names_it() -> Result<()> {
        // `printf abc | sha1sum`
        let name = "a9993e364706816aba3e25717850c26c9cd0d89d";
        assert_eq!(name_of(b"abc"), name);
        let scratch = Scratch::new()?;
        fs::write(scratch.path().join(name), "abc")?;
        fs::write(scratch.path().join("other"), "abc")?;
        assert_eq!(misnamed(scratch.path())?, [scratch.path().join("other")]);
        Ok(())
    }

    #[test]
    fn functions_of_the_kernel_are_those_of_the_candidate() {
        let text = "   3    4  reference/src/a.rs x\n   1    2  candidate/src/b.rs vma_merge\n   \
                    5    5  candidate/src/c.rs copy_vma\n";
        assert_eq!(
            kernel_functions(text),
            "kernel functions of which they reach every line: 1 of 2; of the others\n  \
             vma_merge: 1 of 2 lines\n"
        );
    }
}
