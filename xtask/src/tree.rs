//! `ci/tree`: builds a kernel's source as an ordinary program, or for an emulator, and checks it.

mod build;
mod compare;
mod console;
mod coverage;
mod farm;
mod patches;
mod session;
mod source;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use sha1::{Digest as _, Sha1};
use vmadiff_lockstep::known::Known;

use self::build::Kind;
use self::compare::Comparison;
use self::coverage::Coverage;
use self::farm::Farm;
use self::session::{Outcome, Plan};
use self::source::Source;
use crate::guest::{Guest, System, make_executable};
use crate::{Status, kernel, project, shell};

/// Check a kernel's source, with or without a patch, as an ordinary program
///
/// The source is built for ARCH=um (User Mode Linux): the real code of the memory management, without
/// an emulator and without root. With --machine qemu it is built for x86_64, with what User Mode Linux
/// lacks: NUMA, SMP, soft-dirty flags. One kernel runs on each core. First the rules of later kernels are
/// probed, then the corpus runs, then, with --kasan, the corpus with the reverse map walked after
/// each operation, then random programs. A difference from the reference, a report of the kernel
/// about itself, and a kernel that dies or hangs are findings.
///
/// Sources, builds and kernels are kept in target/trees. The source is never written to.
///
/// Exit status: 0 nothing found, 1 a finding, 2 bad use or a failed build, 3 nothing found, but a part was
/// skipped: there is no emulator, or no time for the whole corpus.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// A folder with a kernel's source; or linux-source-6.12, linux-source-6.1 or linux-source-5.10,
    /// packages of Debian
    #[arg(long, value_name = "SOURCE")]
    source: String,
    /// A patch of the source: a diff (*.patch, *.diff) or a semantic patch of Coccinelle (*.cocci);
    /// may be given several times
    #[arg(long, value_name = "FILE")]
    patch: Vec<PathBuf>,
    /// Run the same programs on the kernel of this source without patches, and report where the two
    /// kernels differ; the reference is asked which of them it agrees with
    #[arg(long, value_name = "SOURCE", conflicts_with_all = ["fail", "kmemleak", "first", "kcov", "no_corpus"])]
    base: Option<String>,
    /// Run the kernel as this machine
    #[arg(long, value_name = "MACHINE", default_value = "uml")]
    machine: System,
    /// Build with KASAN, and walk the reverse map
    #[arg(long, conflicts_with_all = ["lockdep", "kmemleak"])]
    kasan: bool,
    /// Run the corpus again, and repeat each operation while its first, second, … allocation fails
    #[arg(long)]
    fail: bool,
    /// Build with lock debugging
    #[arg(long, conflicts_with = "kmemleak")]
    lockdep: bool,
    /// Build with kmemleak, which is asked for leaks at the end
    #[arg(long)]
    kmemleak: bool,
    /// Run copies by this number of the system call process_vm_mmap, which the kernel has
    #[arg(long, value_name = "NR")]
    process_vm_mmap: Option<u32>,
    /// Build with KCOV, and show the lines that the programs reached. The last programs are mutations,
    /// guided by the kernel's coverage, or random programs
    #[arg(long, value_name = "HOW", num_args = 0..=1, default_missing_value = "guided",
          value_parser = ["guided", "random"], conflicts_with_all = ["kasan", "lockdep", "kmemleak"])]
    kcov: Option<String>,
    /// Write the source of the mm files into this new folder, with a mark at each line that was reached
    #[arg(long, value_name = "DIR", requires = "kcov")]
    annotate: Option<PathBuf>,
    /// Leave out the corpus
    #[arg(long)]
    no_corpus: bool,
    /// Expect the rules of this release of Linux, such as 6.12 or 6.12.117 [default: the release of
    /// the source's Makefile]
    #[arg(long, value_name = "RELEASE", value_parser = release)]
    expect: Option<String>,
    /// The number of random programs [default: as many as the time allows]
    #[arg(long, value_name = "N")]
    programs: Option<u64>,
    /// The time for everything after the build
    #[arg(long, value_name = "N", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=9_999_999))]
    seconds: u64,
    /// The seed of the random programs: the same seed makes the same programs
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// End at the first finding
    #[arg(long)]
    first: bool,
    /// Differences that are known: lines SIGNATURE WHY, as in corpus/known-uml.txt. They are shown, and do not count
    /// as found
    #[arg(long, value_name = "FILE", conflicts_with = "first")]
    known: Option<PathBuf>,
}

/// Returns the release that a text names.
pub(crate) fn release(text: &str) -> Result<String, String> {
    let is_number = |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
    let parts: Vec<&str> = text.split('.').collect();
    let is_release = matches!(parts.len(), 2 | 3) && parts.iter().all(|part| is_number(part));
    is_release
        .then(|| text.to_owned())
        .ok_or_else(|| "expected such as 6.12 or 6.12.117".to_owned())
}

/// The most kernels that are kept.
const KEPT: usize = 40;

/// Runs `ci/tree`.
pub(crate) fn run(args: &Args) -> Result<Status> {
    let patches =
        args.patch.iter().map(|path| project::absolute(path)).collect::<Result<Vec<_>>>()?;
    // A folder is named from the folder of the caller.
    let absolute = |source: &String| match Path::new(source).is_dir() {
        true => Ok(project::absolute(Path::new(source))?.display().to_string()),
        false => Ok::<_, anyhow::Error>(source.clone()),
    };
    let (source, base) = (absolute(&args.source)?, args.base.as_ref().map(absolute).transpose()?);
    let known = args.known.as_deref().map(read_known).transpose()?.unwrap_or_default();
    if let Some(emulator) = args.machine.emulator_program()
        && shell::find(emulator).is_none()
    {
        eprintln!("ci/tree: there is no {emulator}: Debian has it in the package qemu-system-x86");
        return Ok(Status::Skipped);
    }
    ensure!(
        args.kcov.is_none() || args.machine == System::Uml,
        "--kcov is for User Mode Linux, not for --machine qemu"
    );
    let annotated = args.annotate.as_deref().map(project::absolute).transpose()?;
    let root = project::enter()?;
    if let Some(folder) = &annotated {
        coverage::check_folder(folder, &root)?;
    }
    let cache = project::target_folder(&root).join("trees");
    fs::create_dir_all(&cache).with_context(|| cache.display().to_string())?;
    let cache = cache.canonicalize().with_context(|| cache.display().to_string())?;
    let source = Source::find(&source, &cache)?;
    let base = base.map(|base| Source::find(&base, &cache)).transpose()?;
    let kind = match args {
        Args { kasan: true, .. } => Kind::Kasan,
        Args { lockdep: true, .. } => Kind::Lockdep,
        Args { kmemleak: true, .. } => Kind::Kmemleak,
        Args { kcov: Some(_), .. } => Kind::Kcov,
        _ => Kind::Plain,
    };
    // An -rc has the rules of the release that it becomes.
    let of_source = source.release.split('-').next().unwrap_or_default();
    let expected = args.expect.clone().unwrap_or_else(|| of_source.to_owned());
    let began = Instant::now();
    let (program, is_new) = kernel_of(&source, &patches, (kind, args.machine), &cache)?;
    let base = match &base {
        Some(base) => Some((base, kernel_of(base, &[], (kind, args.machine), &cache)?.0)),
        None => None,
    };
    let built = began.elapsed().as_secs();

    let kernels = project::target_folder(&root).join("kernels");
    fs::create_dir_all(&kernels).with_context(|| kernels.display().to_string())?;
    kernel::build_initramfs(&root, &kernels)?;
    let copies = args.process_vm_mmap.is_some();
    let initramfs = session::initramfs(&root, &kernel::initramfs_file(&kernels), &cache, copies)?;

    let mut options = vec!["--expect".to_owned(), expected];
    options.extend(["--seed".to_owned(), args.seed.to_string()]);
    if args.fail {
        options.push("--fail".to_owned());
    }
    if let Some(number) = args.process_vm_mmap {
        options.extend(["--process-vm-mmap".to_owned(), number.to_string()]);
    }
    let mut kernel_options = vec!["loglevel=5".to_owned()];
    match kind {
        // Without the option KASAN reports once only.
        Kind::Kasan => {
            options.push("--walk".to_owned());
            kernel_options.push("kasan_multi_shot".to_owned());
        }
        Kind::Kmemleak => options.push("--leaks".to_owned()),
        Kind::Plain | Kind::Lockdep | Kind::Kcov => {}
    }
    if let Some(how) = &args.kcov {
        options.extend(["--coverage".to_owned(), how.clone()]);
    }
    let system = args.machine.accelerated(&program, &initramfs, &cache)?;
    let kernel = Guest {
        system,
        program: program.clone(),
        initramfs,
        scratch: cache,
        options: kernel_options,
    };
    let random = args.programs.unwrap_or(u64::from(u32::MAX));
    let began = Instant::now();
    let outcome = match &base {
        None => {
            let (seconds, first, corpus) = (args.seconds, args.first, !args.no_corpus);
            Plan { kernel, options, random, seconds, first, corpus }.run()?
        }
        Some((_, program)) => {
            let mut words = vec!["--random".to_owned(), random.to_string()];
            words.extend(["--seed".to_owned(), args.seed.to_string()]);
            if let Some(number) = args.process_vm_mmap {
                words.extend(["--process-vm-mmap".to_owned(), number.to_string()]);
            }
            let base = Guest { program: program.clone(), ..kernel.clone() };
            let kernels = [base, kernel];
            Comparison { kernels, options, random: words, seconds: args.seconds }.run()?
        }
    };
    let files = patches;
    let patches: Vec<_> = args.patch.iter().map(|path| path.display().to_string()).collect();
    let title = format!(
        "{} {}{}{}, {}{}: {}, checked in {} s",
        source.name,
        source.release,
        if patches.is_empty() { String::new() } else { format!(" with {}", patches.join(" ")) },
        base.as_ref().map_or_else(String::new, |(base, _)| {
            format!(" beside {} {}", base.name, base.release)
        }),
        kind.name(),
        if system == System::Uml { "" } else { ", x86_64" },
        if is_new { format!("built in {built} s") } else { "built before".to_owned() },
        began.elapsed().as_secs()
    );
    print!("{}", report(&title, &outcome, &known));
    if args.kcov.is_some() {
        let coverage = Coverage::of(&program, &outcome.covered)?;
        print!("\n{}", coverage.table());
        if let Some(folder) = &annotated {
            coverage.annotate(folder, &source.folder, &patches::apply(&source.folder, &files)?)?;
            println!("annotated source: {}", folder.display());
        }
    }
    Ok(match is_news(&outcome, &known) {
        true => Status::Found,
        false if outcome.left() > 0 => Status::Skipped,
        false => Status::Clean,
    })
}

/// Returns whether something was found that is not known.
fn is_news(outcome: &Outcome, known: &Known) -> bool {
    outcome.findings.iter().any(|finding| known.why(&finding.signature).is_none())
}

/// Reads a list of known differences.
fn read_known(path: &Path) -> Result<Known> {
    let context = || path.display().to_string();
    let text = fs::read_to_string(path).with_context(context)?;
    Known::parse(&text).with_context(context)
}

/// Returns the kernel of a source with patches, and whether it was built now.
fn kernel_of(
    source: &Source,
    patches: &[PathBuf],
    (kind, machine): (Kind, System),
    cache: &Path,
) -> Result<(PathBuf, bool)> {
    let patched = patches::apply(&source.folder, patches)?;
    let mut hash = Sha1::new();
    hash.update(build::state(&source.folder)?);
    hash.update(kind.fragment(machine));
    for (file, content) in &patched {
        hash.update(file.as_os_str().as_encoded_bytes());
        hash.update(content.as_deref().unwrap_or_default());
    }
    let kernels = cache.join("kernels");
    fs::create_dir_all(&kernels).with_context(|| kernels.display().to_string())?;
    let kept = kernels.join(project::hex(hash.finalize()));
    if kept.exists() {
        // The time is that of the last use, by which old kernels are removed.
        let _ = File::open(&kept).and_then(|file| file.set_modified(std::time::SystemTime::now()));
        return Ok((kept, false));
    }
    build::check_tools(machine)?;
    let folder = cache.join(&source.name);
    // Another run may build the same source.
    let _lock = project::lock(&folder)?;
    let farm = Farm::of(&source.folder, &folder)?;
    farm.apply(&patched)?;
    let out = folder.join(format!("build-{}-{}", build::architecture(machine).name, kind.name()));
    let linux = build::build(farm.tree(), &out, kind, machine)?;
    let part = kept.with_extension("part");
    fs::copy(&linux, &part)
        .and_then(|_| fs::rename(&part, &kept))
        .with_context(|| kept.display().to_string())?;
    make_executable(&kept)?;
    prune(&kernels)?;
    Ok((kept, true))
}

/// Removes the kernels that were not used for the longest time.
fn prune(kernels: &Path) -> Result<()> {
    let mut files = project::entries(kernels)?;
    files.sort_by_key(|file| file.metadata().and_then(|data| data.modified()).ok());
    for file in files.iter().rev().skip(KEPT) {
        fs::remove_file(file).with_context(|| file.display().to_string())?;
    }
    Ok(())
}

/// Returns the report of a session.
fn report(title: &str, outcome: &Outcome, known: &Known) -> String {
    let mut text = format!("{title}\n{}\n\n", outcome.kernel);
    text += &format!(
        "{:<8} {:>8} {:>10} {:>10} {:>9} {:>7} {:>7}\n",
        "section", "programs", "operations", "agree", "explained", "found", "seconds"
    );
    for (section, counts) in &outcome.sections {
        let count = |name: &str| counts.get(name).copied().unwrap_or(0);
        let rules = counts.iter().filter(|(name, _)| name.starts_with("rule-"));
        let explained: u64 = rules.map(|(_, count)| count).sum();
        text += &format!(
            "{section:<8} {:>8} {:>10} {:>10} {explained:>9} {:>7} {:>7.1}\n",
            count("programs"),
            count("operations"),
            count("agree"),
            count("found"),
            count("ms") as f64 / 1000.0
        );
    }
    for (section, counts) in &outcome.sections {
        if let (Some(refused), Some(tolerated)) = (counts.get("refused"), counts.get("tolerated")) {
            text += &format!(
                "{section}: {refused} failed allocations were answered with an error, {tolerated} \
                 were tolerated\n"
            );
            for (rule, count) in counts.iter().filter(|(name, _)| name.starts_with("rule-fail-")) {
                text += &format!("  {:<14} {count} programs\n", &rule["rule-".len()..]);
            }
        }
    }
    if outcome.deaths > 0 {
        text += &format!("the kernel died {} times and was started again\n", outcome.deaths);
    }
    for finding in &outcome.findings {
        if let Some(why) = known.why(&finding.signature) {
            text += &format!("\n{} ({} times), known: {why}\n", finding.signature, finding.count);
            continue;
        }
        text += &format!(
            "\n{} ({}, after {:.1} s, {} times)\n\n{}\n",
            finding.signature,
            finding.section,
            finding.after.as_secs_f64(),
            finding.count,
            finding.text.trim_end()
        );
    }
    if outcome.left() > 0 {
        text += &format!("there was no time for {} programs of the corpus\n", outcome.left());
    }
    if outcome.findings.is_empty() {
        text += "nothing found\n";
    } else if !is_news(outcome, known) {
        text += "\nnothing found that is not known\n";
    }
    text
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tree::session::Finding;

    #[test]
    fn the_report_has_a_row_a_section_and_the_findings() -> Result<()> {
        let counts = [("programs", 567), ("operations", 5953), ("agree", 5950), ("ms", 13_040)];
        let mut outcome = Outcome {
            sections: vec![(
                "corpus".into(),
                counts.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect(),
            )],
            kernel: "linux 6.12.117; has ksm".into(),
            ..Outcome::default()
        };
        let text = report("a title", &outcome, &Known::default());
        assert!(text.ends_with("nothing found\n"), "{text}");
        assert!(text.contains("corpus        567       5953       5950"), "{text}");
        outcome.deaths = 2;
        outcome.findings.push(Finding {
            signature: "dies/BUG/copy_vma".into(),
            section: "corpus".into(),
            text: "fork 0\n".into(),
            after: Duration::from_millis(2510),
            count: 2,
        });
        outcome.found(
            "errno/touch/ok-for-EFAULT".into(),
            String::new(),
            "touch 1\n".into(),
            Duration::ZERO,
        );
        let known = Known::parse("errno/touch/ok-for-EFAULT an error of arch/um\n")?;
        let text = report("a title", &outcome, &known);
        let line = "errno/touch/ok-for-EFAULT (1 times), known: an error of arch/um\n";
        assert!(text.contains(line) && !text.contains("touch 1"), "{text}");
        assert!(
            text.contains("dies/BUG/copy_vma (corpus, after 2.5 s, 2 times)\n\nfork 0\n"),
            "{text}"
        );
        assert!(text.contains("died 2 times"), "{text}");
        outcome.findings.remove(0);
        let text = report("a title", &outcome, &known);
        assert!(text.ends_with("arch/um\n\nnothing found that is not known\n"), "{text}");
        Ok(())
    }
}
