//! The oracle of the fuzz targets: runs a program on both machines and decides whether fuzzing
//! stops. It is independent of the fuzzing engine.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::PathBuf;

use vmadiff_lockstep::divergence::Signature;
use vmadiff_lockstep::invariants::EVERY;
use vmadiff_lockstep::lockstep::Lockstep;
use vmadiff_machine::op::MAX_OPERANDS;
use vmadiff_machine::{Limits, Op, Program, corpus};

use vmadiff_candidate::Revision;

use crate::engine::Work;
use crate::feedback::{Counters, Feedback};
use crate::machines::MachineName;
use crate::settings::Settings;
use crate::{crash, input, output};

/// The reason why a run stops at a program.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The machines diverge, and the divergence is not a known one.
    #[error("{report}")]
    Divergence {
        /// The signature, which other programs that show the same bug have as well.
        signature: Signature,
        /// The program, and both observations side by side.
        report: String,
    },
    /// The program of a signature cannot be written to the folder of findings.
    #[error("{}: {error}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// The reason.
        error: output::OutputError,
    },
}

pub use crate::machines::Machines;

/// The function that renders the report of a program's divergence. The fuzz target ends with the
/// report.
pub type Render = fn(&mut Machines, &Program) -> String;

/// The oracle: runs programs on two machines and judges the divergences.
pub struct Oracle {
    lockstep: Machines,
    render: Render,
    settings: Settings,
    /// The caller has chosen the machines, and the settings name none.
    own_machines: bool,
    merges: bool,
    /// The only signature at which the run stops, where the engine makes a crash smaller.
    only: Option<Signature>,
    met: BTreeSet<Signature>,
    feedback: Feedback,
}

impl Oracle {
    /// Returns the oracle of a run on the machines of the settings: the reference and the candidate.
    /// It counts the situations that programs meet in `counters`.
    pub fn new(settings: Settings, counters: &'static Counters, render: Render) -> Oracle {
        let candidate = match &settings.candidate {
            Some(machine) => machine.clone(),
            None => MachineName::Candidate(settings.revision),
        };
        // A library is taken for the revision that the settings name.
        let judge = match &candidate {
            MachineName::Library(_) => MachineName::Candidate(settings.revision).judge(),
            candidate => candidate.judge(),
        };
        let lockstep = Lockstep::new(judge.build(), candidate.build());
        Oracle { own_machines: false, ..Oracle::of(lockstep, settings, counters, render) }
    }

    /// Returns the oracle of a run on any two machines. The left machine is taken to be right. Of the
    /// settings, the known divergences and the folder of findings are used.
    pub fn of(
        mut lockstep: Machines,
        settings: Settings,
        counters: &'static Counters,
        render: Render,
    ) -> Oracle {
        lockstep.recount_every(EVERY);
        Oracle {
            lockstep,
            render,
            settings,
            own_machines: true,
            merges: false,
            only: None,
            met: BTreeSet::new(),
            feedback: Feedback::new(counters),
        }
    }

    /// Adapts the oracle to the work of the engine. Merging goes on after every divergence. Making a
    /// crash smaller goes on after every divergence with another signature than the crash.
    ///
    /// # Errors
    /// A message with the remedy if the work would stop at once: fork mode, where divergences are
    /// expected.
    pub fn work(mut self, work: &Work) -> Result<Oracle, String> {
        match work {
            Work::Fuzz => {}
            Work::Merge => self.merges = true,
            Work::Shrink(input) => {
                let program = input::load(input).map(|loaded| loaded.program);
                let program = program.map_err(|error| format!("{}: {error}", input.display()))?;
                self.only = self.lockstep.run(&program).map(|divergence| divergence.signature);
            }
            Work::Fork => {
                let Settings { revision, candidate, known, findings } = &self.settings;
                let diverges = matches!(revision, Revision::Rfc | Revision::V2);
                let diverges = diverges && !self.own_machines;
                if diverges && candidate.is_none() && findings.is_none() && known.is_empty() {
                    return Err(format!(
                        "fork mode stops at the first divergence, and {revision} has several: set \
                         VMADIFF_FINDINGS=FOLDER or VMADIFF_KNOWN=corpus/known-v2.txt, or give \
                         -ignore_crashes=1"
                    ));
                }
            }
        }
        Ok(self)
    }

    /// Runs `program` on both machines. The result is `Ok` if the machines agree, if the divergence
    /// is known, if the [work](Oracle::work) goes on after it, or if the settings have a folder of
    /// findings to which the program is written.
    ///
    /// # Errors
    /// [`Stop`] for any other divergence, and if a finding cannot be written.
    pub fn check(&mut self, program: &Program) -> Result<(), Stop> {
        let feedback = &mut self.feedback;
        feedback.reset();
        let divergence = self
            .lockstep
            .run_with(program, |step, reference, _| feedback.see(&program.ops[step], reference));
        let Some(divergence) = divergence else { return Ok(()) };
        let signature = &divergence.signature;
        let goes_on = match &self.only {
            Some(only) => only != signature,
            None => self.merges || self.settings.known.why(signature.as_str()).is_some(),
        };
        if goes_on {
            return Ok(());
        }
        let folder = self.settings.findings.as_ref().filter(|_| self.only.is_none());
        let Some(folder) = folder else {
            let report = (self.render)(&mut self.lockstep, program);
            return Err(Stop::Divergence { signature: divergence.signature, report });
        };
        if self.met.insert(divergence.signature.clone()) {
            // Each process writes one file for a signature, so processes that run in parallel do
            // not wait for each other. Triage takes the simplest program.
            let name = format!("{}.{}.vmad", divergence.signature.file_stem(), std::process::id());
            let path = folder.join(name);
            if let Err(error) = output::write(&path, &corpus::encode(program), true) {
                return Err(Stop::Write { path, error });
            }
        }
        Ok(())
    }
}

/// Returns the program without its copies between address spaces. The rest tests for regressions:
/// the patch must change nothing for processes that do not use it.
pub fn without_copies(mut program: Program) -> Program {
    program.ops.retain(|op| !matches!(op, Op::Copy { .. } | Op::CopyVma { .. }));
    program
}

thread_local! {
    /// The oracle of this thread; `None` before [`prepare`].
    static ORACLE: RefCell<Option<Oracle>> = const { RefCell::new(None) };
}

/// Prepares the oracle of a fuzz target before the first program. Wrong settings end the process
/// with exit status 2: after the first program, libFuzzer would report the end as a finding.
/// `counters` count the situations of programs.
pub fn prepare(counters: &'static Counters, render: Render) {
    install(|settings| Ok(Oracle::new(settings, counters, render)));
}

/// Prepares the oracle of a fuzz target for any two machines, before the first program. The left
/// machine is taken to be right. As in [`prepare`], wrong settings end the process with exit
/// status 2, and so do settings that name a machine.
pub fn prepare_machines(machines: Machines, counters: &'static Counters, render: Render) {
    install(|settings| match &settings.candidate {
        Some(machine) => Err(format!(
            "this target has machines of its own, and the settings name {machine}: unset \
             VMADIFF_CANDIDATE and VMADIFF_FAULT"
        )),
        None => Ok(Oracle::of(machines, settings, counters, render)),
    });
}

/// Makes the oracle of this thread from the settings of the process.
fn install(make: impl FnOnce(Settings) -> Result<Oracle, String>) {
    let oracle = Settings::of_process()
        .map_err(|error| error.to_string())
        .and_then(make)
        .and_then(|oracle| oracle.work(&Work::of(std::env::args_os())));
    match oracle {
        Ok(oracle) => ORACLE.set(Some(oracle)),
        Err(error) => {
            eprintln!("vmadiff: {error}");
            std::process::exit(2);
        }
    }
}

/// Checks a program for a fuzz target. Returns if [`Oracle::check`] accepts the program.
///
/// # Panics
/// With the report if the machines diverge in an unknown way: in a function named after the
/// divergence ([`crash`]). Also if a finding cannot be written, and before [`prepare`].
pub fn check_or_panic(program: &Program) {
    let checked =
        ORACLE.with_borrow_mut(|at| at.as_mut().expect("prepare() comes first").check(program));
    match checked {
        Ok(()) => {}
        Err(Stop::Divergence { signature, report }) => crash::end_with(&signature, &report),
        Err(error @ Stop::Write { .. }) => panic!("{error}"),
    }
}

/// Checks the codecs with any bytes. The bytes decode or are refused. A decoded program is bounded,
/// encodes to the same bytes (up to the place where they are cut short), and reads back from its
/// text form.
///
/// # Panics
/// If one of these claims is false.
pub fn check_codec(bytes: &[u8]) {
    match corpus::decode(bytes) {
        Err(error) => assert!(error.offset < bytes.len(), "the error is beyond the end: {error}"),
        Ok(program) => {
            let encoded = corpus::encode(&program);
            // From a file that is cut short, only the incomplete part is lost: an operation, or the
            // limits.
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
