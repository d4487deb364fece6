//! Runs a kernel on each core, starts it again after its death, and collects the findings.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::console::{Console, News, Running};
use super::coverage::Covered;
use crate::guest::{self, Ended, Guest, Next};
use crate::kernel::initramfs;
use crate::project::tail;
use crate::scratch::Scratch;
use crate::shell;

/// The time without a line after which a kernel is killed. It is longer than the time in which a
/// program is minimized, and than the time limit of an operation.
pub(crate) const SILENCE: Duration = Duration::from_secs(30);
/// The most deaths of the kernel of a core. A kernel that dies more often is not worth the time.
const MAX_DEATHS: u32 = 8;
/// The most signatures that a kernel is told: its command line is short.
const MAX_KNOWN: usize = 40;
/// The most boots, and the most time, while a program that kills the kernel is minimized.
const SHRINK_BOOTS: u32 = 40;
const SHRINK_TIME: Duration = Duration::from_secs(40);

/// The options of a session.
pub(crate) struct Plan {
    pub(crate) kernel: Guest,
    /// The options of `vmadiff check-kernel` on every core.
    pub(crate) options: Vec<String>,
    /// The number of random programs.
    pub(crate) random: u64,
    pub(crate) seconds: u64,
    /// The session ends at the first finding.
    pub(crate) first: bool,
    /// The corpus runs.
    pub(crate) corpus: bool,
}

/// A finding.
#[derive(Clone, Debug)]
pub(crate) struct Finding {
    pub(crate) signature: String,
    pub(crate) section: String,
    pub(crate) text: String,
    /// The time from the start of the session.
    pub(crate) after: Duration,
    pub(crate) count: u64,
}

/// The result of a session.
#[derive(Default)]
pub(crate) struct Outcome {
    /// The findings, in the order of their time.
    pub(crate) findings: Vec<Finding>,
    /// The counts of each section, over all cores, in the order of the sections.
    pub(crate) sections: Vec<(String, BTreeMap<String, u64>)>,
    /// The kernel, its facilities and its rules.
    pub(crate) kernel: String,
    /// The number of times that a kernel died.
    pub(crate) deaths: u32,
    /// The points of the kernel's code that were covered.
    pub(crate) covered: Covered,
}

impl Outcome {
    pub(crate) fn found(
        &mut self,
        signature: String,
        section: String,
        text: String,
        after: Duration,
    ) {
        match self.findings.iter_mut().find(|finding| finding.signature == signature) {
            Some(finding) => finding.count += 1,
            None => {
                self.findings.push(Finding { signature, section, text, after, count: 1 });
            }
        }
    }

    /// Returns the number of programs of the corpus for which there was no time.
    pub(crate) fn left(&self) -> u64 {
        self.sections.iter().filter_map(|(_, counts)| counts.get("left")).sum()
    }

    pub(crate) fn done(&mut self, section: String, counts: Vec<(String, u64)>) {
        let at = self.sections.iter().position(|(name, _)| *name == section);
        let at = at.unwrap_or_else(|| {
            self.sections.push((section, BTreeMap::new()));
            self.sections.len() - 1
        });
        for (name, count) in counts {
            let sum = self.sections[at].1.entry(name.clone()).or_default();
            // The cores work at the same time.
            *sum = if name == "ms" { count.max(*sum) } else { sum.saturating_add(count) };
        }
    }
}

impl Plan {
    /// Runs the session.
    pub(crate) fn run(&self) -> Result<Outcome> {
        let cores = guest::cores()?;
        let parts: Vec<_> = (0..).zip(cores.iter().copied()).collect();
        let (outcome, began) = (Mutex::new(Outcome::default()), Instant::now());
        let run =
            |&(part, core): &(usize, usize)| self.on_core(part, cores.len(), core, began, &outcome);
        for result in shell::side_by_side(parts.len(), &parts, run) {
            result?;
        }
        let mut outcome = outcome.into_inner().unwrap_or_else(PoisonError::into_inner);
        outcome.findings.sort_by_key(|finding| finding.after);
        Ok(outcome)
    }

    fn on_core(
        &self,
        part: usize,
        parts: usize,
        core: usize,
        began: Instant,
        outcome: &Mutex<Outcome>,
    ) -> Result<()> {
        let lock = || outcome.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = Duration::from_secs(self.seconds);
        let (mut resume, mut deaths) = (None, 0);
        loop {
            let left = limit.saturating_sub(began.elapsed()).as_secs();
            if (deaths > 0 && left == 0) || deaths > MAX_DEATHS {
                return Ok(());
            }
            let mut command = vec!["check-kernel".to_owned()];
            command.extend(self.corpus.then(|| "/programs".to_owned()));
            command.extend(self.options.iter().cloned());
            for (name, value) in [
                ("--random", self.random.to_string()),
                ("--seconds", left.to_string()),
                ("--part", format!("{part}/{parts}")),
            ] {
                command.extend([name.to_owned(), value]);
            }
            for finding in lock().findings.iter().take(MAX_KNOWN) {
                command.extend(["--known".to_owned(), finding.signature.clone()]);
            }
            if let Some(Running { section, number, .. }) = &resume {
                let next = number + parts as u64;
                command.extend(["--resume".to_owned(), format!("{section}:{next}")]);
            }
            let (mut console, mut status) = (Console::default(), None);
            let ended = self.kernel.run(Some(core), &command, SILENCE, |line| {
                let Some(news) = console.read(line) else {
                    let enough = self.first && !lock().findings.is_empty();
                    return if enough { Next::Stop } else { Next::Read };
                };
                let mut outcome = lock();
                match news {
                    News::Found(found) => {
                        outcome.found(found.signature, found.section, found.text, began.elapsed());
                        if self.first {
                            return Next::Stop;
                        }
                    }
                    News::Again(signature) => {
                        outcome.found(signature, String::new(), String::new(), began.elapsed());
                    }
                    News::Covered(section, points) => {
                        outcome.covered.entry(section).or_default().extend(points);
                    }
                    News::Done(section, counts) => outcome.done(section, counts),
                    News::Kernel(text) => outcome.kernel = text,
                    News::Status(number) => status = Some(number),
                    // These are of `show-kernel`.
                    News::Step(_) | News::Shown(_) => {}
                }
                Next::Read
            })?;
            match (status, ended) {
                (Some(0 | 1), _) | (None, Ended::Stopped) => return Ok(()),
                (Some(_), _) => bail!("vmadiff does not run on this kernel:\n{}", console.tail()),
                (None, _) => {}
            }
            let Some(running) = console.running().cloned() else {
                bail!("the kernel did not reach its first program:\n{}", console.tail());
            };
            deaths += 1;
            let after = began.elapsed();
            let death = Death::of(&console, ended);
            lock().deaths += 1;
            let mut program = running.program.clone();
            if let Some((signature, smaller)) = console.minimizing() {
                let text = format!(
                    "Not minimized, because a smaller program kills the kernel:\n\n{program}"
                );
                lock().found(signature.clone(), running.section.clone(), text, after);
                program.clone_from(smaller);
            }
            if lock().findings.iter().any(|finding| finding.signature == death.signature) {
                lock().found(death.signature, String::new(), String::new(), after);
            } else {
                let (program, alone) = self.shrink(core, &program, &death.signature)?;
                let alone = match alone {
                    true => "The kernel dies in this program, run alone:",
                    false => {
                        "The kernel died in this program, and does not if the program runs alone:"
                    }
                };
                let text = format!(
                    "{alone}\n\n{program}\n{} {} {}\n\n{}",
                    running.section, running.number, running.name, death.text
                );
                lock().found(death.signature, running.section.clone(), text, after);
            }
            resume = Some(running);
            if self.first {
                return Ok(());
            }
        }
    }

    /// Runs one program in a kernel of its own, and returns the signature of the kernel's death.
    fn alone(&self, core: usize, program: &str) -> Result<Option<String>> {
        let scratch = Scratch::within(&self.kernel.scratch)?;
        let file = [("one/program.txt".to_owned(), program.as_bytes().to_vec())];
        let mut archive = fs::read(&self.kernel.initramfs)
            .with_context(|| self.kernel.initramfs.display().to_string())?;
        archive.extend(initramfs::files(&file)?);
        let initramfs = scratch.path().join("initrd");
        fs::write(&initramfs, archive).with_context(|| initramfs.display().to_string())?;
        let kernel = Guest { initramfs, ..self.kernel.clone() };
        let mut command = vec!["check-kernel".to_owned(), "/one".to_owned()];
        command.extend(self.options.iter().cloned());
        command.extend(["--random".to_owned(), "0".to_owned()]);
        let (mut console, mut status) = (Console::default(), None);
        let ended = kernel.run(Some(core), &command, SILENCE / 3, |line| {
            if let Some(News::Status(number)) = console.read(line) {
                status = Some(number);
            }
            Next::Read
        })?;
        Ok(status.is_none().then(|| Death::of(&console, ended).signature))
    }

    /// Leaves out operations of a program as long as the kernel dies in the same way. Returns the
    /// program, and whether the kernel dies in it if it runs alone.
    fn shrink(&self, core: usize, program: &str, signature: &str) -> Result<(String, bool)> {
        let (began, mut boots) = (Instant::now(), 0);
        let mut dies = |program: &str| -> Result<bool> {
            boots += 1;
            if boots > SHRINK_BOOTS || began.elapsed() > SHRINK_TIME {
                return Ok(false);
            }
            Ok(self.alone(core, program)?.as_deref() == Some(signature))
        };
        if !dies(program)? {
            return Ok((program.to_owned(), false));
        }
        let mut lines: Vec<&str> = program.lines().collect();
        let mut at = lines.len();
        while at > 0 {
            at -= 1;
            let mut fewer = lines.clone();
            fewer.remove(at);
            if !fewer.is_empty() && dies(&(fewer.join("\n") + "\n"))? {
                lines = fewer;
            }
        }
        Ok((lines.join("\n") + "\n", true))
    }
}

/// The death of a kernel.
pub(crate) struct Death {
    pub(crate) signature: String,
    pub(crate) text: String,
}

impl Death {
    pub(crate) fn of(console: &Console, ended: Ended) -> Death {
        let how = if ended == Ended::Silent { "hangs" } else { "dies" };
        match console.report() {
            Some(report) => {
                Death { signature: format!("{how}/{}", report.name), text: report.text }
            }
            None => Death { signature: how.to_owned(), text: tail(&console.tail(), 10) },
        }
    }
}

/// The folders of the corpus whose programs run on a kernel.
const FOLDERS: [&str; 7] =
    ["kernel", "kernel/outside", "seeds", "review", "real", "faults", "grown/same_mm"];
/// The folder whose programs have copies between address spaces.
const COPIES: &str = "grown/cross_mm";

/// Makes the initramfs of a session: that of `ci/kernel`, with the programs of the corpus. The programs
/// of `copies` are for a kernel that has `process_vm_mmap()`.
pub(crate) fn initramfs(
    root: &Path,
    base: &Path,
    cache: &Path,
    copies: bool,
) -> Result<std::path::PathBuf> {
    let corpus = root.join(crate::project::CORPUS);
    let mut programs = Vec::new();
    for folder in FOLDERS.into_iter().chain(copies.then_some(COPIES)) {
        for file in crate::project::entries(&corpus.join(folder))? {
            let name = file.strip_prefix(&corpus).unwrap_or(&file).display().to_string();
            if file.is_file() {
                let content = fs::read(&file).with_context(|| file.display().to_string())?;
                programs.push((format!("programs/{name}"), content));
            }
        }
    }
    let mut archive = fs::read(base).with_context(|| base.display().to_string())?;
    archive.extend(initramfs::files(&programs)?);
    let file = cache.join(if copies { "initrd-copies" } else { "initrd-corpus" });
    let part = cache.join(format!("initrd-corpus-{}", std::process::id()));
    fs::write(&part, archive)
        .and_then(|()| fs::rename(&part, &file))
        .with_context(|| file.display().to_string())?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::{System, make_executable};

    /// A program that stands for a kernel: it prints the protocol, and ends as the script says.
    fn plan(scratch: &Scratch, script: &str) -> Result<Plan> {
        let program = scratch.path().join("linux");
        fs::write(&program, format!("#!/bin/sh\n{script}\n"))?;
        make_executable(&program)?;
        fs::write(scratch.path().join("initrd"), "")?;
        Ok(Plan {
            kernel: Guest {
                system: System::Uml,
                program,
                initramfs: scratch.path().join("initrd"),
                scratch: scratch.path().to_owned(),
                options: Vec::new(),
            },
            options: Vec::new(),
            random: 9,
            corpus: true,
            seconds: 30,
            first: false,
        })
    }

    #[test]
    fn a_kernel_that_dies_is_started_again_behind_its_program_which_is_shrunk() -> Result<()> {
        // The kernel dies in every program that has a fork: in the corpus, and alone.
        let script = r#"
case "$*" in
*--random*--random*)
    echo "vmadiff: the argument cannot be used multiple times"; echo "vmadiff-init: status 2"; exit;;
*" /one "*)
    case "$(tail -c 600 "${3#initrd=}")" in *"fork 0"*) ;; *) echo "vmadiff-init: status 0"; exit;; esac
    echo "@run corpus 0 one | fork 0"; echo "kernel BUG at mm/vma.c:1!"; echo " copy_vma+0x1/0x2"; exit;;
*--resume*)
    echo "@done random programs=3 left=0 operations=9 agree=9 found=0 ms=5"
    echo "vmadiff-init: status 0"; exit;;
*)
    echo "@run random 4 random | mmap 0 0 1; fork 0; touch 0 0"
    echo "kernel BUG at mm/vma.c:1!"; echo " copy_vma+0x1/0x2"; exit;;
esac"#;
        let scratch = Scratch::new()?;
        let outcome = plan(&scratch, script)?.run()?;
        let [finding] = &outcome.findings[..] else { panic!("{:?}", outcome.findings) };
        assert_eq!(finding.signature, "dies/BUG/copy_vma");
        assert!(finding.text.contains("run alone:\n\nfork 0\n\n"), "{}", finding.text);
        assert!(outcome.deaths >= 1);
        assert_eq!(outcome.sections[0].1["programs"] % 3, 0);
        Ok(())
    }

    #[test]
    fn a_kernel_on_which_nothing_runs_is_an_error_and_no_finding() -> Result<()> {
        let scratch = Scratch::new()?;
        for (script, expected) in [
            (
                "echo 'Kernel panic - not syncing: No working init'",
                "did not reach its first program",
            ),
            ("echo 'vmadiff: no such file'; echo 'vmadiff-init: status 2'", "does not run"),
        ] {
            let error = plan(&scratch, script)?.run().err().map(|error| format!("{error:#}"));
            assert!(error.as_ref().is_some_and(|error| error.contains(expected)), "{error:?}");
        }
        Ok(())
    }
}
