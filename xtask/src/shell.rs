//! Programs of the system: their paths and their output.

use std::cmp::Ordering;
use std::env;
use std::os::unix::fs::PermissionsExt;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::atomic::{self, AtomicUsize};
use std::thread::{self, ScopedJoinHandle};

use anyhow::{Context, Result};
use duct::cmd;
use indicatif::{ProgressBar, ProgressStyle};

/// Returns the path of a program in `PATH`; `None` if there is none.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).map(|folder| folder.join(program)).find(|path| {
        path.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
    })
}

/// Returns the program in `PATH` whose name begins with `prefix`; the newest of several versions.
pub(crate) fn newest(prefix: &str) -> Option<PathBuf> {
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    env::split_paths(&env::var_os("PATH")?)
        .filter_map(|folder| folder.read_dir().ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| name(path).starts_with(prefix) && path.is_file())
        .max_by(|a, b| by_number(&name(a), &name(b)))
}

/// Compares two names; numbers in them are compared as numbers.
pub(crate) fn by_number(a: &str, b: &str) -> Ordering {
    parts(a).cmp(&parts(b)).then_with(|| a.cmp(b))
}

/// Splits a name into pairs: the text before each number, and the number.
fn parts(mut name: &str) -> Vec<(&str, u64)> {
    let mut parts = Vec::new();
    while !name.is_empty() {
        let number = name.find(|c: char| c.is_ascii_digit()).unwrap_or(name.len());
        let (text, rest) = name.split_at(number);
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        // No version number is too large for 64 bits.
        parts.push((text, rest[..end].parse().unwrap_or(u64::MAX)));
        name = &rest[end..];
    }
    parts
}

/// Returns a value in the output of `rustc -vV`, such as the value of `host`.
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

/// Applies a function to each item, as many at a time as there are cores, and returns the results
/// in the order of the items.
pub(crate) fn on_all_cores<T: Sync, R: Send>(
    items: &[T],
    apply: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    side_by_side(cores(), items, apply)
}

/// Applies a function to each item, `jobs` at a time, and returns the results in the order of the
/// items.
pub(crate) fn side_by_side<T: Sync, R: Send>(
    jobs: usize,
    items: &[T],
    apply: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mut results = Vec::new();
        loop {
            let n = next.fetch_add(1, atomic::Ordering::Relaxed);
            let Some(item) = items.get(n) else { return results };
            results.push((n, apply(item)));
        }
    };
    let mut results: Vec<(usize, R)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..jobs.min(items.len())).map(|_| scope.spawn(worker)).collect();
        let join = |worker: ScopedJoinHandle<_>| match worker.join() {
            Ok(results) => results,
            Err(panic) => resume_unwind(panic),
        };
        workers.into_iter().flat_map(join).collect()
    });
    results.sort_unstable_by_key(|(n, _)| *n);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Applies a function as [`side_by_side`] does, with a progress bar, which is hidden if standard error is
/// no terminal. `what` is the word on the bar.
pub(crate) fn with_progress<T: Sync, R: Send>(
    what: &'static str,
    jobs: usize,
    items: &[T],
    apply: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let style = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} {eta}");
    let bar = ProgressBar::new(items.len() as u64).with_message(what);
    let bar = style.map_or(bar.clone(), |style| bar.with_style(style));
    let results = side_by_side(jobs, items, |item| {
        let result = apply(item);
        bar.inc(1);
        result
    });
    bar.finish_and_clear();
    results
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items() {
        let items: Vec<u32> = (0..100).collect();
        let squares: Vec<u32> = items.iter().map(|n| n * n).collect();
        assert_eq!(on_all_cores(&items, |n| n * n), squares);
        assert_eq!(on_all_cores(&[], |n: &u32| *n), Vec::<u32>::new());
    }

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
