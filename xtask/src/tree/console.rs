//! The console of a kernel that runs `vmadiff check-kernel` or `vmadiff show-kernel`: the protocols of
//! `src/commands/check_kernel.rs` and `src/commands/show_kernel.rs`, mixed with the messages of the
//! kernel.

use vmadiff_kernel_log::{MAX_LINES, Report, begins, report};

/// The program that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Running {
    pub(crate) section: String,
    pub(crate) number: u64,
    /// The file of the corpus, or `random`.
    pub(crate) name: String,
    /// The program as text.
    pub(crate) program: String,
}

/// A finding that the program in the kernel reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) signature: String,
    pub(crate) section: String,
    pub(crate) text: String,
}

/// The news in a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// A finding.
    Found(Found),
    /// A finding with this signature was met again.
    Again(String),
    /// A section covered points of the kernel's code that were not covered before.
    Covered(String, Vec<u64>),
    /// A section ended: its name, and its counts.
    Done(String, Vec<(String, u64)>),
    /// The kernel, its facilities and its rules.
    Kernel(String),
    /// With `show-kernel --text`: what the kernel shows after an operation.
    Step(String),
    /// What the kernel has shown after each operation of the program, as digests.
    Shown(Vec<String>),
    /// `vmadiff-init` printed the exit status of `vmadiff`.
    Status(i32),
}

/// A reader of a console.
#[derive(Default)]
pub(crate) struct Console {
    running: Option<Running>,
    /// The signature whose program is being minimized, and the smaller program that runs.
    minimizing: Option<(String, String)>,
    /// The lines since the program began that are not of the protocol.
    lines: Vec<String>,
    /// The finding whose report is being read.
    found: Option<Found>,
}

impl Console {
    /// Reads a line.
    pub(crate) fn read(&mut self, line: &str) -> Option<News> {
        if let Some(found) = &mut self.found {
            if line == "@end" {
                return self.found.take().map(News::Found);
            }
            found.text += line;
            found.text += "\n";
            return None;
        }
        if let Some(status) = line.strip_prefix("vmadiff-init: status ") {
            return status.trim().parse().ok().map(News::Status);
        }
        // A message of the kernel may stand before the line.
        let (keyword, rest) = match line.find('@') {
            Some(at) => line[at..].split_once(' ').unwrap_or((line, "")),
            None => (line, ""),
        };
        match keyword {
            "@run" => {
                if let Some(running) = running(rest) {
                    self.running = Some(running);
                    self.minimizing = None;
                    self.lines.clear();
                }
            }
            "@minimize" => {
                let program = self.running.as_ref().map(|running| running.program.clone());
                self.minimizing = Some((rest.to_owned(), program.unwrap_or_default()));
            }
            "@try" => {
                if let Some((_, program)) = &mut self.minimizing {
                    *program = lines(rest);
                    self.lines.clear();
                }
            }
            "@found" => {
                self.minimizing = None;
                let mut words = rest.split(' ').map(str::to_owned);
                if let (Some(signature), Some(section)) = (words.next(), words.next()) {
                    self.found = Some(Found { signature, section, text: String::new() });
                }
            }
            "@step" => return Some(News::Step(rest.to_owned())),
            "@shown" => {
                return Some(News::Shown(rest.split_whitespace().map(str::to_owned).collect()));
            }
            "@again" => return Some(News::Again(rest.to_owned())),
            "@kernel" => return Some(News::Kernel(rest.to_owned())),
            "@covered" => {
                let mut words = rest.split(' ');
                let section = words.next().unwrap_or_default().to_owned();
                let points = words.filter_map(|point| u64::from_str_radix(point, 16).ok());
                return Some(News::Covered(section, points.collect()));
            }
            "@done" => {
                let mut words = rest.split(' ');
                let section = words.next().unwrap_or_default().to_owned();
                let counts = words.filter_map(|word| {
                    let (name, count) = word.split_once('=')?;
                    Some((name.to_owned(), count.parse().ok()?))
                });
                return Some(News::Done(section, counts.collect()));
            }
            _ => {
                // The number is bounded, because a broken kernel may print without end. The lines
                // that begin a report are kept.
                if self.lines.len() < 4 * MAX_LINES || begins(line) {
                    self.lines.push(line.to_owned());
                }
            }
        }
        None
    }

    /// Returns the program that ran last.
    pub(crate) fn running(&self) -> Option<&Running> {
        self.running.as_ref()
    }

    /// Returns the signature whose program is being minimized, and the smaller program that ran last.
    pub(crate) fn minimizing(&self) -> Option<&(String, String)> {
        self.minimizing.as_ref()
    }

    /// Returns the kernel's report since the program began.
    pub(crate) fn report(&self) -> Option<Report> {
        report(self.lines.iter().map(String::as_str))
    }

    /// Returns the last lines that are not of the protocol.
    pub(crate) fn tail(&self) -> String {
        self.lines[self.lines.len().saturating_sub(20)..].join("\n")
    }
}

fn running(rest: &str) -> Option<Running> {
    let (head, program) = rest.split_once(" | ")?;
    let mut words = head.splitn(3, ' ');
    let section = words.next()?.to_owned();
    let number = words.next()?.parse().ok()?;
    let name = words.next()?.to_owned();
    Some(Running { section, number, name, program: lines(program) })
}

/// Returns a program that is written on one line with an operation a line.
fn lines(program: &str) -> String {
    program.replace("; ", "\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONSOLE: &str = "\
vmadiff-init: begin
@kernel linux 6.12.117; has ksm; rules a,b
@done probe rules=22 ms=600
@run corpus 31 /programs/a b.txt | mmap 0 0 4 rw anon_private; mlock 0 2 2
@found flags/mlock/other corpus 31
  a report
@run is a word of it
@end
@again flags/mlock/other
@run random 7 random | limits lock=4; fork 0
[    3.000000] BUG: KASAN: use-after-free in copy_vma+0x1/0x2
Call Trace:
";

    #[test]
    fn the_protocol_is_read_and_a_dead_kernel_leaves_its_program_and_its_report() {
        let mut console = Console::default();
        let news: Vec<News> = CONSOLE.lines().filter_map(|line| console.read(line)).collect();
        assert_eq!(news.len(), 4, "{news:?}");
        assert_eq!(
            news[1],
            News::Done("probe".into(), vec![("rules".into(), 22), ("ms".into(), 600)])
        );
        let News::Found(found) = &news[2] else { panic!("{news:?}") };
        assert_eq!(found.signature, "flags/mlock/other");
        assert_eq!(found.text, "  a report\n@run is a word of it\n");
        let running = console.running().expect("a program");
        assert_eq!((&running.section[..], running.number), ("random", 7));
        assert_eq!(running.program, "limits lock=4\nfork 0\n");
        let report = console.report().expect("a report");
        assert_eq!(report.name, "KASAN-use-after-free/copy_vma");
        assert_eq!(console.read("vmadiff-init: status 1"), Some(News::Status(1)));
        let covered = console.read("@covered corpus 600a 600b");
        assert_eq!(covered, Some(News::Covered("corpus".into(), vec![0x600a, 0x600b])));
    }

    #[test]
    fn a_kernel_that_dies_while_a_program_is_minimized_leaves_the_smaller_program() {
        let mut console = Console::default();
        let mut read = |text: &str| {
            text.lines().for_each(|line| drop(console.read(line)));
            console.minimizing().cloned()
        };
        let run = "@run corpus 3 a.txt | touch 0; fork 0\n@minimize flags/x\n";
        assert_eq!(read(run), Some(("flags/x".into(), "touch 0\nfork 0\n".into())));
        assert_eq!(read("@try fork 0\nkernel BUG"), Some(("flags/x".into(), "fork 0\n".into())));
        assert_eq!(read("@found flags/x corpus 3\n@end"), None);
        assert_eq!(read(run).map(|(name, _)| name), Some("flags/x".into()));
        assert_eq!(read("@run corpus 5 b.txt | touch 0"), None);
    }

    #[test]
    fn a_message_of_the_kernel_before_a_line_does_not_hide_the_line() {
        let mut console = Console::default();
        console.read("[    1.0] noise@run corpus 3 a.txt | fork 0");
        assert_eq!(console.running().map(|running| running.number), Some(3));
        assert_eq!(console.read("a mail@example.test says"), None);
    }
}
