//! The runner, which has neither the source tree nor a toolchain.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use duct::cmd;

use super::say;
use crate::targets;

/// A place to run targets: a copy of `$OUT` with a clean environment. If the kernel permits it, the
/// source tree and the toolchain are hidden by empty folders.
pub(crate) struct Runner {
    scratch: PathBuf,
    /// The copy of `$OUT`.
    pub(crate) out: PathBuf,
    /// The folders that look empty to targets; `None` if that is not possible.
    hidden: Option<Vec<PathBuf>>,
}

/// A run of a target.
pub(crate) struct Run {
    /// The exit status in the form of a shell: 128 and the number of the signal if one ended the
    /// run.
    pub(crate) status: i32,
    pub(crate) log: String,
}

/// A shell script that mounts an empty folder on each argument before `--`, then runs the rest in
/// the folder that is named first.
const HIDE: &str = r#"while [ "$1" != -- ]; do mount -t tmpfs none "$1"; shift; done
shift; cd "$1"; shift; exec "$@""#;

impl Runner {
    pub(crate) fn new(scratch: &Path, out: &Path, project: &Path) -> Result<Runner> {
        let copy = scratch.join("out");
        cmd!("cp", "-r", out, &copy).run().context("$OUT cannot be copied")?;
        let hides = cmd!("unshare", "--map-root-user", "--mount", "true").stderr_null().run();
        let hidden = match hides {
            Ok(_) => {
                say("checkout and toolchain are hidden from the targets");
                let mut folders = vec![project.to_owned(), home("CARGO_HOME", ".cargo")];
                folders.push(home("RUSTUP_HOME", ".rustup"));
                folders.retain(|folder| folder.is_dir());
                Some(folders)
            }
            Err(_) => {
                say("checkout and toolchain cannot be hidden here: an empty environment has to do");
                None
            }
        };
        Ok(Runner { scratch: scratch.to_owned(), out: copy, hidden })
    }

    /// Returns a path beside the copy of `$OUT`.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// Makes a folder beside the copy of `$OUT`.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name);
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        Ok(path)
    }

    /// Returns libFuzzer's flags in the options file beside a target.
    pub(crate) fn flags(&self, target: &str) -> Result<Vec<String>> {
        targets::flags_of(&self.out.join(format!("{target}.options")))
    }

    /// Runs a target in a folder.
    pub(crate) fn run<A: AsRef<str>>(
        &self,
        folder: &Path,
        binary: &Path,
        arguments: &[A],
    ) -> Result<Run> {
        let symbolizer = self.out.join("llvm-symbolizer");
        let asan = format!("symbolize=1:external_symbolizer_path={}", symbolizer.display());
        let mut command: Vec<OsString> = match &self.hidden {
            None => vec!["env".into()],
            Some(hidden) => {
                let mut command: Vec<OsString> =
                    ["unshare", "--map-root-user", "--mount", "sh", "-c", HIDE, "hide"]
                        .map(OsString::from)
                        .into();
                command.extend(hidden.iter().map(OsString::from));
                command.extend(["--".into(), folder.into(), "env".into()]);
                command
            }
        };
        command.extend(
            ["-i", "PATH=/usr/bin:/bin", "HOME=/nonexistent", "RUST_BACKTRACE=1"]
                .map(OsString::from),
        );
        command.extend([format!("ASAN_OPTIONS={asan}").into(), binary.into()]);
        command.extend(arguments.iter().map(|argument| argument.as_ref().into()));
        let output = cmd(command.remove(0), command)
            .dir(folder)
            .stdin_null()
            .stderr_to_stdout()
            .stdout_capture()
            .unchecked()
            .run()
            .with_context(|| binary.display().to_string())?;
        let signal = output.status.signal().map(|signal| 128 + signal);
        Ok(Run {
            status: output.status.code().or(signal).unwrap_or(-1),
            log: String::from_utf8_lossy(&output.stdout).into_owned(),
        })
    }
}

/// Returns the folder that an environment variable names; by default a folder of the home folder.
fn home(variable: &str, folder: &str) -> PathBuf {
    let home = || Path::new(&std::env::var_os("HOME").unwrap_or_default()).join(folder);
    std::env::var_os(variable).map_or_else(home, PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    #[test]
    fn a_target_sees_neither_the_project_nor_the_environment() -> Result<()> {
        let scratch = Scratch::new()?;
        let project = Scratch::new()?;
        fs::write(project.path().join("secret"), "")?;
        let out = scratch.path().join("first-out");
        fs::create_dir(&out)?;
        let runner = Runner::new(scratch.path(), &out, project.path())?;
        let sh = Path::new("/bin/sh");
        let list = format!("pwd; ls {}; echo $CARGO_MANIFEST_DIR $HOME", project.path().display());
        let run = runner.run(&runner.out, sh, &["-c", &list])?;
        let expected = format!("{}\n/nonexistent\n", runner.out.display());
        if runner.hidden.is_some() {
            assert_eq!((run.status, run.log), (0, expected));
        } else {
            assert!(run.log.ends_with("\n/nonexistent\n"), "{}", run.log);
        }
        Ok(())
    }

    #[test]
    fn a_signal_is_a_status_as_in_a_shell() -> Result<()> {
        let scratch = Scratch::new()?;
        let out = scratch.path().join("first-out");
        fs::create_dir(&out)?;
        let runner = Runner::new(scratch.path(), &out, Path::new("/no/project"))?;
        for (script, status) in [("exit 77", 77), ("kill -ABRT $$", 134)] {
            let run = runner.run(&runner.out, Path::new("/bin/sh"), &["-c", script])?;
            assert_eq!(run.status, status, "{script}");
        }
        Ok(())
    }
}
