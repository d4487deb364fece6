//! Nothing at all: what the speed of the others is measured against (`ci/bench-engine`).
#![no_main]

libfuzzer_sys::fuzz_target!(|_bytes: &[u8]| {});
