//! `ci/coverage`: the lines of both models that the corpus reaches.

mod lines;

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use duct::cmd;
use vmadiff_machine::{Program, corpus};
use vmadiff_reference::later::Rule;

use self::lines::{Coverage, Explained};
use crate::project::{self, CORPUS, GROWN, absolute, entries, files, tail};
use crate::{Status, shell, targets};

/// The file that lists the lines which no program reaches.
const UNREACHED: &str = "docs/unreached.txt";
/// The folders of the models.
const MODELS: [&str; 2] = ["reference", "candidate"];

/// Show the lines of both models that the committed corpus reaches
///
/// Writes HTML and lcov to target/coverage/report, and functions.txt: for each function the number
/// of lines reached, the number of all lines, and the name, which in the candidate is the kernel's.
/// Lists the lines that are not reached.
///
/// Runs the target cross_mm, built for coverage, on corpus/cross_mm and corpus/grown at every
/// revision. Runs the same programs and corpus/kernel on the reference with each rule of later
/// kernels, and with all of them, beside the reference without a rule.
/// Uses the LLVM tools of the toolchain (`rustup component add llvm-tools`), or those of the system
/// if they have the same LLVM version.
///
/// Exit status: 0 every line is reached or explained in docs/unreached.txt, 1 some lines are not,
/// 2 no tools or a failed build.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Folders of programs to run in addition to the committed ones
    #[arg(value_name = "FOLDER")]
    folders: Vec<PathBuf>,
}

/// Runs `ci/coverage`.
pub(crate) fn run(args: &Args) -> Result<Status> {
    for folder in &args.folders {
        ensure!(folder.is_dir(), "{}: expected a folder of programs", folder.display());
    }
    let folders = args.folders.iter().map(|path| absolute(path)).collect::<Result<Vec<_>>>()?;
    let root = project::enter()?;
    let profdata = llvm_tool("llvm-profdata")?;
    let cov = llvm_tool("llvm-cov")?;

    let work = Work::new(&project::target_folder(&root).join("coverage"))?;
    let binary = work.build()?;
    let mut programs = files(&root.join(CORPUS).join("cross_mm"), None)?;
    for folder in folders.iter().chain([&root.join(GROWN)]) {
        programs.extend(files(folder, Some("codec"))?);
    }
    programs.sort();
    for revision in ["original", "rfc", "v2", "fixed"] {
        work.run(&binary, &programs, ("VMADIFF_REVISION", revision))?;
    }
    programs.extend(work.of_rules(&root)?);
    for machine in machines() {
        work.run(&binary, &programs, ("VMADIFF_CANDIDATE", &machine))?;
    }

    let profile = work.folder.join("profile");
    let raw = entries(&work.folder.join("raw"))?;
    let mut merge = vec!["merge".into(), "-sparse".into()];
    merge.extend(raw.into_iter().map(PathBuf::into_os_string));
    merge.extend(["-o".into(), profile.clone().into()]);
    cmd(profdata, merge).run().context("llvm-profdata")?;
    fs::remove_dir_all(work.folder.join("raw")).context("target/coverage/raw")?;

    let report = work.folder.join("report");
    let arguments = |first: &str, rest: &[String]| {
        let mut all = vec![first.to_owned(), binary.display().to_string()];
        all.push(format!("-instr-profile={}", profile.display()));
        all.extend_from_slice(rest);
        all.push("-sources".to_owned());
        all.extend(MODELS.map(|model| root.join(model).join("src").display().to_string()));
        all
    };
    let html = ["-format=html".to_owned(), format!("-output-dir={}", report.display())];
    cmd(&cov, arguments("show", &html)).stdout_null().run().context("llvm-cov show")?;
    let lcov = cmd(&cov, arguments("export", &["-format=lcov".to_owned()]))
        .read()
        .context("llvm-cov export")?;
    write(&report.join("lcov.info"), &lcov)?;
    account(&root, &lcov, &report)
}

/// Compares the reached lines with the list of lines that no program reaches, and writes the
/// report.
fn account(root: &Path, lcov: &str, report: &Path) -> Result<Status> {
    let list = fs::read_to_string(root.join(UNREACHED)).context(UNREACHED)?;
    let explained = Explained::parse(&list).context(UNREACHED)?;
    let coverage = Coverage::new(lcov, root, &explained, |path| {
        fs::read_to_string(root.join(path)).with_context(|| path.to_owned())
    })?;
    let text = coverage.text(&MODELS)?;
    write(&report.join("lines.txt"), &text)?;
    write(&report.join("functions.txt"), &coverage.functions())?;
    print!("{text}");
    Ok(if coverage.open.is_empty() { Status::Clean } else { Status::Found })
}

/// Returns the names of the reference with each rule of later kernels, and with all of them.
fn machines() -> Vec<String> {
    let names: Vec<&str> = Rule::ALL.iter().map(|rule| rule.name()).collect();
    let each = names.iter().copied().map(str::to_owned);
    each.chain([names.join("+")]).map(|rules| format!("reference+{rules}")).collect()
}

/// The folder of a run. One run at a time has it.
struct Work {
    folder: PathBuf,
    _lock: File,
}

impl Work {
    /// Empties the folders of the last run; the build is kept.
    fn new(folder: &Path) -> Result<Work> {
        let lock = project::lock(folder)?;
        for name in ["raw", "report", "findings", "kernel"] {
            let path = folder.join(name);
            let emptied = if path.exists() { fs::remove_dir_all(&path) } else { Ok(()) };
            emptied
                .and_then(|()| fs::create_dir_all(&path))
                .with_context(|| path.display().to_string())?;
        }
        Ok(Work { folder: folder.to_owned(), _lock: lock })
    }

    /// Writes the programs of corpus/kernel in the form that the target reads, and returns the files.
    fn of_rules(&self, root: &Path) -> Result<Vec<PathBuf>> {
        let mut written = Vec::new();
        // The folder `recorded` has observations.
        for file in files(&root.join("corpus/kernel"), Some("recorded"))? {
            let shown = || file.display().to_string();
            let program: Program =
                fs::read_to_string(&file).with_context(shown)?.parse().with_context(shown)?;
            let to = self.folder.join("kernel").join(written.len().to_string());
            fs::write(&to, corpus::encode(&program)).with_context(|| to.display().to_string())?;
            written.push(to);
        }
        Ok(written)
    }

    /// Builds the target and returns its binary.
    fn build(&self) -> Result<PathBuf> {
        let build = self.folder.join("build");
        // Build scripts and macros are instrumented as well, but their profiles are not used.
        cmd!(
            "cargo",
            "build",
            "--quiet",
            "--manifest-path",
            "fuzz/Cargo.toml",
            "--bin",
            "cross_mm"
        )
        .env("CARGO_TARGET_DIR", &build)
        .env("RUSTFLAGS", "-Cinstrument-coverage --cfg fuzzing")
        .env("LLVM_PROFILE_FILE", "/dev/null")
        .run()
        .context("cross_mm does not build")?;
        Ok(build.join("debug/cross_mm"))
    }

    /// Runs programs once each, unchanged, with a setting of the target: libFuzzer does so if it is
    /// given files.
    fn run(&self, binary: &Path, programs: &[PathBuf], setting: (&str, &str)) -> Result<()> {
        // The length of a command line is limited.
        for some in programs.chunks(500) {
            let findings = self.folder.join("findings");
            let settings =
                [("VMADIFF_FINDINGS", findings.as_os_str()), (setting.0, OsStr::new(setting.1))];
            let output = targets::with_settings(cmd(binary, some), &settings)
                .env("LLVM_PROFILE_FILE", self.folder.join("raw/%p.profraw"))
                .stderr_to_stdout()
                .stdout_capture()
                .unchecked()
                .run()
                .with_context(|| binary.display().to_string())?;
            let log = String::from_utf8_lossy(&output.stdout);
            write(&self.folder.join("log"), &log)?;
            if !output.status.success() {
                eprintln!("{}", tail(&log, 20));
                bail!("cross_mm with {}={}: {}", setting.0, setting.1, output.status);
            }
        }
        Ok(())
    }
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| file.display().to_string())
}

/// Returns the path of an LLVM tool: the toolchain's, or the system's if it has the same LLVM
/// version.
fn llvm_tool(name: &str) -> Result<PathBuf> {
    let sysroot = cmd!("rustc", "--print", "sysroot").read().context("rustc does not run")?;
    let host = shell::rustc("host")?;
    let own = Path::new(&sysroot).join("lib/rustlib").join(host).join("bin").join(name);
    if own.is_file() {
        return Ok(own);
    }
    let version = shell::rustc("LLVM version")?;
    let major = version.split('.').next().unwrap_or_default();
    shell::find(&format!("{name}-{major}")).with_context(|| {
        format!(
            "expected {name} of LLVM {major}: rustup component add llvm-tools, or install \
             llvm-{major}"
        )
    })
}
