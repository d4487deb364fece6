//! The progress bar on a terminal.

use std::io::{IsTerminal as _, stderr};

use indicatif::{ProgressBar, ProgressStyle};
use vmadiff::triage::Progress;

use crate::interrupt::interrupted;

/// Returns a progress bar, which is hidden if standard error is no terminal.
pub(crate) fn progress(length: usize, what: &'static str) -> ProgressBar {
    if !stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
    let bar = ProgressBar::new(length as u64).with_message(what);
    style.map_or(bar.clone(), |style| bar.with_style(style))
}

/// Returns the function that shows the progress of triage on a bar, and stops triage on Ctrl-C. The
/// bar is for `programs`; it grows by the groups, of which there is no number at first.
pub(crate) fn until_interrupted(
    bar: &ProgressBar,
    programs: usize,
) -> impl FnMut(Progress) -> bool + '_ {
    move |Progress { done, all }| {
        bar.set_length(programs.max(all) as u64);
        bar.set_position(done as u64);
        !interrupted()
    }
}
