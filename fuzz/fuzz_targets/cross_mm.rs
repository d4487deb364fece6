//! Runs every operation: the reference against the candidate, which is at `v2` by default.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmadiff::{feedback, input::Input, mutate, oracle};

/// The section in which libFuzzer finds counters beside its own.
#[unsafe(link_section = "__libfuzzer_extra_counters")]
static COUNTERS: feedback::Counters = feedback::counters();

fuzz_target!(init: oracle::prepare(&COUNTERS), |input: Input| {
    oracle::check_or_panic(&input.0);
});

libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    mutate::mutate(data, size, max_size, seed)
});

libfuzzer_sys::fuzz_crossover!(|data1: &[u8], data2: &[u8], out: &mut [u8], seed: u32| {
    mutate::crossover(data1, data2, out, seed)
});
