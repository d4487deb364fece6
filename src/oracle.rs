//! What a fuzz target asks of a program. It knows nothing of the fuzzing engine.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use vmadiff_candidate::{Fault, Revision};
use vmadiff_machine::op::MAX_OPERANDS;
use vmadiff_machine::{Limits, Machine, Op, Program, corpus};

use crate::divergence::Signature;
use crate::draw::Look;
use crate::feedback::{Counters, Feedback};
use crate::known::Known;
use crate::lockstep::Lockstep;
use crate::machines::MachineName;
use crate::{output, report};

/// The settings of a run: environment variables, since a fuzzing engine takes the arguments.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The revision of the candidate: `VMADIFF_REVISION`, by default `v2`.
    pub revision: Revision,
    /// What is wrong with the candidate on purpose: `VMADIFF_FAULT`. The revision is then `fixed`.
    pub fault: Option<Fault>,
    /// Divergences that the run goes on past: the file named by `VMADIFF_KNOWN`.
    pub known: Known,
    /// A folder for the first program of each signature; the run then goes on past all of them:
    /// `VMADIFF_FINDINGS`.
    pub findings: Option<PathBuf>,
}

/// An environment variable that says something else than what it may.
#[derive(Debug, thiserror::Error)]
#[error("{variable}: {what}")]
pub struct SettingsError {
    variable: &'static str,
    what: String,
}

impl Settings {
    /// The settings of the environment.
    ///
    /// # Errors
    /// [`SettingsError`] where a variable does not name a revision, a list or a folder.
    pub fn from_env() -> Result<Settings, SettingsError> {
        let given = |variable| env::var_os(variable).filter(|value| !value.is_empty());
        let (revision, fault) = candidate(given("VMADIFF_REVISION"), given("VMADIFF_FAULT"))?;
        let known = match given("VMADIFF_KNOWN").map(PathBuf::from) {
            None => Known::default(),
            Some(path) => fs::read_to_string(&path)
                .map_err(|e| e.to_string())
                .and_then(|text| Known::parse(&text).map_err(|e| e.to_string()))
                .map_err(|what| SettingsError {
                    variable: "VMADIFF_KNOWN",
                    what: format!("{}: {what}", path.display()),
                })?,
        };
        let findings = given("VMADIFF_FINDINGS").map(PathBuf::from);
        if let Some(folder) = findings.as_deref().filter(|folder| !folder.is_dir()) {
            let what = format!("{}: expected a folder", folder.display());
            return Err(SettingsError { variable: "VMADIFF_FINDINGS", what });
        }
        Ok(Settings { revision, fault, known, findings })
    }
}

/// Which candidate the two variables ask for.
fn candidate(
    revision: Option<OsString>,
    fault: Option<OsString>,
) -> Result<(Revision, Option<Fault>), SettingsError> {
    let revision = revision.map(|name| name.to_string_lossy().parse::<Revision>());
    let revision = revision
        .transpose()
        .map_err(|error| SettingsError { variable: "VMADIFF_REVISION", what: error.to_string() })?;
    let Some(fault) = fault else { return Ok((revision.unwrap_or(Revision::V2), None)) };
    let error = |what| SettingsError { variable: "VMADIFF_FAULT", what };
    let fault = fault.to_string_lossy().parse::<Fault>().map_err(|e| error(e.to_string()))?;
    match revision {
        None | Some(Revision::Fixed) => Ok((Revision::Fixed, Some(fault))),
        Some(other) => Err(error(format!(
            "only fixed can have a fault, and VMADIFF_REVISION is {other}: leave one of them out"
        ))),
    }
}

/// Runs programs on the reference and the candidate and judges what follows.
pub struct Oracle {
    lockstep: Lockstep<Box<dyn Machine>, Box<dyn Machine>>,
    settings: Settings,
    met: BTreeSet<Signature>,
    feedback: Feedback,
}

impl Oracle {
    /// The oracle of a run, which counts the situations that programs meet.
    pub fn new(settings: Settings, counters: &'static Counters) -> Oracle {
        let candidate = match settings.fault {
            Some(fault) => MachineName::Faulty(fault),
            None => MachineName::Candidate(settings.revision),
        };
        let lockstep = Lockstep::new(MachineName::Reference.build(), candidate.build());
        Oracle { lockstep, settings, met: BTreeSet::new(), feedback: Feedback::new(counters) }
    }

    /// Whether the machines agree on `program`, or differ in a way the run goes on past.
    ///
    /// # Errors
    /// The report of a divergence that the run stops at.
    pub fn check(&mut self, program: &Program) -> Result<(), String> {
        let feedback = &mut self.feedback;
        feedback.reset();
        let divergence = self
            .lockstep
            .run_with(program, |step, reference, _| feedback.see(&program.ops[step], reference));
        let Some(divergence) = divergence else { return Ok(()) };
        if self.settings.known.why(divergence.signature.as_str()).is_some() {
            return Ok(());
        }
        let Some(folder) = &self.settings.findings else {
            return Err(report::divergence(&mut self.lockstep, program, Look::default()).text);
        };
        if self.met.insert(divergence.signature.clone()) {
            // One file a signature and process, so that runs side by side do not wait for each
            // other: triage takes the simplest.
            let name = format!("{}.{}.vmad", divergence.signature.file_stem(), std::process::id());
            output::write(&folder.join(name), &corpus::encode(program), true)
                .map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        Ok(())
    }
}

/// The program without its copies between address spaces: what is left is the regression
/// question, whether the patch changes anything for those who do not use it.
pub fn without_copies(mut program: Program) -> Program {
    program.ops.retain(|op| !matches!(op, Op::Copy { .. } | Op::CopyVma { .. }));
    program
}

thread_local! {
    /// The oracle of this process: made on first use, from the environment.
    static ORACLE: RefCell<Option<Result<Oracle, SettingsError>>> = const { RefCell::new(None) };
}

/// What a fuzz target does with a program: nothing where it is as it should be. `counters` are
/// told what the program met.
///
/// # Panics
/// With the report, where the machines diverge in a way the run does not go on past. Wrong
/// settings end the process with status 2: a crash would be taken for a finding.
pub fn check_or_panic(program: &Program, counters: &'static Counters) {
    let oracle = || Settings::from_env().map(|settings| Oracle::new(settings, counters));
    let report = ORACLE.with_borrow_mut(|made| match made.get_or_insert_with(oracle) {
        Ok(oracle) => oracle.check(program).err(),
        Err(error) => {
            eprintln!("vmadiff: {error}");
            std::process::exit(2);
        }
    });
    if let Some(report) = report {
        panic!("\n{report}");
    }
}

/// Any bytes decode or are refused; what decodes is bounded, encodes to the same bytes, up to
/// where they were cut short, and reads back from its text form.
///
/// # Panics
/// Where that is not so.
pub fn check_codec(bytes: &[u8]) {
    match corpus::decode(bytes) {
        Err(error) => assert!(error.offset < bytes.len(), "the error is beyond the end: {error}"),
        Ok(program) => {
            let encoded = corpus::encode(&program);
            // Of a file cut short, only what is cut through is lost: an operation, or the limits.
            let header = corpus::encode(&Program::default()).len() + Limits::NAMES.len();
            if bytes.len() >= header {
                let same = &bytes[..encoded.len().min(bytes.len())];
                assert_eq!(encoded, same, "encoding gives other bytes");
                assert!(bytes.len() - same.len() <= MAX_OPERANDS, "operations are lost");
            }
            assert_eq!(
                corpus::decode(&encoded).as_ref(),
                Ok(&program),
                "decoding gives another program"
            );
            assert_eq!(
                program.to_string().parse().as_ref(),
                Ok(&program),
                "the text is of another program"
            );
        }
    }
    if let Some(program) = std::str::from_utf8(bytes).ok().and_then(|t| t.parse::<Program>().ok()) {
        assert_eq!(
            program.to_string().parse().as_ref(),
            Ok(&program),
            "the text form does not read back"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_makes_the_revision_fixed_and_no_other_revision_has_one() {
        let ask = |revision: &str, fault: &str| {
            let given = |text: &str| Some(OsString::from(text)).filter(|text| !text.is_empty());
            candidate(given(revision), given(fault)).map_err(|error| error.to_string())
        };
        let fault = Fault::MaskNoLocked;
        assert_eq!(ask("", ""), Ok((Revision::V2, None)));
        assert_eq!(ask("rfc", ""), Ok((Revision::Rfc, None)));
        for revision in ["", "fixed"] {
            assert_eq!(ask(revision, fault.name()), Ok((Revision::Fixed, Some(fault))));
        }
        let error = ask("v2", fault.name()).expect_err("v2 has no faults");
        assert!(error.starts_with("VMADIFF_FAULT: only fixed can have a fault"), "{error}");
        let error = ask("", "none").expect_err("no fault");
        assert!(error.contains("no fault is called `none`: `vmadiff faults`"), "{error}");
    }
}
