//! The exit status of the commands.

use std::process::ExitCode;

/// The table of exit statuses, for the help. README.md has the same table.
pub(crate) const TABLE: &str = "\
Exit status, of every command:
  0    done, and no new divergence was found
  1    a divergence was found that is not on the list of --known
  2    bad use, bad input, or output that could not be written
  3    no new divergence was found, but a part was not run: a program that is
       cut short, with `kernel FILE` operations that the kernel lacks, that
       block, or whose rules cannot be decided, or with `exhaust` programs for
       whose states the memory did not suffice
  130  interrupted by Ctrl-C: what was found so far is printed and written
  141  the reader of standard output has gone (SIGPIPE), as with other tools";

/// The result of a command. Of two results, the later one in this order is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Status {
    /// Everything was run, and nothing new was found.
    Clean,
    /// A part was not run.
    Incomplete,
    /// A new divergence was found.
    Found,
    /// Ctrl-C ended the command early.
    Interrupted,
}

impl Status {
    /// Returns the status of a command that looks for divergences.
    pub(crate) fn found(found: bool) -> Status {
        if found { Status::Found } else { Status::Clean }
    }

    /// Returns the status of an input that may be cut short.
    pub(crate) fn cut(is_cut: bool) -> Status {
        if is_cut { Status::Incomplete } else { Status::Clean }
    }
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> ExitCode {
        ExitCode::from(match status {
            Status::Clean => 0,
            Status::Found => 1,
            Status::Incomplete => 3,
            Status::Interrupted => 130,
        })
    }
}
