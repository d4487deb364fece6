//! `cross_mm` without the mutator that knows programs: what the benchmark of the faults compares
//! it with.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmadiff::{input::Input, oracle};

fuzz_target!(|input: Input| {
    oracle::check_or_panic(&input.0);
});
