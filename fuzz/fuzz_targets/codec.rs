//! Decodes or refuses any bytes. A decoded program reads back the same from both formats.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmadiff::oracle;

fuzz_target!(|bytes: &[u8]| {
    oracle::check_codec(bytes);
});
