//! The console log of a kernel that ran `vmadiff kernel --random`.

/// The content of a log.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Log {
    /// The log shows differences that no rule explains.
    pub(crate) differs: bool,
    /// The signature of the first difference.
    pub(crate) first: Option<String>,
    /// The seconds from the start of the kernel to power down.
    pub(crate) seconds: Option<u64>,
    /// The output of `vmadiff`.
    pub(crate) output: String,
    /// The counts of the summary, in the order of the summary.
    counts: Vec<(String, u64)>,
}

impl Log {
    /// Reads a log; `None` if `vmadiff` did not run to its end, or ran no program.
    pub(crate) fn parse(text: &str) -> Option<Log> {
        let differs = text.lines().find_map(|line| match line {
            "vmadiff-init: status 0" => Some(false),
            "vmadiff-init: status 1" => Some(true),
            _ => None,
        })?;
        let output: String = text
            .lines()
            .skip_while(|line| !line.starts_with("vmadiff-init: begin"))
            .skip(1)
            .take_while(|line| !line.starts_with("vmadiff-init: status"))
            .flat_map(|line| [line, "\n"])
            .collect();
        let summary = text.lines().find(|line| line.starts_with("programs=")).unwrap_or_default();
        let counts = summary
            .split_whitespace()
            .filter_map(|pair| {
                let (name, count) = pair.split_once('=')?;
                Some((name.to_owned(), count.parse().ok()?))
            })
            .collect();
        let first = text.lines().find_map(signature).map(str::to_owned);
        let seconds = text.lines().find_map(power_down);
        let log = Log { differs, first, seconds, output, counts };
        (log.value("programs") > 0).then_some(log)
    }

    /// Returns the log of several kernels that ran parts of the same programs; `None` without a log.
    pub(crate) fn join(logs: Vec<Log>) -> Option<Log> {
        let mut logs = logs.into_iter();
        let first = logs.next()?;
        Some(logs.fold(first, |mut all, log| {
            all.differs |= log.differs;
            all.first = all.first.or(log.first);
            all.seconds = all.seconds.max(log.seconds);
            all.output += &log.output;
            for (name, count) in log.counts {
                match all.counts.iter_mut().find(|(other, _)| *other == name) {
                    Some((_, sum)) => *sum = sum.saturating_add(count),
                    None => all.counts.push((name, count)),
                }
            }
            all
        }))
    }

    /// Returns a count of the summary; 0 if the summary does not have it.
    pub(crate) fn value(&self, name: &str) -> u64 {
        self.counts.iter().find(|(other, _)| other == name).map_or(0, |(_, count)| *count)
    }

    /// Returns the number of operations whose difference from 5.2.1 a rule explains.
    pub(crate) fn explained(&self) -> u64 {
        self.counts
            .iter()
            .filter(|(name, _)| name.starts_with("rule-"))
            .fold(0, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// Returns the names of the rules that operations applied.
    pub(crate) fn rules(&self) -> Vec<&str> {
        self.counts.iter().filter_map(|(name, _)| name.strip_prefix("rule-")).collect()
    }

    /// Returns the share of operations that agree, rounded down: 100 % means all of them.
    pub(crate) fn share(&self) -> String {
        let (agree, operations) = (self.value("agree"), self.value("operations"));
        let thousandths = u128::from(agree) * 100_000 / u128::from(operations).max(1);
        format!("{}.{:03} %", thousandths / 1000, thousandths % 1000)
    }
}

/// Returns the signature of a line such as “errno/mmap/ok-for-EINVAL (3 programs)”.
fn signature(line: &str) -> Option<&str> {
    let (signature, count) = line.strip_suffix(" programs)")?.split_once(" (")?;
    count.parse::<u64>().ok()?;
    let (class, rest) = signature.split_once('/')?;
    let is_class = class.chars().all(|c| c.is_ascii_lowercase() || c == '-');
    (is_class && !rest.contains(' ')).then_some(signature)
}

/// Returns the seconds of the kernel's last message, “[   12.345678] reboot: Power down”.
fn power_down(line: &str) -> Option<u64> {
    let (before, _) = line.split_once("reboot: Power down")?;
    let (_, time) = before.rsplit_once('[')?;
    let (seconds, _) = time.trim_start().split_once('.')?;
    seconds.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
early console
vmadiff-init: begin
programs=200 operations=3812 agree=3811 whole=150 lacks-map_count=8 rule-mbind-holes=1 \
rule-mprotect-uncharge=4 rule-other=2

merge/copy_vma/merged (2 programs)

a program

flags/mmap/VM_LOCKED-kept (1 programs)
vmadiff-init: status 1
[    7.654321] reboot: Power down
";

    #[test]
    fn the_summary_and_the_differences_are_read() {
        let log = Log::parse(LOG).expect("it finished");
        assert!(log.differs);
        assert_eq!(log.first.as_deref(), Some("merge/copy_vma/merged"));
        assert_eq!(log.seconds, Some(7));
        assert_eq!((log.value("programs"), log.value("operations")), (200, 3812));
        assert_eq!(log.value("program"), 0);
        assert_eq!(log.explained(), 7);
        assert_eq!(log.rules(), ["mbind-holes", "mprotect-uncharge", "other"]);
        assert_eq!(log.share(), "99.973 %");
        assert!(log.output.starts_with("programs=200 "), "{}", log.output);
        assert!(log.output.ends_with("VM_LOCKED-kept (1 programs)\n"), "{}", log.output);
    }

    #[test]
    fn a_log_without_the_last_status_or_a_program_did_not_finish() {
        assert_eq!(Log::parse("vmadiff-init: status 0\n"), None);
        assert_eq!(Log::parse("programs=0 operations=0\nvmadiff-init: status 0\n"), None);
        for end in ["", "vmadiff-init: status 2\n", "vmadiff-init: ended: signal: 9\n", "panic\n"] {
            assert_eq!(Log::parse(&LOG.replace("vmadiff-init: status 1\n", end)), None, "{end}");
        }
    }

    #[test]
    fn logs_of_the_parts_of_a_run_are_added_up() {
        let clean =
            Log::parse("programs=5 operations=10 agree=10 rule-new=1\nvmadiff-init: status 0\n");
        let parts = [clean, Log::parse(LOG)].into_iter().flatten().collect();
        let log = Log::join(parts).expect("two logs");
        assert!(log.differs);
        assert_eq!(log.first.as_deref(), Some("merge/copy_vma/merged"));
        assert_eq!((log.value("programs"), log.value("operations")), (205, 3822));
        assert_eq!((log.explained(), log.seconds), (8, Some(7)));
        assert_eq!(Log::join(Vec::new()), None);
    }

    #[test]
    fn the_share_is_rounded_down() {
        let share = |summary: &str| {
            Log::parse(&format!("{summary}\nvmadiff-init: status 0\n")).expect("finished").share()
        };
        assert_eq!(share("programs=1 operations=1000000 agree=999999"), "99.999 %");
        assert_eq!(share("programs=1 operations=3 agree=3"), "100.000 %");
        assert_eq!(share("programs=1 operations=0 agree=0"), "0.000 %");
    }
}
