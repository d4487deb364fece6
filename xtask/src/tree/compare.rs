//! Two kernels run the same programs, and the first operation after which they show something else is a
//! finding. The reference is the third voice: it says which of the two it agrees with.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::console::{Console, News, Running};
use super::session::{Death, Finding, Outcome, SILENCE};
use crate::guest::{self, Guest, Next};
use crate::kernel::initramfs;
use crate::scratch::Scratch;
use crate::shell;

/// The most findings that are minimized and shown, one for each system call.
const MAX_SHOWN: usize = 8;
/// The most rounds, and the most time, in which a program is minimized. A round boots both kernels.
const ROUNDS: u32 = 40;
const MINIMIZE_TIME: Duration = Duration::from_secs(90);

/// The two kernels and the programs that they run.
pub(crate) struct Comparison {
    /// The base, and the kernel that is compared with it.
    pub(crate) kernels: [Guest; 2],
    /// The options of `vmadiff check-kernel`, by which each kernel is compared with the reference.
    pub(crate) options: Vec<String>,
    /// The options of `vmadiff show-kernel` that name the random programs.
    pub(crate) random: Vec<String>,
    pub(crate) seconds: u64,
}

/// The names of the two kernels in reports.
const NAMES: [&str; 2] = ["base", "source"];

/// A program that a kernel has run, and what it showed.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Shown {
    running: Running,
    /// A word for each operation: the same word where the same was shown.
    digests: Vec<String>,
}

/// Everything that a kernel has shown.
#[derive(Default)]
struct Side {
    /// The kernel and its facilities.
    kernel: String,
    shown: Vec<Shown>,
    /// With `--text`, what was shown after each operation of the last program.
    steps: Vec<String>,
    /// The times of the sections.
    done: Vec<(String, Vec<(String, u64)>)>,
    /// The program in which the kernel died, and how.
    death: Option<(Running, Death)>,
}

/// A program after whose operation `at` the kernels show something else.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Difference {
    section: String,
    program: String,
    at: usize,
}

impl Difference {
    /// Returns the first difference between two runs of a program.
    fn of(base: &Shown, source: &Shown) -> Option<Difference> {
        let same = |(a, b): &(&String, &String)| a == b;
        let pairs = || base.digests.iter().zip(&source.digests);
        let at = pairs().take_while(same).count();
        if at == base.digests.len() && at == source.digests.len() {
            return None;
        }
        let Running { section, program, .. } = base.running.clone();
        Some(Difference { section, program, at })
    }

    /// Returns the operations up to the one that differs. The limits stand before them.
    fn operations(&self) -> (Vec<&str>, Vec<&str>) {
        let (limits, operations): (Vec<_>, Vec<_>) =
            self.program.lines().partition(|line| line.starts_with("limits"));
        (limits, operations.into_iter().take(self.at + 1).collect())
    }

    /// Returns the system call of the operation that differs.
    fn call(&self) -> &str {
        let last = self.operations().1.last().copied().unwrap_or_default();
        last.split(' ').next().unwrap_or_default()
    }
}

impl Comparison {
    /// Runs the programs on both kernels, and minimizes the differences.
    pub(crate) fn run(&self) -> Result<Outcome> {
        let began = Instant::now();
        let mut command = vec!["/programs".to_owned()];
        command.extend(self.random.iter().cloned());
        command.extend(["--seconds".to_owned(), self.seconds.to_string()]);
        let sides = self.both(&self.kernels, &command)?;
        let mut outcome = Outcome { kernel: sides[0].kernel.clone(), ..Outcome::default() };
        if sides[0].kernel != sides[1].kernel {
            let [base, source] =
                [0, 1].map(|side| format!("{}: {}", NAMES[side], sides[side].kernel));
            let text = format!("The kernels have other facilities.\n\n{base}\n{source}");
            outcome.found("differs/facilities".into(), "probe".into(), text, began.elapsed());
        }
        for (side, name) in sides.iter().zip(NAMES) {
            let Some((running, death)) = &side.death else { continue };
            outcome.deaths += 1;
            let text =
                format!("{name} died in this program:\n\n{}\n{}", running.program, death.text);
            let signature = format!("{name}/{}", death.signature);
            outcome.found(signature, running.section.clone(), text, began.elapsed());
        }
        let (mut counts, mut differ) = (BTreeMap::new(), Vec::new());
        for (base, source) in sides[0].shown.iter().zip(&sides[1].shown) {
            if base.running != source.running {
                break;
            }
            let counts: &mut Counts = counts.entry(base.running.section.clone()).or_default();
            counts.programs += 1;
            let difference = Difference::of(base, source);
            let agree = difference.as_ref().map_or(base.digests.len(), |found| found.at);
            counts.agree += agree as u64;
            counts.found += u64::from(difference.is_some());
            differ.extend(difference);
        }
        for (section, Counts { programs, agree, found }) in counts {
            let counts = [
                ("programs", programs),
                ("operations", agree + found),
                ("agree", agree),
                ("found", found),
            ];
            outcome.done(section, counts.map(|(name, count)| (name.to_owned(), count)).to_vec());
        }
        for (section, counts) in sides.into_iter().flat_map(|side| side.done) {
            outcome.done(section, counts);
        }
        self.minimize_all(differ, began, &mut outcome)?;
        Ok(outcome)
    }

    /// Minimizes and reports the first difference of each system call.
    fn minimize_all(
        &self,
        differ: Vec<Difference>,
        began: Instant,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let mut first: Vec<(Difference, u64)> = Vec::new();
        for difference in differ {
            match first.iter_mut().find(|(known, _)| known.call() == difference.call()) {
                Some((_, count)) => *count += 1,
                None => first.push((difference, 1)),
            }
        }
        for (difference, count) in first.into_iter().take(MAX_SHOWN) {
            let section = difference.section.clone();
            let small = self.minimize(difference)?;
            outcome.findings.push(Finding {
                signature: format!("differs/{}", small.call()),
                section,
                text: self.report(&small)?,
                after: began.elapsed(),
                count,
            });
        }
        Ok(())
    }

    /// Leaves out operations as long as the kernels still differ after the last one.
    fn minimize(&self, difference: Difference) -> Result<Difference> {
        let (began, mut small) = (Instant::now(), difference);
        for _ in 0..ROUNDS {
            if began.elapsed() > MINIMIZE_TIME {
                break;
            }
            let Some(smaller) = self.smaller(&small)? else { break };
            small = smaller;
        }
        let (limits, operations) = small.operations();
        let program = limits.iter().chain(&operations).map(|line| format!("{line}\n")).collect();
        Ok(Difference { program, ..small })
    }

    /// Returns the shortest program with a part of the operations left out in which the kernels differ
    /// after the same system call.
    fn smaller(&self, difference: &Difference) -> Result<Option<Difference>> {
        let (limits, operations) = difference.operations();
        let mut programs = Vec::new();
        let mut length = operations.len() / 2;
        while length > 0 {
            for from in (0..operations.len() - 1).step_by(length) {
                let until = (from + length).min(operations.len() - 1);
                let kept = operations[..from].iter().chain(&operations[until..]);
                programs.push(limits.iter().chain(kept).map(|line| format!("{line}\n")).collect());
            }
            length /= 2;
        }
        let (_initramfs, kernels) = self.with(&programs)?;
        let sides = self.both(&kernels, &["/many".to_owned()])?;
        let pairs = sides[0].shown.iter().zip(&sides[1].shown);
        let differ = pairs.filter_map(|(base, source)| Difference::of(base, source));
        let alike = differ.filter(|smaller| smaller.call() == difference.call());
        Ok(alike
            .map(|smaller| Difference { section: difference.section.clone(), ..smaller })
            .min_by_key(|smaller| smaller.at)
            .filter(|smaller| smaller.at < difference.at))
    }

    /// Returns the report of a difference: the program, what each kernel shows after its last operation,
    /// and whether the reference agrees.
    fn report(&self, difference: &Difference) -> Result<String> {
        let (_initramfs, kernels) = self.with(std::slice::from_ref(&difference.program))?;
        let sides = self.both(&kernels, &["/many".to_owned(), "--text".to_owned()])?;
        let mut text = difference.program.clone();
        for ((side, kernel), name) in sides.iter().zip(&kernels).zip(NAMES) {
            let voice = match agrees(kernel, &self.options)? {
                Some(true) => "the reference agrees",
                Some(false) => "the reference does not agree",
                None => "it was not compared with the reference",
            };
            text += &format!("\n{name} shows after the last operation ({voice}):\n");
            for line in side.steps.get(difference.at).map_or("nothing", String::as_str).split("; ")
            {
                text += &format!("  {line}\n");
            }
        }
        Ok(text)
    }

    /// Returns the kernels with an initramfs that has these programs in the folder `many`, and the folder of
    /// the initramfs.
    fn with(&self, programs: &[String]) -> Result<(Scratch, [Guest; 2])> {
        let file = |(number, program): (usize, &String)| {
            (format!("many/{number:04}.txt"), program.as_bytes().to_vec())
        };
        let files: Vec<_> = programs.iter().enumerate().map(file).collect();
        let [base, source] = &self.kernels;
        let mut archive =
            fs::read(&base.initramfs).with_context(|| base.initramfs.display().to_string())?;
        archive.extend(initramfs::files(&files)?);
        let folder = Scratch::within(&base.scratch)?;
        let initramfs = folder.path().join("initrd");
        fs::write(&initramfs, archive).with_context(|| initramfs.display().to_string())?;
        let with = |kernel: &Guest| Guest { initramfs: initramfs.clone(), ..kernel.clone() };
        Ok((folder, [with(base), with(source)]))
    }

    /// Runs `vmadiff show-kernel` on both kernels, each on a processor of its own if there are two.
    fn both(&self, kernels: &[Guest; 2], arguments: &[String]) -> Result<[Side; 2]> {
        let cores = guest::cores()?;
        let jobs: Vec<_> = kernels.iter().zip(cores.iter().cycle()).collect();
        let run = |&(kernel, core): &(&Guest, &usize)| show(kernel, *core, arguments);
        let mut sides = shell::side_by_side(cores.len().min(2), &jobs, run).into_iter();
        match (sides.next(), sides.next()) {
            (Some(base), Some(source)) => Ok([base?, source?]),
            _ => bail!("a kernel did not run"),
        }
    }
}

/// The counts of a section.
#[derive(Default)]
struct Counts {
    programs: u64,
    agree: u64,
    found: u64,
}

/// Runs `vmadiff show-kernel` on a kernel, and returns what it showed.
fn show(kernel: &Guest, core: usize, arguments: &[String]) -> Result<Side> {
    let mut command = vec!["show-kernel".to_owned()];
    command.extend(arguments.iter().cloned());
    let (mut side, mut console, mut status) = (Side::default(), Console::default(), None);
    let ended = kernel.run(Some(core), &command, SILENCE, |line| {
        match console.read(line) {
            Some(News::Kernel(text)) => side.kernel = text,
            Some(News::Status(number)) => status = Some(number),
            Some(News::Done(section, counts)) => side.done.push((section, counts)),
            Some(News::Step(text)) => side.steps.push(text),
            Some(News::Shown(digests)) => {
                if let Some(running) = console.running() {
                    side.shown.push(Shown { running: running.clone(), digests });
                }
            }
            _ => {}
        }
        Next::Read
    })?;
    match status {
        Some(0) => {}
        Some(_) => bail!("vmadiff does not run on this kernel:\n{}", console.tail()),
        None => {
            let Some(running) = console.running().cloned() else {
                bail!("the kernel did not reach its first program:\n{}", console.tail());
            };
            side.death = Some((running, Death::of(&console, ended)));
        }
    }
    Ok(side)
}

/// Returns whether a kernel agrees with the reference on the programs in the folder `many`.
fn agrees(kernel: &Guest, options: &[String]) -> Result<Option<bool>> {
    let mut command = vec!["check-kernel".to_owned(), "/many".to_owned()];
    command.extend(options.iter().cloned());
    let (mut console, mut status, mut agrees) = (Console::default(), None, true);
    let core = guest::cores()?.first().copied();
    kernel.run(core, &command, SILENCE, |line| {
        match console.read(line) {
            // What the probe finds is of other programs.
            Some(News::Found(found)) => agrees &= found.section == "probe",
            Some(News::Status(number)) => status = Some(number),
            _ => {}
        }
        Next::Read
    })?;
    Ok(matches!(status, Some(0 | 1)).then_some(agrees))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guest::{System, make_executable};
    use crate::scratch::Scratch;

    /// A program that stands for a kernel. It shows each operation as it is written, and `odd` for an
    /// mlock after a touch if it is the second kernel.
    const SCRIPT: &str = r#"
case "$*" in
*" /programs "*)
    echo "@kernel a kernel; has all"
    run='@run random 0 random | mmap 0 0 4 rw; touch 0 0 1; munmap 0 3 1; mlock 0 0 1; fork 0'
    echo "$run"; echo "@shown a b c ODD e"
    echo '@run random 1 random | fork 0; mlock 0 0 1'; echo '@shown a b';;
*" check-kernel "*)
    test ODD = odd && { echo '@found flags/mlock corpus 0'; echo '@end'; };;
*)
    tr '\0' '\n' <"${3#initrd=}" | awk '
        function show() { if (n) { print "@run corpus " n - 1 " many |" all; print "@shown" digests } }
        /^070701.*many/ { show(); n++; all = digests = ""; touched = 0 }
        /^(mmap|touch|munmap|mlock|fork) / {
            all = all (all == "" ? " " : "; ") $0
            digests = digests " " ($1 == "mlock" && touched ? "ODD" : $1)
            print "@step " ($1 == "mlock" && touched ? "ODD" : "0") "; shown"
            if ($1 == "touch") touched = 1
        }
        END { show() }';;
esac
echo "vmadiff-init: status 0""#;

    fn comparison(scratch: &Scratch, scripts: [String; 2]) -> Result<Comparison> {
        let initramfs = scratch.path().join("initrd");
        fs::write(&initramfs, "")?;
        let kernel = |(name, script): (&str, String)| {
            let program = scratch.path().join(name);
            fs::write(&program, format!("#!/bin/sh\n{script}\n"))?;
            make_executable(&program)?;
            Ok::<_, anyhow::Error>(Guest {
                system: System::Uml,
                program,
                initramfs: initramfs.clone(),
                scratch: scratch.path().to_owned(),
                options: Vec::new(),
            })
        };
        let [base, source] = scripts;
        Ok(Comparison {
            kernels: [kernel(("base", base))?, kernel(("source", source))?],
            options: Vec::new(),
            random: Vec::new(),
            seconds: 30,
        })
    }

    #[test]
    fn the_first_difference_is_minimized_and_shown_with_the_voice_of_the_reference() -> Result<()> {
        let scratch = Scratch::new()?;
        let scripts = ["even", "odd"].map(|shown| SCRIPT.replace("ODD", shown));
        let outcome = comparison(&scratch, scripts)?.run()?;
        let [finding] = &outcome.findings[..] else { panic!("{:?}", outcome.findings) };
        assert_eq!((finding.signature.as_str(), finding.count), ("differs/mlock", 1));
        let expected = "touch 0 0 1\nmlock 0 0 1\n\n\
                        base shows after the last operation (the reference agrees):\n  even\n  shown\n\n\
                        source shows after the last operation (the reference does not agree):\n  \
                        odd\n  shown\n";
        assert_eq!(finding.text, expected);
        assert_eq!(outcome.sections[0].1["programs"], 2);
        Ok(())
    }

    #[test]
    fn two_kernels_that_show_the_same_have_no_difference() -> Result<()> {
        let scratch = Scratch::new()?;
        let outcome = comparison(&scratch, [SCRIPT, SCRIPT].map(str::to_owned))?.run()?;
        assert!(outcome.findings.is_empty(), "{:?}", outcome.findings);
        assert_eq!(outcome.sections[0].1["operations"], 7);
        Ok(())
    }

    #[test]
    fn a_kernel_that_dies_is_a_finding_of_its_side() -> Result<()> {
        let scratch = Scratch::new()?;
        let dies = "echo '@kernel a kernel; has all'; echo '@run random 0 random | fork 0'\n\
                    echo 'kernel BUG at mm/vma.c:1!'; echo ' copy_vma+0x1/0x2'";
        let outcome = comparison(&scratch, [SCRIPT.to_owned(), dies.to_owned()])?.run()?;
        let [finding] = &outcome.findings[..] else { panic!("{:?}", outcome.findings) };
        assert_eq!(finding.signature, "source/dies/BUG/copy_vma");
        assert!(
            finding.text.starts_with("source died in this program:\n\nfork 0\n"),
            "{}",
            finding.text
        );
        Ok(())
    }
}
