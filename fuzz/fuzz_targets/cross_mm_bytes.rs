//! Does the same as `cross_mm`, but mutates bytes instead of programs. The benchmark of the faults
//! compares the two.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmadiff::{feedback, input::Input, oracle};

/// The section in which libFuzzer finds counters beside its own.
#[unsafe(link_section = "__libfuzzer_extra_counters")]
static COUNTERS: feedback::Counters = feedback::counters();

fuzz_target!(init: oracle::prepare(&COUNTERS), |input: Input| {
    oracle::check_or_panic(&input.0);
});
