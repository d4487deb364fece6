//! Any bytes decode or are refused, and what decodes reads back from both formats.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmadiff::oracle;

fuzz_target!(|bytes: &[u8]| {
    oracle::check_codec(bytes);
});
