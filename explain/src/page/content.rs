//! The content of a page: the divergences that it shows.

use crate::finding::Finding;

/// The content of a page.
#[derive(Debug)]
pub struct Page {
    /// The names of the machines, left and right.
    pub names: (String, String),
    /// Programs that were run to find the divergences.
    pub programs: usize,
    /// Files that were no programs.
    pub skipped: usize,
    /// The divergences, in the order they are shown.
    pub divergences: Vec<Shown>,
}

/// A divergence with what the page says about it.
#[derive(Debug)]
pub struct Shown {
    /// The run, explained.
    pub finding: Finding,
    /// Why it is known, if it is.
    pub known: Option<String>,
    /// The files whose programs show it.
    pub files: Vec<String>,
    /// The program in C, for a kernel that has the call; where the page has room.
    pub reproducer: Option<String>,
}
