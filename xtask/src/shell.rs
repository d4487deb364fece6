//! Programs of the system: where they are, and what they print.

use std::env;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread;

use anyhow::{Context, Result};
use duct::cmd;

/// Returns the path of a program, if there is one in `PATH`.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| {
        path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    })
}

/// Returns a value of `rustc -vV`, such as that of `host`.
pub(crate) fn rustc(key: &str) -> Result<String> {
    let text = cmd!("rustc", "-vV").read().context("rustc does not run")?;
    value(&text, key).with_context(|| format!("rustc -vV: expected a line “{key}: …”"))
}

fn value(text: &str, key: &str) -> Option<String> {
    text.lines().find_map(|line| Some(line.strip_prefix(key)?.strip_prefix(": ")?.to_owned()))
}

/// Returns the number of cores that this process may use.
pub(crate) fn cores() -> usize {
    thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rustc_names_its_host_and_its_llvm() {
        let text = "rustc 1.95.0\nhost: x86_64-unknown-linux-gnu\nLLVM version: 22.1.2\n";
        assert_eq!(value(text, "host").as_deref(), Some("x86_64-unknown-linux-gnu"));
        assert_eq!(value(text, "LLVM version").as_deref(), Some("22.1.2"));
        assert_eq!(value(text, "hos"), None);
    }

    #[test]
    fn a_program_is_found_where_it_can_be_run() {
        assert!(find("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(find("no program has this name"), None);
    }
}
