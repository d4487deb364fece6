//! The settings of a fuzz target. They are environment variables, because the arguments of the
//! target belong to the fuzzing engine.
//!
//! A fuzzing service starts the target without these variables. For a service the settings are in
//! the file `TARGET.settings` beside the binary: one line `NAME=VALUE` for each variable, comments
//! after `#`, paths relative to the file. A copy of the binary under another name has a settings
//! file of its own. A variable takes precedence over the file.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use vmadiff_candidate::Revision;
use vmadiff_lockstep::known::Known;
use vmadiff_machine::Quote;

use crate::machines::MachineName;

/// The settings of a run.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The revision of the candidate: `VMADIFF_REVISION`, by default `v2`.
    pub revision: Revision,
    /// A machine in place of the candidate: the machine that `VMADIFF_CANDIDATE` names, such as
    /// `lib:PATH`, or the seeded fault that `VMADIFF_FAULT` names. A library runs in this process.
    pub candidate: Option<MachineName>,
    /// The known divergences, which do not end the run: the file that `VMADIFF_KNOWN` names. Without
    /// it those [of the machine](MachineName::known).
    pub known: Known,
    /// The folder for the first program of each signature: `VMADIFF_FINDINGS`. With such a folder
    /// no divergence ends the run.
    pub findings: Option<PathBuf>,
}

const REVISION: &str = "VMADIFF_REVISION";
const FAULT: &str = "VMADIFF_FAULT";
const CANDIDATE: &str = "VMADIFF_CANDIDATE";
const KNOWN: &str = "VMADIFF_KNOWN";
const FINDINGS: &str = "VMADIFF_FINDINGS";
/// The names of all settings.
const NAMES: [&str; 5] = [REVISION, FAULT, CANDIDATE, KNOWN, FINDINGS];

/// The error of a setting that has a wrong value.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {what}")]
pub struct SettingsError {
    /// The variable, or the file and the line.
    place: String,
    what: String,
}

/// A value, and the place where it is set.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Given {
    value: String,
    place: String,
    /// The folder to which a path is relative.
    folder: PathBuf,
}

impl Given {
    fn error(&self, what: impl ToString) -> SettingsError {
        SettingsError { place: self.place.clone(), what: what.to_string() }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(&self.value)
    }
}

impl Settings {
    /// Reads the settings of this process from its environment and from the file beside its binary.
    ///
    /// # Errors
    /// [`SettingsError`] if a setting does not name a revision, a machine, a fault, a list of known
    /// divergences or a folder, or if a line of the file is not a setting.
    pub fn of_process() -> Result<Settings, SettingsError> {
        let mut given = match env::current_exe() {
            Ok(binary) => beside(&binary)?,
            // Without the path of the binary there is no file beside it.
            Err(_) => BTreeMap::new(),
        };
        for name in NAMES {
            let Some(value) = env::var_os(name).filter(|value| !value.is_empty()) else { continue };
            let place = name.to_owned();
            let value = value.into_string().map_err(|value| SettingsError {
                place: place.clone(),
                what: format!("{} is not UTF-8", value.to_string_lossy()),
            })?;
            given.insert(name, Given { value, place, folder: PathBuf::new() });
        }
        Settings::of(&given)
    }

    fn of(given: &BTreeMap<&str, Given>) -> Result<Settings, SettingsError> {
        let named = |given: &Given| given.value.parse::<Revision>().map_err(|e| given.error(e));
        let revision = given.get(REVISION).map(named).transpose()?;
        let candidate = candidate(given, revision)?;
        let revision = revision.unwrap_or(Revision::V2);
        let known = given.get(KNOWN).map(|list| {
            let path = list.path();
            let wrong = |error: &dyn ToString| {
                list.error(format!("{}: {}", path.display(), error.to_string()))
            };
            let text = fs::read_to_string(&path).map_err(|error| wrong(&error))?;
            Known::parse(&text).map_err(|error| wrong(&error))
        });
        let findings = given.get(FINDINGS).map(|folder| match folder.path() {
            path if path.is_dir() => Ok(path),
            path => Err(folder.error(format!("{}: expected a folder", path.display()))),
        });
        let of_machine = || match &candidate {
            Some(machine) => machine.known(),
            None => MachineName::Candidate(revision).known(),
        };
        let known = known.transpose()?.unwrap_or_else(of_machine);
        let findings = findings.transpose()?;
        Ok(Settings { revision, candidate, known, findings })
    }
}

/// Reads the settings from the file beside a binary. Without such a file the result is empty.
fn beside(binary: &Path) -> Result<BTreeMap<&'static str, Given>, SettingsError> {
    let mut name = binary.file_name().unwrap_or_default().to_owned();
    name.push(".settings");
    let file = binary.with_file_name(name);
    match fs::read_to_string(&file) {
        Ok(text) => parse(&file, &text),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeMap::new()),
        Err(error) => {
            Err(SettingsError { place: file.display().to_string(), what: error.to_string() })
        }
    }
}

fn parse(file: &Path, text: &str) -> Result<BTreeMap<&'static str, Given>, SettingsError> {
    let folder = file.parent().unwrap_or(Path::new("")).to_owned();
    let mut given = BTreeMap::new();
    for (n, line) in text.lines().enumerate() {
        let line = line.split('#').next().unwrap_or("").trim();
        if line.is_empty() {
            continue;
        }
        let place = format!("{}: line {}", file.display(), n + 1);
        let error = |what: String| SettingsError { place: place.clone(), what };
        let known = NAMES.join(", ");
        let Some((name, value)) = line.split_once('=') else {
            return Err(error(format!(
                "{}: expected NAME=VALUE, with a name of {known}",
                Quote(line)
            )));
        };
        let (name, value) = (name.trim(), value.trim());
        let Some(name) = NAMES.into_iter().find(|known| *known == name) else {
            return Err(error(format!(
                "no setting is called {}: expected one of {known}",
                Quote(name)
            )));
        };
        if value.is_empty() {
            return Err(error(format!("{name} has no value: leave the line out")));
        }
        let value = value.to_owned();
        let one = Given { value, place: format!("{place}: {name}"), folder: folder.clone() };
        if given.insert(name, one).is_some() {
            return Err(error(format!("{name} is set twice")));
        }
    }
    Ok(given)
}

/// Returns the machine in place of the linked candidate; `None` if the settings name no machine.
fn candidate(
    given: &BTreeMap<&str, Given>,
    revision: Option<Revision>,
) -> Result<Option<MachineName>, SettingsError> {
    let in_process = |given: &Given, name: &str| {
        MachineName::in_process(name, &given.folder).map_err(|error| given.error(error)).map(Some)
    };
    if let Some(machine) = given.get(CANDIDATE) {
        let both = |name| machine.error(format!("{name} is set as well: leave one of them out"));
        if given.contains_key(FAULT) {
            return Err(both(FAULT));
        }
        let candidate = in_process(machine, &machine.value)?;
        // A library is taken for a revision: the reference has the rules that the revision has.
        let is_library = matches!(candidate, Some(MachineName::Library(_)));
        if given.contains_key(REVISION) && !is_library {
            return Err(both(REVISION));
        }
        return Ok(candidate);
    }
    let Some(fault) = given.get(FAULT) else { return Ok(None) };
    if let Some(other) = revision.filter(|revision| *revision != Revision::Fixed) {
        return Err(fault.error(format!(
            "only fixed can have a fault, and {REVISION} is {other}: leave one of them out"
        )));
    }
    in_process(fault, &format!("candidate:{}+{}", Revision::Fixed, fault.value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings, String> {
        parse(Path::new("out/cross_mm.settings"), text)
            .and_then(|given| Settings::of(&given))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_fault_goes_with_the_revision_fixed_alone() {
        let revision = |text: &str| read(text).map(|settings| settings.revision);
        assert_eq!(revision(""), Ok(Revision::V2));
        assert_eq!(revision("VMADIFF_REVISION=rfc"), Ok(Revision::Rfc));
        let error = read("VMADIFF_FAULT=none\nVMADIFF_REVISION=v2").expect_err("no v2");
        assert!(error.starts_with("out/cross_mm.settings: line 1: VMADIFF_FAULT: only"), "{error}");
        for revision in ["", "VMADIFF_REVISION = fixed # for now\n"] {
            let error = read(&format!("{revision}VMADIFF_FAULT=none")).expect_err("no fault");
            assert!(error.contains("no fault is called `none`: `vmadiff faults`"), "{error}");
        }
    }

    #[test]
    fn a_line_that_sets_nothing_is_named_by_file_and_line() {
        for (text, line, what) in [
            ("\nfixed", 2, "expected NAME=VALUE"),
            ("REVISION=fixed", 1, "no setting is called `REVISION`"),
            ("VMADIFF_REVISION=", 1, "has no value"),
            ("VMADIFF_REVISION=v3", 1, "VMADIFF_REVISION: no revision is called"),
            ("VMADIFF_REVISION=v2\nVMADIFF_REVISION=v2", 2, "is set twice"),
            ("VMADIFF_CANDIDATE=v2", 1, "VMADIFF_CANDIDATE: no machine is called `v2`"),
            ("VMADIFF_CANDIDATE=lib:a.so", 1, "VMADIFF_CANDIDATE: out/a.so: No such file"),
            (
                "VMADIFF_CANDIDATE=lib:a.so\nVMADIFF_REVISION=fixed",
                1,
                "VMADIFF_CANDIDATE: out/a.so: No such file",
            ),
            ("VMADIFF_CANDIDATE=lib:a.so\nVMADIFF_FAULT=a", 1, "VMADIFF_FAULT is set as well"),
            (
                "VMADIFF_CANDIDATE=reference\nVMADIFF_REVISION=v2",
                1,
                "VMADIFF_REVISION is set as well",
            ),
            ("VMADIFF_KNOWN=none.txt", 1, "VMADIFF_KNOWN: out/none.txt: No such file"),
            ("VMADIFF_FINDINGS=none", 1, "VMADIFF_FINDINGS: out/none: expected a folder"),
        ] {
            let error = read(text).expect_err(text);
            let place = format!("out/cross_mm.settings: line {line}: ");
            assert!(error.starts_with(&place) && error.contains(what), "{text}: {error}");
        }
    }

    #[test]
    fn the_file_of_a_binary_has_its_name_and_paths_are_beside_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let binary = folder.path().join("cross_mm");
        assert_eq!(beside(&binary), Ok(BTreeMap::new()));
        fs::write(folder.path().join("known.txt"), "errno/copy/c why\n").expect("written");
        fs::write(folder.path().join("cross_mm.settings"), "VMADIFF_KNOWN=known.txt\n")
            .expect("written");
        let settings = Settings::of(&beside(&binary).expect("settings")).expect("a list");
        assert_eq!(settings.known.why("errno/copy/c"), Some("why"));
        let of_machine = |text: &str| read(text).expect("settings").known.signatures().count();
        assert_eq!(of_machine("VMADIFF_REVISION=original"), 2);
        assert_eq!(of_machine("VMADIFF_CANDIDATE=candidate:original"), 2);
        assert_eq!(of_machine("VMADIFF_REVISION=fixed") + of_machine(""), 0);
    }
}
