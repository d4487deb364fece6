//! What a fuzz target asks of a program. It knows nothing of the fuzzing engine.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;

use vmadiff_lockstep::divergence::Signature;
use vmadiff_lockstep::lockstep::Lockstep;
use vmadiff_machine::op::MAX_OPERANDS;
use vmadiff_machine::{Limits, Machine, Op, Program, corpus};

use crate::feedback::{Counters, Feedback};
use crate::machines::MachineName;
use crate::settings::Settings;
use crate::{crash, output};

/// Why a run ends at a program.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The machines diverge, in a way that the run does not go on past.
    #[error("{report}")]
    Divergence {
        /// What makes it the same bug as another one.
        signature: Signature,
        /// The program, and both observations side by side.
        report: String,
    },
    /// The program of a signature could not be written to the folder of findings.
    #[error("{}: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: std::io::Error,
    },
}

/// The two machines of an oracle.
pub type Machines = Lockstep<Box<dyn Machine>, Box<dyn Machine>>;

/// Renders the divergence of a program as the text that a fuzz target ends with.
pub type Render = fn(&mut Machines, &Program) -> String;

/// Runs programs on the reference and the candidate and judges what follows.
pub struct Oracle {
    lockstep: Machines,
    render: Render,
    settings: Settings,
    met: BTreeSet<Signature>,
    feedback: Feedback,
}

impl Oracle {
    /// The oracle of a run, which counts the situations that programs meet.
    pub fn new(settings: Settings, counters: &'static Counters, render: Render) -> Oracle {
        let candidate = match &settings.candidate {
            Some(machine) => machine.clone(),
            None => MachineName::Candidate(settings.revision),
        };
        let lockstep = Lockstep::new(MachineName::Reference.build(), candidate.build());
        let feedback = Feedback::new(counters);
        Oracle { lockstep, render, settings, met: BTreeSet::new(), feedback }
    }

    /// Whether the machines agree on `program`, or differ in a way the run goes on past.
    ///
    /// # Errors
    /// [`Stop`] for a divergence that the run does not go on past.
    pub fn check(&mut self, program: &Program) -> Result<(), Stop> {
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
            let report = (self.render)(&mut self.lockstep, program);
            return Err(Stop::Divergence { signature: divergence.signature, report });
        };
        if self.met.insert(divergence.signature.clone()) {
            // One file a signature and process, so that runs side by side do not wait for each
            // other: triage takes the simplest.
            let name = format!("{}.{}.vmad", divergence.signature.file_stem(), std::process::id());
            let path = folder.join(name);
            if let Err(error) = output::write(&path, &corpus::encode(program), true) {
                return Err(Stop::Write { path, error });
            }
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
    /// The oracle of this process, once it is prepared.
    static ORACLE: RefCell<Option<Oracle>> = const { RefCell::new(None) };
}

/// What a fuzz target does before the first program: wrong settings end the process with status 2.
/// Later, libFuzzer would take the end for a finding. `counters` are told what programs meet.
pub fn prepare(counters: &'static Counters, render: Render) {
    match Settings::of_process() {
        Ok(settings) => ORACLE.set(Some(Oracle::new(settings, counters, render))),
        Err(error) => {
            eprintln!("vmadiff: {error}");
            std::process::exit(2);
        }
    }
}

/// What a fuzz target does with a program: nothing where it is as it should be.
///
/// # Panics
/// With the report, where the machines diverge in a way the run does not go on past, in a function
/// that is named after the divergence ([`crash`]); where a finding cannot be written; and before
/// [`prepare`].
pub fn check_or_panic(program: &Program) {
    let checked =
        ORACLE.with_borrow_mut(|at| at.as_mut().expect("prepare() comes first").check(program));
    match checked {
        Ok(()) => {}
        Err(Stop::Divergence { signature, report }) => crash::end_with(&signature, &report),
        Err(error @ Stop::Write { .. }) => panic!("{error}"),
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
