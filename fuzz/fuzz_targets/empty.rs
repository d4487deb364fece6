//! Does nothing: the baseline for the speed of the other targets (`ci/bench-engine`).
#![no_main]

libfuzzer_sys::fuzz_target!(|_bytes: &[u8]| {});
