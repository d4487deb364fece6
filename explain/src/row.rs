//! A finding as one row of a list: the fields that tables, JSON and SARIF show.

use serde::Serialize;

/// A group as `triage --json` shows it.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The class's name.
    pub class: &'static str,
    /// The signature.
    pub signature: String,
    /// The number of operations of the minimized program.
    pub operations: usize,
    /// The minimized program, in the text form.
    pub program: String,
    /// The reason why the divergence is known; `None` if it is new.
    pub known: Option<String>,
    /// The file with the minimized program if it was written, else the first file that shows the
    /// divergence.
    pub file: String,
    /// The file that shows the divergence to a reader: the text form if it was written, else the first file
    /// that shows the divergence; `None` if the program is in no file.
    #[serde(skip)]
    pub place: Option<String>,
    /// The files whose programs show the divergence.
    pub found_in: Vec<String>,
}
