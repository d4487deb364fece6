//! The content of a page: the divergences that it shows.

use crate::finding::Finding;

/// The name that stands for standard input in place of a file.
pub const STANDARD_INPUT: &str = "(standard input)";

/// The content of a page.
#[derive(Debug)]
pub struct Page {
    /// The names of the machines, left and right. For a machine that ran alone, both are its name.
    pub names: (String, String),
    /// One machine ran, and the invariants judge it.
    pub alone: bool,
    /// The options of `vmadiff replay` that choose the machines, each with a machine.
    pub options: Vec<(&'static str, String)>,
    /// The number of programs that were run to find the divergences.
    pub programs: usize,
    /// The number of files that were no programs.
    pub skipped: usize,
    /// The divergences, in the order of the page.
    pub divergences: Vec<Shown>,
}

/// A divergence, with the facts that the page shows about it.
#[derive(Debug)]
pub struct Shown {
    /// The run, explained.
    pub finding: Finding,
    /// The reason why the divergence is known; `None` if it is new.
    pub known: Option<String>,
    /// The files whose programs show the divergence; [`STANDARD_INPUT`] stands for standard input.
    pub files: Vec<String>,
    /// The program in C, for a kernel that has the call; `None` if the page has no room for it.
    pub reproducer: Option<String>,
}
