//! Functions that several tests of the command share.
#![allow(dead_code, reason = "no test needs all of them")]

#[cfg(all(feature = "cli", target_os = "linux", target_arch = "x86_64"))]
pub(crate) mod rules;

use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// Runs `vmadiff` in a folder and returns its exit status, its output and its errors.
pub(crate) fn vmadiff(folder: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = output(folder, args);
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Returns `vmadiff` with arguments, in a folder.
pub(crate) fn command(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_vmadiff"));
    command.args(args).current_dir(folder);
    command
}

/// Runs `vmadiff` in a folder.
pub(crate) fn output(folder: &Path, args: &[&str]) -> Output {
    command(folder, args).output().expect("it runs")
}

/// Returns output as text.
pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("UTF-8")
}

/// Starts a command, sends Ctrl-C to it and to its workers, as a terminal does, once `ready` is
/// true, and returns its status and its output.
#[cfg(unix)]
pub(crate) fn interrupt(command: &mut Command, ready: impl Fn() -> bool) -> (Option<i32>, String) {
    use std::os::unix::process::CommandExt as _;
    let child: Child = command.process_group(0).stdout(Stdio::piped()).spawn().expect("it runs");
    let began = Instant::now();
    while !ready() && began.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let group = format!("-{}", child.id());
    assert!(Command::new("kill").args(["-INT", "--", &group]).status().expect("kill").success());
    let Output { status, stdout, .. } = child.wait_with_output().expect("it ends");
    (status.code(), String::from_utf8(stdout).expect("UTF-8"))
}
