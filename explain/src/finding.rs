//! A finding: a run, completed by its results, the reason of its divergence, and its pictures.
//!
//! The text, HTML and SARIF of a finding are all rendered from this data.

use vmadiff_lockstep::compare::Scope;
use vmadiff_lockstep::run::Run;

use crate::picture::{Painter, Picture};
use crate::results::results;
use crate::why::why;

/// A run of a program on two machines, explained.
#[derive(Clone, Debug)]
pub struct Finding {
    /// The run.
    pub run: Run,
    /// The result of each operation of the program; both results if they differ.
    pub results: Vec<String>,
    /// The reason of the divergence, in a sentence; `None` if the machines agree.
    pub why: Option<String>,
    /// The picture of each step of the run.
    pub pictures: Vec<Picture>,
}

impl Finding {
    /// Explains a run.
    pub fn of(run: Run) -> Finding {
        let results = results(&run);
        let why = why(&run);
        let mut painter = Painter::new(Scope::Models);
        let pictures = run.steps.iter().map(|s| painter.picture(run.op(s), &s.left, &s.right));
        Finding { results, why, pictures: pictures.collect(), run }
    }

    /// The names of the machines, left and right.
    pub fn names(&self) -> (&str, &str) {
        (&self.run.names.0, &self.run.names.1)
    }
}
