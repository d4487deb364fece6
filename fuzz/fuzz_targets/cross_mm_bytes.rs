//! `cross_mm` without the mutator that knows programs: what the benchmark of the faults compares
//! it with.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmadiff::{feedback, input::Input, oracle};

/// Where libFuzzer looks for counters beside its own.
#[unsafe(link_section = "__libfuzzer_extra_counters")]
static COUNTERS: feedback::Counters = feedback::counters();

fuzz_target!(init: oracle::prepare(&COUNTERS), |input: Input| {
    oracle::check_or_panic(&input.0);
});
