//! The data of a page as JSON, for scripts and tests.

use maud::PreEscaped;
use serde::Serialize;

use super::bars::{BarData, side_data};
use super::content::{Page, Shown};
use super::steps::Step;

/// The data of a page.
#[derive(Serialize)]
pub(super) struct Data<'a> {
    left: &'a str,
    right: &'a str,
    programs: usize,
    skipped: usize,
    divergences: Vec<DivergenceData>,
}

#[derive(Serialize)]
struct DivergenceData {
    class: &'static str,
    signature: String,
    why: String,
    known: Option<String>,
    program: String,
    files: Vec<String>,
    differences: Vec<String>,
    steps: Vec<StepData>,
}

#[derive(Serialize)]
struct StepData {
    op: String,
    result: String,
    living: Vec<usize>,
    /// The processes that the operation changed.
    processes: Vec<ProcessData>,
}

#[derive(Serialize)]
struct ProcessData {
    process: usize,
    left: Option<Vec<BarData>>,
    right: Option<Vec<BarData>>,
}

/// Returns JSON for the inside of a script element. Characters that could be read as markup are
/// written as JSON escapes.
pub(super) fn embedded(data: &impl Serialize) -> serde_json::Result<PreEscaped<String>> {
    let mut text = String::new();
    for c in serde_json::to_string(data)?.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                text.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => text.push(c),
        }
    }
    Ok(PreEscaped(text))
}

impl Page {
    /// Returns the data of the page. `all` has the steps of each divergence.
    pub(super) fn data(&self, all: &[Vec<Step<'_>>]) -> Data<'_> {
        Data {
            left: &self.names.0,
            right: &self.names.1,
            programs: self.programs,
            skipped: self.skipped,
            divergences: self
                .divergences
                .iter()
                .zip(all)
                .map(|(shown, steps)| self.divergence_data(shown, steps))
                .collect(),
        }
    }

    fn divergence_data(&self, shown: &Shown, steps: &[Step<'_>]) -> DivergenceData {
        let divergence = shown.finding.run.divergence.as_ref();
        let step = |step: &Step| StepData {
            op: shown.finding.run.program.ops[step.at].to_string(),
            result: shown.finding.results[step.at].clone(),
            living: step.picture.processes.iter().map(|p| p.process).collect(),
            processes: step
                .changed
                .iter()
                .map(|&at| &step.picture.processes[at])
                .map(|p| ProcessData {
                    process: p.process,
                    left: side_data(&p.left),
                    right: side_data(&p.right),
                })
                .collect(),
        };
        let last = steps.last().map(|step| step.picture.differences(self.names()));
        DivergenceData {
            class: divergence.map_or("none", |d| d.class.name()),
            signature: divergence.map_or_else(|| "none".into(), |d| d.signature.to_string()),
            why: shown.finding.why.clone().unwrap_or_default(),
            known: shown.known.clone(),
            program: shown.finding.run.program.to_string(),
            files: shown.files.clone(),
            differences: last.unwrap_or_default(),
            steps: steps.iter().map(step).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn embedded_data_end_no_script_and_read_back_the_same() {
        let hostile = "</script><!--<script>&amp;\u{2028}'\"";
        let text = embedded(&[hostile]).expect("JSON").0;
        assert!(!text.contains(['<', '>', '&', '\u{2028}']), "{text}");
        let back: Vec<String> = serde_json::from_str(&text).expect("JSON");
        assert_eq!(back, [hostile]);
    }
}
