//! Makes, mutates and decodes programs, but does not run them: shows the cost of the engine and the
//! mutator (`ci/bench-engine`).
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmadiff::{input::Input, mutate};

fuzz_target!(|input: Input| {
    std::hint::black_box(&input.0);
});

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::mutate(data, size, max_size, seed)
});

libfuzzer_sys::fuzz_crossover!(|data1: &[u8], data2: &[u8], out: &mut [u8], seed: u32| {
    mutate::crossover(data1, data2, out, seed)
});
