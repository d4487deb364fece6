//! The frames by which ClusterFuzz tells bugs apart: the first three frames of the stack that do
//! not belong to the machinery.

use super::Sanitizer;

/// The beginnings of frames that belong to the machinery.
const MACHINERY: &[&str] = &[
    "raise",
    "abort",
    "gsignal",
    "__pthread_kill",
    "__rust",
    "rust_",
    "_rust_",
    "__sanitizer",
    "fuzzer::",
    "std::",
    "core::",
    "alloc::",
    "<alloc::",
    "libfuzzer_sys::initialize",
    "LLVMFuzzer",
];

/// Returns the frames of a log.
pub(crate) fn frames(log: &str, sanitizer: Sanitizer) -> Vec<String> {
    let begins = |line: &&str| match sanitizer {
        Sanitizer::Address => line.contains("ERROR: libFuzzer"),
        Sanitizer::None => line.starts_with("stack backtrace:"),
    };
    let frame = match sanitizer {
        Sanitizer::Address => sanitizer_frame,
        Sanitizer::None => backtrace_frame,
    };
    log.lines()
        .skip_while(|line| !begins(line))
        .filter_map(frame)
        .filter(|frame| !is_machinery(frame))
        .map(name)
        .take(3)
        .collect()
}

/// Returns the rest of a line “    #3 0x55d0 in NAME FILE:LINE”.
fn sanitizer_frame(line: &str) -> Option<&str> {
    let (number, rest) = line.trim_start().strip_prefix('#')?.split_once(" 0x")?;
    let (address, rest) = rest.split_once(" in ")?;
    let digits = number.chars().all(|c| c.is_ascii_digit());
    (digits && address.chars().all(|c| c.is_ascii_hexdigit())).then_some(rest)
}

/// Returns the rest of a line “   3: NAME”.
fn backtrace_frame(line: &str) -> Option<&str> {
    let (number, rest) = line.trim_start().split_once(": ")?;
    number.chars().all(|c| c.is_ascii_digit()).then_some(rest)
}

fn is_machinery(frame: &str) -> bool {
    MACHINERY.iter().any(|begin| frame.starts_with(begin))
        || frame.contains(" /rustc/")
        // ClusterFuzz skips every frame that contains this word.
        || frame.contains("assert")
        || frame.trim_start().starts_with('(')
}

/// Returns the name of a frame, without the hash and the place.
fn name(frame: &str) -> String {
    let hash = frame.match_indices("::h").find(|(at, _)| {
        let hash = &frame.as_bytes()[at + 3..];
        hash.len() >= 16 && hash[..16].iter().all(u8::is_ascii_hexdigit)
    });
    let frame = hash.map_or(frame, |(at, _)| &frame[..at]);
    match frame.rsplit_once(' ') {
        Some((name, place)) if is_place(place) => name.to_owned(),
        _ => frame.to_owned(),
    }
}

/// Returns whether a word is a place such as “/src/lib.rs:12:3”.
fn is_place(word: &str) -> bool {
    let number = word.rsplit_once(':').map(|(_, number)| number);
    number.is_some_and(|number| !number.is_empty() && number.chars().all(|c| c.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_a_backtrace_are_those_after_the_machinery() {
        let log = "\
   0: before::the::stack
stack backtrace:
   0: __rustc::rust_begin_unwind
             at /rustc/abc/library/std/src/panicking.rs:689:5
   1: core::panicking::panic_fmt
   2: vmadiff::crash::assertion::copy_vma
   3: vmadiff::crash::use_after_free::copy_vma
             at ./src/crash.rs:12:5
   4: vmadiff::crash::crash::h0123456789abcdef
   5: cross_mm::_::__libfuzzer_sys_run
   6: rust_fuzzer_test_input
   7: main
";
        assert_eq!(
            frames(log, Sanitizer::None),
            [
                "vmadiff::crash::use_after_free::copy_vma",
                "vmadiff::crash::crash",
                "cross_mm::_::__libfuzzer_sys_run",
            ]
        );
    }

    #[test]
    fn frames_of_the_sanitizer_are_named_with_their_places() {
        let log = "\
    #0 0x1 in before the_error
==1== ERROR: libFuzzer: deadly signal
    #0 0x55d0aa in __sanitizer_print_stack_trace /x/asan.cpp:87:3
    #1 0x55d0ab in fuzzer::PrintStackTrace() /x/FuzzerUtil.cpp:210:38
    #2 0x7f00aa in raise (/lib/libc.so.6+0x3c050) (BuildId: 12)
    #3 0x7f00ab  (/lib/libc.so.6+0x3c050)
    #4 0x55d0ac in std::panicking::panic /rustc/abc/x.rs:1:1
    #5 0x55d0ad in vmadiff::crash::flags::copy /src/vmadiff/src/crash.rs:57:9
    #6 0x55d0ae in vmadiff::crash::crash::h0123456789abcdef /src/x.rs:3
    #7 0x55d0af in <T as Into<U>>::into /rustc/abc/x.rs:1:1
    #8 0x55d0b0 in rust_fuzzer_test_input /x/lib.rs:276:9
    #9 0x55d0b1 in cross_mm::run /src/x.rs:9:1
";
        assert_eq!(
            frames(log, Sanitizer::Address),
            ["vmadiff::crash::flags::copy", "vmadiff::crash::crash", "cross_mm::run"]
        );
    }

    #[test]
    fn a_log_without_a_stack_has_no_frames() {
        assert!(frames("   0: main\n", Sanitizer::None).is_empty());
        assert!(frames("stack backtrace:\n", Sanitizer::Address).is_empty());
    }
}
