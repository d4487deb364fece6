//! The work that libFuzzer does in this process, read from its arguments. A divergence ends a
//! process that fuzzes, but must not end one that merges: the engine drops every program that ends
//! it.

use std::ffi::OsString;
use std::path::PathBuf;

/// The work of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Work {
    /// Fuzzing, or running some inputs.
    Fuzz,
    /// Merging corpora (`-merge=1`, `cargo fuzz cmin`), also a merge in fork mode.
    Merge,
    /// Making a crash smaller (`-minimize_crash=1`, `cargo fuzz tmin`): a step with this input.
    Shrink(PathBuf),
    /// Fuzzing in fork mode: this process starts others, and stops when one of them crashes.
    Fork,
}

impl Work {
    /// Returns the work that the arguments of a process tell. The first argument is the program.
    pub fn of(args: impl IntoIterator<Item = OsString>) -> Work {
        let (mut merges, mut shrinks, mut forks, mut ignores) = (false, false, false, false);
        let mut input = None;
        for arg in args.into_iter().skip(1) {
            let text = arg.to_string_lossy();
            let Some((name, value)) = text.strip_prefix('-').and_then(|flag| flag.split_once('='))
            else {
                input.get_or_insert(PathBuf::from(&arg));
                continue;
            };
            let is_set = value.parse::<i64>().is_ok_and(|number| number != 0);
            match name {
                "merge" | "set_cover_merge" | "merge_inner" => merges |= is_set,
                "minimize_crash_internal_step" => shrinks = is_set,
                "fork" => forks = is_set,
                "ignore_crashes" => ignores = is_set,
                "ignore_remaining_args" if is_set => break,
                _ => {}
            }
        }
        match input {
            _ if merges => Work::Merge,
            Some(input) if shrinks => Work::Shrink(input),
            // With this flag the engine keeps the crash and goes on.
            _ if forks && !ignores => Work::Fork,
            _ => Work::Fuzz,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_work_is_read_from_the_flags_of_the_engine() {
        for (args, work) in [
            ("", Work::Fuzz),
            ("corpus -runs=1 -seed=3", Work::Fuzz),
            ("-merge=1 to from", Work::Merge),
            ("-set_cover_merge=1 to from", Work::Merge),
            ("-merge_control_file=/tmp/merge -merge_inner=1", Work::Merge),
            ("-merge=0 corpus", Work::Fuzz),
            ("-minimize_crash=1 -runs=255 crash", Work::Fuzz),
            ("-runs=255 crash -minimize_crash_internal_step=1", Work::Shrink("crash".into())),
            ("-fork=2 corpus", Work::Fork),
            ("-fork=0 corpus", Work::Fuzz),
            ("-fork=2 -ignore_crashes=1 corpus", Work::Fuzz),
            ("corpus -ignore_remaining_args=1 -merge=1", Work::Fuzz),
        ] {
            let args = format!("cross_mm {args}");
            assert_eq!(Work::of(args.split_whitespace().map(OsString::from)), work, "{args}");
        }
    }
}
