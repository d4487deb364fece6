//! A finding as one row of a list: what tables, JSON and SARIF have of it.

use serde::Serialize;

/// A group as `triage --json` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The class's name.
    pub class: &'static str,
    /// The signature.
    pub signature: String,
    /// Operations of the minimized program.
    pub operations: usize,
    /// The minimized program, in the text form.
    pub program: String,
    /// Why it is known, if it is.
    pub known: Option<String>,
    /// Where the minimized program was written, or the first file that shows it.
    pub file: String,
    /// The files whose programs show it.
    pub found_in: Vec<String>,
}
