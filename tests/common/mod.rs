//! Functions that several tests of the command share.

#[cfg(all(feature = "cli", target_os = "linux", target_arch = "x86_64"))]
#[allow(dead_code, reason = "one test of several needs it")]
pub(crate) mod rules;

use std::path::Path;
use std::process::Command;

/// Runs `vmadiff` in a folder and returns its exit status, its output and its errors.
pub(crate) fn vmadiff(folder: &Path, args: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_vmadiff"))
        .args(args)
        .current_dir(folder)
        .output()
        .expect("it runs");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (output.status.code(), text(output.stdout), text(output.stderr))
}
